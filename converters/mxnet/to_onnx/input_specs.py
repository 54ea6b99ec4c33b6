"""Sizes and dtypes of a symbol's inputs, where it declares them: in its variables, or from the operators that read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from netferry.converters.errors import UsageError
from netferry.converters.mxnet.array_format import DTYPES
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.inputs import Guess
from netferry.converters.mxnet.symbol import Node
from netferry.converters.mxnet.to_onnx import recurrent
from netferry.converters.mxnet.to_onnx.elementwise import POINTWISE
from netferry.converters.mxnet.to_onnx.emitter import FLOAT32
from netferry.converters.mxnet.to_onnx.sizes import swapped
from netferry.converters.signature import BATCH, Array, Dim, Example, TensorSpec, aligned

_SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def specs(
    model: SymbolModel, positions: Sequence[int], given: Sequence[Example] | None
) -> tuple[tuple[TensorSpec, ...], tuple[str, ...]]:
    """The inputs as the caller showed them, or as the graph declares them; and notes about that."""
    names = [model.graph.nodes[position].name for position in positions]
    if given is None:
        return _inferred(model, positions)
    shown = [example.name for example in given]
    if len(given) != len(positions):
        raise UsageError(
            "the model takes another number of inputs",
            where=model.label,
            expected=f"{len(positions)} ({', '.join(names)})",
            received=f"{len(given)} ({', '.join(shown)})",
        )
    given = aligned(given, names)
    return tuple(example.spec for example in given), ()


def _inferred(model: SymbolModel, positions: Sequence[int]) -> tuple[tuple[TensorSpec, ...], tuple[str, ...]]:
    found = [_Form(model, position) for position in positions]
    unknown = [form.name for form in found if form.dims is None]
    if unknown:
        raise UsageError(
            f"the sizes of {', '.join(unknown)} are not in the symbol",
            where=model.label,
            remedy=" ".join(f"Give them with --input {name}:1,3,224,224" for name in unknown[:1]),
        )
    specs = tuple(TensorSpec(form.name, form.dtype, form.dims) for form in found)
    notes = tuple(
        f"input {spec} is read from its first reader; give another form with --input"
        for spec, form in zip(specs, found, strict=True)
        if form.guessed
    )
    return specs, notes


class _Form:
    """The sizes of a variable, from its own attributes or its readers."""

    def __init__(self, model: SymbolModel, position: int) -> None:
        node = model.graph.nodes[position]
        self.name = node.name
        self.dtype = FLOAT32
        self.dims: tuple[Dim, ...] | None = None
        self.guessed = False
        if declared := Attrs(Node(node.name, node.op, node.hidden)).integers("__shape__", ()):
            self.dims = tuple(size or (f"{node.name}_{i}" if i else BATCH) for i, size in enumerate(declared))
            self.dtype = _declared_dtype(node)
        elif guess := _from_readers(model, position):
            self.dims, self.dtype = guess
            self.guessed = self.dims[0] != BATCH or len(self.dims) < 3 or self.dtype != FLOAT32


def _declared_dtype(node: Node) -> np.dtype[Any]:
    code = Attrs(Node(node.name, node.op, node.hidden)).integer("__dtype__", 0)
    return DTYPES[code] if 0 <= code < len(DTYPES) else FLOAT32


def _from_readers(model: SymbolModel, position: int) -> Guess | None:
    """From the first reader that tells, through those that keep the sizes; many paths may lead to one."""
    asked: set[int] = set()
    waiting: list[tuple[int, int, tuple[Back, ...]]] = [
        (reader, slot, ()) for reader, slot in reversed(model.graph.consumers.get(position, ()))
    ]
    while waiting:
        reader, slot, steps = waiting.pop()
        node = model.graph.nodes[reader]
        if slot == 0 and node.op in _READERS:
            guess = _READERS[node.op](model, node)
            if guess is not None:
                return reduce(lambda found, step: step(found), reversed(steps), guess)
        elif reader not in asked and (step := _step(node, slot)) is not None:
            asked.add(reader)
            behind = reversed(model.graph.consumers.get(reader, ()))
            steps = steps if step is _same else (*steps, step)
            waiting += [(next_reader, next_slot, steps) for next_reader, next_slot in behind]
    return None


Back = Callable[[Guess], Guess]
"""From what the result of an operator looks like to what its input does."""


def _step(node: Node, slot: int) -> Back | None:
    if node.op in ("Cast", "amp_cast"):
        return lambda guess: (guess[0], FLOAT32)
    if node.op == "SwapAxis":
        return lambda guess: (_swapped_back(guess[0], Attrs(node)), guess[1])
    if slot == 0 and (node.op in POINTWISE or node.op in _KEEPING):
        return _same
    return None


def _same(guess: Guess) -> Guess:
    return guess


def _swapped_back(dims: tuple[Dim, ...], attrs: Attrs) -> tuple[Dim, ...]:
    return tuple(
        dims[axis] for axis in swapped(len(dims), attrs.integer("dim1", 0), attrs.integer("dim2", 0))
    )


_KEEPING = frozenset(
    [
        "_copy",
        "BlockGrad",
        "Dropout",
        "BatchNorm",
        "Activation",
        "LeakyReLU",
        "L2Normalization",
        "LRN",
        "InstanceNorm",
        "LayerNorm",
    ]
)
"""Operators besides the pointwise ones whose result has the sizes of their input."""


def _weight(model: SymbolModel, node: Node) -> Array | None:
    """The weight that a node reads, where it is a parameter."""
    positions = [source for source, _ in node.inputs[1:2]]
    return next((model.params.get(model.graph.nodes[position].name) for position in positions), None)


def _convolution(model: SymbolModel, node: Node) -> Guess | None:
    weight = _weight(model, node)
    attrs = Attrs(node)
    if weight is None or weight.ndim - 2 not in _SPACE:
        return None
    own = node.op == "Deconvolution"
    channels = weight.shape[0] if own else weight.shape[1] * attrs.integer("num_group", 1)
    return (BATCH, channels, *_SPACE[weight.ndim - 2]), weight.dtype


def _pooling(model: SymbolModel, node: Node) -> Guess | None:
    space = _SPACE.get(len(Attrs(node).integers("kernel", ())))
    return None if space is None else ((BATCH, "channels", *space), FLOAT32)


def _fully_connected(model: SymbolModel, node: Node) -> Guess | None:
    weight = _weight(model, node)
    if weight is None or weight.ndim != 2 or not Attrs(node).flag("flatten", True):
        return None
    return (BATCH, weight.shape[1]), weight.dtype


def _embedding(model: SymbolModel, node: Node) -> Guess:
    return (BATCH, "length"), np.dtype(np.int64)


def _rnn(model: SymbolModel, node: Node) -> Guess | None:
    """The input's size follows from the number of weights."""
    source = model.graph.nodes[node.inputs[1][0]]
    total = _count(model, source)
    attrs = Attrs(node)
    cell = recurrent.CELLS.get(attrs.string("mode"))
    if total is None or cell is None:
        return None
    directions = 2 if attrs.flag("bidirectional", False) else 1
    hidden, layers = attrs.integer("state_size"), attrs.integer("num_layers")
    projected = attrs.maybe_integer("projection_size")
    size = recurrent.input_size(cell, total, hidden, layers, directions, projected)
    return None if size is None else (("length", BATCH, size), FLOAT32)


def _count(model: SymbolModel, node: Node) -> int | None:
    """How many numbers a parameter, or what is put together from parameters, holds."""
    if node.name in model.params:
        return int(model.params[node.name].size)
    if node.op not in ("Reshape", "_rnn_param_concat"):
        return None
    counts = [_count(model, model.graph.nodes[source]) for source, _ in node.inputs]
    return None if None in counts else sum(count for count in counts if count is not None)


_READERS: Mapping[str, Callable[[SymbolModel, Node], Guess | None]] = {
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Pooling": _pooling,
    "FullyConnected": _fully_connected,
    "Embedding": _embedding,
    "RNN": _rnn,
}
"""Operators from which the sizes of their first input follow."""
