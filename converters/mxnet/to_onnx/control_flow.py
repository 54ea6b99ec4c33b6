"""Loops: written out step by step, where the number of steps is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.files import parse_symbol
from netferry.converters.mxnet.symbol import VERSION, Symbol
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter
from netferry.converters.mxnet.to_onnx.sizes import stacked

_MOST_STEPS, _WEIGHT = 1024, 2


def _body(raw: Any) -> Symbol:
    """A graph inside of a node is of its symbol's own generation, and does not say so."""
    document = {**raw, "attrs": {"mxnet_version": ["int", VERSION]}} if isinstance(raw, Mapping) else raw
    return parse_symbol(json.dumps(document), "the loop's body")


@ROWS.row("_foreach")
def foreach(g: Emitter, a: Attrs, *inputs: Tensor) -> list[Tensor]:
    """The body at each position of the first axis of some inputs; what it gives, stacked, then its last states.

    inputs: those, the first states, and what the body reads besides; ``*_locs`` say which of the body's
    variables they are.
    """
    body = _body(a.subgraph(0))
    positions = [a.integers(f"in_{kind}_locs") for kind in ("data", "state")]
    along, states = (list(each) for each in (inputs[: len(positions[0])], inputs[len(positions[0]) :]))
    others = states[len(positions[1]) :]
    states = states[: len(positions[1])]
    bound: dict[int, Tensor] = dict(zip(a.integers("remain_locs"), others, strict=True))
    steps, given = along[0].size(0), a.integer("num_out_data")
    if not 0 < steps <= _MOST_STEPS:
        raise CannotConvert(f"{steps} steps of a loop", f"Up to {_MOST_STEPS} are written out")
    rows: list[Sequence[Tensor]] = []
    if not budget.take("nodes", steps * _WEIGHT * len(body.nodes)):
        raise CannotConvert(
            f"{steps} steps of a loop of {len(body.nodes)} nodes",
            "Fewer are written out, loops within loops together",
        )
    for step in range(steps):
        here = [g.Gather(x, g.constant(step, np.int64), axis=0) for x in along]
        bound |= dict(zip(positions[0], here, strict=True)) | dict(zip(positions[1], states, strict=True))
        made = g.inline(body, [bound[position] for position in sorted(bound)])
        rows.append(made[:given])
        states = made[given:]
    joined = [stacked(g, column, 0) for column in zip(*rows, strict=True)]
    return [*joined, *states]
