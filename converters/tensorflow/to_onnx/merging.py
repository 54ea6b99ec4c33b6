"""Layers that merge several inputs into one, element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import keras
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter

layers = keras.layers


def _alike(g: Emitter, inputs: Sequence[Any]) -> list[Tensor]:
    """The inputs of a merge with one rank: those with fewer axes get axes of one after the batch."""
    tensors = [g.lift(x) for x in inputs]
    rank = max(x.rank for x in tensors)
    return [x if x.rank == rank else g.Unsqueeze(x, g.ints(*range(1, rank - x.rank + 1))) for x in tensors]


def _variadic(op_type: str, binary: str | None = None) -> Callable[[Emitter, Any, Sequence[Any]], Tensor]:
    """A merge of any number of inputs; of two with the operator that is at home there."""

    def merge(g: Emitter, layer: Any, inputs: Sequence[Any]) -> Tensor:
        tensors = _alike(g, inputs)
        return g.op(binary if binary and len(tensors) == 2 else op_type, *tensors)

    return merge


ROWS.row(layers.Add)(_variadic("Sum", "Add"))


ROWS.row(layers.Average)(_variadic("Mean"))


ROWS.row(layers.Maximum)(_variadic("Max"))


ROWS.row(layers.Minimum)(_variadic("Min"))


@ROWS.row(layers.Multiply)
def multiply(g: Emitter, layer: Any, inputs: Sequence[Any]) -> Tensor:
    return reduce(g.Mul, _alike(g, inputs))


@ROWS.row(layers.Subtract)
def subtract(g: Emitter, layer: Any, inputs: Sequence[Any]) -> Tensor:
    first, second = _alike(g, inputs)
    return g.Sub(first, second)
