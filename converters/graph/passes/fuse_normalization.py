"""Products that stand for a normalisation over the last axes: LayerNormalization, RMSNormalization."""

from __future__ import annotations

import onnx_ir as ir

from netferry.converters.graph.passes.edit import Editor
from netferry.converters.graph.passes.factors import factors


def normalization(edit: Editor, node: ir.Node) -> None:
    """A value over its own root mean square is a normalisation; the division may be a product with the reciprocal.

    1. x / sqrt(mean(x**2) + epsilon) * scale              becomes    RMSNormalization(x, scale)
    2. the same of d = x - mean(x), perhaps plus a bias    becomes    LayerNormalization(x, scale, bias)
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
    if centred is None:  # 1
        made = edit.add(
            times, "RMSNormalization", [x, scale], {"axis": axis, "epsilon": epsilon}, name=spread.name
        )
        edit.replace(times.outputs[0], made)
        return
    last, bias = times, None  # 2
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
    positions = sorted(int(axis) % rank for axis in axes.reshape(-1)) if rank else []
    return positions[0] - rank if positions and positions == list(range(positions[0], rank)) else None


def _is_affine(edit: Editor, value: ir.Value | None, x: ir.Value, axis: int) -> bool:
    return edit.constant(value) is not None and edit.dims(value) == edit.dims(x)[axis:]


def _centred(edit: Editor, d: ir.Value, axis: int) -> ir.Value | None:
    """x of ``d = x - mean(x)`` over the same axes."""
    node = edit.maker(d, "Sub")
    mean = edit.maker(node.inputs[1], "ReduceMean") if node is not None else None
    if node is None or mean is None or mean.inputs[0] is not node.inputs[0] or _last_axes(edit, mean) != axis:
        return None
    return node.inputs[0]
