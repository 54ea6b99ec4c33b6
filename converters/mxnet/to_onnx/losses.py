"""Rows of what only training sees: losses, of which inference keeps the output, and dropout."""

from __future__ import annotations

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import (
    ROWS,
    Emitter,
    cast,
    rows,
)
from netferry.converters.mxnet.to_onnx.sizes import (
    reshape,
    shape_tensor,
    size_of,
)


@ROWS.row("SoftmaxOutput")
def softmax_output(g: Emitter, a: Attrs, x: Tensor, label: Tensor | None = None) -> Tensor:
    """A loss in training, a softmax in inference; the label falls away.

    Over the channels, over the last axis, or over all but the batch at once; of four axes MXNet's CPU build takes the last.
    """
    several, keep = a.flag("multi_output", False), a.flag("preserve_shape", False)
    if x.rank == 4 and not several and x.dims is not None and x.dims[-1] == 1:
        raise CannotConvert(
            "a softmax over (batch, channels, height, 1), for which MXNet's CPU build gives ones and others a share",
            "Set multi_output, or flatten its input",
        )
    if several or keep or x.rank in (2, 4):
        return g.Softmax(x, axis=1 if several else -1)
    flat = g.Softmax(g.Flatten(x, axis=1), axis=1)
    sizes = [size_of(x, axis) for axis in range(x.rank)]
    if all(isinstance(size, int) for size in sizes[1:]):
        return reshape(g, flat, [-1, *sizes[1:]])
    return g.Reshape(flat, shape_tensor(g, x, sizes))


@ROWS.row("Dropout")
def dropout(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    a.string("mode", "training", among="training")
    return x


@ROWS.row("softmax_cross_entropy")
def softmax_cross_entropy(g: Emitter, a: Attrs, x: Tensor, label: Tensor) -> Tensor:
    """(1,): over all rows, minus the logarithm of the probability of the row's label."""
    index = g.Unsqueeze(cast(g, label, np.int64), g.ints(1))
    found = g.GatherElements(g.LogSoftmax(x, axis=1), index, axis=1)
    return g.Reshape(g.Neg(g.ReduceSum(found, g.ints(0, 1), keepdims=0)), g.ints(1))


@ROWS.row("smooth_l1")
def smooth_l1(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """(s x)^2 / 2 where |x| < 1 / s^2, else |x| - 1 / (2 s^2)."""
    square = a.number("scalar", 1.0) ** 2
    size = g.Abs(x)
    near = g.Mul(g.Mul(x, x), g.scalar(square / 2, x))
    return g.Where(g.Less(size, g.scalar(1 / square, x)), near, g.Sub(size, g.scalar(0.5 / square, x)))


rows(
    {
        "LogisticRegressionOutput": lambda g, _, x, _label=None: g.Sigmoid(x),
        # What only training sees.
        "LinearRegressionOutput MAERegressionOutput SVMOutput": lambda _g, _, x, _label=None: x,
        "MakeLoss make_loss BlockGrad": lambda _g, _, x, _label=None: x,
    }
)
