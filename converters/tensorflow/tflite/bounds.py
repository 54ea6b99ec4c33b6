"""What the inputs may hold: whole numbers that stand for others hold all that their dtype does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.signature import Example, Range
from netferry.converters.tensorflow.tflite.graph import is_quantised
from netferry.converters.tensorflow.tflite.model import LiteModel, place_of


def ranges(model: LiteModel, given: Sequence[Example] | None = None) -> dict[int, list[Range]]:
    """Of other inputs nothing is declared; what the graph in ONNX says is found there."""
    found = {}
    for position, port in enumerate(model.signature.inputs):
        tensor = model.main.tensors[place_of(port)]
        if is_quantised(tensor) and tensor.dtype is not None:
            limits = np.iinfo(tensor.dtype)
            found[position] = [Range(int(limits.min), int(limits.max))]
    return found
