"""A PyTorch model in float64: a copy, widened; the model itself stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from netferry.converters.errors import CannotCarry, first_line
from netferry.converters.pytorch.live import module_of, outputs_of, to_numpy
from netferry.converters.signature import Array

Change = Callable[[str, Array], Array]

NARROW = (torch.float32, torch.float16, torch.bfloat16)


def as_float64(model: Any, change: Change | None = None) -> nn.Module:
    """The model with weights and arithmetic in float64; ``change`` may move each widened weight.

    A dtype that the code names (``x.to(torch.float32)``, ``torch.zeros(..., dtype=...)``) is widened as well.

    Raises:
        CannotCarry: the model cannot be copied, or is quantised.
    """
    try:
        wide = copy.deepcopy(module_of(model)).double()
    except Exception as error:
        raise CannotCarry(f"the module cannot be copied in float64 ({first_line(error)})") from error
    if isinstance(wide, torch.fx.GraphModule):
        _widen_graph(wide)
    if change is not None:
        _move(wide, change)
    return Wide(wide)


def weights(model: Any) -> dict[str, Array]:
    """Every parameter and buffer of floats by name, as it is."""
    tensors = dict(_tensors(module_of(model)))
    return {name: to_numpy(tensor) for name, tensor in tensors.items() if tensor.is_floating_point()}


def size(model: Any) -> int:
    """The number of weights."""
    return sum(tensor.numel() for _, tensor in _tensors(module_of(model)) if tensor.is_floating_point())


def constants(model: Any) -> set[float]:
    """The floats that modules hold as attributes and that the code of their ``forward`` spells out."""
    found: set[float] = set()
    for part in module_of(model).modules():
        found |= {value for value in vars(part).values() if isinstance(value, float)}
        code = getattr(getattr(type(part), "forward", None), "__code__", None)
        found |= {value for value in getattr(code, "co_consts", ()) if isinstance(value, float)}
        if isinstance(part, torch.fx.GraphModule):
            found |= {arg for node in part.graph.nodes for arg in node.args if isinstance(arg, float)}
    return found


class Wide(nn.Module):
    """A widened module that reads float32 as float64 wherever its code says it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with _Widening():
                result = self.inner(*(t.double() if t.is_floating_point() else t for t in tensors))
        finally:
            torch.set_default_dtype(before)
        return outputs_of(self.inner, result)


class _Widening(TorchFunctionMode):
    """Calls with every narrow float dtype among their arguments replaced."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _CASTS:
            return args[0].double()
        return func(*map(_wide, args), **{name: _wide(value) for name, value in (kwargs or {}).items()})


_CASTS = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}


def _wide(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in NARROW else value


def _widen_graph(module: torch.fx.GraphModule) -> None:
    """Dtypes that an exported program has in its graph."""
    for part in module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in part.graph.nodes:
            if node.target is torch.ops.aten._assert_tensor_metadata.default:
                node.kwargs = {}
            node.args = torch.fx.node.map_aggregate(node.args, _wide)
            node.kwargs = torch.fx.node.map_aggregate(node.kwargs, _wide)
        for node in list(part.graph.nodes):
            if node.target is torch.ops.aten._assert_tensor_metadata.default:
                part.graph.erase_node(node)
        part.recompile()


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _move(module: nn.Module, change: Change) -> None:
    with torch.no_grad():
        for name, tensor in _tensors(module):
            if tensor.is_floating_point():
                moved = np.ascontiguousarray(change(name, tensor.cpu().numpy()))
                tensor.copy_(torch.from_numpy(moved))
