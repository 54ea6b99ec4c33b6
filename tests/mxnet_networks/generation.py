"""Pictures out of numbers, out of other pictures, and larger than they were."""

from __future__ import annotations

import math
from typing import Any

from mxnet_networks.registry import B, images, network, numbers


@network("generation", "0.9", rand=numbers(B, 10, 1, 1))
def generator(mx: Any) -> Any:
    sym = mx.sym
    x = sym.Variable("rand")
    for index, (filters, stride, pad) in enumerate(((8, 1, 0), (6, 2, 1), (4, 2, 1))):
        x = sym.Deconvolution(
            x,
            name=f"g{index}",
            kernel=(4, 4),
            stride=(stride,) * 2,
            pad=(pad,) * 2,
            num_filter=filters,
            no_bias=True,
        )
        x = sym.Activation(
            sym.BatchNorm(x, name=f"gbn{index}", fix_gamma=True, eps=1e-5 + 1e-12), act_type="relu"
        )
    x = sym.Deconvolution(
        x, name="g5", kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_filter=3, target_shape=(32, 32)
    )
    return sym.Activation(x, name="gact5", act_type="tanh")


@network("generation", labels={"label": (B, 1)}, data=images(3, 32, 32))
def discriminator(mx: Any) -> Any:
    sym = mx.sym
    x = sym.Variable("data") / 127.5 - 1
    for index in range(3):
        x = sym.Convolution(
            x, name=f"d{index}", kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_filter=6, no_bias=True
        )
        x = sym.LeakyReLU(sym.BatchNorm(x, name=f"dbn{index}", fix_gamma=True), act_type="leaky", slope=0.2)
    x = sym.Flatten(sym.Convolution(x, name="d5", kernel=(4, 4), num_filter=1, no_bias=True))
    return sym.LogisticRegressionOutput(data=x, label=sym.Variable("label"), name="dloss")


@network("generation", "plain", kept=("decoded_output",), refused="", data=numbers(B, 20))
def variational_autoencoder(mx: Any) -> Any:
    """What is drawn by chance stands in its loss; the decoder of the mean beside it is what people use."""
    sym = mx.sym
    data = sym.Variable("data")
    h = sym.Activation(sym.FullyConnected(data, name="encoder_h", num_hidden=10), act_type="tanh")
    mu, logvar = (sym.FullyConnected(h, name=name, num_hidden=4) for name in ("mu", "logvar"))
    weights = {name: sym.Variable(f"decoder_{name}") for name in ("z_weight", "z_bias", "x_weight", "x_bias")}

    def decoded(z: Any, name: str) -> Any:
        y = sym.FullyConnected(z, weight=weights["z_weight"], bias=weights["z_bias"], num_hidden=10)
        y = sym.FullyConnected(sym.tanh(y), weight=weights["x_weight"], bias=weights["x_bias"], num_hidden=20)
        return sym.sigmoid(y, name=name)

    drawn = mu + sym.broadcast_mul(sym.exp(0.5 * logvar), sym.random_normal(loc=0, scale=1, shape=(1, 4)))
    divergence = -0.5 * sym.sum(1 + logvar - sym.square(mu) - sym.exp(logvar), axis=1)
    likelihood = sym.sum(sym.square(decoded(drawn, "drawn") - data), axis=1)
    return [
        sym.BlockGrad(decoded(mu, "inner"), name="decoded"),
        sym.MakeLoss(likelihood + divergence, name="loss"),
    ]


@network("generation", "export", data=images(1, 14, 14))
def larger_pictures(mx: Any) -> Any:
    """Channels become pixels."""
    nn = mx.gluon.nn

    class Larger(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="superres_")
            with self.name_scope():
                self.first, self.second = (
                    nn.Conv2D(8, 5, padding=2, activation="relu"),
                    nn.Conv2D(9, 3, padding=1),
                )

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            x = self.second(self.first(x / 255))
            x = F.reshape(x, shape=(0, -4, -1, 9, 0, 0))
            x = F.reshape(x, shape=(0, 0, -4, 3, 3, 0, 0))
            x = F.transpose(x, axes=(0, 1, 4, 2, 5, 3))
            x = F.reshape(x, shape=(0, 0, -3, -3))
            return F.clip(x, 0, 1)

    return Larger()


@network("generation", "export", data=images(3, 16, 16))
def pixel_shuffle_of_gluon(mx: Any) -> Any:
    from mxnet.gluon.contrib.nn import PixelShuffle2D

    nn = mx.gluon.nn
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(12, 3, padding=1),
        PixelShuffle2D((2, 2)),
        nn.PReLU(),
        nn.Conv2D(3, 3, padding=1),
        nn.ReflectionPad2D(2),
    )
    return net


@network("generation", "0.11", data=images(3, 24, 24))
def style_of_a_picture(mx: Any) -> Any:
    """Gram matrices of features on two levels, and the features of a third."""
    sym = mx.sym
    x, found = sym.Variable("data") / 128, []
    for index, filters in enumerate((4, 6, 8)):
        x = sym.Activation(
            sym.Convolution(x, num_filter=filters, kernel=(3, 3), pad=(1, 1), name=f"conv{index}"),
            act_type="relu",
        )
        if index < 2:
            flat = sym.Reshape(x, shape=(0, filters, -1))
            found.append(sym.batch_dot(flat, flat, transpose_b=True, name=f"gram{index}") / 100)
        x = sym.Pooling(x, pool_type="avg", kernel=(2, 2), stride=(2, 2))
    return [*found, sym.BlockGrad(x, name="content")]


@network("generation", "export", data=images(3, 20, 20))
def painter(mx: Any) -> Any:
    """Style in one pass: reflected borders, each picture normalised by itself, steps of two by a transposed convolution."""
    nn = mx.gluon.nn

    class Unit(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.body = nn.HybridSequential()
                for index in range(2):
                    self.body.add(nn.ReflectionPad2D(1), nn.Conv2D(6, 3), nn.InstanceNorm(scale=True))
                    if index == 0:
                        self.body.add(nn.Activation("relu"))

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return x + self.body(x)

    net = nn.HybridSequential(prefix="style_")
    with net.name_scope():
        net.add(
            nn.HybridLambda(lambda F, x: x / 127.5 - 1),
            nn.Conv2D(6, 3, 2, 1),
            nn.InstanceNorm(),
            nn.Activation("relu"),
            Unit(),
            Unit(),
        )
        net.add(
            nn.Conv2DTranspose(6, 3, 2, 1, output_padding=1),
            nn.InstanceNorm(),
            nn.LeakyReLU(0.2),
            nn.Conv2D(3, 1, activation="tanh"),
        )
        net.add(nn.HybridLambda(lambda F, x: (x + 1) * 127.5))
    return net


@network("generation", "1.2", data=images(3, 32, 32), code=numbers(B, 5))
def picture_to_picture(mx: Any) -> Any:
    """A class spread over all pixels beside the picture; a U with dropout inside."""
    sym = mx.sym
    data = sym.Variable("data") / 127.5 - 1
    code = sym.Reshape(sym.Variable("code"), shape=(0, 5, 1, 1))
    spread = sym.broadcast_axis(code, axis=(2, 3), size=(32, 32))
    x, past = sym.concat(data, spread, dim=1), []
    for index in range(3):
        x = sym.Convolution(x, kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_filter=6, name=f"e{index}")
        past.append(x)
        x = sym.LeakyReLU(x, slope=0.2)
    for index in range(3):
        x = sym.Deconvolution(
            sym.relu(x), kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_filter=6, name=f"d{index}"
        )
        x = sym.Dropout(x, p=0.5)
        x = sym.concat(x, past[1 - index], dim=1) if index < 2 else x
    return sym.tanh(sym.Convolution(x, kernel=(1, 1), num_filter=3, name="out"), name="picture")


@network("generation", "export", data=numbers(B, 12))
def style_modulated(mx: Any) -> Any:
    """A constant picture shaped by a code: convolution weights scaled channel by channel."""
    nn = mx.gluon.nn

    class Style(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="stylegan_")
            with self.name_scope():
                self.map, self.start = nn.Dense(8), self.params.get("start", shape=(1, 4, 4, 4))
                self.norm, self.conv = nn.InstanceNorm(in_channels=4), nn.Conv2D(4, 3, padding=1)

        def hybrid_forward(self, F: Any, z: Any, start: Any) -> Any:
            z = F.broadcast_mul(z, F.rsqrt(F.mean(F.square(z), axis=1, keepdims=True) + 1e-8))
            scale, shift = F.split(F.expand_dims(F.expand_dims(self.map(z), 2), 3), num_outputs=2, axis=1)
            x = F.broadcast_add(start, F.zeros_like(scale))
            x = F.broadcast_add(F.broadcast_mul(self.norm(x), scale + 1), shift)
            x = F.repeat(F.repeat(self.conv(x), repeats=2, axis=2), repeats=2, axis=3)
            return F.LeakyReLU(x, slope=0.2) * math.sqrt(2)

    return Style()


@network("generation", "plain", data=numbers(B, 6, 6))
def chances_of_pixels(mx: Any) -> Any:
    """A mixture of two bells at each place, its logarithm summed over all of it."""
    sym = mx.sym
    x = sym.Variable("data")
    h = sym.FullyConnected(x, num_hidden=18, flatten=False, name="fc")
    weight, mean, width = sym.SliceChannel(
        sym.Reshape(h, shape=(0, 0, 6, 3)), num_outputs=3, axis=3, squeeze_axis=True
    )
    z = (x - mean) * sym.exp(-width)
    log = sym.log_softmax(weight, axis=-1) - 0.5 * sym.square(z) - width
    top = sym.max(log, axis=-1, keepdims=True)
    total = sym.log(sym.sum(sym.exp(sym.broadcast_sub(log, top)), axis=-1)) + sym.Reshape(top, shape=(0, 0))
    return sym.sum(total, axis=1, name="likelihood")
