"""TensorFlow's own files, SavedModels and frozen graphs, read without TensorFlow."""
