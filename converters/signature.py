"""What goes into a model and what comes out: names, dtypes, sizes, and which sizes are free."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.converters.errors import UsageError, nearest

if TYPE_CHECKING:
    from netferry.converters.structure import Arguments

Array = np.ndarray[Any, Any]
Dim = int | str | None
"""A size: known, free under a name, or free and nameless."""

SHORT_DTYPES: Mapping[str, str] = {
    "f16": "float16", "f32": "float32", "f64": "float64", "bool": "bool",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip

BATCH = "batch"

NAMELESS = "?"
"""What some exporters write for any size that is free: no name, for two of it need not be one size."""

LADDER = (
    32, 64, 48, 16, 8, 3, 1, 96, 128, 160, 192, 224, 256, 320, 384, 416, 512, 640, 800, 1024, 1280, 2048, 4096, 8192,
    16000, 32000,
)  # fmt: skip
"""Sizes for a free axis of which no example is given, in the order in which they are tried: 32 is large enough for a
stack of poolings, the others are what windows, strides and fixed classifiers ask for."""


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
class Range:
    """Whole numbers from ``low`` to ``high``: what an input may hold that indexes, measures or divides.

    ``within`` is the place of an input and one of its axes: ``high`` is then counted from that axis' size (-1 for its
    last index, 0 for a length). ``column`` restricts one place of the last axis alone (the batch indices among boxes).
    """

    low: int = 0
    high: int | None = None
    within: tuple[int, int] | None = None
    column: int | None = None

    @classmethod
    def of_keys(cls, keys: Array | None, column: int | None = None) -> Iterator[Range]:
        """What is looked for among several whole numbers: from one below the least to one above the greatest."""
        if keys is not None and keys.size > 1 and keys.dtype.kind in "iu":
            yield cls(int(keys.min()) - 1, int(keys.max()) + 1, column=column)

    def top(self, shapes: Sequence[Sequence[int]]) -> int | None:
        """The largest number, the inputs having these sizes; None where nothing bounds it."""
        if self.within is None:
            return self.high
        position, axis = self.within
        known = position < len(shapes) and axis < len(shapes[position])
        return shapes[position][axis] + (self.high or 0) if known else None


Ranges = Mapping[int, Sequence[Range]]
"""What is known of the numbers that inputs may hold, by the place of the input."""


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})"

    def narrowed(self, sizes: Mapping[str, Sequence[int | None]]) -> Signature:
        """With the sizes of inputs that are known by now; one that is free under a name is known wherever it stands."""
        known: dict[str, int] = {}
        for spec in self.inputs:
            for own, size in zip(spec.dims or (), sizes.get(spec.name, ()), strict=False):
                if isinstance(own, str) and size is not None:
                    known[own] = size

        def dim(own: Dim, size: int | None = None) -> Dim:
            return own if isinstance(own, int) else known.get(own or "", own if size is None else size)

        def narrow(spec: TensorSpec) -> TensorSpec:
            if spec.dims is None:
                return replace(spec, dims=tuple(sizes[spec.name])) if sizes.get(spec.name) else spec
            said = [*sizes.get(spec.name, ()), *[None] * len(spec.dims)]
            return replace(spec, dims=tuple(map(dim, spec.dims, said)))

        inputs = tuple(map(narrow, self.inputs))
        outputs = (replace(s, dims=s.dims and tuple(map(dim, s.dims))) for s in self.outputs)
        return Signature(inputs, tuple(outputs))

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }


@dataclass(frozen=True)
class Example:
    """An input shown by an array, with the axes that are free: ``{axis: symbol}``.

    ``asked`` tells a freedom that the caller asked for (it must hold) from the default one
    (a batch axis that turns out to be fixed is noted, not refused). ``call`` says of which argument the input is a part,
    where a model is called with more than arrays. ``positional`` is one that came in a list, whose name nobody gave.
    """

    name: str
    array: Array
    free: Mapping[int, str] = field(default_factory=dict)
    asked: bool = False
    call: Arguments | None = field(default=None, compare=False, repr=False)
    positional: bool = field(default=False, compare=False, repr=False)

    @property
    def spec(self) -> TensorSpec:
        dims: list[Dim] = list(self.array.shape)
        for axis, symbol in self.free.items():
            dims[axis] = symbol
        return TensorSpec(self.name, self.array.dtype, tuple(dims))


def as_array(value: Any) -> Array:
    """A value as numpy has it; an array of MXNet's, which numpy would take for a sequence, gives its own."""
    return np.asarray(value.asnumpy() if hasattr(value, "asnumpy") else value)


def examples(
    inputs: Mapping[str, Any] | Sequence[Any],
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
) -> tuple[Example, ...]:
    """Bind arrays and the axes that are free.

    With ``dynamic`` None the first axis of every input whose size is that of the first input's is
    free and named ``batch``; a mapping names the free axes and nothing else is free.
    """
    named = inputs if isinstance(inputs, Mapping) else {f"input_{i}": a for i, a in enumerate(inputs)}
    arrays, listed = {name: as_array(array) for name, array in named.items()}, named is not inputs
    if dynamic is None:
        sizes = [array.shape[0] for array in arrays.values() if array.ndim]
        free = {name for name, array in arrays.items() if array.ndim and array.shape[0] == sizes[0]}
        return tuple(
            Example(name, array, {0: BATCH} if name in free else {}, positional=listed)
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
        Example(name, array, dict(dynamic.get(name, {})), asked=True, positional=listed)
        for name, array in arrays.items()
    )


@dataclass(frozen=True)
class InputNames:
    """What the inputs of a model are called, in its order. Names that are not ``declared`` (parameters of code, numbers that a framework
    counts) are no names of the model's own: where what is given fits none of them, it names the inputs."""

    names: tuple[str, ...]
    declared: bool = True

    @classmethod
    def given_by_someone(cls, names: Iterable[str]) -> InputNames:
        """Declared names, unless a framework made all of them, as Keras does with inputs to which nobody gave a name."""
        found = tuple(names)
        made = all(map(_COUNTED.fullmatch, found)) or (len(found) == 1 and _OF_LAYER.fullmatch(found[0]))
        return cls(found, not made)

    def bound(self, given: tuple[Example, ...]) -> tuple[Example, ...]:
        """The examples in the order of the inputs: those of a list by position, named ones by their names alone.

        Raises UsageError where a name is not the model's.
        """
        if all(example.positional for example in given):
            if not self.declared or len(given) > len(self.names):
                return given
            return tuple(replace(one, name=own) for one, own in zip(given, self.names, strict=False))
        places = {name: place for place, name in enumerate(self.names)}
        arguments = [_argument(example, places) for example in given]
        strange = [name for name in arguments if name not in places]
        if strange and (self.declared or len(strange) < len(given)):
            raise UsageError(
                f"no such input: {', '.join(map(repr, strange))}",
                expected=", ".join(self.names),
                received=", ".join(example.name for example in given),
                remedy=nearest(strange[0], self.names, "A list, without names, is bound by position"),
            )
        if strange:
            return given
        order = sorted(range(len(given)), key=lambda place: places[arguments[place]])
        return tuple(given[place] for place in order)


_COUNTED = re.compile(r"(keras_tensor|input_layer)(_\d+)?|input_\d+")
"""Names that nobody gave: Keras', and those of a list's items here."""

_OF_LAYER = re.compile(r"\w+_input")
"""The only input of a sequence of Keras 2, named after its first layer."""


def _argument(example: Example, own: Collection[str]) -> str:
    """The input that an example is, or is a part of: ``past.0.key`` is one of ``past``."""
    if example.name in own:
        return example.name
    name = example.name if example.call is None else example.call.of_input(example.name)
    head = name.partition(".")[0]
    return head if head in own else name


def aligned(given: Sequence[Example], own: Sequence[str]) -> tuple[Example, ...]:
    """The examples in the order of a model's inputs: by name where all names are its own, else as they are."""
    positions = {name: position for position, name in enumerate(own)}
    if not all(example.name in positions for example in given):
        return tuple(given)
    return tuple(sorted(given, key=lambda example: positions[example.name]))


def completed(given: Sequence[Example], own: Sequence[TensorSpec], seed: int = 0) -> tuple[Example, ...]:
    """One example for each input of the model: those given, the others made at the sizes that the given ones show.

    Raises UsageError where a name is not the model's.
    """
    named = {example.name: example for example in given}
    names = [spec.name for spec in own]
    unknown = next((name for name in named if name not in names), None)
    if unknown is not None:
        raise UsageError(
            "no such input", expected=", ".join(names), received=unknown, remedy=nearest(unknown, names)
        )
    seen: dict[str, int] = {}
    for spec in own:
        if spec.name in named:
            sizes = named[spec.name].array.shape
            seen |= {
                dim: size for dim, size in zip(spec.dims or (), sizes, strict=False) if isinstance(dim, str)
            }
    rng = np.random.default_rng(seed)
    return tuple(named.get(spec.name) or _made(spec, seen, rng) for spec in own)


def _made(spec: TensorSpec, seen: Mapping[str, int], rng: np.random.Generator) -> Example:
    if spec.dims is None:
        raise UsageError(
            f"the rank of input '{spec.name}' is not known", remedy=f"Give it: --input {spec.name}:1,3"
        )
    batch = seen.get(BATCH, next(iter(seen.values()), BATCH_SHOWN))
    sizes = [
        dim if isinstance(dim, int) else seen.get(dim or "", batch if axis == 0 else SIZE_SHOWN)
        for axis, dim in enumerate(spec.dims)
    ]
    free = {axis: dim for axis, dim in enumerate(spec.dims) if isinstance(dim, str)}
    return Example(spec.name, drawn(sizes, spec.dtype, rng), free)


def drawn(shape: Sequence[int], dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    """Floats from a normal distribution; integers are 0 or 1."""
    if dtype.kind in "biu":
        return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


_FLAG = re.compile(r"(?P<name>[^:]+):(?P<dims>[^:]*)(?::(?P<dtype>[a-z0-9]+))?")
_DIM = re.compile(r"(?P<symbol>[A-Za-z_]\w*)(?:=(?P<size>[1-9]\d{0,17}))?|(?P<fixed>[1-9]\d{0,17})")

BATCH_SHOWN, SIZE_SHOWN = 2, 32
"""The sizes that an example gets on a free axis for which none is said."""


def examples_from_flags(flags: Sequence[str], seed: int = 0) -> tuple[Example, ...]:
    """Example inputs from ``name:1,3,224,224:f32``, as the command line takes them.

    A word among the sizes is a free axis, ``x:batch,3,h=224,w=224`` says a size that it may have. Where no
    axis is named the first one is the batch and is free. The dtype may be left out (float32) and may be
    written short or long. Floats are drawn from a normal distribution, integers are 0 or 1.
    """
    rng = np.random.default_rng(seed)
    made = [_example(flag, rng) for flag in flags]
    if any(example.free for example in made):
        return tuple(made)
    return examples({example.name: example.array for example in made})


def numbers_of_flag(flag: str) -> int:
    """How many numbers are drawn for one of these."""
    return math.prod(_told(flag)[2])


def _example(flag: str, rng: np.random.Generator) -> Example:
    name, dtype, shape, free = _told(flag)
    return Example(name, drawn(shape, dtype, rng), free, asked=bool(free))


def _told(flag: str) -> tuple[str, np.dtype[Any], list[int], dict[int, str]]:
    """The name, the dtype, the sizes and the free axes that a flag says."""
    match = _FLAG.fullmatch(flag)
    if match is None:
        raise UsageError("an input is written name:sizes:dtype", expected="x:1,3,224,224:f32", received=flag)
    name, words = match["name"], match["dims"].replace(" ", "")
    dtype = _dtype(name, match["dtype"] or "f32")
    shape: list[int] = []
    free: dict[int, str] = {}
    for axis, word in enumerate(words.split(",") if words else []):
        dim = _DIM.fullmatch(word)
        if dim is None:
            raise UsageError(
                f"input '{name}' has a size that is neither a number nor a name",
                expected="a positive number, or a name for a free axis (h, or h=224)",
                received=word or "nothing",
            )
        if dim["symbol"]:
            free[axis] = dim["symbol"]
        shown = BATCH_SHOWN if dim["symbol"] == BATCH else SIZE_SHOWN
        shape.append(int(dim["fixed"] or dim["size"] or shown))
    return name, dtype, shape, free


def _dtype(name: str, word: str) -> np.dtype[Any]:
    long = SHORT_DTYPES.get(word, word)
    if long not in SHORT_DTYPES.values():
        raise UsageError(
            f"input '{name}' has no such dtype", expected=f"one of {', '.join(SHORT_DTYPES)}", received=word
        )
    return np.dtype(long)
