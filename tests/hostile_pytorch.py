"""PyTorch: pickles that call, programs and code with operators that act, archives that lie."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Kit, case, cases

Entries = dict[str, bytes]


def entries(path: Path) -> Entries:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, content: Entries, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


LINEAR = r"linear(/___torch_mangle_\d+)?\.py"
"""The code of nn.Linear in a TorchScript archive; another name where this process has scripted one before."""


def spoilt(kit: Kit, name: str, ending: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a good archive in which the entry with this ending is another."""
    path = kit.copy(name)
    content = entries(path)
    entry, *_ = [each for each in content if re.search(f"{ending}$", each)]
    return write(path, {**content, entry: change(content[entry])})


def added(kit: Kit, name: str, entry: str, data: bytes) -> Path:
    path = kit.copy(name)
    content = entries(path)
    return write(path, {**content, f"{path.stem}/{entry}": data})


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self._call = (function, args)

    def __reduce__(self) -> Any:
        return self._call


def evil(kit: Kit, protocol: int = 2) -> bytes:
    import os

    return pickle.dumps(Calls(os.system, kit.command), protocol)


def saved(content: bytes) -> bytes:
    """What ``torch.save`` would have written with this pickle in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
    return stream.getvalue()


# ---- pickles, as weights -------------------------------------------------------------------------


def raw(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


PICKLES: dict[str, tuple[Callable[[Kit], bytes], str]] = {
    "os_system": (lambda kit: evil(kit), "more than tensors need.*(posix|nt).system"),
    "protocol_0": (lambda kit: evil(kit, 0), "system"),
    "protocol_5": (lambda kit: evil(kit, 5), "system"),
    "eval": (
        lambda kit: pickle.dumps(Calls(eval, f"__import__('os').system({kit.command!r})")),
        "builtins.eval",
    ),
    "getattr": (lambda kit: pickle.dumps(Calls(getattr, "x", "upper")), "builtins.getattr"),
    "from_a_memo": (
        lambda kit: raw(
            text("os"), b"q\x00", text("system"), b"q\x01", b"00h\x00h\x01\x93", text(kit.command), b"\x85R"
        ),
        "os.system",
    ),
    "named_at_run_time": (
        lambda kit: raw(b"N", text("system"), b"\x93", text(kit.command), b"\x85R"),
        "names together",
    ),
    "inst": (lambda kit: raw(b"(", text(kit.command), b"ios\nsystem\n"), "os.system"),
    "registered_extension": (
        lambda kit: raw(b"\x82\x01", text(kit.command), b"\x85R"),
        "cannot be read in advance",
    ),
    "hidden_in_torch": (
        lambda kit: raw(b"ctorch.serialization\nload\n", text("x"), b"\x85R"),
        "torch.serialization.load",
    ),
    "a_function_of_torch": (lambda kit: raw(b"ctorch.hub\nload\n", text("x"), b"\x85R"), "torch.hub.load"),
    "an_import": (
        lambda kit: raw(b"cimportlib\nimport_module\n", text("this"), b"\x85R"),
        "importlib.import_module",
    ),
    "a_dotted_name": (
        lambda kit: b"\x80\x04" + b"\x8c\x05torch\x8c\x0d_utils.os.sys\x93.",
        "torch._utils.os.sys",
    ),
    "without_an_end": (
        lambda kit: evil(kit)[:-1].replace(b"posix\nsystem", b"torch\nSize\n#"),
        "damaged pickle|without an end",
    ),
    "a_memo_of_gigabytes": (lambda kit: raw(b"Nr\xff\xff\xff\x7f"), "more places"),
    "text_of_gigabytes": (lambda kit: raw(b"X\xff\xff\xff\x7fx"), "damaged pickle"),
    "nothing": (lambda kit: b"", "damaged pickle|without an end"),
    "a_circle": (lambda kit: raw(b"]q\x00h\x00a"), "not a state dict"),
}


def factory(kit: Kit, weights: Path) -> list[object]:
    module = kit.copy("factory.py")
    return [f"{module}:net", "--input", "x:1,3", "--weights", weights]


@lambda make: cases(PICKLES, "weights_pickle")(make)  # type: ignore[arg-type]
def weights_with(kit: Kit, content: Any) -> object:
    path = kit.folder / "state.pt"
    path.write_bytes(saved(content(kit)))
    return factory(kit, path)


@case("more than tensors need")
def weights_of_old_pickles(kit: Kit) -> object:
    path = kit.folder / "state.pt"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + evil(kit))
    return factory(kit, path)


@case("storage that is not there")
def weights_that_claim_terabytes(kit: Kit) -> object:
    path = kit.copy("state.pt")
    content = entries(path)
    data = content["state/data.pkl"].replace(b"K\x0c", b"\x8a\x06" + (1 << 40).to_bytes(6, "little"))
    assert data != content["state/data.pkl"]
    return factory(kit, write(path, {**content, "state/data.pkl": data}))


@case("storage that is not there")
def weights_whose_storage_is_gone(kit: Kit) -> object:
    path = kit.copy("state.pt")
    content = {name: data for name, data in entries(path).items() if not name.endswith("data/1")}
    return factory(kit, write(path, content))


@cases(
    {
        "twice_alike": (b'"0.weight":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},', "twice"),
        "twice_with_other_sizes": (
            b'"0.weight":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]},',
            "twice",
        ),
        "twice_with_nothing": (b'"0.bias":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},', "twice"),
        "twice_in_escapes": (
            b'"0.weigh\\u0074":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},',
            "twice",
        ),
    },
    "weights_of_safetensors_with_a_name",
)
def _with_a_name_more(kit: Kit, more: object) -> object:
    rest = b'"0.weight":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},"0.bias":{"dtype":"F32","shape":[3],"data_offsets":[48,60]}}'
    head = b"{" + bytes(more) + rest  # type: ignore[call-overload]
    path = kit.folder / "w.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(60))
    return factory(kit, path)


@case("safetensors")
def weights_whose_header_is_of_exabytes(kit: Kit) -> object:
    path = kit.folder / "w.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    return factory(kit, path)


@case("safetensors")
def weights_that_lie_behind_their_file(kit: Kit) -> object:
    header = json.dumps({"0.weight": {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}}).encode()
    path = kit.folder / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    return factory(kit, path)


@case("FIFO")
def weights_that_are_a_fifo(kit: Kit) -> object:
    import os

    os.mkfifo(kit.folder / "w.safetensors")
    return factory(kit, kit.folder / "w.safetensors")


@case("weights only")
def safetensors_alone(kit: Kit) -> Path:
    path = kit.folder / "w.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    return path


@case("state dict or a pickled module")
def a_pickled_model(kit: Kit) -> Path:
    path = kit.folder / "net.pt"
    path.write_bytes(saved(evil(kit)))
    return path


@case("pickle is never loaded")
def a_bare_pickle(kit: Kit) -> Path:
    path = kit.folder / "net.pt"
    path.write_bytes(evil(kit))
    return path


# ---- exported programs ---------------------------------------------------------------------------


@case("more than tensors need")
def pt2_sample_inputs(kit: Kit) -> Path:
    return spoilt(kit, "net.pt2", r"sample_inputs/model\.pt", lambda _: saved(evil(kit)))


@case("more than tensors need")
def pt2_old_weights(kit: Kit) -> Path:
    return added(kit, "net.pt2", "data/weights/model.pt", saved(evil(kit)))


@case("classes of their own")
def pt2_opaque_object(kit: Kit) -> Path:
    return added(kit, "net.pt2", "data/constants/opaque_obj_0", evil(kit))


@case("classes of their own")
def pt2_custom_object(kit: Kit) -> Path:
    return added(kit, "net.pt2", "data/constants/custom_obj_0", b"PK")


@case("compiled code")
def pt2_compiled_library(kit: Kit) -> Path:
    return added(kit, "net.pt2", "data/aotinductor/model/model.so", b"\x7fELF")


@case("more than tensors need")
def pt2_pickled_weight(kit: Kit) -> Path:
    path = kit.copy("net.pt2")
    content = entries(path)
    name = "net/data/weights/model_weights_config.json"
    config = json.loads(content[name])
    first = next(iter(config["config"].values()))
    first["use_pickle"] = True
    content[f"net/data/weights/{first['path_name']}"] = saved(evil(kit))
    return write(path, {**content, name: json.dumps(config).encode()})


@case("more than tensors need")
def pt2_of_old(kit: Kit) -> Path:
    old = {
        name: saved(evil(kit))
        for name in ("serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt")
    }
    return write(
        kit.folder / "net.pt2", {"serialized_exported_program.json": b"{}", "version": b"8.1", **old}
    )


PROGRAM = r"models/model\.json"


def program(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        found = json.loads(content)
        change(found)
        return json.dumps(found).encode()

    return apply


def retargeted(kit: Kit, target: object) -> Path:
    """An exported program whose last node calls another operator."""
    change = program(lambda found: found["graph_module"]["graph"]["nodes"][-1].update(target=target))
    return spoilt(kit, "net.pt2", PROGRAM, change)


def _size(expression: str) -> Callable[[dict[str, Any]], object]:
    def change(program: dict[str, Any]) -> None:
        values = program["graph_module"]["graph"]["tensor_values"]
        values[program["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"]]["sizes"][0] = {
            "as_expr": {"expr_str": expression, "hint": {"as_int": 2}}
        }

    return change


ACT = "operators that are on no list"
cases(
    {
        "that_opens_files": ("torch.ops.aten.from_file.default", ACT),
        "that_loads": ("torch.load", ACT),
        "of_the_hub": ("torch.hub.load", ACT),
        "that_gets_attributes": ("_operator.attrgetter", ACT),
        "that_calls": ("_operator.call", ACT),
        "of_another_library": ("torch.ops.mylib.run.default", ACT),
        "of_the_classes": ("torch.classes.load_library", ACT),
        "through_a_module": ("torch.os.system", ACT),
        "through_dunder": ("torch.ops.aten.add.__class__.__init__.__globals__", ACT),
        "of_an_extension": ("#evil:run", ACT),
    },
    "pt2_operator",
)(retargeted)

NO_SIZE = "sizes that are no arithmetic"
cases(
    {
        "an_import": ("__import__('os').system('touch marker')", NO_SIZE),
        "an_attribute": ("().__class__.__base__.__subclasses__()", NO_SIZE),
        "a_comprehension": ("[x for x in (1,2)]", NO_SIZE),
        "a_lambda": ("(lambda: 1)()", NO_SIZE),
        "a_power_tower": ("9**9**9**9", NO_SIZE),
        "a_power": ("Pow(Integer(9), Integer(999999999))", NO_SIZE),
        "an_unknown_function": ("factorial(99999999)", NO_SIZE),
        "a_formatted_text": ("f'{1}'", NO_SIZE),
        "a_long_sum": ("+".join(["s0"] * 9000), NO_SIZE),
    },
    "pt2_size",
)(lambda kit, size: spoilt(kit, "net.pt2", PROGRAM, program(_size(str(size)))))


@case(NO_SIZE)
def pt2_range_of_a_size(kit: Kit) -> Path:
    change = program(
        lambda program: program.update(range_constraints={"exec('1')": {"min_val": 0, "max_val": 9}})
    )
    return spoilt(kit, "net.pt2", r"models/model\.json", change)


def _weight(**meta: Any) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        config = json.loads(content)
        next(iter(config["config"].values()))["tensor_meta"].update(meta)
        return json.dumps(config).encode()

    return apply


cases(
    {
        "of_terabytes": ({"sizes": [{"as_int": 1 << 40}, {"as_int": 3}]}, "larger than its content"),
        "that_starts_behind_its_end": ({"storage_offset": {"as_int": 1 << 40}}, "larger than its content"),
        "with_long_strides": ({"strides": [{"as_int": 1 << 40}, {"as_int": 1}]}, "larger than its content"),
        "with_negative_sizes": ({"sizes": [{"as_int": -4}, {"as_int": 3}]}, "cannot be"),
        "with_sizes_of_text": ({"sizes": ["4", "3"]}, "not a table of tensors"),
    },
    "pt2_weight",
)(lambda kit, meta: spoilt(kit, "net.pt2", r"model_weights_config\.json", _weight(**meta)))  # type: ignore[arg-type]


@case("not JSON")
def pt2_json_cut(kit: Kit) -> Path:
    return spoilt(kit, "net.pt2", r"models/model\.json", lambda content: content[:-100])


@case("nested too deep|not JSON")
def pt2_json_nested(kit: Kit) -> Path:
    return spoilt(kit, "net.pt2", r"models/model\.json", lambda _: b'{"a":' * 100000 + b"1" + b"}" * 100000)


@case("not a|PyTorch reads|missing")
def pt2_without_its_program(kit: Kit) -> Path:
    path = kit.copy("net.pt2")
    return write(path, {name: data for name, data in entries(path).items() if "models/" not in name})


# ---- archives ------------------------------------------------------------------------------------


def _zip(kit: Kit, change: Callable[[zipfile.ZipFile], object]) -> Path:
    path = kit.copy("net.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        change(archive)
    return path


def _link(archive: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("net/link")
    entry.external_attr = 0o120777 << 16
    archive.writestr(entry, "/etc/hostname")


cases(
    {
        "that_climbs": (lambda archive: archive.writestr("net/../../marker", b"x"), "leads out of it"),
        "that_is_absolute": (lambda archive: archive.writestr("/tmp/marker", b"x"), "leads out of it"),
        "that_is_of_windows": (lambda archive: archive.writestr("net\\..\\marker", b"x"), "leads out of it"),
        "that_is_a_link": (_link, "is a link"),
        "that_is_a_bomb": (
            lambda archive: archive.writestr("net/data/x", bytes(1 << 28), zipfile.ZIP_DEFLATED, 9),
            "far more than its size allows",
        ),
        "of_another_method": (
            lambda archive: archive.writestr("net/data/x", b"x" * 999, zipfile.ZIP_LZMA),
            "compressed in a way",
        ),
        "behind_a_comment": (
            lambda archive: setattr(archive, "comment", b"PK\x05\x06 another end"),
            "behind its end|damaged",
        ),
    },
    "zip_entry",
)(lambda kit, change: _zip(kit, change))  # type: ignore[arg-type]


@case("twice")
def zip_with_a_name_twice(kit: Kit) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _zip(
            kit,
            lambda archive: archive.writestr("net/version", b"x") or archive.writestr("net/version", b"y"),
        )


@case("damaged zip|behind its end")
def zip_with_something_behind_it(kit: Kit) -> Path:
    path = kit.copy("net.pt2")
    path.write_bytes(path.read_bytes() + b"more")
    return path


def _patched(kit: Kit, signature: bytes, offset: int, data: bytes) -> Path:
    """The first record of the table gets other bytes."""
    path = kit.copy("net.pt2")
    content = bytearray(path.read_bytes())
    table = int.from_bytes(content[-6:-2], "little")
    place = content.index(signature, table) + offset
    content[place : place + len(data)] = data
    path.write_bytes(content)
    return path


cases(
    {
        "encrypted": ((b"PK\x01\x02", 8, b"\x01\x08"), "encrypted"),
        "with_two_names": ((b"PK\x01\x02", 46, b"X"), "does not name what it holds|not a model"),
        "with_two_sizes": ((b"PK\x01\x02", 24, b"\xff\xff\x00\x00"), "two sizes|damaged"),
        "that_starts_elsewhere": ((b"PK\x01\x02", 42, b"\x07\x00\x00\x00"), "a gap"),
        "of_gigabytes": (
            (b"PK\x01\x02", 20, b"\xfe\xff\xff\x7f\xfe\xff\xff\x7f"),
            "far more|overlap|damaged",
        ),
    },
    "zip_table_of_an_entry",
)(lambda kit, patch: _patched(kit, *patch))  # type: ignore[misc]


@case("overlap")
def zip_whose_entries_overlap(kit: Kit) -> Path:
    """The second entry's place in the table is the inside of the first one, which holds a head like its own."""
    inner = b"PK\x03\x04" + struct.pack("<5H3L2H", 20, 0, 0, 0, 0, 0, 4, 4, 5, 0) + b"net/b" + b"data"
    path = write(kit.folder / "net.pt2", {"net/archive_format": inner, "net/b": b"data"})
    content = bytearray(path.read_bytes())
    record = content.rindex(b"PK\x01\x02")
    content[record + 42 : record + 46] = struct.pack("<L", content.index(inner[:4], 4))
    path.write_bytes(content)
    return path


def cut(kit: Kit, name: str, part: float) -> Path:
    path = kit.copy(name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    return path


cases({f"at_{percent}": (percent / 100, "damaged|not") for percent in (2, 40, 80, 99)}, "pt2_cut")(
    lambda kit, part: cut(kit, "net.pt2", float(str(part)))
)

# ---- TorchScript ---------------------------------------------------------------------------------

OPERATION = "operators that are on no list"
cases(
    {
        "opens_a_file": ('torch.from_file("/etc/hostname", False, 4)', OPERATION),
        "saves_a_file": ('torch.save(input, "marker")', OPERATION),
        "calls_another_library": ("ops.mylib.run(input)", OPERATION),
        "takes_torch_apart": ('getattr(torch, "from_file")("/etc/hostname", False, 4)', OPERATION),
        "takes_ops_apart": ('getattr(ops.aten, "from_file")("/etc/hostname", False, 4)', OPERATION),
        "starts_a_thread": ("fork(self.forward, input)", OPERATION),
        "uses_a_compiled_class": ("__torch__.torch.classes.my.Class()", OPERATION),
        "prints": ('print("hello")', OPERATION),
        "is_written_in_other_letters": ("torch.ﬁll(input)", "cannot be read"),
        "is_no_code": ("torch.relu((((", "cannot be read"),
        "is_nested_without_end": ("(" * 5000 + ")" * 5000, "cannot be read"),
    },
    "script_that",
)(lambda kit, call: spoilt(kit, "script.pt", LINEAR, lambda content: _with_call(content, str(call))))


def _with_call(content: bytes, call: str) -> bytes:
    return content.replace(
        b"    weight = self.weight\n", f"    weight = self.weight\n    z = {call}\n".encode()
    )


for _entry in ("data.pkl", "constants.pkl"):

    @case("more than tensors need", f"script_{_entry.partition('.')[0]}_pickle")
    def _script_pickle(kit: Kit, entry: str = _entry) -> Path:
        return spoilt(kit, "script.pt", f"/{entry}", lambda _: evil(kit))


@case("more than tensors need")
def script_with_a_compiled_class(kit: Kit) -> Path:
    content = raw(b"c__torch__.torch.classes.my\nClass\n)\x81")
    return spoilt(kit, "script.pt", "/data.pkl", lambda _: content)


@case("storage that is not there")
def script_that_claims_terabytes(kit: Kit) -> Path:
    def claim(content: bytes) -> bytes:
        data = content.replace(b"K\x0c", b"\x8a\x06" + (1 << 40).to_bytes(6, "little"))
        assert data != content
        return data

    return spoilt(kit, "script.pt", "/data.pkl", claim)


@case("not a|PyTorch reads")
def script_without_its_code(kit: Kit) -> Path:
    path = kit.copy("script.pt")
    return write(path, {n: d for n, d in entries(path).items() if not n.endswith(".py")})
