"""Products of matrices: dense layers, equations, and the products of ``keras.ops``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import keras, numpy_ops as kn
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, activate, axes_of, refuse_unless
from netferry.converters.tensorflow.to_onnx.normalization import unit

layers = keras.layers


@ROWS.row(layers.Dense)
def dense(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    kernel = g.weight(layer.kernel)
    bias = g.weight(layer.bias) if layer.use_bias else None
    if x.rank == 2:
        y = g.MatMul(x, kernel) if bias is None else g.Gemm(x, kernel, bias)
    else:
        y = g.MatMul(x, kernel)
        y = y if bias is None else g.Add(y, bias)
    return activate(g, layer.activation, y)


@ROWS.row(layers.EinsumDense)
def einsum_dense(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    y = g.Einsum(x, g.weight(layer.kernel), equation=layer.equation.replace(" ", ""))
    y = y if layer.bias is None else g.Add(y, g.weight(layer.bias))
    return activate(g, layer.activation, y)


@ROWS.row(layers.Dot)
def dot_layer(g: Emitter, layer: Any, inputs: Sequence[Any]) -> Tensor:
    """The sum of products along one axis of each, batch by batch: a MatMul of three axes."""
    a, b = (g.lift(x) for x in inputs)
    refuse_unless(a.rank <= 3 and b.rank <= 3, "an input with more than three axes")
    wanted = [layer.axes] * 2 if isinstance(layer.axes, int) else layer.axes
    (axis_a,), (axis_b,) = axes_of(wanted[0], a.rank), axes_of(wanted[1], b.rank)
    refuse_unless(axis_a > 0 and axis_b > 0, "a product along the batch")
    if layer.normalize:
        a, b = unit(g, a, [axis_a], keras.config.epsilon()), unit(g, b, [axis_b], keras.config.epsilon())
    left = g.Unsqueeze(a, g.ints(1)) if a.rank == 2 else g.transpose(a, (0, 3 - axis_a, axis_a))
    right = g.Unsqueeze(b, g.ints(2)) if b.rank == 2 else g.transpose(b, (0, axis_b, 3 - axis_b))
    y = g.MatMul(left, right)
    if a.rank == 2:
        return g.Squeeze(y, g.ints(1))
    return g.Squeeze(y, g.ints(2)) if b.rank == 2 else y


@ROWS.row(kn.Matmul)
def matmul(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    return g.MatMul(*_summed(g, g.promoted(x1, x2)))


@ROWS.row(kn.Einsum)
def einsum(g: Emitter, op: Any, *operands: Any) -> Tensor:
    refuse_unless("->" in op.subscripts, "its equation does not name its output")
    return g.Einsum(*_summed(g, g.promoted(*operands)), equation=op.subscripts.replace(" ", ""))


def _summed(g: Emitter, operands: list[Tensor]) -> list[Tensor]:
    """Products of bytes are summed in int32, as Keras does it in layers that are quantised."""
    return [g.cast(x, np.int32) if x.dtype == np.int8 else x for x in operands]


@ROWS.row(kn.Dot)
def dot(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    a, b = g.promoted(x1, x2)
    refuse_unless(b.rank <= 2 and a.rank > 0, "its second operand has more than two axes")
    return g.MatMul(a, b) if b.rank else g.Mul(a, b)


@ROWS.row(kn.Outer)
def outer(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    a, b = g.promoted(x1, x2)
    return g.Mul(g.Reshape(a, g.ints(-1, 1)), g.Reshape(b, g.ints(1, -1)))


@ROWS.row(kn.Tensordot)
def tensordot(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    """As an equation: the named axes of both share their letters."""
    a, b = g.promoted(x1, x2)
    if isinstance(op.axes, int):
        summed = [list(range(a.rank - op.axes, a.rank)), list(range(op.axes))]
    else:
        summed = [axes_of_either(axes, x.rank) for axes, x in zip(op.axes, (a, b), strict=True)]
    letters = "abcdefghijklmnopqrstuvwxyz"
    first, second = list(letters[: a.rank]), list(letters[a.rank : a.rank + b.rank])
    for position, other in zip(*summed, strict=True):
        second[other] = first[position]
    kept = [x for x in first + second if not (x in first and x in second)]
    return g.Einsum(a, b, equation=f"{''.join(first)},{''.join(second)}->{''.join(kept)}")


def axes_of_either(axes: Any, rank: int) -> list[int]:
    """Axes in the order in which they were given, counted from the front."""
    return [int(axis) % rank for axis in (axes if isinstance(axes, list | tuple) else [axes])]
