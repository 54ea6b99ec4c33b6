"""Every form in which a user may have a model, carried to a file through the public face, and verified."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import netferry
from netferry.converters.errors import RefusedError, UsageError

ROWS = np.random.default_rng(3).standard_normal((4, 28, 28)).astype(np.float32)
GIVEN = {"rows": ROWS}

USER_CODE = """
import torch
from torch import nn

class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(28, 16, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 5)

    def forward(self, rows):
        states, _ = self.lstm(rows)
        return self.head(states[:, -1])

def make():
    return Reader()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: code, and a model in each format of each framework, weights random."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "reader.py").write_text(USER_CODE)
    pytorch_files(folder)
    keras_files(folder)
    mxnet_files(folder)
    return folder


def pytorch_files(folder: Path) -> None:
    import importlib.util

    import torch
    from safetensors.torch import save_file

    spec = importlib.util.spec_from_file_location("reader", folder / "reader.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(11)
    model = module.make().eval()
    rows = torch.from_numpy(ROWS)
    save_file(model.state_dict(), folder / "reader.safetensors")
    torch.save(model.state_dict(), folder / "reader.pt")
    torch.jit.trace(model, rows).save(folder / "traced.pt")
    batch = torch.export.Dim("batch", min=1, max=4096)
    torch.export.save(
        torch.export.export(model, (rows,), dynamic_shapes=({0: batch},)), folder / "exported.pt2"
    )
    np.save(folder / "expected.npy", model(rows).detach().numpy())


def keras_files(folder: Path) -> None:
    import keras

    keras.utils.set_random_seed(12)
    model = keras.Sequential(
        [keras.Input((None, 28), name="rows"), keras.layers.GRU(16), keras.layers.Dense(5, "softmax")]
    )
    model.save(folder / "gru.keras")
    model.save(folder / "gru.h5")
    model.export(folder / "gru_saved", verbose=False)


def mxnet_files(folder: Path) -> None:
    from netferry.converters.mxnet.live import import_mxnet

    mx = import_mxnet()
    mx.random.seed(13)
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(16, activation="relu", in_units=28), mx.gluon.nn.Dense(5, in_units=16))
    net.initialize(mx.init.Normal(1))
    net.hybridize()
    net(mx.nd.ones((1, 28)))
    net.export(str(folder / "net"), 3)
    shutil.copy(folder / "net-0003.params", folder / "net-0002.params")


ROUTES = {
    "a factory in a file with safetensors": ("{}/reader.py:make", "reader.safetensors", GIVEN, "LSTM"),
    "a factory in a file with a state dict": ("{}/reader.py:make", "reader.pt", GIVEN, "LSTM"),
    "a TorchScript file": ("{}/traced.pt", None, GIVEN, "LSTM"),
    "an exported program": ("{}/exported.pt2", None, GIVEN, "Gemm"),
    "a Keras file": ("{}/gru.keras", None, None, "GRU"),
    "a legacy HDF5 file": ("{}/gru.h5", None, None, "GRU"),
    "a SavedModel": ("{}/gru_saved", None, None, "Softmax"),
    "an MXNet symbol": ("{}/net-symbol.json", None, None, "Gemm"),
    "an MXNet symbol with the weights named": ("{}/net-symbol.json", "net-0002.params", None, "Gemm"),
    "an MXNet params file": ("{}/net-0003.params", None, None, "Gemm"),
}


@pytest.mark.parametrize("name", ROUTES)
def test_every_form_of_a_model_arrives(name: str, folder: Path, tmp_path: Path) -> None:
    source, weights, given, operator = ROUTES[name]
    out = tmp_path / "ausgabe ü.onnx"
    done = netferry.convert(
        source.format(folder), "onnx", destination=out, inputs=given, weights=weights and folder / weights
    )
    assert done.report is not None
    assert done.report.status == "passed", done.report.to_text()
    assert done.files == (out,)
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    assert operator in {node.op_type for node in model.graph.node}
    assert "Loop" not in {node.op_type for node in model.graph.node} or name == "a SavedModel"
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_the_file_that_was_written_gives_the_users_numbers(folder: Path, tmp_path: Path) -> None:
    """The oracle is PyTorch's own result, saved when the model was made."""
    out = tmp_path / "reader.onnx"
    weights = folder / "reader.safetensors"
    netferry.convert(f"{folder}/reader.py:make", "onnx", destination=out, inputs=GIVEN, weights=weights)
    [result] = netferry.run(out, GIVEN).values()
    expected = np.load(folder / "expected.npy")
    assert np.abs(result - expected).max() <= 2e-6 * np.abs(expected).max()


def test_the_highest_epoch_is_taken_and_said_aloud(folder: Path) -> None:
    done = netferry.convert(folder / "net-symbol.json", "onnx")
    assert any("net-0003.params" in note for note in done.notes)


def test_a_package_on_the_path_is_a_factory_too(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "netferry", "convert", "reader:make", str(tmp_path / "out.onnx")]
    flags = ["--input", "rows:batch,time=7,28", "--weights", "reader.safetensors"]
    done = subprocess.run([*command, *flags], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    graph = onnx.load(tmp_path / "out.onnx").graph
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [
        "batch", "time", 28,
    ]  # fmt: skip
    assert [node.op_type for node in graph.node].count("LSTM") == 1


def test_a_live_model_runs_under_the_names_of_its_export(folder: Path) -> None:
    import keras

    model = keras.saving.load_model(folder / "gru.keras")
    done = netferry.convert(model, "onnx", verify=False)
    native, carried = netferry.run(model, GIVEN), netferry.run(done.model, GIVEN)
    assert list(native) == list(carried)
    assert [value.name for value in done.model.graph.input] == ["rows"]


def test_a_file_has_its_inputs_names_until_they_are_renamed(folder: Path) -> None:
    with pytest.raises(UsageError, match="no such input: 'sequence'"):
        netferry.convert(folder / "gru.keras", "onnx", inputs={"sequence": ROWS})
    done = netferry.convert(folder / "gru.keras", "onnx", inputs={"rows": ROWS}, rename={"rows": "sequence"})
    assert [value.name for value in done.model.graph.input] == ["sequence"]
    assert done.report is not None
    assert done.report.status == "passed"


Spoil = Callable[[Path], None]

SPOILT: dict[str, tuple[str, Spoil]] = {
    "a truncated Keras file": ("gru.keras", lambda p: p.write_bytes(p.read_bytes()[:-200])),
    "a truncated HDF5 file": ("gru.h5", lambda p: p.write_bytes(p.read_bytes()[:3000])),
    "a truncated exported program": ("exported.pt2", lambda p: p.write_bytes(p.read_bytes()[:-500])),
    "truncated parameters": ("net-0003.params", lambda p: p.write_bytes(p.read_bytes()[:100])),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_broken_file_is_refused_in_one_line(name: str, folder: Path, tmp_path: Path) -> None:
    file, spoil = SPOILT[name]
    copy = tmp_path / file
    shutil.copy(folder / file, copy)
    shutil.copy(folder / "net-symbol.json", tmp_path / "net-symbol.json")
    spoil(copy)
    with pytest.raises(RefusedError) as caught:
        netferry.convert(copy, "onnx", destination=tmp_path / "out.onnx", inputs=GIVEN)
    assert file in str(caught.value)
    assert not (tmp_path / "out.onnx").exists()


def test_a_model_that_needs_inputs_says_how_to_give_them(folder: Path) -> None:
    with pytest.raises(UsageError, match="--input"):
        netferry.convert(f"{folder}/reader.py:make", "onnx")


def test_a_wrong_input_shape_names_what_fits(folder: Path) -> None:
    with pytest.raises(netferry.NetferryError) as caught:
        netferry.convert(f"{folder}/reader.py:make", "onnx", inputs={"rows": np.ones((2, 28, 3), np.float32)})
    assert "Traceback" not in str(caught.value)
