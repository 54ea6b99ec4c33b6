"""Rows that numpy alone needs: casts in every form, control flow, sequences, optionals, strings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.numpy.namespace import cast
from netferry.converters.graph.ops.table import along, dtype_of
from netferry.converters.graph.schema.attributes import Operators
from netferry.converters.signature import Array

Row = Callable[..., Any]


def taken(x: Any) -> Array:
    """The array of a symbol."""
    if x.fact.content is None:
        raise CannotConvert("it is not known before the model runs")
    return x.fact.content  # type: ignore[no-any-return]


ROWS = Operators("numpy's own rows")


def _row(function: Row) -> Row:
    return ROWS.row(function.__name__)(function)


# ---- casts --------------------------------------------------------------------------------------------------


@_row
def Cast(xp: Any, x: Any, *, to: int, saturate: int, round_mode: str) -> Any:
    if x.content is None:
        return xp.astype(x, dtype_of(to))
    return xp.given(cast(x.content, dtype_of(to), saturate=bool(saturate), round_mode=round_mode))


@_row
def CastLike(xp: Any, x: Any, target: Any, *, saturate: int, round_mode: str) -> Any:
    return xp.given(cast(taken(x), target.dtype, saturate=bool(saturate), round_mode=round_mode))


# ---- control flow ---------------------------------------------------------------------------------------------


@_row
def If(xp: Any, condition: Any, *, then_branch: Any, else_branch: Any) -> Any:
    return xp.choose(condition, then_branch, else_branch)


@_row
def Loop(xp: Any, trips: Any, condition: Any, *states: Any, body: Any) -> Any:
    """Until it has run ``trips`` times or its condition is false; what it gives beyond states is stacked."""
    count = None if trips is None else int(taken(trips).reshape(-1)[0])
    goes_on = condition is None or bool(taken(condition).reshape(-1)[0])
    scans: list[list[Any]] = []
    turn = 0
    while goes_on and (count is None or turn < count):
        held = xp.given(np.asarray(True))
        going, *results = body(xp.given(np.int64(turn)), held, *states)
        goes_on = bool(taken(going).reshape(-1)[0])
        states = tuple(results[: len(states)])
        scans.append(results[len(states) :])
        turn += 1
    stacked = [_stacked(xp, column) for column in zip(*scans, strict=True)] or [
        _nothing(xp, value) for value in body.graph.outputs[1 + len(states) :]
    ]
    return (*states, *stacked)


def _stacked(xp: Any, column: Sequence[Any], axis: int = 0) -> Any:
    return xp.stack(list(column), axis if axis >= 0 else axis + column[0].ndim + 1)


def _nothing(xp: Any, value: Any) -> Any:
    sizes = [size if isinstance(size, int) else 0 for size in value.shape or ()]
    return xp.given(np.zeros((0, *sizes), value.dtype.numpy()))


@_row
def Scan(
    xp: Any,
    *inputs: Any,
    body: Any,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None,
    scan_input_directions: Sequence[int] | None,
    scan_output_axes: Sequence[int] | None,
    scan_output_directions: Sequence[int] | None,
) -> Any:
    """The body over the slices of its last inputs; its outputs beyond states are stacked."""
    if None in inputs:
        raise CannotConvert(
            "it is a Scan of opset 8, with a batch axis", "Export the model with opset 9 or newer"
        )
    first = len(inputs) - num_scan_inputs
    states, scanned = inputs[:first], inputs[first:]
    axes = scan_input_axes or [0] * num_scan_inputs
    rows = [xp.unstack(x, along(axis, x.ndim)) for x, axis in zip(scanned, axes, strict=True)]
    backwards = scan_input_directions or [0] * num_scan_inputs
    rows = [row[::-1] if back else row for row, back in zip(rows, backwards, strict=True)]
    scans: list[Any] = []
    for slices in zip(*rows, strict=True):
        results = body(*states, *slices)
        states = tuple(results[:first])
        scans.append(results[first:])
    columns = list(zip(*scans, strict=True))
    turned = scan_output_directions or [0] * len(columns)
    columns = [column[::-1] if back else column for column, back in zip(columns, turned, strict=True)]
    out_axes = scan_output_axes or [0] * len(columns)
    return (*states, *(_stacked(xp, column, axis) for column, axis in zip(columns, out_axes, strict=True)))


# ---- sequences and optionals --------------------------------------------------------------------------------------


def _place(position: Any, default: int) -> int:
    return default if position is None else int(taken(position).reshape(-1)[0])


@_row
def SequenceConstruct(xp: Any, *inputs: Any) -> Any:
    return (list(inputs),)


@_row
def SequenceEmpty(xp: Any, *, dtype: int | None) -> Any:
    return ([],)


@_row
def SequenceAt(xp: Any, sequence: Any, position: Any) -> Any:
    return sequence[_place(position, 0)]


@_row
def SequenceErase(xp: Any, sequence: Any, position: Any = None) -> Any:
    place = _place(position, -1) % len(sequence)
    return ([*sequence[:place], *sequence[place + 1 :]],)


@_row
def SequenceInsert(xp: Any, sequence: Any, tensor: Any, position: Any = None) -> Any:
    longer = list(sequence)
    longer.insert(_place(position, len(sequence)), tensor)
    return (longer,)


@_row
def SequenceLength(xp: Any, sequence: Any) -> Any:
    return xp.given(np.int64(len(sequence)))


@_row
def SequenceMap(xp: Any, sequence: Any, *more: Any, body: Any) -> Any:
    """The body for each element; further sequences go along, tensors stay the same."""
    turns = [
        body(element, *(other[i] if isinstance(other, list) else other for other in more))
        for i, element in enumerate(sequence)
    ]
    return tuple(list(column) for column in zip(*turns, strict=True))


@_row
def SplitToSequence(xp: Any, x: Any, split: Any = None, *, axis: int, keepdims: int) -> Any:
    axis = along(axis, x.ndim)
    size = x.shape[axis]
    if split is None:
        parts = xp.split(x, (1,) * size, axis)
        return ([*parts] if keepdims else [xp.squeeze(part, (axis,)) for part in parts],)
    lengths: Any = taken(split)
    if lengths.ndim == 0:
        step = int(lengths)
        lengths = [step] * (size // step) + [size % step] * bool(size % step)
    return ([*xp.split(x, [int(length) for length in lengths], axis)],)


@_row
def ConcatFromSequence(xp: Any, sequence: Any, *, axis: int, new_axis: int) -> Any:
    return (
        _stacked(xp, sequence, axis) if new_axis else xp.concat(list(sequence), along(axis, sequence[0].ndim))
    )


@_row
def Optional(xp: Any, x: Any = None, *, type: Any) -> Any:  # noqa: A002
    return (x,)


@_row
def OptionalGetElement(xp: Any, x: Any) -> Any:
    return (x,)


@_row
def OptionalHasElement(xp: Any, x: Any = None) -> Any:
    return xp.given(np.asarray(x is not None))


# ---- strings ---------------------------------------------------------------------------------------------------------


def _texts(function: Callable[..., Any], *xs: Any) -> Any:
    return np.asarray(np.frompyfunc(function, len(xs), 1)(*map(taken, xs)), object)


def _length(x: Array) -> int:
    """Characters of the longest text."""
    return max((len(text) for text in x.flat), default=0)


@_row
def StringConcat(xp: Any, x: Any, y: Any) -> Any:
    places = np.broadcast(taken(x), taken(y)).size
    budget.make(places * (_length(taken(x)) + _length(taken(y))))
    return xp.given(_texts(lambda a, b: a + b, x, y))


@_row
def RegexFullMatch(xp: Any, x: Any, *, pattern: str | None) -> Any:
    found = _texts(lambda text: re.fullmatch(pattern or "", text) is not None, x)
    return xp.given(found.astype(bool))


@_row
def StringSplit(xp: Any, x: Any, *, delimiter: str | None, maxsplit: int | None) -> Any:
    limit = -1 if maxsplit is None else maxsplit
    parts = [text.split(delimiter or None, limit) for text in taken(x).reshape(-1)]
    width = max(map(len, parts), default=0)
    budget.make(len(parts) * width)
    table = np.array([[*part, *[""] * (width - len(part))] for part in parts], object)
    counts = np.array([len(part) for part in parts], np.int64)
    return xp.given(table.reshape(*x.shape, width)), xp.given(counts.reshape(x.shape))


_CASES: Mapping[str, Callable[[str], str]] = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}


@_row
def StringNormalizer(
    xp: Any,
    x: Any,
    *,
    case_change_action: str,
    is_case_sensitive: int,
    locale: str | None,
    stopwords: Sequence[str] | None,
) -> Any:
    """Words without the stop words, all in one case; one empty word where none is left."""
    change, fold = _CASES[case_change_action], str if is_case_sensitive else str.lower
    stops = {fold(word) for word in stopwords or ()}
    rows = [[change(text) for text in row if fold(text) not in stops] for row in np.atleast_2d(taken(x))]
    kept = np.array([row or [""] for row in rows], object)
    return xp.given(kept if x.ndim == 2 else kept[0])
