"""The ``.h5`` of Keras 3 names operations without their module; Keras' own loader takes them for layers of the same name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from netferry.converters.tensorflow.runtime import (
    core_ops,
    image_ops,
    keras,
    legacy_h5,
    linalg_ops,
    math_ops,
    nn_ops,
    numpy_ops,
)

_MODULES = (numpy_ops, nn_ops, math_ops, core_ops, linalg_ops, image_ops)

_MODELS = {"Functional": "keras.src.models.functional", "Sequential": "keras"}


def read(path: Path) -> Any | None:
    """The model in an ``.h5`` of Keras 3; None where no operation stands between its layers."""
    with h5py.File(path, "r") as held:
        config = json.loads(held.attrs["model_config"])
        if not _has_operations(config):
            return None
        model = keras.saving.deserialize_keras_object(_named(config))
        legacy_h5.load_weights_from_hdf5_group(held["model_weights"], model)
    return model


def _layers(entry: Mapping[str, Any]) -> list[Any]:
    config = entry.get("config")
    layers = config.get("layers") if isinstance(config, Mapping) else None
    return layers if isinstance(layers, list) else []


def is_operation(entry: Mapping[str, Any]) -> bool:
    """A layer has a dtype and a flag for training among its settings; an operation has neither."""
    config = entry.get("config")
    return (
        isinstance(config, Mapping)
        and entry.get("class_name") not in _MODELS
        and not config.keys() & {"dtype", "trainable"}
        and _module(str(entry.get("class_name"))) is not None
    )


def _module(name: str) -> str | None:
    return next(
        (module.__name__ for module in _MODULES if isinstance(getattr(module, name, None), type)), None
    )


def _has_operations(entry: Mapping[str, Any]) -> bool:
    return any(is_operation(inner) or _has_operations(inner) for inner in _layers(entry))


def _named(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry as a ``.keras`` has it, with the module of every layer and operation."""
    name = str(entry["class_name"])
    named = dict(entry)
    if _layers(entry):
        named["config"] = {**entry["config"], "layers": [_named(inner) for inner in _layers(entry)]}
    if ">" in name:  # registered by the program that loads it
        return {**named, "class_name": name.rpartition(">")[2], "module": None, "registered_name": name}
    module = _module(name) if is_operation(entry) else _MODELS.get(name, "keras.layers")
    return {**named, "module": module, "registered_name": None}
