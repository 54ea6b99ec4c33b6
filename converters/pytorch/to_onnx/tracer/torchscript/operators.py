"""TorchScript's own operators, on numbers, lists and truths, in Python's: sizes stay symbolic in them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from netferry.converters.pytorch.to_onnx.tracer.python_names import MATH, NAMES, SYM, extreme

DTYPES: tuple[torch.dtype | None, ...] = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64, None,
    torch.complex64, torch.complex128, torch.bool, torch.qint8, torch.quint8, torch.qint32, torch.bfloat16,
)  # fmt: skip
"""Types of elements by the numbers that TorchScript has for them (``c10/core/ScalarType.h``)."""


def number_of(dtype: torch.dtype) -> int:
    return DTYPES.index(dtype)


def _slice(items: Any, start: Any = None, stop: Any = None, step: Any = None) -> Any:
    return items[slice(start, stop, step)]


def _set(items: Any, key: Any, item: Any) -> Any:
    items[key] = item
    return items


def _rounded(towards: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """TorchScript's floor and ceil of a number: of a whole one it is itself."""
    return lambda x: x if isinstance(x, int | torch.SymInt) else towards(x)


ON_NUMBERS: Mapping[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "floordiv": operator.floordiv,
    "remainder": operator.mod, "pow": operator.pow, "neg": operator.neg, "abs": abs, "sqrt": MATH["sqrt"],
    "floor": _rounded(math.floor), "ceil": _rounded(math.ceil), "round": round, "log": MATH["log"], "exp": math.exp,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "gt": operator.gt, "le": operator.le, "ge": operator.ge,
    "__and__": operator.and_, "__or__": operator.or_, "__xor__": operator.xor, "__not__": operator.not_,
    "__lshift__": operator.lshift, "__rshift__": operator.rshift, "__contains__": operator.contains,
    "__getitem__": operator.getitem, "__is__": operator.is_, "__isnot__": operator.is_not, "_set_item": _set, "len": len, "slice": _slice,
    "append": list.append, "extend": list.extend, "insert": list.insert, "pop": list.pop, "reverse": list.reverse, "copy": list.copy,
    "clear": list.clear, "list": list, "keys": lambda d: list(d.keys()), "values": lambda d: list(d.values()),
    "items": lambda d: list(d.items()), "get": dict.get, "Int": NAMES["int"], "Float": NAMES["float"], "Bool": bool, "IntImplicit": NAMES["int"],
    "FloatImplicit": NAMES["float"], "ScalarImplicit": Tensor.item, "format": str.format, "str": str, "warn": lambda *_: None,
    "max": extreme(max, SYM.sym_max), "min": extreme(min, SYM.sym_min),
}  # fmt: skip
"""``aten`` operators whose first argument is no tensor, and those that make numbers of one."""

MAKE_NUMBERS = frozenset(
    "Int Float Bool IntImplicit FloatImplicit ScalarImplicit __is__ __isnot__ len append".split()
)
"""Those of them that take tensors, too."""

ATTRIBUTES: Mapping[str, Callable[..., Any]] = {
    "prim::dtype": lambda x: number_of(x.dtype),
    "prim::device": lambda x: x.device,
    "prim::layout": lambda _: 0,
    "prim::shape": lambda x: list(x.shape),
    "prim::is_cuda": lambda x: x.is_cuda,
    "prim::requires_grad": lambda x: x.requires_grad,
    "prim::data": lambda x: x.detach(),
    "prim::T": lambda x: x.T,
    "prim::mT": lambda x: x.mT,
    "prim::itemsize": lambda x: x.itemsize,
    "aten::size": lambda x: list(x.shape),
    "aten::dim": lambda x: x.dim(),
    "aten::is_floating_point": lambda x: x.is_floating_point(),
    "aten::is_complex": lambda x: x.is_complex(),
    "aten::numel": lambda x: x.numel(),
    "aten::is_scripting": lambda: True,
    "aten::has_torch_function": lambda *_: False,
}
"""What is read of a tensor, or of nothing."""
