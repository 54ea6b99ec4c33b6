"""PyTorch to ONNX: a trace of our own, each call through the tables; PyTorch's exporters where that fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from netferry.converters import origin, size_bounds
from netferry.converters.errors import Unsupported, UnsupportedError, UsageError, first_line
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
    quantized,
    recurrent,
    reduction,
    shape,
)
from netferry.converters.pytorch.to_onnx.calls import missing_row, row_of, tensor_of, write_call
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.free_axes import freest_trace
from netferry.converters.pytorch.to_onnx.tracer.calls import Trace, Value
from netferry.converters.pytorch.to_onnx.tracer.conditions import as_text
from netferry.converters.pytorch.to_onnx.tracer.patching import restored
from netferry.converters.pytorch.to_onnx.tracer.untraceable import Untraceable
from netferry.converters.pytorch.to_onnx.ways_round import way_round
from netferry.converters.signature import Example, TensorSpec


def to_onnx(model: Any, given: Sequence[Example] | None = None) -> ExportedModel:
    """Export a module, a scripted module or an exported program to ONNX; it is afterwards as it was before.

    Raises UsageError where inputs are needed and ``given`` is None, or where an axis that the caller asked to
    be free is fixed by the model's code; UnsupportedError where no route is left.
    """
    model = called(model, given)
    given = examples_of(model, given)
    with restored(model), zeros_at_padding(module_of(model)) as notes:
        made = _by_any_route(model, given)
    return replace(made, notes=(*made.notes, *notes, *getattr(type(model), "netferry_notes", ())))


def _by_any_route(model: Any, given: Sequence[Example]) -> ExportedModel:
    """By netferry's own route, else by PyTorch's exporters."""
    routes: tuple[str, ...] = ("torchscript", "dynamo")
    if isinstance(model, torch.jit.ScriptModule):
        routes = ("torchscript",)
    if isinstance(model, torch.export.ExportedProgram):
        routes = ("dynamo",)
    problems: tuple[Unsupported, ...] = ()
    instead = ""
    refusal: UsageError | None = None
    try:
        return _direct(module_of(model), given)
    except UsageError as problem:
        if not isinstance(model, torch.jit.ScriptModule):
            raise
        refusal, reason = problem, first_line(problem)  # its own exporter writes loops
    except Untraceable as problem:
        if problem.routes:
            run(model, [example.array for example in given])  # inputs that do not fit are reported as such
        instead = problem.remedy
        reason, routes = problem.reason, tuple(route for route in problem.routes if route in routes)
    except UnsupportedError as problem:
        problems, reason = problem.problems, "; ".join(_short(found) for found in problem.problems)
    try:
        return fallback.export(model, given, routes, reason)
    except fallback.Failed as failure:
        if refusal is not None:
            raise refusal from failure
        remedy = ". ".join(part for part in (way_round(model), instead or str(failure)) if part)
        where = Unsupported(origin.named(model), "forward", reason, remedy)
        raise UnsupportedError(_with_remedy(problems, remedy) or [where]) from failure


def _short(problem: Unsupported) -> str:
    return f"{problem.node} ({problem.operator}): {problem.reason}"


def _with_remedy(problems: Sequence[Unsupported], failure: str) -> list[Unsupported]:
    """The problems, the last of them with what became of the other routes."""
    if not problems:
        return []
    *others, last = problems
    remedy = ". ".join(part for part in (last.remedy, failure) if part)
    return [*others, Unsupported(last.node, last.operator, last.reason, remedy)]


def _direct(module: nn.Module, given: Sequence[Example]) -> ExportedModel:
    """Trace, with the axes fixed that turn out to be fixed, and write."""
    found = freest_trace(module, given)
    traced = found.trace
    missing = [missing_row(call) for call in traced.calls if row_of(call) is None]
    if missing:
        raise UnsupportedError(missing)
    g = GraphBuilder(type(module).__name__, opset=_opset(module, traced))
    e = Emitter(g, module, traced.calls, traced.defined)
    known: dict[Value, Tensor] = {}
    for example, value in zip(given, traced.inputs, strict=True):
        dims = e.dims(value.dims)
        known[value] = x = g.input(TensorSpec(example.name, numpy_dtype(value.dtype), dims))
        for axis, dim in enumerate(dims):
            if isinstance(dim, str) and getattr(value.dims[axis], "is_Symbol", False):
                e.source(dim, x, axis)
    problems = [problem for call in traced.calls if (problem := write_call(e, call, known))]
    if problems:
        raise UnsupportedError(problems)
    for name, value in traced.outputs.items():
        g.output(tensor_of(e, known, value), name, e.dims(value.dims))
    bounds = size_bounds.to_metadata(text for one in found.bounds if (text := as_text(one.bound)) is not None)
    return ExportedModel(g.finish(bounds), notes=(*found.notes, *e.notes), weights=e.made_of)


def _opset(module: nn.Module, traced: Trace) -> int:
    brief = any(tensor.dtype is torch.bfloat16 for tensor in (*module.parameters(), *module.buffers()))
    return BFLOAT16_OPSET if brief or any(x.dtype is torch.bfloat16 for x in traced.inputs) else OPSET
