"""From one opset to another: by ONNX's own converter, and by us where that leaves a meaning behind."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from netferry.converters.errors import RefusedError, UnsupportedError, UsageError
from netferry.converters.graph.passes.versions import converted, means_the_same, put_aside, raised, taken_back
from netferry.converters.onnx.to_onnx.lower import fits, lowered

OLDEST = 7


def to_opset(model: ir.Model, opset: int) -> ir.Model:
    """The same model at ``opset``; refused where ONNX has no way there."""
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise UsageError("no such opset", expected=f"a number from {OLDEST} to {newest}", received=opset)
    current = model.opset_imports[""]
    if opset == current:
        return model
    try:
        return (_higher if opset > current else _lower)(model.clone(), opset)
    except UnsupportedError as error:
        raise error.at(f"at opset {opset}") from None
    except Exception as error:  # the converter raises RuntimeError, ConvertError and checker errors
        reason = (
            str(error).strip().splitlines()[0].rpartition("` failed: ")[2]
        )  # without the converter's own lines
        raise RefusedError(
            f"the model cannot be written at opset {opset} ({reason})",
            remedy=f"Leave --opset out: opset {current} holds it",
        ) from error


def _check(model: ir.Model) -> None:
    """What ONNX's checker does where every output says its rank."""
    proto = ir.to_proto(model)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    for value in proto.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(proto)


def _higher(model: ir.Model, opset: int) -> ir.Model:
    """What netferry raises it raises to today's form, which is lowered where the opset is older than that."""
    if opset == _RESIZE_OF_TWO:
        for node in model.graph.all_nodes():
            if node.op_type == "Upsample" and not node.domain and len(node.inputs) == 2:
                node.op_type = "Resize"  # which it was called for one opset
                put_aside(model, [node])
        return raised(model, opset, _check)
    if _RESIZE_OF_TWO < opset < _TODAYS_FORM and any(
        node.op_type in ("Resize", "Upsample") for node in model.graph.all_nodes()
    ):
        return _lower(raised(model, _TODAYS_FORM), opset)
    return raised(model, opset, _check)


_RESIZE_OF_TWO, _TODAYS_FORM = 10, 13
"""The opset whose Resize takes scales alone; the first whose Resize takes what today's does."""


def _lower(model: ir.Model, opset: int) -> ir.Model:
    """ONNX's converter knows few ways back, and needs none where an operator means the same in both opsets."""
    model = lowered(model, opset)
    if opset < _ONE_AXIS <= model.opset_imports[""]:
        _look_along_the_last_axis(model)
    alike = [
        node
        for node in model.graph.all_nodes()
        if node.op_type in _SOFTMAXES or means_the_same(node, opset) or fits(node, opset)
    ]
    put_aside(model, alike)

    def finish(lower: ir.Model) -> None:
        taken_back(lower)
        _check(lower)

    return converted(model, opset, finish)


_ONE_AXIS = 13
"""From this opset on Softmax looks along one axis; before, along all axes from that one on."""

_SOFTMAXES = ("Softmax", "LogSoftmax", "Hardmax")


def _look_along_the_last_axis(model: ir.Model) -> None:
    """Softmax and its like mean the same in every opset along the last axis: that is brought there, and back.

    ONNX's converter has no way back for them.
    """
    for node in [n for n in model.graph.all_nodes() if n.op_type in _SOFTMAXES and not n.domain]:
        (x,), (y,) = node.inputs, node.outputs
        axis = node.attributes["axis"].value if "axis" in node.attributes else -1
        if x is None or x.shape is None:
            raise RefusedError(f"node '{node.name}' ({node.op_type}): the rank of its input is not known")
        rank = x.shape.rank()
        node.attributes["axis"] = ir.AttrInt64("axis", rank - 1)
        if axis % rank != rank - 1:
            order = list(range(rank))
            order[axis], order[-1] = order[-1], order[axis]
            _between_transpositions(node, x, y, order)


def _between_transpositions(node: ir.Node, x: ir.Value, y: ir.Value, order: list[int]) -> None:
    """``order`` swaps two axes, so it is its own inverse."""
    assert node.graph is not None
    before = ir.node("Transpose", [x], {"perm": order}, name=f"{node.name}_before")
    after = ir.node("Transpose", [y], {"perm": order}, name=f"{node.name}_after")
    before.outputs[0].name = f"{y.name}_before"
    after.outputs[0].type, after.outputs[0].shape = y.type, y.shape
    y.replace_all_uses_with(after.outputs[0], replace_graph_outputs=True)
    after.replace_input_with(0, y)
    after.outputs[0].name, y.name, y.shape = y.name, f"{y.name}_along", None
    node.replace_input_with(0, before.outputs[0])
    node.graph.insert_before(node, before)
    node.graph.insert_after(node, after)
