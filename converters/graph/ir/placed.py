"""A tensor of which a part is replaced, for exporters."""

from __future__ import annotations

import numpy as np

from netferry.converters.graph.ir.build import GraphBuilder, Tensor


def placed(g: GraphBuilder, x: Tensor, values: Tensor, starts: Tensor) -> Tensor:
    """``x`` with ``values`` from ``starts`` (int64, one for each axis) on; a start is moved back until they fit, as XLA does it."""
    room = g.Sub(g.Shape(x), g.Shape(values))
    before = g.Min(g.Max(starts, g.ints(*[0] * x.rank)), room)
    pads = g.Concat(before, g.Sub(room, before), axis=0)
    written = g.Pad(g.Expand(g.constant(np.asarray(1, np.int32)), g.Shape(values)), pads)
    return g.Where(g.Equal(written, g.constant(np.asarray(1, np.int32))), g.Pad(values, pads), x)
