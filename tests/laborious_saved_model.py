"""SavedModels of little length and much work: constants that are made of attributes, functions in functions, long chains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Kit
from hostile_saved_model import _body, changed
from laborious import laborious


def constant(node: Any, values: list[int], dims: list[int] | None = None) -> None:
    """An int32 of these values, and of these sizes."""
    node.attr["dtype"].type = 3
    tensor = node.attr["value"].tensor
    tensor.dtype = 3
    tensor.int_val.extend(values)
    for size in [len(values)] if dims is None else dims:
        tensor.tensor_shape.dim.add(size=size)


def _large(
    operator: str, *inputs: tuple[str, list[int], list[int] | None], **types: int
) -> Callable[[Any], None]:
    """The result of the served function gets the largest element of what ``operator`` makes added to it."""

    def change(graph: Any) -> None:
        body = _body(graph)
        name = next(iter(body.ret))
        for key, values, dims in inputs:
            constant(body.node_def.add(name=key, op="Const"), values, dims)
        made = body.node_def.add(name="made", op=operator, input=[f"{key}:output:0" for key, *_ in inputs])
        for key, kind in types.items():
            made.attr[key].type = kind
        constant(body.node_def.add(name="axis", op="Const"), [0])
        most = body.node_def.add(name="most", op="Max", input=["made:output:0", "axis:output:0"])
        most.attr["T"].type, most.attr["Tidx"].type = 3, 3
        cast = body.node_def.add(name="cast", op="Cast", input=["most:output:0"])
        cast.attr["SrcT"].type, cast.attr["DstT"].type = 3, 1
        total = body.node_def.add(name="total", op="AddV2", input=[body.ret[name], "cast:y:0"])
        total.attr["T"].type = 1
        body.ret[name] = "total:z:0"

    return change


NUMBER: list[int] = []
CASES: dict[str, Callable[[Any], None]] = {
    "range_2_30": _large("Range", ("a", [0], NUMBER), ("b", [1 << 30], NUMBER), ("c", [1], NUMBER), Tidx=3),
    "fill_2_30": _large("Fill", ("a", [1 << 30], [1]), ("b", [3], NUMBER), T=3, index_type=3),
    "tile_2_30": _large("Tile", ("a", [1, 2], [2]), ("b", [1 << 29], [1]), T=3, Tmultiples=3),
    "broadcast_2_30": _large("BroadcastTo", ("a", [1], [1]), ("b", [1 << 30], [1]), T=3, Tidx=3),
}


def _enter(name: str, change: Callable[[Any], None]) -> None:
    make: Callable[[Kit], Path] = lambda kit: changed(kit, change)  # noqa: E731
    make.__module__ = __name__
    laborious(None, f"served_{name}")(make)


for _name, _change in CASES.items():
    _enter(_name, _change)


def _chain(graph: Any) -> None:
    body = _body(graph)
    name = next(iter(body.ret))
    for place in range(6000):
        made = body.node_def.add(name=f"n{place}", op="Tanh", input=[body.ret[name]])
        made.attr["T"].type = 1
        body.ret[name] = f"n{place}:y:0"


_enter("a_long_chain", _chain)
