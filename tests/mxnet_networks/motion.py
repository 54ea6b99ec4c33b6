"""Pictures out of pictures: flows between frames, styles, colours, sizes, volumes."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, images, network, numbers


@network("motion", "0.9", img1=images(3, 32, 48), img2=images(3, 32, 48))
def flow_by_correlation(mx: Any) -> Any:
    """FlowNet: features of two pictures, correlated, then steps up with a crop like what was before."""
    sym = mx.sym

    def conv(x: Any, filters: int, name: str, stride: int = 2) -> Any:
        weight, bias = sym.Variable(f"{name}_weight"), sym.Variable(f"{name}_bias")
        x = sym.Convolution(
            x, weight, bias, kernel=(3, 3), pad=(1, 1), stride=(stride, stride), num_filter=filters
        )
        return sym.LeakyReLU(x, act_type="leaky", slope=0.1)

    one, two = (conv(conv(sym.Variable(n) / 255.0, 6, "conv1"), 8, "conv2") for n in ("img1", "img2"))
    cost = sym.Correlation(one, two, kernel_size=1, max_displacement=4, stride1=1, stride2=2, pad_size=4)
    redir = sym.Convolution(one, kernel=(1, 1), num_filter=4, name="redir")
    low = conv(sym.Concat(redir, sym.LeakyReLU(cost, act_type="leaky", slope=0.1)), 10, "conv3")
    flow = sym.Convolution(low, kernel=(3, 3), pad=(1, 1), num_filter=2, name="predict3")
    up = sym.Deconvolution(flow, kernel=(4, 4), stride=(2, 2), num_filter=2, no_bias=True, name="upflow")
    raised = sym.Deconvolution(low, kernel=(4, 4), stride=(2, 2), num_filter=6, no_bias=True, name="updeconv")
    up, raised = sym.Crop(up, two, center_crop=True), sym.Crop(raised, two, offset=(1, 1))
    joined = sym.Concat(two, sym.LeakyReLU(raised, act_type="leaky", slope=0.1), up)
    fine = sym.Convolution(joined, kernel=(3, 3), pad=(1, 1), num_filter=2, name="predict2")
    return [sym.UpSampling(fine, scale=4, sample_type="nearest", name="flow"), flow]


@network("motion", "plain", data=numbers(B, 3, 12, 16), flow=numbers(B, 2, 12, 16))
def picture_warped_by_a_flow(mx: Any) -> Any:
    sym = mx.sym
    grid = sym.GridGenerator(sym.Variable("flow") * 2, transform_type="warp", name="grid")
    warped = sym.BilinearSampler(sym.Variable("data"), grid, name="warp")
    error = sym.sqrt(sym.sum(sym.square(warped - sym.Variable("data")), axis=1, keepdims=True) + 1e-6)
    return sym.Convolution(sym.Concat(warped, error), kernel=(3, 3), pad=(1, 1), num_filter=2, name="refined")


@network("generation", "0.8", data=images(3, 32, 32))
def style_and_content(mx: Any) -> Any:
    """Neural style: several layers of a classifier in a Group, and products of their maps."""
    sym = mx.sym
    x, layers = sym.Variable("data"), []
    for index, filters in enumerate((4, 6, 8)):
        x = sym.Convolution(
            x, kernel=(3, 3), pad=(1, 1), num_filter=filters, name=f"conv{index}_1", workspace=1024
        )
        x = sym.Activation(x, act_type="relu", name=f"relu{index}_1")
        layers.append((x, filters))
        x = sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pad=(0, 0), pool_type="avg", name=f"pool{index}")
    grams = []
    for layer, filters in layers[:2]:
        flat = sym.Reshape(layer, shape=(0, filters, -1))
        grams.append(sym.batch_dot(flat, flat, transpose_b=True) / (filters * 64))
    return [*grams, layers[-1][0]]


@network("generation", "1.2", data=numbers(B, 1, 16, 16))
def very_deep_super_resolution(mx: Any) -> Any:
    """VDSR: what is learnt is the difference."""
    sym = mx.sym
    data = x = sym.Variable("data")
    for index in range(5):
        x = sym.Convolution(
            x, kernel=(3, 3), pad=(1, 1), num_filter=6, no_bias=index % 2 == 0, name=f"conv{index}"
        )
        x = sym.Activation(x, act_type="relu")
    residual = sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=1, name="last")
    return sym.LinearRegressionOutput(sym.broadcast_add(data, residual), name="hr")


@network("generation", "export", data=numbers(B, 3, 12, 12))
def depth_to_space_of_gluon(mx: Any) -> Any:
    nn = mx.gluon.nn

    class Upscale(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="espcn_")
            with self.name_scope():
                self.first, self.second = (
                    nn.Conv2D(8, 5, padding=2, activation="tanh"),
                    nn.Conv2D(12, 3, padding=1),
                )

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            y = F.depth_to_space(
                self.second(self.first(F.pad(x, mode="reflect", pad_width=(0, 0, 0, 0, 2, 2, 2, 2)))), 2
            )
            return F.slice_like(
                y, F.UpSampling(x, scale=2, sample_type="nearest"), axes=(2, 3)
            ), F.space_to_depth(y, 2)

    return Upscale()


@network("generation", data=numbers(B, 1, 20, 20))
def colours_of_bins(mx: Any) -> Any:
    """A grey picture, dilated convolutions, a softmax of bins times a table of colours."""
    sym = mx.sym
    x = sym.Variable("data")
    for index, hole in enumerate((1, 2, 4)):
        x = sym.Convolution(
            x, kernel=(3, 3), pad=(hole, hole), dilate=(hole, hole), num_filter=8, name=f"conv{index}"
        )
        x = sym.BatchNorm(
            sym.Activation(x, act_type="relu"),
            fix_gamma=True,
            use_global_stats=True,
            eps=1e-4,
            name=f"norm{index}",
        )
    bins = sym.Convolution(x, kernel=(1, 1), num_filter=9, name="bins") * 2.606
    chance = sym.SoftmaxActivation(bins, mode="channel", name="chance")
    return sym.Convolution(chance, kernel=(1, 1), num_filter=2, no_bias=True, name="ab")


@network("segmentation", "1.2", data=numbers(B, 1, 8, 12, 12))
def volumes(mx: Any) -> Any:
    """V-Net: convolutions of three dimensions down and up, PReLU, and a softmax of voxels."""
    sym = mx.sym

    def conv(x: Any, filters: int, name: str) -> Any:
        x = sym.Convolution(x, kernel=(3, 3, 3), pad=(1, 1, 1), num_filter=filters, name=name)
        return sym.LeakyReLU(x, act_type="prelu", name=f"{name}_prelu")

    one = conv(sym.Variable("data"), 4, "one")
    low = conv(sym.Pooling(one, kernel=(2, 2, 2), stride=(2, 2, 2), pool_type="max"), 6, "two")
    up = sym.Deconvolution(low, kernel=(2, 2, 2), stride=(2, 2, 2), num_filter=4, no_bias=False, name="up")
    out = sym.Convolution(conv(sym.Concat(one, up), 4, "three"), kernel=(1, 1, 1), num_filter=3, name="out")
    return sym.SoftmaxOutput(sym.Reshape(out, shape=(0, 0, -1)), multi_output=True, name="softmax")


@network("segmentation", "0.9", data=images(3, 45, 45))
def cropped_and_summed(mx: Any) -> Any:
    """FCN-8s: a bilinear Deconvolution of each class by itself, and crops by an offset."""
    sym = mx.sym
    x, steps = sym.Variable("data") / 255, []
    for index in range(3):
        x = sym.Activation(
            sym.Convolution(
                x, kernel=(3, 3), pad=(8 if index == 0 else 1,) * 2, num_filter=6, name=f"conv{index}"
            ),
            act_type="relu",
        )
        x = sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", pooling_convention="full")
        steps.append(x)
    score = sym.Convolution(steps[2], kernel=(1, 1), num_filter=4, name="score")
    up = sym.Deconvolution(
        score,
        kernel=(4, 4),
        stride=(2, 2),
        adj=(1, 1),
        num_filter=4,
        num_group=4,
        no_bias=True,
        name="bigscore2",
    )
    side = sym.Convolution(steps[1], kernel=(1, 1), num_filter=4, name="score_pool4")
    fused = sym.Crop(up, side, offset=(1, 1)) + side
    big = sym.Deconvolution(
        fused, kernel=(8, 8), stride=(4, 4), num_filter=4, num_group=4, no_bias=True, name="bigscore"
    )
    return sym.SoftmaxOutput(
        sym.Crop(big, sym.Variable("data"), offset=(10, 10)),
        multi_output=True,
        use_ignore=True,
        ignore_label=255,
        name="softmax",
    )
