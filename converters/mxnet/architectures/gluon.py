"""The networks of gluon's model zoo as data: each a family and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from netferry.converters.mxnet.architectures.layers import (
    FLATTEN,
    RELU,
    RELU6,
    WHOLE_AVERAGE,
    Branches,
    Pair,
    Part,
    Sum,
    conv,
    dense,
    norm,
    pool,
)

# ---- plain chains ------------------------------------------------------------------------------------


def _alexnet() -> Part:
    shrink = pool("max", 3, 2)
    stem: tuple[Part, ...] = (
        conv(64, 11, 4, 2, bias=True),
        RELU,
        shrink,
        conv(192, 5, 1, 2, bias=True),
        RELU,
        shrink,
    )
    body: tuple[Part, ...] = tuple((conv(filters, 3, 1, 1, bias=True), RELU) for filters in (384, 256, 256))
    return (*stem, *body, shrink, dense(4096), RELU, dense(4096), RELU, dense())


def _vgg(counts: Sequence[int], normalized: bool) -> Part:
    after: Part = (norm(), RELU) if normalized else RELU
    stages: tuple[Part, ...] = tuple(
        (*((conv(filters, 3, 1, 1, bias=True), after) for _ in range(count)), pool("max", 2, 2))
        for count, filters in zip(counts, (64, 128, 256, 512, 512), strict=True)
    )
    return (*stages, dense(4096), RELU, dense(4096), RELU, dense())


def _squeezenet(stem: Part, fires: Sequence[Sequence[int]]) -> Part:
    """``fires``: stages of squeezed channels; four times as many come out on each side."""

    def fire(squeezed: int) -> Part:
        ways = tuple((conv(4 * squeezed, k, 1, k // 2, bias=True), RELU) for k in (1, 3))
        return (conv(squeezed, 1, bias=True), RELU, Branches(ways))

    stages = tuple((pool("max", 3, 2, full=True), *map(fire, stage)) for stage in fires)
    return (stem, RELU, *stages, conv(None, 1, bias=True), RELU, pool("avg", 13, 13), FLATTEN)


# ---- sums ----------------------------------------------------------------------------------------------


Unit = Callable[[int, int, bool], Part]
"""One sum of a ResNet, from its filters, its stride, and whether the other way needs a convolution."""


def stages(unit: Unit, counts: Sequence[int], widths: Sequence[int]) -> list[list[Part]]:
    """The units of each stage of a ResNet."""
    before, found = 64, list[list[Part]]()
    for index, (count, width) in enumerate(zip(counts, widths, strict=True)):
        stride = 1 if index == 0 else 2
        found.append(
            [unit(width, stride, width != before), *(unit(width, 1, False) for _ in range(count - 1))]
        )
        before = width
    return found


RESNET_STEM: Part = (conv(64, 7, 2, 3), norm(), RELU, pool("max", 3, 2, 1))
NORMALIZED_STEM: Part = (norm(fixed=True), RESNET_STEM)


def _resnet(unit: Unit, counts: Sequence[int], widths: Sequence[int], second: bool) -> Part:
    body = tuple(map(tuple, stages(unit, counts, widths)))
    if second:
        return (NORMALIZED_STEM, *body, norm(), RELU, WHOLE_AVERAGE, dense())
    return (RESNET_STEM, *body, WHOLE_AVERAGE, dense())


def basic_1(width: int, stride: int, other: bool, other_first: bool = False) -> Part:
    main = (conv(width, 3, stride, 1), norm(), RELU, conv(width, 3, 1, 1), norm())
    return (Sum(main, (conv(width, 1, stride), norm()) if other else (), (), other_first), RELU)


def bottleneck_1(width: int, stride: int, other: bool) -> Part:
    """The stride stands in the first convolution, and those of one pixel have a bias."""
    inner = width // 4
    main = (
        conv(inner, 1, stride, bias=True), norm(), RELU, conv(inner, 3, 1, 1), norm(), RELU, conv(width, 1, bias=True), norm(),
    )  # fmt: skip
    return (Sum(main, (conv(width, 1, stride), norm()) if other else ()), RELU)


def _second(main: Part, width: int, stride: int, other: bool) -> Part:
    """Normalised before it is convolved: where the other way has a convolution, it reads what is normalised as well."""
    first = (norm(), RELU)
    return Sum(main, conv(width, 1, stride), first) if other else Sum((first, main))


def basic_2(width: int, stride: int, other: bool) -> Part:
    return _second((conv(width, 3, stride, 1), norm(), RELU, conv(width, 3, 1, 1)), width, stride, other)


def bottleneck_2(width: int, stride: int, other: bool) -> Part:
    inner = width // 4
    main = (conv(inner, 1), norm(), RELU, conv(inner, 3, stride, 1), norm(), RELU, conv(width, 1))
    return _second(main, width, stride, other)


# ---- convolutions of one channel each ---------------------------------------------------------------------


def mobilenet_units(part: float) -> tuple[Part, list[Part]]:
    """The first convolution of a MobileNet with a part of the filters, and its thirteen units."""

    def apart(width: int, filters: int, stride: int) -> Part:
        return (conv(width, 3, stride, 1, width), norm(), RELU, conv(filters, 1), norm(), RELU)

    inside = [int(x * part) for x in (32, 64, 128, 128, 256, 256, *[512] * 6, 1024)]
    outside = [int(x * part) for x in (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)]
    strides = (1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1)
    units = [apart(*each) for each in zip(inside, outside, strides, strict=True)]
    return (conv(int(32 * part), 3, 2, 1), norm(), RELU), units


def _mobilenet(part: float) -> Part:
    stem, units = mobilenet_units(part)
    return (stem, *units, WHOLE_AVERAGE, dense())


def _mobilenet_2(part: float) -> Part:
    def unit(width: int, filters: int, factor: int, stride: int) -> Part:
        wide = width * factor
        main = (
            conv(wide, 1),
            norm(),
            RELU6,
            conv(wide, 3, stride, 1, wide),
            norm(),
            RELU6,
            conv(filters, 1),
            norm(),
        )
        return Sum(main) if stride == 1 and width == filters else main

    sizes = [int(x * part) for x in (32, 16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320)]
    strides = (1, 2, 1, 2, 1, 1, 2, *[1] * 6, 2, 1, 1, 1)
    units = tuple(unit(*each) for each in zip(sizes[:-1], sizes[1:], (1, *[6] * 16), strides, strict=True))
    last = (conv(max(1280, int(1280 * part)), 1), norm(), RELU6, WHOLE_AVERAGE, conv(None, 1), FLATTEN)
    return (conv(int(32 * part), 3, 2, 1), norm(), RELU6, *units, *last)


# ---- branches ------------------------------------------------------------------------------------------


def _densenet(width: int, growth: int, counts: Sequence[int]) -> Part:
    def layer() -> Part:
        return Branches(((), (norm(), RELU, conv(4 * growth, 1), norm(), RELU, conv(growth, 3, 1, 1))))

    stem = (conv(width, 7, 2, 3), norm(), RELU, pool("max", 3, 2, 1))
    stages: list[Part] = []
    for index, count in enumerate(counts):
        stages.append(tuple(layer() for _ in range(count)))
        width += count * growth
        if index < len(counts) - 1:
            width //= 2
            stages.append((norm(), RELU, conv(width, 1), pool("avg", 2, 2)))
    return (*stem, *stages, norm(), RELU, pool("avg", 7, 7), dense())


Step = tuple[int, Pair] | tuple[int, Pair, int] | tuple[int, Pair, int, Pair]


def _convolved(*steps: Step) -> Part:
    """Filters, kernel, stride and padding of convolutions that are normalised with eps 0.001."""
    return tuple((conv(*step), norm(0.001), RELU) for step in steps)


def _inception() -> Part:
    around, shrink, average = (0, 3), pool("max", 3, 2), pool("avg", 3, 1, 1)
    across, down = ((1, 7), 1, around), ((7, 1), 1, (3, 0))

    def first(pooled: int) -> Part:
        ways = (
            _convolved((64, 1)),
            _convolved((48, 1), (64, 5, 1, 2)),
            _convolved((64, 1), (96, 3, 1, 1), (96, 3, 1, 1)),
        )
        return Branches((*ways, (average, _convolved((pooled, 1)))))

    def third(n: int) -> Part:
        double = _convolved((n, 1), (n, *down), (n, *across), (n, *down), (192, *across))
        ways = (_convolved((192, 1)), _convolved((n, 1), (n, *across), (192, *down)), double)
        return Branches((*ways, (average, _convolved((192, 1)))))

    def last() -> Part:
        def split() -> Part:
            return Branches((_convolved((384, (1, 3), 1, (0, 1))), _convolved((384, (3, 1), 1, (1, 0)))))

        ways = (
            _convolved((320, 1)),
            (_convolved((384, 1)), split()),
            (_convolved((448, 1), (384, 3, 1, 1)), split()),
        )
        return Branches((*ways, (average, _convolved((192, 1)))))

    second = Branches((_convolved((384, 3, 2)), _convolved((64, 1), (96, 3, 1, 1), (96, 3, 2)), shrink))
    fourth = Branches(
        (
            _convolved((192, 1), (320, 3, 2)),
            _convolved((192, 1), (192, *across), (192, *down), (192, 3, 2)),
            shrink,
        )
    )
    stem = (
        _convolved((32, 3, 2), (32, 3), (64, 3, 1, 1)), shrink, _convolved((80, 1), (192, 3)), shrink,
    )  # fmt: skip
    body = (*map(first, (32, 64, 64)), second, *map(third, (128, 160, 160, 192)), fourth, last(), last())
    return (*stem, *body, pool("avg", 8, 8), dense())


# ---- the table ------------------------------------------------------------------------------------------

_NARROW, _WIDE = (64, 128, 256, 512), (256, 512, 1024, 2048)
DEPTHS = {
    18: ((2, 2, 2, 2), _NARROW), 34: ((3, 4, 6, 3), _NARROW), 50: ((3, 4, 6, 3), _WIDE), 101: ((3, 4, 23, 3), _WIDE),
    152: ((3, 8, 36, 3), _WIDE),
}  # fmt: skip
_UNITS = {
    (1, False): basic_1, (1, True): bottleneck_1, (2, False): basic_2, (2, True): bottleneck_2,
}  # fmt: skip

NETWORKS: Mapping[str, Callable[[], Part]] = {
    "alexnet": _alexnet,
    **{
        f"resnet{depth}_v{version}": partial(_resnet, _UNITS[version, widths is _WIDE], counts, widths, version == 2)
        for version in (1, 2)
        for depth, (counts, widths) in DEPTHS.items()
    },
    **{
        f"vgg{depth}{'_bn' if normalized else ''}": partial(_vgg, counts, normalized)
        for depth, counts in {
            11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)
        }.items()
        for normalized in (False, True)
    },
    "squeezenet1.0": partial(
        _squeezenet, conv(96, 7, 2, bias=True), ((16, 16, 32), (32, 48, 48, 64), (64,))
    ),
    "squeezenet1.1": partial(_squeezenet, conv(64, 3, 2, bias=True), ((16, 16), (32, 32), (48, 48, 64, 64))),
    **{f"mobilenet{part}": partial(_mobilenet, float(part)) for part in ("0.25", "0.5", "0.75", "1.0")},
    **{f"mobilenetv2_{part}": partial(_mobilenet_2, float(part)) for part in ("0.25", "0.5", "0.75", "1.0")},
    "densenet121": partial(_densenet, 64, 32, (6, 12, 24, 16)),
    "densenet161": partial(_densenet, 96, 48, (6, 12, 36, 24)),
    "densenet169": partial(_densenet, 64, 32, (6, 12, 32, 32)),
    "densenet201": partial(_densenet, 64, 32, (6, 12, 48, 32)),
    "inceptionv3": _inception,
}  # fmt: skip
"""The network by its name in ``mx.gluon.model_zoo.vision.get_model``."""
