"""What the operator tables share: the table itself, the emitter, and dtypes.

A row is ``row(g, a, *inputs)``: it writes an operator's ONNX nodes with the emitter ``g``, reads its
attributes from ``a``, and returns one tensor, or as many as the operator has outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import helper

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import GraphBuilder, Tensor
from netferry.converters.graph.registry import Table
from netferry.converters.mxnet.array_format import DTYPES
from netferry.converters.mxnet.symbol import Symbol
from netferry.converters.signature import Dim

Row = Callable[..., "Tensor | Sequence[Tensor]"]
ROWS: Table[str, Row] = Table("mxnet")

CUSTOM = "Custom:"
"""What stands before the name of an operator that runs a person's own Python code, in the table."""

FLOAT32 = np.dtype(np.float32)
MOST = 2**24
"""The most elements of a constant that is made of attributes alone."""

_BY_NAME = {dtype.name: dtype for dtype in DTYPES}


class Emitter(GraphBuilder):
    """A GraphBuilder that also keeps what became of the source's weights.

    ``parts``: of a packed parameter vector, the names it was put together from, by the vector's name.
    ``made_of``: of an initializer, the source's weights that it was made of, where they differ.
    ``demands``: weights that fix how large an image is, whose size the caller did not give: (the node, how
    many numbers it takes).
    ``absent``: makes a weight that is not there, where that is asked for.
    ``inline``: writes a graph inside of the graph once, its variables bound in order.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.parts: dict[str, tuple[str, ...]] = {}
        self.made_of: dict[str, tuple[str, ...]] = {}
        self.demands: list[tuple[str, int]] = []
        self.absent: Callable[..., None] | None = None
        self.inline: Callable[[Symbol, Sequence[Tensor | None]], list[Tensor]]

    @property
    def node_name(self) -> str:
        """The name of the node that is being written."""
        return self._scope


def rows(table: Mapping[str, Row]) -> None:
    """Register rows of one expression each, under the operators' names."""
    for names, row in table.items():
        ROWS.row(*names.split())(row)


# ---- dtypes --------------------------------------------------------------------------------------


def dtype_named(name: str) -> np.dtype[Any]:
    if name not in _BY_NAME:
        raise CannotConvert(f"dtype {name!r} is not one netferry knows", f"Known: {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def cast(g: GraphBuilder, x: Tensor, dtype: Any) -> Tensor:
    """``x`` as ``dtype``; no node where it is that already."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    return g.Cast(x, to=helper.np_dtype_to_tensor_dtype(dtype))


def few(count: float) -> int:
    """A number of elements that an attribute asks for; it must not be gigabytes."""
    if not count <= MOST:
        raise CannotConvert(f"a constant of {count:.0f} elements", f"At most {MOST} are written out")
    budget.make(count)
    return int(count)


def known(x: Tensor, what: str) -> Any:
    """The content of a tensor that must be a constant."""
    if x.array is None:
        raise CannotConvert(
            f"its {what} is computed while the model runs", "Only constants are supported here"
        )
    return x.array


def sized(y: Tensor, dims: tuple[Dim, ...] | None) -> Tensor:
    """``y`` with sizes that ONNX's own inference does not find."""
    y.value.shape = None if dims is None else ir.Shape(dims)
    return replace(y, dims=dims)


def sized_like(y: Tensor, x: Tensor) -> Tensor:
    """``y`` with the sizes of ``x``."""
    return sized(y, x.dims)
