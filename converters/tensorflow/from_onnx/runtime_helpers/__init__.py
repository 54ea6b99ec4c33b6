"""Python that a generated module carries along, for what has no name in TensorFlow."""
