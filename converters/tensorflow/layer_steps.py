"""A functional Keras model run layer by layer, as its graph stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netferry.converters.graph.ir.build import unique
from netferry.converters.steps import Ends, Step, Take, stated
from netferry.converters.tensorflow.interface import Layered, functional
from netferry.converters.tensorflow.runtime import keras, quiet, tree


def has_activation(layer: Any) -> bool:
    function = vars(layer).get("activation")
    return callable(function) and function is not keras.activations.linear


def run_layers(interface: Layered, tensors: Sequence[Any], take: Take) -> Ends:
    walk = _Walk(take)
    inputs = [walk.fresh(f"input_{position}") for position in range(len(tensors))]
    with quiet():
        given = walk.run(interface.graph, list(zip(inputs, tensors, strict=True)), "")
    return Ends(tuple(inputs), dict(zip(interface.names, (name for name, _ in given), strict=True)))


class _Walk:
    """Runs graphs of layers, those inside other models too; a tensor goes when its last reader has run."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._taken: set[str] = set()

    def fresh(self, wish: str) -> str:
        return unique(wish, self._taken)

    def run(self, graph: Any, given: Sequence[tuple[str, Any]], prefix: str) -> list[tuple[str, Any]]:
        """``given`` and the result are (name, tensor) pairs; a constant's name is empty."""
        kept = {id(symbol): pair for symbol, pair in zip(graph.inputs, given, strict=True)}
        nodes = [
            node
            for depth in sorted(graph._nodes_by_depth, reverse=True)
            for node in graph._nodes_by_depth[depth]
            if not node.is_input
        ]
        readers = Counter(id(symbol) for node in nodes for symbol in node.input_tensors)
        readers.update(id(symbol) for symbol in graph.outputs)
        for node in nodes:
            results = self._node(node, [kept[id(symbol)] for symbol in node.input_tensors], kept, prefix)
            kept |= {id(symbol): pair for symbol, pair in zip(node.outputs, results, strict=True)}
            for symbol in node.input_tensors:
                readers[id(symbol)] -= 1
                if not readers[id(symbol)]:
                    kept.pop(id(symbol), None)
        return [kept[id(symbol)] for symbol in graph.outputs]

    def _node(self, node: Any, read: Sequence[tuple[str, Any]], kept: Any, prefix: str) -> list[Any]:
        operation = node.operation
        inner = functional(operation) if isinstance(operation, keras.Model) else None
        name = prefix + operation.name
        if inner is not None:
            return self.run(inner, read, f"{name}/")
        args, kwargs = node.arguments.fill_in({key: tensor for key, (_, tensor) in kept.items()})
        if isinstance(operation, keras.Layer) and operation._call_has_training_arg:
            kwargs["training"] = False
        with _activated(operation) as activations:
            outputs = tree.flatten(operation(*args, **kwargs))
        weights = tuple(v.path for v in operation.weights) if isinstance(operation, keras.Layer) else ()
        reads = tuple(dict.fromkeys(title for title, _ in read if title))
        kind, made = type(operation).__name__, _made(operation)
        last = activations[-1] if activations else None
        if last is None or len(outputs) != 1 or outputs[0] is not last.after or last.reads(read):
            return self._told(Step(name, kind, reads, (), weights, attributes=made), outputs)
        [(before, _)] = self._told(Step(name, kind, reads, (), weights, attributes=made), [last.before])
        return self._told(Step(f"{name}/{last.name}", last.name, (before,), ()), outputs)

    def _told(self, step: Step, outputs: Sequence[Any]) -> list[tuple[str, Any]]:
        pairs = [(self.fresh(step.name), tensor) for tensor in outputs]
        self._take(
            replace(step, gives=tuple(title for title, _ in pairs)),
            {title: np.asarray(tensor) for title, tensor in pairs},
        )
        return pairs


def _made(operation: Any) -> tuple[tuple[str, str], ...]:
    """How a layer was made; one that cannot say it has no attributes."""
    try:
        config = operation.get_config()
    except Exception:  # a layer of a person's own
        return ()
    return stated({key: value for key, value in config.items() if key not in ("name", "trainable", "dtype")})


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
    if not has_activation(operation):
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
