"""Operators whose axes, scales or lengths are known only when the model runs: the program decides there.

What is known before is written by the shared rows; the rest is a call of a function of ``prelude.py``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size, known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.dtypes import FLOAT64, INT64
from netferry.converters.pytorch.from_onnx.convolution import interpolated
from netferry.converters.pytorch.from_onnx.layers import Xp, composed, row
from netferry.converters.pytorch.from_onnx.writer import is_number, plain

Sizes = tuple[Any, ...]

REDUCTIONS = {
    "ReduceL1": ("abs", "sum", ""),
    "ReduceL2": ("square", "sum", "sqrt"),
    "ReduceLogSum": ("", "sum", "log"),
    "ReduceLogSumExp": ("", "logsumexp", ""),
    "ReduceMax": ("", "amax", ""),
    "ReduceMean": ("", "mean", ""),
    "ReduceMin": ("", "amin", ""),
    "ReduceProd": ("", "prod", ""),
    "ReduceSum": ("", "sum", ""),
    "ReduceSumSquare": ("square", "sum", ""),
}
"""A step before, the reduction in PyTorch's words, a step after."""
_FRACTIONAL = ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean")


def _reduction(operator: str) -> Callable[..., Any]:
    before, word, after = REDUCTIONS[operator]

    def reduce(
        xp: Xp, x: Symbol, axes: Sizes | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Any:
        if axes is None or known(axes):
            return composed(
                xp, operator, x, axes, keepdims=keepdims, noop_with_empty_axes=noop_with_empty_axes
            )
        y = xp.ordered(x) if word in ("amax", "amin") else xp.widened(x)
        if operator in _FRACTIONAL and x.dtype.kind in "iu":
            y = xp.astype(x, FLOAT64)
        y = getattr(xp, before)(y) if before else y
        y = xp.helper("reduce_axes", y, word, tuple(axes), bool(keepdims), dtype=y.dtype)
        y = getattr(xp, after)(y) if after else y
        return xp.unordered(y, x.dtype) if word in ("amax", "amin") else xp.astype(y, x.dtype)

    return reduce


for _operator in REDUCTIONS:
    row(_operator)(_reduction(_operator))


def _cumulation(operator: str, word: str) -> Callable[..., Any]:
    def cumulate(xp: Xp, x: Symbol, axis: Sizes, *, exclusive: int = 0, reverse: int = 0) -> Any:
        if known(axis):
            return composed(xp, operator, x, axis, exclusive=exclusive, reverse=reverse)
        y = xp.widened(x)
        options = {"exclusive": True if exclusive else None, "reverse": True if reverse else None}
        return xp.astype(xp.helper("cumulate", y, word, axis[0], **options, dtype=y.dtype), x.dtype)

    return cumulate


row("CumSum")(_cumulation("CumSum", "cumsum"))
row("CumProd")(_cumulation("CumProd", "cumprod"))


@row("Trilu")
def Trilu(xp: Xp, x: Symbol, k: Sizes | None = None, *, upper: int = 1) -> Any:
    diagonal = 0 if k is None else k[0]
    return xp.triu(x, diagonal) if upper else xp.tril(x, diagonal)


@row("Squeeze")
def Squeeze(xp: Xp, data: Symbol, axes: Sizes | None = None) -> Any:
    if axes is None and data.fact.dims is not None and known(data.fact.dims):
        return composed(xp, "Squeeze", data, None)
    if axes is None or not known(axes):
        return xp.method(data, "squeeze", *([] if axes is None else [tuple(axes)]))
    return composed(xp, "Squeeze", data, axes)


@row("Unsqueeze")
def Unsqueeze(xp: Xp, data: Symbol, axes: Sizes) -> Any:
    if not known(axes):
        return xp.helper("unsqueeze", data, tuple(axes))
    if data.fact.dims is None and len(axes) == 1:
        return xp.method(data, "unsqueeze", axes[0])
    return composed(xp, "Unsqueeze", data, axes)


@row("Slice")
def Slice(
    xp: Xp, data: Symbol, starts: Sizes, ends: Sizes, axes: Sizes | None = None, steps: Sizes | None = None
) -> Any:
    if known(axes or ()) and known(steps or ()):
        return composed(xp, "Slice", data, starts, ends, axes, steps)
    where = tuple(range(len(starts))) if axes is None else tuple(axes)
    strides = (1,) * len(starts) if steps is None else tuple(steps)
    return xp.helper("slice_axes", data, tuple(starts), tuple(ends), where, strides)


@row("Pad")
def Pad(
    xp: Xp,
    data: Symbol,
    pads: Sizes,
    value: Symbol | None = None,
    axes: Sizes | None = None,
    *,
    mode: str = "constant",
) -> Any:
    if known(axes or ()):
        return composed(xp, "Pad", data, pads, value, axes, mode=mode)
    number: Any = 0 if value is None else plain(value, data.dtype) if is_number(value, data) else value
    return xp.helper("pad_axes", data, tuple(pads), tuple(axes or ()), mode, number)


@row("AffineGrid")
def AffineGrid(xp: Xp, theta: Symbol, size: Sizes, *, align_corners: int = 0) -> Any:
    if theta.dtype.itemsize < 4:
        return composed(xp, "AffineGrid", theta, size, align_corners=align_corners)
    return xp.call("F.affine_grid", theta, list(size), align_corners=bool(align_corners))


@row("DFT")
def DFT(
    xp: Xp,
    x: Symbol,
    dft_length: Sizes | None = None,
    axis: Sizes | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Any:
    if axis is None or known(axis):
        return composed(xp, "DFT", x, dft_length, axis, inverse=inverse, onesided=onesided)
    return xp.dft(x, axis[0], None if dft_length is None else dft_length[0], bool(inverse), bool(onesided))  # type: ignore[arg-type]


@row("Resize")
def Resize(
    xp: Xp, x: Symbol, roi: Symbol | None = None, scales: Symbol | None = None, sizes: Sizes | None = None, *,
    antialias: int = 0, axes: Any = None, coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75, exclude_outside: int = 0, extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch", mode: str = "nearest", nearest_mode: str = "round_prefer_floor",
) -> Any:  # fmt: skip
    """``F.interpolate`` where it means the same; matrices where sizes are known; else arithmetic on them."""
    attributes = {
        "antialias": antialias, "axes": axes, "coordinate_transformation_mode": coordinate_transformation_mode,
        "cubic_coeff_a": cubic_coeff_a, "exclude_outside": exclude_outside, "extrapolation_value": extrapolation_value,
        "keep_aspect_ratio_policy": keep_aspect_ratio_policy, "mode": mode, "nearest_mode": nearest_mode,
    }  # fmt: skip
    native = interpolated(xp, x, scales, sizes, attributes)
    if native is not None:
        return native
    try:
        return composed(xp, "Resize", x, roi, scales, sizes, **attributes)
    except CannotConvert:
        return _resized(xp, x, roi, scales, sizes, attributes)


def _resized(
    xp: Xp,
    x: Symbol,
    roi: Symbol | None,
    scales: Symbol | None,
    sizes: Sizes | None,
    attributes: dict[str, Any],
) -> Any:
    """Every axis in turn, by ``prelude.resize``."""
    allowed = {
        "mode": ("nearest", "linear", "cubic"),
        "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
        "keep_aspect_ratio_policy": ("stretch", "not_larger", "not_smaller"),
        "coordinate_transformation_mode": ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                                           "asymmetric", "tf_crop_and_resize"),
    }  # fmt: skip
    for name, values in allowed.items():
        if attributes[name] not in values:
            raise CannotConvert(f"{name} is {attributes[name]!r}, expected one of {', '.join(values)}")
    if x.dtype.kind not in "f":
        raise CannotConvert("it resizes integers to a size that is known only when the model runs")
    options = {name: value for name, value in attributes.items() if value != _DEFAULTS.get(name)}
    if "antialias" in options or "exclude_outside" in options:
        options |= {name: True for name in ("antialias", "exclude_outside") if name in options}
    if "axes" in options:
        options["axes"] = tuple(options["axes"])
    if roi is not None and attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        options["roi"] = _numbers(xp, roi)
    options["scales"] = None if scales is None or scales.fact.dims == (0,) else _numbers(xp, scales)
    options["sizes"] = None if sizes is None else tuple(sizes)
    return xp.helper("resize", x, **options)


def _numbers(xp: Xp, x: Symbol) -> Any:
    return x.content.tolist() if x.content is not None else xp.method(x, "tolist").expr


_DEFAULTS = {
    "antialias": 0, "axes": None, "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75,
    "exclude_outside": 0, "extrapolation_value": 0.0, "keep_aspect_ratio_policy": "stretch", "mode": "nearest",
    "nearest_mode": "round_prefer_floor",
}  # fmt: skip


@row("Shape")
def Shape(xp: Xp, x: Symbol, *, start: int = 0, end: int | None = None) -> Any:
    if x.fact.dims is not None:
        return composed(xp, "Shape", x, start=start, end=end)
    shape = ast.Attribute(x.expr, "shape", ast.Load())
    if start or end is not None:
        shape = ast.Subscript(shape, xp.to_expr(slice(start or None, end)), ast.Load())  # type: ignore[assignment]
    return xp.make("torch.tensor", shape, dtype=INT64)


@row("Reshape")
def Reshape(xp: Xp, data: Symbol, shape: Sizes, *, allowzero: int = 0) -> Any:
    if data.fact.dims is not None:
        return composed(xp, "Reshape", data, shape, allowzero=allowzero)
    certain = allowzero or all(not isinstance(size, Size) and size != 0 for size in shape)
    return xp.reshape(data, tuple(shape)) if certain else xp.helper("reshape", data, tuple(shape))
