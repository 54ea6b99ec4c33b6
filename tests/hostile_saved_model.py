"""SavedModels: graphs with operators that act, functions without end, folders that lead elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Kit, case, cases

LISTED, FILES = "operators that are on no list", "read or write files"
FEEDS = "operators that feed a graph"


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


# ---- TensorFlow 1: the saver is what is traced from its file name, whatever its nodes are called ---


def _node_of(graph: Any, name: str, operator: str, *inputs: str) -> None:
    graph.graph_def.node.add(name=name, op=operator, input=inputs)


def _old(graph: Any) -> None:
    """A graph of TensorFlow 1 with its saver, as ``tf.train.Saver`` writes it."""
    graph.ClearField("object_graph_def")
    graph.ClearField("graph_def")
    graph.ClearField("signature_def")
    graph.ClearField("collection_def")
    for name, operator, *inputs in (
        ("x", "Placeholder"), ("w", "VarHandleOp"), ("read", "ReadVariableOp", "w"), ("y", "MatMul", "x", "read"),
        ("save/filename/input", "Const"), ("save/filename", "PlaceholderWithDefault", "save/filename/input"),
        ("save/Const", "PlaceholderWithDefault", "save/filename"), ("save/names", "Const"), ("save/slices", "Const"),
        ("save/part", "Const"), ("save/StringJoin", "StringJoin", "save/Const", "save/part"), ("save/shard", "Const"),
        ("save/ShardedFilename", "ShardedFilename", "save/StringJoin", "save/shard", "save/shard"),
        ("save/SaveV2", "SaveV2", "save/ShardedFilename", "save/names", "save/slices", "read"),
        ("save/MergeV2Checkpoints", "MergeV2Checkpoints", "save/ShardedFilename", "save/Const", "^save/SaveV2"),
        ("save/Identity", "Identity", "save/Const", "^save/MergeV2Checkpoints"),
        ("save/RestoreV2", "RestoreV2", "save/Const", "save/names", "save/slices"),
        ("save/Assign", "AssignVariableOp", "w", "save/RestoreV2"), ("save/restore_all", "NoOp", "^save/Assign"),
        ("evil/name", "Const"),
    ):  # fmt: skip
        _node_of(graph, name, operator, *inputs)
    graph.saver_def.filename_tensor_name = "save/Const:0"
    graph.saver_def.save_tensor_name = "save/Identity:0"
    graph.saver_def.restore_op_name = "save/restore_all"
    graph.signature_def["serving_default"].inputs["x"].name = "x:0"
    graph.signature_def["serving_default"].outputs["y"].name = "y:0"


def _restoring(graph: Any, name: str = "save/RestoreV2_1") -> None:
    _node_of(graph, name, "RestoreV2", "evil/name", "save/names", "save/slices")


def _saving(graph: Any) -> None:
    _node_of(graph, "save/SaveV2_1", "SaveV2", "evil/name", "save/names", "save/slices", "read")


def _by_name(graph: Any, name: str) -> Any:
    return next(node for node in graph.graph_def.node if node.name == name)


def _waits(of: str, for_what: str) -> Callable[[Any], object]:
    return lambda graph: _by_name(graph, of).input.append(for_what)


def _reads_for_the_signature(graph: Any) -> None:
    _restoring(graph)
    _node_of(graph, "save/out", "Identity", "save/RestoreV2_1:0")
    graph.signature_def["serving_default"].outputs["y"].name = "save/out:0"


def _writes_before_the_output(graph: Any) -> None:
    _saving(graph)
    _by_name(graph, "y").input.append("^save/SaveV2_1")


def _collection(key: str, node: str) -> Callable[[Any], object]:
    return lambda graph: graph.collection_def[key].node_list.value.append(node)


def _first_signature(node: str) -> Callable[[Any], object]:
    def change(graph: Any) -> None:
        graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = node

    return change


def _initial_value(graph: Any) -> None:
    from tensorflow.core.framework import variable_pb2

    _saving(graph)
    variable = variable_pb2.VariableDef(
        variable_name="w:0", initializer_name="save/SaveV2_1", snapshot_name="read:0"
    )
    graph.collection_def["local_variables"].bytes_list.value.append(variable.SerializeToString())


def _restored_from_elsewhere(graph: Any) -> None:
    _by_name(graph, "save/RestoreV2").input[0] = "evil/name"


def _restored_through_a_text(graph: Any) -> None:
    """The prefix is made of the placeholder and of a text that climbs."""
    _by_name(graph, "save/RestoreV2").input[0] = "save/StringJoin"


def _restored_through_a_shard(graph: Any) -> None:
    _by_name(graph, "save/RestoreV2").input[0] = "save/ShardedFilename"


def _another_file_name(graph: Any) -> None:
    graph.saver_def.filename_tensor_name = "evil/name:1"
    _by_name(graph, "save/RestoreV2").input[0] = "evil/name"


def _in_a_function(graph: Any) -> None:
    function = graph.graph_def.library.function.add()
    function.signature.name = "save/f"
    function.node_def.add(name="r", op="RestoreV2")
    _node_of(graph, "save/called", "PartitionedCall", "save/Const")
    _by_name(graph, "save/called").attr["f"].func.name = "save/f"
    _by_name(graph, "y").input.append("^save/called")


def _moves_when_restored(graph: Any) -> None:
    _by_name(graph, "save/restore_all").input.append("^save/MergeV2Checkpoints")


cases(
    {
        "reads_for_its_signature": (_reads_for_the_signature, FILES),
        "writes_before_its_output": (_writes_before_the_output, FILES),
        "writes_when_it_is_restored": (_waits("save/restore_all", "^save/SaveV2"), FILES),
        "moves_when_it_is_restored": (_moves_when_restored, FILES),
        "saves_for_its_signature": (_waits("y", "^save/Identity"), FILES),
        "writes_as_legacy_init_op": (_collection("legacy_init_op", "save/SaveV2"), FILES),
        "writes_as_main_op": (_collection("saved_model_main_op", "save/Identity"), FILES),
        "writes_with_its_tables": (_collection("table_initializer", "save/MergeV2Checkpoints"), FILES),
        "writes_as_first_signature": (_first_signature("save/SaveV2"), FILES),
        "writes_as_an_initial_value": (_initial_value, FILES),
        "restores_from_elsewhere": (_restored_from_elsewhere, FILES),
        "restores_through_a_text": (_restored_through_a_text, FILES),
        "restores_through_a_shard": (_restored_through_a_shard, FILES),
        "has_another_file_name": (_another_file_name, FILES),
        "reads_in_a_function": (_in_a_function, FILES),
        "reads_where_nothing_leads": (lambda graph: _restoring(graph, "save/RestoreV2_9"), FILES),
        "has_two_nodes_of_a_name": (
            lambda graph: _node_of(graph, "y", "ReadFile", "evil/name"),
            "two of one name",
        ),
    },
    "served_old_that",
)(lambda kit, change: changed(kit, lambda graph: (_old(graph), change(graph))))  # type: ignore[operator]


# ---- what fed a graph: a queue that nobody fills waits for ever, and one of empty elements crashes ---


def _queue(graph: Any) -> None:
    _old(graph)
    _node_of(graph, "queue", "FIFOQueueV2")
    _node_of(graph, "batch", "QueueDequeueV2", "queue")
    _node_of(graph, "fill", "QueueEnqueueManyV2", "queue", "read")


def _reads_the_queue(graph: Any, output: str = "batch") -> None:
    """The signature is given the first thing that the queue holds; what else comes of it is not given."""
    graph.signature_def["serving_default"].inputs["x"].name = "batch:0"
    _by_name(graph, "y").input[0] = output


def _starts_a_thread(graph: Any) -> None:
    _function(graph, "pipeline", [])
    graph.graph_def.library.function[-1].node_def.add(name="data", op="PrefetchDataset")
    _node_of(graph, "called", "StatefulPartitionedCall", "x")
    _by_name(graph, "called").attr["f"].func.name = "pipeline"
    _by_name(graph, "y").input.append("^called")


cases(
    {
        "waits_before_its_output": (_waits("y", "^batch"), FEEDS),
        "waits_for_an_input_of_its_own": (lambda graph: _by_name(graph, "y").input.append("batch:0"), FEEDS),
        "waits_for_what_it_is_not_given": (lambda graph: _reads_the_queue(graph, "batch:1"), FEEDS),
        "waits_though_it_is_given_its_input": (
            lambda graph: (_reads_the_queue(graph), _by_name(graph, "y").input.append("^batch")),
            FEEDS,
        ),
        "fills_a_queue_as_main_op": (_collection("saved_model_main_op", "fill"), FEEDS),
        "fills_a_queue_as_legacy_init_op": (_collection("legacy_init_op", "fill"), FEEDS),
        "fills_a_queue_as_first_signature": (_first_signature("fill"), FEEDS),
        "starts_a_thread_in_a_function": (_starts_a_thread, FEEDS),
    },
    "served_old_that",
)(lambda kit, change: changed(kit, lambda graph: (_queue(graph), change(graph))))  # type: ignore[operator]

cases(
    {
        name: ((name, "function"), FEEDS)
        for name in (
            "QueueDequeueV2",
            "QueueEnqueueManyV2",
            "BatchFunction",
            "IteratorGetNext",
            "PrefetchDataset",
        )
    },
    "served_function_with",
)(lambda kit, given: changed(kit, _node(*given)))  # type: ignore[misc]


# ---- restored functions, and fields that two readers read in two ways ----------------------------


def _saver(graph: Any) -> str:
    names = (f.signature.name for f in graph.graph_def.library.function)
    return next(name for name in names if "traced_save" in name)


def _restored_function(graph: Any) -> None:
    """A saved object that names a function which its table of functions leaves out."""
    node = graph.object_graph_def.nodes.add()
    node.bare_concrete_function.concrete_function_name = _saver(graph)


def _gradient(graph: Any) -> None:
    graph.graph_def.library.gradient.add(
        function_name=_body(graph).signature.name, gradient_func=_saver(graph)
    )


def _swapped(graph: Any) -> None:
    for function in graph.graph_def.library.function:
        if function.signature.name in (_saver(graph), _body(graph).signature.name):
            function.attr["api_implements"].s = b"the same"


def _nested_call(graph: Any) -> None:
    node = _body(graph).node_def.add(name="evil", op="PartitionedCall")
    inner = node.attr["f"].func
    inner.name = _body(graph).signature.name + "_not_there"
    inner.attr["g"].func.name = _saver(graph)


def _named_as_an_operator(graph: Any) -> None:
    _function(graph, "ReadFile", [])
    _body(graph).node_def.add(name="evil", op="ReadFile")


def _old_asset(graph: Any) -> None:
    from tensorflow.core.protobuf import meta_graph_pb2

    asset = graph.collection_def["saved_model_assets"].any_list.value.add()
    asset.Pack(meta_graph_pb2.AssetFileDef(filename="../../../secret.bin"))


cases(
    {
        "a_restored_saver": (_restored_function, FILES),
        "a_saver_as_gradient": (_gradient, FILES),
        "a_saver_in_its_place": (_swapped, FILES),
        "a_saver_in_an_attribute": (_nested_call, FILES),
        "a_function_called_as_an_operator": (_named_as_an_operator, LISTED),
        "an_old_asset_from_elsewhere": (_old_asset, "outside its folder"),
    },
    "served_with",
)(lambda kit, change: (kit.secret, changed(kit, change))[1])  # type: ignore[arg-type]


def _appended(kit: Kit, name: str, tail: bytes) -> Path:
    """More bytes behind the last node of the graph, as part of it."""
    folder = kit.copy("served")
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    _body(message.meta_graphs[0]).node_def.add(name=name, op="Marker")
    content = message.SerializeToString()
    del message
    marker = b"\x12\x06Marker"
    assert content.count(marker) == 1 and len(tail) == len(marker)
    (folder / "saved_model.pb").write_bytes(content.replace(marker, tail))
    return folder


cases(
    {
        "as_another_type": (b"\x12\x01A\x15Relu", LISTED),
        "twice": (b"\x12\x02Op\x12\x02Aa", LISTED),
    },
    "served_operator_written",
)(lambda kit, tail: _appended(kit, "evil", tail))  # type: ignore[arg-type]


@case("far larger than its file")
def served_constant_whose_size_stands_twice(kit: Kit) -> Path:
    """Protobuf takes the last one."""
    folder = kit.copy("served")
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    node = _body(message.meta_graphs[0]).node_def.add(name="huge", op="Const")
    tensor = node.attr["value"].tensor
    tensor.tensor_shape.dim.add(size=(1 << 41) + 5)
    content = message.SerializeToString()
    size = b"\x08\x85\x80\x80\x80\x80@"
    assert content.count(size) == 1
    (folder / "saved_model.pb").write_bytes(content.replace(size, b"\x08\x01\x08\xff\xff\xff\x7f"))
    return folder
