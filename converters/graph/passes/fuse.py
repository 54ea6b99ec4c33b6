"""Patterns that stand for one operator, found once for all targets.

Each rule has the operators that it may end in, and a docstring that shows the graph before and after. A rule checks all
that it assumes and else leaves the graph as it is; what something else still reads stays beside the fused node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.inference.contents import of_array
from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.passes import rearrange, sink
from netferry.converters.graph.passes.edit import Editor
from netferry.converters.graph.passes.fuse_attention import ATTENTION
from netferry.converters.graph.passes.fuse_products import PRODUCTS
from netferry.converters.graph.registry import Table

Rule = Callable[[Editor, ir.Node], None]
OURS = "netferry"
"""The domain of the operators that are netferry's own: Linear, Recurrent."""

_ZEROS_LIMIT = 1_000_000


def fuse(edit: Editor) -> None:
    """Every rule, in an order in which each finds what the one before has left."""
    edit.sweep()
    for table in (NOTHING, LAYERS, PRODUCTS):
        _each(edit, table)
    _rearrange(edit)
    _each(edit, ATTENTION)
    _rearrange(edit)


def _rearrange(edit: Editor) -> None:
    for step in (rearrange.compose, rearrange.unpack, sink.sink, rearrange.compose):
        step(edit)
        edit.sweep()


def _each(edit: Editor, rules: Table[str, Rule]) -> None:
    """One pass of the rules over the graph; what is left over reads nothing any more."""
    for node in edit.nodes():
        rule = rules.get(node.op_type) if not node.domain or node.domain == OURS else None
        if rule is not None:
            edit.attempt(rule, node)
    edit.sweep()


# ---- what does nothing ----------------------------------------------------------------------------------

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
        place = edit.value(of_array(np.asarray(part.index(), np.int64)), f"{part.name}_place")
        edit.replace(node.outputs[0], edit.add(node, "Gather", [maker.inputs[0], place], {"axis": axis}))


def _only(edit: Editor, squeeze: ir.Node, axis: int) -> bool:
    """Whether a Squeeze drops this axis and no other."""
    axes = edit.constant(squeeze.inputs[1]) if len(squeeze.inputs) > 1 else None
    return axes is not None and [int(a) % len(edit.dims(squeeze.inputs[0])) for a in axes.reshape(-1)] == [
        axis
    ]


# ---- layers -----------------------------------------------------------------------------------------------

LAYERS: Table[str, Rule] = Table("layers")


@LAYERS.row("MatMul")
def linear(edit: Editor, node: ir.Node) -> None:
    """x -> MatMul(x, w: constant (in, out)) -> y    becomes    x -> Linear(x, w) -> y"""
    x, w = node.inputs
    assert x is not None
    if (
        edit.constant(w) is not None
        and len(edit.dims(w)) == 2
        and len(edit.dims(x)) >= 2
        and is_float(edit.dtype(x))
    ):
        edit.replace(node.outputs[0], edit.add(node, "Linear", [x, w], domain=OURS))


@LAYERS.row("Add")
def linear_bias(edit: Editor, node: ir.Node) -> None:
    """x -> Linear(x, w) -> Add(b: constant (out,)) -> y    becomes    x -> Linear(x, w, b) -> y"""
    for product, b in (node.inputs, node.inputs[::-1]):
        maker = edit.maker(product, "Linear")
        if maker is None or product is None or len(maker.inputs) != 2 or not edit.inner(product):
            continue
        bias = _bias(edit, b, edit.dims(product)[-1])
        if bias is not None and edit.dims(node.outputs[0]) == edit.dims(product):
            made = edit.add(node, "Linear", [*maker.inputs, bias], domain=OURS, name=maker.name)
            edit.replace(node.outputs[0], made)
            return


@LAYERS.row("Gemm")
def gemm(edit: Editor, node: ir.Node) -> None:
    """x -> Gemm(x, w: constant, b: constant or none), plain -> y    becomes    x -> Linear(x, w, b) -> y

    A transposed w is turned now, as a view: Linear has (in, out).
    """
    x, w, b = [*node.inputs, None][:3]
    plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    first_turned = node.attributes.get_int("transA", 0)
    if x is None or w is None or not plain or first_turned:
        return
    weight = edit.facts[w]
    bias = None if b is None else _bias(edit, b, edit.dims(node.outputs[0])[-1])
    if weight.constant is None or (b is not None and bias is None) or not is_float(weight.dtype):
        return
    if node.attributes.get_int("transB", 0):
        w = edit.transpose(node, w, (1, 0))
    edit.replace(node.outputs[0], edit.add(node, "Linear", [x, w, bias], domain=OURS))


def _bias(edit: Editor, b: ir.Value | None, width: Any) -> ir.Value | None:
    """A constant as (out,): one that has other sizes, or is one number for all, is no bias."""
    dims = edit.dims(b)
    if (
        b is None
        or edit.constant(b) is None
        or not dims
        or dims[-1] != width
        or any(dim != 1 for dim in dims[:-1])
    ):
        return None
    if len(dims) == 1:
        return b
    fact = edit.facts[b]
    assert fact.content is not None
    return edit.value(replace(fact, dims=(width,), content=fact.content.reshape(-1)), str(b.name))


@LAYERS.row("LSTM", "GRU", "RNN")
def recurrent(edit: Editor, node: ir.Node) -> None:
    """x (time, batch, in) -> LSTM -> y (time, directions, batch, hidden), h, c

    becomes   x -> Recurrent -> (time, batch, directions * hidden), h, c;   y is a Reshape and a Transpose of the first

    With layout 1 x and the states are transposed before and behind. A state of zeros is left out.
    """
    cell, batch_first = node.op_type, bool(node.attributes.get_int("layout", 0))
    x, w, r, b, lengths, h, c, p = [*node.inputs, *[None] * 8][:8]
    if x is None or r is None or not edit.dims(x) or not edit.dims(r):
        return
    if batch_first:
        x = edit.transpose(node, x, (1, 0, 2))
    h, c = (_state(edit, node, state, batch_first) for state in (h, c))
    attributes: dict[str, Any] = {name: value for name, value in node.attributes.items() if name != "layout"}
    count = 3 if cell == "LSTM" else 2
    made = edit.add(
        node,
        "Recurrent",
        [x, w, r, b, lengths, h, c, p],
        {**attributes, "cell": cell},
        outputs=count,
        domain=OURS,
    )
    directions, hidden = edit.dims(r)[0], edit.dims(r)[-1]
    time, batch, _ = edit.dims(x)
    results = list(made)
    if node.outputs[0].uses() or node.outputs[0].is_graph_output():
        apart = edit.reshape(node, made[0], (time, batch, directions, hidden))
        results[0] = edit.transpose(node, apart, (1, 0, 2, 3) if batch_first else (0, 2, 1, 3))
    for place, value in enumerate(node.outputs):
        if value.uses() or value.is_graph_output():
            turned = batch_first and place > 0
            edit.replace(value, edit.transpose(node, results[place], (1, 0, 2)) if turned else results[place])


def _state(edit: Editor, node: ir.Node, state: ir.Value | None, batch_first: bool) -> ir.Value | None:
    if state is None or _zeros(edit, state):
        return None
    return edit.transpose(node, state, (1, 0, 2)) if batch_first else state


def _zeros(edit: Editor, value: ir.Value) -> bool:
    fact = edit.facts[value]
    content = fact.constant
    return fact.fill == 0 or (content is not None and content.size <= _ZEROS_LIMIT and not content.any())
