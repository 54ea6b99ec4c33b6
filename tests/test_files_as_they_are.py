"""ONNX files as old and other exporters write them: onnxruntime runs them, and so they are carried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry.converters.onnx import files as onnx_files, safety as onnx_safety
from netferry.converters.onnx.completing import dense

RNG = np.random.default_rng(5)
W = RNG.standard_normal((4, 3)).astype(np.float32)
X = RNG.standard_normal((2, 4)).astype(np.float32)
PRODUCT = (helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"]))


def value(name: str, dims: Any, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def model(
    x: Any = ("n", 4), y: Any = ("n", 3), nodes: Any = PRODUCT, opset: int = 17, ir: int = 8
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes), "g", [value("x", x)], [value("y", y)], [numpy_helper.from_array(W, "w")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def sparse(places: Any) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w"),
        numpy_helper.from_array(np.asarray(places), "places"),
        [4, 3],
    )


def with_sparse_weight() -> onnx.ModelProto:
    made = model()
    del made.graph.initializer[:]
    made.graph.sparse_initializer.append(sparse([0, 5, 11]))
    return made


def with_sparse_constant() -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["w"], sparse_value=sparse([[0, 0], [1, 2], [3, 1]]))
    made = model(nodes=(constant, *PRODUCT))
    del made.graph.initializer[:]
    return made


def with_untyped_output() -> onnx.ModelProto:
    made = model()
    made.graph.output[0].ClearField("type")
    return made


def with_weights_among_its_values() -> onnx.ModelProto:
    """Sizes and axes of a Slice, listed among the values inside as onnxruntime's quantiser lists them."""
    cut = helper.make_node("Slice", ["h", "starts", "ends", "axes"], ["part"])
    made = model(y=("n", 3), nodes=(PRODUCT[0], cut, helper.make_node("MatMul", ["part", "v"], ["y"])))
    numbers = {"starts": np.int64([1]), "ends": np.int64([3]), "axes": np.int64([1]), "v": W[:2]}
    made.graph.initializer.extend(numpy_helper.from_array(x, name) for name, x in numbers.items())
    made.graph.value_info.extend(value(name, [1], TensorProto.INT64) for name in ("starts", "ends", "axes"))
    return made


FILES: dict[str, Callable[[], onnx.ModelProto]] = {
    "IR 3, a weight that is no input": lambda: model(opset=9, ir=3),
    "sizes of -1": lambda: model((-1, 4), (-1, 3)),
    "an output without a type": with_untyped_output,
    "an output without a rank": lambda: model(y=None),
    "an output that is said to be one number": lambda: model(y=()),
    "an input without a rank": lambda: model(None, None, (helper.make_node("Gemm", ["x", "w"], ["y"]),)),
    "nodes out of order": lambda: model(nodes=PRODUCT[::-1]),
    "weights among the values inside": with_weights_among_its_values,
    "a sparse weight": with_sparse_weight,
    "a sparse constant": with_sparse_constant,
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_carried_as_onnxruntime_runs_it(name: str, tmp_path: Path) -> None:
    made = FILES[name]()
    onnx.save(made, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (right,) = session.run(None, {"x": X})
    done = netferry.convert(tmp_path / "m.onnx", "pytorch", quick=True, seed=1)
    assert done.report is not None and done.report.status == "passed", done.report
    np.testing.assert_allclose(netferry.run(done.model, {"x": X})["y"], right, atol=1e-5)


def apart(made: onnx.ModelProto, folder: Path) -> None:
    """Saved with every tensor, those of sparse ones too, in a file of its own."""
    for number, tensor in enumerate(onnx_safety.tensors(made)):
        (folder / f"{number}.bin").write_bytes(numpy_helper.to_array(tensor).tobytes())
        for field in ("raw_data", "float_data", "int64_data"):
            tensor.ClearField(field)
        tensor.external_data.add(key="location", value=f"{number}.bin")
        tensor.data_location = TensorProto.EXTERNAL
    (folder / "m.onnx").write_bytes(made.SerializeToString())


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_carried_with_its_weights_apart(
    name: str, is_large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "_LARGE", 1 if is_large else 1 << 20)
    right = np.asarray(netferry.run(FILES[name](), {"x": X})["y"])
    apart(FILES[name](), tmp_path)
    done = netferry.convert(tmp_path / "m.onnx", "pytorch", verify=False)
    np.testing.assert_allclose(netferry.run(done.model, {"x": X})["y"], right, atol=1e-5)


def test_a_size_of_0_is_a_free_one() -> None:
    done = netferry.convert(model((0, 4), (0, 3)), "pytorch", quick=True, seed=1)
    assert done.report is not None and done.report.status == "passed"
    assert done.export.model.graph.inputs[0].shape is not None
    np.testing.assert_allclose(netferry.run(done.model, [X])["y"], np.maximum(X @ W, 0), atol=1e-5)


def test_places_of_a_sparse_weight_beyond_its_sizes_are_refused() -> None:
    with pytest.raises(netferry.NetferryError, match="do not fit its sizes"):
        dense(sparse([0, 5, 12]))


def test_inspect_counts_weights_and_operators_of_graphs_inside() -> None:
    branches = {
        name: helper.make_graph(
            [
                helper.make_node("Constant", [], [f"{name}k"], value=numpy_helper.from_array(W)),
                helper.make_node("MatMul", ["x", f"{name}k"], [f"{name}o"]),
            ],
            name,
            [],
            [value(f"{name}o", ("n", 3))],
        )
        for name in ("then_branch", "else_branch")
    }
    condition = numpy_helper.from_array(np.array([True]), "up")
    node = helper.make_node("If", ["up"], ["y"], **branches)
    graph = helper.make_graph([node], "g", [value("x", ("n", 4))], [value("y", ("n", 3))], [condition])
    found = netferry.inspect(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert found.parameters == 24 and found.operators["MatMul"] == 2


def test_inputs_that_nothing_reads_and_that_stand_for_weights_reach_mxnet(tmp_path: Path) -> None:
    """A file of MXNet names no inputs: what stands in the place of a weight is one all the same."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "g",
        [value("x", ("n", 2, 5, 5)), value("unread", ("n", 7)), value("weight", (3, 2, 3, 3))],
        [value("y", ("n", 3, 3, 3))],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    shapes = {"x": (2, 2, 5, 5), "unread": (2, 7), "weight": (3, 2, 3, 3)}
    feed = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    feed["unread"][0, 0] = np.nan
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (right,) = session.run(None, {name: feed[name] for name in ("x", "weight")} | {"unread": feed["unread"]})
    done = netferry.convert(made, "mxnet", destination=tmp_path / "m-symbol.json", quick=True, seed=1)
    assert done.report is not None and done.report.status == "passed"
    for read in (done.model, tmp_path / "m-symbol.json"):
        for given in (feed, list(feed.values())):
            np.testing.assert_allclose(*netferry.run(read, given).values(), right, atol=1e-4)


LOOPS = {
    "sizes of the input": """
    <ir_version: 8, opset_import: ["" : 17]>
    turns (float[N, 4] x, int64 m) => (float[N, 4] y, float[K, A, 4] ys) {
        y, ys = Loop <body = turn (int64 i, bool go, float[N, 4] s) => (bool on, float[N, 4] t, float[N, 4] o) {
            on = Identity (go)
            count = Cast <to = 1> (i)
            more = Add (s, count)
            t = Tanh (more)
            o = Mul (t, x)
        }> (m, , x)
    }""",
    "sizes that the file alone says": """
    <ir_version: 8, opset_import: ["" : 17]>
    turns (float[N, 4] x, int64 m) => (float[N, 4] y, float[K, 2, 1] ys) <int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}> {
        y, ys = Loop <body = turn (int64 i, bool go, float[N, 4] s) => (bool on, float[N, 4] t, float[2, 1] o) {
            on = Identity (go)
            t = Tanh (s)
            last = Unsqueeze (i, zero)
            next = Add (last, one)
            both = Concat <axis = 0> (zero, last)
            ends = Concat <axis = 0> (two, next)
            o = Slice (t, both, ends)
        }> (m, , x)
    }""",
}


@pytest.mark.parametrize("sizes", LOOPS)
@pytest.mark.parametrize("to", ["pytorch", "tensorflow"])
def test_a_loop_that_takes_no_turn_stacks_nothing_in_as_many_axes(to: str, sizes: str) -> None:
    made = onnx.parser.parse_model(LOOPS[sizes])
    session = onnxruntime.InferenceSession(made.SerializeToString())
    model = netferry.convert(made, to, verify=False).model
    for turns, rows in ((3, 2), (0, 3), (1, 5)):
        feed = {"x": RNG.standard_normal((rows, 4)).astype(np.float32), "m": np.asarray(turns)}
        found, wanted = netferry.run(model, list(feed.values())), session.run(None, feed)
        for here, right in zip(found.values(), wanted, strict=True):
            assert here.shape == right.shape
            np.testing.assert_allclose(here, right, atol=1e-6)


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "mxnet"])
def test_outputs_come_in_the_order_of_the_file_whatever_they_are_called(to: str) -> None:
    """An output that is an input has another name in Keras, and its model then gives a mapping."""
    made = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 4] x) => (float[N, 4] y, float[N, 4] a, float[N, 2] b) <int64[1] two = {2}, int64[1] zero = {0}, int64[1] one = {1}> {
            y = Abs (x)
            a = Neg (x)
            b = Slice (x, zero, two, one)
        }""")
    made.graph.output.insert(1, made.graph.input[0])
    x = np.asarray([[1, -2, 3, -4]], np.float32)
    found = netferry.run(netferry.convert(made, to, verify=False).model, [x]).values()
    for here, right in zip(found, [abs(x), x, -x, x[:, :2]], strict=True):
        np.testing.assert_array_equal(here, right)
