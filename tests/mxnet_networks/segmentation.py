"""A class for each pixel."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, images, network


def _relu(mx: Any, x: Any, filters: int, name: str, **more: Any) -> Any:
    return mx.sym.Activation(mx.sym.Convolution(x, num_filter=filters, name=name, **more), act_type="relu")


@network("segmentation", "0.9", labels={"softmax_label": (B, 40, 40)}, data=images(3, 40, 40))
def fully_convolutional(mx: Any) -> Any:
    """FCN-8s: padded by far too much, transposed convolutions, and cut back to fit."""
    sym = mx.sym
    data = sym.Variable("data")
    x = _relu(mx, data / 128, 6, "conv1_1", kernel=(3, 3), pad=(20, 20))
    pools = []
    for index in range(3):
        x = _relu(mx, x, 8, f"conv{index}", kernel=(3, 3), pad=(1, 1))
        x = sym.Pooling(x, pool_type="max", kernel=(2, 2), stride=(2, 2))
        pools.append(x)
    score = sym.Convolution(x, kernel=(1, 1), num_filter=4, name="score")
    up = sym.Deconvolution(
        score, kernel=(4, 4), stride=(2, 2), num_filter=4, adj=(1, 1), no_bias=True, name="score2"
    )
    skip = sym.Convolution(pools[1], kernel=(1, 1), num_filter=4, name="score_pool4")
    fused = sym.Crop(*[up, skip], offset=(1, 1), name="score_cropped") + skip
    big = sym.Deconvolution(
        fused, kernel=(8, 8), stride=(4, 4), num_filter=4, num_group=4, no_bias=True, name="bigscore"
    )
    cropped = sym.Crop(*[big, data], offset=(9, 9), name="upscore")
    return sym.SoftmaxOutput(cropped, multi_output=True, use_ignore=True, ignore_label=255, name="softmax")


@network("segmentation", data=images(3, 33, 33))
def holes_in_convolutions(mx: Any) -> Any:
    """DeepLab: dilated convolutions side by side, an average of all, resized."""
    sym = mx.sym
    x = _relu(mx, sym.Variable("data") / 128, 8, "stem", kernel=(3, 3), stride=(2, 2), pad=(1, 1))
    ways = [_relu(mx, x, 6, "aspp0", kernel=(1, 1))]
    ways += [
        _relu(mx, x, 6, f"aspp{rate}", kernel=(3, 3), pad=(rate, rate), dilate=(rate, rate))
        for rate in (2, 4, 6)
    ]
    mean = _relu(
        mx, sym.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1)), 6, "asppm", kernel=(1, 1)
    )
    ways.append(sym.contrib.BilinearResize2D(mean, height=17, width=17))
    x = sym.Convolution(sym.concat(*ways, dim=1), kernel=(1, 1), num_filter=4, name="fc")
    x = sym.contrib.BilinearResize2D(x, height=33, width=33)
    return sym.argmax(sym.softmax(x, axis=1), axis=1, name="classes")


@network("segmentation", "plain", labels={"mask_label": (B, 1, 32, 32)}, data=images(1, 32, 32))
def u_shaped(mx: Any) -> Any:
    sym = mx.sym
    x, past = sym.Variable("data") / 255, []
    for level in range(3):
        x = _relu(mx, x, 4 * (level + 1), f"down{level}", kernel=(3, 3), pad=(1, 1))
        past.append(x)
        x = sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")
    for level in (2, 1, 0):
        x = sym.Deconvolution(
            x, kernel=(2, 2), stride=(2, 2), num_filter=4 * (level + 1), no_bias=level == 1, name=f"up{level}"
        )
        x = _relu(mx, sym.concat(past[level], x, dim=1), 4, f"join{level}", kernel=(3, 3), pad=(1, 1))
    return sym.LogisticRegressionOutput(
        sym.Convolution(x, kernel=(1, 1), num_filter=1, name="mask"),
        sym.Variable("mask_label"),
        name="softmax",
    )


@network("segmentation", "export", data=images(3, 36, 30))
def pyramid_of_averages(mx: Any) -> Any:
    """PSPNet: averages on four grids, resized to meet, and a second head of training beside."""
    nn = mx.gluon.nn

    class Pyramid(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="pspnet_")
            with self.name_scope():
                self.stem, self.aux, self.out = (
                    nn.Conv2D(8, 3, 2, 1, activation="relu"),
                    nn.Conv2D(4, 1),
                    nn.Conv2D(4, 1),
                )
                self.parts = nn.HybridSequential()
                for _ in range(4):
                    self.parts.add(nn.Conv2D(2, 1, use_bias=False))

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            c = self.stem(x / 128)
            found = [c]
            for size, part in zip((1, 2, 3, 6), self.parts, strict=True):
                y = F.relu(part(F.contrib.AdaptiveAvgPooling2D(c, output_size=size)))
                found.append(F.contrib.BilinearResize2D(y, height=18, width=15))
            y = self.out(F.concat(*found, dim=1))
            return tuple(F.contrib.BilinearResize2D(z, height=36, width=30) for z in (y, self.aux(c)))

    return Pyramid()


@network("segmentation", "1.2", data=images(3, 32, 32))
def bilinear_steps_up(mx: Any) -> Any:
    """Upsampling with weights of its own, several inputs joined by one operator."""
    sym = mx.sym
    fine = _relu(mx, sym.Variable("data") / 128, 6, "c1", kernel=(3, 3), stride=(2, 2), pad=(1, 1))
    coarse = _relu(mx, fine, 6, "c2", kernel=(3, 3), stride=(2, 2), pad=(1, 1))
    up = sym.UpSampling(
        coarse,
        sym.Variable("up_weight"),
        scale=2,
        sample_type="bilinear",
        num_filter=6,
        num_args=2,
        name="up",
    )
    joined = sym.UpSampling(
        fine, coarse, scale=2, sample_type="nearest", multi_input_mode="concat", num_args=2
    )
    x = sym.Convolution(sym.concat(up, fine, dim=1), kernel=(1, 1), num_filter=3, name="score")
    y = sym.Convolution(joined, kernel=(3, 3), pad=(1, 1), num_filter=3, name="edge")
    return [sym.SoftmaxActivation(x, mode="channel", name="prob"), sym.sigmoid(y, name="edges")]


@network("segmentation", "export", data=images(3, 32, 32))
def two_paths_with_attention(mx: Any) -> Any:
    """Every place looks at every other, and every channel at every other."""
    nn = mx.gluon.nn

    class Attention(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="danet_")
            with self.name_scope():
                self.stem = nn.Conv2D(8, 3, 4, 1, activation="relu")
                self.query, self.key, self.value = nn.Conv2D(4, 1), nn.Conv2D(4, 1), nn.Conv2D(8, 1)
                self.gamma = self.params.get("alpha", shape=(1,))
                self.out = nn.Conv2D(3, 1)

        def hybrid_forward(self, F: Any, x: Any, gamma: Any) -> Any:
            c = self.stem(x / 128)
            q, k, v = (F.reshape(f(c), (0, 0, -1)) for f in (self.query, self.key, self.value))
            places = F.softmax(F.batch_dot(q, k, transpose_a=True))
            p = F.broadcast_add(
                F.broadcast_mul(gamma, F.reshape_like(F.batch_dot(v, places, transpose_b=True), v)),
                F.reshape(c, (0, 0, -1)),
            )
            energy = F.batch_dot(F.reshape(c, (0, 0, -1)), F.reshape(c, (0, 0, -1)), transpose_b=True)
            energy = F.broadcast_sub(F.max(energy, -1, keepdims=True), energy)
            both = p + F.batch_dot(F.softmax(energy), F.reshape(c, (0, 0, -1)))
            y = F.reshape_like(both, c)
            return F.contrib.BilinearResize2D(self.out(y), scale_height=4, scale_width=4)

    return Attention()
