"""What goes into a model and what comes out: names, dtypes, sizes, and which sizes are free."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netferry.converters.errors import UsageError

Array = np.ndarray[Any, Any]
Dim = int | str | None
"""A size: known, free under a name, or free and nameless."""

SHORT_DTYPES: Mapping[str, str] = {
    "f16": "float16", "f32": "float32", "f64": "float64", "bool": "bool",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip

BATCH = "batch"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output; ``dims`` is None where not even the rank is known."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[Dim, ...] | None

    def __str__(self) -> str:
        dims = "?" if self.dims is None else ", ".join("?" if d is None else str(d) for d in self.dims)
        return f"{self.name}: {self.dtype.name}[{dims}]"

    def to_json(self) -> dict[str, Any]:
        dims = None if self.dims is None else list(self.dims)
        return {"name": self.name, "dtype": self.dtype.name, "dims": dims}


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})"

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }


@dataclass(frozen=True)
class Example:
    """An input shown by an array, with the axes that are free: ``{axis: symbol}``.

    ``asked`` tells a freedom that the caller asked for (it must hold) from the default one
    (a batch axis that turns out to be fixed is told, not refused).
    """

    name: str
    array: Array
    free: Mapping[int, str] = field(default_factory=dict)
    asked: bool = False

    @property
    def spec(self) -> TensorSpec:
        dims: list[Dim] = list(self.array.shape)
        for axis, symbol in self.free.items():
            dims[axis] = symbol
        return TensorSpec(self.name, self.array.dtype, tuple(dims))


def examples(
    inputs: Mapping[str, Any] | Sequence[Any],
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
) -> tuple[Example, ...]:
    """Bind arrays and the axes that are free.

    With ``dynamic`` None the first axis of every input whose size is that of the first input's is
    free and named ``batch``; a mapping names the free axes and nothing else is free.
    """
    named = inputs if isinstance(inputs, Mapping) else {f"input_{i}": a for i, a in enumerate(inputs)}
    arrays = {name: np.asarray(array) for name, array in named.items()}
    if dynamic is None:
        sizes = [array.shape[0] for array in arrays.values() if array.ndim]
        return tuple(
            Example(name, array, {0: BATCH} if array.ndim and array.shape[0] == sizes[0] else {})
            for name, array in arrays.items()
        )
    for name, axes in dynamic.items():
        if name not in arrays:
            raise UsageError(
                "dynamic names an input that is not there",
                expected=f"one of {', '.join(arrays)}",
                received=name,
            )
        for axis in axes:
            if not 0 <= axis < arrays[name].ndim:
                raise UsageError(
                    f"dynamic names an axis that input '{name}' does not have",
                    expected=f"an axis from 0 to {arrays[name].ndim - 1}",
                    received=axis,
                )
    return tuple(
        Example(name, array, dict(dynamic.get(name, {})), asked=True) for name, array in arrays.items()
    )


_FLAG = re.compile(r"(?P<name>[^:]+):(?P<dims>[^:]*)(?::(?P<dtype>[a-z0-9]+))?")


def parse_input(text: str) -> TensorSpec:
    """Read ``name:1,3,224,224:f32``; a word among the sizes (``x:batch,3,h,w``) is a free axis.

    The dtype may be left out (float32) and may be written short or long (``f32``, ``float32``).
    """
    match = _FLAG.fullmatch(text)
    if match is None:
        raise UsageError(
            "an input is written name:sizes:dtype", expected="x:1,3,224,224:f32", received=text
        )
    short = match["dtype"] or "f32"
    dtype = SHORT_DTYPES.get(short, short)
    if dtype not in SHORT_DTYPES.values():
        raise UsageError(
            f"input '{match['name']}' has no such dtype",
            expected=f"one of {', '.join(SHORT_DTYPES)}",
            received=short,
        )
    words = [word.strip() for word in match["dims"].split(",")] if match["dims"].strip() else []
    dims = tuple(int(word) if word.isdigit() else word for word in words)
    for dim in dims:
        if dim == 0 or (isinstance(dim, str) and not dim.isidentifier()):
            raise UsageError(
                f"input '{match['name']}' has a size that is neither a number nor a name",
                expected="a positive number, or a name for a free axis",
                received=dim or "nothing",
            )
    return TensorSpec(match["name"], np.dtype(dtype), dims)
