"""Rows of operators that work element by element."""

from __future__ import annotations

from netferry.converters.tensorflow.graphdef.graph import Ref
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import rows
from netferry.converters.tensorflow.tflite.graph import OPERATORS, Writer
from netferry.converters.tensorflow.tflite.model import Operation
from netferry.converters.tensorflow.tflite.to_onnx.straight import dtype_of_result, straight

straight(
    {
        "ABS": "Abs", "ADD": "AddV2", "ADD_N": "AddN", "ATAN2": "Atan2", "BITWISE_XOR": "BitwiseXor", "CEIL": "Ceil", "COS": "Cos",
        "DIV": "RealDiv", "EQUAL": "Equal", "EXP": "Exp", "FLOOR": "Floor", "FLOOR_DIV": "FloorDiv", "FLOOR_MOD": "FloorMod",
        "GREATER": "Greater", "GREATER_EQUAL": "GreaterEqual", "LESS": "Less", "LESS_EQUAL": "LessEqual", "LOG": "Log",
        "LOGICAL_AND": "LogicalAnd", "LOGICAL_NOT": "LogicalNot", "LOGICAL_OR": "LogicalOr", "MAXIMUM": "Maximum",
        "MINIMUM": "Minimum", "MUL": "Mul", "NEG": "Neg", "NOT_EQUAL": "NotEqual", "POW": "Pow", "RIGHT_SHIFT": "RightShift",
        "ROUND": "Round", "RSQRT": "Rsqrt", "SELECT": "Select", "SELECT_V2": "SelectV2", "SIGN": "Sign", "SIN": "Sin", "SQRT": "Sqrt",
        "SQUARE": "Square", "SQUARED_DIFFERENCE": "SquaredDifference", "SUB": "Sub", "ZEROS_LIKE": "ZerosLike",
    }
)  # fmt: skip
straight({"BITCAST": "Bitcast"}, dtype_of_result("type"))

rows(
    {
        "lite.ReluN1To1": lambda g, _a, x: g.Clip(x, g.like(-1, x), g.like(1, x)),
        "lite.Relu0To1": lambda g, _a, x: g.Clip(x, g.like(0, x), g.like(1, x)),
    }
)


@OPERATORS.row("CAST")
def cast(w: Writer, op: Operation) -> Ref:
    return w.node("Cast", w.x(op), DstT=w.out(op).dtype)
