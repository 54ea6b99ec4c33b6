"""What a model is called with, as examples: arrays, and arguments that hold several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from netferry.converters import frameworks, signature, structure
from netferry.converters.signature import Array, Example

PAST, LENGTH = "past_sequence_length", "sequence_length"
"""Sizes of a language model that goes on from a cache, as exporters of such models name them."""

_TOKENS = ("input_ids", "decoder_input_ids", "ids", "tokens", "position_ids", "token_type_ids", "input")
"""Inputs of language models whose second axis is what comes after the past."""


def examples(
    inputs: Mapping[str, Any] | Sequence[Any], dynamic: Mapping[str, Mapping[int, str]] | None = None
) -> tuple[Example, ...]:
    """As ``signature.examples``; an argument that holds several arrays is an input for each, named ``argument.part``.

    What ``dynamic`` says of such an argument holds for all its parts. Left out, a cache's past and what follows it are free
    beside the batch: a past that cannot grow is of no use.
    """
    named = inputs if isinstance(inputs, Mapping) else {f"input_{i}": item for i, item in enumerate(inputs)}
    found, call = structure.arguments(named, by_position=not isinstance(inputs, Mapping))
    arrays = {name: _as_array(array) for name, array in found.items()}
    listed = not isinstance(inputs, Mapping)
    if call is None:
        return tuple(replace(one, positional=listed) for one in signature.examples(arrays, dynamic))
    made = signature.examples(arrays, None if dynamic is None else _of_parts(dynamic, call, arrays))
    if dynamic is None:
        lengths = _lengths(arrays)
        made = tuple(replace(one, free={**one.free, **lengths.get(one.name, {})}) for one in made)
    return tuple(replace(one, call=call, positional=listed) for one in made)


def _as_array(array: Any) -> Array:
    """As numpy has it; a tensor that wants gradients, or of a type that numpy lacks, is read by its own framework."""
    if type(array).__module__.partition(".")[0] == "torch":
        read: Array = frameworks.named("pytorch").live.to_numpy(array)
        return read
    return signature.as_array(array)


def _of_parts(
    dynamic: Mapping[str, Mapping[int, str]], call: structure.Arguments, arrays: Mapping[str, Array]
) -> dict[str, dict[int, str]]:
    """What is free of each input: what is said of it, and what is said of the argument that it is a part of."""
    free: dict[str, dict[int, str]] = {}
    own = {name: axes for name, axes in dynamic.items() if name in arrays}
    for name, axes in dynamic.items():
        parts = [part for part in arrays if part != name and call.of_input(part) == name]
        for part in parts:
            free[part] = {axis: symbol for axis, symbol in axes.items() if axis < arrays[part].ndim}
        if not parts and name not in own:
            free[name] = dict(axes)  # which is refused
    for name, axes in own.items():
        free[name] = {**free.get(name, {}), **axes}
    return free


def _lengths(arrays: Mapping[str, Array]) -> Mapping[str, Mapping[int, str]]:
    """The axes of a cache's past, of the tokens that follow it, and of a mask over both; none where they are not told apart."""
    caches = [
        name
        for name, array in arrays.items()
        if array.ndim == 4 and name.endswith((".key", ".value")) and ".encoder." not in name
    ]
    tokens = {name: array.shape[1] for name, array in arrays.items() if array.ndim == 2 and name in _TOKENS}
    past = {arrays[name].shape[2] for name in caches}
    if len(past) != 1 or len(set(tokens.values())) != 1:
        return {}
    if any(name.endswith(".cumulative_length") for name in arrays):  # a static cache, whose room is fixed
        return {name: {1: LENGTH} for name in tokens}
    both = past.pop() + next(iter(tokens.values()))
    masks = [
        name
        for name, array in arrays.items()
        if array.ndim == 2 and name not in tokens and array.shape[1] == both and array.dtype.kind in "biu"
    ]
    return (
        {name: {2: PAST} for name in caches}
        | {name: {1: LENGTH} for name in tokens}
        | {name: {1: f"{PAST} + {LENGTH}"} for name in masks}
    )
