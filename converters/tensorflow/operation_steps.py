"""A model run operation by operation: eagerly, as TensorFlow reports each, or as its graph stands."""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from netferry.converters.graph.ir.build import unique
from netferry.converters.steps import Ends, Step, Take
from netferry.converters.tensorflow.interface import Concrete, ModelInterface
from netferry.converters.tensorflow.runtime import (
    ConcreteFunction,
    eager_context,
    eagerly,
    function_def_to_graph,
    keras,
    op_callbacks,
    quick_execute,
    quiet,
    tf,
)
from netferry.converters.tensorflow.specs import named_outputs


class _Operations:
    """Names for eager tensors, whose ids are never used twice, and the steps that they come from."""

    def __init__(self, take: Take) -> None:
        self.names: dict[int, str] = {}
        self._weights: dict[int, tuple[str, ...]] = {}
        self._take = take
        self._taken: set[str] = set()

    def name(self, tensor: Any, wish: str) -> str:
        name = self.names[tensor._id] = unique(wish, self._taken)
        return name

    def weigh(self, tensor: Any, *names: str) -> None:
        self._weights[tensor._id] = names

    def record(self, kind: str, read: Sequence[Any], given: Sequence[Any], wish: str, line: str = "") -> None:
        read = [tensor for tensor in read if hasattr(tensor, "_id")]
        given = [tensor for tensor in given if hasattr(tensor, "_id")]
        weights = tuple(dict.fromkeys(w for t in read for w in self._weights.get(t._id, ())))
        reads = tuple(dict.fromkeys(self.names[t._id] for t in read if t._id in self.names))
        if not reads:
            for tensor in given:
                self._weights[tensor._id] = weights
            return
        gives = {self.name(tensor, wish): tensor for tensor in given}
        step = Step(wish, kind, reads, tuple(gives), weights, line)
        plain = {
            name: tensor.numpy()
            for name, tensor in gives.items()
            if tensor.dtype not in (tf.resource, tf.variant, tf.string)
        }
        self._take(step, plain)


def run_eagerly(interface: ModelInterface, tensors: Sequence[Any], take: Take) -> Ends:
    operations = _Operations(take)
    names = tuple(operations.name(tensor, f"input_{position}") for position, tensor in enumerate(tensors))
    failures: list[BaseException] = []

    def report(
        op_type: Any, inputs: Any, attrs: Any, outputs: Any, op_name: Any = None, graph: Any = None
    ) -> None:
        if failures or graph is not None:
            return
        kind = op_type.decode() if isinstance(op_type, bytes) else str(op_type)
        try:
            line, wish = _line()
            operations.record(kind, inputs, outputs, wish or kind, line)
        except BaseException as error:  # TensorFlow must not see it: it is raised when the run is over
            failures.append(error)

    with quiet(), eagerly():
        op_callbacks.add_op_callback(report)
        try:
            made = interface.call(tensors)
        finally:
            op_callbacks.remove_op_callback(report)
    if failures:
        raise failures[0]
    return Ends(names, {name: operations.names.get(tensor._id, "") for name, tensor in made.items()})


_FRAMEWORK = tuple(f"{Path(module.__file__).parent}{os.sep}" for module in (tf, keras))


def _line() -> tuple[str, str]:
    """The line of the model's own source that is being run, and what it assigns or which layer it calls."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if (
            frame.f_code.co_name in ("call", "__call__")
            and not file.startswith(_FRAMEWORK)
            and file != __file__
        ):
            text = linecache.getline(file, frame.f_lineno, frame.f_globals).strip()
            return text, _assigned(text)
        frame = frame.f_back
    return "", ""


@cache
def _assigned(text: str) -> str:
    try:
        statement = ast.parse(text).body[0]
    except (SyntaxError, IndexError):
        return ""
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "self":
                return node.func.attr
    target = statement.targets[0] if isinstance(statement, ast.Assign) else None
    if isinstance(target, ast.Tuple):
        target = target.elts[0]
    return target.id if isinstance(target, ast.Name) else ""


def run_graph(interface: Concrete, tensors: Sequence[Any], take: Take) -> Ends:
    """Run the operations of a traced function one by one, in the order in which they were traced."""
    function: ConcreteFunction = interface.function
    operations = _Operations(take)
    kept: dict[str, Any] = {}
    variables = {id(variable.handle): variable.name for variable in function.variables}
    for outside, inside in function.graph.captures:
        kept[inside.name] = outside
        if id(outside) in variables:
            operations.weigh(outside, variables[id(outside)].removesuffix(":0"))
    own = [symbol for symbol in function.inputs if symbol.name not in kept]
    names = []
    for position, (symbol, tensor) in enumerate(zip(own, tensors, strict=True)):
        kept[symbol.name] = tensor
        names.append(operations.name(tensor, f"input_{position}"))
    with quiet():
        _operations(function.graph, kept, operations)
    made = named_outputs(function.structured_outputs)
    return Ends(
        tuple(names),
        {
            name: operations.names.get(kept[symbol.name]._id, "")
            for name, symbol in zip(made, function.outputs, strict=True)
        },
    )


_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def _operations(graph: Any, kept: dict[str, Any], operations: _Operations) -> None:
    """Run a graph's operations, those of the functions that it calls too; ``kept`` has its tensors by name."""
    readers = Counter(symbol.name for operation in graph.get_operations() for symbol in operation.inputs)
    readers.update(symbol.name for symbol in graph.outputs)
    for operation in graph.get_operations():
        if operation.type in ("Placeholder", "NoOp"):
            continue
        read = [kept[symbol.name] for symbol in operation.inputs]
        given = _given(operation, read, operations)
        kept |= {symbol.name: tensor for symbol, tensor in zip(operation.outputs, given, strict=True)}
        for symbol in operation.inputs:
            readers[symbol.name] -= 1
            if not readers[symbol.name]:
                kept.pop(symbol.name, None)


def _given(operation: Any, read: Sequence[Any], operations: _Operations) -> Sequence[Any]:
    context = eager_context.context()
    if operation.type in _CALLS:
        definition = context.get_function_def(operation.get_attr("f").name)
        inside = function_def_to_graph(definition)
        kept = {symbol.name: tensor for symbol, tensor in zip(inside.inputs, read, strict=True)}
        _operations(inside, kept, operations)
        return [kept[symbol.name] for symbol in inside.outputs]
    if operation.type == "Const":
        return [tf.constant(tf.make_ndarray(operation.get_attr("value")))]
    attributes = [
        item
        for key in operation.node_def.attr
        if not key.startswith("_")
        for item in (key, _attribute(operation.get_attr(key)))
    ]
    given: Sequence[Any] = quick_execute(
        operation.type, len(operation.outputs), read, tuple(attributes), context
    )
    operations.record(operation.type, read, given, operation.name)
    return given


def _attribute(value: Any) -> Any:
    """An attribute as the eager runtime takes it: sizes as lists."""
    if isinstance(value, list):
        return [_attribute(item) for item in value]
    if isinstance(value, tf.TensorShape):
        return None if value.rank is None else value.as_list()
    if hasattr(value, "unknown_rank"):
        return None if value.unknown_rank else [dim.size for dim in value.dim]
    return value
