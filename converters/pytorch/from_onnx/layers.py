"""What the rows of operators that own weights share: a layer of PyTorch's, its module path, its frozen weights.

A row makes a layer where the weights are constants, and writes the function where they are known only
at run time, or where they belong to another layer already.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from netferry.converters.graph.codegen.writer import shortest
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.dtypes import FLOAT32
from netferry.converters.pytorch.from_onnx.namespace import LAYERS, TorchNamespace
from netferry.converters.pytorch.from_onnx.state import Weight, parts
from netferry.converters.signature import Array

Xp = TorchNamespace
Sizes = tuple[Any, ...]

row = LAYERS.row


_LAST_WORDS = frozenset(
    "alpha beta bias embeddings gamma kernel running_mean scale slope W w weight weights".split()
)
"""What a weight is called within its layer."""


def module_path(xp: Xp, *weights: Symbol | None) -> list[str] | None:
    """The module path of a layer: the path of a weight's name, or that of its node.

    None where the weight belongs to a module of another kind (``self_attn.in_proj_weight``), which owns it itself.
    """
    paths = [parts(weight.fact.name) for weight in weights if weight is not None]
    for path in paths:
        if len(path) > 1 and path[-1] in _LAST_WORDS:
            return path[:-1]
        if len(path) == 1 and path[0].endswith("_weight"):
            return [path[0].removesuffix("_weight")]
    if any(len(path) > 1 and path[-1].endswith(("_weight", "_bias")) for path in paths):
        return None
    path = [*dict.fromkeys(parts(xp.node.name or ""))]
    return (path[:-1] if len(path) > 1 and path[-1].startswith(xp.node.op_type) else path) or [
        xp.node.op_type.lower()
    ]


def frozen(x: Symbol, array: Array | None = None) -> Weight:
    """A constant as a layer's weight; ``array`` where that has another shape."""
    content = x.content
    assert content is not None
    return Weight(content if array is None else array, x.fact.name)


def weight_and_bias(w: Symbol, b: Symbol | None, array: Array | None = None) -> dict[str, Weight]:
    """The tensors of most layers; ``array`` is the weight where that has another shape."""
    return {"weight": frozen(w, array)} | ({} if b is None else {"bias": frozen(b)})


def transposed(x: Symbol) -> Symbol:
    """A constant matrix, transposed: the same memory seen the other way."""
    content = x.content
    assert content is not None
    return Symbol(x.xp, replace(x.fact, content=content.T, dims=content.T.shape))


def all_constant(*weights: Symbol | None) -> bool:
    """Whether all of these are constants of one floating type."""
    given = [weight for weight in weights if weight is not None]
    return (
        all(w.content is not None and w.dtype.kind in "fV" for w in given)
        and len({w.dtype for w in given}) == 1
    )


def layer(
    xp: Xp, kind: str, *args: Any, at: list[str] | None, weights: Mapping[str, Weight], **kwargs: Any
) -> ast.expr | None:
    """``nn.Conv2d(3, 64, 7, stride=2)`` in the module, and the expression that reads it from there.

    None where a weight belongs to another layer already.
    """
    if at is None:
        return None
    dtype = next((weight.array.dtype for weight in weights.values()), FLOAT32)
    call = xp.call_expr(ast.parse(f"nn.{kind}", mode="eval").body, *args, **kwargs,
                        dtype=dtype if dtype != FLOAT32 else None)  # fmt: skip
    return xp.state.layer(at, call, weights)


def applied(xp: Xp, x: Symbol, kind: str, *args: Any, **options: Any) -> Symbol | None:
    """The result of a layer that is made for it: ``self.conv1(x)``; None as for ``layer``."""
    made = layer(xp, kind, *args, **options)
    return None if made is None else xp.made(xp.call_expr(made, x), x)


def as_float32(number: float) -> float:
    """An attribute as it was meant: ONNX keeps 0.1 as a float32."""
    return shortest(np.float32(number))
