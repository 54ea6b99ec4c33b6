"""Rearrangements: chains of Reshape, Transpose, Squeeze, Unsqueeze and Flatten as one thing.

Every axis of the source is a product of atoms. A Reshape splits and merges atoms, a Transpose permutes them, and what a
whole chain does is the atoms of the source against those of the result. Written back, it is at most one split, one
permutation and one merge; a chain that undoes itself is nothing. Sizes are expressions: (batch * heads, ...) splits into
batch and heads without a number being known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.sizes import product
from netferry.converters.graph.passes.edit import Editor

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
            for position, axis in enumerate(axes):
                if atom in axis:
                    at = axis.index(atom)
                    axes[position] = [*axis[:at], front, back, *axis[at + 1 :]]

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
        forms = [
            self._form(flat, moved, keep) for keep in ((), ("source",), ("result",), ("source", "result"))
        ]
        return min(forms, key=len)

    def _permutation(self) -> list[int] | None:
        """The permutation of whole axes that it is; None where it is more."""
        free = list(range(len(self.source)))
        perm = []
        for axis in self.result:
            position = next((p for p in free if self.source[p] == axis), None)
            if position is None:
                return None
            free.remove(position)
            perm.append(position)
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


def _maker(edit: Editor, value: ir.Value) -> ir.Node | None:
    """The rearrangement that makes a value; None where something else does."""
    node = edit.maker(value, *MOVES)
    return node if is_move(edit, node) else None


def source_of(node: ir.Node) -> ir.Value:
    """What a rearrangement starts from."""
    value = node.inputs[0]
    assert value is not None
    return value


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

    A longer chain than models have is written anew piece by piece.
    """
    lengths: dict[ir.Value, int] = {}
    for node in edit.nodes():
        if is_move(edit, node):
            length = lengths.get(source_of(node), 0) + 1
            if length < _LONGEST and is_move(edit, edit.reader(node.outputs[0])):
                lengths[node.outputs[0]] = length
            else:
                edit.attempt(_compose, node)


_LONGEST = 16


def _compose(edit: Editor, last: ir.Node) -> None:
    best: tuple[int, ir.Value, list[tuple[str, Any]]] | None = None
    chain: list[ir.Node] = []
    before: ir.Node | None = last
    while before is not None and len(chain) < 2 * _LONGEST:
        chain.insert(0, before)
        source = source_of(before)
        steps = _steps(edit, source, chain)
        gain = 0 if steps is None else _dying(edit, chain) - len(steps)
        if steps is not None and gain > 0 and (best is None or gain >= best[0]):
            best = (gain, source, steps)
        before = _maker(edit, source)
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
            edit.attempt(_unpack, node)


_MOST_PARTS = 64


def _unpack(edit: Editor, last: ir.Node) -> None:
    value = last.outputs[0]
    takes = [use.node for use in value.uses()]
    picks = [pick for pick in (picked(edit, take, value) for take in takes) if pick is not None]
    if value.is_graph_output() or len(picks) < len(takes) or len({axis for axis, _ in picks}) != 1:
        return
    chain = alone(edit, value)
    source = source_of(chain[0])
    moves = Rearrangement(edit.dims(source))
    axis = picks[0][0]
    if not all(apply(edit, moves, node) for node in chain) or len(moves.result[axis]) != 1:
        return
    (atom,) = moves.result.pop(axis)
    position = next(p for p, atoms in enumerate(moves.source) if atom in atoms)
    if moves.source[position].index(atom) != 0 or not isinstance(atom.size, int) or atom.size > _MOST_PARTS:
        return
    moves.source[position].remove(atom)
    attributes = {"axis": position, "num_outputs": atom.size}
    parts = edit.add(chain[0], "Split", [source], attributes, outputs=atom.size)
    for take, (_, index) in zip(takes, picks, strict=True):
        write(edit, take, parts[index % atom.size], moves.steps())


def picked(edit: Editor, node: ir.Node, value: ir.Value) -> tuple[int, int] | None:
    """Axis and index of a Gather that takes one place of ``value``."""
    if (
        node.op_type != "Gather"
        or node.domain
        or node.inputs[0] is not value
        or edit.dims(node.inputs[1]) != ()
    ):
        return None
    index = edit.number(node.inputs[1])
    return None if index is None else (node.attributes.get_int("axis", 0) % len(edit.dims(value)), int(index))


def alone(edit: Editor, value: ir.Value) -> list[ir.Node]:
    """The chain that makes a value, as far as each of its results has one reader."""
    chain: list[ir.Node] = []
    while (
        len(chain) < 2 * _LONGEST
        and (before := _maker(edit, value)) is not None
        and (not chain or edit.inner(value))
    ):
        chain.insert(0, before)
        value = source_of(before)
    return chain


def again(edit: Editor, before: ir.Node, move: ir.Node, x: ir.Value) -> ir.Value:
    """The same rearrangement of another value of the same sizes."""
    made: ir.Value = edit.add(before, move.op_type, [x, *move.inputs[1:]], move.attributes)
    edit.facts[made] = replace(edit.facts[made], dims=edit.facts[move.outputs[0]].dims)
    return made
