"""TensorFlow and Keras 3: models in memory, native files, and the way to ONNX."""
