"""Operations of ``keras.ops`` that stand in a functional model beside its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from netferry.converters.graph import layout
from netferry.converters.graph.build import Tensor
from netferry.converters.graph.padding import onnx_pads
from netferry.converters.tensorflow.layers import concatenate
from netferry.converters.tensorflow.pen import ROWS, STRAIGHT, Pen, axes_of, refuse_unless
from netferry.converters.tensorflow.runtime import core_ops as core
from netferry.converters.tensorflow.runtime import math_ops as math
from netferry.converters.tensorflow.runtime import numpy_ops as kn

END = int(np.iinfo(np.int64).max)
"""Up to and with the last element, as an end of Slice."""


# ---- names that map straight to a name ------------------------------------------------------

_BINARY: STRAIGHT = {
    kn.Add: "Add",
    kn.Equal: "Equal",
    kn.Greater: "Greater",
    kn.GreaterEqual: "GreaterOrEqual",
    kn.Less: "Less",
    kn.LessEqual: "LessOrEqual",
    kn.Matmul: "MatMul",
    kn.Maximum: "Max",
    kn.Minimum: "Min",
    kn.Multiply: "Mul",
    kn.Power: "Pow",
    kn.Subtract: "Sub",
}

_LOGICAL: STRAIGHT = {kn.LogicalAnd: "And", kn.LogicalOr: "Or", kn.LogicalXor: "Xor"}

_UNARY: STRAIGHT = {kn.Absolute: "Abs", kn.Negative: "Neg", kn.Sign: "Sign"}

_FLOAT_UNARY: STRAIGHT = {
    kn.Arccos: "Acos",
    kn.Arcsin: "Asin",
    kn.Arctan: "Atan",
    kn.Ceil: "Ceil",
    kn.Cos: "Cos",
    kn.Cosh: "Cosh",
    kn.Exp: "Exp",
    kn.Floor: "Floor",
    kn.Log: "Log",
    kn.Reciprocal: "Reciprocal",
    kn.Sin: "Sin",
    kn.Sinh: "Sinh",
    kn.Sqrt: "Sqrt",
    kn.Tan: "Tan",
    kn.Tanh: "Tanh",
    math.Erf: "Erf",
}
"""Of integers these give floats."""

_REDUCTIONS: STRAIGHT = {
    kn.Max: "ReduceMax",
    kn.Mean: "ReduceMean",
    kn.Min: "ReduceMin",
    kn.Prod: "ReduceProd",
    kn.Sum: "ReduceSum",
}


@ROWS.row(*_BINARY)
def binary(g: Pen, op: Any, x1: Any, x2: Any) -> Tensor:
    return g.op(_BINARY[type(op)], *g.promoted(x1, x2))


@ROWS.row(kn.NotEqual)
def not_equal(g: Pen, op: Any, x1: Any, x2: Any) -> Tensor:
    return g.Not(g.Equal(*g.promoted(x1, x2)))


@ROWS.row(kn.Divide, kn.TrueDivide)
def divide(g: Pen, op: Any, x1: Any, x2: Any) -> Tensor:
    """True division: of integers it gives floats."""
    return g.Div(*g.promoted(x1, x2, at_least=float))


@ROWS.row(*_LOGICAL)
def logical(g: Pen, op: Any, x1: Any, x2: Any) -> Tensor:
    return g.op(_LOGICAL[type(op)], *(g.cast(g.lift(x), np.bool_) for x in (x1, x2)))


@ROWS.row(kn.LogicalNot)
def logical_not(g: Pen, op: Any, x: Tensor) -> Tensor:
    return g.Not(g.cast(x, np.bool_))


@ROWS.row(*_UNARY)
def unary(g: Pen, op: Any, x: Tensor) -> Tensor:
    return g.op(_UNARY[type(op)], x)


@ROWS.row(*_FLOAT_UNARY)
def float_unary(g: Pen, op: Any, x: Tensor) -> Tensor:
    return g.op(_FLOAT_UNARY[type(op)], _float(g, x))


def _float(g: Pen, x: Tensor) -> Tensor:
    return g.promoted(x, at_least=float)[0]


@ROWS.row(math.Rsqrt)
def rsqrt(g: Pen, op: Any, x: Tensor) -> Tensor:
    return g.Reciprocal(g.Sqrt(_float(g, x)))


@ROWS.row(kn.Square)
def square(g: Pen, op: Any, x: Tensor) -> Tensor:
    return g.Mul(x, x)


# ---- reductions -----------------------------------------------------------------------------


@ROWS.row(*_REDUCTIONS)
def reduction(g: Pen, op: Any, x: Tensor) -> Tensor:
    refuse_unless(getattr(op, "initial", None) is None, "it starts from a value of its own")
    refuse_unless(getattr(op, "dtype", None) is None, "it computes in a dtype of its own")
    op_type = _REDUCTIONS[type(op)]
    x = _float(g, x) if op_type == "ReduceMean" else x
    return _reduced(g, op_type, x, axes_of(op.axis, x.rank), op.keepdims)


def _reduced(g: Pen, op_type: str, x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
    if not keepdims:
        return g.op(op_type, x, g.ints(*axes), keepdims=0)
    return g.along(lambda base, place: g.op(op_type, base, g.ints(*(place[a] for a in axes))), x)


@ROWS.row(kn.Var, kn.Std)
def variance(g: Pen, op: Any, x: Tensor) -> Tensor:
    x = _float(g, x)
    axes = axes_of(op.axis, x.rank)
    centred = g.Sub(x, _reduced(g, "ReduceMean", x, axes, True))
    y = _reduced(g, "ReduceMean", g.Mul(centred, centred), axes, op.keepdims)
    return g.Sqrt(y) if isinstance(op, kn.Std) else y


@ROWS.row(kn.Argmax, kn.Argmin)
def arg_extreme(g: Pen, op: Any, x: Tensor) -> Tensor:
    """Keras counts in int32, ONNX in int64."""
    refuse_unless(op.axis is not None, "it looks along all axes at once")
    op_type = "ArgMax" if isinstance(op, kn.Argmax) else "ArgMin"
    return g.cast(g.op(op_type, x, axis=op.axis % x.rank, keepdims=int(op.keepdims)), np.int32)


# ---- shape ----------------------------------------------------------------------------------


@ROWS.row(kn.Reshape)
def reshape(g: Pen, op: Any, x: Tensor) -> Tensor:
    shape = [-1 if size is None else size for size in np.atleast_1d(np.asarray(op.newshape, object)).tolist()]
    refuse_unless(all(isinstance(size, int) and size != 0 for size in shape), "a shape that is not plain")
    refuse_unless(shape.count(-1) <= 1, "a shape with more than one size left open")
    return g.Reshape(x, g.ints(*shape))


@ROWS.row(kn.Ravel)
def ravel(g: Pen, op: Any, x: Tensor) -> Tensor:
    return g.Reshape(x, g.ints(-1))


@ROWS.row(kn.Transpose)
def transpose(g: Pen, op: Any, x: Tensor) -> Tensor:
    axes = range(x.rank)[::-1] if op.axes is None else op.axes
    return g.transpose(x, [axis % x.rank for axis in axes])


@ROWS.row(kn.Swapaxes)
def swapaxes(g: Pen, op: Any, x: Tensor) -> Tensor:
    perm = np.arange(x.rank)
    perm[[op.axis1, op.axis2]] = perm[[op.axis2, op.axis1]]
    return g.transpose(x, perm.tolist())


@ROWS.row(kn.Moveaxis)
def moveaxis(g: Pen, op: Any, x: Tensor) -> Tensor:
    shape = np.moveaxis(np.empty(range(x.rank)), op.source, op.destination).shape
    return g.transpose(x, shape)


@ROWS.row(kn.ExpandDims)
def expand_dims(g: Pen, op: Any, x: Tensor) -> Tensor:
    axes = op.axis if isinstance(op.axis, list | tuple) else [op.axis]
    return g.Unsqueeze(x, g.ints(*axes))


@ROWS.row(kn.Squeeze)
def squeeze(g: Pen, op: Any, x: Tensor) -> Tensor:
    axes = axes_of(op.axis, x.rank)
    if op.axis is None:
        refuse_unless(x.dims is not None and None not in x.dims, "the sizes of its input are not known")
        axes = [axis for axis in axes if x.dims is not None and x.dims[axis] == 1]
    return g.Squeeze(x, g.ints(*axes))


@ROWS.row(kn.Concatenate)
def concatenate_(g: Pen, op: Any, xs: Sequence[Any]) -> Tensor:
    return concatenate(g, g.promoted(*xs), op.axis)


@ROWS.row(kn.Stack)
def stack(g: Pen, op: Any, x: Sequence[Any]) -> Tensor:
    tensors = g.promoted(*x)
    axis = op.axis % (tensors[0].rank + 1)
    return g.Concat(*(g.Unsqueeze(tensor, g.ints(axis)) for tensor in tensors), axis=axis)


@ROWS.row(kn.Split)
def split(g: Pen, op: Any, x: Tensor) -> Sequence[Tensor]:
    """Into equal parts, or at the given places."""
    axis = op.axis % x.rank
    if isinstance(op.indices_or_sections, int):
        count = op.indices_or_sections
        return g.ops("Split", x, axis=axis, num_outputs=count, outputs=count)
    edges = [0, *op.indices_or_sections, x.size(axis)]
    return g.ops("Split", x, g.ints(*np.diff(edges).tolist()), axis=axis, outputs=len(edges) - 1)


@ROWS.row(kn.Flip)
def flip(g: Pen, op: Any, x: Tensor) -> Tensor:
    axes = axes_of(op.axis, x.rank)
    count = len(axes)
    return g.Slice(
        x, g.ints(*[-1] * count), g.ints(*[-END - 1] * count), g.ints(*axes), g.ints(*[-1] * count)
    )


@ROWS.row(kn.Tile)
def tile(g: Pen, op: Any, x: Tensor) -> Tensor:
    repeats = np.atleast_1d(op.repeats).tolist()
    refuse_unless(len(repeats) <= x.rank, "it adds axes")
    return g.Tile(x, g.ints(*[1] * (x.rank - len(repeats)), *repeats))


@ROWS.row(kn.Pad)
def pad(g: Pen, op: Any, x: Tensor, *, constant_values: Any = None) -> Tensor:
    refuse_unless(op.mode in ("constant", "reflect"), f"its mode '{op.mode}' is not one that ONNX has")
    pairs = list(op.pad_width) * (x.rank if len(op.pad_width) == 1 else 1)
    value = None if not constant_values else g.scalar(constant_values, x)
    mode = None if op.mode == "constant" else op.mode

    def write(base: Tensor, place: layout.Perm) -> Tensor:
        back = layout.inverse(place)
        return g.Pad(
            base, g.ints(*onnx_pads([pairs[back[axis]] for axis in range(x.rank)])), value, mode=mode
        )

    return g.along(write, x)


# ---- picking --------------------------------------------------------------------------------


@ROWS.row(kn.GetItem)
def getitem(g: Pen, op: Any, x: Tensor, key: Any) -> Tensor:
    """Numbers, slices, ``...`` and None; what a tensor picks is not carried."""
    keys = list(key) if isinstance(key, tuple | list) else [key]
    plain = all(k is None or k is Ellipsis or isinstance(k, int | slice) for k in keys)
    refuse_unless(plain, "it picks by a tensor", "Pick with keras.ops.take")
    keys = _spread(keys, x.rank)
    axes = [k for k in keys if k is not None]
    dropped = [axis for axis, k in enumerate(axes) if isinstance(k, int)]
    added = [place for place, k in enumerate(k for k in keys if not isinstance(k, int)) if k is None]
    y = _sliced(g, x, [_Range.of(axis, k) for axis, k in enumerate(axes) if k != slice(None)])
    y = g.Squeeze(y, g.ints(*dropped)) if dropped else y
    return g.Unsqueeze(y, g.ints(*added)) if added else y


class _Range(NamedTuple):
    """What is kept of one axis, as Slice takes it."""

    axis: int
    start: int
    end: int
    step: int

    @classmethod
    def of(cls, axis: int, key: int | slice) -> _Range:
        if isinstance(key, int):
            return cls(axis, key, key + 1 if key != -1 else END, 1)
        step = 1 if key.step is None else key.step
        start = (0 if step > 0 else -1) if key.start is None else key.start
        end = (END if step > 0 else -END - 1) if key.stop is None else key.stop
        return cls(axis, start, end, step)


def _spread(keys: list[Any], rank: int) -> list[Any]:
    """``...`` written out as full slices; without one it stands at the end."""
    keys = keys if Ellipsis in keys else [*keys, Ellipsis]
    at = keys.index(Ellipsis)
    missing = rank - sum(key is not None and key is not Ellipsis for key in keys)
    return [*keys[:at], *[slice(None)] * missing, *keys[at + 1 :]]


def _sliced(g: Pen, x: Tensor, ranges: Sequence[_Range]) -> Tensor:
    if not ranges:
        return x

    def write(base: Tensor, place: layout.Perm) -> Tensor:
        axes, starts, ends, steps = zip(*ranges, strict=True)
        stride = None if all(step == 1 for step in steps) else g.ints(*steps)
        return g.Slice(base, g.ints(*starts), g.ints(*ends), g.ints(*(place[axis] for axis in axes)), stride)

    return g.along(write, x)


@ROWS.row(kn.Take)
def take(g: Pen, op: Any, x: Any, indices: Any) -> Tensor:
    picked = g.lift(indices)
    refuse_unless(picked.dtype.kind in "iu", "its indices are not integers")
    source = g.lift(x)
    if op.axis is None:
        source = g.Reshape(source, g.ints(-1))
    return g.Gather(source, g.cast(picked, np.int64), axis=(op.axis or 0) % source.rank)


@ROWS.row(kn.Where)
def where(g: Pen, op: Any, condition: Any, x1: Any = None, x2: Any = None) -> Tensor:
    refuse_unless(x1 is not None and x2 is not None, "it asks where, not which")
    return g.Where(g.cast(g.lift(condition), np.bool_), *g.promoted(x1, x2))


@ROWS.row(kn.Clip)
def clip(g: Pen, op: Any, x: Tensor) -> Tensor:
    bounds = [np.asarray(bound) for bound in (op.x_min, op.x_max)]
    refuse_unless(
        all(bound.dtype != object and bound.ndim == 0 for bound in bounds), "bounds that are not numbers"
    )
    x, low, high = g.promoted(x, *(bound.item() for bound in bounds))
    return g.Clip(x, low, high)


@ROWS.row(core.Cast)
def cast(g: Pen, op: Any, x: Tensor) -> Tensor:
    return g.cast(x, op.dtype)


@ROWS.row(kn.Einsum)
def einsum(g: Pen, op: Any, *operands: Any) -> Tensor:
    refuse_unless("->" in op.subscripts, "its equation does not say its output")
    return g.Einsum(*g.promoted(*operands), equation=op.subscripts.replace(" ", ""))


@ROWS.row(core.StopGradient)
def stop_gradient(g: Pen, op: Any, x: Tensor) -> Tensor:
    return x
