"""Sizes of tensors that are seen otherwise: ``view``, ``reshape`` and ``flatten`` of what lies in memory in its order.

PyTorch's own rule for these is written in Python, asks a dozen questions of symbolic sizes, and imports what it distributes
tensors with. It decides wherever something is to be found out: whether sizes divide, or whether memory must be copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch

from netferry.converters.pytorch.to_onnx.tracer.names import everywhere


def _same(input: Tensor, a: Any, b: Any) -> bool:
    """Whether two sizes are one, without asking anything of them."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    sizes: Any = input.fake_mode.shape_env  # type: ignore[attr-defined]
    return a is b or bool(sizes.alike(a, b))


def strides_in_order(sizes: Sequence[Any]) -> list[Any]:
    """Of a tensor whose elements lie in order."""
    found: list[Any] = [1]
    for size in reversed(sizes[1:]):
        found.append(found[-1] * size)
    return found[::-1] if sizes else []


def lies_in_order(input: Tensor, axes: Sequence[int] | None = None) -> bool:
    """Whether the elements lie in memory in the order of the axes, or in that of ``axes``."""
    order = range(input.dim()) if axes is None else axes
    sizes, strides = ([given[axis] for axis in order] for given in (input.shape, input.stride()))
    return all(
        (isinstance(size, int) and size == 1) or _same(input, have, want)
        for size, have, want in zip(sizes, strides, strides_in_order(sizes), strict=True)
    )


def empty_like(input: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """New memory in which the axes lie as they do in ``input``."""
    if lies_in_order(input):
        return input.new_empty(input.shape, dtype=dtype or input.dtype)
    return torch.empty_like(input, dtype=dtype)


def _seen(input: Tensor, sizes: Sequence[Any], copies: bool) -> Tensor | None:
    """The same memory with other sizes, or, where it ``copies``, new memory; None where PyTorch must find out whether that is
    one."""
    rest = [position for position, size in enumerate(sizes) if isinstance(size, int) and size == -1]
    if len(rest) > 1 or not all(isinstance(size, int | torch.SymInt) for size in sizes):
        return None
    in_order = lies_in_order(input)
    if not in_order and not copies:
        return None
    total, wanted = math.prod(input.shape), list(sizes)
    if rest:
        known = math.prod(size for position, size in enumerate(sizes) if position != rest[0])
        if isinstance(known, int) and known < 1:
            return None
        wanted[rest[0]] = total // known
    count = math.prod(wanted)
    if not _same(input, count, total) and (rest or count != total):  # else the model needs it
        return None
    if in_order:
        return input.as_strided(wanted, strides_in_order(wanted), input.storage_offset())
    return input.new_empty(wanted) if _is_copied(input, wanted) else None


def _is_copied(input: Tensor, wanted: Sequence[Any]) -> bool:
    """Whether PyTorch copies what is reshaped so: asked at sizes of which none is 1 by chance."""
    if not any(isinstance(size, torch.SymInt) for size in (*input.shape, *wanted)):
        return False
    at: Any = input.fake_mode.shape_env.at_large  # type: ignore[attr-defined]
    sizes, strides = [*map(at, input.shape)], [*map(at, input.stride())]
    if None in sizes or None in strides:
        return False
    with torch._C.DisableTorchFunction(), no_dispatch():
        like = torch.empty_strided(sizes, strides, device="meta")
        try:
            like.view([*map(at, wanted)])
        except (RuntimeError, ValueError):
            return True
    return False


def _reshaped(function: Callable[..., Any], copies: bool, input: Tensor, *shape: Any, **named: Any) -> Any:
    sizes = named.get("shape", named.get("size", shape[0] if len(shape) == 1 else shape))
    plain = isinstance(sizes, list | tuple) and len(named) < 2
    found = _seen(input, sizes, copies) if plain else None
    return _as_said(function(input, *shape, **named), sizes) if found is None else found


def _as_said(made: Any, sizes: Any) -> Any:
    """What PyTorch makes, with the numbers that the code has said for its sizes: the model needs them."""
    said = isinstance(made, Tensor) and isinstance(sizes, list | tuple) and len(sizes) == made.dim()
    if not said or any(
        not isinstance(size, int) or size < 0 for size in sizes if not isinstance(size, torch.SymInt)
    ):
        return made
    if all(
        isinstance(have, int) or not isinstance(size, int)
        for have, size in zip(made.shape, sizes, strict=True)
    ):
        return made
    return made.as_strided(list(sizes), made.stride(), made.storage_offset())


def _lie_together(input: Tensor, first: int, last: int) -> bool:
    """Whether axes that follow each other are one in memory."""
    sizes, strides = input.shape, input.stride()
    return all(_same(input, strides[at], strides[at + 1] * sizes[at + 1]) for at in range(first, last))


def _flattened(function: Callable[..., Any], input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Any:
    rank = input.dim()
    if not (isinstance(start_dim, int) and isinstance(end_dim, int)) or not rank:
        return function(input, start_dim, end_dim)
    first, last = start_dim % rank, end_dim % rank
    sizes = [*input.shape[:first], math.prod(input.shape[first : last + 1]), *input.shape[last + 1 :]]
    if first < last and _lie_together(input, first, last):
        strides = [*input.stride()[:first], *input.stride()[last:]]
        return input.as_strided(sizes, strides, input.storage_offset())
    found = _seen(input, sizes, True) if first < last else None
    return function(input, start_dim, end_dim) if found is None else found


def _in_order(input: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """``contiguous``: the tensor itself where it lies in order."""
    if memory_format is not torch.contiguous_format:
        return input.contiguous(memory_format=memory_format)
    return input if lies_in_order(input) else input.new_empty(input.shape)


def _cut(input: Tensor, index: Any) -> Any:
    """Indexing: what is cut off at a number is as long as the axis where that is shorter."""
    items = list(index) if isinstance(index, tuple) else [index]
    taken = [_axes_of(item) for item in items]
    axis = 0
    for position, item in enumerate(items):
        if item is Ellipsis:
            axis += input.dim() - sum(taken)
        elif isinstance(item, slice) and axis < input.dim():
            items[position] = _within(input, input.shape[axis], item)
        axis += taken[position]
    return Tensor.__getitem__(input, tuple(items) if isinstance(index, tuple) else items[0])


def _axes_of(item: Any) -> int:
    """How many axes an item of an index takes."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    return item.dim() if isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8) else 1


def _within(input: Tensor, size: Any, cut: slice) -> slice:
    """A slice whose ends lie within the axis whatever its size is, not only at the example's."""
    if isinstance(size, int):
        return cut
    sizes: Any = input.fake_mode.shape_env  # type: ignore[attr-defined]
    smaller: Any = torch.sym_min  # they have no types
    larger: Any = torch.sym_max
    start, stop = cut.start, cut.stop
    if isinstance(stop, int) and stop > 1 and not sizes.surely(size >= stop):
        stop = smaller(stop, size)
    if isinstance(start, int) and start < -1 and not sizes.surely(size >= -start):
        start = larger(size + start, 0)
    return slice(start, stop, cut.step)


VIEWS: dict[Any, Callable[..., Any]] = {
    **{
        function: partial(_reshaped, function, name == "reshape")
        for name in ("view", "reshape")
        for function in everywhere(name)
    },
    **{function: partial(_flattened, function) for function in everywhere("flatten")},
    Tensor.contiguous: _in_order,
    Tensor.__getitem__: _cut,
}
"""Functions, and the rule for what they give."""
