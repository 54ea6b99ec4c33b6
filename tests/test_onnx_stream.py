"""Writing an ONNX model weight by weight."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from netferry.converters.graph.build import GraphBuilder
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
