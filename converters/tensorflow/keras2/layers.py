"""One layer of Keras 2 as one of Keras 3: its settings under their new names, without those that say nothing any more."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from netferry.converters.errors import Unsupported, UnsupportedError, first_line
from netferry.converters.tensorflow.keras2 import known
from netferry.converters.tensorflow.keras2.activations import CHANGED
from netferry.converters.tensorflow.names import legal
from netferry.converters.tensorflow.runtime import convnext, keras

Model = Callable[[Mapping[str, Any]], Any]
"""What makes a model of its entry, where one stands inside of a layer."""


def made(entry: Mapping[str, Any], model: Model) -> Any:
    """A layer or a cell from its entry ``{"class_name": ..., "config": {...}}``.

    Raises:
        UnsupportedError: a class or a setting that Keras 3 has no counterpart for, by name.
    """
    old, settings = str(entry["class_name"]), dict(entry["config"])
    own = registered(entry)
    if own is not None:
        return own.from_config(settings)
    kind = getattr(keras.layers, known.RENAMED.get(old, old), None) or _OF_APPLICATIONS.get(old)
    name = str(settings.get("name", old))
    if not isinstance(kind, type):
        raise _unsupported(name, old, "Keras 3 has no such layer")
    settings = {known.ARGUMENTS.get(old, {}).get(key, key): value for key, value in settings.items()}
    settings = _kept(settings, kind, name, old, model)
    try:
        return kind(**settings)
    except Exception as error:  # whatever Keras raises for a value that it does not take
        raise _unsupported(name, old, f"Keras 3 does not build it ({first_line(error)})") from error


_OF_APPLICATIONS: Mapping[str, type] = {"LayerScale": convnext.LayerScale}
"""Layers that live beside the networks of ``keras.applications``."""


def _kept(settings: Mapping[str, Any], kind: type, name: str, old: str, model: Model) -> dict[str, Any]:
    accepted = _accepted(kind)
    strange = {
        key: value
        for key, value in settings.items()
        if key not in accepted and not _says_nothing(key, value) and value is not None
    }
    if strange:
        shown = ", ".join(f"{key}={value!r}" for key, value in sorted(strange.items()))
        raise _unsupported(name, old, f"Keras 3 has no {shown}")
    return {
        key: _value(key, value, model)
        for key, value in settings.items()
        if key in accepted and key not in known.ALWAYS and not key.endswith(known.TRAINING_ONLY)
    }


def _says_nothing(key: str, value: Any) -> bool:
    return (
        key in known.ALWAYS
        or key.endswith(known.TRAINING_ONLY)
        or any(value == default and type(value) is type(default) for default in known.AT_DEFAULT.get(key, ()))
    )


def _accepted(kind: type) -> set[str]:
    """The parameters of a layer's constructor and of those that it hands the rest on to."""
    names: set[str] = set()
    for cls in kind.__mro__:
        parameters = (
            inspect.signature(vars(cls)["__init__"]).parameters.values() if "__init__" in vars(cls) else ()
        )
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self"}


def _value(key: str, value: Any, model: Model) -> Any:
    """One setting: layers and cells inside are made, functions found, policies named."""
    if key == "axis" and isinstance(value, list) and len(value) == 1:
        return value[0]
    if key in ("layer", "backward_layer", "cell") and isinstance(value, Mapping):
        return model(value) if value["class_name"] in known.MODELS else made(value, model)
    if key == "cells":
        return [made(entry, model) for entry in value]
    if key.endswith("activation"):
        return _activation(value, model)
    if key == "dtype":
        return policy(value)
    if key == "name" and "/" in value:
        return legal(value)
    if isinstance(value, list):
        return tuple(_value("", each, model) for each in value)
    return value


def _activation(value: Any, model: Model) -> Any:
    if isinstance(value, Mapping):
        config, own = value.get("config"), registered(value)
        if own is not None:
            return own
        if value.get("class_name") != "function" or not isinstance(config, str):
            return made(value, model)
        value = config
    own = keras.saving.get_registered_object(value) if isinstance(value, str) else None
    return own or CHANGED.get(value, value)


def registered(entry: Mapping[str, Any]) -> Any:
    """A class or function that the program which calls us has registered with Keras under the entry's name."""
    names = [entry.get("registered_name"), entry.get("class_name")]
    if entry.get("class_name") == "function":
        names = [entry.get("registered_name"), entry.get("config")]
    found = (keras.saving.get_registered_object(name) for name in names if isinstance(name, str))
    return next((each for each in found if each is not None), None)


def policy(value: Any) -> Any:
    """A dtype policy, which Keras 2 writes as a name or as ``{"class_name": "Policy", ...}``."""
    return value["config"]["name"] if isinstance(value, Mapping) else value


def _unsupported(name: str, kind: str, reason: str) -> UnsupportedError:
    return UnsupportedError(
        [Unsupported(name, kind, reason, "Build the model in Keras 3 and load the weights into it")]
    )
