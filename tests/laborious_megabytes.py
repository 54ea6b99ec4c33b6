"""Files of about a megabyte in each format, as long and as tangled as the format lets them be; three or more of each."""

from __future__ import annotations

import itertools
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import flat_files as flat
import h5py
import numpy as np
import onnx
from flat_files import Table, operator, subgraph, tensor
from hostile import Kit
from hostile_keras import configured, named
from hostile_pytorch import LINEAR, entries, spoilt, write
from hostile_saved_model import _body, changed
from laborious import laborious
from laborious_keras import model
from laborious_mxnet import DATA, op, written
from onnx import helper

MEGABYTE = 1_000_000
Given = Path | list[str]


def enter(name: str, words: str | None = None) -> Callable[[Callable[[Kit], Given]], Callable[[Kit], Given]]:
    return laborious(words, f"megabyte_{name}")


# ---- ONNX: operators as older opsets have them ------------------------------------------------------


def _old(name: str, opset: int, count: int, kind: str, **attributes: Any) -> None:
    def make(kit: Kit) -> Path:
        names = ["x", *(f"v{place}" for place in range(count - 1)), "y"]
        nodes = [helper.make_node(kind, [a], [b], **attributes) for a, b in itertools.pairwise(names)]
        ends = [helper.make_tensor_value_info(each, 1, ["batch", 4]) for each in "xy"]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
        path = kit.folder / "net.onnx"
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path
        )
        return path

    make.__module__ = __name__
    enter(name)(make)


_old("clips_of_opset_7", 7, 19_000, "Clip", min=-1.0, max=1.0)
_old("softmaxes_of_opset_11", 11, 24_000, "Softmax", axis=1)
_old("norms_of_opset_17", 17, 16_000, "LpNormalization", axis=1, p=2)

# ---- exported programs -----------------------------------------------------------------------------


def _program(kit: Kit, change: Callable[[dict[str, Any]], None]) -> Path:
    def changed(content: bytes) -> bytes:
        program: dict[str, Any] = json.loads(content)
        change(program)
        return json.dumps(program).encode()

    return spoilt(kit, "net.pt2", r"models/model\.json", changed)


@enter("pt2_of_many_nodes")
def _pt2_nodes(kit: Kit) -> Path:
    """The ReLU of the good program again and again."""

    def change(program: dict[str, Any]) -> None:
        graph = program["graph_module"]["graph"]
        at = next(i for i, node in enumerate(graph["nodes"]) if "relu" in node["target"])
        node, last = graph["nodes"][at], graph["nodes"][at]["outputs"][0]["as_tensor"]["name"]
        values, made = graph["tensor_values"], []
        for place in range(900):
            new = json.loads(json.dumps(node))
            new["inputs"][0]["arg"]["as_tensor"]["name"] = last
            last = new["outputs"][0]["as_tensor"]["name"] = f"again_{place}"
            values[last] = values[node["outputs"][0]["as_tensor"]["name"]]
            made.append(new)
        graph["nodes"][at + 1 : at + 1] = made
        graph["nodes"][-1]["inputs"][0]["arg"]["as_tensor"]["name"] = last

    return _program(kit, change)


@enter("pt2_of_many_guards")
def _pt2_guards(kit: Kit) -> Path:
    def change(program: dict[str, Any]) -> None:
        program["guards_code"] = [f"(L['input'].size()[0] % {place + 1}) >= 0" for place in range(20_000)]

    return _program(kit, change)


@enter("pt2_of_deep_lists")
def _pt2_deep(kit: Kit) -> Path:
    def changed(content: bytes) -> bytes:
        return content.rstrip()[:-1] + b', "guards_code": ' + b"[" * 400_000 + b"]" * 400_000 + b"}"

    return spoilt(kit, "net.pt2", r"models/model\.json", changed)


@enter("pt2_of_many_constants")
def _pt2_values(kit: Kit) -> Path:
    def change(program: dict[str, Any]) -> None:
        values = program["graph_module"]["graph"]["tensor_values"]
        first = next(iter(values.values()))
        values.update({f"unused_{place}": first for place in range(2_500)})

    return _program(kit, change)


# ---- TorchScript -----------------------------------------------------------------------------------


def _script(name: str, body: Callable[[], str]) -> None:
    """More lines in the code of the first linear layer."""

    def make(kit: Kit) -> list[str]:
        mark = b"    weight = self.weight\n"
        path = spoilt(kit, "script.pt", LINEAR, lambda code: code.replace(mark, mark + body().encode()))
        return ["inspect", str(path), "--input", "x:2,3", "--to", "all", "--json"]

    make.__module__ = __name__
    enter(f"script_{name}")(make)


_script("of_many_lines", lambda: "".join(f"    a{i} = torch.relu(input)\n" for i in range(30_000)))
_script("of_a_long_list", lambda: f"    a = [{', '.join(map(str, range(140_000)))}]\n")
_script("of_deep_brackets", lambda: f"    a = {'(' * 400_000}input{')' * 400_000}\n")
_script("of_calls_in_calls", lambda: f"    a = {'torch.relu(' * 60_000}input{')' * 60_000}\n")

# ---- state dicts, given as weights -----------------------------------------------------------------


def _state(name: str, content: Callable[[], bytes]) -> None:
    """A pickle of torch.save's form, as weights of a factory."""

    def make(kit: Kit) -> list[str]:
        path = kit.folder / "state.pt"
        with zipfile.ZipFile(path, "w") as archive:
            for entry, data in {
                "data.pkl": content(),
                "version": b"3\n",
                "byteorder": b"little",
                "data/0": bytes(64),
            }.items():
                archive.writestr(f"state/{entry}", data)
        source = kit.copy("factory.py")
        return [
            "inspect",
            f"{source}:net",
            "--weights",
            str(path),
            "--input",
            "x:2,3",
            "--to",
            "all",
            "--json",
        ]

    make.__module__ = __name__
    enter(f"state_{name}")(make)


def _doubling() -> bytes:
    """A list that holds the list before twice: 60,000 of them, and 2^60000 leaves."""
    return b"\x80\x02]" + b"q\x00" + b"".join(b"]" + struct.pack("<BI", 0x72, i + 1) + struct.pack("<BIBI", 0x6A, i, 0x6A, i)
                                             .join((b"(", b"e")) for i in range(50_000)) + b"."  # fmt: skip


_state("of_lists_in_lists", lambda: b"\x80\x02" + b"]" * 450_000 + b"a" * 449_999 + b".")
_state("that_doubles", _doubling)
_state("of_many_names", lambda: pickle.dumps({f"layer.{i}.weight": i for i in range(40_000)}, 2))
_state("of_a_long_number", lambda: b"\x80\x02\x8b" + struct.pack("<i", 900_000) + b"\x7f" * 900_000 + b".")

# ---- Keras -----------------------------------------------------------------------------------------


def _keras(name: str, layers: Callable[[], list[dict[str, Any]]], words: str | None = None) -> None:
    def make(kit: Kit) -> Path:
        def change(config: dict[str, Any]) -> None:
            config.clear()
            config |= model(layers(), [None, 3])

        return configured(kit, change)

    make.__module__ = __name__
    enter(f"keras_{name}", words)(make)


_keras(
    "of_many_layers",
    lambda: [
        named("keras.layers", "ReLU", name=f"r{i}", max_value=6.0, negative_slope=0.0) for i in range(6_000)
    ],
    "builds anew",
)
_keras("of_a_long_name", lambda: [named("keras.layers", "ReLU", name="r" * MEGABYTE)])
_keras("of_a_long_list", lambda: [named("keras.layers", "Reshape", target_shape=[1] * 200_000 + [3])])


@enter("keras_of_a_packed_configuration", "expands|far|larger")
def _keras_packed(kit: Kit) -> Path:
    """Two hundred megabytes of spaces, packed."""
    path = kit.copy("net.keras")
    content = entries(path)
    content["config.json"] += b" " * 200 * MEGABYTE
    return write(path, content, zipfile.ZIP_DEFLATED)


def _h5(name: str, change: Callable[[h5py.File], None], words: str | None = None) -> None:
    def make(kit: Kit) -> Path:
        path = kit.copy("whole.h5")
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    make.__module__ = __name__
    enter(f"h5_{name}", words)(make)


def _deep(file: h5py.File) -> None:
    group = file
    for place in range(700):
        group = group.create_group(str(place % 2))


def _wide(file: h5py.File) -> None:
    for place in range(2_000):
        file[f"model_weights/more/{place}"] = np.float32(place)


def _twice(file: h5py.File) -> None:
    """Each group twice in the one above: 2^60 ways down."""
    group = file.create_group("more")
    for _ in range(60):
        below = group.create_group("a")
        group["b"] = below
        group = below


_h5("of_deep_groups", _deep)
_h5("of_many_arrays", _wide)
_h5("of_groups_that_double", _twice, "hold each other")
_h5(
    "of_many_attributes",
    lambda file: [file.attrs.create(f"a{i}", np.float32(i)) for i in range(4_000)] and None,
)

# ---- SavedModels, frozen graphs, checkpoints of TensorFlow 1 ----------------------------------------


def _served(name: str, change: Callable[[Any], None]) -> None:
    make: Callable[[Kit], Path] = lambda kit: changed(kit, change)  # noqa: E731
    make.__module__ = __name__
    enter(f"served_{name}")(make)


def _row(nodes: Any, first: str, count: int, kind: str = "Tanh") -> str:
    """``count`` operators in a row behind ``first``; the name of the last."""
    for place in range(count):
        made = nodes.add(name=f"row{place}", op=kind, input=[first])
        made.attr["T"].type = 1
        first = f"row{place}"
    return first


def _functions(graph: Any) -> None:
    for place in range(9_000):
        function = graph.graph_def.library.function.add()
        function.signature.name = f"unused{place}"
        function.node_def.add(name="n", op="NoOp")


def _controlled(graph: Any) -> None:
    """Every node waits for forty before it."""
    body = _body(graph)
    for place in range(1_500):
        body.node_def.add(
            name=f"c{place}", op="NoOp", input=[f"^c{other}" for other in range(max(0, place - 60), place)]
        )


def _objects(graph: Any) -> None:
    nodes = graph.object_graph_def.nodes
    for place in range(30_000):
        nodes.add().children.add(node_id=(place + 1) % 30_000, local_name="next")


_served(
    "of_many_nodes",
    lambda graph: _row(_body(graph).node_def, _body(graph).signature.input_arg[0].name, 14_000) and None,
)
_served("of_many_functions", _functions)
_served("of_nodes_that_wait", _controlled)
_served("of_many_objects", _objects)


def _graph(count: int, kind: str = "Tanh") -> Any:
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    start = graph.node.add(name="x", op="Placeholder")
    start.attr["dtype"].type = 1
    for size in (-1, 4):
        start.attr["shape"].shape.dim.add(size=size)
    _row(graph.node, "x", count, kind)
    return graph


def _frozen(name: str, make_graph: Callable[[], Any]) -> None:
    def make(kit: Kit) -> Path:
        path = kit.folder / "frozen.pb"
        path.write_bytes(make_graph().SerializeToString())
        return path

    make.__module__ = __name__
    enter(f"frozen_{name}")(make)


def _constants() -> Any:
    graph = _graph(1)
    for place in range(9_000):
        made = graph.node.add(name=f"k{place}", op="Const")
        made.attr["dtype"].type = 1
        made.attr["value"].tensor.dtype = 1
        made.attr["value"].tensor.float_val.append(place)
    return graph


def _sum_of_many() -> Any:
    graph = _graph(1)
    made = graph.node.add(name="y", op="AddN", input=["row0"] * 120_000)
    made.attr["T"].type, made.attr["N"].i = 1, 120_000
    return graph


_frozen("of_many_nodes", lambda: _graph(17_000))
_frozen("of_many_constants", _constants)
_frozen("of_a_sum_of_many", _sum_of_many)


def _meta(name: str, change: Callable[[Any], None]) -> None:
    """A graph without variables, and the checkpoint of none."""

    def make(kit: Kit) -> Path:
        from tensorflow.core.protobuf import meta_graph_pb2

        meta = meta_graph_pb2.MetaGraphDef()
        change(meta)
        path = kit.folder / "model.ckpt-1.meta"
        path.write_bytes(meta.SerializeToString())
        return path

    make.__module__ = __name__
    enter(f"meta_{name}")(make)


def _collections(meta: Any) -> None:
    meta.graph_def.CopyFrom(_graph(3))
    meta.collection_def["trainable_variables"].bytes_list.value.extend([b"\x0a\x01x"] * 120_000)


def _many_attributes(meta: Any) -> None:
    meta.graph_def.CopyFrom(_graph(3))
    meta.graph_def.node[1].attr["_output_shapes"].list.i.extend(range(300_000))


_meta("of_many_nodes", lambda meta: meta.graph_def.CopyFrom(_graph(16_000)))
_meta("of_long_collections", _collections)
_meta("of_a_long_attribute", _many_attributes)

# ---- TFLite ----------------------------------------------------------------------------------------


def _lite(name: str, made: Callable[[], Table], words: str | None = None) -> None:
    def make(kit: Kit) -> Path:
        path = kit.folder / "net.tflite"
        path.write_bytes(flat.packed(made()))
        return path

    make.__module__ = __name__
    enter(f"lite_{name}", words)(make)


def _steps(count: int, kind: str) -> Table:
    names = [tensor(f"t{place}") for place in range(count + 1)]
    return flat.model([subgraph(names, [operator([i], [i + 1]) for i in range(count)], [count])], [kind])


def _weights(count: int) -> Table:
    whole = flat.model([subgraph([tensor("x"), tensor("y")], [operator([0], [1])])])
    whole["subgraphs"][0]["tensors"] += [tensor(f"w{i}", [1], buffer=i + 1) for i in range(count)]
    return whole | {"buffers": [{"data": b""}, *({"data": struct.pack("<f", i)} for i in range(count))]}


def _calls(count: int) -> Table:
    """Each subgraph runs the next one in both of its branches."""
    made = []
    for place in range(count):
        branch = {"": "IfOptions", "then_subgraph_index": place + 1, "else_subgraph_index": place + 1}
        steps = [operator([1, 0], [2], 0, builtin_options_type=92, builtin_options=branch)]
        made.append(
            subgraph([tensor("x"), tensor("on", [1], type=6, is_variable=True), tensor("y")], steps, [2])
        )
    return flat.model([*made, subgraph([tensor("x"), tensor("y")], [operator([0], [1], 1)])], ["IF", "RELU"])


_lite("of_many_operators", lambda: _steps(4_500, "TANH"))
_lite("of_many_weights", lambda: _weights(6_000))
_lite("of_branches_that_double", lambda: _calls(60), "into [0-9,]+ nodes")

# ---- MXNet -----------------------------------------------------------------------------------------


def _symbol(name: str, nodes: Callable[[], Sequence[dict[str, Any]]]) -> None:
    make: Callable[[Kit], Path] = lambda kit: written(kit, nodes())  # noqa: E731
    make.__module__ = __name__
    enter(f"symbol_{name}")(make)


_symbol("of_many_nodes", lambda: [DATA, *(op("tanh", f"n{i}", [i]) for i in range(14_000))])
_symbol("of_sums_that_double", lambda: [DATA, *(op("elemwise_add", f"n{i}", [i, i]) for i in range(12_000))])
_symbol("of_a_sum_of_many", lambda: [DATA, op("add_n", "n", [0] * 80_000, num_args="80000")])
_symbol("of_a_long_attribute", lambda: [DATA, op("Reshape", "n", [0], shape="(" + " " * MEGABYTE + "8,)")])

# ---- folders of Hugging Face -----------------------------------------------------------------------

BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 8, "vocab_size": 20, "max_position_embeddings": 8,
}  # fmt: skip


def _hub(
    name: str, config: Callable[[], bytes], index: Callable[[], bytes] | None = None, words: str | None = None
) -> None:
    def make(kit: Kit) -> Path:
        from safetensors.numpy import save

        (kit.folder / "config.json").write_bytes(config())
        (kit.folder / "model.safetensors").write_bytes(save({"w": np.zeros(4, np.float32)}))
        if index is not None:
            (kit.folder / "model.safetensors").rename(kit.folder / "model-00001-of-00001.safetensors")
            (kit.folder / "model.safetensors.index.json").write_bytes(index())
        return kit.folder

    make.__module__ = __name__
    enter(f"hub_{name}", words)(make)


_hub("of_a_million_layers", lambda: json.dumps(BERT | {"num_hidden_layers": 1_000_000}).encode())
_hub("of_a_large_vocabulary", lambda: json.dumps(BERT | {"vocab_size": 1 << 30}).encode())
_hub(
    "of_deep_lists",
    lambda: json.dumps(BERT).encode()[:-1] + b', "id2label": ' + b"[" * 400_000 + b"]" * 400_000 + b"}",
)
_hub(
    "of_many_labels",
    lambda: json.dumps(BERT | {"id2label": {str(i): f"label {i}" for i in range(35_000)}}).encode(),
)
_hub(
    "of_many_shards", lambda: json.dumps(BERT).encode(),
    lambda: json.dumps({"metadata": {}, "weight_map": {f"w{i}": f"model-{i:05}-of-99999.safetensors" for i in range(18_000)}}).encode(),
)  # fmt: skip

# ---- certificates and catalogues -------------------------------------------------------------------


def _verified(kind: str, file: str, flag: str, name: str, text: Callable[[], str]) -> None:
    """A file that ``verify`` reads by a flag."""

    def make(kit: Kit) -> list[str]:
        path = kit.folder / file
        path.write_text(text())
        return ["verify", flag, str(path), "--json"]

    make.__module__ = __name__
    enter(f"{kind}_{name}")(make)


_certificate = partial(_verified, "certificate", "proof.json", "--check")
_catalogue = partial(_verified, "catalogue", "models.toml", "--catalogue")


_certificate(
    "of_many_options",
    lambda: json.dumps({"netferry": "certificate", "options": {f"o{i}": i for i in range(50_000)}}),
)
_certificate("of_deep_lists", lambda: '{"a": ' + "[" * 400_000 + "]" * 400_000 + "}")
_certificate("of_a_long_number", lambda: '{"digest": ' + "9" * MEGABYTE + "}")
_certificate(
    "of_many_files",
    lambda: json.dumps({"a": {"files": [{"name": f"f{i}", "sha256": "0" * 64} for i in range(9_000)]}}),
)


_catalogue(
    "of_many_pairs", lambda: "".join(f'[[pair]]\na = "a{i}.onnx"\nb = "b{i}.onnx"\n' for i in range(25_000))
)
_catalogue("of_deep_tables", lambda: ".".join(["a"] * 400_000) + " = 1\n")
_catalogue("of_deep_lists", lambda: "a = " + "[" * 400_000 + "]" * 400_000 + "\n")
_catalogue(
    "of_tables_in_tables", lambda: "".join(f"[{'.'.join(['a'] * depth)}]\n" for depth in range(1, 900))
)
_catalogue("of_a_long_number", lambda: "a = " + "9" * MEGABYTE + "\n")
