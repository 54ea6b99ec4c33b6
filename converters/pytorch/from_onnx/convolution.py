"""Convolutions. Tensors are (batch, channels, *space).

Layers pad alike on both sides; where the graph does not, the input is padded first. Padding that follows
the size of the input (auto_pad SAME) is written as arithmetic on that size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.padding import Pairs
from netferry.converters.graph.schema.windows import Windows
from netferry.converters.pytorch.from_onnx.layers import (
    Xp,
    all_constant,
    applied,
    module_path,
    row,
    weight_and_bias,
)

# ---- arithmetic -----------------------------------------------------------------------------------


def one(numbers: Sequence[Any]) -> Any:
    """``3`` for (3, 3): how a layer is written by hand."""
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def unless(value: Any, default: Any) -> Any:
    """None for a default, so that it is not written."""
    return None if value == default else value


def befores(pairs: Pairs) -> Any:
    """The padding before each axis, as a layer takes it; None where there is none."""
    return unless(one([before for before, _ in pairs]), 0)


def padding(x: Symbol, windows: Windows) -> Pairs:
    """(before, after) of each spatial axis; the sizes of ``x`` are asked for only where they matter."""
    by_size = windows.auto_pad.startswith("SAME") and max(windows.strides) > 1
    return windows.pairs(x.shape[2:] if by_size else ())


def even(pairs: Pairs) -> bool:
    """Whether a layer can pad so itself: alike on both sides, by known numbers."""
    return all(not isinstance(b, Size) and b == a and b >= 0 for b, a in pairs)


def padded(xp: Xp, x: Symbol, pairs: Pairs, value: Any = 0.0) -> Symbol:
    return xp.pad(x, [(0, 0), (0, 0), *pairs], "constant", value)


def space(x: Symbol) -> int:
    """How many spatial axes an input or a weight has: 1, 2 or 3."""
    rank = len(x.shape)
    if not 3 <= rank <= 5:
        raise CannotConvert(f"PyTorch's layers have 1 to 3 spatial axes, this one has {rank - 2}")
    return rank - 2


# ---- convolutions ---------------------------------------------------------------------------------


@row("Conv")
def Conv(xp: Xp, x: Symbol, w: Symbol, b: Symbol | None = None, *, windows: Windows, group: int) -> Symbol:
    rank, pairs = space(w), padding(x, windows)
    if not even(pairs):
        x, pairs = padded(xp, x, pairs), [(0, 0)] * rank
    options = {
        "stride": unless(one(windows.strides), 1),
        "padding": befores(pairs),
        "dilation": unless(one(windows.dilations), 1),
        "groups": unless(group, 1),
    }
    y = None
    if all_constant(w, b) and w.dtype == x.dtype:
        y = applied(xp, x, f"Conv{rank}d", w.size(1) * group, w.size(0), one(windows.kernel), **options,
                    bias=False if b is None else None, at=module_path(xp, w, b), weights=weight_and_bias(w, b))  # fmt: skip
    return xp.call(f"F.conv{rank}d", x, w, b, **options) if y is None else y


@row("ConvTranspose")
def ConvTranspose(
    xp: Xp, x: Symbol, w: Symbol, b: Symbol | None = None, *, windows: Windows, group: int,
    output_padding: Sequence[int] | None, output_shape: Sequence[int] | None,
) -> Symbol:  # fmt: skip
    """What the padding takes away unevenly is cut off the full result."""
    rank, extra = space(w), list(output_padding or [0] * space(w))
    reaches = zip(extra, windows.strides, windows.dilations, strict=True)
    if any(more >= max(stride, dilation) for more, stride, dilation in reaches):
        raise CannotConvert("PyTorch wants output_padding to be smaller than stride or dilation")
    pairs = _cut_off(x, windows, extra, output_shape, b is not None)
    cut = None if even(pairs) else pairs
    options = {
        "stride": unless(one(windows.strides), 1),
        "padding": befores(pairs) if cut is None else None,
        "output_padding": unless(one(extra), 0),
        "groups": unless(group, 1),
    }
    dilation, y = unless(one(windows.dilations), 1), None
    if all_constant(w, b) and w.dtype == x.dtype:
        y = applied(xp, x, f"ConvTranspose{rank}d", w.size(0), w.size(1) * group, one(windows.kernel), **options,
                    bias=False if b is None else None, dilation=dilation, at=module_path(xp, w, b),
                    weights=weight_and_bias(w, b))  # fmt: skip
    if y is None:
        y = xp.call(f"F.conv_transpose{rank}d", x, w, b, **options, dilation=dilation)
    return y if cut is None else padded(xp, y, [(-before, -after) for before, after in cut])


def _cut_off(x: Symbol, windows: Windows, extra: Any, output_shape: Any, biased: bool) -> Pairs:
    """What is taken away before and after; with ``output_shape`` and SAME it follows from the size asked for."""
    if output_shape is None and not windows.auto_pad.startswith("SAME"):
        return windows.listed
    pairs = windows.cut_off(x.shape[2:], extra, output_shape)
    if biased and any(not isinstance(a + b, Size) and a + b < 0 for a, b in pairs):
        raise CannotConvert("output_shape asks for more than the layer makes")
    return pairs


@row("DeformConv")
def DeformConv(
    xp: Xp, x: Symbol, w: Symbol, offset: Symbol, b: Symbol | None = None, mask: Symbol | None = None, *,
    windows: Windows, group: int, offset_group: int,
) -> Symbol:  # fmt: skip
    if space(w) != 2:
        raise CannotConvert("netferry supports DeformConv with two spatial axes")
    return xp.helper("deform_conv", x, w, offset, b, mask, strides=windows.strides, dilations=windows.dilations,
                     pads=tuple(windows.listed), groups=group, offset_groups=offset_group)  # fmt: skip


@row("Col2Im")
def Col2Im(
    xp: Xp, x: Symbol, image_shape: Any, block_shape: Any, *, dilations: Any, pads: Any, strides: Any
) -> Any:
    rank = len(image_shape)
    dilations, strides, pads = dilations or [1] * rank, strides or [1] * rank, pads or [0] * 2 * rank
    pairs = list(zip(pads[:rank], pads[rank:], strict=True))
    if rank == 2 and even(pairs):
        return xp.call("F.fold", x, tuple(image_shape), tuple(block_shape), dilation=unless(one(dilations), 1),
                       padding=befores(pairs), stride=unless(one(strides), 1))  # fmt: skip
    return xp.helper(
        "col2im", x, tuple(image_shape), tuple(block_shape), tuple(dilations), tuple(pairs), tuple(strides)
    )
