"""Archives and HDF5 files that two readers take differently, or that ask for far more than they hold."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import structure_mutants as mutants
from hostile import Kit, case, cases
from hostile_keras import _instead, _weights
from hostile_pytorch import LINEAR, NO_SIZE, _size, _with_call, entries, evil, factory, program, saved, write
from structure_mutants import Entry, Zip, entry

Change = Callable[[Zip, Kit], object]
TWO, TWICE, UNKNOWN, NAMES = (
    "two sizes|differs",
    "entry twice",
    "PyTorch does not write",
    "readers take differently",
)


def rebuilt(kit: Kit, name: str, change: Change) -> Path:
    """A good archive, put together otherwise."""
    path = kit.copy(name)
    it = mutants.parsed(path.read_bytes())
    change(it, kit)
    path.write_bytes(it.bytes())
    return path


def of(it: Zip, ending: str) -> Entry:
    return next(each for each in it.entries if each.near.name.endswith(ending.encode()))


def renamed(ending: str, other: Callable[[bytes], bytes], content: Callable[[bytes, Kit], bytes]) -> Change:
    """The entry with this ending has another name, and is hostile."""

    def change(it: Zip, kit: Kit) -> None:
        one = of(it, ending)
        it.entries[it.entries.index(one)] = entry(other(one.near.name), content(one.data, kit))

    return change


def doubled(
    ending: str, other: Callable[[bytes], bytes], content: Callable[[bytes, Kit], bytes], first: bool = False
) -> Change:
    """Beside the good entry stands a hostile one that a reader takes for it."""

    def change(it: Zip, kit: Kit) -> None:
        one = of(it, ending)
        it.entries.insert(
            0 if first else len(it.entries), entry(other(one.near.name), content(one.data, kit))
        )

    return change


def expression(content: bytes, kit: Kit) -> bytes:
    return program(_size(f"__import__('os').system({kit.command!r})"))(content)


def pickled(content: bytes, kit: Kit) -> bytes:
    return saved(evil(kit))


def bare(content: bytes, kit: Kit) -> bytes:
    return evil(kit)


def calling(content: bytes, kit: Kit) -> bytes:
    return _with_call(content, f'torch.save(input, "{kit.marker}")')


def upper_ending(name: bytes) -> bytes:
    stem, dot, ending = name.rpartition(b".")
    return stem + dot + ending.upper()


KELVIN, LONG_S, WIDE_A = "\u212a".encode(), "\u017f".encode(), "\uff41".encode()
same = lambda name: name  # noqa: E731 - a table's word

cases(
    {
        "json_in_capitals": (renamed("models/model.json", upper_ending, expression), NO_SIZE),
        "json_of_another_case_beside_it": (doubled("models/model.json", bytes.upper, expression), TWICE),
        "json_of_another_case_before_it": (
            doubled("models/model.json", upper_ending, expression, True),
            TWICE,
        ),
        "program_that_is_no_json_by_name": (
            renamed("models/model.json", lambda n: n[:-1] + b"m", expression),
            UNKNOWN,
        ),
        "second_program_that_is_no_json_by_name": (
            doubled("models/model.json", lambda n: n[:-1] + b"m", expression),
            UNKNOWN,
        ),
        "inputs_in_capitals": (
            renamed("sample_inputs/model.pt", upper_ending, pickled),
            "more than tensors need",
        ),
        "inputs_with_one_capital": (
            renamed("sample_inputs/model.pt", lambda n: n.replace(b"model", b"Model"), pickled),
            "more than tensors need",
        ),
        "inputs_that_are_no_archive_by_name": (
            renamed("sample_inputs/model.pt", lambda n: n + b"h", pickled),
            UNKNOWN,
        ),
        "folder_of_capitals": (doubled("models/model.json", lambda n: b"NET" + n[3:], expression), TWICE),
        "second_folder": (
            doubled("models/model.json", lambda n: b"other" + n[3:], expression, True),
            "does not write|twice|replaced",
        ),
        "name_with_a_long_s": (
            doubled("model_weights_config.json", lambda n: n.replace(b"s", LONG_S), bare),
            TWICE,
        ),
        "name_with_a_wide_a": (
            doubled("data/weights/weight_0", lambda n: n.replace(b"a", WIDE_A, 1), bare),
            TWICE,
        ),
        "name_with_an_empty_part": (
            doubled("models/model.json", lambda n: n.replace(b"/", b"//", 1), expression),
            NAMES,
        ),
        "name_with_a_dot_for_a_part": (
            doubled("models/model.json", lambda n: n.replace(b"/", b"/./", 1), expression),
            NAMES,
        ),
        "name_with_a_dot_behind": (doubled("models/model.json", lambda n: n + b".", expression), NAMES),
        "name_with_a_blank_behind": (doubled("models/model.json", lambda n: n + b" ", expression), NAMES),
        "name_with_a_slash_behind": (doubled("models/model.json", lambda n: n + b"/", expression), TWICE),
        "name_below_a_file": (doubled("models/model.json", lambda n: n + b"/x", expression), "a folder too"),
        "name_that_ends_early": (
            doubled("models/model.json", lambda n: n + b"\0", expression),
            "leads out of it",
        ),
    },
    "two_readers_pt2",
)(lambda kit, change: rebuilt(kit, "net.pt2", change))  # type: ignore[arg-type]


def _code(it: Zip) -> Entry:
    import re

    return next(each for each in it.entries if re.search(f"{LINEAR}$", each.near.name.decode()))


def _shouted(it: Zip, kit: Kit) -> None:
    one = _code(it)
    it.entries[it.entries.index(one)] = entry(upper_ending(one.near.name), calling(one.data, kit))


def _code_elsewhere(it: Zip, kit: Kit) -> None:
    one = _code(it)
    it.entries.append(entry(b"script/model.json", b"{}"))
    it.entries.append(entry(b"script/tensors/code", one.data))


cases(
    {
        "pickle_in_capitals": (renamed("/data.pkl", upper_ending, bare), "more than tensors need"),
        "constants_in_capitals": (renamed("constants.pkl", upper_ending, bare), "more than tensors need"),
        "pickle_with_a_kelvin": (doubled("/data.pkl", lambda n: n.replace(b"k", KELVIN), bare), TWICE),
        "code_in_capitals": (_shouted, "operators that are on no list"),
        "code_of_the_oldest_form": (_code_elsewhere, UNKNOWN),
    },
    "two_readers_script",
)(lambda kit, change: rebuilt(kit, "script.pt", change))  # type: ignore[arg-type]
cases(
    {
        "pickle_in_capitals": (renamed("/data.pkl", upper_ending, bare), "more than tensors need"),
        "second_pickle_in_capitals": (doubled("/data.pkl", bytes.upper, bare), TWICE),
        "pickle_in_another_folder": (
            doubled("/data.pkl", lambda n: b"x" + n[5:], bare, True),
            "more than tensors need|twice",
        ),
    },
    "two_readers_weights",
)(lambda kit, change: factory(kit, rebuilt(kit, "state.pt", change)))  # type: ignore[arg-type]

# ---- tables, ends and heads --------------------------------------------------------------------------


def _hidden(it: Zip, kit: Kit, ending: str, content: bytes) -> bytes:
    """Another archive of the same names with something else in one of them."""
    return Zip(
        [
            entry(each.near.name, content if each.near.name.endswith(ending.encode()) else each.data)
            for each in it.entries
        ]
    ).bytes()


def _second_table(it: Zip, kit: Kit) -> None:
    """The end record's place is the table of a hostile archive, the good table stands right before the end record."""
    one = of(it, "models/model.json")
    hostile = entry(one.near.name, expression(one.data, kit))
    hostile.far = None
    it.entries.append(hostile)
    bad = replace(one, far=None)
    good = [each for each in it.entries if each.far]
    length = sum(len(mutants._row(each, 0)) for each in good)
    start = len(it.bytes()) - length - 22
    place = start - len(hostile.stored) - 30 - len(hostile.near.name)
    at = 0
    rows = b""
    for each in good:
        here = place if each is one else at
        shown = replace(each, data=hostile.data) if each is one else each
        rows += mutants._row(shown, here)
        at += 30 + len(each.near.name) + len(each.stored)
    del bad
    it.between = lambda _table, _start: rows
    it.end.start = start


def _second_long_end(it: Zip, kit: Kit) -> None:
    """The locator names one long end record, another stands right before it."""
    count = len(it.entries)
    length = sum(len(mutants._row(each, 0)) for each in it.entries)
    start = len(it.bytes()) - length - 22
    it.before_end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, 0)
    it.end.long = {"place": start + length}
    it.end.start = 0xFFFFFFFF


def _before(it: Zip, kit: Kit) -> None:
    it.first = _hidden(it, kit, "models/model.json", b"{}")


def _before_and_counted(it: Zip, kit: Kit) -> None:
    it.first = b"#!/bin/sh\n"


def near(ending: str, **other: Any) -> Change:
    def change(it: Zip, kit: Kit) -> None:
        one = of(it, ending)
        one.near = replace(one.near, **other)

    return change


def both(ending: str, **other: Any) -> Change:
    def change(it: Zip, kit: Kit) -> None:
        one = of(it, ending)
        one.near = replace(one.near, **other)
        assert one.far is not None
        one.far = replace(one.far, **other)

    return change


def _long_sizes(it: Zip, kit: Kit) -> None:
    """The long sizes of the table are not the short ones."""
    one = of(it, "weight_0")
    assert one.far is not None
    one.far = replace(one.far, extra=struct.pack("<2H2Q", 1, 16, 4, 4))


def _unicode_path(it: Zip, kit: Kit) -> None:
    one = of(it, "byteorder")
    name = b"net/models/other.json"
    extra = struct.pack("<2HBL", 0x7075, 5 + len(name), 1, zlib.crc32(one.near.name)) + name
    assert one.far is not None
    one.far = replace(one.far, extra=extra)


def packed(more: Callable[[bytes], bytes]) -> Change:
    def change(it: Zip, kit: Kit) -> None:
        one = of(it, "models/model.json")
        one.near, one.far = replace(one.near, method=8), replace(one.near, method=8)
        one.packed = more(one.stored)

    return change


def _described(it: Zip, kit: Kit) -> None:
    one = of(it, "models/model.json")
    one.near, one.far = replace(one.near, flags=8, check=0, packed=0, size=0), replace(one.near, flags=8)
    one.behind = b"PK\x07\x08" + struct.pack("<3L", zlib.crc32(one.data), 4, 4)


def _gap(it: Zip, kit: Kit) -> None:
    of(it, "byteorder").before = Zip([entry(b"net/models/model.json", b"{}")]).bytes()[:60]


SECOND = zlib.compress(b"{}")[2:-4]
cases(
    {
        "two_tables": (_second_table, "not where its end says"),
        "two_long_ends": (_second_long_end, "two ends|damaged|not where"),
        "another_archive_before_it": (_before, "not where its end says|gap"),
        "a_script_before_it": (_before_and_counted, "not a model"),
        "long_sizes_that_differ": (_long_sizes, TWO),
        "another_method_before_an_entry": (near("models/model.json", method=8), TWO),
        "another_size_before_an_entry": (near("weight_0", size=4), TWO),
        "another_packed_size_before_an_entry": (near("weight_0", packed=4), TWO),
        "another_sum_before_an_entry": (near("weight_0", check=7), TWO),
        "a_wrong_sum": (both("models/model.json", check=7), "damaged"),
        "other_flags_before_an_entry": (near("models/model.json", flags=0x800), TWO),
        "a_second_name_in_an_extra_field": (_unicode_path, "says something else"),
        "an_extra_field_that_is_none": (both("weight_0", extra=b"\x01\x00\xff"), "is none"),
        "more_behind_a_packed_entry": (packed(lambda content: content + b"x"), "damaged"),
        "two_packed_streams": (packed(lambda content: content + SECOND), "damaged"),
        "a_packed_stream_without_end": (packed(lambda content: content[:-2]), "damaged"),
        "a_description_that_lies": (_described, "what stands behind"),
        "a_gap": (_gap, "a gap"),
    },
    "two_readings_of",
)(lambda kit, change: rebuilt(kit, "net.pt2", change))  # type: ignore[arg-type]
cases(
    {
        "configuration_twice": (doubled("config.json", same, lambda data, kit: b"{}"), TWICE),
        "configuration_in_capitals_too": (
            doubled("config.json", bytes.upper, lambda data, kit: b"{}"),
            TWICE,
        ),
        "weights_in_capitals_too": (doubled("model.weights.h5", bytes.title, lambda data, kit: b"x"), TWICE),
        "another_archive_before_it": (_before, "not where its end says|gap"),
        "an_entry_that_no_table_names": (lambda it, kit: setattr(it.entries[0], "far", None), "a gap"),
        "weights_that_are_a_folder_too": (
            doubled("config.json", lambda n: b"Model.Weights.H5/x", lambda data, kit: b"x"),
            "a folder too",
        ),
    },
    "two_readers_keras",
)(lambda kit, change: rebuilt(kit, "net.keras", change))  # type: ignore[arg-type]


@case("entry twice")
def two_readers_npz(kit: Kit) -> list[object]:
    """``fc_weight`` and ``fc_weight.npy`` are one array to numpy."""
    symbol, path = kit.copy("mx-symbol.json"), kit.folder / "w.npz"
    np.savez(path, fc_weight=np.zeros((2, 3), "f4"), fc_bias=np.zeros(2, "f4"))
    content = entries(path)
    return [symbol, "--weights", write(path, {"fc_weight": content["fc_weight.npy"], **content})]


# ---- HDF5 ----------------------------------------------------------------------------------------


def _vast_chunk(file: h5py.File) -> None:
    """Twelve numbers in a chunk of a gibibyte, packed."""
    place = "layers/dense/vars/0"
    made = file.create_dataset(
        place, (3, 4), "f4", chunks=(1 << 14, 1 << 14), maxshape=(None, None), compression="gzip"
    )
    made.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 20)))


def _many_pieces(file: h5py.File) -> None:
    file.create_dataset("layers/dense/vars/0", (1 << 24,), "u1", chunks=(1,))


cases(
    {
        "a_chunk_of_a_gibibyte": (_vast_chunk, "far larger than its size allows|not there"),
        "an_array_of_millions_of_pieces": (_many_pieces, "too many pieces"),
    },
    "keras_weights_with",
)(lambda kit, make: _weights(kit, _instead(make)))  # type: ignore[arg-type]


@case("far larger than its size allows|not there")
def h5_with_a_chunk_of_a_gibibyte(kit: Kit) -> Path:
    path = kit.copy("whole.h5")
    with h5py.File(path, "a") as file:
        _vast_chunk(file)
    return path


# ---- what is no model at all -----------------------------------------------------------------------

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
cases(
    {
        name: (name, "Git LFS pointer")
        for name in ("net.pt2", "script.pt", "net.keras", "whole.h5", "mx-symbol.json")
    },
    "pointer",
)(lambda kit, name: _pointer(kit, str(name)))


def _pointer(kit: Kit, name: str) -> Path:
    path = kit.copy(name)
    path.write_bytes(POINTER)
    return path


@case("Git LFS pointer")
def pointer_for_params(kit: Kit) -> Path:
    symbol = kit.copy("mx-symbol.json")
    (kit.folder / "mx-0000.params").write_bytes(POINTER)
    return symbol


@case("Git LFS pointer")
def pointer_for_weights(kit: Kit) -> object:
    path = kit.folder / "w.safetensors"
    path.write_bytes(POINTER)
    return factory(kit, path)


@case("Git LFS pointer")
def pointer_for_external_data(kit: Kit) -> Path:
    path = kit.copy("ext.onnx")
    (kit.folder / "ext.data").write_bytes(POINTER)
    return path


@case("weights that Keras reads")
def keras_weights_that_lead_to_other_files(kit: Kit) -> list[object]:
    """Keras reads a table of further files under this name."""
    path = kit.folder / "w.weights.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": {"/layers/dense/vars": ["../secret.h5"]}}))
    module = kit.folder / "network.py"
    module.write_text(
        "import keras\ndef net():\n    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])\n"
    )
    return [f"{module}:net", "--weights", path]
