"""Networks of GluonCV as data: those whose weights people keep without a symbol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from netferry.converters.mxnet.architectures.layers import (
    LEAKY,
    RELU,
    WHOLE_AVERAGE,
    Layer,
    Part,
    Sum,
    average_inside,
    conv,
    deconv,
    dense,
    norm,
    pool,
)

_PLANES = (64, 128, 256, 512)
COUNTS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def _shortcut(filters: int, stride: int, averaged: bool) -> Part:
    if averaged and stride > 1:
        return (average_inside(stride), conv(filters, 1), norm())
    return (conv(filters, 1, stride), norm())


def _basic(planes: int, stride: int, other: Part) -> Part:
    return (Sum((conv(planes, 3, stride, 1), norm(), RELU, conv(planes, 3, 1, 1), norm()), other), RELU)


def _bottleneck(planes: int, stride: int, other: Part, groups: int = 1, dilate: int = 1) -> Part:
    """The stride stands in the convolution of nine pixels; with groups that is twice as wide (4 of 64 planes each)."""
    inner = planes if groups == 1 else planes * groups * 4 // 64
    middle = conv(inner, 3, stride, dilate, groups, dilate=dilate)
    main = (conv(inner, 1), norm(), RELU, middle, norm(), RELU, conv(4 * planes, 1), norm())
    return (Sum(main, other), RELU)


Unit = Callable[..., Part]
"""``unit(planes, stride, what stands beside it)``, and ``dilate=`` where its pixels are taken apart."""


def unit_of(depth: int, groups: int = 1) -> tuple[Unit, int]:
    """What stages are made of, and how many times its planes it gives."""
    return (partial(_bottleneck, groups=groups), 4) if depth >= 50 else (_basic, 1)


Steps = Sequence[tuple[int, int, int]]

HALVED: Steps = ((1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1))
"""Of each stage the stride of its first unit, and how far apart that and the others take their pixels."""

DILATED: Steps = ((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4))
"""As networks of segmentation have them: the last two stages keep the size; the first unit still takes pixels as the stage before does."""


def stages(
    counts: Sequence[int],
    unit: Unit,
    widened: int,
    *,
    averaged: bool = False,
    steps: Steps = HALVED,
) -> list[Part]:
    """Stages of so many units each. Where sizes differ a convolution stands beside the first one, ``averaged``: behind an average.

    ``widened``: how many times its planes a unit gives.
    """
    before, found = 64, list[Part]()
    for count, planes, (stride, *apart) in zip(counts, _PLANES, steps, strict=True):
        filters = planes * widened
        other = _shortcut(filters, stride, averaged) if stride > 1 or filters != before else ()
        first, rest = ({"dilate": pixels} if pixels > 1 else {} for pixels in apart)
        others = (unit(planes, 1, (), **rest) for _ in range(count - 1))
        found.append((unit(planes, stride, other, **first), *others))
        before = filters
    return found


def stem(width: int) -> Part:
    """One convolution of 49 pixels, or three of nine that begin with ``width`` filters."""
    first: Part = conv(64, 7, 2, 3)
    if width:
        first = (
            conv(width, 3, 2, 1), norm(), RELU, conv(width, 3, 1, 1), norm(), RELU, conv(2 * width, 3, 1, 1),
        )  # fmt: skip
    return (first, norm(), RELU, pool("max", 3, 2, 1))


def _resnet(depth: int, width: int = 0, averaged: bool = False, groups: int = 1) -> Part:
    body = stages(COUNTS[depth], *unit_of(depth, groups), averaged=averaged)
    return (stem(width), *body, WHOLE_AVERAGE, dense())


def _pose(depth: int, width: int, averaged: bool) -> Part:
    """Heat maps of joints: a ResNet without its end, three transposed convolutions, one of one pixel."""
    up: tuple[Part, ...] = tuple((deconv(256, 4, 2, 1), norm(), RELU) for _ in range(3))
    body = stages(COUNTS[depth], *unit_of(depth), averaged=averaged)
    return (stem(width), *body, *up, conv(None, 1, bias=True))


def darknet_cell(count: int, kernel: int, stride: int = 1) -> tuple[Layer, ...]:
    return (conv(count, kernel, stride, kernel // 2), norm(), LEAKY)


def darknet_stages(counts: Sequence[int], filters: Sequence[int]) -> list[Part]:
    """The first convolution, and after it stages of sums."""
    found: list[Part] = [darknet_cell(filters[0], 3)]
    for count, width in zip(counts, filters[1:], strict=True):
        sums = (Sum((darknet_cell(width // 2, 1), darknet_cell(width, 3))) for _ in range(count))
        found.append((darknet_cell(width, 3, 2), *sums))
    return found


DARKNET_53 = (1, 2, 8, 8, 4), (32, 64, 128, 256, 512, 1024)


def _darknet() -> Part:
    return (*darknet_stages(*DARKNET_53), WHOLE_AVERAGE, dense())


def _cifar(counts: int) -> Part:
    before, found = 16, list[Part]()
    for index, width in enumerate((16, 32, 64)):
        stride = 1 if index == 0 else 2
        found.append(_basic(width, stride, () if width == before else _shortcut(width, stride, False)))
        found += [_basic(width, 1, ()) for _ in range(counts - 1)]
        before = width
    return (conv(16, 3, 1, 1), norm(), *found, WHOLE_AVERAGE, dense())


_STEMS = {"b": (0, False), "c": (32, False), "d": (32, True), "s": (64, False)}

NETWORKS: Mapping[str, Callable[[], Part]] = {
    **{
        f"resnet{depth}_v1{kind}": partial(_resnet, depth, *stem)
        for kind, stem in _STEMS.items()
        for depth in (50, 101, 152)
    },
    "resnext50_32x4d": partial(_resnet, 50, groups=32),
    "resnext101_32x4d": partial(_resnet, 101, groups=32),
    "resnext101_64x4d": partial(_resnet, 101, groups=64),
    **{
        f"simple_pose_resnet{depth}_v1{kind}": partial(_pose, depth, *_STEMS[kind])
        for depth, kinds in {18: "b", 50: "bd", 101: "bd", 152: "bd"}.items()
        for kind in kinds
    },
    "darknet53": _darknet,
    **{f"cifar_resnet{depth}_v1": partial(_cifar, (depth - 2) // 6) for depth in (20, 56, 110)},
}  # fmt: skip
"""The network by its name in ``gluoncv.model_zoo.get_model``."""
