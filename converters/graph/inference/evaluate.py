"""What every value of a graph is, before it runs: one forward pass that gives each value its ``Fact``.

Nodes come in their order, so a size that one node computes is known when the next one asks for it: nothing is
inferred twice, whatever the depth. Sizes come from ``shapes.py``; dtypes from the operators' schemas; what
neither says from ONNX's own inference of the one node. A size that nobody knows is a free size, read off its value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper, shape_inference

from netferry.converters.errors import RefusedError
from netferry.converters.graph.inference import contents
from netferry.converters.graph.inference.dims import SHAPES, Dims
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.ir.facts import Fact, Home
from netferry.converters.graph.ir.names import identifier
from netferry.converters.graph.ir.sizes import Size, TooLong, known
from netferry.converters.graph.registry import Table
from netferry.converters.graph.schema.constants import SIZES
from netferry.converters.graph.schema.opset import OPSET, schema_of
from netferry.converters.signature import NAMELESS

_OPSETS = (helper.make_opsetid("", OPSET),)
_IR_VERSION = helper.find_min_ir_version_for([helper.make_opsetid("", OPSET)])
_SHOWN = 64
"""Integer constants up to this many elements are shown to ONNX's inference (shapes, axes, pads)."""


class Evaluator:
    """The facts of a graph, the homes of its free sizes, and the sizes that are read from tensors.

    ``CONTROL`` holds operators that own subgraphs (``control.py``); ``expand`` may put other nodes in a node's
    place (``expand.py``), which are then evaluated in their turn. ``born`` says which free size came after which.
    ``given_up`` is what the bodies of loops are known not to keep, so that a loop inside a loop does not find it out anew;
    ``guesses`` counts the loops around that are not through with it: what is known then may not last.
    """

    def __init__(self, expand: Any = None) -> None:
        self.facts: dict[ir.Value, Fact] = {}
        self.homes: dict[str, Home] = {}
        self.read: dict[ir.Value, tuple[int | Size, ...]] = {}
        self.born: dict[str, int] = {}
        self.given_up: dict[ir.Graph, list[GivenUp]] = {}
        self.guesses = 0
        self._expand = expand
        self._taken: set[str] = set()
        self._named: dict[str, Size] = {}

    # ---- graphs -------------------------------------------------------------------------------------

    def graph(self, graph: ir.Graph) -> None:
        """Facts for every value of a graph; those of a subgraph's inputs may have been given before."""
        for value in graph.initializers.values():
            self.facts[value] = contents.of_weight(value)
        for value in graph.inputs:
            if value not in self.facts:
                self.facts[value] = self.declared(value)
        for node in list(graph):
            self.step(node)

    def step(self, node: ir.Node) -> None:
        """Facts for a node, or for the nodes that stand in its place from now on."""
        self._name_squeezed(node)
        others = None if self._expand is None else self._expand(node, self)
        if others is None:
            self.node(node)
            return
        budget.look_again(len(others), f"node '{node.name}' ({node.op_type}) is opened into too many")
        for one in others:
            self.step(one)

    def mark(self) -> tuple[int, int]:
        """How many free sizes, and values that are read as sizes, there are so far."""
        return len(self.homes), len(self.read)

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forget the free sizes that were made since ``mark``."""
        homes, read = mark
        while len(self.homes) > homes:
            self._taken.discard(self.homes.popitem()[0])
        while len(self.read) > read:
            self.read.popitem()

    def declared(self, value: ir.Value) -> Fact:
        """What a value's declared type says; sizes of one name are one size."""
        dtype = declared_dtype(value)
        if value.shape is None or dtype is None:
            return Fact(dtype)
        _check_axes(value, len(value.shape))
        return Fact(dtype, tuple(self._declared_dim(value, axis) for axis in range(len(value.shape))))

    def _declared_dim(self, value: ir.Value, axis: int) -> int | Size:
        assert value.shape is not None
        dim = value.shape[axis]
        if isinstance(dim, int):
            return self.fresh(value, axis) if dim < 0 else dim  # old exporters write -1
        if dim.value is None or dim.value == NAMELESS:
            return self.fresh(value, axis)
        known = self._named.get(dim.value)
        if known is None or not all(name in self.homes for name in known.names()):
            known = self._named[dim.value] = self.fresh(value, axis, wish=dim.value)
        return known

    # ---- free sizes ---------------------------------------------------------------------------------

    def fresh(self, value: ir.Value, index: int, *, wish: str = "", element: bool = False) -> Size:
        """A new free size that is read off ``value``: the size of an axis, or an element."""
        kind = "element" if element else "dim"
        name = unique(identifier(wish or f"{value.name}_{kind}{index}"), self._taken)
        self.born[name] = len(self.homes)
        self.homes[name] = Home(value, "element" if element else "dim", index)
        return Size.named(name)

    def settle(self, value: ir.Value, dtype: np.dtype[Any] | None, dims: Dims, **known: Any) -> None:
        """Give a value its fact; a size that is None becomes a free one of its own."""
        _check_axes(value, len(dims or ()))
        if dims is not None and None in dims:
            dims = tuple(self.fresh(value, axis) if dim is None else dim for axis, dim in enumerate(dims))
        self.facts[value] = Fact(dtype, dims, **known)

    def _read(self, node: ir.Node) -> None:
        """Free sizes for the elements of operands that are sizes and whose content is not known."""
        for position in SIZES.get(node.op_type, ()):
            value = node.inputs[position] if position < len(node.inputs) else None
            if value is None or value in self.read or self.facts[value].content is not None:
                continue
            dims = self.facts[value].dims
            count = None if dims is None else dims[0] if dims else 1
            if isinstance(count, int) and count <= max(2 * budget.MOST_AXES, len(node.outputs)):
                self.read[value] = tuple(self.fresh(value, index, element=True) for index in range(count))

    def _name_squeezed(self, node: ir.Node) -> None:
        """Give a Squeeze without axes those of size 1, where its readers show that no free size can be 1.

        A reader that asks for the last axis of all that are left would fail if one more were dropped.
        """
        x = node.inputs[0] if node.op_type == "Squeeze" and not node.domain else None
        dims = None if x is None or x not in self.facts else self.facts[x].dims
        if dims is None or known(dims) or any(value is not None for value in node.inputs[1:]):
            return
        kept = sum(dim != 1 for dim in dims)
        asked = [use.node.attributes.get("axis") for use in node.outputs[0].uses()]
        if any(axis is not None and axis.value == kept - 1 > 0 for axis in asked):
            positions = np.array([position for position, dim in enumerate(dims) if dim == 1], np.int64)
            name = f"{node.outputs[0].name}_axes"
            axes = ir.Value(name=name, const_value=ir.tensor(positions, name=name))
            self.facts[axes] = contents.of_array(positions)
            if isinstance(node.graph, ir.Graph):
                node.graph.register_initializer(axes)
            node.resize_inputs(2)
            node.replace_input_with(1, axes)

    # ---- nodes --------------------------------------------------------------------------------------

    def node(self, node: ir.Node) -> None:
        """Facts for the outputs of a node."""
        budget.see()
        control = CONTROL.get(node.op_type) if not node.domain else None
        if control is not None:
            control(self, node)
            return
        for value in node.inputs:
            if value is not None and value not in self.facts:
                raise RefusedError(
                    f"node '{node.name}' ({node.op_type}) reads '{value.name}', which nothing writes"
                )
        operands = [None if value is None else self.facts[value] for value in node.inputs]
        attributes = plain_attributes(node)
        rule = SHAPES.get(node.op_type) if node.domain in ("", "netferry") else None
        dims = _listed(rule, node, operands, attributes)
        self._read(node)
        dtypes = [dtype_of(node, position, operands) for position in range(len(node.outputs))]
        known = contents.known(node, operands, attributes, dims, dtypes[0])
        if known is not None:
            for value, fact in zip(node.outputs, known, strict=True):
                self.facts[value] = fact
            return
        for position, (dtype, more) in enumerate(self._inferred(node, operands, dims, dtypes)):
            self.settle(
                node.outputs[position], dtype, more, fill=contents.filled(node, operands, attributes, dtype)
            )

    def _inferred(
        self, node: ir.Node, operands: Sequence[Fact | None], dims: Sequence[Dims], dtypes: Sequence[Any]
    ) -> Iterator[tuple[np.dtype[Any] | None, Dims]]:
        """dtype and sizes of each output: ours where we know them, ONNX's where not."""
        wanted = [position for position, value in enumerate(node.outputs) if value.name]
        enough = all(position < len(dims) and dtypes[position] is not None for position in wanted)
        said = {} if enough else infer(node, operands)
        for position, value in enumerate(node.outputs):
            dtype, more = dtypes[position], dims[position] if position < len(dims) else None
            if position in said:
                dtype, more = dtype or said[position][0], more if position < len(dims) else said[position][1]
            elif not enough and dtype is None:
                dtype = declared_dtype(value)
            if more is None and value.shape is not None and dtype is not None:
                more = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
            yield dtype, more


def _check_axes(value: ir.Value, axes: int) -> None:
    if axes > budget.MOST_AXES:
        raise RefusedError(
            f"'{value.name}' has more axes than a tensor can have",
            expected=f"at most {budget.MOST_AXES}",
            received=axes,
        )


GivenUp = tuple[bool, ...] | None
"""Of a state of a loop, which of its sizes no turn keeps; None where not even the rank is kept."""

CONTROL: Table[str, Any] = Table("control")
"""Operators with subgraphs: ``row(evaluator, node)`` settles their outputs."""


def _listed(rule: Any, node: ir.Node, operands: Sequence[Any], attributes: Mapping[str, Any]) -> list[Dims]:
    """The sizes that a rule says, one for each output that it speaks of; none where they are too long to be said."""
    if rule is None:
        return []
    if node.op_type == "Split":
        attributes = {**attributes, "outputs": len(node.outputs)}
    try:
        dims = rule(*operands, **attributes)
    except TooLong:
        return []
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise RefusedError(f"node '{node.name}' ({node.op_type}) does not fit its inputs: {error}") from error
    return dims if isinstance(dims, list) else [dims]


def plain_attributes(node: ir.Node) -> dict[str, Any]:
    """The attributes of a node as Python values."""
    return {name: _plain(a) for name, a in node.attributes.items() if a.type != ir.AttributeType.GRAPH}


def _plain(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.TENSOR:
        return contents.array_of(attribute.value)
    return tuple(attribute.value) if attribute.type in _LISTS else attribute.value


_LISTS = (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS)


# ---- dtypes ---------------------------------------------------------------------------------------------


def declared_dtype(value: ir.Value) -> np.dtype[Any] | None:
    """The dtype of a tensor; None of anything else."""
    if not isinstance(value.type, ir.TensorType) or value.type.dtype == ir.DataType.UNDEFINED:
        return None
    return contents.numpy_dtype(value.type.dtype)


def dtype_of(node: ir.Node, position: int, operands: Sequence[Fact | None]) -> np.dtype[Any] | None:
    """The dtype of an output where the schema binds it to an input's or has one alone; None where it does not."""
    if node.domain == "netferry":
        return next(fact.dtype for fact in operands if fact is not None)
    if node.op_type == "Cast":
        return contents.numpy_dtype(ir.DataType(node.attributes["to"].as_int()))
    bound = _bindings(node.domain, node.op_type, position)
    if isinstance(bound, np.dtype):
        return bound
    for index in bound:
        fact = operands[index] if index < len(operands) else None
        if fact is not None:
            return fact.dtype
    return None


@cache
def _bindings(domain: str, op_type: str, position: int) -> np.dtype[Any] | tuple[int, ...]:
    """The inputs whose dtype an output has, or its only dtype."""
    schema = schema_of(domain, op_type)
    if schema is None or position >= len(schema.outputs):
        return ()
    word = schema.outputs[position].type_str
    allowed = next((t.allowed_type_strs for t in schema.type_constraints if t.type_param_str == word), [word])
    if len(allowed) == 1 and allowed[0] in _TYPES:
        return _TYPES[allowed[0]]
    return tuple(index for index, x in enumerate(schema.inputs) if x.type_str == word)


_TYPES = {
    f"tensor({word})": np.dtype(name)
    for word, name in (
        ("bool", "bool"),
        ("int64", "int64"),
        ("int32", "int32"),
        ("float", "float32"),
        ("string", "str"),
    )
}


# ---- ONNX's own inference ---------------------------------------------------------------------------------


def infer(node: ir.Node, operands: Sequence[Fact | None]) -> dict[int, tuple[np.dtype[Any] | None, Dims]]:
    """What ONNX's inference of one node says of its outputs: place -> (dtype, sizes)."""
    schema = schema_of(node.domain, node.op_type)
    if schema is None:
        return {}
    free: dict[str, Size] = {}
    types: dict[str, onnx.TypeProto] = {}
    shown: dict[str, onnx.TensorProto] = {}
    for position, (value, fact) in enumerate(zip(node.inputs, operands, strict=True)):
        if value is None or fact is None:
            continue
        proto = type_proto(value, fact, free)
        if proto is None:
            return {}  # made by an operator that nobody knows
        types[f"i{position}"] = proto
        array = fact.constant
        if array is not None and array.size <= _SHOWN and array.dtype.kind in "iufb":
            shown[f"i{position}"] = numpy_helper.from_array(array, f"i{position}")
    try:
        found = shape_inference.infer_node_outputs(
            schema, node_proto(node), types, shown, opset_imports=list(_OPSETS), ir_version=_IR_VERSION
        )
    except shape_inference.InferenceError as error:
        reason = str(error).strip().rsplit("] ", 1)[-1].splitlines()[0]
        raise RefusedError(
            f"node '{node.name}' ({node.op_type}) does not fit its inputs: {reason}"
        ) from error
    named = {
        int(name[1:]): proto for name, proto in found.items() if name
    }  # an output that nobody asked for has none
    return {position: _said(node.outputs[position], proto, free) for position, proto in named.items()}


def type_proto(value: ir.Value, fact: Fact, free: dict[str, Size]) -> onnx.TypeProto | None:
    """A value's type as ONNX writes it; ``free`` collects its free sizes by the text they are written as."""
    if fact.dtype is None:
        return None if value.type is None else ir.serde.serialize_type(value.type)
    number = contents.onnx_dtype(fact.dtype).value
    if fact.dims is None:
        return helper.make_tensor_type_proto(number, None)
    free.update((str(dim), dim) for dim in fact.dims if isinstance(dim, Size))
    return helper.make_tensor_type_proto(number, [d if isinstance(d, int) else str(d) for d in fact.dims])


def node_proto(node: ir.Node) -> onnx.NodeProto:
    """The node alone, its values called by their places: i0, i1, o0."""
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=node.name or "")
    proto.input.extend("" if value is None else f"i{position}" for position, value in enumerate(node.inputs))
    proto.output.extend(f"o{position}" if value.name else "" for position, value in enumerate(node.outputs))
    proto.attribute.extend(ir.serde.serialize_attribute(attribute) for attribute in node.attributes.values())
    return proto


def _said(
    value: ir.Value, proto: onnx.TypeProto, free: Mapping[str, Size]
) -> tuple[np.dtype[Any] | None, Dims]:
    if not proto.HasField("tensor_type"):
        if proto.WhichOneof("value"):
            value.type = ir.serde.deserialize_type_proto_for_type(proto)
        return None, None
    tensor = proto.tensor_type
    dtype = contents.numpy_dtype(ir.DataType(tensor.elem_type)) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return dtype, None
    return dtype, tuple(
        dim.dim_value if dim.HasField("dim_value") else free.get(dim.dim_param) for dim in tensor.shape.dim
    )
