"""From any ONNX model to a plan: one opset, no functions, facts for every value, patterns fused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

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

_LARGEST, _DEEPEST = 1_000_000, 100
"""How many nodes a model may have once its functions are inlined, and how deep they may be nested."""


def plan(
    model: ir.Model | onnx.ModelProto, *, fuse: bool = True, known: Collection[str] | None = None
) -> Plan:
    """The model as the walk takes it; the one that is given is left as it is.

    ``known`` are the operators that somebody carries; others are expanded where ONNX defines them by others.
    Weights are not copied: contents share the memory of the model's tensors.
    """
    graph, evaluator = evaluated(model, known)
    editor = Editor(graph, evaluator)
    if fuse:
        fusion.fuse(editor)
    editor.sweep()
    editor.hush()
    return Plan(graph, evaluator.facts, evaluator.homes, evaluator.read)


def evaluated(
    model: ir.Model | onnx.ModelProto, known: Collection[str] | None = None
) -> tuple[ir.Graph, Evaluator]:
    """The graph at one opset, whole as it is, with a fact for every value."""
    model = model.clone() if isinstance(model, ir.Model) else ir.serde.deserialize_model(model)
    model = _raised(_with_weights(_without_functions(model)))
    _name_nodes(model.graph)
    evaluator = Evaluator(expand.expander(expand.carried() if known is None else known))
    evaluator.graph(model.graph)
    return model.graph, evaluator


def _without_functions(model: ir.Model) -> ir.Model:
    """Calls of local functions as what they call; a model that would grow without bound is refused before it does."""
    if not model.functions:
        return model
    sizes: dict[Any, int] = {}
    total = sum(_size(node, model, sizes, ()) for node in model.graph.all_nodes())
    if total > _LARGEST:
        raise RefusedError(
            f"its functions call each other into {total} nodes", expected=f"at most {_LARGEST}"
        )
    try:
        return InlinePass()(model).model
    except Exception as error:
        raise RefusedError(f"the model's functions cannot be inlined: {_first_line(error)}") from error


def _size(node: ir.Node, model: ir.Model, sizes: dict[Any, int], callers: tuple[Any, ...]) -> int:
    """How many nodes a node is once functions are inlined."""
    key = node.op_identifier()
    function = model.functions.get(key)
    if function is None:
        return 1
    if key in callers or len(callers) > _DEEPEST:
        raise RefusedError(f"the function '{function.name}' calls itself, or is nested too deep")
    if key not in sizes:
        sizes[key] = sum(_size(inner, model, sizes, (*callers, key)) for inner in function.all_nodes())
    return sizes[key]


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
    if opset > OPSET:
        raise RefusedError(
            "the model is of a newer opset",
            expected=f"at most {OPSET}",
            received=opset,
            remedy="Update netferry",
        )
    if opset == OPSET or all(_means_the_same(node, opset) for node in model.graph.all_nodes()):
        return model
    batched = [
        node for node in model.graph.all_nodes() if node.op_type == "Scan" and not node.domain and opset < 9
    ]
    for node in batched:
        node.domain = _ASIDE
        model.opset_imports[_ASIDE] = 1
    weights = _taken_out(model.graph)
    model.ir_version = max(model.ir_version, 8)
    proto = ir.serde.serialize_model(model)
    try:
        raised = ir.serde.deserialize_model(version_converter.convert_version(proto, OPSET))
    except Exception as error:
        raise RefusedError(
            f"the model cannot be brought from opset {opset} to {OPSET}: {_first_line(error)}"
        ) from error
    for value in [value for value in raised.graph.inputs if value.name in weights]:
        raised.graph.inputs.remove(value)
        value.const_value = weights[str(value.name)]
        raised.graph.initializers[str(value.name)] = value
    for node in [node for node in raised.graph.all_nodes() if node.domain == _ASIDE]:
        _scan_each(node)
    return raised


_ASIDE = "netferry.aside"
"""The domain of nodes that ONNX's converter must leave alone, while it runs."""


def _scan_each(node: ir.Node) -> None:
    """Scan (lengths, states, sequences) of opset 8, which runs over a batch, as a Scan over the batch of a Scan.

    ONNX's converter drops the batch axis, and gives other results.
    """
    lengths, *operands = node.inputs
    if lengths is not None:
        raise RefusedError(
            f"node '{node.name}' (Scan) gives each sequence a length of its own",
            remedy="Export the model at opset 9 or newer",
        )
    each = [ir.Value(name=f"{node.name}_each_{place}") for place in range(len(operands))]
    attributes = {_SCAN_NAMES.get(name, name): attribute.value for name, attribute in node.attributes.items()}
    one = ir.node("Scan", each, attributes, num_outputs=len(node.outputs), name=f"{node.name}_one")
    for place, value in enumerate(one.outputs):
        value.name = f"{node.name}_one_{place}"
    body = ir.Graph(each, one.outputs, nodes=[one], name=f"{node.name}_each")
    whole = ir.node(
        "Scan",
        operands,
        {"body": body, "num_scan_inputs": len(operands)},
        num_outputs=len(node.outputs),
        name=node.name,
    )
    for old, new in zip(node.outputs, whole.outputs, strict=True):
        new.name, new.type = old.name, old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    assert node.graph is not None
    node.graph.insert_before(node, whole)
    node.graph.remove(node, safe=True)


_SCAN_NAMES = {"directions": "scan_input_directions"}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _taken_out(graph: ir.Graph) -> dict[str, ir.TensorProtocol]:
    """The large initializers, which are inputs meanwhile."""
    large = [
        v for v in graph.initializers.values() if v.const_value is not None and v.const_value.nbytes > _STAY
    ]
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
