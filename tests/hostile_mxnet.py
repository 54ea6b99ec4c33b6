"""MXNet: symbols that do not hold together, params that claim what is not there, archives of numpy's with objects."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Kit, case, cases
from hostile_pytorch import cut, evil

U64, MAGIC, V2 = "<Q", 0x112, 0xF993FAC9


def params(kit: Kit, content: bytes) -> Path:
    kit.copy("mx-symbol.json")
    (kit.folder / "mx-0000.params").write_bytes(content)
    return kit.folder / "mx-symbol.json"


def listed(*arrays: bytes, count: int | None = None, names: bytes | None = None) -> bytes:
    """A params file of raw arrays; ``names`` are its table of names."""
    names = struct.pack(U64, 0) if names is None else names
    return struct.pack("<3Q", MAGIC, 0, len(arrays) if count is None else count) + b"".join(arrays) + names


def array(
    shape: tuple[int, ...] = (2, 3),
    *,
    axes: int | None = None,
    dtype: int = 0,
    storage: int = 0,
    size: int = 24,
) -> bytes:
    head = struct.pack("<Iii", V2, storage, len(shape) if axes is None else axes)
    return head + struct.pack(f"<{len(shape)}q", *shape) + struct.pack("<3i", 1, 0, dtype) + bytes(size)


def sparse(
    storage: int, shape: tuple[int, ...], kept: tuple[int, ...], indices: list[tuple[int, ...]]
) -> bytes:
    """A row-sparse (1) or csr (2) array of float32 with int64 indices."""
    parts = [struct.pack("<Iii", V2, storage, len(kept)), struct.pack(f"<{len(kept)}q", *kept)]
    parts += [
        struct.pack("<i", len(shape)),
        struct.pack(f"<{len(shape)}q", *shape),
        struct.pack("<3i", 1, 0, 0),
    ]
    parts += [struct.pack("<iiq", 6, 1, len(each)) for each in indices]
    parts.append(bytes(4 * int(np.prod(kept))))
    parts += [struct.pack(f"<{len(each)}q", *each) for each in indices]
    return b"".join(parts)


ENDS = "the file ends"
cases(
    {
        "empty": (b"", "empty|not a params|ends"),
        "of_text": (b"hello, no params", "not a params file"),
        "of_a_head_alone": (struct.pack(U64, MAGIC), ENDS),
        "of_many_arrays": (listed(count=1 << 60), "cannot be"),
        "of_more_arrays": (listed(array(), count=3), ENDS + "|cannot be|axes"),
        "of_terabytes": (listed(array((1 << 40, 3))), ENDS),
        "past_64_bits": (listed(array((1 << 62, 1 << 62))), ENDS),
        "of_negative_sizes": (listed(array((-2, -3))), "negative"),
        "of_many_axes": (listed(array(axes=1 << 30)), "axes"),
        "of_negative_axes": (listed(array(axes=-5)), "axes"),
        "of_no_dtype": (listed(array(dtype=99)), "no such dtype"),
        "of_a_negative_dtype": (listed(array(dtype=-1)), "no such dtype"),
        "of_no_storage": (listed(array(storage=7)), "no such storage"),
        "of_too_few_bytes": (listed(array(size=0)), ENDS),
        "with_many_names": (listed(array(), names=struct.pack(U64, 1 << 60)), "cannot be"),
        "with_a_name_too_few": (
            listed(array(), array(), names=struct.pack("<2Q", 1, 1) + b"a"),
            "do not match|cannot be",
        ),
        "with_a_long_name": (listed(array(), names=struct.pack("<2Q", 1, 1 << 62) + b"abc"), ENDS),
        "with_a_name_that_is_none": (
            listed(array(), names=struct.pack("<2Q", 1, 2) + b"\xff\xfe"),
            "not UTF-8",
        ),
        "without_names": (listed(array()), "without names"),
        "with_a_name_twice": (
            listed(array(), array(), names=struct.pack(U64, 2) + (struct.pack(U64, 5) + b"arg:a") * 2),
            "twice",
        ),
        "with_more_behind": (
            listed(array(), names=struct.pack("<2Q", 1, 1) + b"a" + b"more"),
            "bytes follow",
        ),
        "of_rows_outside": (listed(sparse(1, (4, 2), (1, 2), [(9,)])), "do not fit"),
        "of_rows_before": (listed(sparse(1, (4, 2), (1, 2), [(-1,)])), "do not fit"),
        "of_sparse_terabytes": (listed(sparse(1, (1 << 40, 2), (1, 2), [(0,)])), "too sparse"),
        "of_columns_outside": (listed(sparse(2, (2, 3), (1,), [(0, 1, 1), (7,)])), "do not fit"),
        "of_falling_starts": (listed(sparse(2, (2, 3), (1,), [(0, 5, 1), (0,)])), "do not fit"),
        "of_sparse_with_no_axes": (
            listed(sparse(1, (), (1, 2), [(0,)])),
            "without names|do not fit|axes|names",
        ),
    },
    "params",
)(lambda kit, content: params(kit, content))  # type: ignore[arg-type]

cases({f"at_{percent}": (percent / 100, "") for percent in (10, 50, 90)}, "params_cut")(
    lambda kit, part: [kit.copy("mx-symbol.json"), cut(kit, "mx-0000.params", float(str(part)))][0]
)


@case("not a regular file|FIFO|no params")
def params_fifo(kit: Kit) -> Path:
    path = kit.copy("mx-symbol.json")
    (kit.folder / "mx-0000.params").unlink()
    os.mkfifo(kit.folder / "mx-0000.params")
    return path


@case("not a regular file|folder|no params")
def params_folder(kit: Kit) -> Path:
    path = kit.copy("mx-symbol.json")
    (kit.folder / "mx-0000.params").unlink()
    (kit.folder / "mx-0000.params").mkdir()
    return path


@case("no params file")
def params_absent(kit: Kit) -> Path:
    path = kit.copy("mx-symbol.json")
    (kit.folder / "mx-0000.params").unlink()
    return path


# ---- numpy's archives ----------------------------------------------------------------------------


def npz(kit: Kit, change: Callable[[zipfile.ZipFile], object]) -> Path:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in (("fc_weight", (2, 3)), ("fc_bias", (2,))):
            archive.writestr(f"{name}.npy", npy(np.ones(shape, np.float32)))
        change(archive)
    return params(kit, stream.getvalue())


def npy(value: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, value)
    return stream.getvalue()


def header(text: str) -> bytes:
    words = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words


def _entry(content: bytes) -> Callable[[zipfile.ZipFile], object]:
    return lambda archive: archive.writestr("more.npy", content)


SIZE = "another size"
cases(
    {
        "a_climbing_name": (
            lambda archive: archive.writestr("../marker.npy", npy(np.ones(1))),
            "leads out of it",
        ),
        "a_bomb": (
            lambda archive: archive.writestr("x.npy", npy(np.zeros(1 << 25)), None, 9),
            "far more than its size",
        ),
        "an_entry_of_text": (_entry(b"hello"), "not an array"),
        "terabytes": (
            _entry(header("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}")),
            SIZE,
        ),
        "negative_sizes": (
            _entry(header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}") + bytes(4)),
            "no array can have",
        ),
        "code_in_the_header": (_entry(header("__import__('os').system('touch marker')")), "not an array"),
        "a_deep_header": (_entry(header("(" * 100)), "not an array"),
        "a_header_of_gigabytes": (_entry(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f"), "not an array"),
        "a_dtype_of_ones_own": (
            _entry(header("{'descr': 'evil', 'fortran_order': False, 'shape': (1,)}")),
            "not an array",
        ),
    },
    "npz_with",
)(lambda kit, change: npz(kit, change))  # type: ignore[arg-type]


@case("Python objects|not an array")
def npz_with_a_pickle(kit: Kit) -> Path:
    content = header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + evil(kit)
    return npz(kit, _entry(content))


@case("Python objects|not an array")
def npy_of_a_pickle(kit: Kit) -> Path:
    return params(kit, header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + pickle.dumps([1]))


# ---- symbols -------------------------------------------------------------------------------------


def symbol(kit: Kit, change: Callable[[dict[str, Any]], object]) -> Path:
    path = kit.copy("mx-symbol.json")
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def _last(**other: Any) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["nodes"][-1].update(other)


cases(
    {
        "an_input_behind_the_end": (_last(inputs=[[99, 0, 0]]), "not there"),
        "a_negative_input": (_last(inputs=[[-1, 0, 0]]), "do not hold together"),
        "an_input_of_text": (_last(inputs=[["0", 0, 0]]), "do not hold together"),
        "an_input_that_is_itself": (_last(inputs=[[3, 0, 0]]), "circle|cycle|itself|round"),
        "a_head_behind_the_end": (lambda document: document.update(heads=[[99, 0, 0]]), "not there"),
        "heads_of_text": (lambda document: document.update(heads="all"), "not an MXNet symbol"),
        "no_nodes": (lambda document: document.update(nodes=[], heads=[]), "no output"),
        "a_node_of_text": (lambda document: document["nodes"].append("node"), "not a node"),
        "a_name_of_a_number": (_last(name=7), "not a node"),
        "attributes_of_a_list": (_last(attrs=["num_hidden"]), "not a mapping"),
        "attributes_of_numbers": (_last(attrs={"num_hidden": 2}), "not a mapping"),
    },
    "symbol_with",
)(lambda kit, change: symbol(kit, change))  # type: ignore[arg-type]


cases(
    {
        "cut": (b'{"nodes": [{"op": "null"', "JSON"),
        "nested": (b'{"nodes": ' + b"[" * 50000 + b"]" * 50000 + b', "heads": []}', "JSON|deep"),
        "of_many_digits": (b'{"nodes": [], "heads": [[' + b"9" * 9000 + b", 0, 0]]}", "JSON"),
        "of_latin": (b'{"nodes": ["\xff"], "heads": []}', "JSON"),
        "of_another_kind": (b'{"layers": []}', "not an MXNet symbol"),
        "of_a_list": (b"{}", "not an MXNet symbol"),
    },
    "symbol",
)(lambda kit, content: _text(kit, content))


def _text(kit: Kit, content: object) -> Path:
    assert isinstance(content, bytes)
    path = kit.copy("mx-symbol.json")
    path.write_bytes(content)
    return path
