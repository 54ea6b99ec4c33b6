"""Rearrangements: chains of Reshape, Transpose, Squeeze, Unsqueeze and Flatten as one thing.

Every axis of the source is a product of atoms. A Reshape splits and merges atoms, a Transpose permutes them, and what a
whole chain does is the atoms of the source against those of the result. Written back, it is at most one split, one
permutation and one merge; a chain that undoes itself is nothing. Sizes are expressions: (batch * heads, ...) splits into
batch and heads without a number being known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from netferry.converters.graph import layout
from netferry.converters.graph.edit import Editor
from netferry.converters.graph.sizes import product

MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")


class Atom:
    """A factor of an axis, which moves as a whole. Two atoms of one size are two things."""

    __slots__ = ("size",)

    def __init__(self, size: Any) -> None:
        self.size = size


class Rearrangement:
    """Atoms by the axes of the source, and by the axes of the result; an axis of size 1 has none."""

    def __init__(self, dims: Sequence[Any]) -> None:
        self.source = [[] if dim == 1 else [Atom(dim)] for dim in dims]
        self.result = [list(axis) for axis in self.source]

    def transpose(self, perm: Sequence[int]) -> None:
        self.result = [self.result[axis] for axis in perm]

    def reshape(self, dims: Sequence[Any]) -> bool:
        """Regroup the atoms; False where the new axes do not fall on products of whole atoms."""
        rest = deque(atom for axis in self.result for atom in axis)
        axes = []
        for dim in dims:
            axis = self._taken(dim, rest)
            if axis is None:
                return False
            axes.append(axis)
        self.result = axes
        return not rest

    def _taken(self, dim: Any, rest: deque[Atom]) -> list[Atom] | None:
        """Atoms from the front of ``rest`` whose product is ``dim``; the last may be split."""
        axis: list[Atom] = []
        while dim != 1:
            if not rest:
                return None
            atom = rest.popleft()
            if (left := _exactly(dim, atom.size)) is not None:
                axis.append(atom)
                dim = left
            elif (left := _exactly(atom.size, dim)) is not None:
                front, back = Atom(dim), Atom(left)
                self._split(atom, front, back)
                rest.appendleft(back)
                axis.append(front)
                dim = 1
            else:
                return None
        return axis

    def _split(self, atom: Atom, front: Atom, back: Atom) -> None:
        for axes in (self.source, self.result):
            for place, axis in enumerate(axes):
                if atom in axis:
                    at = axis.index(atom)
                    axes[place] = [*axis[:at], front, back, *axis[at + 1 :]]

    def steps(self) -> list[tuple[str, Any]]:
        """What to write: ("Reshape", sizes) and ("Transpose", perm), at most three, in the best of their forms."""
        source, result = _sizes(self.source), _sizes(self.result)
        flat = [atom for axis in self.source for atom in axis]
        moved = [atom for axis in self.result for atom in axis]
        if flat == moved:
            return [] if source == result else [("Reshape", result)]
        perm = self._permutation()
        if perm is not None:
            return [("Transpose", perm)]
        forms = [self._form(flat, moved, keep) for keep in ((), ("source",), ("result",), ("source", "result"))]
        return min(forms, key=len)

    def _permutation(self) -> list[int] | None:
        """The permutation of whole axes that it is; None where it is more."""
        free = list(range(len(self.source)))
        perm = []
        for axis in self.result:
            place = next((p for p in free if self.source[p] == axis), None)
            if place is None:
                return None
            free.remove(place)
            perm.append(place)
        return perm if not free else None

    def _form(self, flat: list[Atom], moved: list[Atom], keep: Sequence[str]) -> list[tuple[str, Any]]:
        """Split, permute, merge; pieces end where an axis of the source, or of the result, ends if that is kept."""
        ends = {axis[-1] for name in keep for axis in getattr(self, name) if axis}
        pieces: list[list[Atom]] = []
        for atom in moved:
            last = pieces[-1][-1] if pieces else None
            if last is not None and last not in ends and flat.index(atom) == flat.index(last) + 1:
                pieces[-1].append(atom)
            else:
                pieces.append([atom])
        order = sorted(range(len(pieces)), key=lambda p: flat.index(pieces[p][0]))
        split, merged = _sizes([pieces[p] for p in order]), _sizes(pieces)
        steps: list[tuple[str, Any]] = [("Reshape", split)] if split != _sizes(self.source) else []
        steps.append(("Transpose", [order.index(p) for p in range(len(pieces))]))
        return [*steps, ("Reshape", _sizes(self.result))] if merged != _sizes(self.result) else steps


def _sizes(axes: Sequence[Sequence[Atom]]) -> list[Any]:
    return [product(atom.size for atom in axis) for axis in axes]


def _exactly(a: Any, b: Any) -> Any:
    """a / b where nothing is left; None elsewhere."""
    if a == b:
        return 1
    if b == 0 or a == 0:
        return None
    quotient = a // b
    return quotient if quotient * b == a else None


# ---- on a graph -----------------------------------------------------------------------------------------


def is_move(edit: Editor, node: ir.Node | None) -> bool:
    """Whether a node rearranges a tensor whose sizes, and the result's, are known."""
    return (
        node is not None
        and not node.domain
        and node.op_type in MOVES
        and edit.facts[node.outputs[0]].dims is not None
        and node.inputs[0] is not None
        and edit.facts[node.inputs[0]].dims is not None
    )


def apply(edit: Editor, moves: Rearrangement, node: ir.Node) -> bool:
    """Let one more node of a chain act; False where it cannot be followed."""
    dims = edit.dims(node.inputs[0])
    if node.op_type == "Transpose":
        moves.transpose(list(node.attributes.get_ints("perm", ())) or layout.identity(len(dims))[::-1])
        return True
    return moves.reshape(edit.dims(node.outputs[0]))


def compose(edit: Editor) -> None:
    """Write every chain anew where that takes fewer nodes.

    x -> Reshape -> Transpose -> Transpose -> Reshape -> y    becomes    x -> (up to three nodes, or none) -> y
    """
    for node in edit.nodes():
        if is_move(edit, node) and not is_move(edit, edit.reader(node.outputs[0])):
            _compose(edit, node)


def _compose(edit: Editor, last: ir.Node) -> None:
    best: tuple[int, ir.Value, list[tuple[str, Any]]] | None = None
    chain: list[ir.Node] = [last]
    while True:
        source = chain[0].inputs[0]
        assert source is not None
        steps = _steps(edit, source, chain)
        gain = -1 if steps is None else _dying(edit, chain) - len(steps)
        if steps is not None and gain > 0 and (best is None or gain >= best[0]):
            best = (gain, source, steps)
        before = edit.maker(source, *MOVES)
        if not is_move(edit, before):
            break
        assert before is not None
        chain.insert(0, before)
    if best is not None:
        write(edit, last, best[1], best[2])


def _steps(edit: Editor, source: ir.Value, chain: Sequence[ir.Node]) -> list[tuple[str, Any]] | None:
    moves = Rearrangement(edit.dims(source))
    return moves.steps() if all(apply(edit, moves, node) for node in chain) else None


def _dying(edit: Editor, chain: Sequence[ir.Node]) -> int:
    """How many nodes at the end of a chain nothing reads any more once its result is made otherwise."""
    count = 1
    for node in chain[-2::-1]:
        if not edit.inner(node.outputs[0]):
            break
        count += 1
    return count


def write(edit: Editor, last: ir.Node, source: ir.Value, steps: Sequence[tuple[str, Any]]) -> None:
    value = source
    for word, how in steps:
        value = edit.reshape(last, value, how) if word == "Reshape" else edit.transpose(last, value, how)
    edit.replace(last.outputs[0], value)


def unpack(edit: Editor) -> None:
    """Parts that are taken one by one from an axis that a rearrangement has made are a Split of what it came from.

    x (..., 3 * c) -> Reshape (..., 3, c) -> Transpose (3, ..., c) -> Gather 0, 1, 2    becomes    x -> Split -> three parts
    """
    for node in edit.nodes():
        if is_move(edit, node):
            _unpack(edit, node)


def _unpack(edit: Editor, last: ir.Node) -> None:
    takes = [use.node for use in last.outputs[0].uses()]
    picks = [_picked(edit, take, last.outputs[0]) for take in takes]
    if last.outputs[0].is_graph_output() or None in picks or len({axis for axis, _ in picks if axis is not None}) != 1:  # type: ignore[misc]
        return
    axis = picks[0][0]  # type: ignore[index]
    chain = [last]
    while is_move(edit, before := edit.maker(chain[0].inputs[0], *MOVES)) and edit.inner(before.outputs[0]):  # type: ignore[union-attr]
        chain.insert(0, before)  # type: ignore[arg-type]
    source = chain[0].inputs[0]
    assert source is not None
    moves = Rearrangement(edit.dims(source))
    if not all(apply(edit, moves, node) for node in chain) or len(moves.result[axis]) != 1:
        return
    (atom,) = moves.result.pop(axis)
    place = next(p for p, atoms in enumerate(moves.source) if atom in atoms)
    if moves.source[place][0] is not atom or not isinstance(atom.size, int):
        return
    moves.source[place].remove(atom)
    parts = edit.add(chain[0], "Split", [source], {"axis": place, "num_outputs": atom.size}, outputs=atom.size)
    for take, (_, index) in zip(takes, picks, strict=True):  # type: ignore[misc]
        write(edit, take, parts[index % atom.size], moves.steps())


def _picked(edit: Editor, node: ir.Node, value: ir.Value) -> tuple[int, int] | None:
    """Axis and index of a Gather that takes one place of ``value``."""
    if node.op_type != "Gather" or node.domain or node.inputs[0] is not value or edit.dims(node.inputs[1]) != ():
        return None
    index = edit.number(node.inputs[1])
    return None if index is None else (node.attributes.get_int("axis", 0) % len(edit.dims(value)), int(index))


# ---- past other operators ---------------------------------------------------------------------------------

LAST_AXIS = ("Linear", "LayerNormalization", "RMSNormalization")
"""Operators that act along the last axis: what rearranges the others alone may pass."""


def sink(edit: Editor) -> None:
    """Move a rearrangement behind an operator that does not care, where another follows or it only merges axes.

    x -> Reshape (B * T, C) -> Linear -> Relu -> Reshape    becomes    x -> Linear -> Relu -> Reshape -> Reshape
    """
    for node in edit.nodes():
        if node.op_type in layout.POINTWISE or node.op_type in LAST_AXIS:
            _sink(edit, node)
        elif node.op_type == "Gather":
            _take_first(edit, node)


def _take_first(edit: Editor, node: ir.Node) -> None:
    """x -> Transpose -> Gather one place    becomes    x -> Gather one place (-> Transpose of what is left)"""
    value = node.inputs[0]
    move = edit.maker(value, "Transpose")
    picked = None if value is None else _picked(edit, node, value)
    if value is None or move is None or picked is None or not edit.inner(value) or "perm" not in move.attributes:
        return
    perm = list(move.attributes["perm"].as_ints())
    axis = perm.pop(picked[0])
    left = [place - (place > axis) for place in perm]
    made = edit.add(node, "Gather", [move.inputs[0], node.inputs[1]], {"axis": axis})
    edit.replace(node.outputs[0], made if left == sorted(left) else edit.transpose(node, made, left))


def _sink(edit: Editor, node: ir.Node) -> None:
    y = node.outputs[0]
    if len(node.outputs) != 1 or edit.facts[y].dims is None or not _leads_on(edit, y):
        return
    moves = [_move(edit, value) for value in node.inputs if value is not None and edit.constant(value) is None]
    first = moves[0] if moves else None
    if first is None or any(move is None or not _alike(edit, move, first) for move in moves):
        return
    constants = [value for value in node.inputs if edit.constant(value) is not None]
    if node.op_type in LAST_AXIS:
        if not _keeps_last(edit, first) or node.attributes.get_int("axis", -1) not in (-1, len(edit.dims(y)) - 1):
            return
        dims = [*edit.dims(first.outputs[0])[:-1], edit.dims(y)[-1]]
    else:
        dims = list(edit.dims(first.outputs[0]))
        if list(edit.dims(y)) != dims or not all(_fits(edit, value, first) for value in constants):
            return
    operands = [
        value if value is None or edit.constant(value) is not None else value.producer().inputs[0]  # type: ignore[union-attr]
        for value in node.inputs
    ]
    attributes = {name: a for name, a in node.attributes.items() if node.op_type not in LAST_AXIS or name != "axis"}
    made = edit.add(node, node.op_type, operands, attributes, domain=node.domain)
    if first.op_type == "Transpose":
        edit.replace(y, edit.transpose(node, made, list(first.attributes["perm"].as_ints())))
    else:
        edit.replace(y, edit.reshape(node, made, dims))


def _leads_on(edit: Editor, value: ir.Value) -> bool:
    """Whether the one thing that happens to a value, past operators that do not care, is a rearrangement."""
    reader = edit.reader(value)
    while reader is not None and not is_move(edit, reader):
        if reader.op_type not in LAST_AXIS and reader.op_type not in layout.POINTWISE:
            return False
        reader = edit.reader(reader.outputs[0]) if len(reader.outputs) == 1 else None
    return reader is not None


def _move(edit: Editor, value: ir.Value) -> ir.Node | None:
    node = edit.maker(value, *MOVES)
    perm_known = node is not None and (node.op_type != "Transpose" or "perm" in node.attributes)
    return node if is_move(edit, node) and perm_known and edit.inner(value) else None


def _alike(edit: Editor, one: ir.Node, other: ir.Node) -> bool:
    """Whether two nodes rearrange in the same way."""
    if (one.op_type == "Transpose") != (other.op_type == "Transpose"):
        return False
    same_sizes = edit.dims(one.inputs[0]) == edit.dims(other.inputs[0])
    if one.op_type == "Transpose":
        same = one.attributes["perm"].as_ints() == other.attributes["perm"].as_ints()
        return bool(same) and len(edit.dims(one.inputs[0])) == len(edit.dims(other.inputs[0])) and same_sizes
    return same_sizes and edit.dims(one.outputs[0]) == edit.dims(other.outputs[0])


def _keeps_last(edit: Editor, node: ir.Node) -> bool:
    """Whether the last axis stays what and where it is."""
    source = node.inputs[0]
    assert source is not None
    moves = Rearrangement(edit.dims(source))
    return (
        len(moves.source) > 1
        and apply(edit, moves, node)
        and bool(moves.result)
        and bool(moves.source[-1])
        and moves.source[-1] == moves.result[-1]
    )


def _fits(edit: Editor, value: ir.Value | None, move: ir.Node) -> bool:
    """Whether a constant operand means the same before the rearrangement as behind it."""
    dims = edit.dims(value)
    return product(dims) == 1 and len(dims) <= len(edit.dims(move.inputs[0])) or (
        product(dims[:-1]) == 1
        and len(dims) <= min(len(edit.dims(move.inputs[0])), len(edit.dims(move.outputs[0])))
        and _keeps_last(edit, move)
    )
