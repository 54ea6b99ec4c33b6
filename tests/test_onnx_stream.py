"""Writing an ONNX model weight by weight."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry.converters.graph.ir.build import GraphBuilder
from netferry.converters.onnx import files, stream
from netferry.converters.signature import TensorSpec

WEIGHTS = {
    "float32": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.arange(12, dtype=np.float32).reshape(4, 3).T,
    "bfloat16": np.arange(5).astype(ml_dtypes.bfloat16),
    "int4": np.array([-8, 7, 3], ml_dtypes.int4),
    "bool": np.array([True, False]),
    "scalar": np.float64(0.1),
    "empty": np.empty((0, 3), np.float32),
    "large": np.arange(100_000, dtype=np.int64),
}


def model() -> ir.Model:
    g = GraphBuilder("net")
    x = g.input(TensorSpec("x", np.dtype(np.float32), ("batch", 4)))
    g.output(g.MatMul(x, g.constant(np.eye(4, dtype=np.float32), name="w")), "y")
    made = g.finish({"made": "here"})
    for name, array in WEIGHTS.items():
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        made.graph.initializers[name] = value
    made.graph.initializers["text"] = ir.Value(
        name="text", const_value=ir.StringTensor([b"a", b"bc"], shape=ir.Shape([2]), name="text")
    )
    return made


def test_what_is_streamed_is_what_one_message_holds(tmp_path: Path) -> None:
    made = model()
    stream.save(made, tmp_path / "net.onnx")
    back, whole = onnx.load(tmp_path / "net.onnx"), ir.to_proto(made)
    onnx.checker.check_model(back)
    for message in (back, whole):
        message.graph.ClearField("value_info")
    assert back == whole
    assert len(back.graph.initializer) == len(WEIGHTS) + 2


def test_the_model_keeps_its_weights_when_it_has_been_written(tmp_path: Path) -> None:
    made = model()
    names = list(made.graph.initializers)
    files.write(made, tmp_path / "first.onnx")
    files.write(made, tmp_path / "second.onnx")
    assert list(made.graph.initializers) == names
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


@pytest.mark.parametrize("number", [0, 127, 128, 300, 2**31, 2**40])
def test_a_length_is_written_as_protobuf_reads_it(number: int) -> None:
    total = sum((byte & 127) << 7 * place for place, byte in enumerate(stream._varint(number)))
    assert total == number


def test_weights_apart_bear_the_name_of_their_graph_and_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that has the old graph open must never find the new graph's weights under the name that it says."""
    monkeypatch.setattr(files, "EXTERNAL_FROM", 0)
    rng, out = np.random.default_rng(0), tmp_path / "m.onnx"
    named: list[str] = []
    for width in (64, 96, 64):
        weight = rng.standard_normal((48, width)).astype(np.float32)
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        ends = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", s])
            for n, s in (("x", 48), ("y", width))
        ]
        graph = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        assert netferry.convert(model, destination=out).report.status == "passed"  # type: ignore[union-attr]
        (data,) = (file.name for file in tmp_path.glob("[!.]*") if file != out)
        x = rng.standard_normal((3, 48)).astype(np.float32)
        np.testing.assert_allclose(netferry.run(out, {"x": x})["y"], x @ weight, atol=1e-4)
        named.append(data)
    assert named[0] == named[2] != named[1]
