"""The table of MXNet's own rows, and what they share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.attributes import Operators
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.signature import Array

NATIVE = Operators("MXNet's native layers")

COMPUTED = frozenset([np.dtype("f4"), np.dtype("f8")])
"""What MXNet's kernels compute with on a CPU."""


def computed(*xs: Symbol | None) -> bool:
    return all(x is None or x.dtype in COMPUTED for x in xs)


def demand_floats(xp: MxnetNamespace, x: Symbol) -> None:
    if x.dtype not in COMPUTED:
        raise CannotConvert(f"MXNet has no {xp.node.op_type} for {x.dtype.name}")


def weight(
    xp: MxnetNamespace, w: Symbol, change: Callable[[Array], Array] | None = None, *, fresh: bool = False
) -> Symbol:
    """A weight as a parameter under the source's name, changed at build time where the layer wants another form."""
    if w.content is None:
        raise CannotConvert("its weight is not a constant")
    content = np.ascontiguousarray(change(w.content) if change else w.content)
    if not w.fact.trainable:
        return xp.constant(content, w.fact.name)
    return xp.parameter(content, w.fact.name, source=w.fact.name, fresh=fresh)
