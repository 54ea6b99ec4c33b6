"""Rows of activations."""

from __future__ import annotations

from netferry.converters.tensorflow.graphdef.graph import Ref
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import rows
from netferry.converters.tensorflow.tflite.graph import OPERATORS, Writer
from netferry.converters.tensorflow.tflite.model import Operation
from netferry.converters.tensorflow.tflite.to_onnx.straight import flags, straight

straight(
    {
        "ELU": "Elu", "HARD_SWISH": "lite.HardSwish", "LOGISTIC": "Sigmoid", "LOG_SOFTMAX": "LogSoftmax", "PRELU": "lite.PRelu",
        "RELU": "Relu", "RELU6": "Relu6", "RELU_0_TO_1": "lite.Relu0To1", "RELU_N1_TO_1": "lite.ReluN1To1", "TANH": "Tanh",
    }
)  # fmt: skip
straight({"GELU": "lite.Gelu"}, flags(approximate="approximate"))
straight({"LEAKY_RELU": "LeakyRelu"}, lambda _, op: {"alpha": op.option("alpha")})

rows(
    {
        "lite.HardSwish": lambda g, _a, x: g.HardSwish(x),
        "lite.PRelu": lambda g, _a, x, slope: g.PRelu(x, slope),
        "lite.Gelu": lambda g, a, x: g.Gelu(x, approximate="tanh" if a.flag("approximate") else None),
    }
)


@OPERATORS.row("SOFTMAX")
def softmax(w: Writer, op: Operation) -> Ref:
    """Of beta * x."""
    x, beta = w.x(op), op.option("beta", 1.0)
    return w.node("Softmax", x if beta == 1 else w.node("Mul", x, w.constant(beta, "f4")))
