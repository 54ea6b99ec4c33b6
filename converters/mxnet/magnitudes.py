"""How large the tensors of a symbol are, before any weight is known: what keeps weights that are drawn by chance in proportion.

A magnitude is the root of the mean square. An operator that has weights is given weights with which its result's is 1, so that
neither depth nor a sum of branches lets numbers vanish or explode; the others are counted by the rules of ``_RULES``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.signature import Array, Example

Rule = Callable[[Attrs, Sequence[float]], float]

_LEAST, _MOST = 1e-6, 1e6


def magnitude(array: Array) -> float:
    """The root of the mean square of an array; 1 where it is empty or not of numbers."""
    if not array.size or array.dtype.kind not in "fiub":
        return 1.0
    return _bounded(float(np.sqrt(np.mean(np.square(array.astype(np.float64))))))


def of_first_inputs(model: SymbolModel, given: Sequence[Example] | None) -> dict[str, float]:
    """The magnitude of what comes to the first input of each node, by the node's name."""
    shown = {example.name: magnitude(example.array) for example in given or ()}
    alone = next(iter(shown.values())) if len(shown) == 1 else 1.0
    found: dict[int, float] = {}
    positive: set[int] = set()
    for position in model.graph.order:
        node = model.graph.nodes[position]
        if node.is_variable:
            own = model.params.get(node.name)
            found[position] = shown.get(node.name, alone) if own is None else magnitude(own)
            continue
        sources = [source for source, _ in node.inputs]
        passed = node.op in _RECTIFIERS and not positive.isdisjoint(sources)
        rule = _times(0.95) if passed else _RULES.get(node.op, _largest)
        found[position] = _bounded(rule(Attrs(node), [found[source] for source in sources]))
        if node.op in _RECTIFIERS or (node.op not in _MADE and not positive.isdisjoint(sources)):
            positive.add(position)
    return {
        node.name: found[node.inputs[0][0]]
        for node in (model.graph.nodes[position] for position in model.graph.order)
        if node.inputs
    }


def _bounded(value: float) -> float:
    return min(max(value, _LEAST), _MOST) if math.isfinite(value) else 1.0


def _largest(_a: Attrs, x: Sequence[float]) -> float:
    return max(x, default=1.0)


def _sum(_a: Attrs, x: Sequence[float]) -> float:
    return math.hypot(*x)


def _times(factor: float) -> Rule:
    return lambda _a, x: factor * x[0]


def _always(value: float) -> Rule:
    return lambda _a, _x: value


def _activation(a: Attrs, x: Sequence[float]) -> float:
    return {"sigmoid": 0.6, "tanh": min(x[0], 0.7), "softsign": min(x[0], 0.5)}.get(
        a.string("act_type", ""), 0.7 * x[0]
    )


def _pooling(a: Attrs, x: Sequence[float]) -> float:
    """Of an average little is left of what changes from place to place."""
    return x[0] * {"max": 1.7, "avg": 0.6}.get(a.string("pool_type", "max"), 1.0)


def _quotient(a: Attrs, x: Sequence[float]) -> float:
    return x[0] / max(abs(a.number("scalar", 1.0)), _LEAST)


_MADE = frozenset(
    "Convolution Deconvolution FullyConnected RNN Embedding _contrib_SparseEmbedding _contrib_DeformableConvolution"
    " _contrib_ModulatedDeformableConvolution BatchNorm _contrib_SyncBatchNorm _contrib_BatchNormWithReLU LayerNorm InstanceNorm"
    " GroupNorm _ones _contrib_MultiBoxPrior".split()
)
"""What has weights of its own, so that its result is as large as is wanted, and what is near 1 by itself."""

_RECTIFIERS = frozenset({"Activation", "LeakyReLU", "relu"})
"""What lets the positive half of a tensor pass: nearly all of one that is a sum with a rectified one, and half of any other."""

_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_MADE, _always(1.0)),
    **dict.fromkeys(("softmax", "SoftmaxOutput", "SoftmaxActivation", "sigmoid", "LogisticRegressionOutput"), _always(0.5)),
    **dict.fromkeys("elemwise_add elemwise_sub broadcast_add broadcast_sub add_n".split(), _sum),
    **dict.fromkeys("elemwise_mul broadcast_mul".split(), lambda _a, x: math.prod(x)),
    **dict.fromkeys("elemwise_div broadcast_div".split(), lambda _a, x: x[0] / max(x[1], _LEAST)),
    **dict.fromkeys(("_plus_scalar", "_minus_scalar", "_rminus_scalar"), lambda a, x: math.hypot(x[0], a.number("scalar", 0.0))),
    "_mul_scalar": lambda a, x: x[0] * abs(a.number("scalar", 1.0)), "_div_scalar": _quotient,
    "Activation": _activation, "LeakyReLU": _times(0.7), "relu": _times(0.7), "tanh": lambda _a, x: min(x[0], 0.7),
    "Pooling": _pooling, "_contrib_AdaptiveAvgPooling2D": _times(0.6), "mean": _times(0.6), "L2Normalization": _always(0.05),
    "exp": _always(1.5), "square": lambda _a, x: x[0] ** 2, "_zeros": _always(_LEAST),
}  # fmt: skip
"""The magnitude of an operator's result from those of its inputs; without a row, that of the largest of them."""
