"""Small ONNX models written by hand, for the tests of what stands round the exporters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Dims],
    outputs: dict[str, Dims],
    weights: dict[str, np.ndarray] | None = None,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(name, dtype, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def dense(factor: float = 1.0, out: str = "y") -> onnx.ModelProto:
    """x (batch, 3) times a random matrix; ``factor`` plants a fault."""
    weight = np.random.default_rng(5).standard_normal((3, 4)).astype(np.float32) * np.float32(factor)
    return model(
        [helper.make_node("MatMul", ["x", "w"], [out])],
        {"x": ["batch", 3]},
        {out: ["batch", 4]},
        {"w": weight},
    )


def unary(op: str, **attributes: object) -> onnx.ModelProto:
    """One operator from x (batch, 6) to y."""
    return model([helper.make_node(op, ["x"], ["y"], **attributes)], {"x": ["batch", 6]}, {"y": ["batch", 6]})


def saved(folder: Path, proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
    path = folder / name
    onnx.save(proto, path)
    return path


def two_inputs() -> onnx.ModelProto:
    """a - b."""
    return model([helper.make_node("Sub", ["a", "b"], ["y"])], {"a": [3], "b": [3]}, {"y": [3]})
