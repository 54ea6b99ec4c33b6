"""The readers and writers by their properties: what is written is read back bit for bit; what is no file is refused in order."""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from models import dense, saved
from onnx import numpy_helper

from netferry.converters import artifact
from netferry.converters.disk import archives
from netferry.converters.errors import NetferryError, RefusedError
from netferry.converters.mxnet import files as mxnet
from netferry.converters.mxnet.symbol import Node, Symbol
from netferry.converters.onnx import files as onnx_files
from netferry.converters.trust import paths, pickles, snapshot, texts, wire, zips

settings.register_profile(
    "readers", max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("readers")

DTYPES = st.sampled_from([np.dtype(kind) for kind in ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "?")])
ARRAYS = DTYPES.flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: not name.startswith(("arg:", "aux:"))
)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Bit for bit, NaNs too."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# ---- what is written is read ---------------------------------------------------------------------


@given(st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=4))
def test_params_come_back_as_they_went(given_arrays: dict[str, np.ndarray]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.params"
        mxnet.write_params(path, given_arrays)
        found = mxnet.read_params(path)
        assert list(found) == list(given_arrays)
        assert all(same(found[name], each) for name, each in given_arrays.items())


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9_.]{0,8}", fullmatch=True), ARRAYS, min_size=1, max_size=4),
    st.booleans(),
)
def test_npz_comes_back_as_it_went(given_arrays: dict[str, np.ndarray], packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.npz"
        stream = path.open("wb")
        with (
            stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive,
        ):
            for name, each in given_arrays.items():
                content = io.BytesIO()
                np.save(content, each)
                archive.writestr(f"{name}.npy", content.getvalue())
        zips.look(path, "net.npz")
        found = archives.read(path)
        assert found is not None
        values, names = found
        assert names == list(given_arrays)
        assert all(
            same(np.asarray(value), each) for value, each in zip(values, given_arrays.values(), strict=True)
        )


@given(st.lists(st.tuples(NAMES, st.dictionaries(NAMES, NAMES, max_size=3)), min_size=1, max_size=6))
def test_symbols_come_back_as_they_went(rows: list[tuple[str, dict[str, str]]]) -> None:
    nodes = [Node(f"{place}{name}", "null" if not place else "Activation", attrs, {}, ((place - 1, 0),) if place else (), ())
             for place, (name, attrs) in enumerate(rows)]  # fmt: skip
    symbol = Symbol(tuple(nodes), ((len(nodes) - 1, 0),), 10901, False)
    again = mxnet.parse_symbol(mxnet.symbol_text(symbol))
    assert [(node.name, node.op, node.inputs) for node in again.nodes] == [
        (n.name, n.op, n.inputs) for n in nodes
    ]
    assert [{**node.attrs, **node.hidden} for node in again.nodes] == [node.attrs for node in nodes]


@given(st.lists(ARRAYS, min_size=1, max_size=4))
def test_external_data_comes_back_as_it_went(given_arrays: list[np.ndarray]) -> None:
    model = dense()
    model.graph.initializer.extend(
        numpy_helper.from_array(each, f"extra{n}") for n, each in enumerate(given_arrays)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
        found = onnx_files.read(artifact.look(path))
        back = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
        assert all(same(back[f"extra{n}"], each) for n, each in enumerate(given_arrays))


@given(st.dictionaries(st.text("abc.", min_size=1, max_size=6), ARRAYS, min_size=1, max_size=3))
def test_safetensors_come_back_as_they_went(given_arrays: dict[str, np.ndarray]) -> None:
    import torch
    from safetensors.numpy import save_file

    from netferry.converters.pytorch.weights import _safetensors

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.safetensors"
        save_file({name: np.ascontiguousarray(each) for name, each in given_arrays.items()}, path)
        found = _safetensors(snapshot.take(path))
        assert all(isinstance(found[name], torch.Tensor) for name in given_arrays)
        assert all(
            same(found[name].numpy(), np.ascontiguousarray(each)) for name, each in given_arrays.items()
        )


# ---- what is no file is refused ------------------------------------------------------------------

READERS: dict[str, tuple[bytes, Callable[[bytes, Path], object]]] = {
    "params": (struct.pack("<3Q", 0x112, 0, 1), lambda content, path: mxnet.read_arrays(_put(path, content))),
    "symbol": (b'{"nodes": [', lambda content, path: mxnet.parse_symbol(content)),
    "npy": (b"\x93NUMPY\x01\x00", lambda content, path: archives.read(_put(path, content))),
    "npz": (b"PK\x03\x04", lambda content, path: archives.read(_put(path, content))),
    "zip": (b"PK\x03\x04", lambda content, path: zips.look(content, "file")),
    "pickle": (
        b"\x80\x02",
        lambda content, path: (pickles.globals_of(content, "file"), pickles.claims(content, "file")),
    ),
    "json": (b'{"a": ', lambda content, path: texts.document(content, "file")),
    "wire": (b"\x0a", lambda content, path: list(wire.fields(memoryview(content), "file"))),
    "onnx": (
        b"\x08\x0a\x3a",
        lambda content, path: onnx_files.read(artifact.Artifact("onnx", _put(path, content))),
    ),
    "any": (b"", lambda content, path: artifact.look(_put(path, content))),
}


def _put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", READERS)
@given(tail=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(name: str, tail: bytes, tmp_path: Path) -> None:
    head, read = READERS[name]
    try:
        read(head + tail, tmp_path / "file")
    except NetferryError as error:
        assert error.exit_code == 5 and "\n" not in str(error)


FOUND: dict[str, tuple[str, bytes]] = {
    "an array of no places whose sizes are past 64 bits": (
        "params",
        struct.pack("<3Q", 0x112, 0, 2) + struct.pack("<Iii2q3i", 0xF993FAC9, 0, 2, 0, 1 << 62, 1, 0, 0) + bytes(64),
    ),
    "an entry with a name that is not UTF-8": (
        "zip",
        b"PK\x01\x02" + struct.pack("<6H3L5H2L", 20, 20, 0x800, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"\xf0"
        + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, 47, 0, 0),
    ),
    "an entry behind 2^63": (
        "zip",
        b"PK\x01\x02" + struct.pack("<6H3L5H2L", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0xFFFFFFFF) + b"a"
        + struct.pack("<2HQ", 1, 8, (1 << 64) - 1) + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, 59, 0, 0),
    ),
    "a header of numpy's that never ends": ("npy", b"\x93NUMPY\x01\x00\x04\x00((((" + bytes(8)),
    "a name in a graph that is not UTF-8": ("onnx", dense().SerializeToString().replace(b"MatMul", b"Mat\xfful")),
}  # fmt: skip
"""What coverage-guided runs (``fuzz_readers.py``) and mutants have found."""


@pytest.mark.parametrize("name", FOUND)
def test_a_finding_stays_found(name: str, tmp_path: Path) -> None:
    reader, content = FOUND[name]
    with pytest.raises(RefusedError):
        READERS[reader][1](content, tmp_path / "file")


# ---- where a file may lie ------------------------------------------------------------------------


@given(st.text(max_size=20))
def test_a_plain_name_never_leaves_its_folder(name: str) -> None:
    if paths.is_plain(name):
        whole = Path("/a/folder", name)
        assert not whole.is_relative_to("/a/folder") or Path(*whole.parts).is_relative_to("/a/folder")
        assert ".." not in whole.parts and whole.is_relative_to("/a/folder")


def cached(folder: Path) -> Path:
    """A Hugging Face cache of one model whose weights lie apart: ``snapshots`` are links into ``blobs``."""
    saved(folder, dense(), "a.onnx")
    onnx.save(
        dense(), folder / "net.onnx", save_as_external_data=True, location="net.onnx_data", size_threshold=0
    )
    home = folder / "models--owner--name"
    (home / "blobs").mkdir(parents=True)
    snapshot = home / "snapshots" / "0123abc" / "onnx"
    snapshot.mkdir(parents=True)
    for number, name in enumerate(("net.onnx", "net.onnx_data")):
        (folder / name).rename(home / "blobs" / f"b{number}")
        (snapshot / name).symlink_to(f"../../../blobs/b{number}")
    return snapshot / "net.onnx"


def test_the_links_of_a_hugging_face_cache_are_understood(tmp_path: Path) -> None:
    from netferry import convert

    path = cached(tmp_path)
    found = onnx_files.read(artifact.look(path))
    assert found.graph.initializer[0].raw_data == dense().graph.initializer[0].raw_data
    done = convert(path, destination=tmp_path / "out.onnx")
    assert done.report is not None and done.report.status == "passed"


def test_a_link_out_of_the_cache_is_not(tmp_path: Path) -> None:
    path = cached(tmp_path)
    (tmp_path / "elsewhere").write_bytes(bytes(48))
    data = path.with_name("net.onnx_data")
    data.unlink()
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="leaves its folder"):
        onnx_files.read(artifact.look(path))
