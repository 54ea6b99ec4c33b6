"""Classifiers of images in the words of their time."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, images, network, numbers


def _cba(mx: Any, x: Any, filters: int, kernel: int, stride: int, name: str, **more: Any) -> Any:
    sym = mx.sym
    act = more.pop("act", "relu")
    x = sym.Convolution(
        x, num_filter=filters, kernel=(kernel, kernel), stride=(stride, stride), pad=(kernel // 2, kernel // 2),
        no_bias=True, name=f"{name}_conv", **more,
    )  # fmt: skip
    x = sym.BatchNorm(x, fix_gamma=False, eps=2e-5, momentum=0.9, name=f"{name}_bn")
    return sym.Activation(x, act_type=act, name=f"{name}_{act}") if act else x


def _headed(mx: Any, x: Any, classes: int = 7) -> Any:
    x = mx.sym.Pooling(x, global_pool=True, kernel=(7, 7), pool_type="avg", name="pool1")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), num_hidden=classes, name="fc1")
    return mx.sym.SoftmaxOutput(x, name="softmax")


@network("images", "0.8", data=numbers(B, 30))
def multilayer_perceptron(mx: Any) -> Any:
    sym = mx.sym
    x = sym.Variable("data")
    for index, width in enumerate((16, 8), 1):
        x = sym.FullyConnected(data=x, name=f"fc{index}", num_hidden=width)
        x = sym.Activation(data=x, name=f"relu{index}", act_type="relu")
    return sym.Softmax(data=sym.FullyConnected(data=x, name="fc3", num_hidden=5), name="mlp")


@network("images", "0.8", data=images(1, 28, 28))
def lenet(mx: Any) -> Any:
    sym = mx.sym
    x = sym.Variable("data") * (1.0 / 256)
    for filters in (4, 8):
        x = sym.Convolution(data=x, kernel=(5, 5), num_filter=filters)
        x = sym.Activation(data=x, act_type="tanh")
        x = sym.Pooling(data=x, pool_type="max", kernel=(2, 2), stride=(2, 2))
    x = sym.Activation(data=sym.FullyConnected(data=sym.Flatten(data=x), num_hidden=16), act_type="tanh")
    return sym.SoftmaxOutput(data=sym.FullyConnected(data=x, num_hidden=10), name="softmax")


@network("images", "0.9", data=images(3, 67, 67))
def alexnet_with_responses(mx: Any) -> Any:
    """Responses normalised across channels; groups of channels; poolings that overlap."""
    sym = mx.sym
    x = sym.Convolution(
        sym.Variable("data") / 128, kernel=(11, 11), stride=(4, 4), num_filter=8, name="conv1"
    )
    x = sym.LRN(sym.Activation(x, act_type="relu"), alpha=0.0001, beta=0.75, knorm=2, nsize=5)
    x = sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full")
    x = sym.Convolution(x, kernel=(5, 5), pad=(2, 2), num_filter=8, num_group=2, name="conv2")
    x = sym.LRN(sym.Activation(x, act_type="relu"), alpha=0.01, beta=0.75, knorm=1, nsize=3)
    x = sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="max")
    x = sym.Dropout(
        sym.Activation(sym.FullyConnected(sym.Flatten(x), num_hidden=16, name="fc6"), act_type="relu"), p=0.5
    )
    return sym.SoftmaxOutput(sym.FullyConnected(x, num_hidden=10, name="fc8"), name="prob")


@network("images", "0.9", data=images(3, 40, 40))
def inception_with_batchnorm(mx: Any) -> Any:
    sym = mx.sym

    def unit(x: Any, filters: int, kernel: int, name: str, stride: int = 1) -> Any:
        x = sym.Convolution(
            x,
            num_filter=filters,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            pad=(kernel // 2, kernel // 2),
            name=f"conv_{name}",
        )
        return sym.Activation(
            sym.BatchNorm(x, fix_gamma=False, momentum=0.9, name=f"bn_{name}"), act_type="relu"
        )

    def mixed(x: Any, name: str, pool: str) -> Any:
        ways = [unit(x, 4, 1, f"{name}_1x1"), unit(unit(x, 3, 1, f"{name}_3r"), 4, 3, f"{name}_3x3")]
        ways.append(unit(unit(unit(x, 3, 1, f"{name}_d3r"), 4, 3, f"{name}_d0"), 4, 3, f"{name}_d1"))
        pooled = sym.Pooling(x, kernel=(3, 3), stride=(1, 1), pad=(1, 1), pool_type=pool)
        return sym.Concat(*ways, unit(pooled, 3, 1, f"{name}_proj"), name=f"ch_concat_{name}_chconcat")

    def smaller(x: Any, name: str) -> Any:
        pooled = sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
        return sym.Concat(unit(unit(x, 3, 1, f"{name}_r"), 5, 3, f"{name}_3x3", 2), pooled)

    x = unit(sym.Variable("data") / 128, 6, 7, "1", 2)
    x = sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="max")
    x = mixed(smaller(mixed(x, "3a", "avg"), "3c"), "5b", "max")
    return _headed(mx, x)


@network("images", data=images(3, 32, 32))
def residual_network(mx: Any) -> Any:
    """Normalised before it is convolved, data itself normalised first."""
    sym = mx.sym
    x = sym.BatchNorm(sym.identity(sym.Variable("data"), name="id"), fix_gamma=True, eps=2e-5, name="bn_data")
    x = sym.Convolution(x, num_filter=6, kernel=(3, 3), pad=(1, 1), no_bias=True, workspace=256, name="conv0")
    for stage, filters in enumerate((8, 12), 1):
        for index in range(2):
            name, stride = f"stage{stage}_unit{index + 1}", 2 if index == 0 else 1
            a = sym.Activation(sym.BatchNorm(x, fix_gamma=False, name=f"{name}_bn1"), act_type="relu")
            y = sym.Convolution(a, num_filter=filters // 4, kernel=(1, 1), no_bias=True, name=f"{name}_conv1")
            y = sym.Activation(sym.BatchNorm(y, fix_gamma=False, name=f"{name}_bn2"), act_type="relu")
            y = sym.Convolution(
                y,
                num_filter=filters // 4,
                kernel=(3, 3),
                stride=(stride, stride),
                pad=(1, 1),
                no_bias=True,
                name=f"{name}_conv2",
            )
            y = sym.Activation(sym.BatchNorm(y, fix_gamma=False, name=f"{name}_bn3"), act_type="relu")
            y = sym.Convolution(y, num_filter=filters, kernel=(1, 1), no_bias=True, name=f"{name}_conv3")
            if index == 0:
                x = sym.Convolution(
                    a, num_filter=filters, kernel=(1, 1), stride=(2, 2), no_bias=True, name=f"{name}_sc"
                )
            x = y + x
    return _headed(mx, sym.Activation(sym.BatchNorm(x, fix_gamma=False, name="bn1"), act_type="relu"))


@network("images", "1.2", data=images(3, 24, 24))
def grouped_residuals_with_squeezed_channels(mx: Any) -> Any:
    sym = mx.sym
    x = _cba(mx, sym.Variable("data") / 128, 8, 3, 1, "stem")
    for index in range(2):
        y = _cba(mx, x, 8, 1, 1, f"u{index}a")
        y = _cba(mx, y, 8, 3, 1, f"u{index}b", num_group=4)
        y = _cba(mx, y, 8, 1, 1, f"u{index}c", act="")
        s = sym.Flatten(sym.Pooling(y, global_pool=True, kernel=(7, 7), pool_type="avg"))
        s = sym.Activation(sym.FullyConnected(s, num_hidden=2, name=f"u{index}_fc1"), act_type="relu")
        s = sym.Activation(sym.FullyConnected(s, num_hidden=8, name=f"u{index}_fc2"), act_type="sigmoid")
        y = sym.broadcast_mul(y, sym.Reshape(s, shape=(-1, 8, 1, 1)))
        x = sym.Activation(sym.ElementWiseSum(*[x, y], name=f"u{index}_plus"), act_type="relu")
    return _headed(mx, x)


@network("images", "1.2", data=images(3, 24, 24))
def shuffled_channels(mx: Any) -> Any:
    sym = mx.sym

    def shuffled(x: Any, groups: int) -> Any:
        x = sym.reshape(x, shape=(0, -4, groups, -1, -2))
        return sym.reshape(sym.swapaxes(x, 1, 2), shape=(0, -3, -2))

    x = _cba(mx, sym.Variable("data") / 128, 8, 3, 2, "stem")
    for index in range(2):
        keep, work = sym.split(x, num_outputs=2, axis=1)
        y = _cba(mx, work, 4, 1, 1, f"u{index}a", num_group=2)
        y = _cba(mx, shuffled(y, 2), 4, 3, 1, f"u{index}b", num_group=4, act="")
        x = shuffled(sym.concat(keep, _cba(mx, y, 4, 1, 1, f"u{index}c"), dim=1), 2)
    return _headed(mx, x)


@network("images", "plain", data=images(3, 24, 24))
def network_in_network(mx: Any) -> Any:
    sym = mx.sym
    x = sym.Variable("data") / 100
    for index, (filters, kernel) in enumerate(((8, 5), (6, 1), (5, 1))):
        x = sym.Convolution(
            x, num_filter=filters, kernel=(kernel, kernel), pad=(kernel // 2,) * 2, name=f"cccp{index}"
        )
        x = sym.LeakyReLU(x, act_type="leaky", slope=0.25)
    x = sym.Pooling(x, pool_type="avg", kernel=(8, 8), stride=(8, 8), pad=(1, 1), count_include_pad=False)
    return sym.SoftmaxOutput(
        sym.Flatten(sym.Pooling(x, global_pool=True, pool_type="max", kernel=(1, 1))), name="softmax"
    )


@network("images", data=images(3, 16, 16))
def stochastic_depth(mx: Any) -> Any:
    """Every unit survives in inference, weighted by its chance."""
    sym = mx.sym
    x = _cba(mx, sym.Variable("data") / 128, 8, 3, 1, "stem")
    for index, chance in enumerate((0.9, 0.7, 0.5)):
        y = _cba(mx, x, 8, 3, 1, f"u{index}a")
        y = _cba(mx, y, 8, 3, 1, f"u{index}b", act="")
        x = sym.Activation(x + chance * y, act_type="relu")
    return _headed(mx, x)


@network("images", "export", data=images(1, 20, 20))
def capsules(mx: Any) -> Any:
    """Vectors whose length is a chance, routed to one another three times."""
    nn = mx.gluon.nn

    class Capsules(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="capsnet_")
            with self.name_scope():
                self.conv, self.primary = nn.Conv2D(8, 9, activation="relu"), nn.Conv2D(16, 5, strides=4)
                self.weight = self.params.get("weight", shape=(1, 16, 3, 6, 4))

        def squashed(self, F: Any, x: Any, axis: int) -> Any:
            square = F.sum(F.square(x), axis=axis, keepdims=True)
            return F.broadcast_mul(square / (1 + square) / F.sqrt(square + 1e-7), x)

        def hybrid_forward(self, F: Any, x: Any, weight: Any) -> Any:
            u = F.reshape(self.primary(self.conv(x / 255)), shape=(0, 4, -1))
            u = self.squashed(F, F.transpose(u, axes=(0, 2, 1)), 2)
            u = F.reshape(u, shape=(0, -1, 1, 1, 4))
            votes = F.sum(F.broadcast_mul(u, weight), axis=4)
            logits = F.zeros_like(F.slice_axis(votes, axis=3, begin=0, end=1))
            for _ in range(3):
                coupling = F.softmax(logits, axis=2)
                v = self.squashed(F, F.sum(F.broadcast_mul(coupling, votes), axis=1, keepdims=True), 3)
                logits = logits + F.sum(F.broadcast_mul(votes, v), axis=3, keepdims=True)
            return F.sqrt(F.sum(F.square(F.squeeze(v, axis=1)), axis=2))

    return Capsules()


@network("images", "1.2", data=images(1, 24, 24))
def spatial_transformer(mx: Any) -> Any:
    """A small network finds how the picture is to be turned before it is read."""
    sym = mx.sym
    data = sym.Variable("data") / 255
    loc = sym.Pooling(
        sym.Convolution(data, num_filter=4, kernel=(5, 5), name="loc_conv"),
        kernel=(2, 2),
        stride=(2, 2),
        pool_type="max",
    )
    loc = sym.FullyConnected(sym.Activation(loc, act_type="relu"), num_hidden=6, name="loc_fc")
    x = sym.SpatialTransformer(
        data, loc=loc, target_shape=(20, 20), transform_type="affine", sampler_type="bilinear"
    )
    x = sym.Activation(sym.Convolution(x, num_filter=6, kernel=(3, 3), name="conv"), act_type="relu")
    return _headed(mx, x)


@network("images", "export", data=images(3, 32, 32))
def mobile_network_of_hard_swishes(mx: Any) -> Any:
    nn = mx.gluon.nn

    class HardSwish(mx.gluon.HybridBlock):  # type: ignore[misc]
        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return x * F.clip(x + 3, 0, 6) / 6

    class Unit(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self, width: int) -> None:
            super().__init__()
            with self.name_scope():
                self.body, self.gate = nn.HybridSequential(), nn.HybridSequential()
                self.body.add(
                    nn.Conv2D(2 * width, 1, use_bias=False), nn.BatchNorm(), HardSwish(),
                    nn.Conv2D(2 * width, 5, padding=2, groups=2 * width, use_bias=False), nn.BatchNorm(), HardSwish(),
                )  # fmt: skip
                self.gate.add(
                    nn.GlobalAvgPool2D(), nn.Conv2D(4, 1, activation="relu"), nn.Conv2D(2 * width, 1)
                )
                self.last = nn.Conv2D(width, 1)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            y = self.body(x)
            gate = F.contrib.BilinearResize2D(F.hard_sigmoid(self.gate(y)), height=1, width=1)
            return x + self.last(F.broadcast_mul(y, gate))

    net = nn.HybridSequential(prefix="mobilenetv3_")
    with net.name_scope():
        net.add(
            nn.HybridLambda(lambda F, x: x / 128 - 1),
            nn.Conv2D(8, 3, 2, 1),
            nn.Swish(beta=1.3),
            Unit(8),
            nn.SELU(),
            Unit(8),
        )
        net.add(nn.GlobalMaxPool2D(), nn.Flatten(), nn.Dense(5), nn.GELU())
    return net


@network("images", "plain", data=images(3, 24, 24))
def densely_connected(mx: Any) -> Any:
    sym = mx.sym
    x = sym.Convolution(
        sym.Variable("data") / 128, num_filter=6, kernel=(3, 3), pad=(1, 1), no_bias=True, name="conv0"
    )
    for index in range(4):
        y = sym.Activation(sym.BatchNorm(x, eps=2e-5, fix_gamma=False, name=f"bn{index}"), act_type="relu")
        y = sym.Convolution(y, num_filter=4, kernel=(3, 3), pad=(1, 1), no_bias=True, name=f"conv{index + 1}")
        x = sym.Concat(x, sym.Dropout(y, p=0.2), name=f"concat{index}")
    return _headed(mx, sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg"))


@network("images", "export", data=images(3, 8, 24))
def video_of_three_dimensions(mx: Any) -> Any:
    """Frames in a row are a third dimension."""
    nn = mx.gluon.nn
    net = nn.HybridSequential(prefix="c3d_")
    with net.name_scope():
        net.add(nn.HybridLambda(lambda F, x: F.reshape(x / 255, shape=(0, 3, 8, 4, 6))))
        net.add(
            nn.Conv3D(6, 3, padding=1, activation="relu"), nn.MaxPool3D((1, 2, 2), (1, 2, 2)), nn.BatchNorm()
        )
        net.add(
            nn.Conv3D(6, (3, 1, 1), padding=(1, 0, 0)), nn.LeakyReLU(0.2), nn.GlobalAvgPool3D(), nn.Dense(4)
        )
    return net


@network("images", "numpy", data=images(3, 16, 16))
def convolutions_of_numpy(mx: Any) -> Any:
    nn = mx.gluon.nn

    class Net(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.conv, self.norm, self.out = nn.Conv2D(6, 3, padding=1), nn.BatchNorm(), nn.Dense(5)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            y = F.npx.relu(self.norm(self.conv(x / 255.0)))
            y = F.np.concatenate([y, F.np.maximum(y - 0.2, 0.1) ** 2], axis=1)
            return F.npx.log_softmax(self.out(F.np.mean(y, axis=(2, 3))))

    return Net()
