"""Products that stand for an activation or a normalisation."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from netferry.converters.graph.passes.edit import Editor
from netferry.converters.graph.passes.fuse_activations import gelu, hard_swish, mish, swish
from netferry.converters.graph.passes.fuse_normalization import normalization
from netferry.converters.graph.registry import Table

PRODUCTS: Table[str, Callable[[Editor, ir.Node], None]] = Table("products")


@PRODUCTS.row("Mul", "Div")
def products(edit: Editor, node: ir.Node) -> None:
    """A product that is an activation or a normalisation."""
    for rule in (gelu, swish, hard_swish, mish):
        made = rule(edit, node)
        if made is not None:
            edit.replace(node.outputs[0], made)
            return
    normalization(edit, node)
