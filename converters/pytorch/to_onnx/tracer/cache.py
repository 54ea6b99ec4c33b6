"""What calls give, cached for the length of one trace: the sizes of layers that are alike are found once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from netferry.converters.pytorch.to_onnx.tracer.calls import map_structure
from netferry.converters.pytorch.to_onnx.tracer.sizes import Sizes

_PLAIN = (
    int,
    float,
    complex,
    str,
    bytes,
    bool,
    type(None),
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)


class _Unlike(Exception):  # noqa: N818 - a finding
    """An argument that cannot be compared with another call's."""


@dataclass(frozen=True)
class _Given:
    """A tensor of a result that is one of the arguments."""

    position: int


@dataclass(frozen=True)
class _Made:
    """A tensor of a result: the first that was made, and the argument that it is a view of."""

    first: Tensor
    view_of: int | None

    @cached_property
    def shown(self) -> Tensor:
        """Its sizes on the meta device, without memory of anyone's."""
        like = self.first
        return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device="meta")


class Memo:
    """Results of calls by what the calls were given: dtypes, sizes and strides of tensors, all else as it is."""

    def __init__(self, sizes: Sizes, mode: FakeTensorMode, seen: Callable[[Tensor], Tensor]) -> None:
        self._sizes, self._mode, self._seen = sizes, mode, seen
        self._results: dict[Hashable, Any] = {}
        self._layers: dict[int, Hashable] = {}

    def key(self, target: Any, args: Any, kwargs: Any, module: nn.Module | None) -> Hashable | None:
        """What the call has in common with those that give the same; None where that cannot be said."""
        try:
            layer = None if module is None else self._layer(module)
            settings = torch.get_default_dtype(), torch.is_autocast_enabled("cpu")
            return target, layer, settings, self._part(args), self._part(kwargs)
        except _Unlike:
            return None

    def keep(self, key: Hashable, result: Any, tensors: list[Tensor]) -> None:
        """Remember what a call gave; ``tensors`` are those that it was given, as the trace sees them."""
        memories = [_memory(tensor) for tensor in tensors]

        def made(item: Any) -> Any:
            if not isinstance(item, Tensor):
                return item
            itself = next((position for position, tensor in enumerate(tensors) if tensor is item), None)
            if itself is not None:
                return _Given(itself)
            memory = _memory(item)
            return _Made(item, memories.index(memory) if memory in memories else None)

        self._results[key] = map_structure(made, result)

    def recall(self, key: Hashable, tensors: list[Tensor]) -> tuple[Any, dict[int, Tensor]] | None:
        """A result as it was kept, its tensors new; with it, by id, of which argument each of those is a view."""
        kept = self._results.get(key, self)
        if kept is self:
            return None
        views: dict[int, Tensor] = {}

        def anew(item: Any) -> Any:
            if isinstance(item, _Given):
                return tensors[item.position]
            if not isinstance(item, _Made):
                return item
            fake = FakeTensor(self._mode, item.shown.data, item.first.device)
            if item.view_of is not None:
                views[id(fake)] = tensors[item.view_of]
            return fake

        return map_structure(anew, kept), views

    def _part(self, item: Any) -> Hashable:
        if isinstance(item, Tensor):
            fake = self._seen(item)
            named = self._sizes.named
            return fake.dtype, fake.device, tuple(map(named, fake.shape)), tuple(map(named, fake.stride()))
        if isinstance(item, torch.SymInt | torch.SymFloat):
            size: Hashable = self._sizes.named(item)
            return size
        if isinstance(item, _PLAIN):
            return type(item), item
        if isinstance(item, list | tuple):
            return type(item), *map(self._part, item)
        if isinstance(item, Mapping):
            return tuple((key, self._part(value)) for key, value in item.items())
        if isinstance(item, slice):
            return slice, self._part(item.start), self._part(item.stop), self._part(item.step)
        if item is ...:
            return "..."
        raise _Unlike

    def _layer(self, module: nn.Module) -> Hashable:
        """A layer's settings and the sizes of its weights; one with other modules inside is like no other."""
        if id(module) not in self._layers:
            if module._modules:
                raise _Unlike
            settings = {name: value for name, value in module.__dict__.items() if not name.startswith("_")}
            weights = {**module._parameters, **module._buffers}
            self._layers[id(module)] = self._part(settings), self._part(weights)
        return self._layers[id(module)]


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
