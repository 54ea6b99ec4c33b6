"""ONNX networks with random weights: vision, text, recurrent, detectors, integers, quantised, half precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sweep.case import Array, Dims, Input, Network

OPSET, IR = 21, 10
T = TensorProto


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """Names are written in one string; a dash is an input that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def drawn(*shape: int, scale: float = 1.0, seed: int = 0) -> Array:
    rng = np.random.default_rng([seed, *shape])
    fan = max(int(np.prod(shape[1:])), 1) if len(shape) > 1 else 4
    return (rng.standard_normal(shape) * scale / np.sqrt(fan)).astype(np.float32)


def positive(*shape: int, seed: int = 0) -> Array:
    return np.abs(drawn(*shape, seed=seed)) + np.float32(0.5)


def quantised(*shape: int, dtype: str = "int8", seed: int = 0) -> Array:
    low, high = (-127, 128) if dtype == "int8" else (0, 256)
    return np.random.default_rng([seed, *shape]).integers(low, high, shape).astype(dtype)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Input],
    outputs: Mapping[str, tuple[int, Dims | None]],
    weights: Mapping[str, Any],
    opset: int = OPSET,
) -> onnx.ModelProto:
    """``outputs``: name -> element type and sizes."""
    graph = helper.make_graph(
        list(nodes), "network",
        [
            helper.make_tensor_value_info(one.name, helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype)), one.dims)
            for one in inputs
        ],
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR)


X = ("batch", 6)
Made = Callable[[tuple[Input, ...]], onnx.ModelProto]


def cnn(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    nodes = [
        node("Conv", "x w0 b0", "a", pads=[0, 1, 1, 0], strides=[2, 1]),
        node("BatchNormalization", "a g m mean var", "b", epsilon=1e-3),
        node("LeakyRelu", "b", "c", alpha=0.2),
        node("MaxPool", "c", "d", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0], ceil_mode=1),
        node("Conv", "d w1 b1", "e", group=2, pads=[1, 1, 1, 1]),
        node("Clip", "e zero six", "f"), node("LRN", "f", "h", size=3, alpha=0.5),
        node("AveragePool", "h", "i", kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1),
        node("Flatten", "i", "j"), node("Gemm", "j w2 b2", "y", transB=1, alpha=0.5),
    ]  # fmt: skip
    weights = {
        "w0": drawn(8, 3, 3, 3), "b0": drawn(8), "g": positive(8), "m": drawn(8, seed=1), "mean": drawn(8, seed=2),
        "var": positive(8, seed=3), "w1": drawn(8, 4, 3, 3), "b1": drawn(8, seed=4), "zero": np.float32(0),
        "six": np.float32(6), "w2": drawn(5, 96, seed=5), "b2": drawn(5),
    }  # fmt: skip
    return model(nodes, inputs, {"y": (T.FLOAT, ("batch", 5))}, weights)


def resizes(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    nodes = [
        node("Resize", "x - up", "a", mode="cubic", cubic_coeff_a=-0.5),
        node("InstanceNormalization", "a g m", "b", epsilon=1e-2),
        node("Resize", "b - odd", "c", mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
        node("Pad", "c pads", "d", mode="reflect"),
        node("Resize", "d - down", "e", mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
        node("DepthToSpace", "e", "y", blocksize=2, mode="CRD"),
    ]  # fmt: skip
    weights = {
        "up": np.float32([1, 1, 2, 1.5]), "odd": np.float32([1, 1, 1.7, 1.3]), "down": np.float32([1, 1, 0.6, 0.7]),
        "g": positive(8), "m": drawn(8), "pads": np.int64([0, 0, 1, 2, 0, 0, 0, 1]),
    }  # fmt: skip
    return model(nodes, inputs, {"y": (T.FLOAT, ("batch", 2, "h", "w"))}, weights)


def mlp(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x w0", "a"), node("Add", "a b0", "b"), node("Gelu", "b", "c"), node("MatMul", "c w1", "d"),
        node("LayerNormalization", "d g m", "e", epsilon=1e-3), node("Elu", "e", "f", alpha=0.8),
        node("MatMul", "f w2", "h"), node("HardSigmoid", "h", "i", alpha=0.25, beta=0.4), node("Sub", "i b1", "j"),
        node("Softplus", "j", "k"), node("MatMul", "k w3", "l"), node("Softmax", "l", "y"),
    ]  # fmt: skip
    weights = {
        "w0": drawn(6, 16, scale=1.5), "b0": drawn(16), "w1": drawn(16, 16, seed=1), "g": positive(16), "m": drawn(16, seed=1),
        "w2": drawn(16, 16, seed=2), "b1": drawn(16, seed=3), "w3": drawn(16, 4, scale=4),
    }  # fmt: skip
    return model(nodes, inputs, {"y": (T.FLOAT, ("batch", 4))}, weights)


def _recurrent(op: str, gates: int, **attributes: Any) -> Made:
    both = 2 if attributes.get("direction") == "bidirectional" else 1

    def made(inputs: tuple[Input, ...]) -> onnx.ModelProto:
        nodes = [
            node("Transpose", "x", "t", perm=[1, 0, 2]),
            node(op, "t w r b", "s", hidden_size=6, **attributes),
            node("Transpose", "s", "u", perm=[2, 0, 1, 3]), node("Reshape", "u merged", "v"),
            node("MatMul", "v head", "y"),
        ]  # fmt: skip
        weights = {
            "w": drawn(both, gates * 6, 5, scale=3), "r": drawn(both, gates * 6, 6, scale=3), "b": drawn(both, gates * 12, scale=3),
            "merged": np.int64([0, 0, -1]), "head": drawn(6 * both, 3, scale=2),
        }  # fmt: skip
        return model(nodes, inputs, {"y": (T.FLOAT, ("batch", "time", 3))}, weights)

    return made


def attention(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    nodes = [
        node("MatMul", "x wq", "q"), node("MatMul", "x wk", "k"), node("MatMul", "x wv", "v"),
        node("Transpose", "k", "kt", perm=[0, 2, 1]), node("MatMul", "q kt", "s"), node("Div", "s root", "sd"),
        node("Unsqueeze", "mask one", "wide"), node("Where", "wide sd low", "sm"), node("Softmax", "sm", "p", axis=-1),
        node("MatMul", "p v", "o"), node("Add", "o x", "r"), node("RMSNormalization", "r g", "y", epsilon=1e-3),
    ]  # fmt: skip
    weights = {
        "wq": drawn(8, 8, scale=2), "wk": drawn(8, 8, seed=1, scale=2), "wv": drawn(8, 8, seed=2), "root": np.float32(8**0.5),
        "one": np.int64([1]), "low": np.float32(-1e9), "g": positive(8),
    }  # fmt: skip
    return model(nodes, inputs, {"y": (T.FLOAT, ("batch", "time", 8))}, weights, opset=23)


def text(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    nodes = [
        node("Gather", "table ids", "a"), node("CumSum", "a one", "b"), node("ReduceMean", "b ones", "c", keepdims=0),
        node("ReduceL2", "a ones", "d", keepdims=0), node("Concat", "c d", "e", axis=1),
        node("Slice", "e begin end ones", "f"), node("Gemm", "f w b0", "y"),
    ]  # fmt: skip
    weights = {
        "table": drawn(30, 8, scale=2), "one": np.int64(1), "ones": np.int64([1]), "begin": np.int64([2]), "end": np.int64([14]),
        "w": drawn(12, 3, scale=2), "b0": drawn(3),
    }  # fmt: skip
    return model(nodes, inputs, {"y": (T.FLOAT, ("batch", 3))}, weights)


def detector(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    """Scores that saturate, the best five, their boxes."""
    nodes = [
        node("MatMul", "x w", "logits"), node("Sigmoid", "logits", "scores"),
        node("TopK", "scores five", "best which", axis=1), node("MatMul", "x wb", "flat"),
        node("Reshape", "flat boxed", "boxes"), node("Unsqueeze", "which minus", "wide"),
        node("Expand", "wide four", "index"), node("GatherElements", "boxes index", "taken", axis=1),
    ]  # fmt: skip
    weights = {
        "w": drawn(8, 20, scale=3), "five": np.int64([5]), "wb": drawn(8, 80), "boxed": np.int64([0, 20, 4]),
        "minus": np.int64([-1]), "four": np.int64([1, 1, 4]),
    }  # fmt: skip
    outputs = {
        "best": (T.FLOAT, ("batch", 5)),
        "which": (T.INT64, ("batch", 5)),
        "taken": (T.FLOAT, ("batch", 5, 4)),
    }
    return model(nodes, inputs, outputs, weights)


def suppressed(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    """Boxes from a grid that the input shifts, NonMaxSuppression over their scores."""
    nodes = [
        node("Reshape", "x two", "t"), node("Tanh", "t", "u"), node("Slice", "u from0 from1 last", "s"),
        node("Transpose", "s", "scores", perm=[0, 2, 1]), node("Slice", "u from1 from5 last", "moves"),
        node("Mul", "moves half", "m"), node("Add", "m grid", "boxes"),
        node("NonMaxSuppression", "boxes scores most iou least", "which"),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    corner = rng.random((1, 12, 2)) * 2
    weights = {
        "two": np.int64([1, 12, 5]), "from0": np.int64([0]), "from1": np.int64([1]), "from5": np.int64([5]), "last": np.int64([2]),
        "half": np.float32(0.2), "grid": np.concatenate([corner, corner + 1], -1).astype(np.float32), "most": np.int64([6]),
        "iou": np.float32([0.4]), "least": np.float32([-0.5]),
    }  # fmt: skip
    return model(nodes, inputs, {"which": (T.INT64, ("found", 3)), "scores": (T.FLOAT, (1, 1, 12))}, weights)


def segmenter(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]), node("ArgMax", "a", "y", axis=1, keepdims=0),
        node("Greater", "a level", "b"), node("Cast", "b", "c", to=T.INT32), node("ReduceSum", "c space", "n", keepdims=0),
    ]  # fmt: skip
    weights = {"w": drawn(4, 3, 3, 3, scale=2), "level": np.float32(0.25), "space": np.int64([2, 3])}
    return model(nodes, inputs, {"y": (T.INT64, ("batch", 6, 5)), "n": (T.INT32, ("batch", 4))}, weights)


def integers(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    nodes = [
        node("Mul", "x ten", "a"), node("Round", "a", "r"), node("Cast", "r", "i", to=T.INT32), node("Div", "i three", "q"),
        node("Mod", "i five", "m"), node("Clip", "r low high", "c"), node("Cast", "c", "b", to=T.INT8),
        node("Sign", "r", "sf"), node("Cast", "sf", "s", to=T.INT32), node("Add", "m s", "t"), node("Floor", "x", "fl"),
    ]  # fmt: skip
    weights = {
        "ten": np.float32(10),
        "three": np.int32(3),
        "five": np.int32(5),
        "low": np.float32(-128),
        "high": np.float32(127),
    }
    outputs = {"q": (T.INT32, X), "t": (T.INT32, X), "b": (T.INT8, X), "fl": (T.FLOAT, X)}
    return model(nodes, inputs, outputs, weights)


def buckets(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    """Distances as logarithmic buckets, and a table of them."""
    nodes = [
        node("Abs", "x", "a"), node("Add", "a one", "b"), node("Log", "b", "c"), node("Div", "c step", "d"),
        node("Cast", "d", "e", to=T.INT64), node("Min", "e seven", "f"), node("Gather", "table f", "g"),
        node("ReduceSum", "g minus", "y", keepdims=0),
    ]  # fmt: skip
    weights = {
        "one": np.float32(1), "step": np.float32(0.3), "seven": np.int64(7), "table": drawn(8, 4), "minus": np.int64([-1]),
    }  # fmt: skip
    return model(nodes, inputs, {"f": (T.INT64, X), "y": (T.FLOAT, X)}, weights)


def qdq(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    nodes = [
        node("QuantizeLinear", "x sx zx", "xq"), node("DequantizeLinear", "xq sx zx", "xd"),
        node("DequantizeLinear", "wq sw zw", "w", axis=0), node("Conv", "xd w b", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "r"), node("QuantizeLinear", "r sr zr", "rq"), node("DequantizeLinear", "rq sr zr", "rd"),
        node("GlobalAveragePool", "rd", "p"), node("Flatten", "p", "f"), node("Gemm", "f g c", "y"),
    ]  # fmt: skip
    weights = {
        "sx": np.float32(0.03), "zx": np.uint8(120), "wq": quantised(6, 3, 3, 3), "sw": positive(6) / 100, "zw": np.zeros(6, np.int8),
        "b": drawn(6), "sr": np.float32(0.02), "zr": np.uint8(0), "g": drawn(6, 4, scale=2), "c": drawn(4),
    }  # fmt: skip
    return model(nodes, inputs, {"y": (T.FLOAT, ("batch", 4))}, weights)


def qlinear(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    nodes = [
        node("QuantizeLinear", "x sx zx", "q"), node("QLinearMatMul", "q sx zx w sw zw sy zy", "p"),
        node("QLinearMatMul", "p sy zy v sw zw sz zz", "o"), node("DequantizeLinear", "o sz zz", "y"),
    ]  # fmt: skip
    weights = {
        "sx": np.float32(0.025), "zx": np.uint8(128), "w": quantised(6, 12), "sw": np.float32(0.01), "zw": np.int8(0),
        "sy": np.float32(0.05), "zy": np.uint8(110), "v": quantised(12, 5, seed=1), "sz": np.float32(0.06), "zz": np.uint8(100),
    }  # fmt: skip
    return model(nodes, inputs, {"o": (T.UINT8, ("batch", 5)), "y": (T.FLOAT, ("batch", 5))}, weights)


def matmulinteger(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"), node("MatMulInteger", "q w z zw", "i"), node("Cast", "i", "f", to=T.FLOAT),
        node("Mul", "s sw", "scale"), node("Mul", "f scale", "m"), node("Add", "m b", "y"),
    ]  # fmt: skip
    weights = {
        "w": quantised(6, 8, dtype="uint8"),
        "zw": np.uint8(131),
        "sw": np.float32(0.01),
        "b": drawn(8),
    }
    return model(nodes, inputs, {"y": (T.FLOAT, ("batch", 8))}, weights)


def halves(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    proto = mlp(inputs)
    del proto.graph.node[4]  # LayerNormalization in float16 is no kernel of every framework
    proto.graph.node[4].input[0] = "d"
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    proto.graph.output[0].type.tensor_type.elem_type = T.FLOAT16
    kept = {name for one in proto.graph.node for name in one.input}
    weights = [tensor for tensor in proto.graph.initializer if tensor.name in kept]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(weights)
    return proto


def pieces(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    """Two inputs, slices, orders and halves that are put together again, two outputs."""
    nodes = [
        node("Split", "x", "a b", axis=1, num_outputs=2), node("Sub", "a b", "c"), node("Mul", "a other", "d"),
        node("Concat", "c d", "e", axis=1), node("Max", "e level", "f"), node("Pow", "other two", "g"),
        node("ReduceMax", "f last", "h", keepdims=1), node("Div", "g h", "y"), node("Trilu", "square", "u", upper=1),
        node("MatMul", "x u", "v"), node("Erf", "v", "z"),
    ]  # fmt: skip
    weights = {
        "level": np.float32(0.5), "two": np.float32(2), "last": np.int64([1]), "square": drawn(6, 6, scale=2),
    }  # fmt: skip
    return model(nodes, inputs, {"y": (T.FLOAT, ("batch", 3)), "z": (T.FLOAT, X)}, weights)


def bare(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    """Operators with nothing before or behind them: ties, equal values and halves reach them as they are."""
    nodes = [
        node("Gelu", "x", "g"), node("ArgMax", "x", "i", axis=1), node("ArgMin", "x", "j", axis=1, select_last_index=1),
        node("Greater", "x level", "p"), node("LessOrEqual", "x level", "q"), node("Cast", "p", "c", to=T.INT32),
        node("Cast", "q", "d", to=T.INT32), node("Round", "x", "r"), node("HardSwish", "x", "h"), node("Mish", "x", "m"),
    ]  # fmt: skip
    outputs = {
        "g": (T.FLOAT, X), "i": (T.INT64, ("batch", 1)), "j": (T.INT64, ("batch", 1)), "c": (T.INT32, X), "d": (T.INT32, X),
        "r": (T.FLOAT, X), "h": (T.FLOAT, X), "m": (T.FLOAT, X),
    }  # fmt: skip
    return model(nodes, inputs, outputs, {"level": np.float32(0.25)})


def nearest(inputs: tuple[Input, ...]) -> onnx.ModelProto:
    """Neighbours at scales whose coordinates fall on halves, and windows that overlap the end."""
    nodes = [
        node("Resize", "x - up", "a", mode="nearest"), node("Resize", "x - down", "b", mode="nearest", nearest_mode="ceil"),
        node("MaxPool", "x", "c", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), node("Resize", "x - odd", "d", mode="linear"),
        node("AveragePool", "x", "e", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    ]  # fmt: skip
    weights = {
        "up": np.float32([1, 1, 2, 3]),
        "down": np.float32([1, 1, 0.5, 0.5]),
        "odd": np.float32([1, 1, 1.5, 0.75]),
    }
    return model(
        nodes, inputs, {name: (T.FLOAT, ("batch", 2, f"h{name}", f"w{name}")) for name in "abcde"}, weights
    )


_ROWS, _SERIES = (Input("x", X),), (Input("x", ("batch", "time", 5)),)
_TABLE: tuple[tuple[str, str, Made, tuple[Input, ...]], ...] = (
    ("cnn", "vision", cnn, (Input("x", ("batch", 3, 10, 8)),)),
    ("resizes", "vision", resizes, (Input("x", ("batch", 8, 5, 6)),)),
    ("mlp", "rows", mlp, _ROWS),
    ("pieces", "rows", pieces, (*_ROWS, Input("other", ("batch", 3)))),
    ("bare", "integer", bare, _ROWS),
    ("nearest", "vision", nearest, (Input("x", ("batch", 2, 6, 8)),)),
    ("lstm", "recurrent", _recurrent("LSTM", 4), _SERIES),
    ("bilstm", "recurrent", _recurrent("LSTM", 4, direction="bidirectional"), _SERIES),
    ("gru", "recurrent", _recurrent("GRU", 3, linear_before_reset=1), _SERIES),
    ("gru reset before", "recurrent", _recurrent("GRU", 3, linear_before_reset=0), _SERIES),
    ("rnn", "recurrent", _recurrent("RNN", 1, activations=["Relu"]), _SERIES),
    ("attention", "text", attention, (Input("x", ("batch", "time", 8)), Input("mask", ("batch", "time"), "bool"))),
    ("text", "text", text, (Input("ids", ("batch", 7), "int64", 29),)),
    ("detector", "detector", detector, (Input("x", ("batch", 8)),)),
    ("suppression", "detector", suppressed, (Input("x", (1, 60)),)),
    ("segmenter", "integer", segmenter, (Input("x", ("batch", 3, 6, 5)),)),
    ("integers", "integer", integers, _ROWS),
    ("buckets", "integer", buckets, _ROWS),
    ("qdq", "quantised", qdq, (Input("x", ("batch", 3, 6, 5)),)),
    ("qlinear", "quantised", qlinear, _ROWS),
    ("matmulinteger", "quantised", matmulinteger, _ROWS),
    ("halves", "half", halves, (Input("x", X, "float16"),)),
)  # fmt: skip


def networks() -> list[Network]:
    return [
        Network(f"onnx {name}", "onnx", field, lambda make=make, inputs=inputs: make(inputs), inputs,
                {"half": "float16", "quantised": "quantised"}.get(field, "float32"))
        for name, field, make, inputs in _TABLE
    ]  # fmt: skip
