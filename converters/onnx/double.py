"""An ONNX model in float64: the graph widened, run by ONNX's own reference evaluator."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

from netferry.converters.errors import CannotCarry, first_line
from netferry.converters.graph import versions
from netferry.converters.onnx.kernels import kernels
from netferry.converters.onnx.live import proto
from netferry.converters.signature import Array

Change = Callable[[str, Array], Array]

NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
KEPT: dict[str, tuple[int, ...]] = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs that the standard has in float32 alone."""


class Evaluator:
    """A widened graph that runs; ``run(arrays)`` gives outputs by name, in order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        weights = {tensor.name for tensor in model.graph.initializer}
        self.inputs = [value.name for value in model.graph.input if value.name not in weights]
        self.outputs = [value.name for value in model.graph.output]
        self._evaluator = ReferenceEvaluator(model, new_ops=kernels())

    def run(self, arrays: Sequence[Array]) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            values = self._evaluator.run(None, dict(zip(self.inputs, map(_wide, arrays), strict=True)))
        return dict(zip(self.outputs, map(np.asarray, values), strict=True))


def as_float64(model: Any, change: Change | None = None) -> Evaluator:
    """The model (in memory, or the path of its file) in float64; ``change`` may move each widened weight.

    The opset is raised first: below 13 the evaluator's Softmax is wrong, and BatchNormalization of 9.

    Raises:
        CannotCarry: the graph cannot be brought to the newest opset, or has operators of another domain.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(_risen(model))
    _widen_graph(wide.graph, change)
    try:
        return Evaluator(wide)
    except Exception as error:
        raise CannotCarry(
            f"ONNX's reference evaluator does not take the graph ({first_line(error)})"
        ) from error


def weights(model: Any) -> dict[str, Array]:
    """Every initializer and constant of floats by name, as it is."""
    graph = _loaded(model).graph
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in _nodes(graph):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                found[node.output[0]] = attribute.t
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in found.items()
        if tensor.data_type in (*NARROW, 11)
    }


def size(model: Any) -> int:
    """The number of weights; what lies outside the file is counted and not read."""
    is_path = isinstance(model, str | os.PathLike)
    graph = (onnx.load(Path(model), load_external_data=False) if is_path else proto(model)).graph
    return sum(math.prod(t.dims) for t in graph.initializer if t.data_type in (*NARROW, TensorProto.DOUBLE))


def constants(model: Any) -> set[float]:
    """Float attributes, and constants of one element."""
    loaded = _loaded(model)
    found = {
        attribute.f for node in _nodes(loaded.graph) for attribute in node.attribute if attribute.type == 1
    }
    single = (array for array in weights(loaded).values() if array.size == 1)
    return found | {float(array.reshape(-1)[0]) for array in single}


def _loaded(model: Any) -> onnx.ModelProto:
    if isinstance(model, str | os.PathLike):
        return onnx.load(Path(model))
    return proto(model)


def _risen(model: Any) -> onnx.ModelProto:
    loaded = inline_local_functions(_loaded(model))
    try:
        return ir.to_proto(versions.raised(ir.from_proto(loaded)))
    except Exception as error:
        raise CannotCarry(f"the opset cannot be raised ({first_line(error)})") from error


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _widen_graph(graph: onnx.GraphProto, change: Change | None) -> None:
    kept = {
        node.input[place]
        for node in _nodes(graph)
        for place in KEPT.get(node.op_type, ())
        if place < len(node.input)
    }
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _widen_tensor(tensor, change)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        _widen_node(node, kept, change)


def _widen_node(node: onnx.NodeProto, kept: set[str], change: Change | None) -> None:
    """A constant's content, a dtype among the attributes, and the graphs within."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i in NARROW:
            attribute.i = TensorProto.DOUBLE
        elif attribute.type == onnx.AttributeProto.GRAPH:
            _widen_graph(attribute.g, change)
        elif attribute.type == onnx.AttributeProto.TENSOR and not kept.intersection(node.output):
            attribute.t.name = attribute.t.name or node.output[0]
            _widen_tensor(attribute.t, change)
    if node.op_type == "Constant" and not kept.intersection(node.output):
        for attribute in list(node.attribute):
            if attribute.name in ("value_float", "value_floats"):
                content: Any = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = numpy_helper.from_array(np.asarray(content, np.float64))
                node.attribute.remove(attribute)
                node.attribute.append(helper.make_attribute("value", tensor))


def _widen_tensor(tensor: onnx.TensorProto, change: Change | None) -> None:
    if tensor.data_type not in NARROW:
        return
    array = numpy_helper.to_array(tensor).astype(np.float64)
    moved = array if change is None else change(tensor.name, array)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(moved).reshape(array.shape), tensor.name))


def _wide(array: Array) -> Array:
    narrow = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return array.astype(np.float64) if narrow else array
