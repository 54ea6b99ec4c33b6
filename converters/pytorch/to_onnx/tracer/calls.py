"""What a trace is: values, and calls of layers and functions on them. No ONNX, no fake tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from netferry.converters.pytorch.to_onnx.tracer.sizes import Narrowing, Size


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the trace. A weight has its ``name`` and ``data``, another constant only ``data``."""

    dtype: torch.dtype
    dims: tuple[Size, ...]
    data: Tensor | None = None
    name: str = ""


@dataclass(frozen=True)
class Call:
    """One call of a layer (``target`` is its class) or of a torch function.

    ``args``, ``kwargs`` and ``result`` hold a Value where the model held a tensor and a sympy expression where it
    held a symbolic size; ``path`` is the layer's name, or that of the module whose code called the function.
    """

    target: Any
    path: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any
    module: nn.Module | None = None


@dataclass(frozen=True)
class Trace:
    """What ``forward`` did: only the calls that its outputs need, in order; ``hints`` are the sizes that it ran at.

    ``left_out`` are the lines that assert something of data, which is no part of the model; ``defined`` says what sizes are
    that have a symbol of their own.
    """

    inputs: tuple[Value, ...]
    outputs: Mapping[str, Value]
    calls: tuple[Call, ...]
    narrowings: tuple[Narrowing, ...]
    hints: Mapping[str, int]
    left_out: tuple[str, ...] = ()
    defined: Mapping[Any, Size] = field(default_factory=dict)


def map_structure(function: Callable[[Any], Any], item: Any) -> Any:
    """Apply ``function`` to what tuples, lists, mappings and slices hold."""
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)._make(map_structure(function, inner) for inner in item)  # type: ignore[attr-defined]
    if type(item).__module__ == "torch.return_types":
        return type(item)([map_structure(function, inner) for inner in item])
    if isinstance(item, tuple):
        return tuple(map_structure(function, inner) for inner in item)
    if isinstance(item, list):
        return [map_structure(function, inner) for inner in item]
    if isinstance(item, Mapping):
        return {key: map_structure(function, inner) for key, inner in item.items()}
    if isinstance(item, slice):
        return slice(*(map_structure(function, inner) for inner in (item.start, item.stop, item.step)))
    return function(item)


def leaves_of(item: Any, kind: Any) -> list[Any]:
    """Everything of type ``kind`` inside a structure, in order."""
    found: list[Any] = []
    map_structure(lambda leaf: found.append(leaf) if isinstance(leaf, kind) else None, item)
    return found
