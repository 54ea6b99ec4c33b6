"""Rows of operators that make complex numbers, or read them."""

from __future__ import annotations

from netferry.converters.tensorflow.tflite.to_onnx.straight import straight

straight({"COMPLEX_ABS": "ComplexAbs", "IMAG": "Imag", "REAL": "Real", "RFFT2D": "RFFT2D"})
