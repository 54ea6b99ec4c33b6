"""Operators whose axes are only known when the model runs: TensorFlow takes most of them as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
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
