"""Patterns that stand for one operator, found once for all targets.

Each rule has the operators that it may end in, and a docstring that shows the graph before and after. A rule checks all
that it assumes and else leaves the graph as it is; what something else still reads stays beside the fused node.
"""

from __future__ import annotations

from netferry.converters.graph.passes import rearrange, sink
from netferry.converters.graph.passes.drop_no_ops import NOTHING
from netferry.converters.graph.passes.edit import Editor, Rule
from netferry.converters.graph.passes.fuse_attention import ATTENTION
from netferry.converters.graph.passes.fuse_layers import LAYERS, OURS
from netferry.converters.graph.passes.fuse_products import PRODUCTS
from netferry.converters.graph.registry import Table


def fuse(edit: Editor) -> None:
    """Every rule, in an order in which each finds what the one before has left."""
    edit.sweep()
    for table in (NOTHING, LAYERS, PRODUCTS):
        _each(edit, table)
    _rearrange(edit)
    _each(edit, ATTENTION)
    _rearrange(edit)


def _rearrange(edit: Editor) -> None:
    for step in (rearrange.compose, rearrange.unpack, sink.sink, rearrange.compose):
        step(edit)
        edit.sweep()


def _each(edit: Editor, rules: Table[str, Rule]) -> None:
    """One pass of the rules over the graph; what is left over reads nothing any more."""
    for node in edit.nodes():
        rule = rules.get(node.op_type) if not node.domain or node.domain == OURS else None
        if rule is not None:
            edit.attempt(rule, node)
    edit.sweep()
