"""Integers that stand for floats, as these floats, for who asks: ``--dequantize``.

A quantised value q stands for (q - zero) * scale. What is written in its place computes on what it stands for:

1. QuantizeLinear(x)             x, held within what the integers reach: it saturates as before, and rounds no more
2. DynamicQuantizeLinear(x)      x
3. DequantizeLinear(q)           a weight of floats, or what q stands for
4. Mul(Cast(MatMulInteger(a, b)), scales)    MatMul of floats, where b holds its scale; ConvInteger the same
5. QLinearConv, QLinearMatMul    Conv, MatMul of floats, held within what the integers reach
6. Reshape, Transpose, ...       the same on what q stands for

The integers stay where something else reads them. Semantics: ONNX's own definitions of these operators.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.inference import contents
from netferry.converters.graph.inference.evaluate import Evaluator, plain_attributes
from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.ops.quantized import RANGES
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer
from netferry.converters.graph.registry import Table
from netferry.converters.signature import Array

MOVES = frozenset(
    """
    Concat DepthToSpace Expand Flatten Gather Identity MaxPool Reshape Slice SpaceToDepth Split Squeeze Tile Transpose
    Unsqueeze
    """.split()
)
"""What hands integers on as they are: the same is done to the floats."""


@dataclass(frozen=True)
class Real:
    """The floats that a quantised value stands for, and how."""

    value: Value
    scale: Value
    zero: Maybe


@dataclass(frozen=True)
class Product:
    """Integers: ``left`` times ``right``, which holds the integers of a weight or stands for floats, plus ``bias``."""

    node: ir.Node
    left: Real
    right: Array | Real
    name: str
    bias: Array | None = None

    @property
    def scales(self) -> list[Value]:
        return [self.left.scale, *([self.right.scale] if isinstance(self.right, Real) else [])]


Results = list[Value] | None
Row = Callable[["Floats", Writer, ir.Node], Results]
ROWS: Table[str, Row] = Table("floats")


@dataclass
class Floats:
    """What an ``Evaluator`` calls at each node: rows write floats before a node, or in its place.

    ``taken`` are the names that the model has given.
    """

    taken: set[str]
    real: dict[Value, Real] = field(default_factory=dict)
    products: dict[Value, Product] = field(default_factory=dict)
    weights: int = 0
    roundings: int = 0

    def __call__(self, node: ir.Node, evaluator: Evaluator) -> list[ir.Node] | None:
        row = None if node.domain else ROWS.get(node.op_type) or (_move if node.op_type in MOVES else None)
        if row is None or any(value in self.real or value in self.products for value in node.outputs):
            return None
        g = Writer(node, evaluator)
        try:
            results = row(self, g, node)
        except CannotConvert:
            g.undo()
            return None
        if results is None:
            return None
        g.replace(results)
        return []

    # ---- what rows share ------------------------------------------------------------------------------

    def of(self, g: Writer, q: Value, scale: Value, zero: Maybe) -> Value:
        """What ``q`` stands for: what is known of it, else dequantised where it stands."""
        known = self.real.get(q)
        if known is not None and _same(g, known.scale, scale) and _same(g, known.zero, zero):
            return known.value
        return g.DequantizeLinear(q, scale, zero)

    def quantized(self, g: Writer, y: Value, scale: Value, zero: Maybe) -> Value:
        """``y`` held within what the integers reach, and the integers for who reads them."""
        held = _held(g, y, scale, zero, g.dtype(zero) if zero is not None else np.dtype(np.uint8))
        q = g.QuantizeLinear(held, scale, zero)
        self.real[q] = Real(held, scale, zero)
        self.roundings += 1
        return q

    def weight(self, g: Writer, array: Array, dtype: np.dtype[Any], name: str) -> Value:
        """A weight of floats, under the name of the integers that it was."""
        self.weights += 1
        wish = re.sub(r"_(quantized|quant|q|Q\d+)$", "", name)
        return g.constant(
            array.astype(dtype), name=unique(wish if wish != name else f"{name}_float", self.taken)
        )


def _inputs(node: ir.Node, count: int) -> list[Any]:
    return [*node.inputs, *[None] * count][:count]


def _same(g: Writer, a: Maybe, b: Maybe) -> bool:
    """Whether two values are one number: the same value, reshaped or not, or equal constants. None is 0."""
    a, b = _through(g, a), _through(g, b)
    if a is b:
        return True
    ours, theirs = (np.zeros(()) if x is None else g.constant_of(x) for x in (a, b))
    if ours is None or theirs is None:
        return False
    return bool(np.array_equal(ours.reshape(-1), theirs.reshape(-1)))


def _through(g: Writer, x: Maybe) -> Maybe:
    """What a number was before it was reshaped."""
    while x is not None and g.constant_of(x) is None:
        maker = x.producer()
        if maker is None or maker.op_type not in ("Reshape", "Squeeze", "Unsqueeze", "Identity"):
            break
        x = maker.inputs[0]
    return x


def _whole(g: Writer, x: Maybe, what: str) -> Array:
    """A constant in float64; 0 where it is left out."""
    return np.zeros(()) if x is None else g.content(x, what).astype(np.float64)


def _along(part: Array, rank: int, axis: int) -> Array:
    """One number, or one for each place of an axis, where it meets a tensor of ``rank``."""
    if part.size == 1:
        return part.reshape(())
    return part.reshape([-1 if place == axis % rank else 1 for place in range(rank)])


def _held(
    g: Writer, x: Value, scale: Value, zero: Maybe, dtype: np.dtype[Any], axis: int = 1, block: int = 0
) -> Value:
    """``x`` within (low - zero) * scale and (high - zero) * scale."""
    if dtype.name not in RANGES or block:
        raise CannotConvert("its integers have no range, or a scale for each block")
    low, high = RANGES[dtype.name]
    rank = g.rank(x)
    s, z = (_along(_whole(g, part, "its scale or zero point"), rank, axis) for part in (scale, zero))
    ends = [g.constant(np.asarray((end - z) * s), g.dtype(x)) for end in (low, high)]
    if ends[0].shape is not None and not len(ends[0].shape):
        return g.Clip(x, *ends)
    return g.Min(g.Max(x, ends[0]), ends[1])


# ---- quantised and back -----------------------------------------------------------------------------------


@ROWS.row("QuantizeLinear")
def _quantize(floats: Floats, g: Writer, node: ir.Node) -> Results:
    x, scale, zero = _inputs(node, 3)
    if g.constant_of(x) is not None:
        return None
    given = plain_attributes(node)
    stated = given.get("output_dtype", 0)
    dtype = g.dtype(zero) if zero is not None else np.dtype(np.uint8)
    if zero is None and stated:
        dtype = contents.numpy_dtype(ir.DataType(stated))
    held = _held(g, x, scale, zero, dtype, given.get("axis", 1), given.get("block_size", 0))
    floats.real[node.outputs[0]] = Real(held, scale, zero)
    floats.roundings += 1
    return None


@ROWS.row("DynamicQuantizeLinear")
def _quantize_by_range(floats: Floats, g: Writer, node: ir.Node) -> Results:
    y, scale, zero = node.outputs
    x = node.inputs[0]
    assert x is not None
    floats.real[y] = Real(x, scale, zero)
    floats.roundings += 1
    return None


@ROWS.row("DequantizeLinear")
def _dequantize(floats: Floats, g: Writer, node: ir.Node) -> Results:
    q, scale, zero = _inputs(node, 3)
    given = plain_attributes(node)
    dtype = g.dtype(scale)
    if given.get("output_dtype"):
        dtype = contents.numpy_dtype(ir.DataType(given["output_dtype"]))
    axis, block = given.get("axis", 1), given.get("block_size", 0)
    held = g.constant_of(q)
    if held is not None:
        array = _dequantized(
            held, _whole(g, scale, "its scale"), _whole(g, zero, "its zero point"), axis, block
        )
        return [floats.weight(g, array, dtype, str(q.name))]
    known = floats.real.get(q)
    if known is not None and _same(g, known.scale, scale) and _same(g, known.zero, zero):
        return [g.as_dtype(known.value, dtype)]
    return _rows_of_a_table(floats, g, (q, scale, zero), dtype)


def _rows_of_a_table(
    floats: Floats, g: Writer, parts: tuple[Value, Value, Maybe], dtype: np.dtype[Any]
) -> Results:
    """DequantizeLinear(Gather(q, ids))    becomes    Gather(floats, ids), of one scale for the whole table."""
    q, scale, zero = parts
    maker = q.producer()
    table = None if maker is None or maker.op_type != "Gather" or maker.domain else maker.inputs[0]
    if maker is None or table is None or g.constant_of(table) is None:
        return None
    s, z = _whole(g, scale, "its scale"), _whole(g, zero, "its zero point")
    if s.size != 1 or z.size != 1:
        return None
    array = (g.content(table, "its table").astype(np.float64) - z.reshape(())) * s.reshape(())
    made = floats.weight(g, array, dtype, str(table.name))
    return [g.ops("Gather", made, maker.inputs[1], outputs=1, **plain_attributes(maker))[0]]


def _dequantized(q: Array, scale: Array, zero: Array, axis: int, block: int) -> Array:
    """(q - zero) * scale, each of all, of an axis, or of blocks along it."""
    axis %= max(q.ndim, 1)

    def spread(part: Array) -> Array:
        if part.size == 1 or not block or part.ndim != q.ndim:
            return _along(part, q.ndim, axis)
        wide = np.repeat(part, block, axis)
        return wide[tuple(slice(0, size) for size in q.shape)]

    return np.asarray((q.astype(np.float64) - spread(zero)) * spread(scale))


# ---- products ---------------------------------------------------------------------------------------------


@ROWS.row("MatMulInteger", "ConvInteger")
def _integers(floats: Floats, g: Writer, node: ir.Node) -> Results:
    a, b, a_zero, b_zero = _inputs(node, 4)
    left, right = floats.real.get(a), floats.real.get(b)
    if left is None or not _same(g, left.zero, a_zero):
        return None
    held = g.constant_of(b)
    if held is not None:
        axis = 0 if node.op_type == "ConvInteger" else held.ndim - 1
        zero = _along(_whole(g, b_zero, "its zero point"), held.ndim, axis)
        floats.products[node.outputs[0]] = Product(node, left, held.astype(np.float64) - zero, str(b.name))
    elif right is not None and _same(g, right.zero, b_zero):
        floats.products[node.outputs[0]] = Product(node, left, right, str(b.name))
    return None


@ROWS.row("Cast")
def _cast(floats: Floats, g: Writer, node: ir.Node) -> Results:
    product = None if node.inputs[0] is None else floats.products.get(node.inputs[0])
    if product is not None and contents.numpy_dtype(ir.DataType(node.attributes["to"].as_int())).kind == "f":
        floats.products[node.outputs[0]] = product
    return None


@ROWS.row("Add")
def _add(floats: Floats, g: Writer, node: ir.Node) -> Results:
    """Integers added to a product of integers."""
    for one, other in (node.inputs, node.inputs[::-1]):
        assert one is not None
        product = floats.products.get(one)
        bias = g.constant_of(other)
        if product is not None and bias is not None and product.bias is None and bias.dtype.kind in "iu":
            floats.products[node.outputs[0]] = replace(product, bias=bias.astype(np.float64))
    return None


@ROWS.row("Mul")
def _scaled(floats: Floats, g: Writer, node: ir.Node) -> Results:
    """A product of integers, times its scales: from here on it is one of floats."""
    for one, other in (node.inputs, node.inputs[::-1]):
        assert one is not None
        assert other is not None
        product = floats.products.get(one)
        rest = None if product is None else _rest(g, other, product.scales)
        if product is not None and rest is not None:
            return _written(floats, g, product, rest, g.dtype(other))
    return None


def _rest(g: Writer, scale: Value, scales: Sequence[Value]) -> Array | None:
    """What is left of a scale once ``scales`` are taken out of it; None where that is not known."""
    wanted, rest = list(scales), np.ones(())
    for factor in _factors(g, scale):
        met = next((one for one in wanted if _same(g, one, factor)), None)
        if met is not None:
            wanted.remove(met)
            continue
        known = g.constant_of(factor)
        if known is None:
            return None
        rest = rest * known.astype(np.float64)
    for one in wanted:
        known = g.constant_of(one)
        if known is None or known.size != 1:
            return None
        rest = rest / float(known.reshape(-1)[0])
    return np.asarray(rest)


def _factors(g: Writer, x: Value) -> list[Value]:
    maker = x.producer() if g.constant_of(x) is None else None
    if maker is None or maker.op_type != "Mul" or maker.domain:
        return [x]
    return [factor for value in maker.inputs if value is not None for factor in _factors(g, value)]


def _written(floats: Floats, g: Writer, product: Product, rest: Array, dtype: np.dtype[Any]) -> Results:
    convolves = product.node.op_type == "ConvInteger"
    left = g.as_dtype(product.left.value, dtype)
    if isinstance(product.right, Real):
        if rest.size != 1 or product.bias is not None or convolves:
            return None
        y = g.MatMul(left, g.as_dtype(product.right.value, dtype))
        return [y if rest == 1 else g.Mul(y, g.constant(rest, dtype))]
    axis = 0 if convolves else product.right.ndim - 1
    if rest.size not in (1, product.right.shape[axis]):
        return None
    of_weight = product.right * _along(rest, product.right.ndim, axis)
    if product.bias is not None:
        (scale,) = (g.constant_of(one) for one in product.scales)
        if scale is None or scale.size != 1:
            return None
    w = floats.weight(g, of_weight, dtype, product.name)
    given = plain_attributes(product.node)
    y = g.ops("Conv" if convolves else "MatMul", left, w, outputs=1, **given)[0]
    if product.bias is None:
        return [y]
    assert scale is not None
    return [g.Add(y, g.constant(product.bias * scale.astype(np.float64).reshape(()) * rest, dtype))]


@ROWS.row("QLinearConv")
def _convolution(floats: Floats, g: Writer, node: ir.Node) -> Results:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = _inputs(node, 9)
    kernel = g.content(w, "its kernel")
    scale, zero = _whole(g, w_scale, "its scale"), _whole(g, w_zero, "its zero point")
    array = _dequantized(kernel, scale, zero, 0, 0)
    offsets = None
    if bias is not None:
        unit = _whole(g, x_scale, "its scale").reshape(()) * scale.reshape(-1)
        offsets = g.content(bias, "its bias").astype(np.float64) * unit
    dtype = g.dtype(x_scale)
    left = floats.of(g, x, x_scale, x_zero)
    operands = [floats.weight(g, array, dtype, str(w.name))]
    if offsets is not None:
        operands.append(floats.weight(g, offsets, dtype, str(bias.name)))
    y = g.ops("Conv", left, *operands, outputs=1, **plain_attributes(node))[0]
    return [floats.quantized(g, y, y_scale, y_zero)]


@ROWS.row("QLinearMatMul")
def _product(floats: Floats, g: Writer, node: ir.Node) -> Results:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = _inputs(node, 8)
    held, dtype = g.constant_of(b), g.dtype(a_scale)
    left = floats.of(g, a, a_scale, a_zero)
    if held is None:
        right = floats.of(g, b, b_scale, b_zero)
    else:
        scale, zero = _whole(g, b_scale, "its scale"), _whole(g, b_zero, "its zero point")
        right = floats.weight(g, _dequantized(held, scale, zero, held.ndim - 1, 0), dtype, str(b.name))
    return [floats.quantized(g, g.MatMul(left, right), y_scale, y_zero)]


# ---- what only moves ------------------------------------------------------------------------------------


def _move(floats: Floats, g: Writer, node: ir.Node) -> Results:
    count = len(node.inputs) if node.op_type == "Concat" else 1
    known = [None if value is None else floats.real.get(value) for value in node.inputs[:count]]
    first = known[0] if known else None
    if first is None or not _of_one(g, first):
        return None
    values = []
    for one in known:
        if one is None or not _same(g, one.scale, first.scale) or not _same(g, one.zero, first.zero):
            return None
        values.append(one.value)
    given: Mapping[str, Any] = plain_attributes(node)
    made = g.ops(node.op_type, *values, *node.inputs[count:], outputs=len(node.outputs), **given)
    for old, new in zip(node.outputs, made, strict=True):
        floats.real[old] = Real(new, first.scale, first.zero)
    return None


def _of_one(g: Writer, real: Real) -> bool:
    """Whether its scale is one number, wherever its elements go."""
    return all(part is None or g.dims(part) in ((), (1,)) for part in (real.scale, real.zero))
