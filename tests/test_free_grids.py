"""Detectors of free height and width: pixels that grow by a whole factor, and grids counted along them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

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


def samplers() -> onnx.ModelProto:
    """An image sampled in every mode, with every padding and both alignments, at places inside and outside."""
    settings = [*itertools.product(("nearest", "linear", "cubic"), ("zeros", "border", "reflection"), (0, 1))]
    nodes = [
        node(
            "GridSample",
            ["x", "grid"],
            [f"y{number}"],
            mode=mode,
            padding_mode=padding,
            align_corners=corners,
        )
        for number, (mode, padding, corners) in enumerate(settings)
    ]
    value = helper.make_tensor_value_info
    inputs = {"x": ["n", 2, "h", "w"], "grid": ["n", "rows", "columns", 2]}
    graph = helper.make_graph(
        nodes,
        "g",
        [value(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [
            value(f"y{number}", TensorProto.FLOAT, ["n", 2, "rows", "columns"])
            for number in range(len(settings))
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def agree(made: onnx.ModelProto, to: str, feeds: Iterable[Mapping[str, np.ndarray]], atol: float) -> None:
    """Every output is onnxruntime's at each of these sizes."""
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    done = netferry.convert(made, to, verify=False)
    for feed in feeds:
        got = netferry.run(done.model, feed)
        for name, want in zip(got, session.run(None, feed), strict=True):
            np.testing.assert_allclose(got[name], want, atol=atol, err_msg=f"{name} of {feed['x'].shape}")


@pytest.mark.parametrize("to", ["pytorch", "tensorflow"])
def test_an_image_of_free_sizes_is_sampled(to: str) -> None:
    sizes = (
        ((2, 2, 4, 6), (2, 3, 5, 2)),
        ((1, 2, 7, 5), (1, 4, 2, 2)),
        ((3, 2, 1, 9), (3, 2, 2, 2)),
    )
    feeds = [
        {
            "x": RNG.standard_normal(image).astype(np.float32),
            "grid": RNG.uniform(-1.7, 1.7, places).astype(np.float32),
        }
        for image, places in sizes
    ]
    agree(samplers(), to, feeds, atol=1e-4)


def regions() -> onnx.ModelProto:
    """Boxes of images, whose number and sizes are free, averaged and by their largest share."""
    value = helper.make_tensor_value_info
    nodes = [
        node(
            "RoiAlign",
            ["x", "boxes", "which"],
            [f"y_{mode}"],
            mode=mode,
            output_height=2,
            output_width=3,
            sampling_ratio=2,
            spatial_scale=0.5,
            coordinate_transformation_mode=coordinates,
        )
        for mode, coordinates in (("avg", "half_pixel"), ("max", "output_half_pixel"))
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            value("x", TensorProto.FLOAT, ["n", 2, "h", "w"]),
            value("boxes", TensorProto.FLOAT, ["boxes", 4]),
            value("which", TensorProto.INT64, ["boxes"]),
        ],
        [value(f"y_{mode}", TensorProto.FLOAT, ["boxes", 2, 2, 3]) for mode in ("avg", "max")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("to", ["pytorch", "tensorflow"])
def test_regions_of_images_of_free_sizes_are_read(to: str) -> None:
    feeds = []
    for image, boxes in (((2, 2, 9, 12), 5), ((1, 2, 7, 5), 3)):
        corners = np.sort(RNG.uniform(-2, 16, (boxes, 2, 2)), axis=1).reshape(boxes, 4)
        feeds.append(
            {
                "x": RNG.standard_normal(image).astype(np.float32),
                "boxes": corners.astype(np.float32),
                "which": RNG.integers(0, image[0], boxes),
            }
        )
    agree(regions(), to, feeds, atol=1e-5)
