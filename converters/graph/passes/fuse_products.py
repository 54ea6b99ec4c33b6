"""Products that stand for an activation or a normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from netferry.converters.graph.passes.edit import Editor
from netferry.converters.graph.registry import Table

PRODUCTS: Table[str, Callable[[Editor, ir.Node], None]] = Table("products")


_DEEPEST = 16
"""How many products are opened to find the factors of one: no pattern needs more."""


def factors(edit: Editor, value: ir.Value) -> tuple[float, list[ir.Value]]:
    """A product as its number and its other factors, through Mul, Div by a number, and small powers.

    Inner products are opened where nothing else reads them, and not deeper than patterns go.
    """
    number, found, rest, opened = 1.0, list[ir.Value](), [value], 0
    while rest:
        one = rest.pop()
        known = None if edit.facts[one].trainable else edit.number(one)
        if known is not None:
            number *= known
            continue
        opens = one is value or (opened < _DEEPEST and edit.inner(one))
        node = edit.maker(one, "Mul", "Div", "Pow") if opens else None
        a, b = (None, None) if node is None else node.inputs
        by = None if b is None or edit.facts[b].trainable else edit.number(b)
        if node is None or a is None or b is None:
            found.append(one)
            continue
        opened += 1
        if node.op_type == "Mul":
            rest += [b, a]
        elif node.op_type == "Div" and by:
            number /= by
            rest.append(a)
        elif node.op_type == "Pow" and by in (2.0, 3.0):
            found += [a] * int(by)
        else:
            found.append(one)
    return number, found


def _plus(edit: Editor, value: ir.Value, number: float) -> ir.Value | None:
    """The other side of ``number + other``."""
    node = edit.maker(value, "Add")
    for one, other in (node.inputs, node.inputs[::-1]) if node is not None else ():
        if _near(edit.number(one), number, edit, value):
            return other
    return None


def _near(number: float | None, wanted: float, edit: Editor, value: ir.Value) -> bool:
    """Equal, as far as constants of this dtype can say: 0.1666667 is not the float32 of a sixth."""
    tolerance = {"float16": 2e-3, "bfloat16": 1e-2}.get(edit.dtype(value).name, 1.2e-7)
    return number is not None and math.isclose(number, wanted, rel_tol=tolerance)


def _split(values: list[ir.Value], matches: Callable[[ir.Value], Any]) -> tuple[Any, list[ir.Value]]:
    """What the first factor that matches gives, and the other factors."""
    for place, value in enumerate(values):
        found = matches(value)
        if found is not None:
            return found, values[:place] + values[place + 1 :]
    return None, values


@PRODUCTS.row("Mul", "Div")
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
        rest = (
            next((b for a, b in (adder.inputs, adder.inputs[::-1]) if a is x), None)
            if adder is not None
            else None
        )
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
        fits = (
            low == 0
            and high == 6
            and _near(number, 1 / 6, edit, y)
            and _plus(edit, gate.inputs[0], 3.0) is rest[0]
        )
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
        made = edit.add(
            times, "RMSNormalization", [x, scale], {"axis": axis, "epsilon": epsilon}, name=spread.name
        )
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
            by = (
                turned.inputs[0]
                if turned is not None
                else one_over.inputs[1]
                if over and one_over is not None
                else None
            )
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
