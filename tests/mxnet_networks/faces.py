"""Faces and bodies: embeddings, landmarks, cascades, heat maps of joints."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, images, network


def _unit(
    mx: Any, x: Any, filters: int, kernel: int, stride: int, pad: int, name: str, group: int = 1
) -> Any:
    sym = mx.sym
    x = sym.Convolution(
        data=x, num_filter=filters, kernel=(kernel, kernel), num_group=group, stride=(stride, stride), pad=(pad, pad),
        no_bias=True, name=f"{name}_conv2d",
    )  # fmt: skip
    x = sym.BatchNorm(data=x, fix_gamma=False, momentum=0.9, name=f"{name}_batchnorm")
    return sym.LeakyReLU(data=x, act_type="prelu", name=f"{name}_relu")


@network("faces", data=images(3, 28, 28))
def mobile_face(mx: Any) -> Any:
    """Depthwise units, then one convolution as large as what is left."""
    sym = mx.sym
    x = (sym.identity(data=sym.Variable("data"), name="id") - 127.5) * 0.0078125
    x = _unit(mx, x, 8, 3, 2, 1, "conv_1")
    for index in range(2):
        y = _unit(mx, x, 16, 1, 1, 0, f"res_{index}_sep")
        y = _unit(mx, y, 16, 3, 1, 1, f"res_{index}_dw", 16)
        y = sym.Convolution(y, num_filter=8, kernel=(1, 1), no_bias=True, name=f"res_{index}_proj")
        x = x + sym.BatchNorm(y, fix_gamma=False, name=f"res_{index}_bn")
    x = sym.Convolution(x, num_filter=8, num_group=8, kernel=(14, 14), no_bias=True, name="gdc")
    x = sym.FullyConnected(
        data=sym.BatchNorm(x, fix_gamma=False, name="gdc_bn"), num_hidden=12, name="pre_fc1"
    )
    return sym.BatchNorm(data=x, fix_gamma=True, eps=2e-5, momentum=0.9, name="fc1")


@network("faces", labels={"softmax_label": (B,)}, kept=("blockgrad0_output",), data=images(3, 20, 20))
def margin_of_angles(mx: Any) -> Any:
    """As it was trained: classes on a sphere, a margin for the right one, an embedding that no gradient reaches beside it."""
    sym = mx.sym
    x = _unit(mx, (sym.Variable("data") - 127.5) / 128, 6, 3, 2, 1, "conv_1")
    embedding = sym.BatchNorm(sym.FullyConnected(x, num_hidden=8, name="pre_fc1"), fix_gamma=True, name="fc1")
    weight = sym.L2Normalization(sym.Variable("fc7_weight", shape=(11, 8), lr_mult=1.0), mode="instance")
    normed = sym.L2Normalization(embedding, mode="instance", name="fc1n") * 64.0
    scores = sym.FullyConnected(normed, weight=weight, no_bias=True, num_hidden=11, name="fc7")
    label = sym.Variable("softmax_label")
    zy = sym.pick(scores, label, axis=1)
    cosine = zy / 64.0
    new = sym.cos(sym.arccos(cosine) + 0.5) * 64.0
    scores = scores + sym.broadcast_mul(sym.one_hot(label, depth=11), sym.expand_dims(new - zy, 1))
    return [
        sym.BlockGrad(embedding, name="blockgrad0"),
        sym.SoftmaxOutput(scores, label, name="softmax", normalization="valid"),
    ]


@network("faces", "0.8", data=images(3, 24, 24))
def cascade(mx: Any) -> Any:
    """The second of three networks that find a face: a chance, a box and five points."""
    sym = mx.sym
    x = (sym.Variable("data") - 127.5) * 0.0078125
    for index, (filters, kernel) in enumerate(((8, 3), (10, 3), (12, 2)), 1):
        x = sym.Convolution(data=x, kernel=(kernel, kernel), num_filter=filters, name=f"conv{index}")
        x = sym.LeakyReLU(data=x, act_type="prelu", name=f"prelu{index}")
        if index < 3:
            x = sym.Pooling(data=x, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full")
    x = sym.LeakyReLU(
        data=sym.FullyConnected(data=x, num_hidden=16, name="conv4"), act_type="prelu", name="prelu4"
    )
    chance = sym.SoftmaxActivation(sym.FullyConnected(data=x, num_hidden=2, name="conv5-1"), name="prob1")
    return [chance] + [
        sym.FullyConnected(data=x, num_hidden=count, name=f"conv5-{i}") for i, count in ((2, 4), (3, 10))
    ]


@network("faces", "0.9", data=images(3, 33, 29))
def first_of_a_cascade(mx: Any) -> Any:
    """Convolutions alone, so that any picture fits: chances over channels."""
    sym = mx.sym
    x = sym.transpose(
        sym.transpose((sym.Variable("data") - 127.5) * 0.0078125, axes=(0, 1, 3, 2)), axes=(0, 1, 3, 2)
    )
    for index, filters in enumerate((6, 8), 1):
        x = sym.LeakyReLU(
            sym.Convolution(x, kernel=(3, 3), num_filter=filters, name=f"conv{index}"), act_type="prelu"
        )
        if index == 1:
            x = sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", pooling_convention="full")
    scores = sym.Convolution(x, kernel=(1, 1), num_filter=2, name="conv4_1")
    return [
        sym.SoftmaxActivation(scores, mode="channel", name="prob1"),
        sym.Convolution(x, kernel=(1, 1), num_filter=4, name="conv4_2"),
    ]


@network("faces", labels={"gender_label": (B,), "age_label": (B, 10)}, data=images(3, 24, 24))
def gender_and_age(mx: Any) -> Any:
    """Two answers of one network: a class, and years as a row of yes and no."""
    sym = mx.sym
    x = _unit(mx, sym.Variable("data") / 128 - 1, 8, 3, 2, 1, "conv_1")
    x = sym.FullyConnected(x, num_hidden=22, name="fc1")
    gender = sym.slice_axis(x, axis=1, begin=0, end=2)
    years = sym.Reshape(sym.slice_axis(x, axis=1, begin=2, end=22), shape=(0, 10, 2))
    years = sym.SoftmaxOutput(
        sym.transpose(years, axes=(0, 2, 1)),
        sym.Variable("age_label"),
        multi_output=True,
        name="age",
        preserve_shape=True,
    )
    return [sym.SoftmaxOutput(gender, sym.Variable("gender_label"), name="gender"), years]


@network("faces", "1.2", data=images(3, 64, 64))
def faces_on_three_scales(mx: Any) -> Any:
    """A pyramid from the top down, cut to the same size, with context modules and heads that share one reshape."""
    sym = mx.sym

    def conv(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
        x = sym.Convolution(
            x,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            pad=(kernel // 2, kernel // 2),
            num_filter=filters,
            name=name,
        )
        return sym.Activation(
            sym.BatchNorm(x, fix_gamma=False, eps=2e-5, use_global_stats=True, name=f"{name}_bn"),
            act_type="relu",
        )

    x = conv(sym.Variable("data") / 128, 6, 3, 2, "c1")
    levels = []
    for index in range(3):
        x = conv(x, 8, 3, 2, f"down{index}")
        levels.append(x)
    heads, above = [], None
    for index in (2, 1, 0):
        lateral = conv(levels[index], 8, 1, 1, f"lateral{index}")
        if above is not None:
            up = sym.UpSampling(above, scale=2, sample_type="nearest", workspace=512, num_args=1)
            lateral = conv(lateral + sym.Crop(*[up, lateral]), 8, 3, 1, f"aggr{index}")
        above = lateral
        a = conv(lateral, 4, 3, 1, f"ctx{index}_a")
        b = conv(conv(lateral, 4, 3, 1, f"ctx{index}_b1"), 4, 3, 1, f"ctx{index}_b2")
        context = sym.Activation(sym.concat(a, b, dim=1), act_type="relu")
        stride = 4 * 2**index
        score = sym.Convolution(
            context, kernel=(1, 1), num_filter=4, name=f"face_rpn_cls_score_stride{stride}"
        )
        score = sym.Reshape(score, shape=(0, 2, -1, 0))
        prob = sym.SoftmaxActivation(score, mode="channel", name=f"face_rpn_cls_prob_stride{stride}")
        heads.append(sym.Reshape(prob, shape=(0, 4, -1, 0), name=f"face_rpn_cls_prob_reshape_stride{stride}"))
        heads.append(
            sym.Convolution(context, kernel=(1, 1), num_filter=8, name=f"face_rpn_bbox_pred_stride{stride}")
        )
        heads.append(
            sym.Convolution(
                context, kernel=(1, 1), num_filter=20, name=f"face_rpn_landmark_pred_stride{stride}"
            )
        )
    return heads


@network("pose", "export", data=images(3, 32, 24))
def simple_pose(mx: Any) -> Any:
    nn = mx.gluon.nn
    net = nn.HybridSequential(prefix="simplepose_")
    with net.name_scope():
        net.add(
            nn.HybridLambda(
                lambda F, x: F.broadcast_div(
                    F.broadcast_sub(x / 255, F.full((1, 3, 1, 1), 0.45)), F.full((1, 3, 1, 1), 0.22)
                )
            )
        )
        net.add(
            nn.Conv2D(6, 7, 2, 3, use_bias=False),
            nn.BatchNorm(),
            nn.Activation("relu"),
            nn.MaxPool2D(3, 2, 1),
        )
        for _ in range(2):
            net.add(
                nn.Conv2DTranspose(8, 4, 2, 1, use_bias=False),
                nn.BatchNorm(gamma_initializer="zeros"),
                nn.Activation("relu"),
            )
        net.add(nn.Conv2D(5, 1))
    return net


@network("pose", labels={"heat_label": (B, 5, 8, 8), "part_label": (B, 4, 8, 8)}, data=images(3, 32, 32))
def joints_in_stages(mx: Any) -> Any:
    """Maps of joints and of limbs, each stage reading what the one before has found; losses as heads."""
    sym = mx.sym
    x = sym.Variable("data") / 256 - 0.5
    for index in range(2):
        x = sym.Activation(
            sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=6, name=f"conv{index}"), act_type="relu"
        )
        x = sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")
    features, read, heads = x, x, []
    for stage in range(2):
        found = []
        for branch, count in (("L1", 4), ("L2", 5)):
            y = sym.relu(
                sym.Convolution(
                    read, kernel=(7, 7), pad=(3, 3), num_filter=6, name=f"Mconv1_{stage}_{branch}"
                )
            )
            found.append(sym.Convolution(y, kernel=(1, 1), num_filter=count, name=f"Mconv2_{stage}_{branch}"))
        read = sym.concat(found[0], found[1], features, dim=1)
        heads += [
            sym.LinearRegressionOutput(found[0], sym.Variable("part_label"), name=f"limbs{stage}"),
            sym.LinearRegressionOutput(found[1], sym.Variable("heat_label"), name=f"joints{stage}"),
        ]
    return heads


@network("pose", "export", data=images(3, 32, 32))
def hourglass(mx: Any) -> Any:
    """Down and up again with a way past at each size; then where each joint is most likely."""
    nn = mx.gluon.nn

    class Hourglass(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self, depth: int) -> None:
            super().__init__()
            with self.name_scope():
                self.past, self.low = nn.Conv2D(6, 3, padding=1), nn.Conv2D(6, 3, padding=1)
                self.inner = Hourglass(depth - 1) if depth > 1 else nn.Conv2D(6, 1)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            low = self.inner(F.relu(self.low(F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max"))))
            return self.past(x) + F.UpSampling(low, scale=2, sample_type="nearest")

    class Joints(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.stem, self.glass, self.out = nn.Conv2D(6, 3, 2, 1), Hourglass(3), nn.Conv2D(4, 1)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            maps = self.out(self.glass(self.stem(x / 255)))
            flat = F.reshape(maps, shape=(0, 0, -1))
            place = F.argmax(flat, axis=2)
            across = place - F.floor(place / 16) * 16
            return maps, F.max(flat, axis=2), F.stack(across, F.floor(place / 16), axis=2)

    return Joints()
