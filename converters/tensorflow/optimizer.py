"""Keras' optimizers: what a live one or a ``.keras`` file holds of it, and one that goes on."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from netferry.converters import artifact, training
from netferry.converters.errors import UsageError
from netferry.converters.optimizer import Kind, OptimizerState, Settings, demand_fit, refusal
from netferry.converters.signature import Array
from netferry.converters.tensorflow import safety
from netferry.converters.tensorflow.runtime import keras
from netferry.converters.tensorflow.training import Training
from netferry.converters.trust import texts

_CLASSES: Mapping[str, Kind] = {"SGD": "sgd", "Adam": "adam", "AdamW": "adamw"}
_OWN = ("use_ema", "gradient_accumulation_steps", "loss_scale_factor")
"""Settings of Keras' with which an optimizer keeps more than others do."""


def read(
    state: Any, model: Any, learning_rate: float | None = None, updates: int | None = None
) -> OptimizerState:
    """What an optimizer of Keras' keeps: a live one, a compiled model's, or that of a ``.keras`` file.

    ``model`` is the Keras model that it trains.

    Raises:
        UsageError: another optimizer than SGD, Adam and AdamW, one that has not trained yet, or that of another model.
    """
    where = str(state) if isinstance(state, Path) else f"optimizer of {model.name}"
    native = _stored(state, model, where) if isinstance(state, Path) else getattr(state, "optimizer", state)
    kind = _CLASSES.get(type(native).__name__) if isinstance(native, keras.optimizers.Optimizer) else None
    if kind is None:
        raise refusal(where, type(native).__name__)
    config = native.get_config()
    if kind == "adam" and config["weight_decay"]:
        kind = "adamw"
    odd = [key for key in _OWN if config.get(key)]
    if odd:
        raise refusal(where, f"{type(native).__name__} with {odd[0]}")
    if not native.built:
        raise UsageError("the optimizer has not taken a step yet, and keeps nothing", where=where)
    rate = float(learning_rate or np.asarray(native.learning_rate))
    own = _names(model)
    titles = [own.get(id(v)) for v in native._trainable_variables]
    if None in titles:
        raise UsageError("the optimizer trains variables that are none of the model's", where=where)
    columns = [[np.array(v) for v in column] for column in _columns(native, kind)]
    if kind == "sgd":
        columns = [[array / np.float32(-rate) for array in column] for column in columns]
    moments = {str(name): arrays for name, *arrays in zip(titles, *columns, strict=True) if arrays}
    found = {name: tuple(arrays) for name, arrays in moments.items()}
    demand_fit(found, arrays(model), where)
    return OptimizerState(
        kind, found, updates or int(np.asarray(native.iterations)), _settings(kind, config, rate)
    )


def arrays(model: Any) -> dict[str, Array]:
    """The weights and statistics by their names."""
    made: Any = Training(model, 0)
    return training.arrays_of(made)


def holding(model: Any, values: Mapping[str, Array]) -> AbstractContextManager[Any]:
    """The model with these values in the place of its own."""
    made: Any = Training(model, 0)
    return training.holding(made, values)


def _names(model: Any) -> dict[int, str]:
    """The names under which the model's training knows its variables."""
    return {id(variable): name for name, variable in Training(model, 0).variables.items()}


def _columns(native: Any, kind: Kind) -> Iterator[Sequence[Any]]:
    """What is kept of the variables, one list for each moment."""
    if kind == "sgd":
        if native.momentum:
            yield native.momentums
        return
    yield native._momentums
    yield native._velocities
    if native.amsgrad:
        yield native._velocity_hats


def _settings(kind: Kind, config: Mapping[str, Any], rate: float) -> Settings:
    decay = float(config.get("weight_decay") or 0)
    common: dict[str, Any] = {"learning_rate": rate, "decoupled_decay": decay}
    if kind == "sgd":
        return Settings(**common, momentum=float(config["momentum"]), nesterov=bool(config["nesterov"]))
    betas = float(config["beta_1"]), float(config["beta_2"])
    return Settings(**common, betas=betas, epsilon=float(config["epsilon"]), amsgrad=bool(config["amsgrad"]))


def _stored(path: Path, model: Any, where: str) -> Any:
    """The optimizer of a ``.keras`` file, made anew from its plain settings and filled with what the file keeps."""
    found = artifact.look(path)
    if found.kind != "keras":
        raise UsageError("no file with an optimizer of Keras'", where=where, expected="a .keras file")
    looked = safety.look(found)
    with zipfile.ZipFile(io.BytesIO(looked.content.read())) as archive:
        document = texts.document(archive.read("config.json"), f"{where}: config.json")
        native = _made(document, where)
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
            if "optimizer/vars" not in file:
                raise UsageError("the file keeps no state of its optimizer", where=where)
            native.build(model.trainable_variables)
            store = file["optimizer/vars"]
            kept = {name: np.array(store[name]) for name in store}
    if len(kept) != len(native.variables):
        raise UsageError(
            "the optimizer's state does not fit the model", where=where,
            expected=f"{len(native.variables)} variables", received=f"{len(kept)}",
        )  # fmt: skip
    for place, variable in enumerate(native.variables):
        variable.assign(kept[str(place)])
    return native


def _made(document: Any, where: str) -> Any:
    said = (document.get("compile_config") or {}).get("optimizer") or {}
    name, config = str(said.get("class_name") or ""), said.get("config") or {}
    if name not in _CLASSES:
        raise refusal(where, name or "a file that was saved without an optimizer")
    plain = {key: value for key, value in config.items() if isinstance(value, int | float | bool)}
    if "learning_rate" not in plain:  # a schedule, which is no number
        plain["learning_rate"] = 1.0
    return getattr(keras.optimizers, name)(**plain)


def demand(state: OptimizerState, where: str) -> None:
    """Refuse settings that no optimizer of Keras' has.

    Raises:
        UsageError: a weight decay that is added to the gradient, or no learning rate.
    """
    said = state.settings
    if said.weight_decay:
        raise UsageError(
            f"{state.kind} adds its weight decay to the gradient, which no optimizer of Keras' does",
            where=where,
            remedy="Train with weight_decay=0 and a regularizer, or with AdamW",
        )
    if said.learning_rate is None:
        raise UsageError(
            "nothing says the learning rate",
            where=where,
            remedy="Give learning_rate=, on the command line --learning-rate",
        )


def native(state: OptimizerState, model: Any) -> Any:
    """A Keras optimizer over the model's trainable variables that goes on where ``state`` stands."""
    said = state.settings
    common: dict[str, Any] = {"learning_rate": said.learning_rate}
    if said.decoupled_decay or state.kind == "adamw":
        common["weight_decay"] = said.decoupled_decay
    if state.kind == "sgd":
        made = keras.optimizers.SGD(momentum=said.momentum, nesterov=said.nesterov, **common)
    else:
        adam = keras.optimizers.AdamW if state.kind == "adamw" else keras.optimizers.Adam
        one, two = said.betas
        made = adam(beta_1=one, beta_2=two, epsilon=said.epsilon, amsgrad=said.amsgrad, **common)
    made.build(model.trainable_variables)
    made.iterations.assign(state.steps)
    scale = np.float32(-(said.learning_rate or 1)) if state.kind == "sgd" else np.float32(1)
    own = _names(model)
    for place, column in enumerate(_columns(made, state.kind)):
        for variable, slot in zip(made._trainable_variables, column, strict=True):
            kept: tuple[Array, ...] = state.moments.get(own.get(id(variable), ""), ())
            if kept:
                slot.assign(kept[place] * scale)
    return made


going_on = native
"""What ``model.compile(optimizer=...)`` takes."""
