"""Another precision comes with what it costs, and is refused where it gains nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import netferry
from netferry.converters.errors import NetferryError, RefusedError, UsageError
from netferry.inference.precision import PRECISIONS, reduce
from netferry.inference.session import Session
from netferry.tasks import precision as lowering
from netferry.tasks.precision import lower

X = np.random.default_rng(0).standard_normal((200, 32)).astype(np.float32)
LARGEST = {"float16": 2e-3, "bfloat16": 2e-2, "int8-dynamic": 6e-2, "int8-static": 6e-2}
STORED = {
    "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16,
    "int8-dynamic": TensorProto.INT8, "int8-static": TensorProto.INT8,
}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 5)
    ).eval()
    netferry.convert(module, destination=tmp_path / "m.onnx", inputs={"x": X[:2]})
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "m.onnx", tmp_path / "x.npy"


def by_32(session: Session) -> np.ndarray:
    """Dynamic ranges are those of each batch, so the batches must be the same."""
    return np.concatenate([session.run({"x": X[at : at + 32]})["output"] for at in range(0, len(X), 32)])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_is_judged_on_real_rows(precision: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = files
    done = lower(model, tmp_path / "small.onnx", precision, data=data, even_if_slower=True)
    assert done.status == "passed"
    assert (done.real, done.rows) == (True, 200)
    a, b = (by_32(Session(file)) for file in (model, tmp_path / "small.onnx"))
    error = float(np.sqrt(np.mean((a - b) ** 2.0)) / np.sqrt(np.mean(a**2.0)))
    assert 0 < done.error["output"] == pytest.approx(error, rel=1e-3)
    assert error < LARGEST[precision]
    assert done.agreement["output"] == pytest.approx(float((a.argmax(1) == b.argmax(1)).mean()))
    assert done.bytes == (model.stat().st_size, (tmp_path / "small.onnx").stat().st_size)
    assert done.bytes[1] < 0.6 * done.bytes[0]
    stored = {
        tensor.data_type
        for tensor in onnx.load(tmp_path / "small.onnx").graph.initializer
        if len(tensor.dims) > 1
    }
    assert stored == {STORED[precision]}


@pytest.mark.parametrize("precision", ["int8-dynamic", "int8-static"])
def test_two_int8_products_fit_the_sixteen_bits_of_a_processor_without_vnni(
    precision: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    lower(files[0], tmp_path / "small.onnx", precision, data=files[1], even_if_slower=True)
    kernels = [
        onnx.numpy_helper.to_array(tensor).astype(int)
        for tensor in onnx.load(tmp_path / "small.onnx").graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert len(kernels) == 3
    for kernel in kernels:
        largest = int(np.abs(kernel).max())
        assert largest >= 60
        assert 2 * 255 * largest < 2**15


def test_a_value_that_two_nodes_read_in_float32_is_one_value_in_float16(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["mask"], to=TensorProto.FLOAT),
        *(
            helper.make_node("CumSum", ["mask", axis], [f"along{axis}"], name=axis)
            for axis in ("rows", "columns")
        ),
        helper.make_node("Add", ["alongrows", "alongcolumns"], ["y"]),
    ]
    axes = {"rows": np.array(1), "columns": np.array(2)}
    graph = helper.make_graph(
        nodes,
        "places",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["batch", 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 3])],
        [onnx.numpy_helper.from_array(axis, name) for name, axis in axes.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(proto, tmp_path / "m.onnx")
    reduce(tmp_path / "m.onnx", tmp_path / "small.onnx", "float16", [])
    x = np.random.default_rng(2).integers(0, 5, (2, 4, 3))
    expected = x.cumsum(1) + x.cumsum(2)
    assert np.array_equal(Session(tmp_path / "small.onnx").run({"x": x})["y"], expected)


def test_one_that_is_slower_is_refused_unless_asked_twice(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        lowering, "interleaved", lambda calls, runs: {"before": [1.0] * runs, "after": [3.0] * runs}
    )
    with pytest.raises(RefusedError, match="makes it slower here"):
        lower(files[0], tmp_path / "small.onnx", "float16", data=files[1])
    assert not (tmp_path / "small.onnx").exists()
    done = lower(files[0], tmp_path / "small.onnx", "float16", data=files[1], even_if_slower=True)
    assert done.speed == pytest.approx(1 / 3)
    assert (tmp_path / "small.onnx").exists()


REFUSED = {
    "no such precision": ({"precision": "int4"}, "no such precision"),
    "another target than ONNX": ({"destination": "small.keras"}, "another precision is for ONNX"),
    "no rows": ({"data": "no.npy"}, "no such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(case: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    change, message = REFUSED[case]
    call = {"precision": "float16", "destination": "small.onnx", "data": files[1].name} | change
    with pytest.raises(NetferryError, match=message):
        lower(files[0], tmp_path / call["destination"], call["precision"], data=tmp_path / call["data"])


def test_overflow_fails_and_writes_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 2)).eval()
    with torch.no_grad():
        module[0].weight.mul_(1e6)
    netferry.convert(module, destination=tmp_path / "m.onnx", inputs={"x": X[:2]})
    np.save(tmp_path / "x.npy", X)
    done = lower(
        tmp_path / "m.onnx", tmp_path / "small.onnx", "float16", data=tmp_path / "x.npy", even_if_slower=True
    )
    assert done.status == "failed"
    assert not (tmp_path / "small.onnx").exists()


def test_static_int8_without_rows_says_what_is_missing() -> None:
    with pytest.raises(UsageError, match="calibrated on real rows"):
        reduce(Path("m.onnx"), Path("n.onnx"), "int8-static", [])


def test_sequences_of_several_lengths_and_no_numbers_on_both_sides_are_judged(tmp_path: Path) -> None:
    class Tags(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 5)

        def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.table(ids), torch.log(self.table(ids).sum())

    torch.manual_seed(0)
    ids = np.zeros((2, 7), np.int64)
    netferry.convert(
        Tags().eval(), destination=tmp_path / "m.onnx", inputs={"ids": ids},
        dynamic={"ids": {0: "batch", 1: "time"}}, verify=False,
    )  # fmt: skip
    lowered = lower(tmp_path / "m.onnx", tmp_path / "s.onnx", "float16", even_if_slower=True, verify=False)
    assert lowered.status == "passed"
    first, second = lowered.error.values()
    assert 0 < first < 2e-3
    assert 0 <= second < 2e-2
    assert [one is None for one in lowered.agreement.values()] == [False, True]
    nan, one = [np.array([np.nan, 1.0])], [np.array([1.0, 1.0])]
    assert lowering._relative(nan, nan) == 0
    assert lowering._relative(nan, one) == lowering._relative(one, nan) == float("inf")
