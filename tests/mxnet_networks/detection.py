"""Detectors, as they were trained and as they are used."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, images, network, numbers


def _conv(mx: Any, x: Any, filters: int, name: str, stride: int = 1, kernel: int = 3) -> Any:
    x = mx.sym.Convolution(
        x,
        num_filter=filters,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        pad=(kernel // 2,) * 2,
        name=name,
    )
    return mx.sym.Activation(x, act_type="relu", name=f"relu_{name}")


def _ssd(mx: Any, classes: int = 3) -> tuple[Any, Any, Any]:
    """Shifts, scores (classes before boxes) and anchors of three scales, the first one scaled channel by channel."""
    sym = mx.sym
    x, loc, cls, anchors = sym.Variable("data") / 128 - 1, [], [], []
    x = _conv(mx, x, 6, "conv0", 2)
    for index, sizes in enumerate(("(.1, .141)", "(.2, .272)", "(.37,)")):
        x = _conv(mx, x, 8, f"conv{index + 1}", 2)
        feature = x
        if index == 0:
            feature = sym.L2Normalization(data=x, mode="channel", name="relu4_3_norm")
            scale = sym.Variable("relu4_3_scale", shape=(1, 8, 1, 1), init=mx.init.Constant(20))
            feature = sym.broadcast_mul(lhs=scale, rhs=feature)
        ratios = "(1, 2, .5)"
        count = sizes.count(".") + 2
        for found, filters, kind in ((loc, 4 * count, "loc"), (cls, (classes + 1) * count, "cls")):
            y = sym.Convolution(
                feature, num_filter=filters, kernel=(3, 3), pad=(1, 1), name=f"{index}_{kind}_pred_conv"
            )
            found.append(sym.Flatten(sym.transpose(y, axes=(0, 2, 3, 1))))
        prior = sym.contrib.MultiBoxPrior(
            feature, sizes=sizes, ratios=ratios, clip=index == 1, name=f"anchors{index}"
        )
        anchors.append(sym.Flatten(prior))
    shifts = sym.Concat(*loc, num_args=3, dim=1, name="multibox_loc_pred")
    scores = sym.Reshape(sym.Concat(*cls, dim=1), shape=(0, -1, classes + 1))
    boxes = sym.Reshape(sym.Concat(*anchors, dim=1), shape=(0, -1, 4), name="multibox_anchors")
    return shifts, sym.transpose(scores, axes=(0, 2, 1), name="multibox_cls_pred"), boxes


@network(
    "detection",
    labels={"label": (B, 2, 5)},
    kept=("cls_prob_output", "det_out_output"),
    data=images(3, 40, 40),
)
def single_shot_as_trained(mx: Any) -> Any:
    sym = mx.sym
    shifts, scores, anchors = _ssd(mx)
    target = sym.contrib.MultiBoxTarget(
        anchors, sym.Variable("label"), scores, overlap_threshold=0.5, ignore_label=-1, negative_mining_ratio=3,
        minimum_negative_samples=0, negative_mining_thresh=0.5, variances=(0.1, 0.1, 0.2, 0.2), name="multibox_target",
    )  # fmt: skip
    cls_prob = sym.SoftmaxOutput(
        data=scores, label=target[2], ignore_label=-1, use_ignore=True, grad_scale=1.0, multi_output=True,
        normalization="valid", name="cls_prob",
    )  # fmt: skip
    loss = sym.smooth_l1(data=target[1] * (shifts - target[0]), scalar=1.0, name="loc_loss_")
    loc_loss = sym.MakeLoss(loss, grad_scale=1.0, normalization="valid", name="loc_loss")
    cls_label = sym.MakeLoss(data=target[2], grad_scale=0, name="cls_label")
    det = sym.contrib.MultiBoxDetection(
        cls_prob, shifts, anchors, name="detection", nms_threshold=0.5, force_suppress=False,
        variances=(0.1, 0.1, 0.2, 0.2), nms_topk=100,
    )  # fmt: skip
    return [cls_prob, loc_loss, cls_label, sym.MakeLoss(data=det, grad_scale=0, name="det_out")]


@network("detection", "0.11", data=images(3, 40, 40))
def single_shot_as_used(mx: Any) -> Any:
    shifts, scores, anchors = _ssd(mx, 2)
    chance = mx.sym.SoftmaxActivation(data=scores, mode="channel", name="cls_prob")
    return mx.sym.contrib.MultiBoxDetection(
        chance,
        shifts,
        anchors,
        name="detection",
        threshold=0.05,
        nms_threshold=0.4,
        force_suppress=True,
        nms_topk=60,
    )


def _proposed(mx: Any, feature: Any, info: Any, anchors: int = 3) -> tuple[Any, Any]:
    """Regions of a first network, as numbers of pixels."""
    sym = mx.sym
    x = _conv(mx, feature, 8, "rpn_conv_3x3")
    score = sym.Convolution(x, kernel=(1, 1), num_filter=2 * anchors, name="rpn_cls_score")
    shift = sym.Convolution(x, kernel=(1, 1), num_filter=4 * anchors, name="rpn_bbox_pred")
    prob = sym.SoftmaxActivation(sym.Reshape(score, shape=(0, 2, -1, 0)), mode="channel", name="rpn_cls_prob")
    prob = sym.Reshape(prob, shape=(0, 2 * anchors, -1, 0), name="rpn_cls_prob_reshape")
    rois = sym.contrib.Proposal(
        cls_prob=prob, bbox_pred=shift * 0.1, im_info=info, name="rois", feature_stride=8, scales=(2,), ratios=(0.5, 1, 2),
        rpn_pre_nms_top_n=40, rpn_post_nms_top_n=8, threshold=0.7, rpn_min_size=4,
    )  # fmt: skip
    return rois, prob


def _classified(mx: Any, pooled: Any, classes: int = 3) -> list[Any]:
    sym = mx.sym
    x = sym.Activation(sym.FullyConnected(sym.Flatten(pooled), num_hidden=12, name="fc6"), act_type="relu")
    score = sym.softmax(sym.FullyConnected(x, num_hidden=classes, name="cls_score"), name="cls_prob")
    shift = sym.FullyConnected(x, num_hidden=4 * classes, name="bbox_pred")
    return [
        sym.Reshape(score, shape=(1, -1, classes), name="cls_prob_reshape"),
        sym.Reshape(shift, shape=(1, -1, 4 * classes), name="bbox_pred_reshape"),
    ]


INFO = numbers(1, 3)


def _backbone(mx: Any) -> Any:
    x = mx.sym.Variable("data") / 128 - 1
    for index in range(3):
        x = _conv(mx, x, 8, f"conv{index}", 2)
    return x


@network("detection", "0.9", data=images(3, 64, 64))
def regions_of_interest(mx: Any) -> Any:
    """Faster R-CNN whose size of a picture is written in."""
    sym = mx.sym
    feature = _backbone(mx)
    first = sym.slice_axis(sym.Reshape(sym.Variable("data"), shape=(0, -1)), axis=1, begin=0, end=3)
    fixed = sym.broadcast_add(sym.slice_axis(first, axis=0, begin=0, end=1) * 0, sym.ones(shape=(1, 3)))
    fixed = sym.broadcast_mul(fixed, sym.concat(sym.full((1, 2), 64), sym.ones((1, 1)), dim=1))
    one = sym.slice_axis(feature, axis=0, begin=0, end=1)
    rois, _ = _proposed(mx, one, fixed)
    pooled = sym.ROIPooling(data=one, rois=rois, name="roi_pool5", pooled_size=(3, 3), spatial_scale=0.125)
    return [rois, *_classified(mx, pooled)]


@network("detection", "1.2", data=images(3, 32, 32), rois=numbers(6, 4))
def positions_that_matter(mx: Any) -> Any:
    """R-FCN: regions vote with maps of their own for each place; convolutions that look aside."""
    sym = mx.sym
    x = _backbone(mx)
    offset = sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=18, name="res5_offset")
    x = sym.contrib.DeformableConvolution(
        x,
        offset=offset,
        num_filter=8,
        kernel=(3, 3),
        pad=(1, 1),
        num_deformable_group=1,
        no_bias=True,
        name="res5",
    )
    x = sym.slice_axis(sym.relu(x), axis=0, begin=0, end=1)
    corners = sym.sigmoid(sym.Variable("rois")) * 12
    size = sym.slice_axis(corners, axis=1, begin=2, end=4) + 12
    boxes = sym.concat(
        sym.zeros_like(sym.slice_axis(size, axis=1, begin=0, end=1)),
        sym.slice_axis(corners, axis=1, begin=0, end=2),
        size,
        dim=1,
    )
    maps = sym.Convolution(x, kernel=(1, 1), num_filter=3 * 9, name="rfcn_cls")
    pooled = sym.contrib.PSROIPooling(
        maps, boxes, group_size=3, pooled_size=3, output_dim=3, spatial_scale=0.125, name="psroipooled_cls"
    )
    score = sym.Pooling(pooled, pool_type="avg", global_pool=True, kernel=(3, 3), name="ave_cls")
    aligned = sym.contrib.ROIAlign(x, boxes, pooled_size=(3, 3), spatial_scale=0.125, sample_ratio=2)
    return [sym.softmax(sym.Reshape(score, shape=(-1, 3))), sym.mean(aligned, axis=(2, 3))]


@network("detection", "export", data=images(3, 48, 48))
def focal_pyramid(mx: Any) -> Any:
    """RetinaNet: one head for all levels, boxes decoded from corners, suppressed class by class."""
    nn = mx.gluon.nn

    class Retina(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="retinanet_")
            with self.name_scope():
                self.stem, self.down = nn.Conv2D(6, 3, 4, 1, activation="relu"), nn.Conv2D(6, 3, 2, 1)
                self.score, self.box = nn.HybridSequential(), nn.HybridSequential()
                for head, count in ((self.score, 3), (self.box, 4)):
                    head.add(nn.Conv2D(6, 3, padding=1, activation="relu"), nn.Conv2D(count, 3, padding=1))
                self.anchors = self.params.get("anchors", shape=(1, 180, 4))

        def hybrid_forward(self, F: Any, x: Any, anchors: Any) -> Any:
            c3 = self.stem(x / 128 - 1)
            c4 = self.down(c3)
            c3 = c3 + F.contrib.BilinearResize2D(c4, like=c3, mode="like")
            found = []
            for head in (self.score, self.box):
                parts = [
                    F.reshape(F.transpose(head(c), axes=(0, 2, 3, 1)), shape=(0, -3, -1)) for c in (c3, c4)
                ]
                found.append(F.concat(*parts, dim=1))
            boxes = F.contrib.box_decode(found[1] * 0.3, F.sigmoid(anchors) * 40, format="corner")
            score = F.sigmoid(found[0])
            ids = F.argmax(score, axis=-1, keepdims=True)
            best = F.max(score, axis=-1, keepdims=True)
            rows = F.concat(ids, best, boxes, dim=-1)
            rows = F.contrib.box_nms(
                rows,
                overlap_thresh=0.5,
                valid_thresh=0.05,
                topk=100,
                coord_start=2,
                score_index=1,
                id_index=0,
            )
            return F.slice_axis(rows, axis=1, begin=0, end=20)

    return Retina()


@network("detection", "plain", data=images(3, 32, 32))
def yolo_of_two(mx: Any) -> Any:
    """Fine maps are put behind the coarse ones, square by square; boxes by cells and anchors."""
    sym = mx.sym
    x = sym.Variable("data") / 255
    for index, filters in enumerate((4, 6, 8)):
        x = sym.Convolution(
            x, kernel=(3, 3), pad=(1, 1), num_filter=filters, no_bias=True, name=f"conv{index}"
        )
        x = sym.LeakyReLU(sym.BatchNorm(x, fix_gamma=False, name=f"bn{index}"), act_type="leaky", slope=0.1)
        x = sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max") if index < 2 else x
    fine = x
    x = sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")
    moved = sym.reshape(sym.reshape(fine, shape=(0, 0, -4, -1, 2, 0)), shape=(0, 0, 0, 0, -4, -1, 2))
    moved = sym.reshape(sym.transpose(moved, axes=(0, 3, 5, 1, 2, 4)), shape=(0, -3, 0, 0, 0))
    moved = sym.reshape(moved, shape=(0, -3, 0, 0))
    x = sym.Convolution(sym.concat(moved, x, dim=1), kernel=(1, 1), num_filter=2 * 8, name="pred")
    x = sym.reshape(sym.transpose(x, axes=(0, 2, 3, 1)), shape=(0, 0, 0, 2, 8))
    centre = sym.sigmoid(sym.slice_axis(x, axis=-1, begin=0, end=2))
    rows = sym.reshape(sym.arange(0, 4, repeat=4), shape=(1, 4, 4, 1, 1))
    columns = sym.reshape(sym.tile(sym.arange(0, 4), reps=4), shape=(1, 4, 4, 1, 1))
    centre = sym.broadcast_add(centre, sym.concat(columns, rows, dim=-1)) / 4
    anchors = sym.reshape(sym.Variable("anchors", shape=(2, 2), init=mx.init.One()), shape=(1, 1, 1, 2, 2))
    size = sym.broadcast_mul(sym.exp(sym.slice_axis(x, axis=-1, begin=2, end=4)), sym.abs(anchors) + 0.5)
    sure = sym.sigmoid(sym.slice_axis(x, axis=-1, begin=4, end=5))
    score = sym.broadcast_mul(sym.softmax(sym.slice_axis(x, axis=-1, begin=5, end=None)), sure)
    best, which = sym.max(score, axis=-1, keepdims=True), sym.argmax(score, axis=-1, keepdims=True)
    boxes = sym.concat(which, best, centre - size / 2, centre + size / 2, dim=-1)
    boxes = sym.reshape(boxes, shape=(0, -1, 6))
    return sym.contrib.box_nms(
        boxes, valid_thresh=0.05, overlap_thresh=0.4, force_suppress=True, name="boxes"
    )


@network("detection", "export", data=images(3, 32, 32))
def centres_of_things(mx: Any) -> Any:
    """CenterNet: peaks of a heat map, the best of them, and what other maps say at those places."""
    nn = mx.gluon.nn

    class Centres(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="centernet_")
            with self.name_scope():
                self.stem, self.heat, self.size = (
                    nn.Conv2D(6, 3, 4, 1, activation="relu"),
                    nn.Conv2D(3, 1),
                    nn.Conv2D(2, 1),
                )

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            y = self.stem(x / 255)
            heat, size = F.sigmoid(self.heat(y)), self.size(y)
            peaks = F.Pooling(heat, kernel=(3, 3), stride=(1, 1), pad=(1, 1), pool_type="max")
            heat = heat * F.broadcast_equal(peaks, heat)
            scores, places = F.topk(F.reshape(heat, (0, -1)), k=5, ret_typ="both")
            classes = F.floor(places / 64)
            cell = F.cast(places - classes * 64, "int32")
            flat = F.transpose(F.reshape(size, (0, 0, -1)), axes=(0, 2, 1))
            rows = F.tile(
                F.expand_dims(F.contrib.arange_like(F.slice_axis(scores, axis=1, begin=0, end=1), axis=0), 1),
                (1, 5),
            )
            index = F.concat(F.expand_dims(rows, 0), F.expand_dims(F.cast(cell, "float32"), 0), dim=0)
            return classes, scores, F.gather_nd(flat, index)

    return Centres()


@network("detection", data=images(3, 40, 40))
def boxes_without_anchors(mx: Any) -> Any:
    """FCOS: distances to four sides, scaled level by level, normalised in groups."""
    sym = mx.sym
    x, found = _conv(mx, sym.Variable("data") / 128 - 1, 8, "stem", 2), []
    for level in range(2):
        x = _conv(mx, x, 8, f"down{level}", 2)
        y = sym.relu(
            sym.GroupNorm(
                sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=8, name=f"tower{level}"),
                num_groups=4,
                name=f"gn{level}",
            )
        )
        scale = sym.Variable(f"scale{level}", shape=(1,))
        sides = sym.exp(
            sym.broadcast_mul(
                sym.Convolution(y, kernel=(1, 1), num_filter=4, name=f"sides{level}"),
                sym.Reshape(scale, shape=(1, 1, 1, 1)),
            )
        )
        centre = sym.sigmoid(sym.Convolution(y, kernel=(1, 1), num_filter=1, name=f"centre{level}"))
        score = sym.broadcast_mul(
            sym.sigmoid(sym.Convolution(y, kernel=(1, 1), num_filter=3, name=f"score{level}")), centre
        )
        found.append(
            sym.Reshape(
                sym.transpose(sym.concat(sides * 8, score, dim=1), axes=(0, 2, 3, 1)), shape=(0, -1, 7)
            )
        )
    return sym.concat(*found, dim=1, name="found")
