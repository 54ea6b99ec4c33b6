"""Reference models: each written and trained natively in PyTorch, TensorFlow/Keras and MXNet."""
