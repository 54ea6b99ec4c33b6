"""The functions of the array namespace that work element by element, in PyTorch's own."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import partialmethod
from typing import Any

from netferry.converters.graph.codegen.namespace import ELEMENTWISE
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.dtypes import (
    BOOL,
    FLOAT32,
    MOVED_AS_BITS,
    UINT64,
    WIDER,
)
from netferry.converters.pytorch.from_onnx.writer import (
    PytorchWriter,
    broadcast,
    dtype_of,
)

_SIGNED: Mapping[str, str] = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "pow": "**",
    "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "left_shift": "<<",
    "logical_and": "&", "logical_or": "|", "logical_xor": "^",
}  # fmt: skip
"""Functions whose bits come out alike in a wider signed type."""
_COMPARISONS: Mapping[str, str] = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="}


class ElementwiseNamespace(PytorchWriter):
    """One and two operands."""

    def _elementwise(self, function: str, x: Symbol) -> Symbol:
        return self.astype(self.call(function, self.widened(x), dims=x.fact.dims), x.dtype)

    def equal(self, x: Any, y: Any) -> Symbol:
        return self._known(self.binary("==", *self.pair(x, y)), broadcast(x, y))

    def not_equal(self, x: Any, y: Any) -> Symbol:
        return self._known(self.binary("!=", *self.pair(x, y)), broadcast(x, y))

    def negative(self, x: Symbol) -> Symbol:
        return self._known(self.astype(self.unary("-", self.widened(x)), x.dtype), x.fact.dims)

    def logical_not(self, x: Symbol) -> Symbol:
        return self._known(self.unary("~", x), x.fact.dims)

    def bitwise_invert(self, x: Symbol) -> Symbol:
        return self._known(self.astype(self.unary("~", self.widened(x)), x.dtype), x.fact.dims)

    def abs(self, x: Symbol) -> Symbol:
        return x if x.dtype.kind == "u" else self.call("torch.abs", x, dims=x.fact.dims)

    def sign(self, x: Symbol) -> Symbol:
        if x.dtype.kind == "u":
            return self.astype(self.not_equal(x, 0), x.dtype)
        made = self.call("torch.sign", x, dims=x.fact.dims)
        return made if x.dtype.kind == "i" else self.where(self.isnan(x), x, made)

    def isinf(self, x: Symbol) -> Symbol:
        wide = self.astype(x, FLOAT32) if x.dtype in MOVED_AS_BITS else x
        return self.call("torch.isinf", wide, dtype=BOOL, dims=x.fact.dims)

    def isnan(self, x: Symbol) -> Symbol:
        return self.call("torch.isnan", x, dtype=BOOL, dims=x.fact.dims)

    def _divide(self, rounding: str, x: Any, y: Any) -> Symbol:
        dtype = dtype_of(x, y)
        if dtype == UINT64:
            return self.helper("unsigned_divide", *self.pair(x, y), dtype=dtype, dims=broadcast(x, y))
        a, b = self._tensor_first(x, y)
        made = self.call("torch.div", a, b, rounding_mode=rounding, dtype=WIDER.get(dtype, dtype))
        return self._known(self.astype(made, dtype), broadcast(x, y))

    floor_divide = partialmethod(_divide, "floor")
    trunc_divide = partialmethod(_divide, "trunc")

    def remainder(self, x: Any, y: Any) -> Symbol:
        if dtype_of(x, y) == UINT64:
            x = self.tensor(x, UINT64)
            return self._binary("-", x, self._binary("*", self._divide("trunc", x, y), y))
        return self._binary("%", x, y)

    def fmod(self, x: Any, y: Any) -> Symbol:
        dtype = dtype_of(x, y)
        if dtype == UINT64:
            return self.remainder(x, y)
        a, b = self._tensor_first(x, y)
        made = self.call("torch.fmod", a, b, dtype=WIDER.get(dtype, dtype))
        return self._known(self.astype(made, dtype), broadcast(x, y))

    def right_shift(self, x: Any, y: Any) -> Symbol:
        if dtype_of(x, y) == UINT64:
            return self.helper("unsigned_shift", *self.pair(x, y), dtype=UINT64, dims=broadcast(x, y))
        return self._binary(">>", x, y)

    def _tensor_first(self, x: Any, y: Any) -> tuple[Symbol, Any]:
        """Two operands of a function of ``torch`` that takes no number in front."""
        a, b = self._two(x, y, self.widened)
        return (a, b) if isinstance(a, Symbol) else (self.tensor(a, b.dtype), b)

    def _extreme(self, function: str, bound: str, x: Any, y: Any) -> Symbol:
        dtype, dims = dtype_of(x, y), broadcast(x, y)
        a, b = self._two(x, y, self.ordered)
        if not isinstance(a, Symbol):
            a, b = b, a
        if isinstance(b, Symbol):
            return self._known(self.unordered(self.call(function, a, b), dtype), dims)
        return self.method(a, "clamp", **{bound: b}, dims=dims)

    maximum = partialmethod(_extreme, "torch.maximum", "min")
    minimum = partialmethod(_extreme, "torch.minimum", "max")

    def where(self, condition: Symbol, x: Any, y: Any) -> Symbol:
        dtype = dtype_of(x, y)
        dims = broadcast(condition, self.made(ast.Constant(0), dtype=dtype, dims=broadcast(x, y)))
        x, y = self.pair(x, y) if isinstance(x, Symbol) or isinstance(y, Symbol) else (x, y)
        if dtype == BOOL:  # a plain bool would do, a plain int would not: both as tensors
            x, y = self.tensor(x, dtype), self.tensor(y, dtype)
        return self.call("torch.where", condition, x, y, dtype=dtype, dims=dims)


for _name in ELEMENTWISE:
    if _name not in vars(ElementwiseNamespace):
        setattr(
            ElementwiseNamespace, _name, partialmethod(ElementwiseNamespace._elementwise, f"torch.{_name}")
        )
for _name, _sign in _SIGNED.items():
    if _name not in vars(ElementwiseNamespace):
        setattr(ElementwiseNamespace, _name, partialmethod(ElementwiseNamespace._binary, _sign))
for _name, _sign in _COMPARISONS.items():
    setattr(ElementwiseNamespace, _name, partialmethod(ElementwiseNamespace._compare, _sign))
