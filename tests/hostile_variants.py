"""Further variants of each kind: what the other modules hold once, said in another way."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from hostile import Kit, case, cases
from hostile_archives import (
    TWICE,
    _hidden,
    bare,
    both,
    doubled,
    expression,
    near,
    of,
    pickled,
    rebuilt,
    renamed,
    same,
)
from hostile_programs import CONTAINERS, _call, _signature, spec, tree
from hostile_pytorch import LINEAR, OPERATION, PROGRAM, evil, factory, program, retargeted, saved, spoilt
from hostile_saved_model import _body, changed
from models import dense
from onnx import TensorProto, helper
from structure_mutants import Zip, entry

# ---- archives --------------------------------------------------------------------------------------

STRANGE = (
    "two sizes|differs|damaged|not where|says something else|what stands behind|a gap|twice|take differently|is none|"
    "two ends|does not write|leads out|more than tensors need|an unusual way|compressed in a way|of another part|"
    "more in its table|does not name|sizes that are no arithmetic|encrypted|several parts"
)


def _far(ending: str, **other: Any) -> Any:
    def change(it: Zip, kit: Kit) -> None:
        one = of(it, ending)
        assert one.far is not None
        one.far = replace(one.far, **other)

    return change


def _end(**other: Any) -> Any:
    return lambda it, kit: [setattr(it.end, key, value) for key, value in other.items()]


def _long_end(**said: int) -> Any:
    return lambda it, kit: setattr(it.end, "long", dict(said))


def _archive_in_the_comment(it: Zip, kit: Kit) -> None:
    """Whoever looks for the last end record finds that of another archive, in the first one's comment."""
    it.end.comment = _hidden(it, kit, "models/model.json", b"{}")


def _end_in_the_comment(it: Zip, kit: Kit) -> None:
    it.end.comment = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)


def _table_in_an_entry(it: Zip, kit: Kit) -> None:
    """The end record points into a stored entry, where a whole archive stands."""
    inner = _hidden(it, kit, "models/model.json", b"{}")
    it.entries.insert(0, entry(b"net/data/weights/weight_9", inner))
    it.end.start = 30 + 25 + inner.rfind(b"PK\1\2")


def _unicode_name_before(it: Zip, kit: Kit) -> None:
    one = of(it, "byteorder")
    name = b"net/models/model.json"
    one.near = replace(
        one.near, extra=struct.pack("<2HBL", 0x7075, 5 + len(name), 1, zlib.crc32(one.near.name)) + name
    )


def _described_long(it: Zip, kit: Kit) -> None:
    """A data descriptor of 64 bits whose lower halves are true ones."""
    one = of(it, "models/model.json")
    size = len(one.data)
    one.near, one.far = replace(one.near, flags=8, check=0, packed=0, size=0), replace(one.near, flags=8)
    one.behind = b"PK\x07\x08" + struct.pack("<L2Q", zlib.crc32(one.data), size | 1 << 32, size)


cases(
    {
        "encrypted_in_the_table": (_far("models/model.json", flags=1), STRANGE),
        "encrypted_in_both": (both("models/model.json", flags=1), STRANGE),
        "encrypted_before_the_entry": (near("models/model.json", flags=1), STRANGE),
        "with_masked_heads": (both("models/model.json", flags=1 << 13), STRANGE),
        "strongly_encrypted": (both("models/model.json", flags=1 | 1 << 6), STRANGE),
        "patched": (both("models/model.json", flags=1 << 5), STRANGE),
        "in_utf8_by_the_table_alone": (_far("models/model.json", flags=0x800), STRANGE),
        "of_another_method_in_the_table": (_far("models/model.json", method=8), STRANGE),
        "packed_by_lzma": (both("models/model.json", method=14), STRANGE),
        "packed_by_deflate64": (both("models/model.json", method=9), STRANGE),
        "of_another_size_in_the_table": (_far("weight_0", size=4), STRANGE),
        "of_another_name_in_the_table": (_far("weight_0", name=b"net/data/weights/weight_1"), STRANGE),
        "of_two_names_of_one_length": (near("models/model.json", name=b"net/models/model.JSON"), STRANGE),
        "on_another_disk": (_far("models/model.json", disk=1), STRANGE),
        "with_a_second_name_before_the_entry": (_unicode_name_before, STRANGE),
        "with_a_long_description": (_described_long, STRANGE),
        "with_an_archive_in_its_comment": (_archive_in_the_comment, STRANGE),
        "with_an_end_in_its_comment": (_end_in_the_comment, STRANGE),
        "whose_table_stands_in_an_entry": (_table_in_an_entry, STRANGE),
        "whose_end_counts_fewer": (_end(count=1, here=1), STRANGE),
        "whose_end_counts_two_ways": (_end(here=1), STRANGE),
        "whose_table_is_shorter": (_end(length=50), STRANGE),
        "whose_table_begins_later": (_end(start=1 << 20), STRANGE),
        "on_two_disks": (_end(disk=1), STRANGE),
        "whose_long_end_counts_fewer": (_long_end(count=1), STRANGE),
        "whose_long_end_is_elsewhere": (_long_end(place=0), STRANGE),
        "on_two_disks_by_its_locator": (_long_end(disks=2), STRANGE),
        "with_a_drive_in_a_name": (doubled("models/model.json", lambda n: b"C:" + n, expression), STRANGE),
        "with_a_name_in_backslashes": (
            doubled("models/model.json", lambda n: n.replace(b"/", b"\\"), expression),
            STRANGE,
        ),
        "with_a_name_from_the_root": (doubled("models/model.json", lambda n: b"/" + n, expression), STRANGE),
        "with_a_name_in_its_own_encoding": (
            doubled("models/model.json", lambda n: n[:-1] + b"\xff", expression),
            STRANGE,
        ),
        "with_a_mark_that_is_not_seen": (
            doubled(
                "models/model.json",
                lambda n: n.replace(b"model.json", "model\u200d.json".encode()),
                expression,
            ),
            STRANGE,
        ),
        "with_a_program_in_decomposed_letters": (
            doubled(
                "models/model.json",
                lambda n: n.replace(b"model.json", "mode\u0308l.json".encode()),
                expression,
            ),
            STRANGE,
        ),
        "with_inputs_beside_the_inputs": (
            doubled("sample_inputs/model.pt", lambda n: n.replace(b"model.pt", b"other.pt"), pickled),
            STRANGE,
        ),
    },
    "archive",
)(lambda kit, change: rebuilt(kit, "net.pt2", change))  # type: ignore[arg-type]
cases(
    {
        "encrypted": (both("/data.pkl", flags=1), STRANGE),
        "of_two_versions": (doubled("version", same, lambda data, kit: b"9\n"), TWICE),
        "of_another_order_of_bytes": (doubled("byteorder", bytes.upper, lambda data, kit: b"big"), TWICE),
        "whose_pickle_stands_a_folder_deeper": (
            renamed("/data.pkl", lambda n: n.replace(b"/", b"/x/"), bare),
            STRANGE + "|not a|misses|no pickle",
        ),
        "with_an_end_in_its_comment": (_end_in_the_comment, STRANGE),
        "with_a_long_description": (lambda it, kit: _described_pickle(it), STRANGE),
    },
    "state_archive",
)(lambda kit, change: factory(kit, rebuilt(kit, "state.pt", change)))  # type: ignore[arg-type]


def _described_pickle(it: Zip) -> None:
    one = of(it, "/data.pkl")
    size = len(one.data)
    one.near, one.far = replace(one.near, flags=8, check=0, packed=0, size=0), replace(one.near, flags=8)
    one.behind = b"PK\x07\x08" + struct.pack("<3L", zlib.crc32(one.data), size, size + 1)


# ---- treespecs and texts ---------------------------------------------------------------------------

cases(
    {
        name: (text, CONTAINERS)
        for name, text in {
            "a_data_class": spec(tree("torch.utils._pytree.DataClass", "evilmod.E")),
            "an_enum_as_its_type": json.dumps([1, {"type": {"__enum__": True, "fqn": "evilmod:E"}, "context": None, "children_spec": []}]),
            "a_context_of_lists": spec({"type": "builtins.dict", "context": [["evilmod:E"]], "children_spec": []}),
            "a_dict_of_a_dict": spec(tree("builtins.dict", json.dumps([{"__enum__": True, "fqn": "os:X", "name": "A"}]))),
            "a_subclass_by_its_module": spec(tree("evilmod.list", "null")),
            "a_slice_of_an_enum": spec(tree("builtins.slice", json.dumps([{"__enum__": True}]))),
            "a_key_twice": '[1, {"type": "builtins.list", "type": "evilmod.E", "context": "null", "children_spec": []}]',
            "a_key_of_another_case": spec({"Type": "evilmod.E", **tree("builtins.list", "null")}),
            "a_mark_before_it": "\ufeff" + spec(tree("builtins.list", "null")),
            "a_second_document": spec(tree("builtins.list", "null")) + " [1]",
            "a_protocol_of_a_float": json.dumps([1.0, tree("evilmod.E", "null")]),
        }.items()
    },
    "pt2_treespec",
)(lambda kit, text: spoilt(kit, "net.pt2", PROGRAM, program(_signature(out_spec=text))))  # fmt: skip

# ---- operators -------------------------------------------------------------------------------------

cases(
    {
        name.replace(".", "_").replace("::", "_"): (target, "operators that are on no list")
        for name, target in {
            each: f"torch.ops.{each}"
            for each in (
                "aten.from_file.default", "aten.record_stream.default", "aten._sparse_coo_tensor_unsafe.default",
                "aten._nested_view_from_buffer.default", "aten._unsafe_view_copy.default", "aten._make_dual.default", "profiler._record_function_enter_new.default",
                "higher_order.run_const_graph", "higher_order.triton_kernel_wrapper_mutation", "inductor.resize_storage_bytes_.default",
                "c10d.broadcast_.default", "mkldnn._linear_pointwise.default", "prims.copy_to.default", "rprims.philox.default",
                "quantized.linear_prepack.default", "aten._cufft_clear_plan_cache.default",
            )
        }.items()
    },
    "pt2_further",
)(retargeted)  # fmt: skip
cases(
    {
        name: (f"torch.ops.aten.{name}.default", "PyTorch reads .Failed deserializing")
        for name in ("index_put_", "unsafe_chunk", "addmm", "layer_norm")
    },
    "pt2_arguments_of_another_operator_than",
)(retargeted)
cases(
    {
        "from_a_file": ("torch.from_file('/etc/passwd', False, 8)", OPERATION),
        "of_a_save": ("torch.save(input, 'x')", OPERATION),
        "that_fills_in_place": ("input.random_()", OPERATION),
        "of_a_share": ("input.data_ptr()", OPERATION),
        "that_sets_a_seed": ("torch.manual_seed(1)", OPERATION),
        "that_prints": ("print(input)", OPERATION),
        "that_waits": ("torch.wait(input)", OPERATION),
        "of_another_thread": ("fork(input)", OPERATION),
        "that_reads_a_line": ("prim.PythonOp(input)", OPERATION),
        "of_a_profile": ("ops.profiler._record_function_enter('x')", OPERATION),
        "that_is_a_class_of_cpp": (
            "__torch__.torch.classes.quantized.LinearPackedParamsBase",
            OPERATION + "|classes",
        ),
    },
    "script_further",
)(lambda kit, call: spoilt(kit, "script.pt", LINEAR, lambda content: _call(content, str(call))))

# ---- SavedModels -----------------------------------------------------------------------------------

WITHIN = "files|operators|node|refused|no list|none of|knows|damaged|another machine|device"


def _added(operator: str, **texts: Any) -> Any:
    """A node more in the first function of the served model, with attributes of text."""

    def change(graph: Any) -> None:
        node = _body(graph).node_def.add()
        node.name, node.op = "further", operator
        for key, value in texts.items():
            node.attr[key].list.s.extend(value) if isinstance(value, list) else setattr(
                node.attr[key], "s", value
            )

    return change


cases(
    {
        "that_sends_what_it_sees_to_a_file": (
            _added("DebugIdentityV2", debug_urls=[b"file:///tmp/x"]),
            WITHIN,
        ),
        "that_copies_it_for_a_debugger": (
            _added("Copy", debug_ops_spec=[b"DebugIdentity;file:///tmp/x;0"]),
            WITHIN,
        ),
        "that_writes_a_summary": (_added("SummaryWriter"), WITHIN),
        "that_reads_a_whole_file": (_added("WholeFileReaderV2"), WITHIN),
        "that_looks_for_files": (_added("MatchingFiles"), WITHIN),
        "that_loads_a_data_set": (_added("LoadDataset", reader_func=b"x"), WITHIN),
        "that_decodes_protobuf": (_added("DecodeProtoV2", descriptor_source=b"/etc/passwd"), WITHIN),
        "that_asks_another_machine": (_added("RpcCall"), WITHIN),
        "that_makes_a_window": (_added("Barrier"), WITHIN),
        "of_another_kernel": (_added("_MklFusedConv2D"), WITHIN),
        "with_a_space_in_its_operator": (_added("ReadFile "), WITHIN),
        "with_an_end_in_its_operator": (_added("ReadFile\0Relu"), WITHIN),
    },
    "served_node",
)(lambda kit, change: changed(kit, change))  # type: ignore[arg-type]

# ---- ONNX ------------------------------------------------------------------------------------------


def _onnx(kit: Kit, change: Any) -> Path:
    model = dense()
    change(model)
    path = kit.folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _outside(location: str) -> Any:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "64")):
            tensor.external_data.add(key=key, value=value)

    return change


OUTSIDE = (
    "not a regular file|outside|leads out|no such|not a name|external|absolute|cannot be read|another system"
)
cases(
    {
        name: (_outside(location), OUTSIDE)
        for name, location in {
            "through_a_folder_that_is_not_there": "x/../../secret.bin",
            "with_a_backslash": "..\\secret.bin",
            "by_an_address": "file:///etc/passwd",
            "by_a_descriptor": "/proc/self/fd/0",
            "with_an_end_in_it": "net.data\0/../secret.bin",
            "of_a_device": "/dev/zero",
            "of_home": "~/secret.bin",
            "of_a_variable": "$HOME/secret.bin",
            "of_nothing": "",
            "of_its_folder": ".",
        }.items()
    },
    "onnx_data",
)(_onnx)


@case("outside|leads out|link")
def onnx_data_through_two_links(kit: Kit) -> Path:
    path = _onnx(kit, _outside("a/b"))
    (kit.folder / "a").mkdir()
    (kit.folder / "c").symlink_to(kit.secret)
    (kit.folder / "a" / "b").symlink_to("../c")
    return path


@case("outside|leads out|link")
def onnx_data_below_a_linked_folder(kit: Kit) -> Path:
    path = _onnx(kit, _outside(f"a/{kit.secret.name}"))
    (kit.folder / "a").symlink_to(kit.secret.parent)
    return path


def _attribute(model: onnx.ModelProto, name: str, value: Any) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute(name, value))


def _type_of_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


def _negative(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([-4, -3])


def _shorter(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def _twice_defined(model: onnx.ModelProto) -> None:
    model.graph.node.append(model.graph.node[0])


def _unheld(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nobody"


def _no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def _two_kinds(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].float_data.append(1.0)


def _itself(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="own", version=1)
    own = helper.make_function(
        "own",
        "F",
        ["a"],
        ["b"],
        [helper.make_node("F", ["a"], ["b"], domain="own")],
        [helper.make_opsetid("own", 1)],
    )
    model.functions.append(own)
    model.graph.node[0].CopyFrom(
        helper.make_node(
            "F", list(model.graph.node[0].input)[:1], list(model.graph.node[0].output), domain="own"
        )
    )


cases(
    {
        "whose_weight_is_of_no_dtype": (_type_of_weight, "a dtype that ONNX does not have"),
        "whose_weight_has_negative_sizes": (_negative, "sizes that cannot be"),
        "whose_weight_is_too_short": (_shorter, "other content than its sizes say"),
        "that_goes_in_a_circle": (_cycle, "topologically sorted"),
        "that_makes_a_value_twice": (_twice_defined, "single static assignment"),
        "whose_output_nobody_makes": (_unheld, "not an output of any node"),
        "without_an_opset": (_no_opset, "must specify opset_import"),
        "whose_weight_stands_in_two_fields": (_two_kinds, "one and only one value field"),
        "whose_function_calls_itself": (_itself, "a function that calls itself"),
        "with_an_attribute_of_nobody": (
            lambda model: _attribute(model, "evil", 3),
            "Unrecognized attribute: evil",
        ),
        "of_an_opset_of_nobody": (
            lambda model: setattr(model.opset_import[0], "version", 999),
            "its opset is none that this onnx knows",
        ),
        "of_an_operator_of_nobody": (
            lambda model: setattr(model.graph.node[0], "op_type", "Evil"),
            "No Op registered for Evil",
        ),
    },
    "onnx_invalid",
)(lambda kit, change: [_onnx(kit, change), "--no-verify"])

# ---- pickles, MXNet, Keras ---------------------------------------------------------------------------


def _after(stop: bytes) -> Any:
    return lambda kit: stop + evil(kit)


def _encoded(kit: Kit) -> bytes:
    """A second import under the name of what is allowed, in another case."""
    return b"\x80\x02ctorch._utils\n_Rebuild_tensor_v2\n."


PICKLED = {
    "of_another_protocol": lambda kit: evil(kit, 4),
    "of_the_oldest_protocol": lambda kit: evil(kit, 0),
    "of_the_newest_protocol": lambda kit: evil(kit, 5),
    "of_another_case": _encoded,
    "of_a_memo_without_end": lambda kit: b"\x80\x02]q\x00" + b"h\x00a" * 10 + b"(h\x00h\x00e" + b"c__builtin__\neval\n.",
    "of_an_extension": lambda kit: b"\x80\x02\x82\x01.",
    "of_a_buffer": lambda kit: b"\x80\x05\x97.",
    "of_a_persistent_line": lambda kit: b"Pevil\n.",
    "of_a_dotted_name": lambda kit: b"\x80\x04\x8c\x0ccollections\n\x8c\x14OrderedDict.__init__\x93.",
    "of_a_builtin_getattr": lambda kit: b"\x80\x02c__builtin__\ngetattr\n.",
    "of_a_storage_of_another_module": lambda kit: b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x01x\x85R.",
}  # fmt: skip
cases(
    {
        **{
            name: (make, "more than tensors need|cannot be read|damaged|pickle")
            for name, make in PICKLED.items()
        },
        # torch stops at the end of the first, which is an empty state dict; the second is read by nobody
        "of_two_pickles": (_after(b"\x80\x02}."), "the weights do not fit"),
    },
    "state_pickle",
)(
    lambda kit, make: _pickled(kit, make(kit))  # type: ignore[operator]
)


def _pickled(kit: Kit, content: bytes) -> object:
    path = kit.folder / "state.pt"
    path.write_bytes(saved(content))
    return factory(kit, path)
