"""One thing at a time put back as it was, and only where it has changed: another thread may be reading it."""

from __future__ import annotations

import functools
import types
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

Pairs: TypeAlias = Sequence[tuple[Any, Any]]


NOTHING: Any = object()


def dict_methods(item: Any) -> type[dict[Any, Any]]:
    """Whose methods read and write a dict as it is, whatever its own class makes of them."""
    return OrderedDict if isinstance(item, OrderedDict) else dict


def restore_dict(now: Any, before: Pairs) -> None:
    methods = dict_methods(now)
    pairs = [*methods.items(now)]
    if len(pairs) == len(before) and all(
        a is c and b is d for (a, b), (c, d) in zip(pairs, before, strict=True)
    ):
        return
    kept = dict(before)
    for name in [name for name, _ in pairs if name not in kept]:
        methods.__delitem__(now, name)
    for name, value in before:
        if dict.get(now, name, NOTHING) is not value:
            methods.__setitem__(now, name, value)
    if [*methods.keys(now)] != [*kept]:  # an order that says what was used last
        methods.clear(now)
        methods.update(now, before)


def added_to(now: Any, before: Pairs) -> list[Any]:
    known = {id(value) for _, value in before}
    return [value for value in list(dict.values(now)) if id(value) not in known]


_UNLIKE = (RuntimeError, NotImplementedError, TypeError)
"""What kinds of tensors raise that cannot be copied or compared."""


class TensorState:
    """A tensor's memory, its content where it is no weight, and how gradients treat it."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._kind = tensor, type(tensor)
        self._memory = tensor.detach()
        self._content = None
        self._wanted, self._leaf = tensor.requires_grad, tensor.is_leaf
        self._gradient = tensor.grad if self._leaf else None
        if not isinstance(tensor, nn.Parameter) and not tensor.is_meta:
            with suppress(*_UNLIKE):
                self._content = tensor.detach().clone()

    def restore(self) -> None:
        tensor = self._tensor
        if type(tensor) is not self._kind:
            tensor.__class__ = self._kind  # type: ignore[assignment]
        with suppress(*_UNLIKE):
            if not _one_memory(tensor, self._memory):
                tensor.data = self._memory
            if self._content is not None and not _equal_tensors(tensor, self._content):
                tensor.data.copy_(self._content)
        if self._leaf and not tensor.is_leaf:
            tensor.detach_()
        if self._leaf and tensor.requires_grad != self._wanted:
            tensor.requires_grad_(self._wanted)
        if self._leaf and tensor.grad is not self._gradient:
            tensor.grad = self._gradient


def _one_memory(a: Tensor, b: Tensor) -> bool:
    alike = a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and a.layout == b.layout
    if not alike or a.layout is not torch.strided:
        return alike
    return a.data_ptr() == b.data_ptr() and a.stride() == b.stride()


def _equal_tensors(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def restore_class_of(item: Any, kind: type) -> None:
    if type(item) is not kind:
        object.__setattr__(item, "__class__", kind)


@functools.lru_cache(256)
def slots_of(kind: Hashable) -> list[Any]:
    """The descriptors of a class' slots."""
    return [
        member
        for base in kind.__mro__  # type: ignore[attr-defined]
        if "__slots__" in vars(base)
        for member in vars(base).values()
        if isinstance(member, types.MemberDescriptorType)
    ]


def slot_value(slot: Any, item: Any) -> Any:
    try:
        return slot.__get__(item)
    except AttributeError:
        return NOTHING


def restore_slot(slot: Any, item: Any, before: Any) -> None:
    if slot_value(slot, item) is before:
        return
    with suppress(AttributeError, TypeError):
        slot.__delete__(item) if before is NOTHING else slot.__set__(item, before)


def restore_array(item: Any, before: Any) -> None:
    if isinstance(item, np.ndarray):
        if item.shape == before.shape and item.tobytes() != before.tobytes():
            item[...] = before
    elif item != before:
        item[:] = before


def cell_content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return NOTHING


def restore_cell(cell: Any, before: Any) -> None:
    if cell_content(cell) is before:
        return
    if before is NOTHING:
        del cell.cell_contents
    else:
        cell.cell_contents = before


def forget(cache: Any, before: Any) -> None:
    """Empty a cache that something came into: nothing can take that out alone."""
    if cache.cache_info()[1:] != before[1:]:
        cache.cache_clear()


def variable_value(variable: ContextVar[Any]) -> Any:
    try:
        return variable.get()
    except LookupError:
        return NOTHING


def restore_variable(variable: ContextVar[Any], before: Any) -> None:
    if before is not NOTHING and variable_value(variable) is not before:
        variable.set(before)


def is_done_once(before: Any, now: Any) -> bool:
    empty = before is None or before is False or before is NOTHING
    return (empty and not isinstance(now, Tensor | np.ndarray | int | float | dict | list | set)) or (
        before is False and now is True
    )


def holds_tensors(values: Iterable[Any], depth: int = 3) -> bool:
    """Whether tensors or symbolic sizes stand among the values or a little below."""
    for value in values:
        if isinstance(value, Tensor | torch.SymInt | torch.SymFloat | torch.SymBool):
            return True
        if depth and holds_tensors(_inside(value), depth - 1):
            return True
    return False


def _inside(value: Any) -> list[Any]:
    if type(value) in (dict, OrderedDict):
        return list(value.values())
    if isinstance(value, list | tuple | set | deque):
        return list(value)
    attributes = None if isinstance(value, type) else getattr(value, "__dict__", None)
    return list(attributes.values()) if type(attributes) is dict else []
