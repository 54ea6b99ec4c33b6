"""SavedModels: graphs with operators that act, functions without end, folders that lead elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Kit, case, cases

LISTED, FILES = "operators that are on no list", "read or write files"


def changed(kit: Kit, change: Callable[[Any], object]) -> Path:
    """A copy of the good SavedModel whose message is another."""
    from tensorflow.core.protobuf import saved_model_pb2

    folder = kit.copy("served")
    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    change(message.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(message.SerializeToString())
    return folder


def _body(graph: Any) -> Any:
    """The function that computes the model."""
    return next(
        f for f in graph.graph_def.library.function if "__call__" in f.signature.name and len(f.node_def) > 4
    )


def _node(operator: str, where: str) -> Callable[[Any], object]:
    def change(graph: Any) -> None:
        nodes = graph.graph_def.node if where == "main" else _body(graph).node_def
        nodes.add(name="evil", op=operator)

    return change


ACTING = {
    "ReadFile": LISTED, "WriteFile": LISTED, "MatchingFiles": LISTED, "PyFunc": LISTED, "PyFuncStateless": LISTED,
    "EagerPyFunc": LISTED, "PrintV2": LISTED, "InitializeTableFromTextFileV2": LISTED, "TFRecordReaderV2": LISTED,
    "WholeFileReaderV2": LISTED, "TextLineDataset": LISTED, "SaveDatasetV2": LISTED, "LoadDataset": LISTED,
    "RpcCall": LISTED, "GcsConfigureCredentials": LISTED, "ImmutableConst": LISTED, "DebugIdentityV2": LISTED,
    "RemoteCall": LISTED, "SaveV2": FILES, "RestoreV2": FILES, "MergeV2Checkpoints": FILES, "NoSuchOperator": LISTED,
}  # fmt: skip

cases({name: ((name, "function"), words) for name, words in ACTING.items()}, "served_function_with")(
    lambda kit, given: changed(kit, _node(*given))  # type: ignore[misc]
)
cases({name: ((name, "main"), words) for name, words in list(ACTING.items())[:7]}, "served_graph_with")(
    lambda kit, given: changed(kit, _node(*given))  # type: ignore[misc]
)


@case(FILES)
def served_function_that_calls_the_saver(kit: Kit) -> Path:
    def change(graph: Any) -> None:
        saver = next(
            f.signature.name for f in graph.graph_def.library.function if "traced_save" in f.signature.name
        )
        node = _body(graph).node_def.add(name="evil", op="StatefulPartitionedCall")
        node.attr["f"].func.name = saver

    return changed(kit, change)


@case(FILES)
def served_object_that_offers_the_saver(kit: Kit) -> Path:
    def change(graph: Any) -> None:
        saver = next(
            f.signature.name for f in graph.graph_def.library.function if "traced_restore" in f.signature.name
        )
        graph.object_graph_def.concrete_functions[saver].SetInParent()

    return changed(kit, change)


def _function(graph: Any, name: str, called: list[str]) -> None:
    function = graph.graph_def.library.function.add()
    function.signature.name = name
    for place, each in enumerate(called):
        node = function.node_def.add(name=f"n{place}", op="PartitionedCall")
        node.attr["f"].func.name = each


def _doubling(graph: Any) -> None:
    for level in range(30):
        _function(graph, f"f{level}", [f"f{level + 1}"] * 2)
    _function(graph, "f30", [])
    _body(graph).node_def.add(name="evil", op="f0")


@case("into [0-9,]+ nodes")
def served_functions_that_double(kit: Kit) -> Path:
    return changed(kit, _doubling)


@case("calls itself")
def served_function_that_calls_itself(kit: Kit) -> Path:
    def change(graph: Any) -> None:
        _function(graph, "f", ["f"])
        _body(graph).node_def.add(name="evil", op="f")

    return changed(kit, change)


@case("far larger than its file")
def served_constant_of_terabytes(kit: Kit) -> Path:
    def change(graph: Any) -> None:
        node = _body(graph).node_def.add(name="huge", op="Const")
        node.attr["dtype"].type = 1
        tensor = node.attr["value"].tensor
        tensor.dtype = 1
        tensor.float_val.append(1.0)
        tensor.tensor_shape.dim.add(size=1 << 40)

    return changed(kit, change)


@case("outside its folder")
def served_asset_from_elsewhere(kit: Kit) -> Path:
    kit.secret.touch()
    return changed(kit, lambda graph: graph.asset_file_def.add(filename="../../../secret.bin"))


@case("outside its folder")
def served_asset_with_a_whole_path(kit: Kit) -> Path:
    return changed(kit, lambda graph: graph.asset_file_def.add(filename="/etc/hostname"))


def _spoil(kit: Kit, name: str, spoil: Callable[[Path], object]) -> Path:
    folder = kit.copy("served")
    spoil(folder / name)
    return folder


def _cut(part: float) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


DATA, INDEX = "variables/variables.data-00000-of-00001", "variables/variables.index"
cases(
    {
        "graph_empty": (
            ("saved_model.pb", lambda path: path.write_bytes(b"")),
            "no signature|cannot load|damaged|holds no graph",
        ),
        "graph_of_text": (("saved_model.pb", lambda path: path.write_bytes(b"not a graph")), "protobuf"),
        "graph_cut_early": (("saved_model.pb", _cut(0.2)), "protobuf"),
        "graph_cut_late": (("saved_model.pb", _cut(0.95)), "protobuf"),
        "graph_fifo": (("saved_model.pb", _fifo), "no single model|FIFO"),
        "graph_link_out": (("saved_model.pb", _link), "leaves its folder"),
        "weights_cut": ((DATA, _cut(0.3)), "cannot load|damaged"),
        "weights_empty": ((DATA, _cut(0.0)), "cannot load|damaged"),
        "weights_gone": ((DATA, Path.unlink), "cannot load|damaged"),
        "weights_fifo": ((DATA, _fifo), "FIFO"),
        "weights_link_out": ((DATA, _link), "leaves its folder"),
        "index_cut": ((INDEX, _cut(0.4)), "cannot load|damaged"),
        "index_of_text": ((INDEX, lambda path: path.write_bytes(b"hello" * 50)), "cannot load|damaged"),
        "index_gone": ((INDEX, Path.unlink), "cannot load|damaged"),
    },
    "served",
)(lambda kit, given: _spoil(kit, *given))  # type: ignore[misc]
