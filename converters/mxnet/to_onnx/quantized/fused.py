"""Rows of what oneDNN fuses: a convolution or a dense layer of integers with what follows it, as one node.

Weights are quantised while the model is bound, each filter by its own largest number; the bias counts in the step of the
products. What the node adds to, and its activation, are computed on the scaled sum, which is rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import padding
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.files import body_of
from netferry.converters.mxnet.symbol import Node
from netferry.converters.mxnet.to_onnx.convolution import demand_channels_first, per_axis
from netferry.converters.mxnet.to_onnx.emitter import FLOAT32, ROWS, Emitter, cast, known
from netferry.converters.mxnet.to_onnx.quantized.integers import (
    INT8,
    LEVELS,
    UINT8,
    Quantized,
    calibrated,
    product_range,
    rounded,
    unsigned,
)
from netferry.converters.signature import Array

_POSITIVE = frozenset({"relu", "sigmoid", "softrelu", "clip", "leaky"})
"""Activations after which MXNet keeps uint8."""

_Act = tuple[str, tuple[float, ...]]


@dataclass(frozen=True)
class _Body:
    """What is inside of a fused node: the layer, its batch norm, and the activations before and after its sum."""

    layer: Node
    norm: Node | None
    before: tuple[_Act, ...]
    after: tuple[_Act, ...]
    sums: bool

    @property
    def last(self) -> str:
        acts = self.after if self.sums else self.before
        return acts[-1][0] if acts else ""


def _body(a: Attrs, layer: str) -> _Body:
    graph = body_of(a.subgraph(0), "the fused node")
    found: Node | None = None
    norm: Node | None = None
    acts: list[list[_Act]] = [[], []]
    sums = False
    for position in graph.order:
        node = graph.nodes[position]
        if node.op == layer and found is None:
            found = node
        elif node.op == "BatchNorm" and norm is None:
            norm = node
        elif node.op in ("elemwise_add", "broadcast_add") and not sums:
            sums = True
        elif not node.is_variable:
            acts[sums].append(_activation(node))
    if found is None:
        raise CannotConvert(f"a fused node without its {layer}")
    return _Body(found, norm, tuple(acts[0]), tuple(acts[1]), sums)


def _activation(node: Node) -> _Act:
    attrs = Attrs(node)
    if node.op == "Activation":
        return attrs.string("act_type", among="relu sigmoid tanh softrelu"), ()
    if node.op == "LeakyReLU" and attrs.string("act_type", "leaky") == "leaky":
        return "leaky", (attrs.number("slope", 0.25),)
    if node.op == "clip":
        return "clip", (attrs.number("a_min"), attrs.number("a_max"))
    raise CannotConvert(f"{node.label()} fused with a layer of integers")


def _activated(g: Emitter, x: Tensor, act: _Act, scale: float) -> Tensor:
    """On numbers that are ``scale`` times what they stand for."""
    name, numbers = act
    if name == "relu":
        return g.Relu(x)
    if name == "leaky":
        return g.LeakyRelu(x, alpha=numbers[0])
    if name == "clip":
        return g.Clip(x, *(g.scalar(each * scale, x) for each in numbers))
    plain = g.Div(x, g.scalar(scale, x))
    y = g.op({"sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus"}[name], plain)
    return g.Mul(y, g.scalar(scale, x))


def _scale(dtype: np.dtype[Any], low: Tensor, high: Tensor) -> np.float32:
    """How many steps of a format one is; its range must be known."""
    ends = [np.float32(np.asarray(known(end, "range")).reshape(())) for end in (low, high)]
    return np.float32(LEVELS[dtype]) / np.float32(max(abs(ends[0]), abs(ends[1])))


def _folded(
    norm: Node | None, weight: Array, bias: Array | None, statistics: Sequence[Tensor]
) -> tuple[Array, Array | None]:
    """Weight and bias with the batch norm behind them."""
    if norm is None:
        return weight, bias
    gamma, beta, mean, variance = (np.asarray(known(x, "statistics"), np.float32) for x in statistics)
    attrs = Attrs(norm)
    if attrs.flag("fix_gamma", True):
        gamma = np.ones_like(gamma)
    alpha = (gamma / np.sqrt(variance.astype(np.float64) + attrs.number("eps", 1e-3))).astype(np.float32)
    own = beta - alpha * mean if bias is None else beta + alpha * (bias - mean)
    return (weight * alpha.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32), own.astype(np.float32)


def _weight_scales(weight: Array, bias: Array | None, data: np.float32) -> Array:
    """How many steps one is, filter by filter; fewer where the bias would leave int32."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    with np.errstate(all="ignore"):
        scales = np.float32(LEVELS[INT8]) / largest
        if bias is not None:
            most = np.where(bias > 0, np.float32(2**31 - 1), np.float32(-(2**31))) / 2 / bias / data
            scales = np.where(bias != 0, np.minimum(scales, most), scales)
    return np.asarray(scales, np.float32)


def _integers(array: Array, scale: Array, dtype: Any) -> Array:
    limits = np.iinfo(dtype)
    scaled = np.rint(array.astype(np.float32) * scale)
    return np.asarray(np.clip(scaled.astype(np.float64), limits.min, limits.max), dtype)


def _filters(weight: Array, scales: Array) -> Array:
    return _integers(weight, scales.reshape(-1, *[1] * (weight.ndim - 1)), np.int8)


@ROWS.row("_sg_mkldnn_conv")
def fused_convolution(g: Emitter, a: Attrs, x: Tensor, *inputs: Tensor) -> Quantized:
    """x: (batch, channels, *space), int8 or uint8; so is the result, in the range that was calibrated."""
    for name in ("with_act", "with_bn", "with_sum", "with_postsum_act", "quantized"):
        a.ignore(name)
    body, ends = _body(a, "Convolution"), calibrated(g, a)
    if ends is None:
        raise CannotConvert("a fused convolution of integers without a calibrated range")
    layer, waiting = Attrs(body.layer), list(inputs)
    demand_channels_first(layer)
    weight = np.asarray(known(waiting.pop(0), "weight"), np.float32)
    bias = None if layer.flag("no_bias", False) else np.asarray(known(waiting.pop(0), "bias"), np.float32)
    statistics = [waiting.pop(0) for _ in range(4 if body.norm is not None else 0)]
    added = waiting.pop(0) if body.sums else None
    weight, bias = _folded(body.norm, weight, bias, statistics)
    data = _scale(x.dtype, *waiting[:2])
    scales = _weight_scales(weight, bias, data)
    y = _convolved(g, layer, x, _filters(weight, scales))
    dtype = UINT8 if body.last in _POSITIVE else INT8
    out = _scale(dtype, *ends)
    if bias is not None:
        whole = _integers(bias, scales * data, np.int32)
        y = g.Add(y, g.constant(whole.reshape(-1, *[1] * (weight.ndim - 2))))
    y = g.Mul(cast(g, y, FLOAT32), g.constant((out / data / scales).reshape(-1, *[1] * (weight.ndim - 2))))
    for act in body.before:
        y = _activated(g, y, act, float(out))
    if added is not None:
        factor = out / _scale(added.dtype, *waiting[2:4])
        y = g.Add(y, g.Mul(cast(g, added, FLOAT32), g.constant(factor, FLOAT32)))
    for act in body.after:
        y = _activated(g, y, act, float(out))
    if added is None or added.dtype == dtype:
        return [rounded(g, y, g.constant(1.0, FLOAT32), dtype), *ends]
    # MXNet computes in the format of what is added, and takes the bytes for the other
    bits = cast(g, rounded(g, y, g.constant(1.0, FLOAT32), added.dtype), np.int32)
    turned = g.Where(g.Less(bits, g.scalar(0, bits)), g.Add(bits, g.scalar(256, bits)), bits)
    if dtype == INT8:
        turned = g.Where(g.Greater(bits, g.scalar(127, bits)), g.Sub(bits, g.scalar(256, bits)), bits)
    return [cast(g, turned, dtype), *ends]


def _convolved(g: Emitter, layer: Attrs, x: Tensor, weight: Array) -> Tensor:
    kernel = list(layer.integers("kernel"))
    (data, zero), (filters, none) = unsigned(g, x), unsigned(g, g.constant(weight))
    return g.ConvInteger(
        data, filters, zero, none,
        kernel_shape=kernel, strides=per_axis(layer, "stride", 1, len(kernel)),
        dilations=per_axis(layer, "dilate", 1, len(kernel)),
        pads=padding.symmetric(per_axis(layer, "pad", 0, len(kernel))), group=layer.integer("num_group", 1),
    )  # fmt: skip


@ROWS.row("_sg_mkldnn_fully_connected")
def fused_dense(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, *inputs: Tensor) -> Quantized | Tensor:
    """x: (batch, ...), int8 or uint8; floats come out, or eight bits in the range that was calibrated, or int32."""
    a.ignore("quantized", "with_eltwise")
    body = _body(a, "FullyConnected")
    layer, waiting = Attrs(body.layer), list(inputs)
    bias = None if layer.flag("no_bias", False) else waiting.pop(0)
    by_filter = a.flag("channel_wise_quantize", False)
    data = _scale(x.dtype, *waiting[:2])
    if by_filter:
        numbers = np.asarray(known(weight, "weight"), np.float32)
        own = None if bias is None else np.asarray(known(bias, "bias"), np.float32)
        scales = _weight_scales(numbers, own, data)
        whole, shift = (
            _filters(numbers, scales),
            own if own is None else _integers(own, scales * data, np.int32),
        )
    else:
        whole, scales = np.asarray(known(weight, "weight")), np.asarray([_scale(INT8, *waiting[2:4])])
        shift = None if bias is None else _shift(bias, waiting[4:6], data * scales[0])
    flat = x if x.rank == 2 or not layer.flag("flatten", True) else g.Flatten(x, axis=1)
    (left, zero), (right, none) = unsigned(g, flat), unsigned(g, g.constant(whole.T))
    y = g.MatMulInteger(left, right, zero, none)
    if shift is not None:
        y = g.Add(y, g.constant(shift))
    ends = calibrated(g, a)
    if a.flag("enable_float_output", False):
        y = g.Mul(cast(g, y, FLOAT32), g.constant(np.float32(1) / data / scales))
        for act in body.before:
            y = _activated(g, y, act, 1.0)
        return y
    if ends is None:
        if body.before or by_filter:
            raise CannotConvert("a fused dense layer of integers without a calibrated range")
        low, high, _ = product_range(g, x, weight, waiting)
        return [y, low, high]
    dtype = UINT8 if body.last in _POSITIVE else INT8
    out = _scale(dtype, *ends)
    y = g.Mul(cast(g, y, FLOAT32), g.constant(out / data / scales))
    for act in body.before:
        y = _activated(g, y, act, float(out))
    return [rounded(g, y, g.constant(1.0, FLOAT32), dtype), *ends]


def _shift(bias: Tensor, ends: Sequence[Tensor], step: np.float32) -> Array:
    """An int8 bias in the step of the products, halves away from zero."""
    numbers = np.asarray(known(bias, "bias"), np.float32) * (step / _scale(INT8, *ends))
    return np.asarray(np.sign(numbers) * np.floor(np.abs(numbers) + np.float32(0.5)), np.int32)
