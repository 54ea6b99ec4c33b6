"""What a SavedModel or a frozen graph may hold. The reader is our own: nothing of the file runs, and no size is believed.

What would act outside the model has no row in ``to_onnx``; before TensorFlow itself loads such a file, ``native.py`` has it
looked at as strictly as TensorFlow's loader asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.trust import calls, snapshot
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Snapshot
from netferry.converters.trust.tables import room

MAIN, VARIABLES = "saved_model.pb", "variables/variables"


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
    model = messages.parsed("SavedModel", bytes(main.view()), where)
    if not model.graphs:
        raise RefusedError("it holds no graph", where=where)
    size = main.size
    for meta in model.graphs:
        _look_at_graph(meta.graph, size, where)
    return Looked(permit, content=main, message=model, files=dict(_checkpoint(folder)))


def _checkpoint(folder: Path) -> Iterator[tuple[str, Snapshot]]:
    """The files of the variables, each opened once, by their names in the folder."""
    for path in sorted((folder / "variables").glob("variables.*")):
        if path.suffix == ".index" or path.name.startswith("variables.data-"):
            yield path.name, snapshot.mapped_inside(folder, f"variables/{path.name}", str(folder))


def _frozen(path: Path, permit: Permit) -> Looked:
    content = snapshot.mapped(path)
    graph = messages.parsed("Graph", bytes(content.view()), str(path))
    if not graph.nodes or not all(node.operator for node in graph.nodes):
        raise RefusedError(
            "not a graph of TensorFlow, nor another model that netferry knows", where=str(path)
        )
    _look_at_graph(graph, content.size, str(path))
    return Looked(permit, content=content, message=graph)


_LOOKS = {"saved_model": _saved_model, "frozen_graph": _frozen}


def _look_at_graph(graph: Any, size: int, where: str) -> None:
    functions = {each.signature.name: each for each in graph.library.functions}
    counted = {name: (len(each.nodes), list(_calls(each.nodes))) for name, each in functions.items()}
    calls.check(counted, list(_calls(graph.nodes)), where)
    _check_constants(graph.nodes, size, where)
    for each in functions.values():
        _check_constants(each.nodes, size, where)


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


def checkpoint_files(files: Mapping[str, Snapshot]) -> tuple[Snapshot | None, dict[int, Snapshot]]:
    """The index, and the shards by their numbers."""
    shards = {}
    for name, content in files.items():
        if name.startswith("variables.data-"):
            number = name.removeprefix("variables.data-").partition("-")[0]
            if number.isdigit():
                shards[int(number)] = content
    return files.get("variables.index"), shards
