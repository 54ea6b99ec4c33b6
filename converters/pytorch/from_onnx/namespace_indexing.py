"""The functions of the array namespace that read and write elements by their indices, in PyTorch's own."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import partialmethod
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.dtypes import (
    INT64,
    WIDER,
)
from netferry.converters.pytorch.from_onnx.namespace_shape import ShapeNamespace
from netferry.converters.pytorch.from_onnx.writer import (
    expr_of,
    is_number,
    is_size,
    plain,
)

_REDUCES: Mapping[str, str] = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


class IndexingNamespace(ShapeNamespace):
    """Reading, writing, sorting and choosing."""

    def _as_int64(self, indices: Symbol) -> Symbol:
        return indices if indices.dtype == INT64 else self.astype(indices, INT64)

    def take(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        fixed = plain(indices, INT64) if is_number(indices, None) else self._as_int64(indices)
        return self.index(x, *[slice(None)] * axis, fixed, dims=_taken_dims(x, indices, axis))

    def _counted_from_start(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        """Indices without negative ones."""
        content = indices.content
        if content is not None:
            if (content >= 0).all():
                return self._as_int64(indices)
            if x.fact.dims is not None and not isinstance(x.fact.dims[axis], Size):
                return self.asarray(np.where(content < 0, content + x.fact.dims[axis], content), INT64)
        indices = self._as_int64(indices)
        size = self.size_of(x, axis)
        return self.where(self.less(indices, 0), self.binary("+", indices, size), indices)

    def take_along_axis(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        positions = self._counted_from_start(x, indices, axis)
        made = self.method(self._as_bits(x), "gather", axis, positions, dims=indices.fact.dims)
        return self._from_bits(made, x.dtype)

    def gather_nd(self, x: Symbol, indices: Symbol, batch_dims: int) -> Symbol:
        if batch_dims == 0:
            return self.index(x, self._point(indices))
        return self.helper("gather_nd", x, self._as_int64(indices), batch_dims)

    def _point(self, indices: Symbol) -> ast.expr:
        """A tuple of index tensors from the last axis."""
        return expr_of(self.call("tuple", self.method(self._as_int64(indices), "unbind", -1)))

    def scatter_nd(self, x: Symbol, indices: Symbol, updates: Symbol, reduction: str) -> Symbol:
        if reduction in ("none", "add"):
            turn = self._as_bits if reduction == "none" else self.widened
            more = {"accumulate": True} if reduction == "add" else {}
            made = self.method(
                turn(x), "index_put", self._point(indices), turn(updates), dims=x.fact.dims, **more
            )
            return self._from_bits(made, x.dtype) if reduction == "none" else self.astype(made, x.dtype)
        wide, values = self.ordered(x), self.ordered(updates)
        self._known_reduction(reduction)
        made = self.helper("scatter_nd", wide, self._as_int64(indices), values, _REDUCES[reduction])
        return self._known(self.unordered(made, x.dtype), x.fact.dims)

    def scatter_along_axis(
        self, x: Symbol, indices: Symbol, updates: Symbol, axis: int, reduction: str
    ) -> Symbol:
        positions = self._counted_from_start(x, indices, axis)
        if reduction == "none":
            made = self.method(self._as_bits(x), "scatter", axis, positions, self._as_bits(updates))
            return self._known(self._from_bits(made, x.dtype), x.fact.dims)
        self._known_reduction(reduction)
        turn = self.ordered if reduction in ("max", "min") else self.widened
        made = self.method(turn(x), "scatter_reduce", axis, positions, turn(updates), _REDUCES[reduction])
        back = self.unordered if reduction in ("max", "min") else self.astype
        return self._known(back(made, x.dtype), x.fact.dims)

    def _known_reduction(self, reduction: str) -> None:
        if reduction not in _REDUCES:
            raise CannotConvert(f"the reduction '{reduction}' is not known")

    def nonzero(self, x: Symbol) -> Symbol:
        truth = self.not_equal(x, 0) if x.dtype in WIDER else x
        return self.made(ast.Attribute(self.method(truth, "nonzero").expr, "T", ast.Load()), dtype=INT64)

    def compress(self, x: Symbol, condition: Symbol, axis: int | None) -> Symbol:
        if axis is None:
            x, axis = self.reshape(x, (-1,)), 0
        positions = self.method(self.method(condition, "nonzero", dtype=INT64), "squeeze", 1)
        return self.method(x, "index_select", axis, positions)

    def topk(self, x: Symbol, k: Any, axis: int, largest: bool) -> tuple[Symbol, Symbol]:
        """By a stable sort: ``torch.topk`` leaves open which of equals comes first."""
        found = self.method(x, "sort", dim=axis, descending=bool(largest), stable=True)
        values, positions = self.unpack(found, 2, [x.dtype, INT64])
        cut = {axis: (0, k, 1)}
        return self.slice(values, cut), self.slice(positions, cut)

    def unique(self, x: Symbol, axis: int | None, sorted: bool) -> tuple[Symbol, ...]:
        made = self.helper("unique", x, axis, sorted=bool(sorted), dtype=x.dtype)
        return self.unpack(made, 4, [x.dtype, INT64, INT64, INT64])

    def _triangle(self, name: str, x: Symbol, k: Any) -> Symbol:
        made = self.method(self._as_bits(x), name, *([] if is_size(k, 0) else [k]), dims=x.fact.dims)
        return self._from_bits(made, x.dtype)

    tril = partialmethod(_triangle, "tril")
    triu = partialmethod(_triangle, "triu")


def _taken_dims(x: Symbol, indices: Symbol, axis: int) -> Any:
    if x.fact.dims is None or indices.fact.dims is None:
        return None
    return (*x.fact.dims[:axis], *indices.fact.dims, *x.fact.dims[axis + 1 :])
