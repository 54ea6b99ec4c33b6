"""MXNet's files in numpy alone: ``.params`` (every generation) and ``-symbol.json``.

A params file: u64 0x112 | u64 0 | u64 n | n arrays | u64 k (0 or n) | k names (u64 length, bytes).
An array starts with a u32: V2 or V3 (storage type, then as below), V1 (i64 sizes), or, in V0 (MXNet 0.8
and older), the number of its axes. Then: axes, sizes, i32 device type and id, i32 dtype, content.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from netferry.converters.disk import archives
from netferry.converters.errors import RefusedError
from netferry.converters.graph.ir.arrays import release
from netferry.converters.mxnet import safety
from netferry.converters.mxnet.symbol import OLDEST, VERSION, Node, Symbol, upgrade
from netferry.converters.signature import Array
from netferry.converters.trust import snapshot
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Snapshot

if TYPE_CHECKING:
    from netferry.converters.artifact import Artifact
    from netferry.converters.mxnet.imported import ImportedSymbol

DTYPES: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(kind)
    for kind in ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "?", "i2", "u2", "u4", "u8", ml_dtypes.bfloat16)
)
"""MXNet's dtypes; a dtype's code is its place."""

_LIST = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE, _ROW_SPARSE, _CSR = 0, 1, 2
_AUXILIARY = {_DENSE: 0, _ROW_SPARSE: 1, _CSR: 2}
_CPU = (1, 0)
_MOST_AXES, _MOST_BITS = 32, 56
_SPARSEST = 256
"""A sparse array may be at most this many times as large, written out, as its file."""


@dataclass(frozen=True)
class SymbolModel:
    """A symbol with its parameters: what stands in MXNet's two files, or in a gluon block.

    ``label`` says where it came from; ``notes`` are sentences for the report. ``called`` are the inputs in the order in
    which a block takes them; the symbol's own order where it is empty.
    """

    graph: Symbol
    params: Mapping[str, Array]
    label: str = "symbol"
    notes: tuple[str, ...] = ()
    called: tuple[str, ...] = ()


def read(artifact: Artifact, *, weights: Path | None = None, looked: Looked | None = None) -> SymbolModel:
    """Read a symbol and the params file that belongs to it: ``weights``, or the highest epoch beside it."""
    looked = looked or safety.look(artifact, weights)
    graph = symbol_of(looked.message, str(artifact.path))
    if looked.weights is None:
        raise RefusedError(
            "no params file stands beside the symbol",
            where=str(artifact.path),
            expected=re.sub(r"(-symbol)?\.json$", "-0000.params", artifact.path.name),
            remedy="Name it with --weights",
        )
    chosen = artifact.companions[-1] if weights is None else weights
    notes: tuple[str, ...] = ()
    if weights is None and len(artifact.companions) > 1:
        notes = (f"weights from {chosen.name}, the highest epoch of {len(artifact.companions)} files",)
    params = read_params(looked.weights.content)
    known = {graph.nodes[place].name for place in graph.variables}
    extra = sorted(set(params) - known)
    if extra:
        some = ", ".join(extra[:5]) + (" ..." if len(extra) > 5 else "")
        notes += (f"{chosen.name} holds {len(extra)} arrays that the symbol does not use: {some}",)
    return SymbolModel(graph, {n: a for n, a in params.items() if n in known}, artifact.path.name, notes)


def write(imported: ImportedSymbol, path: Path) -> None:
    """Write ``NAME-symbol.json`` and ``NAME-0000.params``; ``path`` is the symbol's, or ``NAME`` alone."""
    prefix = re.sub(r"(-symbol)?\.json$", "", path.name)
    write_symbol(path if path.suffix == ".json" else path.with_name(f"{prefix}-symbol.json"), imported.graph)
    write_params(path.with_name(f"{prefix}-0000.params"), imported.params)


def load_weights(model: Any, path: Path, looked: Looked | None = None) -> None:
    """Put a params file into a gluon block: of ``save_parameters``, or of ``export``."""
    held = (looked or safety.look_at_weights(path, Permit())).content
    read_arrays(held)
    try:
        model.load_parameters(str(held.path("weights.params")))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise RefusedError(f"does not fit the block ({reason})", where=str(path)) from error


# ---- parameters ----------------------------------------------------------------------------------


def read_params(source: Path | Snapshot) -> dict[str, Array]:
    """The named arrays of a params file, without MXNet's ``arg:`` and ``aux:``."""
    held = _held(source)
    arrays, names = read_arrays(held)
    if arrays and not names:
        raise RefusedError(
            "holds a list of arrays without names", where=held.where, expected="parameters with their names"
        )
    plain = [name.removeprefix("arg:").removeprefix("aux:") for name in names]
    twice = sorted({name for name in plain if plain.count(name) > 1}) if len(set(plain)) < len(plain) else []
    if twice:
        raise RefusedError("holds a parameter twice", where=held.where, received=", ".join(twice))
    return dict(zip(plain, arrays, strict=True))


def read_arrays(source: Path | Snapshot) -> tuple[list[Array], list[str]]:
    """All arrays of a params file and their names (none, or one each).

    Dense arrays are views of the file, which is mapped where it is large; nothing is copied.
    """
    held = _held(source)
    if (archive := archives.read(held)) is not None:
        return archive
    reader = _Reader(np.asarray(held.view(), np.uint8), held.where)
    magic, _ = reader.unpack("<QQ", "the header")
    if magic != _LIST:
        reader.refuse("not a params file", hex(_LIST), hex(magic))
    arrays = []
    for index in range(reader.count("the number of arrays", at_least=4)):
        reader.item = f"array {index}"
        arrays.append(_read_array(reader))
    reader.item = "names"
    count = reader.count("the number of names", at_least=8)
    if count not in (0, len(arrays)):
        reader.refuse("arrays and names do not match", f"0 or {len(arrays)} names", count)
    names = [reader.text() for _ in range(count)]
    if reader.left:
        reader.refuse("bytes follow the last name", "the end of the file", f"{reader.left} bytes")
    return arrays, names


def _held(source: Path | Snapshot) -> Snapshot:
    return snapshot.mapped(source) if isinstance(source, Path) else source


class _Reader:
    """A place in the mapped file. Nothing is taken before it is known to be there."""

    def __init__(self, data: Array, where: str) -> None:
        self._data = data
        self._at = 0
        self._where = where
        self.item = "header"

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    @property
    def size(self) -> int:
        return len(self._data)

    def refuse(self, problem: str, expected: object = None, received: object = None) -> None:
        raise RefusedError(f"{self.item}: {problem}", where=self._where, expected=expected, received=received)

    def take(self, size: int, what: str) -> Array:
        if size > self.left:
            self.refuse(f"the file ends inside {what}", f"{size} bytes", f"{self.left} bytes")
        self._at += size
        return self._data[self._at - size : self._at]

    def unpack(self, form: str, what: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form), what).tobytes())

    def count(self, what: str, *, at_least: int) -> int:
        """A number of things of which each takes at least so many bytes."""
        (count,) = self.unpack("<Q", what)
        if count * at_least > self.left:
            self.refuse(f"{what} cannot be", f"at most {self.left // at_least}", count)
        return count

    def text(self) -> str:
        (size,) = self.unpack("<Q", "the length of a name")
        try:
            return self.take(size, "a name").tobytes().decode()
        except UnicodeDecodeError as error:
            raise RefusedError("names: a name is not UTF-8", where=self._where) from error

    def shape(self, axes: int, letter: str = "q") -> tuple[int, ...]:
        if not 0 <= axes <= _MOST_AXES:
            self.refuse("number of axes cannot be", f"0 to {_MOST_AXES}", axes)
        sizes = self.unpack(f"<{axes}{letter}", "the sizes")
        if any(size < 0 for size in sizes):
            self.refuse("a size is negative", "sizes of 0 and more", sizes)
        if 0 in sizes and math.prod(max(size, 1) for size in sizes) >> _MOST_BITS:
            self.refuse("sizes larger than any memory", f"less than 2^{_MOST_BITS} places", sizes)
        return sizes

    def dtype(self) -> np.dtype[Any]:
        (code,) = self.unpack("<i", "the dtype")
        if not 0 <= code < len(DTYPES):
            self.refuse("no such dtype", f"a code from 0 to {len(DTYPES) - 1}", code)
        return DTYPES[code]

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        content = self.take(math.prod(shape) * dtype.itemsize, f"the content of {dtype.name}{list(shape)}")
        return np.asarray(content).view(dtype).reshape(shape)


def _read_array(reader: _Reader) -> Array:
    (magic,) = reader.unpack("<I", "the magic")
    if magic in (_V2, _V3):
        return _read_stored(reader, magic)
    axes = reader.unpack("<i", "the number of axes")[0] if magic == _V1 else magic
    shape = reader.shape(axes, "q" if magic == _V1 else "I")
    if not shape:
        return _nothing()
    reader.unpack("<2i", "the device")
    return reader.array(shape, reader.dtype())


def _read_stored(reader: _Reader, magic: int) -> Array:
    (storage,) = reader.unpack("<i", "the storage type")
    if storage not in _AUXILIARY:
        reader.refuse("no such storage type", "0 (dense), 1 (row_sparse) or 2 (csr)", storage)
    axes = reader.unpack("<i", "the number of axes")[0]
    kept = None
    if storage != _DENSE:
        kept = reader.shape(axes)
        axes = reader.unpack("<i", "the number of axes")[0]
    if magic == _V3 and axes == -1:
        return _nothing()
    shape = reader.shape(axes)
    if magic == _V2 and not shape:
        return _nothing()
    reader.unpack("<2i", "the device")
    dtype = reader.dtype()
    if kept is None:
        return reader.array(shape, dtype)
    forms = []
    for _ in range(_AUXILIARY[storage]):
        form = reader.dtype()
        forms.append((reader.shape(reader.unpack("<i", "the number of axes")[0]), form))
    return _dense(reader, storage, shape, reader.array(kept, dtype), [reader.array(*form) for form in forms])


def _nothing() -> Array:
    """What MXNet writes for an array that has no shape yet."""
    return np.empty(0, np.float32)


def _dense(
    reader: _Reader, storage: int, shape: tuple[int, ...], content: Array, indices: Sequence[Array]
) -> Array:
    """Write out a sparse array, once its indices are known to lie inside it."""
    if math.prod(shape) * content.itemsize > _SPARSEST * reader.size:
        reader.refuse("too sparse to be written out", f"at most {_SPARSEST} times the file", list(shape))
    whole = np.zeros(shape, content.dtype)
    if storage == _ROW_SPARSE:
        (rows,) = indices
        fits = rows.ndim == 1 and len(shape) > 0 and content.shape == (len(rows), *shape[1:])
        if not fits or not _inside(rows, shape[0]):
            reader.refuse(
                "its rows do not fit its sizes", list(shape), f"{list(content.shape)} at {rows.shape}"
            )
        whole[rows] = content
        return whole
    starts, columns = indices
    ordered = starts.ndim == 1 and len(shape) == 2 and len(starts) == shape[0] + 1
    ordered = ordered and starts[0] == 0 and bool(np.all(starts[1:] >= starts[:-1]))
    fits = ordered and content.shape == columns.shape == (int(starts[-1]),) and _inside(columns, shape[1])
    if not fits:
        reader.refuse("its indices do not fit its sizes", list(shape), f"{list(content.shape)} values")
    whole[np.repeat(np.arange(shape[0]), np.diff(starts)), columns] = content
    return whole


def _inside(indices: Array, size: int) -> bool:
    if indices.dtype.kind not in "iu":
        return False
    return not indices.size or (int(indices.min()) >= 0 and int(indices.max()) < size)


def write_params(path: Path, arrays: Mapping[str, Array] | Sequence[Array]) -> None:
    """Write arrays as ``mx.nd.save`` writes them, byte for byte."""
    named = arrays if isinstance(arrays, Mapping) else {}
    names = [name.encode() for name in named]
    values = list(arrays.values() if isinstance(arrays, Mapping) else arrays)
    with path.open("wb") as file:
        file.write(struct.pack("<3Q", _LIST, 0, len(values)))
        for array in values:
            _write_array(file.write, np.asarray(array))
        file.write(struct.pack("<Q", len(names)))
        for name in names:
            file.write(struct.pack("<Q", len(name)) + name)


def _write_array(write: Callable[[Any], Any], array: Array) -> None:
    """V2, as MXNet 1 writes; what V2 cannot hold (no axes, an empty axis) as V3, MXNet's numpy form."""
    if array.dtype not in DTYPES:
        raise RefusedError("MXNet has no such dtype", received=array.dtype.name)
    magic = _V2 if array.size and array.ndim else _V3
    write(struct.pack(f"<Iii{array.ndim}q", magic, _DENSE, array.ndim, *array.shape))
    write(struct.pack("<3i", *_CPU, DTYPES.index(array.dtype)))
    write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    release(array)


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


def symbol_of(document: Any, where: str) -> Symbol:
    """The graph that a symbol's document describes, brought to today's generation."""
    lists = [document.get(key) for key in ("nodes", "heads")] if isinstance(document, dict) else [None]
    if not all(isinstance(each, list) for each in lists):
        raise RefusedError("not an MXNet symbol", where=where, expected="lists 'nodes' and 'heads'")
    nodes = tuple(_node(raw, place, where) for place, raw in enumerate(document["nodes"]))
    heads = _entries(document["heads"], "heads", where)
    if not heads:
        raise RefusedError("the symbol has no output", where=where, expected="heads")
    symbol = Symbol(nodes, heads, _attribute(document, "mxnet_version", OLDEST), _is_numpy(document))
    for label, entries in [("heads", heads), *((node.label(), node.inputs) for node in nodes)]:
        for place, _ in entries:
            if place >= len(nodes):
                raise RefusedError(
                    f"{label} points at a node that is not there",
                    where=where,
                    expected=f"a node from 0 to {len(nodes) - 1}",
                    received=place,
                )
    try:
        symbol = upgrade(symbol)
        symbol.order  # noqa: B018 - a cycle is refused here
    except RefusedError as error:
        raise error.at(where) from None
    return symbol


def _attribute(document: Mapping[str, Any], name: str, default: int) -> int:
    """An integer among the graph's attributes: ["int", 10901]."""
    attrs = document.get("attrs")
    pair = attrs.get(name) if isinstance(attrs, dict) else None
    return pair[1] if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], int) else default


def _is_numpy(document: Mapping[str, Any]) -> bool:
    return any(_attribute(document, name, 0) for name in ("is_np_shape", "is_np_array"))


def _node(raw: Any, place: int, where: str) -> Node:
    words = [raw.get(key) for key in ("op", "name")] if isinstance(raw, dict) else [None]
    if not all(isinstance(word, str) for word in words):
        raise RefusedError(
            f"node {place} is not a node", where=where, expected="a mapping with 'op' and 'name'"
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
    """The JSON of a symbol; a node comes after its inputs."""
    place_of = {old: new for new, old in enumerate(symbol.order)}
    symbol = replace(symbol, nodes=tuple(symbol.nodes[place] for place in symbol.order))

    def entries(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
        return [[place_of[place], index, 0] for place, index in pairs]

    def node(each: Node) -> dict[str, Any]:
        attrs = {**each.attrs, **each.hidden}
        extra = {"subgraphs": list(each.subgraphs)} if each.subgraphs else {}
        raw = {"op": each.op, "name": each.name} | ({"attrs": attrs} if attrs else {})
        return raw | {"inputs": entries(each.inputs)} | extra

    document = {
        "nodes": [node(each) for each in symbol.nodes],
        "arg_nodes": [place for place, each in enumerate(symbol.nodes) if each.is_variable],
        "node_row_ptr": list(range(len(symbol.nodes) + 1)),
        "heads": entries(symbol.heads),
        "attrs": ({"is_np_shape": ["int", 1]} if symbol.numpy else {}) | {"mxnet_version": ["int", VERSION]},
    }
    return json.dumps(document, indent=2, ensure_ascii=False)
