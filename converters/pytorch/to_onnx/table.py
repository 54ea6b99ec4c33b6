"""The table of torch functions: each file of this folder fills its part of it.

A row takes what the function takes: tensors as Tensor, symbolic sizes as sympy expressions, the rest as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from netferry.converters.graph.registry import Table
from netferry.converters.pytorch.to_onnx.tracer.names import everywhere

Row = Callable[..., Any]


RowT = TypeVar("RowT", bound=Row)


FUNCTIONS: Table[Any, Row] = Table("torch functions")


INT64, BOOL = np.dtype(np.int64), np.dtype(np.bool_)


def row(*functions: Any) -> Callable[[RowT], RowT]:
    """Register for torch functions: by name in each of PyTorch's namespaces, one as it is, or ``library::operator``."""
    keys: dict[Any, None] = {}
    for function in functions:
        plain = isinstance(function, str) and "::" not in function
        keys |= dict.fromkeys(everywhere(function) if plain else (function,))
    return FUNCTIONS.row(*keys)
