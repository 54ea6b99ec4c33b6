"""TFLite's files, read without TensorFlow."""
