"""Where models run: ONNX in onnxruntime, every other model in its own framework."""
