"""Operators of ONNX that are layers: products with weights are Linear, LSTM, GRU and RNN are Recurrent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.inference import contents
from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.passes.edit import Editor, Rule
from netferry.converters.graph.registry import Table

OURS = "netferry"
"""The domain of the operators that are netferry's own: Linear, Recurrent."""


_ZEROS_LIMIT = 1_000_000


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

    A transposed w is transposed now, as a view: Linear has (in, out).
    """
    x, w, b = [*node.inputs, None][:3]
    plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    transposed = node.attributes.get_int("transA", 0)
    if x is None or w is None or not plain or transposed:
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
    for position, value in enumerate(node.outputs):
        if value.uses() or value.is_graph_output():
            transposed = batch_first and position > 0
            if position and lengths is not None and not (h is c is None):
                results[position] = _of_some_length(edit, node, results[position], lengths)
            edit.replace(
                value, edit.transpose(node, results[position], (1, 0, 2)) if transposed else results[position]
            )


def _of_some_length(edit: Editor, node: ir.Node, state: ir.Value, lengths: ir.Value) -> ir.Value:
    """The last state (directions, batch, hidden) of a sequence without a step is zero, whatever it was to begin with."""
    known = edit.constant(lengths)
    if known is not None and (known > 0).all():
        return state
    fact = edit.facts[lengths]
    zero = edit.value(contents.of_array(np.zeros((), fact.dtype)), f"{lengths.name}_none")
    axes = edit.sizes((0, 2), f"{lengths.name}_axes")
    some = edit.add(node, "Unsqueeze", [edit.add(node, "Greater", [lengths, zero]), axes])
    rest = edit.value(contents.of_array(np.zeros((), edit.dtype(state))), f"{state.name}_rest")
    made: ir.Value = edit.add(node, "Where", [some, state, rest])
    return made


def _state(edit: Editor, node: ir.Node, state: ir.Value | None, batch_first: bool) -> ir.Value | None:
    if state is None or _zeros(edit, state):
        return None
    return edit.transpose(node, state, (1, 0, 2)) if batch_first else state


def _zeros(edit: Editor, value: ir.Value) -> bool:
    fact = edit.facts[value]
    content = fact.constant
    return fact.fill == 0 or (content is not None and content.size <= _ZEROS_LIMIT and not content.any())
