"""MXNet's files in numpy alone: ``.params`` (every generation) and ``-symbol.json``.

A params file: u64 0x112 | u64 0 | u64 n | n arrays | u64 k (0 or n) | k names (u64 length, bytes).
``array_format.py`` has the arrays.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.converters import checkpoints
from netferry.converters.disk import archives
from netferry.converters.errors import RefusedError
from netferry.converters.mxnet import architectures, heads, safety
from netferry.converters.mxnet.array_format import Reader, read_array, write_array
from netferry.converters.mxnet.safety import allowlist
from netferry.converters.mxnet.symbol import (
    COMPRESSED,
    OLDEST,
    VERSION,
    Entry,
    Node,
    Symbol,
    rewired,
    upgrade,
    with_one_variable_a_name,
)
from netferry.converters.signature import Array
from netferry.converters.trust import snapshot
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Snapshot

if TYPE_CHECKING:
    from netferry.converters.artifact import Artifact
    from netferry.converters.mxnet.imported import ImportedSymbol


_LIST = 0x112


@dataclass(frozen=True)
class SymbolModel:
    """A symbol with its parameters: what stands in MXNet's two files, or in a gluon block.

    ``label`` says where it came from; ``notes`` are sentences for the report. ``called`` are the inputs in the order in
    which a block takes them; the symbol's own order where it is empty. ``absent`` names the params file that was not there.
    ``foreign`` is one of a file, of which MXNet is given the operators of a list alone.
    """

    graph: Symbol
    params: Mapping[str, Array]
    label: str = "symbol"
    notes: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    absent: str = ""
    foreign: bool = False


def model_of(
    graph: Symbol, params: Mapping[str, Array], label: str = "symbol", notes: tuple[str, ...] = ()
) -> SymbolModel:
    """A symbol with its parameters as inference runs it: labels and heads of training fall away, which notes say."""
    graph, said = heads.prepared(with_one_variable_a_name(graph), params)
    sparse = [node.name for node in graph.nodes if COMPRESSED in node.hidden and node.name not in params]
    if sparse:
        said = (*said, f"sparse inputs are dense in the result, with the same numbers: {', '.join(sparse)}")
    return SymbolModel(graph, params, label, (*notes, *said))


def read(artifact: Artifact, *, weights: Path | None = None, looked: Looked | None = None) -> SymbolModel:
    """Read a symbol and the params that belong to it: ``weights``, or what stands beside it.

    A symbol without params is read all the same: what cannot be converted is said before what is missing.
    """
    looked = looked or safety.look(artifact, weights)
    params: dict[str, Array] = {}
    more = looked.weights
    while more is not None:
        params |= read_params(more.content)
        more = more.weights
    if looked.message is None:
        return _recognised(artifact, params)
    graph = _sized(symbol_of(looked.message, str(artifact.path)), looked.files)
    known = {graph.nodes[position].name for position in graph.variables}
    notes = _said(artifact, weights, looked, sorted(set(params) - known))
    kept = {name: array for name, array in params.items() if name in known}
    model = replace(model_of(graph, kept, artifact.path.name, notes), foreign=not looked.permit.unsafe)
    if looked.permit.unsafe:
        looked.permit.ask(safety.UNLISTED, allowlist.strange(graph.nodes), str(artifact.path))
    if looked.weights is not None:
        return model
    prefix = checkpoints.prefix_of(artifact.path.name) or artifact.path.name
    return replace(model, absent=f"{prefix}-0000.params")


def _recognised(artifact: Artifact, params: Mapping[str, Array]) -> SymbolModel:
    """The network that a params file without a symbol is known to belong to."""
    found = architectures.recognised(params, artifact.path.name)
    if found is None:
        prefix = re.sub(r"(-\d+)?\.params$", "", artifact.path.name)
        raise RefusedError(
            "MXNet parameters without their symbol",
            where=str(artifact.path),
            expected=f"{prefix}-symbol.json beside it, or the weights of a network of gluon's model zoo or GluonCV",
            remedy="Give the -symbol.json and name this file with --weights",
        )
    note = f"no symbol stands beside the weights: by their names and sizes they are those of {found.name} of {found.table}"
    notes = (note, found.note) if found.note else (note,)
    return model_of(found.symbol, params, artifact.path.name, notes)


def _sized(graph: Symbol, sizes: Mapping[str, tuple[int, ...]]) -> Symbol:
    """The graph with the sizes of inputs that an archive declares."""

    def sized(node: Node) -> Node:
        return replace(node, hidden={"__shape__": str(sizes[node.name]), **node.hidden})

    nodes = (sized(node) if node.is_variable and node.name in sizes else node for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes)) if sizes else graph


def _said(artifact: Artifact, weights: Path | None, looked: Looked, extra: Sequence[str]) -> tuple[str, ...]:
    """Where the weights are from, where that was not said, and what of them is not used."""
    if looked.weights is None:
        return ()
    name = Path(looked.weights.content.where).name
    notes = []
    if weights is None and len(artifact.companions) > 1:
        which = "the highest epoch" if name.endswith(".params") else "the last"
        notes.append(f"weights from {name}, {which} of {len(artifact.companions)} files")
    elif weights is None and not name.startswith(checkpoints.prefix_of(artifact.path.name) or " "):
        also = "".join(f" and {path.name}" for path in artifact.also)
        notes.append(f"weights from {name}{also}, found beside the symbol")
    if extra:
        some = ", ".join(extra[:5]) + (" ..." if len(extra) > 5 else "")
        notes.append(f"{name} holds {len(extra)} arrays that the symbol does not use: {some}")
    return tuple(notes)


def write(imported: ImportedSymbol, path: Path) -> None:
    """Write ``NAME-symbol.json`` and ``NAME-0000.params``; ``path`` is the symbol's, or ``NAME`` alone."""
    prefix = re.sub(r"(-symbol)?\.json$", "", path.name)
    write_symbol(path if path.suffix == ".json" else path.with_name(f"{prefix}-symbol.json"), imported.graph)
    write_params(path.with_name(f"{prefix}-0000.params"), imported.params)


def load_weights(model: Any, path: Path, looked: Looked | None = None) -> None:
    """Put a params file into a gluon block: of ``save_parameters``, or of ``export``."""
    content = (looked or safety.look_at_weights(path, Permit())).content
    read_arrays(content)
    try:
        model.load_parameters(str(content.path("weights.params")))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise RefusedError(f"does not fit the block ({reason})", where=str(path)) from error


# ---- parameters ----------------------------------------------------------------------------------


def read_params(source: Path | Snapshot) -> dict[str, Array]:
    """The named arrays of a params file, without MXNet's ``arg:`` and ``aux:``."""
    content = _opened(source)
    arrays, names = read_arrays(content)
    if arrays and not names:
        raise RefusedError(
            "holds a list of arrays without names",
            where=content.where,
            expected="parameters with their names",
        )
    plain = [name.removeprefix("arg:").removeprefix("aux:") for name in names]
    twice = sorted({name for name in plain if plain.count(name) > 1}) if len(set(plain)) < len(plain) else []
    if twice:
        raise RefusedError("holds a parameter twice", where=content.where, received=", ".join(twice))
    return dict(zip(plain, arrays, strict=True))


def read_arrays(source: Path | Snapshot) -> tuple[list[Array], list[str]]:
    """All arrays of a params file and their names (none, or one each).

    Dense arrays are views of the file, which is mapped where it is large; nothing is copied.
    """
    content = _opened(source)
    if (archive := archives.read(content)) is not None:
        return archive
    _demand_no_states(content)
    reader = Reader(np.asarray(content.view(), np.uint8), content.where)
    magic, _ = reader.unpack("<QQ", "the header")
    if magic != _LIST:
        reader.refuse("not a params file", hex(_LIST), hex(magic))
    arrays = []
    for index in range(reader.count("the number of arrays", at_least=4)):
        reader.item = f"array {index}"
        arrays.append(read_array(reader))
    reader.item = "names"
    count = reader.count("the number of names", at_least=8)
    if count not in (0, len(arrays)):
        reader.refuse("arrays and names do not match", f"0 or {len(arrays)} names", count)
    names = [reader.text() for _ in range(count)]
    if reader.left:
        reader.refuse("bytes follow the last name", "the end of the file", f"{reader.left} bytes")
    return arrays, names


def _demand_no_states(content: Snapshot) -> None:
    """Refuse, in their own words, what else people have beside a symbol."""
    head = content.read(64)
    snapshot.demand_content(head, content.where)
    if head.startswith(b"\x80"):
        raise RefusedError(
            "the state of an optimizer, or another pickle, not parameters",
            where=content.where,
            expected="a params file",
            remedy="netferry.optimizer_state takes an optimizer's state over to PyTorch",
        )


def _opened(source: Path | Snapshot) -> Snapshot:
    return snapshot.mapped(source) if isinstance(source, Path) else source


def write_params(path: Path, arrays: Mapping[str, Array] | Sequence[Array]) -> None:
    """Write arrays as ``mx.nd.save`` writes them, byte for byte."""
    named = arrays if isinstance(arrays, Mapping) else {}
    names = [name.encode() for name in named]
    values = list(arrays.values() if isinstance(arrays, Mapping) else arrays)
    with path.open("wb") as file:
        file.write(struct.pack("<3Q", _LIST, 0, len(values)))
        for array in values:
            write_array(file.write, np.asarray(array))
        file.write(struct.pack("<Q", len(names)))
        for name in names:
            file.write(struct.pack("<Q", len(name)) + name)


# ---- the symbol ----------------------------------------------------------------------------------


def read_symbol(path: Path) -> Symbol:
    """Read a ``-symbol.json`` of any generation."""
    return parse_symbol(snapshot.mapped(path).read(), str(path))


def parse_symbol(text: str | bytes, where: str = "symbol") -> Symbol:
    """The graph that a symbol's JSON describes."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"not JSON ({error})", where=where) from error
    return symbol_of(document, where)


def body_of(document: Any, where: str = "the body") -> Symbol:
    """A graph inside of a node: it is of its symbol's own generation, and does not say so."""
    said = {"attrs": {"mxnet_version": ["int", VERSION]}}
    return symbol_of({**document, **said} if isinstance(document, Mapping) else document, where)


def symbol_of(document: Any, where: str) -> Symbol:
    """The graph that a symbol's document describes, brought to today's generation."""
    lists = [document.get(key) for key in ("nodes", "heads")] if isinstance(document, dict) else [None]
    if not all(isinstance(each, list) for each in lists):
        raise RefusedError("not an MXNet symbol", where=where, expected="lists 'nodes' and 'heads'")
    nodes = tuple(_node(raw, position, where) for position, raw in enumerate(document["nodes"]))
    heads = _entries(document["heads"], "heads", where)
    if not heads:
        raise RefusedError("the symbol has no output", where=where, expected="heads")
    symbol = Symbol(nodes, heads, _attribute(document, "mxnet_version", OLDEST), _is_numpy(document))
    for label, entries in [("heads", heads), *((node.label(), node.inputs) for node in nodes)]:
        for position, _ in entries:
            if position >= len(nodes):
                raise RefusedError(
                    f"{label} points at a node that is not there",
                    where=where,
                    expected=f"a node from 0 to {len(nodes) - 1}",
                    received=position,
                )
    try:
        symbol = _unfused(upgrade(symbol), where)
        symbol.order  # noqa: B018 - a cycle is refused here
    except RefusedError as error:
        raise error.at(where) from None
    return symbol


_FUSED = frozenset({"_sg_mkldnn_conv", "_sg_mkldnn_fully_connected"})
"""What oneDNN's subgraphs are called; one of floats is what is inside of it."""


def _unfused(symbol: Symbol, where: str) -> Symbol:
    """The symbol with the insides of fused nodes in their places; the last node of each has the fused one's name."""
    nodes, moved = list(symbol.nodes), dict[int, Entry]()
    for position, node in enumerate(symbol.nodes):
        if node.op not in _FUSED or node.attrs.get("quantized", "").lower() in ("true", "1"):
            continue
        if not node.subgraphs:
            raise RefusedError("a fused node without a graph inside", where=f"{where}: {node.label()}")
        inside = body_of(node.subgraphs[0], where)
        variables = [at for at, each in enumerate(inside.nodes) if each.is_variable]
        if len(variables) != len(node.inputs) or len(inside.heads) != 1:
            raise RefusedError("a fused node whose graph has other inputs", where=f"{where}: {node.label()}")
        places = dict(zip(variables, node.inputs, strict=True))
        for at, each in enumerate(inside.nodes):
            if not each.is_variable:
                entries = tuple(
                    (places[source][0], places[source][1] or index) for source, index in each.inputs
                )
                places[at] = (len(nodes), 0)
                name = node.name if at == inside.heads[0][0] else each.name
                nodes.append(replace(each, name=name, inputs=entries))
        moved[position] = places[inside.heads[0][0]]
    return rewired(replace(symbol, nodes=tuple(nodes)), moved) if moved else symbol


def _attribute(document: Mapping[str, Any], name: str, default: int) -> int:
    """An integer among the graph's attributes: ["int", 10901]."""
    attrs = document.get("attrs")
    pair = attrs.get(name) if isinstance(attrs, dict) else None
    return pair[1] if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], int) else default


def _is_numpy(document: Mapping[str, Any]) -> bool:
    return any(_attribute(document, name, 0) for name in ("is_np_shape", "is_np_array"))


def _node(raw: Any, position: int, where: str) -> Node:
    texts = [raw.get(key) for key in ("op", "name")] if isinstance(raw, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise RefusedError(
            f"node {position} is not a node", where=where, expected="a mapping with 'op' and 'name'"
        )
    attrs: dict[str, str] = {}
    for key in ("param", "attr", "attrs"):
        found = raw.get(key) or {}
        if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
            raise RefusedError(f"node '{raw['name']}': '{key}' is not a mapping of texts", where=where)
        attrs |= found
    label = f"node '{raw['name']}'"
    inputs = _entries(raw.get("inputs") or [], label, where)
    return Node(raw["name"], raw["op"], attrs, {}, inputs, tuple(raw.get("subgraphs") or ()))


def _entries(raw: Any, label: str, where: str) -> tuple[tuple[int, int], ...]:
    fits = isinstance(raw, list) and all(
        isinstance(entry, list)
        and len(entry) in (2, 3)
        and all(type(number) is int and number >= 0 for number in entry)
        for entry in raw
    )
    if not fits:
        raise RefusedError(f"{label}: entries do not hold together", where=where, expected="[node, output]")
    return tuple((entry[0], entry[1]) for entry in raw)


def write_symbol(path: Path, symbol: Symbol) -> None:
    """Write a symbol as MXNet 1.9.1 reads it."""
    path.write_text(symbol_text(symbol))


def symbol_text(symbol: Symbol) -> str:
    """The JSON of a symbol."""
    return json.dumps(document_of(symbol), indent=2, ensure_ascii=False)


def document_of(symbol: Symbol) -> dict[str, Any]:
    """A symbol as its file holds it, and as a node holds its body; a node comes after its inputs."""
    position_of = {old: new for new, old in enumerate(symbol.order)}
    symbol = replace(symbol, nodes=tuple(symbol.nodes[position] for position in symbol.order))

    def entries(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
        return [[position_of[position], index, 0] for position, index in pairs]

    def node(each: Node) -> dict[str, Any]:
        attrs = {**each.attrs, **each.hidden}
        extra = {"subgraphs": list(each.subgraphs)} if each.subgraphs else {}
        raw = {"op": each.op, "name": each.name} | ({"attrs": attrs} if attrs else {})
        return raw | {"inputs": entries(each.inputs)} | extra

    return {
        "nodes": [node(each) for each in symbol.nodes],
        "arg_nodes": [position for position, each in enumerate(symbol.nodes) if each.is_variable],
        "node_row_ptr": list(range(len(symbol.nodes) + 1)),
        "heads": entries(symbol.heads),
        "attrs": ({"is_np_shape": ["int", 1]} if symbol.numpy else {}) | {"mxnet_version": ["int", VERSION]},
    }
