"""Sizes of recurrent layers: the sequence, then the last states."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.inference.dims import SHAPES, Dims, ranked
from netferry.converters.graph.ir.facts import Fact


@SHAPES.row("LSTM", "GRU", "RNN")
@ranked
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
@ranked
def fused_recurrent(x: Any, w: Any, r: Any, *_: Any, **__: Any) -> list[Dims]:
    time, batch, _width = x.dims
    directions, hidden = r.dims[0], r.dims[-1]
    state = (directions, batch, hidden)
    return [(time, batch, directions * hidden), state, state]
