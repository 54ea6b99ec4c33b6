"""Exported programs and TorchScript whose texts PyTorch would import, evaluate, or take for an operator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Kit, case, cases
from hostile_pytorch import (
    LINEAR,
    OPERATION,
    PROGRAM,
    added,
    entries,
    evil,
    program,
    retargeted,
    saved,
    spoilt,
    write,
)

Change = Callable[[dict[str, Any]], object]


def renamed(found: Any, old: str, new: str) -> Any:
    """The document with another text in the place of ``old``, keys too."""
    if isinstance(found, dict):
        return {new if key == old else key: renamed(value, old, new) for key, value in found.items()}
    if isinstance(found, list):
        return [renamed(each, old, new) for each in found]
    return new if found == old else found


# ---- treespecs -----------------------------------------------------------------------------------

LEAF = {"type": None, "context": None, "children_spec": []}
ENUM = json.dumps({"__enum__": True, "fqn": "evilmod:E", "name": "A"})
CONTAINERS = "containers that are on no list"


def tree(kind: str | None, context: Any, *children: Any) -> dict[str, Any]:
    return {"type": kind, "context": context, "children_spec": list(children)}


def nested(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = tree("builtins.list", "null", inner)
    return inner


def factory(module: str, name: str) -> Any:
    keys = {"default_factory_module": module, "default_factory_name": name, "dict_context": []}
    return tree("collections.defaultdict", keys)


def spec(found: Any) -> str:
    return json.dumps([1, found])


SPECS = {
    "an_enum_in_a_list": spec(tree("builtins.list", ENUM)),
    "an_enum_in_a_key": spec(tree("builtins.dict", f"[{ENUM}]", LEAF)),
    "an_enum_in_escapes": spec(tree("builtins.list", '{"\\u005f_enum__": true, "fqn": "evilmod:E", "name": "A"}')),
    "an_enum_thirty_lists_deep": spec(nested(30, tree("builtins.tuple", ENUM))),
    "an_enum_in_the_length_of_a_deque": spec(tree("collections.deque", ENUM, LEAF)),
    "an_enum_in_an_ordered_dict": spec(tree("collections.OrderedDict", f"[[{ENUM}]]", LEAF)),
    "an_enum_in_an_immutable_list": spec(tree("torch.fx.immutable_collections.immutable_list", ENUM)),
    "an_enum_behind_a_first_value": spec(tree("builtins.tuple", "null")).replace(
        '"context": "null"', '"context": "null", "context": ' + json.dumps(ENUM)
    ),
    "a_factory_to_import": spec(factory("evilmod", "E")),
    "a_factory_of_the_system": spec(factory("os", "getcwd")),
    "a_factory_that_evaluates": spec(factory("builtins", "eval")),
    "a_named_tuple": spec(tree("collections.namedtuple", "evilmod.E", LEAF)),
    "an_unknown_type": spec(tree("evilmod.E", "null", LEAF)),
    "a_type_without_a_name": spec(tree("NO_SERIALIZED_TYPE_NAME_FOUND", "null", LEAF)),
    "a_deque_of_text": spec(tree("collections.deque", '"3"', LEAF)),
    "another_protocol": json.dumps([2, LEAF]),
    "a_protocol_of_text": json.dumps(["1", LEAF]),
    "a_field_more": spec({**LEAF, "fqn": "evilmod:E"}),
    "a_key_that_ends_its_text": spec(tree("builtins.dict", json.dumps(["a'+x+'"]), LEAF)),
    "no_number": spec(tree("collections.deque", "NaN", LEAF)),
    "lists_without_end": spec(nested(60, LEAF)),
    "nothing": "",
}  # fmt: skip


def _signature(**texts: Any) -> Change:
    return lambda found: found["graph_module"]["module_call_graph"][0]["signature"].update(texts)


cases({name: (text, CONTAINERS) for name, text in SPECS.items()}, "pt2_out_spec")(
    lambda kit, text: spoilt(kit, "net.pt2", PROGRAM, program(_signature(out_spec=text)))
)
cases({name: (SPECS[name], CONTAINERS) for name in list(SPECS)[:9:2]}, "pt2_in_spec")(
    lambda kit, text: spoilt(kit, "net.pt2", PROGRAM, program(_signature(in_spec=text)))
)


@case(CONTAINERS)
def pt2_in_spec_of_a_submodule(kit: Kit) -> Path:
    def change(found: dict[str, Any]) -> None:
        graph = found["graph_module"]["module_call_graph"]
        graph[1]["signature"] = {**graph[0]["signature"], "in_spec": SPECS["an_enum_in_a_list"]}

    return spoilt(kit, "net.pt2", PROGRAM, program(change))


@case(CONTAINERS)
def pt2_in_spec_in_escapes(kit: Kit) -> Path:
    """Every sign of the text as an escape of the document around it."""

    def apply(content: bytes) -> bytes:
        changed = program(_signature(out_spec="@@"))(content)
        text = "".join(f"\\u{ord(sign):04x}" for sign in SPECS["an_enum_in_a_list"])
        return changed.replace(b"@@", text.encode())

    return spoilt(kit, "net.pt2", PROGRAM, apply)


# ---- what is written into code -------------------------------------------------------------------

NAMES, CODE = "names that are none", "__import__('os').system('touch marker')"


def _constant_input(found: dict[str, Any]) -> None:
    found["graph_module"]["signature"]["input_specs"].append(
        {"constant_input": {"name": "mode", "value": {"as_string": f"' or {CODE} or '"}}}
    )


cases(
    {
        "of_an_argument": (_signature(forward_arg_names=[f"input={CODE}"]), NAMES),
        "of_a_keyword": (
            _signature(in_spec=spec(tree("builtins.tuple", "null", tree("builtins.tuple", "null"),
                                         tree("builtins.dict", json.dumps([f"x={CODE}"]), LEAF)))),
            CONTAINERS,
        ),
        "of_a_constant": (_constant_input, NAMES),
        "of_a_module": (
            lambda found: found["graph_module"]["module_call_graph"][1].update(fqn=f"a'+{CODE}+'"), NAMES,
        ),
        "that_is_a_word_of_python": (_signature(forward_arg_names=["lambda"]), NAMES),
    },
    "pt2_name",
)(lambda kit, change: spoilt(kit, "net.pt2", PROGRAM, program(change)))  # type: ignore[arg-type]  # fmt: skip

cases(
    {
        "a_value": (("relu", f"relu={CODE};relu"), NAMES),
        "an_input": (("input", f"input={CODE}"), NAMES),
        "a_weight": (("0.weight", f'0.weight"+{CODE}+"'), NAMES),
        "a_placeholder": (("p_0_weight", "p_0_weight):\n  pass\nimport os\ndef f("), NAMES),
    },
    "pt2_renamed",
)(lambda kit, names: _renamed(kit, *names))  # type: ignore[misc]


def _renamed(kit: Kit, old: str, new: str) -> Path:
    return spoilt(
        kit, "net.pt2", PROGRAM, lambda content: json.dumps(renamed(json.loads(content), old, new)).encode()
    )


GUARDS = "guards that are no arithmetic"
cases(
    {
        "that_imports": (CODE, GUARDS),
        "that_leaves_its_text": (f'1 == 1, "") or {CODE} or ("', GUARDS),
        "with_a_comment": ("1 == 1 #", GUARDS),
        "with_an_attribute": ("L['input'].__class__ == 1", GUARDS),
        "with_a_quote_in_a_key": ("L['it\\'s'].size()[0] == 1", GUARDS),
        "with_a_lambda": ("(lambda: 1)() == 1", GUARDS),
        "that_loads": ("torch.load('x') == 1", GUARDS),
        "with_a_power_tower": ("9**9**9**9 > 1", GUARDS),
    },
    "pt2_guard",
)(
    lambda kit, guard: spoilt(
        kit, "net.pt2", PROGRAM, program(lambda found: found["guards_code"].append(guard))
    )
)


@case(NAMES)
def pt2_example_with_a_key_that_is_code(kit: Kit) -> Path:
    import pickle

    content = pickle.dumps((({f"a'+{CODE}+'": 1},), {}), 2)
    return spoilt(kit, "net.pt2", r"sample_inputs/model\.pt", lambda _: saved(content))


# ---- what stands where ---------------------------------------------------------------------------


@case("operators that are on no list")
def pt2_operator_as_an_argument(kit: Kit) -> Path:
    def change(found: dict[str, Any]) -> None:
        node = found["graph_module"]["graph"]["nodes"][-1]
        node["inputs"].append(
            {"name": "", "arg": {"as_operator": "torch.ops.aten.from_file.default"}, "kind": 1}
        )

    return spoilt(kit, "net.pt2", PROGRAM, program(change))


@case("operators that are on no list")
def pt2_operator_in_an_inner_graph(kit: Kit) -> Path:
    def change(found: dict[str, Any]) -> None:
        graph = found["graph_module"]["graph"]
        inner = json.loads(json.dumps(graph))
        inner["nodes"][0]["target"] = "torch.ops.aten.from_file.default"
        graph["nodes"][-1]["inputs"].append(
            {"name": "", "arg": {"as_graph": {"name": "inner", "graph": inner}}, "kind": 1}
        )

    return spoilt(kit, "net.pt2", PROGRAM, program(change))


@case("entries that PyTorch does not write")
def pt2_program_of_another_ending(kit: Kit) -> Path:
    """PyTorch reads whatever lies in ``models``."""
    path = kit.copy("net.pt2")
    content = entries(path)
    (name,) = [each for each in content if each.endswith("models/model.json")]

    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["graph"]["nodes"][0]["target"] = "torch.load"

    return write(path, {**content, "net/models/more.bin": program(change)(content[name])})


@case("does not know")
def pt2_field_of_tomorrow(kit: Kit) -> Path:
    return spoilt(kit, "net.pt2", PROGRAM, program(lambda found: found.update(init_code=CODE)))


@case("classes of their own")
def pt2_object_as_an_argument(kit: Kit) -> Path:
    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["graph"]["custom_obj_values"]["x"] = {"name": "x", "class_fqn": "evilmod.E"}

    return spoilt(kit, "net.pt2", PROGRAM, program(change))


@case("says 'guards_code' twice")
def pt2_key_twice(kit: Kit) -> Path:
    def apply(content: bytes) -> bytes:
        return b'{"guards_code": ' + json.dumps([CODE]).encode() + b", " + content[1:]

    return spoilt(kit, "net.pt2", PROGRAM, apply)


@case("not JSON")
def pt2_json_of_two_bytes_a_sign(kit: Kit) -> Path:
    return spoilt(kit, "net.pt2", PROGRAM, lambda content: content.decode().encode("utf-16"))


@case("entries that PyTorch does not write|more than tensors need")
def pt2_of_old_with_weights_as_json(kit: Kit) -> Path:
    old = {f"serialized_{name}.json": saved(evil(kit)) for name in ("state_dict", "constants")}
    return write(
        kit.folder / "net.pt2", {"serialized_exported_program.json": b"{}", "version": b"8.1", **old}
    )


@case(NAMES)
def pt2_weight_that_lies_elsewhere(kit: Kit) -> Path:
    def change(found: dict[str, Any]) -> None:
        next(iter(found["config"].values()))["path_name"] = "../constants/weight_0"

    return spoilt(kit, "net.pt2", r"model_weights_config\.json", program(change))


# ---- operators that reach into memory ------------------------------------------------------------

cases(
    {
        name: (f"torch.ops.aten.{name}.default", "operators that are on no list")
        for name in (
            "_reshape_alias", "set_", "segment_reduce", "_batch_norm_with_update", "as_strided_", "resize_as_",
            "embedding_dense_backward", "native_layer_norm_backward", "max_pool2d_with_indices_backward", "_unsafe_index_put",
        )
    },
    "pt2_memory",
)(retargeted)  # fmt: skip

cases(
    {
        "as_a_method": ("weight.set_(input)", OPERATION),
        "as_a_value": ("weight.set_", OPERATION),
        "by_its_name": ("getattr(weight, 'set_')(input)", OPERATION),
        "of_a_part": ("[weight][0].set_(input)", OPERATION),
        "as_a_function": ("torch.set_(weight, input)", OPERATION),
        "of_the_library": ("ops.aten.set_(weight, input)", OPERATION),
        "over_two_lines": ("weight. \\\n      set_(input)", OPERATION),
        "of_another_view": ("input._reshape_alias([1 << 40], [1])", OPERATION),
        "without_checks": (
            "torch.segment_reduce(input, 'sum', lengths=None, indices=None, offsets=None, axis=0, unsafe=True)",
            OPERATION,
        ),
        "of_a_gradient": ("torch.embedding_dense_backward(input, weight, 1, 0, False)", OPERATION),
        "by_a_name_put_together": ("getattr(weight, 'set' + '_')(input)", OPERATION),
    },
    "script_operator",
)(lambda kit, call: spoilt(kit, "script.pt", LINEAR, lambda content: _call(content, str(call))))


def _call(content: bytes, call: str) -> bytes:
    return content.replace(
        b"    weight = self.weight\n", f"    weight = self.weight\n    z = {call}\n".encode()
    )


@case(OPERATION)
def script_operator_behind_a_method_of_its_own(kit: Kit) -> Path:
    """A class that has a method ``set_`` of its own makes the tensors' look like one."""

    def apply(content: bytes) -> bytes:
        own = b"  def set_(self: __torch__.torch.nn.modules.linear.Linear) -> int:\n    return 3\n"
        return _call(content, "weight.set_(input)") + own

    return spoilt(kit, "script.pt", LINEAR, apply)


@case("cannot be read")
def script_whose_lines_end_elsewhere(kit: Kit) -> Path:
    return spoilt(kit, "script.pt", LINEAR, lambda content: content + b"# \x0c\x0b\r")


@case(OPERATION)
def script_of_another_ending(kit: Kit) -> Path:
    return added(
        kit,
        "script.pt",
        "code/__torch__/more.PY",
        b"def f(x: Tensor) -> Tensor:\n  return torch.save(x, 'marker')\n",
    )


# ---- weights that do not fit their operator ------------------------------------------------------


def exported(kit: Kit, module: Any, *given: Any, decomposed: bool = False) -> Path:
    import torch

    program = torch.export.export(module.eval(), given)
    torch.export.save(program.run_decompositions() if decomposed else program, kit.folder / "net.pt2")
    return kit.folder / "net.pt2"


def _smaller(path: Path, weight: str, sizes: list[int], strides: list[int]) -> Path:
    """The weight has other sizes in the table of weights; the graph still claims the old ones."""
    content = entries(path)
    (name,) = [each for each in content if each.endswith("weights_config.json")]
    config = json.loads(content[name])
    meta = config["config"][weight]["tensor_meta"]
    meta["sizes"] = [{"as_int": size} for size in sizes]
    meta["strides"] = [{"as_int": stride} for stride in strides]
    return write(path, {**content, name: json.dumps(config).encode()})


def _normalized(kit: Kit) -> Path:
    import torch

    path = exported(kit, torch.nn.BatchNorm1d(64), torch.ones(2, 64, 3), decomposed=True)
    return _smaller(path, "running_mean", [2], [1])


def _recurrent(kit: Kit) -> Path:
    import torch

    return _smaller(exported(kit, torch.nn.LSTM(4, 5), torch.ones(2, 3, 4)), "weight_hh_l0", [8, 5], [5, 1])


def _attentive(kit: Kit) -> Path:
    import torch

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.values = torch.nn.Parameter(torch.ones(1, 2, 9, 4))

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.scaled_dot_product_attention(x, x, self.values)

    return _smaller(exported(kit, Attention(), torch.ones(1, 2, 9, 4)), "values", [1, 2, 1, 4], [8, 4, 4, 1])


cases(
    {
        "a_mean": (_normalized, "do not fit"),
        "a_cell": (_recurrent, "do not fit"),
        "values": (_attentive, "do not fit"),
    },
    "pt2_too_small",
)(lambda kit, make: make(kit))  # type: ignore[operator]
