"""Patterns that stand for one operator, found once for all targets.

Each rule has the operators that it may end in, and a docstring that shows the graph before and after. A rule checks all
that it assumes and else leaves the graph as it is; what something else still reads stays beside the fused node.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph import rearrange
from netferry.converters.graph.contents import is_float, of_array
from netferry.converters.graph.edit import Editor
from netferry.converters.graph.table import Table

Rule = Callable[[Editor, ir.Node], None]
OURS = "netferry"
"""The domain of the operators that are netferry's own: Linear, Recurrent."""

_ZEROS_LIMIT = 1_000_000


def fuse(edit: Editor) -> None:
    """Every rule, in an order in which each finds what the one before has left."""
    edit.sweep()
    for table in (NOTHING, LAYERS, NORMS):
        _each(edit, table)
    _rearrange(edit)
    _each(edit, ATTENTION)
    _rearrange(edit)


def _rearrange(edit: Editor) -> None:
    for step in (rearrange.compose, rearrange.unpack, rearrange.sink, rearrange.compose):
        step(edit)
        edit.sweep()


def _each(edit: Editor, rules: Table[str, Rule]) -> None:
    """One pass of the rules over the graph; what is left over reads nothing any more."""
    for node in edit.nodes():
        rule = rules.get(node.op_type) if not node.domain or node.domain == OURS else None
        if rule is not None:
            rule(edit, node)
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
    if alone and edit.dims(node.outputs[0]) == (*whole[:axis], *whole[axis + 1 :]) and _only(edit, node, axis):
        place = edit.value(of_array(np.asarray(part.index(), np.int64)), f"{part.name}_place")
        edit.replace(node.outputs[0], edit.add(node, "Gather", [maker.inputs[0], place], {"axis": axis}))


def _only(edit: Editor, squeeze: ir.Node, axis: int) -> bool:
    """Whether a Squeeze drops this axis and no other."""
    axes = edit.constant(squeeze.inputs[1]) if len(squeeze.inputs) > 1 else None
    return axes is not None and [int(a) % len(edit.dims(squeeze.inputs[0])) for a in axes.reshape(-1)] == [axis]


# ---- layers -----------------------------------------------------------------------------------------------

LAYERS: Table[str, Rule] = Table("layers")
NORMS: Table[str, Rule] = Table("norms")
ATTENTION: Table[str, Rule] = Table("attention")


@LAYERS.row("MatMul")
def linear(edit: Editor, node: ir.Node) -> None:
    """x -> MatMul(x, w: constant (in, out)) -> y    becomes    x -> Linear(x, w) -> y"""
    x, w = node.inputs
    assert x is not None
    if edit.constant(w) is not None and len(edit.dims(w)) == 2 and len(edit.dims(x)) >= 2 and is_float(edit.dtype(x)):
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
    plain = node.attributes.get_float("alpha", 1.0) == node.attributes.get_float("beta", 1.0) == 1.0
    if x is None or w is None or not plain or node.attributes.get_int("transA", 0):
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
    if b is None or edit.constant(b) is None or not dims or dims[-1] != width or any(dim != 1 for dim in dims[:-1]):
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
        node, "Recurrent", [x, w, r, b, lengths, h, c, p], {**attributes, "cell": cell}, outputs=count, domain=OURS
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


# ---- products -----------------------------------------------------------------------------------------------


def factors(edit: Editor, value: ir.Value, *, top: bool = True) -> tuple[float, list[ir.Value]]:
    """A product as its number and its other factors, through Mul, Div by a number, and small powers."""
    number = edit.number(value)
    if number is not None and not edit.facts[value].trainable:
        return number, []
    node = edit.maker(value, "Mul", "Div", "Pow") if top or edit.inner(value) else None
    if node is None:
        return 1.0, [value]
    a, b = node.inputs
    assert a is not None and b is not None
    by = edit.number(b)
    if node.op_type == "Mul":
        (m, some), (n, more) = factors(edit, a, top=False), factors(edit, b, top=False)
        return m * n, some + more
    if node.op_type == "Div" and by:
        m, some = factors(edit, a, top=False)
        return m / by, some
    if node.op_type == "Pow" and by in (2.0, 3.0):
        return 1.0, [a] * int(by)
    return 1.0, [value]


def _plus(edit: Editor, value: ir.Value, number: float) -> ir.Value | None:
    """The other side of ``number + other``."""
    node = edit.maker(value, "Add")
    for one, other in (node.inputs, node.inputs[::-1]) if node is not None else ():
        if _near(edit.number(one), number, edit, value):
            return other
    return None


def _near(number: float | None, wanted: float, edit: Editor, value: ir.Value) -> bool:
    """Equal, as far as constants of this dtype can say."""
    tolerance = {"float16": 2e-3, "bfloat16": 1e-2}.get(edit.dtype(value).name, 1e-5)
    return number is not None and math.isclose(number, wanted, rel_tol=tolerance)


def _split(values: list[ir.Value], matches: Callable[[ir.Value], Any]) -> tuple[Any, list[ir.Value]]:
    """What the first factor that matches gives, and the other factors."""
    for place, value in enumerate(values):
        found = matches(value)
        if found is not None:
            return found, values[:place] + values[place + 1 :]
    return None, values


@NORMS.row("Mul", "Div")
def products(edit: Editor, node: ir.Node) -> None:
    """A product that is an activation or a normalisation."""
    for rule in (gelu, swish, hard_swish, mish):
        made = rule(edit, node)
        if made is not None:
            edit.replace(node.outputs[0], made)
            return
    normalization(edit, node)


def gelu(edit: Editor, node: ir.Node) -> Any:
    """0.5 * x * (1 + erf(x / sqrt(2)))    becomes    Gelu(x)

    0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))    becomes    Gelu(x, approximate="tanh")

    in any order of the factors. Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
    """
    y = node.outputs[0]
    number, values = factors(edit, y)
    if len(values) != 2 or not _near(number, 0.5, edit, y):
        return None
    for x, other in (values, values[::-1]):
        curve = edit.maker(_plus(edit, other, 1.0), "Erf", "Tanh")
        if curve is None or curve.inputs[0] is None:
            continue
        if curve.op_type == "Erf":
            scale, inside = factors(edit, curve.inputs[0])
            if inside == [x] and _near(scale, math.sqrt(0.5), edit, y):
                return edit.add(node, "Gelu", [x])
        elif _is_cubic(edit, curve.inputs[0], x):
            return edit.add(node, "Gelu", [x], {"approximate": "tanh"})
    return None


def _is_cubic(edit: Editor, value: ir.Value, x: ir.Value) -> bool:
    """sqrt(2 / pi) * (x + 0.044715 * x**3), or with x taken out of the bracket."""
    scale, inside = factors(edit, value)
    if not _near(scale, math.sqrt(2 / math.pi), edit, value):
        return False
    if len(inside) == 2 and x in inside:
        (bracket,) = [one for one in inside if one is not x] or [x]
        rest, power = _plus(edit, bracket, 1.0), 2
    elif len(inside) == 1:
        adder = edit.maker(inside[0], "Add")
        rest = next((b for a, b in (adder.inputs, adder.inputs[::-1]) if a is x), None) if adder is not None else None
        power = 3
    else:
        return False
    if rest is None:
        return False
    number, values = factors(edit, rest)
    return values == [x] * power and _near(number, 0.044715, edit, value)


def swish(edit: Editor, node: ir.Node) -> Any:
    """x * sigmoid(alpha * x)    becomes    Swish(x, alpha)"""
    number, values = factors(edit, node.outputs[0])
    sigmoid, rest = _split(values, lambda value: edit.maker(value, "Sigmoid"))
    if sigmoid is None or len(rest) != 1 or number != 1.0:
        return None
    alpha, inside = factors(edit, sigmoid.inputs[0])
    return edit.add(node, "Swish", rest, {"alpha": alpha} if alpha != 1.0 else {}) if inside == rest else None


def hard_swish(edit: Editor, node: ir.Node) -> Any:
    """x * hard_sigmoid(x, 1/6, 0.5), or x * clip(x + 3, 0, 6) / 6    becomes    HardSwish(x)"""
    y = node.outputs[0]
    number, values = factors(edit, y)
    gate, rest = _split(values, lambda value: edit.maker(value, "HardSigmoid", "Clip"))
    if gate is None or len(rest) != 1:
        return None
    if gate.op_type == "HardSigmoid":
        alpha, beta = gate.attributes.get_float("alpha", 0.2), gate.attributes.get_float("beta", 0.5)
        fits = number == 1.0 and _near(alpha, 1 / 6, edit, y) and beta == 0.5 and gate.inputs[0] is rest[0]
    else:
        low, high = [*(edit.number(value) for value in gate.inputs[1:]), None, None][:2]
        fits = low == 0 and high == 6 and _near(number, 1 / 6, edit, y) and _plus(edit, gate.inputs[0], 3.0) is rest[0]
    return edit.add(node, "HardSwish", rest) if fits else None


def mish(edit: Editor, node: ir.Node) -> Any:
    """x * tanh(softplus(x))    becomes    Mish(x)"""
    number, values = factors(edit, node.outputs[0])
    tanh, rest = _split(values, lambda value: edit.maker(value, "Tanh"))
    inside = edit.maker(tanh.inputs[0], "Softplus") if tanh is not None else None
    fits = inside is not None and number == 1.0 and rest == [inside.inputs[0]]
    return edit.add(node, "Mish", rest) if fits else None


# ---- normalisations --------------------------------------------------------------------------------------------


def normalization(edit: Editor, node: ir.Node) -> None:
    """d = x - mean(x);  d / sqrt(mean(d**2) + epsilon) * scale + bias    becomes    LayerNormalization(x, scale, bias)

    x / sqrt(mean(x**2) + epsilon) * scale    becomes    RMSNormalization(x, scale)

    over the last axes; the division may be a product with the reciprocal.
    """
    parts = _normalized(edit, node)
    times = edit.reader(node.outputs[0])
    if parts is None or times is None or times.op_type != "Mul" or times.domain:
        return
    x, spread, epsilon, axis = parts
    scale = next((value for value in times.inputs if value is not node.outputs[0]), None)
    if not _is_affine(edit, scale, x, axis):
        return
    centred = _centred(edit, x, axis)
    if centred is None:
        made = edit.add(times, "RMSNormalization", [x, scale], {"axis": axis, "epsilon": epsilon}, name=spread.name)
        edit.replace(times.outputs[0], made)
        return
    last, bias = times, None
    plus = edit.reader(times.outputs[0])
    if plus is not None and plus.op_type == "Add":
        other = next((value for value in plus.inputs if value is not times.outputs[0]), None)
        if _is_affine(edit, other, x, axis):
            last, bias = plus, other
    attributes = {"axis": axis, "epsilon": epsilon}
    made = edit.add(last, "LayerNormalization", [centred, scale, bias], attributes, name=spread.name)
    edit.replace(last.outputs[0], made)


def _normalized(edit: Editor, node: ir.Node) -> tuple[ir.Value, ir.Node, float, int] | None:
    """What is divided by its own root mean square: the value, the mean, epsilon and the first axis."""
    pairs = [tuple(node.inputs)] if node.op_type == "Div" else [tuple(node.inputs), tuple(node.inputs[::-1])]
    for x, by in pairs:
        if node.op_type == "Mul":
            turned = edit.maker(by, "Reciprocal")
            one_over = edit.maker(by, "Div")
            over = one_over is not None and edit.number(one_over.inputs[0]) == 1.0
            by = turned.inputs[0] if turned is not None else one_over.inputs[1] if over and one_over is not None else None
        root = edit.maker(by, "Sqrt")
        added = edit.maker(root.inputs[0], "Add") if root is not None else None
        for mean, epsilon in (added.inputs, added.inputs[::-1]) if added is not None else ():
            spread, number = edit.maker(mean, "ReduceMean"), edit.number(epsilon)
            axis = _last_axes(edit, spread)
            if spread is None or number is None or axis is None or x is None or spread.inputs[0] is None:
                continue
            if _same_product(edit, factors(edit, spread.inputs[0]), x):
                return x, spread, number, axis
    return None


def _same_product(edit: Editor, product: tuple[float, list[ir.Value]], x: ir.Value) -> bool:
    """Whether a product is x * x, x itself or another subtraction of the same two."""
    number, values = product
    return number == 1.0 and len(values) == 2 and all(_same_value(edit, value, x) for value in values)


def _same_value(edit: Editor, one: ir.Value, other: ir.Value) -> bool:
    a, b = edit.maker(one, "Sub"), edit.maker(other, "Sub")
    return one is other or (a is not None and b is not None and tuple(a.inputs) == tuple(b.inputs))


def _last_axes(edit: Editor, mean: ir.Node | None) -> int | None:
    """The first of the last axes that a mean goes over, counted from the end; None where it goes over others."""
    axes = edit.constant(mean.inputs[1]) if mean is not None and len(mean.inputs) > 1 else None
    if mean is None or axes is None or not axes.size or not mean.attributes.get_int("keepdims", 1):
        return None
    rank = len(edit.dims(mean.inputs[0]))
    places = sorted(int(axis) % rank for axis in axes.reshape(-1)) if rank else []
    return places[0] - rank if places and places == list(range(places[0], rank)) else None


def _is_affine(edit: Editor, value: ir.Value | None, x: ir.Value, axis: int) -> bool:
    return edit.constant(value) is not None and edit.dims(value) == edit.dims(x)[axis:]


def _centred(edit: Editor, d: ir.Value, axis: int) -> ir.Value | None:
    """x of ``d = x - mean(x)`` over the same axes."""
    node = edit.maker(d, "Sub")
    mean = edit.maker(node.inputs[1], "ReduceMean") if node is not None else None
    if node is None or mean is None or mean.inputs[0] is not node.inputs[0] or _last_axes(edit, mean) != axis:
        return None
    return node.inputs[0]


# ---- attention ---------------------------------------------------------------------------------------------------


@ATTENTION.row("MatMul")
def attention(edit: Editor, node: ir.Node) -> None:
    """softmax(q @ transpose(k) * scale + mask) @ v    becomes    Attention(q, k, v, mask, scale)

    The scale may stand on the product, on q, on k, or half on each; the mask is added, and spans the keys. A guard
    that turns NaN into 0 (rows that are masked away) is part of what Attention means. Heads are an axis of their own:
    (batch, heads, length, width), or none: (batch, length, width).
    """
    p, v = node.inputs
    scores = _softmax(edit, p)
    found = _scores(edit, scores) if scores is not None else None
    if v is None or scores is None or found is None or not is_float(edit.dtype(v)):
        return
    scale, product, mask = found
    q, k_turned = product.inputs
    (m, q), (n, k_turned) = _scaled(edit, q), _scaled(edit, k_turned)
    o, k = _turned(edit, node, k_turned)
    dims = [edit.dims(value) for value in (q, k, v)]
    rank = len(dims[0])
    if rank not in (3, 4) or any(len(d) != rank or d[:-2] != dims[0][:-2] for d in dims) or dims[1][-2] != dims[2][-2]:
        return
    if mask is not None and not _is_mask(edit, mask, scores, product.outputs[0]):
        return
    operands: list[Any] = [q, k, v, mask]
    if rank == 3:
        operands = [value if value is None or len(edit.dims(value)) < 3 else _headed(edit, node, value) for value in operands]
    made = edit.add(node, "Attention", operands, {"scale": scale * m * n * o})
    edit.replace(node.outputs[0], made if rank == 4 else edit.reshape(node, made, edit.dims(node.outputs[0])))


def _softmax(edit: Editor, p: ir.Value | None) -> ir.Value | None:
    """The scores that a softmax over the last axis takes, behind a guard against NaN if there is one."""
    guard = edit.maker(p, "Where")
    if guard is not None:
        asked = edit.maker(guard.inputs[0], "IsNaN")
        if asked is None or asked.inputs[0] is not guard.inputs[2] or edit.number(guard.inputs[1]) != 0:
            return None
        p = guard.inputs[2]
    node = edit.maker(p, "Softmax")
    if node is None or node.attributes.get_int("axis", -1) not in (-1, len(edit.dims(p)) - 1):
        return None
    return node.inputs[0]


def _scores(edit: Editor, scores: ir.Value) -> tuple[float, ir.Node, ir.Value | None] | None:
    """scale, product and mask of ``q @ k * scale + mask``."""
    added = edit.maker(scores, "Add")
    pairs: list[Any] = [*((a, b) for a, b in (added.inputs, added.inputs[::-1]))] if added is not None else [(scores, None)]
    for value, mask in pairs:
        scale, values = factors(edit, value)
        product = edit.maker(values[0], "MatMul") if len(values) == 1 else None
        if product is not None:
            return scale, product, mask
    return None


def _scaled(edit: Editor, value: Any) -> tuple[float, ir.Value]:
    """A value as its number and what is multiplied by it."""
    number, values = factors(edit, value)
    return (number, values[0]) if len(values) == 1 else (1.0, value)


def _turned(edit: Editor, node: ir.Node, k: ir.Value) -> tuple[float, ir.Value]:
    """k with its last two axes exchanged: what was turned is taken as it was, with its number."""
    rank = len(edit.dims(k))
    if rank < 2:
        return 1.0, k
    swap = [*range(rank - 2), rank - 1, rank - 2]
    before = edit.maker(k, "Transpose")
    if before is not None and list(before.attributes.get_ints("perm", ())) == swap:
        return _scaled(edit, before.inputs[0])
    return 1.0, edit.transpose(node, k, swap)


def _is_mask(edit: Editor, mask: ir.Value, scores: ir.Value, product: ir.Value) -> bool:
    """Whether a mask may be Attention's: one that is shorter than the keys would mean something else there."""
    whole, dims = edit.dims(product), edit.dims(mask)
    return (
        edit.dims(scores) == whole
        and edit.dtype(mask) == edit.dtype(product)
        and 2 <= len(dims) <= len(whole)
        and dims[-1] == whole[-1]
    )


def _headed(edit: Editor, node: ir.Node, value: ir.Value) -> ir.Value:
    """(batch, length, width) with an axis for one head."""
    batch, *rest = edit.dims(value)
    return edit.reshape(node, value, (batch, 1, *rest))
