"""The inputs on which a verdict is found: sizes at which the source runs, numbers that it takes, what was given first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.signature import Array, Example, InputNames, Signature, TensorSpec, completed
from netferry.inference.binding import bind
from netferry.inference.run import Runnable
from netferry.validation.samples.bounds import ranges_of
from netferry.validation.samples.inputs import GIVEN, NORMAL, Maker, Sample, samples
from netferry.validation.samples.rows import Rows
from netferry.validation.samples.sizes import Heavy, Sizes, batches_of, explored, sizes_of, symbols


@dataclass(frozen=True)
class Made:
    """Samples for ``signature``, as the examples rule it; ``outputs`` are the source's where it was asked already.

    ``data`` describes the real rows among them.
    """

    signature: Signature
    given: Sequence[Example] | None
    samples: list[Sample]
    outputs: dict[str, Mapping[str, Array]] = field(default_factory=dict)
    data: Mapping[str, str] | None = None

    def shown(self) -> tuple[Example, ...]:
        """The first sample as examples: what a target that declares no sizes is shown."""
        return _examples(self.signature, self.samples[0])

    def unchecked(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The free axes that were checked at one size only, on the samples of these labels."""
        seen: dict[str, set[int]] = {symbol: set() for symbol in symbols(self.signature)}
        for sample in self.samples:
            for symbol, size in sizes_of(self.signature, sample.arrays).items():
                if sample.label in labels:
                    seen[symbol].add(size)
        return tuple(_called(self.signature, symbol) for symbol, sizes in seen.items() if len(sizes) < 2)


def made_for(
    source: Runnable,
    models: Sequence[tuple[object, Signature]],
    given: Sequence[Example] | None = None,
    seed: int = 0,
    *,
    quick: bool = False,
    heavy: Heavy = lambda _sizes, _usual: False,
    hollow: Callable[[Sizes], bool] = lambda _sizes: False,
    beyond: Callable[[Sizes], bool] = lambda _sizes: False,
    rows: Rows | None = None,
    fixed: Mapping[str, Sequence[int | None]] | None = None,
) -> Made:
    """Samples at sizes where ``source`` runs; ``models`` (it and its target) bound what inputs may hold.

    ``rows`` come first, then what is ``given``. ``heavy`` are the sizes that cost too much, ``hollow`` those
    at which the model has nothing left to compute with, ``beyond`` those that its bounds rule out. ``fixed`` are sizes of
    inputs that the model's own steps and outputs demand, though the inputs do not say so: no others are tried.
    """
    signature = source.signature
    demanded = _demanded(signature, fixed or {})
    if given is not None:
        given = _named_as(
            signature, completed(given, signature.inputs, seed) if _partial(signature, given) else given
        )
        signature = _ruled(signature, given)
    real = [] if rows is None else rows.samples(signature)
    shown = given if given is not None or not real else _examples(signature, real[0])
    ranges = ranges_of(models, given)
    empty = _but_shown(hollow, signature, shown)
    maker = Maker(signature, shown, seed, ranges)

    def wrong(sizes: Sizes) -> bool:
        return (
            beyond(sizes)
            or empty(sizes)
            or any(sizes.get(name, one) != one for name, one in demanded.items())
        )

    asked = _Asked(source, maker, wrong)
    sizes = explored(signature, shown, asked.accepts, heavy)
    if symbols(signature) and not asked.outputs and asked.mute:
        asked.demanding = False
        sizes = explored(signature, shown, asked.accepts, heavy)
    made = list(samples(signature, shown, seed, quick=quick, ranges=ranges, sizes=sizes))
    made = [*real, *(sample for sample in made if given is not None or sample.label != GIVEN)]
    labels = {sample.label for sample in made}
    outputs = {label: heard for label, heard in asked.outputs.items() if label in labels}
    return Made(signature, given, made, outputs, None if rows is None else rows.document(real))


def _demanded(signature: Signature, fixed: Mapping[str, Sequence[int | None]]) -> Sizes:
    """The free axes by their symbols that are one size after all."""
    narrow = {spec.name: spec.dims or () for spec in signature.narrowed(fixed).inputs}
    return {
        symbol: size
        for symbol, axes in symbols(signature).items()
        for name, axis in axes[:1]
        if isinstance(size := narrow[name][axis], int)
    }


def _but_shown(
    hollow: Callable[[Sizes], bool], signature: Signature, shown: Sequence[Example] | None
) -> Callable[[Sizes], bool]:
    """Sizes that an example has are never hollow, whatever the batch."""
    arrays = {example.name: example.array for example in shown or ()}
    batches = batches_of(signature)
    known = {name: size for name, size in sizes_of(signature, arrays).items() if name not in batches}
    return lambda sizes: not (known and known.items() <= sizes.items()) and hollow(sizes)


def _examples(signature: Signature, sample: Sample) -> tuple[Example, ...]:
    """A sample as examples, with the axes that are free."""
    free: dict[str, dict[int, str]] = {}
    for symbol, axes in symbols(signature).items():
        for name, axis in axes:
            free.setdefault(name, {})[axis] = symbol
    return tuple(
        Example(spec.name, sample.arrays[spec.name], free.get(spec.name, {})) for spec in signature.inputs
    )


MOST_ELEMENTS = 1 << 25
"""Numbers that the inputs of one try may hold together."""


@dataclass
class _Asked:
    """The source on normal inputs: whether it runs at some sizes, and what it gave there."""

    source: Runnable
    maker: Maker
    hollow: Callable[[Sizes], bool]
    outputs: dict[str, Mapping[str, Array]] = field(default_factory=dict)
    demanding: bool = True
    mute: bool = False
    """Whether it ran somewhere, and gave one number alone."""

    def accepts(self, sizes: Sizes) -> bool:
        """Sizes at which nothing comes out, or nothing finite, count as refused, and so do those at which some tensor
        inside is empty: kernels that are left without a pixel each go on in their own way. So do those at which each
        output is one number over and over (a recording shorter than a frame), while that is ``demanding``. Inputs that
        would fill the memory are not drawn.
        """
        if self.maker.elements(sizes) > MOST_ELEMENTS or self.hollow(sizes):
            return False
        sample = self.maker.sample(NORMAL, sizes)
        try:
            outputs = self.source.run(bind(sample.arrays, self.source.signature))
        except (RefusedError, UsageError):
            return False
        if not any(map(_tells, outputs.values())):
            return False
        floats = [array for array in outputs.values() if array.dtype.kind == "f"]
        if self.demanding and not any(map(_varies, floats or outputs.values())):
            self.mute = True
            return False
        self.outputs[sample.label] = outputs
        return True


def _tells(array: Array) -> bool:
    """Whether an output holds any number at all."""
    return array.size > 0 and (array.dtype.kind != "f" or bool(np.isfinite(array).any()))


def _varies(array: Array) -> bool:
    """Whether an output of several numbers holds more than one; of a single one nothing is known."""
    return array.size == 1 or (array.size > 1 and bool(np.any(array != array.reshape(-1)[0])))


def _partial(signature: Signature, given: Sequence[Example]) -> bool:
    return len(given) < len(signature.inputs)


def _named_as(signature: Signature, given: Sequence[Example]) -> tuple[Example, ...]:
    """The examples in the order and under the names of the model's inputs."""
    own = tuple(spec.name for spec in signature.inputs)
    if len(given) != len(own):
        raise UsageError(
            "the wrong number of inputs", expected=f"{len(own)} ({', '.join(own)})", received=len(given)
        )
    return InputNames(own).bound(tuple(given))


def _ruled(signature: Signature, given: Sequence[Example]) -> Signature:
    """The signature within what the examples ask for: where axes are named, no others are free."""
    pairs = zip(signature.inputs, given, strict=True)
    return replace(signature, inputs=tuple(_spec(spec, example) for spec, example in pairs))


def _spec(own: TensorSpec, example: Example) -> TensorSpec:
    if own.dims is None:
        return replace(example.spec, dtype=own.dtype)
    if not example.asked or len(own.dims) != example.array.ndim:
        return own
    for axis, symbol in example.free.items():
        if isinstance(own.dims[axis], int):
            raise UsageError(
                f"axis {axis} of input '{own.name}' cannot be free",
                expected=f"{own.dims[axis]}, the size that the model fixes",
                received=symbol,
            )
    sizes = example.array.shape
    dims = (
        dim if isinstance(dim, int) else example.free.get(axis, sizes[axis])
        for axis, dim in enumerate(own.dims)
    )
    return replace(own, dims=tuple(dims))


def _called(signature: Signature, symbol: str) -> str:
    """The name of a free axis: its symbol, or its position where it has none."""
    name, axis = symbols(signature)[symbol][0]
    return f"axis {axis} of {name}" if symbol == f"{name}_dim{axis}" else f"axis {symbol}"
