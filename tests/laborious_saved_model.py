"""SavedModels of little length and much work: constants that are made of attributes, functions in functions, long chains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
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


def _enter(name: str, change: Callable[[Any], None], words: str | None = None) -> None:
    make: Callable[[Kit], Path] = lambda kit: changed(kit, change)  # noqa: E731
    make.__module__ = __name__
    laborious(words, f"served_{name}")(make)


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


# ---- attributes and small constants that ask for many outputs, or for large constants ---------------


def _made(operator: str, output: str, *inputs: Any, **attributes: Any) -> Callable[[Any], None]:
    """The result of the served function gets the largest of what ``operator`` makes of these arrays added to it.

    An attribute that is a dtype's number has ``_type`` behind its name.
    """

    def change(graph: Any) -> None:
        import tensorflow as tf

        body = _body(graph)
        name = next(iter(body.ret))

        def node(key: str, kind: str, read: list[str], **types: int) -> Any:
            found = body.node_def.add(name=key, op=kind, input=read)
            for each, value in types.items():
                found.attr[each].type = value
            return found

        def known(key: str, array: Any) -> str:
            value = tf.make_tensor_proto(array)
            node(key, "Const", [], dtype=value.dtype).attr["value"].tensor.CopyFrom(value)
            return f"{key}:output:0"

        made = node("made", operator, [known(f"a{place}", each) for place, each in enumerate(inputs)])
        for key, value in attributes.items():
            if key.endswith("_type"):
                made.attr[key.removesuffix("_type")].type = value
            elif isinstance(value, list):
                made.attr[key].list.i.extend(value)
            elif isinstance(value, bytes):
                made.attr[key].s = value
            else:
                made.attr[key].i = value
        kind = next(value for key, value in attributes.items() if key in ("T_type", "dtype_type"))
        node("flat", "Reshape", [f"made:{output}", known("all", np.int32([-1]))], T=kind, Tshape=3)
        node("most", "Max", ["flat:output:0", known("axis", np.int32(0))], T=kind, Tidx=3)
        node("cast", "Cast", ["most:output:0"], SrcT=kind, DstT=1)
        node("total", "AddV2", [body.ret[name], "cast:y:0"], T=1)
        body.ret[name] = "total:z:0"

    return change


_MANY, _OUTPUTS, _CONSTANT = 1 << 30, "far more outputs than the file", "a constant of [0-9,]+ elements"
_ONE = np.float32([1])
for _name, _words, _change in (
    ("a_split_into_2_30", _OUTPUTS, _made("Split", "output:0", np.int32(0), _ONE, T_type=1, num_split=_MANY)),
    ("an_unpack_into_2_30", _OUTPUTS, _made("Unpack", "output:0", _ONE, T_type=1, num=_MANY)),
    (
        "a_partition_into_2_30",
        _OUTPUTS,
        _made("DynamicPartition", "outputs:0", _ONE, np.int32([0]), T_type=1, num_partitions=_MANY),
    ),
    (
        "a_linspace_of_2_30",
        _CONSTANT,
        _made("LinSpace", "output:0", _ONE[0], _ONE[0] * 2, np.int32(_MANY), T_type=1, Tidx_type=3),
    ),
    ("a_diagonal_of_2_15", _CONSTANT, _made("Diag", "output:0", np.ones(1 << 15, np.float32), T_type=1)),
    (
        "a_histogram_of_2_30",
        _CONSTANT,
        _made("HistogramFixedWidth", "out:0", _ONE, np.float32([0, 1]), np.int32(_MANY), T_type=1, dtype_type=3),
    ),
    (
        "patches_of_250_squared",
        _CONSTANT,
        _made(
            "ExtractImagePatches", "patches:0", np.ones((1, 300, 300, 1), np.float32), T_type=1,
            ksizes=[1, 250, 250, 1], strides=[1, 1, 1, 1], rates=[1, 1, 1, 1], padding=b"VALID",
        ),
    ),
):  # fmt: skip
    _enter(_name, _change, _words)


def _outer(graph: Any) -> None:
    """Small columns and rows that make large tables, whenever they are added."""
    import tensorflow as tf

    body = _body(graph)
    name = next(iter(body.ret))
    for key, shape in (("column", (4096, 1)), ("row", (1, 4096))):
        value = tf.make_tensor_proto(np.ones(shape, np.int32))
        node = body.node_def.add(name=key, op="Const")
        node.attr["dtype"].type = 3
        node.attr["value"].tensor.CopyFrom(value)
    for place in range(500):
        made = body.node_def.add(name=f"n{place}", op="AddV2", input=["column:output:0", "row:output:0"])
        made.attr["T"].type = 3
        body.node_def.add(name=f"s{place}", op="Shape", input=[f"n{place}:z:0"]).attr["T"].type = 3
    waits = body.node_def.add(name="waits", op="Identity", input=[body.ret[name]])
    waits.input.extend(f"^s{place}" for place in range(500))
    waits.attr["T"].type = 1
    body.ret[name] = "waits:output:0"


_enter("columns_and_rows", _outer)
