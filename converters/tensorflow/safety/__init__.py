"""What Keras' and TensorFlow's files may hold: known layers and operators, and arrays that are there."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError
from netferry.converters.tensorflow.safety import allowlist, libraries, saved_graph, versions
from netferry.converters.trust import hdf5, paths, snapshot, texts, zips
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Folder, Snapshot

_CODE = "Build the model in Python and give package.module:factory with --weights"


def look(artifact: Artifact, weights: Path | None = None, permit: Permit | None = None) -> Looked:
    """Look into a ``.keras``, an ``.h5`` or a SavedModel's folder.

    Raises:
        RefusedError: it is damaged, claims more than it has, or would do something else than compute.
    """
    permit = permit or Permit()
    content = _LOOKS[artifact.kind](artifact.path, permit)
    given = None if weights is None else look_at_weights(weights, permit)
    return Looked(permit, content=content, weights=given)


def look_at_weights(path: Path, permit: Permit) -> Looked:
    """Look into a ``.weights.h5``, or the weights in a ``.keras``."""
    where = str(path)
    with paths.opened(path) as file:
        head = file.read(4)
        file.seek(0)
        if head.startswith(b"PK"):
            archive = zips.look(file, where)
            _look_at_arrays(archive)
            return Looked(permit, content=archive.content)
        if head != b"\x89HDF":
            raise RefusedError(
                "no weights that Keras reads",
                where=where,
                expected="a .weights.h5, an .h5 or a .keras file",
            )
        held = snapshot.copied(file, where)
    hdf5.look(held.path("model.h5"), held.size, where)
    return Looked(permit, content=held)


# ---- Keras ---------------------------------------------------------------------------------------


def _look_at_keras(path: Path, permit: Permit) -> Snapshot:
    archive = zips.look(path, str(path))
    where = f"{path}: config.json"
    held = _look_at_arrays(archive)
    metadata = archive.read("metadata.json") if "metadata.json" in archive.entries else None
    old = versions.is_old(versions.of_archive(metadata))
    _look_at_config(texts.document(archive.read("config.json"), where), held, where, permit, old)
    return archive.content


def _look_at_arrays(archive: zips.Archive) -> int:
    """The weights of a ``.keras``: how many bytes they are."""
    held = 0
    for name, entry in archive.entries.items():
        if name.endswith(".h5"):
            content = snapshot.window(archive.view(name))
            hdf5.look(content, entry.file_size, f"{archive.where}: {name}")
            held += entry.file_size
    return held


def _look_at_h5(path: Path, permit: Permit) -> Snapshot:
    held = snapshot.take(path)
    attributes = hdf5.look(held.path("model.h5"), held.size, str(path)).attributes
    config = attributes.get("model_config")
    if isinstance(config, str | bytes):
        where = f"{path}: model_config"
        old = versions.is_old(attributes.get("keras_version"))
        _look_at_config(texts.document(config, where), held.size, where, permit, old)
    return held


_WIDTHS = frozenset("units filters input_dim output_dim num_heads key_dim".split())
"""Settings of a layer of which its weights have at least as many numbers."""


def _look_at_config(config: Any, held: int, where: str, permit: Permit, old: bool) -> None:
    if isinstance(config, dict):  # the optimizer, losses and metrics: Keras does not read them here
        config = {key: value for key, value in config.items() if key != "compile_config"}
    _check_sequences(config, where)
    strange: set[str] = set()
    files: set[str] = set()
    for each in texts.mappings(config, where):
        name = each.get("class_name")
        if name is None:
            continue
        if not isinstance(name, str) or not _is_known(name, each, old):
            strange.add(str(name))
        inner = each.get("config")
        if not isinstance(inner, dict):
            continue
        if (
            isinstance(name, str)
            and name in allowlist.LOOKUPS
            and isinstance(inner.get("vocabulary", inner.get("bin_boundaries")), str)
        ):
            files.add(name)
        too_wide = [
            key for key in sorted(_WIDTHS & inner.keys()) if isinstance(inner[key], int) and inner[key] > held
        ]
        if too_wide:
            raise RefusedError(
                f"the layer '{inner.get('name')}' is far larger than its weights",
                where=where,
                received=f"{too_wide[0]} {inner[too_wide[0]]:,}",
            )
    permit.ask(run_layers(strange), strange, where, _CODE)
    permit.ask("layers that read a vocabulary from a file", files, where, _CODE)


_MOST_BUILDS = 100_000
"""Layers that Keras may have to build: of a Sequential it builds all that stand before each."""


def _check_sequences(config: Any, where: str) -> None:
    """Refuse Sequential models so long, or so nested, that Keras would build their layers without end."""
    builds = 0
    for each in texts.mappings(config, where):
        inner = each.get("config")
        if each.get("class_name") != "Sequential" or not isinstance(inner, dict):
            continue
        layers = inner.get("layers")
        if not isinstance(layers, list):
            continue
        builds += len(layers) * sum(1 for one in texts.mappings(layers, where) if "class_name" in one) // 2
        if builds > _MOST_BUILDS:
            raise RefusedError(
                f"the Sequential model '{inner.get('name')}' has {len(layers):,} layers, all of which Keras builds anew for each",
                where=where,
                remedy="Save it as a functional model",
            )


def run_layers(strange: set[str]) -> str:
    code = strange & {"Lambda", "__lambda__"}
    return "Python code (a Lambda layer)" if code else "a class that Keras does not know as one of its layers"


def _is_known(name: str, each: Mapping[str, Any], old: bool) -> bool:
    """Whether Keras has a class or function, or our caller; of an old file's entries the names alone are taken."""
    module, registered = each.get("module"), each.get("registered_name")
    if not isinstance(module, str | None) or not isinstance(registered, str | None):
        return False
    if name == "function":
        function = each.get("config")
        return isinstance(function, str) and (function in allowlist.FUNCTIONS or _is_registered({function}))
    if module in allowlist.OPERATIONS:
        return name.isidentifier()
    keras_own = old or module in (None, "builtins") or module == "keras" or module.startswith("keras.")
    if (keras_own and name in allowlist.CLASSES) or _is_registered({name, registered or name}):
        return True
    return libraries.has(module or "", name) or (module is None and not old and _is_operation(each))


def _is_operation(each: Mapping[str, Any]) -> bool:
    """Whether an ``.h5`` names an operation, which it does without its module."""
    known: bool = import_module("netferry.converters.tensorflow.operations_in_h5").is_operation(each)
    return known


def _is_registered(names: set[str]) -> bool:
    """Classes that the program which calls us has registered with Keras are its own, and not the file's."""
    keras = sys.modules.get("keras")
    return keras is not None and any(keras.saving.get_registered_object(name) is not None for name in names)


# ---- SavedModels ---------------------------------------------------------------------------------


_READ = re.compile(r"(saved_model|fingerprint|keras_metadata)\.pb|(variables|assets|assets\.extra)(/.+)?")
"""The files of a SavedModel that TensorFlow reads."""


def _look_at_saved_model(folder: Path, permit: Permit) -> Folder:
    held = Folder(folder, [name for name in paths.contained(folder) if _READ.fullmatch(name)])
    where = str(folder / "saved_model.pb")
    if not (held.path / "saved_model.pb").is_file():
        raise RefusedError("it was replaced while it was read", where=str(folder))
    for asset in saved_graph.look((held.path / "saved_model.pb").read_bytes(), held.size, where, permit):
        paths.opened_inside(held.path / "assets", asset, f"{where}: an asset").close()
    return held


_LOOKS = {"keras": _look_at_keras, "h5": _look_at_h5, "saved_model": _look_at_saved_model}
