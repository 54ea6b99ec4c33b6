"""Loops: a recurrent layer where one is found, else ONNX's Loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.tensorflow.graphdef.frames import FRAME
from netferry.converters.tensorflow.graphdef.graph import Node
from netferry.converters.tensorflow.graphdef.to_onnx.loops import Loop
from netferry.converters.tensorflow.graphdef.to_onnx.recurrent import recognised
from netferry.converters.tensorflow.graphdef.to_onnx.walk import STRUCTURES, Walk


@STRUCTURES.row("While", "StatelessWhile")
def while_(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    condition, body = (walk.function(node.attributes[key].function.name) for key in ("cond", "body"))
    return _looped(Loop(walk, condition, body, list(read)))


@STRUCTURES.row(FRAME)
def frame(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """A loop of TensorFlow 1."""
    return _looped(Loop(walk, node.attributes["cond"], node.attributes["body"], list(read)))


def _looped(loop: Loop) -> list[Any]:
    found = recognised(loop)
    return loop.written() if found is None else found
