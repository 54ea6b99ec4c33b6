"""The sizes of an operator's outputs, with free sizes kept as expressions; one file for each family of operators.

A rule has its operator's own signature: inputs are facts, attributes are keyword-only. It returns the sizes
of the first output, or a list with those of several. A size that it does not know is None; None in place of the sizes
is an unknown rank. Operators that have no rule are asked of ONNX's own inference (``evaluate.py``).
Sources: the operators' definitions in the ONNX specification, opset 28.
"""
