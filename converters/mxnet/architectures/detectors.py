"""Detectors of GluonCV: SSD and YOLOv3, whose files hold their anchors as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from netferry.converters.mxnet.architectures import gluon, gluoncv
from netferry.converters.mxnet.architectures.builder import OtherNetworkError, Taken, Wiring
from netferry.converters.mxnet.architectures.layers import (
    RELU,
    Part,
    Sum,
    Tap,
    Wired,
    conv,
    held,
    norm,
    pool,
)
from netferry.converters.mxnet.symbol import Entry

_NOTE = "boxes are suppressed as get_model() sets it: an overlap of 0.45, the best 400, 100 of them given; set_nms() leaves nothing in the weights"
_STRIDES = (32, 16, 8)


def _suppressed(w: Wiring, boxes: Entry) -> list[Entry]:
    """Classes, scores and corners of rows (class, score, corners): the best hundred that do not overlap."""
    best = w(
        "_contrib_box_nms", boxes, overlap_thresh=0.45, topk=400, valid_thresh=0.01, id_index=0, score_index=1, coord_start=2,
        force_suppress=False,
    )  # fmt: skip
    best = w("slice_axis", best, axis=1, begin=0, end=100)
    return [w("slice_axis", best, axis=2, begin=start, end=end) for start, end in ((0, 1), (1, 2), (2, 6))]


# ---- SSD -----------------------------------------------------------------------------------------------


def _expanded(filters: Sequence[int], part: float, least: int) -> Part:
    """Stages of half the size each; their BatchNorms have the defaults of symbols."""
    cell: list[Part] = []
    for count in filters:
        inner = max(least, round(count * part))
        after = (norm(0.001, fixed=True), RELU)
        cell.append((conv(inner, 1), after, conv(count, 3, 2, 1), after, Tap()))
    return tuple(cell)


def _on_mobilenet(
    part: float, filters: Sequence[int] = (512, 512, 256, 256), kept: float = 1, least: int = 128
) -> Part:
    stem, units = gluon.mobilenet_units(part)
    return (stem, *units[:11], Tap(), *units[11:], Tap(), _expanded(filters, kept, least))


def _on_resnet(depth: int) -> Part:
    counts, widths = gluon.DEPTHS[depth]
    unit = gluon.bottleneck_1 if depth >= 50 else partial(gluon.basic_1, other_first=True)
    first, second, third, fourth = map(tuple, gluon.stages(unit, counts, widths))
    more = _expanded((512, 512, 256, 256), 1, 128)
    return (gluon.RESNET_STEM, first, second, third, Tap(), fourth, Tap(), more)


def _inside(width: int, after: int) -> Part:
    """A unit of ResNet v2 that is read inside: after its second or its third normalisation."""
    inner = width // 4
    second, third = (Tap() if after == place else () for place in (2, 3))
    main = (
        norm(), RELU, conv(inner, 1), norm(), RELU, second, conv(inner, 3, 1, 1), norm(), RELU, third, conv(width, 1),
    )  # fmt: skip
    return Sum(main)


def _on_second_resnet(depth: int, read: Mapping[int, tuple[int, int]]) -> Part:
    """``read``: of a stage, which unit is read and after which normalisation; the fourth stage ends inside of its first."""
    counts, widths = gluon.DEPTHS[depth]
    stages = gluon.stages(gluon.bottleneck_2, counts, widths)[:3]
    for stage, (unit, after) in read.items():
        stages[stage - 1][unit] = _inside(widths[stage - 1], after)
    last = (norm(), RELU, conv(512, 1), norm(), RELU, conv(512, 3, 2, 1), norm(), RELU, Tap())
    return (
        gluon.NORMALIZED_STEM, *map(tuple, stages), last, _expanded((512, 512, 256, 256), 1, 128),
    )  # fmt: skip


_THIRD_KEPT: gluoncv.Steps = ((1, 1, 1), (2, 1, 1), (1, 1, 1), (2, 1, 1))


def _on_resnet_34() -> Part:
    stages = gluoncv.stages(gluoncv.COUNTS[34], *gluoncv.unit_of(34), steps=_THIRD_KEPT)
    more: list[Part] = []
    for count, pad in ((256, 1), (256, 1), (128, 1), (128, 0)):
        more += (
            conv(max(128, count), 1, bias=True), RELU, conv(count, 3, 2, pad, bias=True), RELU, Tap(),
        )  # fmt: skip
    return (gluoncv.stem(0), *stages[:2], Tap(), *stages[2:], Tap(), *more)


Extra = tuple[tuple[int, int, int, int], ...]
_EXTRAS: Mapping[int, Sequence[Extra]] = {
    300: [((256, 1, 1, 0), (512, 3, 2, 1)), ((128, 1, 1, 0), (256, 3, 2, 1)), *[((128, 1, 1, 0), (256, 3, 1, 0))] * 2],
    512: [
        ((256, 1, 1, 0), (512, 3, 2, 1)), *[((128, 1, 1, 0), (256, 3, 2, 1))] * 3, ((128, 1, 1, 0), (256, 4, 1, 1)),
    ],
}  # fmt: skip
"""Filters, kernel, stride and padding of what follows VGG, by the size of the images."""


def _scaled(w: Wiring, parts: tuple[Taken, ...], x: Entry) -> Entry:
    return w("broadcast_mul", w("L2Normalization", x, mode="channel", eps=1e-5), parts[0](x))


def _on_vgg(size: int) -> Part:
    def cells(count: int, filters: int) -> Part:
        return tuple((conv(filters, 3, 1, 1, bias=True), RELU) for _ in range(count))

    shrink = pool("max", 2, 2, full=True)
    early = (cells(2, 64), shrink, cells(2, 128), shrink, cells(3, 256), shrink, cells(3, 512))
    late = (shrink, cells(3, 512), pool("max", 3, 1, 1, full=True))
    wide = (conv(1024, 3, 1, 6, bias=True, dilate=6), RELU, conv(1024, 1, bias=True), RELU, Tap())
    more: Part = tuple(
        (*((conv(*each, bias=True), RELU) for each in extra), Tap()) for extra in _EXTRAS[size]
    )

    def connect(w: Wiring, parts: tuple[Taken, ...], x: Entry) -> Entry:
        scale, first, second, normalized, third = parts
        x = first(w("broadcast_mul", x, scale(x)))
        w.features.append(normalized(x))
        return third(second(x))

    norm_4 = Wired((held("scale", 1, 512, 1, 1),), _scaled)
    return Wired((held("init_scale", 1, 3, 1, 1), early, (late, wide), norm_4, more), connect)


def _ssd(base: Callable[[], Part], scales: int, kernel: int = 3) -> Part:
    predictors = tuple(conv(None, kernel, 1, kernel // 2, bias=True) for _ in range(scales))
    anchors = tuple(held("anchors", 1, 1, None, None, None) for _ in range(scales))

    def connect(w: Wiring, parts: tuple[Taken, ...], x: Entry) -> list[Entry]:
        parts[0](x)
        ways = [parts[1 + start : 1 + start + scales] for start in (0, scales, 2 * scales)]
        classes = _classes(*ways)
        logits, shifts = (
            [_flat(w, part(feature)) for part, feature in zip(way, w.features, strict=True)]
            for way in ways[:2]
        )
        priors = [
            _sliced(w, part(feature), feature) for part, feature in zip(ways[2], w.features, strict=True)
        ]
        joined = [w("Concat", *each, dim=1, num_args=scales) for each in (logits, shifts, priors)]
        logit, shift = (
            w("Reshape", each, shape=(0, -1, size))
            for each, size in zip(joined, (classes + 1, 4), strict=False)
        )
        prior = w("Reshape", joined[2], shape=(1, -1, 4))
        boxes = w(
            "_contrib_box_decode",
            shift,
            prior,
            std0=0.1,
            std1=0.1,
            std2=0.2,
            std3=0.2,
            clip=-1,
            format="center",
        )
        return _suppressed(w, _by_class(w, w("softmax", logit, axis=-1), boxes, classes))

    return Wired((base(), *predictors, *predictors, *anchors), connect, _NOTE)


def _classes(predictors: Sequence[Taken], shifts: Sequence[Taken], anchors: Sequence[Taken]) -> int:
    """How many classes there are besides the background, which all scales must agree on."""
    found = set()
    for predictor, shift, anchor in zip(predictors, shifts, anchors, strict=True):
        coordinates = anchor.shapes[0][-1]
        if (
            coordinates < 4
            or shift.shapes[0][0] != coordinates
            or predictor.shapes[0][0] % (coordinates // 4)
        ):
            raise OtherNetworkError
        found.add(predictor.shapes[0][0] // (coordinates // 4) - 1)
    if len(found) != 1:
        raise OtherNetworkError
    return found.pop()


def _flat(w: Wiring, x: Entry) -> Entry:
    return w("Flatten", w("transpose", x, axes=(0, 2, 3, 1)))


def _sliced(w: Wiring, constant: Entry, feature: Entry) -> Entry:
    """Of a constant that is large enough for any image what belongs to this one's places."""
    places = w("slice_like", constant, w("_mul_scalar", feature, scalar=0), axes=(2, 3))
    return w("Reshape", places, shape=(1, -1))


def _by_class(w: Wiring, scores: Entry, boxes: Entry, classes: int) -> Entry:
    """A row for each class and box; those that hardly are one have the class -1 and no score."""
    rows = []
    for index in range(classes):
        score = w("slice_axis", scores, axis=-1, begin=index + 1, end=index + 2)
        likely = w("_greater_scalar", score, scalar=0.01)
        nothing = w("zeros_like", score)
        kind = w(
            "where", likely, w("_plus_scalar", nothing, scalar=index), w("_minus_scalar", nothing, scalar=1)
        )
        rows.append(w("Concat", kind, w("where", likely, score, nothing), boxes, dim=-1, num_args=3))
    return w("Concat", *rows, dim=1, num_args=classes)


# ---- YOLO ----------------------------------------------------------------------------------------------


def _on_darknet() -> list[Part]:
    first, one, two, three, four, five = gluoncv.darknet_stages(*gluoncv.DARKNET_53)
    return [(first, one, two, three), four, five]


def _in_three(part: float) -> list[Part]:
    stem, units = gluon.mobilenet_units(part)
    return [(stem, *units[:5]), tuple(units[5:11]), tuple(units[11:])]


def _yolo(base: Callable[[], list[Part]], channels: Sequence[int]) -> Part:
    cell = gluoncv.darknet_cell
    joins = tuple(cell(count, 1) for count in channels[1:])
    body = [
        (*(part for _ in range(2) for part in (cell(count, 1), cell(2 * count, 3))), cell(count, 1))
        for count in channels
    ]
    blocks = tuple(
        part for inner, count in zip(body, channels, strict=True) for part in (inner, cell(2 * count, 3))
    )
    ends = tuple(
        Wired(
            (held("anchors", 1, 1, 3, 2), held("offsets", 1, 1, None, None, 2), conv(None, 1, bias=True)),
            partial(_detections, stride),
        )
        for stride in _STRIDES
    )

    def connect(w: Wiring, parts: tuple[Taken, ...], x: Entry) -> list[Entry]:
        stages, transitions, inner, last = parts[:3], parts[3:5], parts[5:11], parts[11:]
        routes = []
        for stage in stages:
            x = stage(x)
            routes.append(x)
        found = []
        for index, route in enumerate(reversed(routes)):
            if index:
                x = _beside(w, transitions[index - 1](x), route)
            x = inner[2 * index](x)
            found.append(last[index](inner[2 * index + 1](x)))
        return _suppressed(w, w("Concat", *found, dim=1, num_args=len(found)))

    return Wired((*base(), *joins, *blocks, *ends), connect, _NOTE)


def _beside(w: Wiring, x: Entry, route: Entry) -> Entry:
    """Twice as large, cut to the size of what a stage before has given, and laid beside it."""
    large = w("repeat", w("repeat", x, repeats=2, axis=-1), repeats=2, axis=-2)
    return w("Concat", w("slice_like", large, route, axes=(2, 3)), route, dim=1, num_args=2)


def _detections(stride: int, w: Wiring, parts: tuple[Taken, ...], x: Entry) -> Entry:
    """Rows (class, score, corners) of one scale: all places and anchors for each class."""
    anchors, offsets, predict = parts
    filters = predict.shapes[0][0]
    classes = filters // 3 - 5
    if filters % 3 or classes < 1:
        raise OtherNetworkError
    flat = w("transpose", w("Reshape", predict(x), shape=(0, filters, -1)), axes=(0, 2, 1))
    flat = w("Reshape", flat, shape=(0, -1, 3, classes + 5))
    center, scale, known, kinds = (
        w("slice_axis", flat, axis=-1, begin=begin, end=end)
        for begin, end in ((0, 2), (2, 4), (4, 5), (5, classes + 5))
    )
    places = w("Reshape", _sliced(w, offsets(x), x), shape=(1, -1, 1, 2))
    middle = w("_mul_scalar", w("broadcast_add", w("sigmoid", center), places), scalar=stride)
    half = w("_div_scalar", w("broadcast_mul", w("exp", scale), anchors(x)), scalar=2)
    box = w("Concat", w("elemwise_sub", middle, half), w("elemwise_add", middle, half), dim=-1, num_args=2)
    boxes = w("tile", w("expand_dims", box, axis=1), reps=(1, classes, 1, 1, 1))
    score = w("broadcast_mul", w("sigmoid", kinds), w("sigmoid", known))
    score = w("expand_dims", w("transpose", score, axes=(0, 3, 1, 2)), axis=-1)
    order = w("Reshape", w("_arange", start=0, stop=classes), shape=(1, classes, 1, 1, 1))
    kind = w("broadcast_add", w("_mul_scalar", score, scalar=0), order)
    return w("Reshape", w("Concat", kind, score, boxes, dim=-1, num_args=3), shape=(0, -1, 6))


# ---- the table -----------------------------------------------------------------------------------------

NETWORKS: Mapping[str, Callable[[], Part]] = {
    "ssd_300_vgg16_atrous": partial(_ssd, partial(_on_vgg, 300), 6),
    "ssd_512_vgg16_atrous": partial(_ssd, partial(_on_vgg, 512), 7),
    "ssd_300_mobilenet0.25": partial(_ssd, partial(_on_mobilenet, 0.25, (256, 256, 128, 128)), 6),
    "ssd_512_mobilenet1.0": partial(_ssd, partial(_on_mobilenet, 1), 6),
    "ssd_300_mobilenet1.0_lite": partial(_ssd, partial(_on_mobilenet, 1, (512, 256, 256, 128), 0.5, 64), 6, 1),
    "ssd_512_resnet18_v1": partial(_ssd, partial(_on_resnet, 18), 6),
    "ssd_512_resnet50_v1": partial(_ssd, partial(_on_resnet, 50), 6),
    "ssd_512_resnet101_v2": partial(_ssd, partial(_on_second_resnet, 101, {3: (7, 2)}), 6),
    "ssd_512_resnet152_v2": partial(_ssd, partial(_on_second_resnet, 152, {2: (2, 2), 3: (11, 3)}), 7),
    "ssd_300_resnet34_v1b": partial(_ssd, _on_resnet_34, 6),
    "yolo3_darknet53": partial(_yolo, _on_darknet, (512, 256, 128)),
    "yolo3_mobilenet1.0": partial(_yolo, partial(_in_three, 1), (512, 256, 128)),
    "yolo3_mobilenet0.25": partial(_yolo, partial(_in_three, 0.25), (256, 128, 128)),
}  # fmt: skip
"""The network by its name in ``gluoncv.model_zoo.get_model``, without the data that it was trained on."""
