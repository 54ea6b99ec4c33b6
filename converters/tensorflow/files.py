"""Read Keras' ``.keras`` and ``.h5`` and TensorFlow's SavedModel folders; write ``.keras`` and SavedModels."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from netferry.converters.arrival import Arrival
from netferry.converters.artifact import Artifact
from netferry.converters.errors import (
    CannotCarry,
    RefusedError,
    Unsupported,
    UnsupportedError,
    UsageError,
    first_line,
)
from netferry.converters.tensorflow import live
from netferry.converters.tensorflow.runtime import keras, quiet, tf

_GIVE_A_FACTORY = "Give what builds the model, and the weights: package.module:factory --weights {}"

_CODE = (
    "it holds Python code (a Lambda layer), which is not run from a file",
    "Build the model in Python and give package.module:factory with --weights",
)
_CLASS = (
    "it holds a class that Keras does not know",
    "Import the module that registers it (keras.saving.register_keras_serializable), or give "
    "package.module:factory with --weights",
)
_CAUSES: Mapping[str, tuple[str, str]] = {
    "lambda": _CODE,
    "could not locate": _CLASS,
    "unknown layer": _CLASS,
}
"""What Keras says when it cannot load a file, in words of its messages: the problem, and what to do."""


def read(artifact: Artifact, *, weights: Path | None = None) -> Any:
    """Load a model; ``weights``, where given, are loaded into it.

    Raises:
        RefusedError: a damaged file, or one that would run code.
    """
    model = _READERS[artifact.kind](artifact.path)
    if weights is not None:
        load_weights(model, weights)
    return model


def write(arrival: Arrival, path: Path) -> None:
    """Write ``.keras`` where that is asked for, else a SavedModel folder that serves ONNX's own names.

    Raises:
        UnsupportedError: a ``.keras`` is asked for and the model is no functional one.
    """
    if path.suffix != ".keras":
        _write_saved_model(arrival, path)
        return
    if arrival.form != "functional":
        why = next(iter(arrival.notes), "its call is made of TensorFlow's operations")
        raise UnsupportedError(
            [
                Unsupported(
                    path.stem, "graph", f"a .keras file holds functional models only. {why}", _SAVED_MODEL
                )
            ]
        )
    with quiet():
        arrival.model.save(path)
    _timeless(path)


_SAVED_MODEL = "Write a SavedModel: a destination without a suffix"

_DATE = "1980-01-01@00:00:00"


def _timeless(path: Path) -> None:
    """The same archive without the time of its making: the same model gives the same bytes."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(parts["metadata.json"]) | {"date_saved": _DATE}
    parts["metadata.json"] = json.dumps(metadata).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def _write_saved_model(arrival: Arrival, path: Path) -> None:
    """Inputs and outputs under ONNX's names, as far as TensorFlow takes them; the weights stay trainable."""
    model, names = arrival.model, [spec.name for spec in arrival.signature.outputs]

    def serve(*tensors: Any) -> dict[str, Any]:
        given = list(tensors)
        result = (
            model(*given, training=False) if arrival.form != "functional" else model(given, training=False)
        )
        if isinstance(result, dict):
            return {name: result[name] for name in names}
        return dict(zip(names, tf.nest.flatten(result), strict=True))

    try:
        with quiet():
            archive = keras.export.ExportArchive()
            archive.track(model)
            archive.add_endpoint("serve", serve, input_signature=live.served_specs(model, arrival.signature))
            archive.write_out(str(path), verbose=False)
    except CannotCarry as cannot:
        raise UnsupportedError([Unsupported(path.stem, "graph", cannot.reason, cannot.remedy)]) from cannot


def load_weights(model: Any, path: Path) -> None:
    """Load a ``.weights.h5`` (or ``.keras``) into a Keras model that has been built."""
    if not isinstance(model, keras.Model):
        raise UsageError(
            "weights are loaded into Keras models only", where=str(path), received=type(model).__name__
        )
    if not model.built:
        raise UsageError(
            "the model has no weights before it is built",
            where=str(path),
            remedy="Build it in the factory: give it a keras.Input, or call it once",
        )
    with _loading(path):
        model.load_weights(path)


def _keras(path: Path) -> Any:
    with _loading(path):
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def _h5(path: Path) -> Any:
    """The whole model that Keras 1 and 2 wrote; Keras 3 writes weights alone under this suffix."""
    try:
        with h5py.File(path, "r") as file:
            whole = "model_config" in file.attrs
    except OSError as error:
        raise RefusedError(f"a damaged HDF5 file ({first_line(error)})", where=str(path)) from error
    if not whole:
        raise RefusedError(
            "weights without their model", where=str(path), remedy=_GIVE_A_FACTORY.format(path.name)
        )
    return _keras(path)


def _saved_model(path: Path) -> Any:
    with _loading(path):
        model = tf.saved_model.load(str(path))
    if not model.signatures:
        raise RefusedError(
            "the SavedModel has no signature",
            where=str(path),
            expected="serving_default",
            remedy="Save it with model.export(path), or tf.saved_model.save(model, path, signatures=...)",
        )
    try:
        live.chosen_signature(model)
    except RefusedError as error:
        raise error.at(str(path)) from None
    return model


_READERS: Mapping[str, Callable[[Path], Any]] = {"keras": _keras, "h5": _h5, "saved_model": _saved_model}


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    """Turn whatever a loader raises into one sentence that says what to do."""
    try:
        with quiet():
            yield
    except Exception as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> RefusedError:
    said = str(error).lower()
    for words, (problem, remedy) in _CAUSES.items():
        if words in said:
            return RefusedError(f"{problem} ({first_line(error)})", where=str(path), remedy=remedy)
    damaged = isinstance(error, zipfile.BadZipFile | OSError | KeyError | UnicodeDecodeError)
    problem = "a damaged file" if damaged else "Keras cannot load it"
    return RefusedError(f"{problem} ({first_line(error)})", where=str(path))
