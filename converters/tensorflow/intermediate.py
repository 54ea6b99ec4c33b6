"""The tensors inside a Keras or TensorFlow model while it runs.

A functional model is run layer by layer, as its graph stands; any other model runs eagerly, and TensorFlow tells of
each operation; a SavedModel's graph is run operation by operation.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.errors import NetferryError, RefusedError, first_line
from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import Array, examples
from netferry.converters.steps import Ends, Step, Take
from netferry.converters.tensorflow import live
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
    tree,
)


def stream(model: object, arrays: Sequence[Array], take: Take) -> Ends:
    """Run in inference mode and hand each layer or operation to ``take``."""
    face = live.face_of(model, examples(arrays))
    tensors = [tf.convert_to_tensor(array) for array in arrays]
    try:
        if isinstance(face, live.Layered):
            return _layers(face, tensors, take)
        if isinstance(face, live.Concrete):
            return _graph(face, tensors, take)
        return _eagerly(face, tensors, take)
    except NetferryError:
        raise
    except Exception as error:
        raise RefusedError(f"TensorFlow could not run the model ({first_line(error)})") from error


def weights(model: Any) -> Iterator[tuple[str, Array]]:
    """Variables by their paths, numbered where two have one path; a bare function has those that it borrows."""
    taken: set[str] = set()
    held: Iterable[Any] = getattr(model, "weights", None) or getattr(model, "variables", None) or ()
    for variable in held:
        yield unique(getattr(variable, "path", variable.name), taken), np.asarray(variable)


def piece(
    model: Any,
    name: str,
    reads: Mapping[str, Array],
    gives: str,
) -> Any | None:
    """The layers that compute the tensor ``gives`` from ``reads``, where the model is made of layers, each called once.

    What a layer gives before its activation comes from the layer without it.
    """
    graph = live.functional(model) if isinstance(model, keras.Model) else None
    if graph is None:
        return None
    title, _, activation = gives.partition("/")
    layer = {operation.name: operation for operation in graph.operations}.get(title)
    if not isinstance(layer, keras.Layer):
        return None
    try:
        if activation and list(reads) == [title]:
            x = keras.Input(batch_shape=layer.output.shape, dtype=layer.output.dtype)
            return keras.Model(x, keras.layers.Activation(layer.activation, dtype=layer.dtype_policy)(x))
        inputs = [_symbol(graph, read) for read in reads]
        whole = activation or not _is_active(layer)
        inside = inputs[0] if len(inputs) == 1 else inputs
        return keras.Model(inside, layer.output if whole else _bare(layer)(layer.input))
    except (
        KeyError,
        ValueError,
        AttributeError,
        TypeError,
    ):  # a layer that is called twice, a copy that needs more
        return None


def _symbol(graph: Any, tensor: str) -> Any:
    """A tensor between two layers, or an input, in the model's graph."""
    inputs = {f"input_{place}": symbol for place, symbol in enumerate(graph.inputs)}
    if tensor in inputs:
        return inputs[tensor]
    title, _, activation = tensor.partition("/")
    layer = {operation.name: operation for operation in graph.operations}[title]
    if _is_active(layer) and not activation:
        raise KeyError(tensor)
    return layer.output


def _is_active(layer: Any) -> bool:
    function = vars(layer).get("activation")
    return callable(function) and function is not keras.activations.linear


def _bare(layer: Any) -> Any:
    bare = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    bare.build(layer.input.shape)
    bare.set_weights(layer.get_weights())
    return bare


# ---- layer by layer -----------------------------------------------------------------------------------


def _layers(face: live.Layered, tensors: Sequence[Any], take: Take) -> Ends:
    walk = _Walk(take)
    inputs = [walk.fresh(f"input_{place}") for place in range(len(tensors))]
    with quiet():
        given = walk.run(face.graph, list(zip(inputs, tensors, strict=True)), "")
    return Ends(tuple(inputs), dict(zip(face.names, (name for name, _ in given), strict=True)))


class _Walk:
    """Runs graphs of layers, those inside other models too; a tensor goes when its last reader has run."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._taken: set[str] = set()

    def fresh(self, wish: str) -> str:
        return unique(wish, self._taken)

    def run(self, graph: Any, given: Sequence[tuple[str, Any]], prefix: str) -> list[tuple[str, Any]]:
        """``given`` and the result are (name, tensor) pairs; a constant's name is empty."""
        held = {id(symbol): pair for symbol, pair in zip(graph.inputs, given, strict=True)}
        nodes = [
            node
            for depth in sorted(graph._nodes_by_depth, reverse=True)
            for node in graph._nodes_by_depth[depth]
            if not node.is_input
        ]
        readers = Counter(id(symbol) for node in nodes for symbol in node.input_tensors)
        readers.update(id(symbol) for symbol in graph.outputs)
        for node in nodes:
            results = self._node(node, [held[id(symbol)] for symbol in node.input_tensors], held, prefix)
            held |= {id(symbol): pair for symbol, pair in zip(node.outputs, results, strict=True)}
            for symbol in node.input_tensors:
                readers[id(symbol)] -= 1
                if not readers[id(symbol)]:
                    held.pop(id(symbol), None)
        return [held[id(symbol)] for symbol in graph.outputs]

    def _node(self, node: Any, read: Sequence[tuple[str, Any]], held: Any, prefix: str) -> list[Any]:
        operation = node.operation
        inner = live.functional(operation) if isinstance(operation, keras.Model) else None
        name = prefix + operation.name
        if inner is not None:
            return self.run(inner, read, f"{name}/")
        args, kwargs = node.arguments.fill_in({key: tensor for key, (_, tensor) in held.items()})
        if isinstance(operation, keras.Layer) and operation._call_has_training_arg:
            kwargs["training"] = False
        with _activated(operation) as activations:
            outputs = tree.flatten(operation(*args, **kwargs))
        weights = tuple(v.path for v in operation.weights) if isinstance(operation, keras.Layer) else ()
        reads = tuple(dict.fromkeys(title for title, _ in read if title))
        kind = type(operation).__name__
        last = activations[-1] if activations else None
        if last is None or len(outputs) != 1 or outputs[0] is not last.after or last.reads(read):
            return self._told(Step(name, kind, reads, (), weights), outputs)
        [(before, _)] = self._told(Step(name, kind, reads, (), weights), [last.before])
        return self._told(Step(f"{name}/{last.name}", last.name, (before,), ()), outputs)

    def _told(self, step: Step, outputs: Sequence[Any]) -> list[tuple[str, Any]]:
        pairs = [(self.fresh(step.name), tensor) for tensor in outputs]
        self._take(
            replace(step, gives=tuple(title for title, _ in pairs)),
            {title: np.asarray(tensor) for title, tensor in pairs},
        )
        return pairs


@dataclass(frozen=True)
class _Activation:
    """A call of a layer's own activation function."""

    name: str
    before: Any
    after: Any

    def reads(self, given: Sequence[tuple[str, Any]]) -> bool:
        """Whether it is all that the layer does."""
        return any(tensor is self.before for _, tensor in given)


@contextmanager
def _activated(operation: Any) -> Iterator[list[_Activation]]:
    """Listen to the activation of a layer that has one (``Dense(activation=)``): it is a step of its own."""
    seen: list[_Activation] = []
    if not _is_active(operation):
        yield seen
        return
    function = vars(operation)["activation"]

    def spy(x: Any) -> Any:
        result = function(x)
        seen.append(_Activation(_title(function), x, result))
        return result

    vars(operation)["activation"] = spy  # past __setattr__, which keeps track of what a layer owns
    try:
        yield seen
    finally:
        vars(operation)["activation"] = function


def _title(function: Any) -> str:
    return str(getattr(function, "__name__", "") or getattr(function, "name", "") or "activation")


# ---- operation by operation -----------------------------------------------------------------------------


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


def _eagerly(face: live.Face, tensors: Sequence[Any], take: Take) -> Ends:
    operations = _Operations(take)
    names = tuple(operations.name(tensor, f"input_{place}") for place, tensor in enumerate(tensors))
    failures: list[BaseException] = []

    def tell(
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
        op_callbacks.add_op_callback(tell)
        try:
            made = face.call(tensors)
        finally:
            op_callbacks.remove_op_callback(tell)
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


# ---- a graph of operations ------------------------------------------------------------------------------


def _graph(face: live.Concrete, tensors: Sequence[Any], take: Take) -> Ends:
    """Run the operations of a traced function one by one, in the order in which they were traced."""
    function: ConcreteFunction = face.function
    operations = _Operations(take)
    held: dict[str, Any] = {}
    variables = {id(variable.handle): variable.name for variable in function.variables}
    for outside, inside in function.graph.captures:
        held[inside.name] = outside
        if id(outside) in variables:
            operations.weigh(outside, variables[id(outside)].removesuffix(":0"))
    own = [symbol for symbol in function.inputs if symbol.name not in held]
    names = []
    for place, (symbol, tensor) in enumerate(zip(own, tensors, strict=True)):
        held[symbol.name] = tensor
        names.append(operations.name(tensor, f"input_{place}"))
    with quiet():
        _operations(function.graph, held, operations)
    made = live.named_outputs(function.structured_outputs)
    return Ends(
        tuple(names),
        {
            name: operations.names.get(held[symbol.name]._id, "")
            for name, symbol in zip(made, function.outputs, strict=True)
        },
    )


_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def _operations(graph: Any, held: dict[str, Any], operations: _Operations) -> None:
    """Run a graph's operations, those of the functions that it calls too; ``held`` has its tensors by name."""
    readers = Counter(symbol.name for operation in graph.get_operations() for symbol in operation.inputs)
    readers.update(symbol.name for symbol in graph.outputs)
    for operation in graph.get_operations():
        if operation.type in ("Placeholder", "NoOp"):
            continue
        read = [held[symbol.name] for symbol in operation.inputs]
        given = _given(operation, read, operations)
        held |= {symbol.name: tensor for symbol, tensor in zip(operation.outputs, given, strict=True)}
        for symbol in operation.inputs:
            readers[symbol.name] -= 1
            if not readers[symbol.name]:
                held.pop(symbol.name, None)


def _given(operation: Any, read: Sequence[Any], operations: _Operations) -> Sequence[Any]:
    context = eager_context.context()
    if operation.type in _CALLS:
        definition = context.get_function_def(operation.get_attr("f").name)
        inside = function_def_to_graph(definition)
        held = {symbol.name: tensor for symbol, tensor in zip(inside.inputs, read, strict=True)}
        _operations(inside, held, operations)
        return [held[symbol.name] for symbol in inside.outputs]
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
