"""Rows of activations, softmax among them."""

from __future__ import annotations

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import (
    ROWS,
    Emitter,
    cast,
    dtype_named,
    rows,
)
from netferry.converters.mxnet.to_onnx.sizes import (
    per_channel,
    positions_along,
    positive,
)

_ACTIVATIONS = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign",
}  # fmt: skip


@ROWS.row("LeakyReLU")
def leaky_relu(g: Emitter, a: Attrs, x: Tensor, gamma: Tensor | None = None) -> Tensor:
    kind = a.string("act_type", "leaky", among="leaky elu selu gelu prelu rrelu")
    if kind == "leaky":
        return g.LeakyRelu(x, alpha=a.number("slope", 0.25))
    if kind == "elu":
        return g.Elu(x, alpha=a.number("slope", 0.25))
    if kind == "rrelu":  # outside of training the random slope is its mean
        return g.LeakyRelu(x, alpha=(a.number("lower_bound", 0.125) + a.number("upper_bound", 0.334)) / 2)
    if kind == "prelu":
        if gamma is None:
            raise CannotConvert("a prelu without its slopes")
        return g.PRelu(x, per_channel(g, gamma, x.rank))
    return g.Selu(x) if kind == "selu" else g.Gelu(x)


# ---- softmax ----------------------------------------------------------------------------------------


def _softmax(g: Emitter, a: Attrs, x: Tensor, name: str, length: Tensor | None = None) -> Tensor:
    """Over an axis, or over its first ``length`` positions: the others are 0."""
    axis, temperature = positive(a.integer("axis", -1), x.rank), a.maybe_number("temperature")
    if temperature is not None and temperature != 1:
        x = g.Div(x, g.scalar(temperature, x))
    if a.flag("use_length", False):
        if length is None:
            raise CannotConvert("use_length without lengths")
        form = [axis_ for axis_ in range(x.rank) if axis_ != axis]
        positions = g.Unsqueeze(positions_along(g, x, axis), g.ints(*form))
        inside = g.Less(positions, g.Unsqueeze(cast(g, length, np.int64), g.ints(axis)))
        bounded = g.op(name, g.Where(inside, x, g.scalar(-np.inf, x)), axis=axis)
        y = g.Where(inside, bounded, g.scalar(0, x))
    else:
        y = g.op(name, x, axis=axis)
    dtype = a.maybe_string("dtype")
    return y if dtype is None else cast(g, y, dtype_named(dtype))


rows(
    {
        "Activation": lambda g, a, x: g.op(
            _ACTIVATIONS[a.string("act_type", among=" ".join(_ACTIVATIONS))], x
        ),
        "hard_sigmoid": lambda g, a, x: g.HardSigmoid(
            x, alpha=a.number("alpha", 0.2), beta=a.number("beta", 0.5)
        ),
        # Over the last axis, whatever its name says, or over the channels.
        "SoftmaxActivation": lambda g, a, x: g.Softmax(
            x, axis=1 if a.string("mode", "instance", among="instance channel") == "channel" else -1
        ),
        "softmax": lambda g, a, x, length=None: _softmax(g, a, x, "Softmax", length),
        "log_softmax": lambda g, a, x: _softmax(g, a, x, "LogSoftmax"),
        "softmin": lambda g, a, x: _softmax(g, a, g.Neg(x), "Softmax"),
    }
)
