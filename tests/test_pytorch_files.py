"""PyTorch's files: what is read, and one clear line for what is not."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import netferry
from netferry.converters import artifact
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.pytorch import files, live
from netferry.converters.pytorch.to_onnx import to_onnx
from netferry.converters.signature import Example

X = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    return model.eval()


def same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(live.run(a, [X])["output"], live.run(b, [X])["output"]))


def test_an_exported_program_is_read_and_carried_with_its_own_inputs(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    shapes = ({0: torch.export.Dim("rows")},)
    torch.export.save(torch.export.export(net(), (torch.from_numpy(X),), dynamic_shapes=shapes), path)
    program = files.read(artifact.look(path))
    assert same(program, net())
    found = to_onnx(program)
    assert found.route == "direct"
    assert str(found.model.graph.inputs[0].shape) == "[batch,5]"


def test_a_torchscript_archive_is_read_and_carried(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.script(net()).save(path)
    model = files.read(artifact.look(path))
    assert live.accepts(model) and same(model, net())
    assert to_onnx(model, [Example("x", X, {0: "batch"})]).route == "direct"
    with pytest.raises(UsageError, match="--input"):
        to_onnx(model)


@pytest.mark.parametrize("kind", ["safetensors", "state", "wrapped", "parallel"])
def test_weights_are_loaded_into_what_code_built(kind: str, tmp_path: Path) -> None:
    state = net(1).state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "parallel":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    else:
        torch.save(state if kind == "state" else {"epoch": 3, "state_dict": state}, path)
    model = net()
    assert not same(model, net(1))
    files.load_weights(model, path)
    assert same(model, net(1))


def test_weights_that_do_not_fit_are_listed_at_once_and_none_is_loaded(tmp_path: Path) -> None:
    state = net(1).state_dict()
    del state["0.bias"]
    state["3.weight"] = torch.zeros(2, 9)
    state["4.scale"] = torch.zeros(1)
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    model = net()
    with pytest.raises(RefusedError) as caught:
        files.load_weights(model, path)
    assert "missing: 0.bias; unexpected: 4.scale; of another shape: 3.weight" in str(caught.value)
    assert "expected [2, 4], received [2, 9]" in str(caught.value)
    assert same(model, net())


def test_a_pickled_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    torch.save(net(), path)
    with pytest.raises(RefusedError, match="Save the state dict"):
        files.load_weights(net(), path)


class Evil:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit(77)",)


@pytest.mark.parametrize("content", [pickle.dumps(Evil()), b"", b"not a model", b"PK\x03\x04" + bytes(30)])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_holds_no_weights_is_refused_and_runs_nothing(
    content: bytes, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(RefusedError) as caught:
        files.load_weights(net(), path)
    assert "\n" not in str(caught.value)


def test_a_state_dict_that_is_something_else_is_described(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"epoch": 3, "loss": 0.1}, path)
    with pytest.raises(RefusedError, match="a mapping with epoch, loss"):
        files.load_weights(net(), path)


@pytest.mark.parametrize("kind", ["pt2", "torchscript"])
def test_a_damaged_file_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(RefusedError) as caught:
        files.read(artifact.Artifact(kind, path))
    assert "\n" not in str(caught.value)


def test_weights_beside_a_file_that_has_its_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="brings its own weights"):
        files.read(artifact.Artifact("pt2", tmp_path / "net.pt2"), weights=tmp_path / "w.pth")


def test_a_batch_of_no_rows_gives_no_rows() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    (y,) = netferry.run(module, {"x": np.zeros((0, 4), np.float32)}).values()
    assert y.shape == (0, 3)


def test_a_module_on_meta_gets_the_memory_of_its_weights(tmp_path: Path) -> None:

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.norm = nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3)
            self.last.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.norm(self.last(self.first(x)))
            return y

    torch.manual_seed(0)
    model = Tied().eval()
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "last.weight"}
    save_file(state, tmp_path / "w.safetensors")
    with torch.device("meta"):
        bare = Tied().eval()
        unsaved = Tied()
        unsaved.register_buffer("table", torch.zeros(3), persistent=False)
    files.load_weights(bare, tmp_path / "w.safetensors")
    x = torch.randn(4, 3)
    torch.testing.assert_close(bare(x), model(x))
    assert bare.last.weight is bare.first.weight
    with pytest.raises(RefusedError, match=r"made on 'meta'.*table"):
        files.load_weights(unsaved, tmp_path / "w.safetensors")
