"""Rows of tensors that are made of attributes, or of the sizes of an input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, Row, cast, dtype_named, few
from netferry.converters.mxnet.to_onnx.sizes import (
    positions_along,
    positive,
    reshape,
    shape_of,
)


def _made(g: Emitter, a: Attrs, array: Any, default: str = "float32") -> Tensor:
    return g.constant(array, dtype_named(a.string("dtype", default)))


def _filled(value: float | None, *, inferred: bool = False) -> Row:
    """``inferred``: a size of 0 is one that MXNet infers; it stands as 1, to be broadcast (see ``to_onnx``)."""

    def row(g: Emitter, a: Attrs) -> Tensor:
        shape = [max(size, 1) if inferred else size for size in a.integers("shape", ())]
        few(math.prod(shape))
        return _made(g, a, np.full(shape, a.number("value") if value is None else value))

    return row


ROWS.row("_zeros", "_zeros_without_dtype")(_filled(0.0, inferred=True))
ROWS.row("_ones")(_filled(1.0, inferred=True))
ROWS.row("_full")(_filled(None, inferred=True))
ROWS.row("_npi_zeros")(_filled(0.0))
ROWS.row("_npi_ones")(_filled(1.0))


def _filled_like(value: float) -> Row:
    return lambda g, _, x: g.Expand(g.scalar(value, x), shape_of(g, x))


ROWS.row("zeros_like")(_filled_like(0.0))
ROWS.row("ones_like")(_filled_like(1.0))


@ROWS.row("_arange", "_npi_arange")
def arange(g: Emitter, a: Attrs) -> Tensor:
    start, stop, step = a.number("start"), a.maybe_number("stop"), a.number("step", 1.0)
    if a.flag("infer_range", False) and stop is None:
        raise CannotConvert("infer_range=True: a range without an end")
    start, stop = (0.0, start) if stop is None else (start, stop)
    repeat = a.integer("repeat", 1)
    few((stop - start) / step * repeat)
    values = np.repeat(np.arange(start, stop, step), repeat)
    return _made(g, a, values)


@ROWS.row("_contrib_arange_like")
def arange_like(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """start, start + step, ... as many as an axis has positions, or as many as there are elements."""
    axis, start, step = a.maybe_integer("axis"), a.number("start", 0.0), a.number("step", 1.0)
    repeat = a.integer("repeat", 1)
    if repeat == 0:
        raise CannotConvert("repeat=0 is no count")
    flat = x if axis is not None else reshape(g, x, [-1])
    positions = positions_along(g, flat, 0 if axis is None else positive(axis, x.rank))
    if repeat != 1:
        positions = g.Div(positions, g.constant(repeat, np.int64))
    numbers = cast(g, positions, x.dtype)
    y = g.Add(g.Mul(numbers, g.scalar(step, x)), g.scalar(start, x))
    return y if axis is not None else g.Reshape(y, shape_of(g, x))


@ROWS.row("shape_array")
def shape_array(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.Shape(x)


@ROWS.row("_npi_full_like")
def full_like(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    dtype = a.maybe_string("dtype")
    value = g.constant(a.number("fill_value"), x.dtype if dtype is None else dtype_named(dtype))
    return g.Expand(value, shape_of(g, x))


@ROWS.row("_npi_identity")
def identity(g: Emitter, a: Attrs) -> Tensor:
    shape = a.integers("shape")
    if len(shape) == 1:
        return _made(g, a, np.eye(1, few(shape[0]))[0])
    if len(shape) != 2:
        raise CannotConvert(f"shape={shape} is that of no matrix")
    rows, columns = shape
    few(rows * columns)
    return _made(g, a, np.eye(rows, columns))


@ROWS.row("_npi_indices")
def indices(g: Emitter, a: Attrs) -> Tensor:
    sizes = a.integers("dimensions")
    few(math.prod(sizes) * len(sizes))
    return _made(g, a, np.indices(sizes), "int32")


@ROWS.row("_linspace")
def linspace(g: Emitter, a: Attrs) -> Tensor:
    count = few(a.integer("num"))
    return _made(g, a, np.linspace(a.number("start"), a.number("stop"), count, a.flag("endpoint", True)))


@ROWS.row("_npi_logspace")
def logspace(g: Emitter, a: Attrs) -> Tensor:
    count = few(a.integer("num"))
    ends, base = (a.number("start"), a.number("stop")), a.number("base", 10.0)
    return _made(g, a, np.logspace(*ends, count, endpoint=a.flag("endpoint", True), base=base))


def _window(function: Callable[[int], Any]) -> Row:
    return lambda g, a: _made(g, a, function(few(a.integer("M"))))


for _name, _function in {"blackman": np.blackman, "hamming": np.hamming, "hanning": np.hanning}.items():
    ROWS.row(f"_npi_{_name}")(_window(_function))


@ROWS.row("_npi_eye", "_eye")
def eye(g: Emitter, a: Attrs) -> Tensor:
    rows = a.integer("N")
    columns = a.maybe_integer("M") or rows
    few(rows * columns)
    return _made(g, a, np.eye(rows, columns, a.integer("k", 0)))
