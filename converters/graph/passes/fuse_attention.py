"""Attention in pieces is Attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.passes import rearrange
from netferry.converters.graph.passes.edit import Editor
from netferry.converters.graph.passes.factors import factors
from netferry.converters.graph.registry import Table

ATTENTION: Table[str, Callable[[Editor, ir.Node], None]] = Table("attention")


@ATTENTION.row("MatMul")
def attention(edit: Editor, node: ir.Node) -> None:
    """softmax(q @ transpose(k) * scale + mask) @ v    becomes    Attention(q, k, v, mask, scale)

    The scale may stand on the product, on q, on k, or half on each; the mask is added, and spans the keys. A guard
    that turns NaN into 0 (rows that are masked away) is part of what Attention means: a mask of infinities that may
    hide a whole row stays outside where there is no guard. Heads are an axis of their own: (batch, heads, length,
    width), or none: (batch, length, width).
    """
    p, v = node.inputs
    guarded, scores = _softmax(edit, p)
    found = _scores(edit, scores) if scores is not None else None
    if v is None or scores is None or found is None or not is_float(edit.dtype(v)):
        return
    scale, product, mask = found
    q, k_turned = product.inputs
    (m, q), (n, k_turned) = _scaled(edit, node, q), _scaled(edit, node, k_turned)
    o, k = _turned(edit, node, k_turned)
    dims = [edit.dims(value) for value in (q, k, v)]
    rank = len(dims[0])
    if (
        rank not in (3, 4)
        or any(len(d) != rank or d[:-2] != dims[0][:-2] for d in dims)
        or dims[1][-2] != dims[2][-2]
    ):
        return
    if mask is not None and not _is_mask(edit, mask, scores, product.outputs[0]):
        return
    if mask is not None and not guarded and _may_hide_rows(edit, mask):
        return
    operands: list[Any] = [q, k, v, mask]
    if rank == 3:
        operands = [
            value if value is None or len(edit.dims(value)) < 3 else _headed(edit, node, value)
            for value in operands
        ]
    made = edit.add(node, "Attention", operands, {"scale": scale * m * n * o})
    edit.replace(node.outputs[0], made if rank == 4 else edit.reshape(node, made, edit.dims(node.outputs[0])))


def _softmax(edit: Editor, p: ir.Value | None) -> tuple[bool, ir.Value | None]:
    """Whether there is a guard against NaN, and the scores that a softmax over the last axis takes before it."""
    guard = edit.maker(p, "Where")
    if guard is not None:
        asked = edit.maker(guard.inputs[0], "IsNaN")
        if asked is None or asked.inputs[0] is not guard.inputs[2] or edit.number(guard.inputs[1]) != 0:
            return False, None
        p = guard.inputs[2]
    node = edit.maker(p, "Softmax")
    if node is None or node.attributes.get_int("axis", -1) not in (-1, len(edit.dims(p)) - 1):
        return False, None
    return guard is not None, node.inputs[0]


_MASK_PARTS = (
    "Add",
    "Cast",
    "Concat",
    "Expand",
    "Identity",
    "Mul",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Where",
)
"""What masks are made with, out of numbers and comparisons."""


def _may_hide_rows(edit: Editor, mask: ir.Value) -> bool:
    """Whether a mask may be minus infinity along a whole row: a constant shows it, one that is made holds infinities."""
    content = edit.constant(mask)
    if content is not None:
        return bool(np.isneginf(np.asarray(content, np.float64)).all(-1).any())
    seen, waiting = set[int](), [mask]
    while waiting:
        value = waiting.pop()
        part = edit.constant(value)
        if part is not None and part.dtype.kind == "f" and np.isinf(part).any():
            return True
        made = edit.maker(value, *_MASK_PARTS)
        if made is not None and id(made) not in seen:
            seen.add(id(made))
            waiting += [source for source in made.inputs if source is not None]
    return False


def _scores(edit: Editor, scores: ir.Value) -> tuple[float, ir.Node, ir.Value | None] | None:
    """scale, product and mask of ``q @ k * scale + mask``."""
    added = edit.maker(scores, "Add")
    pairs: list[Any] = (
        [*((a, b) for a, b in (added.inputs, added.inputs[::-1]))] if added is not None else [(scores, None)]
    )
    for value, mask in pairs:
        scale, values = factors(edit, value)
        product = edit.maker(values[0], "MatMul") if len(values) == 1 else None
        if product is not None:
            return scale, product, mask
    return None


def _scaled(edit: Editor, node: ir.Node, value: Any) -> tuple[float, Any]:
    """A value as its number and what is multiplied by it, also where that happens before its heads are split."""
    number, values = factors(edit, value)
    number, value = (number, values[0]) if len(values) == 1 else (1.0, value)
    moves = rearrange.alone(edit, value)
    source = rearrange.source_of(moves[0]) if moves else value
    more, values = factors(edit, source) if moves and edit.inner(source) else (1.0, [])
    if len(values) != 1 or more == 1.0:
        return number, value
    moved = values[0]
    for move in moves:
        moved = rearrange.again(edit, node, move, moved)
    return number * more, moved


def _turned(edit: Editor, node: ir.Node, k: ir.Value) -> tuple[float, ir.Value]:
    """k with its last two axes exchanged: what was turned is taken as it was, with its number."""
    rank = len(edit.dims(k))
    if rank < 2:
        return 1.0, k
    swap = [*range(rank - 2), rank - 1, rank - 2]
    before = edit.maker(k, "Transpose")
    if before is not None and list(before.attributes.get_ints("perm", ())) == swap:
        return _scaled(edit, node, before.inputs[0])
    return 1.0, edit.transpose(node, k, swap)


def _is_mask(edit: Editor, mask: ir.Value, scores: ir.Value, product: ir.Value) -> bool:
    """Whether a mask may be Attention's: one that is shorter than the keys would mean something else there."""
    whole, dims = edit.dims(product), edit.dims(mask)
    return (
        edit.dims(scores) == whole
        and edit.dtype(mask) == edit.dtype(product)
        and 2 <= len(dims) <= len(whole)
        and dims[-1] == whole[-1]
    )


def _headed(edit: Editor, node: ir.Node, value: ir.Value) -> ir.Value:
    """(batch, length, width) with an axis for one head."""
    batch, *rest = edit.dims(value)
    return edit.reshape(node, value, (batch, 1, *rest))
