"""Small edits of ONNX graphs: attributes, weights, nodes put in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from sweep.case import Array


def copied(proto: onnx.ModelProto) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(proto)
    return other


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    for one in node.attribute:
        if one.name == name:
            value = helper.get_attribute_value(one)
            return value.decode() if isinstance(value, bytes) else value
    return default


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    kept = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def weights(proto: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def set_weight(proto: onnx.ModelProto, name: str, array: Array) -> None:
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
            return
    proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))


def own_weight(proto: onnx.ModelProto, node: onnx.NodeProto, place: int, array: Array) -> None:
    """Give this input of this node alone another constant."""
    name = f"{node.input[place]}_changed"
    node.input[place] = name
    set_weight(proto, name, array)


def constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its Constant nodes as initializers, so that one kind of edit reaches all."""
    proto = copied(proto)
    kept = []
    for node in proto.graph.node:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(value, onnx.TensorProto):
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            proto.graph.initializer.append(tensor)
        else:
            kept.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return proto


def types(proto: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Element type and rank of each value, as far as ONNX infers them."""
    known = shape_inference.infer_shapes(proto).graph
    return {
        value.name: (value.type.tensor_type.elem_type, len(value.type.tensor_type.shape.dim))
        for value in (*known.input, *known.value_info, *known.output)
        if value.type.HasField("tensor_type")
    }


def insert_after(proto: onnx.ModelProto, value: str, nodes: list[onnx.NodeProto]) -> None:
    """Put ``nodes`` behind ``value``: they read 'IN' and write 'OUT'; every reader of the value reads that instead."""
    fresh = f"{value}_inserted"
    producers = [place for place, node in enumerate(proto.graph.node) if value in node.output]
    if any(one.name == value for one in proto.graph.output):  # the output keeps its name
        before = f"{value}_before"
        producer = proto.graph.node[producers[0]]
        producer.output[list(producer.output).index(value)] = before
        for node in proto.graph.node:
            for place, name in enumerate(node.input):
                if name == value:
                    node.input[place] = before
        source, fresh = before, value
    else:
        source = value
        for node in proto.graph.node:
            for place, name in enumerate(node.input):
                if name == value:
                    node.input[place] = fresh
    where = producers[0] + 1 if producers else 0
    for node in nodes:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = {"IN": source, "OUT": fresh}.get(
                    name, f"{value}_{name}" if name.startswith("t_") else name
                )
    for offset, node in enumerate(nodes):
        proto.graph.node.insert(where + offset, node)


def drop(proto: onnx.ModelProto, place: int) -> None:
    """Make the node an Identity of its first input."""
    node = proto.graph.node[place]
    proto.graph.node[place].CopyFrom(helper.make_node("Identity", node.input[:1], node.output[:1]))


def floats(proto: onnx.ModelProto) -> Iterator[tuple[str, int]]:
    """The float32 values between nodes, with their ranks, and the inputs; not what is in constants."""
    known = types(proto)
    made = [name for node in proto.graph.node for name in node.output]
    for name in (*(one.name for one in proto.graph.input), *made):
        kind, rank = known.get(name, (0, 0))
        if kind == onnx.TensorProto.FLOAT and name:
            yield name, rank
