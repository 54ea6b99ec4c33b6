"""Resize, exactly: it is separable, so with known sizes each axis is one matrix, or one picking of places.

The matrix is made here, in float64, from the schema's formulas; a target may have a kernel of its own for the
modes that mean the same there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.ir.sizes import Size, known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import (
    INT64,
    Sizes,
    all_along,
    choice,
    content,
    op,
    others,
)
from netferry.converters.graph.schema.attributes import defaults
from netferry.converters.signature import Array


@dataclass(frozen=True)
class AxisResize:
    """How one axis is resized: ``size`` places become ``out`` places, ``scale`` times as many.

    ``roi`` is the part of the axis that is looked at, from 0 to 1.
    """

    axis: int
    size: int
    out: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)


# ---- where each output place looks ------------------------------------------------------------------------


def _half_pixel(a: AxisResize, y: Array) -> Array:
    return (y + 0.5) / a.scale - 0.5


def _symmetric(a: AxisResize, y: Array) -> Array:
    return a.size / 2 * (1 - a.out / (a.scale * a.size)) + _half_pixel(a, y)


def _pytorch(a: AxisResize, y: Array) -> Array:
    return _half_pixel(a, y) if a.out > 1 else np.zeros_like(y)


def _corners(a: AxisResize, y: Array) -> Array:
    span = a.out - 1
    return y * (a.size - 1) / span if span else np.zeros_like(y)


def _asymmetric(a: AxisResize, y: Array) -> Array:
    return y / a.scale


def _crop(a: AxisResize, y: Array) -> Array:
    (start, stop), span = a.roi, a.out - 1
    inside = y * (stop - start) / span if span else np.full(y.shape, (stop - start) / 2)
    return (inside + start) * (a.size - 1)


COORDINATES: Mapping[str, Callable[[AxisResize, Array], Array]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _symmetric,
    "pytorch_half_pixel": _pytorch,
    "align_corners": _corners,
    "asymmetric": _asymmetric,
    "tf_crop_and_resize": _crop,
}

NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


CHOICES: Mapping[str, tuple[str, ...]] = {
    "mode": ("nearest", "linear", "cubic"),
    "nearest_mode": tuple(NEAREST),
    "keep_aspect_ratio_policy": ("stretch", "not_larger", "not_smaller"),
    "coordinate_transformation_mode": tuple(COORDINATES),
}
"""What attributes of Resize may be, the default first."""


def helper_options(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of Resize that are not at their defaults, as runtime helpers called ``resize`` take them.

    Raises:
        CannotConvert: an attribute is none of its ``CHOICES``.
    """
    usual = defaults("Resize") or {}
    given = {**usual, **attributes}
    for name, allowed in CHOICES.items():
        choice(given[name], allowed, name)
    options = {name: value for name, value in sorted(given.items()) if value != usual[name]}
    options |= {name: True for name in ("antialias", "exclude_outside") if name in options}
    return options | ({"axes": tuple(options["axes"])} if "axes" in options else {})


def nearest_positions(a: AxisResize, coordinates: str, rounding: str) -> Array:
    """(out,): the place that each output place is a copy of; in float32, in which 11 / 2.2 is 5 everywhere."""
    budget.make(a.out)
    short: Any = np.float32(a.scale)
    x = COORDINATES[coordinates](replace(a, scale=short), np.arange(a.out, dtype=np.float32))
    return np.clip(NEAREST[rounding](x), 0, a.size - 1).astype(np.int64)


# ---- how much of each place goes into each output place --------------------------------------------------------


def _triangle(distance: Array) -> Array:
    return np.clip(1 - distance, 0, 1)


def _keys(distance: Array, a: float) -> Array:
    """Cubic convolution; R. Keys, 1981."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def matrix(
    a: AxisResize,
    coordinates: str,
    kernel: tuple[Callable[[Array], Array], int],
    antialias: bool,
    inside_only: bool,
) -> Array:
    """(out, size): the weights of an interpolation with a kernel, a function of the distance and how far it reaches.

    What lies outside is the border's own value, or, with ``inside_only``, weighs nothing. With ``antialias``
    the kernel is stretched where the axis shrinks.
    """
    weigh, reach = kernel
    stretch = min(a.scale, 1.0) if antialias else 1.0
    span = int(np.ceil(reach / stretch)) + 1
    budget.make(a.out * (a.size + 2 * span))
    x = COORDINATES[coordinates](a, np.arange(a.out, dtype=np.float64))
    positions = np.floor(x).astype(np.int64)[:, None] + np.arange(-span, span + 1)
    weights = weigh(np.abs(x[:, None] - positions) * stretch)
    if inside_only:
        weights = np.where((positions < 0) | (positions >= a.size), 0, weights)
    total = weights.sum(1, keepdims=True)
    if antialias or inside_only:
        weights = weights / np.where(total == 0, 1, total)
    whole = np.zeros((a.out, a.size))
    np.add.at(whole, (np.arange(a.out)[:, None], np.clip(positions, 0, a.size - 1)), weights)
    return whole


# ---- the row ----------------------------------------------------------------------------------------------------


def axis_resizes(
    x: Symbol,
    roi: Symbol | None,
    scales: Symbol | None,
    sizes: Sizes | None,
    axes: Sequence[int] | None,
    policy: str,
    cropped: bool,
) -> list[AxisResize]:
    """The axes that change, with their sizes, which must be known; the others may have any size."""
    positions = tuple(range(x.ndim)) if axes is None else all_along(axes, x.ndim)
    count = len(positions)
    windows = [(0.0, 1.0)] * count
    if cropped and roi is not None:
        ends = content(roi, "region of interest").astype(float)
        windows = list(zip(ends[:count], ends[count:], strict=True))
    wanted = _wanted(x, positions, scales, sizes, policy)
    rows = zip(positions, wanted, windows, strict=True)
    changed = [(axis, *want, window) for axis, want, window in rows if want[1] != 1 or window != (0.0, 1.0)]
    if not known(x.shape[axis] for axis, *_ in changed):
        raise CannotConvert("it resizes an axis whose size is known only when the model runs")
    return [
        AxisResize(axis, int(x.shape[axis]), int(out), scale, window) for axis, out, scale, window in changed
    ]


def _wanted(
    x: Symbol, positions: Sequence[int], scales: Symbol | None, sizes: Sizes | None, policy: str
) -> list[Any]:
    """(size, scale) of each axis after resizing."""
    have = [x.shape[axis] for axis in positions]
    if scales is not None and content(scales, "scales").size:
        factors = [float(scale) for scale in content(scales, "scales")]
        return [(size if by == 1 else _scaled(size, by), by) for size, by in zip(have, factors, strict=True)]
    if sizes is None:
        raise CannotConvert("it has neither scales nor sizes")
    pairs = list(zip(have, sizes, strict=True))
    if policy == "stretch":
        return [(want, 1.0 if want == size else _ratio(want, size)) for size, want in pairs]
    ratios = [_ratio(want, size) for size, want in pairs]
    by = (
        min(ratios)
        if choice(policy, ("not_larger", "not_smaller"), "policy") == "not_larger"
        else max(ratios)
    )
    return [(int(by * size + 0.5), by) for size in have]


def _ratio(want: Any, size: Any) -> float:
    if not known((want, size)):
        raise CannotConvert("it resizes to a size that is known only when the model runs")
    return float(want / size)


def _scaled(size: Any, by: float) -> Any:
    """floor(size * scale), in float32 as ONNX's shape inference has it."""
    if isinstance(size, Size):
        return size * int(by) if by == int(by) else size
    return int(np.floor(np.float32(size) * np.float32(by)))


@op
def Resize(
    xp: Any,
    x: Symbol,
    roi: Symbol | None = None,
    scales: Symbol | None = None,
    sizes: Sizes | None = None,
    *,
    antialias: int,
    axes: Sequence[int] | None,
    coordinate_transformation_mode: str,
    cubic_coeff_a: float,
    exclude_outside: int,
    extrapolation_value: float,
    keep_aspect_ratio_policy: str,
    mode: str,
    nearest_mode: str,
) -> Any:
    coordinates = choice(coordinate_transformation_mode, tuple(COORDINATES), "coordinate_transformation_mode")
    rounding = choice(nearest_mode, tuple(NEAREST), "nearest_mode")
    cropped = coordinates == "tf_crop_and_resize"
    kernels: Mapping[str, Any] = {
        "linear": (_triangle, 1),
        "cubic": (lambda d: _keys(d, cubic_coeff_a), 2),
        "nearest": None,
    }
    kernel = kernels[choice(mode, tuple(kernels), "mode")]
    repeats = _repeats(x, scales, coordinates, rounding) if kernel is None and axes is None else None
    if repeats is not None:
        return _repeated(xp, x, repeats)
    if kernel is not None and not is_float(x.dtype):
        raise CannotConvert(
            f"it interpolates {x.dtype.name}, which ONNX's reference rounds and onnxruntime cuts",
            "Cast its input to float and its output back",
        )
    y = x
    for axis in axis_resizes(x, roi, scales, sizes, axes, keep_aspect_ratio_policy, cropped):
        if kernel is None:
            y = xp.take(y, xp.asarray(nearest_positions(axis, coordinates, rounding), INT64), axis.axis)
        else:
            weights = matrix(axis, coordinates, kernel, bool(antialias), bool(exclude_outside))
            y = _weighed(xp, y, weights, axis.axis, x.ndim)
        if cropped:
            y = _extrapolated(xp, y, axis, x.ndim, extrapolation_value)
    return y


def _weighed(xp: Any, x: Any, weights: Array, axis: int, rank: int) -> Any:
    """The matrix along one axis, from the left where it is the last but one."""
    if axis == rank - 2:
        return xp.matmul(xp.asarray(weights, x.dtype), x)
    turn = (*others(rank, axis), axis)
    moved = x if axis == rank - 1 else xp.permute_dims(x, turn)
    y = xp.matmul(moved, xp.asarray(weights.T, x.dtype))
    return (
        y if axis == rank - 1 else xp.permute_dims(y, tuple(turn.index(position) for position in range(rank)))
    )


def _extrapolated(xp: Any, y: Any, a: AxisResize, rank: int, value: float) -> Any:
    """Places that look outside of the axis have one value."""
    budget.make(a.out)
    x = _crop(a, np.arange(a.out, dtype=np.float64))
    outside = (x < 0) | (x > a.size - 1)
    if not outside.any():
        return y
    mask = outside.reshape(tuple(-1 if position == a.axis else 1 for position in range(rank)))
    return xp.where(xp.asarray(mask, np.dtype(bool)), value, y)


# ---- nearest by whole factors: for any size ------------------------------------------------------------------------


def _repeats(x: Symbol, scales: Symbol | None, coordinates: str, rounding: str) -> tuple[int, ...] | None:
    """How often each element stands beside itself, where that is all that happens; None elsewhere.

    Where an output place looks moves by one as the output place moves by one factor, so the first factor
    decides for all of them.
    """
    if known(x.shape) or scales is None or scales.content is None or not scales.content.size:
        return None
    if coordinates not in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric"):
        return None
    factors = [float(scale) for scale in scales.content]
    if any(by != int(by) or by < 1 for by in factors):
        return None
    for by in map(int, factors):
        trial = AxisResize(0, 4, 4 * by, by)
        if not np.array_equal(nearest_positions(trial, coordinates, rounding), np.arange(4 * by) // by):
            return None
    return tuple(int(by) for by in factors)


def _repeated(xp: Any, x: Symbol, repeats: tuple[int, ...]) -> Any:
    """Each element ``repeats`` times in a row along each axis."""
    apart: list[Any] = []
    times: list[int] = []
    for size, by in zip(x.shape, repeats, strict=True):
        apart += [size] if by == 1 else [size, 1]
        times += [1] if by == 1 else [1, by]
    y = xp.tile(xp.reshape(x, tuple(apart)), tuple(times))
    return xp.reshape(y, tuple(size * by for size, by in zip(x.shape, repeats, strict=True)))
