"""Files of Keras 1 and 2: the whole-model ``.h5``, and the ``.keras`` archive of Keras 2.12 and later."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from netferry.converters.errors import RefusedError
from netferry.converters.tensorflow.keras2 import weights
from netferry.converters.tensorflow.keras2.graph import built


def is_old(version: Any) -> bool:
    """Whether a file's ``keras_version`` is one before 3; the first files had none."""
    text = version.decode("utf-8", "replace") if isinstance(version, bytes) else version
    return not isinstance(text, str) or text.partition(".")[0] in ("0", "1", "2")


def read_archive(path: Path) -> Any | None:
    """The model in a ``.keras``; None where Keras 3 wrote it."""
    with zipfile.ZipFile(path) as archive:
        if not is_old(_version(archive)):
            return None
        model = built(_document(archive.read("config.json")))
        with archive.open("model.weights.h5") as inside, h5py.File(inside, "r") as held:
            weights.load_archive(model, held)
    return model.layer


def _version(archive: zipfile.ZipFile) -> Any:
    if "metadata.json" not in archive.namelist():
        return "3"
    metadata = json.loads(archive.read("metadata.json"))
    return metadata.get("keras_version", "3") if isinstance(metadata, Mapping) else "3"


def read_h5(path: Path) -> Any | None:
    """The model in an ``.h5``; None where Keras 3 wrote it."""
    with h5py.File(path, "r") as held:
        inside = held["model_weights"] if "model_weights" in held else held
        if not is_old(held.attrs.get("keras_version", inside.attrs.get("keras_version"))):
            return None
        model = built(_document(held.attrs["model_config"]))
        weights.load_h5(model, inside)
    return model.layer


def _document(text: str | bytes) -> Mapping[str, Any]:
    document = json.loads(text)
    if not isinstance(document, Mapping):
        raise RefusedError("its configuration is no model")
    return document
