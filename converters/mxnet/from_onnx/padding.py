"""The windows of a spatial layer as MXNet has them: pads that are numbers, and rounding up as longer end pads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size, known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.windows import Window, Windows
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace


def demand_rank(x: Symbol, windows: Windows) -> None:
    if x.ndim != windows.rank + 2 or not 1 <= windows.rank <= 3:
        raise CannotConvert(f"a kernel of {windows.rank} axes over an input of {x.ndim}")


def unsized(what: str) -> CannotConvert:
    """The refusal of what takes an axis whose size is known."""
    return CannotConvert(f"{what} over an axis whose size is not known", "Give the source model fixed sizes")


@dataclass(frozen=True)
class LayerWindows:
    """Windows over one input, one number per spatial axis.

    ``begin`` and ``end`` are the pads, with ``auto_pad`` and ``ceil_mode`` resolved: a partial last window becomes
    a longer end pad, where sizes are known; ``asked_end`` is without it. ``full`` says that MXNet shall round up.
    """

    onnx: Windows
    sizes: tuple[Any, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    asked_end: tuple[int, ...]
    full: bool

    @classmethod
    def over(cls, x: Symbol, windows: Windows) -> LayerWindows:
        demand_rank(x, windows)
        sizes = x.shape[2:]
        if not known(amount for pair in windows.pairs(sizes) for amount in pair):
            raise CannotConvert(
                "auto_pad over an axis whose size is not known", "Export it with explicit pads"
            )
        axes = windows.over(sizes)
        full = windows.ceil_mode and not known(sizes)
        if full:
            _demand_ceil(axes)
        begin, asked = tuple(w.before for w in axes), tuple(w.after for w in axes)
        end = asked if full else tuple(w.after + w.missing for w in axes)
        return cls(windows, sizes, begin, end, asked, full)

    @property
    def even(self) -> bool:
        """Whether each axis has the same padding on both sides."""
        return self.begin == self.end

    @property
    def padded(self) -> bool:
        return any(self.begin) or any(self.end)

    def pad(self, xp: MxnetNamespace, x: Symbol, value: float) -> Symbol:
        """The padding written out."""
        pairs = [(0, 0), (0, 0), *zip(self.begin, self.end, strict=True)]
        return xp.pad(x, pairs, "constant", value)

    def outputs(self) -> tuple[Any, ...]:
        """How many windows fit on each axis."""
        settings = zip(self.sizes, self.begin, self.end, self.onnx.spans, self.onnx.strides, strict=True)
        return tuple(
            (size + before + after - span + (stride if self.full else 1) - 1) // stride + 1
            for size, before, after, span, stride in settings
        )


def _demand_ceil(axes: list[Window]) -> None:
    """MXNet rounds up on all axes or on none, and keeps a last window that ONNX drops: neither may matter."""
    for w in axes:
        span = (w.kernel - 1) * w.dilation + 1
        if isinstance(w.size, Size):
            if w.stride + w.after > span or w.before != w.after:
                raise unsized("ceil_mode")
        elif (w.size + w.before + w.after - span) % w.stride or w.missing:
            raise CannotConvert("ceil_mode over axes of which some have no known size")


def kernel_attributes(
    windows: Windows, pad: tuple[int, ...] | None = None, *, dilate: bool
) -> dict[str, Any]:
    """As MXNet's layers take them; those at their defaults are None."""
    once = (1,) * windows.rank
    return {
        "kernel": windows.kernel,
        "stride": windows.strides if windows.strides != once else None,
        "dilate": windows.dilations if dilate and windows.dilations != once else None,
        "pad": pad if pad and any(pad) else None,
    }
