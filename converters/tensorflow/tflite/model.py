"""A TFLite model in memory: its tables, the signatures that it serves, and the graph of TensorFlow's operators that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.model import (
    CalledBy,
    Port,
    Source,
    signature_called,
    the_signature,
)
from netferry.converters.tensorflow.tflite import schema


@dataclass(frozen=True)
class Quantisation:
    """value = scale * (stored - zero); one number, or one for each place of ``axis``."""

    scale: Array
    zero: Array
    axis: int

    def equals(self, other: Quantisation | None) -> bool:
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero, other.zero)
            and (self.scale.size == 1 or self.axis == other.axis)
        )


@dataclass(frozen=True)
class TensorOf:
    """A tensor of a subgraph: ``dtype`` is None where numpy has none; ``content`` is that of a constant."""

    name: str
    code: int
    dims: tuple[int | None, ...] | None
    quantised: Quantisation | None
    variable: bool
    content: Array | None

    @property
    def dtype(self) -> np.dtype[Any] | None:
        bits = schema.PACKED.get(self.code)
        return schema.DTYPES.get(self.code) if bits is None else np.dtype(bits[1])


@dataclass(frozen=True)
class Operation:
    """An operator of a subgraph; a missing input is -1."""

    name: str
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any

    def option(self, name: str, default: Any = 0) -> Any:
        return default if self.options is None else getattr(self.options, name, default)


@dataclass(frozen=True)
class Subgraph:
    """``operations`` stand in the order in which they run."""

    index: int
    name: str
    tensors: Sequence[TensorOf]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operations: Sequence[Operation]


@dataclass(frozen=True, eq=False)
class LiteModel:
    """``meant`` is the signature that is meant of ``signatures``, if any; ``serves`` which subgraph each of them runs. ``cut`` says that
    what is meant is a part of what the file has."""

    label: str
    subgraphs: Sequence[Subgraph]
    signatures: Mapping[str, CalledBy]
    serves: Mapping[str, int]
    meant: CalledBy | None
    source: Source
    cut: bool = False

    def called_by(self, name: str) -> LiteModel:
        """The same model, another signature of it meant."""
        return replace(self, meant=signature_called(self.signatures, name, self.label))

    @property
    def signature(self) -> CalledBy:
        """The signature that is meant."""
        return the_signature(self.meant, self.signatures, self.label)

    @property
    def main(self) -> Subgraph:
        """What the signature runs."""
        return self.subgraphs[self.serves[self.signature.name]]

    @cached_property
    def executed(self) -> Sequence[Subgraph]:
        """The main subgraph and those that it calls."""
        found, waiting = dict[int, Subgraph](), [self.main]
        while waiting:
            here = waiting.pop()
            if here.index in found:
                continue
            found[here.index] = here
            for operation in here.operations:
                waiting.extend(
                    self.subgraphs[index] for index in called(operation) if index < len(self.subgraphs)
                )
        return tuple(found.values())

    def stores(self, *dtypes: str) -> bool:
        """Whether tensors of one of these dtypes are whole numbers that stand for others."""
        return any(
            tensor.quantised is not None and tensor.dtype is not None and tensor.dtype.name in dtypes
            for graph in self.executed
            for tensor in graph.tensors
        )

    def origin_of(self, index: int) -> TensorOf:
        """The tensor of the main subgraph that is read to give this one, behind operators that only read it."""
        return self.main.tensors[self._origin(index)]

    def made_by(self, index: int) -> str:
        """The operator that computes this tensor of the main subgraph, behind those that only read it; "" where none does."""
        origin = self._origin(index)
        return next((operation.name for operation in self.main.operations if origin in operation.outputs), "")

    def _origin(self, index: int) -> int:
        for operation in reversed(self.main.operations):
            if (
                index in operation.outputs
                and operation.name in ("DEQUANTIZE", "RESHAPE", "SQUEEZE")
                and operation.inputs[0] >= 0
            ):
                index = operation.inputs[0]
        return index

    @property
    def weights(self) -> dict[str, Array]:
        """Constants of floats by name."""
        return {
            tensor.name: tensor.content
            for graph in self.executed
            for tensor in graph.tensors
            if tensor.content is not None and tensor.content.dtype.kind == "f"
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how it was read."""
        operations = [each for graph in self.executed for each in graph.operations]
        clips = sorted({each.option("cell_clip") for each in operations} - {0})
        found = []
        if clips:
            found.append(
                f"TFLite's kernel keeps an LSTM's cell state between {-clips[0]:g} and {clips[0]:g}; the layer here does not"
            )
        if any(tensor.variable for graph in self.executed for tensor in graph.tensors):
            found.append(
                "its states begin at zero with every run; TFLite keeps them until reset_all_variables"
            )
        return tuple(found)


CALLING: Mapping[str, Sequence[str]] = {
    "IF": ("then_subgraph_index", "else_subgraph_index"),
    "WHILE": ("cond_subgraph_index", "body_subgraph_index"),
    "CALL": ("subgraph",),
    "CALL_ONCE": ("init_subgraph_index",),
}
"""Operators that run other subgraphs, and the options that name these."""


def called(operation: Operation) -> list[int]:
    """The subgraphs that an operator runs."""
    found = [operation.option(name) for name in CALLING.get(operation.name, ())]
    return [index for index in found if index >= 0]


def node_of(index: int) -> str:
    """The name of the node that gives a tensor to whoever runs the subgraph, or takes it from there."""
    return f"tensor {index}"


def place_of(port: Port) -> int:
    """The tensor that a port of a signature is."""
    return int(port.ref.node.rpartition(" ")[2])
