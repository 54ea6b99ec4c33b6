"""Padding of spatial layers: arithmetic only, sizes in elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import ceil_div, largest

Pairs = list[tuple[Any, Any]]
"""(begin, end) of each spatial axis."""


def same_upper(size: Any, kernel: int, stride: int, dilation: int = 1) -> tuple[Any, Any]:
    """TensorFlow's SAME: the output has ceil(size / stride) places, the odd element goes behind.

    Of a ``Size`` that is known only when the model runs, the padding is one, too.
    """
    span = (kernel - 1) * dilation + 1
    total = largest((ceil_div(size, stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def attributes_of_same(
    sizes: Sequence[Any], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> dict[str, Any]:
    """TensorFlow's SAME as ONNX writes it: ``pads`` where they can be counted now, ``auto_pad`` where they depend on a
    size that is free, nothing where there are none.

    Raises:
        CannotConvert: ONNX's ``auto_pad`` counts otherwise where a kernel is dilated.
    """
    if all(isinstance(size, int) or stride == 1 for size, stride in zip(sizes, strides, strict=True)):
        pairs = [
            same_upper(size if isinstance(size, int) else 1, *window)
            for size, *window in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        pads = onnx_pads(pairs)
        return {"pads": pads} if any(pads) else {}
    if max(dilations) > 1:
        raise CannotConvert(
            "its padding 'same' with strides and dilation needs a size that is free", "Fix the input's size"
        )
    return {"auto_pad": "SAME_UPPER"}


def halves(auto_pad: str, total: Any) -> tuple[Any, Any]:
    """A padding of so many elements in all: the odd one goes behind for SAME_UPPER, before for everything else."""
    less = total // 2
    return (less, total - less) if auto_pad == "SAME_UPPER" else (total - less, less)


def listed(auto_pad: str, pads: Sequence[int] | None, rank: int) -> Pairs:
    """(begin, end) of each axis where ``pads`` say it; VALID pads nothing."""
    flat = list(pads) if pads and auto_pad != "VALID" else [0] * (2 * rank)
    return list(zip(flat[:rank], flat[rank:], strict=True))


def same(
    auto_pad: str,
    sizes: Sequence[Any],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Pairs:
    """(begin, end) of each axis for SAME_UPPER and SAME_LOWER; a ``Size`` gives paddings that are sizes, too."""
    settings = zip(sizes, kernel, strides, dilations, strict=True)
    return [halves(auto_pad, sum(same_upper(*setting))) for setting in settings]


def excess(
    auto_pad: str,
    output_shape: Sequence[Any] | None,
    sizes: Sequence[Any],
    spans: Sequence[int],
    strides: Sequence[int],
    extra: Sequence[int],
) -> list[Any] | None:
    """How many places a transposed convolution makes more than it shall give, on each axis.

    ``spans`` are how far a kernel reaches, ``extra`` its ``output_padding``. None where ``pads`` say what is cut off.
    """
    rank = len(spans)
    if output_shape:
        wanted = list(output_shape)[-rank:]
    elif auto_pad.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    else:
        return None
    settings = zip(sizes, spans, strides, extra, wanted, strict=True)
    return [stride * (size - 1) + more + span - want for size, span, stride, more, want in settings]


def onnx_pads(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """[(begin, end) of each axis] as ONNX writes them: all begins, then all ends."""
    return [begin for begin, _ in pairs] + [end for _, end in pairs]


def symmetric(pads: Sequence[int]) -> list[int]:
    """The same padding on both sides of each axis, as ONNX writes it."""
    return list(pads) * 2
