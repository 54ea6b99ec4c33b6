"""The functions of the array namespace in Keras and in TensorFlow, and what both forms know of names and dtypes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.graph.codegen.writer import shortest
from netferry.converters.signature import Array

BOOL, INT32, INT64 = np.dtype(bool), np.dtype(np.int32), np.dtype(np.int64)

FUNCTIONS: Mapping[str, tuple[str, str]] = {
    # function: (keras.ops, tf); "" where the framework has no such operation
    "abs": ("abs", "abs"),
    "acos": ("arccos", "acos"),
    "acosh": ("arccosh", "acosh"),
    "asin": ("arcsin", "asin"),
    "asinh": ("arcsinh", "asinh"),
    "atan": ("arctan", "atan"),
    "atanh": ("arctanh", "atanh"),
    "ceil": ("ceil", "math.ceil"),
    "cos": ("cos", "cos"),
    "cosh": ("cosh", "cosh"),
    "erf": ("erf", "math.erf"),
    "exp": ("exp", "exp"),
    "expm1": ("expm1", "math.expm1"),
    "floor": ("floor", "floor"),
    "isinf": ("isinf", "math.is_inf"),
    "isnan": ("isnan", "math.is_nan"),
    "log": ("log", "math.log"),
    "log1p": ("log1p", "math.log1p"),
    "negative": ("negative", "negative"),
    "reciprocal": ("reciprocal", "math.reciprocal"),
    "round": ("round", "round"),
    "rsqrt": ("rsqrt", "math.rsqrt"),
    "sigmoid": ("sigmoid", "sigmoid"),
    "sign": ("sign", "sign"),
    "sin": ("sin", "sin"),
    "sinh": ("sinh", "sinh"),
    "sqrt": ("sqrt", "sqrt"),
    "square": ("square", "square"),
    "tan": ("tan", "tan"),
    "tanh": ("tanh", "tanh"),
    "logical_not": ("logical_not", "logical_not"),
    "bitwise_invert": ("bitwise_not", "bitwise.invert"),
    "add": ("add", "add"),
    "subtract": ("subtract", "subtract"),
    "multiply": ("multiply", "multiply"),
    "divide": ("divide", "divide"),
    "floor_divide": ("floor_divide", "math.floordiv"),
    "trunc_divide": ("", "truncatediv"),
    "remainder": ("mod", "math.floormod"),
    "fmod": ("", "truncatemod"),
    "pow": ("power", "pow"),
    "maximum": ("maximum", "maximum"),
    "minimum": ("minimum", "minimum"),
    "equal": ("equal", "equal"),
    "not_equal": ("not_equal", "not_equal"),
    "less": ("less", "less"),
    "less_equal": ("less_equal", "less_equal"),
    "greater": ("greater", "greater"),
    "greater_equal": ("greater_equal", "greater_equal"),
    "logical_and": ("logical_and", "logical_and"),
    "logical_or": ("logical_or", "logical_or"),
    "logical_xor": ("logical_xor", "math.logical_xor"),
    "bitwise_and": ("bitwise_and", "bitwise.bitwise_and"),
    "bitwise_or": ("bitwise_or", "bitwise.bitwise_or"),
    "bitwise_xor": ("bitwise_xor", "bitwise.bitwise_xor"),
    "left_shift": ("left_shift", "bitwise.left_shift"),
    "right_shift": ("right_shift", "bitwise.right_shift"),
    "sum": ("sum", "reduce_sum"),
    "mean": ("mean", "reduce_mean"),
    "prod": ("prod", "reduce_prod"),
    "max": ("max", "reduce_max"),
    "min": ("min", "reduce_min"),
    "any": ("any", "reduce_any"),
    "all": ("all", "reduce_all"),
    "logsumexp": ("logsumexp", "reduce_logsumexp"),
    "softmax": ("softmax", "nn.softmax"),
    "log_softmax": ("log_softmax", "nn.log_softmax"),
    "cumulative_sum": ("cumsum", "cumsum"),
    "cumulative_prod": ("cumprod", "math.cumprod"),
    "flip": ("flip", "reverse"),
    "roll": ("roll", "roll"),
    "tile": ("tile", "tile"),
    "where": ("where", "where"),
    "take": ("take", "gather"),
    "concat": ("concatenate", "concat"),
    "stack": ("stack", "stack"),
    "unstack": ("unstack", "unstack"),
    "reshape": ("reshape", "reshape"),
    "permute_dims": ("transpose", "transpose"),
    "expand_dims": ("expand_dims", "expand_dims"),
    "squeeze": ("squeeze", "squeeze"),
    "astype": ("cast", "cast"),
    "matmul": ("matmul", "matmul"),
    "einsum": ("einsum", "einsum"),
    "det": ("linalg.det", "linalg.det"),
    "inv": ("linalg.inv", "linalg.inv"),
    "pad": ("pad", "pad"),
    "relu": ("relu", "nn.relu"),
    "relu6": ("relu6", "nn.relu6"),
    "leaky_relu": ("leaky_relu", "nn.leaky_relu"),
    "elu": ("elu", "nn.elu"),
    "selu": ("selu", "nn.selu"),
    "gelu": ("gelu", "nn.gelu"),
    "silu": ("silu", "nn.silu"),
    "softplus": ("softplus", "nn.softplus"),
    "softsign": ("softsign", "nn.softsign"),
}

PYTHON_OPERATORS: Mapping[str, str] = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
}  # fmt: skip
"""Functions that read better as Python's operators; equality is not among them (Keras' tensors do not know it)."""

GIVES_BOOL = frozenset(
    """
    isinf isnan logical_not equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor
    """.split()
)

KEEP_UNSIGNED = frozenset({"abs"})
"""Functions that leave unsigned integers as they are."""


@dataclass(frozen=True)
class Weight:
    """What a variable of a layer will hold, and the source's names of what it is made of."""

    content: Array
    sources: tuple[str, ...] = ()


_UNITS = re.compile(r"(.+?)(_\d+)?")

AUTOMATIC = {name.split(".")[-1].replace("_", "") for name, _ in FUNCTIONS.values()} | set(
    """
    getitem truedivide absolute identity reshape dropout activation relu zeropadding1d zeropadding2d zeropadding3d
    cropping1d cropping2d cropping3d maxpooling1d maxpooling2d maxpooling3d averagepooling1d averagepooling2d
    averagepooling3d globalaveragepooling1d globalaveragepooling2d globalaveragepooling3d globalmaxpooling1d
    globalmaxpooling2d globalmaxpooling3d upsampling1d upsampling2d upsampling3d zeroslike oneslike topk argmax
    argmin split repeat broadcastto takealongaxis diagonal tril triu conv convtranspose
    """.split()
)
"""Names that Keras gives to operations of a model by itself, with or without a number; underscores left out."""


def automatic(name: str) -> bool:
    """Whether Keras may give this name to another operation of the model."""
    match = _UNITS.fullmatch(name)
    return match is not None and match[1].replace("_", "") in AUTOMATIC


def layer_dtype(dtype: np.dtype[Any] | None) -> str | None:
    """A layer's dtype where it is not Keras' own default; layers leave integers and booleans as they are."""
    floats = dtype is not None and dtype.name in ("float64", "float16", "bfloat16")
    return dtype.name if floats and dtype is not None else None


def as_float32(number: float) -> float:
    """A number that a file kept in float32, as a person wrote it."""
    return shortest(np.float32(number)) if float(np.float32(number)) == number else number


LITERAL = 16
"""Constants of up to so many elements are written into the program."""
