"""Faults in an ONNX graph, as tables: attributes, constants, nodes, and nodes put in between.

A fault is a kind and a generator of changed graphs, one for each place where it can be planted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx

from sweep import onnx_edit as edit
from sweep.case import Array

# ---- attributes: kind, operators, attribute, default, new values ------------------------------------

Values = Callable[[Any], list[Any]]


def _others(*values: Any) -> Values:
    return lambda old: [value for value in values if value != old]


def _swapped_pads(pads: list[int]) -> list[Any]:
    half = len(pads) // 2
    other = [*pads[half:], *pads[:half]]
    moved = [pads[0] + 1, *pads[1:half], pads[half] - 1, *pads[half + 1 :]]
    return [other] if other != list(pads) else [moved] if pads[half] > 0 else []


NORMS = "BatchNormalization LayerNormalization InstanceNormalization GroupNormalization RMSNormalization"
MODES = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")

ATTRIBUTES: tuple[tuple[str, str, str, Any, Values], ...] = (
    ("epsilon", NORMS, "epsilon", 1e-5, lambda e: [10 * e, 0.0 if e > 1e-4 else e + 1e-4]),
    ("slope", "LeakyRelu", "alpha", 0.01, lambda a: [1.1 * a, a + 1e-3]),
    ("slope", "Elu ThresholdedRelu Celu Selu", "alpha", 1.0, lambda a: [1.02 * a]),
    ("slope", "HardSigmoid", "alpha", 0.2, lambda a: [1 / 6 if abs(a - 0.2) < 1e-3 else 0.2]),
    ("gelu", "Gelu", "approximate", "none", _others("none", "tanh")),
    ("axis", "Softmax LogSoftmax Hardmax", "axis", -1, _others(1, 0, 2)),
    ("axis", "Concat Gather GatherElements Flatten", "axis", 0, _others(0, 1, 2)),
    ("axis", "TopK ArgMax ArgMin CumSum", "axis", -1, _others(0, 1, 2)),
    ("ties", "ArgMax ArgMin", "select_last_index", 0, _others(0, 1)),
    ("topk order", "TopK", "largest", 1, _others(0, 1)),
    ("ceil mode", "MaxPool AveragePool", "ceil_mode", 0, _others(0, 1)),
    ("padding counted", "AveragePool", "count_include_pad", 0, _others(0, 1)),
    ("padding side", "Conv MaxPool AveragePool ConvTranspose", "pads", [], lambda p: _swapped_pads(p) if p else []),
    ("padding mode", "Pad", "mode", "constant", _others("constant", "reflect", "edge")),
    ("dilation", "Conv", "dilations", [1, 1], lambda d: [[2] * len(d)] if set(d) == {1} else [[1] * len(d)]),
    ("resize coordinates", "Resize", "coordinate_transformation_mode", "half_pixel", _others(*MODES)),
    ("resize rounding", "Resize", "nearest_mode", "round_prefer_floor", _others(*NEAREST)),
    ("resize mode", "Resize", "mode", "nearest", _others("nearest", "linear", "cubic")),
    ("resize mode", "Resize", "cubic_coeff_a", -0.75, _others(-0.5, -0.6)),
    ("resize mode", "Resize", "exclude_outside", 0, _others(0, 1)),
    ("direction", "LSTM GRU RNN", "direction", "forward", lambda d: ["reverse"] if d == "forward" else []),
    ("reset gate", "GRU", "linear_before_reset", 0, _others(0, 1)),
    ("activation", "RNN", "activations", ["Tanh"], lambda a: [["Tanh" if a[0] in (b"Relu", "Relu") else "Relu"]]),
    ("order", "Transpose", "perm", [], lambda p: [[*p[:-2], p[-1], p[-2]]] if len(p) > 1 else []),
    ("order", "DepthToSpace", "mode", "DCR", _others("DCR", "CRD")),
    ("cumsum", "CumSum", "exclusive", 0, _others(0, 1)),
    ("cumsum", "CumSum", "reverse", 0, _others(0, 1)),
    ("integer division", "Mod", "fmod", 0, _others(0, 1)),
    ("scale", "Attention", "scale", 0.0, lambda s: [s * 1.05] if s else []),
    ("scale", "Gemm", "alpha", 1.0, lambda a: [1.01 * a]),
    ("lrn", "LRN", "size", 3, lambda s: [s + 2]),
    ("lrn", "LRN", "beta", 0.75, lambda b: [b + 0.05]),
    ("triangle", "Trilu", "upper", 1, _others(0, 1)),
    ("nms boxes", "NonMaxSuppression", "center_point_box", 0, _others(0, 1)),
)  # fmt: skip


def attributes(proto: onnx.ModelProto) -> Iterator[tuple[str, str, onnx.ModelProto]]:
    """(kind, where, graph) for every attribute of the table in every node that has it."""
    for kind, operators, name, default, values in ATTRIBUTES:
        for place, node in enumerate(proto.graph.node):
            if node.op_type not in operators.split():
                continue
            for value in values(edit.attribute(node, name, default)):
                changed = edit.copied(proto)
                edit.set_attribute(changed.graph.node[place], name, value)
                yield kind, f"{node.op_type} {place} {name} {value}", changed


# ---- constants of a node: kind, operators, input, change --------------------------------------------

Change = Callable[[Array], list[Array]]


def _integers(step: int) -> Change:
    return lambda array: [array + np.asarray(step, array.dtype)]


def _one_off(array: Array) -> list[Array]:
    """Each last size, start or end by one."""
    other = array.copy()
    other.reshape(-1)[-1] += np.asarray(1, array.dtype)
    return [other] if array.size else []


def _scaled(factor: float) -> Change:
    return lambda array: [(array.astype(np.float64) * factor).astype(array.dtype)]


def _gates(array: Array) -> list[Array]:
    """The first two gates exchanged (of the first direction too)."""
    for gates in (4, 3):
        if array.ndim > 1 and array.shape[1] % gates == 0 and array.shape[1] // gates > 1:
            parts = np.split(array, gates, 1)
            return [np.concatenate([parts[1], parts[0], *parts[2:]], 1)]
    return []


CONSTANTS: tuple[tuple[str, str, int, Change], ...] = (
    ("range end", "Clip", 1, _integers(1)), ("range end", "Clip", 2, _integers(-1)), ("range end", "Clip", 2, _scaled(1.01)),
    ("slice", "Slice", 1, _integers(1)), ("slice", "Slice", 2, _integers(-1)), ("slice", "Gather", 1, _integers(1)),
    ("topk k", "TopK", 1, _integers(1)), ("topk k", "TopK", 1, _integers(-1)),
    ("nms threshold", "NonMaxSuppression", 2, _integers(-2)), ("nms threshold", "NonMaxSuppression", 3, _scaled(0.5)),
    ("nms threshold", "NonMaxSuppression", 4, lambda a: [a + np.float32(0.4)]),
    ("axis", "CumSum", 1, _integers(-1)), ("axis", "ReduceMean ReduceL2 ReduceMax ReduceSum", 1, _integers(-1)),
    ("quantisation scale", "QuantizeLinear DequantizeLinear", 1, _scaled(1.02)),
    ("quantisation scale", "QLinearMatMul QLinearConv", 6, _scaled(1.03)),
    ("quantisation scale", "QLinearMatMul QLinearConv", 1, _scaled(0.97)),
    ("zero point", "QuantizeLinear DequantizeLinear", 2, lambda a: [a + np.ones((), a.dtype)]),
    ("zero point", "QLinearMatMul QLinearConv", 7, _integers(-1)), ("zero point", "MatMulInteger", 3, _integers(1)),
    ("weight", "MatMulInteger QLinearMatMul", 1, lambda a: [np.where(a == a.max(), a - 1, a).astype(a.dtype)]),
    ("weight", "DequantizeLinear", 0, lambda a: [np.where(a == a.max(), a - 2, a).astype(a.dtype)] if a.size > 1 else []),
    ("integer division", "Div Mod", 1, lambda a: [a + np.ones((), a.dtype)] if a.dtype.kind == "i" else []),
    ("gate order", "LSTM GRU", 2, _gates), ("gate order", "LSTM GRU", 1, _gates),
    ("resize scale", "Resize", 2, lambda a: [np.where(a > 1, a * np.float32(1.06), a).astype(np.float32)]),
    ("padding side", "Pad", 1, lambda a: [np.roll(a, a.size // 2)] if (a != np.roll(a, a.size // 2)).any() else []),
    ("normalisation statistics", "BatchNormalization", 3, lambda a: [a * np.float32(1.01), np.zeros_like(a)]),
    ("normalisation statistics", "BatchNormalization", 4, lambda a: [a * np.float32(8 / 7), np.ones_like(a)]),
    ("normalisation statistics", "BatchNormalization", 1, lambda a: [np.ones_like(a)]),
)  # fmt: skip


def node_constants(proto: onnx.ModelProto) -> Iterator[tuple[str, str, onnx.ModelProto]]:
    held = edit.weights(proto)
    for kind, operators, position, change in CONSTANTS:
        for place, node in enumerate(proto.graph.node):
            if node.op_type not in operators.split() or len(node.input) <= position:
                continue
            array = held.get(node.input[position])
            for number, other in enumerate([] if array is None or not array.size else change(array)):
                changed = edit.copied(proto)
                edit.own_weight(changed, changed.graph.node[place], position, other)
                yield kind, f"{node.op_type} {place} input {position} change {number}", changed


# ---- weights -----------------------------------------------------------------------------------------


def _one_weight(array: Array) -> Array:
    other = array.copy()
    place = int(np.abs(array.astype(np.float64)).argmax())
    other.reshape(-1)[place] *= np.asarray(1.02, array.dtype)
    return other


def _bias_of_one_channel(array: Array) -> Array:
    other = array.copy()
    other[-1] = 0
    return other


def _rows_exchanged(array: Array) -> Array:
    other = array.copy()
    other[[0, 1]] = other[[1, 0]]
    return other


def _to(dtype: str) -> Callable[[Array], Array]:
    return lambda array: array.astype(dtype).astype(array.dtype)


WEIGHTS: tuple[tuple[str, Callable[[Array], bool], Callable[[Array], Array]], ...] = (
    ("weight", lambda a: a.ndim > 1, _one_weight),
    ("weight", lambda a: a.ndim > 1 and a.shape[0] > 1, _rows_exchanged),
    ("transposed weight", lambda a: a.ndim == 2 and a.shape[0] == a.shape[1], lambda a: a.T),
    (
        "transposed weight",
        lambda a: a.ndim == 4 and a.shape[2] == a.shape[3] > 1,
        lambda a: a[:, :, ::-1, ::-1],
    ),
    ("bias", lambda a: a.ndim == 1 and a.size > 2, _bias_of_one_channel),
    ("bias", lambda a: a.ndim == 1 and a.size > 2, np.zeros_like),
    ("narrow dtype", lambda a: a.ndim > 1 and a.dtype == np.float32, _to("float16")),
    ("narrow dtype", lambda a: a.ndim > 1 and a.dtype == np.float32, _to("bfloat16")),
)


def changed_weights(proto: onnx.ModelProto) -> Iterator[tuple[str, str, onnx.ModelProto]]:
    for kind, applies, change in WEIGHTS:
        for name, array in edit.weights(proto).items():
            if array.dtype.kind != "f" or not applies(array):
                continue
            other = np.asarray(change(array))
            if other.shape == array.shape and (other != array).any():
                changed = edit.copied(proto)
                edit.set_weight(changed, name, other)
                yield kind, f"{name} {getattr(change, '__name__', '')}", changed
