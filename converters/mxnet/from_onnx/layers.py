"""Rows of ONNX operators that own weights or kernels, as MXNet's own layers: the way in.

(``layers.py`` is the way out.) Where a layer does not fit, the shared row of ``graph/ops.py`` says the operator
in MXNet's words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size, known, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops import OPS
from netferry.converters.graph.registry import Table
from netferry.converters.graph.schema import padding
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.padding import Windows
from netferry.converters.mxnet.from_onnx.writer import FLOAT32
from netferry.converters.signature import Array

Row = Callable[..., Any]
NATIVE: Table[str, Row] = Table("MXNet's native layers")

COMPUTED = frozenset([np.dtype("f4"), np.dtype("f8")])
"""What MXNet's kernels compute with on a CPU."""


def weight(
    xp: MxnetNamespace, w: Symbol, change: Callable[[Array], Array] | None = None, *, fresh: bool = False
) -> Symbol:
    """A weight as a parameter under the source's name, changed at build time where the layer wants another form."""
    content = w.content
    if content is None:
        raise CannotConvert("its weight is not a constant")
    if not w.fact.trainable:
        return xp.constant(np.ascontiguousarray(change(content) if change else content), w.fact.name)
    made = np.ascontiguousarray(change(content) if change else content)
    return xp.parameter(made, w.fact.name, source=w.fact.name, fresh=fresh)


def _computed(*xs: Symbol | None) -> bool:
    return all(x is None or x.dtype in COMPUTED for x in xs)


def _shared(operator: str) -> Row:
    row = OPS.get(operator)
    if row is None:
        raise CannotConvert(f"this form of {operator} is not one of MXNet's layers")
    return row


# ---- convolutions and dense layers -----------------------------------------------------------------


@NATIVE.row("Conv")
def conv(
    xp: MxnetNamespace,
    x: Symbol,
    w: Symbol,
    b: Symbol | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Symbol:
    """x: (batch, channels, *space); w: (filters, channels / group, *kernel), as MXNet has it."""
    demand_floats(xp, x)
    kernel = tuple(kernel_shape or ()) or tuple(w.size(axis) for axis in range(2, w.ndim))
    windows = Windows(x, kernel, strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad)
    filters = w.size(0)
    dims = (x.shape[0], filters, *windows.outputs())
    if not windows.even:
        x = windows.pad(xp, x, 0.0)
    return xp.apply(
        "Convolution",
        *(part for part in (x, w, b) if part is not None),
        dims=dims,
        **windows.attributes(dilate=True, pad=windows.even),
        num_filter=filters,
        num_group=group if group != 1 else None,
        no_bias=True if b is None else None,
    )


@NATIVE.row("ConvTranspose")
def conv_transpose(
    xp: MxnetNamespace,
    x: Symbol,
    w: Symbol,
    b: Symbol | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Symbol:
    """x: (batch, channels, *space); w: (channels, filters / group, *kernel), as MXNet has it.

    Uneven pads are cut off afterwards.
    """
    demand_floats(xp, x)
    kernel = tuple(kernel_shape or ()) or tuple(w.size(axis) for axis in range(2, w.ndim))
    windows = Windows(x, kernel, strides=strides, dilations=dilations, pads=pads, auto_pad="NOTSET")
    extra = tuple(output_padding or (0,) * len(kernel))
    begin, end, extra = _transposed_pads(windows, extra, output_shape, auto_pad)
    whole = tuple(
        (s - 1) * t + span for s, t, span in zip(windows.sizes, windows.strides, windows.spans, strict=True)
    )
    filters = w.size(1) * group
    fits = begin == end and all(add < stride for add, stride in zip(extra, windows.strides, strict=True))
    pad, adj = (begin, extra) if fits else ((0,) * len(kernel), (0,) * len(kernel))
    made = tuple(size + add - 2 * p for size, add, p in zip(whole, adj, pad, strict=True))
    y = xp.apply(
        "Deconvolution",
        *(part for part in (x, w, b) if part is not None),
        dims=(x.shape[0], filters, *made),
        **windows.attributes(dilate=True, pad=False),
        pad=tuple(pad) if any(pad) else None,
        adj=tuple(adj) if any(adj) else None,
        num_filter=filters,
        num_group=group if group != 1 else None,
        no_bias=b is None,
    )
    if fits:
        return y
    cuts = tuple(e - add for e, add in zip(end, extra, strict=True))
    if any(cut < 0 for cut in (*begin, *cuts)) or not known(made):
        raise CannotConvert("a transposed convolution whose output is longer than what it computes")
    places = {axis + 2: (s, n - e, 1) for axis, (s, e, n) in enumerate(zip(begin, cuts, made, strict=True))}
    return xp.slice(y, places)


def _transposed_pads(
    windows: Windows, extra: Sequence[int], output_shape: Sequence[int] | None, auto_pad: str
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """What is cut off at each end, and what is added (ONNX's ConvTranspose: output_shape and auto_pad say the total)."""
    if auto_pad not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise CannotConvert(f"auto_pad={auto_pad!r}")
    if auto_pad == "VALID" and not output_shape:
        return (0,) * len(windows.kernel), (0,) * len(windows.kernel), tuple(extra)
    if not output_shape and not auto_pad.startswith("SAME"):
        return tuple(windows.begin), tuple(windows.end), tuple(extra)
    if not known(windows.sizes):
        raise CannotConvert("output sizes of a transposed convolution over axes whose sizes are not known")
    totals = padding.excess(auto_pad, output_shape, windows.sizes, windows.spans, windows.strides, extra)
    assert totals is not None
    begin, end = zip(*(padding.halves(auto_pad, max(total, 0)) for total in totals), strict=True)
    return begin, end, tuple(add + max(-total, 0) for add, total in zip(extra, totals, strict=True))


def demand_floats(xp: MxnetNamespace, x: Symbol) -> None:
    if x.dtype not in COMPUTED:
        raise CannotConvert(f"MXNet has no {xp.node.op_type} for {x.dtype.name}")


@NATIVE.row("Linear")
def linear(xp: MxnetNamespace, x: Symbol, w: Symbol, b: Symbol | None = None) -> Symbol:
    """x: (..., in); w: (in, out), which MXNet wants transposed."""
    if x.ndim < 2 or not _computed(x):
        y = xp.matmul(x, w)
        return y if b is None else xp.add(y, b)
    units = w.size(1)
    turned = weight(xp, w, np.transpose) if w.content is not None else xp.permute_dims(w, (1, 0))
    return xp.apply(
        "FullyConnected",
        *(part for part in (x, turned, b) if part is not None),
        dims=(*x.shape[:-1], units),
        num_hidden=units,
        no_bias=True if b is None else None,
        flatten=False if x.ndim > 2 else None,
    )


@NATIVE.row("Gather")
def gather(xp: MxnetNamespace, x: Symbol, indices: Any, *, axis: int = 0) -> Symbol:
    """A table of vectors is an Embedding; any other a ``take``."""
    axis = axis % x.ndim
    table = (
        x.content is not None and x.fact.trainable and x.ndim == 2 and axis == 0 and indices.content is None
    )
    if not table or not indices.ndim:
        return xp.take(x, indices, axis)
    rows, width = x.size(0), x.size(1)
    if not _clipped(xp, rows):
        indices = xp.modulo_size(indices, rows)  # MXNet clips where ONNX counts from the end
    dims = (*indices.shape, width)
    return xp.apply(
        "Embedding",
        indices,
        weight(xp, x),
        gives=x.dtype,
        dims=dims,
        input_dim=rows,
        output_dim=width,
        dtype=x.dtype,
    )


def _clipped(xp: MxnetNamespace, rows: int) -> bool:
    """Whether the indices come out of a Clip to the table's rows, as MXNet's own Embedding leaves them."""
    source = xp.node.inputs[1]
    clip = None if source is None else source.producer()
    if clip is None or clip.op_type != "Clip" or len(clip.inputs) != 3:
        return False
    bounds = [None if bound is None else xp.plan.fact(bound).constant for bound in clip.inputs[1:]]
    return all(bound is not None for bound in bounds) and [int(b) for b in bounds if b is not None] == [
        0,
        rows - 1,
    ]


# ---- normalizations --------------------------------------------------------------------------------


@NATIVE.row("BatchNormalization")
def batch_normalization(
    xp: MxnetNamespace,
    x: Symbol,
    scale: Symbol,
    b: Symbol,
    mean: Symbol,
    var: Symbol,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Any:
    """x: (batch, channels, ...). The statistics become auxiliary states, which training moves."""
    if training_mode:
        raise CannotConvert(
            "training_mode=1: the statistics of the batch as outputs", "Export it in inference mode"
        )
    parts = (scale, b, mean, var)
    fits = (
        _computed(x, *parts)
        and x.ndim >= 2
        and all(part.content is not None and part.fact.trainable for part in parts)
    )
    if not fits or len({x.dtype, *(part.dtype for part in parts)}) > 1:
        return _shared("BatchNormalization")(
            xp, x, *parts, epsilon=epsilon, momentum=momentum, training_mode=0
        )
    gamma, beta = weight(xp, scale, fresh=True), weight(xp, b, fresh=True)
    states = [weight(xp, part, fresh=True) for part in (mean, var)]
    xp.states.update(xp.nodes[state.expr[0]].name for state in states)
    return xp.apply(
        "BatchNorm", x, gamma, beta, *states, dims=x.shape, eps=epsilon, momentum=momentum, fix_gamma=False
    )


@NATIVE.row("LayerNormalization")
def layer_normalization(
    xp: MxnetNamespace,
    x: Symbol,
    scale: Symbol,
    b: Symbol | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Any:
    last = axis in (-1, x.ndim - 1) and scale.ndim == 1 and not isinstance(x.shape[-1], Size)
    if not last or scale.shape != x.shape[-1:] or not _computed(x, scale, b) or xp.wanted(1) or xp.wanted(2):
        return _shared("LayerNormalization")(
            xp, x, scale, b, axis=axis, epsilon=epsilon, stash_type=stash_type
        )
    beta = b if b is not None else xp.full(scale.shape, 0, x.dtype)
    return xp.apply("LayerNorm", x, scale, beta, dims=x.shape, axis=-1, eps=epsilon)


@NATIVE.row("InstanceNormalization")
def instance_normalization(
    xp: MxnetNamespace, x: Symbol, scale: Symbol, b: Symbol, *, epsilon: float = 1e-5
) -> Any:
    demand_floats(xp, x)
    return xp.apply("InstanceNorm", x, scale, b, dims=x.shape, eps=epsilon)


@NATIVE.row("GroupNormalization")
def group_normalization(
    xp: MxnetNamespace,
    x: Symbol,
    scale: Symbol,
    bias: Symbol,
    *,
    epsilon: float = 1e-5,
    num_groups: int,
    stash_type: int = 1,
) -> Any:
    """MXNet 1 scales each group, ONNX each channel: after the layer, unless a group has one scale throughout."""
    demand_floats(xp, x)
    channels = x.size(1)

    def normalized(gamma: Symbol, beta: Symbol) -> Symbol:
        return xp.apply("GroupNorm", x, gamma, beta, dims=x.shape, num_groups=num_groups, eps=epsilon)

    if all(_per_group(part, num_groups) for part in (scale, bias)):
        first = lambda content: content.reshape(num_groups, -1)[:, 0]  # noqa: E731
        return normalized(weight(xp, scale, first), weight(xp, bias, first))
    ones, zeros = (xp.full((num_groups,), value, x.dtype) for value in (1, 0))
    spread = (1, channels, *(1 for _ in x.shape[2:]))
    return xp.add(xp.multiply(normalized(ones, zeros), xp.reshape(scale, spread)), xp.reshape(bias, spread))


def _per_group(part: Symbol, groups: int) -> bool:
    if part.content is None or not part.fact.trainable:
        return False
    rows = part.content.reshape(groups, -1)
    return rows.shape[1] > 1 and bool(np.all(rows == rows[:, :1]))


@NATIVE.row("LRN")
def lrn(
    xp: MxnetNamespace, x: Symbol, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Any:
    if size % 2 == 0 or x.dtype != FLOAT32 or x.ndim != 4:
        raise CannotConvert(f"LRN with size={size} over {x.dtype.name} of {x.ndim} axes")
    return xp.apply("LRN", x, dims=x.shape, nsize=size, alpha=alpha, beta=beta, knorm=bias)


@NATIVE.row("Dropout")
def dropout(
    xp: MxnetNamespace,
    x: Symbol,
    ratio: Symbol | None = None,
    training_mode: Symbol | None = None,
    *,
    seed: int = 0,
) -> Any:
    """In inference as it is; gluon's training mode drops."""
    if training_mode is not None and (training_mode.content is None or bool(training_mode.content.any())):
        raise CannotConvert("a dropout that also drops in inference")
    if xp.wanted(1):
        return x, xp.full(x.shape, 1, np.dtype(bool)) if known(x.shape) else xp.equal(x, x)
    rate = 0.5 if ratio is None else None if ratio.content is None else float(str(ratio.content.item()))
    if rate is None or x.dtype not in COMPUTED or not 0 <= rate < 1:
        return x
    return xp.apply("Dropout", x, dims=x.shape, p=rate)


# ---- activations -----------------------------------------------------------------------------------

_ACTIVATIONS = {
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Softsign": "softsign",
}  # fmt: skip
"""Not softrelu, which MXNet computes to 1e-6 alone."""


@NATIVE.row("Relu")
def relu(xp: MxnetNamespace, x: Symbol) -> Any:
    """``relu`` keeps NaN where ``Activation`` drops it."""
    return xp.apply("relu", x, dims=x.fact.dims) if x.dtype in COMPUTED else _shared("Relu")(xp, x)


def _activation(operator: str, kind: str) -> Row:
    def row(xp: MxnetNamespace, x: Symbol) -> Symbol:
        if x.dtype not in COMPUTED:
            return _shared(operator)(xp, x)  # type: ignore[no-any-return]
        return xp.apply("Activation", x, dims=x.fact.dims, act_type=kind)

    return row


for _operator, _kind in _ACTIVATIONS.items():
    NATIVE.row(_operator)(_activation(_operator, _kind))


# Their attributes, and gelu's erf, are float32 whatever they compute with.


def _leaky(xp: MxnetNamespace, x: Symbol, kind: str, **attrs: Any) -> Symbol:
    return xp.apply("LeakyReLU", x, dims=x.fact.dims, act_type=kind, **attrs)


@NATIVE.row("LeakyRelu")
def leaky_relu(xp: MxnetNamespace, x: Symbol, *, alpha: float = 0.01) -> Any:
    return (
        _leaky(xp, x, "leaky", slope=alpha)
        if x.dtype == FLOAT32
        else _shared("LeakyRelu")(xp, x, alpha=alpha)
    )


@NATIVE.row("Elu")
def elu(xp: MxnetNamespace, x: Symbol, *, alpha: float = 1.0) -> Any:
    return _leaky(xp, x, "elu", slope=alpha) if x.dtype == FLOAT32 else _shared("Elu")(xp, x, alpha=alpha)


_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


@NATIVE.row("Selu")
def selu(xp: MxnetNamespace, x: Symbol, *, alpha: float = _SELU[0], gamma: float = _SELU[1]) -> Any:
    usual = np.allclose((alpha, gamma), _SELU, rtol=1e-7, atol=0)
    return (
        _leaky(xp, x, "selu") if usual and _computed(x) else _shared("Selu")(xp, x, alpha=alpha, gamma=gamma)
    )


@NATIVE.row("Gelu")
def gelu(xp: MxnetNamespace, x: Symbol, *, approximate: str = "none") -> Any:
    """MXNet's is the erf form."""
    if approximate == "none" and x.dtype == FLOAT32:
        return _leaky(xp, x, "gelu")
    return _shared("Gelu")(xp, x, approximate=approximate)


@NATIVE.row("PRelu")
def prelu(xp: MxnetNamespace, x: Symbol, slope: Symbol) -> Any:
    """One slope for each channel is a layer; any other form is said in words."""
    dims = slope.shape
    channels = x.shape[1] if x.ndim > 1 else None
    place = len(dims) - (x.ndim - 1)
    per_channel = 0 <= place < len(dims) and dims[place] == channels and product(dims) == channels
    per_channel |= dims == (channels,) != x.shape[-1:]  # as before opset 7
    if slope.content is None or not slope.fact.trainable or not per_channel or not _computed(x, slope):
        return _shared("PRelu")(xp, x, slope)
    gamma = weight(xp, slope, np.ravel)
    return xp.apply("LeakyReLU", x, gamma, dims=x.shape, act_type="prelu")


@NATIVE.row("HardSigmoid")
def hard_sigmoid(xp: MxnetNamespace, x: Symbol, *, alpha: float = 0.2, beta: float = 0.5) -> Any:
    if x.dtype != FLOAT32:
        return _shared("HardSigmoid")(xp, x, alpha=alpha, beta=beta)
    return xp.apply("hard_sigmoid", x, dims=x.fact.dims, alpha=alpha, beta=beta)


@NATIVE.row("Clip")
def clip(xp: MxnetNamespace, x: Symbol, low: Symbol | None = None, high: Symbol | None = None) -> Any:
    """Between two constants it is MXNet's own; an empty range gives the upper bound, as in ONNX."""
    bounds = [side.content.item() for side in (low, high) if side is not None and side.content is not None]
    fits = len(bounds) == 2 and bool(np.all(np.isfinite(bounds))) and bounds[0] <= bounds[1]
    if not fits or x.dtype != FLOAT32:  # its bounds are float32
        return _shared("Clip")(xp, x, low, high)
    return xp.apply("clip", x, dims=x.fact.dims, a_min=float(bounds[0]), a_max=float(bounds[1]))


# ---- images ----------------------------------------------------------------------------------------


@NATIVE.row("DepthToSpace")
def depth_to_space(xp: MxnetNamespace, x: Symbol, *, blocksize: int, mode: str = "DCR") -> Any:
    if mode != "DCR" or not known(x.shape[1:]) or x.dtype not in COMPUTED:
        return _shared("DepthToSpace")(xp, x, blocksize=blocksize, mode=mode)
    n, c, h, w = x.shape
    dims = (n, c // blocksize**2, h * blocksize, w * blocksize)
    return xp.apply("depth_to_space", x, dims=dims, block_size=blocksize)


@NATIVE.row("SpaceToDepth")
def space_to_depth(xp: MxnetNamespace, x: Symbol, *, blocksize: int, mode: str = "DCR") -> Any:
    if mode != "DCR" or not known(x.shape[1:]) or x.dtype not in COMPUTED:
        return _shared("SpaceToDepth")(xp, x, blocksize=blocksize, mode=mode)
    n, c, h, w = x.shape
    dims = (n, c * blocksize**2, h // blocksize, w // blocksize)
    return xp.apply("space_to_depth", x, dims=dims, block_size=blocksize)
