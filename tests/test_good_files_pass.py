"""What the looks must let through: files as PyTorch, TensorFlow 1 and ONNX write them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hostile_onnx import TREE, _of_domain, _of_tables
from hostile_saved_model import _old, _queue, _reads_the_queue
from models import dense
from onnx import TensorProto, helper
from torch import nn

import netferry
from netferry.converters.artifact import Artifact
from netferry.converters.errors import NetferryError
from netferry.converters.onnx import files as onnx_files, safety
from netferry.converters.pytorch import files
from netferry.converters.pytorch.safety import expressions, program, script
from netferry.converters.tensorflow.safety import saved_graph
from netferry.converters.trust.permit import Permit


class Structured(nn.Module):
    """Containers in and out, and a branch on a size: guards, keywords, keys that are no identifiers."""

    def forward(self, x: Any, *, scale: Any) -> Any:
        if x.shape[0] > 3:
            x = x + 1
        return {"a key": [x, (x * scale["the scale"],)]}, x.amax(1)


class Normal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4), nn.ReLU()])
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Any) -> Any:
        for each in self.inner:
            x = each(x)
        return self.attention(x)


DYNAMIC = torch.export.Dim.DYNAMIC


def _loaded(module: nn.Module, path: Path, *given: Any, decomposed: bool = False, **more: Any) -> Any:
    exported = torch.export.export(module.eval(), given, **more)
    torch.export.save(exported.run_decompositions() if decomposed else exported, path)
    return files.read(Artifact("pt2", path))


def test_containers_and_guards_of_a_program_pass(tmp_path: Path) -> None:
    given = torch.ones(6, 4)
    made = _loaded(
        Structured(), tmp_path / "net.pt2", given, kwargs={"scale": {"the scale": torch.ones(4)}},
        dynamic_shapes={"x": {0: DYNAMIC}, "scale": {"the scale": None}},
    )  # fmt: skip
    assert made._guards_code
    first, _ = made.module()(given, scale={"the scale": torch.ones(4)})[0]["a key"]
    assert torch.equal(first, given + 1)


@pytest.mark.parametrize("decomposed", [False, True])
def test_operators_that_trust_their_tensors_pass_where_these_fit(decomposed: bool, tmp_path: Path) -> None:
    given = torch.ones(2, 4, 8)
    made = _loaded(
        Normal(), tmp_path / "net.pt2", given, decomposed=decomposed, dynamic_shapes=({0: DYNAMIC},)
    )
    assert made.module()(given).shape == (2, 4, 8)


def test_recurrent_layers_pass_where_their_weights_fit(tmp_path: Path) -> None:
    for module in (
        nn.LSTM(4, 6, 2, bidirectional=True),
        nn.GRU(4, 6, bias=False),
        nn.LSTM(4, 6, proj_size=3),
    ):
        _loaded(module, tmp_path / "net.pt2", torch.ones(5, 2, 4))


def test_code_of_modules_in_lists_passes(tmp_path: Path) -> None:
    torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 5))).save(str(tmp_path / "net.pt"))
    made = files.read(Artifact("torchscript", tmp_path / "net.pt"))
    assert made(torch.ones(2, 3))[0].shape == (2, 5)


@pytest.mark.parametrize(
    "spec",
    [
        '[1, {"type": "collections.defaultdict", "context": {"default_factory_module": "builtins", '
        '"default_factory_name": "list", "dict_context": ["a"]}, "children_spec": [{"type": null, "context": null, "children_spec": []}]}]',
        '[1, {"type": "collections.deque", "context": "null", "children_spec": []}]',
        '[1, {"type": "collections.OrderedDict", "context": "[\\"a.b\\", 3]", "children_spec": '
        '[{"type": null, "context": null, "children_spec": []}, {"type": "torch.Size", "context": "null", "children_spec": []}]}]',
    ],
)
def test_known_containers_pass(spec: str) -> None:
    assert program._container(spec) == json.loads(spec)[1]


@pytest.mark.parametrize(
    "guard",
    [
        "L['x'].size()[0] >= 2",
        "(2*L['flat_args'][0].size()[1]) == L['y'].size()[0]",
        "((L['x'].size()[1]*L['x'].size()[0]) % (L['d']['k e'].size()[0] // 2)) == 0",
        "not (math.floor(L['x'].size()[0]/2) > max(2, L['x'].stride()[1])) or torch.sym_float(L['n']) ** 2 < math.inf",
    ],
)
def test_guards_as_pytorch_writes_them_pass(guard: str) -> None:
    assert expressions.is_guard(guard)


def test_the_saver_of_tensorflow_1_passes() -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    _old(model.meta_graphs.add())
    assert saved_graph.look(model.SerializeToString(), 1 << 20, "file", Permit()) == []


def test_what_fed_a_graph_while_it_was_trained_may_be_left_in_it() -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    _queue(model.meta_graphs.add())
    assert saved_graph.look(model.SerializeToString(), 1 << 20, "file", Permit()) == []
    _reads_the_queue(model.meta_graphs[0])
    assert saved_graph.look(model.SerializeToString(), 1 << 20, "file", Permit()) == []


def test_domains_of_plug_ins_and_whole_tables_pass(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    for model in (
        _of_domain("com.microsoft"),
        _of_domain("ai.onnx.contrib"),
        _of_tables("TreeEnsembleRegressor", TREE),
    ):
        path.write_bytes(model.SerializeToString())
        safety.look(Artifact("onnx", path))


def test_a_checksum_that_agrees_passes(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "net.onnx"
    onnx.save(dense(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    digest = hashlib.sha1((tmp_path / "net.data").read_bytes()).hexdigest()
    for tensor in model.graph.initializer:
        tensor.external_data.add(key="checksum", value=digest.upper())
    path.write_bytes(model.SerializeToString())
    onnx_files.read(Artifact("onnx", path))
    (tmp_path / "net.data").write_bytes(bytes((tmp_path / "net.data").stat().st_size))
    with pytest.raises(NetferryError, match="another checksum"):
        onnx_files.read(Artifact("onnx", path))


@pytest.mark.parametrize("old", [[9, 3, 7], [1], ["n", 3, 4, 4]])
def test_sizes_that_a_tool_left_inside_a_graph_are_inferred_anew(old: list[Any], tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Flatten", ["h"], ["y"])], "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 12])],
        value_info=[helper.make_tensor_value_info("h", TensorProto.FLOAT, old)],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "net.onnx",
    )
    done = netferry.convert(tmp_path / "net.onnx", "pytorch")
    assert done.report is not None and done.report.status == "passed"


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_one_opset_said_twice_is_one(domain: str, tmp_path: Path) -> None:
    model = dense()
    model.opset_import.append(helper.make_opsetid(domain, model.opset_import[0].version))
    onnx.save(model, tmp_path / "net.onnx")
    done = netferry.convert(tmp_path / "net.onnx", "pytorch")
    assert done.report is not None and done.report.status == "passed"


class Recurrent(nn.Module):
    """PyTorch gives functions of an archive that are called twice a name of their own."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.inner = kind(3, 4, batch_first=True)
        self.parts = nn.ModuleList([nn.GELU(), nn.Linear(4, 2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(x)[0]
        for part in self.parts:
            x = part(x)
        return x


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_torchscript_that_names_its_own_functions_is_let_through(kind: type[nn.Module]) -> None:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(Recurrent(kind)), stream)
    with zipfile.ZipFile(stream) as archive:
        codes = [archive.read(name) for name in archive.namelist() if name.endswith(".py")]
    trees = [script.parsed(code, "file") for code in codes]
    assert any(b"_apply_permutation\n" in code for code in codes)
    own = script.attributes(trees)
    assert [each for tree in trees for each in script.strange(tree, own)] == []
