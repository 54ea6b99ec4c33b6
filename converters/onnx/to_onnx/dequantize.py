"""A quantised ONNX model with weights of floats, which learn as any others, for who asks: ``--dequantize``."""

from __future__ import annotations

import onnx_ir as ir

from netferry.converters.graph.inference import contents
from netferry.converters.graph.ops.quantized import RANGES
from netferry.converters.graph.passes.contrib import is_contrib
from netferry.converters.graph.passes.normalize import in_floats
from netferry.converters.onnx.part import drop_unread
from netferry.converters.onnx.to_onnx.simplify import rebuilt

INTEGERS = frozenset(
    """
    ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul QuantizeLinear
    """.split()
)


def dequantized(model: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """The model with floats in the place of integers, and sentences on what became of them."""
    before = _integers(model.graph)
    graph, floats = in_floats(model)
    drop_unread(graph)
    weights = max(floats.weights, len(before - _integers(graph)))
    left = sum(node.op_type in INTEGERS and not node.domain for node in graph.all_nodes())
    closed = sorted({node.op_type for node in graph.all_nodes() if is_contrib(node)})
    if not (weights or floats.roundings):
        return model, ("nothing was dequantised: the model has no weights of integers that stand for floats",)
    notes = [
        f"{weights} weights of integers are floats now, which can be trained; {floats.roundings} roundings of "
        "activations are left out, and the ranges of their integers are kept as bounds"
    ]
    if left or closed:
        named = f", {', '.join(closed)} as a whole" if closed else ""
        notes.append(f"{left} operators on integers stay{named}")
    return rebuilt(graph, model), tuple(notes)


def _integers(graph: ir.Graph) -> set[str]:
    """The names of the graph's weights of few bits."""
    return {
        name
        for name, value in graph.initializers.items()
        if value.const_value is not None
        and contents.numpy_dtype(value.const_value.dtype).name in RANGES
        and value.const_value.size > 1
    }
