"""Operators that work element by element or along axes, on tensors in any arrangement."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import partial, partialmethod
from typing import Any

import numpy as np

from netferry.converters.graph.codegen.namespace import BINARY, ELEMENTWISE, REDUCTIONS
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.layout import Perm
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.signature import Array
from netferry.converters.tensorflow.from_onnx.function_names import (
    BOOL,
    GIVES_BOOL,
    KEEP_UNSIGNED,
    PYTHON_OPERATORS,
)
from netferry.converters.tensorflow.from_onnx.layout import (
    Tensor,
    base_axes,
    broadcast,
    perm_of,
    reduced,
    without,
)
from netferry.converters.tensorflow.from_onnx.writer import TensorflowWriter


class ElementwiseNamespace(TensorflowWriter):
    """Operands are brought into one arrangement; what is pending stays pending."""

    def __getattr__(self, name: str) -> Any:
        for names, write_call in (
            (ELEMENTWISE, self._unary),
            (BINARY, self._binary),
            (REDUCTIONS, self._reduce),
        ):
            if name in names:
                return partial(write_call, name)
        return super().__getattr__(name)

    # ---- elementwise --------------------------------------------------------------------------------

    def together(self, *operands: Any) -> tuple[list[Any], Perm | None, Any]:
        """Operands as expressions of one arrangement: the first that is pending decides."""
        perm = next((perm_of(x) for x in operands if perm_of(x) is not None), None)
        dims = broadcast([x.fact.dims if isinstance(x, Symbol) else () for x in operands])
        if perm is not None and (dims is None or len(dims) != len(perm)):
            perm = None
        return [self._operand(x, perm) for x in operands], perm, dims

    def _operand(self, x: Any, perm: Perm | None) -> Any:
        if not isinstance(x, Symbol):
            return x
        content = x.content
        if (
            content is not None
            and content.ndim == 0
            and content.dtype.kind in "fiub"
            and content.dtype.itemsize <= 8
        ):
            return self.number(content)
        if perm is None or x.ndim == 0:
            return x.expr
        rank = len(perm)
        if content is not None:
            whole = content.reshape((1,) * (rank - content.ndim) + content.shape)
            return self.materialize(self._frozen(x.fact, whole.transpose(layout.inverse(perm))))
        if x.ndim < rank:
            x = self.expand_dims(x, tuple(range(rank - x.ndim)))
        return self.arranged(x, perm)

    def number(self, content: Array) -> Any:
        """A 0-d constant beside a tensor: a number where that reads back exactly."""
        return content.item() if content.dtype.name in _PLAIN else self.array(content)

    def elementwise(self, name: str, *operands: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
        """A name of the table on operands that are broadcast together."""
        exprs, perm, dims = self.together(*operands)
        dtype = dtype or next(x.fact.dtype for x in operands if isinstance(x, Symbol))
        return self.write_call(name, *exprs, dtype=dtype, dims=dims, perm=perm, **kwargs)

    def _unary(self, name: str, x: Symbol, **kwargs: Any) -> Tensor:
        if name in KEEP_UNSIGNED and x.dtype.kind == "u":
            return Tensor(self, x.fact, x.expr)
        return self.elementwise(name, x, dtype=BOOL if name in GIVES_BOOL else x.fact.dtype, **kwargs)

    def _binary(self, name: str, a: Any, b: Any) -> Tensor:
        dtype = next(x.fact.dtype for x in (a, b) if isinstance(x, Symbol))
        a, b = (self.sized(x, dtype) if isinstance(x, Size) else x for x in (a, b))
        exprs, perm, dims = self.together(a, b)
        gives = BOOL if name in GIVES_BOOL else dtype
        tensors = any(isinstance(x, Symbol) and x.content is None for x in (a, b))
        array_first = isinstance(a, Symbol) and a.content is not None and isinstance(exprs[0], ast.Call)
        if (
            name in PYTHON_OPERATORS and tensors and not array_first
        ):  # NumPy would take the operator for its own
            plain = self.binary(PYTHON_OPERATORS[name], *exprs, dtype=gives)
            return Tensor(self, Fact(gives, dims), plain.expr, perm)
        typed = [self._typed(x, dtype) for x in exprs]
        return self.write_call(name, *typed, dtype=gives, dims=dims, perm=perm)

    def sized(self, size: Size, dtype: Any) -> Tensor:
        """A size beside a tensor, in its dtype."""
        return self.call(f"{self.root}.cast", size, dtype, dtype=dtype, dims=())

    def _typed(self, x: Any, dtype: Any) -> Any:
        """A number as it stands beside a tensor in a call."""
        if isinstance(x, ast.expr) or dtype is None:
            return x
        return self.array(np.asarray(x).astype(dtype))

    def where(self, condition: Any, x: Any, y: Any) -> Tensor:
        dtype = next(v.fact.dtype for v in (x, y) if isinstance(v, Symbol))
        exprs, perm, dims = self.together(condition, x, y)
        typed = [self._typed(exprs[0], BOOL), *(self._typed(e, dtype) for e in exprs[1:])]
        return self.write_call("where", *typed, dtype=dtype, dims=dims, perm=perm)

    def astype(self, x: Any, dtype: np.dtype[Any]) -> Tensor:
        return self.write_call("astype", self._base(x), dtype, dtype=dtype, dims=x.fact.dims, perm=perm_of(x))

    # ---- along axes -----------------------------------------------------------------------------------

    def _reduce(self, name: str, x: Symbol, axes: Sequence[int], keepdims: bool) -> Tensor:
        perm = perm_of(x)
        dims = reduced(x.fact.dims, axes, keepdims)
        left = perm if keepdims else without(perm, axes)
        inner = base_axes(perm, axes)
        axis = inner[0] if len(inner) == 1 else inner
        return self.write_call(
            name,
            self._base(x),
            axis=axis,
            keepdims=True if keepdims else None,
            dtype=x.fact.dtype,
            dims=dims,
            perm=left,
        )

    def logsumexp(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Tensor:
        return self._reduce("logsumexp", x, axes, keepdims)

    def along(self, name: str, x: Symbol, axis: int, **kwargs: Any) -> Tensor:
        """A name that works along one axis and keeps every size."""
        perm = perm_of(x)
        inner = base_axes(perm, (axis,))[0]
        return self.write_call(
            name, self._base(x), axis=inner, dtype=x.fact.dtype, dims=x.fact.dims, perm=perm, **kwargs
        )

    softmax = partialmethod(along, "softmax")
    log_softmax = partialmethod(along, "log_softmax")
    cumulative_sum = partialmethod(along, "cumulative_sum")
    cumulative_prod = partialmethod(along, "cumulative_prod")


_PLAIN = frozenset(
    {"float16", "float32", "float64", "int32", "int64", "int8", "int16", "uint8", "uint16", "bool"}
)
