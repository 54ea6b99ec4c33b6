"""A TFLite model in memory: recognised here, run by TensorFlow's interpreter of such files."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.native import module
from netferry.converters.tensorflow.tflite.model import LiteModel


def accepts(model: object) -> bool:
    return isinstance(model, LiteModel)


def signatures(model: LiteModel) -> tuple[str, ...]:
    """The signatures of the file, by name."""
    return tuple(model.signatures)


def served(model: LiteModel, name: str) -> LiteModel:
    """The model as the signature of this name serves it."""
    return model.called_by(name)


def run(model: LiteModel, arrays: Sequence[Array]) -> dict[str, Array]:
    """Run in the interpreter: inputs by position, outputs by name and in order; states begin at zero."""
    found: dict[str, Array] = module("tflite.interpreter").run(model, arrays)
    return found


def run_otherwise(model: LiteModel, arrays: Sequence[Array]) -> dict[str, Array]:
    """With the interpreter's own kernels instead of XNNPACK's, which it takes by default."""
    found: dict[str, Array] = module("tflite.interpreter").run(model, arrays, plain=True)
    return found
