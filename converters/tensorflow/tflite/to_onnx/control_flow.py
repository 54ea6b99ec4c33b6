"""Rows of operators that run other subgraphs."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.tensorflow.graphdef.graph import Ref
from netferry.converters.tensorflow.tflite.graph import OPERATORS, Writer, function
from netferry.converters.tensorflow.tflite.model import Operation


@OPERATORS.row("IF")
def if_(w: Writer, op: Operation) -> Sequence[Ref]:
    given = [w.stored(index) for index in op.inputs]
    branches = {
        "then_branch": function(op.option("then_subgraph_index")),
        "else_branch": function(op.option("else_subgraph_index")),
    }
    return w.outputs(w.node("If", *given, **branches), len(op.outputs))


@OPERATORS.row("WHILE")
def while_(w: Writer, op: Operation) -> Sequence[Ref]:
    given = [w.stored(index) for index in op.inputs]
    parts = {
        "cond": function(op.option("cond_subgraph_index")),
        "body": function(op.option("body_subgraph_index")),
    }
    return w.outputs(w.node("While", *given, **parts), len(op.outputs))
