"""Loops whose turns are known before the model runs, written turn by turn: a symbol has no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.walk import Body
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import along
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import NATIVE


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
    if isinstance(turns, Size) or not turns:
        raise CannotConvert(
            f"a Scan of {turns} turns: MXNet 1.9.1 needs as many nodes as there are turns",
            "Give the source model fixed sizes",
        )
    budget.write(turns * len(body.graph))
    backward = scan_input_directions or [0] * len(sequences)
    yielded: list[Any] = []
    for turn in range(turns):
        rows = [
            _at(xp, x, axis, turns - 1 - turn if turned else turn)
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


def _at(xp: MxnetNamespace, x: Symbol, axis: int, place: int) -> Symbol:
    return xp.squeeze(xp.slice(x, {axis: (place, place + 1, 1)}), (axis,))
