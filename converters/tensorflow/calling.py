"""How Python code of a user's own takes its tensors: one by one, by name, in a list, in a mapping, nested."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np

from netferry.converters.signature import Example, TensorSpec
from netferry.converters.tensorflow.declared import dims_of
from netferry.converters.tensorflow.runtime import keras, quiet, tf

_CONTEXT = ("training", "mask")
"""Arguments of ``call`` that are no inputs."""


@dataclass(frozen=True)
class Form:
    """The arguments of a call; instead of tensors they hold places in the order of ``names``."""

    names: tuple[str, ...]
    places: tuple[Any, ...] = ()
    named: Mapping[str, Any] | None = None

    def arguments(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments with these tensors in their places."""

        def filled(place: Any) -> Any:
            return _mapped(lambda position: tensors[position], place)

        return tuple(map(filled, self.places)), {key: filled(x) for key, x in (self.named or {}).items()}

    def ordered(self, given: Sequence[Example]) -> list[Example]:
        """Examples by their names where all of them are the form's, else as they come."""
        by_name = {example.name: example for example in given}
        return [by_name[name] for name in self.names] if set(by_name) == set(self.names) else list(given)


_KNOWN: WeakKeyDictionary[Any, Form] = WeakKeyDictionary()
"""The form in which a model was found to take its tensors, for those who have arrays alone."""


def form_for(model: Any, call: Callable[..., Any], run: Callable[..., Any], given: Sequence[Example]) -> Form:
    """The form in which ``call`` takes examples of these names; where several fit, the first that runs.

    ``run(*places, **named)`` calls the model; ``call`` shows the parameters.
    """
    known, names = _KNOWN.get(model), {example.name for example in given}
    nameless = all(map(_NUMBERED.fullmatch, names))
    if known is not None and (set(known.names) == names or (nameless and len(known.names) == len(given))):
        return known
    forms = list(_forms(model, call, [example.name for example in given]))
    form = forms[0] if len(forms) == 1 else next((f for f in forms if _runs(run, f, given)), forms[0])
    _KNOWN[model] = form
    return form


def known_form(model: Any, call: Callable[..., Any], count: int) -> Form:
    """The form in which a model takes so many tensors: as it was found to, as it was built, or one by one."""
    for form in (_KNOWN.get(model), recorded_form(model, call)):
        if form is not None and len(form.names) == count:
            return form
    return Form((), tuple(range(count)))


def _forms(model: Any, call: Callable[..., Any], names: Sequence[str]) -> Iterator[Form]:
    recorded = recorded_form(model, call)
    if recorded is not None and set(recorded.names) == set(names):
        yield recorded
        return
    count, parameters = len(names), _parameters(call)
    if set(names) <= set(parameters) and set(_required(call)) <= set(names):
        yield Form(tuple(names), named={name: place for place, name in enumerate(names)})
        return
    if recorded is not None and len(recorded.names) == count:
        yield Form(tuple(names), recorded.places, recorded.named)
        return
    if count <= len(parameters) or _open_ended(call):
        yield Form(tuple(names), tuple(range(count)))
    mapping = Form(tuple(names), ({name: place for place, name in enumerate(names)},))
    several = Form(tuple(names), (list(range(count)),))
    yield from (several, mapping) if all(map(_NUMBERED.fullmatch, names)) else (mapping, several)


_NUMBERED = re.compile(r"input_\d+")
"""Names that nobody gave."""


def _runs(run: Callable[..., Any], form: Form, given: Sequence[Example]) -> bool:
    places, named = form.arguments([tf.convert_to_tensor(example.array) for example in form.ordered(given)])
    try:
        with quiet():
            run(*places, **named)
    except Exception:  # whatever code raises that looks for something else
        return False
    return True


# ---- what a call shows ------------------------------------------------------------------------


def _inputs(call: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in _CONTEXT]


def _parameters(call: Callable[..., Any]) -> list[str]:
    return [parameter.name for parameter in _inputs(call)]


def argument_names(model: Any, call: Callable[..., Any]) -> tuple[str, ...]:
    """What the inputs of a model may be called by its own code: its parameters, and the parts of them that Keras noted; nothing
    where it takes any number."""
    if _open_ended(call):
        return ()
    parameters = inspect.signature(call).parameters.values()
    recorded = recorded_form(model, call)
    parts = () if recorded is None else recorded.names
    return tuple(dict.fromkeys((*(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD), *parts)))


def _required(call: Callable[..., Any]) -> list[str]:
    return [parameter.name for parameter in _inputs(call) if parameter.default is parameter.empty]


def _open_ended(call: Callable[..., Any]) -> bool:
    try:
        return any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(call).parameters.values())
    except (TypeError, ValueError):
        return True


# ---- what Keras notes of the first call -------------------------------------------------------


def recorded_form(model: Any, call: Callable[..., Any]) -> Form | None:
    """The form of the shapes that Keras noted when it built the model; None where it noted none, or not all."""
    shapes = _recorded(model, call)
    if shapes is None:
        return None
    names = list[str]()  # AutoGraph, which may read this, takes no annotated name into a function within

    def placed(value: Any, path: tuple[str, ...], owner: str) -> Any:
        if _is_shape(value):
            names.append("_".join(path) or owner)
            return len(names) - 1
        if isinstance(value, Mapping):
            return {key: placed(inner, (*path, str(key)), owner) for key, inner in value.items()}
        several = [
            placed(inner, (*(path or (owner,)), str(number)), owner) for number, inner in enumerate(value)
        ]
        return tuple(several) if isinstance(value, tuple) else several

    named = {name: placed(value, (), name) for name, value in shapes.items()}
    return Form(tuple(names), named=named) if names else None


def recorded_specs(model: Any, call: Callable[..., Any]) -> tuple[TensorSpec, ...] | None:
    """The inputs of a model that has been built: the batch is free; what an Embedding looks up is integers.

    Of dtypes Keras notes nothing; as in its own export they are the model's, but for indices.
    """
    form, shapes = recorded_form(model, call), _recorded(model, call)
    if form is None or shapes is None:
        return None
    leaves = [shape for value in shapes.values() for shape in _leaves(value)]
    reached = looked_up(model, call)
    kinds = ["int32" if place in reached else str(model.input_dtype) for place in range(len(leaves))]
    return tuple(
        TensorSpec(name, np.dtype(kind), dims_of(name, (None, *shape[1:]) if shape else ()))
        for name, kind, shape in zip(form.names, kinds, leaves, strict=True)
    )


def _recorded(model: Any, call: Callable[..., Any]) -> dict[str, Any] | None:
    noted = getattr(model, "_build_shapes_dict", None)
    parameters = _parameters(call)
    if not isinstance(noted, Mapping) or not noted or not parameters:
        return None
    shapes = {str(key).removesuffix("_shape"): value for key, value in noted.items() if value is not None}
    if len(shapes) == 1:
        shapes = {parameters[0]: next(iter(shapes.values()))}
    complete = set(_required(call)) <= set(shapes) <= set(parameters)
    return shapes if complete and all(map(_is_structure, shapes.values())) else None


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(size, int | None) for size in value)


def _is_structure(value: Any) -> bool:
    if _is_shape(value):
        return True
    inner = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, Mapping | tuple | list) and all(map(_is_structure, inner))


def _leaves(value: Any) -> Iterator[Sequence[int | None]]:
    if _is_shape(value):
        yield value
        return
    for inner in value.values() if isinstance(value, Mapping) else value:
        yield from _leaves(inner)


def _mapped(function: Callable[[int], Any], place: Any) -> Any:
    if isinstance(place, Mapping):
        return {key: _mapped(function, inner) for key, inner in place.items()}
    if isinstance(place, list | tuple):
        return type(place)(_mapped(function, inner) for inner in place)
    return function(place)


# ---- which inputs are indices -----------------------------------------------------------------

_LOCK = threading.Lock()
_LOOKED_UP: WeakKeyDictionary[Any, dict[int, int]] = WeakKeyDictionary()


def looked_up(model: Any, call: Callable[..., Any]) -> dict[int, int]:
    """By the place of an input that goes straight into an Embedding, how many rows that has: seen in a run on zeros."""
    if model in _LOOKED_UP:
        return _LOOKED_UP[model]
    form, shapes = recorded_form(model, call), _recorded(model, call) or {}
    if form is None:
        return {}
    leaves = [shape for value in shapes.values() for shape in _leaves(value)]
    zeros = [tf.zeros([size or 2 for size in shape], model.input_dtype) for shape in leaves]
    _LOOKED_UP[model] = _seen(model, form, zeros)
    return _LOOKED_UP[model]


def _seen(model: Any, form: Form, zeros: Sequence[Any]) -> dict[int, int]:
    positions = {id(tensor): place for place, tensor in enumerate(zeros)}
    found: dict[int, int] = {}
    original = keras.layers.Embedding.call

    def call(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if id(inputs) in positions:
            found[positions[id(inputs)]] = self.input_dim
        return original(self, inputs, *args, **kwargs)

    places, named = form.arguments(zeros)
    with _LOCK, quiet(), mock.patch.object(keras.layers.Embedding, "call", call):
        try:
            model(*places, **named, training=False)
        except Exception:  # it takes something else than zeros: nothing is known
            return {}
    return found
