"""What our look saw in a file is what its framework's own parser reads: operators, functions, names, texts that are evaluated.

Every mutant is refused by the look, or both see the same. Everyday a few hundred of each format, with ``--all`` 10,000.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import onnx
import pytest
from hostile_good import SYMBOL, write_good
from hostile_pytorch import LINEAR, entries
from models import dense
from onnx import TensorProto
from operator_mutants import json_mutant, proto_mutant

from netferry.converters.errors import NetferryError
from netferry.converters.mxnet import files
from netferry.converters.onnx import safety as onnx_safety, stream
from netferry.converters.pytorch import safety
from netferry.converters.pytorch.safety import allowlist as trusted, program, script
from netferry.converters.tensorflow import safety as keras_safety
from netferry.converters.tensorflow.safety import allowlist as tensorflow_trusted, saved_graph
from netferry.converters.trust import snapshot, texts
from netferry.converters.trust.permit import Looked, Permit

EVERYDAY, ALL = 300, 10_000
Compared = Callable[[bytes], bool]
"""Holds that a mutant is refused, or is read alike; whether it was read."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("corpus") / "good")


# ---- SavedModels ---------------------------------------------------------------------------------


def _facts(meta: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """What is judged of a graph, under our names for fields or under TensorFlow's."""
    graph, saver, nodes, function, body, op, inputs, *places = names
    whole = getattr(meta, graph)
    bodies = getattr(whole.library, function)
    return {
        "main": [
            (node.name, getattr(node, op), list(getattr(node, inputs))) for node in getattr(whole, nodes)
        ],
        "functions": [
            (each.signature.name, [(node.name, getattr(node, op)) for node in getattr(each, body)])
            for each in bodies
        ],
        "saver": [getattr(getattr(meta, saver), place) for place in places],
    }


OURS = ("graph", "saver", "nodes", "functions", "nodes", "operator", "inputs", "filename", "save", "restore")
THEIRS = (
    "graph_def", "saver_def", "node", "function", "node_def", "op", "input", "filename_tensor_name", "save_tensor_name", "restore_op_name",
)  # fmt: skip


def _sizes(node: Any) -> Iterator[tuple[int, ...]]:
    for value in node.attr.values():
        if value.WhichOneof("value") == "tensor":
            yield tuple(dim.size for dim in value.tensor.tensor_shape.dim)


def saved_model(good: Path) -> tuple[bytes, Compared]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    def compared(content: bytes) -> bool:
        try:
            assets = saved_graph.look(content, 1 << 20, "file", Permit())
        except NetferryError:
            return False
        theirs = saved_model_pb2.SavedModel()
        try:
            theirs.ParseFromString(content)
        except DecodeError:
            return False
        ours = saved_graph._messages()["SavedModel"].FromString(content)
        assert len(ours.graphs) == len(theirs.meta_graphs)
        for a, b in zip(ours.graphs, theirs.meta_graphs, strict=True):
            assert _facts(a, OURS) == _facts(b, THEIRS)
            assert {asset.filename for asset in b.asset_file_def} <= set(assets)
            bodies = [b.graph_def.node, *(function.node_def for function in b.graph_def.library.function)]
            named = {function.signature.name for function in b.graph_def.library.function}
            known = tensorflow_trusted.OPERATORS | tensorflow_trusted.SAVERS | named
            assert {node.op for body in bodies for node in body} <= known
            assert all(
                size >= 0 for body in bodies for node in body for dims in _sizes(node) for size in dims
            )
        return True

    return (good / "served" / "saved_model.pb").read_bytes(), compared


# ---- ONNX ----------------------------------------------------------------------------------------


def _taken_in(model: onnx.ModelProto, content: bytes) -> None:
    """The weights that our reader left in the file, back in the message."""
    for tensor in onnx_safety.tensors(model):
        places = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location == TensorProto.EXTERNAL and places.get("location") == "net.onnx":
            start = int(places["offset"])
            tensor.raw_data = content[start : start + int(places["length"])]
            del tensor.external_data[:]
            tensor.ClearField("data_location")


def onnx_model(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, Compared]:
    monkeypatch.setattr(stream, "_MAPPED_FROM", 0)
    monkeypatch.setattr(stream, "_LARGE", 8)
    path = tmp_path / "net.onnx"

    def compared(content: bytes) -> bool:
        path.write_bytes(content)
        try:
            ours = stream.load(snapshot.take(path), path.name)
        except (NetferryError, ValueError, RuntimeError, OSError, onnx.checker.ValidationError):
            return False
        except Exception as error:  # protobuf's own
            assert type(error).__name__ == "DecodeError"
            return False
        theirs = onnx.load_model_from_string(content)
        _taken_in(ours, content)
        for each in (ours, theirs):  # fields of no message, which nobody reads
            each.DiscardUnknownFields()
        assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
        return True

    return dense().SerializeToString(), compared


# ---- exported programs ---------------------------------------------------------------------------


def _leaves(value: Any, kind: str) -> Iterator[tuple[str, Any]]:
    """The leaves of what PyTorch has made of a document, each with the kind that our table gives its field."""
    kind = kind.removeprefix("?")
    if value is None:
        return
    if kind.startswith("["):
        for each in value:
            yield from _leaves(each, kind[1:-1])
    elif kind.startswith("{"):
        of_key, of_value = kind[1:-1].split(":", 1)
        for key, each in value.items():
            yield from _leaves(key, of_key)
            yield from _leaves(each, of_value)
    elif kind in program._LEAVES:
        yield kind, value
    elif kind in program._ALTERNATIVES:
        yield from _leaves(value.value, program._ALTERNATIVES[kind][value.type])
    else:
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name), program._FIELDS[kind][field.name])


def exported_program(good: Path) -> tuple[bytes, Compared]:
    from torch._export.serde import schema, serialize
    from torch.utils import _pytree

    def compared(content: bytes) -> bool:
        try:
            program.check(texts.document(content, "file"), "ExportedProgram", "file", Permit())
        except NetferryError:
            return False
        try:
            theirs = serialize._bytes_to_dataclass(schema.ExportedProgram, content)
        except Exception:  # whatever PyTorch raises for a document that it does not take
            return False
        before = set(sys.modules)
        for kind, value in _leaves(theirs, "ExportedProgram"):
            type_, _, is_known = program._LEAVES[kind]
            assert isinstance(value, type_) and is_known(value), (kind, value)
            if kind in ("in_spec", "out_spec"):
                _pytree.treespec_loads(value)
        assert set(sys.modules) == before
        return True

    content = entries(good / "net.pt2")
    (name,) = [each for each in content if each.endswith("models/model.json")]
    found = json.loads(content[name])
    found["guards_code"] = ["L['input'].size()[0] >= 2", "(L['input'].size()[0] % 2) == 0"]
    return json.dumps(found).encode(), compared


# ---- configurations and symbols ------------------------------------------------------------------


def keras_config(good: Path) -> tuple[bytes, Compared]:
    def compared(content: bytes) -> bool:
        try:
            ours = texts.document(content, "file")
            keras_safety._look_at_config(ours, 1 << 20, "file", Permit(), old=False)
        except NetferryError:
            return False
        theirs = json.loads(content)
        assert repr(ours) == repr(theirs)
        classes = {each["class_name"] for each in texts.mappings(theirs, "file") if "class_name" in each}
        assert not classes & {"Lambda", "TFSMLayer", "TorchModuleWrapper", "evil"}
        return True

    content = entries(good / "net.keras")["config.json"]
    return content, compared


def mxnet_symbol(good: Path) -> tuple[bytes, Compared]:
    def compared(content: bytes) -> bool:
        try:
            ours = texts.document(content, "file")
            symbol = files.parse_symbol(content)
        except NetferryError:
            return False
        theirs = json.loads(content)
        assert repr(ours) == repr(theirs)
        assert [node.op for node in symbol.nodes] == [node["op"] for node in theirs["nodes"]]
        return True

    return SYMBOL.encode(), compared


# ---- TorchScript ---------------------------------------------------------------------------------

CALLS = (
    "torch.relu(input)", "input.relu()", "weight.set_(input)", "torch.set_(weight, input)", "getattr(self, 'weight')",
    "getattr(weight, 'set_')", "self.bias", "weight.data", "ops.aten.relu(input)", "ops.aten._reshape_alias(input, [1], [1])",
    "ops.prim.shape(input)", "[weight][0]", "weight.resize_([4])", "torch.Tensor", "'weight.set_(input)'", "weight.requires_grad",
    "unchecked_cast(Tensor, weight)", "annotate(List[Tensor], [weight])", "torch.segment_reduce(input, 'sum')", "self.set_(input)",
    "hasattr(weight, 'set_')", "__torch__.torch.nn.functional.relu(input, False)", "weight.shape", "torch.size(weight)",
)  # fmt: skip
SHAPES = (
    "{}", "({})", "[{}]", "{} # ({})", "\\\n      {}", "({}, {})", "uninitialized(Tensor) if False else {}", "'''{}'''", "{}.relu()",
    "torch.relu({})",
)  # fmt: skip


def _script_mutant(content: bytes, draw: random.Random) -> bytes:
    lines = []
    for place in range(draw.randint(1, 2)):
        call = draw.choice(SHAPES).replace("{}", draw.choice(CALLS))
        lines.append(
            draw.choice((f"    z{place} = {call}\n", f"    z{place} = {call}\n    y{place} = z{place}\n"))
        )
    own = draw.choice(("", "", "", "  def set_(self: Tensor) -> int:\n    return 3\n", "  set_ : int\n"))
    code = content.replace(
        b"    weight = self.weight\n", b"    weight = self.weight\n" + "".join(lines).encode()
    )
    return code + own.encode()


def _kinds(blocks: list[Any]) -> set[str]:
    found: set[str] = set()
    while blocks:
        for node in blocks.pop().nodes():
            found.add(node.kind())
            blocks.extend(node.blocks())
    return found


def torchscript(good: Path) -> tuple[bytes, Compared]:
    import re
    import zipfile

    import torch

    content = entries(good / "script.pt")
    (name, *_) = [each for each in content if re.search(f"{LINEAR}$", each)]
    others = [data for each, data in content.items() if each.endswith(".py") and each != name]

    def compared(code: bytes) -> bool:
        try:
            trees = [script.parsed(each, "file") for each in (code, *others)]
            own = script.attributes(trees)
            strange = {word for tree in trees for word in script.strange(tree, own)}
            safety.refuse_hidden(Looked(Permit(), message=own - trusted.ATEN), "file")
        except NetferryError:
            return False
        if strange:
            return False
        archive = BytesIO()
        with zipfile.ZipFile(archive, "w") as made:
            for each, data in content.items():
                made.writestr(each, code if each == name else data)
        archive.seek(0)
        try:
            loaded = torch.jit.load(archive)
        except (RuntimeError, IndexError):  # as C++ has it
            return False
        for module in loaded.modules():
            for method in module._c._method_names():
                kinds = _kinds([module._c._get_method(method).graph])
                assert {
                    kind.removeprefix("aten::") for kind in kinds if kind.startswith("aten::")
                } <= trusted.ATEN
        return True

    return content[name], compared


# ---- the run -------------------------------------------------------------------------------------

PROTO: dict[str, Callable[..., tuple[bytes, Compared]]] = {"saved_model": saved_model, "onnx": onnx_model}
JSON = {"pt2": exported_program, "keras": keras_config, "mxnet": mxnet_symbol}


def alike(
    form: str, seeds: range, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int]:
    """How many mutants were read alike, of how many."""
    if form == "onnx":
        content, compared = onnx_model(good, tmp_path, monkeypatch)
    else:
        content, compared = {**PROTO, **JSON, "torchscript": torchscript}[form](good)
    assert compared(content)
    change = _script_mutant if form == "torchscript" else proto_mutant if form in PROTO else json_mutant
    read = 0
    for seed in seeds:
        mutant = change(content, random.Random(f"{form} {seed}"))
        try:
            read += compared(mutant)
        except BaseException as error:
            error.add_note(f"{form}, seed {seed}")
            raise
    return read, len(seeds)


FORMS = (*PROTO, *JSON, "torchscript")


@pytest.mark.parametrize("form", FORMS)
def test_two_readers_see_one_message(
    form: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, count = alike(
        form, range(EVERYDAY // 3 if form == "torchscript" else EVERYDAY), good, tmp_path, monkeypatch
    )
    assert 0 < read < count


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_two_readers_see_one_message_in_all_mutants(
    form: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, count = alike(form, range(EVERYDAY, EVERYDAY + ALL), good, tmp_path, monkeypatch)
    assert 0 < read < count
