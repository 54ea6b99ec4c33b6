"""What a graph's inputs may hold, from the operators that read them as indices, lengths or divisors."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from netferry.converters.signature import Example, Range

PASSING = frozenset(
    "Cast CastLike Ceil Clip Concat Expand Flatten Floor Identity Max Min Reshape Round Slice Split Squeeze Tile"
    " Transpose Unsqueeze".split()
)
"""Operators that hand indices on as they are, or some of them."""

Column = int | None
"""The place of the last axis from which an index comes; None where the whole tensor is indices."""


def ranges(model: Any, given: Sequence[Example] | None = None) -> dict[int, list[Range]]:
    """By the place of the input; ``model`` is a path or a model in memory."""
    if isinstance(model, str | os.PathLike):
        model = onnx.load(os.fspath(model), load_external_data=False)
    graph = (model if isinstance(model, ir.Model) else ir.from_proto(model)).graph
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    places = {value: place for place, value in enumerate(inputs)}
    found: dict[int, list[Range]] = {}
    for value, place in places.items():
        for node, position, column in _readers(value):
            for one in _ROWS.get((node.op_type, position), _nothing)(node, column, places):
                found.setdefault(place, []).append(one)
    return found


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int, Column]]:
    """The nodes that read what an input holds, through those that only pass it on."""
    waiting: list[tuple[ir.Value, Column]] = [(value, None)]
    seen: set[tuple[ir.Value, Column]] = set()
    while waiting:
        one, column = waiting.pop()
        if (one, column) in seen:
            continue
        seen.add((one, column))
        for node, position in one.uses():
            yield node, position, column
            into = _column_of(node, one) if node.op_type in ("Gather", "Slice") and position == 0 else None
            if into is not None or (node.op_type in PASSING and (position == 0 or node.op_type == "Concat")):
                waiting += [(output, column if into is None else into) for output in node.outputs]


def _column_of(node: ir.Node, value: ir.Value) -> Column:
    """The place of the last axis of a table (boxes) that Gather or Slice takes out of it."""
    rank = None if value.shape is None else len(value.shape)
    if rank is None or rank < 2:
        return None
    if node.op_type == "Gather":
        index, axis = _constant(node.inputs[1]), _attribute(node, "axis", 0)
        return (
            int(index.flat[0]) if index is not None and index.size == 1 and axis in (-1, rank - 1) else None
        )
    start, end, axes = (_constant(value) for value in (*node.inputs[1:4], None, None, None)[:3])
    if (
        start is None
        or end is None
        or axes is None
        or axes.size != 1
        or int(axes.flat[0]) not in (-1, rank - 1)
    ):
        return None
    return int(start.flat[0]) if int(end.flat[0]) - int(start.flat[0]) == 1 else None


def _constant(value: ir.Value | None) -> Any:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _attribute(node: ir.Node, name: str, default: int) -> int:
    found = node.attributes.get(name)
    return default if found is None else found.as_int()


Places = Mapping[ir.Value, int]
Row = Callable[[ir.Node, Column, Places], Iterator[Range]]


def _nothing(_node: ir.Node, _column: Column, _places: Places) -> Iterator[Range]:
    yield from ()


def _size(value: ir.Value | None, axis: int, offset: int, places: Places) -> tuple[int | None, Any]:
    """(high, within) of an axis: its size where it is known, else the axis of an input that has the same symbol."""
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None, None
    dim = value.shape[axis]
    if isinstance(dim, int):
        return (dim + offset, None) if dim > 0 else (None, None)
    if value in places:
        return offset, (places[value], axis % len(value.shape))
    for other, place in places.items():
        for at, known in enumerate(other.shape or ()):
            if not isinstance(known, int) and known.value is not None and known == dim:
                return offset, (place, at)
    return None, None


def _looked_up(node: ir.Node, column: Column, places: Places) -> Iterator[Range]:
    axis = _attribute(node, "axis", 0)
    rows = _rows(node.inputs[0], axis)
    if rows is not None:
        yield Range(0, rows - 1, column=column)
        return
    high, within = _size(node.inputs[0], axis, -1, places)
    if high is not None:
        yield Range(0, high, within, column)


def _rows(table: ir.Value | None, axis: int) -> int | None:
    """The size of a table along an axis: a constant, or one that is dequantised, cast or transposed; None where it is computed."""
    while table is not None:
        tensor, node = ir.convenience.get_const_tensor(table), table.producer()
        if tensor is not None:
            return tensor.shape.numpy()[axis]
        if node is None or node.op_type not in ("Cast", "DequantizeLinear", "Identity", "Transpose"):
            return None
        order = node.attributes.get("perm")
        if node.op_type == "Transpose":
            axis = ~axis if order is None else order.as_ints()[axis]
        table = node.inputs[0]
    return None


def _embedded(table: int) -> Row:
    def row(node: ir.Node, column: Column, _places: Places) -> Iterator[Range]:
        rows = _rows(node.inputs[table], 0)
        if rows is not None:
            yield Range(0, rows - 1, column=column)

    return row


def _measured(node: ir.Node, _column: Column, places: Places) -> Iterator[Range]:
    high, within = _size(node.inputs[0], _attribute(node, "layout", 0), 0, places)
    yield Range(1, high, within)


def _counted(other: int) -> Row:
    """Lengths that are compared with positions: ``Less(Range(0, size), lengths)`` is a mask of what a row holds."""

    def row(node: ir.Node, _column: Column, places: Places) -> Iterator[Range]:
        positions = _maker(node.inputs[other], *_RESHAPING)
        if positions is None or positions.op_type != "Range":
            return
        count = _maker(positions.inputs[1], *_RESHAPING, "Gather", "Slice")
        x = None if count is None or count.op_type != "Shape" else count.inputs[0]
        picked = _maker(positions.inputs[1], *_RESHAPING)
        axis = None if picked is None or len(picked.inputs) < 2 else _constant(picked.inputs[1])
        if count is not None and count is picked:
            axis = np.asarray(_attribute(count, "start", 0))
        if x in places and axis is not None and axis.size == 1:
            assert x is not None
            yield Range(1, 0, (places[x], int(axis.flat[0]) % max(len(x.shape or (0,)), 1)))

    return row


def _limit(other: int, *, lowest: bool) -> Row:
    """One number against a table of several, as the lowest or the highest that is let through: so that most of them are."""

    def row(node: ir.Node, _column: Column, _places: Places) -> Iterator[Range]:
        table, limit = _constant(node.inputs[other]), node.inputs[1 - other]
        if table is None or table.size < 2 or limit is None or limit.shape is None or {*limit.shape} - {1}:
            return
        low, high = math.ceil(table.min()), math.floor(table.max())
        third = (high - low) // 3
        if third > 0:
            yield Range(low, low + third) if lowest else Range(high - third, high)

    return row


def _keyed(other: int) -> Row:
    """Whole numbers that are looked for among several."""
    return lambda node, column, _places: Range.of_keys(_constant(node.inputs[other]), column)


def _each(*rows: Row) -> Row:
    return lambda node, column, places: chain.from_iterable(row(node, column, places) for row in rows)


_RESHAPING = ("Cast", "Expand", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def _maker(value: ir.Value | None, *through: str) -> ir.Node | None:
    """The node that makes a value, behind those that only hand it on."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in through and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _reversed(node: ir.Node, _column: Column, places: Places) -> Iterator[Range]:
    high, within = _size(node.inputs[0], _attribute(node, "time_axis", 0), 0, places)
    yield Range(1, high, within)


def _divides(node: ir.Node, _column: Column, _places: Places) -> Iterator[Range]:
    divisor = node.inputs[1]
    if divisor is not None and divisor.dtype is not None and divisor.dtype.is_integer():
        yield Range(1)


def _boxed(node: ir.Node, column: Column, places: Places) -> Iterator[Range]:
    high, within = _size(node.inputs[0], 0, -1, places)
    yield Range(0, high if high is not None else 0, within, 0 if node.op_type == "MaxRoiPool" else column)


_ROWS: Mapping[tuple[str, int], Row] = {
    ("Gather", 1): _looked_up, ("GatherElements", 1): _looked_up, ("ScatterElements", 1): _looked_up,
    ("EmbedLayerNormalization", 0): _embedded(2), ("EmbedLayerNormalization", 1): _embedded(4),
    ("EmbedLayerNormalization", 8): _embedded(3), ("GatherBlockQuantized", 1): _looked_up,
    ("QEmbedLayerNormalization", 0): _embedded(2), ("QEmbedLayerNormalization", 1): _embedded(4),
    ("RotaryEmbedding", 1): _embedded(2), ("RotaryEmbedding", 3): _embedded(1),
    ("LSTM", 4): _measured, ("GRU", 4): _measured, ("RNN", 4): _measured, ("ReverseSequence", 1): _reversed,
    ("Less", 0): _limit(1, lowest=True), ("Less", 1): _each(_counted(0), _limit(0, lowest=False)),
    ("LessOrEqual", 0): _limit(1, lowest=True), ("LessOrEqual", 1): _each(_counted(0), _limit(0, lowest=False)),
    ("Greater", 0): _each(_counted(1), _limit(1, lowest=False)), ("Greater", 1): _limit(0, lowest=True),
    ("GreaterOrEqual", 0): _each(_counted(1), _limit(1, lowest=False)), ("GreaterOrEqual", 1): _limit(0, lowest=True),
    ("Equal", 0): _keyed(1), ("Equal", 1): _keyed(0),
    ("Div", 1): _divides, ("Mod", 1): _divides,
    ("RoiAlign", 2): _boxed, ("MaxRoiPool", 1): _boxed,
}  # fmt: skip
"""(operator, place of the input) -> what that input may hold."""
