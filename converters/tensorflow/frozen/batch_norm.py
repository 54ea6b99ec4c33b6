"""Batch normalisation in float64, for which TensorFlow has no kernel: written as arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.tensorflow.frozen.edit import Body, tensor_attribute, type_attribute
from netferry.converters.tensorflow.runtime import tf

BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def open_batch_norm(body: Body, node: Any) -> None:
    """``scale * (x - mean) / sqrt(variance + epsilon) + offset``; x: (batch, *space, channels) or (batch, channels, *space).

    Raises:
        CannotConvert: it normalises by the batch's own statistics.
    """
    if node.attr["is_training"].b:
        raise CannotConvert(f"{node.op} by the statistics of the batch has no double kernel")
    x, *statistics = [name for name in node.input if not name.startswith("^")]
    double = {"T": type_attribute(tf.float64)}

    def apply(op: str, *inputs: str, result: str = "z", **attributes: Any) -> str:
        made = body.add(op, f"{node.name}/{op}", inputs, **double, **attributes)
        return body.reference(made.name, result)

    x = apply("Identity", x, result="output")

    def constant(value: Any, dtype: Any) -> str:
        """Where x is, also within a loop."""
        held = {"dtype": type_attribute(dtype), "value": tensor_attribute(value, dtype)}
        made = body.add("Const", f"{node.name}/constant", [f"^{x.split(':')[0]}"], **held)
        return body.reference(made.name, "output")

    if node.attr["data_format"].s == b"NCHW":
        shape = constant(np.array([-1, 1, 1], np.int32), tf.int32)
        sizes = {"Tshape": type_attribute(tf.int32)}
        statistics = [apply("Reshape", one, shape, result="output", **sizes) for one in statistics]
    scale, offset, mean, variance = statistics
    epsilon = constant(node.attr["epsilon"].f, tf.float64)
    inverse = apply("Rsqrt", apply("AddV2", variance, epsilon), result="y")
    centred = apply("Sub", x, mean)
    normal = apply("AddV2", apply("Mul", centred, apply("Mul", scale, inverse)), offset)
    body.redirect(body.reference(node.name, "y"), normal)
