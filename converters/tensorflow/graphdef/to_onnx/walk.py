"""The walk: what a signature executes, node by node, the functions that it calls opened in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert, Unsupported, UnsupportedError
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.registry import Table, written
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.tensorflow.graphdef.frames import CHOICE
from netferry.converters.tensorflow.graphdef.graph import ARGUMENT, ARRAY, Graph, Node, Ref, in_order
from netferry.converters.tensorflow.graphdef.model import GraphModel
from netferry.converters.tensorflow.graphdef.restore import CALLS, TABLES, VARIABLES, Handle, handle_of
from netferry.converters.tensorflow.graphdef.to_onnx import contents
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import MOST_CONTENT, ROWS, Attrs, Emitter, Row

STRUCTURES: Table[str, Row] = Table("TensorFlow's control flow")
"""Operators that hold functions, or hand on what is no tensor: ``row(walk, node, inputs)`` gives a list of values."""

_DEEPEST, _MOST_OUTPUTS = 60, 8


@dataclass(frozen=True)
class Text:
    """A constant of strings, which no operator of ONNX reads; it may stand where nobody looks."""

    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Complex:
    """A complex tensor, as the tensors of its two parts."""

    real: Tensor
    imaginary: Tensor


DRAWS = (
    "it draws random numbers when it runs",
    "Export the model as it is used: not training, and without dropout",
)
"""Why no route converts what draws, and what to do."""

KEEPS = (
    "it keeps a state from one call to the next",
    "Export it without a state (stateful=False), and give the state as an input",
)
"""The same of what a call leaves behind for the next one."""


class Drawn:
    """Random numbers, of which only the bounds are known."""


class Dead:
    """What a branch that is not taken gives."""


DEAD = Dead()

_OF_PARTS = {Complex: "complex", Drawn: "drawn"}
"""Values that are no tensors, and the row of the operators that read one."""


class Walk:
    """Writes graphs with one emitter; ``fed`` are the nodes of the main graph that are inputs of the model."""

    def __init__(self, model: GraphModel, g: Emitter) -> None:
        self.model, self.g = model, g
        self._depth = 0

    def function(self, name: str) -> Graph:
        found = self.model.functions(name)
        if found is None:
            raise CannotConvert(f"the function '{name}' that it calls is not in the file")
        return found

    def call(self, name: str, given: Sequence[Any]) -> list[Any]:
        """What a function returns, written in place."""
        function = self.function(name)
        return self.outputs(function, function.returns, {}, given)

    def outputs(
        self, graph: Graph, wanted: Sequence[Ref], fed: Mapping[str, Sequence[Any]], given: Sequence[Any] = ()
    ) -> list[Any]:
        """What these outputs of nodes hold; ``fed`` are nodes whose outputs are given, ``given`` a function's arguments."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CannotConvert("functions are nested too deep")
        known: dict[str, Sequence[Any]] = dict(fed)
        bounded = _Bounded(graph, known)
        for node in in_order(bounded.graph, [ref.node for ref in wanted], self.model.label):
            if node.name not in known:
                read = [_output(known, ref) for ref in node.inputs]
                known[node.name] = self._written(node, read, given)
        self._depth -= 1
        return [_output(known, ref) for ref in wanted]

    def _written(self, node: Node, read: Sequence[Any], given: Sequence[Any]) -> Sequence[Any]:
        if node.operator == ARGUMENT:
            return [given[node.attributes["index"]]]
        if not budget.take("nodes", 1):
            raise CannotConvert("its functions call each other into too many nodes")
        with self.g.scope(node.name):
            try:
                return self._made(node, read)
            except CannotConvert as problem:
                found = Unsupported(node.name, node.operator, problem.reason, problem.remedy)
                raise UnsupportedError([found], where=self.model.label) from problem

    def _made(self, node: Node, read: Sequence[Any]) -> Sequence[Any]:
        if node.operator in VARIABLES or node.operator in TABLES:
            return [handle_of(node)]
        if node.operator in CALLS or self.model.functions(node.operator) is not None:
            return self._called(node, read)
        if node.operator not in ("Merge", "RefMerge", CHOICE) and any(
            isinstance(each, Dead) for each in read
        ):
            return [DEAD] * _MOST_OUTPUTS
        structure = STRUCTURES.get(node.operator) or next(
            (
                STRUCTURES[key]
                for kind, key in _OF_PARTS.items()
                if any(isinstance(each, kind) for each in read)
            ),
            None,
        )
        if structure is not None:
            made: Sequence[Any] = structure(self, node, read)
            return made
        return self.row(node, [self.tensor(each) for each in read])

    def _called(self, node: Node, read: Sequence[Any]) -> list[Any]:
        function = node.attributes.get("f")
        name = function.function.name if node.operator in CALLS and function is not None else node.operator
        recurrence = STRUCTURES.get("function")
        if recurrence is not None and (made := recurrence(self, self.function(name), read)) is not None:
            return list(made)
        return self.call(name, read)

    def row(self, node: Node, operands: Sequence[Tensor | None]) -> Sequence[Any]:
        """An operator that is a row of the table; what is arithmetic on sizes is done at once."""
        g, a = self.g, Attrs(node.attributes, f"{self.model.label}: {node.name}")
        row = ROWS.get(node.operator)
        if row is None:
            raise CannotConvert("netferry does not support this operator")
        known = contents.folded(node.operator, a, [g.content(x) for x in operands])
        if known is not None and all(map(contents.is_known, known)):
            return [g.constant(array) for array in self._typed(node, a, known)]
        results = written(row, g, a, operands=operands)
        named = [
            x if x is None else g.settled_names(x)
            for x in ([results] if isinstance(results, Tensor) else results)
        ]
        for x, array in zip(named, known or (), strict=False):
            if x is not None and x.array is None and x.perm is None and array.dtype == object:
                g.contents[x.value] = array
        for x in named:
            if x is not None and x.array is None:
                g.made(x, node.operator, a, operands)
        return named

    def _typed(self, node: Node, a: Attrs, known: Sequence[Array]) -> list[Array]:
        """Folded arrays in the dtype that the operator gives."""
        attribute = node.attributes.get("T") or node.attributes.get("Tparams")
        if node.operator in ("Cast", "Size") or any(array.dtype == np.bool_ for array in known):
            return list(known)
        if attribute is None or not attribute.type:
            return list(known)
        return [array.astype(messages.dtype_of(attribute.type, a.where)) for array in known]

    # ---- values -----------------------------------------------------------------------------------

    def tensor(self, value: Any) -> Tensor | None:
        """A value as a tensor: a variable is read."""
        if isinstance(value, Handle):
            return self.read(value)
        if value is None or isinstance(value, Tensor):
            return value
        if isinstance(value, Text):
            raise CannotConvert("it works on strings, which ONNX models do not", "Cut the model behind it")
        if isinstance(value, Complex):
            raise CannotConvert("it computes with complex numbers, which ONNX's operators do not")
        if isinstance(value, Drawn):
            raise CannotConvert(*DRAWS)
        if hasattr(value, "stacked"):
            raise CannotConvert("it reads a list of tensors in a way that is not supported")
        raise CannotConvert(f"it reads what is no tensor ({type(value).__name__})")

    def read(self, handle: Handle) -> Tensor:
        if handle.name in self.model.changes:
            raise UnsupportedError([Unsupported(handle.name, "variable", *KEEPS)], where=self.model.label)
        return self.g.weight(self.model.variable(handle.name), self.model.title_of(handle.name))


def truth(walk: Walk, x: Tensor) -> Tensor:
    """A condition as one bool: a number that is not 0, as TensorFlow has it."""
    g = walk.g
    y = x if x.dtype == np.bool_ else g.Not(g.Equal(x, g.like(0, x)))
    return y if y.dims == () else g.Reshape(y, g.constant(np.zeros(0, np.int64)))


class _Bounded:
    """A graph in which nodes that are given read nothing."""

    def __init__(self, graph: Graph, known: Mapping[str, Any]) -> None:
        if not known:
            self.graph = graph
            return
        cut = {
            name: Node(name, ARGUMENT, (), (), graph.nodes[name].attributes)
            for name in known
            if name in graph.nodes
        }
        self.graph = Graph(graph.name, {**graph.nodes, **cut}, graph.arguments, graph.returns)


def _output(known: Mapping[str, Sequence[Any]], ref: Ref) -> Any:
    made = known[ref.node]
    if ref.port >= len(made):
        raise CannotConvert(f"output {ref.port} of '{ref.node}' is not converted")
    return made[ref.port]


# ---- operators without tensors ---------------------------------------------------------------------


@STRUCTURES.row("Const")
def constant(walk: Walk, node: Node, _: Sequence[Any]) -> list[Any]:
    """A constant; floats with axes are weights of a frozen graph, and keep their name."""
    value = node.attributes.get("value")
    if value is None:
        raise CannotConvert("a constant without content")
    if messages.is_text(value.tensor.dtype):
        return [Text(tuple(text.decode("utf-8", "replace") for text in value.tensor.texts))]
    if value.tensor.dtype in (messages.RESOURCE, messages.VARIANT):
        return [None]
    array = messages.array_of(value.tensor, f"{walk.model.label}: {node.name}")
    return [_held(walk, array, node.name)]


@STRUCTURES.row(ARRAY)
def array_(walk: Walk, node: Node, _: Sequence[Any]) -> list[Any]:
    weight = node.attributes.get("weight")
    array: Array = node.attributes["array"]
    return [
        walk.g.weight(array, node.name)
        if weight is not None and weight.flag
        else _held(walk, array, node.name)
    ]


def _held(walk: Walk, array: Array, name: str) -> Tensor | Complex:
    if array.dtype.kind == "c":
        return Complex(walk.g.constant(array.real), walk.g.constant(array.imag))
    if (array.dtype.kind == "f" and array.ndim and array.size > 1) or array.size > MOST_CONTENT:
        return walk.g.weight(array, name)
    return walk.g.constant(array)


@STRUCTURES.row(
    "Identity", "IdentityN", "ReadVariableOp", "StopGradient", "Enter", "Exit", "Snapshot", "PreventGradient"
)
def passed(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    return list(read)


@STRUCTURES.row("Placeholder", "PlaceholderV2")
def placeholder(walk: Walk, node: Node, _: Sequence[Any]) -> list[Any]:
    raise CannotConvert("it must be fed, and is no input of the signature")


@STRUCTURES.row("OneShotIterator", "IteratorV2", "FIFOQueueV2", "PaddingFIFOQueueV2", "RandomShuffleQueueV2")
def feeder(walk: Walk, node: Node, _: Sequence[Any]) -> list[Any]:
    """What a pipeline of data is read from: nothing of a model."""
    return [None]


@STRUCTURES.row(
    "IteratorGetNext", "QueueDequeueV2", "QueueDequeueManyV2", "QueueDequeueUpToV2", "ReaderReadV2"
)
def pipeline(walk: Walk, node: Node, _: Sequence[Any]) -> list[Any]:
    raise CannotConvert(
        "it reads a pipeline of data, which no model holds", f"Begin behind it: --input-at {node.name}"
    )


@STRUCTURES.row("PlaceholderWithDefault")
def placeholder_with_default(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """What nobody feeds has its default: Keras' learning phase."""
    return list(read)


@STRUCTURES.row("ResourceGather", "ResourceGatherNd", "VariableShape")
def resource(walk: Walk, node: Node, read: Sequence[Any]) -> Sequence[Any]:
    return walk.row(node, [walk.tensor(each) for each in read])


@STRUCTURES.row("NoOp", "Assert", "Print", "PrintV2")
def nothing(walk: Walk, node: Node, _: Sequence[Any]) -> list[Any]:
    return []
