"""How the kernel of a spatial operator moves over its input: ONNX's five attributes as one object. Sizes in elements.

``x``: (batch, channels, *space); every tuple here has one number for each axis of ``space``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import ceil_div, known, largest, smallest
from netferry.converters.graph.schema import padding
from netferry.converters.graph.schema.padding import Pairs

AUTO_PAD = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")

WINDOWS = frozenset("auto_pad ceil_mode dilations kernel_shape pads strides".split())
"""The attributes that are one object."""

_WEIGHT: Mapping[str, int] = {
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "DeformConv": 1,
    "QLinearConv": 3,
}
"""Which input is the weight, whose last sizes are the kernel's; pools have none."""


@dataclass(frozen=True)
class Window:
    """How a kernel moves along one axis: ``before`` and ``after`` are the padding, ``out`` its places.

    ``missing`` is what the last window reaches beyond the padding, where sizes are rounded up.
    """

    size: Any
    kernel: int
    stride: int
    dilation: int
    before: Any
    after: Any
    out: Any
    missing: Any = 0

    def slice(self, position: int) -> tuple[Any, Any, int]:
        """The elements that one position in the kernel meets, in the padded axis."""
        first = position * self.dilation
        return first, first + (self.out - 1) * self.stride + 1, self.stride


@dataclass(frozen=True)
class Windows:
    """``kernel_shape``, ``strides``, ``dilations``, ``pads`` and ``auto_pad``, and of pools ``ceil_mode``, checked."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str = "NOTSET"
    ceil_mode: bool = False

    @classmethod
    def of(cls, operator: str, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Windows:
        """From a node's inputs and attributes; the kernel's sizes are the weight's where no attribute says them."""
        kernel = _kernel(operator, inputs, attributes.get("kernel_shape"))
        rank = len(kernel)
        if rank != inputs[0].ndim - 2:
            raise CannotConvert(
                f"its kernel has {rank} axes, its input {inputs[0].ndim - 2} besides batch and channels"
            )
        auto_pad = attributes.get("auto_pad") or "NOTSET"
        if auto_pad not in AUTO_PAD:
            raise CannotConvert(f"auto_pad is {auto_pad!r}, expected one of {', '.join(AUTO_PAD)}")
        return cls(
            tuple(kernel),
            _numbers(attributes, "strides", rank, 1),
            _numbers(attributes, "dilations", rank, 1),
            _numbers(attributes, "pads", 2 * rank, 0),
            auto_pad,
            bool(attributes.get("ceil_mode")),
        )

    @property
    def rank(self) -> int:
        """How many axes the kernel moves along."""
        return len(self.kernel)

    @property
    def spans(self) -> tuple[int, ...]:
        """How far the kernel reaches along each axis."""
        return tuple((k - 1) * dilation + 1 for k, dilation in zip(self.kernel, self.dilations, strict=True))

    @property
    def listed(self) -> Pairs:
        """(before, after) of each axis as ``pads`` say; VALID pads nothing."""
        return padding.listed(self.auto_pad, self.pads, self.rank)

    def pairs(self, space: Sequence[Any]) -> Pairs:
        """(before, after) of each axis over an input of these sizes; free ones give paddings that are sizes, too."""
        if not self.auto_pad.startswith("SAME"):
            return self.listed
        sizes = space if max(self.strides) > 1 else self.kernel  # with strides of 1 no size matters
        return padding.same(self.auto_pad, sizes, self.kernel, self.strides, self.dilations)

    def over(self, space: Sequence[Any]) -> list[Window]:
        """The windows along each axis of an input of these sizes."""
        pairs = self.pairs(space)
        settings = zip(space, self.kernel, self.strides, self.dilations, self.spans, pairs, strict=True)
        return [self._window(*setting) for setting in settings]

    def _window(self, size: Any, kernel: int, stride: int, dilation: int, span: int, pair: Any) -> Window:
        before, after = pair
        room = size + before + after - span
        out, missing = room // stride + 1, 0
        if self.auto_pad.startswith("SAME"):
            out = ceil_div(size, stride)
        elif self.ceil_mode:  # a window that would begin behind the input and its first padding is left out
            out = smallest(ceil_div(room, stride) + 1, (size + before - 1) // stride + 1)
            missing = largest((out - 1) * stride - room, 0)
        return Window(size, kernel, stride, dilation, before, after, out, missing)

    def cut_off(
        self, space: Sequence[Any], extra: Sequence[int], output_shape: Sequence[int] | None
    ) -> Pairs:
        """(before, after) of each axis that a transposed convolution cuts off; ``extra`` is its ``output_padding``."""
        totals = padding.excess(self.auto_pad, output_shape, space, self.spans, self.strides, extra)
        if totals is None:
            return self.listed
        return [padding.halves(self.auto_pad, total) for total in totals]


def _kernel(operator: str, inputs: Sequence[Any], listed: Sequence[int] | None) -> tuple[int, ...]:
    """The kernel's sizes: the attribute's, the weight's where there is none, and refused where they differ."""
    if operator not in _WEIGHT:
        if not listed:
            raise CannotConvert("its attribute kernel_shape is missing")
        return tuple(listed)
    sizes = tuple(inputs[_WEIGHT[operator]].shape[2:])
    if not known(sizes):
        if not listed:
            raise CannotConvert("its kernel sizes are known only when the model runs")
        return tuple(listed)
    if listed and tuple(listed) != sizes:
        raise CannotConvert(f"kernel_shape is {list(listed)}, but its weight has a kernel of {list(sizes)}")
    return tuple(int(size) for size in sizes)


def _numbers(attributes: Mapping[str, Any], name: str, count: int, default: int) -> tuple[int, ...]:
    numbers = attributes.get(name)
    if not numbers:
        return (default,) * count
    if len(numbers) != count:
        raise CannotConvert(f"{name} holds {len(numbers)} numbers, expected {count}")
    if default and min(numbers) < 1:
        raise CannotConvert(f"{name} is {list(numbers)}, expected positive numbers")
    return tuple(numbers)
