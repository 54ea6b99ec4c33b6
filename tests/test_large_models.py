"""Large models: many nodes, deep chains, weights that do not fit into one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry import converters
from netferry.converters import source
from netferry.converters.graph.ir.arrays import release, same
from netferry.converters.graph.ir.build import free
from netferry.converters.onnx import files, stream
from netferry.converters.trust import snapshot
from netferry.inference.session import Session

UNARY = ("Relu", "Tanh", "Sigmoid", "Softplus")
MIX = ("Add", "Relu", "Mul", "Tanh", "MatMul", "Sigmoid", "Sub", "Softplus")


def chain(count: int, operators: tuple[str, ...] = MIX) -> onnx.ModelProto:
    """``count`` nodes one behind the other over (batch, 8)."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array((random.standard_normal((8, 8)) * 0.3).astype(np.float32), "w"),
        numpy_helper.from_array(random.standard_normal(8).astype(np.float32), "b"),
    ]
    nodes, value = [], "x"
    for place in range(count):
        operator = operators[place % len(operators)]
        inputs = [value] if operator in UNARY else [value, "w" if operator == "MatMul" else "b"]
        value = "y" if place == count - 1 else f"v{place}"
        nodes.append(helper.make_node(operator, inputs, [value], name=f"n{place}"))
    return model(nodes, weights)


def wide(count: int) -> onnx.ModelProto:
    """``count`` nodes side by side and their sum."""
    nodes = [helper.make_node(UNARY[i % 4], ["x"], [f"v{i}"]) for i in range(count)]
    return model([*nodes, helper.make_node("Sum", [f"v{i}" for i in range(count)], ["y"])], [])


def products(count: int) -> onnx.ModelProto:
    """A product of ``count`` factors, which the search for activations must not follow to its end."""
    return chain(count, ("Mul", "Mul", "Sub"))


def moves(count: int) -> onnx.ModelProto:
    """``count`` transpositions, with a Relu after the last."""
    nodes = [
        helper.make_node("Transpose", ["x" if i == 0 else f"v{i - 1}"], [f"v{i}"], perm=[1, 0])
        for i in range(count)
    ]
    return model([*nodes, helper.make_node("Relu", [f"v{count - 1}"], ["y"])], [])


def model(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("made", [chain, wide, products, moves])
@pytest.mark.parametrize("target", ["pytorch", "mxnet", "tensorflow"])
def test_a_graph_deeper_and_wider_than_python_recurses_arrives(
    target: str, made: Callable[[int], onnx.ModelProto]
) -> None:
    graph = made(2 * sys.getrecursionlimit())
    imported = converters.import_model(ir.from_proto(graph), target)
    assert imported.source.count("\n") > 5
    compile(imported.source, "arrival", "exec")


def test_a_deep_chain_means_the_same_in_pytorch() -> None:
    graph = chain(2 * sys.getrecursionlimit(), ("Add", "Tanh", "Sub", "Softplus"))
    arrived = netferry.convert(graph, "pytorch", verify=False).model
    x = np.random.default_rng(2).standard_normal((3, 8)).astype(np.float32)
    expected = Session(graph).run([x])["y"]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(arrived(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_work_grows_with_the_nodes_and_not_with_their_square() -> None:
    """Calls are counted, not seconds: four times the nodes may not make more than five times the calls."""

    def calls(count: int) -> int:
        graph, made = ir.from_proto(chain(count)), 0

        def count_call(frame: object, event: str, argument: object) -> None:
            nonlocal made
            made += event == "call"

        sys.setprofile(count_call)
        try:
            converters.import_model(graph, "pytorch")
        finally:
            sys.setprofile(None)
        return made

    calls(50)
    small, large = calls(300), calls(1200)
    assert large < 5 * small


def test_free_names_are_the_smallest_and_found_without_going_past_all_before() -> None:
    class Asked(set[str]):
        times = 0

        def __contains__(self, name: object) -> bool:
            self.times += 1
            return super().__contains__(name)

    taken = Asked({"x", *(f"x_{i}" for i in range(1, 1001))})
    assert free("x", taken) == "x_1001" and taken.times < 30
    assert free("y", taken) == "y"


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool", "complex128"])
def test_arrays_are_the_same_by_their_bits(dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    other = array.copy()
    assert same(array, other) and same(array.T, other.T)
    other[2, 3] = 0
    assert not same(array, other) and not same(array, array.T)


def test_nan_is_the_same_as_itself_and_zero_is_not_minus_zero() -> None:
    assert same(np.float32([np.nan]), np.float32([np.nan]))
    assert not same(np.float32([0.0]), np.float32([-0.0]))


def test_a_mapped_array_that_was_let_go_reads_as_before(tmp_path: Path) -> None:
    content = np.random.default_rng(1).standard_normal(100_000)
    content.tofile(tmp_path / "content")
    mapped = np.memmap(tmp_path / "content", np.float64, "r")[100:]
    release(mapped)
    assert (mapped == content[100:]).all()


# ---- weights ----------------------------------------------------------------------------------------------


@pytest.fixture
def layered() -> ir.Model:
    """Two weights of more than a page, one below, and one of texts."""
    return ir.from_proto(dense(2, 64))


def dense(layers: int, width: int) -> onnx.ModelProto:
    random = np.random.default_rng(4)
    weights, nodes, value = [], [], "x"
    for place in range(layers):
        kernel = (random.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
        weights += [numpy_helper.from_array(kernel, f"w{place}")]
        weights += [numpy_helper.from_array(random.standard_normal(width).astype(np.float32), f"b{place}")]
        last = "y" if place == layers - 1 else f"v{place}"
        nodes.append(helper.make_node("Gemm", [value, f"w{place}", f"b{place}"], [last], transB=1))
        value = last
    shape = ["batch", width]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_weights_beside_the_model_are_read_back_by_onnx(layered: ir.Model, tmp_path: Path) -> None:
    stream.save_apart(layered, tmp_path / "net.onnx")
    back = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(tmp_path / "net.onnx", full_check=True)
    (data,) = tmp_path.glob("net.onnx.*.data")
    assert data.stat().st_size >= 2 * 64 * 64 * 4
    for tensor in back.graph.initializer:
        held = layered.graph.initializers[tensor.name].const_value
        assert held is not None and (numpy_helper.to_array(tensor) == held.numpy()).all()


def test_weights_beside_the_model_go_from_one_file_to_the_next_and_to_another_opset(
    layered: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.save_apart(layered, tmp_path / "a.onnx")
    monkeypatch.setattr(files, "EXTERNAL_FROM", 0)
    monkeypatch.setattr(files, "_LARGE", 1)
    assert isinstance(source.open_source(tmp_path / "a.onnx"), ir.Model)
    done = netferry.convert(tmp_path / "a.onnx", destination=tmp_path / "b.onnx", opset=20)
    assert done.report is not None and done.report.status == "passed"
    assert len(list(tmp_path.glob("b.onnx.*.data"))) == 1
    report = netferry.verify(tmp_path / "a.onnx", netferry.convert(tmp_path / "b.onnx", "pytorch").model)
    assert report.status == "passed"


def test_large_weights_inside_a_file_stay_there_until_they_are_read(
    layered: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.save(layered, tmp_path / "net.onnx")
    whole = onnx.load(tmp_path / "net.onnx")
    monkeypatch.setattr(stream, "_MAPPED_FROM", 0)
    monkeypatch.setattr(files, "_LARGE", 1)
    assert stream.load(snapshot.take(tmp_path / "net.onnx"), "net.onnx").ByteSize() < 4096
    opened = source.open_source(tmp_path / "net.onnx")
    assert isinstance(opened, ir.Model)
    for tensor in whole.graph.initializer:
        held = opened.graph.initializers[tensor.name].const_value
        assert held is not None and (numpy_helper.to_array(tensor) == held.numpy()).all()
    assert netferry.verify(whole, opened).status == "passed"


# ---- what takes long ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "pytorch", "mxnet", "tensorflow"])
def test_fifty_thousand_nodes_arrive(target: str) -> None:
    graph = ir.from_proto(chain(50_000))
    if target == "onnx":
        assert len(converters.export_model(graph, opset=22).model.graph) == 50_000
    else:
        assert converters.import_model(graph, target).model is not None


GIGABYTES = 2.4
MOST: dict[str, float] = {"out.onnx": 1.0, "net": 2.0, "net.keras": 2.0}
"""Where 2.4 GB go -> the most memory that it may take, in times of the weights."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2.4 GB of weights beside their model, written layer by layer."""
    folder = tmp_path_factory.mktemp("large")
    width, layers = 4096, round(GIGABYTES * 1e9 / 4096**2 / 4)
    small = dense(layers, 1)
    random, piece = np.random.default_rng(3), width * width * 4
    with (folder / "large.onnx.data").open("wb") as file:
        for place in range(layers):
            kernel, bias = small.graph.initializer[2 * place], small.graph.initializer[2 * place + 1]
            kernel.Clear()
            kernel.name, kernel.data_type, kernel.data_location = f"w{place}", 1, TensorProto.EXTERNAL
            kernel.dims.extend([width, width])
            for key, value in (("location", "large.onnx.data"), ("offset", place * piece), ("length", piece)):
                kernel.external_data.add(key=key, value=str(value))
            bias.CopyFrom(numpy_helper.from_array(np.zeros(width, np.float32), bias.name))
            file.write((random.standard_normal((width, width), np.float32) / 64).data)
    for value in (*small.graph.input, *small.graph.output):
        value.type.tensor_type.shape.dim[1].dim_value = width
    onnx.save(small, folder / "large.onnx")
    return folder / "large.onnx"


@pytest.mark.slow
@pytest.mark.parametrize("name", MOST)
def test_a_model_of_more_than_two_gigabytes_takes_at_most_twice_its_weights(
    name: str, large: Path, tmp_path: Path
) -> None:
    program = (
        "import json, resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
        "print(json.dumps([code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))"
    )
    to = [] if "." in name else ["--to", "pytorch"]
    arguments = ["convert", str(large), str(tmp_path / name), "--no-verify", *to]
    environment = {**os.environ, "PYTHONPATH": str(Path(netferry.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", program, sys.executable, "-m", "netferry", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    code, peak = json.loads(done.stdout.strip().splitlines()[-1])
    assert code in (0, None)
    assert peak <= MOST[name] * GIGABYTES * 1e9


def test_a_weight_of_an_inner_graph_with_an_outer_weights_name_is_read_too(tmp_path: Path) -> None:
    """Both lie outside the file, and one of them is large enough to stay there."""
    rng = np.random.default_rng(0)
    outer, inner = (rng.standard_normal((600, 600)).astype(np.float32) for _ in range(2))
    value = helper.make_tensor_value_info
    then, other = (
        helper.make_graph(
            [helper.make_node("MatMul", ["x", name], [f"{name}_out"])],
            name,
            [],
            [value(f"{name}_out", TensorProto.FLOAT, ["batch", 600])],
            [numpy_helper.from_array(inner, name)] if name == "inner" else [],
        )
        for name in ("inner", "outer")
    )
    then.initializer[0].name = then.node[0].input[1] = "outer"
    graph = helper.make_graph(
        [helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other)],
        "net",
        [value("x", TensorProto.FLOAT, ["batch", 600]), value("flag", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, ["batch", 600])],
        [numpy_helper.from_array(outer, "outer")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    arrived = netferry.convert(tmp_path / "m.onnx", "pytorch", verify=False).model
    x = rng.standard_normal((2, 600)).astype(np.float32)
    for flag, weight in ((True, inner), (False, outer)):
        (found,) = netferry.run(arrived, {"x": x, "flag": np.array(flag)}).values()
        np.testing.assert_allclose(found, x @ weight, atol=1e-3)
