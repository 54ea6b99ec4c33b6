"""ONNX to MXNet: the walk writes the nodes of a symbol; mxnet is imported when the live block is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netferry.converters.errors import CannotConvert, Unsupported, UnsupportedError
from netferry.converters.graph.codegen.walk import Walk
from netferry.converters.graph.ir.facts import Plan
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.imported import ImportedModel
from netferry.converters.mxnet import symbol
from netferry.converters.mxnet.from_onnx import (
    activations,
    control_flow,
    convolution,
    embedding,
    image,
    linear,
    normalization,
    pooling,
    random,
    recurrent,
    source as native_source,
)
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import NATIVE
from netferry.converters.mxnet.from_onnx.writer import FLOAT32
from netferry.converters.mxnet.imported import ImportedSymbol
from netferry.converters.signature import Array, Signature


def from_onnx(plan: Plan, signature: Signature, *, name: str = "model") -> ImportedModel:
    """A symbol with its parameters; refused, with every node that MXNet cannot express, before anything is written."""
    xp = MxnetNamespace(plan)
    xp.rows = NATIVE
    walk = Walk(plan, xp)
    written = walk.run(lambda value: xp.input(str(value.name), plan.fact(value)))
    names = [spec.name for spec in signature.outputs]
    graph = _finished(xp, list(written), [walk.values[value] for value in plan.graph.inputs], names)
    used = {node.name for node in graph.nodes if node.is_variable}
    _demand_inputs(signature, used)
    weights = {name: array for name, array in xp.params.items() if name in used}
    constants = frozenset(xp.constants & used)
    text = native_source.module(graph, signature, sorted(constants), name)
    states = frozenset(xp.states & used)
    return ImportedSymbol(
        "mxnet",
        signature,
        text,
        weights,
        lambda: block(graph, weights, constants, [spec.name for spec in signature.inputs]),
        {source: made for source, made in xp.names.items() if made in used},
        "symbol",
        _notes(constants),
        graph,
        states,
        constants,
    )


def _notes(constants: frozenset[str]) -> tuple[str, ...]:
    """What a person who trains a loaded symbol must know."""
    if not constants:
        return ()
    return (
        f"{len(constants)} parameters are constants of the source: no gradient reaches them, and weight decay must not "
        "(set their grad_req to 'null', as the module's load() does)",
    )


def _demand_inputs(signature: Signature, used: set[str]) -> None:
    """MXNet's blocks are run with inputs, and every one of them must be read."""
    idle = [spec.name for spec in signature.inputs if spec.name not in used]
    if idle or not signature.inputs:
        names = ", ".join(idle) or "none"
        reason = "its outputs do not depend on its inputs, which an MXNet block cannot have"
        raise UnsupportedError([Unsupported(names, "Input", reason, "Remove them from the source model")])


def _reading_all(xp: MxnetNamespace, results: list[Symbol], inputs: Sequence[Symbol]) -> list[Symbol]:
    """The outputs, of which one reads the inputs that nothing else reads: as zeros, whatever they hold."""
    read = xp.reached(results)
    idle = [x for x in inputs if x.expr[0] not in read]
    place = next((i for i, y in enumerate(results) if y.fact.dims and y.dtype.kind in "fiu"), None)
    if place is None:
        return results
    for x in idle:
        zeros = xp.apply("zeros_like", xp.astype(x, FLOAT32), dims=x.shape)
        none = xp.reshape(xp.sum(zeros, tuple(range(x.ndim)), True), (1,) * results[place].ndim)
        results[place] = xp.add(results[place], xp.astype(none, results[place].dtype))
    return results


def _finished(
    xp: MxnetNamespace, results: list[Symbol], inputs: Sequence[Symbol], names: list[str]
) -> symbol.Symbol:
    try:
        return xp.finish(_reading_all(xp, results, inputs), names)
    except CannotConvert as cannot:
        raise UnsupportedError(
            [Unsupported(", ".join(names), "Output", cannot.reason, cannot.remedy)]
        ) from None


def block(
    graph: symbol.Symbol, weights: Mapping[str, Array], constants: frozenset[str], inputs: list[str]
) -> Any:
    """The live gluon block; its constants get no gradient."""
    from netferry.converters.mxnet.files import symbol_text
    from netferry.converters.mxnet.live import import_mxnet

    mx = import_mxnet()
    with warnings.catch_warnings():  # gluon asks for the dtypes of inputs, which their variables say
        warnings.filterwarnings("ignore", message="Cannot decide type")
        made = mx.gluon.SymbolBlock(
            mx.sym.load_json(symbol_text(graph)), [mx.sym.var(name) for name in inputs]
        )
    arrays = {name: mx.nd.array(array, dtype=array.dtype) for name, array in weights.items()}
    for name, parameter in made.collect_params().items():
        parameter.shape, parameter.dtype = arrays[name].shape, arrays[name].dtype
        if name in constants:
            parameter.grad_req = "null"
        parameter.initialize(mx.init.Zero(), ctx=mx.cpu())
        parameter.set_data(arrays[name])
    return made
