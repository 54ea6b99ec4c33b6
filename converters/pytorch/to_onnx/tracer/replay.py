"""A trace run again on real tensors, at sizes at which the model's code may go another way than it was traced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import sympy
import torch
from torch import nn

from netferry.converters import size_bounds
from netferry.converters.errors import RefusedError
from netferry.converters.pytorch.live import device_of, layer_by_layer, run, to_numpy, to_torch
from netferry.converters.pytorch.to_onnx.tracer.calls import Call, Trace, Value, leaves_of, map_structure
from netferry.converters.pytorch.to_onnx.tracer.conditions import beyond, without
from netferry.converters.pytorch.to_onnx.tracer.names import writes
from netferry.converters.pytorch.to_onnx.tracer.sizes import Narrowing
from netferry.converters.pytorch.to_onnx.tracer.values import At, value
from netferry.converters.signature import Array, Example

_TOLERANCE = 1e-4
"""Of the output's scale: two ways to the same values differ by rounding, two meanings by much more."""


Gives: TypeAlias = dict[frozenset[tuple[str, int]], dict[str, Array] | None]
"""What a model gives at some sizes; None where it does not run there."""


def harmless(
    module: nn.Module, traced: Trace, given: Sequence[Example], gives: Gives
) -> frozenset[Narrowing]:
    """The bounds outside of which the trace gives what the model gives: ``if length > 1`` is run at 1.

    They are run at a few sizes each, then at once; a bound that no size near the example breaks stays one. What the model
    itself gives is kept in ``gives``, for other traces of it.
    """
    outside = {
        found: without(found.bound, traced.hints) for found in traced.narrowings if found.bound is not None
    }
    if not outside:
        return frozenset()
    known: dict[frozenset[tuple[str, int]], bool | None] = {}

    def agrees(sizes: Mapping[str, int]) -> bool | None:
        key = frozenset(sizes.items())
        if key not in known:
            known[key] = _agrees(module, traced, given, sizes, gives)
        return known[key]

    with layer_by_layer(module):  # what the runs change is put back once
        right: dict[Narrowing, tuple[dict[str, int], ...]] = {}
        for found, near in outside.items():
            far = beyond(found.bound, traced.hints)
            at = far if near and far and all(agrees(one) is None for one in near) else near
            if at and all(agrees(one) is not False for one in at):
                right[found] = at
        together = {symbol: size for at in right.values() for symbol, size in at[0].items()}
        if len(together) > 1 and agrees(together) is False:
            return frozenset()
    return frozenset(right)


def _agrees(
    module: nn.Module, traced: Trace, given: Sequence[Example], sizes: Mapping[str, int], gives: Gives
) -> bool | None:
    """Whether the trace gives what the model gives; None where the model itself does not run."""
    usual = {
        symbol: e.array.shape[axis] for e in given for axis, symbol in e.free.items() if symbol.isidentifier()
    }
    arrays = [_sized(example, sizes, usual) for example in given]
    key = frozenset(sizes.items())
    if key not in gives:
        gives[key] = _run(module, arrays)
    want = gives[key]
    if want is None:
        return None
    try:
        got = _replayed(module, traced, arrays)
    except Exception:  # whatever torch raises where the trace does not fit these sizes
        return False
    return want.keys() == got.keys() and all(_close(want[name], got[name]) for name in want)


def _run(module: nn.Module, arrays: Sequence[Array]) -> dict[str, Array] | None:
    try:
        return run(module, arrays)
    except RefusedError:
        return None


def _sized(example: Example, sizes: Mapping[str, int], usual: Mapping[str, int]) -> Array:
    """The example's array with some of its free axes at other sizes; a longer one begins again."""
    array = example.array
    for axis, symbol in example.free.items():
        size = size_bounds.size_of(symbol, {**usual, **sizes})
        array = array.take(np.arange(max(size, 0)) % array.shape[axis], axis)
    return array


def _close(a: Array, b: Array) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind in "biu":
        return np.array_equal(a, b)
    a, b = (x.astype(np.float64 if x.dtype.kind != "c" else np.complex128) for x in (a, b))
    scale = np.abs(a[np.isfinite(a)]).max(initial=0)
    return np.allclose(a, b, rtol=0, atol=_TOLERANCE * float(scale), equal_nan=True)


def _replayed(module: nn.Module, traced: Trace, arrays: Sequence[Array]) -> dict[str, Array]:
    device = device_of(module)
    known = {one: to_torch(array, device) for one, array in zip(traced.inputs, arrays, strict=True)}
    at = At(traced.defined)
    at.update(chain.from_iterable(_sizes_of(one, known[one]) for one in traced.inputs))

    def real(item: Any) -> Any:
        if isinstance(item, Value):
            return item.data if item.data is not None else known[item]
        if isinstance(item, sympy.Expr):
            return value(item, at)
        return item

    with layer_by_layer(module):
        for call in traced.calls:
            results = _called(call, *map_structure(real, (call.args, call.kwargs)))
            known.update(zip(leaves_of(call.result, Value), results, strict=True))
        return {name: to_numpy(real(one)) for name, one in traced.outputs.items()}


def _sizes_of(known: Value, tensor: torch.Tensor) -> Iterator[tuple[sympy.Expr, int]]:
    for dim, size in zip(known.dims, tensor.shape, strict=True):
        if isinstance(dim, sympy.Expr):
            yield dim, size


def _called(call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors that a call gives; a function that writes into its first argument gets a copy of it."""
    if call.module is not None:
        return leaves_of(call.module(*args, **kwargs), torch.Tensor)
    if writes(call.target):
        args = (args[0].clone(), *args[1:])
    made = leaves_of(call.target(*args, **kwargs), torch.Tensor)
    return made or [args[0]]
