"""A quantised ONNX model as it would be without a rounding: the yardstick of one that was dequantised.

Each operator on integers becomes its own formula on floats, step by step, without ``Round``: what an integer was is the
float that was to be rounded to it. No weight meets its scale, nothing is moved or merged, so that this is another way to
the same numbers than ``to_onnx/dequantize.py`` goes. Formulas: ONNX's definitions of the operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.inference.evaluate import Evaluator, declared_dtype, plain_attributes
from netferry.converters.graph.ops.quantized import RANGES
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer
from netferry.converters.graph.passes.normalize import at_one_opset, standard
from netferry.converters.graph.registry import Table
from netferry.converters.onnx.to_onnx.simplify import rebuilt

Row = Callable[..., Any]
ROWS: Table[str, Row] = Table("unrounded")
FLOAT = np.dtype(np.float32)

MIXED = frozenset("Add Clip Concat Div Max Min Mul Pad Sub Where".split())
"""Operators whose inputs have one dtype: where one has become floats, the others do."""


def unrounded(model: ir.Model) -> onnx.ModelProto:
    """The model without a rounding. Outputs of integers are rounded at the end."""
    made = standard(at_one_opset(model))
    kinds = [declared_dtype(value) for value in made.graph.outputs]
    for graph in (made.graph, *made.graph.subgraphs()):
        for node in graph:
            for value in node.outputs:
                if graph is made.graph or not value.is_graph_output():
                    value.type = value.shape = None
    evaluator = Evaluator(_Unrounded())
    evaluator.graph(made.graph)
    for value, kind in zip(list(made.graph.outputs), kinds, strict=True):
        _as_declared(made.graph, evaluator, value, kind)
    return ir.to_proto(rebuilt(made.graph, model))


def _as_declared(graph: ir.Graph, evaluator: Evaluator, value: Value, kind: np.dtype[Any] | None) -> None:
    fact = evaluator.facts[value]
    maker = value.producer()
    dtype = kind or fact.dtype
    if maker is None or dtype is None:
        return
    name = value.name
    if fact.dtype is not None and fact.dtype.kind == "f" and dtype.kind in "iu":
        rounded = ir.node("Round", [value], name=f"{name}/round")
        cast = ir.node("Cast", rounded.outputs, {"to": _code(dtype)}, name=f"{name}/integers")
        value.name, rounded.outputs[0].name = f"{name}/floats", f"{name}/rounded"
        graph.extend([rounded, cast])
        graph.outputs[list(graph.outputs).index(value)] = value = cast.outputs[0]
        value.name, value.shape = name, maker.outputs[0].shape
    value.type = ir.TensorType(ir.DataType(_code(dtype)))


def _code(dtype: np.dtype[Any]) -> int:
    return int(ir.DataType.from_numpy(dtype))


class _Unrounded:
    """What an ``Evaluator`` calls at each node."""

    def __call__(self, node: ir.Node, evaluator: Evaluator) -> list[ir.Node] | None:
        row = None if node.domain else ROWS.get(node.op_type)
        if row is None and (node.domain or node.op_type not in MIXED):
            return None
        g = Writer(node, evaluator)
        if row is None:
            _alike(g, node)
            return None
        made = row(g, *node.inputs, **plain_attributes(node))
        g.replace([*made] if isinstance(made, tuple) else [made])
        return []


def _alike(g: Writer, node: ir.Node) -> None:
    values = [value for value in node.inputs if value is not None]
    if node.op_type == "Where":
        values = values[1:]
    elif node.op_type == "Pad":
        values = [values[0], *values[2:3]]
    kinds = {g.facts[value].dtype for value in values}
    if len(kinds) > 1 and FLOAT in kinds:
        for place, value in enumerate(node.inputs):
            if value in values and value is not None:
                node.replace_input_with(place, g.as_dtype(value, FLOAT))


def _spread(g: Writer, part: Value, rank: int, axis: int, block: int, size: int = 0) -> Value:
    """A scale or zero point as floats where it meets a tensor: of all, of an axis, or of blocks along it."""
    wide = g.as_dtype(part, FLOAT)
    dims = g.dims(part)
    if dims in ((), (1,)):
        return wide if dims == () else g.Reshape(wide, g.constant([], np.int64))
    if block and len(dims) == rank:
        places = np.arange(size) // block
        return g.Gather(wide, g.constant(places), axis=axis % rank)
    return g.reshape(wide, *[-1 if place == axis % rank else 1 for place in range(rank)])


@ROWS.row("QuantizeLinear")
def _quantize(
    g: Writer, x: Value, scale: Value, zero: Maybe = None, *, axis: int = 1, block_size: int = 0,
    output_dtype: int = 0, precision: int = 0, saturate: int = 1,
) -> Value:  # fmt: skip
    dtype = g.dtype(zero) if zero is not None else np.dtype(np.uint8)
    if zero is None and output_dtype:
        dtype = np.dtype(ir.DataType(output_dtype).numpy())
    if dtype.name not in RANGES or block_size:
        raise CannotConvert(f"quantising to {dtype.name} cannot be written without a rounding")
    rank = g.rank(x)
    y = g.Div(g.as_dtype(x, FLOAT), _spread(g, scale, rank, axis, 0))
    if zero is not None:
        y = g.Add(y, _spread(g, zero, rank, axis, 0))
    low, high = RANGES[dtype.name]
    return g.Clip(y, g.constant(low, FLOAT), g.constant(high, FLOAT))


@ROWS.row("DequantizeLinear")
def _dequantize(
    g: Writer, x: Value, scale: Value, zero: Maybe = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Value:  # fmt: skip
    rank, size = g.rank(x), 0
    if block_size:
        size = g.known(x, axis, "the size of the axis that is quantised in blocks")
    y = g.as_dtype(x, FLOAT)
    if zero is not None:
        y = g.Sub(y, _spread(g, zero, rank, axis, block_size, size))
    y = g.Mul(y, _spread(g, scale, rank, axis, block_size, size))
    return g.Cast(y, to=output_dtype) if output_dtype else g.as_dtype(y, g.dtype(scale))


@ROWS.row("DynamicQuantizeLinear")
def _quantize_by_range(g: Writer, x: Value) -> tuple[Value, Value, Value]:
    none = g.constant(0, FLOAT)
    low, high = (
        g.Min(g.ReduceMin(x, keepdims=0), none), g.Max(g.ReduceMax(x, keepdims=0), none),
    )  # fmt: skip
    span = g.Sub(high, low)
    span = g.Where(g.Equal(span, none), g.constant(1, FLOAT), span)
    scale = g.Div(span, g.constant(255, FLOAT))
    zero = g.Div(g.Neg(low), scale)
    return g.Add(g.Div(x, scale), zero), scale, zero


def _shifted(g: Writer, x: Value, zero: Maybe, axis: int) -> Value:
    wide = g.as_dtype(x, FLOAT)
    return wide if zero is None else g.Sub(wide, _spread(g, zero, g.rank(x), axis, 0))


@ROWS.row("MatMulInteger")
def _multiply(g: Writer, a: Value, b: Value, a_zero: Maybe = None, b_zero: Maybe = None) -> Value:
    return g.MatMul(_shifted(g, a, a_zero, -2), _shifted(g, b, b_zero, -1))


@ROWS.row("ConvInteger")
def _convolve(
    g: Writer, x: Value, w: Value, x_zero: Maybe = None, w_zero: Maybe = None, **windows: Any
) -> Value:
    return g.Conv(_shifted(g, x, x_zero, 1), _shifted(g, w, w_zero, 0), **windows)


@ROWS.row("QLinearConv")
def _quantized_convolution(
    g: Writer, x: Value, x_scale: Value, x_zero: Value, w: Value, w_scale: Value, w_zero: Value, y_scale: Value,
    y_zero: Value, bias: Maybe = None, **windows: Any,
) -> Value:  # fmt: skip
    y = _convolve(g, x, w, x_zero, w_zero, **windows)
    rank = g.rank(y)
    if bias is not None:
        y = g.Add(y, _spread(g, bias, rank, 1, 0))
    y = g.Mul(g.Mul(y, _spread(g, x_scale, rank, 1, 0)), _spread(g, w_scale, rank, 1, 0))
    return _quantize(g, y, y_scale, y_zero)


@ROWS.row("QLinearMatMul")
def _quantized_product(
    g: Writer, a: Value, a_scale: Value, a_zero: Value, b: Value, b_scale: Value, b_zero: Value, y_scale: Value,
    y_zero: Value,
) -> Value:  # fmt: skip
    y = _multiply(g, a, b, a_zero, b_zero)
    rank = g.rank(y)
    y = g.Mul(g.Mul(y, _spread(g, a_scale, rank, -2, 0)), _spread(g, b_scale, rank, -1, 0))
    return _quantize(g, y, y_scale, y_zero, axis=-2)
