"""ONNX's reference evaluator, and what it gets wrong."""
