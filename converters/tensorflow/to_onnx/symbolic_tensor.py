"""A tensor of the graph being written, as Keras' own code sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert, NetferryError, first_line
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import KerasTensor, keras, tree


class Traced(KerasTensor):  # type: ignore[misc] # Keras has no types
    """Keras takes it for a symbol: it knows its sizes as far as they are known, its dtype and its mask."""

    __array_ufunc__ = None  # an array on the left leaves the operation to the tensor

    def __init__(self, tensor: Tensor) -> None:
        sizes = [size if isinstance(size, int) else None for size in tensor.dims or [None] * tensor.rank]
        super().__init__(tuple(sizes), tensor.dtype.name, record_history=False, name="traced")
        self.tensor = tensor

    def __eq__(self, other: object) -> Any:
        """Element by element, as TensorFlow compares tensors; Keras' own symbols are compared by identity."""
        return False if other is None else keras.ops.equal(self, other)

    def __ne__(self, other: object) -> Any:
        return True if other is None else keras.ops.not_equal(self, other)

    __hash__ = object.__hash__


def wrapped(value: Any) -> Any:
    """Every tensor inside of ``value`` as Keras sees it."""
    return tree.map_structure(lambda x: Traced(x) if isinstance(x, Tensor) else x, value)


def unwrapped(value: Any) -> Any:
    """Every tensor inside of ``value`` as the emitter writes it; what else is there stays."""
    return tree.map_structure(lambda x: x.tensor if isinstance(x, Traced) else x, value)


def followed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call Keras' or a user's own code on ``Traced`` tensors.

    Raises:
        CannotConvert: it does what no operation of ``keras.ops`` stands for: TensorFlow's own functions, a
            branch on what is in a tensor.
    """
    try:
        return function(*args, **kwargs)
    except (CannotConvert, NetferryError):
        raise
    except Exception as error:  # whatever the code raises when it meets a symbol
        raise CannotConvert(
            f"its Python code cannot be followed ({first_line(error)})", "Write its call with keras.ops alone"
        ) from error


def sizes(shape: Any) -> list[int | Tensor]:
    """A shape as Keras' operations keep it, one size or several; None, what is left open, as -1."""
    listed = (
        list(shape) if isinstance(shape, list | tuple) else np.atleast_1d(np.asarray(shape, object)).tolist()
    )
    return [
        x.tensor if isinstance(x, Traced) else -1 if x is None else x if isinstance(x, Tensor) else int(x)
        for x in listed
    ]
