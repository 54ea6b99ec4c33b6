"""The table of torch functions: tensors made of numbers and sizes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.emitter import Emitter, Operand
from netferry.converters.pytorch.to_onnx.table import row
from netferry.converters.pytorch.to_onnx.tracer.calls import leaves_of


@row("copy")
def copy(e: Emitter, input: Tensor, *given: Any, **named: Any) -> Tensor:
    """Of ``src``, which the method calls ``other``."""
    source: Operand = next(
        value for value in (*given, named.get("src"), named.get("other")) if value is not None
    )
    return e.expand(e.tensor(source, e.dtype), e.out.dims)


def _filled(value: float, e: Emitter, *_: Any, **__: Any) -> Tensor:
    return e.full(value, e.out.dims, e.dtype)


row("zeros", "zeros_like", "new_zeros", "zero", "empty", "empty_like", "new_empty")(partial(_filled, 0))


row("ones", "ones_like", "new_ones")(partial(_filled, 1))


@row("full", "full_like", "new_full", "fill")
def full(e: Emitter, *given: Any, **named: Any) -> Tensor:
    """The value comes last: ``full(size, v)``, ``full_like(x, v)``, ``x.new_full(size, v)``, ``x.fill_(v)``."""
    named |= (
        dict(zip(("value",), given[-1:], strict=False)) if not named.keys() & {"fill_value", "value"} else {}
    )
    value: Operand = named.get("fill_value", named.get("value"))
    return e.full(value, e.out.dims, e.dtype)


@row("scalar_tensor", "tensor", "as_tensor")
def tensor(e: Emitter, data: Any, **_: Any) -> Tensor:
    """A size made a tensor; lists of lists of them, and of tensors of one element."""
    if not isinstance(data, list | tuple):
        return e.tensor(data, e.dtype)
    parts = [e.reshape(e.tensor(part, e.dtype), [1]) for part in leaves_of(data, object)]
    flat = parts[0] if len(parts) == 1 else e.g.Concat(*parts, axis=0)
    return e.reshape(flat, e.out.dims)


@row("arange")
def arange(e: Emitter, *bounds: Operand, **named: Any) -> Tensor:
    given = [*bounds, *(named[key] for key in ("start", "end", "step") if key in named)]
    start, end, step = {1: [0, *given, 1], 2: [*given, 1], 3: given}[len(given)]
    whole = all(
        isinstance(one, int) or getattr(one, "is_integer", False) is True for one in (start, end, step)
    )
    kind = np.dtype(np.int64) if whole else e.dtype
    return e.cast(e.g.Range(*(e.tensor(bound, kind) for bound in (start, end, step))), e.dtype)
