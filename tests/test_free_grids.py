"""Detectors of free height and width: pixels that grow by a whole factor, and grids counted along them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry

node = helper.make_node
RNG = np.random.default_rng(4)


def model() -> onnx.ModelProto:
    """Twice the pixels, to which the number of each column is added, as floats that a Range counts."""
    nodes = [
        node(
            "Resize", ["x", "", "factors"], ["r"], mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        node("Shape", ["r"], ["s"]),
        node("Gather", ["s", "three"], ["width"]),
        node("Cast", ["width"], ["limit"], to=TensorProto.FLOAT),
        node("Range", ["zero", "limit", "one"], ["columns"]),
        node("Add", ["r", "columns"], ["y"]),
    ]  # fmt: skip
    weights = {
        "factors": np.array([1, 1, 2, 2], np.float32),
        "three": np.array(3),
        "zero": np.float32(0),
        "one": np.float32(1),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, "h2", "w2"])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "mxnet"])
def test_a_grid_of_free_sizes_is_counted(to: str) -> None:
    made = model()
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    done = netferry.convert(made, to, verify=False)
    for shape in ((1, 3, 4, 6), (2, 3, 5, 3)):
        x = RNG.standard_normal(shape).astype(np.float32)
        (got,) = netferry.run(done.model, {"x": x}).values()
        np.testing.assert_allclose(got, session.run(None, {"x": x})[0], atol=1e-5)
