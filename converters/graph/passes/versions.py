"""One opset: every model is brought to the newest, by ONNX's own converter and, where that errs, by us."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
import onnx_ir as ir
from onnx import version_converter

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.graph.schema.opset import EARLIER, OPSET, UNDER_THE_STANDARD, schema_of

_STAY = 1024
"""Initializers of more bytes than this stay out of the version converter."""


Step = Callable[[ir.Model], None]
"""What is done to a model whose large weights are inputs meanwhile."""


def raised(model: ir.Model, target: int = OPSET, check: Step = lambda _: None) -> ir.Model:
    """The model at a newer opset, by ONNX's own converter; large weights do not go through it, nor through ``check``."""
    opset = _opset_of(model)
    if opset > OPSET:
        raise RefusedError(
            "the model is of a newer opset",
            expected=f"at most {OPSET}",
            received=opset,
            remedy="Update netferry",
        )
    if target == OPSET and stays(model):
        return model
    nodes = list(model.graph.all_nodes())
    put_aside(
        model, [node for node in nodes if _converter_errs(node, opset, target) or is_foreign(node, opset)]
    )
    model.ir_version = max(model.ir_version, 8)

    def finish(risen: ir.Model) -> None:
        for node in taken_back(risen):
            if _converter_errs(node, opset, target):
                ADAPTED[node.op_type][1](node)
        check(risen)

    try:
        return converted(model, target, finish)
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(
            f"the model cannot be brought from opset {opset} to {target}: {first_line(error)}"
        ) from error


def _opset_of(model: ir.Model) -> int:
    return model.opset_imports.get("") or model.opset_imports.get("ai.onnx") or OPSET


def stays(model: ir.Model) -> bool:
    """Whether every node means at the newest opset what it means at its own."""
    opset = _opset_of(model)
    return opset == OPSET or all(
        means_the_same(node, opset) or is_foreign(node, opset) for node in model.graph.all_nodes()
    )


def converted(model: ir.Model, opset: int, finish: Step) -> ir.Model:
    """What ONNX's converter makes of a model, which is used up; ``finish`` gets it before its large weights are back."""
    return changed_by(model, lambda proto: version_converter.convert_version(proto, opset), finish)


def changed_by(
    model: ir.Model, change: Callable[[onnx.ModelProto], onnx.ModelProto], finish: Step = lambda _: None
) -> ir.Model:
    """What a function makes of a model as a message, through which its large weights do not go."""
    weights = _taken_out(model.graph)
    whole = ir.serde.deserialize_model(change(ir.serde.serialize_model(model)))
    finish(whole)
    for value in [value for value in whole.graph.inputs if value.name in weights]:
        whole.graph.inputs.remove(value)
        value.const_value = weights[str(value.name)]
        whole.graph.initializers[str(value.name)] = value
    return whole


_ASIDE = "netferry.aside"
"""The domain of nodes that ONNX's converter must leave alone, while it runs."""


def put_aside(model: ir.Model, nodes: Sequence[ir.Node]) -> None:
    """Hide nodes from ONNX's converter."""
    for node in nodes:
        node.domain = _ASIDE
        model.opset_imports[_ASIDE] = 1


def taken_back(model: ir.Model) -> list[ir.Node]:
    """The nodes that were hidden, which are ONNX's again."""
    model.opset_imports.pop(_ASIDE, None)
    nodes = [node for node in model.graph.all_nodes() if node.domain == _ASIDE]
    for node in nodes:
        node.domain = ""
    return nodes


def _converter_errs(node: ir.Node, opset: int, target: int) -> bool:
    return not node.domain and node.op_type in ADAPTED and opset < ADAPTED[node.op_type][0] <= target


def is_foreign(node: ir.Node, opset: int) -> bool:
    """Whether ONNX does not have an operator of its own domain at this opset, and onnxruntime does."""
    foreign = node.op_type in UNDER_THE_STANDARD or opset < EARLIER.get(node.op_type, 0)
    return node.domain in ("", "ai.onnx") and foreign


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
    each = [ir.Value(name=f"{node.name}_each_{position}") for position in range(len(operands))]
    attributes = {_SCAN_NAMES.get(name, name): attribute.value for name, attribute in node.attributes.items()}
    one = ir.node("Scan", each, attributes, num_outputs=len(node.outputs), name=f"{node.name}_one")
    for position, value in enumerate(one.outputs):
        value.name = f"{node.name}_one_{position}"
    body = ir.Graph(each, one.outputs, nodes=[one], name=f"{node.name}_each")
    whole = ir.node(
        "Scan",
        operands,
        {"body": body, "num_scan_inputs": len(operands)},
        num_outputs=len(node.outputs),
        name=node.name,
    )
    _replace(node, whole)


_SCAN_NAMES = {"directions": "scan_input_directions"}


def _resize(node: ir.Node) -> None:
    """Upsample, and Resize of opset 10, as the Resize of today: a place divided by the scale.

    ONNX's converter leaves today's default, places at the centres of pixels. Opset 10 does not say which neighbour is
    the nearest; onnxruntime takes the one below where it enlarges and the one above where it shrinks.
    """
    given = {name: attribute.value for name, attribute in node.attributes.items()}
    before: list[ir.Node] = []
    if len(node.inputs) > 1:
        scales = node.inputs[1]
    else:
        sizes = given.get("scales") or (1.0, 1.0, given["height_scale"], given["width_scale"])
        constant = ir.node("Constant", [], {"value_floats": list(sizes)}, name=f"{node.name}_scales")
        constant.outputs[0].name = f"{node.name}_scales"
        scales, before = constant.outputs[0], [constant]
    mode = given.get("mode", "nearest")
    attributes = {
        "mode": {"bilinear": "linear"}.get(mode, mode),
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": _nearest(node, scales) if node.op_type == "Resize" and mode == "nearest" else "floor",
    }
    whole = ir.node("Resize", [node.inputs[0], None, scales], attributes, name=node.name)
    _replace(node, whole, *before)


def _nearest(node: ir.Node, scales: ir.Value | None) -> str:
    """``floor`` where every axis grows, ``ceil`` where every axis shrinks."""
    content = None if scales is None else ir.convenience.get_const_tensor(scales)
    if content is not None:
        factors = content.numpy()
        if (factors >= 1).all() or (factors <= 1).all():
            return "floor" if (factors >= 1).all() else "ceil"
    raise RefusedError(
        f"node '{node.name}' (Resize) of opset 10 does not say which neighbour is the nearest",
        expected="constant scales that all enlarge or all shrink",
        remedy="Export the model at opset 11 or newer",
    )


def _hardmax(node: ir.Node) -> None:
    """Hardmax before opset 13 looks at all axes from ``axis`` on as one: Flatten, Hardmax, and back.

    ONNX's converter forgets the way it did so for Softmax.
    """
    x = node.inputs[0]
    axis = node.attributes["axis"].value if "axis" in node.attributes else 1
    shape = ir.node("Shape", [x], name=f"{node.name}_shape")
    flat = ir.node("Flatten", [x], {"axis": axis}, name=f"{node.name}_flat")
    hard = ir.node("Hardmax", [flat.outputs[0]], {"axis": -1}, name=node.name)
    for step in (shape, flat, hard):
        step.outputs[0].name = f"{step.name}_of_{node.outputs[0].name}"
    back = ir.node("Reshape", [hard.outputs[0], shape.outputs[0]], name=f"{node.name}_back")
    _replace(node, back, shape, flat, hard)


def _prelu(node: ir.Node) -> None:
    """PRelu before opset 7 has one slope for each channel of axis 1: today's broadcasts from the last axis."""
    _along(node, 1)


def _arithmetic(node: ir.Node) -> None:
    """Before opset 7 the second operand lies along ``axis`` of the first where ``broadcast`` says so."""
    axis = node.attributes.get("axis")
    _along(node, None if axis is None else axis.value)


def _along(node: ir.Node, axis: int | None) -> None:
    """The second operand with axes of size 1 behind its own, so that they start at ``axis`` of the first's."""
    x, y = node.inputs
    steps: tuple[ir.Node, ...] = ()
    if axis is not None and not (y is not None and y.shape is not None and y.shape in _SINGLES):
        if x is None or y is None or x.shape is None or y.shape is None:
            raise RefusedError(
                f"node '{node.name}' ({node.op_type}) does not say of which ranks its inputs are",
                remedy="Run onnx.shape_inference over the model, or export it at opset 9 or newer",
            )
        first = (axis if axis >= 0 else axis + x.shape.rank()) + y.shape.rank()
        axes = range(y.shape.rank(), y.shape.rank() + x.shape.rank() - first)
        if axes:
            constant = ir.node("Constant", [], {"value_ints": list(axes)}, name=f"{node.name}_axes")
            steps = (constant, ir.node("Unsqueeze", [y, constant.outputs[0]], name=f"{node.name}_operand"))
    for step in steps:
        step.outputs[0].name = f"{step.name}_of_{node.outputs[0].name}"
    operand = steps[-1].outputs[0] if steps else y
    _replace(node, ir.node(node.op_type, [x, operand], name=node.name), *steps)


_SINGLES = ((), (1,))
"""Shapes that broadcast to any."""


def _replace(node: ir.Node, new: ir.Node, *before: ir.Node) -> None:
    """Put ``new``, after the nodes that it needs, where ``node`` stands."""
    for old, value in zip(node.outputs, new.outputs, strict=True):
        value.name, value.type, value.shape = old.name, old.type, old.shape
        old.replace_all_uses_with(value, replace_graph_outputs=True)
    assert node.graph is not None
    for step in (*before, new):
        node.graph.insert_before(node, step)
    node.graph.remove(node, safe=True)


ADAPTED: Mapping[str, tuple[int, Callable[[ir.Node], None]]] = {
    "Hardmax": (13, _hardmax),
    "PRelu": (7, _prelu),
    "Resize": (11, _resize),
    "Scan": (9, _scan_each),
    "Upsample": (10, _resize),
    **dict.fromkeys("Add Sub Mul Div Pow And Or Xor Equal Greater Less".split(), (7, _arithmetic)),
}
"""Operators that ONNX's converter brings over wrongly: the opset from which it is right, and how it is done here."""


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


def means_the_same(node: ir.Node, opset: int) -> bool:
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
