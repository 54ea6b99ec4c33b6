"""Read SavedModels and frozen graphs without TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError
from netferry.converters.tensorflow.graphdef import messages, safety
from netferry.converters.tensorflow.graphdef.checkpoint import Checkpoint, OldCheckpoint
from netferry.converters.tensorflow.graphdef.graph import (
    ARGUMENT,
    Graph,
    Node,
    Ref,
    graph_of,
    reached,
    ref_of,
)
from netferry.converters.tensorflow.graphdef.model import CalledBy, GraphModel, Library, Port, Source
from netferry.converters.trust.permit import Looked

_SERVE, _DEFAULT = "serve", "serving_default"
_INITIALISERS = ("saved_model_main_op", "legacy_init_op", "table_initializer")
_INITIALISING = ("__saved_model_init_op", "__saved_model_train_op")


def read(artifact: Artifact, *, weights: Path | None = None, looked: Looked | None = None) -> GraphModel:
    """The model of a file that was looked at."""
    looked = looked or safety.look(artifact, weights)
    return _READERS[artifact.kind](artifact.path, looked)


def _saved_model(path: Path, looked: Looked) -> GraphModel:
    where = str(path)
    meta = served_graph(looked)
    graph = graph_of(meta.graph.nodes, where)
    functions = Library(meta.graph.library.functions, where)
    signatures = {
        entry.key: _signature(entry.key, entry.value, graph, functions, where)
        for entry in sorted(meta.signatures, key=lambda entry: entry.key)
        if entry.key not in _INITIALISING
    }
    if not signatures:
        raise RefusedError(
            "the SavedModel has no signature",
            where=where,
            expected=_DEFAULT,
            remedy="Save it with model.export(path), or tf.saved_model.save(model, path, signatures=...)",
        )
    return GraphModel(
        where,
        graph,
        functions,
        signatures,
        meant_of(signatures),
        steps=tuple(_steps(meta)),
        checkpoint=_checkpoint(looked),
        source=Source(path, "saved_model", looked),
        objects=meta.objects,
    )


def served_graph(looked: Looked) -> Any:
    """The graph of a SavedModel that is tagged for serving, else its first."""
    graphs = looked.message.graphs
    return next((each for each in graphs if _SERVE in each.info.tags), graphs[0])


def meant_of(signatures: Mapping[str, CalledBy]) -> CalledBy | None:
    """``serving_default``, or the only one there is."""
    return signatures.get(_DEFAULT) or (next(iter(signatures.values())) if len(signatures) == 1 else None)


def _steps(meta: Any) -> Iterator[str]:
    """The nodes that restore variables and fill tables."""
    if meta.saver.restore:
        yield meta.saver.restore.removeprefix("^").partition(":")[0]
    for entry in meta.collections:
        if entry.key in _INITIALISERS:
            yield from (name.partition(":")[0] for name in entry.value.nodes.values)
    for entry in meta.signatures:
        if entry.key in _INITIALISING:
            yield from (each.value.name.partition(":")[0] for each in entry.value.outputs)


# ---- signatures ------------------------------------------------------------------------------------


def _signature(name: str, message: Any, graph: Graph, functions: Library, where: str) -> CalledBy:
    outputs, inputs = (
        sorted((_port(entry, where) for entry in entries), key=lambda port: numbered(port.name))
        for entries in (message.outputs, message.inputs)
    )
    order = _called_in_order(outputs, graph, functions)
    placed = {node: position for position, node in enumerate(order)}
    inputs.sort(key=lambda port: placed.get(port.ref.node, len(placed)))
    return CalledBy(name, tuple(inputs), tuple(outputs))


def _port(entry: Any, where: str) -> Port:
    info = entry.value
    return Port(entry.key, ref_of(info.name, where), info.dtype, messages.dims_of(info.shape))


def numbered(name: str) -> list[tuple[int, int, str]]:
    """``output_2`` comes before ``output_10``."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    ]


def _called_in_order(outputs: Sequence[Port], graph: Graph, functions: Library) -> list[str]:
    """The fed nodes as the model's own function takes them: a signature keeps its names without an order.

    A SavedModel of TensorFlow 2 serves a wrapper, whose call of the model has the arguments in the order of the code;
    in one of TensorFlow 1 the placeholders stand in the order in which they were made.
    """
    for port in outputs:
        node = graph.nodes.get(port.ref.node)
        function = functions(_callee(node)) if node is not None else None
        if node is None or function is None:
            continue
        inner = next((each for each in function.nodes.values() if functions(_callee(each)) is not None), None)
        passed = [ref.node for ref in (inner.inputs if inner else ()) if ref.node in function.arguments]
        order = [function.arguments.index(name) for name in _traced(passed, function)]
        return [node.inputs[position].node for position in order if position < len(node.inputs)]
    return list(graph.nodes)


def _traced(names: Iterable[str], function: Graph) -> Iterator[str]:
    yield from (name for name in names if function.nodes[name].operator == ARGUMENT)


def _callee(node: Any) -> str:
    function = None if node is None else node.attributes.get("f")
    return function.function.name if function is not None else ""


# ---- frozen graphs ---------------------------------------------------------------------------------

_UNREAD = frozenset(
    """
    NoOp Assert Const Placeholder PlaceholderWithDefault VarHandleOp VariableV2 Variable SaveV2 SaveSlices Print PrintV2
    Shape ShapeN Size Rank VarIsInitializedOp IsVariableInitialized MergeSummary ScalarSummary HistogramSummary ImageSummary AudioSummary
    TensorSummary TensorSummaryV2 ShardedFilename MergeV2Checkpoints HashTableV2 LookupTableImportV2
    """.split()
)
_MEASURING = frozenset({"Shape", "ShapeN", "Size", "Rank"})
_LEAVING = frozenset({"Exit", "RefExit"})
"""What a loop of TensorFlow 1 gives: a variable that nobody reads is a counter, unless loops are all that the graph ends in."""
_TRAINED = re.compile(r"^(Resource|Sparse)?(Sparse)?Apply[A-Z]\w*$|^Assign\w*$|^Scatter(Add|Sub|Update)$")
_FEEDING = re.compile("Placeholder(V2)?$|IteratorGetNext$|Queue(TryDequeue|Dequeue)|ParseSingleExample")
_DEFAULTING = re.compile("PlaceholderWithDefault$")
_ASIDE = re.compile(r"(^|/)(gradients|save|report_uninitialized_variables|init)(_\d+)?/")
"""Where the nodes of gradients, savers and first values stand in TensorFlow 1."""


def _frozen(path: Path, looked: Looked) -> GraphModel:
    """Its inputs are the placeholders, its outputs what nobody reads."""
    where = str(path)
    graph = graph_of(looked.message.nodes, where)
    functions = Library(looked.message.library.functions, where)
    signature = _unserved(graph, where)
    return GraphModel(where, graph, functions, {}, signature, source=Source(path, "frozen_graph", looked))


def _meta_graph(path: Path, looked: Looked) -> GraphModel:
    """A graph of TensorFlow 1, also one that trains, and its checkpoint: outputs as of a frozen graph, or its signatures."""
    where, meta = str(path), looked.message
    graph, functions = graph_of(meta.graph.nodes, where), Library(meta.graph.library.functions, where)
    signatures = {
        entry.key: _signature(entry.key, entry.value, graph, functions, where)
        for entry in sorted(meta.signatures, key=lambda entry: entry.key)
    }
    return GraphModel(
        where,
        graph,
        functions,
        signatures,
        meant_of(signatures) if signatures else _unserved(graph, where),
        steps=tuple(_steps(meta)),
        checkpoint=_checkpoint(looked),
        source=Source(path, "meta_graph", looked),
    )


def _checkpoint(looked: Looked) -> Checkpoint | OldCheckpoint | None:
    index, shards = safety.checkpoint_files(looked.files)
    old = safety.old_files(looked.files)
    if index is not None:
        return Checkpoint(index, shards)
    return OldCheckpoint(old) if old else None


def _unserved(graph: Graph, where: str) -> CalledBy:
    """What a graph without signatures gives: what nobody reads who computes, not trains; it takes what that is made of."""
    computing = [node for node in graph.nodes.values() if _computes(node)]
    storing = [node for node in graph.nodes.values() if _TRAINED.match(node.operator)]
    read = {ref.node for node in (*computing, *storing) for ref in node.inputs}
    fed = _reached(graph, _feeding(graph, _FEEDING)) or _reached(graph, _feeding(graph, _DEFAULTING))
    ends = [node for node in computing if node.name not in read and not _chooses(graph, node)]
    ends = [node for node in ends if not fed or node.name in fed]
    beside = [node for node in ends if node.operator not in _LEAVING]
    outputs = [port_of(graph, Ref(node.name, 0)) for node in beside or ends]
    if not outputs:
        raise RefusedError("the graph has no output: no node computes what nobody reads", where=where)
    return CalledBy("", placeholders(graph, [port.ref.node for port in outputs], where), tuple(outputs))


def _feeding(graph: Graph, kind: re.Pattern[str]) -> list[str]:
    """The nodes that give what a model computes on: placeholders, or the end of a pipeline of data."""
    return [
        node.name
        for node in graph.nodes.values()
        if kind.match(node.operator) and not _ASIDE.search(node.name)
    ]


def _computes(node: Node) -> bool:
    return node.operator not in _UNREAD and not _TRAINED.match(node.operator) and not _ASIDE.search(node.name)


def _chooses(graph: Graph, node: Node) -> bool:
    """Whether a node only says which branch of TensorFlow 1 is taken."""
    switches = ("Switch", "RefSwitch")
    read = [graph.nodes[ref.node].operator for ref in node.inputs if ref.node in graph.nodes]
    return node.operator in switches or (
        node.operator == "Identity" and read[:1] in ([each] for each in switches)
    )


def _reached(graph: Graph, begins: Iterable[str]) -> set[str]:
    """The nodes that compute on what these give, through others or not; sizes alone are none of it."""
    readers: dict[str, list[str]] = {}
    for node in graph.nodes.values():
        for ref in node.inputs:
            readers.setdefault(ref.node, []).append(node.name)
    seen, waiting = set[str](), list(begins)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            measures = name in graph.nodes and graph.nodes[name].operator in _MEASURING
            waiting.extend(() if measures else readers.get(name, ()))
    return seen


def port_of(graph: Graph, ref: Ref) -> Port:
    """A tensor of the main graph under its node's name."""
    node = graph.nodes[ref.node]
    held = node.attributes.get("dtype") or node.attributes.get("T")
    return Port(node.name, ref, held.type if held is not None else 0, _declared(node.attributes))


def placeholders(graph: Graph, outputs: Iterable[str], where: str) -> tuple[Port, ...]:
    """What must be fed for these nodes, in the order of the graph."""
    needed = {node.name for node in reached(graph, outputs, where)}
    return tuple(
        port_of(graph, Ref(node.name, 0))
        for node in graph.nodes.values()
        if node.name in needed
        and node.operator in ("Placeholder", "PlaceholderV2")
        and "dtype" in node.attributes
    )


def _declared(attributes: Mapping[str, Any]) -> tuple[int | None, ...] | None:
    """A placeholder's sizes; TensorFlow 1 wrote no sizes where the rank is not known."""
    shape = attributes.get("shape")
    return None if shape is None else messages.dims_of(shape.shape)


_READERS: Mapping[str, Callable[[Path, Looked], GraphModel]] = {
    "saved_model": _saved_model,
    "frozen_graph": _frozen,
    "meta_graph": _meta_graph,
}
