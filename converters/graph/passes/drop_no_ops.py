"""Operators that change nothing, or do no more than pick one place, are left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.inference.contents import of_array
from netferry.converters.graph.passes.edit import Editor, Rule
from netferry.converters.graph.registry import Table

NOTHING: Table[str, Rule] = Table("nothing")


_Same = Callable[[Editor, ir.Node], bool]


def _nothing(*operators: str) -> Callable[[_Same], _Same]:
    """x -> operator -> y    becomes    x, where the function says that the operator changes nothing."""

    def register(same: _Same) -> _Same:
        def rule(edit: Editor, node: ir.Node) -> None:
            x, y = node.inputs[0], node.outputs[0]
            stays = y.is_graph_output() and (x is None or x.producer() is None or x.is_graph_output())
            if x is not None and not stays and same(edit, node):
                edit.replace(y, x)

        NOTHING.row(*operators)(rule)
        return same

    return register


@_nothing("Identity")
def _identity(edit: Editor, node: ir.Node) -> bool:
    return edit.facts[node.outputs[0]].content is None


@_nothing("Dropout")
def _dropout(edit: Editor, node: ir.Node) -> bool:
    """One with a ratio stays: it comes to life when the model is trained."""
    ratio = edit.number(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else 0.5
    return ratio == 0 and not any(value.uses() for value in node.outputs[1:])


@_nothing("Cast", "CastLike")
def _cast(edit: Editor, node: ir.Node) -> bool:
    x = node.inputs[0]
    return x is not None and edit.facts[x].dtype == edit.facts[node.outputs[0]].dtype is not None


@_nothing("Slice")
def _slice(edit: Editor, node: ir.Node) -> bool:
    steps = edit.constant(node.inputs[4]) if len(node.inputs) > 4 else np.ones(1)
    return _same_sizes(edit, node) and steps is not None and bool((steps == 1).all())


@_nothing("Expand", "Tile")
def _same_sizes(edit: Editor, node: ir.Node) -> bool:
    x = node.inputs[0]
    return x is not None and edit.facts[x].dims == edit.facts[node.outputs[0]].dims is not None


@_nothing("Pad")
def _pad(edit: Editor, node: ir.Node) -> bool:
    pads = edit.constant(node.inputs[1])
    return pads is not None and not pads.any()


@_nothing("Concat", "Sum", "Max", "Min", "Mean")
def _single(edit: Editor, node: ir.Node) -> bool:
    return len(node.inputs) == 1


@NOTHING.row("Squeeze")
def pick(edit: Editor, node: ir.Node) -> None:
    """x -> Split into single places -> Squeeze -> y    becomes    x -> Gather one place -> y"""
    part = node.inputs[0]
    maker, dims = edit.maker(part, "Split"), edit.dims(part)
    if maker is None or part is None:
        return
    axis = maker.attributes.get_int("axis", 0) % len(dims)
    whole = edit.dims(maker.inputs[0])
    alone = all(edit.dims(value)[axis : axis + 1] == (1,) for value in maker.outputs)
    if (
        alone
        and edit.dims(node.outputs[0]) == (*whole[:axis], *whole[axis + 1 :])
        and _only(edit, node, axis)
    ):
        position = edit.value(of_array(np.asarray(part.index(), np.int64)), f"{part.name}_place")
        edit.replace(node.outputs[0], edit.add(node, "Gather", [maker.inputs[0], position], {"axis": axis}))


def _only(edit: Editor, squeeze: ir.Node, axis: int) -> bool:
    """Whether a Squeeze drops this axis and no other."""
    axes = edit.constant(squeeze.inputs[1]) if len(squeeze.inputs) > 1 else None
    return axes is not None and [int(a) % len(edit.dims(squeeze.inputs[0])) for a in axes.reshape(-1)] == [
        axis
    ]
