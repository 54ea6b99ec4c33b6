"""One call of a trace, written by the row of its function or layer."""

from __future__ import annotations

import inspect
from typing import Any

from netferry.converters.errors import CannotConvert, Unsupported
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.live import numpy_dtype
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.layers import MODULES
from netferry.converters.pytorch.to_onnx.table import FUNCTIONS, Row
from netferry.converters.pytorch.to_onnx.tracer.calls import Call, Value, leaves_of, map_structure
from netferry.converters.pytorch.to_onnx.tracer.names import by_position, qualified, writes


def row_of(call: Call) -> Row | None:
    if call.module is not None:
        return MODULES.get(call.target)
    return FUNCTIONS.get(call.target) or FUNCTIONS.get(qualified(call.target))


def missing_row(call: Call) -> Unsupported:
    return Unsupported(_scope(call), _operator(call), "netferry does not support this function")


def write_call(e: Emitter, call: Call, known: dict[Value, Tensor]) -> Unsupported | None:
    """Write one call; what is not supported is returned, so that all of it is reported at once."""
    row, results = row_of(call), leaves_of(call.result, Value)
    arguments = leaves_of((call.args, call.kwargs), Value)
    if any(value.data is None and value not in known for value in arguments):
        return None  # what it needs has failed already
    e.path, e.outs = call.path, results
    given, kwargs = map_structure(
        lambda item: tensor_of(e, known, item) if isinstance(item, Value) else item, (call.args, call.kwargs)
    )
    if kwargs.get("out", e) is None:
        del kwargs["out"]
    first = () if call.module is None else (call.module,)
    assert row is not None
    if call.module is None:
        given, kwargs = by_position(call.target, row, given, kwargs)
    try:
        _fits(row, e, *first, *given, **kwargs)
        with e.g.scope(_scope(call)):
            made = leaves_of(row(e, *first, *given, **kwargs), Tensor)
            if writes(call.target):
                made = [
                    e.cast(made[0], e.dtype)
                ]  # whatever was written is of the dtype of what it was written into
        for tensor, value in zip(made, results, strict=True):
            known[value] = _checked(e, tensor, value)
    except CannotConvert as problem:
        return Unsupported(_scope(call), _operator(call), problem.reason, problem.remedy)
    return None


def tensor_of(e: Emitter, known: dict[Value, Tensor], value: Value) -> Tensor:
    """The tensor written for a value; a constant is written where it is first used."""
    if value not in known:
        assert value.data is not None
        known[value] = e.constant(value.data)
    return known[value]


def _fits(row: Row, *args: Any, **kwargs: Any) -> None:
    try:
        inspect.signature(row).bind(*args, **kwargs)
    except TypeError as error:
        raise CannotConvert(f"it is called in a form that netferry does not know ({error})") from error


def _checked(e: Emitter, tensor: Tensor, value: Value) -> Tensor:
    """The tensor with the sizes that PyTorch gives; a row that wrote something else is not believed."""
    dims = e.dims(value.dims)
    differs = len(tensor.dims or dims) != len(dims) or any(
        isinstance(a, int) and isinstance(b, int) and a != b
        for a, b in zip(tensor.dims or dims, dims, strict=True)
    )
    if differs or tensor.dtype != numpy_dtype(value.dtype):
        raise CannotConvert(
            f"netferry writes {tensor.dtype}{list(tensor.dims or [])} where PyTorch gives "
            f"{numpy_dtype(value.dtype)}{list(dims)}"
        )
    return e.known(tensor, value.dims)


def _operator(call: Call) -> str:
    """The layer's or function's name as a person writes it."""
    if call.module is not None:
        return f"nn.{call.target.__name__}"
    target = getattr(call.target, "__self__", None) if _bare_name(call) == "get" else None
    return target.__name__ if target is not None else str(getattr(call.target, "__name__", call.target))


def _scope(call: Call) -> str:
    """The name of what is written: the layer's own, or the function's inside the module that calls it."""
    if call.module is not None:
        return call.path or call.target.__name__
    return f"{call.path}/{_operator(call).strip('_')}".lstrip("/")


def _bare_name(call: Call) -> str:
    return str(getattr(call.target, "__name__", "")).strip("_")
