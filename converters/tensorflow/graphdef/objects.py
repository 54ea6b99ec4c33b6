"""Which tensor of the checkpoint a variable is that no restoring step fills: what the objects that were saved say.

Keras 3 makes a variable twice in a file of ``tf.saved_model.save``: one is restored, the other is served. TensorFlow gives each
function the objects that it captured, by number, and keeps an object's value under its path from the root.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from netferry.converters.tensorflow.graphdef.graph import Graph, Node

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_DEEPEST = 100


def keys(objects: Any, graph: Graph, is_variable: Callable[[Node], bool]) -> Iterator[tuple[Node, str]]:
    """The variables of the main graph that functions are called with, each with the key of its value in a checkpoint."""
    bound = {entry.key: list(entry.value.objects) for entry in objects.functions}
    above = _parents(objects)
    for node in graph.nodes.values():
        function = node.attributes.get("f")
        numbers = bound.get(function.function.name, []) if function is not None else []
        captured = node.inputs[len(node.inputs) - len(numbers) :]
        for number, ref in zip(numbers, captured, strict=False):
            variable = graph.nodes.get(ref.node)
            if variable is not None and is_variable(variable) and number in above:
                yield variable, _path(number, above) + _VALUE


def _parents(objects: Any) -> dict[int, tuple[int, str] | None]:
    """Each object that is reached from the root, by a shortest path: whose child it is, and by which name."""
    above: dict[int, tuple[int, str] | None] = {0: None}
    waiting, depth = deque([(0, 0)]), 0
    while waiting:
        number, depth = waiting.popleft()
        for child in objects.nodes[number].children if depth < _DEEPEST else ():
            if child.node not in above and 0 <= child.node < len(objects.nodes):
                above[child.node] = number, child.name
                waiting.append((child.node, depth + 1))
    return above


def _path(number: int, above: dict[int, tuple[int, str] | None]) -> str:
    """The names from the root, escaped as TensorFlow does."""
    names: list[str] = []
    while (step := above[number]) is not None:
        number, name = step
        names.append(name.replace(".", "..").replace("/", ".S"))
    return "/".join(reversed(names))
