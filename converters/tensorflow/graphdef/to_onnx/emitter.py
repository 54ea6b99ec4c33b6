"""What the rows of the operator table write with, and the table itself.

A row is ``row(g, a, *inputs)``: it writes an operator's ONNX nodes with the emitter ``g``, reads its attributes from ``a``,
and returns one tensor, or as many as the operator has outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import helper

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import OPSET, GraphBuilder, Tensor
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.registry import Table
from netferry.converters.signature import Array, Dim
from netferry.converters.tensorflow.graphdef.messages import dtype_of

Row = Callable[..., Any]
ROWS: Table[str, Row] = Table("TensorFlow's operators")

MOST_CONTENT = 4096
"""The most elements of a tensor whose content is followed."""

_OWN = "size#"
"""How names begin that sizes have only while the graph is written."""


class Emitter(GraphBuilder):
    """A GraphBuilder that follows the sizes that a graph computes with.

    ``contents`` are the elements of tensors that are arithmetic on sizes; ``weights`` are constants that a person trains;
    ``made_by`` is the operator that gave a tensor, and what it read; ``lay`` under which permutation it came.
    """

    def __init__(self, name: str, opset: int = OPSET) -> None:
        super().__init__(name, opset=opset)
        self.contents: dict[ir.Value, Array] = {}
        self.weights: set[ir.Value] = set()
        self.made_by: dict[ir.Value, tuple[str, Any, tuple[Any, ...]]] = {}
        self.lay: dict[ir.Value, layout.Perm | None] = {}
        self.convolutions: dict[ir.Value, tuple[str, tuple[Tensor, Tensor], dict[str, Any]]] = {}
        self.reversals: dict[ir.Value, tuple[Tensor, int]] = {}
        self.turns: dict[ir.Value, tuple[Tensor, Tensor]] = {}
        self.left_out: dict[Any, Any] = {}
        self.singles: dict[ir.Value, Tensor] = {}
        self.layers: dict[ir.Value, Any] = {}
        self.pairs: dict[Any, Any] = {}
        self.made_of: dict[str, tuple[str, ...]] = {}
        self._wishes: dict[ir.Value, str] = {}
        self._meaning: dict[str, Any] = {}
        self._named_sizes: dict[str, str] = {}

    # ---- sizes ------------------------------------------------------------------------------------

    def size_of(self, x: Tensor, axis: int) -> Any:
        """A size as a number or a ``Size``."""
        dim = None if x.dims is None else x.dims[axis]
        if isinstance(dim, int):
            return dim
        return Size.named(f"{x.name}.{axis}") if dim is None else self._meaning.get(dim, Size.named(dim))

    def sizes_of(self, x: Tensor) -> list[Any]:
        return [self.size_of(x, axis) for axis in range(x.rank)]

    def dim_of(self, size: Any) -> Dim:
        """A number or a ``Size`` as a size of a tensor; a formula gets a name of its own."""
        if not isinstance(size, Size):
            return int(size)
        atom = size.atom
        if atom is not None and not atom.args:
            return atom.word
        name = self._named_sizes.setdefault(str(size), f"{_OWN}{len(self._named_sizes)}")
        self._meaning[name] = size
        return name

    def sized(self, x: Tensor, sizes: Sequence[Any] | None) -> Tensor:
        """``x`` with sizes that are known better than ONNX's own inference knows them."""
        dims = None if sizes is None else tuple(None if size is None else self.dim_of(size) for size in sizes)
        return self.with_dims(x, dims)

    def with_dims(self, x: Tensor, dims: tuple[Dim, ...] | None) -> Tensor:
        if dims is None or x.array is not None:
            return x
        if x.dims is not None and len(x.dims) == len(dims):
            dims = tuple(
                own if isinstance(own, int) or said is None else said
                for own, said in zip(x.dims, dims, strict=True)
            )
        base = dims if x.perm is None else tuple(dims[axis] for axis in layout.inverse(x.perm))
        x.value.shape = ir.Shape(base)
        return replace(x, dims=dims)

    def settled_names(self, x: Tensor) -> Tensor:
        """``x`` with a name for each of its sizes that has none, so that equal sizes are known to be equal."""
        if x.array is not None or x.dims is None or None not in x.dims:
            return x
        dims = tuple(f"{_OWN}{x.name}.{axis}" if dim is None else dim for axis, dim in enumerate(x.dims))
        return self.with_dims(x, dims)

    def shown(self, dims: Sequence[Dim] | None) -> tuple[Dim, ...] | None:
        """Sizes as they stand in the file: without the names that were made up here."""
        return (
            None
            if dims is None
            else tuple(
                None if isinstance(dim, str) and (dim.startswith(_OWN) or "." in dim) else dim for dim in dims
            )
        )

    def content(self, x: Any) -> Array | None:
        """The elements of ``x``, numbers and ``Size``s, where they are known; never those of a weight."""
        if not isinstance(x, Tensor) or x.value in self.weights:
            return None
        if x.array is not None:
            return x.array if x.array.size <= MOST_CONTENT else None
        return self.contents.get(x.value) if x.perm is None else None

    def numbers(self, x: Tensor, what: str) -> list[int]:
        """The content of a vector (or number) of integers that must be known while the graph is written."""
        found = self.content(x)
        if found is None or any(isinstance(each, Size) for each in np.asarray(found, object).reshape(-1)):
            raise CannotConvert(
                f"its {what} is computed while the model runs", "Only constants are supported here"
            )
        return [int(each) for each in np.asarray(found).reshape(-1)]

    # ---- values -----------------------------------------------------------------------------------

    def cast(self, x: Tensor, dtype: Any) -> Tensor:
        """``x`` as ``dtype``; nothing is written where it is that already."""
        want = np.dtype(dtype)
        if x.dtype == want:
            return x
        if x.array is not None and x.value not in self.weights:
            return self.constant(x.array.astype(want))
        y = self.Cast(x, to=helper.np_dtype_to_tensor_dtype(want))
        if x.perm is None and x.value in self.contents and want.kind in "iu":
            self.contents[y.value] = self.contents[x.value]
        return y

    def weight(self, array: Array, name: str) -> Tensor:
        """What a person trains, under its own name."""
        found = self.constant(array, name=name)
        self.weights.add(found.value)
        return found

    def constant(self, array: Any, dtype: Any = None, *, name: str | None = None) -> Tensor:
        found = super().constant(array, dtype, name=name)
        if name:
            self._wishes[found.value] = name
        return found

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        if x.value in self.weights and x.array is not None:
            return self.weight(x.array.transpose(perm), self.title(x))
        return super().transpose(x, perm)

    def title(self, x: Tensor) -> str:
        """The source's own name of a weight, whatever it is called here."""
        return self._wishes.get(x.value, x.name)

    def convolved(self, operator: str, x: Tensor, kernel: Tensor, **attributes: Any) -> Tensor:
        """A convolution to which a bias may still come."""
        y = self.op(operator, x, kernel, **attributes)
        self.convolutions[y.value] = operator, (x, kernel), attributes
        return y

    def index(self, x: Tensor) -> Tensor:
        """``x`` as int64, in which ONNX takes sizes and positions."""
        return self.cast(x, np.int64)

    def shape(self, x: Tensor) -> Tensor:
        """The sizes of ``x`` as an int64 vector."""
        sizes = [] if x.dims is None else self.sizes_of(x)
        if x.dims is not None and not any(isinstance(size, Size) for size in sizes):
            return self.ints(*sizes)
        found = self.Shape(self._settle(x))
        if x.dims is not None:
            self.contents[found.value] = np.asarray([*sizes, None], object)[:-1]
        return found

    def vector(self, parts: Sequence[int | Tensor]) -> Tensor:
        """Numbers and tensors without axes as one int64 vector."""
        if all(isinstance(part, int) for part in parts):
            return self.ints(*(part for part in parts if isinstance(part, int)))
        return self.Concat(
            *(
                self.ints(p) if isinstance(p, int) else self.Reshape(self.index(p), self.ints(1))
                for p in parts
            ),
            axis=0,
        )

    def length(self, x: Tensor, axis: int) -> Tensor:
        """The size of an axis as a tensor without axes, also where it is known."""
        size = self.size(x, axis)
        return self.constant(size, np.int64) if isinstance(size, int) else size

    def size(self, x: Tensor, axis: int) -> int | Tensor:
        """A size as a number where it is known, else as an int64 tensor without axes."""
        known = self.size_of(x, axis)
        if isinstance(known, int):
            return known
        return self.Squeeze(self.Shape(self._settle(x), start=axis, end=axis + 1), self.ints(0))

    def like(self, number: float, x: Tensor) -> Tensor:
        return self.constant(np.asarray(number).astype(x.dtype))

    def flat_axes(self, x: Tensor, axes: Sequence[int]) -> list[int]:
        return [axis % x.rank if x.dims is not None else axis for axis in axes]

    def finished(self) -> ir.Model:
        """The model; sizes that had a name only here have none in it."""
        model = self.finish()
        for name, value in list(model.graph.initializers.items()):
            if not value.uses() and value not in model.graph.outputs:
                del model.graph.initializers[name]
        self._call_as_wished(model)
        for value in _values(model.graph):
            if value.shape is not None:
                value.shape = ir.Shape(self.shown(_plain(value.shape)) or ())
        return model

    def made(self, x: Tensor, operator: str, a: Any, read: Sequence[Any]) -> None:
        """Note what gave ``x``, unless it is handed on as it came."""
        if x.value not in self.made_by:
            self.made_by[x.value] = operator, a, tuple(read)
            self.lay[x.value] = x.perm

    # ---- what comes backwards ---------------------------------------------------------------------

    def reversed(self, x: Tensor, axis: int) -> Tensor:
        """``x`` from behind along one axis; what is turned round twice is itself."""
        axis = axis % x.rank
        place = axis if x.perm is None else x.perm[axis]
        base, perm = replace(x, perm=None, dims=None), x.perm
        held = self.reversals.get(x.value)
        if held is not None and held[1] == place:
            return replace(held[0], perm=perm, dims=x.dims)
        lain = x if perm is None else self.transpose(x, layout.inverse(perm))
        y = self.Slice(lain, self.ints(-1), self.ints(-(2**62)), self.ints(place), self.ints(-1))
        y = self.with_dims(y, lain.dims)
        self.reversals[y.value] = (replace(base, dims=lain.dims), place)
        return y if perm is None else self.transpose(y, perm)

    def unreversed(self, x: Tensor, axis: int) -> tuple[Tensor, bool]:
        """What ``x`` is from behind, along this axis, and whether it is that."""
        held = self.reversals.get(x.value)
        if held is None or held[1] != (axis if x.perm is None else x.perm[axis]):
            return x, False
        return replace(held[0], perm=x.perm, dims=x.dims), True

    def turned(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x: (batch, time, ...), the first steps of each row from behind, as many as ``lengths`` says."""
        held, twice = self.unturned(x, lengths)
        if twice:
            return held
        y = self.ReverseSequence(x, self.index(lengths), batch_axis=0, time_axis=1)
        y = self.sized(y, self.sizes_of(x))
        self.turns[y.value] = (x, self.as_given(lengths))
        return y

    def unturned(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, bool]:
        """What ``x`` is with its rows from behind, and whether it is that."""
        held = self.turns.get(x.value)
        if held is None or x.perm is not None or held[1].value is not self.as_given(lengths).value:
            return x, False
        return held[0], True

    def as_given(self, x: Tensor) -> Tensor:
        """``x`` before it was cast."""
        while self.made_by.get(x.value, ("",))[0] == "Cast":
            x = self.made_by[x.value][2][0]
        return x

    def is_zero(self, x: Tensor) -> bool:
        """Whether ``x`` is known to hold zeros alone."""
        return self._is_filled(x, 0, "ZerosLike")

    def is_one(self, x: Tensor) -> bool:
        """Whether ``x`` is known to hold ones alone."""
        return self._is_filled(x, 1, "OnesLike")

    def _is_filled(self, x: Tensor, number: float, like: str) -> bool:
        if x.array is not None:
            return bool(np.all(x.array == number)) and (x.value not in self.weights or x.array.size == 0)
        operator, _, read = self.made_by.get(x.value, ("", None, ()))
        if operator == "Fill":
            return self._is_filled(read[1], number, like)
        if operator in ("Tile", "BroadcastTo", "Reshape", "ExpandDims", "Squeeze"):
            return self._is_filled(read[0], number, like)
        return operator == like

    def _call_as_wished(self, model: ir.Model) -> None:
        """A weight whose name went to one that nobody reads in the end gets it back."""
        taken = {value.name for value in _values(model.graph)} | set(model.graph.initializers)
        for name, value in list(model.graph.initializers.items()):
            wish = self._wishes.get(value)
            if wish is not None and wish != name and wish not in taken:
                del model.graph.initializers[name]
                value.name = wish
                model.graph.initializers[wish] = value
                taken.add(wish)

    # ---- graphs inside of the graph ---------------------------------------------------------------

    def body(
        self, name: str, inputs: Sequence[Tensor], write: Callable[[], Sequence[Tensor]]
    ) -> tuple[ir.Graph, list[Tensor]]:
        """A graph with these inputs that gives what ``write`` writes in it."""
        graph = ir.Graph([x.value for x in inputs], [], nodes=[], name=f"{self._scope}/{name}")
        with self._inside(graph):
            results = self._results(write(), graph)
        return graph, results

    def given(self, dtype: np.dtype[Any], dims: tuple[Dim, ...] | None) -> Tensor:
        """An input of a body."""
        return self._bound(dtype, dims)

    def holding(
        self, operator: str, operands: Sequence[Tensor | None], count: int, **attributes: Any
    ) -> list[ir.Value]:
        """A node that holds graphs; its outputs have no types yet."""
        node = self._named(
            operator, [None if x is None else self._settle(x) for x in operands], attributes, count
        )
        self._graph.append(node)
        return list(node.outputs)

    @property
    def place(self) -> str:
        return self._scope


def _plain(shape: ir.Shape) -> tuple[Dim, ...]:
    return tuple(dim if isinstance(dim, int) else dim.value for dim in shape)


def _values(graph: ir.Graph) -> list[ir.Value]:
    found = [*graph.inputs, *graph.outputs]
    for node in graph:
        found.extend(node.outputs)
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                found.extend(_values(attribute.as_graph()))
    return found


class Attrs:
    """The attributes of a node, read by type; one left out takes the default that the row gives."""

    def __init__(self, attributes: Mapping[str, Any], where: str) -> None:
        self._attributes, self.where = attributes, where

    def __contains__(self, name: str) -> bool:
        return name in self._attributes

    def raw(self, name: str) -> Any:
        return self._attributes.get(name)

    def integer(self, name: str, default: int = 0) -> int:
        found = self._attributes.get(name)
        return default if found is None else int(found.integer)

    def number(self, name: str, default: float = 0.0) -> float:
        """As TensorFlow computes with it: float32, written with as many digits as that needs."""
        found = self._attributes.get(name)
        return default if found is None else float(np.format_float_positional(np.float32(found.number)))

    def flag(self, name: str, default: bool = False) -> bool:
        found = self._attributes.get(name)
        return default if found is None else bool(found.flag)

    def text(self, name: str, default: str = "") -> str:
        found = self._attributes.get(name)
        return default if found is None or not found.text else found.text.decode("utf-8", "replace")

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        found = self._attributes.get(name)
        return list(default) if found is None or not found.list.integers else list(found.list.integers)

    def numbers(self, name: str, default: Sequence[float] = ()) -> list[float]:
        found = self._attributes.get(name)
        return list(default) if found is None else list(found.list.numbers)

    def dtype(self, name: str, default: Any = None) -> np.dtype[Any]:
        found = self._attributes.get(name)
        return np.dtype(default) if found is None or not found.type else dtype_of(found.type, self.where)

    def among(self, name: str, allowed: str, default: str = "") -> str:
        """A text that must be one of those that the row supports."""
        text = self.text(name, default)
        if text not in allowed.split():
            raise CannotConvert(
                f"{name}={text!r} is not supported", f"Supported: {', '.join(allowed.split())}"
            )
        return text


def rows(table: Mapping[str, Row]) -> None:
    """Register rows of one expression each, under the operators' names."""
    for names, row in table.items():
        ROWS.row(*names.split())(row)


def straight(table: Mapping[str, str]) -> None:
    """Register operators that are one of ONNX's: its name, then those of TensorFlow's."""
    for operator, names in table.items():
        ROWS.row(*names.split())(_straight(operator))


def _straight(operator: str) -> Row:
    def row(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
        return g.op(operator, *inputs)

    return row
