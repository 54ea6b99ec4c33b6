"""Products that stand for an activation: Gelu, Swish, HardSwish, Mish."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from netferry.converters.graph.passes.edit import Editor
from netferry.converters.graph.passes.factors import factors, first_match, nearly, other_addend


def gelu(edit: Editor, node: ir.Node) -> Any:
    """Two formulas are Gelu, in any order of their factors. Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.

    1. 0.5 * x * (1 + erf(x / sqrt(2)))                                becomes    Gelu(x)
    2. 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))      becomes    Gelu(x, approximate="tanh")
    """
    y = node.outputs[0]
    number, values = factors(edit, y)
    if len(values) != 2 or not nearly(number, 0.5, edit, y):
        return None
    for x, other in (values, values[::-1]):
        curve = edit.maker(other_addend(edit, other, 1.0), "Erf", "Tanh")
        if curve is None or curve.inputs[0] is None:
            continue
        if curve.op_type == "Erf":  # 1
            scale, inside = factors(edit, curve.inputs[0])
            if inside == [x] and nearly(scale, math.sqrt(0.5), edit, y):
                return edit.add(node, "Gelu", [x])
        elif _is_cubic(edit, curve.inputs[0], x):  # 2
            return edit.add(node, "Gelu", [x], {"approximate": "tanh"})
    return None


def _is_cubic(edit: Editor, value: ir.Value, x: ir.Value) -> bool:
    """Whether a value is one of two forms of the same cubic.

    1. sqrt(2 / pi) * x * (1 + 0.044715 * x**2)
    2. sqrt(2 / pi) * (x + 0.044715 * x**3)
    """
    scale, inside = factors(edit, value)
    if not nearly(scale, math.sqrt(2 / math.pi), edit, value):
        return False
    if len(inside) == 2 and x in inside:  # 1
        (bracket,) = [one for one in inside if one is not x] or [x]
        rest, power = other_addend(edit, bracket, 1.0), 2
    elif len(inside) == 1:  # 2
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
    return values == [x] * power and nearly(number, 0.044715, edit, value)


def swish(edit: Editor, node: ir.Node) -> Any:
    """x * sigmoid(alpha * x)    becomes    Swish(x, alpha)"""
    number, values = factors(edit, node.outputs[0])
    sigmoid, rest = first_match(values, lambda value: edit.maker(value, "Sigmoid"))
    if sigmoid is None or len(rest) != 1 or number != 1.0:
        return None
    alpha, inside = factors(edit, sigmoid.inputs[0])
    return edit.add(node, "Swish", rest, {"alpha": alpha} if alpha != 1.0 else {}) if inside == rest else None


def hard_swish(edit: Editor, node: ir.Node) -> Any:
    """Two formulas are HardSwish.

    1. x * hard_sigmoid(x, 1/6, 0.5)    becomes    HardSwish(x)
    2. x * clip(x + 3, 0, 6) / 6        becomes    HardSwish(x)
    """
    y = node.outputs[0]
    number, values = factors(edit, y)
    gate, rest = first_match(values, lambda value: edit.maker(value, "HardSigmoid", "Clip"))
    if gate is None or len(rest) != 1:
        return None
    if gate.op_type == "HardSigmoid":  # 1
        alpha, beta = gate.attributes.get_float("alpha", 0.2), gate.attributes.get_float("beta", 0.5)
        fits = number == 1.0 and nearly(alpha, 1 / 6, edit, y) and beta == 0.5 and gate.inputs[0] is rest[0]
    else:  # 2
        low, high = [*(edit.number(value) for value in gate.inputs[1:]), None, None][:2]
        fits = (
            low == 0
            and high == 6
            and nearly(number, 1 / 6, edit, y)
            and other_addend(edit, gate.inputs[0], 3.0) is rest[0]
        )
    return edit.add(node, "HardSwish", rest) if fits else None


def mish(edit: Editor, node: ir.Node) -> Any:
    """x * tanh(softplus(x))    becomes    Mish(x)"""
    number, values = factors(edit, node.outputs[0])
    tanh, rest = first_match(values, lambda value: edit.maker(value, "Tanh"))
    inside = edit.maker(tanh.inputs[0], "Softplus") if tanh is not None else None
    fits = inside is not None and number == 1.0 and rest == [inside.inputs[0]]
    return edit.add(node, "Mish", rest) if fits else None
