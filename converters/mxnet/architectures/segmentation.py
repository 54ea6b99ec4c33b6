"""Networks of GluonCV that give a class to each pixel: FCN, PSPNet and DeepLab."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from netferry.converters.mxnet.architectures import gluoncv, resnest
from netferry.converters.mxnet.architectures.builder import Taken, Wiring
from netferry.converters.mxnet.architectures.layers import (
    RELU,
    WHOLE_AVERAGE,
    Branches,
    Part,
    Wired,
    conv,
    norm,
)
from netferry.converters.mxnet.symbol import Entry

_NOTE = "the outputs have the height and width of the input, as predict() gives them; where gluon was told crop_size=, it is that size"


def _like(w: Wiring, x: Entry, like: Entry) -> Entry:
    """Resized to the height and width of another."""
    return w("_contrib_BilinearResize2D", x, like, mode="like")


def _normalized(filters: int, kernel: int, dilate: int = 1) -> Part:
    pad = dilate if kernel == 3 else 0
    return (conv(filters, kernel, 1, pad, dilate=dilate), norm(), RELU)


def _head(filters: int) -> Part:
    return (_normalized(filters, 3), conv(None, 1, bias=True))


def _pyramid() -> Part:
    """Averages of 1, 2, 3 and 6 squares a side beside what they are averages of."""

    def connect(w: Wiring, parts: tuple[Taken, ...], x: Entry) -> Entry:
        squares = (w("_contrib_AdaptiveAvgPooling2D", x, output_size=size) for size in (1, 2, 3, 6))
        ways = [_like(w, part(square), x) for part, square in zip(parts, squares, strict=True)]
        return w("Concat", x, *ways, dim=1, num_args=5)

    return Wired(tuple(_normalized(512, 1) for _ in range(4)), connect)


def _atrous() -> Part:
    """What lies near, 12, 24 and 36 pixels apart, and the average of all."""

    def average(w: Wiring, parts: tuple[Taken, ...], x: Entry) -> Entry:
        return _like(w, parts[0](x), x)

    ways = (_normalized(256, 1), *(_normalized(256, 3, apart) for apart in (12, 24, 36)))
    whole = Wired(((WHOLE_AVERAGE, _normalized(256, 1)),), average)
    return (Branches((*ways, whole)), _normalized(256, 1))


_HEADS: Mapping[str, Callable[[], Part]] = {
    "fcn": lambda: _head(512),
    "psp": lambda: (_pyramid(), _head(512)),
    "deeplab": lambda: (_atrous(), _head(256)),
}


def _segmenter(head: str, backbone: Callable[[], tuple[Part, list[Part]]], also: bool) -> Part:
    """``also``: a second head reads what the third stage gives, as it was trained."""
    stem, stages = backbone()

    def connect(w: Wiring, parts: tuple[Taken, ...], x: Entry) -> list[Entry]:
        third = parts[0](x)
        outputs = [parts[2](parts[1](third))]
        outputs += [part(third) for part in parts[3:]]
        return [_like(w, each, x) for each in outputs]

    heads = (_HEADS[head](), _head(256)) if also else (_HEADS[head](),)
    return Wired(((stem, *stages[:3]), stages[3], *heads), connect, _NOTE)


def _resnet(depth: int) -> tuple[Part, list[Part]]:
    body = gluoncv.stages(gluoncv.COUNTS[depth], *gluoncv.unit_of(depth), steps=gluoncv.DILATED)
    return gluoncv.stem(64), body


_BACKBONES = {
    **{f"resnet{depth}": partial(_resnet, depth) for depth in (50, 101, 152)},
    **{f"resnest{depth}": partial(resnest.backbone, depth, gluoncv.DILATED) for depth in (50, 101, 200, 269)},
}

NETWORKS: Mapping[str, Callable[[], Part]] = {
    f"{head}_{name}{'' if also else ' (aux=False)'}": partial(_segmenter, head, backbone, also)
    for head in _HEADS
    for name, backbone in _BACKBONES.items()
    for also in (True, False)
}
