"""Operators whose axes are only known when the model runs: TensorFlow takes most of them as tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size, known, largest, smallest
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops import OPS
from netferry.converters.graph.ops.resize import helper_options
from netferry.converters.graph.schema.attributes import defaults
from netferry.converters.tensorflow.from_onnx.function_form import Function
from netferry.converters.tensorflow.from_onnx.function_names import BOOL, INT32, INT64
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE

REDUCTIONS: Mapping[str, tuple[str, str, str]] = {
    # operator: what is done before, how it reduces, what is done after
    "ReduceL1": ("abs", "sum", ""),
    "ReduceL2": ("square", "sum", "sqrt"),
    "ReduceLogSum": ("", "sum", "log"),
    "ReduceLogSumExp": ("", "logsumexp", ""),
    "ReduceMax": ("", "max", ""),
    "ReduceMean": ("", "mean", ""),
    "ReduceMin": ("", "min", ""),
    "ReduceProd": ("", "prod", ""),
    "ReduceSum": ("", "sum", ""),
    "ReduceSumSquare": ("square", "sum", ""),
}

Sizes = tuple[Any, ...]


def only_at_run_time(xp: TensorflowNamespace, sizes: Sequence[Any] | None) -> bool:
    """Whether sizes are asked for that only the function form can have."""
    return isinstance(xp, Function) and sizes is not None and not known(sizes)


def _reduction(before: str, operation: str, after: str) -> Any:
    def row(
        xp: Any, x: Symbol, axes: Sizes | None = None, *, keepdims: int, noop_with_empty_axes: int
    ) -> Any:
        if not only_at_run_time(xp, axes):
            return NotImplemented
        ready = getattr(xp, before)(x) if before else x
        kind = {"max": "any", "min": "all"}.get(operation, operation) if x.dtype.kind == "b" else operation
        made = xp.write_call(kind, ready.expr, axis=list(axes or ()), keepdims=bool(keepdims), dtype=x.dtype)
        return getattr(xp, after)(made) if after else made

    return row


for _operator, _steps in REDUCTIONS.items():
    NATIVE.row(_operator)(_reduction(*_steps))


@NATIVE.row("Unsqueeze")
def Unsqueeze(xp: Any, data: Symbol, axes: Sizes) -> Any:
    if not only_at_run_time(xp, axes):
        return NotImplemented
    rank = data.ndim + len(axes)
    ordered = xp.let(xp.call("tf.sort", xp.call("tf.math.floormod", list(axes), rank, dtype=INT32)), "axes")
    result: Any = data
    for position in range(len(axes)):
        result = xp.call("tf.expand_dims", result, xp.index(ordered, position), dtype=data.dtype)
    return result


@NATIVE.row("Squeeze")
def Squeeze(xp: Any, data: Symbol, axes: Sizes | None = None) -> Any:
    if axes is None and not known(data.shape) and isinstance(xp, Function):
        return xp.call("tf.squeeze", data, dtype=data.dtype)
    if not only_at_run_time(xp, axes):
        return NotImplemented
    rank = data.ndim
    positions = xp.call("tf.math.floormod", list(axes or ()), rank, dtype=INT32)
    apart = xp.call(
        "tf.not_equal",
        xp.call("tf.range", rank, dtype=INT32),
        xp.call("tf.expand_dims", positions, 1),
        dtype=BOOL,
    )
    kept = xp.call("tf.reduce_all", apart, axis=0, dtype=BOOL)
    sizes = xp.call("tf.boolean_mask", xp.call("tf.shape", data, dtype=INT32), kept, dtype=INT32)
    return xp.call("tf.reshape", data, sizes, dtype=data.dtype)


@NATIVE.row("Slice")
def Slice(
    xp: Any, data: Symbol, starts: Sizes, ends: Sizes, axes: Sizes | None = None, steps: Sizes | None = None
) -> Any:
    """With axes or steps that come as tensors, begin, end and stride of every axis are put together first."""
    if not only_at_run_time(xp, axes) and not only_at_run_time(xp, steps):
        return NotImplemented
    rank, count = data.ndim, len(starts)
    positions = xp.call("tf.math.floormod", list(axes or range(count)), rank, dtype=INT32)
    where = xp.let(xp.call("tf.expand_dims", positions, 1, dtype=INT32), "places")

    def everywhere(value: Any, some: Sequence[Any]) -> Any:
        whole = value if not isinstance(value, int) else xp.call("tf.fill", [rank], value, dtype=INT32)
        return xp.call(
            "tf.tensor_scatter_nd_update",
            whole,
            where,
            xp.call("tf.stack", list(some), dtype=INT32),
            dtype=INT32,
        )

    sizes = xp.call("tf.shape", data, dtype=INT32)
    ends_of = [
        xp.call("tf.where", xp.binary("<", end, -(2**31 - 2)), -(2**31 - 1), end, dtype=INT32) for end in ends
    ]
    begin, stride = everywhere(0, starts), everywhere(1, steps or [1] * count)
    end = everywhere(sizes, ends_of)
    return xp.call("tf.strided_slice", data, begin, end, stride, dtype=data.dtype)


@NATIVE.row("Trilu")
def Trilu(xp: Any, x: Symbol, k: Sizes | None = None, *, upper: int) -> Any:
    if not only_at_run_time(xp, k):
        return NotImplemented
    assert k is not None
    return xp.triu(x, k[0]) if upper else xp.tril(x, k[0])


def _cumulative(function: str) -> Any:
    def row(xp: Any, x: Symbol, axis: Sizes, *, exclusive: int, reverse: int) -> Any:
        if not isinstance(xp, Function):
            return NotImplemented
        flags = {"exclusive": bool(exclusive) or None, "reverse": bool(reverse) or None}
        return xp.call(function, x, axis=axis[0], **flags, dtype=x.dtype, dims=x.fact.dims)

    return row


for _operator, _function in (("CumSum", "tf.cumsum"), ("CumProd", "tf.math.cumprod")):
    NATIVE.row(_operator)(_cumulative(_function))


@NATIVE.row("NonMaxSuppression")
def NonMaxSuppression(
    xp: TensorflowNamespace, boxes: Symbol, scores: Symbol, max_output_boxes_per_class: Symbol | None = None,
    iou_threshold: Symbol | None = None, score_threshold: Symbol | None = None, *, center_point_box: int,
) -> Any:  # fmt: skip
    if not isinstance(xp, Function):
        raise CannotConvert("a functional Keras model cannot hold as many boxes as are left when it runs")
    xp.use("regions")
    limits = (max_output_boxes_per_class, iou_threshold, score_threshold)
    given = {
        name: _number(limit)
        for name, limit in zip(("limit", "iou_threshold", "score_threshold"), limits, strict=True)
        if limit is not None
    }
    center = True if center_point_box else None
    return xp.call("non_max_suppression", boxes, scores, **given, center=center, dtype=INT64)


def _number(limit: Symbol) -> Any:
    return limit if limit.content is None else limit.content.reshape(-1)[0].item()


# ---- resizing to sizes that come when the model runs ------------------------------------------------------

_WHERE: Mapping[str, Callable[[Any, Any, Any, Any, Any], Any]] = {
    # where place ``y`` of ``out`` looks among ``size`` places, of which there are ``by`` times more; ``y`` and ``by`` are tensors
    "half_pixel": lambda xp, y, by, _size, _out: xp.subtract(xp.divide(xp.add(y, 0.5), by), 0.5),
    "pytorch_half_pixel": lambda xp, y, by, size, out: xp.multiply(
        _WHERE["half_pixel"](xp, y, by, size, out), smallest(out - 1, 1)
    ),
    "align_corners": lambda xp, y, _by, size, out: xp.divide(xp.multiply(y, size - 1), largest(out - 1, 1)),
    "asymmetric": lambda xp, y, by, _size, _out: xp.divide(y, by),
}
_ROUNDED: Mapping[str, Callable[[Any, Any], Any]] = {
    "round_prefer_floor": lambda xp, x: xp.ceil(xp.subtract(x, 0.5)),
    "round_prefer_ceil": lambda xp, x: xp.floor(xp.add(x, 0.5)),
    "floor": lambda xp, x: xp.floor(x),
    "ceil": lambda xp, x: xp.ceil(x),
}


@NATIVE.row("Resize")
def Resize(
    xp: Any, x: Symbol, roi: Symbol | None = None, scales: Symbol | None = None, sizes: Sizes | None = None, **attributes: Any,
) -> Any:  # fmt: skip
    """What has known sizes is a matrix, as everywhere; else an axis is read at places, or all goes to the runtime helper."""
    given = {**(defaults("Resize") or {}), **attributes}
    read = _read_at_places(xp, x, scales, sizes, **given)
    if (
        read is not NotImplemented
        or not isinstance(xp, Function)
        or x.fact.dims is None
        or x.dtype.kind != "f"
    ):
        return read
    try:
        return OPS["Resize"](xp, x, roi, scales, sizes, **attributes)
    except CannotConvert:
        return _resized(xp, x, roi, scales, sizes, given)


def _resized(
    xp: Any, x: Symbol, roi: Symbol | None, scales: Symbol | None, sizes: Sizes | None, attributes: Mapping[str, Any]
) -> Any:  # fmt: skip
    """Every axis in turn, by the runtime helper ``resize``."""
    options = helper_options(attributes)
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        options["roi"] = roi
    options["scales"] = None if scales is None or scales.fact.dims == (0,) else scales
    options["sizes"] = None if sizes is None else list(sizes)
    xp.use("resizing")
    return xp.call("resize", x, **options, dtype=x.dtype)


def _read_at_places(
    xp: Any, x: Symbol, scales: Symbol | None, sizes: Sizes | None, *,
    antialias: int, axes: Sequence[int] | None, coordinate_transformation_mode: str, cubic_coeff_a: float,
    exclude_outside: int, extrapolation_value: float, keep_aspect_ratio_policy: str, mode: str, nearest_mode: str,
) -> Any:  # fmt: skip
    """Each axis is read at places that are computed when the model runs: at one, or between two of them."""
    odd = antialias or axes is not None or exclude_outside or keep_aspect_ratio_policy != "stretch"
    read = mode in ("nearest", "linear") and coordinate_transformation_mode in _WHERE
    if odd or not read or not isinstance(xp, Function) or x.fact.dims is None or x.dtype.kind != "f":
        return NotImplemented
    wanted = _resized_to(x.shape, None if scales is None else scales.content, sizes)
    changed = [] if wanted is None else [row for row in wanted if row[1] != row[2]]
    if known(size for _, *ends, _ in changed for size in ends) or nearest_mode not in _ROUNDED:
        return NotImplemented
    result = x
    for axis, size, out, by in changed:
        as_float = np.dtype(np.float64 if x.dtype.itemsize == 8 else np.float32)
        places = xp.let(xp.arange(0, out, 1, as_float), "places")
        places.fact = Fact(as_float, (out,))
        by = by or xp.divide(
            xp.sized(out, as_float) if isinstance(out, Size) else _filled(xp, out, as_float), size
        )
        at = _WHERE[coordinate_transformation_mode](xp, places, by, size, out)
        if mode == "nearest":
            at = _ROUNDED[nearest_mode](xp, at)
        at = xp.let(xp.minimum(xp.maximum(at, 0), size - 1), "places")
        result = _read(xp, result, at, axis, size, out, mode == "linear")
    return result


def _filled(xp: Any, number: int, dtype: np.dtype[Any]) -> Any:
    return xp.asarray(np.asarray(number), dtype)


def _resized_to(
    have: Sequence[Any], scales: Any, sizes: Sizes | None
) -> list[tuple[int, Any, Any, Any]] | None:
    """(axis, size, out, scale) of each axis, the scale None where it is what the sizes make it; None where that is not known."""
    if scales is not None and scales.size:
        factors = [Fraction(float(by)) for by in scales]
        if any(by.denominator > 64 for by in factors):  # cut off in float32, which whole numbers do not show
            return None
        return [
            (axis, size, size * by.numerator // by.denominator, float(by))
            for axis, (size, by) in enumerate(zip(have, factors, strict=True))
        ]
    if sizes is None or len(sizes) != len(have):
        return None
    return [(axis, size, out, None) for axis, (size, out) in enumerate(zip(have, sizes, strict=True))]


def _read(xp: Any, x: Any, at: Any, axis: int, size: Any, out: Any, between: bool) -> Any:
    """The axis at these places, which lie inside of it; between two places by how near they are."""

    def along(places: Any) -> Any:
        whole = xp.let(xp.astype(places, INT64), "places")
        whole.fact = Fact(INT64, (out,))
        return xp.let(xp.take(x, whole, axis), "x")

    if not between:
        return along(at)
    first = xp.let(xp.floor(at), "first")
    share = xp.reshape(
        xp.astype(xp.subtract(at, first), x.dtype), tuple(-1 if i == axis else 1 for i in range(x.ndim))
    )
    low, high = along(first), along(xp.minimum(xp.add(first, 1), size - 1))
    return xp.add(low, xp.multiply(xp.subtract(high, low), share))
