"""Weights that a file holds as small integers stay so: they are dequantised when the model runs.

DequantizeLinear(q) of a constant is known before the model runs, as floats of four times the bytes. Where nothing but
products and lookups read it, it is taken for unknown again, and the arriving model holds ``q`` and its scale.

1. DequantizeLinear(q) -> Conv, MatMul, Gemm    stays as it is, with Reshape and Transpose in between
2. DequantizeLinear(q) -> Gather    becomes    Gather(q) -> DequantizeLinear: of the rows alone that are looked up
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.inference import contents
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.passes import contrib
from netferry.converters.graph.passes.edit import Editor
from netferry.converters.graph.passes.rearrange import MOVES

_STORED = {np.dtype(np.int8): ("int8", "int4", "int2"), np.dtype(np.uint8): ("uint8", "uint4", "uint2")}
"""As what integers of up to eight bits are held: no framework computes in fewer."""

_PRODUCTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1)}
"""Operators that take a weight which is computed, and at which inputs."""

_SCALED = frozenset(("DequantizeLinear", "QuantizeLinear"))
_HANDED_ON = frozenset(("Gather", *MOVES))
_QUANTIZED = frozenset(("DequantizeLinear", "ConvInteger", "QLinearConv"))


class Use(Protocol):
    """A node that reads a value, and as which of its inputs."""

    @property
    def node(self) -> ir.Node: ...

    @property
    def idx(self) -> int: ...


def holds_integers(model: ir.Model) -> bool:
    """Whether a model may have weights that are stored as integers."""
    nodes = chain(model.graph.all_nodes(), *(function.all_nodes() for function in model.functions.values()))
    return any(contrib.is_contrib(node) or node.op_type in _QUANTIZED for node in nodes)


def keep(edit: Editor) -> int:
    """Every weight of small integers, and how many those are; inside the bodies of loops they are floats, made once."""
    for node in edit.graph.all_nodes():
        if node.op_type in _SCALED and not node.domain:
            _fix(edit, node.inputs[1])
    kept = 0
    for node in list(edit.graph):
        if node.op_type == "DequantizeLinear" and not node.domain and _is_smaller(edit, node):
            kept += _keep(edit, node)
    return kept


def _fix(edit: Editor, scale: ir.Value | None) -> None:
    """A scale belongs to integers, which are not trained."""
    while scale is not None:
        if edit.facts[scale].trainable:
            edit.facts[scale] = replace(edit.facts[scale], trainable=False)
        maker = scale.producer()
        scale = maker.inputs[0] if maker is not None and maker.op_type in _HANDED_ON else None


def _is_smaller(edit: Editor, node: ir.Node) -> bool:
    """Whether integers and their scales take less room than the floats that they stand for."""
    parts = [edit.constant(value) for value in node.inputs if value is not None]
    floats = edit.constant(node.outputs[0])
    known = floats is not None and all(part is not None for part in parts)
    return (
        known and _held_as(parts[0].dtype) is not None and sum(part.nbytes for part in parts) < floats.nbytes
    )


def _held_as(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    return next((held for held, names in _STORED.items() if dtype.name in names), None)


def _keep(edit: Editor, node: ir.Node) -> bool:
    """Whether the weight is an integer from here on."""
    weight = node.outputs[0]
    lookups = [use.node for use in weight.uses() if _looks_up(edit, node, use)]
    readers = [use for use in _readers(weight) if use is None or use.node not in lookups]
    if not all(use is not None and _multiplies(use) for use in readers):
        return False
    for position in (0, 2):
        _hold(edit, node, position)
    for lookup in lookups:
        _look_up(edit, node, lookup)
    if readers:
        _forget(edit, weight)
    return bool(readers or lookups)


def _readers(value: ir.Value) -> Iterator[Use | None]:
    """What reads a value, rearranged or not; None for who reads an output of the graph."""
    if value.is_graph_output():
        yield None
    for use in value.uses():
        if _rearranges(use):
            yield from _readers(use.node.outputs[0])
        else:
            yield use


def _rearranges(use: Use) -> bool:
    return use.node.op_type in MOVES and not use.node.domain and use.idx == 0


def _multiplies(use: Use) -> bool:
    return use.idx in _PRODUCTS.get(use.node.op_type, ()) and not use.node.domain


def _hold(edit: Editor, node: ir.Node, position: int) -> None:
    """Integers of fewer bits as bytes, each of its own."""
    value = node.inputs[position] if position < len(node.inputs) else None
    if value is None:
        return
    fact = edit.facts[value]
    assert fact.content is not None
    held = _held_as(fact.content.dtype)
    if held not in (None, fact.content.dtype):
        made = replace(fact, dtype=held, content=fact.content.astype(held))
        node.replace_input_with(position, edit.value(made, str(value.name)))


def _forget(edit: Editor, value: ir.Value) -> None:
    """Take a constant for unknown, and all that it is rearranged into."""
    edit.facts[value] = Fact(edit.dtype(value), edit.dims(value))
    for use in value.uses():
        if _rearranges(use):
            edit.evaluator.node(use.node)
            _forget(edit, use.node.outputs[0])


# ---- lookups ----------------------------------------------------------------------------------------------


def _looks_up(edit: Editor, node: ir.Node, use: Use) -> bool:
    """Whether the weight is a table of which rows are taken, such that each row has its own scales."""
    lookup = use.node
    if (
        lookup.op_type != "Gather"
        or lookup.domain
        or use.idx != 0
        or edit.facts[lookup.outputs[0]].dims is None
    ):
        return False
    axis, rows = _axes(edit, node, lookup)
    scales, rank = edit.dims(node.inputs[1]), len(edit.dims(node.outputs[0]))
    return axis != rows or scales in ((), (1,)) or (len(scales) == 1 and rank == 2)


def _axes(edit: Editor, node: ir.Node, lookup: ir.Node) -> tuple[int, int]:
    """The axis along which scales differ, and that of the lookup."""
    rank = len(edit.dims(node.outputs[0]))
    return node.attributes.get_int("axis", 1) % rank, lookup.attributes.get_int("axis", 0) % rank


def _look_up(edit: Editor, node: ir.Node, lookup: ir.Node) -> None:
    """Integers, scales and zero points of the rows. A scale for each row is one for a block that is the row."""
    q, *scaling = node.inputs
    ids = lookup.inputs[1]
    axis, rows = _axes(edit, node, lookup)
    block, scales = node.attributes.get_int("block_size", 0), edit.dims(scaling[0])
    of_rows = axis == rows and scales not in ((), (1,))
    if of_rows:
        axis = 1 - rows
        block = edit.dims(q)[axis]
    behind = axis + len(edit.dims(ids)) - 1 if axis > rows else axis

    def taken(x: ir.Value | None) -> ir.Value | None:
        if x is None:
            return None
        made: ir.Value = edit.add(lookup, "Gather", [x, ids], {"axis": rows if len(edit.dims(x)) > 1 else 0})
        if of_rows and x is not q:
            made = edit.add(lookup, "Unsqueeze", [made, places])
        return made

    places = edit.value(contents.of_array(np.array([behind])), f"{lookup.outputs[0].name}_axes")
    if of_rows or len(scales) > 1:
        scaling = [taken(part) for part in scaling]
    given = {**node.attributes, "axis": behind, "block_size": block}
    edit.replace(lookup.outputs[0], edit.add(lookup, "DequantizeLinear", [taken(q), *scaling], given))
