"""Graphs that MXNet writes and runs, of many kinds: the sample on which the road out of MXNet is measured.

A graph is a symbol, a gluon block or code under ``npx.set_np``, as text, with the sizes of its inputs. They are
products of what the operators' signatures offer, so that none is here because it works.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """``form``: symbol, numpy or gluon; ``batch``: the axis that grows, of inputs that are as large there."""

    kind: str
    text: str
    dims: tuple[Dims, ...]
    form: str = "symbol"
    batch: int = 0
    whole: bool = False
    """Inputs are whole numbers of 0 and more: indices."""


IMAGE, WAVE, VOLUME, ROWS, SEQUENCE = (2, 4, 9, 8), (2, 4, 11), (2, 4, 5, 6, 7), (3, 8), (3, 5, 4)
SPACES = {1: WAVE, 2: IMAGE, 3: VOLUME}


def _same(value: int, count: int) -> str:
    return f"({', '.join([str(value)] * count)},)"


def convolutions() -> Iterator[Graph]:
    for rank, stride, pad, dilate, group in product((1, 2, 3), (1, 2), (0, 1), (1, 2), (1, 2)):
        sizes = f"kernel={_same(3 if rank < 3 else 2, rank)}, stride={_same(stride, rank)}, pad={_same(pad, rank)}"
        text = f"F.Convolution(data, num_filter=4, {sizes}, dilate={_same(dilate, rank)}, num_group={group}, no_bias={stride == 2})"
        yield Graph("convolution", text, (SPACES[rank],))
    for rank, stride, pad, group in product((1, 2), (1, 2), (0, 1), (1, 2)):
        sizes = f"kernel={_same(3, rank)}, stride={_same(stride, rank)}, pad={_same(pad, rank)}"
        text = f"F.Deconvolution(data, num_filter=4, {sizes}, num_group={group}, no_bias={pad == 1}, adj={_same(stride - 1, rank)})"
        yield Graph("convolution", text, (SPACES[rank],))


def poolings() -> Iterator[Graph]:
    for kind, rule, (kernel, stride, pad) in product(
        ("max", "avg", "sum", "lp"), ("valid", "full"), ((2, 2, 0), (3, 2, 1), (2, 3, 0), (3, 1, 1))
    ):
        more = ", p_value=2" if kind == "lp" else ""
        sizes = f"kernel=({kernel}, {kernel}), stride=({stride}, {stride}), pad=({pad}, {pad})"
        text = f"F.Pooling(data, {sizes}, pool_type='{kind}', pooling_convention='{rule}'{more})"
        yield Graph("pooling", text, (IMAGE,))
    for rank, kind in product((1, 2, 3), ("max", "avg", "sum")):
        yield Graph(
            "pooling",
            f"F.Pooling(data, global_pool=True, kernel={_same(1, rank)}, pool_type='{kind}')",
            (SPACES[rank],),
        )
        sizes = f"kernel={_same(2, rank)}, stride={_same(2, rank)}, pool_type='{kind}'"
        yield Graph("pooling", f"F.Pooling(data, {sizes}, count_include_pad=False)", (SPACES[rank],))
    for kind in ("max", "avg"):
        text = f"F.Pooling(data, kernel=(2,), stride=(3,), pad=(0, 0, 0), pool_type='{kind}', pooling_convention='same')"
        yield Graph("pooling", text, (WAVE,))


def recurrent_operators() -> Iterator[Graph]:
    for mode, layers, both, states in product(
        ("rnn_tanh", "rnn_relu", "lstm", "gru"), (1, 2), (False, True), (False, True)
    ):
        names = ("other", "third") if mode == "lstm" else ("other",)
        size = (layers * (1 + both), 3, 3)
        given = {"state": names[0]} | ({"state_cell": names[1]} if mode == "lstm" else {})
        if not states:
            given = dict.fromkeys(given, f"F.zeros(shape=({size[0]}, 0, 3))")
        words = ", ".join(f"{key}={word}" for key, word in given.items())
        text = f"F.RNN(data, state_size=3, num_layers={layers}, mode='{mode}', bidirectional={both}, state_outputs={states}, {words})"
        yield Graph("recurrent", text, ((5, 3, 4), *([size] * len(names) if states else [])), batch=1)


def _net(*layers: str) -> str:
    return f"(lambda net: (net.add({', '.join(layers)}), net)[1])(nn.HybridSequential())"


def recurrent_layers() -> Iterator[Graph]:
    for kind, layers, layout, both in product(
        ("RNN({}, activation='tanh'", "RNN({}", "LSTM({}", "GRU({}"), (1, 2), ("TNC", "NTC"), (False, True)
    ):
        layer = f"rnn.{kind.format(4)}, num_layers={layers}, layout='{layout}', bidirectional={both})"
        yield Graph("recurrent", _net(layer), ((3, 5, 6),), "gluon", batch=layout.index("N"))
    cells = ["rnn.RNNCell(4)", "rnn.RNNCell(4, activation='relu')", "rnn.LSTMCell(4)", "rnn.GRUCell(4)"]
    for cell in cells:
        yield Graph("recurrent", f"structures.unrolled(mx, {cell}, 5)", ((3, 5, 6),), "gluon")
    for cell in ("rnn.ResidualCell(rnn.GRUCell(6))", "rnn.ZoneoutCell(rnn.RNNCell(4), 0.3, 0.2)", "rnn.DropoutCell(0.4)",
                 "rnn.BidirectionalCell(rnn.LSTMCell(4), rnn.GRUCell(3))"):  # fmt: skip
        yield Graph("recurrent", f"structures.unrolled(mx, {cell}, 5)", ((3, 5, 6),), "gluon")


LAYERS = [
    "nn.Dense(5)", "nn.Dense(5, use_bias=False, flatten=False)", "nn.Dense(5, activation='sigmoid')", "nn.Dropout(0.3)",
    "nn.BatchNorm()", "nn.BatchNorm(axis=-1)", "nn.BatchNorm(scale=False)", "nn.BatchNorm(center=False, epsilon=0.1)",
    "nn.BatchNorm(use_global_stats=True)", "nn.InstanceNorm()", "nn.InstanceNorm(center=False, scale=True)", "nn.LayerNorm()",
    "nn.LayerNorm(axis=1, scale=False)", "nn.GroupNorm(num_groups=2)", "nn.GroupNorm(num_groups=4, epsilon=0.1)",
    "nn.Activation('relu')", "nn.Activation('softrelu')", "nn.Activation('softsign')", "nn.LeakyReLU(0.2)", "nn.PReLU()",
    "nn.ELU(0.5)", "nn.SELU()", "nn.GELU()", "nn.Swish()", "nn.Flatten()", "nn.HybridLambda('exp')",
    "nn.Conv2D(6, 3)", "nn.Conv2D(6, 3, 2, 1, activation='tanh')", "nn.Conv2D(8, 1, groups=4, use_bias=False)",
    "nn.Conv2D(4, (3, 1), (1, 2), (1, 0), (2, 1))", "nn.Conv2DTranspose(3, 4, 2, 1)", "nn.Conv2DTranspose(4, 3, 2, 1, 1, groups=2, in_channels=4)",
    "nn.MaxPool2D()", "nn.MaxPool2D(3, 2, 1, ceil_mode=True)", "nn.AvgPool2D()", "nn.AvgPool2D(3, 2, 1, ceil_mode=True)",
    "nn.AvgPool2D(3, 2, 1, count_include_pad=False)", "nn.GlobalAvgPool2D()", "nn.GlobalMaxPool2D()", "nn.ReflectionPad2D(1)",
    "mx.gluon.contrib.nn.SyncBatchNorm()", "mx.gluon.contrib.nn.PixelShuffle2D(2)", "mx.gluon.contrib.nn.PixelShuffle2D((1, 2))",
    "mx.gluon.contrib.nn.Identity()",
]  # fmt: skip


def layers() -> Iterator[Graph]:
    for text in LAYERS:
        yield Graph("layer", _net(text), (IMAGE,), "gluon")
    for text in ("nn.Conv1D(5, 3, 2, 1)", "nn.Conv1D(4, 2, dilation=3, groups=2)", "nn.Conv1DTranspose(4, 3, 2)", "nn.MaxPool1D()",
                 "nn.AvgPool1D(3, 2, 1)", "nn.GlobalAvgPool1D()", "nn.GlobalMaxPool1D()", "mx.gluon.contrib.nn.PixelShuffle1D(2)"):  # fmt: skip
        yield Graph("layer", _net(text), (WAVE,), "gluon")
    for text in ("nn.Conv3D(4, 2, 2)", "nn.Conv3DTranspose(3, 2)", "nn.MaxPool3D(2, 2, ceil_mode=True)", "nn.AvgPool3D(2)", "nn.GlobalAvgPool3D()",
                 "nn.GlobalMaxPool3D()"):  # fmt: skip
        yield Graph("layer", _net(text), (VOLUME,), "gluon")
    yield Graph("layer", _net("nn.Embedding(7, 5)"), (ROWS,), "gluon", whole=True)
    for text in (
        _net("nn.Dense(6)", "nn.LayerNorm()", "nn.Dense(3)"),
        _net("nn.Conv2D(4, 3)", "nn.BatchNorm()", "nn.MaxPool2D()", "nn.Dense(4)"),
    ):
        yield Graph("layer", text, (IMAGE,), "gluon")


SYMBOLS = {
    IMAGE: [
        "F.BatchNorm(data)", "F.BatchNorm(data, fix_gamma=False)", "F.BatchNorm(data, eps=0.01, momentum=0.5, use_global_stats=True)",
        "F.BatchNorm(data, axis=3, fix_gamma=False)", "F.LRN(data, nsize=3)", "F.LRN(data, nsize=5, alpha=0.1, beta=0.5, knorm=1)",
        "F.L2Normalization(data)", "F.L2Normalization(data, mode='channel', eps=0.1)", "F.L2Normalization(data, mode='spatial')",
        "F.InstanceNorm(data, eps=0.1)", "F.LeakyReLU(data)", "F.LeakyReLU(data, act_type='prelu')", "F.LeakyReLU(data, act_type='elu')",
        "F.LeakyReLU(data, act_type='rrelu')[0]", "F.LeakyReLU(data, act_type='gelu')", "F.LeakyReLU(data, act_type='selu')",
        "F.Activation(data, act_type='softrelu')", "F.FullyConnected(data, num_hidden=3)", "F.FullyConnected(data, num_hidden=3, flatten=False)",
        "F.SoftmaxActivation(data)", "F.SoftmaxActivation(data, mode='channel')", "F.SoftmaxOutput(data, multi_output=True)",
        "F.SoftmaxOutput(data, preserve_shape=True)", "F.Flatten(data)", "F.UpSampling(data, scale=2, sample_type='nearest')",
        "F.UpSampling(data, scale=4, sample_type='bilinear', num_filter=4)", "F.Crop(data, h_w=(5, 4), num_args=1, center_crop=True)",
        "F.contrib.AdaptiveAvgPooling2D(data, output_size=3)", "F.contrib.BilinearResize2D(data, height=5, width=13)",
        "F.contrib.BilinearResize2D(data, height=18, width=16, align_corners=False)", "F.contrib.MultiBoxPrior(data, sizes=(0.3, 0.6), ratios=(1, 2))",
        "F.pad(data, mode='reflect', pad_width=(0, 0, 0, 0, 2, 1, 0, 3))", "F.pad(data, mode='edge', pad_width=(0, 0, 0, 0, 2, 1, 0, 3))",
        "F.pad(data, mode='constant', pad_width=(0, 0, 0, 0, 2, 1, 0, 3), constant_value=2)", "F.depth_to_space(data, block_size=2)",
        "F.space_to_depth(F.slice_axis(data, axis=2, begin=0, end=8), block_size=2)", "F.im2col(data, kernel=(2, 2), stride=(2, 2))",
        "F.GroupNorm(data, num_groups=2)", "F.slice_like(data, F.slice_axis(data, axis=2, begin=0, end=4), axes=(2,))",
    ],
    ROWS: [
        "F.SoftmaxOutput(data)", "F.LinearRegressionOutput(data)", "F.LogisticRegressionOutput(data)", "F.MAERegressionOutput(data)",
        "F.SVMOutput(data)", "F.MakeLoss(F.square(data))", "F.BlockGrad(data)", "F.Cast(data, dtype='float64')", "F.Cast(data, dtype='int32')",
        "F.cast(data, dtype='float16')", "F.FullyConnected(data, num_hidden=3, no_bias=True)", "F.one_hot(F.argmax(data, axis=1), depth=8)",
        "F.pick(data, F.argmin(data, axis=1))", "F.topk(data, k=2, ret_typ='mask')", "F.topk(data, k=2, ret_typ='both')", "F.topk(data)",
        "F.sort(data)", "F.argsort(data, is_ascend=False)", "F.argmax(data, axis=1)", "F.argmin(data, axis=1, keepdims=True)",
        "F.batch_take(data, F.cast(F.argmax(data, axis=1), dtype='int32'))", "F.clip(data, a_min=-0.3, a_max=0.4)",
        "F.smooth_l1(data, scalar=2)", "F.softmax(data, temperature=3)", "F.log_softmax(data)", "F.softmin(data)", "F.hard_sigmoid(data)",
        "F.norm(data, axis=1)", "F.norm(data)", "F.sum(data)", "F.mean(data, axis=1, keepdims=True)", "F.max(data, axis=-1)",
        "F.prod(data, axis=1)", "F.nansum(data, axis=1)", "F.min(data, exclude=True, axis=0)", "F.where(data > 0, data, -data)",
        "F.LayerNorm(data, eps=0.1)", "F.Dropout(data)", "F.identity(data)", "F.cumsum(data, axis=1)", "F.diag(F.dot(data, data, transpose_a=True))",
        "F.add_n(data, data * 2, data * 3)", "F.Concat(data, data * 2, dim=1)", "F.stack(data, data * 2, axis=1)", "F.SliceChannel(data, num_outputs=4)",
        "F.split(data, num_outputs=2, axis=1)[0]", "F.concat(data, F.zeros_like(data), F.ones_like(data), dim=1)", "F.tile(data, reps=(1, 3))",
        "F.repeat(data, repeats=2, axis=1)", "F.expand_dims(data, axis=1)", "F.squeeze(F.expand_dims(data, axis=0), axis=0)",
        "F.broadcast_like(F.slice_axis(data, axis=1, begin=0, end=1), data)", "F.gather_nd(data, F.ones(shape=(2, 3)))", "F.softsign(data)",
    ],
    SEQUENCE: [
        *(f"F.reshape(data, shape={codes})" for codes in (
            "(-1,)", "(0, -1)", "(0, 0, -1)", "(-1, 4)", "(0, -3)", "(-3, 0)", "(-2,)", "(0, -2)", "(0, -4, 1, 5, 0)", "(0, 0, -4, 2, -1)",
            "(0, 5, 2, 2)", "(-1, 10)", "(0, -4, -1, 5, -2)", "(0, 20)", "(-3, -2)", "(-2, 1)",
        )),
        *(f"F.reshape(data, shape={codes}, reverse=True)" for codes in ("(-1, 0)", "(-1, 0, 0)", "(-3, 0)")),
        "F.transpose(data)", "F.transpose(data, axes=(2, 0, 1))", "F.swapaxes(data, dim1=1, dim2=2)", "F.slice(data, begin=(0, 1), end=(None, 4))",
        "F.slice(data, begin=(None, None, 0), end=(None, None, 3), step=(1, 2, 2))", "F.slice(data, begin=(None, -1), end=(None, None), step=(None, -2))",
        "F.slice_axis(data, axis=-1, begin=-3, end=-1)", "F.reverse(data, axis=(1, 2))", "F.SequenceReverse(F.swapaxes(data, dim1=0, dim2=1))",
        "F.SequenceLast(data, axis=1)", "F.SequenceMask(data, axis=1)", "F.take(data, F.arange(3), axis=1)", "F.shape_array(data)", "F.size_array(data)",
        "F.FullyConnected(data, num_hidden=3, flatten=False)", "F.LayerNorm(data)", "F.softmax(data, axis=1)", "F.moments(data, axes=(1, 2))",
        "F.sum(data, axis=(0, 2))", "F.max(data, axis=1, exclude=True)", "F.batch_dot(data, data, transpose_b=True)", "F.linalg.gemm2(data, data, transpose_a=True)",
        "F.linalg.syrk(data)", "F.contrib.div_sqrt_dim(data)", "F.broadcast_add(data, F.contrib.arange_like(data, axis=1).reshape((1, -1, 1)))",
        "F.norm(data, ord=1, axis=1)", "F.norm(data, axis=(1, 2), keepdims=True)", "F.topk(data, axis=1, k=2, ret_typ='value')", "F.sort(data, axis=1)",
        "F.broadcast_axis(F.slice_axis(data, axis=1, begin=0, end=1), axis=1, size=5)", "F.split_v2(data, (2, 3), axis=1)", "F.expand_dims(data, axis=-1)",
        "F.contrib.interleaved_matmul_selfatt_qk(F.tile(data, reps=(1, 1, 3)), heads=2)", "F.squeeze(F.slice_axis(data, axis=1, begin=0, end=1))",
    ],
}  # fmt: skip

UNARY = (
    "relu sigmoid tanh exp abs sign negative floor ceil round rint trunc fix square erf sin cos tan arctan sinh cosh arcsinh"
    " softsign degrees radians expm1 cbrt reciprocal gamma gammaln logical_not zeros_like ones_like"
).split()
POSITIVE = "log log2 log10 log1p sqrt rsqrt rcbrt erfinv".split()
SCALARS = ["data + 2", "3 - data", "data * 0.5", "1 / data", "data / 3", "data % 2", "data ** 2", "data > 0.2", "data <= 0.2", "data == 0", "-data",
           "F.maximum(data, 0.3)", "F.minimum(data, 0.3)", "F.hypot(data, 2)", "F.abs(data) ** 0.5", "2 ** data"]  # fmt: skip


def operators() -> Iterator[Graph]:
    for dims, texts in SYMBOLS.items():
        for text in texts:
            yield Graph("symbol", text, (dims,))
    for name in UNARY:
        yield Graph("elementwise", f"F.{name}(data)", (ROWS,))
    for name in POSITIVE:
        yield Graph("elementwise", f"F.{name}(F.abs(data) * 0.3 + 0.05)", (ROWS,))
    for text in SCALARS:
        yield Graph("elementwise", text, (ROWS,))
    for (
        name
    ) in "add sub mul div maximum minimum hypot equal greater lesser_equal not_equal logical_and mod".split():
        yield Graph("elementwise", f"F.broadcast_{name}(data, other)", (SEQUENCE, (3, 1, 4)))
        yield Graph("elementwise", f"F.broadcast_{name}(data, other)", (ROWS, ROWS))


NUMPY = [
    "np_.sum(data, axis=1)", "np_.mean(data, axis=(1, 2), keepdims=True)", "np_.max(data, axis=-1)", "np_.std(data, axis=1)", "np_.var(data, axis=2, ddof=1)",
    "np_.prod(data, axis=1)", "np_.argmax(data, axis=1)", "np_.cumsum(data, axis=1)", "np_.tanh(data)", "np_.exp(data) + 1", "np_.abs(data) ** 0.5",
    "np_.where(data > 0, data, data * 0.1)", "np_.maximum(data, 0)", "np_.clip(data, -0.5, 0.5)", "np_.concatenate([data, data * 2], axis=1)",
    "np_.stack([data, data], axis=1)", "np_.split(data, 2, axis=2)", "np_.expand_dims(data, 1)", "np_.squeeze(np_.expand_dims(data, 2), axis=2)",
    "np_.transpose(data, (0, 2, 1))", "np_.swapaxes(data, 1, 2)", "np_.reshape(data, (-1, 20))", "data.reshape(-1, 4)", "np_.tile(data, (1, 2, 1))",
    "np_.repeat(data, 2, axis=1)", "np_.flip(data, 1)", "np_.roll(data, 1, axis=1)", "np_.broadcast_to(np_.ones((1, 5, 1)), (3, 5, 1)) * 2 + 0 * data.sum()",
    "np_.matmul(data, np_.transpose(data, (0, 2, 1)))", "np_.einsum('bij,bkj->bik', data, data)", "np_.dot(data, np_.ones((4, 2)))",
    "np_.tensordot(data, np_.ones((4, 2)), axes=1)", "np_.linspace(0, 1, 4) + data", "np_.arange(4) * data", "np_.zeros((1, 4)) + data",
    "np_.full((1, 4), 3.0) * data", "np_.eye(4) + data[:, :4]", "np_.tril(data)", "np_.diff(data, axis=1)", "np_.isnan(np_.log(data))",
    "np_.around(data, 1)", "np_.arctan2(data, 0.3)", "np_.hypot(data, 1)", "np_.logical_not(data > 0)", "np_.square(data) / 3", "1 / (np_.abs(data) + 1)",
    "data[:, 1:4]", "data[:, 0]", "data[:, ::2, 1:]", "npx_.relu(data)", "npx_.sigmoid(data)", "npx_.softmax(data, axis=1)", "npx_.log_softmax(data)",
    "npx_.leaky_relu(data, act_type='elu')", "npx_.topk(data, k=2, axis=1)", "npx_.one_hot(np_.argmax(data, axis=1), 5)", "npx_.pick(data, np_.argmax(data, axis=2))",
    "npx_.batch_flatten(data)", "npx_.fully_connected(data, var('w').as_np_ndarray(), var('b').as_np_ndarray(), num_hidden=3, flatten=False)",
    "npx_.layer_norm(data, var('n_gamma').as_np_ndarray(), var('n_beta').as_np_ndarray())", "npx_.arange_like(data, axis=1)", "npx_.gamma(np_.abs(data) + 1)",
    "npx_.erf(data)", "npx_.reshape(data, (-2, -5))", "npx_.batch_dot(data, data, transpose_b=True)", "npx_.sequence_mask(data, axis=1)", "np_.percentile(data, 30, axis=1)",
]  # fmt: skip


def numpy_code() -> Iterator[Graph]:
    for text in NUMPY:
        yield Graph("numpy", text, (SEQUENCE,), "numpy")


GRAPHS = [
    *convolutions(), *poolings(), *recurrent_operators(), *recurrent_layers(), *layers(), *operators(), *numpy_code(),
]  # fmt: skip
