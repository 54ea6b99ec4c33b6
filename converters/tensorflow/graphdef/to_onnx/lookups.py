"""Rows of lookup tables of numbers, which the file fills when it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.graph import Node
from netferry.converters.tensorflow.graphdef.restore import Handle
from netferry.converters.tensorflow.graphdef.to_onnx.walk import STRUCTURES, Text, Walk


@STRUCTURES.row("LookupTableFindV2", "LookupTableFind")
def find(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """The value of each key, or the default where the table has none."""
    keys, values = _content(walk, node, read[0])
    if any(isinstance(each, Text) for each in read[1:]):
        raise of_strings(node)
    x, default = (walk.tensor(each) for each in read[1:3])
    assert x is not None and default is not None
    if not keys.size:
        return [walk.g.Expand(default, walk.g.shape(x))]
    return [_found(walk, x, default, keys, values)]


def _found(
    walk: Walk, x: Tensor, default: Tensor, keys: np.ndarray[Any, Any], values: np.ndarray[Any, Any]
) -> Tensor:
    g = walk.g
    hits = g.cast(g.Equal(g.Unsqueeze(x, g.ints(-1)), g.constant(keys.astype(x.dtype))), np.int32)
    place = g.ArgMax(hits, axis=-1, keepdims=0)
    known = g.cast(g.ReduceMax(hits, g.ints(-1), keepdims=0), np.bool_)
    return g.Where(known, g.Gather(g.constant(values.astype(default.dtype)), place, axis=0), default)


@STRUCTURES.row("LookupTableSizeV2", "LookupTableSize")
def size(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    keys, _ = _content(walk, node, read[0])
    return [walk.g.constant(keys.size, np.int64)]


def _content(walk: Walk, node: Node, table: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if not isinstance(table, Handle):
        raise CannotConvert("it reads a table that is not made in the graph")
    keys, values = walk.model.table(table.name)
    if isinstance(keys, list) or isinstance(values, list):
        raise of_strings(node)
    if keys is None or values is None:
        raise CannotConvert("its table is filled from what is computed when the file is loaded")
    return np.asarray(keys).reshape(-1), np.asarray(values).reshape(-1)


def of_strings(node: Node) -> CannotConvert:
    return CannotConvert(
        "it looks up strings, which ONNX models do not", f"Cut the model behind it: --input-at {node.name}"
    )
