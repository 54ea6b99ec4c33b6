"""Rows of operators that own weights or kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import padding
from netferry.converters.mxnet.symbol import Attrs
from netferry.converters.mxnet.to_onnx.emitter import (
    FLOAT32,
    ROWS,
    Emitter,
    cast,
    few,
    known,
    moved,
    per_channel,
    positive,
    reshape,
    shape_tensor,
    size_of,
    sized_like,
)

_FLOAT16 = np.dtype(np.float16)
_CHANNELS_FIRST = "None NCW NCHW NCDHW"


def _channels_first(a: Attrs) -> None:
    a.word("layout", "None", among=_CHANNELS_FIRST)


def _per_axis(a: Attrs, name: str, default: int, count: int) -> list[int]:
    """One number per spatial axis (MXNet takes more, and ignores them); by default the same everywhere."""
    return list(a.integers(name, ()) or (default,) * count)[:count]


# ---- convolutions and dense layers ---------------------------------------------------------------


@ROWS.row("Convolution")
def convolution(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (batch, channels, *space); weight: (filters, channels / groups, *kernel)."""
    _channels_first(a)
    kernel = list(a.integers("kernel"))
    return g.Conv(
        x,
        weight,
        None if a.flag("no_bias", False) else bias,
        kernel_shape=kernel,
        strides=_per_axis(a, "stride", 1, len(kernel)),
        dilations=_per_axis(a, "dilate", 1, len(kernel)),
        pads=padding.symmetric(_per_axis(a, "pad", 0, len(kernel))),
        group=a.integer("num_group", 1),
    )


@ROWS.row("Deconvolution")
def deconvolution(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (batch, channels, *space); weight: (channels, filters / groups, *kernel)."""
    _channels_first(a)
    if any(a.integers("target_shape", ())):
        raise CannotConvert("target_shape is not carried", "Say pad and adj instead")
    kernel = list(a.integers("kernel"))
    adj = _per_axis(a, "adj", 0, len(kernel))
    return g.ConvTranspose(
        x,
        weight,
        None if a.flag("no_bias", True) else bias,
        kernel_shape=kernel,
        strides=_per_axis(a, "stride", 1, len(kernel)),
        dilations=_per_axis(a, "dilate", 1, len(kernel)),
        pads=padding.symmetric(_per_axis(a, "pad", 0, len(kernel))),
        output_padding=adj if any(adj) else None,
        group=a.integer("num_group", 1),
    )


@ROWS.row("FullyConnected")
def fully_connected(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (batch, ...) flattened, or (..., units); weight: (hidden, units)."""
    flatten = a.flag("flatten", True)
    if a.flag("no_bias", False):
        bias = None
    if flatten and x.rank > 2 and not isinstance(size_of(x, *range(1, x.rank)), int):
        g.demands.append((g.place, weight.size(1)))
    if flatten or x.rank == 2:
        return g.Gemm(x if x.rank == 2 else g.Flatten(x, axis=1), weight, bias, transB=1)
    y = g.MatMul(x, g.transpose(weight, (1, 0)))
    return y if bias is None else g.Add(y, bias)


@ROWS.row("Embedding", "_contrib_SparseEmbedding")
def embedding(g: Emitter, a: Attrs, indices: Tensor, weight: Tensor) -> Tensor:
    """An index outside of the table takes its first or last row, as in MXNet."""
    last = g.constant(weight.size(0) - 1, np.int64)
    return g.Gather(weight, g.Clip(cast(g, indices, np.int64), g.constant(0, np.int64), last), axis=0)


# ---- activations with parameters -----------------------------------------------------------------

_ACTIVATIONS = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign",
}  # fmt: skip


@ROWS.row("Activation")
def activation(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.op(_ACTIVATIONS[a.word("act_type", among=" ".join(_ACTIVATIONS))], x)


@ROWS.row("LeakyReLU")
def leaky_relu(g: Emitter, a: Attrs, x: Tensor, gamma: Tensor | None = None) -> Tensor:
    kind = a.word("act_type", "leaky", among="leaky elu selu gelu prelu rrelu")
    if kind == "leaky":
        return g.LeakyRelu(x, alpha=a.number("slope", 0.25))
    if kind == "elu":
        return g.Elu(x, alpha=a.number("slope", 0.25))
    if kind == "rrelu":  # outside of training the random slope is its mean
        return g.LeakyRelu(x, alpha=(a.number("lower_bound", 0.125) + a.number("upper_bound", 0.334)) / 2)
    if kind == "prelu":
        if gamma is None:
            raise CannotConvert("a prelu without its slopes")
        return g.PRelu(x, per_channel(g, gamma, x.rank))
    return g.Selu(x) if kind == "selu" else g.Gelu(x)


# ---- normalizations ------------------------------------------------------------------------------


@ROWS.row("BatchNorm", "_contrib_SyncBatchNorm")
def batch_norm(
    g: Emitter, a: Attrs, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """x: the channels on ``axis``. With fix_gamma, MXNet's default, gamma counts as ones."""
    axis = positive(a.integer("axis", 1), x.rank)
    if a.flag("fix_gamma", True):
        ones = np.ones_like(known(gamma, "gamma, which fix_gamma sets to one,"))
        gamma = g.constant(ones, name=gamma.name)
    order = moved(x.rank, axis, 1)
    y = g.BatchNormalization(
        g.transpose(x, order),
        gamma,
        beta,
        mean,
        variance,
        epsilon=a.number("eps", 1e-3),
        momentum=a.number("momentum", 0.9),
    )
    return g.transpose(y, moved(x.rank, 1, axis))


@ROWS.row("_contrib_BatchNormWithReLU")
def batch_norm_with_relu(g: Emitter, a: Attrs, x: Tensor, *statistics: Tensor) -> Tensor:
    return g.Relu(batch_norm(g, a, x, *statistics))


@ROWS.row("LayerNorm")
def layer_norm(g: Emitter, a: Attrs, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Over one axis; ONNX normalises the last."""
    axis, last = positive(a.integer("axis", -1), x.rank), x.rank - 1
    y = g.LayerNormalization(
        g.transpose(x, moved(x.rank, axis, last)), gamma, beta, epsilon=a.number("eps", 1e-5)
    )
    return g.transpose(y, moved(x.rank, last, axis))


@ROWS.row("GroupNorm")
def group_norm(g: Emitter, a: Attrs, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """x: (batch, channels, *space). MXNet 1 has one gamma and beta per group, MXNet 2 one per channel."""
    groups = a.integer("num_groups", 1)

    def spread(v: Tensor) -> Tensor:
        if v.size(0) == x.size(1):
            return v
        return g.constant(np.repeat(known(v, "scale per group"), x.size(1) // groups), name=v.name)

    y = g.GroupNormalization(x, spread(gamma), spread(beta), num_groups=groups, epsilon=a.number("eps", 1e-5))
    return sized_like(y, x)


@ROWS.row("InstanceNorm")
def instance_norm(g: Emitter, a: Attrs, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return g.InstanceNormalization(x, gamma, beta, epsilon=a.number("eps", 1e-3))


@ROWS.row("L2Normalization")
def l2_normalization(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x / sqrt(sum(x^2) + eps) over all but the batch, over the channels, or over space."""
    mode = a.word("mode", "instance", among="instance channel spatial")
    over = {"instance": range(1, x.rank), "channel": range(1, 2), "spatial": range(2, x.rank)}[mode]
    energy = g.ReduceSumSquare(x, g.ints(*over), keepdims=1)
    return g.Div(x, g.Sqrt(g.Add(energy, g.scalar(a.number("eps", 1e-10), x))))


@ROWS.row("LRN")
def lrn(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    size = a.integer("nsize")
    if size % 2 == 0:
        raise CannotConvert(f"nsize={size} is even")
    alpha, beta = a.number("alpha", 1e-4), a.number("beta", 0.75)
    if alpha <= 0 or beta <= 0:
        raise CannotConvert(f"alpha={alpha}, beta={beta}")
    return g.LRN(
        x,
        size=size,
        alpha=alpha,
        beta=beta,
        bias=a.number("knorm", 2.0),
    )


@ROWS.row("Dropout")
def dropout(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    a.word("mode", "training", among="training")
    return x


# ---- pooling -------------------------------------------------------------------------------------

_GLOBAL = {"max": "GlobalMaxPool", "avg": "GlobalAveragePool", "lp": "GlobalLpPool"}


@ROWS.row("Pooling")
def pooling(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (batch, channels, *space)."""
    _channels_first(a)
    if x.dtype.kind != "f":
        raise CannotConvert(f"pooling over {x.dtype.name}")
    kind = a.word("pool_type", "max", among="max avg sum lp")
    order = a.maybe_integer("p_value")
    whole = a.flag("count_include_pad", True)
    if a.flag("global_pool", False):
        a.ignore("kernel", "stride", "pad", "pooling_convention")
        return _global_pool(g, x, kind, order)
    kernel = list(a.integers("kernel"))
    windows = _Windows(x, a, kernel)
    common = {"kernel_shape": kernel, "strides": windows.strides, "ceil_mode": windows.ceil or None}
    if windows.ceil and (kind in ("sum", "lp") or (kind == "avg" and whole)):
        raise windows.unsized()
    if kind == "max":
        lowest = float(np.finfo(x.dtype).min)
        x, pads = windows.padded(g, x, lowest)
        return windows.completed(g, g.MaxPool(x, **common, pads=pads), lowest)
    if kind == "avg" and not whole:
        return g.AveragePool(x, **common, pads=windows.inside(), count_include_pad=0)
    x, pads = windows.padded(g, x, _zero(x))
    if kind == "lp":
        return windows.completed(g, g.LpPool(x, **common, pads=pads, p=order), 0.0)
    y = g.AveragePool(x, **common, pads=pads, count_include_pad=1)
    if kind == "sum":
        y = g.Mul(y, g.scalar(math.prod(kernel), x))
    elif windows.uneven:
        y = g.Mul(y, g.constant(windows.shares(), x.dtype))
    return windows.completed(g, y, 0.0)


def _global_pool(g: Emitter, x: Tensor, kind: str, order: int | None) -> Tensor:
    if kind == "sum":
        return g.ReduceSum(x, g.ints(*range(2, x.rank)), keepdims=1)
    return g.op(_GLOBAL[kind], x, p=order if kind == "lp" else None)


@ROWS.row("Pooling_v1")
def pooling_v1(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """The retired pooling: its pad is of zeros, for maxima too, and its means are over the whole kernel."""
    kind = a.word("pool_type", "max", among="max avg sum")
    if a.flag("global_pool", False):
        a.ignore("kernel", "stride", "pad", "pooling_convention")
        return _global_pool(g, x, kind, None)
    kernel = list(a.integers("kernel"))
    pad, strides = _per_axis(a, "pad", 0, len(kernel)), _per_axis(a, "stride", 1, len(kernel))
    if any(pad):
        x = g.Pad(x, g.ints(0, 0, *pad, 0, 0, *pad), g.scalar(_zero(x), x))
    if a.word("pooling_convention", "valid", among="valid full") == "full":
        beyond = [_overhang(x.size(i + 2), kernel[i], strides[i]) for i in range(len(kernel))]
        fill = -math.inf if kind == "max" else _zero(x)
        if any(beyond):
            x = g.Pad(x, g.ints(*[0] * (x.rank + 2), *beyond), g.scalar(fill, x))
    if kind == "max":
        return g.MaxPool(x, kernel_shape=kernel, strides=strides)
    mean = g.AveragePool(x, kernel_shape=kernel, strides=strides)
    return g.Mul(mean, g.scalar(math.prod(kernel), x)) if kind == "sum" else mean


def _zero(x: Tensor) -> float:
    """A zero that is none: onnxruntime fuses a Pad of zeros into the pooling behind it, and then counts wrong."""
    return float(np.finfo(x.dtype).tiny)


def _overhang(size: int, kernel: int, stride: int) -> int:
    """How far the last window reaches beyond an axis, if all of it is covered."""
    return max(-(-(size - kernel) // stride) * stride + kernel - size, 0)


class _Windows:
    """Where the windows of a pooling lie, per spatial axis, in explicit pads.

    ``full`` rounds the number of windows up and has no rule against a last window that starts in the
    padding, as ONNX's ceil_mode has; ``same`` counts one window per stride. Both become a longer end
    pad, where sizes are known; where they are not, ``full`` becomes ceil_mode if its rule can never tell
    (stride + pad <= kernel). MXNet's mean counts only the ``pad`` of that, so that windows which reach
    beyond it need a correction (``shares``).
    """

    def __init__(self, x: Tensor, a: Attrs, kernel: Sequence[int]) -> None:
        count = len(kernel)
        if x.rank != count + 2:
            raise CannotConvert(f"a kernel of {count} axes over an input of {x.rank}")
        self.kernel = list(kernel)
        self.strides = _per_axis(a, "stride", 1, count)
        self.begin = _per_axis(a, "pad", 0, count)
        self.end = list(self.begin)
        self.empty = [0] * count
        self.convention = a.word("pooling_convention", "valid", among="valid full same")
        self.sizes: list[int] = []
        self.counts: list[int] = []
        self.ceil = False
        if self.convention != "valid":
            self._lengthen(x)

    def _lengthen(self, x: Tensor) -> None:
        for axis, (kernel, stride, pad) in enumerate(zip(self.kernel, self.strides, self.begin, strict=True)):
            dim = x.dims[axis + 2] if x.dims is not None else None
            if not isinstance(dim, int):
                if self.convention == "same" or stride + pad > kernel:
                    raise self.unsized()
                self.ceil = True
                continue
            whole = dim + 2 * pad
            count = -(-whole // stride) if self.convention == "same" else 1 - (-(whole - kernel) // stride)
            inside = min(count, -(-(dim + pad) // stride))
            self.empty[axis] = count - inside
            self.sizes.append(dim)
            self.counts.append(inside)
            self.end[axis] = max((inside - 1) * stride + kernel - dim - pad, 0)

    def completed(self, g: Emitter, y: Tensor, value: float) -> Tensor:
        """The result with its windows that lie wholly behind the input, which onnxruntime does not take."""
        if not any(self.empty):
            return y
        return g.Pad(y, g.ints(*[0] * (y.rank + 2), *self.empty), g.scalar(value, y))

    def unsized(self) -> CannotConvert:
        return CannotConvert(
            f"the '{self.convention}' pooling convention over an axis whose size is not known",
            "Say the input's sizes with --input name:1,3,224,224",
        )

    @property
    def pads(self) -> list[int]:
        return self.begin + self.end

    @property
    def uneven(self) -> bool:
        return self.begin != self.end

    def inside(self) -> list[int]:
        """The pads, where each window holds at least one element of the input."""
        if any(self.empty) or any(pad >= size for pad, size in zip(self.pads, self.kernel * 2, strict=True)):
            raise CannotConvert("its last window lies wholly in the padding")
        return self.pads

    def padded(self, g: Emitter, x: Tensor, value: float) -> tuple[Tensor, list[int]]:
        """The input and the pads for it; written out where a window lies wholly in the padding."""
        if all(pad < kernel for pad, kernel in zip(self.pads, self.kernel * 2, strict=True)):
            return x, self.pads
        around = [0, 0, *self.begin, 0, 0, *self.end]
        return g.Pad(x, g.ints(*around), g.scalar(value, x)), [0] * len(self.pads)

    def shares(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """By how much the mean over the whole window understates MXNet's: (1, 1, *windows)."""
        few(math.prod(self.counts))
        shares = np.ones((1, 1, *self.counts))
        for axis, kernel in enumerate(self.kernel):
            starts = np.arange(self.counts[axis]) * self.strides[axis] - self.begin[axis]
            ends = np.minimum(starts + kernel, self.sizes[axis] + self.begin[axis])
            form = [1] * shares.ndim
            form[axis + 2] = -1
            shares = shares * (kernel / (ends - starts)).reshape(form)
        return shares


# ---- heads ---------------------------------------------------------------------------------------


@ROWS.row("SoftmaxActivation")
def softmax_activation(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Over the last axis, whatever its name says, or over the channels."""
    return g.Softmax(x, axis=1 if a.word("mode", "instance", among="instance channel") == "channel" else -1)


@ROWS.row("SoftmaxOutput")
def softmax_output(g: Emitter, a: Attrs, x: Tensor, label: Tensor | None = None) -> Tensor:
    """A loss in training, a softmax in inference; the label falls away.

    Over the channels, over the last axis, or over all but the batch at once.
    """
    several, keep = a.flag("multi_output", False), a.flag("preserve_shape", False)
    if x.rank == 4 and not several and not keep:
        raise CannotConvert(
            "a softmax that MXNet's builds take over other axes each", "Say multi_output or preserve_shape"
        )
    if several or keep or x.rank == 2:
        return g.Softmax(x, axis=1 if several else -1)
    flat = g.Softmax(g.Flatten(x, axis=1), axis=1)
    sizes = [size_of(x, axis) for axis in range(x.rank)]
    if all(isinstance(size, int) for size in sizes[1:]):
        return reshape(g, flat, [-1, *sizes[1:]])
    return g.Reshape(flat, shape_tensor(g, x, sizes))


@ROWS.row("LogisticRegressionOutput")
def logistic_output(g: Emitter, a: Attrs, x: Tensor, label: Tensor | None = None) -> Tensor:
    return g.Sigmoid(x)


@ROWS.row("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput", "MakeLoss", "make_loss", "BlockGrad")
def as_it_is(g: Emitter, a: Attrs, x: Tensor, label: Tensor | None = None) -> Tensor:
    """What only training sees."""
    return x


@ROWS.row("_copy", "_identity_with_attr_like_rhs", "IdentityAttachKLSparseReg")
def copy(g: Emitter, a: Attrs, x: Tensor, like: Tensor | None = None) -> Tensor:
    return x


@ROWS.row("_contrib_gradientmultiplier", "cast_storage")
def as_it_is_in_inference(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    a.ignore("scalar", "stype")
    return x


@ROWS.row("amp_multicast")
def amp_multicast(g: Emitter, a: Attrs, *inputs: Tensor) -> list[Tensor]:
    """All inputs, halves and singles, in the wider or the narrower of the two."""
    if not {x.dtype for x in inputs} <= {FLOAT32, _FLOAT16}:
        raise CannotConvert("inputs other than float16 and float32")
    choose = min if a.flag("cast_narrow", False) else max
    dtype = choose((x.dtype for x in inputs), key=lambda dtype: dtype.itemsize, default=FLOAT32)
    return [cast(g, x, dtype) for x in inputs]
