"""What the rows of the Keras table write with, and the table itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotCarry
from netferry.converters.graph import layout
from netferry.converters.graph.build import GraphBuilder, Tensor, unique
from netferry.converters.graph.table import Table
from netferry.converters.signature import Array
from netferry.converters.tensorflow.runtime import keras, result_type

Row = Callable[..., Tensor | Sequence[Tensor]]
"""``row(g, operation, *inputs, **arguments)``: what the operation's ``call`` takes, after the pen and itself."""

ROWS: Table[type, Row] = Table("Keras layers and operations")
"""From the class of a layer or of an operation of ``keras.ops`` to the function that writes it."""


class Pen(GraphBuilder):
    """A ``GraphBuilder`` that knows Keras' variables by their paths and Keras' rules for dtypes."""

    def __init__(self, name: str, variables: Iterable[Any]) -> None:
        super().__init__(name)
        self.made_of: dict[str, tuple[str, ...]] = {}
        self._paths: dict[int, str] = {}
        taken: set[str] = set()
        for variable in variables:
            self._paths.setdefault(id(variable), unique(variable.path, taken))

    def path(self, variable: Any) -> str:
        """The name of a variable; of two layers that share a path the second one's is numbered."""
        return self._paths.get(id(variable)) or str(variable.path)

    def weight(self, variable: Any, arrange: Callable[[Array], Array] | None = None) -> Tensor:
        """A variable as a constant under its own path, its axes arranged as ONNX has them."""
        array = np.asarray(variable)
        return self.constant(array if arrange is None else arrange(array), name=self.path(variable))

    def cast(self, x: Tensor, dtype: Any) -> Tensor:
        """``x`` as ``dtype``; nothing is written where it is that already."""
        want = np.dtype(dtype)
        if x.dtype == want:
            return x
        if x.array is not None:
            return self.constant(x.array.astype(want), name=x.name if x.array.size > 1 else None)
        return self.Cast(x, to=int(ir.DataType.from_numpy(want)))

    def promoted(self, *operands: Any, at_least: type | None = None) -> list[Tensor]:
        """Tensors, arrays and numbers in the one dtype that Keras computes them in."""
        kinds = [x.dtype.name if isinstance(x, Tensor) else getattr(x, "dtype", type(x)) for x in operands]
        dtype = result_type(*kinds, *([at_least] if at_least else []))
        return [self.cast(self.lift(x, dtype), dtype) for x in operands]

    def lift(self, x: Any, dtype: Any = None) -> Tensor:
        """A tensor as it is, anything else as a constant."""
        return x if isinstance(x, Tensor) else self.constant(np.asarray(x), dtype)

    def along(self, write: Callable[[Tensor, layout.Perm], Tensor], x: Tensor) -> Tensor:
        """Write an operator that works axis by axis in the layout in which ``x`` already lies.

        ``write(base, place)`` gets the tensor as it lies there; ``place[axis]`` is where the reader's
        axis lies. The transposition that is pending stays pending.
        """
        place = x.perm or layout.identity(x.rank)
        return self.transpose(write(self.transpose(x, layout.inverse(place)), place), place)


def unless(values: Sequence[int], default: int) -> list[int] | None:
    """An attribute's values, or None where ONNX' default says the same."""
    return None if all(value == default for value in values) else list(values)


def axes_of(axis: Any, rank: int) -> list[int]:
    """Keras' ``axis`` (a number, several, None for all) as sorted axes counted from the front."""
    if axis is None:
        return list(range(rank))
    wanted = axis if isinstance(axis, list | tuple) else [axis]
    return sorted(int(a) % rank for a in wanted)


def channels_first(row: Callable[..., Tensor]) -> Row:
    """A row of a spatial layer, written for (batch, channels, *space), for both of Keras' layouts."""

    @wraps(row)
    def carry(g: Pen, layer: Any, x: Tensor) -> Tensor:
        rank = layer.input_spec.ndim or layer.input_spec.min_ndim
        refuse_unless(x.rank == rank, f"its input has {x.rank} axes, not {rank}", "Fold them with Reshape")
        if layer.data_format == "channels_first":
            return row(g, layer, x)
        y = row(g, layer, g.transpose(x, layout.channels_first(x.rank)))
        return g.transpose(y, layout.channels_last(y.rank)) if y.rank == x.rank else y

    return carry


ACTIVATIONS: Table[Any, Row] = Table("Keras activations")
"""From a function of ``keras.activations`` to the function that writes it: ``row(g, x, **parameters)``."""


def activate(g: Pen, function: Any, x: Tensor) -> Tensor:
    """Apply a layer's ``activation``: a function of ``keras.activations``, a layer, or None."""
    if function is None:
        return x
    row = ACTIVATIONS.get(function) if callable(function) else None
    if row is not None:
        return one(row(g, x))
    if isinstance(function, keras.Layer) and (layer_row := ROWS.get(type(function))):
        return one(layer_row(g, function, x))
    raise CannotCarry(f"its activation {title(function)} is not one that netferry knows")


def one(result: Tensor | Sequence[Tensor]) -> Tensor:
    """The output of a row that has one."""
    return result if isinstance(result, Tensor) else result[0]


def title(thing: Any) -> str:
    return getattr(thing, "__name__", None) or type(thing).__name__


def refuse_unless(allowed: bool, reason: str, remedy: str = "") -> None:
    """Leave the row where a form is met that it does not carry."""
    if not allowed:
        raise CannotCarry(reason, remedy)


STRAIGHT = Mapping[Any, str]
"""Names that map straight to an ONNX operator."""
