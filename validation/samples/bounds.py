"""What inputs may hold, where a model bounds them: the rows of a table that is looked into, lengths, divisors, boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

from netferry.converters import frameworks
from netferry.converters.errors import NetferryError
from netferry.converters.signature import Example, Range, Ranges, Signature


def ranges_of(
    models: Sequence[tuple[object, Signature]], given: Sequence[Example] | None = None
) -> dict[int, list[Range]]:
    """By the position of the first model's inputs; the other models' are met by name, else by position."""
    found: dict[int, list[Range]] = {}
    first = [spec.name for spec in models[0][1].inputs] if models else []
    for model, signature in models:
        own = [spec.name for spec in signature.inputs]
        positions = [first.index(name) for name in own] if set(own) == set(first) else list(range(len(own)))
        for position, ranges in _of(model, given).items():
            found.setdefault(positions[position], []).extend(_moved(one, positions) for one in ranges)
    return found


def _of(model: object, given: Sequence[Example] | None) -> Ranges:
    """The bounds of one model; none where it cannot be looked at."""
    is_file = isinstance(model, str | PathLike)
    framework = frameworks.named("onnx") if is_file else frameworks.of(model)
    try:
        found: Ranges = framework.module("bounds").ranges(model, given)
    except NetferryError:  # what does not run is reported where it is run
        return {}
    return found


def _moved(one: Range, positions: Sequence[int]) -> Range:
    return one if one.within is None else replace(one, within=(positions[one.within[0]], one.within[1]))
