"""TensorFlow's resizing by weights that no Resize of ONNX has: cubic from a table, by area, and with antialiasing.

Each axis is a product with a matrix, (result, input). Its formula is written once: in numpy where the sizes are known, in ONNX's
operators where one of them is free. Formulas: ``resize_bicubic_op.cc``, ``resize_area_op.cc`` and ``scale_and_translate_op.cc`` of TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter

_STEPS = 1024
_F, _I = np.float32, np.int64

Matrix = Callable[[Any, Any, Any], Any]
"""Of (the functions of numbers, the size of an axis, the size of its result) the matrix; sizes are int64 without axes."""


class _Known:
    """ONNX's operators on arrays: what an Emitter writes, done at once."""

    Abs, Add, And, Ceil, Cos, Div, Equal, Exp = (
        np.abs, np.add, np.logical_and, np.ceil, np.cos, np.divide, np.equal, np.exp,
    )  # fmt: skip
    Floor, GreaterOrEqual, Less, LessOrEqual, Max, Min, Mul, Round = (
        np.floor, np.greater_equal, np.less, np.less_equal, np.maximum, np.minimum, np.multiply, np.rint,
    )  # fmt: skip
    Sin, Sub, Where = np.sin, np.subtract, np.where

    @staticmethod
    def constant(x: Any, dtype: Any = None) -> Array:
        return np.asarray(x, dtype)

    @staticmethod
    def ints(*numbers: int) -> tuple[int, ...]:
        return numbers

    @staticmethod
    def cast(x: Array, dtype: Any) -> Array:
        return np.asarray(x).astype(dtype)

    @staticmethod
    def Range(start: Array, stop: Array, step: Array) -> Array:
        return np.arange(start, stop, step)

    @staticmethod
    def Unsqueeze(x: Array, axes: tuple[int, ...]) -> Array:
        return np.expand_dims(x, axes)

    @staticmethod
    def Gather(x: Array, places: Array, axis: int) -> Array:
        return np.take(x, places, axis)

    @staticmethod
    def ReduceSum(x: Array, axes: tuple[int, ...], keepdims: int) -> Array:
        return np.sum(x, axes, dtype=x.dtype, keepdims=bool(keepdims))  # type: ignore[no-any-return]


def _resampled(g: Emitter, x: Tensor, size: Tensor, matrices: Sequence[Matrix]) -> Tensor:
    """x: (batch, height, width, channels), each axis of space multiplied by its matrix; the result is float32."""
    first = g.transpose(g.cast(x, _F), layout.channels_first(4))
    known = g.content(size)
    wanted = [None, None] if known is None else list(known)
    made = []
    for axis, matrix in enumerate(matrices):
        own, out = g.size_of(first, axis + 2), wanted[axis]
        if isinstance(own, int) and isinstance(out, int | np.integer):
            found = matrix(_Known, np.asarray(own, _I), np.asarray(out, _I))
            made.append(found if isinstance(found, Tensor) else g.constant(found.astype(_F)))
            continue
        end = g.Gather(g.index(size), g.constant(axis, _I), axis=0)
        made.append(matrix(g, g.length(first, axis + 2), end))
    rows, columns = made
    y = g.MatMul(g.MatMul(rows, first), g.transpose(columns, (1, 0)))
    y = g.sized(y, [g.size_of(first, 0), g.size_of(first, 1), *wanted])
    return g.transpose(y, layout.channels_last(4))


def _places(xp: Any, size: Any) -> Any:
    """0, 1 ... as float32."""
    return xp.cast(xp.Range(xp.constant(0, _I), size, xp.constant(1, _I)), _F)


def _column(xp: Any, x: Any) -> Any:
    return xp.Unsqueeze(x, xp.ints(1))


def _row(xp: Any, x: Any) -> Any:
    return xp.Unsqueeze(x, xp.ints(0))


def _ratio(xp: Any, size: Any, out: Any, corners: bool) -> Any:
    """How many places of the input lie between two of the result."""
    if not corners:
        return xp.Div(xp.cast(size, _F), xp.cast(out, _F))
    one = xp.constant(1, _F)
    between = xp.Sub(xp.cast(out, _F), one)
    alone = xp.Less(between, one)
    apart = xp.Div(xp.Sub(xp.cast(size, _F), one), xp.Where(alone, one, between))
    return xp.Where(alone, xp.Div(xp.cast(size, _F), xp.cast(out, _F)), apart)


# ---- cubic ------------------------------------------------------------------------------------------


@ROWS.row("ResizeBicubic")
def resize_bicubic(g: Emitter, a: Attrs, x: Tensor, size: Tensor) -> Tensor:
    half, corners = a.flag("half_pixel_centers"), a.flag("align_corners")

    def matrix(xp: Any, own: Any, out: Any) -> Any:
        return cubic(xp, own, out, half, corners)

    return _resampled(g, x, size, [matrix, matrix])


def cubic(xp: Any, size: Any, out: Any, half: bool, corners: bool) -> Any:
    """(out, size): four weights a place, out of a table of 1024 steps."""
    scale, place, shift = _ratio(xp, size, out, corners), _places(xp, out), xp.constant(0.5, _F)
    at = xp.Sub(xp.Mul(xp.Add(place, shift), scale), shift) if half else xp.Mul(place, scale)
    base = xp.Floor(at)
    offset = xp.cast(xp.Round(xp.Mul(xp.Sub(at, base), xp.constant(_STEPS, _F))), _I)
    near, far = (xp.constant(table) for table in _tables(-0.5 if half else -0.75))
    rest = xp.Sub(xp.constant(_STEPS, _I), offset)
    parts = [(far, offset), (near, offset), (near, rest), (far, rest)]
    last, zero = xp.Sub(xp.cast(size, _F), xp.constant(1, _F)), xp.constant(0, _F)
    across, made = _row(xp, _places(xp, size)), None
    for step, (table, index) in enumerate(parts, -1):
        weight = xp.Gather(table, index, axis=0)
        read = xp.Add(base, xp.constant(step, _F))
        if half:  # what lies outside does not count
            inside = xp.And(xp.GreaterOrEqual(read, zero), xp.LessOrEqual(read, last))
            weight = xp.Where(inside, weight, zero)
        hit = xp.Equal(_column(xp, xp.Min(xp.Max(read, zero), last)), across)
        part = xp.Where(hit, _column(xp, weight), zero)
        made = part if made is None else xp.Add(made, part)
    return xp.Div(made, xp.ReduceSum(made, xp.ints(1), keepdims=1)) if half else made


def _tables(a: float) -> tuple[Array, Array]:
    """The cubic kernel from 0 to 1, and from 1 to 2."""
    x = np.arange(_STEPS + 1) / _STEPS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    x = x + 1
    return near.astype(_F), (((a * x - 5 * a) * x + 8 * a) * x - 4 * a).astype(_F)


# ---- by area ----------------------------------------------------------------------------------------


@ROWS.row("ResizeArea")
def resize_area(g: Emitter, a: Attrs, x: Tensor, size: Tensor) -> Tensor:
    """A place of the result is the mean of what it covers."""
    corners = a.flag("align_corners")

    def matrix(xp: Any, own: Any, out: Any) -> Any:
        scale, place, one = _ratio(xp, own, out, corners), _places(xp, out), xp.constant(1, _F)
        begin, end = _column(xp, xp.Mul(place, scale)), _column(xp, xp.Mul(xp.Add(place, one), scale))
        across, last = _row(xp, _places(xp, own)), xp.Sub(xp.cast(own, _F), one)
        reaches = xp.Where(xp.Less(across, last), xp.Add(across, one), xp.Max(end, xp.Add(across, one)))
        covered = xp.Sub(xp.Min(end, reaches), xp.Max(begin, across))
        return xp.Div(xp.Max(covered, xp.constant(0, _F)), scale)

    return _resampled(g, x, size, [matrix, matrix])


# ---- kernels that grow with the scale -----------------------------------------------------------------


def _by_cases(xp: Any, x: Any, inner: Any, outer: Any) -> Any:
    """``inner`` below 1, ``outer`` below 2, then nothing."""
    zero = xp.constant(0, _F)
    beyond = xp.Where(xp.Less(x, xp.constant(2, _F)), outer, zero)
    return xp.Where(xp.Less(x, xp.constant(1, _F)), inner, beyond)


def _polynomial(xp: Any, x: Any, *factors: float) -> Any:
    made = xp.constant(factors[0], _F)
    for factor in factors[1:]:
        made = xp.Add(xp.Mul(made, x), xp.constant(factor, _F))
    return made


def _lanczos(radius: int) -> Callable[[Any, Any], Any]:
    def kernel(xp: Any, x: Any) -> Any:
        tiny, one = xp.Less(x, xp.constant(1e-3, _F)), xp.constant(1, _F)
        turn = xp.Mul(xp.Where(tiny, one, x), xp.constant(math.pi, _F))
        part = xp.Div(turn, xp.constant(radius, _F))
        wave = xp.Div(xp.Mul(xp.Sin(turn), xp.Sin(part)), xp.Mul(turn, part))
        inside = xp.LessOrEqual(x, xp.constant(radius, _F))
        return xp.Where(tiny, one, xp.Where(inside, wave, xp.constant(0, _F)))

    return kernel


def _gaussian(xp: Any, x: Any) -> Any:
    bell = xp.Exp(xp.Mul(xp.Mul(x, x), xp.constant(-2.0, _F)))
    return xp.Where(xp.Less(x, xp.constant(1.5, _F)), bell, xp.constant(0, _F))


def _box(xp: Any, x: Any) -> Any:
    half = xp.constant(0.5, _F)
    edge = xp.Where(xp.Equal(x, half), half, xp.constant(0, _F))
    return xp.Where(xp.Less(x, half), xp.constant(1, _F), edge)


_KERNELS: dict[str, tuple[float, Callable[[Any, Any], Any]]] = {
    "lanczos1": (1, _lanczos(1)),
    "lanczos3": (3, _lanczos(3)),
    "lanczos5": (5, _lanczos(5)),
    "gaussian": (1.5, _gaussian),
    "box": (1, _box),
    "triangle": (1, lambda xp, x: xp.Max(xp.Sub(xp.constant(1, _F), x), xp.constant(0, _F))),
    "keyscubic": (
        2,
        lambda xp, x: _by_cases(
            xp, x, _polynomial(xp, x, 1.5, -2.5, 0, 1), _polynomial(xp, x, -0.5, 2.5, -4, 2)
        ),
    ),
    "mitchellcubic": (
        2,
        lambda xp, x: _by_cases(
            xp, x, _polynomial(xp, x, 7 / 6, -2, 0, 8 / 9), _polynomial(xp, x, -7 / 18, 2, -10 / 3, 16 / 9)
        ),
    ),
}
"""How far each reaches, and what it is at a distance."""


@ROWS.row("ScaleAndTranslate")
def scale_and_translate(
    g: Emitter, a: Attrs, x: Tensor, size: Tensor, scale: Tensor, shift: Tensor
) -> Tensor:
    name, smooth = a.text("kernel_type", "lanczos3"), a.flag("antialias", True)
    if name not in _KERNELS:
        raise CannotConvert(f"kernel_type='{name}' is not supported", f"Supported: {', '.join(_KERNELS)}")
    known = [scale.array, shift.array]

    def matrix_of(axis: int) -> Matrix:
        def matrix(xp: Any, own: Any, out: Any) -> Any:
            if xp is _Known and all(each is not None for each in known):
                by, moved = [np.asarray(each[axis], _F) for each in known if each is not None]
                return _spans(_Known, own, out, (by, moved), name, smooth)
            own, out = (g.constant(each) if isinstance(each, np.ndarray) else each for each in (own, out))
            tensors = [g.Gather(each, g.constant(axis, _I), axis=0) for each in (scale, shift)]
            return _spans(g, own, out, tensors, name, smooth)

        return matrix

    return _resampled(g, x, size, [matrix_of(0), matrix_of(1)])


def _spans(xp: Any, size: Any, out: Any, moves: Sequence[Any], name: str, smooth: bool) -> Any:
    """(out, size): the kernel around where each place lies in the input, its weights adding up to one."""
    (scale, shift), (radius, kernel) = moves, _KERNELS[name]
    one, half, zero = (xp.constant(number, _F) for number in (1, 0.5, 0))
    inverse = xp.Div(one, scale)
    wide = xp.Max(inverse, one) if smooth else one
    at = _column(xp, xp.Sub(xp.Mul(xp.Add(_places(xp, out), half), inverse), xp.Mul(inverse, shift)))
    across = _row(xp, _places(xp, size))
    apart = xp.Abs(xp.Sub(xp.Add(across, half), at))
    reach = xp.Mul(xp.constant(radius, _F), wide)
    within = xp.And(xp.GreaterOrEqual(at, zero), xp.LessOrEqual(at, xp.cast(size, _F)))
    read = xp.And(xp.LessOrEqual(apart, reach), within)
    weights = xp.Where(read, kernel(xp, xp.Div(apart, wide)), zero)
    total = xp.ReduceSum(weights, xp.ints(1), keepdims=1)
    empty = xp.Equal(total, zero)
    return xp.Div(weights, xp.Where(empty, one, total))
