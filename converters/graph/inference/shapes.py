"""The sizes of an operator's outputs, with free sizes kept as expressions.

A rule has its operator's own signature: inputs are facts, attributes are keyword-only. It returns the sizes
of the first output, or a list with those of several. A size that it cannot say is None; None in place of the sizes
is an unknown rank. Operators that have no rule are asked of ONNX's own inference (``evaluate.py``).
Sources: the operators' definitions in the ONNX specification, opset 28.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size, ceil_div, largest, product, smallest, total
from netferry.converters.graph.registry import Table

Dims = tuple[Any, ...] | None
Rule = Callable[..., Any]

SHAPES: Table[str, Rule] = Table("shapes")


# ---- arithmetic of sizes ----------------------------------------------------------------------------


def at_least(size: Any, free: int = 1) -> float:
    """A lower bound, every free size being ``free`` or more."""
    if not isinstance(size, Size):
        return int(size)
    least = 0
    for atoms, count in size.terms:
        if atoms and count < 0:
            return -math.inf
        least += count * math.prod(0 if atom.args else free for atom in atoms)
    return least


def surely(small: Any, large: Any) -> bool:
    """Whether ``small <= large`` holds for all free sizes of 1 or more."""
    return at_least(large - small) >= 0


def together(a: Any, b: Any) -> Any:
    """The size of two axes that are broadcast; None where it is not known."""
    if a == b or (not isinstance(b, Size) and b == 1):
        return a
    if not isinstance(a, Size) and a == 1:
        return b
    for one, other in ((a, b), (b, a)):
        if one is not None and not isinstance(one, Size):
            return one
        if _is_capped(one, other):
            return other
    return None


def _is_capped(capped: Any, size: Any) -> bool:
    """Whether ``capped`` is min(size, n) with n > 1: then broadcasting fails unless it is ``size``."""
    atom = capped.atom if isinstance(capped, Size) else None
    if atom is None or atom.word != "min" or size not in atom.args:
        return False
    (limit,) = [arg for arg in atom.args if arg != size] or [0]
    return not isinstance(limit, Size) and limit > 1


def broadcast(*shapes: Dims) -> Dims:
    """The sizes of what is broadcast together."""
    if any(dims is None for dims in shapes):
        return None
    rank = max((len(dims or ()) for dims in shapes), default=0)
    result: list[Any] = [1] * rank
    for dims in shapes:
        dims = dims or ()
        for axis, dim in enumerate(dims, rank - len(dims)):
            result[axis] = together(result[axis], dim)
    return tuple(result)


def ints(fact: Fact | None) -> tuple[Any, ...] | None:
    """The elements of a content, as ints and sizes; None where it is not known."""
    if fact is None or fact.content is None:
        return None
    items = fact.content.reshape(-1)
    return tuple(item if isinstance(item, Size) else int(item) for item in items)


def axes_of(fact: Fact | None, rank: int, default: Sequence[int] = ()) -> tuple[int, ...] | None:
    """Axes given as an input, from 0; ``default`` where the input is missing; None where they are not known."""
    if fact is None:
        return tuple(default)
    axes = ints(fact)
    return None if axes is None or any(isinstance(a, Size) for a in axes) else tuple(a % rank for a in axes)


# ---- elementwise ------------------------------------------------------------------------------------

UNARY = tuple(
    """
    Abs Acos Acosh Asin Asinh Atan Atanh BitCast BitwiseNot Bernoulli Cast CastLike Ceil Celu Clip Cos Cosh CumProd CumSum
    DequantizeLinear Dropout Elu Erf Exp EyeLike Floor Gelu Hardmax HardSigmoid HardSwish Identity InstanceNormalization
    IsInf IsNaN LRN LayerNormalization LeakyRelu Log LogSoftmax LpNormalization MeanVarianceNormalization Mish Neg Not
    QuantizeLinear RMSNormalization RandomNormalLike RandomUniformLike Reciprocal Relu ReverseSequence Round
    RotaryEmbedding ScatterElements ScatterND TensorScatter Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt
    Swish Tan Tanh ThresholdedRelu Trilu BatchNormalization GroupNormalization PRelu
    """.split()
)
"""The first output has the sizes of the first input."""

BROADCAST = tuple(
    """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min
    Mod Mul Or Pow Sub Sum Where Xor
    """.split()
)
"""Inputs are broadcast together."""


@SHAPES.row(*UNARY)
def same(x: Fact, *_: Any, **__: Any) -> Dims:
    return x.dims


@SHAPES.row(*BROADCAST)
def broadcasting(*inputs: Fact, **_: Any) -> Dims:
    return broadcast(*(x.dims for x in inputs))


# ---- moving -----------------------------------------------------------------------------------------


def _ranked(rule: Rule) -> Rule:
    """The rule where the rank of the first input is known; an unknown rank elsewhere."""

    def asked(x: Fact, *inputs: Any, **attributes: Any) -> Any:
        return None if x.dims is None else rule(x, *inputs, **attributes)

    return asked


@SHAPES.row("Transpose")
@_ranked
def transpose(x: Any, *, perm: Sequence[int] | None = None) -> Dims:
    order = range(len(x.dims))[::-1] if perm is None else perm
    return tuple(x.dims[axis] for axis in order)


@SHAPES.row("Reshape")
def reshape(x: Fact, shape: Fact, *, allowzero: int = 0) -> Dims:
    sizes = ints(shape)
    if sizes is None:
        rank = shape.dims[0] if shape.dims else None
        return (None,) * rank if isinstance(rank, int) else None
    have = x.dims
    dims: list[Any] = list(sizes)
    for axis, size in enumerate(sizes):
        if not isinstance(size, Size) and size == 0 and not allowzero:
            dims[axis] = have[axis] if have is not None else None
    if -1 in dims:
        rest = [dim for dim in dims if isinstance(dim, Size) or dim != -1]
        dims[dims.index(-1)] = None if have is None or None in rest else left_over(have, rest)
    return tuple(dims)


def left_over(have: Sequence[Any], taken: Sequence[Any]) -> Any:
    """What -1 stands for when sizes ``have`` are reshaped; sizes on both sides are cancelled first."""
    above, below = list(have), []
    for size in taken:
        if size in above:
            above.remove(size)
        else:
            below.append(size)
    total, by = product(above), product(below)
    return None if not isinstance(by, Size) and by == 0 else total // by


@SHAPES.row("Flatten")
@_ranked
def flatten(x: Any, *, axis: int = 1) -> Dims:
    axis = axis + len(x.dims) if axis < 0 else axis
    return (product(x.dims[:axis]), product(x.dims[axis:]))


@SHAPES.row("Squeeze")
@_ranked
def squeeze(x: Any, axes: Fact | None = None) -> Dims:
    rank = len(x.dims)
    if axes is None and any(isinstance(dim, Size) for dim in x.dims):
        return None
    drop = axes_of(axes, rank, [a for a, dim in enumerate(x.dims) if dim == 1])
    return None if drop is None else tuple(dim for axis, dim in enumerate(x.dims) if axis not in drop)


@SHAPES.row("Unsqueeze")
@_ranked
def unsqueeze(x: Any, axes: Fact) -> Dims:
    count = ints(axes)
    if count is None:
        return None
    rank = len(x.dims) + len(count)
    places = {a % rank for a in count}
    rest = iter(x.dims)
    return tuple(1 if axis in places else next(rest) for axis in range(rank))


@SHAPES.row("Concat")
def concat(*inputs: Fact, axis: int = 0) -> Dims:
    if any(x.dims is None for x in inputs):
        return None
    shapes: list[Any] = [x.dims for x in inputs]
    axis %= len(shapes[0])
    return tuple(
        total(dims[place] for dims in shapes)
        if place == axis
        else _known_first([dims[place] for dims in shapes])
        for place in range(len(shapes[0]))
    )


def _known_first(dims: Sequence[Any]) -> Any:
    """Of sizes that must be equal, the one that says most."""
    return next((dim for dim in dims if not isinstance(dim, Size)), dims[0])


@SHAPES.row("Split")
@_ranked
def split(
    x: Any, lengths: Fact | None = None, *, axis: int = 0, num_outputs: int = 0, outputs: int = 0
) -> list[Dims]:
    axis %= len(x.dims)
    sizes: Any = ints(lengths)
    if lengths is None:
        count = num_outputs or outputs
        part = ceil_div(x.dims[axis], count)
        last = x.dims[axis] - part * (count - 1)
        sizes = [part] * (count - 1) + [last]
    elif sizes is None:
        sizes = [None] * outputs
    return [(*x.dims[:axis], size, *x.dims[axis + 1 :]) for size in sizes]


@SHAPES.row("Slice")
@_ranked
def slices(x: Any, starts: Fact, ends: Fact, axes: Fact | None = None, steps: Fact | None = None) -> Dims:
    first, last = ints(starts), ints(ends)
    count = next((len(items) for items in (first, last) if items is not None), None)
    if count is None:
        count = next((f.dims[0] for f in (starts, ends) if f.dims and isinstance(f.dims[0], int)), None)
    places = None if count is None else axes_of(axes, len(x.dims), range(count))
    if places is None:
        return (None,) * len(x.dims)
    by = (1,) * len(places) if steps is None else ints(steps)
    dims: list[Any] = list(x.dims)
    for index, axis in enumerate(places):
        bounds = [items[index] for items in (first, last, by) if items is not None]
        dims[axis] = sliced(dims[axis], *bounds) if len(bounds) == 3 else None
    return tuple(dims)


def sliced(dim: Any, start: Any, stop: Any, step: Any) -> Any:
    """How many places ``start:stop:step`` takes of an axis; None where that is not known."""
    if isinstance(step, Size):
        return None
    if not any(isinstance(size, Size) for size in (dim, start, stop)):
        stop = None if step < 0 and stop < -dim else stop
        return len(range(*slice(start, stop, step).indices(dim)))
    low, high = place(dim, start), place(dim, stop)
    if step == -1 and low == dim and not isinstance(stop, Size) and stop < -(2**31):
        return dim
    if low is None or high is None or step < 1:
        return None
    span = high - low if surely(low, high) else largest(high - low, 0)
    return span if step == 1 else ceil_div(span, step)


def place(dim: Any, index: Any) -> Any:
    """The place that an index of a slice means, held between 0 and ``dim``; None where that is not known."""
    if not isinstance(index, Size) and abs(index) >= 2**31 - 1:
        return dim if index > 0 else 0
    if at_least(index) >= 0:
        return index if surely(index, dim) else dim if surely(dim, index) else smallest(index, dim)
    if not isinstance(index, Size):
        return dim + index if surely(-index, dim) else largest(dim + index, 0)
    return None


@SHAPES.row("Expand")
@_ranked
def expand(x: Any, shape: Fact) -> Dims:
    sizes = ints(shape)
    if sizes is not None:
        return broadcast(x.dims, sizes)
    rank = shape.dims[0] if shape.dims else None
    return broadcast(x.dims, (None,) * rank) if isinstance(rank, int) else None


@SHAPES.row("Tile")
@_ranked
def tile(x: Any, repeats: Fact) -> Dims:
    times = ints(repeats)
    return (
        (None,) * len(x.dims) if times is None else tuple(a * b for a, b in zip(x.dims, times, strict=True))
    )


@SHAPES.row("Pad")
@_ranked
def pad(x: Any, pads: Fact, value: Any = None, axes: Fact | None = None, *, mode: str = "constant") -> Dims:
    amounts, places = ints(pads), axes_of(axes, len(x.dims), range(len(x.dims)))
    if amounts is None or places is None:
        return (None,) * len(x.dims)
    dims = list(x.dims)
    for index, axis in enumerate(places):
        dims[axis] = dims[axis] + amounts[index] + amounts[index + len(places)]
    return tuple(dims)


@SHAPES.row("DepthToSpace")
@_ranked
def depth_to_space(x: Any, *, blocksize: int, mode: str = "DCR") -> Dims:
    n, c, *space = x.dims
    return (n, c // blocksize ** len(space), *(dim * blocksize for dim in space))


@SHAPES.row("SpaceToDepth")
@_ranked
def space_to_depth(x: Any, *, blocksize: int, mode: str = "DCR") -> Dims:
    n, c, *space = x.dims
    return (n, c * blocksize ** len(space), *(dim // blocksize for dim in space))


# ---- picking ----------------------------------------------------------------------------------------


@SHAPES.row("Gather")
@_ranked
def gather(x: Any, indices: Fact, *, axis: int = 0) -> Dims:
    if indices.dims is None:
        return None
    axis %= len(x.dims)
    return (*x.dims[:axis], *indices.dims, *x.dims[axis + 1 :])


@SHAPES.row("GatherElements")
def gather_elements(x: Fact, indices: Fact, *, axis: int = 0) -> Dims:
    return indices.dims


@SHAPES.row("GatherND")
@_ranked
def gather_nd(x: Any, indices: Fact, *, batch_dims: int = 0) -> Dims:
    if indices.dims is None or isinstance(indices.dims[-1], Size):
        return None
    return (*indices.dims[:-1], *x.dims[batch_dims + indices.dims[-1] :])


@SHAPES.row("TopK")
@_ranked
def topk(x: Any, k: Fact, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> list[Dims]:  # noqa: A002
    count = ints(k)
    dims = list(x.dims)
    dims[axis] = None if count is None else count[0]
    return [tuple(dims)] * 2


@SHAPES.row("OneHot")
def one_hot(indices: Fact, depth: Fact, values: Any, *, axis: int = -1) -> Dims:
    if indices.dims is None:
        return None
    count = ints(depth)
    dims: list[Any] = list(indices.dims)
    dims.insert(axis % (len(dims) + 1), None if count is None else count[0])
    return tuple(dims)


# ---- making -----------------------------------------------------------------------------------------


@SHAPES.row("Shape")
@_ranked
def shape_of(x: Any, *, start: int = 0, end: int | None = None) -> Dims:
    return (len(x.dims[start:end]),)


@SHAPES.row("Size")
def size_of(x: Fact) -> Dims:
    return ()


@SHAPES.row("ConstantOfShape")
def constant_of_shape(shape: Fact, *, value: Any = None) -> Dims:
    sizes = ints(shape)
    if sizes is not None:
        return sizes
    rank = shape.dims[0] if shape.dims else None
    return (None,) * rank if isinstance(rank, int) else None


@SHAPES.row("Range")
def range_of(start: Fact, limit: Fact, delta: Fact, **_: Any) -> Dims:
    if start.dtype is not None and start.dtype.kind in "iu":
        first, last, step = ints(start), ints(limit), ints(delta)
        if first and last and step and not isinstance(step[0], Size):
            span = last[0] - first[0]
            count = ceil_div(span, step[0]) if step[0] > 0 else ceil_div(-1 * span, -step[0])
            return (count if at_least(count) >= 0 else largest(count, 0),)
    numbers = [float(x.constant.reshape(-1)[0]) for x in (start, limit, delta) if x.constant is not None]
    if len(numbers) == 3:
        a, b, c = numbers
        return (max(math.ceil((b - a) / c), 0),)
    return (None,)


# ---- algebra ----------------------------------------------------------------------------------------


@SHAPES.row("MatMul", "MatMulInteger")
def matmul(a: Fact, b: Fact, *_: Any) -> Dims:
    return _matmul(a.dims, b.dims)


@SHAPES.row("QLinearMatMul")
def qlinear_matmul(a: Fact, _s: Any, _z: Any, b: Fact, *_: Any) -> Dims:
    return _matmul(a.dims, b.dims)


def _matmul(a: Dims, b: Dims) -> Dims:
    if a is None or b is None:
        return None
    batch = broadcast(a[:-2], b[:-2]) or ()
    return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


@SHAPES.row("Gemm")
def gemm(a: Fact, b: Fact, c: Any = None, *, transA: int = 0, transB: int = 0, **_: Any) -> Dims:  # noqa: N803
    if a.dims is None or b.dims is None:
        return None
    return (a.dims[1 if transA else 0], b.dims[0 if transB else 1])


@SHAPES.row("Linear")
@_ranked
def linear(x: Any, w: Any, b: Any = None) -> Dims:
    return (*x.dims[:-1], w.dims[1])


REDUCTIONS = tuple(
    """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    """.split()
)


@SHAPES.row(*REDUCTIONS)
@_ranked
def reduction(x: Any, axes: Fact | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Dims:
    rank = len(x.dims)
    over = axes_of(axes, rank)
    if over is None:
        return (None,) * rank if keepdims else None
    if not over:
        if noop_with_empty_axes:
            return x.dims  # type: ignore[no-any-return]
        over = tuple(range(rank))
    return _without(x.dims, over, keepdims)


def _without(dims: Sequence[Any], over: Sequence[int], keepdims: int) -> tuple[Any, ...]:
    return tuple(1 if axis in over else dim for axis, dim in enumerate(dims) if keepdims or axis not in over)


@SHAPES.row("ArgMax", "ArgMin")
@_ranked
def argument(x: Any, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Dims:
    return _without(x.dims, (axis % len(x.dims),), keepdims)


# ---- spatial ----------------------------------------------------------------------------------------


def _space(
    dims: Sequence[Any],
    kernel: Sequence[Any],
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> tuple[Any, ...]:
    """The sizes after a window has gone over the space axes."""
    rank = len(dims)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = pads or [0] * 2 * rank
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return tuple(ceil_div(dim, stride) for dim, stride in zip(dims, strides, strict=True))
    if auto_pad == "VALID":
        pads = [0] * 2 * rank
    result = []
    for axis, (dim, size, stride, dilation) in enumerate(zip(dims, kernel, strides, dilations, strict=True)):
        room = dim + (pads[axis] + pads[axis + rank]) - ((size - 1) * dilation + 1)
        if not ceil_mode or stride == 1:
            result.append(room // stride + 1)
        elif isinstance(room, Size):
            result.append(None)
        else:
            places = ceil_div(room, stride) + 1
            result.append(places - 1 if (places - 1) * stride >= dim + pads[axis] else places)
    return tuple(result)


@SHAPES.row("Conv", "ConvInteger")
@_ranked
def conv(x: Any, w: Fact, *_: Any, group: int = 1, kernel_shape: Any = None, **window: Any) -> Dims:
    if w.dims is None:
        return None
    return (x.dims[0], w.dims[0], *_space(x.dims[2:], kernel_shape or w.dims[2:], **window))


@SHAPES.row("QLinearConv")
@_ranked
def qlinear_conv(x: Any, _s: Any, _z: Any, w: Fact, *_: Any, **attributes: Any) -> Dims:
    return conv(x, w, **attributes)  # type: ignore[no-any-return]


@SHAPES.row("ConvTranspose")
@_ranked
def conv_transpose(
    x: Any,
    w: Fact,
    b: Any = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    output_padding: Any = None,
    output_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Dims:
    if w.dims is None:
        return None
    space = x.dims[2:]
    rank = len(space)
    kernel, extra = kernel_shape or w.dims[2:], output_padding or [0] * rank
    strides, dilations, pads = strides or [1] * rank, dilations or [1] * rank, pads or [0] * 2 * rank
    head = (x.dims[0], w.dims[1] * group)
    if output_shape:
        return (*head, *output_shape[-rank:])
    if auto_pad.startswith("SAME"):
        return (*head, *(dim * stride for dim, stride in zip(space, strides, strict=True)))
    if auto_pad == "VALID":
        pads = [0] * 2 * rank
    return (
        *head,
        *(
            strides[i] * (space[i] - 1)
            + extra[i]
            + ((kernel[i] - 1) * dilations[i] + 1)
            - pads[i]
            - pads[i + rank]
            for i in range(rank)
        ),
    )


@SHAPES.row("AveragePool", "LpPool")
@_ranked
def pool(
    x: Any, *, kernel_shape: Sequence[int], count_include_pad: int = 0, p: int = 2, **window: Any
) -> Dims:
    return (*x.dims[:2], *_space(x.dims[2:], kernel_shape, **window))


@SHAPES.row("MaxPool")
@_ranked
def max_pool(x: Any, *, kernel_shape: Sequence[int], storage_order: int = 0, **window: Any) -> list[Dims]:
    return [(*x.dims[:2], *_space(x.dims[2:], kernel_shape, **window))] * 2


@SHAPES.row("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
@_ranked
def global_pool(x: Any, *, p: int = 2) -> Dims:
    return (*x.dims[:2], *([1] * (len(x.dims) - 2)))


@SHAPES.row("Resize")
@_ranked
def resize(
    x: Any,
    roi: Any = None,
    scales: Fact | None = None,
    sizes: Fact | None = None,
    *,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    keep_aspect_ratio_policy: str = "stretch",
    **_: Any,
) -> Dims:
    rank = len(x.dims)
    places = range(rank) if axes is None else [axis % rank for axis in axes]
    wanted, by = ints(sizes), None if scales is None else scales.constant
    dims: list[Any] = list(x.dims)
    for index, axis in enumerate(places):
        if wanted:
            dims[axis] = wanted[index] if keep_aspect_ratio_policy == "stretch" else None
        elif by is not None and by.size and coordinate_transformation_mode != "tf_crop_and_resize":
            dims[axis] = scaled(dims[axis], float(by.reshape(-1)[index]))
        else:
            dims[axis] = None
    return tuple(dims)


def scaled(dim: Any, scale: float) -> Any:
    """floor(dim * scale), as ONNX's Resize has it; None where no expression says it exactly."""
    if not isinstance(dim, Size):
        return math.floor(dim * scale)
    if scale == int(scale):
        return dim * int(scale)
    part = 1 / scale
    return dim // int(part) if part == int(part) and math.log2(part).is_integer() else None


@SHAPES.row("STFT")
@_ranked
def stft(
    x: Any, step: Fact, window: Fact | None = None, length: Fact | None = None, *, onesided: int = 1
) -> Dims:
    """(batch, frames, bins, 2); ONNX's inference forgets that one side is the default."""
    by, size = ints(step), ints(length) if length is not None else window.dims if window is not None else None
    if by is None or size is None or isinstance(by[0], Size):
        return (x.dims[0], None, None, 2)
    return (x.dims[0], (x.dims[1] - size[0]) // by[0] + 1, size[0] // 2 + 1 if onesided else size[0], 2)


@SHAPES.row("StringNormalizer")
@_ranked
def string_normalizer(x: Any, **_: Any) -> Dims:
    """The last axis loses its stop words; ONNX's inference refuses one that is free."""
    return (*x.dims[:-1], None)


# ---- recurrent and attention ------------------------------------------------------------------------


@SHAPES.row("LSTM", "GRU", "RNN")
@_ranked
def recurrent(x: Any, w: Any, r: Fact, *_: Any, layout: int = 0, **__: Any) -> list[Dims] | None:
    if r.dims is None:
        return None
    directions, hidden = r.dims[0], r.dims[-1]
    first, second, _width = x.dims
    if layout:
        state = (first, directions, hidden)
        return [(first, second, directions, hidden), state, state]
    state = (directions, second, hidden)
    return [(first, directions, second, hidden), state, state]


@SHAPES.row("Recurrent")
@_ranked
def fused_recurrent(x: Any, w: Any, r: Any, *_: Any, **__: Any) -> list[Dims]:
    time, batch, _width = x.dims
    directions, hidden = r.dims[0], r.dims[-1]
    state = (directions, batch, hidden)
    return [(time, batch, directions * hidden), state, state]


@SHAPES.row("Attention")
@_ranked
def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    past_key: Any = None,
    past_value: Any = None,
    *_: Any,
    q_num_heads: int = 0,
    kv_num_heads: int = 0,
    **__: Any,
) -> list[Dims] | None:
    if k.dims is None or v.dims is None:
        return None
    queries, keys, values = (
        _heads(x.dims, n) for x, n in ((q, q_num_heads), (k, kv_num_heads), (v, kv_num_heads))
    )
    before = 0 if past_key is None else (past_key.dims or (None,) * 4)[2]
    length = None if before is None else before + keys[2]
    batch, heads, places, _width = queries
    y = (batch, places, heads * values[3]) if len(q.dims) == 3 else (batch, heads, places, values[3])
    present = [(*keys[:2], length, keys[3]), (*values[:2], length, values[3])]
    return [y, *present, (batch, heads, places, length)]


def _heads(dims: Sequence[Any], count: int) -> tuple[Any, ...]:
    """(batch, heads, length, width) of an operand of Attention that may have its heads in the last axis."""
    if len(dims) == 4:
        return tuple(dims)
    batch, length, width = dims
    return (batch, count, length, width // count)
