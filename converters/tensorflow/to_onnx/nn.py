"""Operations of ``keras.ops`` that are what layers are made of: convolutions, pools, normalisations, attention, images."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import image_ops as image, keras, nn_ops as nn, numpy_ops as kn
from netferry.converters.tensorflow.to_onnx import convolution, normalization, preprocessing
from netferry.converters.tensorflow.to_onnx.attention import FAR_BELOW, masked_softmax
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, axes_of, refuse_unless


def _format(op: Any) -> str:
    return str(op.data_format or keras.config.image_data_format())


def _numbers(setting: Any, rank: int) -> list[int]:
    """A setting of each axis of space, given once for all or each."""
    return [setting] * (rank - 2) if isinstance(setting, int) else [int(size) for size in setting]


def _window(op: Any, rank: int) -> convolution.Window:
    return convolution.Window(op.padding, _numbers(op.strides, rank), _numbers(op.dilation_rate, rank))


# ---- convolutions and pools -----------------------------------------------------------------


@ROWS.row(nn.Conv)
def conv(g: Emitter, op: Any, inputs: Tensor, kernel: Any) -> Tensor:
    x, weight = g.promoted(inputs, kernel)
    with_first, back = convolution.first_and_back(g, x, _format(op))
    groups = with_first.size(1) // weight.size(weight.rank - 2)
    return back(
        convolution.convolved(g, with_first, convolution.turned(g, weight), None, _window(op, x.rank), groups)
    )


@ROWS.row(nn.DepthwiseConv)
def depthwise_conv(g: Emitter, op: Any, inputs: Tensor, kernel: Any) -> Tensor:
    x, weight = g.promoted(inputs, kernel)
    with_first, back = convolution.first_and_back(g, x, _format(op))
    turned = convolution.turned_depthwise(g, weight)
    return back(convolution.convolved(g, with_first, turned, None, _window(op, x.rank), with_first.size(1)))


@ROWS.row(nn.SeparableConv)
def separable_conv(
    g: Emitter, op: Any, inputs: Tensor, depthwise_kernel: Any, pointwise_kernel: Any
) -> Tensor:
    x, depthwise, pointwise = g.promoted(inputs, depthwise_kernel, pointwise_kernel)
    with_first, back = convolution.first_and_back(g, x, _format(op))
    turned = convolution.turned_depthwise(g, depthwise)
    y = convolution.convolved(g, with_first, turned, None, _window(op, x.rank), with_first.size(1))
    return back(g.Conv(y, convolution.turned(g, pointwise)))


@ROWS.row(nn.ConvTranspose)
def conv_transpose(g: Emitter, op: Any, inputs: Tensor, kernel: Any) -> Tensor:
    x, weight = g.promoted(inputs, kernel)
    with_first, back = convolution.first_and_back(g, x, _format(op))
    extra = None if op.output_padding is None else _numbers(op.output_padding, x.rank)
    return back(
        convolution.transposed(g, with_first, convolution.turned(g, weight), None, _window(op, x.rank), extra)
    )


@ROWS.row(nn.MaxPool, nn.AveragePool)
def pool(g: Emitter, op: Any, inputs: Tensor) -> Tensor:
    op_type = "MaxPool" if isinstance(op, nn.MaxPool) else "AveragePool"
    size = _numbers(op.pool_size, inputs.rank)
    strides = size if op.strides is None else _numbers(op.strides, inputs.rank)
    x, back = convolution.first_and_back(g, inputs, _format(op))
    return back(convolution.pooled(g, op_type, x, size, strides, op.padding))


@ROWS.row(nn.AdaptiveAveragePool, nn.AdaptiveMaxPool)
def adaptive_pool(g: Emitter, op: Any, inputs: Tensor) -> Tensor:
    """Where each size is a multiple of what is wanted, windows of one size; to one, the pool of all."""
    average = isinstance(op, nn.AdaptiveAveragePool)
    wanted = _numbers(op.output_size, inputs.rank)
    x, back = convolution.first_and_back(g, inputs, _format(op))
    if set(wanted) == {1}:
        return back(g.op("GlobalAveragePool" if average else "GlobalMaxPool", x))
    have = [x.size(axis) for axis in range(2, x.rank)]
    fits = all(size % count == 0 for size, count in zip(have, wanted, strict=True))
    refuse_unless(fits, f"its windows differ in size: {have} into {wanted}")
    windows = [size // count for size, count in zip(have, wanted, strict=True)]
    return back(convolution.pooled(g, "AveragePool" if average else "MaxPool", x, windows, windows, "valid"))


# ---- normalisations -------------------------------------------------------------------------


@ROWS.row(nn.BatchNorm)
def batch_norm(
    g: Emitter, op: Any, x: Tensor, mean: Any, variance: Any, offset: Any = None, scale: Any = None
) -> Tensor:
    x, *given = g.promoted(
        x, mean, variance, 0.0 if offset is None else offset, 1.0 if scale is None else scale
    )
    mean_, variance_, offset_, scale_ = (_whole(g, value, given[0]) for value in given)
    perm = normalization.second(op.axis, x.rank)
    y = g.BatchNormalization(g.transpose(x, perm), scale_, offset_, mean_, variance_, epsilon=op.epsilon)
    return g.transpose(y, layout.inverse(perm))


def _whole(g: Emitter, value: Tensor, like: Tensor) -> Tensor:
    return value if value.rank else g.Expand(value, g.Shape(like))


@ROWS.row(nn.LayerNorm)
def layer_norm(g: Emitter, op: Any, x: Tensor, gamma: Any = None, beta: Any = None) -> Tensor:
    axes = axes_of(op.axis, x.rank)
    epsilon = keras.config.epsilon() if op.epsilon is None else op.epsilon
    scale, bias = (None if value is None else g.lift(value) for value in (gamma, beta))
    return normalization.over_axes(g, x, axes, scale, bias, epsilon, rms_scaling=op.rms_scaling)


@ROWS.row(nn.RMSNorm)
def rms_norm(g: Emitter, op: Any, x: Tensor, scale: Any = None) -> Tensor:
    epsilon = keras.config.epsilon() if op.epsilon is None else op.epsilon
    return normalization.by_root_mean_square(
        g, x, axes_of(op.axis, x.rank), None if scale is None else g.lift(scale), epsilon
    )


@ROWS.row(nn.Normalize)
def normalize(g: Emitter, op: Any, x: Tensor) -> Tensor:
    refuse_unless(op.order in (1, 2), f"its order {op.order} is not 1 or 2")
    epsilon = keras.config.epsilon() if op.epsilon is None else op.epsilon
    return normalization.unit(g, x, axes_of(op.axis, x.rank), epsilon, order=op.order)


# ---- categories -----------------------------------------------------------------------------


@ROWS.row(nn.OneHot)
def one_hot(g: Emitter, op: Any, x: Any) -> Tensor:
    refuse_unless(not op.sparse, "its output is sparse")
    return preprocessing.one_hot(g, g.lift(x), op.num_classes, op.dtype or np.float32, op.axis)


@ROWS.row(nn.MultiHot)
def multi_hot(g: Emitter, op: Any, inputs: Any) -> Tensor:
    refuse_unless(not op.sparse, "its output is sparse")
    return preprocessing.multi_hot(g, g.lift(inputs), op.num_classes, op.dtype or np.float32, op.axis)


@ROWS.row(kn.Digitize)
def digitize(g: Emitter, op: Any, x: Tensor, bins: Any) -> Tensor:
    return preprocessing.digitized(g, x, bins.array if isinstance(bins, Tensor) else bins)


@ROWS.row(nn.Sparsemax)
def sparsemax(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """max(x - tau, 0), where tau is such that the sum is one (Martins and Astudillo 2016, algorithm 1)."""
    axis = op.axis % x.rank
    count = g.Shape(x, start=axis, end=axis + 1)
    ordered = g.ops("TopK", x, count, axis=axis, outputs=2)[0]
    place = g.cast(
        g.Range(
            g.constant(1, np.int64),
            g.Add(g.Squeeze(count, g.ints(0)), g.constant(1, np.int64)),
            g.constant(1, np.int64),
        ),
        x.dtype,
    )
    place = g.Reshape(place, g.ints(-1, *[1] * (x.rank - axis - 1)))
    total = g.CumSum(ordered, g.constant(axis, np.int64))
    one, zero = g.scalar(1, x), g.scalar(0, x)
    inside = g.Greater(g.Sub(ordered, g.Div(g.Sub(total, one), place)), zero)
    size = g.ReduceSum(g.cast(inside, x.dtype), g.ints(axis), keepdims=1)
    # the sums inside are a prefix; their own sum less one, as Keras has it
    kept = g.ReduceSum(g.Where(inside, total, zero), g.ints(axis), keepdims=1)
    return g.Max(g.Sub(x, g.Div(g.Sub(kept, one), size)), zero)


# ---- attention ------------------------------------------------------------------------------


@ROWS.row(nn.DotProductAttention)
def dot_product_attention(
    g: Emitter,
    op: Any,
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: Any = None,
) -> Tensor:
    """Each (batch, steps, heads, size); of keys and values a head may serve several of the queries'."""
    refuse_unless(op.attn_logits_soft_cap is None, "it caps its scores")
    q, k, v = (g.transpose(x, (0, 2, 1, 3)) for x in g.promoted(query, key, value))
    groups = q.size(1) // k.size(1)
    if groups > 1:
        k, v = (_each_for(g, x, groups) for x in (k, v))
    factor = 1 / np.sqrt(k.size(3)) if scale is None else scale
    scores = g.Mul(g.MatMul(q, g.transpose(k, (0, 1, 3, 2))), g.cast(g.lift(factor), q.dtype))
    if bias is not None:
        scores = g.Add(scores, g.cast(g.lift(bias), scores.dtype))
    allowed = None if mask is None else g.cast(g.lift(mask), np.bool_)
    weights = masked_softmax(g, scores, allowed, op.is_causal, FAR_BELOW)
    return g.transpose(g.MatMul(weights, v), (0, 2, 1, 3))


def _each_for(g: Emitter, x: Tensor, groups: int) -> Tensor:
    """(batch, heads, steps, size) with each head ``groups`` times."""
    heads, size = x.size(1), x.size(3)
    wide = g.Tile(g.Unsqueeze(x, g.ints(2)), g.ints(1, 1, groups, 1, 1))
    return g.Reshape(wide, g.ints(0, heads * groups, -1, size))


# ---- images ---------------------------------------------------------------------------------


@ROWS.row(nn.DepthToSpace, nn.SpaceToDepth)
def depth_and_space(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """TensorFlow has the place in the block before the channel, which is ONNX' DCR."""
    with_first, back = convolution.first_and_back(g, x, _format(op))
    if isinstance(op, nn.DepthToSpace):
        return back(g.DepthToSpace(with_first, blocksize=op.block_size))
    return back(g.SpaceToDepth(with_first, blocksize=op.block_size))


@ROWS.row(image.Resize)
def resize(g: Emitter, op: Any, images: Tensor) -> Tensor:
    refuse_unless(
        not op.antialias or op.interpolation == "nearest", "it smooths while it shrinks (antialias)"
    )
    refuse_unless(
        not (op.crop_to_aspect_ratio or op.pad_to_aspect_ratio), "it crops or pads to keep the aspect ratio"
    )
    single = images.rank == 3
    x = g.Unsqueeze(images, g.ints(0)) if single else images
    with_first, back = convolution.first_and_back(g, x, _format(op))
    y = back(convolution.resized(g, with_first, [int(size) for size in op.size], op.interpolation))
    return g.Squeeze(y, g.ints(0)) if single else y


@ROWS.row(image.RGBToGrayscale)
def rgb_to_grayscale(g: Emitter, op: Any, images: Tensor) -> Tensor:
    axis = images.rank - 1 if _format(op) == "channels_last" else images.rank - 3
    shape = [1] * images.rank
    shape[axis] = 3
    weights = np.reshape(np.asarray([0.2989, 0.5870, 0.1140], np.float32), shape)
    x = g.cast(images, np.float32) if images.dtype.kind != "f" else images
    y = g.ReduceSum(g.Mul(x, g.constant(weights.astype(x.dtype))), g.ints(axis), keepdims=1)
    return g.cast(y, images.dtype)


@ROWS.row(image.ExtractPatches)
def extract_patches(g: Emitter, op: Any, images: Tensor) -> Tensor:
    """A convolution with kernels that each pick one element of the patch."""
    refuse_unless(images.rank == 4, "it is not of a batch of images")
    height, width = _numbers(op.size, 4)
    with_first, back = convolution.first_and_back(g, images, _format(op))
    channels = with_first.size(1)
    count = height * width * channels
    kernel = np.eye(count, dtype=images.dtype).reshape(height, width, channels, count)
    strides = [height, width] if not op.strides else _numbers(op.strides, 4)
    window = convolution.Window(op.padding, strides, _numbers(op.dilation_rate, 4))
    return back(
        convolution.convolved(g, with_first, convolution.turned(g, g.constant(kernel)), None, window, 1)
    )
