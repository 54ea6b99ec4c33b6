"""Rows of operators that read and write at indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.ir.placed import placed
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.tensorflow.graphdef.to_onnx import patterns
from netferry.converters.tensorflow.graphdef.to_onnx.elementwise import chosen
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter

_END = 2**62


# ---- slices ----------------------------------------------------------------------------------------


@ROWS.row("Slice")
def slice_(g: Emitter, a: Attrs, x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    starts, sizes = g.content(begin), g.content(size)
    numbers = starts is not None and sizes is not None and not _free(starts) and not _free(sizes)
    if numbers:
        assert starts is not None and sizes is not None
        ends = [_END if count == -1 else int(at + count) for at, count in zip(starts, sizes, strict=True)]
        axes = [axis for axis, end in enumerate(ends) if starts[axis] or end != _END]
        if not axes:
            return x
        return _sliced(g, x, [(axis, int(starts[axis]), ends[axis], 1) for axis in axes])
    at, count = g.index(begin), g.index(size)
    whole = g.Equal(count, g.constant(-1, np.int64))
    y = g.Slice(x, at, g.Where(whole, g.constant(_END, np.int64), g.Add(at, count)), g.ints(*range(x.rank)))
    return (
        y if sizes is None else g.sized(y, [None if not isinstance(s, Size) and s < 0 else s for s in sizes])
    )


def _free(content: Any) -> bool:
    return any(isinstance(each, Size) for each in np.asarray(content, object).reshape(-1))


def _sliced(g: Emitter, x: Tensor, parts: Sequence[tuple[int, int, int, int]]) -> Tensor:
    """(axis, begin, end, step) of each; in the layout in which ``x`` lies."""
    place = x.perm or tuple(range(x.rank))
    base = g.transpose(x, [place.index(axis) for axis in range(len(place))])
    axes, begins, ends, steps = zip(*((place[axis], *rest) for axis, *rest in parts), strict=True)
    y = g.Slice(
        base, g.ints(*begins), g.ints(*ends), g.ints(*axes), None if set(steps) == {1} else g.ints(*steps)
    )
    return g.transpose(y, place)


@ROWS.row("StridedSlice")
def strided_slice(g: Emitter, a: Attrs, x: Tensor, begin: Tensor, end: Tensor, strides: Tensor) -> Tensor:
    """numpy's slicing: the bits of the masks say where a bound is left out, an axis dropped or made, and what ``...`` is."""
    masks = {
        name: a.integer(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    steps = g.numbers(strides, "strides")
    bounds = [g.content(each) for each in (begin, end)]
    parts: list[tuple[int, Any, Any, int]] = []
    made, dropped, axis, new_rank = list[int](), list[int](), 0, 0
    count = len(steps)
    for position in range(count):
        bit = 1 << position
        if masks["ellipsis"] & bit:
            later = range(position + 1, count)
            skipped = x.rank - axis - sum(1 for each in later if not masks["new_axis"] & 1 << each)
            axis, new_rank = axis + skipped, new_rank + skipped
        elif masks["new_axis"] & bit:
            made.append(new_rank)
            new_rank += 1
        elif masks["shrink_axis"] & bit:
            low = _bound(g, begin, bounds[0], position)
            parts.append((axis, low, _next(g, low), 1))
            dropped.append(axis)
            axis += 1
        else:
            low = None if masks["begin"] & bit else _bound(g, begin, bounds[0], position)
            high = None if masks["end"] & bit else _bound(g, end, bounds[1], position)
            if low is None:
                low = 0 if steps[position] > 0 else _END
            if high is None:
                high = _END if steps[position] > 0 else -_END
            if (low, high, steps[position]) != (0, _END, 1):
                parts.append((axis, low, high, steps[position]))
            axis, new_rank = axis + 1, new_rank + 1
    if x.value in g.singles and x.perm is None and dropped == [0] and not made and len(parts) == 1:
        return g.singles[x.value]
    y = _sliced_at(g, x, parts)
    y = g.Squeeze(y, g.ints(*dropped)) if dropped else y
    return g.Unsqueeze(y, g.ints(*made)) if made else y


def _bound(g: Emitter, x: Tensor, known: Any, position: int) -> Any:
    """A number, or a tensor of one where it is computed."""
    if known is not None and not isinstance(known[position], Size):
        return int(known[position])
    return g.Slice(g.index(x), g.ints(position), g.ints(position + 1), g.ints(0))


def _next(g: Emitter, low: Any) -> Any:
    if isinstance(low, int):
        return low + 1 if low != -1 else _END
    after = g.Add(low, g.ints(1))
    return g.Where(g.Equal(after, g.ints(0)), g.ints(_END), after)


def _sliced_at(g: Emitter, x: Tensor, parts: Sequence[tuple[int, Any, Any, int]]) -> Tensor:
    if not parts:
        return x
    if all(isinstance(bound, int) for _, *bounds, _ in parts for bound in bounds):
        y = _sliced(g, x, parts)
    else:
        columns = [[part[1] for part in parts], [part[2] for part in parts]]
        begins, ends = (
            g.Concat(*(g.ints(b) if isinstance(b, int) else b for b in column), axis=0) for column in columns
        )
        y = g.Slice(x, begins, ends, g.ints(*(p[0] for p in parts)), g.ints(*(p[3] for p in parts)))
    if x.dims is None:
        return y
    sizes = g.sizes_of(x)
    for axis, low, high, step in parts:
        sizes[axis] = _left(sizes[axis], low, high, step)
    return g.sized(y, sizes)


def _left(size: Any, low: Any, high: Any, step: int) -> Any:
    """How many places a slice keeps, where that can be said."""
    if not isinstance(low, int) or not isinstance(high, int):
        return None
    if isinstance(size, int):
        return len(
            range(
                *slice(low if low != _END else None, high if abs(high) != _END else None, step).indices(size)
            )
        )
    if step == 1 and high == _END:
        return size - low if low >= 0 else None
    if step == 1 and low >= 0 and high < 0:
        return size + high - low
    if step == -1 and low == _END and high == -_END:
        return size
    return 1 if step == 1 and (high - low == 1 or (low, high) == (-1, _END)) else None


# ---- gathering ---------------------------------------------------------------------------------------


@ROWS.row("Gather", "GatherV2", "ResourceGather")
def gather(g: Emitter, a: Attrs, x: Tensor, indices: Tensor, axis: Tensor | None = None) -> Tensor:
    (along,) = (0,) if axis is None else g.numbers(axis, "axis")
    batch = a.integer("batch_dims")
    batch = batch + indices.rank if batch < 0 else batch
    if not batch:
        size = None if x.dims is None else x.dims[along]
        return g.Gather(x, _placed(patterns.plain_indices(g, indices, size)), axis=along)
    along = along % x.rank
    if along == batch and indices.rank == batch + 1 and x.rank == batch + 1:
        return g.GatherElements(x, g.index(indices), axis=along)
    order = (*range(batch), along, *(axis for axis in range(batch, x.rank) if axis != along))
    moved = g.transpose(x, order)
    y = g.GatherND(moved, g.Unsqueeze(g.index(indices), g.ints(-1)), batch_dims=batch)
    inner = indices.rank - batch
    front = [*range(batch), *range(batch + inner, inner + along), *range(batch, batch + inner)]
    return g.transpose(y, (*front, *range(inner + along, y.rank)))


def _placed(indices: Tensor) -> Tensor:
    if indices.dtype not in (np.int32, np.int64):
        raise CannotConvert(f"its indices are {indices.dtype.name}", "Expected int32 or int64")
    return indices


@ROWS.row("GatherNd", "ResourceGatherNd")
def gather_nd(g: Emitter, a: Attrs, x: Tensor, indices: Tensor) -> Tensor:
    return g.GatherND(x, g.index(indices), batch_dims=a.integer("batch_dims"))


@ROWS.row("ScatterNd")
def scatter_nd(g: Emitter, a: Attrs, indices: Tensor, updates: Tensor, sizes: Tensor) -> Tensor:
    zeros = g.Expand(g.like(0, updates), g.index(sizes))
    known = g.content(sizes)
    zeros = zeros if known is None else g.sized(zeros, list(known))
    if updates.dtype == np.bool_:
        return g.ScatterND(zeros, g.index(indices), updates)
    return g.ScatterND(zeros, g.index(indices), updates, reduction="add")


def _scatter(reduction: str) -> Any:
    def row(g: Emitter, a: Attrs, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        given = g.Neg(updates) if reduction == "sub" else updates
        how = {"update": None, "sub": "add"}.get(reduction, reduction)
        return g.ScatterND(x, g.index(indices), given, reduction=how)

    return row


for _name, _reduction in {"Add": "add", "Sub": "sub", "Max": "max", "Min": "min", "Update": "update"}.items():
    ROWS.row(f"TensorScatter{_name}")(_scatter(_reduction))


@ROWS.row("OneHot")
def one_hot(g: Emitter, a: Attrs, indices: Tensor, depth: Tensor, on: Tensor, off: Tensor) -> Tensor:
    """An index outside gives a row that is ``off``; ONNX counts a negative one from the end."""
    axis = a.integer("axis", -1)
    row = g.Unsqueeze(g.index(indices), g.ints(axis))
    places = g.Range(g.constant(0, np.int64), g.index(depth), g.constant(1, np.int64))
    at = axis % (indices.rank + 1)
    shaped = g.Reshape(places, g.ints(*(-1 if position == at else 1 for position in range(indices.rank + 1))))
    known = g.content(depth)
    if known is not None:
        shaped = g.sized(
            shaped, [known.reshape(-1)[0] if position == at else 1 for position in range(indices.rank + 1)]
        )
    return g.Where(g.Equal(row, shaped), on, off)


@ROWS.row("Where")
def where(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """The places that hold: (count, axes)."""
    return g.Transpose(g.NonZero(x if x.dtype == np.bool_ else g.Not(g.Equal(x, g.like(0, x)))), perm=[1, 0])


@ROWS.row("DynamicStitch", "ParallelDynamicStitch")
def stitch(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
    """Rows at the indices that stand with them; the last of equal ones counts."""
    half = len(inputs) // 2
    indices, data = inputs[:half], inputs[half:]
    flat = [g.Reshape(g.index(each), g.ints(-1)) for each in indices]
    inner = data[0].rank - indices[0].rank
    kept = [g.size(data[0], data[0].rank - inner + axis) for axis in range(inner)]
    rows_ = [g.Reshape(each, g.vector([-1, *kept])) for each in data]
    places, values = (each[0] if half == 1 else g.Concat(*each, axis=0) for each in (flat, rows_))
    most = g.Add(g.ReduceMax(places, g.ints(0), keepdims=1), g.ints(1))
    zeros = g.Expand(g.like(0, values), g.Concat(most, g.vector(kept), axis=0) if inner else most)
    return g.ScatterND(zeros, g.Unsqueeze(places, g.ints(1)), values)


@ROWS.row("ReverseSequence")
def reverse_sequence(g: Emitter, a: Attrs, x: Tensor, lengths: Tensor) -> Tensor:
    """ONNX has the time and the batch on the first two axes, in either order."""
    time, batch = a.integer("seq_dim"), a.integer("batch_dim")
    others = [axis for axis in range(x.rank) if axis not in (time, batch)]
    order = (batch, time, *others)
    y = g.turned(g.transpose(x, order), lengths)
    return g.transpose(y, [order.index(axis) for axis in range(x.rank)])


@ROWS.row("Unique", "UniqueV2")
def unique(g: Emitter, a: Attrs, x: Tensor, axis: Tensor | None = None) -> list[Tensor]:
    values, _, inverse, _ = g.ops("Unique", _comparable(g, x), outputs=4, sorted=0)
    return [g.cast(values, x.dtype), g.cast(inverse, a.dtype("out_idx", np.int32))]


def _comparable(g: Emitter, x: Tensor) -> Tensor:
    """onnxruntime has a kernel for int64 and float32."""
    return g.index(x) if x.dtype.kind in "iu" else x


@ROWS.row("UniqueWithCounts", "UniqueWithCountsV2")
def unique_with_counts(g: Emitter, a: Attrs, x: Tensor, axis: Tensor | None = None) -> list[Tensor]:
    values, _, inverse, counts = g.ops("Unique", _comparable(g, x), outputs=4, sorted=0)
    return [
        g.cast(values, x.dtype),
        *(g.cast(each, a.dtype("out_idx", np.int32)) for each in (inverse, counts)),
    ]


# ---- diagonals --------------------------------------------------------------------------------------


@ROWS.row("MatrixDiagPart", "MatrixDiagPartV2", "MatrixDiagPartV3")
def diagonal_of(
    g: Emitter, a: Attrs, x: Tensor, k: Tensor | None = None, fill: Tensor | None = None
) -> Tensor:
    """x: (..., rows, columns); one diagonal, ``k`` places above the main one."""
    places = [0] if k is None else g.numbers(k, "diagonal")
    if len(set(places)) != 1:
        raise CannotConvert("it reads several diagonals at once")
    count, above = x.size(x.rank - 1), places[0]
    rows_ = x.size(x.rank - 2)
    length = min(rows_ + min(above, 0), count - max(above, 0))
    flat = g.Reshape(
        x, g.vector([*(g.size(x, axis) for axis in range(x.rank - 2)), rows_ * count][-x.rank + 1 :])
    )
    at = [(i - min(above, 0)) * count + i + max(above, 0) for i in range(length)]
    return g.Gather(flat, g.ints(*at), axis=-1)


@ROWS.row("DiagPart")
def tensor_diagonal_of(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    if x.rank != 2:
        raise CannotConvert(f"it reads the diagonal of {x.rank} axes", "Expected a matrix")
    return diagonal_of(g, a, x)


@ROWS.row("MatrixDiag", "MatrixDiagV2", "MatrixDiagV3", "Diag")
def diagonal(g: Emitter, a: Attrs, x: Tensor, k: Tensor | None = None, *rest: Tensor) -> Tensor:
    """x: (..., n) on the diagonal of (..., n + |k|, n + |k|) that lies ``k`` places above the main one."""
    places = {0} if k is None else set(g.numbers(k, "diagonal"))
    sizes = [each for size in rest[:2] for each in g.numbers(size, "number of rows")]
    if len(places) != 1 or any(size != -1 for size in sizes):
        raise CannotConvert("it writes several diagonals, or one into a matrix of other sizes")
    size, (above,) = x.size(x.rank - 1), places
    fill = rest[2] if len(rest) > 2 else g.like(0, x)
    budget.make(size * size)
    y = g.Where(g.constant(np.eye(size, dtype=bool)), g.Unsqueeze(x, g.ints(-1)), fill)
    if not above:
        return y
    outer = [0] * (x.rank - 1)
    right, down = max(above, 0), max(-above, 0)
    return g.Pad(y, g.ints(*outer, down, right, *outer, right, down), fill)


@ROWS.row("MatrixSetDiag", "MatrixSetDiagV2", "MatrixSetDiagV3")
def set_diagonal(g: Emitter, a: Attrs, x: Tensor, values: Tensor, k: Tensor | None = None) -> Tensor:
    """x: (..., rows, columns); ``values`` are the diagonal ``k`` places above the main one."""
    places = {0} if k is None else set(g.numbers(k, "diagonal"))
    if len(places) != 1:
        raise CannotConvert("it writes several diagonals at once")
    rows_, columns, (above,) = x.size(x.rank - 2), x.size(x.rank - 1), places
    count = min(rows_ + min(above, 0), columns - max(above, 0))
    if count != rows_:
        of_row = np.clip(np.arange(rows_) + min(above, 0), 0, count - 1)
        values = g.Gather(values, g.ints(*of_row.tolist()), axis=-1)
    budget.make(rows_ * columns)
    mask = g.constant(np.eye(rows_, columns, above, dtype=bool))
    return chosen(g, mask, g.Unsqueeze(values, g.ints(-1)), x)


@ROWS.row("XlaDynamicUpdateSlice")
def update_slice(g: Emitter, a: Attrs, x: Tensor, values: Tensor, starts: Tensor) -> Tensor:
    return placed(g, x, values, g.index(starts))


# ---- segments ---------------------------------------------------------------------------------------


def _segments(reduction: str, start: float | str) -> Any:
    def row(g: Emitter, a: Attrs, x: Tensor, places: Tensor, count: Tensor | None = None) -> Tensor:
        flat = g.Reshape(g.index(places), g.ints(-1))
        inner = [g.size(x, axis) for axis in range(places.rank, x.rank)]
        values = g.Reshape(x, g.vector([-1, *inner])) if places.rank > 1 else x
        total = (
            g.Add(g.ReduceMax(flat, g.ints(0), keepdims=1), g.ints(1))
            if count is None
            else g.Reshape(g.index(count), g.ints(1))
        )
        number = start if isinstance(start, int | float) else _extreme(x.dtype, start)
        if count is None and reduction in ("max", "min"):
            number = 0 if x.dtype.kind != "f" else _extreme(x.dtype, str(start))
        sizes = g.Concat(total, g.vector(inner), axis=0) if inner else total
        empty = g.Expand(g.constant(np.asarray(number, x.dtype)), sizes)
        return g.ScatterND(empty, g.Unsqueeze(flat, g.ints(1)), values, reduction=reduction)

    return row


def _extreme(dtype: np.dtype[Any], which: str) -> float:
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return (
        float(limits.min if which == "least" else limits.max)
        if dtype.kind == "f"
        else int(getattr(limits, "min" if which == "least" else "max"))
    )


_UNSORTED: Mapping[str, tuple[str, float | str]] = {
    "Sum": ("add", 0), "Prod": ("mul", 1), "Max": ("max", "least"), "Min": ("min", "most"),
}  # fmt: skip
for _kind, (_how, _from) in _UNSORTED.items():
    ROWS.row(f"UnsortedSegment{_kind}")(_segments(_how, _from))
for _kind, (_how, _from) in {"Sum": ("add", 0), "Prod": ("mul", 1)}.items():
    ROWS.row(f"Segment{_kind}")(_segments(_how, _from))
