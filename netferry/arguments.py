"""What the functions of ``netferry.api`` are given: models, inputs, rows of data, a seed, a tolerance."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.converters import source
from netferry.converters.calling import examples
from netferry.converters.errors import UsageError
from netferry.converters.part import Part, Sizes, part
from netferry.converters.signature import Example

if TYPE_CHECKING:  # a conversion that is not verified does without inference and validation
    from netferry.inference.images import Pixels
    from netferry.validation.comparison.metrics import Tolerance
    from netferry.validation.samples.rows import Rows


PathLike = str | os.PathLike[str]


Inputs = Mapping[str, Any] | Sequence[Any] | Sequence[Example]


Dynamic = Mapping[str, Mapping[int, str]]


def drawn(seed: int | None) -> int:
    """The seed as it is given, else a new one."""
    return secrets.randbelow(1 << 31) if seed is None else seed


def given_examples(inputs: Inputs | None, dynamic: Dynamic | None) -> tuple[Example, ...] | None:
    if inputs is None:
        if dynamic is not None:
            raise UsageError("dynamic needs inputs", remedy="Give example arrays for the inputs it names")
        return None
    if not isinstance(inputs, Mapping) and inputs and all(isinstance(item, Example) for item in inputs):
        return tuple(inputs)
    return examples(inputs, dynamic)


Outputs = Mapping[str, str] | Sequence[str] | None
"""Names at which the source is cut; a mapping pairs the source's outputs with those of the target that have other names."""


def part_of(
    outputs: Outputs,
    input_at: Sequence[str] | str | None,
    fix: Sizes | None,
    rename: Mapping[str, str] | None,
) -> tuple[Part, Mapping[str, str] | None]:
    """What is wanted of the source, and which of its outputs is which of the target, as far as that is given."""
    paired = outputs if isinstance(outputs, Mapping) else None
    return part(None if isinstance(outputs, Mapping) else outputs, input_at, fix, rename), paired


Data = PathLike | None


Columns = Mapping[str, Sequence[str]] | None


def rows_of(data: Data, columns: Columns, pixels: Pixels | None) -> Rows | None:
    """Rows of a data set to compare on."""
    if data is None:
        if columns or pixels is not None:
            raise UsageError("columns and pixels are for data", remedy="Give data=, or leave them out")
        return None
    from netferry.validation.samples.rows import Rows

    return Rows(Path(data), columns, pixels)


def tolerance_of(rtol: float | None, atol: float | None) -> Tolerance | None:
    if (rtol is None) != (atol is None):
        raise UsageError("rtol and atol go together", expected="both or neither")
    if rtol is None or atol is None:
        return None
    from netferry.validation.comparison.metrics import Tolerance

    return Tolerance(rtol, atol)


@dataclass(frozen=True)
class Reading:
    """How a source is read, where its file alone does not say it.

    ``weights`` is a file of weights for a factory (``.safetensors``, a state dict, ``.weights.h5``) or an MXNet symbol (``.params``);
    ``epoch`` chooses among an MXNet checkpoint's instead. ``task`` is what a Hugging Face folder's model is for, ``signature`` the one
    that is meant of a SavedModel's. With ``random_weights`` an MXNet symbol without its params gets weights drawn by chance.
    ``unsafe`` lets through, with an ``UnsafeWarning``, what may act outside the model.
    """

    weights: PathLike | None = None
    epoch: int | None = None
    task: str | None = None
    signature: str | None = None
    random_weights: bool = False
    unsafe: bool = False

    def __post_init__(self) -> None:
        if self.weights is not None and self.epoch is not None:
            raise UsageError("weights and epoch name the same parameters", remedy="Give one of them")

    @property
    def parameters(self) -> PathLike | None:
        """Where the weights are: a file, or the number of an epoch as a path."""
        return self.weights if self.epoch is None else Path(str(self.epoch))

    def open(self, model: object) -> object:
        """The source as a model in memory."""
        return source.open_source(
            model, self.parameters, unsafe=self.unsafe, task=self.task, signature=self.signature
        )

    def runnable(self, model: object, *, cut: bool = False) -> object:
        """What can be run: a model in memory, or the path of an ONNX file, which onnxruntime opens itself unless it is to be ``cut``."""
        if isinstance(model, str | os.PathLike) and source.is_onnx_file(model) and not cut:
            return source.looked_at(model, unsafe=self.unsafe)
        return self.open(model)


_READING = Reading()


def reading_of(reading: Reading | None, **named: Any) -> Reading:
    """How a source is read, given as one object or by ``named`` keywords, not both."""
    given = {key: value for key, value in named.items() if value != getattr(_READING, key)}
    if reading is None:
        return Reading(**given)
    if given:
        raise UsageError(
            f"'{next(iter(given))}' belongs to reading, which is given, too",
            remedy=f"Write reading=Reading({', '.join(f'{key}=...' for key in given)}), or leave reading out",
        )
    return reading


Readings = Reading | tuple[Reading | None, Reading | None] | None
"""How two models are read: each its own way, or one way for the first alone, which is the source."""


def readings_of(
    reading: Readings, weights: Sequence[PathLike | None], **first: Any
) -> tuple[Reading, Reading]:
    """The same for two models; ``first`` holds for the source, ``unsafe`` for both."""
    one, two = reading if isinstance(reading, tuple) else (reading, None)
    unsafe = first.get("unsafe", False)
    return (
        reading_of(one, weights=weights[0], **first),
        reading_of(two, weights=weights[1], **({} if two is not None else {"unsafe": unsafe})),
    )
