"""Branches and loops: a few turns are written one by one, as many as there are at run time by MXNet's own loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from netferry.converters.graph.codegen.walk import Body
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import along
from netferry.converters.mxnet.from_onnx.bodies import cond, foreach
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import NATIVE

_MOST_WRITTEN = 64
"""Turns."""


@NATIVE.row("If")
def branches(xp: MxnetNamespace, condition: Symbol, *, then_branch: Body, else_branch: Body) -> Any:
    if condition.content is not None:
        return (then_branch if condition.content.all() else else_branch)()
    return cond(xp, condition, (then_branch, else_branch))


@NATIVE.row("Scan")
def scan(
    xp: MxnetNamespace,
    *inputs: Symbol,
    body: Body,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None,
    scan_input_directions: Sequence[int] | None,
    scan_output_axes: Sequence[int] | None,
    scan_output_directions: Sequence[int] | None,
) -> Any:
    """The states of each turn go into the next; what a turn yields is stacked."""
    count = len(inputs) - num_scan_inputs
    states, sequences = list(inputs[:count]), inputs[count:]
    axes = [along(a, x.ndim) for a, x in zip(scan_input_axes or [0] * len(sequences), sequences, strict=True)]
    turns = sequences[0].shape[axes[0]]
    backward = scan_input_directions or [0] * len(sequences)
    if isinstance(turns, Size) or turns > _MOST_WRITTEN:
        rows = [
            _ahead(xp, x, axis, bool(turned))
            for x, axis, turned in zip(sequences, axes, backward, strict=True)
        ]

        def turn(row: list[Symbol], state: list[Symbol]) -> tuple[Sequence[Symbol], Sequence[Symbol]]:
            given = body(*state, *row)
            return given[count:], given[:count]

        stacked, states = foreach(xp, turn, rows, states)
        return [*states, *_placed(xp, stacked, scan_output_axes, scan_output_directions)]
    budget.write(turns * len(body.graph))
    yielded: list[Any] = []
    for number in range(turns):
        rows = [
            _at(xp, x, axis, turns - 1 - number if turned else number)
            for x, axis, turned in zip(sequences, axes, backward, strict=True)
        ]
        results = body(*states, *rows)
        states = list(results[:count])
        yielded.append(results[count:])
    stacked = []
    for place, parts in enumerate(zip(*yielded, strict=True)):
        ordered = parts[::-1] if scan_output_directions and scan_output_directions[place] else parts
        axis = scan_output_axes[place] if scan_output_axes else 0
        stacked.append(xp.stack(ordered, along(axis, parts[0].ndim + 1)))
    return [*states, *stacked]


def _ahead(xp: MxnetNamespace, x: Symbol, axis: int, turned: bool) -> Symbol:
    """With the axis that a loop goes along in front, in the order in which it goes."""
    x = xp.flip(x, (axis,)) if turned else x
    return xp.permute_dims(x, (axis, *(i for i in range(x.ndim) if i != axis)))


def _placed(
    xp: MxnetNamespace,
    stacked: Sequence[Symbol],
    axes: Sequence[int] | None,
    directions: Sequence[int] | None,
) -> Iterator[Symbol]:
    """What turns gave, along the axis and in the order that the node says."""
    for place, x in enumerate(stacked):
        x = xp.flip(x, (0,)) if directions and directions[place] else x
        axis = along(axes[place], x.ndim) if axes else 0
        yield xp.permute_dims(x, (*range(1, axis + 1), 0, *range(axis + 1, x.ndim)))


def _at(xp: MxnetNamespace, x: Symbol, axis: int, place: int) -> Symbol:
    return xp.squeeze(xp.slice(x, {axis: (place, place + 1, 1)}), (axis,))
