"""An ONNX model in float64: the graph widened, run by ONNX's own reference evaluator."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from netferry.converters.errors import CannotConvert, first_line
from netferry.converters.graph.passes import normalize, versions
from netferry.converters.graph.schema.opset import OPSET
from netferry.converters.onnx.live import proto
from netferry.converters.onnx.reference.evaluator import KINDS, Evaluator
from netferry.converters.rounding import Rounding
from netferry.converters.signature import Array

Change = Callable[[str, Array], Array]

NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
KEPT: dict[str, tuple[int, ...]] = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs that the standard has in float32 alone."""

WINDOWS = ("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix")
"""Operators that make floats of a dtype that is float32 where they do not say it."""

HIDDEN: dict[str, float] = {"Gelu": 0.5**0.5, "BiasGelu": 0.5**0.5, "FastGelu": 0.044715}
"""Constants that an operator has without an attribute for them."""


@dataclass(frozen=True)
class Raised:
    """A model at the newest opset, to be widened several times."""

    proto: onnx.ModelProto


def raised(model: Any) -> Raised:
    """``model`` once and for all: what raises its opset is let go of."""
    made = Raised(_raised(model))
    gc.collect()  # graphs point back at their nodes, and so hold the weights that they were made of
    return made


def as_float64(model: Any, change: Change | None = None) -> Evaluator:
    """The model (in memory, ``Raised``, or the path of its file) in float64; ``change`` may move each widened weight.

    The opset is raised first: below 13 the evaluator's Softmax is wrong, and BatchNormalization of 9. What is of
    onnxruntime's own domain is opened into operators that the evaluator has.

    Raises:
        CannotConvert: the graph cannot be brought to the newest opset, or has operators of another domain.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(model.proto if isinstance(model, Raised) else _raised(model))
    _widen_graph(wide.graph, change)
    try:
        return Evaluator(wide)
    except Exception as error:
        raise CannotConvert(
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
    """The number of weights, integers among them; what lies outside the file is counted and not read."""
    is_path = isinstance(model, str | os.PathLike)
    graph = (onnx.load(Path(model), load_external_data=False) if is_path else proto(model)).graph
    return sum(math.prod(tensor.dims) for tensor in graph.initializer)


def made_of_sizes(model: Any) -> set[str]:
    """The outputs that no number of an input reaches: they are constants, or made of sizes."""
    graph = _loaded(model).graph
    moving = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        read = {*node.input, *_read_inside(node)}
        if node.op_type not in ("Shape", "Size") and moving & read:
            moving.update(node.output)
    return {value.name for value in graph.output} - moving


def constants(model: Any) -> set[float]:
    """Float attributes, those at their defaults too, constants of one element, and scales of a Resize."""
    loaded = _loaded(model)
    nodes = list(_nodes(loaded.graph))
    found = {value for node in nodes for value in _attribute_floats(node)}
    found |= {HIDDEN[node.op_type] for node in nodes if node.op_type in HIDDEN}
    kept = _kept(loaded.graph)
    single = (array for name, array in weights(loaded).items() if array.size == 1 or name in kept)
    return found | {float(value) for array in single for value in array.reshape(-1)}


def narrowest(model: Any) -> str:
    """The narrowest float dtype that the graph computes in."""
    loaded = _loaded(model)
    kinds = {tensor.data_type for tensor in loaded.graph.initializer}
    kinds |= {v.type.tensor_type.elem_type for v in (*loaded.graph.input, *loaded.graph.output)}
    for node in _nodes(loaded.graph):
        kinds |= {a.i for a in node.attribute if a.name in ("to", "dtype")}
        kinds |= {a.t.data_type for a in node.attribute if a.type == onnx.AttributeProto.TENSOR}
    narrowest_first = (TensorProto.BFLOAT16, TensorProto.FLOAT16, TensorProto.FLOAT)
    found = next((kind for kind in narrowest_first if kind in kinds), None)
    if found is None:
        return "float64" if TensorProto.DOUBLE in kinds else "float32"
    return str(helper.tensor_dtype_to_np_dtype(found).name)


def run_rounded(wide: Evaluator, arrays: Sequence[Array], u: float, seed: int) -> dict[str, Array]:
    """Outputs of a float64 run whose every node rounds to ``u`` by chance."""
    return wide.run(arrays, Rounding(u, seed, KINDS))


def _attribute_floats(node: onnx.NodeProto) -> Iterator[float]:
    """Of the node as it stands, and as its schema completes it."""
    for attribute in (*node.attribute, *_defaults(node)):
        yield from (attribute.f,) if attribute.type == onnx.AttributeProto.FLOAT else attribute.floats


def _defaults(node: onnx.NodeProto) -> Iterator[onnx.AttributeProto]:
    """The float attributes that a node leaves at their defaults."""
    if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type):
        return
    own = {attribute.name for attribute in node.attribute}
    for name, attribute in onnx.defs.get_schema(node.op_type).attributes.items():
        value = attribute.default_value
        if name not in own and value.type in (onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS):
            yield value


def _loaded(model: Any) -> onnx.ModelProto:
    if isinstance(model, str | os.PathLike):
        return onnx.load(Path(model))
    return proto(model)


def _raised(model: Any) -> onnx.ModelProto:
    loaded = inline_local_functions(_loaded(model))
    try:
        risen = versions.raised(ir.from_proto(loaded))
        risen.opset_imports[""] = OPSET  # what means the same there; the evaluator has no old quantisers
        return ir.to_proto(normalize.standard(risen))
    except Exception as error:
        raise CannotConvert(f"the opset cannot be raised ({first_line(error)})") from error


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _read_inside(node: onnx.NodeProto) -> Iterator[str]:
    """What the bodies of a node read, of themselves and of what is around them."""
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            yield from (value.name for value in inner.output)
            yield from (name for each in _nodes(inner) for name in each.input)


def _kept(graph: onnx.GraphProto) -> set[str]:
    """The tensors that stay in float32."""
    return {
        node.input[index]
        for node in _nodes(graph)
        for index in KEPT.get(node.op_type, ())
        if index < len(node.input)
    }


def _widen_graph(graph: onnx.GraphProto, change: Change | None) -> None:
    kept = _kept(graph)
    for tensor in graph.initializer:
        _widen_tensor(tensor, change, kept=tensor.name in kept)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        _widen_node(node, kept, change)


def _widen_node(node: onnx.NodeProto, kept: set[str], change: Change | None) -> None:
    """A constant's content, a dtype among the attributes, and the graphs within."""
    if change is not None:
        _change_attributes(node, change)
    if node.op_type in WINDOWS and not any(a.name == "output_datatype" for a in node.attribute):
        node.attribute.append(helper.make_attribute("output_datatype", TensorProto.FLOAT))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1))
        node.attribute.append(helper.make_attribute("value", zero))
    if node.op_type == "SequenceEmpty" and not node.attribute:
        node.attribute.append(helper.make_attribute("dtype", TensorProto.DOUBLE))
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype", "output_datatype") and attribute.i in NARROW:
            attribute.i = TensorProto.DOUBLE
        elif attribute.type == onnx.AttributeProto.GRAPH:
            _widen_graph(attribute.g, change)
        elif attribute.type == onnx.AttributeProto.TENSOR:
            attribute.t.name = node.output[0]
            _widen_tensor(attribute.t, change, kept=bool(kept.intersection(node.output)))
    if node.op_type == "Constant" and not kept.intersection(node.output):
        for attribute in list(node.attribute):
            if attribute.name in ("value_float", "value_floats"):
                content: Any = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = numpy_helper.from_array(np.asarray(content, np.float64))
                node.attribute.remove(attribute)
                node.attribute.append(helper.make_attribute("value", tensor))


def _change_attributes(node: onnx.NodeProto, change: Change) -> None:
    """Float attributes, which the format holds in float32, moved to another float32."""
    node.attribute.extend([attribute for attribute in _defaults(node) if attribute.name])
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.FLOAT:
            attribute.f = float(change("", np.asarray(attribute.f, np.float64)))
        elif attribute.type == onnx.AttributeProto.FLOATS:
            attribute.floats[:] = [float(change("", np.asarray(f, np.float64))) for f in attribute.floats]


def _widen_tensor(tensor: onnx.TensorProto, change: Change | None, kept: bool = False) -> None:
    """``kept`` tensors stay in their own dtype; a change moves each of their elements as a constant."""
    if tensor.data_type not in NARROW or (kept and change is None):
        return
    plain = numpy_helper.to_array(tensor)
    array = plain.astype(np.float64)
    if change is not None:
        array = _each(array, change) if kept else np.asarray(change(tensor.name, array))
    made = np.ascontiguousarray(array, plain.dtype if kept else np.float64).reshape(plain.shape)
    tensor.CopyFrom(numpy_helper.from_array(made, tensor.name))


def _each(array: Array, change: Change) -> Array:
    moved = [change("", np.asarray(value)) for value in array.reshape(-1)]
    return np.asarray(moved).reshape(array.shape)
