"""What an ONNX file may hold: tensors as large as their bytes, weights in its own folder, functions that end."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from netferry.converters.artifact import ORT, Artifact
from netferry.converters.errors import RefusedError, first_line
from netferry.converters.onnx import stream
from netferry.converters.onnx.safety import rules
from netferry.converters.trust import calls, snapshot
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Snapshot
from netferry.converters.trust.tables import MOST_AXES, are_possible, room

_BITS: Mapping[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.UINT8: 8, TensorProto.INT8: 8, TensorProto.UINT16: 16, TensorProto.INT16: 16,
    TensorProto.INT32: 32, TensorProto.INT64: 64, TensorProto.BOOL: 8, TensorProto.FLOAT16: 16, TensorProto.DOUBLE: 64,
    TensorProto.UINT32: 32, TensorProto.UINT64: 64, TensorProto.COMPLEX64: 64, TensorProto.COMPLEX128: 128,
    TensorProto.BFLOAT16: 16, TensorProto.FLOAT8E4M3FN: 8, TensorProto.FLOAT8E4M3FNUZ: 8, TensorProto.FLOAT8E5M2: 8,
    TensorProto.FLOAT8E5M2FNUZ: 8, TensorProto.UINT4: 4, TensorProto.INT4: 4, TensorProto.FLOAT4E2M1: 4,
    TensorProto.FLOAT8E8M0: 8, TensorProto.UINT2: 2, TensorProto.INT2: 2,
}  # fmt: skip
"""Bits of a number; what is not here (a text) has none of its own."""

_DTYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


Files = Mapping[str, Snapshot]
"""The files that hold a model's external data, by the names that it has for them."""


def look(
    artifact: Artifact,
    weights: Path | None = None,
    permit: Permit | None = None,
    *,
    private: bool = False,
) -> Looked:
    """Read the message and look at all of it; large weights stay where they are, in files that are open from now on.

    ``private`` is for files that another library will open: they are copied before they are looked at.
    """
    where = str(artifact.path)
    take, take_inside = (
        (snapshot.take, snapshot.take_inside) if private else (snapshot.mapped, snapshot.mapped_inside)
    )
    held = take(artifact.path)
    if held.read(8)[4:] == ORT:
        raise RefusedError(
            "a model in onnxruntime's own format, or a message that onnxruntime would take for one",
            where=where,
            remedy="Give the ONNX file that it was made from",
        )
    try:
        model = stream.load(held, artifact.path.name)
    except (DecodeError, ValueError, RuntimeError, OSError) as error:
        raise RefusedError(f"not an ONNX model ({first_line(error)})", where=where) from error
    if not model.ir_version or not model.HasField("graph"):
        raise RefusedError("not an ONNX model: it holds no graph", where=where)
    _check_head(model, where)
    found = parts(model)
    if not all(isinstance(text, str) for text in _texts(model, found)):
        raise RefusedError("not an ONNX model: a name in it is not UTF-8", where=where)
    _check_functions(model, where)
    budget = _Budget(room(held.size), where)
    files = {artifact.path.name: held}
    for tensor in found.tensors:
        if tensor.data_location == TensorProto.EXTERNAL and (name := location(tensor)) not in files:
            files[name] = take_inside(artifact.path.parent, name, f"{where}: tensor '{tensor.name}'")
        _check_tensor(tensor, files, where)
    for sparse in found.sparse:
        budget.take(_size(sparse.dims, sparse.values.data_type, sparse.values.name, where))
    rules.check(model, found.graphs, found.nodes, where)
    _check_sums(found.tensors, files, where)
    return Looked(permit or Permit(), held, model, files)


def _texts(model: onnx.ModelProto, found: Parts) -> Iterator[object]:
    """Every name; protobuf hands out bytes where one is not UTF-8."""
    for opset in model.opset_import:
        yield opset.domain
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)
    for graph in found.graphs:
        yield graph.name
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.name
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for node in found.nodes:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for tensor in found.tensors:
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)


def _check_head(model: onnx.ModelProto, where: str) -> None:
    if not model.graph.output:
        raise RefusedError("not an ONNX model: its graph has no output", where=where)
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and not 0 < opset.version <= newest:
            raise RefusedError(
                "its opset is none that this onnx knows",
                where=where,
                expected=f"1 to {newest}",
                received=opset.version,
                remedy="Install a newer onnx, or write the model with an older opset",
            )


class _Budget:
    """How much may be written out of what a file only describes."""

    def __init__(self, left: int, where: str) -> None:
        self._left, self._where = left, where

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise RefusedError("it holds sparse tensors far larger than its size allows", where=self._where)


# ---- functions -----------------------------------------------------------------------------------


def _check_functions(model: onnx.ModelProto, where: str) -> None:
    """Before the checker: it opens functions without a bound.

    Of a function that is called as an operator some readers take the one, and some the other.
    """
    for each in model.functions:
        if onnx.defs.has(each.name, "" if each.domain == "ai.onnx" else each.domain):
            raise RefusedError(
                "a function that is called as an operator of ONNX", where=where, received=each.name
            )
    functions = {
        (each.domain, each.name, each.overload): (len(each.node), [_key(node) for node in _nodes(each.node)])
        for each in model.functions
    }
    if functions:
        calls.check(functions, [_key(node) for node in _nodes(model.graph.node)], where)


def _key(node: onnx.NodeProto) -> tuple[str, str, str]:
    return (node.domain, node.op_type, node.overload)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Every node, those of inner graphs too; protobuf itself ends a nesting at a hundred messages."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            for attribute in node.attribute:
                waiting.extend(graph.node for graph in _inner(attribute))


def _inner(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


@dataclass(frozen=True)
class Parts:
    """What a model is made of, wherever it stands: in its graph, in graphs inside that one, and in functions."""

    graphs: list[onnx.GraphProto]
    nodes: list[onnx.NodeProto]
    tensors: list[onnx.TensorProto]
    sparse: list[onnx.SparseTensorProto]


def parts(model: onnx.ModelProto) -> Parts:
    """All of them, found in one walk; a graph of a megabyte has some ten thousand nodes."""
    found = Parts([], [], [], [])

    def enter(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
        found.graphs.append(graph)
        found.tensors.extend(graph.initializer)
        found.sparse.extend(graph.sparse_initializer)
        nodes: Iterable[onnx.NodeProto] = graph.node
        return nodes

    waiting = [enter(model.graph), *(function.node for function in model.functions)]
    while waiting:
        for node in waiting.pop():
            found.nodes.append(node)
            for attribute in node.attribute:
                waiting.extend(enter(graph) for graph in _inner(attribute))
                if attribute.HasField("t"):
                    found.tensors.append(attribute.t)
                found.tensors.extend(attribute.tensors)
                if attribute.HasField("sparse_tensor"):
                    found.sparse.append(attribute.sparse_tensor)
                found.sparse.extend(attribute.sparse_tensors)
    found.tensors.extend(part for sparse in found.sparse for part in (sparse.values, sparse.indices))
    return found


def graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """The graph of a model and every graph inside it."""
    return parts(model).graphs


def tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Every tensor of a model, wherever it stands."""
    return parts(model).tensors


# ---- tensors -------------------------------------------------------------------------------------


def _check_tensor(tensor: onnx.TensorProto, files: Files, where: str) -> None:
    """Sizes against bytes: one that claims more is refused before anybody asks for the memory."""
    size = _size(tensor.dims, tensor.data_type, tensor.name, where)
    if tensor.data_location == TensorProto.EXTERNAL:
        if tensor.raw_data:
            raise RefusedError(f"the tensor '{tensor.name}' lies in the model and outside of it", where=where)
        _check_external(tensor, size, files, where)
    elif tensor.data_type in _BITS:
        held = _held(tensor)
        if held is not None and held != size:
            raise RefusedError(
                f"the tensor '{tensor.name}' has other content than its sizes say",
                where=where,
                expected=f"{size} bytes for {list(tensor.dims)}",
                received=f"{held} bytes",
            )


def _size(dims: Any, kind: int, name: str, where: str) -> int:
    """Bytes of a tensor, rounded up; a text counts as one."""
    if kind not in _DTYPES:
        raise RefusedError(
            f"the tensor '{name}' has a dtype that ONNX does not have", where=where, received=kind
        )
    if (0 in dims or len(dims) > MOST_AXES or min(dims, default=0) < 0) and not are_possible(dims):
        raise RefusedError(
            f"the tensor '{name}' has sizes that cannot be", where=where, received=list(dims)[:MOST_AXES]
        )
    return (math.prod(map(int, dims)) * _BITS.get(kind, 8) + 7) // 8


_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def _held(tensor: onnx.TensorProto) -> int | None:
    """Bytes that a tensor brings along; None where they are packed in a way that the checker knows."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    counts = [len(getattr(tensor, field)) for field in _FIELDS]
    bits = _BITS[tensor.data_type]
    if bits < 8 or tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return 0 if not any(counts) and math.prod(tensor.dims) else None
    return max(counts) * bits // 8


def _check_external(tensor: onnx.TensorProto, size: int, files: Files, where: str) -> None:
    file, offset, length = location_of(tensor, files, where)
    if offset < 0 or length != size or offset + length > file.size:
        raise RefusedError(
            f"the tensor '{tensor.name}' lies outside of its file",
            where=where,
            expected=f"{size} bytes",
            received=f"{length} bytes at {offset} of {file.size}",
        )


def _check_sums(tensors: Iterable[onnx.TensorProto], files: Files, where: str) -> None:
    """The ``checksum`` of external data: the SHA1 of the whole file that a tensor lies in."""
    sums: dict[str, str] = {}
    for tensor in tensors:
        said = {entry.key: entry.value for entry in tensor.external_data}.get("checksum", "")
        if not said or tensor.data_location != TensorProto.EXTERNAL:
            continue
        name = location(tensor)
        if name not in sums:
            sums[name] = hashlib.sha1(files[name].view()).hexdigest()
        if said.strip().lower() != sums[name]:
            raise RefusedError(
                f"the file of the tensor '{tensor.name}' has another checksum",
                where=where,
                expected=said[:80],
                received=sums[name],
                remedy="Get the model and its data anew: one of them has changed",
            )


def location(tensor: onnx.TensorProto) -> str:
    """What a model calls the file that holds a tensor's bytes; the last word counts, as for ONNX's own reader."""
    said = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
    return str(PurePosixPath(said)) if said else said


def location_of(tensor: onnx.TensorProto, files: Files, where: str) -> tuple[Snapshot, int, int]:
    """The file that holds a tensor's bytes, where they start and how many they are."""
    where = f"{where}: tensor '{tensor.name}'"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    found = files[location(tensor)]
    size = _size(tensor.dims, tensor.data_type, tensor.name, where)
    offset, length = (_number(entries.get(key) or "", key, where) for key in ("offset", "length"))
    return found, offset or 0, size if length is None else length


_DIGITS = re.compile(r"[0-9]{1,19}")


def _number(text: str, key: str, where: str) -> int | None:
    """The number that a text is; Python alone would take ``1_6``, other digits and blanks for one too."""
    if text and not _DIGITS.fullmatch(text):
        raise RefusedError(f"its {key} is no number", where=where, received=repr(text[:40]))
    return int(text) if text else None
