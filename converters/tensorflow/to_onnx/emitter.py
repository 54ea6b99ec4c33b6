"""What the rows of the Keras table write with, and the table itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import GraphBuilder, Tensor, unique
from netferry.converters.graph.registry import Table
from netferry.converters.signature import Array, Dim
from netferry.converters.tensorflow.runtime import BACKEND, keras, result_type, tf
from netferry.converters.tensorflow.to_onnx.symbolic_tensor import Traced, followed, unwrapped, wrapped

Row = Callable[..., Tensor | Sequence[Tensor]]
"""``row(g, operation, *inputs, **arguments)``: what the operation's ``call`` takes, after the emitter and itself."""

ROWS: Table[type, Row] = Table("Keras layers and operations")
"""From the class of a layer or of an operation of ``keras.ops`` to the function that writes it."""


def _content(variable: Any) -> Array:
    """What a variable holds, in the dtype in which its layer computes now; TensorFlow's own memory, not a copy of it."""
    if keras.backend.backend() != BACKEND:
        return np.asarray(keras.ops.convert_to_numpy(variable.value))
    tensor = tf.convert_to_tensor(variable.value)
    try:
        return np.asarray(memoryview(tensor))
    except (BufferError, TypeError, ValueError):  # a dtype that Python's buffers do not know
        return np.asarray(tensor)


class _Size(NamedTuple):
    """A size known only when the model runs: as a number, as a vector of one, and whose it is."""

    number: Tensor
    vector: Tensor
    of: Tensor
    axis: int


class Emitter(GraphBuilder):
    """A ``GraphBuilder`` that knows Keras' variables by their paths and Keras' rules for dtypes."""

    def __init__(self, name: str, variables: Iterable[Any]) -> None:
        super().__init__(name)
        self.made_of: dict[str, tuple[str, ...]] = {}
        self._paths: dict[int, str] = {}
        self._sizes: dict[int, _Size] = {}
        taken: set[str] = set()
        for variable in variables:
            self._paths.setdefault(id(variable), unique(variable.path, taken))

    def path(self, variable: Any) -> str:
        """The name of a variable; of two layers that share a path the second one's is numbered."""
        return self._paths.get(id(variable)) or str(variable.path)

    def weight(self, variable: Any, arrange: Callable[[Array], Array] | None = None) -> Tensor:
        """A variable as a constant under its own path, its axes arranged as ONNX has them; what a layer computes of several, as it is."""
        if isinstance(variable, Traced):
            refuse_unless(arrange is None, "it computes its weight when it runs")
            return variable.tensor
        array = _content(variable)
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

    def unknown(self, dtype: np.dtype[Any], dims: Sequence[Dim]) -> Tensor:
        """Something of a dtype and sizes that nothing writes, instead of what cannot be written."""
        return self._bound(dtype, tuple(dims))

    def size(self, x: Tensor, axis: int) -> Tensor:
        """A size that is known only when the model runs, as Keras counts it: an int32 without axes."""
        vector = self.Shape(self.transpose(x, layout.inverse(x.perm)) if x.perm else x, **_one(x, axis))
        number = self.cast(self.Squeeze(vector, self.ints(0)), np.int32)
        self._sizes[id(number.value)] = _Size(number, vector, x, axis)
        return number

    def dim(self, x: Tensor, axis: int) -> int | Tensor:
        """A size as a number where it is known, else as the tensor that ``size`` gives."""
        known = x.dims[axis] if x.dims is not None else None
        return known if isinstance(known, int) else self.size(x, axis)

    def vector(self, sizes: Sequence[int | Tensor]) -> Tensor:
        """Sizes as one int64 vector, a constant where all of them are known."""
        if all(isinstance(size, int | np.integer) for size in sizes):
            return self.ints(*(int(size) for size in sizes if not isinstance(size, Tensor)))
        return self.Concat(*map(self._entry, sizes), axis=0)

    def _entry(self, size: int | Tensor) -> Tensor:
        if not isinstance(size, Tensor):
            return self.ints(int(size))
        known = self._sizes.get(id(size.value))
        if known is not None:
            return known.vector
        return self.cast(self.Reshape(size, self.ints(1)), np.int64)

    def reshaped(self, x: Tensor, shape: Sequence[int | Tensor]) -> Tensor:
        """``x`` in another shape; what is its own size on the same axis is kept, one size may be -1."""
        kept = [0 if self._is_own(size, x, axis) else size for axis, size in enumerate(shape)]
        numbers = [size for size in kept if isinstance(size, int)]
        refuse_unless(numbers.count(-1) <= 1, "a shape with more than one size left open")
        if len(numbers) == len(kept) - 1 and -1 not in numbers:
            kept = [size if isinstance(size, int) else -1 for size in kept]
        return self.Reshape(x, self.vector(kept))

    def _is_own(self, size: int | Tensor, x: Tensor, axis: int) -> bool:
        known = self._sizes.get(id(size.value)) if isinstance(size, Tensor) else None
        return (
            known is not None and known.axis == axis and known.of.value is x.value and known.of.perm == x.perm
        )

    def follow(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What Keras' own code gives for tensors of this graph: it calls operations, and they are written."""
        positions, named = wrapped((args, kwargs))
        return unwrapped(followed(function, *positions, **named))

    def along(self, write: Callable[[Tensor, layout.Perm], Tensor], x: Tensor) -> Tensor:
        """Write an operator that works axis by axis in the layout in which ``x`` already lies.

        ``write(base, place)`` gets the tensor as it lies there; ``place[axis]`` is where the reader's
        axis lies. The transposition that is pending stays pending.
        """
        position = x.perm or layout.identity(x.rank)
        return self.transpose(write(self.transpose(x, layout.inverse(position)), position), position)


def _one(x: Tensor, axis: int) -> dict[str, int]:
    """The attributes of a Shape that gives one size, where ``x`` really has it."""
    position = axis if x.perm is None else x.perm[axis]
    return {"start": position, "end": position + 1}


def unless(values: Sequence[int], default: int) -> list[int] | None:
    """An attribute's values, or None where ONNX' default is the same."""
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
    def wrapped_row(g: Emitter, layer: Any, x: Tensor) -> Tensor:
        rank = layer.input_spec.ndim or layer.input_spec.min_ndim
        refuse_unless(x.rank == rank, f"its input has {x.rank} axes, not {rank}", "Fold them with Reshape")
        if layer.data_format == "channels_first":
            return row(g, layer, x)
        y = row(g, layer, g.transpose(x, layout.channels_first(x.rank)))
        return g.transpose(y, layout.channels_last(y.rank)) if y.rank == x.rank else y

    return wrapped_row


ACTIVATIONS: Table[Any, Row] = Table("Keras activations")
"""From a function of ``keras.activations`` to the function that writes it: ``row(g, x, **parameters)``."""


def activate(g: Emitter, function: Any, x: Tensor) -> Tensor:
    """Apply a layer's ``activation``: a function of ``keras.activations``, a layer, or None."""
    if function is None:
        return x
    row = ACTIVATIONS.get(function) if callable(function) else None
    if row is not None:
        return one(row(g, x))
    if isinstance(function, keras.Layer) and (layer_row := ROWS.get(type(function))):
        return one(layer_row(g, function, x))
    return one(g.follow(function, x))


def one(result: Tensor | Sequence[Tensor]) -> Tensor:
    """The output of a row that has one."""
    return result if isinstance(result, Tensor) else result[0]


def title(thing: Any) -> str:
    return getattr(thing, "__name__", None) or type(thing).__name__


def refuse_unless(allowed: bool, reason: str, remedy: str = "") -> None:
    """Leave the row where a form is met that it does not convert."""
    if not allowed:
        raise CannotConvert(reason, remedy)


STRAIGHT = Mapping[Any, str]
"""Names that map straight to an ONNX operator."""
