"""Read and write ``.onnx``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError, UsageError, first_line
from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.schema.opset import EARLIER, OPSET, UNDER_THE_STANDARD
from netferry.converters.onnx import safety, stream
from netferry.converters.onnx.completing import ranked, repaired
from netferry.converters.onnx.safety import Files, rules
from netferry.converters.trust import snapshot, wire
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Opened

EXTERNAL_FROM = 1_800_000_000
"""Bytes of weights from which they are written beside the model: a protobuf ends at 2 GiB."""


def read(
    artifact: Artifact, *, weights: Path | None = None, looked: Looked | None = None
) -> onnx.ModelProto | ir.Model:
    """Load and check a model; its external data must lie in its own folder.

    One whose weights are large is an ``ir.Model``, and they are read from the file when they are asked for.
    """
    where = str(artifact.path)
    if weights is not None:
        raise UsageError("an ONNX model brings its own weights", where=where, remedy="Leave --weights out")
    looked = looked or safety.look(artifact)
    kept = [tensor for tensor in looked.message.graph.initializer if _is_large(tensor, looked.files, where)]
    apart = {id(tensor) for tensor in kept}  # by identity: an inner graph may have a weight of the same name
    for tensor in safety.tensors(looked.message):
        if tensor.data_location == TensorProto.EXTERNAL and id(tensor) not in apart:
            _read_into(tensor, looked.files, where)
    model: onnx.ModelProto = repaired(looked.message)
    try:
        onnx.checker.check_model(_as_known(_for_checker(model) if apart or _shapeless(model) else model))
    except Exception as error:  # ValidationError, and RuntimeError from inside the checker
        raise RefusedError(f"ONNX's checker refuses it ({first_line(error)})", where=where) from error
    rules.check_types(model, where)
    for graph in safety.graphs(model):
        _name_uniquely(graph)
    large = [tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    return ranked(_mapped(model, large, looked.files, where) if large else model)


def opened(artifact: Artifact, permit: Permit) -> Opened:
    """A model for onnxruntime to open: a private copy with its external data, once it is known to be harmless."""
    looked = safety.look(artifact, None, permit, private=True)
    files = {artifact.path.name: looked.content, **looked.files}
    return Opened(artifact.path, snapshot.together(files) / artifact.path.name, *files.values())


def external_files(content: bytes | memoryview, folder: Path, where: str) -> dict[str, Path]:
    """The files in which the model that ``content`` holds keeps weights, wherever in it, by their path in ``folder``.

    The bytes are walked as they stand, and no parser of others reads them: this is asked before a child is there to do it.
    """
    locations: set[str] = set()
    waiting = [("Model", memoryview(content))] if re.search(_LOCATION, content) else []
    while waiting:
        kind, message = waiting.pop()
        fields = list(wire.fields(message, where))
        inner = _WITH_TENSORS.get(kind, {})
        waiting += [
            (inner[each.number], each.content) for each in fields if each.number in inner and each.content
        ]
        if kind == "Entry":
            words = {each.number: bytes(each.content or b"") for each in fields}
            if words.get(1) == _LOCATION:
                locations.add(words.get(2, b"").decode(errors="replace"))
    return {location: folder / location for location in sorted(locations)}


_LOCATION = b"location"
_WITH_TENSORS: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
"""ONNX's messages that lead to tensors, and their fields that do (onnx.proto)."""


def _name_uniquely(graph: onnx.GraphProto) -> None:
    """Nodes that share a name get one of their own each: ONNX allows it, onnxruntime does not."""
    names = [node.name for node in graph.node if node.name]
    taken, seen = set(names), set[str]()
    for node in graph.node if len(taken) < len(names) else ():
        if node.name in seen:
            node.name = unique(node.name, taken)
        elif node.name:
            seen.add(node.name)


_LARGE = 1 << 20
"""Bytes of an external weight that is mapped, not read."""


def _is_large(tensor: TensorProto, files: Files, where: str) -> bool:
    return (
        tensor.data_location == TensorProto.EXTERNAL and safety.location_of(tensor, files, where)[2] >= _LARGE
    )


def _mapped(model: onnx.ModelProto, large: Sequence[TensorProto], files: Files, where: str) -> ir.Model:
    """The model with its large weights as parts of the files that they lie in."""
    made = ir.from_proto(model)
    for tensor in large:
        file, offset, size = safety.location_of(tensor, files, where)
        made.graph.initializers[tensor.name].const_value = stream.MappedTensor(file, tensor, offset, size)
    return made


def _for_checker(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for the checker, which does not follow the links of a Hugging Face cache, and wants a rank of all that goes in
    and out: external tensors are empty in it, and ranks that are not said are 0."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in safety.tensors(copy):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.ClearField("data_location")
            del tensor.external_data[:]
            tensor.dims[:] = [0]
    for value in _shapeless(copy):
        value.type.tensor_type.shape.SetInParent()
    return copy


def _as_known(model: onnx.ModelProto) -> onnx.ModelProto:
    """For the checker: what onnxruntime has put under ONNX's domain is under one of which the checker knows nothing."""
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), OPSET)
    if not any(_is_foreign(node, opset) for graph in safety.graphs(model) for node in graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.opset_import.append(helper.make_opsetid(_FOREIGN, 1))
    for graph in safety.graphs(copy):
        for node in graph.node:
            if _is_foreign(node, opset):
                node.domain = _FOREIGN
    return copy


_FOREIGN = "netferry.foreign"


def _is_foreign(node: onnx.NodeProto, opset: int) -> bool:
    foreign = node.op_type in UNDER_THE_STANDARD or opset < EARLIER.get(node.op_type, 0)
    return foreign and node.domain in ("", "ai.onnx")


def _shapeless(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What goes in and out of a model, and of graphs inside it, and does not say its rank."""
    return [
        value
        for graph in safety.graphs(model)
        for value in (*graph.input, *graph.output)
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    ]


def _read_into(tensor: TensorProto, files: Files, where: str) -> None:
    """Read the bytes of a tensor that lie in another file."""
    file, offset, size = safety.location_of(tensor, files, where)
    tensor.raw_data = bytes(file.view()[offset : offset + size])
    del tensor.external_data[:]
    tensor.ClearField("data_location")


def write(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write ``path``, and a file of weights beside it where they do not fit into one protobuf."""
    path = Path(path)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    (stream.save if size < EXTERNAL_FROM else stream.save_apart)(model, path)
