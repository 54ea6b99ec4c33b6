"""Regions of interest pooled by their largest elements, in every target, against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from netferry.converters import frameworks, import_model


def _model(pooled: tuple[int, int], scale: float) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 9, 11])
    rois = helper.make_tensor_value_info("rois", TensorProto.FLOAT, ["regions", 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node(
        "MaxRoiPool", ["x", "rois"], ["y"], pooled_shape=list(pooled), spatial_scale=scale
    )
    graph = helper.make_graph([node], "regions", [x, rois], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("target", ["pytorch", "tensorflow", "mxnet"])
@pytest.mark.parametrize("pooled", [(3, 2), (7, 7)])
def test_regions_are_pooled_by_their_largest_elements(target: str, pooled: tuple[int, int]) -> None:
    """Regions reach beyond the image, are narrower than their bins, and end before they begin."""
    rng = np.random.default_rng([5, *pooled])
    content = _model(pooled, 0.25)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    model = import_model(ir.from_proto(onnx.load_from_string(content)), target).model
    for batch, count in ((2, 4), (3, 9)):
        x = rng.normal(size=(batch, 3, 9, 11)).astype(np.float32)
        rois = rng.uniform(-8, 50, (count, 5)).astype(np.float32)
        rois[:, 0] = rng.integers(0, batch, count)
        rois[:, 3:] = rois[:, 1:3] + rng.uniform(-4, 30, (count, 2))
        (expected,) = session.run(None, {"x": x, "rois": rois})
        (mine,) = frameworks.named(target).live.run(model, [x, rois]).values()
        np.testing.assert_array_equal(mine, expected)
