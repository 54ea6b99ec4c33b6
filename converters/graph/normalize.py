"""From any ONNX model to a plan: one opset, no functions, facts for every value, patterns fused."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes.common import InlinePass

from netferry.converters.errors import RefusedError
from netferry.converters.graph import control, expand  # noqa: F401 - control registers its rows
from netferry.converters.graph import fuse as fusion
from netferry.converters.graph.edit import Editor
from netferry.converters.graph.evaluate import OPSET, Evaluator, schema_of
from netferry.converters.graph.facts import Plan

_STAY = 1024
"""Initializers of more bytes than this stay out of the version converter."""


def plan(model: ir.Model | onnx.ModelProto, *, fuse: bool = True, known: Collection[str] | None = None) -> Plan:
    """The model as the walk takes it; the one that is given is left as it is.

    ``known`` are the operators that somebody carries; others are expanded where ONNX defines them by others.
    Weights are not copied: contents share the memory of the model's tensors.
    """
    model = model.clone() if isinstance(model, ir.Model) else ir.serde.deserialize_model(model)
    if model.functions:
        model = InlinePass()(model).model
    model = _raised(_with_weights(model))
    _name_nodes(model.graph)
    evaluator = Evaluator(expand.expander(expand.carried() if known is None else known))
    evaluator.graph(model.graph)
    editor = Editor(model.graph, evaluator)
    if fuse:
        fusion.fuse(editor)
    editor.sweep()
    return Plan(model.graph, evaluator.facts, evaluator.homes, evaluator.read)


def _with_weights(model: ir.Model) -> ir.Model:
    """Initializers are weights, also where an old model lists them among the inputs."""
    inputs = model.graph.inputs
    kept = [value for value in inputs if value.name not in model.graph.initializers]
    if len(kept) != len(inputs):
        inputs[:] = kept
    return model


def _name_nodes(graph: ir.Graph) -> None:
    """Every node has a name, that of its first output where the file gives none."""
    for node in graph.all_nodes():
        node.domain = "" if node.domain == "ai.onnx" else node.domain
        if not node.name:
            node.name = next((value.name for value in node.outputs if value.name), node.op_type)


# ---- one opset --------------------------------------------------------------------------------------------


def _raised(model: ir.Model) -> ir.Model:
    """The model at the newest opset, by ONNX's own converter; large weights do not go through it."""
    opset = model.opset_imports.get("") or model.opset_imports.get("ai.onnx") or OPSET
    if opset == OPSET or all(_means_the_same(node, opset) for node in model.graph.all_nodes()):
        return model
    if opset > OPSET:
        raise RefusedError(
            "the model is of a newer opset", expected=f"at most {OPSET}", received=opset, remedy="Update netferry"
        )
    weights = _taken_out(model.graph)
    model.ir_version = max(model.ir_version, 8)
    proto = ir.serde.serialize_model(model)
    try:
        raised = ir.serde.deserialize_model(version_converter.convert_version(proto, OPSET))
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise RefusedError(f"the model cannot be brought from opset {opset} to {OPSET}: {reason}") from error
    for value in [value for value in raised.graph.inputs if value.name in weights]:
        raised.graph.inputs.remove(value)
        value.const_value = weights[str(value.name)]
        raised.graph.initializers[str(value.name)] = value
    return raised


def _taken_out(graph: ir.Graph) -> dict[str, ir.TensorProtocol]:
    """The large initializers, which are inputs meanwhile."""
    large = [v for v in graph.initializers.values() if v.const_value is not None and v.const_value.nbytes > _STAY]
    tensors: dict[str, ir.TensorProtocol] = {}
    for value in large:
        assert value.const_value is not None
        tensors[str(value.name)] = value.const_value
        del graph.initializers[str(value.name)]
        value.const_value = None
        graph.inputs.append(value)
    return tensors


def _means_the_same(node: ir.Node, opset: int) -> bool:
    """Whether the operator at this opset is the newest one, or means the same where it is valid."""
    if node.domain:
        return True
    if opset >= SAME_SINCE.get(node.op_type, OPSET + 1):
        return True
    newest = schema_of("", node.op_type)
    return newest is not None and bool(opset >= newest.since_version)


SAME_SINCE: Mapping[str, int] = {
    operator: opset
    for opset, operators in {
        1: """Constant Conv DepthToSpace Flatten Gather GlobalAveragePool GlobalMaxPool Identity LRN LpNormalization
              MatMul Shape Size Softplus Softsign Transpose If""",
        4: "Concat",
        5: "Reshape",
        6: """Abs Ceil Elu Exp Floor HardSigmoid InstanceNormalization LeakyRelu Log Neg Reciprocal Relu Selu
              Sigmoid Sqrt Tanh Tile""",
        7: "Acos Add Asin Atan Cos Div Equal Greater Less Mul PRelu Sin Sub Tan LSTM GRU RNN",
        8: "Expand Max Mean Min Sum",
        9: "Acosh Asinh Atanh Cast Compress ConstantOfShape Cosh Erf EyeLike IsNaN NonZero OneHot Sign Sinh Where Gemm",
        10: "DequantizeLinear IsInf MaxPool Mod QuantizeLinear ReverseSequence Slice ThresholdedRelu",
        11: """ArgMax ArgMin AveragePool BitShift Clip ConvTranspose CumSum Det GatherElements GatherND Loop Round Scan
               TopK Unique""",
        12: "Celu Dropout Einsum GreaterOrEqual LessOrEqual Pow",
        13: "Squeeze Unsqueeze",
        14: "BatchNormalization HardSwish",
        16: "RoiAlign ScatterElements ScatterND",
        18: "LpPool Mish Pad ReduceLogSum ReduceLogSumExp ReduceMax ReduceMin Resize",
        19: "DeformConv",
        20: "GridSample",
        23: "Attention",
    }.items()
    for operator in operators.split()
}  # fmt: skip
"""Operator -> the first opset from which a model that is valid there means the same at the newest.

Later versions of these added types, or attributes and inputs whose defaults say what was meant before.
"""
