"""Models of every framework as TFLite files, in float and in smaller numbers, checked by TFLite's own interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from served_models import floats

import netferry
from netferry.converters import source
from netferry.converters.errors import RefusedError, UnsupportedError, UsageError
from netferry.converters.tensorflow.runtime import tf
from netferry.converters.tensorflow.tflite.writing import _edges_around_pools
from netferry.inference.session import Session
from netferry.tasks.precision import lower, rows_of


def network(
    folder: Path, *nodes: Any, sizes: tuple[Any, ...], weights: dict[str, np.ndarray], gives: str = "y"
) -> Path:
    graph = helper.make_graph(
        list(nodes), "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info(gives, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def pooled(folder: Path) -> Path:
    """A pool whose padding no SAME is, behind numbers of either sign."""
    return network(
        folder,
        helper.make_node(
            "Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]
        ),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "a"], ["y"]),
        sizes=("n", 3, 16, 16),
        weights={"w": floats(8, 3, 3, 3) * 0.3, "b": floats(8) - 1, "v": floats(8, 5), "a": floats(5)},
    )


def test_a_network_is_written_and_passes_in_the_interpreter(tmp_path: Path) -> None:
    done = netferry.convert(pooled(tmp_path), destination=tmp_path / "net.tflite", quick=True)
    assert done.report is not None
    assert done.report.status == "passed"
    model = source.open_source(tmp_path / "net.tflite")
    names = [operation.name for operation in model.main.operations]  # type: ignore[attr-defined]
    assert "CUSTOM" not in names
    assert {"CONV_2D", "MIRROR_PAD", "MAX_POOL_2D", "FULLY_CONNECTED"} <= set(names)


def test_static_int8_is_calibrated_on_rows_and_a_padded_pool_ends_no_process(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=floats(48, 3, 16, 16))
    lowered = lower(
        pooled(tmp_path), tmp_path / "net.tflite", "int8-static", data=tmp_path / "rows.npz", seed=0
    )
    assert lowered.status == "passed", lowered.to_text()
    assert lowered.real
    assert max(lowered.error.values()) < 0.05
    model = source.open_source(tmp_path / "net.tflite")
    assert model.stores("int8")  # type: ignore[attr-defined]


def test_what_tflite_lacks_is_refused_by_name(tmp_path: Path) -> None:
    path = network(
        tmp_path, helper.make_node("Det", ["x"], ["y"]), sizes=(2, 3, 3), weights={},
    )  # fmt: skip
    with pytest.raises(UnsupportedError) as refused:
        netferry.convert(path, destination=tmp_path / "net.tflite", verify=False)
    assert [each.operator for each in refused.value.problems] == ["MatrixDeterminant"]
    assert not (tmp_path / "net.tflite").exists()


def test_another_precision_than_tflite_has_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int8-static"):
        lower("no-such-file.onnx", tmp_path / "net.tflite", "bfloat16")
    with pytest.raises(UsageError, match=r"\.onnx or \.tflite"):
        lower("no-such-file.onnx", tmp_path / "net.keras", "float16")


def test_a_model_of_a_fixed_batch_is_shown_so_many_rows_at_a_time(tmp_path: Path) -> None:
    path = network(tmp_path, helper.make_node("Relu", ["x"], ["y"]), sizes=(2, 3), weights={})
    np.savez(tmp_path / "rows.npz", x=floats(7, 3))
    feeds = rows_of(Session(path), tmp_path / "rows.npz", None, None, 0)
    assert [feed["x"].shape for feed in feeds] == [(2, 3)] * 3


@pytest.mark.slow
def test_a_recurrent_layer_of_free_sizes_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = network(
        tmp_path,
        helper.make_node("LSTM", ["x", "w", "r", "b"], ["s"], hidden_size=4),
        helper.make_node("Squeeze", ["s", "axis"], ["y"]),
        sizes=(7, "n", 5),
        weights={"w": floats(1, 16, 5), "r": floats(1, 16, 4), "b": floats(1, 32), "axis": np.array([1])},
    )
    with pytest.raises(RefusedError, match="--fix x:7,1,5"):
        netferry.convert(path, destination=tmp_path / "net.tflite", verify=False)
    done = netferry.convert(path, destination=tmp_path / "net.tflite", fix={"x": [7, 1, 5]}, quick=True)
    assert done.report is not None
    assert done.report.status == "passed"


@pytest.mark.slow
def test_a_recurrent_layer_in_static_int8_is_unrolled(tmp_path: Path) -> None:
    """Of a loop TensorFlow's calibration crashes."""
    path = network(
        tmp_path,
        helper.make_node("GRU", ["x", "w", "r", "b"], ["s"], hidden_size=4, linear_before_reset=1),
        helper.make_node("Squeeze", ["s", "axis"], ["y"]),
        sizes=(5, 1, 3),
        weights={"w": floats(1, 12, 3), "r": floats(1, 12, 4), "b": floats(1, 24), "axis": np.array([1])},
    )
    np.savez(tmp_path / "rows.npz", x=floats(100, 1, 3))
    lowered = lower(path, tmp_path / "net.tflite", "int8-static", data=tmp_path / "rows.npz", seed=0)
    assert lowered.status == "passed", lowered.to_text()
    names = [each.name for each in source.open_source(tmp_path / "net.tflite").main.operations]  # type: ignore[attr-defined]
    assert "WHILE" not in names


@pytest.mark.parametrize("before", [(1, 1), (2, 2), (2, 0)])
def test_a_pool_padded_with_its_own_edge_is_one_padded_with_minus_infinity(before: tuple[int, int]) -> None:
    def call(x: Any) -> Any:
        y = tf.pad(x, [[0, 0], before, before, [0, 0]], constant_values=-np.inf)
        return tf.nn.max_pool(y, 3, 2, "VALID"), tf.pad(
            x, [[0, 0], [1, 0], [0, 0], [0, 0]], constant_values=-np.inf
        )

    x = floats(2, 7, 9, 3) - 3
    wanted = call(x)
    with _edges_around_pools():
        traced = tf.function(call, autograph=False).get_concrete_function(tf.TensorSpec(x.shape))
    got = traced(tf.constant(x))
    assert "MirrorPad" in {node.op for node in traced.graph.as_graph_def().node}
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("steps", "units", "apart"), [(12, 6, True), (40, 6, False), (12, 130, False)])
def test_a_short_recurrent_layer_is_written_step_by_step_and_a_note_says_so(
    steps: int, units: int, apart: bool, tmp_path: Path
) -> None:
    """TFLite's loop costs several times what its steps cost."""
    path = network(
        tmp_path,
        helper.make_node("LSTM", ["x", "w", "r", "b"], ["s"], hidden_size=units, direction="bidirectional"),
        helper.make_node("Transpose", ["s"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "sizes"], ["y"]),
        sizes=(steps, 1, 5),
        weights={
            "w": floats(2, 4 * units, 5) * 0.3, "r": floats(2, 4 * units, units) * 0.2, "b": floats(2, 8 * units),
            "sizes": np.array([0, 0, -1]),
        },
    )  # fmt: skip
    done = netferry.convert(path, destination=tmp_path / "net.tflite", quick=True)
    assert done.report is not None
    assert done.report.status == "passed"
    model = source.open_source(tmp_path / "net.tflite")
    names = {operation.name for operation in model.main.operations}  # type: ignore[attr-defined]
    assert ("WHILE" not in names) is apart
    assert any("step by step" in note for note in done.notes) is apart
