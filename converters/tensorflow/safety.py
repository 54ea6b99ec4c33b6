"""What Keras' and TensorFlow's files may hold: known layers and operators, and arrays that are there."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError
from netferry.converters.tensorflow import trusted
from netferry.converters.trust import calls, hdf5, paths, snapshot, texts, zips
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Folder, Snapshot
from netferry.converters.trust.tables import ALWAYS, MOST_TIMES
from netferry.converters.trust.wire import Message

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
    _look_at_config(texts.document(archive.read("config.json"), where), held, where, permit)
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
    config = hdf5.look(held.path("model.h5"), held.size, str(path)).attributes.get("model_config")
    if isinstance(config, str | bytes):
        where = f"{path}: model_config"
        _look_at_config(texts.document(config, where), held.size, where, permit)
    return held


_WIDTHS = frozenset("units filters input_dim output_dim num_heads key_dim".split())
"""Settings of a layer of which its weights have at least as many numbers."""


def _look_at_config(config: Any, held: int, where: str, permit: Permit) -> None:
    if isinstance(config, dict):  # the optimizer, losses and metrics: Keras is told not to read them
        config = {key: value for key, value in config.items() if key != "compile_config"}
    strange: set[str] = set()
    files: set[str] = set()
    for each in texts.mappings(config, where):
        name = each.get("class_name")
        if name is None:
            continue
        if not isinstance(name, str) or not _is_known(name, each):
            strange.add(str(name))
        inner = each.get("config")
        if not isinstance(inner, dict):
            continue
        if (
            isinstance(name, str)
            and name in trusted.LOOKUPS
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
    permit.ask(_layers(strange), strange, where, _CODE)
    permit.ask("layers that read a vocabulary from a file", files, where, _CODE)


def _layers(strange: set[str]) -> str:
    code = strange & {"Lambda", "__lambda__"}
    return "Python code (a Lambda layer)" if code else "a class that Keras does not know as one of its layers"


def _is_known(name: str, each: Mapping[str, Any]) -> bool:
    module, registered = each.get("module"), each.get("registered_name")
    if not isinstance(module, str | None) or not isinstance(registered, str | None):
        return False
    if name == "function":
        return each.get("config") in trusted.FUNCTIONS if isinstance(each.get("config"), str) else False
    if module in trusted.OPERATIONS:
        return name.isidentifier()
    keras_own = module in (None, "builtins") or module == "keras" or module.startswith("keras.")
    return (keras_own and name in trusted.CLASSES) or _is_registered({name, registered or name})


def _is_registered(names: set[str]) -> bool:
    """Classes that the program which calls us has registered with Keras are its own, and not the file's."""
    keras = sys.modules.get("keras")
    return keras is not None and any(keras.saving.get_registered_object(name) is not None for name in names)


# ---- SavedModels ---------------------------------------------------------------------------------

_META_GRAPHS, _GRAPH, _SAVER, _ASSETS, _OBJECTS = 2, 2, 3, 6, 7
_NODES, _LIBRARY, _FUNCTIONS = 1, 2, 1
_SIGNATURE, _BODY = 1, 3
_NAME, _OPERATOR, _ATTRIBUTES = 1, 2, 5
_VALUE, _LIST, _TENSOR, _FUNCTION = 2, 1, 8, 10
_LISTED_FUNCTIONS = 9
_SHAPE, _DIM, _CONTENT = 2, 2, 4
_CONCRETE = 2
"""Field numbers of tensorflow/core/protobuf and framework: SavedModel, MetaGraphDef, GraphDef, FunctionDef, NodeDef, AttrValue, TensorProto."""


_READ = re.compile(r"(saved_model|fingerprint|keras_metadata)\.pb|(variables|assets|assets\.extra)(/.+)?")
"""The files of a SavedModel that TensorFlow reads."""


def _look_at_saved_model(folder: Path, permit: Permit) -> Folder:
    held = Folder(folder, [name for name in paths.contained(folder) if _READ.fullmatch(name)])
    where = str(folder / "saved_model.pb")
    if not (held.path / "saved_model.pb").is_file():
        raise RefusedError("it was replaced while it was read", where=str(folder))
    model = Message(memoryview((held.path / "saved_model.pb").read_bytes()), where)
    for graph in model.parts(_META_GRAPHS):
        _look_at_graph(graph, held.size, where, permit)
        for asset in graph.parts(_ASSETS):
            paths.opened_inside(held.path / "assets", asset.text(2), f"{where}: an asset").close()
    return held


def _look_at_graph(meta: Message, size: int, where: str, permit: Permit) -> None:
    main = [node for graph in meta.parts(_GRAPH) for node in graph.parts(_NODES)]
    functions = {
        signature.text(_NAME): list(function.parts(_BODY))
        for function in meta.parts(_GRAPH, _LIBRARY, _FUNCTIONS)
        for signature in function.parts(_SIGNATURE)
    }
    called = {name: [each for node in nodes for each in _called(node)] for name, nodes in functions.items()}
    calls.check(
        {name: (len(nodes), called[name]) for name, nodes in functions.items()},
        [name for node in main for name in _called(node)] + _concrete(meta),
        where,
    )
    _check_constants([*main, *(node for nodes in functions.values() for node in nodes)], size, where)
    bodies = {**functions, "": main}
    operators = {name: {node.text(_OPERATOR) for node in nodes} for name, nodes in bodies.items()}
    strange = set().union(*operators.values()) - trusted.OPERATORS - trusted.SAVERS - functions.keys()
    permit.ask("operators that are on no list", strange, where, _CODE)
    permit.ask("operators that read or write files", _reached(meta, main, called, operators), where, _CODE)


def _reached(
    meta: Message, main: Sequence[Message], called: Mapping[str, list[str]], operators: Mapping[str, set[str]]
) -> set[str]:
    """Operators of saving and restoring that something else than the saver reaches."""
    saver = {
        re.sub(r":\d+$", "", name)
        for part in meta.parts(_SAVER)
        for number in (1, 2, 3)
        for name in part.texts(number)
    }
    old = any(node.text(_OPERATOR) in trusted.SAVERS for node in main)
    waiting = [name for node in main if node.text(_NAME) not in saver for name in _called(node)] + _concrete(
        meta
    )
    found, seen = set(), set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            found |= operators.get(name, set()) & trusted.SAVERS
            waiting.extend(called.get(name, ()))
    return found | (
        {node.text(_OPERATOR) for node in main} & trusted.SAVERS if old and _outside(main) else set()
    )


def _outside(main: Sequence[Message]) -> bool:
    """In a graph of TensorFlow 1 the saver's nodes stand in a scope of their own, ``save``."""
    nodes = (node for node in main if node.text(_OPERATOR) in trusted.SAVERS)
    return any(not re.match(r"save(_\d+)?/", node.text(_NAME)) for node in nodes)


def _concrete(meta: Message) -> list[str]:
    """Functions that the loaded object offers, or runs while it is loaded."""
    return [entry.text(1) for entry in meta.parts(_OBJECTS, _CONCRETE)]


def _called(node: Message) -> Iterator[str]:
    """The functions that a node names in its attributes; an operator may be one itself."""
    yield node.text(_OPERATOR)
    for value in node.parts(_ATTRIBUTES, _VALUE):
        for function in value.parts(_FUNCTION):
            yield function.text(_NAME)
        for function in value.parts(_LIST, _LISTED_FUNCTIONS):
            yield function.text(_NAME)


def _check_constants(nodes: Sequence[Message], size: int, where: str) -> None:
    """A constant of one number and a billion places is written out as soon as the graph is loaded."""
    limit = max(ALWAYS, MOST_TIMES * size)
    for node in nodes:
        for tensor in node.parts(_ATTRIBUTES, _VALUE, _TENSOR):
            dims = [next(iter(dim.numbers(1)), 0) for dim in tensor.parts(_SHAPE, _DIM)]
            if any(dim < 0 for dim in dims) or math.prod(dims) > limit:
                raise RefusedError(
                    f"the constant '{node.text(_NAME)}' is far larger than its file",
                    where=where,
                    received=dims,
                )


_LOOKS = {"keras": _look_at_keras, "h5": _look_at_h5, "saved_model": _look_at_saved_model}
