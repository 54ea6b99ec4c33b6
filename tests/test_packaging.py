"""What is written for other engines reads back in their own schemas, and its numbers are the model's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper

from netferry.converters.errors import UsageError, WriteError
from netferry.inference.serving import DATATYPES
from netferry.tasks.hub import origin_of
from netferry.tasks.package import package
from netferry.validation.reports.report import Report

model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2")

RNG = np.random.default_rng(3)
W = RNG.standard_normal((4, 3)).astype(np.float32)

TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {
            "enum": "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 BYTES BF16".split()
        },
        "data": {"type": "array", "items": {"type": ["number", "boolean"]}},
        "parameters": {"type": "object"},
    },
}
REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "minItems": 1, "items": TENSOR},
        "outputs": {
            "type": "array",
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
        },
    },
}
RESPONSE = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "additionalProperties": False,
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": TENSOR},
    },
}
"""The inference request and response of the Open Inference Protocol, version 2, REST."""


def model(path: Path, batch: Any = "batch") -> Path:
    """Two inputs, two outputs, one of them integers."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Add", ["m", "shift"], ["y"]),
            helper.make_node("ArgMax", ["y"], ["top"], axis=1, keepdims=0),
        ],
        "g",
        [value("x", TensorProto.FLOAT, [batch, 4]), value("shift", TensorProto.FLOAT, [batch, 1])],
        [value("y", TensorProto.FLOAT, [batch, 3]), value("top", TensorProto.INT64, [batch])],
        [numpy_helper.from_array(W, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def config_of(folder: Path, name: str) -> Any:
    text = (folder / name / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config.ModelConfig())


def test_a_triton_repository_reads_in_tritons_own_schema(tmp_path: Path) -> None:
    done = package(
        model(tmp_path / "m.onnx"),
        name="ü-free.1".replace("ü", "u"),
        triton=tmp_path / "models",
        max_batch=16,
    )
    config = config_of(tmp_path / "models", "u-free.1")
    assert (config.name, config.backend, config.max_batch_size) == ("u-free.1", "onnxruntime", 16)
    assert config.HasField("dynamic_batching")
    described = [
        (one.name, model_config.DataType.Name(one.data_type), list(one.dims)) for one in config.input
    ]
    assert described == [("x", "TYPE_FP32", [4]), ("shift", "TYPE_FP32", [1])]
    assert [(one.name, list(one.dims)) for one in config.output] == [("y", [3]), ("top", [1])]
    assert list(config.output[1].reshape.shape) == []
    assert config.output[1].HasField("reshape")
    served = tmp_path / "models" / "u-free.1" / "1" / config.default_model_filename
    assert served in done.files
    x, shift = RNG.standard_normal((5, 4)).astype(np.float32), RNG.standard_normal((5, 1)).astype(np.float32)
    y, top = onnxruntime.InferenceSession(str(served)).run(None, {"x": x, "shift": shift})
    np.testing.assert_allclose(y, x @ W + shift, atol=1e-5)
    np.testing.assert_array_equal(top, y.argmax(1))


def test_a_model_of_a_fixed_batch_is_served_as_it_is(tmp_path: Path) -> None:
    package(model(tmp_path / "m.onnx", batch=2), name="m", triton=tmp_path / "models")
    config = config_of(tmp_path / "models", "m")
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [list(one.dims) for one in config.input] == [[2, 4], [2, 1]]


def test_every_datatype_is_one_of_tritons() -> None:
    known = set(model_config.DataType.keys())
    assert {f"TYPE_{word}" for word in DATATYPES.values()} <= known


def test_a_sample_request_keeps_to_the_protocol_and_its_answer_is_the_models(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    package(path, name="m", kserve=tmp_path / "samples")
    request, response, metadata = (
        json.loads((tmp_path / "samples" / file).read_text())
        for file in ("request.json", "response.json", "metadata.json")
    )
    jsonschema.validate(request, REQUEST)
    jsonschema.validate(response, RESPONSE)
    feed = {one["name"]: np.array(one["data"], np.float32).reshape(one["shape"]) for one in request["inputs"]}
    wanted = onnxruntime.InferenceSession(str(path)).run(None, feed)
    for one, array in zip(response["outputs"], wanted, strict=True):
        assert one["shape"] == list(array.shape)
        np.testing.assert_allclose(np.array(one["data"]).reshape(one["shape"]), array, rtol=1e-6)
    assert [(one["name"], one["datatype"], one["shape"]) for one in metadata["inputs"]] == [
        ("x", "FP32", [-1, 4]),
        ("shift", "FP32", [-1, 1]),
    ]


def test_a_card_tells_how_to_run_the_model_and_what_was_proved(tmp_path: Path) -> None:
    done = package(model(tmp_path / "m.onnx"), name="m", card=tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: onnx\n")
    assert done.report is not None
    assert done.report.status == "passed"
    assert "| y |" in text
    assert "onnxruntime.InferenceSession" in text


def front_of(card: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML, which reads the head of a card, is not installed")
    return yaml.safe_load(card.split("---")[1])


def test_a_hub_folder_holds_the_model_and_a_card_that_says_where_it_comes_from(tmp_path: Path) -> None:
    done = package(
        model(tmp_path / "m.onnx"),
        name="my: m",
        hub=tmp_path / "hub",
        base_model="org/base",
        licence="apache-2.0",
    )
    assert {file.name for file in done.files} == {"model.onnx", "README.md"}
    front = front_of((tmp_path / "hub" / "README.md").read_text())
    assert (front["library_name"], front["base_model"], front["license"]) == (
        "onnx",
        "org/base",
        "apache-2.0",
    )
    [entry] = front["model-index"]
    assert entry["name"] == "my: m"
    [result] = entry["results"]
    assert {"type", "name"} <= result["dataset"].keys()
    assert done.report is not None
    assert {one["type"]: one["value"] for one in result["metrics"]}["max_rel_error"] == done.report.max_rel
    again = package(model(tmp_path / "m.onnx"), name="m", hub=tmp_path / "hub")
    assert again.notes == ("the card names no licence: --licence apache-2.0, say",)
    (tmp_path / "hub" / "README.md").write_text("mine")
    with pytest.raises(WriteError):
        package(model(tmp_path / "m.onnx"), name="m", hub=tmp_path / "hub")


def test_a_folder_of_hugging_face_states_its_own_base_and_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"_name_or_path": "org/made-from"}')
    (tmp_path / "README.md").write_text("---\nlicense: mit\ntags:\n- x\n---\n# base_model: no/this\n")
    monkeypatch.setattr("netferry.tasks.hub.pipeline.folder_of", lambda model: tmp_path)
    assert origin_of(tmp_path, None, None) == ("org/made-from", "mit")
    assert origin_of(tmp_path, "org/mine", "bsd-3-clause") == ("org/mine", "bsd-3-clause")
    (tmp_path / "config.json").write_text('{"_name_or_path": "/somewhere/on/a/disk"}')
    (tmp_path / "README.md").write_text("---\nlicense: [mit\n---")
    assert origin_of(tmp_path, None, None) == (None, None)


@pytest.mark.parametrize("given", [{"base_model": "a b"}, {"licence": "MIT: yes"}, {"base_model": "../x"}])
def test_what_is_no_name_of_the_hub_is_refused(given: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="as the Hub names them"):
        package(model(tmp_path / "m.onnx"), name="m", hub=tmp_path / "hub", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("name", ["", "a/b", "../m", "a b", "-m"])
def test_a_name_that_engines_do_not_take_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a name for a served model"):
        package(model(tmp_path / "m.onnx"), name=name, triton=tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_nothing_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is asked for"):
        package(model(tmp_path / "m.onnx"), name="m")


def test_no_batching_asked_for_leaves_the_batch_among_the_dimensions(tmp_path: Path) -> None:
    package(model(tmp_path / "m.onnx"), name="m", triton=tmp_path / "models", max_batch=0)
    config = config_of(tmp_path / "models", "m")
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [-1, 4]
    assert not config.HasField("dynamic_batching")
    with pytest.raises(UsageError, match="less than none"):
        package(model(tmp_path / "m.onnx"), name="m", triton=tmp_path / "models", max_batch=-1)


def test_a_model_that_differs_in_onnx_is_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Report, "status", "failed")
    done = package(
        model(tmp_path / "m.onnx"), name="m", triton=tmp_path / "models", card=tmp_path / "README.md"
    )
    assert done.files == ()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx"]
