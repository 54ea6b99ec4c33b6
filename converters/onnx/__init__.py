"""ONNX as a framework among the others: its files and its models in memory."""
