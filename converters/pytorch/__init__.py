"""PyTorch: models in memory, native files, and the road to ONNX."""
