"""Files as Keras 2 wrote them, made from models of Keras 3: its configuration, its names of settings, its archives."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from netferry.converters.tensorflow.runtime import keras

VERSION = "2.15.0"

_ADDED: Mapping[str, Mapping[str, Any]] = {
    "LSTM": {"time_major": False, "implementation": 2},
    "GRU": {"time_major": False, "implementation": 2},
    "SimpleRNN": {"time_major": False},
    "RNN": {"time_major": False},
    "DepthwiseConv2D": {
        "groups": 1,
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
    },
    "SeparableConv2D": {"groups": 1, "kernel_regularizer": None},
    "MultiHeadAttention": {
        "query_shape": [None, 5, 6],
        "key_shape": [None, 5, 6],
        "value_shape": [None, 5, 6],
    },
}
"""What Keras 2 wrote and Keras 3 does not know."""

_GONE = (
    "quantization_config",
    "seed",
    "flash_attention",
    "use_gate",
    "sliding_window",
    "lora_rank",
    "lora_alpha",
    "rms_scaling",
)


def entry(kind: str, name: str, config: Mapping[str, Any], nodes: Sequence[Any] = ()) -> dict[str, Any]:
    """One layer of a configuration."""
    return {
        "class_name": kind,
        "module": "keras.layers",
        "registered_name": None,
        "config": {"name": name, **config},
        "name": name,
        "inbound_nodes": list(nodes),
    }


def given(name: str, shape: Sequence[int | None], dtype: str = "float32") -> dict[str, Any]:
    """An InputLayer."""
    settings = {"batch_input_shape": list(shape), "dtype": dtype, "sparse": False, "ragged": False}
    return entry("InputLayer", name, settings)


def functional(
    layers: Sequence[Any], inputs: Sequence[str], outputs: Any, kind: str = "Functional"
) -> dict[str, Any]:
    config = {
        "name": "model",
        "trainable": True,
        "layers": list(layers),
        "input_layers": [[name, 0, 0] for name in inputs],
        "output_layers": outputs,
    }
    return {
        "class_name": kind,
        "module": "keras.src.engine.functional",
        "config": config,
        "registered_name": kind,
    }


def old_settings(layer: Any) -> dict[str, Any]:
    """A layer's settings in Keras 2's words."""
    settings = {key: value for key, value in layer.get_config().items() if key not in _GONE}
    settings["dtype"] = "float32"
    for key in ("layer", "cell", "backward_layer"):
        if isinstance(settings.get(key), Mapping):
            inner = settings[key]
            kept = {k: v for k, v in inner["config"].items() if k not in _GONE}
            added = _ADDED.get(inner["class_name"], {})
            settings[key] = {
                "class_name": inner["class_name"],
                "config": {**kept, "dtype": "float32", **added},
            }
    if type(layer).__name__ == "LeakyReLU":
        settings["alpha"] = settings.pop("negative_slope")
    if type(layer).__name__ == "BatchNormalization":
        settings = {**settings, "axis": [settings["axis"]], "fused": None}
        for key in ("renorm", "synchronized"):
            settings.pop(key, None)
    return {**settings, **_ADDED.get(type(layer).__name__, {})}


def chain(model: Any) -> dict[str, Any]:
    """The configuration of a model whose layers follow each other."""
    before, layers = (
        model.layers[0],
        [given(model.layers[0].name, model.inputs[0].shape, model.inputs[0].dtype)],
    )
    for layer in model.layers[1:]:
        node: list[Any] = [before.name, 0, 0, {}]
        if isinstance(layer, keras.layers.MultiHeadAttention):
            node[3] = {"value": [before.name, 0, 0], "attention_mask": None}
        layers.append(entry(type(layer).__name__, layer.name, old_settings(layer), [[node]]))
        before = layer
    return functional(layers, [model.layers[0].name], [[before.name, 0, 0]])


def write_h5(path: Path, config: Mapping[str, Any], weights: Mapping[str, Sequence[Any]]) -> Path:
    """The whole-model ``.h5``: for each layer its weights, in their order."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = VERSION, "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
        root = file.create_group("model_weights")
        for name, arrays in weights.items():
            group = root.create_group(name)
            names = [f"{name}/weight_{position}:0" for position in range(len(arrays))]
            group.attrs["weight_names"] = names
            for each, array in zip(names, arrays, strict=True):
                group[each] = np.asarray(array)
    return path


def write_archive(path: Path, config: Mapping[str, Any], model: Any) -> Path:
    """The ``.keras``, whose weights lie as Keras 3 still lays them."""
    held = path.with_suffix(".weights.h5")
    model.save_weights(held)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": VERSION}))
        archive.write(held, "model.weights.h5")
    return path


def written(model: Any, path: Path) -> Path:
    """A chain of layers as a file of Keras 2."""
    if path.suffix == ".keras":
        return write_archive(path, chain(model), model)
    weights = {layer.name: layer.trainable_weights + layer.non_trainable_weights for layer in model.layers}
    return write_h5(path, chain(model), weights)
