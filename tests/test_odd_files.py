"""Good files that look odd are carried: every bit of every weight, under names that are safe where they arrive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import model, saved
from onnx import helper, numpy_helper

import netferry
from netferry.converters.frameworks import named

SHAPE = (3, 4)
ODD = {
    "nan": np.full(SHAPE, np.nan, np.float32),
    "nan with a payload": np.full(SHAPE, 0x7FC12345, np.uint32).view(np.float32),
    "infinities": np.float32([[np.inf, -np.inf, 0, 1]] * 3),
    "sub-normals": np.full(SHAPE, 1e-42, np.float32),
    "negative zeros": np.full(SHAPE, -0.0, np.float32),
    "the largest": np.full(SHAPE, np.finfo(np.float32).max, np.float32),
}


def linear(weight: np.ndarray, name: str = "w", node: str = "") -> onnx.ModelProto:
    return model(
        [helper.make_node("MatMul", ["x", name], ["y"], name=node)],
        {"x": ["batch", weight.shape[0]]},
        {"y": ["batch", weight.shape[1]]},
        {name: weight},
    )


def weights_in(path: Path, to: str) -> list[np.ndarray]:
    """The arrays that were written, read by each format's own library."""
    if to == "onnx":
        return [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    if to == "pytorch":
        from safetensors.numpy import load_file

        return list(load_file(path / "model.safetensors").values())
    if to == "mxnet":
        return list(named("mxnet").files.read_params(path.with_name("out-0000.params")).values())
    import io
    import zipfile

    import h5py

    found: list[np.ndarray] = []
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(lambda _, each: found.append(each[()]) if isinstance(each, h5py.Dataset) else None)
    return found


PLACES = {"onnx": "out.onnx", "pytorch": "out", "mxnet": "out-symbol.json", "tensorflow": "out.keras"}


def bits(array: np.ndarray) -> np.ndarray:
    return np.sort(np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32))


@pytest.mark.parametrize("to", PLACES)
@pytest.mark.parametrize("kind", ODD)
def test_odd_numbers_arrive_bit_for_bit(kind: str, to: str, tmp_path: Path) -> None:
    place = tmp_path / PLACES[to]
    netferry.convert(saved(tmp_path, linear(ODD[kind])), to, destination=place, verify=False)
    [found] = [each for each in weights_in(place, to) if each.size == ODD[kind].size]
    assert np.array_equal(bits(found), bits(ODD[kind]))


NAMES = {
    "a path": "../../etc/passwd",
    "separators": "a/b\\c:d|e",
    "control characters": "w\n\t\x01\x7f",
    "code": "w = __import__('os').system('touch marker')",
    "quotes": '\'"""\'',
    "a word of Python": "class",
    "another alphabet": "вес_權重_\u202e\U0001f600",
    "a very long one": "w" * 3000,
    "digits": "0.1.2",
    "a dunder": "__init__",
}


@pytest.mark.parametrize("to", PLACES)
@pytest.mark.parametrize("kind", NAMES)
def test_odd_names_become_safe_ones(kind: str, to: str, tmp_path: Path) -> None:
    weight = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    source = saved(tmp_path, linear(weight, NAMES[kind], NAMES[kind]))
    home = tmp_path / "home"
    home.mkdir()
    place = home / PLACES[to]
    done = netferry.convert(source, to, destination=place, verify=to in ("onnx", "pytorch"))
    assert done.report is None or done.report.status == "passed"
    [found] = [each for each in weights_in(place, to) if each.size == weight.size]
    assert np.array_equal(bits(found), bits(weight))
    assert {path.name for path in tmp_path.iterdir()} == {"home", source.name}
    assert not list(tmp_path.rglob("marker"))


@pytest.mark.parametrize("to", ["onnx", "pytorch"])
def test_nodes_of_one_name_stay_apart(to: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="same"),
        helper.make_node("Neg", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["y"], name="same"),
    ]
    source = saved(tmp_path, model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]}))
    done = netferry.convert(source, to, destination=tmp_path / PLACES[to])
    assert done.report is not None and done.report.status in ("passed", "not_checked")


@pytest.mark.parametrize("to", ["onnx", "pytorch"])
def test_a_weight_of_no_places_arrives(to: str, tmp_path: Path) -> None:
    nodes = [helper.make_node("Concat", ["x", "w"], ["y"], axis=0)]
    source = saved(
        tmp_path,
        model(nodes, {"x": ["batch", 3]}, {"y": ["rows", 3]}, {"w": np.empty((0, 3), np.float32)}),
    )
    done = netferry.convert(source, to, destination=tmp_path / PLACES[to])
    assert done.report is not None and done.report.status == "passed"


def chain(count: int) -> onnx.ModelProto:
    values = ["x", *(f"v{place}" for place in range(count - 1)), "y"]
    nodes = [
        helper.make_node("Neg" if place % 2 else "Abs", [values[place]], [values[place + 1]])
        for place in range(count)
    ]
    return model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]})


def test_a_chain_of_twenty_thousand_nodes_arrives(tmp_path: Path) -> None:
    place = tmp_path / "out.onnx"
    netferry.convert(saved(tmp_path, chain(20_000)), "onnx", destination=place, verify=False)
    assert len(onnx.load(place).graph.node) == 20_000


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "pytorch"])
def test_a_chain_of_twenty_thousand_nodes_computes_the_same(to: str, tmp_path: Path) -> None:
    done = netferry.convert(saved(tmp_path, chain(20_000)), to, destination=tmp_path / PLACES[to])
    assert done.report is not None and done.report.status == "passed"


@pytest.mark.parametrize("kind", ["float", "double", "int32", "uint8", "int64"])
@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMin"])
def test_the_largest_of_nothing_that_was_found_is_the_least_there_is(kind: str, operator: str) -> None:
    """As many rows as there are numbers above zero: none of them is no reason to stop."""
    made = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 18]> most ({kind}[6] x) => ({kind}[M] y)
        <{kind}[1] zero = {{0}}, int64[1] axis = {{0}}> {{
            over = Greater (x, zero)
            found = Compress <axis = 0> (x, over)
            y = {operator} <keepdims = 1> (found, axis)
        }}""")
    module = netferry.convert(made, "pytorch", verify=False).model
    session = onnxruntime.InferenceSession(made.SerializeToString())
    for numbers in ([1, 0, 7, 3, 0, 2], [0] * 6):
        x = np.asarray(numbers).astype(
            helper.tensor_dtype_to_np_dtype(made.graph.input[0].type.tensor_type.elem_type)
        )
        (want,) = session.run(None, {"x": x})
        np.testing.assert_array_equal(netferry.run(module, [x])["y"], want)
