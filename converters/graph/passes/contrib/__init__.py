"""Operators of onnxruntime's own domain, and those that a person has defined, opened into those of the standard.

onnxruntime's optimiser and quantiser write ``com.microsoft``. Each row says what its operator is made of; what comes behind
(targets, constants, the float64 run) sees ONNX alone. Semantics: onnxruntime's schemas, "Contrib Operator Schemas".
"""

from __future__ import annotations

import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.namespace import without
from netferry.converters.graph.inference.evaluate import Evaluator
from netferry.converters.graph.ir.sizes import TooLong
from netferry.converters.graph.passes.contrib import (  # noqa: F401 - they register rows
    activations,
    attention,
    convolution,
    grouped,
    linear,
    normalization,
    quantized,
    recurrent,
    shape,
)
from netferry.converters.graph.passes.contrib.refused import BLOCKED, REFUSED
from netferry.converters.graph.passes.contrib.table import CONTRIB, Results, Row
from netferry.converters.graph.passes.contrib.writer import Writer
from netferry.converters.graph.schema import own
from netferry.converters.graph.schema.opset import UNDER_THE_STANDARD
from netferry.converters.graph.schema.own import OWN

__all__ = ["CONTRIB", "DOMAIN", "is_contrib", "is_own", "opened"]

DOMAIN = "com.microsoft"
_BLOCKED_DOMAIN = "com.microsoft.nchwc"


def is_contrib(node: ir.Node) -> bool:
    """onnxruntime puts some of its own operators under the standard's domain."""
    return (
        node.domain in (DOMAIN, _BLOCKED_DOMAIN)
        or (not node.domain and node.op_type in UNDER_THE_STANDARD)
        or is_own(node)
    )


def is_own(node: ir.Node) -> bool:
    """Whether a person has defined the operator."""
    return len(OWN) > 0 and own.key(node.domain, node.op_type) in OWN


def opened(node: ir.Node, evaluator: Evaluator, *, floats: bool = False) -> bool:
    """Put what an operator is made of in its place, with the facts of every value; False where it cannot be done.

    Why not is kept with the node, for the walk that will refuse it. With ``floats`` what quantises what it computes with
    is opened into operators on floats, where it has a form of its own for that.
    """
    writer = Writer(node, evaluator, floats=floats)
    try:
        results = _results(writer, node)
    except (CannotConvert, TooLong) as cannot:
        writer.undo()
        node.meta["refused"] = (str(cannot), getattr(cannot, "remedy", ""))
        return False
    writer.replace(results)
    return True


def _results(writer: Writer, node: ir.Node) -> list[ir.Value | None]:
    """A value for each output that something reads."""
    made: Results = _row(node)(writer, node)
    results: list[ir.Value | None] = [*made] if isinstance(made, tuple) else [made]
    for position, value in enumerate(node.outputs):
        if writer.asked(position) and (position >= len(results) or results[position] is None):
            raise CannotConvert(
                f"its output '{value.name}' (number {position + 1}) is not one that netferry makes"
            )
    return results


def _row(node: ir.Node) -> Row:
    defined = OWN.get(own.key(node.domain, node.op_type))
    if defined is not None:
        return Row(defined, {})
    if node.domain == _BLOCKED_DOMAIN:
        raise CannotConvert(*BLOCKED)
    if node.op_type in REFUSED:
        raise CannotConvert(*REFUSED[node.op_type])
    row = CONTRIB.get(node.op_type)
    if row is None:
        raise CannotConvert(
            f"netferry does not support {node.domain}.{node.op_type}",
            f"{without(node)}, or define it (netferry.operator)",
        )
    return row
