"""Where two readers part, or one is led elsewhere: words of TorchScript that are bound somewhere else, texts that are named a thousand
times, numbers that Python alone reads, sizes beside a size of nothing, functions reached by attributes of TensorFlow."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
from hostile import Kit, case, cases
from hostile_keras import PLACE, _instead, _weights
from hostile_mxnet import _entry, array, header, listed, npy, npz, params
from hostile_onnx import external, written
from hostile_programs import CONTAINERS, LEAF, _call, _signature, spec, tree
from hostile_pytorch import LINEAR, OPERATION, PROGRAM, evil, factory, program, spoilt
from hostile_saved_model import FILES, LISTED, _body, _saver, changed
from models import dense
from onnx import helper

# ---- TorchScript ---------------------------------------------------------------------------------

OTHER = "  def other(self: __torch__.torch.nn.modules.linear.Linear) -> int:\n    {0} = 3\n    return {0}\n"


def _scripted(kit: Kit, change: object) -> Path:
    return spoilt(kit, "script.pt", LINEAR, lambda content: change(content))  # type: ignore[operator]


def _bound_elsewhere(word: str, call: str) -> Callable[[bytes], bytes]:
    """PyTorch knows a word of its own wherever no variable of that name is in sight."""
    return lambda content: _call(content, call) + OTHER.format(word).encode()


def _before(code: bytes) -> Callable[[bytes], bytes]:
    return lambda content: code + content


cases(
    {
        "fork_that_another_method_binds": (_bound_elsewhere("fork", "fork(self.other)"), OPERATION),
        "print_that_another_method_binds": (_bound_elsewhere("print", "print(input)"), OPERATION),
        "wait_that_another_method_binds": (_bound_elsewhere("awaitable", "awaitable(self.other)"), OPERATION),
        "address_that_another_method_binds": (_bound_elsewhere("id", "id(self)"), OPERATION),
        "print_that_a_loop_binds": (
            lambda content: _call(content, "3\n    for print in range(1):\n      pass\n    print(input)"),
            OPERATION,
        ),
        "print_that_a_list_binds": (
            lambda content: _call(content, "[print for print in [1]]\n    print(input)"),
            OPERATION,
        ),
        "fork_that_a_branch_binds": (
            lambda content: _call(content, "3\n    if True:\n      fork = 3\n    y = fork(self.forward)"),
            OPERATION,
        ),
        "fork_under_another_name": (
            lambda content: _call(content, "3\n    f = fork\n    fork = 3\n    y = f(self.forward)"),
            OPERATION,
        ),
        "fork_under_a_name_of_pytorchs_own": (
            lambda content: _call(
                content, "__torch__.torch.nn.functional.relu\n    _9 = fork\n    fork = 3\n    y = _9(self.forward)"
            ),
            OPERATION,
        ),
        "fork_under_a_name_of_a_function": (
            lambda content: _call(
                content,
                "3\n    _9 = __torch__.torch.nn.functional.relu\n    _9 = fork\n    fork = 3\n    y = _9(self.forward)",
            ),
            OPERATION,
        ),
        "fork_that_is_an_argument": (
            lambda content: _call(content, "fork(self.forward)")
            + b"  def other(self: __torch__.torch.nn.modules.linear.Linear, fork: int) -> int:\n    return fork\n",
            OPERATION,
        ),
        "fork_that_is_a_class": (
            lambda content: b"class fork(NamedTuple):\n  x : int\n" + _call(content, "fork(self.forward)"),
            OPERATION,
        ),
        "word_that_is_assigned_within": (
            lambda content: _call(content, "(fork := 3)\n    y = fork(self.forward)"),
            OPERATION,
        ),
        "import": (_before(b"import os\n"), OPERATION),
        "import_of_a_name": (_before(b"from os import system\n"), OPERATION),
        "hook_that_is_not_there": (
            lambda content: content.replace(
                b"class Linear(Module):\n", b'class Linear(Module):\n  __forward_pre_hooks__ = ["evil", ]\n'
            ),
            OPERATION,
        ),
        "state_that_is_set_by_an_operator": (
            lambda content: content
            + b"  def __setstate__(self: Tensor, state: Tensor) -> None:\n    torch.save(state, 'x')\n",
            OPERATION,
        ),
        "interface": (_before(b"class I(Interface):\n  def set_(self, x: Tensor) -> Tensor:\n    pass\n"), OPERATION),
        "enumeration_of_a_file": (
            _before(b"class E(Enum):\n  A = torch.from_file('/etc/passwd', False, 3)\n"),
            OPERATION,
        ),
        "default_of_an_argument": (
            lambda content: content.replace(b"input: Tensor)", b"input: Tensor=print('x'))"),
            OPERATION,
        ),
        "decorator": (lambda content: content.replace(b"  def forward", b"  @print\n  def forward"), OPERATION),
    },
    "script_word",
)(_scripted)  # fmt: skip

# ---- treespecs -----------------------------------------------------------------------------------

cases(
    {
        name: (text, CONTAINERS)
        for name, text in {
            "a_protocol_that_is_true": json.dumps([True, LEAF]),
            "a_protocol_with_an_exponent": "[1e0, " + json.dumps(LEAF) + "]",
            "children_of_a_mapping": spec({"type": "builtins.list", "context": "null", "children_spec": {}}),
            "a_leaf_with_children": spec({"type": None, "context": None, "children_spec": [LEAF]}),
            "a_length_that_is_true": spec(tree("collections.deque", "true", LEAF)),
            "a_length_below_its_content": spec(tree("collections.deque", "0", LEAF)),
            "a_length_past_64_bits": spec(tree("collections.deque", str(1 << 70), LEAF)),
            "a_type_in_wide_letters": spec(tree("\uff42uiltins.list", "null")),
            "a_factory_in_a_text": spec(
                tree(
                    "collections.defaultdict",
                    json.dumps(
                        {"default_factory_module": "evilmod", "default_factory_name": "E", "dict_context": []}
                    ),
                )
            ),
            "a_key_of_two_lines": spec(tree("builtins.dict", json.dumps(["a\nimport os"]), LEAF)),
            "a_key_of_half_a_letter": spec(tree("builtins.dict", '["\\ud800"]', LEAF)),
            "a_blank_of_another_kind": "\u00a0" + spec(LEAF),
        }.items()
    },
    "pt2_spec",
)(lambda kit, text: spoilt(kit, "net.pt2", PROGRAM, program(_signature(out_spec=text))))

# ---- HDF5 ----------------------------------------------------------------------------------------


def _texts(name: str, where: str, count: int = 4000, size: int = 400_000) -> Callable[[Kit], Path]:
    """A list of ``count`` texts, each of which is the one long text that stands in the file."""

    def make(kit: Kit) -> Path:
        path = kit.copy("whole.h5")
        with h5py.File(path, "a") as file:
            attributes = file[where].attrs
            if name in attributes:
                del attributes[name]
            texts = np.array(["A" * size] + ["b"] * (count - 1), object)
            attributes.create(name, texts, dtype=h5py.string_dtype())
        content = bytearray(path.read_bytes())
        short = struct.pack("<I", 1)
        at = content.find(struct.pack("<I", size))
        while content[at + 16 : at + 20] != short or content[at + 32 : at + 36] != short:
            at = content.find(struct.pack("<I", size), at + 1)
            assert at >= 0
        content[at : at + 16 * count] = bytes(content[at : at + 16]) * count
        path.write_bytes(content)
        return path

    return make


cases(
    {
        "of_its_root": (_texts("model_config", "/"), "list of texts"),
        "that_nobody_asked_for": (_texts("notes", "/"), "list of texts"),
        "of_its_layers": (_texts("layer_names", "model_weights"), "list of texts"),
        "of_its_weights": (_texts("weight_names", "model_weights/dense"), "list of texts"),
    },
    "h5_with_one_text_named_thousands_of_times",
)(lambda kit, make: make(kit))  # type: ignore[operator]


def _structure(kind: object) -> Callable[[h5py.File], object]:
    return lambda file: file.create_dataset(PLACE, (3,), np.dtype([("a", kind), ("b", "f4")]))


def _to_itself(file: h5py.File) -> None:
    file.create_dataset("s", data=np.zeros((3, 4), "f4"))
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource(".", "s", (3, 4), "f4")
    file.create_virtual_dataset(PLACE, layout)


def _optional_filter(file: h5py.File) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((3, 4))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((3, 4))
    h5py.h5d.create(file["layers/dense/vars"].id, b"0", h5py.h5t.IEEE_F32LE, space, properties)


cases(
    {
        "structures_of_texts": (_structure(h5py.string_dtype()), "texts or objects"),
        "structures_of_rows": (_structure(h5py.vlen_dtype(np.int32)), "texts or objects"),
        "structures_of_references": (_structure(h5py.ref_dtype), "texts or objects"),
        "structures_of_regions": (_structure(h5py.regionref_dtype), "texts or objects"),
        "regions": (lambda file: file.create_dataset(PLACE, (3,), h5py.regionref_dtype), "texts or objects"),
        "content_in_two_files": (
            lambda file: file.create_dataset(
                PLACE, (3, 4), "f4", external=[("a.bin", 0, 24), ("/etc/hostname", 0, 24)]
            ),
            "kept in another file",
        ),
        "content_in_its_own_file": (
            lambda file: file.create_dataset(PLACE, (3, 4), "f4", external=[("model.weights.h5", 0, 48)]),
            "kept in another file",
        ),
        "a_virtual_array_of_its_own": (_to_itself, "kept in another file"),
        "a_link_to_its_own_file": (
            lambda file: file.__setitem__(PLACE, h5py.ExternalLink(".", "/layers/dense/vars/1")),
            "link",
        ),
        "a_filter_that_may_be_left_out": (_optional_filter, "filtered by a plugin"),
        "what_was_never_written": (
            lambda file: file.create_dataset(
                PLACE, (1 << 15, 1 << 15), "f4", fillvalue=1.0, chunks=(1024, 1024)
            ),
            "not there|too many pieces",
        ),
        "a_group_that_holds_the_root": (
            lambda file: (file.create_group("a/b"), file.__setitem__("a/b/c", file["/"])),
            "hold each other",
        ),
        "a_name_that_is_no_text": (
            lambda file: h5py.h5g.create(file["layers"].id, b"\xff\xfe"),
            "damaged|HDF5",
        ),
    },
    "keras_held_weights_with",
)(lambda kit, make: _weights(kit, _instead(make)))  # type: ignore[arg-type]

# ---- ONNX ----------------------------------------------------------------------------------------


def _placed(kit: Kit, more: object) -> Path:
    kit.copy("ext.onnx")
    return written(kit, external("ext.data", **more))  # type: ignore[arg-type]


cases(
    {
        name: (more, "is no number")
        for name, more in {
            "with_a_line": {"offset": "0_0"}, "in_wide_digits": {"offset": "\uff10"}, "with_blanks": {"offset": " 0 "},
            "with_a_sign": {"offset": "+0"}, "below_zero": {"offset": "-0"}, "past_64_bits": {"offset": str(1 << 64)},
            "of_a_length_with_a_line": {"length": "4_8"}, "of_a_length_in_wide_digits": {"length": "\uff14\uff18"},
        }.items()
    },
    "onnx_external_number",
)(_placed)  # fmt: skip


@case("lies in the model and outside of it")
def onnx_external_and_in_the_model(kit: Kit) -> Path:
    kit.copy("ext.onnx")
    model = external("ext.data")
    model.graph.initializer[0].raw_data = bytes(48)
    return written(kit, model)


def _shadowed(domain: str, name: str) -> onnx.ModelProto:
    model = dense()
    nodes = [helper.make_node("Add", ["A", "A"], ["t"]), helper.make_node("Gemm", ["t", "B"], ["Y"])]
    model.functions.append(
        helper.make_function(domain, name, ["A", "B"], ["Y"], nodes, [helper.make_opsetid("", 21)])
    )
    return model


cases(
    {
        "multiplies": (("", "MatMul"), "called as an operator"),
        "multiplies_in_the_other_name_of_the_domain": (("ai.onnx", "MatMul"), "called as an operator"),
        "stands_for_a_function_of_onnxs": (("", "Relu"), "called as an operator"),
        "is_a_tree": (("ai.onnx.ml", "TreeEnsembleRegressor"), "called as an operator"),
    },
    "onnx_function_that",
)(lambda kit, given: written(kit, _shadowed(*given)))  # type: ignore[misc]


def _of_nothing(dims: list[int]) -> onnx.ModelProto:
    model = dense()
    tensor = model.graph.initializer.add(name="z", data_type=1, raw_data=b"")
    tensor.dims.extend(dims)
    model.graph.node.append(helper.make_node("Shape", ["z"], ["s"]))
    return model


cases(
    {
        "first": ([0, 1 << 62, 1 << 62], "cannot be"),
        "last": ([1 << 40, 1 << 40, 0], "cannot be"),
        "between": ([1 << 40, 0, 1 << 40], "cannot be"),
        "on_forty_axes": ([1] * 39 + [0], "cannot be"),
    },
    "onnx_sizes_of_nothing",
)(lambda kit, dims: written(kit, _of_nothing(dims)))  # type: ignore[arg-type]


@case("leaves its folder")
def onnx_external_three_links_out(kit: Kit) -> Path:
    kit.secret.touch()
    for name, to in (("a", "b"), ("b", "c"), ("c", "../secret.bin")):
        (kit.folder / name).symlink_to(to)
    return written(kit, external("a"))


@case("hard link")
def onnx_external_hard_link_below(kit: Kit) -> Path:
    (kit.folder / "sub").mkdir()
    os.link(kit.secret, kit.folder / "sub" / "w")
    return written(kit, external("sub/w"))


@case("not a regular file but a FIFO")
def onnx_external_fifo_below(kit: Kit) -> Path:
    (kit.folder / "sub").mkdir()
    os.mkfifo(kit.folder / "sub" / "w")
    return written(kit, external("sub/w"))


@case("outside its folder")
def onnx_external_place_given_twice(kit: Kit) -> Path:
    """The last one counts."""
    kit.copy("ext.onnx")
    model = external("ext.data")
    model.graph.initializer[0].external_data.add(key="location", value="../secret.bin")
    return written(kit, model)


# ---- numpy, MXNet, safetensors -------------------------------------------------------------------

_ARRAY = "'fortran_order': False"
cases(
    {
        "sizes_beside_nothing": (f"{{'descr': '<f4', {_ARRAY}, 'shape': (0, {1 << 62}, {1 << 62})}}", "no array can have"),
        "a_size_that_is_true": (f"{{'descr': '<f4', {_ARRAY}, 'shape': (True,)}}", "no array can have"),
        "eighty_axes": (f"{{'descr': '<f4', {_ARRAY}, 'shape': ({'1,' * 80})}}", "no array can have"),
        "objects_in_a_field": (f"{{'descr': [('a', [('b', '|O')])], {_ARRAY}, 'shape': (1,)}}", "Python objects"),
        "a_key_twice": (f"{{'descr': '<f4', 'descr': '|O', {_ARRAY}, 'shape': (1,)}}", "Python objects"),
        "a_key_more": (f"{{'descr': '<f4', {_ARRAY}, 'shape': (1,), 'x': 1}}", "not an array"),
        "elements_of_no_size": (f"{{'descr': '|V0', {_ARRAY}, 'shape': ({1 << 40},)}}", "another size"),
        "elements_of_terabytes": (f"{{'descr': ('<f4', (1000000, 1000000)), {_ARRAY}, 'shape': (0,)}}", "not an array"),
    },
    "npz_header_with",
)(lambda kit, text: npz(kit, _entry(header(str(text)) + bytes(4))))  # fmt: skip


def _more(name: str, content: Callable[[Kit], bytes]) -> Callable[[Kit], Path]:
    return lambda kit: npz(kit, lambda archive: archive.writestr(name, content(kit)))


def _archive(_: Kit) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("fc_weight.npy", npy(np.ones((2, 3), np.float32)))
    return stream.getvalue()


cases(
    {
        "an_archive": (_more("inner.npz", _archive), "not an array"),
        "a_pickle": (_more("more.pkl", evil), "not an array"),
        "a_pickle_for_an_array": (_more("more.npy", evil), "not an array"),
        "a_weight_by_its_long_name": (
            _more("arg:fc_weight.npy", lambda _: npy(np.ones((2, 3), np.float32))),
            "twice",
        ),
    },
    "npz_that_holds",
)(lambda kit, make: make(kit))  # type: ignore[operator]


@case("larger than any memory")
def params_of_nothing_and_all(kit: Kit) -> Path:
    names = struct.pack("<2Q", 1, 13) + b"arg:fc_weight"
    return params(kit, listed(array((0, 1 << 62, 1 << 62), size=0), names=names))


def _safetensors(kit: Kit, more: object) -> object:
    head = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": ends}
        for name, shape, ends in (
            ("0.weight", [4, 3], [0, 48]), ("0.bias", [4], [48, 64]), ("2.weight", [2, 4], [64, 96]), ("2.bias", [2], [96, 104]),
        )
    }  # fmt: skip
    head.update(more)  # type: ignore[call-overload]
    text = json.dumps(head).encode()
    size = max(each["data_offsets"][1] for key, each in head.items() if not key.startswith("__"))
    path = kit.folder / "w.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    return factory(kit, path)


def _row(dtype: str, shape: list[int], *ends: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(ends)}


cases(
    {
        "sizes_beside_nothing": ({"z": _row("F32", [0, 1 << 62, 1 << 62], 104, 104)}, "not a safetensors file"),
        "a_dtype_that_torch_lacks": ({"2.bias": _row("F4", [2], 96, 97)}, "not a safetensors file"),
        "a_hole": ({"2.bias": _row("F32", [2], 100, 108)}, "not a safetensors file"),
        "an_overlap": ({"2.bias": _row("F32", [2], 88, 96)}, "not a safetensors file"),
        "a_negative_size": ({"z": _row("F32", [-1], 104, 104)}, "not a safetensors file"),
        "metadata_that_is_a_list": ({"__metadata__": ["x"]}, "not a safetensors file"),
        "a_name_of_another_case": ({"0.Weight": _row("F32", [4, 3], 104, 152)}, "do not fit"),
        "a_name_in_decomposed_letters": (
            {"e\u0301": _row("F32", [1], 104, 108), "\u00e9": _row("F32", [1], 108, 112)},
            "do not fit",
        ),
    },
    "safetensors_with",
)(_safetensors)  # fmt: skip

# ---- SavedModels ---------------------------------------------------------------------------------


def _reached(operator: str, key: str, listed: bool = False) -> Callable[[Any], object]:
    """The saver as a function in an attribute of a node of the served function."""

    def change(graph: Any) -> None:
        value = _body(graph).node_def.add(name="evil", op=operator).attr[key]
        (value.list.func.add() if listed else value.func).name = _saver(graph)

    return change


def _by_a_gradient_type(graph: Any) -> None:
    for node in _body(graph).node_def:
        node.attr["_gradient_op_type"].s = _saver(graph).encode()


def _by_an_object(graph: Any) -> None:
    for node in graph.object_graph_def.nodes:
        if node.HasField("function"):
            node.function.concrete_functions[:] = [_saver(graph)]


def _by_a_captured_tensor(graph: Any) -> None:
    node = graph.object_graph_def.nodes.add()
    node.captured_tensor.name, node.captured_tensor.concrete_function = "evil", _saver(graph)


cases(
    {
        "the_condition_of_a_loop": (_reached("While", "cond"), FILES),
        "the_body_of_a_loop": (_reached("StatelessWhile", "body"), FILES),
        "one_of_many_branches": (_reached("Case", "branches", True), FILES),
        "a_branch": (_reached("StatelessIf", "then_branch"), FILES),
        "a_batch": (_reached("BatchFunction", "f"), FILES),
        "an_iterator": (_reached("OneShotIterator", "dataset_factory"), FILES),
        "an_attribute_of_nobody": (_reached("Identity", "evil"), FILES),
        "a_list_of_an_attribute_of_nobody": (_reached("NoOp", "evil", True), FILES),
        "a_type_of_gradient": (_by_a_gradient_type, FILES),
        "a_function_of_an_object": (_by_an_object, FILES),
        "a_captured_tensor": (_by_a_captured_tensor, FILES),
        "a_symbolic_gradient": (_reached("SymbolicGradient", "f"), LISTED),
        "another_machine": (_reached("RemoteCall", "f"), LISTED),
        "a_compiled_part": (_reached("XlaLaunch", "function"), LISTED),
    },
    "served_saver_reached_by",
)(lambda kit, change: changed(kit, change))  # type: ignore[arg-type]


def _asset(name: str, make: Callable[[Path], object]) -> Callable[[Kit], Path]:
    def made(kit: Kit) -> Path:
        folder = changed(kit, lambda graph: graph.asset_file_def.add(filename=name))
        (folder / "assets").mkdir(exist_ok=True)
        make(folder / "assets" / "words.txt")
        return folder

    return made


cases(
    {
        "a_fifo": (_asset("words.txt", os.mkfifo), "not a regular file but a FIFO"),
        "a_link": (_asset("words.txt", lambda path: path.symlink_to("/etc/hostname")), "leaves its folder"),
        "a_hard_link": (
            _asset("words.txt", lambda path: (path.write_bytes(b"x"), os.link(path, path.with_name("more")))),
            "hard link",
        ),
        "the_graph_itself": (_asset("./../saved_model.pb", lambda path: path), "outside its folder"),
        "a_name_that_ends_early": (_asset("words\0/../../x", lambda path: path), "outside its folder"),
    },
    "served_asset_that_is",
)(lambda kit, make: make(kit))  # type: ignore[operator]


@case("hard link")
def served_graph_hard_link(kit: Kit) -> Path:
    folder = kit.copy("served")
    os.link(folder / "saved_model.pb", kit.folder / "other")
    return folder


@case("leaves its folder|has no content")
def served_variables_linked_out(kit: Kit) -> Path:
    folder = kit.copy("served")
    (folder / "variables").rename(kit.folder.parent / f"{kit.folder.name}.variables")
    (folder / "variables").symlink_to(f"../../{kit.folder.name}.variables")
    return folder
