"""PyTorch's own exporters, for what netferry's trace and tables do not support."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import nn

from netferry.converters.errors import first_line
from netferry.converters.exported import ExportedModel
from netferry.converters.pytorch.live import (
    device_of,
    layer_by_layer,
    module_of,
    to_torch,
)
from netferry.converters.pytorch.outputs import named_outputs
from netferry.converters.signature import Array, Example

OPSETS: Mapping[str, int] = {"torchscript": 20, "dynamo": 21}
"""The opset that each exporter is asked for: the TorchScript exporter ends at 20."""

_TITLES = {"torchscript": "TorchScript", "dynamo": "dynamo"}


class Failed(Exception):  # noqa: N818 - a finding; the exporter makes the error of it
    """No route was left, and why each failed."""


def export(model: Any, given: Sequence[Example], routes: Sequence[str], reason: str) -> ExportedModel:
    """Export by the first of ``routes`` that works; ``reason`` is why netferry's own route did not."""
    failures = []
    for route in routes:
        try:
            found = _with_whole_indices(_cleaned(_ROUTES[route](model, given)))
            _demand_valid(found)
        except Exception as error:
            failures.append(f"PyTorch's {_TITLES[route]} exporter: {_root(error)}")
            continue
        note = f"PyTorch's {_TITLES[route]} exporter was used: {reason}"
        return ExportedModel(found, route=route, notes=(note,))
    raise Failed("; ".join(failures) or "An exporter would keep what this one run did, in silence")


def _root(error: BaseException) -> str:
    """What went wrong first, in one line without colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {re.sub(chr(27) + r'[[][0-9;]*m', '', first_line(error))}"


def _torchscript(model: nn.Module, given: Sequence[Example]) -> ir.Model:
    with layer_by_layer(model), _quiet():
        args = tuple(to_torch(example.array, device_of(model)) for example in given)
        outputs = list(named_outputs(model(*args)))
        buffer = io.BytesIO()
        torch.onnx.export(
            model if isinstance(model, torch.jit.ScriptModule) else _Plain(model),
            args,
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSETS["torchscript"],
            input_names=[example.name for example in given],
            output_names=outputs,
            dynamic_axes={example.name: dict(example.free) for example in given if example.free},
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    return ir.from_proto(onnx.load_from_string(buffer.getvalue()))


def _dynamo(model: Any, given: Sequence[Example]) -> ir.Model:
    module = module_of(model)
    names = [example.name for example in given]
    with layer_by_layer(module), _quiet():
        args = tuple(to_torch(_more_than_one(example), device_of(module)) for example in given)
        outputs = list(named_outputs(module(*args)))
        free = tuple(dict.fromkeys(example.free, torch.export.Dim.DYNAMIC) or None for example in given)
        program = torch.onnx.export(
            model if isinstance(model, torch.export.ExportedProgram) else _Plain(model),
            args,
            dynamo=True,
            optimize=False,
            opset_version=OPSETS["dynamo"],
            input_names=names,
            output_names=outputs,
            dynamic_shapes=None if isinstance(model, torch.export.ExportedProgram) else (free,),
        )
    assert program is not None
    found: ir.Model = program.model
    _name_axes(found, given)
    return found


_ROUTES: Mapping[str, Callable[[Any, Sequence[Example]], ir.Model]] = {
    "torchscript": _torchscript,
    "dynamo": _dynamo,
}


class _Plain(nn.Module):
    """The model with its outputs in one flat tuple, in the order of their names."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, *args: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(named_outputs(self.model(*args)).values())


def _more_than_one(example: Example) -> Array:
    """The example with free axes of two and more: the exporter takes a size of one for a constant."""
    array = example.array
    for axis in example.free:
        if array.shape[axis] == 1:
            array = array.repeat(2, axis)
    return array


def _name_axes(model: ir.Model, given: Sequence[Example]) -> None:
    """Give the free axes of the inputs the names that were asked for, wherever their symbols stand."""
    names: dict[str, str] = {}
    for value, example in zip(model.graph.inputs, given, strict=True):
        for axis, name in example.free.items():
            dim = None if value.shape is None else value.shape[axis]
            if isinstance(dim, ir.SymbolicDim):
                names[str(dim.value)] = name
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape(
                [
                    names.get(str(d.value), d.value) if isinstance(d, ir.SymbolicDim) else d
                    for d in value.shape
                ]
            )


def _cleaned(model: ir.Model) -> ir.Model:
    """Without paths of this machine, and with weights under the source's own names."""
    model.metadata_props.clear()
    model.doc_string = None
    for graph in model.graphs():
        graph.metadata_props.clear()
        graph.doc_string = None
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            node.name = (node.name or "").replace("/model/", "/").removeprefix("/") or None
            for value in node.outputs:
                value.metadata_props.clear()
    for value in list(model.graph.initializers.values()):
        value.metadata_props.clear()
        bare = (value.name or "").removeprefix("model.")
        if bare != value.name and bare not in model.graph.initializers:
            value.name = bare
    return model


_ONLY_INT64 = {"ScatterND", "GatherND"}
"""Operators whose indices have eight bytes; dynamo writes some with four."""


def _with_whole_indices(model: ir.Model) -> ir.Model:
    for graph in model.graphs():
        for node in [node for node in graph if node.domain == "" and node.op_type in _ONLY_INT64]:
            indices = node.inputs[1]
            if indices is None or indices.dtype == ir.DataType.INT64:
                continue
            cast = ir.node("Cast", [indices], {"to": int(ir.DataType.INT64)})
            graph.insert_before(node, cast)
            node.replace_input_with(1, cast.outputs[0])
    return model


_LARGE = 1 << 16
"""Bytes of a weight of which the checker gets the sizes alone."""


def _demand_valid(model: ir.Model) -> None:
    """Raise where ONNX refuses what an exporter has written: they say nothing of that.

    What they noted of sizes inside goes first: it is what one run had, and no node needs it.
    """
    known = {"", "ai.onnx", "ai.onnx.ml"} | {function.domain for function in model.functions.values()}
    foreign = {
        f"{node.domain}::{node.op_type}"
        for graph in model.graphs()
        for node in graph
        if node.domain not in known
    }
    if foreign:
        raise ValueError(f"it wrote operators that ONNX has not: {', '.join(sorted(foreign))}")
    for graph in model.graphs():
        for node in graph:
            for value in node.outputs:
                if value not in graph.outputs:
                    value.shape = None
    weights = model.graph.initializers
    large = [v for v in weights.values() if v.const_value is not None and v.const_value.nbytes >= _LARGE]
    for value in large:
        del weights[str(value.name)]
        model.graph.inputs.append(value)
    try:
        proto = ir.to_proto(model)
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
        for end in (*proto.graph.input, *proto.graph.output):
            end.type.tensor_type.shape.SetInParent()  # the checker wants a rank of all that goes in and out
        onnx.checker.check_model(proto)
    finally:
        for value in large:
            model.graph.inputs.remove(value)
            weights.add(value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print, also from C++; what they have to say is in their result or in their error."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    with warnings.catch_warnings(), _nowhere(1), _nowhere(2):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(level)


@contextlib.contextmanager
def _nowhere(stream: int) -> Iterator[None]:
    """What is written to a file descriptor is lost."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept, nowhere = os.dup(stream), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept, stream)
        os.close(kept)
        os.close(nowhere)
