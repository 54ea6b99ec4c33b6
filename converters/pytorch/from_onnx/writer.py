"""How a PyTorch program is written: what the source writer needs of the target, and how operands are brought together.

PyTorch counts badly in uint16, uint32 and uint64: such values are cast to a signed type that holds the
same numbers (or, for 64 bits, the same bits) and back.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import ml_dtypes
import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.writer import SourceWriter, dotted, shortest
from netferry.converters.graph.ir.facts import Fact, Plan
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.dtypes import (
    BITS,
    FLOAT8,
    FLOAT32,
    INT64,
    MOVED_AS_BITS,
    NARROW,
    SIGN_BIT,
    TORCH_DTYPES,
    UINT64,
    WIDER,
)
from netferry.converters.pytorch.from_onnx.state import State, parts

RESERVED = ("_", "y", "F", "Model", "Path", "annotations", "float", "len", "load", "max", "math", "min", "nn", "range", "self",
            "torch", "tuple", "zip")  # fmt: skip

MISSING = "missing_value"
"""Stands for a value that no node could make; a program that reads it is refused."""


class PytorchWriter(SourceWriter):
    """Writes the body of ``forward``; what it needs of layers, weights and helpers is collected beside it."""

    framework = "pytorch"
    title = "PyTorch"

    def __init__(self, plan: Plan, *, reserved: Sequence[str] = ()) -> None:
        super().__init__(plan, reserved=[*RESERVED, *reserved])
        self.state = State()
        self.helpers: dict[str, None] = {}
        self.device: ast.expr | None = None

    # ---- what the writer asks -----------------------------------------------------------------------

    def dtype_expr(self, dtype: np.dtype[Any]) -> ast.expr:
        if dtype not in TORCH_DTYPES:
            raise CannotConvert(f"PyTorch has no dtype {dtype.name}", "Use a wider type in the source model")
        return dotted(TORCH_DTYPES[dtype])

    def size_of(self, x: Symbol, axis: int) -> ast.expr:
        return ast.Subscript(ast.Attribute(x.expr, "shape", ast.Load()), ast.Constant(axis), ast.Load())

    def element_of(self, x: Symbol, index: int) -> ast.expr:
        element = x if x.fact.dims == () else self.index(x, index)
        return expr_of(self.method(element, "item"))

    def materialize(self, fact: Fact) -> ast.expr:
        """A constant as a tensor: a weight or a buffer of the module, or one made on the spot."""
        if fact.constant is None:
            return self._made_on_the_spot(fact)
        if fact.constant.ndim == 0 and not fact.trainable and fact.constant.dtype in TORCH_DTYPES:
            return expr_of(self.make("torch.tensor", plain(fact.constant, None), dtype=fact.constant.dtype))
        if fact.dtype is not None and fact.dtype in NARROW:
            fact = replace(fact, content=fact.constant.astype(NARROW[fact.dtype]))
        elif fact.dtype is not None:
            self.dtype_expr(fact.dtype)
        node = vars(self).get("node")  # a graph may be made of constants alone
        last = (parts(node.name or "") or [node.op_type])[-1] if node is not None else "output"
        return self.state.tensor(fact, wish=f"{last}_constant")

    def _made_on_the_spot(self, fact: Fact) -> ast.expr:
        if fact.content is not None:
            return expr_of(self.make("torch.tensor", fact.content.tolist(), dtype=fact.dtype))
        if fact.fill is None or fact.dims is None:
            return ast.Name(MISSING, ast.Load())  # made by a node that is not supported: the walk reports it
        return expr_of(self.full(fact.dims, fact.fill, fact.dtype))

    def make(self, function: str, *args: Any, dtype: Any, dims: Any = None) -> Symbol:
        """A call that makes a tensor of a dtype, where the model's inputs are."""
        made = self.call_expr(dotted(function), *args, dtype=dtype, device=self.device)
        return self.made(made, dtype=np.dtype(dtype), dims=dims)

    def like(self, function: str, x: Symbol, dtype: Any) -> Symbol:
        """``torch.ones_like(x)`` and its kind; the dtype is written where it is another one."""
        kind = np.dtype(dtype)
        made = self.call_expr(dotted(function), x, dtype=kind if kind != x.dtype else None)
        return self.made(made, dtype=kind, dims=x.fact.dims)

    def helper(self, name: str, *args: Any, dtype: Any = None, dims: Any = None, **kwargs: Any) -> Symbol:
        """A call of a runtime helper, which the program then brings along."""
        self.helpers[name] = None
        return self.call(name, *args, dtype=dtype, dims=dims, **kwargs)

    # ---- operands ----------------------------------------------------------------------------------

    def pair(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Two operands: a constant of one number is written as a number where the other side is a tensor."""
        dtype = next(side.dtype for side in (x, y) if isinstance(side, Symbol))
        if is_number(y, x):
            return self.tensor(x, dtype), plain(y, dtype)
        if is_number(x, y):
            return plain(x, dtype), self.tensor(y, dtype)
        return self.tensor(x, dtype), self.tensor(y, dtype)

    def tensor(self, x: Any, dtype: Any) -> Symbol:
        """``x`` as a tensor, also where it is a number."""
        return x if isinstance(x, Symbol) else self.asarray(x, dtype)

    def widened(self, x: Any) -> Any:
        """``x`` in a type in which PyTorch computes."""
        wide = WIDER.get(x.dtype) if isinstance(x, Symbol) else None
        return x if wide is None else self.astype(x, wide)

    def ordered(self, x: Any) -> Any:
        """``x`` in a type in which PyTorch compares; 64 unsigned bits keep their order when the top one is flipped."""
        if not isinstance(x, Symbol) or x.dtype != UINT64:
            return self.widened(x)
        return self.binary("^", self.astype(x, INT64), SIGN_BIT)

    def unordered(self, x: Symbol, dtype: np.dtype[Any]) -> Symbol:
        """The inverse of ``ordered``."""
        return self.astype(self.binary("^", x, SIGN_BIT) if dtype == UINT64 else x, dtype)

    def _as_bits(self, x: Symbol) -> Symbol:
        """``x`` in a type that PyTorch gathers and scatters."""
        return self.bitcast(x, BITS[x.dtype.itemsize]) if x.dtype in MOVED_AS_BITS else x

    def _two(self, x: Any, y: Any, turn: Callable[[Any], Any]) -> tuple[Any, Any]:
        x, y = self.pair(x, y)
        dtype = next(side.dtype for side in (x, y) if isinstance(side, Symbol))
        if dtype in WIDER:  # numbers as tensors too: they need the same conversion
            x, y = self.tensor(x, dtype), self.tensor(y, dtype)
        return turn(x), turn(y)

    def _binary(self, sign: str, x: Any, y: Any) -> Symbol:
        """A sign between two operands, in the dtype that they have."""
        dtype, dims = dtype_of(x, y), broadcast(x, y)
        a, b = self._two(x, y, self.widened)
        result = self.binary(sign, a, b)
        return self._known(self.astype(result, dtype), dims)

    def _compare(self, sign: str, x: Any, y: Any) -> Symbol:
        dims = broadcast(x, y)
        return self._known(self.binary(sign, *self._two(x, y, self.ordered)), dims)

    def _known(self, x: Symbol, dims: Any) -> Symbol:
        return self.made(x.expr, dtype=x.dtype, dims=dims)

    # ---- making --------------------------------------------------------------------------------

    def asarray(self, content: Any, dtype: Any) -> Symbol:
        array = np.asarray(content, dtype)
        return Symbol(self, Fact(array.dtype, array.shape, array))

    def full(self, sizes: Sequence[Any], value: Any, dtype: Any) -> Symbol:
        return self.make(
            "torch.full",
            tuple(sizes),
            plain(value, np.dtype(dtype)),
            dtype=np.dtype(dtype),
            dims=tuple(sizes),
        )

    # ---- dtype ---------------------------------------------------------------------------------

    def widened_like(self, x: Symbol, weight: Symbol) -> Symbol:
        """In the dtype that ``half()`` or ``double()`` has made of the weight."""
        if weight.content is None or weight.ndim == 0 or weight.dtype != FLOAT32:
            return self.astype(x, FLOAT32)
        kind = ast.Attribute(weight.expr, "dtype", ast.Load())
        return self.method(x, "to", kind, dtype=FLOAT32, dims=x.fact.dims)

    def astype(self, x: Symbol, dtype: Any) -> Symbol:
        """Casts to 8-bit floats saturate; some of PyTorch's own do not."""
        dtype = np.dtype(dtype)
        if x.dtype == dtype:
            return x
        if dtype.name.startswith("float8"):
            if dtype.name not in FLOAT8:
                raise CannotConvert(f"PyTorch rounds to {dtype.name} in its own way", "Cast to a wider type")
            most = float(ml_dtypes.finfo(dtype).max)
            x = self.method(x, "clamp", -most, most, dims=x.fact.dims)
        return self.method(x, "to", dtype, dtype=dtype, dims=x.fact.dims)

    def bitcast(self, x: Symbol, dtype: Any) -> Symbol:
        dtype = np.dtype(dtype)
        if x.dtype.itemsize != dtype.itemsize:
            raise CannotConvert(f"{x.dtype.name} and {dtype.name} have different sizes")
        return self.method(x, "view", dtype, dtype=dtype, dims=x.fact.dims)


# ---- constants and sizes --------------------------------------------------------------------------


def expr_of(x: Symbol) -> ast.expr:
    expr: ast.expr = x.expr
    return expr


def is_number(x: Any, other: Any) -> bool:
    """Whether ``x`` is one plain number beside ``other``: writing it so changes neither dtype nor rank."""
    if not isinstance(x, Symbol):
        return True
    content = x.content
    if content is None or x.fact.trainable or content.size != 1:
        return False
    rank = None if not isinstance(other, Symbol) or other.fact.dims is None else len(other.fact.dims)
    return content.ndim == 0 or (rank is not None and rank >= content.ndim)


def plain(value: Any, dtype: np.dtype[Any] | None) -> Any:
    """A number as Python writes it; of the shortest form that is the same in ``dtype``."""
    if isinstance(value, Symbol):
        value = value.content
    if isinstance(value, Size | ast.expr) or value is None:
        return value
    array = np.asarray(value)
    number = array.reshape(-1)[0].item() if array.size == 1 else value
    kind = np.dtype(dtype) if dtype is not None else array.dtype
    if kind.kind == "b":
        return bool(number)
    if kind.kind in "iu":
        return int(number)
    if kind == FLOAT32 and np.isfinite(number):
        return shortest(np.float32(number))
    return float(number) if isinstance(number, int | float | bool) else number


def dtype_of(*xs: Any) -> np.dtype[Any]:
    return next((x.dtype for x in xs if isinstance(x, Symbol)), FLOAT32)


def broadcast(*xs: Any) -> Any:
    """The sizes of a result in which the operands are broadcast; None where they are not known."""
    shapes = [x.fact.dims for x in xs if isinstance(x, Symbol)]
    if any(dims is None for dims in shapes):
        return None
    result: list[Any] = []
    for sizes in zip_longest(*(reversed(dims) for dims in shapes if dims is not None), fillvalue=1):
        wide = {size for size in sizes if not is_size(size, 1)}
        if len(wide) > 1:
            return None
        result.append(wide.pop() if wide else 1)
    return tuple(reversed(result))


def is_size(size: Any, number: int) -> bool:
    return not isinstance(size, Size) and size == number
