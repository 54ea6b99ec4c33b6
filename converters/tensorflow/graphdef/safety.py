"""What a SavedModel or a frozen graph may hold. The reader is our own: nothing of the file runs, and no size is believed.

What it may name is judged as if TensorFlow loaded it, which is what happens where a model is verified.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from netferry.converters import checkpoints
from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.tensorflow.safety import allowlist, saved_graph
from netferry.converters.trust import calls, paths, snapshot, wire
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Snapshot
from netferry.converters.trust.tables import room

MAIN, _VARIABLES = "saved_model.pb", "variables/"
_SHARD = re.compile(rf"{_VARIABLES}variables\.data-(\d{{5,9}})-of-(\d{{5,9}})", re.ASCII)
_CODE = "Cut the model behind it"


def look(artifact: Artifact, weights: Path | None = None, permit: Permit | None = None) -> Looked:
    """Look into a SavedModel's folder, or a frozen graph.

    Raises:
        RefusedError: it is damaged, or its functions or constants grow without bound.
    """
    if weights is not None:
        raise UsageError(
            "weights are loaded into Keras models only", where=str(weights), received=artifact.title
        )
    return _LOOKS[artifact.kind](artifact.path, permit or Permit())


def look_at_weights(path: Path, permit: Permit) -> Looked:
    raise UsageError("weights are loaded into Keras models only", where=str(path))


def _saved_model(folder: Path, permit: Permit) -> Looked:
    where = f"{folder}/{MAIN}"
    main = snapshot.mapped_inside(folder, MAIN, str(folder))
    files = dict(_checkpoint(folder))
    content = bytes(main.view())
    size = main.size + sum(each.size for each in files.values())
    for asset in saved_graph.look(content, size, where, permit):
        with paths.opened_inside(folder / "assets", asset, f"{where}: an asset") as file:
            files[f"assets/{asset}"] = snapshot.copied(file, f"{where}: an asset")
    model = messages.parsed("SavedModel", content, where)
    if not model.graphs:
        raise RefusedError("it holds no graph", where=where)
    return Looked(permit, content=main, message=model, files=files)


def _checkpoint(folder: Path) -> Iterator[tuple[str, Snapshot]]:
    """The files of the variables, each opened once, by their names in the folder."""
    for path in sorted((folder / "variables").glob("variables.*")):
        if path.suffix == ".index" or path.name.startswith("variables.data-"):
            name = f"{_VARIABLES}{path.name}"
            yield name, snapshot.mapped_inside(folder, name, str(folder))


def _frozen(path: Path, permit: Permit) -> Looked:
    content = snapshot.mapped(path)
    graph = messages.parsed("Graph", bytes(content.view()), str(path))
    if not graph.nodes or not all(node.operator for node in graph.nodes):
        raise RefusedError(
            "not a graph of TensorFlow, nor another model that netferry knows", where=str(path)
        )
    _look_at_graph(graph, content.size, str(path), permit)
    return Looked(permit, content=content, message=graph)


def _meta_graph(path: Path, permit: Permit) -> Looked:
    """A graph of TensorFlow 1 and its checkpoint; judged as a SavedModel of this one graph is."""
    main = snapshot.mapped(path)
    content = bytes(main.view())
    files = {
        name: snapshot.mapped_inside(path.parent, own, str(path.parent))
        for name, own in checkpoints.of_tensorflow(path).items()
    }
    alone = bytes([0x12]) + wire.length(len(content)) + content
    saved_graph.look(alone, main.size + sum(each.size for each in files.values()), str(path), permit)
    model = messages.parsed("MetaGraph", content, str(path))
    if not model.graph.nodes:
        raise RefusedError("it holds no graph", where=str(path))
    return Looked(permit, content=main, message=model, files=files)


_LOOKS = {"saved_model": _saved_model, "frozen_graph": _frozen, "meta_graph": _meta_graph}


def _look_at_graph(graph: Any, size: int, where: str, permit: Permit) -> None:
    functions = {each.signature.name: each for each in graph.library.functions}
    counted = {name: (len(each.nodes), list(_calls(each.nodes))) for name, each in functions.items()}
    calls.check(counted, list(_calls(graph.nodes)), where)
    nodes = [*graph.nodes, *(node for each in functions.values() for node in each.nodes)]
    _check_constants(nodes, size, where)
    saved_graph.check_outputs(nodes, size, where)
    known = allowlist.OPERATORS | allowlist.TRAINERS | allowlist.FEEDERS
    strange = {node.operator for node in nodes} - known - set(functions)
    permit.ask("operators that are on no list", strange, where, _CODE)


def _calls(nodes: Iterable[Any]) -> Iterator[str]:
    for node in nodes:
        yield node.operator
        for entry in node.attributes:
            yield from (
                each.name for each in (entry.value.function, *entry.value.list.functions) if each.name
            )


def _check_constants(nodes: Iterable[Any], size: int, where: str) -> None:
    """A constant of one number and a billion places is written out where it is read."""
    limit = room(size)
    for node in nodes:
        if node.operator != "Const":
            continue
        for entry in node.attributes:
            dims = [dim.size for dim in entry.value.tensor.shape.dims]
            if any(dim < 0 for dim in dims) or math.prod(dims) > limit:
                raise RefusedError(
                    f"the constant '{node.name}' is far larger than its file", where=where, received=dims
                )


def checkpoint_files(
    files: Mapping[str, Snapshot],
) -> tuple[Snapshot | None, dict[tuple[int, int], Snapshot]]:
    """The index, and the shards by their numbers and by how many they say that there are."""
    shards = {}
    for name, content in files.items():
        if match := _SHARD.fullmatch(name):
            shards[int(match[1]), int(match[2])] = content
    return files.get(f"{_VARIABLES}variables.index"), shards


def old_files(files: Mapping[str, Snapshot]) -> list[Snapshot]:
    """The files of a checkpoint of TensorFlow's first format."""
    return [content for name, content in files.items() if name.startswith(f"{_VARIABLES}old-")]
