"""Keras' activation functions, and the layers and operations that are one."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.keras2.activations import hard_sigmoid as keras2_hard_sigmoid
from netferry.converters.tensorflow.runtime import ReluOperation, keras, nn_ops as nn
from netferry.converters.tensorflow.to_onnx.emitter import (
    ACTIVATIONS,
    ROWS,
    STRAIGHT,
    Emitter,
    activate,
    axes_of,
    one,
)

functions, layers = keras.activations, keras.layers


_STRAIGHT: STRAIGHT = {
    functions.exponential: "Exp",
    functions.hard_silu: "HardSwish",
    functions.mish: "Mish",
    functions.selu: "Selu",
    functions.sigmoid: "Sigmoid",
    functions.softplus: "Softplus",
    functions.softsign: "Softsign",
    functions.tanh: "Tanh",
}


def _straight(op_type: str) -> Any:
    return lambda g, x: g.op(op_type, x)


for _function, _op_type in _STRAIGHT.items():
    ACTIVATIONS.row(_function)(_straight(_op_type))


@ACTIVATIONS.row(functions.linear)
def linear(g: Emitter, x: Tensor) -> Tensor:
    return x


@ACTIVATIONS.row(functions.relu)
def relu(
    g: Emitter,
    x: Tensor,
    *,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
) -> Tensor:
    """Above ``threshold`` x, at most ``max_value``; below it ``negative_slope * (x - threshold)``."""
    if negative_slope and max_value is None and threshold == 0:
        return leaky_relu(g, x, negative_slope=negative_slope)
    if threshold:
        y = g.Where(g.Greater(x, g.scalar(threshold, x)), x, g.scalar(0, x))
        y = y if max_value is None else g.Clip(y, g.scalar(0, x), g.scalar(max_value, x))
    else:
        y = g.Relu(x) if max_value is None else g.Clip(x, g.scalar(0, x), g.scalar(max_value, x))
    if not negative_slope:
        return y
    below = g.Relu(g.Sub(g.scalar(threshold, x), x)) if threshold else g.Relu(g.Neg(x))
    return g.Sub(y, g.Mul(g.scalar(negative_slope, x), below))


@ACTIVATIONS.row(functions.leaky_relu)
def leaky_relu(g: Emitter, x: Tensor, *, negative_slope: float = 0.2) -> Tensor:
    return g.LeakyRelu(x, alpha=float(negative_slope))


@ACTIVATIONS.row(functions.relu6)
def relu6(g: Emitter, x: Tensor) -> Tensor:
    return relu(g, x, max_value=6.0)


@ACTIVATIONS.row(functions.elu)
def elu(g: Emitter, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return g.Elu(x, alpha=float(alpha))


@ACTIVATIONS.row(functions.celu)
def celu(g: Emitter, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return g.Celu(x, alpha=float(alpha))


@ACTIVATIONS.row(functions.gelu)
def gelu(g: Emitter, x: Tensor, *, approximate: bool = False) -> Tensor:
    return g.Gelu(x, approximate="tanh" if approximate else None)


@ACTIVATIONS.row(functions.silu)
def silu(g: Emitter, x: Tensor) -> Tensor:
    return g.Mul(x, g.Sigmoid(x))


@ACTIVATIONS.row(functions.hard_sigmoid)
def hard_sigmoid(g: Emitter, x: Tensor) -> Tensor:
    """relu6(x + 3) / 6: the slope is 1/6, where ONNX' default and Keras 2 have 0.2."""
    return g.HardSigmoid(x, alpha=1 / 6, beta=0.5)


@ACTIVATIONS.row(keras2_hard_sigmoid)
def hard_sigmoid_of_keras2(g: Emitter, x: Tensor) -> Tensor:
    """0.2 x + 0.5 between 0 and 1."""
    return g.HardSigmoid(x, alpha=0.2, beta=0.5)


@ACTIVATIONS.row(functions.sparse_sigmoid)
def sparse_sigmoid(g: Emitter, x: Tensor) -> Tensor:
    return g.HardSigmoid(x, alpha=0.5, beta=0.5)


@ACTIVATIONS.row(functions.log_sigmoid)
def log_sigmoid(g: Emitter, x: Tensor) -> Tensor:
    return g.Neg(g.Softplus(g.Neg(x)))


@ACTIVATIONS.row(functions.hard_tanh)
def hard_tanh(g: Emitter, x: Tensor) -> Tensor:
    return g.Clip(x, g.scalar(-1, x), g.scalar(1, x))


@ACTIVATIONS.row(functions.tanh_shrink)
def tanh_shrink(g: Emitter, x: Tensor) -> Tensor:
    return g.Sub(x, g.Tanh(x))


@ACTIVATIONS.row(functions.hard_shrink)
def hard_shrink(g: Emitter, x: Tensor, *, threshold: float = 0.5) -> Tensor:
    return g.Shrink(x, lambd=float(threshold), bias=0.0)


@ACTIVATIONS.row(functions.soft_shrink)
def soft_shrink(g: Emitter, x: Tensor, *, threshold: float = 0.5) -> Tensor:
    return g.Shrink(x, lambd=float(threshold), bias=float(threshold))


@ACTIVATIONS.row(functions.threshold)
def threshold(g: Emitter, x: Tensor, *, threshold: float, default_value: float) -> Tensor:
    return g.Where(g.Greater(x, g.scalar(threshold, x)), x, g.scalar(default_value, x))


@ACTIVATIONS.row(functions.squareplus)
def squareplus(g: Emitter, x: Tensor, *, b: float = 4) -> Tensor:
    root = g.Sqrt(g.Add(g.Mul(x, x), g.scalar(b, x)))
    return g.Mul(g.Add(x, root), g.scalar(0.5, x))


@ACTIVATIONS.row(functions.sparse_plus)
def sparse_plus(g: Emitter, x: Tensor) -> Tensor:
    """0 up to -1, x from 1 on, and (x + 1)^2 / 4 between them."""
    inside = g.Clip(g.Add(x, g.scalar(1, x)), g.scalar(0, x), g.scalar(2, x))
    curve = g.Mul(g.Mul(inside, inside), g.scalar(0.25, x))
    return g.Where(g.Less(x, g.scalar(1, x)), curve, x)


@ACTIVATIONS.row(functions.glu)
def glu(g: Emitter, x: Tensor, *, axis: int = -1) -> Tensor:
    value, gate = g.ops("Split", x, axis=axis, num_outputs=2, outputs=2)
    return g.Mul(value, g.Sigmoid(gate))


@ACTIVATIONS.row(functions.softmax)
def softmax(g: Emitter, x: Tensor, *, axis: int | None = -1) -> Tensor:
    return _normalised(g, "Softmax", x, axis)


@ACTIVATIONS.row(functions.log_softmax)
def log_softmax(g: Emitter, x: Tensor, *, axis: int | None = -1) -> Tensor:
    return _normalised(g, "LogSoftmax", x, axis)


def _normalised(g: Emitter, op_type: str, x: Tensor, axis: int | None) -> Tensor:
    if axis is None:
        raise CannotConvert("it normalises over all axes at once, the batch included")
    position = axis % x.rank
    if position == x.rank - 1 and x.perm is None:
        return g.op(op_type, x)
    return g.along(lambda base, positions: g.op(op_type, base, axis=positions[position]), x)


# ---- layers ---------------------------------------------------------------------------------


@ROWS.row(layers.Activation)
def activation(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return activate(g, layer.activation, x)


@ROWS.row(layers.ReLU)
def relu_layer(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return relu(
        g,
        x,
        negative_slope=layer.negative_slope,
        max_value=layer.max_value,
        threshold=layer.threshold,
    )


@ROWS.row(layers.LeakyReLU)
def leaky_relu_layer(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return leaky_relu(g, x, negative_slope=layer.negative_slope)


@ROWS.row(layers.ELU)
def elu_layer(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return elu(g, x, alpha=layer.alpha)


@ROWS.row(layers.PReLU)
def prelu(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return g.PRelu(x, g.weight(layer.alpha))


@ROWS.row(layers.Softmax)
def softmax_layer(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """Over several axes at once as exp(x - logsumexp(x))."""
    axes = axes_of(layer.axis, x.rank)
    if len(axes) == 1:
        return softmax(g, x, axis=axes[0])
    return g.Exp(g.Sub(x, g.ReduceLogSumExp(x, g.ints(*axes), keepdims=1)))


# ---- operations of keras.ops: their class, the function, and the attributes that are its parameters ----

_OPERATIONS: dict[type, tuple[Any, tuple[str, ...]]] = {
    ReluOperation: (functions.relu, ("negative_slope", "max_value", "threshold")),
    nn.Celu: (functions.celu, ("alpha",)),
    nn.Elu: (functions.elu, ("alpha",)),
    nn.Gelu: (functions.gelu, ("approximate",)),
    nn.Glu: (functions.glu, ("axis",)),
    nn.HardShrink: (functions.hard_shrink, ("threshold",)),
    nn.HardSigmoid: (functions.hard_sigmoid, ()),
    nn.HardSilu: (functions.hard_silu, ()),
    nn.HardTanh: (functions.hard_tanh, ()),
    nn.LeakyRelu: (functions.leaky_relu, ("negative_slope",)),
    nn.LogSigmoid: (functions.log_sigmoid, ()),
    nn.LogSoftmax: (functions.log_softmax, ("axis",)),
    nn.Relu: (functions.relu, ()),
    nn.Relu6: (functions.relu6, ()),
    nn.Selu: (functions.selu, ()),
    nn.Sigmoid: (functions.sigmoid, ()),
    nn.Silu: (functions.silu, ()),
    nn.SoftShrink: (functions.soft_shrink, ("threshold",)),
    nn.Softmax: (functions.softmax, ("axis",)),
    nn.Softplus: (functions.softplus, ()),
    nn.Softsign: (functions.softsign, ()),
    nn.SparsePlus: (functions.sparse_plus, ()),
    nn.SparseSigmoid: (functions.sparse_sigmoid, ()),
    nn.Squareplus: (functions.squareplus, ("b",)),
    nn.TanhShrink: (functions.tanh_shrink, ()),
    nn.Threshold: (functions.threshold, ("threshold", "default_value")),
}


@ROWS.row(*_OPERATIONS)
def operation(g: Emitter, op: Any, x: Tensor) -> Tensor:
    function, parameters = _OPERATIONS[type(op)]
    return one(ACTIVATIONS[function](g, x, **{name: getattr(op, name) for name in parameters}))


@ROWS.row(nn.Sparsemax)
def sparsemax(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """max(x - tau, 0), where tau is such that the sum is one (Martins and Astudillo 2016, algorithm 1)."""
    axis = op.axis % x.rank
    count = g.Shape(x, start=axis, end=axis + 1)
    ordered = g.ops("TopK", x, count, axis=axis, outputs=2)[0]
    position = g.cast(
        g.Range(
            g.constant(1, np.int64),
            g.Add(g.Squeeze(count, g.ints(0)), g.constant(1, np.int64)),
            g.constant(1, np.int64),
        ),
        x.dtype,
    )
    position = g.Reshape(position, g.ints(-1, *[1] * (x.rank - axis - 1)))
    total = g.CumSum(ordered, g.constant(axis, np.int64))
    one, zero = g.scalar(1, x), g.scalar(0, x)
    inside = g.Greater(g.Sub(ordered, g.Div(g.Sub(total, one), position)), zero)
    size = g.ReduceSum(g.cast(inside, x.dtype), g.ints(axis), keepdims=1)
    # the sums inside are a prefix; their own sum less one, as Keras has it
    kept = g.ReduceSum(g.Where(inside, total, zero), g.ints(axis), keepdims=1)
    return g.Max(g.Sub(x, g.Div(g.Sub(kept, one), size)), zero)
