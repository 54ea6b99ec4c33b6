"""From any ONNX model to the plan that importers follow: one pass a file."""
