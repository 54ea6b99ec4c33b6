"""What a SavedModel runs, read before TensorFlow reads it: its functions, its graph, and the saver's part of both."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from google.protobuf.message import DecodeError

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.tensorflow.safety import allowlist
from netferry.converters.trust import calls, wire
from netferry.converters.trust.permit import Permit
from netferry.converters.trust.tables import room

_CODE = "Build the model in Python and give package.module:factory with --weights"
_CUT = "Save it without them, or give its checkpoint and --input-at a tensor behind them"

_DECLARED: wire.Declared = {
    "SavedModel": {"graphs": "2* MetaGraph"},
    "MetaGraph": {
        "graph": "2 Graph", "saver": "3 Saver", "collections": "4* CollectionEntry", "signatures": "5* SignatureEntry",
        "assets": "6* Asset", "objects": "7 Objects",
    },
    "Graph": {"nodes": "1* Node", "library": "2 Library"},
    "Library": {"functions": "1* Function", "gradients": "2* Gradient", "registered": "3* Gradient"},
    "Gradient": {"first": "1 string", "second": "2 string"},
    "Function": {"signature": "1 Name", "nodes": "3* Node", "attributes": "5* AttributeEntry"},
    "Name": {"name": "1 string"},
    "Node": {"name": "1 string", "operator": "2 string", "inputs": "3* string", "attributes": "5* AttributeEntry"},
    "AttributeEntry": {"key": "1 string", "value": "2 Attribute"},
    "Attribute": {"list": "1 List", "text": "2 bytes", "integer": "3 int64", "type": "6 int32", "tensor": "8 Tensor", "function": "10 Called"},
    "List": {"texts": "2* bytes", "functions": "9* Called"},
    "Called": {"name": "1 string", "attributes": "2* AttributeEntry"},
    "Tensor": {"shape": "2 Shape"},
    "Shape": {"dims": "2* Dim"},
    "Dim": {"size": "1 int64"},
    "Saver": {"filename": "1 string", "save": "2 string", "restore": "3 string"},
    "CollectionEntry": {"key": "1 string", "value": "2 Collection"},
    "Collection": {"nodes": "1 Nodes", "messages": "2 Messages", "any": "5 Anys"},
    "Nodes": {"values": "1* string"},
    "Messages": {"values": "1* bytes"},
    "Anys": {"values": "1* Any"},
    "Any": {"value": "2 bytes"},
    "Variable": {"initializer": "2 string", "snapshot": "3 string", "initial_value": "6 string"},
    "SignatureEntry": {"value": "2 Signature"},
    "Signature": {"inputs": "1* TensorEntry", "outputs": "2* TensorEntry"},
    "TensorEntry": {"value": "2 TensorInfo"},
    "TensorInfo": {"name": "1 string", "sparse": "4 Sparse", "parts": "5 Parts"},
    "Sparse": {"values": "1 string", "indices": "2 string", "sizes": "3 string"},
    "Parts": {"components": "2* TensorInfo"},
    "Asset": {"filename": "2 string"},
    "Objects": {"functions": "2* NameEntry"},
    "NameEntry": {"key": "1 string"},
}  # fmt: skip
"""Of tensorflow/core/protobuf and framework: SavedModel, MetaGraphDef, GraphDef, FunctionDef, NodeDef, AttrValue and so on."""

_AN_OPERATOR = re.compile(r"_*[A-Z]\w*|.*>.*")
"""How operators are called; a function of such a name hides one."""

_SWAPPED = frozenset({"api_implements", "_implements"})
"""Attributes by which TensorFlow puts one function in the place of another."""

_STRING = 7
"""DT_STRING, in whose placeholders savers keep the names of files."""

_FED = frozenset({"Placeholder", "PlaceholderWithDefault", "Const"})
"""How the file name of a saver is held; TensorFlow before 1.9 fed a constant."""


@cache
def _messages() -> Mapping[str, Any]:
    return wire.messages(_DECLARED)


def look(content: bytes, size: int, where: str, permit: Permit) -> list[str]:
    """Look at a ``saved_model.pb`` beside files of ``size`` bytes; the names of its assets.

    Raises:
        RefusedError: it is damaged, grows without bound, or would do something else than compute.
    """
    try:
        model = _messages()["SavedModel"].FromString(content)
    except DecodeError as error:
        raise RefusedError(f"not a whole protobuf message ({first_line(error)})", where=where) from error
    for meta in model.graphs:
        _look_at_graph(meta, size, where, permit)
    return [name for meta in model.graphs for name in _assets(meta)]


def _assets(meta: Any) -> Iterator[str]:
    """Files beside the graph; TensorFlow 1 kept their names in a collection."""
    yield from (asset.filename for asset in meta.assets)
    for entry in meta.collections:
        if entry.key == "saved_model_assets":
            for packed in entry.value.any.values:
                yield _unpacked("Asset", packed.value).filename


def _unpacked(name: str, content: bytes) -> Any:
    """A message inside a collection; an empty one where it is none, for TensorFlow reads none there either."""
    try:
        return _messages()[name].FromString(content)
    except DecodeError:
        return _messages()[name]()


def _look_at_graph(meta: Any, size: int, where: str, permit: Permit) -> None:
    functions = _by_name("function", meta.graph.library.functions, lambda each: each.signature.name, where)
    main = _Nodes(meta.graph.nodes, where)
    called = {
        name: [each for node in each_of.nodes for each in _called(node)]
        for name, each_of in functions.items()
    }
    calls.check(
        {name: (len(functions[name].nodes), names) for name, names in called.items()},
        [name for node in main for name in main.called[node.name]]
        + [entry.key for entry in meta.objects.functions],
        where,
    )
    nodes = [*main, *(node for function in functions.values() for node in function.nodes)]
    _check_constants(nodes, size, where)
    check_outputs(nodes, size, where)
    known = (
        allowlist.OPERATORS
        | allowlist.TRAINERS
        | allowlist.FEEDERS
        | allowlist.SAVERS
        | {name for name in functions if not _AN_OPERATOR.fullmatch(name)}
    )
    permit.ask("operators that are on no list", {node.operator for node in nodes} - known, where, _CODE)
    acting = _leading(meta, functions, called, allowlist.SAVERS)
    misplaced = {
        *_offered(meta, acting),
        *_run(meta, main, acting),
        *_without_a_place(meta, main, acting),
    }
    permit.ask("operators that read or write files", misplaced, where, _CODE)
    feeding = _leading(meta, functions, called, allowlist.FEEDERS)
    run = {*_offered(meta, feeding), *_served(meta, main, allowlist.FEEDERS | feeding)}
    permit.ask("operators that feed a graph: they wait, and start threads", run, where, _CUT)


def _by_name(what: str, items: Sequence[Any], name_of: Any, where: str) -> dict[str, Any]:
    twice = [name for name, count in Counter(map(name_of, items)).items() if count > 1]
    if twice:
        raise RefusedError(f"two of one name: the {what} '{twice[0]}'", where=where)
    return {name_of(item): item for item in items}


def _called(node: Any) -> Iterator[str]:
    """The functions that a node, or a function, names in its attributes; an operator may be one itself."""
    yield getattr(node, "operator", "")
    waiting = [entry.value for entry in node.attributes]
    while waiting:
        value = waiting.pop()
        if value.text:
            yield value.text.decode("utf-8", "replace")
        if not (value.HasField("function") or value.HasField("list")):
            continue
        for function in (value.function, *value.list.functions):
            yield function.name
            waiting.extend(entry.value for entry in function.attributes)
        for text in value.list.texts:
            if text:
                yield text.decode("utf-8", "replace")


def _check_constants(nodes: Sequence[Any], size: int, where: str) -> None:
    """A constant of one number and a billion places is written out as soon as the graph is loaded."""
    limit = room(size)
    for node in nodes:
        for entry in node.attributes:
            value = entry.value
            if not value.HasField("tensor"):
                continue
            dims = [dim.size for dim in value.tensor.shape.dims]
            if any(dim < 0 for dim in dims) or math.prod(dims) > limit:
                raise RefusedError(
                    f"the constant '{node.name}' is far larger than its file", where=where, received=dims
                )


_OUTPUTS = re.compile(
    "num(_split|_partitions|_sparse)?|N((context|feature_list)_)?(sparse|dense)|output_ragged_rank"
)
"""Attributes that say how many outputs a node has."""

_MOST_OUTPUTS, _BYTES_PER_OUTPUT = 1 << 16, 4
"""So many outputs the nodes of any graph may have by such attributes, and one more for so many bytes: who reads one, names it."""


def check_outputs(nodes: Iterable[Any], size: int, where: str) -> None:
    """Refuse nodes that are divided into far more outputs than anybody in the file could read: all are made.

    Raises:
        RefusedError: the name of the first that goes beyond.
    """
    left = _MOST_OUTPUTS + size // _BYTES_PER_OUTPUT
    for node in nodes:
        counts = [entry.value.integer for entry in node.attributes if _OUTPUTS.fullmatch(entry.key)]
        left -= sum(count for count in counts if count > 0)
        if left < 0:
            raise RefusedError(
                f"the node '{node.name}' ({node.operator}) has far more outputs than the file could read",
                where=where,
                received=max(counts),
            )


# ---- the saver -----------------------------------------------------------------------------------


def _leading(
    meta: Any, functions: Mapping[str, Any], called: Mapping[str, Sequence[str]], operators: frozenset[str]
) -> frozenset[str]:
    """Functions that have one of these operators, or that lead to one that has: by a call, as a gradient, or put in its place."""
    leads: dict[str, set[str]] = {
        name: {*called[name], *_called(function)} for name, function in functions.items()
    }
    for pair in (*meta.graph.library.gradients, *meta.graph.library.registered):
        leads.setdefault(pair.first, set()).add(pair.second)
        leads.setdefault(pair.second, set()).add(pair.first)
    swapped: dict[bytes, set[str]] = {}
    for name, function in functions.items():
        for entry in function.attributes:
            if entry.key in _SWAPPED and entry.value.text:
                swapped.setdefault(entry.value.text, set()).add(name)
    for group in swapped.values():
        for name in group:
            leads[name] |= group
    found: set[str] = set()
    news = set(operators)
    while news := {name for name, to in leads.items() if to & news} - found:
        found |= news
    return frozenset(found)


def _offered(meta: Any, acting: frozenset[str]) -> Iterator[str]:
    """Such functions that the loaded objects name, whatever for: TensorFlow takes any function of the library."""
    objects = meta.objects.SerializeToString()
    yield from (name for name in acting if name.encode() in objects)


class _Nodes:
    """The nodes of a graph, what each waits for, and who waits for it."""

    def __init__(self, nodes: Sequence[Any], where: str) -> None:
        self._nodes = _by_name("node", nodes, lambda node: node.name, where)
        self.called = {name: tuple(_called(node)) for name, node in self._nodes.items()}
        self._readers: dict[str, list[Any]] = {}
        for node in nodes:
            for name in map(_owner, node.inputs):
                self._readers.setdefault(name, []).append(node)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._nodes.values())

    def behind(self, names: Iterable[str], fed: Iterable[str] = ()) -> Iterator[Any]:
        """All nodes that run for these to run; the tensors ``fed`` are given, and wait for nothing."""
        given = set(map(_tensor, fed))
        waiting, seen = list(names), set[str]()
        while waiting:
            text = waiting.pop()
            name = _owner(text)
            if _tensor(text) not in given and name not in seen and name in self._nodes:
                seen.add(name)
                yield self._nodes[name]
                waiting.extend(self._nodes[name].inputs)

    def placeholder(self, tensor: str) -> str:
        """The name of the node whose one output ``tensor`` is, if it is one that is given its value; else nothing."""
        name = tensor.removesuffix(":0")
        node = self._nodes.get(name)
        return name if node is not None and node.operator in _FED else ""

    def reached(self, name: str, same: bool = False) -> set[str]:
        """The nodes to which a path leads from ``name``; only those that hand it on as it is, where it must be the ``same``."""
        found = {name} if name else set[str]()
        waiting = list(found)
        while waiting:
            given = waiting.pop()
            for node in self._readers.get(given, ()):
                handed_on = node.operator == "Identity" and node.inputs[0].removesuffix(":0") == given
                if node.name not in found and (handed_on or not same):
                    found.add(node.name)
                    waiting.append(node.name)
        return found


def _is_file_name(node: Any) -> bool:
    """Whether this is the placeholder of some saver's file name: of strings, ``save/filename`` or ``save_1/Const``."""
    return node.operator == "PlaceholderWithDefault" and any(
        entry.key == "dtype" and entry.value.type == _STRING for entry in node.attributes
    )


def _owner(text: str) -> str:
    """The node of an input: ``name``, ``name:port``, or ``^name`` where it only waits for it."""
    return re.sub(r":\d+$", "", text.removeprefix("^"))


def _tensor(text: str) -> str:
    """An input with the number of the output that it reads."""
    return text if ":" in text or text.startswith("^") else f"{text}:0"


def _tensors(entries: Iterable[Any]) -> Iterator[str]:
    """The tensors that a signature names: one for each, or those of which a sparse or ragged one is made."""
    infos = [entry.value for entry in entries]
    while infos:
        info = infos.pop()
        named = (info.name, info.sparse.values, info.sparse.indices, info.sparse.sizes)
        yield from (name for name in named if name)
        infos.extend(info.parts.components)


def _served(meta: Any, main: _Nodes, operators: frozenset[str]) -> Iterator[str]:
    """Which of these a signature runs, given its inputs, or the step that a loader takes first."""
    first = [name for entry in meta.collections if entry.key in _FIRST for name in entry.value.nodes.values]
    for entry in (None, *meta.signatures):
        ends = first if entry is None else _tensors(entry.value.outputs)
        given = () if entry is None else _tensors(entry.value.inputs)
        for node in main.behind(ends, fed=given):
            yield from operators.intersection(main.called[node.name])


_FIRST = frozenset({"saved_model_main_op", "legacy_init_op", "saved_model_init_op"})
"""Collections whose nodes TensorFlow runs as soon as a SavedModel is loaded."""


def _roots(meta: Any) -> list[str]:
    """What runs when a model is loaded and used, besides the restore step: signatures, and the ops of collections."""
    found = [name for entry in meta.signatures for name in _tensors(entry.value.outputs)]
    for entry in meta.collections:
        found += entry.value.nodes.values
        for message in entry.value.messages.values if entry.key != "savers" else ():
            variable = _unpacked("Variable", message)
            found += [variable.initializer, variable.snapshot, variable.initial_value]
    return [name for name in found if name]


def _run(meta: Any, main: _Nodes, acting: frozenset[str]) -> Iterator[str]:
    """What saves or restores and is run by a signature, by an initializer, or by a restore step that is none.

    The restore step may read from the place that it is given, and from no other.
    """
    acts, filename = allowlist.SAVERS | acting, main.placeholder(meta.saver.filename)
    for node in main.behind(_roots(meta)):
        yield from acts.intersection(main.called[node.name])
    same = main.reached(filename, same=True)
    for node in main.behind([meta.saver.restore], fed=[filename]):
        restores = node.operator == "RestoreV2" or (
            meta.HasField("objects") and acting.intersection(main.called[node.name])
        )
        if not (restores and node.inputs and node.inputs[0].removesuffix(":0") in same):
            yield from acts.intersection(main.called[node.name])


def _without_a_place(meta: Any, main: _Nodes, acting: frozenset[str]) -> Iterator[str]:
    """What saves or restores though no path leads to it from the placeholder of a saver's file name.

    Of TensorFlow 1 every ``Saver`` leaves its nodes in the graph; those that nobody runs wait for a name that nobody feeds.
    """
    acts, reached = allowlist.SAVERS | acting, main.reached(main.placeholder(meta.saver.filename))
    if not meta.HasField("objects"):
        reached = reached.union(*(main.reached(node.name) for node in main if _is_file_name(node)))
    for node in main:
        if node.name not in reached:
            yield from acts.intersection(main.called[node.name])
