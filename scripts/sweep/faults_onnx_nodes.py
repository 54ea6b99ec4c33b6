"""Faults in an ONNX graph: nodes exchanged, lost, and put in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto

from sweep import onnx_edit as edit
from sweep.case import Array
from sweep.faults_onnx import attributes, changed_weights, node_constants
from sweep.networks_onnx import node

Planted = Iterator[tuple[str, str, onnx.ModelProto]]

OTHERWISE: tuple[tuple[str, str, str], ...] = (
    ("comparison", "Greater", "GreaterOrEqual"), ("comparison", "Less", "LessOrEqual"), ("comparison", "GreaterOrEqual", "Greater"),
    ("comparison", "LessOrEqual", "Less"), ("rounding", "Round", "Floor"), ("rounding", "Floor", "Ceil"), ("rounding", "Floor", "Round"),
    ("reduction", "ReduceMean", "ReduceMax"), ("reduction", "ReduceL2", "ReduceL1"), ("reduction", "ReduceMax", "ReduceMean"),
    ("activation", "Sigmoid", "HardSigmoid"), ("activation", "Tanh", "Softsign"), ("activation", "Softplus", "Relu"),
    ("activation", "Erf", "Tanh"), ("activation", "HardSwish", "Mish"), ("activation", "Relu", "Elu"), ("activation", "Elu", "Selu"),
    ("activation", "Mish", "Softplus"), ("activation", "Swish", "HardSwish"), ("activation", "Softsign", "Tanh"),
    ("pooling", "GlobalAveragePool", "GlobalMaxPool"), ("pooling", "GlobalMaxPool", "GlobalAveragePool"),
    ("ties", "ArgMax", "ArgMin"), ("activation", "Softmax", "LogSoftmax"),
)  # fmt: skip
"""One operator in the place of another of the same signature."""


def exchanged_operators(proto: onnx.ModelProto) -> Planted:
    for kind, one, other in OTHERWISE:
        for place, found in enumerate(proto.graph.node):
            if found.op_type == one:
                changed = edit.copied(proto)
                changed.graph.node[place].op_type = other
                if one in ("Elu", "Selu", "HardSigmoid"):
                    del changed.graph.node[place].attribute[:]
                yield kind, f"{one} {place} as {other}", changed


SYMMETRIC = ("Add", "Mul", "Max", "Min", "Sum", "And", "Or", "Equal")
LOSABLE = "Relu Clip Softmax Sigmoid Tanh LeakyRelu Floor Round Abs Elu HardSwish LayerNormalization Neg Sqrt Erf Mish".split()


def exchanged_inputs(proto: onnx.ModelProto) -> Planted:
    for place, found in enumerate(proto.graph.node):
        pairs = {
            "Where": (1, 2),
            "Concat": (0, 1),
            "Sub": (0, 1),
            "Div": (0, 1),
            "MatMul": (0, 1),
            "Pow": (0, 1),
            "Greater": (0, 1),
        }
        if found.op_type not in pairs or found.op_type in SYMMETRIC:
            continue
        a, b = pairs[found.op_type]
        changed = edit.copied(proto)
        names = changed.graph.node[place].input
        names[a], names[b] = names[b], names[a]
        yield "exchanged inputs", f"{found.op_type} {place}", changed


def lost_nodes(proto: onnx.ModelProto) -> Planted:
    for place, found in enumerate(proto.graph.node):
        if found.op_type in LOSABLE:
            changed = edit.copied(proto)
            edit.drop(changed, place)
            yield "lost node", f"{found.op_type} {place}", changed
        if found.op_type == "Add":
            changed = edit.copied(proto)
            edit.drop(changed, place)
            yield "bias", f"Add {place} lost", changed
        if found.op_type in ("Conv", "Gemm", "ConvTranspose") and len(found.input) > 2:
            changed = edit.copied(proto)
            del changed.graph.node[place].input[2]
            yield "bias", f"{found.op_type} {place} without its bias", changed


def exchanged_outputs(proto: onnx.ModelProto) -> Planted:
    outputs = list(proto.graph.output)
    for a in range(len(outputs) - 1):
        changed = edit.copied(proto)
        names = {outputs[a].name: outputs[a + 1].name, outputs[a + 1].name: outputs[a].name}
        for found in changed.graph.node:
            for side in (found.input, found.output):
                for place, name in enumerate(side):
                    side[place] = names.get(name, name)
        for value, other in ((a, a + 1), (a + 1, a)):
            changed.graph.output[value].type.CopyFrom(outputs[other].type)
        yield "order of outputs", f"{outputs[a].name} and {outputs[a + 1].name}", changed


# ---- nodes put behind a value -------------------------------------------------------------------------


def _cast(kind: int) -> Callable[[int], list[onnx.NodeProto]]:
    return lambda _rank: [
        node("Cast", "IN", "t_h", to=kind),
        node("Cast", "t_h", "OUT", to=TensorProto.FLOAT),
    ]


def _beyond(first: int, axis: int) -> Callable[[int], list[onnx.NodeProto]]:
    """What lies beyond ``first`` along the axis is negated."""

    def made(rank: int) -> list[onnx.NodeProto]:
        if rank <= axis + 1 - (axis == 0):
            return []
        head, rest = f"s_zero s_first_{first} s_axis_{axis}", f"s_first_{first} s_end s_axis_{axis}"
        return [
            node("Slice", f"IN {head}", "t_a"), node("Slice", f"IN {rest}", "t_b"), node("Neg", "t_b", "t_c"),
            node("Concat", "t_a t_c", "OUT", axis=axis),
        ]  # fmt: skip

    return made


def _mixed(_rank: int) -> list[onnx.NodeProto]:
    return [
        node("ReduceMean", "IN s_axis_0", "t_m", keepdims=1),
        node("Mul", "t_m s_hundredth", "t_s"),
        node("Add", "IN t_s", "OUT"),
    ]


def _frozen(rank: int) -> list[onnx.NodeProto]:
    """Right at a batch of two alone."""
    return [node("Reshape", f"IN s_batch_{rank}", "OUT")] if 1 < rank < 5 else []


def _where(test: str, value: str) -> Callable[[int], list[onnx.NodeProto]]:
    return lambda _rank: [*_tests(test), node("Where", f"t_p {value} IN", "OUT")]


def _tests(test: str) -> list[onnx.NodeProto]:
    if test == "nan":
        return [node("IsNaN", "IN", "t_p")]
    name, bound = test.split()
    return [node(name, f"IN {bound}", "t_p")]


CONST: dict[str, Array] = {
    "s_zero": np.int64([0]), "s_end": np.int64([2**31]), "s_hundredth": np.float32(0.01), "s_none": np.float32(0),
    "s_one": np.float32(1), "s_twenty": np.float32(20), "s_minus": np.float32(-20), "s_low": np.float32(-1.5), "s_lower": np.float32(-1.6),
    **{f"s_axis_{axis}": np.int64([axis]) for axis in range(3)},
    **{f"s_first_{first}": np.int64([first]) for first in (1, 16)},
    **{f"s_batch_{rank}": np.int64([2, -1, *[0] * (rank - 2)][:rank]) for rank in range(2, 5)},
}  # fmt: skip

INSERTS: tuple[tuple[str, Callable[[int], list[onnx.NodeProto]], str], ...] = (
    ("narrow dtype", _cast(TensorProto.FLOAT16), "middle"),
    ("narrow dtype", _cast(TensorProto.BFLOAT16), "middle"),
    ("batch mixing", _mixed, "middle"),
    ("batch mixing", _mixed, "output"),
    ("wrong beyond the first row", _beyond(1, 0), "middle"),
    ("wrong beyond a length", _beyond(16, 1), "series"),
    ("frozen size", _frozen, "middle"),
    ("sign of zero", _where("Equal s_none", "s_one"), "input"),
    ("NaN", _where("nan", "s_none"), "input"),
    ("range end", lambda _rank: [node("Clip", "IN s_minus s_twenty", "OUT")], "input"),
    ("one value", _where("Equal s_low", "s_lower"), "input"),
    ("small values", lambda _rank: [node("Shrink", "IN", "OUT", lambd=1e-3)], "middle"),
)


def inserted(proto: onnx.ModelProto) -> Planted:
    known = list(edit.floats(proto))
    inputs = {one.name for one in proto.graph.input}
    outputs = {one.name for one in proto.graph.output}
    for kind, nodes, where in INSERTS:
        for name, rank in known:
            side = "input" if name in inputs else "output" if name in outputs else "middle"
            if where not in (side, "series") or (where == "series" and (side != "input" or rank != 3)):
                continue
            made = nodes(rank)
            if made:
                changed = edit.copied(proto)
                edit.insert_after(changed, name, made)
                _with_constants(changed)
                yield kind, f"behind {name}, {made[0].op_type} {made[-1].op_type}", changed


def _with_constants(proto: onnx.ModelProto) -> None:
    used = {name for found in proto.graph.node for name in found.input}
    for name, array in CONST.items():
        if name in used:
            edit.set_weight(proto, name, array)


# ---- integers and masks -------------------------------------------------------------------------------


def integer_outputs(proto: onnx.ModelProto) -> Planted:
    """Off by one at the largest value, the ends of int8 exchanged."""
    known = edit.types(proto)
    for value in proto.graph.output:
        kind = known.get(value.name, (0, 0))[0]
        if kind not in (TensorProto.INT64, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8):
            continue
        for at, instead in ((-128, 127), (127, -128), (255, 0), (0, 1), (1, 0), (2, 3)):
            changed = edit.copied(proto)
            wide = [
                node("Cast", "IN", "t_w", to=TensorProto.INT64), node("Equal", "t_w i_at", "t_p"),
                node("Where", "t_p i_instead t_w", "t_c"), node("Cast", "t_c", "OUT", to=kind),
            ]  # fmt: skip
            if kind == TensorProto.UINT8 and instead < 0:
                continue
            edit.insert_after(changed, value.name, wide)
            edit.set_weight(changed, "i_at", np.int64(at))
            edit.set_weight(changed, "i_instead", np.int64(instead))
            yield "integer value", f"{value.name}: {at} as {instead}", changed


def ignored_masks(proto: onnx.ModelProto) -> Planted:
    for value in proto.graph.input:
        if value.type.tensor_type.elem_type == TensorProto.BOOL:
            changed = edit.copied(proto)
            edit.insert_after(changed, value.name, [node("Not", "IN", "t_n"), node("Or", "IN t_n", "OUT")])
            yield "mask", f"{value.name} ignored", changed
            changed = edit.copied(proto)
            edit.insert_after(changed, value.name, [node("Not", "IN", "OUT")])
            yield "mask", f"{value.name} inverted", changed


def faults(proto: onnx.ModelProto) -> Planted:
    """Every fault that can be planted in this graph: (kind, where, graph)."""
    plain = edit.constants(proto)
    for plant in (
        attributes, node_constants, changed_weights, exchanged_operators, exchanged_inputs, lost_nodes,
        exchanged_outputs, inserted, integer_outputs, ignored_masks,
    ):  # fmt: skip
        yield from plant(plain)
