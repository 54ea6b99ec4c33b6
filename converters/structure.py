"""Arguments that hold several arrays (caches, dicts, lists, dataclasses): an input for each array, and the argument made anew."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields as fields_of, is_dataclass
from enum import Enum
from types import FunctionType, MethodType, ModuleType
from typing import Any

from netferry.converters.errors import UsageError

Path = tuple["str | int", ...]
Visit = Callable[[Path, Any], Any]


class Attribute(str):
    """A step of a path that is an attribute of an object, not a key of a mapping."""

    __slots__ = ()


def is_array(value: object) -> bool:
    """A numpy array or a tensor of any framework."""
    return all(hasattr(value, name) for name in ("shape", "dtype", "__array__")) and not isinstance(
        value, type
    )


def is_constant(value: object) -> bool:
    """What is handed to a model's code as it stands: True, a word, None."""
    return value is None or isinstance(value, bool | str)


def holds_several(value: object) -> bool:
    """Whether an argument is made of several arrays, or is an object that a call fills; numbers in lists are one array."""
    if is_array(value) or isinstance(value, int | float | complex | bytes | str | None):
        return False
    if isinstance(value, list | tuple):
        return any(item is None or is_array(item) or holds_several(item) for item in value)
    return isinstance(value, Mapping) or _is_object(value)


# ---- the walk ----------------------------------------------------------------------------------------


def mapped(value: Any, visit: Visit, path: Path = (), done: dict[int, Any] | None = None) -> Any:
    """A copy of ``value`` in which each array is what ``visit(path, array)`` gives; what is private is copied and not visited."""
    done = {} if done is None else done
    if is_array(value):
        return visit(path, value)
    if isinstance(value, tuple):
        items = [mapped(item, visit, (*path, place), done) for place, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if not (isinstance(value, list | Mapping) or _is_object(value)):
        return value
    if id(value) in done:
        return done[id(value)]
    same = done[id(value)] = [] if type(value) is list else copy.copy(value)
    if isinstance(value, list):
        same[:] = [mapped(item, visit, (*path, place), done) for place, item in enumerate(value)]
    elif isinstance(value, Mapping):
        for key, item in value.items():
            same[key] = mapped(item, visit, (*path, str(key)), done)  # type: ignore[index]
    else:
        for name, item in _attributes(value):
            seen = _unvisited if name.startswith("_") else visit
            object.__setattr__(same, name, mapped(item, seen, (*path, Attribute(name)), done))
    return same


def _unvisited(_: Path, array: Any) -> Any:
    return array


def leaves(value: Any) -> dict[Path, Any]:
    """The arrays in a value, by their paths."""
    found: dict[Path, Any] = {}

    def keep(path: Path, array: Any) -> Any:
        found[path] = array
        return array

    mapped(value, keep)
    return found


_PLAIN = (type, FunctionType, MethodType, ModuleType, Enum, set, frozenset, range, slice, bytes, str)


def _is_object(value: object) -> bool:
    """An object with attributes that is no code, no module and no array."""
    if (
        isinstance(value, _PLAIN)
        or callable(value)
        or type(value).__module__ in ("builtins", "torch", "numpy")
    ):
        return False
    return hasattr(value, "__dict__") or is_dataclass(value)


def _attributes(value: Any) -> list[tuple[str, Any]]:
    own = dict(getattr(value, "__dict__", {}))
    if is_dataclass(value):
        own |= {one.name: getattr(value, one.name) for one in fields_of(value) if hasattr(value, one.name)}
    return list(own.items())


# ---- names -------------------------------------------------------------------------------------------

_SAID: Mapping[str, str] = {
    "keys": "key", "values": "value", "key_cache": "key", "value_cache": "value",
    "self_attention_cache": "decoder", "cross_attention_cache": "encoder",
}  # fmt: skip
"""What attributes of caches are called in a name, as exporters of language models have it."""

_ROLES = ("decoder", "encoder", "key", "value")
_PLACES: Mapping[int, tuple[str, ...]] = {
    2: ("key", "value"),
    4: ("decoder.key", "decoder.value", "encoder.key", "encoder.value"),
}
"""What a layer's tuple of that many arrays holds."""


def names(parameter: str, paths: Iterable[Path]) -> dict[Path, str]:
    """``past_key_values.0.key`` for each path: layer, role, key or value, in the order of the layers.

    Raises UsageError where two paths would have one name.
    """
    paths = list(paths)
    places = _pairs(paths) if re.search(r"past|present|cache", parameter) else None
    named = {path: ".".join((parameter, *(_words(path, places)))) for path in paths}
    twice = [name for name in named.values() if list(named.values()).count(name) > 1]
    if twice:
        raise UsageError(f"two arrays of the argument '{parameter}' would be named '{twice[0]}'")
    return dict(sorted(named.items(), key=lambda item: _layer_of(item[1])))


def _pairs(paths: list[Path]) -> tuple[str, ...] | None:
    """What the arrays of a tuple of tuples are, where each layer has as many as a layer of a cache has."""
    if not all(len(path) == 2 and all(isinstance(step, int) for step in path) for path in paths):
        return None
    width = len({path[1] for path in paths})
    return _PLACES.get(width) if len({path[0] for path in paths}) * width == len(paths) else None


def _words(path: Path, places: tuple[str, ...] | None) -> list[str]:
    if places is not None:
        return [str(path[0]), places[int(path[1])]]
    words = [
        _SAID.get(step, step) if isinstance(step, Attribute) else str(step)
        for step in path
        if not (isinstance(step, Attribute) and step == "layers")
    ]
    roles = [
        word
        for word, step in zip(words, _shown(path), strict=True)
        if isinstance(step, Attribute) and word in _ROLES
    ]
    number = next((word for word in words if word.isdigit()), None)
    if number is None or not roles:
        return words
    return [number, *sorted(roles, key=_ROLES.index), *(w for w in words if w not in roles and w != number)]


def _shown(path: Path) -> Iterator[str | int]:
    return (step for step in path if not (isinstance(step, Attribute) and step == "layers"))


def _layer_of(name: str) -> int:
    return next((int(word) for word in name.split(".")[1:] if word.isdigit()), -1)


# ---- arguments ---------------------------------------------------------------------------------------

_COUNTS = re.compile(r"_?(seen_tokens|cumulative_length\w*|(seq_)?length|offset|position|pos)")
"""Attributes in which an object keeps count of what its arrays hold."""
_SURELY = re.compile(r"_?(seen_tokens|cumulative_length\w*)")


@dataclass(frozen=True)
class Argument:
    """A value that holds arrays: their names by path, and the counts that are sizes of them: (name, axis) by path."""

    value: Any
    names: Mapping[Path, str]
    counts: Mapping[Path, tuple[str, int]] = field(default_factory=dict)

    def bound(self, arrays: Mapping[str, Any]) -> Any:
        """The value made anew, of these arrays: what a call does to it, it does to a copy."""
        done: dict[int, Any] = {}
        same = mapped(self.value, lambda path, _: arrays[self.names[path]], (), done)
        for path, (name, axis) in self.counts.items():
            object.__setattr__(_at(same, path[:-1]), str(path[-1]), arrays[name].shape[axis])
        return same


def argument(parameter: str, value: Any) -> Argument:
    """A value with names for its arrays, which begin with that of the parameter."""
    found = leaves(value)
    named = names(parameter, found)
    return Argument(value, named, dict(_counts(value, found, named)))


def _counts(
    value: Any, found: Mapping[Path, Any], named: Mapping[Path, str]
) -> Iterator[tuple[Path, tuple[str, int]]]:
    for path, holder in _objects(value, ()):
        below = next(
            (p for p, array in found.items() if p[: len(path)] == path and len(array.shape) > 2), None
        )
        for name, number in _attributes(holder):
            if type(number) is not int or not _COUNTS.fullmatch(name) or below is None:
                continue
            if number == found[below].shape[-2]:
                yield (*path, Attribute(name)), (named[below], -2)
            elif _SURELY.fullmatch(name):
                raise UsageError(
                    f"the count '{name}' in '{named[below]}' is no size of its arrays, and ONNX has no input for it",
                    expected=f"{found[below].shape[-2]}, the length that it holds",
                    received=number,
                    remedy="Give a cache that keeps its whole past (DynamicCache() without a config), or one shorter than the window",
                )


def _objects(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _objects(item, (*path, place))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _objects(item, (*path, str(key)))
    elif not is_array(value) and _is_object(value):
        yield path, value
        for name, item in _attributes(value):
            if not name.startswith("_"):
                yield from _objects(item, (*path, Attribute(name)))


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = getattr(value, step) if isinstance(step, Attribute) else value[step]
    return value


@dataclass(frozen=True, eq=False)
class Arguments:
    """What a model is called with: arguments that hold arrays, and constants; all others are arrays of their own name.

    ``by_position``: the arguments are numbered (``input_0``) and not named.
    """

    values: Mapping[str, Any]
    by_position: bool = False

    def of_input(self, name: str) -> str:
        """The argument that an input is part of."""
        owners = (
            owner for owner, v in self.values.items() if isinstance(v, Argument) and name in v.names.values()
        )
        return next(owners, name)

    def bound(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Each argument by its name, made of the inputs."""
        return {
            name: value.bound(arrays) if isinstance(value, Argument) else arrays[name] if isinstance(value, Array) else value
            for name, value in self.values.items()
        }  # fmt: skip


class Array:
    """An argument that is one array."""


def arguments(
    inputs: Mapping[str, Any], by_position: bool = False
) -> tuple[dict[str, Any], Arguments | None]:
    """The arrays in what a model is called with, by their names, and how its arguments are made of them.

    The second is None where each argument is an array.
    """
    arrays: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for name, value in inputs.items():
        if holds_several(value):
            values[name] = made = argument(name, value)
            found = leaves(value)
            arrays |= {named: found[path] for path, named in made.names.items()}
        elif is_constant(value):
            values[name] = value
        else:
            values[name], arrays[name] = Array(), value
    plain = all(isinstance(value, Array) for value in values.values())
    return arrays, None if plain else Arguments(values, by_position)
