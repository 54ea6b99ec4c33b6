"""The functions of ``graph/codegen/namespace.py`` in PyTorch's own: each writes a piece of Python, torch is not imported.

What PyTorch has no function for, the program brings along as one of the runtime helpers.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import partialmethod
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.ir.facts import Home
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.attributes import Operators
from netferry.converters.pytorch.dtypes import (
    BOOL,
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
)
from netferry.converters.pytorch.from_onnx.namespace_indexing import IndexingNamespace
from netferry.converters.pytorch.from_onnx.namespace_shape import without
from netferry.converters.pytorch.from_onnx.writer import (
    is_size,
)

LAYERS = Operators("ONNX to PyTorch")
"""The target's own rows, filled by the files beside this one; what they decline, the shared rows write."""


class TorchNamespace(IndexingNamespace):
    """Every function of the array namespace."""

    rows = LAYERS

    # ---- along axes ----------------------------------------------------------------------------

    def sum(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        wide = self.widened(x)
        kind = wide.dtype if wide.dtype.kind in "iu" else None
        return self.astype(self._reduce("sum", wide, axes, keepdims, kind), x.dtype)

    def mean(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        if x.dtype.kind in "iu":
            return self.astype(self._reduce("mean", self.astype(x, FLOAT64), axes, keepdims), x.dtype)
        return self._reduce("mean", x, axes, keepdims)

    def prod(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        """One axis after the other: ``torch.prod`` takes no more."""
        made = self.widened(x)
        for axis in sorted(axes, reverse=True):
            kind = made.dtype if made.dtype.kind in "iu" else None
            made = self._reduce("prod", made, (axis,), keepdims, kind)
        return self.astype(made, x.dtype)

    def _most(self, name: str, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        dims = reduced(x, axes, keepdims)
        if (
            dims is not None
            and x.fact.dims is not None
            and any(is_size(x.fact.dims[axis], 0) for axis in axes)
        ):
            return self.full(dims, _least(x.dtype) if name == "amax" else _greatest(x.dtype), x.dtype)
        y = self.ordered(x)
        if any(self._may_be_empty(x, axis) for axis in axes):
            made = self.helper("reduce_axes", y, name, tuple(axes), bool(keepdims), dtype=y.dtype)
        else:
            made = self._reduce(name, y, axes, keepdims)
        return self._known(self.unordered(made, x.dtype), dims)

    def _may_be_empty(self, x: Symbol, axis: int) -> bool:
        """Whether an axis may have no place: it is free, and is not an axis of an input that the model names."""
        size = x.fact.dims[axis] if x.fact.dims is not None else 1
        homes = [] if isinstance(size, int) else [self.plan.homes[name] for name in size.names()]
        return not all(home.value in self.plan.graph.inputs and _is_named(home) for home in homes)

    max = partialmethod(_most, "amax")
    min = partialmethod(_most, "amin")

    def _reduce(self, name: str, x: Symbol, axes: Sequence[int], keepdims: bool, kind: Any = None) -> Symbol:
        where = axes[0] if len(axes) == 1 else tuple(axes)
        function = ast.Attribute(x.expr, name, ast.Load())
        made = self.call_expr(function, where, keepdim=True if keepdims else None, dtype=kind)
        return self.made(made, x, dims=reduced(x, axes, keepdims))

    def _index_of(self, name: str, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        comparable = self.astype(x, INT32) if x.dtype == BOOL else self.ordered(x)
        return self._known(self.astype(self._as(self._reduce(name, comparable, (axis,), keepdims), INT64), INT64),
                           reduced(x, (axis,), keepdims))  # fmt: skip

    argmax = partialmethod(_index_of, "argmax")
    argmin = partialmethod(_index_of, "argmin")

    def _as(self, x: Symbol, dtype: Any) -> Symbol:
        """The same expression, known to have another dtype than its operand."""
        return self.made(x.expr, dtype=dtype, dims=x.fact.dims)

    def _running(self, name: str, x: Symbol, axis: int) -> Symbol:
        wide = self.widened(x)
        function = ast.Attribute(wide.expr, name, ast.Load())
        made = self.call_expr(function, axis, dtype=wide.dtype if wide.dtype.kind in "iu" else None)
        return self.astype(self.made(made, wide, dims=x.fact.dims), x.dtype)

    cumulative_sum = partialmethod(_running, "cumsum")
    cumulative_prod = partialmethod(_running, "cumprod")

    def logsumexp(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self._reduce("logsumexp", x, axes, keepdims)

    def softmax(self, x: Symbol, axis: int) -> Symbol:
        return self.call("torch.softmax", x, axis, dims=x.fact.dims)

    def log_softmax(self, x: Symbol, axis: int) -> Symbol:
        return self.call("torch.log_softmax", x, axis, dims=x.fact.dims)

    # ---- algebra -------------------------------------------------------------------------------

    def matmul(self, a: Symbol, b: Symbol) -> Symbol:
        made = self.binary("@", self.widened(a), self.widened(b))
        return self.astype(made, a.dtype)

    def einsum(self, equation: str, *xs: Symbol) -> Symbol:
        made = self.call("torch.einsum", equation, *(self.widened(x) for x in xs))
        return self.astype(made, xs[0].dtype)

    def det(self, x: Symbol) -> Symbol:
        return self.call("torch.linalg.det", x)

    def inv(self, x: Symbol) -> Symbol:
        return self.call("torch.linalg.inv", x)

    def dft(self, x: Symbol, axis: int, length: Any, inverse: bool, onesided: bool) -> Symbol:
        """Half types through float32; one half of the spectrum is ``rfft``'s, or cut off a whole one."""
        wide = self.astype(x, FLOAT32) if x.dtype.itemsize < 4 else x
        options = {"inverse": True if inverse else None, "onesided": True if onesided else None}
        return self.astype(self.helper("dft", wide, axis, length, **options, dtype=wide.dtype), x.dtype)


def reduced(x: Symbol, axes: Sequence[int], keepdims: bool) -> Any:
    """The sizes that are left after a reduction."""
    if x.fact.dims is None:
        return None
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(x.fact.dims))
    return without(x.fact.dims, axes)


def _least(dtype: np.dtype[Any]) -> Any:
    return False if dtype == BOOL else int(np.iinfo(dtype).min) if dtype.kind in "iu" else float("-inf")


def _greatest(dtype: np.dtype[Any]) -> Any:
    return True if dtype == BOOL else int(np.iinfo(dtype).max) if dtype.kind in "iu" else float("inf")


def _is_named(home: Home) -> bool:
    """Whether a free size is read off an axis that has a name of its own."""
    shape = home.value.shape
    if home.kind != "dim" or shape is None:
        return False
    dim = shape[home.index]
    return isinstance(dim, ir.SymbolicDim) and dim.value is not None
