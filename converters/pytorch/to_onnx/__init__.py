"""PyTorch to ONNX: a trace of our own, each call through the tables; PyTorch's exporters where that fails."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils._sympy import functions as symbolic

from netferry.converters import origin, size_bounds
from netferry.converters.errors import CannotConvert, Unsupported, UnsupportedError, UsageError
from netferry.converters.exported import ExportedModel
from netferry.converters.graph.ir.build import BFLOAT16_OPSET, OPSET, GraphBuilder, Tensor
from netferry.converters.pytorch.fast_path import zeros_at_padding
from netferry.converters.pytorch.live import called, examples_of, module_of, numpy_dtype, run
from netferry.converters.pytorch.to_onnx import (
    activations,
    convolution,
    creation,
    elementwise,
    embedding,
    fallback,
    image,
    indexing,
    linear,
    normalization,
    pooling,
    recurrent,
    reduction,
    shape,
)
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.layers import MODULES
from netferry.converters.pytorch.to_onnx.table import FUNCTIONS, Row
from netferry.converters.pytorch.to_onnx.tracer.calls import Call, Trace, Value, leaves_of, map_structure
from netferry.converters.pytorch.to_onnx.tracer.names import by_place
from netferry.converters.pytorch.to_onnx.tracer.patching import restored
from netferry.converters.pytorch.to_onnx.tracer.replay import harmless
from netferry.converters.pytorch.to_onnx.tracer.sizes import Narrowing, as_text, broken, without
from netferry.converters.pytorch.to_onnx.tracer.trace import trace
from netferry.converters.pytorch.to_onnx.tracer.untraceable import Untraceable
from netferry.converters.signature import Example, TensorSpec


def to_onnx(model: Any, given: Sequence[Example] | None = None) -> ExportedModel:
    """Carry a module, a scripted module or an exported program to ONNX; it is afterwards as it was before.

    Raises UsageError where inputs are needed and ``given`` is None, or where an axis that the caller asked to
    be free is fixed by the model's code; UnsupportedError where no road is left.
    """
    model = called(model, given)
    given = examples_of(model, given)
    with restored(model), zeros_at_padding(module_of(model)) as notes:
        made = _carried(model, given)
    return replace(made, notes=(*made.notes, *notes))


def _carried(model: Any, given: Sequence[Example]) -> ExportedModel:
    """By netferry's own road, else by PyTorch's exporters."""
    if isinstance(model, torch.jit.ScriptModule):
        return fallback.export(model, given, ("torchscript",), "TorchScript cannot be traced by netferry")
    routes: tuple[str, ...] = ("torchscript", "dynamo")
    if isinstance(model, torch.export.ExportedProgram):
        routes = ("dynamo",)
    problems: tuple[Unsupported, ...] = ()
    try:
        return _direct(module_of(model), given)
    except Untraceable as problem:
        if problem.routes:
            run(model, [example.array for example in given])  # inputs that do not fit are told as such
        reason, routes = problem.reason, tuple(route for route in problem.routes if route in routes)
    except UnsupportedError as problem:
        problems, reason = problem.problems, "; ".join(_short(found) for found in problem.problems)
    try:
        return fallback.export(model, given, routes, reason)
    except fallback.Failed as failure:
        where = Unsupported(origin.named(model), "forward", reason, str(failure))
        raise UnsupportedError(_with_remedy(problems, str(failure)) or [where]) from failure


def _short(problem: Unsupported) -> str:
    return f"{problem.node} ({problem.operator}): {problem.reason}"


def _with_remedy(problems: Sequence[Unsupported], failure: str) -> list[Unsupported]:
    """The problems, the last of them with what became of the other roads."""
    if not problems:
        return []
    *others, last = problems
    remedy = ". ".join(part for part in (last.remedy, failure) if part)
    return [*others, Unsupported(last.node, last.operator, last.reason, remedy)]


def _direct(module: nn.Module, given: Sequence[Example]) -> ExportedModel:
    """Trace, with the axes fixed that turn out to be fixed, and write."""
    found = _freest_trace(module, given)
    traced = found.trace
    missing = [_missing(call) for call in traced.calls if _row(call) is None]
    if missing:
        raise UnsupportedError(missing)
    g = GraphBuilder(type(module).__name__, opset=_opset(module, traced))
    e = Emitter(g, module, traced.calls)
    known: dict[Value, Tensor] = {}
    for example, value in zip(given, traced.inputs, strict=True):
        dims = e.dims(value.dims)
        known[value] = x = g.input(TensorSpec(example.name, numpy_dtype(value.dtype), dims))
        for axis, dim in enumerate(dims):
            if isinstance(dim, str) and getattr(value.dims[axis], "is_Symbol", False):
                e.source(dim, x, axis)
    problems = [problem for call in traced.calls if (problem := _write(e, call, known))]
    if problems:
        raise UnsupportedError(problems)
    for name, value in traced.outputs.items():
        g.output(_tensor(e, known, value), name, e.dims(value.dims))
    bounds = size_bounds.to_metadata(text for one in found.bounds if (text := as_text(one.bound)) is not None)
    return ExportedModel(g.finish(bounds), notes=(*found.notes, *e.notes), weights=e.made_of)


def _opset(module: nn.Module, traced: Trace) -> int:
    brief = any(tensor.dtype is torch.bfloat16 for tensor in (*module.parameters(), *module.buffers()))
    return BFLOAT16_OPSET if brief or any(x.dtype is torch.bfloat16 for x in traced.inputs) else OPSET


@dataclass(frozen=True)
class _Traced:
    """A trace, the bounds within which it is what the model is, and what is told of them."""

    trace: Trace
    given: Sequence[Example]
    bounds: tuple[Narrowing, ...]
    notes: tuple[str, ...]


def _freest_trace(module: nn.Module, given: Sequence[Example]) -> _Traced:
    """The trace with as many free axes as the model's code allows; one that was asked for must be."""
    notes: dict[str, None] = {}
    while True:
        traced, bounds, tried = _widest(module, given)
        notes |= {f"what the code asks makes no difference, as tried: {found}": None for found in tried}
        needs = [found for found in traced.narrowings if not found.fixes and found.bound is None]
        notes |= {f"the model needs that {found}": None for found in needs}
        fixed = {s: found for found in traced.narrowings for s in found.fixes}
        own = {s: example.array.shape[axis] for example in given for axis, s in example.free.items()}
        fixed |= {
            str(s): found for found in bounds if broken(found.bound, own) for s in found.bound.free_symbols
        }
        held = [example for example in given if fixed.keys() & set(example.free.values())]
        if not held:
            notes |= {
                f"right where {found}; beyond, the model's code goes another way": None for found in bounds
            }
            return _Traced(traced, given, bounds, tuple(notes))
        for example in held:
            symbol = next(symbol for symbol in example.free.values() if symbol in fixed)
            if example.asked and "range(" in str(fixed[symbol].line):
                raise UsageError(
                    f"the model's code does not leave the size '{symbol}' free: it is a loop in Python over it",
                    where=type(module).__name__,
                    received=fixed[symbol].line,
                    remedy=f"Leave '{symbol}' out of dynamic, or write the loop as an operator or a recurrent layer",
                )
            if example.asked:
                raise UsageError(
                    f"the model's code does not leave the size '{symbol}' free",
                    where=origin.named(module),
                    expected=f"code that treats every '{symbol}' alike",
                    received=f"code for which {fixed[symbol]}",
                    remedy=f"Leave '{symbol}' out of dynamic, or change that line",
                )
        notes |= {
            f"'{symbol}' is fixed at the example's size: {found}": None for symbol, found in fixed.items()
        }
        given = [_with_fixed(example, fixed) for example in given]


def _widest(
    module: nn.Module, given: Sequence[Example]
) -> tuple[Trace, tuple[Narrowing, ...], frozenset[Narrowing]]:
    """The trace, its bounds, and those that make no difference.

    What is asked of a remainder (``if pad > 0``) has one side that is right on both: the trace that has the fewest bounds
    is taken, of the example's own sizes and of some at which they do not hold.
    """
    best = _bounded(module, trace(module, given, MODULES), given)
    periodic = [found for found in best[1] if _is_periodic(found.bound)]
    for at in [at for found in periodic for at in without(found.bound, best[0].hints)[:1]]:
        try:
            other = _bounded(module, trace(module, given, MODULES, at), given)
        except Untraceable:
            continue
        if len(other[1]) < len(best[1]) and not any(found.fixes for found in other[0].narrowings):
            best = other
    return best


def _bounded(
    module: nn.Module, traced: Trace, given: Sequence[Example]
) -> tuple[Trace, tuple[Narrowing, ...], frozenset[Narrowing]]:
    tried = harmless(module, traced, given)
    return traced, tuple(n for n in traced.narrowings if n.bound is not None and n not in tried), tried


def _is_periodic(condition: Any) -> bool:
    return bool(condition.has(symbolic.Mod, symbolic.PythonMod))


def _with_fixed(example: Example, fixed: Any) -> Example:
    free = {axis: symbol for axis, symbol in example.free.items() if symbol not in fixed}
    return Example(example.name, example.array, free, example.asked)


# ---- one call -------------------------------------------------------------------------------------


def _row(call: Call) -> Row | None:
    return FUNCTIONS.get(call.target) if call.module is None else MODULES.get(call.target)


def _missing(call: Call) -> Unsupported:
    return Unsupported(_scope(call), _operator(call), "netferry has no row for this function")


def _write(e: Emitter, call: Call, known: dict[Value, Tensor]) -> Unsupported | None:
    """Write one call; what cannot be carried is returned, so that all of it is told at once."""
    row, results = _row(call), leaves_of(call.result, Value)
    arguments = leaves_of((call.args, call.kwargs), Value)
    if any(value.data is None and value not in known for value in arguments):
        return None  # what it needs has failed already
    e.path, e.outs = call.path, results
    given, kwargs = map_structure(
        lambda item: _tensor(e, known, item) if isinstance(item, Value) else item, (call.args, call.kwargs)
    )
    if kwargs.get("out", e) is None:
        del kwargs["out"]
    first = () if call.module is None else (call.module,)
    assert row is not None
    if call.module is None:
        given, kwargs = by_place(call.target, row, given, kwargs)
    try:
        _fits(row, e, *first, *given, **kwargs)
        with e.g.scope(_scope(call)):
            made = leaves_of(row(e, *first, *given, **kwargs), Tensor)
        for tensor, value in zip(made, results, strict=True):
            known[value] = _checked(e, tensor, value)
    except CannotConvert as problem:
        return Unsupported(_scope(call), _operator(call), problem.reason, problem.remedy)
    return None


def _tensor(e: Emitter, known: dict[Value, Tensor], value: Value) -> Tensor:
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
    clash = len(tensor.dims or dims) != len(dims) or any(
        isinstance(a, int) and isinstance(b, int) and a != b
        for a, b in zip(tensor.dims or dims, dims, strict=True)
    )
    if clash or tensor.dtype != numpy_dtype(value.dtype):
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
