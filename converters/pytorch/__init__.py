"""PyTorch: models in memory, native files, and the export to ONNX."""
