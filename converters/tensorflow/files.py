"""Read Keras' ``.keras`` and ``.h5`` and TensorFlow's SavedModel folders; write ``.keras``, SavedModels and TFLite files."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py

from netferry.converters.artifact import Artifact
from netferry.converters.errors import (
    RefusedError,
    Unsupported,
    UnsupportedError,
    UsageError,
    first_line,
)
from netferry.converters.imported import ImportedModel
from netferry.converters.tensorflow import keras2, operations_in_h5, optimizer, safety
from netferry.converters.tensorflow.interface import chosen_signature
from netferry.converters.tensorflow.runtime import keras, quiet, tf
from netferry.converters.tensorflow.safety import limits
from netferry.converters.tensorflow.saved_models import write_saved_model
from netferry.converters.tensorflow.tflite.writing import write_tflite
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Folder, Snapshot

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
"""Keras' messages when it cannot load a file, by parts of them: the problem, and what to do."""


def read(artifact: Artifact, *, weights: Path | None = None, looked: Looked | None = None) -> Any:
    """Load a model; ``weights``, where given, are loaded into it.

    Raises:
        RefusedError: a damaged file, or one that would run code.
    """
    looked = looked or safety.look(artifact, weights)
    model = _READERS[artifact.kind](looked.content, artifact.path, looked.permit)
    if weights is not None:
        load_weights(model, weights, looked.weights)
    return model


def write(imported: ImportedModel, path: Path) -> None:
    """Write ``.keras`` or ``.tflite`` where that is asked for, else a SavedModel folder that serves ONNX's own names.

    A ``.keras`` holds the optimizer that goes on, too: Keras gives the model back compiled with it.

    Raises:
        UnsupportedError: a ``.keras`` is asked for and the model is no functional one, or TFLite lacks an operator.
    """
    if imported.optimizer is not None and path.suffix != ".keras":
        raise UsageError(
            "only a .keras file keeps the state of an optimizer",
            where=str(path),
            received=path.suffix or "a SavedModel",
        )
    if path.suffix == ".tflite":
        write_tflite(imported, path)
        return
    if path.suffix != ".keras":
        write_saved_model(imported, path)
        return
    if imported.form != "functional":
        why = next(iter(imported.notes), "its call is made of TensorFlow's operations")
        raise UnsupportedError(
            [
                Unsupported(
                    path.stem, "graph", f"a .keras file holds functional models only. {why}", _SAVED_MODEL
                )
            ]
        )
    with quiet():
        if imported.optimizer is not None:
            imported.model.compile(optimizer=optimizer.native(imported.optimizer, imported.model))
        _write_keras(imported.model, path)


_SAVED_MODEL = "Write a SavedModel: a destination without a suffix"

_DATE = "1980-01-01@00:00:00"


def _write_keras(model: Any, path: Path) -> None:
    """Keras' archive, written by us: its own writer holds all weights in memory, and writes down the time."""
    config = keras.saving.serialize_keras_object(model)
    metadata = {"keras_version": keras.__version__, "date_saved": _DATE}
    with TemporaryDirectory(dir=path.parent) as folder, zipfile.ZipFile(path, "w") as archive:
        weights = Path(folder, "model.weights.h5")
        model.save_weights(weights)
        for name, document in (("config.json", config), ("metadata.json", metadata)):
            archive.writestr(zipfile.ZipInfo(name), json.dumps(document))
        with (
            archive.open(zipfile.ZipInfo(weights.name), "w", force_zip64=True) as inside,
            weights.open("rb") as content,
        ):
            shutil.copyfileobj(content, inside, _PIECE)


_PIECE = 1 << 20


def load_weights(model: Any, path: Path, looked: Looked | None = None) -> None:
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
    held = (looked or safety.look_at_weights(path, Permit())).content
    name = "model.keras" if held.read(2) == b"PK" else "model.weights.h5"
    if name.endswith(".h5") and not path.name.endswith(".weights.h5"):
        name = "model.h5"  # what Keras 1 and 2 wrote
    position = held.path(name)
    with _loading(path, position):
        model.load_weights(position)


def _keras(held: Snapshot, path: Path, permit: Permit) -> Any:
    return _loaded(held.path("model.keras"), path, permit)


def _loaded(position: Path, path: Path, permit: Permit) -> Any:
    with _loading(path, position), limits.within(position.stat().st_size, str(path)):
        readers = _ODD[position.suffix]
        odd = next((model for read in readers if (model := read(position)) is not None), None)
        if odd is not None:
            return odd
        return keras.saving.load_model(position, compile=False, safe_mode=not permit.unsafe)


_ODD: Mapping[str, tuple[Callable[[Path], Any], ...]] = {
    ".keras": (keras2.read_archive,),
    ".h5": (keras2.read_h5, operations_in_h5.read),
}
"""Readers of what Keras 3 does not load itself; each gives None where that is not so."""


def _h5(held: Snapshot, path: Path, permit: Permit) -> Any:
    """The whole model that Keras 1 and 2 wrote; Keras 3 writes weights alone under this suffix."""
    position = held.path("model.h5")
    try:
        with h5py.File(position, "r") as file:
            whole = "model_config" in file.attrs
    except OSError as error:
        raise RefusedError(f"a damaged HDF5 file ({first_line(error)})", where=str(path)) from error
    if not whole:
        raise RefusedError(
            "weights without their model", where=str(path), remedy=_GIVE_A_FACTORY.format(path.name)
        )
    return _loaded(position, path, permit)


def _saved_model(held: Folder, path: Path, _: Permit) -> Any:
    with _loading(path, held.path):
        model = tf.saved_model.load(str(held.path))
    model.netferry_holds = held  # tables read their assets when they are asked for the first time
    if not model.signatures:
        raise RefusedError(
            "the SavedModel has no signature",
            where=str(path),
            expected="serving_default",
            remedy="Save it with model.export(path), or tf.saved_model.save(model, path, signatures=...)",
        )
    try:
        chosen_signature(model)
    except RefusedError as error:
        raise error.at(str(path)) from None
    return model


_READERS: Mapping[str, Callable[[Any, Path, Permit], Any]] = {
    "keras": _keras,
    "h5": _h5,
    "saved_model": _saved_model,
}


@contextmanager
def _loading(path: Path, position: Path) -> Iterator[None]:
    """Turn whatever a loader of the private copy at ``place`` raises into one sentence with what to do."""
    try:
        with quiet():
            yield
    except RefusedError as error:
        raise error.at(str(path)) from None
    except UnsupportedError:
        raise
    except Exception as error:
        raise _refusal(path, error, first_line(error).replace(str(position), str(path))) from error


def _refusal(path: Path, error: Exception, reason: str) -> RefusedError:
    message = str(error).lower()
    for part, (problem, remedy) in _CAUSES.items():
        if part in message:
            return RefusedError(f"{problem} ({reason})", where=str(path), remedy=remedy)
    damaged = isinstance(error, zipfile.BadZipFile | OSError | KeyError | UnicodeDecodeError)
    problem = "a damaged file" if damaged else "Keras cannot load it"
    return RefusedError(f"{problem} ({reason})", where=str(path))
