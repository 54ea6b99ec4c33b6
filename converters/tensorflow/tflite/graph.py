"""A TFLite model as a graph of TensorFlow's operators: each subgraph is written operator by operator, those that others run as functions.

What is quantised is written as ONNX has it: a tensor is stored as whole numbers, and read through a node that gives what they
stand for. Operators that only move numbers move the stored ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert, Unsupported, UnsupportedError
from netferry.converters.graph.ir.build import free
from netferry.converters.graph.registry import Table
from netferry.converters.tensorflow.graphdef.graph import ARGUMENT, ARRAY, Graph, Node, Ref
from netferry.converters.tensorflow.graphdef.messages import STORED
from netferry.converters.tensorflow.graphdef.model import GraphModel, Library
from netferry.converters.tensorflow.tflite import schema
from netferry.converters.tensorflow.tflite.model import (
    LiteModel,
    Operation,
    Subgraph,
    TensorOf,
    node_of,
    place_of,
)

OPERATORS: Table[str, Any] = Table("TFLite's operators")
"""``row(w, op)`` writes a builtin operator with the writer ``w`` and gives a Ref, or as many as it has outputs."""

MOVING: set[str] = set()
"""Operators that move numbers and compute none: what is quantised alike before and behind them is moved as it is stored."""

COPYING = frozenset(
    "DEPTH_TO_SPACE EXPAND_DIMS GATHER GATHER_ND RESHAPE REVERSE_SEQUENCE REVERSE_V2 SLICE SPACE_TO_DEPTH SPLIT SPLIT_V "
    "SQUEEZE STRIDED_SLICE TILE TRANSPOSE UNPACK".split()
)
"""Those of them whose kernels copy what is stored, whatever the file says of its scale: TensorFlow's converter may write another
one behind (``REVERSE_V2`` of a bidirectional layer), and then the numbers are others."""

DEQUANTISE, QUANTISE = "lite.Dequantise", "lite.Quantise"

_TF_CODES = {dtype: code for code, dtype in reversed(list(STORED.items()))}


@dataclass(frozen=True)
class _Called:
    name: str = ""


@dataclass(frozen=True)
class _Values:
    integers: Sequence[int] = ()
    numbers: Sequence[float] = ()
    functions: Sequence[_Called] = ()


@dataclass(frozen=True)
class Value:
    """An attribute, as the messages of a graph hold one."""

    integer: int = 0
    number: float = 0.0
    flag: bool = False
    text: bytes = b""
    type: int = 0
    function: _Called = field(default_factory=_Called)
    list: _Values = field(default_factory=_Values)


def function(index: int) -> Value:
    """The subgraph of this number, as a function that a node runs."""
    return Value(function=_Called(f"subgraph {index}"))


def _value(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return Value(flag=bool(value))
    if isinstance(value, int | np.integer):
        return Value(integer=int(value))
    if isinstance(value, float | np.floating):
        return Value(number=float(value))
    if isinstance(value, str):
        return Value(text=value.encode())
    if isinstance(value, np.dtype):
        return Value(type=_TF_CODES[value])
    if isinstance(value, list):
        return Value(list=_Values(integers=value))
    return value


class Writer:
    """Writes the nodes of one subgraph."""

    def __init__(self, graph: Subgraph, where: str) -> None:
        self.graph, self._where = graph, where
        self.nodes: dict[str, Node] = {}
        self._given: dict[int, Ref] = {}
        self._read: dict[int, Ref] = {}
        self._title, self._stored = "", False
        self._typed: dict[str, Value] = {}
        for position, index in enumerate(graph.inputs):
            name = node_of(index)
            self.nodes[name] = Node(name, ARGUMENT, (), (), {"index": position})
            self._given[index] = Ref(name, 0)

    # ---- what a row calls -------------------------------------------------------------------------

    def node(self, operator: str, *inputs: Ref, **attributes: Any) -> Ref:
        """A node of TensorFlow's; attributes are numbers, texts, dtypes, lists of whole numbers, or what a row of ours reads itself."""
        name = self._title
        if name in self.nodes:
            name = free(f"{name}/{operator.rpartition('.')[2]}", self.nodes)
        kept = {key: _value(value) for key, value in attributes.items() if value is not None}
        kept |= self._typed
        self.nodes[name] = Node(name, operator, tuple(inputs), (), kept)
        return Ref(name, 0)

    def outputs(self, first: Ref, count: int) -> list[Ref]:
        """The first outputs of a node that has several."""
        return [Ref(first.node, port) for port in range(count)]

    def tensor(self, op: Operation, position: int) -> TensorOf | None:
        """What is known of an input; None where it is left out."""
        given = position < len(op.inputs) and op.inputs[position] >= 0
        return self.graph.tensors[op.inputs[position]] if given else None

    def out(self, op: Operation, position: int = 0) -> TensorOf:
        return self.graph.tensors[op.outputs[position]]

    def x(self, op: Operation, position: int = 0) -> Ref:
        """An input as the numbers that it stands for."""
        if self.tensor(op, position) is None:
            raise CannotConvert(f"it has no input {position}")
        index = op.inputs[position]
        return self.stored(index) if self._stored else self.read(index)

    def maybe(self, op: Operation, position: int) -> Ref | None:
        return None if self.tensor(op, position) is None else self.x(op, position)

    def all(self, op: Operation) -> list[Ref]:
        return [self.x(op, position) for position in range(len(op.inputs))]

    def constant(self, value: Any, dtype: Any = np.int32) -> Ref:
        return self.node(ARRAY, array=np.asarray(value, dtype))

    def array(self, op: Operation, position: int) -> Any:
        """The content of an input that must be constant."""
        tensor = self.tensor(op, position)
        if tensor is None or tensor.content is None:
            raise CannotConvert(
                f"its input {position} is computed while the model runs", "Only constants are supported here"
            )
        return tensor.content

    def weight(self, op: Operation, position: int, perm: Sequence[int]) -> Ref:
        """A weight with its axes in another order; a constant is laid so, as it is stored."""
        tensor = self.tensor(op, position)
        if tensor is None or tensor.content is None:
            return self.node("Transpose", self.x(op, position), self.constant(list(perm)))
        index = op.inputs[position]
        stored = self._aside(index, ARRAY, array=tensor.content.transpose(perm), weight=is_quantised(tensor))
        if not is_quantised(tensor):
            return stored
        assert tensor.quantised is not None
        quantised = replace(tensor.quantised, axis=list(perm).index(tensor.quantised.axis))
        return self._aside(index, DEQUANTISE, stored, quantised=quantised)

    def begin(self, index: int) -> None:
        """The graph begins at this tensor: it is given."""
        name = node_of(index)
        self.nodes[name] = Node(name, ARGUMENT, (), (), {"index": -1})
        self._given[index] = Ref(name, 0)

    def known(self, index: int) -> Any:
        """The content of a tensor that is constant, also behind a node that reads what is stored; None of any other."""
        content = self.graph.tensors[index].content
        if content is not None or index not in self._given:
            return content
        node = self.nodes[self._given[index].node]
        return node.attributes["array"] if node.operator == ARRAY else None

    def title_of(self, index: int) -> str:
        """TFLite joins the names of all that was merged into an operator; the first one is what gave the result."""
        name = self.graph.tensors[index].name.partition(";")[0]
        return name.removesuffix(":0") or f"tensor_{index}"

    # ---- tensors ----------------------------------------------------------------------------------

    def stored(self, index: int) -> Ref:
        """A tensor as it is stored."""
        if index not in self._given:
            tensor = self.graph.tensors[index]
            if tensor.content is None:
                raise CannotConvert(self._absent(tensor))
            self._given[index] = self._aside(index, ARRAY, array=tensor.content, weight=is_quantised(tensor))
        return self._given[index]

    def _absent(self, tensor: TensorOf) -> str:
        if tensor.code in schema.TITLES:
            return f"it reads tensors of the dtype {schema.TITLES[tensor.code]}"
        return f"nothing gives its input '{tensor.name}'"

    def read(self, index: int) -> Ref:
        """A tensor as the numbers that it stands for."""
        tensor = self.graph.tensors[index]
        if not is_quantised(tensor):
            return self.stored(index)
        if index not in self._read:
            stored = self.stored(index)
            self._read[index] = self._aside(index, DEQUANTISE, stored, quantised=tensor.quantised)
        return self._read[index]

    def _aside(self, index: int, operator: str, *inputs: Ref, **attributes: Any) -> Ref:
        outer, self._title = self._title, self.title_of(index)
        try:
            return self.node(operator, *inputs, **attributes)
        finally:
            self._title = outer

    # ---- operators --------------------------------------------------------------------------------

    def write(self, op: Operation) -> None:
        self._title = self.title_of(op.outputs[0]) if op.outputs else op.name
        self._stored = op.name in MOVING and (op.name in COPYING or self._quantised_alike(op))
        result = self.graph.tensors[op.outputs[0]] if op.outputs else None
        counts = result is not None and not is_quantised(result) and result.dtype in _SIZES
        self._typed = {"T": _value(result.dtype)} if counts and result is not None else {}
        try:
            made = OPERATORS[op.name](self, op)
        except CannotConvert as problem:
            found = Unsupported(self._title, op.name, problem.reason, problem.remedy)
            raise UnsupportedError([found], where=self._where) from problem
        results = [made] if isinstance(made, Ref) else list(made)
        if len(op.outputs) == 1:
            results = [self._activated(op, results[0])]
        for index, ref in zip(op.outputs, results, strict=False):
            self._give(index, ref)

    def _activated(self, op: Operation, y: Ref) -> Ref:
        kind = op.option("fused_activation_function")
        names = schema.ACTIVATIONS
        name = names[kind] if 0 <= kind < len(names) else f"number {kind}"
        if name == "NONE" or op.name in CARRYING_ON:
            return y
        if name not in _ACTIVATED:
            raise CannotConvert(f"its activation {name} is not supported")
        return self.node(_ACTIVATED[name], y)

    def _give(self, index: int, ref: Ref) -> None:
        tensor = self.graph.tensors[index]
        if is_quantised(tensor) and not self._stored:
            ref = self.node(QUANTISE, ref, quantised=tensor.quantised, dtype=tensor.dtype)
        self._given[index] = ref

    def _quantised_alike(self, op: Operation) -> bool:
        """Whether all that is quantised here is quantised by one scale alike; of whole numbers alone, so it is."""
        tensors = [self.graph.tensors[index] for index in (*op.inputs, *op.outputs) if index >= 0]
        first, *others = [each.quantised for each in tensors if is_quantised(each)] or [None]
        return first is None or (first.scale.size == 1 and all(first.equals(each) for each in others))

    def finished(self, name: str, outputs: Sequence[int]) -> Graph:
        """The graph; each output has a node of its own."""
        for index in outputs:
            if node_of(index) not in self.nodes:
                self.nodes[node_of(index)] = Node(node_of(index), "Identity", (self.stored(index),), (), {})
        arguments = tuple(node_of(index) for index in self.graph.inputs)
        return Graph(name, self.nodes, arguments, tuple(Ref(node_of(index), 0) for index in outputs))


_SIZES = (np.dtype(np.int32), np.dtype(np.int64))
"""The dtypes of arithmetic on sizes, which is done while the graph is written."""

CARRYING_ON = frozenset(
    f"{ends}_SEQUENCE_{kind}" for ends in ("UNIDIRECTIONAL", "BIDIRECTIONAL") for kind in ("LSTM", "RNN")
)
"""Operators that have their activation inside of them."""

_ACTIVATED: Mapping[str, str] = {
    "RELU": "Relu", "RELU6": "Relu6", "RELU_N1_TO_1": "lite.ReluN1To1", "TANH": "Tanh",
}  # fmt: skip


def is_quantised(tensor: TensorOf) -> bool:
    """Whether its whole numbers stand for others."""
    return tensor.quantised is not None and tensor.dtype is not None and tensor.dtype.kind in "iu"


def as_graph(model: LiteModel) -> GraphModel:
    """The signature that is meant, as a graph that the walk takes.

    Raises:
        UnsupportedError: what it runs has operators without a row, all of them at once.
    """
    parts = [_Part.of(graph, model) for graph in model.executed]
    problems = [each for part in parts for each in _problems(part.graph, part.operations)]
    if problems:
        raise UnsupportedError(problems, where=model.label)
    graphs = {part.graph.index: _written(part, model.label) for part in parts}
    functions = Functions(graphs.values(), model.label)
    return GraphModel(model.label, graphs[model.main.index], functions, model.signatures, model.signature)


@dataclass(frozen=True)
class _Part:
    """A subgraph from where it begins to where it ends, and the operators between."""

    graph: Subgraph
    starts: frozenset[int]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, graph: Subgraph, model: LiteModel) -> _Part:
        if graph is not model.main:
            return cls(graph, frozenset(graph.inputs), graph.outputs)
        starts, ends = (
            [place_of(port) for port in ports] for ports in (model.signature.inputs, model.signature.outputs)
        )
        return cls(graph, frozenset(starts), tuple(ends))

    @property
    def operations(self) -> list[Operation]:
        """The operators that the ends need, in the order in which they run."""
        return needed(self.graph, self.ends, self.starts)


def needed(graph: Subgraph, ends: Iterable[int], starts: Collection[int]) -> list[Operation]:
    """The operators that tensors need, from where the graph begins, in the order in which they run."""
    begun = set(starts)
    wanted, found = set(ends) - begun, list[Operation]()
    for operation in reversed(graph.operations):
        if wanted.intersection(operation.outputs):
            found.append(operation)
            wanted |= set(operation.inputs) - begun
    return found[::-1]


class Functions(Library):
    """The subgraphs that others run."""

    def __init__(self, graphs: Iterable[Graph], where: str) -> None:
        super().__init__((), where)
        self._read = {graph.name: graph for graph in graphs}


def _written(part: _Part, where: str) -> Graph:
    writer = Writer(part.graph, where)
    for index in part.starts - set(part.graph.inputs):
        writer.begin(index)
    for operation in part.operations:
        writer.write(operation)
    return writer.finished(f"subgraph {part.graph.index}", part.ends)


def _problems(graph: Subgraph, operations: Sequence[Operation]) -> Iterator[Unsupported]:
    for operation in operations:
        if operation.name in OPERATORS:
            continue
        index = operation.outputs[0] if operation.outputs else None
        name = "" if index is None else graph.tensors[index].name.partition(";")[0]
        what = operation.custom if operation.name == "CUSTOM" else operation.name
        kind = "Flex" if what.startswith("Flex") else operation.name
        yield Unsupported(
            name, what, _REASONS.get(kind, "netferry does not support this operator of TFLite"), _CUT
        )


_STATE = "it keeps a state from one run to the next, which a model in ONNX does not"
_REASONS: Mapping[str, str] = {
    "Flex": "an operator of TensorFlow that TFLite itself does not have",
    "CUSTOM": "a custom operator, whose code is not in the file",
    **dict.fromkeys(("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"), _STATE),
    **dict.fromkeys(
        ("RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL"), "it draws numbers by chance"
    ),
    **dict.fromkeys(("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_LOOKUP"), "it looks into a table of strings"),
}
"""Why an operator has no row, where there is more to say than that."""

_CUT = "Cut the model there: --output NAME ends it before, --input-at NAME begins it behind"
