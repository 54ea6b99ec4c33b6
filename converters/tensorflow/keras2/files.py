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
from netferry.converters.tensorflow.safety.versions import is_old, of_archive


def read_archive(path: Path) -> Any | None:
    """The model in a ``.keras``; None where Keras 3 wrote it."""
    with zipfile.ZipFile(path) as archive:
        metadata = archive.read("metadata.json") if "metadata.json" in archive.namelist() else None
        if not is_old(of_archive(metadata)):
            return None
        model = built(_document(archive.read("config.json")))
        with archive.open("model.weights.h5") as inside, h5py.File(inside, "r") as held:
            weights.load_archive(model, held)
    return model.layer


def read_h5(path: Path) -> Any | None:
    """The model in an ``.h5``; None where Keras 3 wrote it."""
    with h5py.File(path, "r") as held:
        inside = held.get("model_weights", held)
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
