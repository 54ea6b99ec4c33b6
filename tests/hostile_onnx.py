"""ONNX: files that are none, data from elsewhere, sizes that lie, functions without end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import onnx
from hostile import Kit, case, cases
from models import dense
from onnx import TensorProto, helper, numpy_helper


def written(kit: Kit, model: onnx.ModelProto) -> Path:
    path = kit.folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def truncated(kit: Kit, name: str, part: float) -> Path:
    path = kit.copy(name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    return path


# ---- what is no file -----------------------------------------------------------------------------


@case("no such file")
def onnx_absent(kit: Kit) -> Path:
    return kit.folder / "absent.onnx"


@case("empty")
def onnx_empty(kit: Kit) -> Path:
    (kit.folder / "net.onnx").touch()
    return kit.folder / "net.onnx"


@case("not a regular file")
def onnx_fifo(kit: Kit) -> Path:
    os.mkfifo(kit.folder / "net.onnx")
    return kit.folder / "net.onnx"


@case("not a regular file")
def onnx_socket(kit: Kit) -> Path:
    here = Path.cwd()
    os.chdir(kit.folder)  # a socket's path may have a hundred characters
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("net.onnx")
    os.chdir(here)
    return kit.folder / "net.onnx"


@case("not a regular file")
def onnx_device(kit: Kit) -> Path:
    (kit.folder / "net.onnx").symlink_to("/dev/zero")
    return kit.folder / "net.onnx"


@case("no single model")
def onnx_folder(kit: Kit) -> Path:
    (kit.folder / "net.onnx").mkdir()
    return kit.folder / "net.onnx"


@case("no such file|cannot be read|not a regular file")
def onnx_link_in_a_circle(kit: Kit) -> Path:
    (kit.folder / "net.onnx").symlink_to("net.onnx")
    return kit.folder / "net.onnx"


cases(
    {f"at_{percent}": (percent / 100, "not|refuses|empty") for percent in (1, 10, 30, 50, 80, 95, 99)},
    "onnx_cut",
)(lambda kit, part: truncated(kit, "net.onnx", float(str(part))))
cases(
    {
        "text": (b"hello, this is not a model", "not a model"),
        "html": (b"<!doctype html><html>404</html>", "not a model"),
        "lfs_pointer": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "Git LFS pointer",
        ),
        "zeros": (bytes(4096), "not a model"),
        "long_varint": (b"\x08" + b"\xff" * 40, "not an ONNX model"),
        "length_of_exabytes": (b"\x3a" + b"\xff" * 8 + b"\x01", "not an ONNX model"),
        "no_graph": (b"\x08\x0a", "holds no graph"),
        "pickle": (b"\x80\x04N.", "pickle is never loaded"),
        "groups": (b"\x3b" * 5000, "not a"),
        "onnxruntimes_own_kind": (b"\x1c\x00\x00\x00ORTM" + bytes(200), "onnxruntime's own format"),
    },
    "onnx_of",
)(lambda kit, content: _put(kit, content))


def _put(kit: Kit, content: object) -> Path:
    assert isinstance(content, bytes)
    (kit.folder / "net.onnx").write_bytes(content)
    return kit.folder / "net.onnx"


# ---- data from elsewhere -------------------------------------------------------------------------


def external(location: str, **more: str) -> onnx.ModelProto:
    model = dense()
    away(model.graph.initializer[0], location, **more)
    return model


def away(tensor: onnx.TensorProto, location: str, **more: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)


OUTSIDE = "outside its folder"
cases(
    {
        "up": ("../secret.bin", OUTSIDE),
        "up_and_down": ("sub/../../secret.bin", OUTSIDE),
        "absolute": ("/etc/hostname", OUTSIDE),
        "of_windows": ("..\\secret.bin", OUTSIDE),
        "of_a_drive": ("C:\\secret.bin", OUTSIDE),
        "of_a_share": ("\\\\server\\secret.bin", OUTSIDE),
        "without_a_name": ("", OUTSIDE),
        "with_a_nul": ("ext.data\x00.txt", OUTSIDE),
        "absent": ("absent.bin", "cannot be read"),
        "too_long": ("x" * 5000, "cannot be read"),
        "itself": (".", "leaves|not a regular file"),
        "below_a_file": ("net.onnx/x", "cannot be read"),
    },
    "onnx_external",
)(lambda kit, location: (kit.secret, written(kit, external(str(location), length="48")))[1])

cases(
    {
        "negative_offset": ({"offset": "-48"}, "no number"),
        "offset_behind_the_end": ({"offset": "1000000"}, "outside of its file"),
        "length_of_gigabytes": ({"length": "1000000000000"}, "outside of its file"),
        "length_too_short": ({"length": "4"}, "outside of its file"),
        "offset_no_number": ({"offset": "ten"}, "no number"),
        "offset_of_many_digits": ({"offset": "9" * 5000}, "no number"),
    },
    "onnx_external",
)(lambda kit, more: (kit.copy("ext.onnx"), written(kit, external("ext.data", **more)))[1])  # type: ignore[arg-type]


@case("leaves its folder")
def onnx_external_link_out(kit: Kit) -> Path:
    (kit.folder / "w.bin").symlink_to(kit.secret)
    return written(kit, external("w.bin"))


@case("leaves its folder")
def onnx_external_folder_link_out(kit: Kit) -> Path:
    (kit.folder / "sub").symlink_to(kit.secret.parent)
    return written(kit, external("sub/secret.bin"))


@case("hard link")
def onnx_external_hard_link(kit: Kit) -> Path:
    os.link(kit.secret, kit.folder / "w.bin")
    return written(kit, external("w.bin"))


@case("not a regular file")
def onnx_external_fifo(kit: Kit) -> Path:
    os.mkfifo(kit.folder / "w.bin")
    return written(kit, external("w.bin"))


@case("not a regular file")
def onnx_external_is_a_folder(kit: Kit) -> Path:
    (kit.folder / "w.bin").mkdir()
    return written(kit, external("w.bin"))


@case("leaves its folder|not a regular")
def onnx_external_device(kit: Kit) -> Path:
    (kit.folder / "w.bin").symlink_to("/dev/zero")
    return written(kit, external("w.bin"))


@case("leaves its folder")
def onnx_external_link_out_of_a_cache(kit: Kit) -> Path:
    """A Hugging Face cache whose blob is none of its own."""
    kit.secret.touch()
    snapshot = kit.folder / "models--a--b" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "w.bin").symlink_to("../../../../secret.bin")
    path = written(kit, external("w.bin"))
    return path.rename(snapshot / "net.onnx")


@case(OUTSIDE)
def onnx_external_in_an_attribute(kit: Kit) -> Path:
    tensor = numpy_helper.from_array(np.zeros(16, np.float32))
    away(tensor, str(kit.secret))
    model = dense()
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))
    return written(kit, model)


@case(OUTSIDE)
def onnx_external_in_an_inner_graph(kit: Kit) -> Path:
    inner = dense().graph
    away(inner.initializer[0], "../secret.bin")
    model = dense()
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner))
    return written(kit, model)


@case(OUTSIDE)
def onnx_external_in_a_function(kit: Kit) -> Path:
    tensor = numpy_helper.from_array(np.zeros(16, np.float32))
    away(tensor, "../secret.bin")
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    model = dense()
    model.functions.append(helper.make_function("f", "f", [], ["y"], [node], [helper.make_opsetid("", 21)]))
    return written(kit, model)


@case(OUTSIDE)
def onnx_external_in_a_sparse_weight(kit: Kit) -> Path:
    model, values = dense(), numpy_helper.from_array(np.ones(2, np.float32), "s")
    away(values, "../secret.bin")
    places = numpy_helper.from_array(np.arange(2), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    return written(kit, model)


# ---- sizes that lie ------------------------------------------------------------------------------

cases(
    {
        "of_terabytes": ([1 << 40], "other content"),
        "past_64_bits": ([1 << 40, 1 << 40, 1 << 40], "other content"),
        "negative": ([-1, 12], "cannot be"),
        "two_negatives": ([-3, -4], "cannot be"),
        "too_small": ([2, 2], "other content"),
        "of_a_thousand_axes": ([1] * 1000, "cannot be"),
        "gone": ([0], "other content"),
    },
    "onnx_sizes",
)(lambda kit, dims: _with_dims(kit, dims))


def _with_dims(kit: Kit, dims: object) -> Path:
    model = dense()
    model.graph.initializer[0].dims[:] = dims  # type: ignore[call-overload]
    return written(kit, model)


@case("other content")
def onnx_sizes_of_listed_numbers(kit: Kit) -> Path:
    model = dense()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0] * 11)
    return written(kit, model)


@case("sparse tensors far larger")
def onnx_sparse_of_terabytes(kit: Kit) -> Path:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    model = dense()
    places = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [1 << 20, 1 << 20]))
    return written(kit, model)


# ---- graphs --------------------------------------------------------------------------------------


def with_functions(calls: dict[str, list[str]], root: str) -> onnx.ModelProto:
    """Functions of one input and one output by the functions that they call, one behind the other."""
    opset = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    model = dense()
    for name, called in calls.items():
        values = ["a", *(f"v{place}" for place in range(len(called) - 1)), "b"]
        nodes = [
            helper.make_node(each, [values[place]], [values[place + 1]], domain="" if each == "Relu" else "f")
            for place, each in enumerate(called)
        ]
        model.functions.append(helper.make_function("f", name, ["a"], ["b"], nodes, opset))
    model.graph.node.append(helper.make_node(root, ["y"], ["z"], domain="f"))
    model.opset_import.append(helper.make_opsetid("f", 1))
    return model


@case("into [0-9,]+ nodes")
def onnx_functions_that_double(kit: Kit) -> Path:
    """31 functions, each of which calls the next one twice: 2^30 nodes."""
    calls = {f"f{level}": [f"f{level + 1}"] * 2 for level in range(30)} | {"f30": ["Relu"]}
    return written(kit, with_functions(calls, "f0"))


@case("calls itself")
def onnx_function_that_calls_itself(kit: Kit) -> Path:
    return written(kit, with_functions({"f": ["Relu", "f"]}, "f"))


@case("calls itself")
def onnx_functions_in_a_circle(kit: Kit) -> Path:
    return written(kit, with_functions({"f": ["g"], "g": ["h"], "h": ["f"]}, "f"))


@case("nested too deep")
def onnx_functions_too_deep(kit: Kit) -> Path:
    calls = {f"f{level}": [f"f{level + 1}"] for level in range(500)} | {"f500": ["Relu"]}
    return written(kit, with_functions(calls, "f0"))


def _spoilt(change: object) -> onnx.ModelProto:
    model = dense()
    change(model)  # type: ignore[operator]
    return model


cases(
    {
        "an_unknown_operator": (
            lambda m: m.graph.node.add(op_type="Exec", input=["x"], output=["z"]),
            "checker",
        ),
        "a_value_from_nowhere": (
            lambda m: m.graph.node.add(op_type="Relu", input=["q"], output=["z"]),
            "checker",
        ),
        "a_circle": (
            lambda m: m.graph.node.extend(
                [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["a"])]
            ),
            "checker",
        ),
        "a_value_written_twice": (
            lambda m: m.graph.node.add(op_type="Relu", input=["x"], output=["y"]),
            "checker",
        ),
        "an_unknown_attribute": (
            lambda m: m.graph.node.append(helper.make_node("Relu", ["x"], ["z"], run="touch marker")),
            "checker",
        ),
        "no_opset": (lambda m: m.ClearField("opset_import"), "checker"),
        "an_opset_of_the_future": (lambda m: setattr(m.opset_import[0], "version", 9999), "checker|opset"),
        "an_unknown_dtype": (
            lambda m: setattr(m.graph.initializer[0], "data_type", 99),
            "checker|dtype|other",
        ),
        "no_output": (lambda m: m.graph.ClearField("output"), "output"),
    },
    "onnx_graph",
)(lambda kit, change: written(kit, _spoilt(change)))


@case("not an ONNX model|checker|nested")
def onnx_graphs_nested_without_end(kit: Kit) -> Path:
    def field(number: int, content: bytes) -> bytes:
        size, parts = len(content), bytearray()
        while size > 127:
            parts.append(size & 127 | 128)
            size >>= 7
        return bytes([number << 3 | 2, *parts, size]) + content

    graph = b""
    for _ in range(2000):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    content = dense().SerializeToString() + field(7, graph)
    (kit.folder / "net.onnx").write_bytes(content)
    return kit.folder / "net.onnx"


def _looping(condition: list[onnx.NodeProto], count: str = "", start: str = "yes") -> onnx.ModelProto:
    """A model with a loop whose body takes the sine and finds ``on`` by ``condition``."""
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Sin", ["v"], ["v_out"]), *condition],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            go,
            helper.make_tensor_value_info("v", 1, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", 1, None),
        ],
    )
    model = dense()
    weights = {"yes": np.array(True), "two": np.float32(2), "most": np.array((1 << 63) - 1)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    model.graph.node.append(helper.make_node("Loop", [count, start, "y"], ["z"], body=body))
    model.graph.output[0].name = "z"
    return model


@case("not done after")
def onnx_loops_for_ever(kit: Kit) -> list[object]:
    condition = [
        helper.make_node("ReduceMax", ["v_out"], ["largest"], keepdims=0),
        helper.make_node("LessOrEqual", ["largest", "two"], ["on"]),
    ]
    return [written(kit, _looping(condition)), "--time-limit", "4"]


NO_END = "has no end"
cases(
    {
        "on_its_own_condition": (_looping([helper.make_node("Identity", ["go"], ["on"])]), NO_END),
        "on_a_constant": (_looping([helper.make_node("Identity", ["yes"], ["on"])]), NO_END),
        "on_logic": (
            _looping(
                [helper.make_node("Not", ["go"], ["off"]), helper.make_node("Or", ["go", "off"], ["on"])]
            ),
            NO_END,
        ),
        "without_a_condition": (_looping([helper.make_node("Identity", ["go"], ["on"])], start=""), NO_END),
        "to_the_largest_number": (
            _looping([helper.make_node("Identity", ["go"], ["on"])], count="most"),
            NO_END,
        ),
    },
    "onnx_loop",
)(lambda kit, model: written(kit, model))  # type: ignore[arg-type]


# ---- what ONNX's rules forbid --------------------------------------------------------------------


def _checksum(kit: Kit, said: str) -> Path:
    model = external("ext.data", checksum=said)
    kit.copy("ext.onnx")
    (kit.folder / "ext.onnx").unlink()
    data = (kit.folder / "ext.data").read_bytes()
    (kit.folder / "ext.data").write_bytes(data[:48])
    return written(kit, model)


cases(
    {
        "of_another_file": ("da39a3ee5e6b4b0d3255bfef95601890afd80709", "another checksum"),
        "that_is_none": ("sha1", "another checksum"),
        "of_another_kind": (
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "another checksum",
        ),
    },
    "onnx_checksum",
)(lambda kit, said: _checksum(kit, str(said)))


def _typed(nodes: list[onnx.NodeProto], out: tuple[int, list[int]], **weights: np.ndarray) -> onnx.ModelProto:
    """A graph from ``x`` (float32, 2 by 3) to ``y``."""
    graph = helper.make_graph(
        nodes,
        "typed",
        [helper.make_tensor_value_info("x", 1, [2, 3])],
        [helper.make_tensor_value_info("y", *out)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _said(model: onnx.ModelProto, name: str, kind: int, dims: list[int]) -> onnx.ModelProto:
    model.graph.value_info.append(helper.make_tensor_value_info(name, kind, dims))
    return model


CONTRADICT = "contradict each other"
RELU = helper.make_node("Relu", ["x"], ["y"])
TWICE = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
ADD, PRODUCT = helper.make_node("Add", ["x", "w"], ["y"]), helper.make_node("MatMul", ["x", "w"], ["y"])
cases(
    {
        "an_output_of_another_dtype": (_typed([RELU], (7, [2, 3])), CONTRADICT),
        "an_output_of_another_size": (_typed([RELU], (1, [2, 4])), CONTRADICT),
        "an_output_of_another_rank": (_typed([RELU], (1, [6])), CONTRADICT),
        "a_value_of_another_dtype": (_said(_typed(TWICE, (1, [2, 3])), "h", 6, [2, 3]), CONTRADICT),
        "a_sum_of_two_dtypes": (_typed([ADD], (1, [2, 3]), w=np.ones(3, np.int64)), CONTRADICT),
        "a_sum_of_two_sizes": (_typed([ADD], (1, [2, 3]), w=np.ones(4, np.float32)), CONTRADICT),
        "a_product_that_does_not_fit": (
            _typed([PRODUCT], (1, [2, 5]), w=np.ones((4, 5), np.float32)),
            CONTRADICT,
        ),
    },
    "onnx_types",
)(lambda kit, model: written(kit, model))  # type: ignore[arg-type]


def _of_domain(domain: str, *, in_a_branch: bool = False) -> onnx.ModelProto:
    model = dense()
    node = helper.make_node("Run", ["x"], ["z"], domain=domain)
    if in_a_branch:
        inner = helper.make_graph([node], "inner", [], [helper.make_tensor_value_info("z", 1, None)])
        node = helper.make_node("If", ["yes"], ["q"], then_branch=inner, else_branch=inner)
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def _twice(model: onnx.ModelProto, *opsets: tuple[str, int]) -> onnx.ModelProto:
    model.opset_import.extend(helper.make_opsetid(*opset) for opset in opsets)
    return model


def _function_of_two_opsets() -> onnx.ModelProto:
    model = with_functions({"f": ["Relu"]}, "f")
    model.functions[0].opset_import.append(helper.make_opsetid("", 7))
    return model


cases(
    {
        "a_domain_that_nobody_knows": (_of_domain("evil"), "nobody knows"),
        "a_domain_like_one_that_is_known": (_of_domain("com.micros0ft"), "nobody knows"),
        "a_domain_in_a_branch": (_of_domain("my.own", in_a_branch=True), "nobody knows"),
        "an_opset_twice": (_twice(dense(), ("", 13)), "two opsets"),
        "an_opset_twice_by_both_names": (_twice(dense(), ("ai.onnx", 17)), "two opsets|checker"),
        "an_opset_of_a_plug_in_twice": (
            _twice(dense(), ("com.microsoft", 1), ("com.microsoft", 2)),
            "two opsets",
        ),
        "a_function_of_two_opsets": (_function_of_two_opsets(), "two opsets"),
    },
    "onnx_rules",
)(lambda kit, model: written(kit, model))  # type: ignore[arg-type]


# ---- tables of ai.onnx.ml ------------------------------------------------------------------------

TREE = {
    "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.5, 0.0, 0.0], "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0],
    "target_weights": [1.0, 2.0], "n_targets": 1,
}  # fmt: skip


def _of_tables(operator: str, attributes: dict[str, object]) -> onnx.ModelProto:
    node = helper.make_node(operator, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    model = _typed([node], (1, [2, 1]))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return model


TABLES = "tables that do not hold together|checker"
cases(
    {
        "a_branch_out_of_its_tree": (("TreeEnsembleRegressor", {**TREE, "nodes_truenodeids": [99, 0, 0]}), TABLES),
        "a_branch_below_0": (("TreeEnsembleRegressor", {**TREE, "nodes_falsenodeids": [-1, 0, 0]}), TABLES),
        "a_branch_to_its_own_root": (("TreeEnsembleRegressor", {**TREE, "nodes_truenodeids": [0, 0, 0]}), TABLES),
        "a_target_that_is_not_there": (("TreeEnsembleRegressor", {**TREE, "target_ids": [0, 7]}), TABLES),
        "a_target_of_no_node": (("TreeEnsembleRegressor", {**TREE, "target_nodeids": [1, 9]}), TABLES),
        "a_feature_below_0": (("TreeEnsembleRegressor", {**TREE, "nodes_featureids": [-4, 0, 0]}), TABLES),
        "a_table_cut_short": (("TreeEnsembleRegressor", {**TREE, "nodes_values": [0.5]}), TABLES),
        "weights_cut_short": (("TreeEnsembleRegressor", {**TREE, "target_weights": [1.0]}), TABLES),
        "a_node_twice": (("TreeEnsembleRegressor", {**TREE, "nodes_nodeids": [0, 1, 1]}), TABLES),
        "labels_of_unlike_length": (("LabelEncoder", {"keys_floats": [1.0, 2.0], "values_floats": [3.0]}), TABLES),
        "a_matrix_cut_short": (("LinearRegressor", {"coefficients": [1.0] * 5, "intercepts": [0.0, 0.0], "targets": 2}), TABLES),
        "supports_cut_short": (
            ("SVMRegressor", {"n_supports": 3, "coefficients": [1.0], "support_vectors": [1.0] * 9, "rho": [0.0]}), TABLES,
        ),
    },
    "onnx_table",
)(lambda kit, given: written(kit, _of_tables(*given)))  # type: ignore[misc]  # fmt: skip


OWN = "onnxruntime's own format"


@cases(
    {
        "by_a_producer": (b"\x08\x0a\x12\x08ORTMrest", OWN),
        "by_a_domain": (b"\x22\x06xxORTM", OWN),
        "by_a_field_of_nobody": (b"\xfa\x7f\x05xORTM", OWN),
    },
    "onnx_told_otherwise_by_onnxruntime",
)
def _of_two_formats(kit: Kit, head: object) -> Path:
    """Behind four bytes stands the mark by which onnxruntime tells flatbuffers of its own from ONNX."""
    path = kit.copy("net.onnx")
    path.write_bytes(bytes(head) + path.read_bytes())  # type: ignore[call-overload]
    return path
