"""Operators that compute in float32 alone (resizing, what chooses boxes), within a graph of doubles: a cast before, one behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netferry.converters.tensorflow.frozen.edit import Body, type_attribute
from netferry.converters.tensorflow.runtime import op_definition, tf

_FLOAT, _DOUBLE = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum
_SINGLE = {dtype.as_datatype_enum: _FLOAT for dtype in (tf.float32, tf.float16, tf.bfloat16)}


def without_double(node: Any) -> Mapping[str, Mapping[int, int]]:
    """The attributes of a node that may be no double, and what each narrow float becomes in them."""
    definition = op_definition(node.op)
    allowed = {each.name: each.allowed_values.list.type for each in definition.attr} if definition else {}
    return {name: _SINGLE for name, types in allowed.items() if _FLOAT in types and _DOUBLE not in types}


def surround(body: Body, node: Any) -> None:
    """Let a node that takes or gives float32 read what is cast to it, and others what it gives as doubles."""
    for place, dtype in list(body.inputs(node)):
        if dtype == _FLOAT:
            node.input[place] = _cast(body, node, node.input[place], tf.float64, tf.float32)
    for reference, dtype in list(body.outputs(node)):
        if dtype == _FLOAT:
            body.redirect(reference, _cast(body, node, reference, tf.float32, tf.float64))


def _cast(body: Body, node: Any, read: str, held: Any, wanted: Any) -> str:
    made = body.add(
        "Cast", f"{node.name}/cast", [read], SrcT=type_attribute(held), DstT=type_attribute(wanted)
    )
    return body.reference(made.name, "y")
