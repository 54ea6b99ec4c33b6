"""What several operators of a graph were before: layers that the operator which ends them finds again.

Each function looks at what its operands were made by, and gives the layer's own operator, or None. What becomes of the
operators in between, if nobody else reads them, is that they are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import Attrs, Emitter

_ADD, _SUB, _MUL = ("AddV2", "Add", "BiasAdd"), ("Sub",), ("Mul",)


def read_by(g: Emitter, x: Tensor, *operators: str) -> tuple[Any, ...] | None:
    """What the operator that gave ``x`` read, where it is one of these."""
    made = g.made_by.get(x.value)
    if made is None or made[0] not in operators or x.perm != g.lay.get(x.value):
        return None
    return made[2]


def attributes_of(g: Emitter, x: Tensor) -> Attrs:
    found: Attrs = g.made_by[x.value][1]
    return found


def same(x: Tensor, y: Tensor) -> bool:
    return x.value is y.value and x.perm == y.perm


def number(g: Emitter, x: Tensor) -> float | None:
    """The number that a constant is."""
    if x.array is None or x.array.size != 1 or x.value in g.weights:
        return None
    return float(x.array.reshape(-1)[0])


def close(found: float | None, want: float) -> bool:
    return found is not None and math.isclose(found, want, rel_tol=1e-4)


def _either(pair: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(pair[0], pair[1]), (pair[1], pair[0])]


# ---- normalisation: x * inv + (beta - mean * inv), inv = gamma / sqrt(variance + epsilon) ----------------------------


def normalised(g: Emitter, left: Tensor, right: Tensor) -> Tensor | None:
    """BatchNormalization where the statistics are weights, LayerNormalization where they are those of the last axis."""
    for scaled, moved in _either((left, right)):
        product = read_by(g, scaled, *_MUL)
        shift = _shift(g, moved)
        if product is None or shift is None:
            continue
        mean, inverse, beta = shift
        for x, factor in _either(product):
            if not same(factor, inverse):
                continue
            statistics = _scale(g, inverse)
            if statistics is not None:
                return _written(g, _Normalised(x, mean, beta, *statistics))
    return None


class _Normalised(NamedTuple):
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta``."""

    x: Tensor
    mean: Tensor
    beta: Tensor | None
    variance: Tensor
    epsilon: float
    gamma: Tensor | None


def _written(g: Emitter, found: _Normalised) -> Tensor | None:
    if found.x.dims is None:
        return None
    if found.mean.array is not None and found.variance.array is not None:
        return _batch_normalization(g, found)
    return _layer_normalization(g, found)


def _shift(g: Emitter, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """(mean, inv, beta) of ``beta - mean * inv``, as TensorFlow or Keras writes it."""
    difference = read_by(g, x, *_SUB)
    if difference is not None:
        product = read_by(g, difference[1], *_MUL)
        return None if product is None else (product[0], product[1], difference[0])
    total = read_by(g, x, *_ADD)
    for negative, beta in _either(total) if total is not None else [(x, None)]:
        found = _negative_product(g, negative)
        if found is not None:
            return (*found, beta)
    return None


def _negative_product(g: Emitter, x: Tensor) -> tuple[Tensor, Tensor] | None:
    whole = read_by(g, x, "Neg")
    product = read_by(g, x if whole is None else whole[0], *_MUL)
    if product is None or whole is not None:
        return product  # type: ignore[return-value]
    for one, other in _either(product):
        inner = read_by(g, one, "Neg")
        if inner is not None:
            return inner[0], other
    return None


def _scale(g: Emitter, x: Tensor) -> tuple[Tensor, float, Tensor | None] | None:
    """(variance, epsilon, gamma) of ``gamma / sqrt(variance + epsilon)``."""
    product = read_by(g, x, *_MUL)
    for root, gamma in _either(product) if product is not None else [(x, None)]:
        inside = read_by(g, root, "Rsqrt")
        total = None if inside is None else read_by(g, inside[0], *_ADD)
        for variance, constant in _either(total) if total is not None else []:
            epsilon = number(g, constant)
            if epsilon is not None:
                return variance, epsilon, gamma
    return None


def _batch_normalization(g: Emitter, found: _Normalised) -> Tensor | None:
    x, mean, beta, variance, epsilon, gamma = found
    assert mean.array is not None
    axis = _channel(mean.array, x.rank)
    if axis is None or x.rank < 2:
        return None
    count = mean.array.size
    own = [_flat(g, each, count, axis, x.rank) for each in (gamma, beta, mean, variance)]
    given = [gamma, beta, mean, variance]
    if any(flat is None and each is not None for flat, each in zip(own, given, strict=True)):
        return None
    ones = own[0] or g.constant(np.ones(count, x.dtype))
    zeros = own[1] or g.constant(np.zeros(count, x.dtype))
    order = (0, axis, *(each for each in range(1, x.rank) if each != axis))
    y = g.BatchNormalization(g.transpose(x, order), ones, zeros, own[2], own[3], epsilon=epsilon)
    return g.transpose(y, layout.inverse(order))


def _channel(array: Array, rank: int) -> int | None:
    """The axis on which a weight of one number for each channel lies."""
    shape = (1,) * (rank - array.ndim) + array.shape
    wide = [axis for axis, size in enumerate(shape) if size != 1]
    if len(wide) > 1 or len(shape) != rank or wide == [0]:
        return None
    return wide[0] if wide else rank - 1


def _flat(g: Emitter, x: Tensor | None, count: int, axis: int, rank: int) -> Tensor | None:
    if x is None or x.array is None or x.array.size != count or _channel(x.array, rank) != axis:
        return None
    return x if x.array.ndim == 1 else g.weight(x.array.reshape(-1), g.title(x))


def _layer_normalization(g: Emitter, found: _Normalised) -> Tensor | None:
    x, mean, beta, variance, epsilon, gamma = found
    averaged, squares = read_by(g, mean, "Mean"), read_by(g, variance, "Mean")
    if averaged is None or squares is None or not same(averaged[0], x):
        return None
    differences = read_by(g, squares[0], "SquaredDifference")
    if differences is None or not any(same(a, x) and same(b, mean) for a, b in _either(differences)):
        return None
    axes = [g.content(each) for each in (averaged[1], squares[1])]
    if any(each is None or [int(one) % x.rank for one in each.reshape(-1)] != [x.rank - 1] for each in axes):
        return None
    size = (x.dims or ())[-1]
    weights = [each for each in (gamma, beta) if each is not None]
    if any(
        each.array is None or each.array.shape[-1:] != (size,) or each.array.size != size for each in weights
    ):
        return None
    scale, shift = (
        None if each is None else _flat(g, each, int(size or 0), x.rank - 1, x.rank) for each in (gamma, beta)
    )
    ones = scale or g.constant(np.ones(int(size or 0), x.dtype))
    return g.LayerNormalization(x, ones, shift, axis=-1, epsilon=epsilon)


def rows_normalised(
    g: Emitter, x: Tensor, scale: Tensor, offset: Tensor, first: bool, epsilon: float
) -> Tensor | None:
    """Each row a channel of a batch of one, without scale: how Keras 2 normalises layers. x: (1, rows, size, 1)."""
    if not first or x.dims is None or len(x.dims) != 4 or (x.dims[0], x.dims[3]) != (1, 1):
        return None
    size = x.dims[2]
    if not isinstance(size, int) or not g.is_one(scale) or not g.is_zero(offset):
        return None
    ones = g.constant(np.ones((size, 1), x.dtype))
    return g.LayerNormalization(x, ones, None, axis=2, epsilon=epsilon)


def layer_normalised(g: Emitter, left: Tensor, right: Tensor) -> Tensor | None:
    """Rows that were normalised, in the shape from which they came, times gamma, plus beta."""
    for scaled, beta in _either((left, right)):
        product = read_by(g, scaled, *_MUL)
        for shaped, gamma in _either(product) if product is not None else []:
            found = _rows_of(g, shaped)
            if found is None or any(each.array is None or each.array.ndim != 1 for each in (gamma, beta)):
                continue
            x, epsilon = found
            if x.dims is not None and all(each.array.shape == x.dims[-1:] for each in (gamma, beta)):
                return g.LayerNormalization(x, gamma, beta, axis=-1, epsilon=epsilon)
    return None


def _rows_of(g: Emitter, shaped: Tensor) -> tuple[Tensor, float] | None:
    """What was made rows of, normalised and shaped back, and the epsilon."""
    back = read_by(g, shaped, "Reshape")
    made = (
        None
        if back is None
        else read_by(g, back[0], "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
    )
    if back is None or made is None or not attributes_of(g, back[0]).flag("is_training", True):
        return None
    producer = back[0].value.producer()
    source = read_by(g, made[0], "Reshape")
    if source is None or producer is None or producer.op_type != "LayerNormalization":
        return None
    x = source[0]
    if x.dims is None or shaped.dims is None or made[0].dims is None or made[0].dims[2] != x.dims[-1]:
        return None
    if g.sizes_of(shaped) != g.sizes_of(x):
        return None
    return x, attributes_of(g, back[0]).number("epsilon", 1e-4)


# ---- activations ------------------------------------------------------------------------------------


def gelu(g: Emitter, left: Tensor, right: Tensor) -> Tensor | None:
    """x / 2 * erfc(-x / sqrt(2)), or with 1 + erf, or with 1 + tanh of Keras' approximation."""
    for half, bell in _either((left, right)):
        x = _scaled_by(g, half, 0.5)
        if x is None:
            continue
        if _is_normal(g, bell, x):
            return g.Gelu(x)
        if _is_tanh_of_cube(g, bell, x):
            return g.Gelu(x, approximate="tanh")
    return None


def _scaled_by(g: Emitter, x: Tensor, factor: float) -> Tensor | None:
    product = read_by(g, x, *_MUL)
    for one, other in _either(product) if product is not None else []:
        if close(number(g, other), factor):
            return one  # type: ignore[no-any-return]
    quotient = read_by(g, x, "RealDiv", "Div")
    return quotient[0] if quotient is not None and close(number(g, quotient[1]), 1 / factor) else None


def _plus_one(g: Emitter, x: Tensor) -> Tensor | None:
    total = read_by(g, x, *_ADD)
    for one, other in _either(total) if total is not None else []:
        if close(number(g, other), 1.0):
            return one  # type: ignore[no-any-return]
    return None


def _is_normal(g: Emitter, bell: Tensor, x: Tensor) -> bool:
    complement = read_by(g, bell, "Erfc")
    if complement is not None:
        inner = _scaled_by(g, complement[0], math.sqrt(0.5))
        negative = None if inner is None else read_by(g, inner, "Neg")
        if negative is not None and same(negative[0], x):
            return True
        whole = read_by(g, complement[0], "Neg")
        inner = None if whole is None else _scaled_by(g, whole[0], math.sqrt(0.5))
        return inner is not None and same(inner, x)
    inside = _plus_one(g, bell)
    erf = None if inside is None else read_by(g, inside, "Erf")
    inner = None if erf is None else _scaled_by(g, erf[0], math.sqrt(0.5))
    return inner is not None and same(inner, x)


def _is_tanh_of_cube(g: Emitter, bell: Tensor, x: Tensor) -> bool:
    inside = _plus_one(g, bell)
    tanh = None if inside is None else read_by(g, inside, "Tanh")
    total = None if tanh is None else _scaled_by(g, tanh[0], math.sqrt(2 / math.pi))
    parts = None if total is None else read_by(g, total, *_ADD)
    for one, other in _either(parts) if parts is not None else []:
        cube = _scaled_by(g, other, 0.044715)
        power = None if cube is None else read_by(g, cube, "Pow")
        if same(one, x) and power is not None and same(power[0], x) and close(number(g, power[1]), 3.0):
            return True
    return False


def prelu(g: Emitter, left: Tensor, right: Tensor) -> Tensor | None:
    """relu(x) - alpha * relu(-x), as Keras writes it."""
    for positive, negative in _either((left, right)):
        above, product = read_by(g, positive, "Relu"), read_by(g, negative, *_MUL)
        for slope, below in _either(product) if above is not None and product is not None else []:
            alpha, under = read_by(g, slope, "Neg"), read_by(g, below, "Relu")
            inner = None if under is None else read_by(g, under[0], "Neg")
            fits = alpha is not None and inner is not None and above is not None and same(inner[0], above[0])
            if fits and alpha is not None and alpha[0].array is not None and above is not None:
                return g.PRelu(above[0], alpha[0])
    return None


def plain_indices(g: Emitter, indices: Tensor, size: Any) -> Tensor:
    """Indices of which negative ones were counted from the end, which ONNX does by itself."""
    chosen = read_by(g, indices, "SelectV2", "Select")
    if chosen is None or len(chosen) != 3:
        return indices
    negative, moved = read_by(g, chosen[0], "Less"), read_by(g, chosen[1], *_ADD)
    if negative is None or moved is None or number(g, negative[1]) != 0:
        return indices
    fits = same(negative[0], chosen[2]) and any(
        same(one, chosen[2]) and number(g, other) == size for one, other in _either(moved)
    )
    return chosen[2] if fits else indices  # type: ignore[no-any-return]
