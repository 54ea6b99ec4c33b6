"""The whole road: from any framework to any other, through the calls and the command line that a person uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import netferry
from netferry.converters.errors import UnsupportedError, UsageError, WriteError

TARGETS = {
    "onnx": "net.onnx",
    "pytorch": "net",
    "tensorflow": "net.keras",
    "mxnet": "net-symbol.json",
}


class Net(nn.Module):
    """A convolution, a BatchNorm with real statistics, a pool and a head: enough for every layout to show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(5, eps=1e-3, momentum=0.2)
        self.head = nn.Linear(5 * 4 * 4, 6)
        for statistic in (self.norm.weight, self.norm.running_var):
            nn.init.uniform_(statistic, 0.5, 2)
        for statistic in (self.norm.bias, self.norm.running_mean):
            nn.init.normal_(statistic)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.norm(self.conv(image)).relu(), 2)
        return self.head(x.flatten(1))


IMAGE = {"image": np.random.default_rng(5).standard_normal((2, 3, 16, 16)).astype(np.float32)}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return Net().eval()


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_arrives_passes_and_is_written(target: str, net: nn.Module, tmp_path: Path) -> None:
    to = target if target == "pytorch" else None
    done = netferry.convert(net, to, destination=tmp_path / TARGETS[target], inputs=IMAGE)
    assert done.to == target
    assert done.report is not None and done.report.status == "passed"
    assert done.report.max_rel is not None and done.report.max_rel < 5e-6
    assert done.files and all(file.is_file() for file in done.files)


@pytest.mark.parametrize("through", ["tensorflow", "mxnet"])
def test_weights_come_back_bit_by_bit(through: str, net: nn.Module) -> None:
    there = netferry.convert(net, through, inputs=IMAGE, verify=False)
    back = netferry.convert(there.model, "pytorch", inputs=IMAGE, verify=False).model.state_dict()
    arrays = {tuple(tensor.shape): tensor for tensor in back.values()}
    for name, tensor in net.state_dict().items():
        if name == "head.weight":  # Keras flattens channels last: its rows are in another order
            assert torch.equal(arrays[tuple(tensor.shape)].sort().values, tensor.sort().values)
        elif tensor.ndim > 1:
            assert torch.equal(arrays[tuple(tensor.shape)], tensor), name
    flat = {tensor.numpy().tobytes() for tensor in back.values()}
    missing = [n for n, t in net.state_dict().items() if t.ndim == 1 and t.numpy().tobytes() not in flat]
    assert not missing


def test_pytorch_to_pytorch_keeps_every_key_of_the_state_dict(net: nn.Module) -> None:
    back = netferry.convert(net, "pytorch", inputs=IMAGE, verify=False).model.state_dict()
    there = net.state_dict()
    assert {key for key in there if "num_batches" not in key} == {k for k in back if "num_batches" not in k}
    assert all(torch.equal(back[key], there[key]) for key in back if "num_batches" not in key)


@pytest.mark.parametrize("target", ["pytorch", "tensorflow", "mxnet"])
def test_source_is_written_beside_and_runs_without_netferry(
    target: str, net: nn.Module, tmp_path: Path
) -> None:
    place = tmp_path / "süd ost" / TARGETS[target]
    place.parent.mkdir()
    done = netferry.convert(net, target, destination=place, inputs=IMAGE, write_source=True)
    module = place.parent / "net.py"
    assert module in done.files and module.with_suffix(".safetensors") in done.files
    text = module.read_text(encoding="utf-8")
    assert "conv" in text and "netferry" not in text.split('"""', 2)[2]
    code = (
        "import sys, importlib.util\n"
        "sys.modules['netferry'] = None\n"
        f"spec = importlib.util.spec_from_file_location('net', {str(module)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print('loaded', type(module.load()).__name__)\n"
    )
    if target == "mxnet":
        code = "import numpy\nnumpy.bool = bool\n" + code
    done_ = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "loaded" in done_.stdout, done_.stderr


def _unsupported() -> onnx.ModelProto:
    nodes = [
        helper.make_node("StringNormalizer", ["words"], ["lower"], name="lower_it", case_change_action="LOWER"),
        helper.make_node("RegexFullMatch", ["words"], ["match"], name="match_it", pattern="a.*"),
    ]  # fmt: skip
    inputs = [helper.make_tensor_value_info("words", TensorProto.STRING, [3])]
    outputs = [
        helper.make_tensor_value_info("lower", TensorProto.STRING, [None]),
        helper.make_tensor_value_info("match", TensorProto.BOOL, [3]),
    ]
    graph = helper.make_graph(nodes, "strings", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


@pytest.mark.parametrize("target", ["pytorch", "tensorflow", "mxnet"])
def test_all_that_cannot_be_carried_is_told_at_once_and_nothing_is_written(
    target: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        netferry.convert(_unsupported(), target, destination=tmp_path / TARGETS[target])
    assert {"lower_it", "match_it"} <= {problem.node for problem in caught.value.problems}
    assert all(problem.reason for problem in caught.value.problems)
    assert not list(tmp_path.iterdir())


def test_inspect_says_what_every_target_can_take(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "strings.onnx"
    onnx.save(_unsupported(), path)
    command = [sys.executable, "-m", "netferry", "inspect", str(path), "--to", "all", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    targets = json.loads(done.stdout)["targets"]
    assert set(targets) == {"pytorch", "tensorflow", "mxnet"}
    for prospect in targets.values():
        assert not prospect["carried"]
        operators = {problem["operator"] for problem in prospect["problems"]}
        assert {"StringNormalizer", "RegexFullMatch"} <= operators
    found = netferry.inspect(net, inputs=IMAGE, to="all")
    assert not any(prospect.problems for prospect in found.targets.values())


def test_inspecting_for_a_framework_does_not_import_it(net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    netferry.convert(net, destination=path, inputs=IMAGE, verify=False)
    code = (
        "import sys, netferry\n"
        f"found = netferry.inspect({str(path)!r}, to='all')\n"
        "assert all(not one.problems for one in found.targets.values()), found.targets\n"
        "print([name for name in ('torch', 'tensorflow', 'mxnet') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_folder_with_other_files_is_never_replaced(net: nn.Module, tmp_path: Path) -> None:
    place = tmp_path / "net"
    netferry.convert(net, "pytorch", destination=place, inputs=IMAGE, verify=False)
    netferry.convert(net, "pytorch", destination=place, inputs=IMAGE, verify=False)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(WriteError, match=r"notes\.txt"):
        netferry.convert(net, "pytorch", destination=place, inputs=IMAGE, verify=False)
    assert (place / "notes.txt").read_text() == "mine"
    assert [entry.name for entry in tmp_path.glob("[!.]*")] == ["net"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"destination": "net"}, "does not show which framework"),
        ({}, "neither a framework nor a destination"),
        ({"to": "onnx", "write_source": True}, "no source"),
        ({"to": "pytorch", "opset": 20}, "only an ONNX model has an opset"),
        ({"to": "pytorch", "device": "cuda"}, "only an ONNX model is checked on another device"),
        ({"to": "onnx", "device": "tpu"}, "no such device"),
        ({"to": "jax"}, "no such framework"),
        ({"to": Path("model.onnx")}, "Give a path as destination"),
        ({"to": "arrived.onnx"}, 'destination="arrived.onnx"'),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_first(
    arguments: dict[str, Any], message: str, net: nn.Module
) -> None:
    with pytest.raises(UsageError, match=message):
        netferry.convert(net, inputs=IMAGE, **arguments)


@pytest.mark.parametrize("target", ["pytorch", "tensorflow", "mxnet"])
def test_a_wrong_weight_leaves_nothing_behind(
    target: str, net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is about what was written: a fault planted on the way is found and nothing stays."""
    from netferry import converters

    exported = converters.import_model

    def faulty(model: ir.Model, to: str, *, name: str = "model") -> Any:
        proto = ir.to_proto(model)
        weight = next(t for t in proto.graph.initializer if list(t.dims) == [5, 3, 3, 3])
        array = numpy_helper.to_array(weight).copy()
        array[0, 0, 0, 0] += 0.5
        weight.CopyFrom(numpy_helper.from_array(array, weight.name))
        return exported(ir.from_proto(proto), to, name=name)

    monkeypatch.setattr(converters, "import_model", faulty)
    done = netferry.convert(net, target, destination=tmp_path / TARGETS[target], inputs=IMAGE)
    assert done.report is not None and done.report.status == "failed"
    assert done.files == () and not list(tmp_path.iterdir())


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.lstm = nn.LSTM(4, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0])


@pytest.mark.parametrize("target", TARGETS)
def test_batch_and_length_stay_free(target: str) -> None:
    model = Sequence().eval()
    x = np.random.default_rng(2).standard_normal((2, 7, 4)).astype(np.float32)
    done = netferry.convert(model, target, inputs={"x": x}, dynamic={"x": {0: "batch", 1: "time"}})
    assert done.report is not None and done.report.status == "passed", done.report
    for batch, time in ((1, 1), (3, 5), (4, 11)):
        rows = np.random.default_rng(time).standard_normal((batch, time, 4)).astype(np.float32)
        [there] = netferry.run(done.model, [rows]).values()
        expected = model(torch.from_numpy(rows)).detach().numpy()
        assert there.shape == expected.shape
        assert np.abs(there - expected).max() <= 5e-6 * np.abs(expected).max()
