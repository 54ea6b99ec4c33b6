"""Convolutions, pools, and what samples images. Tensors are (batch, channels, *space).

Layers pad alike on both sides; where the graph does not, the input is padded first. Padding that follows
the size of the input (auto_pad SAME) is written as arithmetic on that size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size, ceil_div, smallest
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.padding import Pairs, excess, halves, listed, same
from netferry.converters.pytorch.dtypes import INT64
from netferry.converters.pytorch.from_onnx.layers import (
    Xp,
    applied,
    composed,
    fixed,
    held,
    layer,
    place,
    row,
    short,
)

AUTO_PAD = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


# ---- arithmetic -----------------------------------------------------------------------------------


def one(numbers: Sequence[Any]) -> Any:
    """``3`` for (3, 3): how a layer is written by hand."""
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def unless(value: Any, default: Any) -> Any:
    """None for a default, so that it is not written."""
    return None if value == default else value


def padding(
    x: Symbol,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    auto_pad: str,
    pads: Any,
) -> Pairs:
    """(before, after) of each spatial axis."""
    if auto_pad not in AUTO_PAD:
        raise CannotConvert(f"auto_pad is {auto_pad!r}, expected one of {', '.join(AUTO_PAD)}")
    if auto_pad in ("NOTSET", "VALID"):
        return listed(auto_pad, pads, len(kernel))
    sizes = x.shape[2:] if max(strides) > 1 else kernel  # with strides of 1 no size matters
    return same(auto_pad, sizes, kernel, strides, dilations)


def even(pairs: Pairs) -> bool:
    """Whether a layer can pad so itself: alike on both sides, by known numbers."""
    return all(not isinstance(b, Size) and b == a and b >= 0 for b, a in pairs)


def padded(xp: Xp, x: Symbol, pairs: Pairs, value: Any = 0.0) -> Symbol:
    return xp.pad(x, [(0, 0), (0, 0), *pairs], "constant", value)


def _space(x: Symbol, w: Symbol | None = None) -> int:
    """How many spatial axes there are: 1, 2 or 3."""
    rank = len(w.shape) if w is not None else len(x.shape)
    if not 3 <= rank <= 5:
        raise CannotConvert(f"PyTorch's layers have 1 to 3 spatial axes, this one has {rank - 2}")
    return rank - 2


# ---- convolutions ---------------------------------------------------------------------------------


@row("Conv")
def Conv(
    xp: Xp, x: Symbol, w: Symbol, b: Symbol | None = None, *, auto_pad: str = "NOTSET", dilations: Any = None,
    group: int = 1, kernel_shape: Any = None, pads: Any = None, strides: Any = None,
) -> Symbol:  # fmt: skip
    rank = _space(x, w)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    kernel = kernel_shape or [w.size(2 + axis) for axis in range(rank)]
    pairs = padding(x, kernel, strides, dilations, auto_pad, pads)
    if not even(pairs):
        x, pairs = padded(xp, x, pairs), [(0, 0)] * rank
    options = {
        "stride": unless(one(strides), 1),
        "padding": unless(one([before for before, _ in pairs]), 0),
        "dilation": unless(one(dilations), 1),
        "groups": unless(group, 1),
    }
    if fixed(w, b) and w.dtype == x.dtype:
        weights = {"weight": held(w)} | ({} if b is None else {"bias": held(b)})
        made = layer(xp, f"Conv{rank}d", w.size(1) * group, w.size(0), one(kernel), **options,
                     bias=False if b is None else None, at=place(xp, w, b), weights=weights)  # fmt: skip
        if made is not None:
            return applied(xp, made, x)
    return xp.call(f"F.conv{rank}d", x, w, b, **options)


@row("ConvTranspose")
def ConvTranspose(
    xp: Xp, x: Symbol, w: Symbol, b: Symbol | None = None, *, auto_pad: str = "NOTSET", dilations: Any = None,
    group: int = 1, kernel_shape: Any = None, output_padding: Any = None, output_shape: Any = None,
    pads: Any = None, strides: Any = None,
) -> Symbol:  # fmt: skip
    """What the padding takes away unevenly is cut off the full result."""
    rank = _space(x, w)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    kernel = kernel_shape or [w.size(2 + axis) for axis in range(rank)]
    more = list(output_padding or [0] * rank)
    if any(extra >= max(s, d) for extra, s, d in zip(more, strides, dilations, strict=True)):
        raise CannotConvert("PyTorch wants output_padding to be smaller than stride or dilation")
    pairs = _transposed_padding(
        x, kernel, strides, dilations, more, auto_pad, pads, output_shape, b is not None
    )
    cut = None if even(pairs) else pairs
    pairs = pairs if cut is None else [(0, 0)] * rank
    options = {
        "stride": unless(one(strides), 1),
        "padding": unless(one([before for before, _ in pairs]), 0),
        "output_padding": unless(one(more), 0),
        "groups": unless(group, 1),
    }
    made = None
    if fixed(w, b) and w.dtype == x.dtype:
        weights = {"weight": held(w)} | ({} if b is None else {"bias": held(b)})
        made = layer(xp, f"ConvTranspose{rank}d", w.size(0), w.size(1) * group, one(kernel), **options,
                     bias=False if b is None else None, dilation=unless(one(dilations), 1),
                     at=place(xp, w, b), weights=weights)  # fmt: skip
    if made is not None:
        y = applied(xp, made, x)
    else:
        y = xp.call(f"F.conv_transpose{rank}d", x, w, b, **options, dilation=unless(one(dilations), 1))
    return y if cut is None else padded(xp, y, [(-before, -after) for before, after in cut])


def _transposed_padding(
    x: Symbol, kernel: Any, strides: Any, dilations: Any, more: Any, auto_pad: str, pads: Any, output_shape: Any,
    biased: bool,
) -> Pairs:  # fmt: skip
    """What is taken away before and after; with ``output_shape`` and SAME it follows from the size asked for."""
    if output_shape is None and auto_pad in ("NOTSET", "VALID"):
        return padding(x, kernel, strides, dilations, auto_pad, pads)
    if auto_pad not in AUTO_PAD:
        raise CannotConvert(f"auto_pad is {auto_pad!r}, expected one of {', '.join(AUTO_PAD)}")
    spans = [(k - 1) * dilation + 1 for k, dilation in zip(kernel, dilations, strict=True)]
    totals = excess(auto_pad, output_shape, x.shape[2:], spans, strides, more)
    assert totals is not None
    if biased and any(not isinstance(total, Size) and total < 0 for total in totals):
        raise CannotConvert("output_shape asks for more than the layer makes")
    return [halves(auto_pad, total) for total in totals]


@row("DeformConv")
def DeformConv(
    xp: Xp, x: Symbol, w: Symbol, offset: Symbol, b: Symbol | None = None, mask: Symbol | None = None, *,
    dilations: Any = None, group: int = 1, kernel_shape: Any = None, offset_group: int = 1, pads: Any = None,
    strides: Any = None,
) -> Symbol:  # fmt: skip
    if _space(x, w) != 2:
        raise CannotConvert("DeformConv is carried with two spatial axes")
    pairs = padding(x, (1, 1), (1, 1), (1, 1), "NOTSET", pads)
    return xp.helper("deform_conv", x, w, offset, b, mask, strides=tuple(strides or (1, 1)),
                     dilations=tuple(dilations or (1, 1)), pads=tuple(pairs), groups=group, offset_groups=offset_group)  # fmt: skip


# ---- pools ----------------------------------------------------------------------------------------


def _pool(
    x: Symbol, kernel: Any, strides: Any, dilations: Any, auto_pad: str, pads: Any, ceil_mode: int
) -> Pairs:
    """The padding of a pool; with ``ceil_mode`` as much behind as the last window needs.

    ONNX drops a last window that would begin in the padding behind.
    """
    pairs = padding(x, kernel, strides, dilations, auto_pad, pads)
    if not ceil_mode or auto_pad not in ("NOTSET", "VALID"):
        return pairs
    result: Pairs = []
    for axis, (before, after) in enumerate(pairs):
        span, stride, size = (kernel[axis] - 1) * dilations[axis] + 1, strides[axis], x.shape[2 + axis]
        last = ceil_div(size + before + after - span, stride)
        inside = (size + before - 1) // stride
        both = isinstance(last, Size) or isinstance(inside, Size)
        count = smallest(last, inside) if both else min(last, inside)
        result.append((before, count * stride + span - size - before))
    return result


@row("MaxPool")
def MaxPool(
    xp: Xp, x: Symbol, *, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: Any = None,
    pads: Any = None, storage_order: int = 0, strides: Any = None,
) -> Any:  # fmt: skip
    rank = _space(x)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pairs = padding(x, kernel_shape, strides, dilations, auto_pad, pads)
    inside = even(pairs) and all(2 * before <= k for (before, _), k in zip(pairs, kernel_shape, strict=True))
    dtype = x.dtype
    if dtype.kind in "iub":
        x = xp.astype(x, np.float32 if dtype.itemsize == 1 else np.float64)
    ceil = bool(ceil_mode) and auto_pad in ("NOTSET", "VALID")
    size, source = x.shape[2:], x
    if not inside:
        pairs = _pool(source, kernel_shape, strides, dilations, auto_pad, pads, ceil_mode)
        x, ceil = padded(xp, x, pairs, float("-inf")), False
    options = {
        "stride": unless(one(strides), one(kernel_shape)),
        "padding": unless(one([before for before, _ in pairs]), 0) if inside else None,
        "dilation": unless(one(dilations), 1),
        "ceil_mode": True if ceil else None,
    }
    if not xp.wanted(1):
        return xp.astype(_max_pool(xp, rank, x, kernel_shape, options), dtype)
    made = xp.call(f"F.max_pool{rank}d", x, one(kernel_shape), **options, return_indices=True)
    y, places = xp.unpack(made, 2, [x.dtype, INT64])
    starts = [0] * rank if inside else [before for before, _ in pairs]
    behind = [0] * rank if inside else [before + after for before, after in pairs]
    wide = tuple(n + extra for n, extra in zip(size, behind, strict=True))
    found = xp.helper(
        "places_in_tensor",
        places,
        source,
        wide,
        tuple(starts),
        column_major=True if storage_order else None,
        dtype=INT64,
    )
    return xp.astype(y, dtype), found


def _max_pool(xp: Xp, rank: int, x: Symbol, kernel: Any, options: Any) -> Symbol:
    made = layer(xp, f"MaxPool{rank}d", one(kernel), **options, at=place(xp), weights={})
    assert made is not None
    return applied(xp, made, x)


@row("AveragePool")
def AveragePool(
    xp: Xp, x: Symbol, *, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0,
    count_include_pad: int = 0, dilations: Any = None, pads: Any = None, strides: Any = None,
) -> Any:  # fmt: skip
    rank = _space(x)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pairs = padding(x, kernel_shape, strides, dilations, auto_pad, pads)
    ceil = bool(ceil_mode) and auto_pad in ("NOTSET", "VALID")
    inside = even(pairs) and all(2 * before <= k for (before, _), k in zip(pairs, kernel_shape, strict=True))
    nothing = all(not isinstance(end, Size) and end == 0 for pair in pairs for end in pair)
    if inside and set(dilations) == {1} and not ceil:
        made = layer(xp, f"AvgPool{rank}d", one(kernel_shape), stride=unless(one(strides), one(kernel_shape)),
                     padding=unless(one([before for before, _ in pairs]), 0),
                     count_include_pad=None if count_include_pad or nothing else False,
                     at=place(xp), weights={})  # fmt: skip
        assert made is not None
        return applied(xp, made, x)
    whole = _pool(x, kernel_shape, strides, dilations, auto_pad, pads, ceil_mode)
    counted = pairs if count_include_pad else [(0, 0)] * rank
    beyond = [(b - c, a - d) for (b, a), (c, d) in zip(whole, counted, strict=True)]
    return xp.helper(
        "window_means",
        x,
        tuple(kernel_shape),
        tuple(strides),
        tuple(dilations),
        _ends(counted),
        _ends(beyond),
    )


def _ends(pairs: Pairs) -> list[Any]:
    """As ``F.pad`` takes them: the last axis first."""
    return [end for pair in reversed(pairs) for end in pair]


@row("LpPool")
def LpPool(
    xp: Xp, x: Symbol, *, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: Any = None,
    p: int = 2, pads: Any = None, strides: Any = None,
) -> Any:  # fmt: skip
    rank = _space(x)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pairs = _pool(x, kernel_shape, strides, dilations, auto_pad, pads, ceil_mode)
    powers = padded(xp, xp.pow(xp.abs(x), p), pairs)
    sums = xp.helper("window_sums", powers, tuple(kernel_shape), tuple(strides), tuple(dilations))
    return xp.pow(sums, 1.0 / p)


@row("GlobalAveragePool")
def GlobalAveragePool(xp: Xp, x: Symbol) -> Any:
    return (
        xp.mean(x, tuple(range(2, x.ndim)), True)
        if x.ndim > 5
        else xp.call(f"F.adaptive_avg_pool{_space(x)}d", x, 1)
    )


@row("GlobalMaxPool")
def GlobalMaxPool(xp: Xp, x: Symbol) -> Any:
    return (
        xp.max(x, tuple(range(2, x.ndim)), True)
        if x.ndim > 5
        else xp.call(f"F.adaptive_max_pool{_space(x)}d", x, 1)
    )


@row("MaxUnpool")
def MaxUnpool(
    xp: Xp,
    x: Symbol,
    indices: Symbol,
    output_shape: Any = None,
    *,
    kernel_shape: Any,
    pads: Any = None,
    strides: Any = None,
) -> Any:
    """Values go where they were: indices count through the whole tensor as it would be without ``output_shape``."""
    rank = _space(x)
    strides, pads = strides or [1] * rank, pads or [0] * 2 * rank
    plain = tuple(
        (x.shape[2 + a] - 1) * strides[a] + kernel_shape[a] - pads[a] - pads[rank + a] for a in range(rank)
    )
    whole = (*x.shape[:2], *plain)
    wanted = whole if output_shape is None else tuple(output_shape)
    return xp.helper("max_unpool", x, indices, whole, wanted)


@row("LRN")
def LRN(xp: Xp, x: Symbol, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int) -> Any:
    """PyTorch's own looks at one channel more before than behind where ``size`` is even, ONNX the other way."""
    if size % 2 == 0 or x.ndim < 3:
        return composed(xp, "LRN", x, alpha=alpha, beta=beta, bias=bias, size=size)
    return xp.call("F.local_response_norm", x, size, alpha=short(alpha), beta=short(beta), k=short(bias))


@row("Col2Im")
def Col2Im(
    xp: Xp,
    x: Symbol,
    image_shape: Any,
    block_shape: Any,
    *,
    dilations: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Any:
    rank = len(image_shape)
    dilations, strides, pads = dilations or [1] * rank, strides or [1] * rank, pads or [0] * 2 * rank
    pairs = list(zip(pads[:rank], pads[rank:], strict=True))
    if rank == 2 and even(pairs):
        return xp.call("F.fold", x, tuple(image_shape), tuple(block_shape), dilation=unless(one(dilations), 1),
                       padding=unless(one([before for before, _ in pairs]), 0), stride=unless(one(strides), 1))  # fmt: skip
    return xp.helper(
        "col2im", x, tuple(image_shape), tuple(block_shape), tuple(dilations), tuple(pairs), tuple(strides)
    )


# ---- sampling -------------------------------------------------------------------------------------


def interpolated(
    xp: Xp, x: Symbol, scales: Symbol | None, sizes: Any, attributes: dict[str, Any]
) -> Symbol | None:
    """Resize as ``F.interpolate``; None where that is not the same."""
    mode = _interpolation(x, scales, sizes, attributes)
    if mode is None:
        return None
    factors = None if scales is None or scales.content is None else [float(s) for s in scales.content[2:]]
    return xp.call("F.interpolate", x, size=None if sizes is None else tuple(sizes[2:]), scale_factor=factors and one(factors),
                   mode=mode[0] if mode[0] != "nearest" else None, align_corners=mode[1])  # fmt: skip


_NAMES = {
    ("linear", 3): "linear",
    ("linear", 4): "bilinear",
    ("linear", 5): "trilinear",
    ("cubic", 4): "bicubic",
}


def _interpolation(
    x: Symbol, scales: Symbol | None, sizes: Any, attributes: dict[str, Any]
) -> tuple[str, Any] | None:
    """The mode of ``F.interpolate`` and its ``align_corners``, or None where it is not the same."""
    kind, where = (
        attributes.get("mode", "nearest"),
        attributes.get("coordinate_transformation_mode", "half_pixel"),
    )
    odd = ("antialias", "axes", "exclude_outside", "keep_aspect_ratio_policy")
    usual = all(attributes.get(key) in (0, None, "stretch") for key in odd) and x.fact.dims is not None
    if not usual or not 3 <= x.ndim <= 5 or x.dtype.kind not in "f":
        return None
    if (scales is None) == (sizes is None) or (scales is not None and scales.content is None):
        return None
    if not _keeps_batch_and_channels(x, scales, sizes):
        return None
    if kind == "nearest":
        whole = scales is not None and scales.content is not None and all(s == int(s) for s in scales.content)
        plain = where == "asymmetric" and attributes.get("nearest_mode") == "floor"
        return ("nearest", None) if whole and plain else None
    mode = _NAMES.get((kind, x.ndim))
    if mode is None or attributes.get("cubic_coeff_a", -0.75) != -0.75:
        return None
    if where == "align_corners" and sizes is not None:
        return mode, True
    return (mode, None) if where == "half_pixel" else None


def _keeps_batch_and_channels(x: Symbol, scales: Symbol | None, sizes: Any) -> bool:
    if scales is not None and scales.content is not None:
        exact = scales.content * 64 == np.floor(scales.content * 64)  # so that sizes come out alike
        return bool((scales.content[:2] == 1).all() and exact.all())
    return sizes is not None and tuple(sizes[:2]) == tuple(x.shape[:2]) and all(s is not None for s in sizes)


@row("GridSample")
def GridSample(
    xp: Xp,
    x: Symbol,
    grid: Symbol,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Any:
    known_modes = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}
    if mode not in known_modes or padding_mode not in ("zeros", "border", "reflection"):
        raise CannotConvert(f"mode {mode!r} with padding {padding_mode!r} is not known")
    if x.ndim not in (4, 5) or (x.ndim == 5 and mode == "cubic"):
        raise CannotConvert("PyTorch samples images, and volumes but with cubic")
    return xp.call("F.grid_sample", x, xp.astype(grid, x.dtype), mode=unless(known_modes[mode], "bilinear"),
                   padding_mode=unless(padding_mode, "zeros"), align_corners=bool(align_corners))  # fmt: skip


@row("RoiAlign")
def RoiAlign(
    xp: Xp, x: Symbol, rois: Symbol, batch_indices: Symbol, *, coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg", output_height: int = 1, output_width: int = 1, sampling_ratio: int = 0, spatial_scale: float = 1.0,
) -> Any:  # fmt: skip
    if mode not in ("avg", "max") or coordinate_transformation_mode not in (
        "half_pixel",
        "output_half_pixel",
    ):
        raise CannotConvert(f"mode {mode!r} with {coordinate_transformation_mode!r} is not known")
    return xp.helper("roi_align", x, rois, batch_indices, (output_height, output_width), sampling_ratio, short(spatial_scale),
                     half_pixel=coordinate_transformation_mode == "half_pixel", mode=mode)  # fmt: skip


@row("MaxRoiPool")
def MaxRoiPool(xp: Xp, x: Symbol, rois: Symbol, *, pooled_shape: Any, spatial_scale: float = 1.0) -> Any:
    return xp.helper("max_roi_pool", x, rois, tuple(pooled_shape), short(spatial_scale))


@row("NonMaxSuppression")
def NonMaxSuppression(
    xp: Xp, boxes: Symbol, scores: Symbol, max_output_boxes_per_class: Symbol | None = None,
    iou_threshold: Symbol | None = None, score_threshold: Symbol | None = None, *, center_point_box: int = 0,
) -> Any:  # fmt: skip
    return xp.helper("non_max_suppression", boxes, scores, max_output_boxes_per_class, iou_threshold, score_threshold,
                     center=True if center_point_box else None, dtype=INT64)  # fmt: skip
