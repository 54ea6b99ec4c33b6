"""Rows of convolutions: (batch, *space, channels); weights are laid as ONNX has them when the graph is written."""

from __future__ import annotations

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import attributes_of_same
from netferry.converters.tensorflow.graphdef.graph import Ref
from netferry.converters.tensorflow.graphdef.to_onnx.convolution import unless
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter
from netferry.converters.tensorflow.tflite import schema
from netferry.converters.tensorflow.tflite.graph import OPERATORS, Writer
from netferry.converters.tensorflow.tflite.model import Operation

_PLANE, _SPACE = ("h", "w"), ("d", "h", "w")


def spatial(op: Operation, what: str, axes: tuple[str, ...] = _PLANE) -> list[int]:
    """Numbers for each axis of space: ``stride``, ``dilation``."""
    names = {"stride": "stride_{}", "dilation": "dilation_{}_factor"}
    return [int(op.option(names[what].format(axis), 1)) for axis in axes]


def padding(op: Operation) -> str:
    kind = int(op.option("padding"))
    if not 0 <= kind < len(schema.PADDINGS):
        raise CannotConvert(f"its padding is of the unknown kind {kind}")
    return schema.PADDINGS[kind]


@OPERATORS.row("CONV_2D")
def conv_2d(w: Writer, op: Operation) -> Ref:
    """Weights: (filters, height, width, channels / groups)."""
    return _conv(w, op, (0, 3, 1, 2), _PLANE)


@OPERATORS.row("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(w: Writer, op: Operation) -> Ref:
    """Weights: (1, height, width, channels * multiplier)."""
    return _conv(w, op, (3, 0, 1, 2), _PLANE)


@OPERATORS.row("CONV_3D")
def conv_3d(w: Writer, op: Operation) -> Ref:
    """Weights: (depth, height, width, channels, filters)."""
    return _conv(w, op, (4, 3, 0, 1, 2), _SPACE)


def _conv(w: Writer, op: Operation, perm: tuple[int, ...], axes: tuple[str, ...]) -> Ref:
    bias = w.maybe(op, 2)
    return w.node(
        "lite.Conv", w.x(op), w.weight(op, 1, perm), *([] if bias is None else [bias]),
        strides=spatial(op, "stride", axes), dilations=spatial(op, "dilation", axes), padding=padding(op),
    )  # fmt: skip


@ROWS.row("lite.Conv")
def conv(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """weight: (filters, channels / groups, *space)."""
    first = g.transpose(x, layout.channels_first(x.rank))
    strides, dilations = a.integers("strides"), a.integers("dilations")
    kernel = [weight.size(axis) for axis in range(2, weight.rank)]
    groups = first.size(1) // weight.size(1)
    same = a.text("padding") == "SAME"
    pads = attributes_of_same((first.dims or ())[2:], kernel, strides, dilations) if same else {}
    y = g.Conv(
        first, weight, bias, kernel_shape=kernel, group=groups if groups > 1 else None, strides=unless(strides, 1),
        dilations=unless(dilations, 1), **pads,
    )  # fmt: skip
    return g.transpose(y, layout.channels_last(y.rank))


@OPERATORS.row("TRANSPOSE_CONV")
def transpose_conv(w: Writer, op: Operation) -> Ref:
    """Of sizes, weights (filters, height, width, channels) and what is convolved."""
    return _transposed(w, op, "Conv2DBackpropInput", (1, 2, 0, 3), _PLANE)


@OPERATORS.row("CONV_3D_TRANSPOSE")
def conv_3d_transpose(w: Writer, op: Operation) -> Ref:
    """Weights: (depth, height, width, filters, channels)."""
    return _transposed(w, op, "Conv3DBackpropInputV2", (0, 1, 2, 3, 4), _SPACE)


def _transposed(w: Writer, op: Operation, operator: str, perm: tuple[int, ...], axes: tuple[str, ...]) -> Ref:
    strides, dilations = ([1, *spatial(op, what, axes), 1] for what in ("stride", "dilation"))
    y = w.node(
        operator,
        w.x(op),
        w.weight(op, 1, perm),
        w.x(op, 2),
        strides=strides,
        dilations=dilations,
        padding=padding(op),
    )
    bias = w.maybe(op, 3)
    return y if bias is None else w.node("BiasAdd", y, bias)
