"""Functions that are decomposed into others before they are recorded.

Each takes what the function takes and runs under the trace, so that its sizes stay symbolic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from netferry.converters.pytorch.to_onnx.tracer.names import everywhere, writes

Body = TypeVar("Body", bound=Callable[..., Any])

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {}
"""The torch function, in each of PyTorch's namespaces, and what it is made of; one may decline (NotImplemented)."""


def decomposed(*functions: Any) -> Callable[[Body], Body]:
    """Register for torch functions: by name in each of PyTorch's namespaces, or one as it is."""

    def register(body: Body) -> Body:
        for function in functions:
            for position in everywhere(function) if isinstance(function, str) else (function,):
                DECOMPOSITIONS[position] = _in_place(body) if writes(position) else body
        return body

    return register


def _in_place(body: Callable[..., Any]) -> Callable[..., Any]:
    def write(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = body(input, *args, **kwargs)
        return result if result is NotImplemented or result is input else input.copy_(result)

    return write
