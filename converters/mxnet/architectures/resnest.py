"""ResNeSt of GluonCV: bottlenecks whose middle convolution weighs two ways against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from netferry.converters.mxnet.architectures.builder import Taken, Wiring
from netferry.converters.mxnet.architectures.gluoncv import HALVED, Steps, stages, stem
from netferry.converters.mxnet.architectures.layers import (
    RELU,
    WHOLE_AVERAGE,
    Part,
    Sum,
    Wired,
    conv,
    dense,
    norm,
    pool,
)
from netferry.converters.mxnet.symbol import Entry

_WAYS = 2


def _split_attention(width: int, dilate: int) -> Part:
    """A convolution of two ways, and what weighs them for each channel: a softmax of what their averages tell."""
    inner = max(width // 2, 32)
    first = (conv(_WAYS * width, 3, 1, dilate, _WAYS, dilate=dilate), norm(), RELU)
    weigh = (conv(inner, 1, bias=True), norm(), RELU, conv(_WAYS * width, 1, bias=True))

    def connect(w: Wiring, parts: tuple[Taken, ...], x: Entry) -> Entry:
        ways = w("Reshape", parts[0](x), shape=(0, -4, _WAYS, width, -2))
        average = w("mean", w("sum", ways, axis=1), axis=(2, 3), keepdims=True)
        logits = w("Reshape", parts[1](average), shape=(0, _WAYS, -1))
        weights = w("Reshape", w("softmax", logits, axis=1), shape=(0, 0, 0, 1, 1))
        return w("sum", w("broadcast_mul", weights, ways), axis=1)

    return Wired((first, weigh), connect)


def _unit(planes: int, stride: int, other: Part, dilate: int = 1) -> Part:
    """Where a stage but the first begins, an average of nine pixels stands after the attention, and has the stride."""
    shrink: Part = pool("avg", 3, stride, 1) if other and planes > 64 else ()
    main = (
        conv(planes, 1), norm(), RELU, _split_attention(planes, dilate), shrink, conv(4 * planes, 1), norm(),
    )  # fmt: skip
    return (Sum(main, other), RELU)


def backbone(depth: int, steps: Steps = HALVED) -> tuple[Part, list[Part]]:
    """The stem and the stages."""
    counts, width = DEPTHS[depth]
    return stem(width), stages(counts, _unit, 4, averaged=True, steps=steps)


def _resnest(depth: int) -> Part:
    first, body = backbone(depth)
    return (first, *body, WHOLE_AVERAGE, dense())


DEPTHS = {
    14: ((1, 1, 1, 1), 32), 26: ((2, 2, 2, 2), 32), 50: ((3, 4, 6, 3), 32), 101: ((3, 4, 23, 3), 64),
    200: ((3, 24, 36, 3), 64), 269: ((3, 30, 48, 8), 64),
}  # fmt: skip
"""Units in each stage, and the filters of the stem."""

NETWORKS: Mapping[str, Callable[[], Part]] = {f"resnest{depth}": partial(_resnest, depth) for depth in DEPTHS}
