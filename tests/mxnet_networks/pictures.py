"""More networks of pictures: pieces joined in ways that older examples had, heads of detectors, pairs."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, images, network, numbers, whole


@network("images", "0.8", data=images(3, 36, 36))
def names_of_the_first_year(mx: Any) -> Any:
    """Operators under the names that MXNet 0.5 gave them."""
    sym = mx.sym
    x = sym.Variable("data")
    x = sym.Convolution(data=x / 255, kernel=(3, 3), num_filter=6, name="conv1", workspace=512)
    y = sym.Convolution(data=x, kernel=(1, 1), num_filter=6, name="conv2")
    x = sym.ElementWiseSum(x, y, x * 0.5, name="sum") - sym.abs(y) / 3
    x = sym.Pooling(
        sym.LeakyReLU(x, act_type="rrelu")[0],
        kernel=(3, 3),
        stride=(2, 2),
        pool_type="max",
        pooling_convention="full",
    )
    x = sym.SwapAxis(sym.Reshape(x, shape=(0, 6, -1)), dim1=1, dim2=2)
    x = sym.sum_axis(x, axis=1) / 300 + 2 ** sym.max_axis(x, axis=1) * 0.1
    return sym.Softmax(sym.FullyConnected(x, num_hidden=5, name="fc"), grad_scale=2, name="softmax")


@network("images", "plain", left=images(1, 20, 20), right=images(1, 20, 20), third=images(1, 20, 20))
def triplets(mx: Any) -> Any:
    """Three pictures through one network with shared weights; distances between, and which is nearer."""
    sym = mx.sym
    names = {
        n: sym.Variable(n)
        for n in ("c_weight", "c_bias", "gamma", "beta", "mean", "var", "f_weight", "f_bias")
    }

    def embedded(name: str) -> Any:
        x = sym.Convolution(
            sym.Variable(name) / 255,
            names["c_weight"],
            names["c_bias"],
            kernel=(5, 5),
            stride=(2, 2),
            num_filter=6,
        )
        x = sym.BatchNorm(x, names["gamma"], names["beta"], names["mean"], names["var"], fix_gamma=False)
        x = sym.FullyConnected(
            sym.Activation(x, act_type="softsign"), names["f_weight"], names["f_bias"], num_hidden=5
        )
        return sym.L2Normalization(x, mode="instance")

    a, p, n = (embedded(name) for name in ("left", "right", "third"))
    near, far = (sym.sqrt(sym.sum(sym.square(a - other), axis=1) + 1e-8) for other in (p, n))
    return [near, far, sym.Activation(near - far + 0.3, act_type="relu"), sym.broadcast_lesser(near, far)]


@network("images", "1.2", data=images(3, 32, 32))
def scaled_residuals_of_inceptions(mx: Any) -> Any:
    sym = mx.sym

    def conv(x: Any, filters: int, kernel: tuple[int, int], name: str, act: bool = True) -> Any:
        pad = (kernel[0] // 2, kernel[1] // 2)
        x = sym.Convolution(x, kernel=kernel, pad=pad, num_filter=filters, no_bias=True, name=name)
        x = sym.BatchNorm(x, eps=2e-5, momentum=0.9, fix_gamma=False, name=f"{name}_bn")
        return sym.Activation(x, act_type="relu") if act else x

    x = conv(sym.Variable("data") / 255, 8, (3, 3), "stem")
    for block in range(2):
        a = conv(x, 4, (1, 1), f"b{block}a")
        b = conv(conv(conv(x, 4, (1, 1), f"b{block}b0"), 4, (1, 7), f"b{block}b1"), 4, (7, 1), f"b{block}b2")
        mixed = sym.Convolution(sym.Concat(a, b), kernel=(1, 1), num_filter=8, name=f"b{block}up")
        x = sym.Activation(x + 0.17 * mixed, act_type="relu")
    p = sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="max", pad=(1, 1))
    q = sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="avg", pad=(1, 1))
    r = sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="lp", p_value=2, pad=(1, 1))
    x = sym.Pooling(sym.Concat(p, q, r), kernel=(8, 8), global_pool=True, pool_type="avg")
    return sym.SoftmaxOutput(
        sym.FullyConnected(sym.Dropout(sym.Flatten(x), p=0.2), num_hidden=6, name="fc1"),
        smooth_alpha=0.1,
        name="softmax",
    )


@network("images", data=images(3, 24, 24))
def two_paths_at_once(mx: Any) -> Any:
    """DPN: what is added and what is joined, cut out of one convolution."""
    sym = mx.sym
    x = sym.Convolution(sym.Variable("data") / 255, kernel=(3, 3), num_filter=12, name="stem")
    added, joined = sym.slice_axis(x, axis=1, begin=0, end=8), sym.slice_axis(x, axis=1, begin=8, end=12)
    for block in range(2):
        x = sym.Concat(added, joined)
        x = sym.Activation(sym.BatchNorm(x, fix_gamma=False, name=f"n{block}"), act_type="relu")
        x = sym.Convolution(
            x, kernel=(3, 3), pad=(1, 1), num_filter=12, num_group=4 if block else 1, name=f"c{block}"
        )
        added = added + sym.slice(x, begin=(None, 0), end=(None, 8))
        joined = sym.Concat(joined, sym.slice(x, begin=(None, 8, 0, 0), end=(None, 12, None, None)))
    x = sym.Pooling(sym.Concat(added, joined), global_pool=True, kernel=(7, 7), pool_type="avg")
    return sym.softmax(
        sym.flatten(sym.Convolution(x, kernel=(1, 1), num_filter=5, name="fc")), temperature=1.5
    )


@network("images", "export", data=images(3, 20, 20))
def greatest_of_pieces(mx: Any) -> Any:
    """Maxout and pieces of attention over channels and places (CBAM), with loss blocks beside."""
    nn = mx.gluon.nn

    class Maxout(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="maxout_")
            with self.name_scope():
                self.conv, self.place = nn.Conv2D(16, 3), nn.Conv2D(1, 7, padding=3, use_bias=False)
                self.one, self.two = (
                    nn.Dense(4, use_bias=False, activation="relu"),
                    nn.Dense(8, use_bias=False),
                )
                self.out = nn.HybridSequential()
                self.out.add(
                    nn.GlobalAvgPool2D(),
                    nn.Flatten(),
                    nn.Dense(5),
                    nn.HybridLambda(lambda F, x: F.log_softmax(x)),
                )

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            x = F.max(F.reshape(self.conv(x / 255), (0, -4, 8, 2, -2)), axis=2)
            mean, most = F.mean(x, axis=(2, 3), keepdims=True), F.max(x, axis=(2, 3), keepdims=True)
            gate = F.sigmoid(self.two(self.one(mean)) + self.two(self.one(most)))
            x = F.broadcast_mul(x, F.reshape(gate, (0, 0, 1, 1)))
            place = F.concat(F.mean(x, axis=1, keepdims=True), F.max(x, axis=1, keepdims=True), dim=1)
            return self.out(F.broadcast_mul(x, F.sigmoid(self.place(place))))

    return Maxout()


@network("images", "export", data=images(3, 24, 24))
def frequencies_and_swishes(mx: Any) -> Any:
    """Octaves: maps of two sizes that speak to each other; swish, mish, GELU; batch-free normalisation."""
    nn = mx.gluon.nn

    class Octaves(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="oct_")
            with self.name_scope():
                self.hh, self.hl, self.ll, self.lh = (nn.Conv2D(6, 3, padding=1) for _ in range(4))
                self.norm, self.act = nn.GroupNorm(3), nn.Swish(beta=1.3)
                self.inst, self.gelu = nn.InstanceNorm(), nn.GELU()
                self.out = nn.Dense(4)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            x = x / 255
            low = F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg")
            high = self.hh(x) + F.UpSampling(self.lh(low), scale=2, sample_type="nearest")
            low = self.ll(low) + self.hl(F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg"))
            high = self.act(self.norm(high))
            low = self.gelu(self.inst(low))
            mish = low * F.tanh(F.Activation(low, act_type="softrelu"))
            return self.out(F.concat(F.mean(high, axis=(2, 3)), F.mean(mish, axis=(2, 3)), dim=1))

    return Octaves()


@network("images", "1.2", data=whole(255, B, 18, 18, 3))
def bytes_of_a_camera(mx: Any) -> Any:
    """Whole numbers in a picture's own order, turned, cast and normalised in the graph."""
    sym = mx.sym
    x = sym.transpose(sym.Cast(sym.Variable("data"), dtype="float32"), axes=(0, 3, 1, 2))
    mean, std = (
        sym.Variable("pixel_mean", shape=(1, 3, 1, 1)),
        sym.Variable("pixel_scale", shape=(1, 3, 1, 1)),
    )
    x = sym.broadcast_div(sym.broadcast_sub(x / 255, mean), 1 + sym.abs(std))
    x = sym.reverse(x, axis=1)
    x = sym.Convolution(x, kernel=(3, 3), stride=(2, 2), num_filter=6, name="conv")
    x = sym.clip(sym.BatchNorm(x, name="bn", fix_gamma=False), a_min=0, a_max=6)
    top = sym.FullyConnected(x, num_hidden=7, name="fc")
    return [sym.softmax(top, name="chance"), sym.topk(top, k=3, ret_typ="indices", name="best")]


@network("detection", "plain", data=numbers(B, 6, 16, 16), rois=numbers(3, 4))
def masks_of_regions(mx: Any) -> Any:
    """Heads of a Mask R-CNN over regions of the first picture: scores, boxes and the mask of the best class."""
    sym = mx.sym
    boxes = sym.sort(sym.abs(sym.Variable("rois")) * 20, axis=1)
    rois = sym.Concat(sym.zeros_like(sym.slice_axis(boxes, axis=1, begin=0, end=1)), boxes, dim=1)
    feat = sym.Convolution(sym.Variable("data"), kernel=(3, 3), pad=(1, 1), num_filter=6, name="rpn")
    small = sym.contrib.ROIAlign(
        feat, rois, pooled_size=(4, 4), spatial_scale=0.25, sample_ratio=2, name="align"
    )
    flat = sym.relu(sym.FullyConnected(small, num_hidden=8, name="fc6"))
    scores = sym.softmax(sym.FullyConnected(flat, num_hidden=4, name="cls"), name="cls_prob")
    deltas = sym.FullyConnected(flat, num_hidden=16, name="bbox")
    mask = sym.Deconvolution(small, kernel=(2, 2), stride=(2, 2), num_filter=6, name="up")
    mask = sym.Convolution(sym.relu(mask), kernel=(1, 1), num_filter=4, name="mask")
    best = sym.argmax(scores, axis=1)
    rows = sym.contrib.arange_like(best, axis=0)
    own = sym.gather_nd(sym.sigmoid(mask), sym.stack(rows, best, axis=0))
    return [scores, deltas, own]


@network("detection", "0.9", data=images(3, 64, 64))
def scaled_norms_of_a_detector(mx: Any) -> Any:
    """SSD: features whose norm is learnt, anchors of two sizes, and what is found."""
    sym = mx.sym
    x, scores, boxes, anchors = sym.Variable("data") / 128, [], [], []
    for index, filters in enumerate((6, 8)):
        x = sym.Convolution(x, kernel=(3, 3), stride=(4, 4), num_filter=filters, name=f"conv{index}")
        x = sym.Activation(x, act_type="relu")
        y = x
        if index == 0:
            y = sym.L2Normalization(x, mode="channel")
            y = sym.broadcast_mul(sym.Variable("relu4_3_scale", shape=(1, 6, 1, 1)), y)
        cls = sym.Convolution(y, kernel=(3, 3), pad=(1, 1), num_filter=3 * 4, name=f"cls{index}")
        loc = sym.Convolution(y, kernel=(3, 3), pad=(1, 1), num_filter=3 * 4, name=f"loc{index}")
        scores.append(sym.Flatten(sym.transpose(cls, axes=(0, 2, 3, 1))))
        boxes.append(sym.Flatten(sym.transpose(loc, axes=(0, 2, 3, 1))))
        anchor = sym.contrib.MultiBoxPrior(
            y,
            sizes=(0.2 + 0.3 * index, 0.35 + 0.3 * index),
            ratios=(1, 2),
            clip=True,
            steps=(0.07, 0.07) if index else (-1, -1),
        )
        anchors.append(sym.Flatten(anchor))
    score = sym.transpose(sym.Reshape(sym.Concat(*scores, dim=1), shape=(0, -1, 4)), axes=(0, 2, 1))
    chance = sym.SoftmaxActivation(score, mode="channel", name="cls_prob")
    every = sym.Reshape(sym.Concat(*anchors, dim=1), shape=(0, -1, 4))
    return sym.contrib.MultiBoxDetection(
        chance,
        sym.Concat(*boxes, dim=1),
        every,
        name="detection",
        nms_threshold=0.45,
        force_suppress=False,
        variances=(0.1, 0.1, 0.2, 0.2),
        nms_topk=40,
    )


@network("detection", "1.2", data=images(3, 32, 48), im_info=numbers(1, 3))
def proposals_of_several(mx: Any) -> Any:
    """Regions proposed for several pictures at once, whose size is an input."""
    sym = mx.sym
    x = sym.Activation(
        sym.Convolution(
            sym.Variable("data") / 100, kernel=(3, 3), stride=(8, 8), pad=(1, 1), num_filter=8, name="base"
        ),
        act_type="relu",
    )
    cls = sym.Convolution(x, kernel=(1, 1), num_filter=2 * 6, name="rpn_cls_score")
    box = sym.Convolution(x, kernel=(1, 1), num_filter=4 * 6, name="rpn_bbox_pred") * 0.05
    reshaped = sym.Reshape(cls, shape=(0, 2, -1, 0))
    prob = sym.Reshape(sym.SoftmaxActivation(reshaped, mode="channel"), shape=(0, 12, -1, 0))
    info = sym.zeros_like(sym.Variable("im_info")) + sym.Concat(
        sym.full((1, 1), 32), sym.full((1, 1), 48), sym.full((1, 1), 1), dim=1
    )
    rois = sym.contrib.MultiProposal(
        prob,
        box,
        sym.broadcast_like(info, sym.slice_axis(sym.Flatten(cls), axis=1, begin=0, end=3)),
        feature_stride=8,
        scales=(2, 4),
        ratios=(0.5, 1, 2),
        rpn_pre_nms_top_n=40,
        rpn_post_nms_top_n=8,
        threshold=0.7,
        rpn_min_size=2,
    )
    return sym.ROIPooling(x, rois, pooled_size=(3, 3), spatial_scale=0.125, name="pool")


@network("images", "export", data=images(3, 16, 24))
def blocks_of_contrib(mx: Any) -> Any:
    """Branches side by side, pixels shuffled, normalisation over devices, reflected edges, lambdas, PReLU, SELU, ELU."""
    nn, contrib = mx.gluon.nn, mx.gluon.contrib.nn

    class Blocks(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="contrib_")
            with self.name_scope():
                self.branches = contrib.HybridConcurrent(axis=1)
                self.branches.add(nn.Conv2D(4, 1), contrib.Identity(), nn.Conv2D(5, 3, padding=1, groups=1))
                self.norm, self.edges = contrib.SyncBatchNorm(in_channels=12), nn.ReflectionPad2D(1)
                self.shuffle = contrib.PixelShuffle2D((2, 1))
                self.acts = nn.HybridSequential()
                self.acts.add(nn.PReLU(), nn.ELU(0.7), nn.SELU(), nn.LeakyReLU(0.2), nn.HybridLambda("tanh"))
                self.up = nn.Conv2DTranspose(3, (3, 4), strides=(1, 2), padding=(1, 1), output_padding=(0, 0))
                self.pools = nn.HybridSequential()
                self.pools.add(
                    nn.MaxPool2D(3, 2, ceil_mode=True), nn.AvgPool2D(2, 1, count_include_pad=False, padding=1)
                )

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            x = self.norm(self.branches(x / 255))
            x = self.shuffle(self.edges(x))
            return self.pools(self.up(self.acts(x)))

    return Blocks()
