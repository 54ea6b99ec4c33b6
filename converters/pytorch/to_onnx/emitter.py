"""What a row is given to write with: the graph builder, what PyTorch gives for the call, and sizes as tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
import sympy
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils._sympy import functions as symbolic

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import GraphBuilder, Tensor
from netferry.converters.pytorch.live import numpy_dtype, to_numpy
from netferry.converters.pytorch.quantized_weights import with_parts
from netferry.converters.pytorch.to_onnx.tracer.calls import Call, Value, leaves_of
from netferry.converters.pytorch.to_onnx.tracer.sizes import Size
from netferry.converters.signature import Dim

Scalar: TypeAlias = int | float | bool | sympy.Expr
Operand: TypeAlias = Tensor | Scalar


def _same(x: Tensor) -> Tensor:
    return x


class Emitter:
    """One per export; ``path`` is that of the call at hand and ``outs`` are the values that PyTorch gives for it.

    ``defined`` says what sizes are that have a symbol of their own. ``packed`` keeps the lengths of packed sequences by the name of their batch sizes; what is ``clean``, by its
    name, holds zeros behind each sequence's end.
    """

    def __init__(
        self, g: GraphBuilder, root: nn.Module, calls: Sequence[Call], defined: Mapping[Any, Size]
    ) -> None:
        self.g = g
        self.defined = defined
        self.path = ""
        self.outs: list[Value] = []
        self.made_of: dict[str, tuple[str, ...]] = {}
        self.notes: list[str] = []
        self.packed: dict[str, Tensor] = {}
        self.clean: set[str] = set()
        self._tied = _tied(calls)
        self._names: dict[int, str] = {}
        for name, tensor in with_parts(chain(root.named_parameters(), root.named_buffers())):
            self._names.setdefault(id(tensor), name)
        self._tensors: dict[Any, Tensor] = {}
        self._kept: list[torch.Tensor] = []  # what ids were taken of
        self._cast_from: dict[str, Tensor] = {}
        self._transposed: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
        self._sizes: dict[sympy.Expr, Tensor] = {}
        self._expressions: dict[str, sympy.Expr] = {}

    # ---- what PyTorch gives ---------------------------------------------------------------------

    @property
    def out(self) -> Value:
        return self.outs[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the first result: PyTorch's promotion rules, already applied."""
        return numpy_dtype(self.out.dtype)

    # ---- tensors --------------------------------------------------------------------------------

    def tensor(self, x: Operand, dtype: np.dtype[Any]) -> Tensor:
        """A tensor, number or size as a tensor of ``dtype``."""
        if isinstance(x, sympy.Expr):
            return self.cast(self.scalar_size(x), dtype)
        return self.cast(x, dtype) if isinstance(x, Tensor) else self.g.constant(x, dtype)

    def cast(self, x: Tensor, dtype: np.dtype[Any]) -> Tensor:
        """``x`` as ``dtype``; of what a cast has made without a loss, that cast's own input is taken."""
        if x.dtype == dtype:
            return x
        if x.array is not None and not self._is_tied(x):
            return self.g.constant(x.array.astype(dtype), name=x.name if x.array.size > 1 else None)
        source = self._cast_from.get(x.name, x)
        if source.dtype == dtype:
            return source
        y = self.g.Cast(source, to=int(ir.DataType.from_numpy(dtype)))
        if np.can_cast(source.dtype, dtype):
            self._cast_from[y.name] = source
        return y

    def weight(self, module: nn.Module, name: str) -> Tensor | None:
        """A layer's weight under the source's own name; None where the layer has none."""
        key = (id(module), name)
        if key not in self._tensors:
            tensor = getattr(module, name)
            if tensor is None:
                return None
            full = f"{self.path}.{name}" if self.path else name
            if parametrize.is_parametrized(module, name):
                parts: Any = module.parametrizations
                originals = parts[name]._parameters
                self.made_of[full] = tuple(
                    f"{self.path}.parametrizations.{name}.{part}" for part in originals
                )
            self._tensors[key] = self.constant(tensor, full)
        return self._tensors[key]

    def constant(self, tensor: torch.Tensor, name: str | None = None) -> Tensor:
        """A tensor's content; one that belongs to the model is written once, under its own name."""
        key = id(tensor)
        if key not in self._tensors:
            self._tensors[key] = self.g.constant(to_numpy(tensor), name=self._names.get(key, name))
            self._kept.append(tensor)
        return self._tensors[key]

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Reorder axes. A weight is reordered once; one that is tied to another use stays as it is."""
        if x.array is None:
            weight, before = self._transposed.get(x.name, (x, layout.identity(x.rank)))
            whole = layout.compose(before, tuple(axes))
            return (
                weight if x is not weight and whole == layout.identity(x.rank) else self.g.transpose(x, axes)
            )
        key = (id(x.value), tuple(axes))
        if key not in self._tensors:
            tied = self._is_tied(x)
            y = self.g.Transpose(x, perm=axes) if tied else self.g.transpose(x, axes)
            if tied:
                self._transposed[y.name] = x, tuple(axes)
            self._tensors[key] = y
        return self._tensors[key]

    def _is_tied(self, x: Tensor) -> bool:
        return any(self._tensors.get(tensor) is x for tensor in self._tied)

    def beneath(self, x: Tensor, trailing: int = 0) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """``x`` without its pending transposition, and how a result of the same axes takes it on again.

        For operators that treat all axes but the ``trailing`` last alike; where the transposition moves
        those, ``x`` stays as it is.
        """
        perm = x.perm
        if perm is None or perm[len(perm) - trailing :] != tuple(range(len(perm) - trailing, len(perm))):
            return x, _same
        return self.g.transpose(x, layout.inverse(perm)), lambda y: self.g.transpose(y, perm)

    def along(self, x: Tensor, axis: int) -> tuple[Tensor, int, Callable[[Tensor], Tensor]]:
        """``beneath``, for an operator along one axis: where that axis is then."""
        axis %= max(x.rank, 1)
        base, wrap = self.beneath(x)
        return base, axis if x.perm is None else x.perm[axis], wrap

    # ---- sizes ----------------------------------------------------------------------------------

    def source(self, symbol: str, x: Tensor, axis: int) -> None:
        """Axis ``axis`` of the graph input ``x`` is where the size ``symbol`` is read."""
        expression = sympy.Symbol(symbol, integer=True, positive=True)
        if expression not in self._sizes:
            self._sizes[expression] = self.g.Shape(x, start=axis, end=axis + 1)

    def define(self, symbol: Size, computed: Tensor) -> None:
        """A size that the model's tensors decide, as a 1-D tensor of one element."""
        if isinstance(symbol, sympy.Symbol):
            self._sizes[symbol] = computed

    def dims(self, sizes: Iterable[Size]) -> tuple[Dim, ...]:
        """Sizes as a Tensor has them: an expression is written out and can be read back."""
        return tuple(size if isinstance(size, int) else self._dim(size) for size in sizes)

    def _dim(self, size: sympy.Expr) -> str:
        text = str(size)
        self._expressions[text] = size
        return text

    def sizes_of(self, x: Tensor) -> list[Size]:
        """The sizes of ``x``, expressions again."""
        return [self.size_of(x, axis) for axis in range(x.rank)]

    def size_of(self, x: Tensor, axis: int) -> Size:
        dim = None if x.dims is None else x.dims[axis]
        if isinstance(dim, int):
            return dim
        if dim not in self._expressions:
            raise CannotConvert(f"the size of axis {axis} of its input is not known")
        return self._expressions[dim]

    def known(self, x: Tensor, sizes: Iterable[Size]) -> Tensor:
        """``x`` with the sizes that PyTorch knows it to have."""
        return replace(x, dims=self.dims(sizes))

    def shape(self, sizes: Sequence[Size]) -> Tensor:
        """Sizes as a 1-D tensor: a constant, or computed when the model runs."""
        if all(isinstance(size, int) for size in sizes):
            return self.g.ints(*sizes)
        parts = [self.size(size) for size in sizes]
        return parts[0] if len(parts) == 1 else self.g.Concat(*parts, axis=0)

    def size(self, size: Size) -> Tensor:
        """One size as a 1-D tensor of one element, int64 (float64 where the expression is no integer)."""
        if isinstance(size, int):
            return self.g.ints(size)
        if size not in self._sizes:
            self._sizes[size] = self._computed(size)
        return self._sizes[size]

    def scalar_size(self, size: Size) -> Tensor:
        """One size as a 0-D tensor."""
        if isinstance(size, int):
            return self.g.constant(size, np.int64)
        return self.g.Squeeze(self.size(size), self.g.ints(0))

    def _computed(self, size: sympy.Expr) -> Tensor:
        if size in self.defined:
            return self.size(self.defined[size])
        if isinstance(size, sympy.Integer):
            return self.g.ints(int(size))
        if isinstance(size, symbolic.FloorDiv) and not size.args[0].is_nonnegative:
            return self._floored(*map(self.size, size.args))
        if isinstance(size, symbolic.FloorDiv) and (moved := _moved_up(*size.args)) is not None:
            numerator, less = moved
            return self.g.Sub(self.g.Div(self.size(numerator), self.size(size.args[1])), self.g.ints(less))
        if size.is_number:
            return self.g.constant([float(size)], np.float64)
        rounds = next((name for kind, name in _ROUNDING.items() if isinstance(size, kind)), None)
        if rounds is not None:
            return self._rounded(self.size(size.args[0]), rounds)
        of_one = next((name for kind, name in _OF_ONE.items() if isinstance(size, kind)), None)
        if of_one is not None:
            return self._elementary(of_one, self.cast(self.size(size.args[0]), np.dtype(np.float64)))
        known = next((entry for kind, entry in _ARITHMETIC.items() if isinstance(size, kind)), None)
        if known is None:
            raise CannotConvert(
                f"the size {size} is an expression that netferry does not compute ({size.func})"
            )
        operator, to_float = known
        parts = [self.size(part) for part in size.args]
        if to_float or any(part.dtype == np.float64 for part in parts):
            parts = [self.cast(part, np.dtype(np.float64)) for part in parts]
        result = parts[0]
        for part in parts[1:]:
            result = self.g.op(operator, result, part)
        return result

    def _rounded(self, x: Tensor, operator: str) -> Tensor:
        """A float size as a whole number; a cast cuts what is behind the point."""
        x = x if x.dtype != np.float64 or not operator else self.g.op(operator, x)
        return self.cast(x, np.dtype(np.int64))

    def _elementary(self, operator: str, x: Tensor) -> Tensor:
        """A function of one number, in float64."""
        if operator == "Log2":
            return self.g.Div(self.g.Log(x), self.g.constant([math.log(2)], np.float64))
        return self.g.op(operator, x)

    def _floored(self, x: Tensor, y: Tensor) -> Tensor:
        """Division that rounds down: ONNX's rounds towards zero, but its Mod has the divisor's sign."""
        return self.g.Div(self.g.Sub(x, self.g.Mod(x, y)), y)

    # ---- what many rows need --------------------------------------------------------------------

    def reshape(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Reshape; an axis that stays is copied, one unknown is inferred, further ones are computed.

        A pending transposition among leading axes that stay goes on to the result.
        """
        wanted = self.dims(sizes)
        if x.dims == wanted:
            return x
        same = next((i for i, (a, b) in enumerate(zip(x.dims or (), wanted, strict=False)) if a != b), None)
        prefix = min(x.rank, len(wanted)) if same is None else same
        perm = x.perm
        if perm is not None and perm[prefix:] == tuple(range(prefix, len(perm))):
            base = self.g.transpose(x, layout.inverse(perm))
            whole = (*perm[:prefix], *range(prefix, len(wanted)))
            under = [sizes[axis] for axis in layout.inverse(whole)]
            return self.g.transpose(self.reshape(base, under), whole)
        return self.known(self.g.Reshape(x, self._target(x, sizes)), sizes)

    def _target(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        dims = x.dims or ()
        kept = [
            0 if axis < len(dims) and not isinstance(size, int) and dims[axis] == str(size) else size
            for axis, size in enumerate(sizes)
        ]
        unknown = [axis for axis, size in enumerate(kept) if not isinstance(size, int)]
        if len(unknown) == 1:
            kept[unknown[0]] = -1
        return self.shape(kept)

    def expand(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Broadcast to ``sizes``; an axis that already has its size is left alone."""
        if x.dims == self.dims(sizes):
            return x
        offset = len(sizes) - x.rank
        have = x.dims or ()
        stays = [
            axis >= offset and have[axis - offset] == self.dims([size])[0] for axis, size in enumerate(sizes)
        ]
        shape = self.shape([1 if kept else size for kept, size in zip(stays, sizes, strict=True)])
        return self.known(self.g.Expand(x, shape), sizes)

    def full(self, value: Operand, sizes: Sequence[Size], dtype: np.dtype[Any]) -> Tensor:
        """A tensor filled with one value."""
        return self.expand(self.tensor(value, dtype), sizes)


_OF_ONE: Mapping[Any, str] = {
    getattr(symbolic, f"OpaqueUnaryFn_{name.lower()}"): name for name in ("Sqrt", "Log2", "Sin", "Cos")
}
"""Functions of one size: the ONNX operator, or its name."""

_ARITHMETIC: Mapping[Any, tuple[str, bool]] = {
    sympy.Add: ("Add", False),
    sympy.Mul: ("Mul", False),
    symbolic.FloorDiv: ("Div", False),
    symbolic.CleanDiv: ("Div", False),
    symbolic.PythonMod: ("Mod", False),
    symbolic.Mod: ("Mod", False),
    (sympy.Max, symbolic.Max): ("Max", False),
    (sympy.Min, symbolic.Min): ("Min", False),
    symbolic.IntTrueDiv: ("Div", True),
    symbolic.FloatTrueDiv: ("Div", True),
    symbolic.FloatPow: ("Pow", True),
    symbolic.PowByNatural: ("Pow", False),
    sympy.Pow: ("Pow", False),
    symbolic.ToFloat: ("Add", True),
}
"""What a size expression is made of: the ONNX operator between its parts, and whether those become float."""


def _moved_up(a: sympy.Expr, d: sympy.Expr) -> tuple[sympy.Expr, int] | None:
    """``(h - 1) // 2`` as ``(h + 1) // 2 - 1``: of what nowhere falls below zero, rounding down and to zero are one."""
    if not (d.is_Integer and d > 0):
        return None
    constant, rest = sympy.expand(a).as_coeff_Add()
    if not (constant.is_Integer and constant < 0) or any(
        t.as_coeff_Mul()[0] < 0 for t in rest.args or (rest,)
    ):
        return None
    less = int(-(constant // d))
    return rest + constant + less * d, less


_ROUNDING: Mapping[Any, str] = {
    symbolic.FloorToInt: "Floor",
    symbolic.CeilToInt: "Ceil",
    symbolic.RoundToInt: "Round",
    symbolic.TruncToInt: "",
    symbolic.TruncToFloat: "",
}
"""What makes whole numbers of float sizes: the operator before the cast."""


def _tied(calls: Sequence[Call]) -> frozenset[int]:
    """Weights (by id) that more than one layer or call uses."""
    users: dict[int, set[int]] = {}
    for call in calls:
        values = leaves_of((call.args, call.kwargs), Value)
        tensors = [value.data for value in values if value.name]
        owner = id(call if call.module is None else call.module)
        for tensor in (*tensors, *(call.module.parameters() if call.module is not None else ())):
            users.setdefault(id(tensor), set()).add(owner)
    return frozenset(tensor for tensor, owners in users.items() if len(owners) > 1)
