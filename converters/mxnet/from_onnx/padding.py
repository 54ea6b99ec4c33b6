"""Where the windows of a spatial layer lie: ONNX's pads, ``auto_pad`` and ``ceil_mode`` as MXNet has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size, known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema import padding
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace


class Windows:
    """Kernel, strides, dilations and pads of a spatial operator, one number per spatial axis.

    ``begin`` and ``end`` are what ONNX says, with ``auto_pad`` and ``ceil_mode`` resolved: a partial last window
    becomes a longer end pad, where the sizes are known.
    """

    def __init__(
        self,
        x: Symbol,
        kernel: Sequence[int],
        *,
        strides: Sequence[int] | None,
        dilations: Sequence[int] | None,
        pads: Sequence[int] | None,
        auto_pad: str,
        ceil_mode: int = 0,
    ) -> None:
        count = len(kernel)
        if x.ndim != count + 2 or not 1 <= count <= 3:
            raise CannotConvert(f"a kernel of {count} axes over an input of {x.ndim}")
        self.kernel = tuple(kernel)
        self.strides = tuple(strides or (1,) * count)
        self.dilations = tuple(dilations or (1,) * count)
        self.spans = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        self.sizes = x.shape[2:]
        pads = tuple(pads or (0,) * (2 * count))
        self.begin, self.end = list(pads[:count]), list(pads[count:])
        self.full = False
        if auto_pad not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
            raise CannotConvert(f"auto_pad={auto_pad!r}")
        if auto_pad == "VALID":
            self.begin, self.end = [0] * count, [0] * count
        elif auto_pad.startswith("SAME"):
            self._same(auto_pad)
        self.asked_end = tuple(self.end)
        if ceil_mode:
            self._ceil()

    def _same(self, auto_pad: str) -> None:
        pairs = padding.same(auto_pad, self.sizes, self.kernel, self.strides, self.dilations)
        if not known(amount for pair in pairs for amount in pair):
            raise CannotConvert(
                "auto_pad over an axis whose size is not known", "Export it with explicit pads"
            )
        self.begin, self.end = [before for before, _ in pairs], [after for _, after in pairs]

    def _ceil(self) -> None:
        """ONNX drops a last window that begins beyond the input and its first pad."""
        for axis, (size, span, stride) in enumerate(zip(self.sizes, self.spans, self.strides, strict=True)):
            begin, end = self.begin[axis], self.end[axis]
            if isinstance(size, Size):
                if stride + end > span or begin != end:
                    raise CannotConvert(
                        "ceil_mode over an axis whose size is not known", "Give the source model fixed sizes"
                    )
                self.full = True
                continue
            count = -(-(size + begin + end - span) // stride) + 1
            if (count - 1) * stride >= size + begin:
                count -= 1
            self.end[axis] = max((count - 1) * stride + span - size - begin, end)
        if self.full and not all(map(self._divides, range(len(self.sizes)))):
            raise CannotConvert("ceil_mode over axes of which some have no known size")

    def _divides(self, axis: int) -> bool:
        """Whether rounding makes no difference on an axis, or its size is not known."""
        size = self.sizes[axis]
        if isinstance(size, Size):
            return True
        rest = size + self.begin[axis] + self.asked_end[axis] - self.spans[axis]
        return self.end[axis] == self.asked_end[axis] and rest % self.strides[axis] == 0

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

    def attributes(self, *, dilate: bool, pad: bool) -> dict[str, Any]:
        """As MXNet's layers take them; defaults are left out."""
        count = len(self.kernel)
        found: dict[str, Any] = {"kernel": self.kernel}
        if self.strides != (1,) * count:
            found["stride"] = self.strides
        if dilate and self.dilations != (1,) * count:
            found["dilate"] = self.dilations
        if pad and any(self.begin):
            found["pad"] = tuple(self.begin)
        return found

    def outputs(self) -> tuple[Any, ...]:
        """How many windows fit on each axis."""
        whole = (size + b + e for size, b, e in zip(self.sizes, self.begin, self.end, strict=True))
        up = self.strides if self.full else (1,) * len(self.strides)
        return tuple(
            (size - span + add - 1) // stride + 1
            for size, span, stride, add in zip(whole, self.spans, self.strides, up, strict=True)
        )
