"""SavedModels and frozen graphs that were read without TensorFlow, loaded by TensorFlow itself: to run and to verify them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.graph.ir.build import unique
from netferry.converters.tensorflow.graphdef.files import served_graph
from netferry.converters.tensorflow.graphdef.messages import BFLOAT16, DTYPES
from netferry.converters.tensorflow.graphdef.model import GraphModel, Port, Source
from netferry.converters.tensorflow.graphdef.safety import MAIN
from netferry.converters.tensorflow.runtime import function_of_graph, quiet, tf
from netferry.converters.tensorflow.safety import allowlist
from netferry.converters.trust import snapshot

v1 = tf.compat.v1

_CODE = "Cut the model behind it"


def function_of(model: GraphModel) -> Any:
    """The signature that is meant as one function, its inputs by position and its outputs by name.

    Raises:
        RefusedError: TensorFlow's loader would do something else than compute, or does not load it.
    """
    assert model.source is not None
    try:
        with quiet():
            serve, kept = _LOADERS[model.source.kind](model, model.source)
            traced = tf.function(_without_bfloat16(model, serve), autograph=False).get_concrete_function(
                *map(_spec, model.signature.inputs)
            )
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(f"TensorFlow cannot load it ({first_line(error)})", where=model.label) from error
    traced.netferry_holds = kept
    return traced


def _spec(port: Port) -> Any:
    name = "".join(letter if letter.isalnum() or letter in "_.-/" else "_" for letter in port.name)
    return tf.TensorSpec(port.dims, DTYPES.get(port.dtype, tf.as_dtype(port.dtype)), name=name)


Loaded = tuple[Callable[..., Mapping[str, Any]], Any]
"""What serves tensors by position, and what must live as long as it does."""


def _without_bfloat16(model: GraphModel, serve: Callable[..., Mapping[str, Any]]) -> Any:
    """The same, its inputs and outputs of bfloat16 as the floats that a person can give and read."""

    def served(*tensors: Any) -> dict[str, Any]:
        given = [tf.cast(x, port.dtype) if port.dtype == BFLOAT16 else x
                 for x, port in zip(tensors, model.signature.inputs, strict=True)]  # fmt: skip
        named = serve(*given)
        return {name: tf.cast(y, tf.float32) if y.dtype == tf.bfloat16 else y for name, y in named.items()}

    return served


def _saved_model(model: GraphModel, source: Source) -> Loaded:
    """As TensorFlow loads it, objects and all; where it no longer knows one of these, as TensorFlow 1 did."""
    home = snapshot.together({MAIN: source.looked.content, **source.looked.files})
    try:
        loaded = tf.saved_model.load(str(home)) if model.signatures else None
    except Exception:  # whatever an object of the file raises; the graph is whole without it
        loaded = None
    if loaded is None:  # or a part of the graph of TensorFlow 1
        tags = list(served_graph(source.looked).info.tags)
        return _restored(model, source, lambda session: v1.saved_model.load(session, tags, str(home)))
    function = loaded.signatures[model.signature.name]
    _ask(source, _run_by(function.graph.as_graph_def()), model.label)

    def serve(*tensors: Any) -> dict[str, Any]:
        named = function(**_by_name(model.signature.inputs, tensors))
        return {port.name: named[port.name] for port in model.signature.outputs}

    return serve, (source, loaded)


def _by_name(ports: Sequence[Port], tensors: Sequence[Any]) -> dict[str, Any]:
    return {port.name: tensor for port, tensor in zip(ports, tensors, strict=True)}


def _frozen_graph(model: GraphModel, source: Source) -> Loaded:
    return _pruned(model, source, v1.GraphDef.FromString(bytes(source.looked.content.view())))


def _pruned(model: GraphModel, source: Source, graph: Any) -> Loaded:
    """Only what the outputs need is given to TensorFlow."""
    nodes, operators = model.executed()
    for position in reversed(range(len(graph.node))):
        if graph.node[position].name not in nodes:
            del graph.node[position]
    inputs = _open(graph, model)
    _ask(source, operators, model.label)
    signature = model.signature
    outputs = [f"{port.ref.node}:{port.ref.port}" for port in signature.outputs]
    pruned = function_of_graph(graph, inputs, outputs)

    def serve(*tensors: Any) -> dict[str, Any]:
        return dict(zip([port.name for port in signature.outputs], pruned(*tensors), strict=True))

    return serve, pruned


def _run_by(graph: Any) -> set[str]:
    """The operators of a graph, and of the functions that are called in it."""
    functions = {each.signature.name: each.node_def for each in graph.library.function}
    operators, waiting = set[str](), [graph.node]
    while waiting:
        for node in waiting.pop():
            operators.add(node.op)
            for value in node.attr.values():
                for called in (value.func, *value.list.func):
                    waiting.append(functions.pop(called.name, ()))
            waiting.append(functions.pop(node.op, ()))
    return operators - {each.signature.name for each in graph.library.function}


def _ask(source: Source, operators: Iterable[str], where: str) -> None:
    """Refuse to run what does more than compute: what TensorFlow has loaded is judged, whatever the file says that it runs."""
    strange = set(operators) - (allowlist.OPERATORS | allowlist.TRAINERS) | allowlist.UNSOUND & set(operators)
    source.looked.permit.ask("operators that do more than compute", strange, where, _CODE)


def _open(graph: Any, model: GraphModel) -> list[str]:
    """Where a part of a graph begins, stands what is fed; the tensors by which that is done, for each input."""
    operators = {node.name: node.op for node in graph.node}
    fed: dict[str, str] = {}
    for port in model.signature.inputs:
        own = f"{port.ref.node}:{port.ref.port}"
        if operators.get(port.ref.node, "").startswith("Placeholder"):
            fed[own] = own
            continue
        name = unique(f"{port.ref.node}_{port.ref.port}", set(operators))
        fed[own] = f"{name}:0"
        operators[name] = "Placeholder"
        entry = graph.node.add(name=name, op="Placeholder")
        entry.attr["dtype"].type = port.dtype
    replaced = {own.rpartition(":")[0] for own, name in fed.items() if own != name}
    for position in reversed(range(len(graph.node))):
        node = graph.node[position]
        if node.name in replaced:
            del graph.node[position]
            continue
        for place, text in enumerate(node.input):
            tensor = text if ":" in text or text.startswith("^") else f"{text}:0"
            if tensor in fed:
                node.input[place] = fed[tensor]
    return list(fed.values())


def _meta_graph(model: GraphModel, source: Source) -> Loaded:
    looked = source.looked
    named = {_in_folder(name): content for name, content in looked.files.items()}
    home = snapshot.together({f"{_NAME}.meta": looked.content, **named})

    def load(session: Any) -> None:
        saver = v1.train.import_meta_graph(str(home / f"{_NAME}.meta"), clear_devices=True)
        if saver is not None:
            saver.restore(session, str(home / _NAME))

    return _restored(model, source, load)


def _restored(model: GraphModel, source: Source, load: Callable[[Any], None]) -> Loaded:
    """TensorFlow restores the checkpoint and makes the variables constants; what is left is a frozen graph."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        load(session)
        ends = [port.ref.node for port in model.signature.outputs]
        ends = [*ends, *(port.ref.node for port in model.signature.inputs)]
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ends)
    return _pruned(model, source, frozen)


_NAME = "model"


def _in_folder(name: str) -> str:
    """The name of a checkpoint's file beside ``model.meta``."""
    part = name.removeprefix("variables/variables")
    return _NAME if part == name else f"{_NAME}{part}"


_LOADERS = {"saved_model": _saved_model, "frozen_graph": _frozen_graph, "meta_graph": _meta_graph}
