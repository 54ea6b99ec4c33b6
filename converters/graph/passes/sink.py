"""Rearrangements move behind operators that do not care for them, to meet what undoes them."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.sizes import product
from netferry.converters.graph.passes.edit import Editor
from netferry.converters.graph.passes.rearrange import MOVES, Rearrangement, apply, is_move, picked, source_of

LAST_AXIS = frozenset(("Linear", "LayerNormalization", "RMSNormalization"))
"""Operators that act along the last axis: what rearranges the others alone may pass."""


def sink(edit: Editor) -> None:
    """Move a rearrangement behind an operator that does not care, where another one follows.

    1. x -> Reshape (B * T, C) -> Linear -> Relu -> Reshape    becomes    x -> Linear -> Relu -> Reshape -> Reshape
    2. x -> Transpose -> Gather one place                      becomes    x -> Gather -> Transpose of what is left
    """
    ends: dict[ir.Value, bool] = {}
    for node in edit.nodes():
        if _does_not_care(node):  # 1
            edit.attempt(_pass, node, ends)
        elif node.op_type == "Gather" and not node.domain:  # 2
            edit.attempt(_take_first, node)


def _does_not_care(node: ir.Node) -> bool:
    """Elementwise operators, and those that leave all axes but the last alone."""
    return node.domain in ("", "netferry") and (node.op_type in layout.POINTWISE or node.op_type in LAST_AXIS)


def _pass(edit: Editor, node: ir.Node, ends: dict[ir.Value, bool]) -> None:
    y = node.outputs[0]
    if len(node.outputs) != 1 or edit.facts[y].dims is None or not _leads_on(edit, y, ends):
        return
    moves = [
        _move(edit, value) for value in node.inputs if value is not None and edit.constant(value) is None
    ]
    first = moves[0] if moves else None
    if first is None or any(move is None or not _alike(edit, move, first) for move in moves):
        return
    if not (_along_last if node.op_type in LAST_AXIS else _each_alone)(edit, node, first):
        return
    # From here on the last axis counts from the end, whatever the rank.
    attributes = {**node.attributes, **({"axis": -1} if "axis" in node.attributes else {})}
    made = edit.add(
        node, node.op_type, [_behind(edit, value) for value in node.inputs], attributes, domain=node.domain
    )
    if first.op_type == "Transpose":
        moved = edit.transpose(node, made, first.attributes["perm"].as_ints())
    else:
        moved = edit.reshape(node, made, edit.dims(y))
    edit.replace(y, moved)
    if not moved.is_graph_output():
        made.name, moved.name = moved.name, made.name


def _along_last(edit: Editor, node: ir.Node, move: ir.Node) -> bool:
    """Whether an operator along the last axis may come before the rearrangement, which leaves that axis alone."""
    last = len(edit.dims(node.outputs[0])) - 1
    return _keeps_last(edit, move) and node.attributes.get_int("axis", -1) in (-1, last)


def _each_alone(edit: Editor, node: ir.Node, move: ir.Node) -> bool:
    """Whether an elementwise operator may come before the rearrangement: nothing is broadcast across it."""
    constants = [value for value in node.inputs if edit.constant(value) is not None]
    same = edit.dims(node.outputs[0]) == edit.dims(move.outputs[0])
    return same and all(_fits(edit, value, move) for value in constants)


def _leads_on(edit: Editor, value: ir.Value, ends: dict[ir.Value, bool]) -> bool:
    """Whether the one thing that happens to a value, past operators that do not care, is a rearrangement.

    ``ends`` remembers it for every value on the way: what comes behind a node changes only after its turn.
    """
    way = []
    while value not in ends:
        way.append(value)
        reader = edit.reader(value)
        if reader is None or is_move(edit, reader) or not _does_not_care(reader) or len(reader.outputs) != 1:
            ends[value] = reader is not None and is_move(edit, reader)
            break
        value = reader.outputs[0]
    ends.update(dict.fromkeys(way, ends[value]))
    return ends[value]


def _move(edit: Editor, value: ir.Value | None) -> ir.Node | None:
    """The rearrangement that makes a value for one reader alone."""
    node = edit.maker(value, *MOVES)
    if value is None or node is None or (node.op_type == "Transpose" and "perm" not in node.attributes):
        return None
    return node if is_move(edit, node) and edit.inner(value) else None


def _behind(edit: Editor, value: ir.Value | None) -> ir.Value | None:
    """What an operand is before it is rearranged; a constant as it is."""
    move = _move(edit, value)
    return value if move is None else source_of(move)


def _alike(edit: Editor, one: ir.Node, other: ir.Node) -> bool:
    """Whether two nodes rearrange in the same way."""
    if (one.op_type == "Transpose") != (other.op_type == "Transpose"):
        return False
    if one.op_type == "Transpose" and one.attributes["perm"].as_ints() != other.attributes["perm"].as_ints():
        return False
    return all(
        edit.dims(a) == edit.dims(b)
        for a, b in ((one.inputs[0], other.inputs[0]), (one.outputs[0], other.outputs[0]))
    )


def _keeps_last(edit: Editor, node: ir.Node) -> bool:
    """Whether the last axis stays what and where it is."""
    moves = Rearrangement(edit.dims(source_of(node)))
    if len(moves.source) < 2 or not apply(edit, moves, node) or not moves.result:
        return False
    return bool(moves.source[-1]) and moves.source[-1] == moves.result[-1]


def _fits(edit: Editor, value: Any, move: ir.Node) -> bool:
    """Whether a constant operand means the same before the rearrangement as behind it."""
    dims, source = edit.dims(value), edit.dims(source_of(move))
    if product(dims) == 1:
        return len(dims) <= len(source)
    rank = min(len(source), len(edit.dims(move.outputs[0])))
    return product(dims[:-1]) == 1 and len(dims) <= rank and _keeps_last(edit, move)


def _take_first(edit: Editor, node: ir.Node) -> None:
    value = node.inputs[0]
    move = _move(edit, value)
    found = None if value is None else picked(edit, node, value)
    if move is None or found is None or move.op_type != "Transpose":
        return
    perm = list(move.attributes["perm"].as_ints())
    axis = perm.pop(found[0])
    left = [position - (position > axis) for position in perm]
    made = edit.add(node, "Gather", [source_of(move), node.inputs[1]], {"axis": axis})
    edit.replace(node.outputs[0], made if left == sorted(left) else edit.transpose(node, made, left))
