"""Rows of attention: products of queries, keys and values that lie side by side, head by head."""

from __future__ import annotations

import math

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter


def _heads(g: Emitter, x: Tensor, heads: int, kinds: int) -> list[Tensor]:
    """x: (length, batch, heads * kinds * depth) as ``kinds`` tensors (length, batch * heads, depth)."""
    if x.size(2) % (heads * kinds):
        raise CannotConvert(f"{heads} heads do not divide {x.size(2)} features")
    depth = x.size(2) // (heads * kinds)
    if kinds == 1:
        return [g.Reshape(x, g.ints(0, -1, depth))]
    parted = g.Reshape(x, g.ints(0, -1, kinds, depth))
    return [g.Gather(parted, g.constant(kind, np.int64), axis=2) for kind in range(kinds)]


def _scores(g: Emitter, queries: Tensor, keys: Tensor) -> Tensor:
    """(batch * heads, queries, keys): scaled products."""
    queries = g.Mul(queries, g.scalar(1 / math.sqrt(queries.size(2)), queries))
    return g.MatMul(g.transpose(queries, (1, 0, 2)), g.transpose(keys, (1, 2, 0)))


def _mixed(g: Emitter, attention: Tensor, values: Tensor, heads: int) -> Tensor:
    """(length, batch, heads * depth): values weighted by attention: (batch * heads, length, values)."""
    mixed = g.MatMul(attention, g.transpose(values, (1, 0, 2)))
    return g.Reshape(g.transpose(mixed, (1, 0, 2)), g.ints(0, -1, heads * values.size(2)))


def _of_floats(a: Attrs) -> None:
    """What oneDNN fused is the same as what it was made of, unless it computes with integers."""
    if a.flag("quantized", False):
        raise CannotConvert("attention of integers")
    a.ignore("enable_float_output", "min_calib_range", "max_calib_range")


@ROWS.row("_contrib_interleaved_matmul_selfatt_qk", "_sg_mkldnn_selfatt_qk")
def self_attention_scores(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    _of_floats(a)
    queries, keys, _ = _heads(g, x, a.integer("heads"), 3)
    return _scores(g, queries, keys)


@ROWS.row("_contrib_interleaved_matmul_selfatt_valatt", "_sg_mkldnn_selfatt_valatt")
def self_attention_values(g: Emitter, a: Attrs, x: Tensor, attention: Tensor) -> Tensor:
    _of_floats(a)
    heads = a.integer("heads")
    return _mixed(g, attention, _heads(g, x, heads, 3)[2], heads)


@ROWS.row("_contrib_interleaved_matmul_encdec_qk")
def cross_attention_scores(g: Emitter, a: Attrs, queries: Tensor, keys_values: Tensor) -> Tensor:
    heads = a.integer("heads")
    return _scores(g, _heads(g, queries, heads, 1)[0], _heads(g, keys_values, heads, 2)[0])


@ROWS.row("_contrib_interleaved_matmul_encdec_valatt")
def cross_attention_values(g: Emitter, a: Attrs, keys_values: Tensor, attention: Tensor) -> Tensor:
    heads = a.integer("heads")
    return _mixed(g, attention, _heads(g, keys_values, heads, 2)[1], heads)
