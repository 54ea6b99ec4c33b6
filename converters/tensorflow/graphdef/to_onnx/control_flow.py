"""Loops (a recurrent layer where one is found, else ONNX's Loop) and branches: If, Case, and the Switch and Merge of TensorFlow 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.ir.tensor import typed
from netferry.converters.tensorflow.graphdef.frames import CHOICE, FRAME
from netferry.converters.tensorflow.graphdef.graph import Node
from netferry.converters.tensorflow.graphdef.to_onnx.lists import TensorList
from netferry.converters.tensorflow.graphdef.to_onnx.loops import Loop
from netferry.converters.tensorflow.graphdef.to_onnx.recurrent import recognised
from netferry.converters.tensorflow.graphdef.to_onnx.walk import DEAD, STRUCTURES, Dead, Walk, truth

# ---- loops ------------------------------------------------------------------------------------------


@STRUCTURES.row("While", "StatelessWhile")
def while_(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    condition, body = (walk.function(node.attributes[key].function.name) for key in ("cond", "body"))
    return _looped(Loop(walk, condition, body, list(read)))


@STRUCTURES.row(FRAME)
def frame(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """A loop of TensorFlow 1."""
    return _looped(Loop(walk, node.attributes["cond"], node.attributes["body"], list(read)))


def _looped(loop: Loop) -> list[Any]:
    found = recognised(loop)
    return loop.written() if found is None else found


# ---- branches --------------------------------------------------------------------------------------


@STRUCTURES.row("If", "StatelessIf")
def if_(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """The branch that is known to be taken is written in place."""
    condition, given = walk.tensor(read[0]), list(read[1:])
    names = [node.attributes[key].function.name for key in ("then_branch", "else_branch")]
    assert condition is not None
    known = walk.g.content(condition)
    if known is not None:
        return walk.call(names[0 if bool(known.reshape(-1)[0]) else 1], given)
    return chosen(walk, truth(walk, condition), *(_branch(walk, name, given) for name in names))


def _branch(walk: Walk, name: str, given: Sequence[Any]) -> Callable[[], list[Any]]:
    return lambda: walk.call(name, given)


def chosen(
    walk: Walk, condition: Tensor, then: Callable[[], list[Any]], otherwise: Callable[[], list[Any]]
) -> list[Any]:
    """ONNX's If of two ways to write what comes out; outputs that are no tensors must be the same in both."""
    g, kept = walk.g, list[list[Any]]()

    def write(branch: Callable[[], list[Any]]) -> Callable[[], list[Tensor]]:
        def written() -> list[Tensor]:
            values = branch()
            kept.append(values)
            return [_branch_tensor(walk, value) for value in values if value is not None]

        return written

    graphs, results = zip(
        *(g.body(name, [], write(each)) for name, each in (("then", then), ("else", otherwise))), strict=True
    )
    if len(results[0]) != len(results[1]):
        raise CannotConvert("its branches give different numbers of tensors")
    values = g.holding("If", [condition], len(results[0]), then_branch=graphs[0], else_branch=graphs[1])
    made = [_joined(g, value, *pair) for value, pair in zip(values, zip(*results, strict=True), strict=True)]
    rest = iter(made)
    return [None if value is None else next(rest) for value in kept[0]]


def _branch_tensor(walk: Walk, value: Any) -> Tensor:
    found = value.stacked(walk.g) if isinstance(value, TensorList) else walk.tensor(value)
    assert found is not None
    return found


def _joined(g: Any, value: Any, one: Tensor, other: Tensor) -> Tensor:
    if one.dtype != other.dtype:
        raise CannotConvert(f"its branches give {one.dtype.name} and {other.dtype.name}")
    dims = None
    if one.dims is not None and other.dims is not None and len(one.dims) == len(other.dims):
        dims = tuple(a if a == b else None for a, b in zip(one.dims, other.dims, strict=True))
    return g.settled_names(typed(value, one.dtype, dims))  # type: ignore[no-any-return]


@STRUCTURES.row("Case", "StatelessCase")
def case(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """One If within another; a number outside takes the last branch."""
    index, given = walk.tensor(read[0]), list(read[1:])
    names = [each.name for each in node.attributes["branches"].list.functions]
    assert index is not None
    known = walk.g.content(index)
    if known is not None:
        at = int(known.reshape(-1)[0])
        return walk.call(names[at if 0 <= at < len(names) else -1], given)

    def from_branch(position: int) -> list[Any]:
        if position == len(names) - 1:
            return walk.call(names[position], given)
        here = walk.g.Equal(index, walk.g.like(position, index))
        return chosen(
            walk, truth(walk, here), _branch(walk, names[position], given), lambda: from_branch(position + 1)
        )

    return from_branch(0)


@STRUCTURES.row("Switch", "RefSwitch")
def switch(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """TensorFlow 1: a branch that is known to be dead gives nothing."""
    value, condition = read[0], walk.tensor(read[1])
    assert condition is not None
    known = walk.g.content(condition)
    if known is None:
        return [value, value]
    taken = bool(known.reshape(-1)[0])
    return [DEAD, value] if taken else [value, DEAD]


@STRUCTURES.row(CHOICE)
def choice(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """Both branches of TensorFlow 1 are computed, and one is taken."""
    g, alive = walk.g, [place for place, value in enumerate(read[:2]) if not isinstance(value, Dead)]
    if len(alive) == 1:
        return [read[alive[0]], g.constant(alive[0], np.int32)]
    condition, sides = walk.tensor(read[2]), [walk.tensor(value) for value in read[:2]]
    holds = node.attributes["true"]
    one, other = sides[holds], sides[1 - holds]
    assert condition is not None and one is not None and other is not None
    if one.dims is None or one.dims != other.dims or one.dtype != other.dtype:
        raise CannotConvert("the branches of a condition of TensorFlow 1 give different sizes")
    condition = truth(walk, condition)
    place = g.Where(condition, g.constant(holds, np.int32), g.constant(1 - holds, np.int32))
    return [g.Where(condition, one, other), place]


@STRUCTURES.row("Merge", "RefMerge")
def merge(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    alive = [(position, value) for position, value in enumerate(read) if not isinstance(value, Dead)]
    if len(alive) != 1:
        raise CannotConvert(
            "a branch of TensorFlow 1 whose condition is computed", "Export the model with TensorFlow 2"
        )
    position, value = alive[0]
    return [value, walk.g.constant(position, np.int32)]
