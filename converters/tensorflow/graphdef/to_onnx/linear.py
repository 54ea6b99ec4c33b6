"""Rows of products of matrices."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.to_onnx import patterns
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter


def _swapped(g: Emitter, x: Tensor, swap: bool) -> Tensor:
    if not swap:
        return x
    return g.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


@ROWS.row("MatMul")
def matmul(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    return g.MatMul(_swapped(g, x, a.flag("transpose_a")), _swapped(g, y, a.flag("transpose_b")))


@ROWS.row("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def batch_matmul(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    left, right = _swapped(g, x, a.flag("adj_x")), _swapped(g, y, a.flag("adj_y"))
    return g.MatMul(*(g.cast(each, a.dtype("Tout", x.dtype)) for each in (left, right)))


@ROWS.row("Einsum")
def einsum(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
    """TensorFlow names an ellipsis' axes by position as ONNX does; letters may be capitals, which ONNX does not count on."""
    equation = a.text("equation").replace(" ", "")
    return g.Einsum(*inputs, equation=_lower(equation))


def _lower(equation: str) -> str:
    used = sorted(set(filter(str.isalpha, equation)))
    free = [letter for letter in string.ascii_lowercase if letter not in used]
    names = {letter: letter if letter.islower() else free.pop(0) for letter in used}
    return "".join(names.get(letter, letter) for letter in equation)


@ROWS.row("BiasAdd", "BiasAddV1")
def bias_add(g: Emitter, a: Attrs, x: Tensor, bias: Tensor) -> Tensor:
    if a.text("data_format", "NHWC").startswith("NC") and x.rank > 2:
        return g.Add(x, g.Unsqueeze(bias, g.ints(*range(1, x.rank - 1))))
    return with_bias(g, x, bias) or g.Add(x, bias)


@ROWS.row("Add", "AddV2")
def add(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    return (
        with_bias(g, x, y)
        or with_bias(g, y, x)
        or patterns.normalised(g, x, y)
        or patterns.layer_normalised(g, x, y)
        or patterns.prelu(g, x, y)
        or g.Add(x, y)
    )


@ROWS.row("Mul")
def multiply(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """By one nothing changes: so dropout scales that keeps all."""
    for one, other in ((x, y), (y, x)):
        if patterns.number(g, other) == 1.0 and other.rank == 0:
            return one
    return patterns.gelu(g, x, y) or g.Mul(x, y)


def with_bias(g: Emitter, x: Tensor, bias: Tensor) -> Tensor | None:
    """The convolution that gave ``x`` once more, with a bias, where it has none and ``bias`` is one number per channel."""
    made = g.convolutions.get(x.value)
    if made is None or bias.array is None or x.perm is None or x.perm[-1] != 1:
        return None
    operator, operands, attributes = made
    channels = bias.array.shape[-1:] or (1,)
    if bias.array.size != channels[0] or channels[0] != x.dims[-1]:  # type: ignore[index]
        return None
    flat = bias if bias.array.ndim == 1 else g.weight(bias.array.reshape(-1), g.title(bias))
    y = g.op(operator, *operands, flat, **attributes)
    return replace(y, perm=x.perm, dims=x.dims)


@ROWS.row("_FusedMatMul")
def fused_matmul(g: Emitter, a: Attrs, x: Tensor, y: Tensor, *rest: Tensor) -> Tensor:
    raise CannotConvert("it was fused for one machine", "Convert the graph from before the optimisation")


@ROWS.row("Cross")
def cross(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """x, y: (..., 3)."""

    def turned(z: Tensor, order: Sequence[int]) -> Tensor:
        return g.Gather(z, g.ints(*order), axis=-1)

    first = g.Mul(turned(x, (1, 2, 0)), turned(y, (2, 0, 1)))
    return g.Sub(first, g.Mul(turned(x, (2, 0, 1)), turned(y, (1, 2, 0))))


@ROWS.row("MatrixDeterminant")
def determinant(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.Det(x)


@ROWS.row("L2Loss")
def l2_loss(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.Mul(g.ReduceSumSquare(x, keepdims=0), g.like(0.5, x))
