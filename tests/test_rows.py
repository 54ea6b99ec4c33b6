"""Rows that are not independent: nothing may be dealt out over them, in batches of ours or of a server's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from torch import nn
from tritonclient.grpc import model_config_pb2 as model_config

from netferry import convert
from netferry.converters.errors import RefusedError
from netferry.converters.signature import Example
from netferry.inference.rows import mixed
from netferry.inference.session import Session
from netferry.tasks.package import package
from netferry.tasks.stream import stream

RNG = np.random.default_rng(23)
FEATURES = 6
X = RNG.standard_normal((40, FEATURES)).astype(np.float32)
W = RNG.standard_normal((FEATURES, FEATURES)).astype(np.float32)


def node(operator: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, ["y"], **attributes)


def save(path: Path, nodes: list[Any], weights: Any = None, rows: int | str = "n", dtype: int = 1) -> Path:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, FEATURES])]
    outputs = [helper.make_tensor_value_info("y", dtype, None)]
    held = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(proto), path)
    return path


MIXING = {
    "softmax over the batch": ([node("Softmax", "x", axis=0)], {}, 1),
    "sums of what came before": ([node("CumSum", "x", "axis")], {"axis": np.array(0)}, 1),
    "sums of what comes after": ([node("CumSum", "x", "axis", reverse=1)], {"axis": np.array(0)}, 1),
    "the next row": ([node("Gather", "x", "other")], {"other": np.roll(np.arange(8), 1)}, 1),
    "ranks within the batch": (
        [
            helper.make_node("TopK", ["x", "k"], ["values", "ranks"], axis=0),
            node("Identity", "ranks"),
        ],
        {"k": np.array([8])},
        7,
    ),
}


EIGHT_ONLY = {"the next row", "ranks within the batch"}


@pytest.mark.parametrize(
    ("case", "rows"),
    [(case, rows) for case in MIXING for rows in (8, "n") if rows == 8 or case not in EIGHT_ONLY],
)
def test_a_model_that_mixes_rows_is_refused_and_runs_them_one_by_one(
    case: str, rows: int | str, tmp_path: Path
) -> None:
    nodes, weights, dtype = MIXING[case]
    model = save(tmp_path / "m.onnx", nodes, weights, rows, dtype)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(RefusedError, match=r"m\.onnx.*'y' depends on the rows beside it.*--batch 1"):
        stream(model, tmp_path / "x.npy", tmp_path / "o.npz")
    assert not (tmp_path / "o.npz").exists()
    if rows == "n":
        stream(model, tmp_path / "x.npy", tmp_path / "o.npz", batch=1)
        alone = [Session(model).run({"x": X[row : row + 1]})["y"][0] for row in range(len(X))]
        with np.load(tmp_path / "o.npz") as written:
            np.testing.assert_array_equal(written["y"], alone)


@pytest.mark.parametrize("rows", [8, "n"])
@pytest.mark.parametrize(
    ("nodes", "weights", "dtype"),
    [
        ([node("MatMul", "x", "w")], {"w": W}, 1),
        ([node("Softmax", "x", axis=1)], {}, 1),
        ([node("ArgMax", "x", axis=1, keepdims=0)], {}, 7),
        ([node("Log", "x")], {}, 1),  # NaN in most rows
        ([node("Mul", "x", "zero")], {"zero": np.zeros(1, np.float32)}, 1),
    ],
    ids=["dense", "softmax", "classes", "nan", "zeros"],
)
def test_independent_rows_are_run(
    nodes: list[Any], weights: Any, dtype: int, rows: int | str, tmp_path: Path
) -> None:
    model = save(tmp_path / "m.onnx", nodes, weights, rows, dtype)
    np.save(tmp_path / "x.npy", X)
    assert stream(model, tmp_path / "x.npy", tmp_path / "o.npz").written == len(X)


def test_a_scale_taken_from_the_batch_is_rounding_and_no_mixing(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", [node("MatMul", "x", "w")], {"w": W})
    quantize_dynamic(model, tmp_path / "q.onnx")
    session, inputs = Session(tmp_path / "q.onnx"), {"x": X}
    outputs = session.run(inputs)
    assert (outputs["y"][:1] != session.run({"x": X[:1]})["y"]).any()
    assert mixed(session.run, inputs, outputs) is None


class Tagger(nn.Module):
    """A network as PyTorch makes it unless told otherwise: time comes first."""

    def __init__(self, bidirectional: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, 5, bidirectional=bidirectional)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_time_on_the_first_axis_is_not_taken_for_rows(bidirectional: bool, tmp_path: Path) -> None:
    torch.manual_seed(3)
    free = Example("x", np.zeros((7, 2, FEATURES), np.float32), {0: "time", 1: "batch"})
    path = tmp_path / "tagger.onnx"
    convert(Tagger(bidirectional).eval(), destination=path, inputs=[free])
    np.save(tmp_path / "x.npy", X.reshape(20, 2, FEATURES))
    with pytest.raises(RefusedError, match="where the first axis is time"):
        stream(path, tmp_path / "x.npy", tmp_path / "o.npz")
    done = package(path, name="tagger", triton=tmp_path / "models")
    text = (tmp_path / "models" / "tagger" / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config.ModelConfig())
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [list(one.dims) for one in config.input] == [[-1, -1, FEATURES]]
    assert done.unbatched is not None
    assert "depends on the rows beside it" in done.unbatched
