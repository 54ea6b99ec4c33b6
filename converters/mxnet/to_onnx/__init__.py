"""MXNet to ONNX: the symbol is walked node by node; each operator is a row of a table.

mxnet is not imported on the way from files to ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from functools import partial

import onnx_ir as ir

from netferry.converters.errors import CannotConvert, RefusedError, Unsupported, UnsupportedError, UsageError
from netferry.converters.exported import ExportedModel
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.registry import written
from netferry.converters.mxnet import inputs
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.live import symbol_model
from netferry.converters.mxnet.symbol import Node, Symbol, output_name
from netferry.converters.mxnet.to_onnx import (
    activations,
    attention,
    constants,
    control_flow,
    convolution,
    densities,
    elementwise,
    image,
    indexing,
    input_specs,
    linear,
    linear_algebra,
    losses,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    refused,
    shape,
)
from netferry.converters.mxnet.to_onnx.detection import boxes, proposals, regions
from netferry.converters.mxnet.to_onnx.emitter import CUSTOM, ROWS, Emitter
from netferry.converters.mxnet.to_onnx.fillers import Fillers
from netferry.converters.mxnet.to_onnx.numpy import (
    elementwise as numpy_elementwise,
    sets,
    shape as numpy_shape,
)
from netferry.converters.signature import Array, Example, TensorSpec, aligned

Make = Callable[[str, Node, int, Sequence[Tensor | None], Mapping[str, str]], Array]
"""Makes a weight that is not there: (its name, its reader, which input of that, those before it, its hidden attributes)."""


def to_onnx(model: object, given: Sequence[Example] | None = None, make: Make | None = None) -> ExportedModel:
    """Export a symbol with its parameters, a gluon block or a Module to ONNX.

    ``given`` are bound by name to the inputs where all names are theirs, else by position, and name them; without
    them names and sizes come from the symbol, where it declares them. ``make`` makes parameters that the model lacks.
    """
    source = symbol_model(model, given)
    _require_rows(source)
    source = inputs.with_zero_states(source, None if given is None else len(given))
    kinds = inputs.variables(source, whole=make is None)
    given = (
        None
        if given is None
        else aligned(given, [source.graph.nodes[position].name for position in kinds.inputs])
    )
    specs, notes = input_specs.specs(source, kinds.inputs, given)
    notes = source.notes + notes
    if given is None:
        return _walk(source, kinds, specs, notes, make, sizes_given=False)
    try:
        return _walk(source, kinds, specs, notes, make)
    except UnsupportedError:
        fixed = _fixed(given)
        if fixed is None:
            raise
        try:
            return _walk(source, kinds, fixed, (*notes, *_notes(given, fixed)), make)
        except UnsupportedError:
            pass
        raise


def _require_rows(model: SymbolModel) -> None:
    graph = model.graph
    unknown = [
        _without_row(graph, node)
        for node in (graph.nodes[position] for position in graph.order)
        if not node.is_variable and row_key(node) not in ROWS
    ]
    if unknown:
        raise UnsupportedError(unknown, where=model.label)
    for position, _ in graph.heads:
        if graph.nodes[position].name in model.params:
            raise RefusedError(
                "an output of the symbol is one of its parameters, which nothing computes",
                where=model.label,
                expected="the output of an operator",
                received=graph.nodes[position].name,
            )


def row_key(node: Node) -> str:
    """The row that a node wants: its operator's, and of one that runs Python code (``Custom``) that of its own name."""
    return f"{CUSTOM}{node.attrs.get('op_type', '')}" if node.op == "Custom" else node.op


def _without_row(graph: Symbol, node: Node) -> Unsupported:
    if node.op != "Custom" or not node.inputs:
        why = refused.reason(node.op) or "netferry does not support this operator"
        return Unsupported(node.name, node.op, why)
    before = graph.nodes[node.inputs[0][0]].name
    kind = node.attrs.get("op_type", "")
    reason = f"it runs Python code of the model's own{f' ({kind})' if kind else ''}, which is not in the file"
    remedy = (
        f"Say what it is made of with netferry.exporter({kind!r}), or end before it with --output {before}"
    )
    return Unsupported(node.name, node.op, reason, remedy)


def _fixed(given: Sequence[Example]) -> tuple[TensorSpec, ...] | None:
    """The inputs with the sizes shown, where freedom was only assumed; None where nothing changes."""
    specs = tuple(example.spec if example.asked else replace(example, free={}).spec for example in given)
    return None if specs == tuple(example.spec for example in given) else specs


def _notes(given: Sequence[Example], fixed: Sequence[TensorSpec]) -> list[str]:
    return [
        f"input '{example.name}' has fixed sizes {list(spec.dims or ())}: the model needs them"
        for example, spec in zip(given, fixed, strict=True)
        if example.spec != spec
    ]


def _walk(
    model: SymbolModel,
    kinds: inputs.Variables,
    specs: Sequence[TensorSpec],
    notes: tuple[str, ...],
    make: Make | None = None,
    *,
    sizes_given: bool = True,
) -> ExportedModel:
    """``sizes_given``: the caller gave the inputs' sizes; if not, a weight that needs one size of them asks for it."""
    graph = model.graph
    g = Emitter("mxnet")
    values: dict[int, Sequence[Tensor | None]] = {
        position: [g.input(spec)] for position, spec in zip(kinds.inputs, specs, strict=True)
    }
    for position in kinds.weights:
        name = graph.nodes[position].name
        values[position] = [g.constant(model.params[name], name=name)]
    values |= {position: [None] for position in kinds.labels}
    g.absent = None if make is None else partial(_made, g, graph, values, make)
    g.inline = lambda body, operands: _inlined(g, model, body, operands)
    unsized = _walk_nodes(g, model, graph, values)
    if g.demands and not sizes_given:
        raise _asked(model, specs, *g.demands[0])
    _write_heads(g, model, values, unsized)
    return ExportedModel(g.finish(), notes=notes, weights=dict(g.made_of))


def _walk_nodes(
    g: Emitter, model: SymbolModel, graph: Symbol, values: dict[int, Sequence[Tensor | None]]
) -> Container[int]:
    """Write every node after its inputs; returns the positions of fillers whose size is still open."""
    fillers = Fillers()
    for position in graph.order:
        node = graph.nodes[position]
        if node.is_variable:
            continue
        with g.scope(node.name or node.op):
            try:
                operands = fillers.met(g, node, position, _operands(g, graph, values, node))
                values[position] = _row(g, node, operands)
            except CannotConvert as problem:
                raise _refused(model, node, problem) from problem
            except RefusedError as error:
                raise error.at(model.label) from error
    return fillers.open


def _inlined(g: Emitter, model: SymbolModel, body: Symbol, operands: Sequence[Tensor | None]) -> list[Tensor]:
    """Write the body of a loop once: its variables in order are ``operands``."""
    _require_rows(replace(model, graph=body))
    values: dict[int, Sequence[Tensor | None]] = {
        position: [x] for position, x in zip(body.variables, operands, strict=True)
    }
    unsized = _walk_nodes(g, model, body, values)
    heads = [values[position][index] for position, index in body.heads if position not in unsized]
    found = [x for x in heads if x is not None]
    if len(found) < len(body.heads):
        raise CannotConvert("a result of its body is not converted")
    return found


def _asked(model: SymbolModel, specs: Sequence[TensorSpec], node: str, count: int) -> UsageError:
    return UsageError(
        f"the sizes of {', '.join(spec.name for spec in specs)} are not in the symbol",
        where=model.label,
        expected=f"the one size that gives node '{node}' its {count} numbers",
        remedy=f"Give it with --input {specs[0].name}:1,3,224,224",
    )


def _refused(model: SymbolModel, node: Node, problem: CannotConvert) -> UnsupportedError:
    found = Unsupported(node.name, node.op, problem.reason, problem.remedy)
    return UnsupportedError([found], where=model.label)


def _made(
    g: Emitter,
    graph: Symbol,
    values: dict[int, Sequence[Tensor | None]],
    make: Make,
    node: Node,
    slot: int,
    source: int,
    before: Sequence[Tensor | None],
) -> None:
    own = graph.nodes[source]
    values[source] = [g.constant(make(own.name, node, slot, before, own.hidden), name=own.name)]


def _operands(
    g: Emitter, graph: Symbol, values: Mapping[int, Sequence[Tensor | None]], node: Node
) -> list[Tensor | None]:
    operands: list[Tensor | None] = []
    for slot, (source, index) in enumerate(node.inputs):
        if source not in values and g.absent is not None:
            g.absent(node, slot, source, operands)
        outputs = values[source]
        if index >= len(outputs):
            raise CannotConvert(f"output {index} of {graph.nodes[source].label()} is not converted")
        operands.append(outputs[index])
    return operands


def _row(g: Emitter, node: Node, operands: Sequence[Tensor | None]) -> Sequence[Tensor]:
    attrs = Attrs(node)
    if node.op == "Custom":
        attrs.ignore("op_type")
    results = written(ROWS[row_key(node)], g, attrs, operands=operands)
    if attrs.unread():
        raise CannotConvert(f"attribute {', '.join(map(repr, attrs.unread()))} is not one netferry knows")
    return [results] if isinstance(results, Tensor) else results


def _write_heads(
    g: Emitter, model: SymbolModel, values: Mapping[int, Sequence[Tensor | None]], unsized: Container[int]
) -> None:
    for position, index in model.graph.heads:
        node = model.graph.nodes[position]
        results = values[position]
        value = results[index] if index < len(results) else None
        if value is None or position in unsized:
            reason = f"its output {index} is an output of the model, and is not converted"
            raise _refused(model, node, CannotConvert(reason))
        try:
            g.output(value, output_name(node, index, len(results)))
        except CannotConvert as problem:
            raise _refused(model, node, problem) from problem
