"""MXNet's files against mxnet itself: bit-exact both ways, and nothing but RefusedError for damage."""

from __future__ import annotations

import json
import mmap
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import pytest
from mxnet_oracle import Oracle
from onnx import helper, numpy_helper

import netferry
from netferry.converters import artifact, frameworks
from netferry.converters.errors import RefusedError
from netferry.converters.mxnet import array_format, files, live
from netferry.converters.signature import Array
from netferry.converters.trust import snapshot


def sample(dtype: np.dtype[np.generic], *dims: int) -> Array:
    rng = np.random.default_rng(dims)
    if dtype.kind == "b":
        return rng.integers(0, 2, dims).astype(dtype)
    return (rng.normal(0, 3, dims) if dtype.kind in "fV" else rng.integers(0, 100, dims)).astype(dtype)


ARRAYS = {
    "arg:conv_weight": sample(np.dtype("f4"), 4, 3, 2, 2),
    "arg:bias": sample(np.dtype("f4"), 5),
    "aux:moving_mean": sample(np.dtype("f8"), 3, 1),
    "odd name, ünïcode": sample(np.dtype("i1"), 7),
}


def same_bits(mine: Array, theirs: Array) -> None:
    assert mine.dtype == theirs.dtype
    assert mine.shape == theirs.shape
    assert mine.tobytes() == theirs.tobytes()


def test_a_written_file_is_byte_for_byte_mxnets_own(oracle: Oracle, tmp_path: Path) -> None:
    oracle.save(ARRAYS, str(tmp_path / "theirs.params"))
    files.write_params(tmp_path / "mine.params", ARRAYS)
    assert (tmp_path / "mine.params").read_bytes() == (tmp_path / "theirs.params").read_bytes()


def test_a_list_without_names_is_byte_for_byte_mxnets_own(oracle: Oracle, tmp_path: Path) -> None:
    arrays = list(ARRAYS.values())
    oracle.save(arrays, str(tmp_path / "theirs.params"))
    files.write_params(tmp_path / "mine.params", arrays)
    assert (tmp_path / "mine.params").read_bytes() == (tmp_path / "theirs.params").read_bytes()
    back, names = files.read_arrays(tmp_path / "theirs.params")
    assert names == []
    for mine, theirs in zip(back, arrays, strict=True):
        same_bits(mine, theirs)


def test_what_mxnet_writes_is_read_bit_for_bit(oracle: Oracle, tmp_path: Path) -> None:
    oracle.save(ARRAYS, str(tmp_path / "x.params"))
    arrays, names = files.read_arrays(tmp_path / "x.params")
    assert names == list(ARRAYS)
    for mine, theirs in zip(arrays, ARRAYS.values(), strict=True):
        same_bits(mine, theirs)
    plain = files.read_params(tmp_path / "x.params")
    assert list(plain) == ["conv_weight", "bias", "moving_mean", "odd name, ünïcode"]


@pytest.mark.parametrize("dtype", array_format.DTYPES, ids=str)
def test_every_dtype_goes_out_and_comes_back(
    dtype: np.dtype[np.generic], oracle: Oracle, tmp_path: Path
) -> None:
    array = sample(dtype, 3, 5)
    files.write_params(tmp_path / "x.params", {"x": array})
    same_bits(files.read_params(tmp_path / "x.params")["x"], array)
    if dtype.name in ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"):
        same_bits(oracle.load(str(tmp_path / "x.params"))["x"], array)


def test_the_code_of_bfloat16_is_twelve() -> None:
    assert len(array_format.DTYPES) == 13
    assert array_format.DTYPES[12] == np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("dims", [(), (0,), (3, 0, 2)])
def test_shapes_that_v2_cannot_hold_are_written_as_v3(dims: tuple[int, ...], tmp_path: Path) -> None:
    array = np.full(dims, 2.5, np.float32)
    files.write_params(tmp_path / "x.params", {"x": array})
    same_bits(files.read_params(tmp_path / "x.params")["x"], array)


@pytest.mark.parametrize("kind", ["row_sparse", "csr"])
def test_sparse_arrays_are_written_out(kind: str, oracle: Oracle, tmp_path: Path) -> None:
    array = sample(np.dtype("f4"), 6, 4)
    array[[1, 4]] = 0
    array[2, 1] = 0
    oracle.save_sparse(array, kind, str(tmp_path / "x.params"))
    np.testing.assert_array_equal(files.read_params(tmp_path / "x.params")["x"], array)


def wrapped(*arrays: bytes, names: tuple[bytes, ...] = ()) -> bytes:
    head = struct.pack("<3Q", 0x112, 0, len(arrays)) + b"".join(arrays)
    return head + struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(n)) + n for n in names)


CONTENT = np.arange(6, dtype="<f4").tobytes()
GENERATIONS = {
    "V0": struct.pack("<3I3i", 2, 2, 3, 1, 0, 0) + CONTENT,
    "V1": struct.pack("<Ii2q3i", 0xF993FAC8, 2, 2, 3, 1, 0, 0) + CONTENT,
    "V2": struct.pack("<I2i2q3i", 0xF993FAC9, 0, 2, 2, 3, 1, 0, 0) + CONTENT,
    "V3": struct.pack("<I2i2q3i", 0xF993FACA, 0, 2, 2, 3, 1, 0, 0) + CONTENT,
}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_of_arrays_is_read(generation: str, oracle: Oracle, tmp_path: Path) -> None:
    path = tmp_path / "x.params"
    path.write_bytes(wrapped(GENERATIONS[generation], names=(b"arg:x",)))
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    same_bits(files.read_params(path)["x"], expected)
    if generation != "V3":  # mxnet reads V3 in its numpy mode alone
        same_bits(oracle.load(str(path))["arg:x"], expected)


@pytest.mark.parametrize(
    "none",
    [struct.pack("<I2i", 0xF993FAC9, 0, 0), struct.pack("<I2i", 0xF993FACA, 0, -1), struct.pack("<I", 0)],
)
def test_an_array_without_a_shape_ends_at_once(none: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.params").write_bytes(wrapped(none, GENERATIONS["V2"], names=(b"a", b"b")))
    params = files.read_params(tmp_path / "x.params")
    assert params["a"].size == 0
    assert params["b"].shape == (2, 3)


def test_an_npz_as_mxnet_2_saves_it_is_read(oracle: Oracle, tmp_path: Path) -> None:
    oracle.save_numpy(ARRAYS, str(tmp_path / "theirs.npz"))
    np.savez_compressed(tmp_path / "numpys.npz", **ARRAYS)
    for name in ("theirs", "numpys"):
        arrays, names = files.read_arrays(tmp_path / f"{name}.npz")
        assert sorted(names) == sorted(ARRAYS)
        for mine, key in zip(arrays, names, strict=True):
            same_bits(mine, ARRAYS[key])


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_is_mapped(order: Literal["C", "F"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SMALL", 0)
    array = np.asarray(sample(np.dtype("f4"), 5, 3), order=order)
    np.save(tmp_path / "x.npy", array)
    (found,), names = files.read_arrays(tmp_path / "x.npy")
    assert names == []
    assert isinstance(mapped_by(found), mmap.mmap)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("cut", [3, 40, 100, -1])
def test_a_damaged_archive_is_refused(cut: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=sample(np.dtype("f4"), 5, 3))
    np.save(tmp_path / "x.npy", sample(np.dtype("f4"), 5, 3))
    for path in (tmp_path / "x.npz", tmp_path / "x.npy"):
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(RefusedError):
            files.read_arrays(path)


def test_an_archive_of_objects_is_refused_without_opening_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.array([print], object))
    with pytest.raises(RefusedError, match="Python objects"):
        files.read_arrays(tmp_path / "x.npz")


def test_an_archive_that_swells_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(100_000_000, np.int8))
    with pytest.raises(RefusedError, match="far more"):
        files.read_arrays(tmp_path / "x.npz")


def test_dense_weights_are_views_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SMALL", 0)
    files.write_params(tmp_path / "x.params", {"x": sample(np.dtype("f4"), 1000, 100)})
    array = files.read_params(tmp_path / "x.params")["x"]
    assert isinstance(mapped_by(array), mmap.mmap)
    assert not array.flags.owndata
    assert not array.flags.writeable


def mapped_by(array: Any) -> object:
    """What the memory of an array belongs to."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


# ---- damage --------------------------------------------------------------------------------------


def test_a_file_that_ends_anywhere_is_refused(tmp_path: Path) -> None:
    files.write_params(tmp_path / "whole.params", ARRAYS)
    whole = (tmp_path / "whole.params").read_bytes()
    path = tmp_path / "cut.params"
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(RefusedError, match=r"cut\.params"):
            files.read_params(path)


def test_a_file_with_a_flipped_byte_is_read_or_refused(tmp_path: Path) -> None:
    files.write_params(tmp_path / "whole.params", ARRAYS)
    whole = (tmp_path / "whole.params").read_bytes()
    path = tmp_path / "bad.params"
    refused = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            files.read_params(path)
        except RefusedError:
            refused += 1
    assert refused > 100


DAMAGE = {
    "another kind of file": (b"\x00" * 64, "header: not a params file"),
    "more arrays than bytes": (struct.pack("<3Q", 0x112, 0, 2**60), "the number of arrays cannot be"),
    "terabytes in no bytes": (
        wrapped(struct.pack("<I2i2q3i", 0xF993FAC9, 0, 2, 2**31, 2**31, 1, 0, 0)),
        r"array 0: the file ends inside the content of float32\[2147483648, 2147483648\]",
    ),
    "a negative size": (wrapped(struct.pack("<I2iq3i", 0xF993FAC9, 0, 1, -4, 1, 0, 0)), "a size is negative"),
    "too many axes": (wrapped(struct.pack("<I2i", 0xF993FAC9, 0, 4000) + b"\x01" * 400), "number of axes"),
    "no such dtype": (wrapped(struct.pack("<I2iq3i", 0xF993FAC9, 0, 1, 1, 1, 0, 99) + b"\0" * 4), "no such dtype"),
    "no such storage": (wrapped(struct.pack("<I2i", 0xF993FAC9, 7, 1) + b"\0" * 40), "storage type"),
    "names for some": (wrapped(GENERATIONS["V2"], GENERATIONS["V2"], names=(b"x",)), "0 or 2 names"),
    "bytes at the end": (wrapped(GENERATIONS["V2"], names=(b"x",)) + b"!", "bytes follow the last name"),
    "a name twice": (wrapped(GENERATIONS["V2"], GENERATIONS["V2"], names=(b"arg:x", b"x")), "a parameter twice"),
    "no names": (wrapped(GENERATIONS["V2"]), "without names"),
    "a name that is no text": (wrapped(GENERATIONS["V2"], names=(b"\xff\xfe",)), "not UTF-8"),
    "rows outside": (
        wrapped(
            struct.pack("<I3i2q", 0xF993FAC9, 1, 2, 0, 0, 0)[:8]
            + struct.pack("<i2qi2q3iiiq", 2, 1, 2, 2, 3, 2, 1, 0, 0, 6, 1, 1)
            + CONTENT[:8]
            + struct.pack("<q", 9),
            names=(b"x",),
        ),
        "its rows do not fit",
    ),
    "gigabytes from one row": (
        wrapped(
            struct.pack("<Ii", 0xF993FAC9, 1)
            + struct.pack("<i2qi2q3iiiq", 2, 1, 2, 2, 10**9, 2, 1, 0, 0, 6, 1, 1)
            + CONTENT[:8]
            + struct.pack("<q", 9),
            names=(b"x",),
        ),
        "too sparse",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_with_its_place(kind: str, tmp_path: Path) -> None:
    content, said = DAMAGE[kind]
    (tmp_path / "bad.params").write_bytes(content)
    with pytest.raises(RefusedError, match=said):
        files.read_params(tmp_path / "bad.params")


# ---- symbols -------------------------------------------------------------------------------------

CYCLE = {
    "nodes": [
        {"op": "tanh", "name": "a", "inputs": [[1, 0, 0]]},
        {"op": "tanh", "name": "b", "inputs": [[0, 0, 0]]},
    ],
    "heads": [[1, 0, 0]],
}
NODE = {"op": "null", "name": "x", "inputs": []}
BAD_SYMBOLS = {
    "no JSON": ("{", "not JSON"),
    "deep JSON": ("[" * 100_000, "not JSON"),
    "no mapping": ("[]", "not an MXNet symbol"),
    "no heads": (json.dumps({"nodes": []}), "not an MXNet symbol"),
    "a cycle": (json.dumps(CYCLE), "form a cycle.*'a'"),
    "a node without a name": (json.dumps({"nodes": [{"op": "tanh"}], "heads": []}), "node 0 is not a node"),
    "a head outside": (json.dumps({"nodes": [NODE], "heads": [[3, 0, 0]]}), "heads points at a node"),
    "an input outside": (
        json.dumps({"nodes": [{"op": "tanh", "name": "y", "inputs": [[5, 0, 0]]}], "heads": [[0, 0, 0]]}),
        r"node 'y' \(tanh\) points at",
    ),
    "a negative input": (
        json.dumps({"nodes": [{"op": "tanh", "name": "y", "inputs": [[-1, 0, 0]]}], "heads": [[0, 0, 0]]}),
        "do not hold together",
    ),
    "attributes that are no texts": (
        json.dumps({"nodes": [{**NODE, "attrs": {"a": 3}}], "heads": [[0, 0, 0]]}),
        "not a mapping of texts",
    ),
    "inputs that are no list": (json.dumps({"nodes": [{**NODE, "inputs": 3}], "heads": []}), "do not hold"),
}


@pytest.mark.parametrize("kind", BAD_SYMBOLS)
def test_a_symbol_that_does_not_hold_together_is_refused(kind: str, tmp_path: Path) -> None:
    text, said = BAD_SYMBOLS[kind]
    (tmp_path / "bad-symbol.json").write_text(text)
    with pytest.raises(RefusedError, match=said) as caught:
        files.read_symbol(tmp_path / "bad-symbol.json")
    assert "bad-symbol.json" in str(caught.value)


def test_a_symbol_survives_writing_and_reading(oracle: Oracle, tmp_path: Path) -> None:
    case = "F.SoftmaxOutput(F.FullyConnected(F.BatchNorm(data), num_hidden=3), name='softmax')"
    oracle.symbol(case, [{"data": np.ones((2, 4), np.float32)}], str(tmp_path / "net"))
    graph = files.read_symbol(tmp_path / "net-symbol.json")
    files.write_symbol(tmp_path / "again-symbol.json", graph)
    assert files.read_symbol(tmp_path / "again-symbol.json") == graph
    assert graph.version == 10901


def test_of_several_params_files_the_highest_epoch_is_taken_and_told(tmp_path: Path) -> None:
    (tmp_path / "net-symbol.json").write_text(json.dumps({"nodes": [NODE], "heads": [[0, 0, 0]]}))
    for epoch in (2, 10, 9):
        files.write_params(tmp_path / f"net-{epoch:04d}.params", {"arg:x": np.full(2, epoch, np.float32)})
    model = files.read(artifact.look(tmp_path / "net-symbol.json"))
    assert model.params["x"].tolist() == [10, 10]
    assert model.notes == ("weights from net-0010.params, the highest epoch of 3 files",)
    chosen = files.read(artifact.look(tmp_path / "net-symbol.json"), weights=tmp_path / "net-0002.params")
    assert chosen.params["x"].tolist() == [2, 2]
    assert chosen.notes == ()


def test_arrays_that_the_symbol_does_not_use_are_told(tmp_path: Path) -> None:
    (tmp_path / "net-symbol.json").write_text(json.dumps({"nodes": [NODE], "heads": [[0, 0, 0]]}))
    files.write_params(tmp_path / "net-0000.params", {"x": np.ones(2, "f4"), "old": np.ones(2, "f4")})
    model = files.read(artifact.look(tmp_path / "net-symbol.json"))
    assert list(model.params) == ["x"]
    assert model.notes == ("net-0000.params holds 1 arrays that the symbol does not use: old",)


def test_a_symbol_without_params_says_what_it_expected(tmp_path: Path) -> None:
    weight = {"op": "null", "name": "w", "inputs": []}
    layer = {
        "op": "FullyConnected",
        "name": "fc",
        "attrs": {"no_bias": "True"},
        "inputs": [[0, 0, 0], [1, 0, 0]],
    }
    (tmp_path / "net-symbol.json").write_text(
        json.dumps({"nodes": [NODE, weight, layer], "heads": [[2, 0, 0]]})
    )
    with pytest.raises(RefusedError, match=r"expected net-0000\.params.*--weights"):
        netferry.convert(tmp_path / "net-symbol.json", "onnx", verify=False)


def test_a_symbol_model_is_known_as_mxnets() -> None:
    model = files.SymbolModel(files.parse_symbol(json.dumps({"nodes": [NODE], "heads": [[0, 0, 0]]})), {})
    assert frameworks.of(model).name == "mxnet"


def test_an_output_that_is_a_parameter_is_refused_by_name() -> None:
    nodes = [{"op": "null", "name": name, "inputs": []} for name in ("data", "w")]
    nodes.append({"op": "dot", "name": "y", "inputs": [[0, 0, 0], [1, 0, 0]]})
    symbol = files.parse_symbol(json.dumps({"nodes": nodes, "heads": [[2, 0, 0], [1, 0, 0]]}))
    model = files.SymbolModel(symbol, {"w": np.eye(3, dtype=np.float32)})
    with pytest.raises(RefusedError, match=r"one of its parameters.*received w"):
        netferry.convert(model, "onnx", inputs={"data": np.ones((2, 3), np.float32)})


def test_names_of_any_script_go_through_mxnet(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["données", "重み"], ["h"]), helper.make_node("Relu", ["h"], ["résultat"])], "g",
        [helper.make_tensor_value_info("données", 1, ["n", 3])], [helper.make_tensor_value_info("résultat", 1, ["n", 2])],
        [numpy_helper.from_array(weight, "重み")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    done = netferry.convert(model, destination=tmp_path / "net-symbol.json")
    assert done.report is not None and done.report.status == "passed"
    x = np.ones((2, 3), np.float32)
    (y,) = netferry.run(tmp_path / "net-symbol.json", {"données": x}).values()
    np.testing.assert_allclose(y, np.maximum(x @ weight, 0), rtol=1e-5)


OPERATORS_THAT_ACT = {
    "an_address": ("_Native", {"info": "4096"}),
    "another_address": ("_NDArray", {"info": "94000000000000"}),
    "a_graph_by_its_address": ("_CachedOp", {}),
    "a_function_by_its_address": ("_CustomFunction", {}),
    "a_gradient": ("_backward_gather_nd", {"shape": "(4,)"}),
    "an_update": ("sgd_update", {"lr": "1"}),
    "a_file": ("_cvimread", {"filename": "/etc/hostname"}),
    "nobodys": ("an_operator_of_a_library", {}),
}


@pytest.mark.parametrize("name", [*OPERATORS_THAT_ACT, "an_address_within"])
def test_mxnet_is_given_operators_that_compute_alone(name: str, tmp_path: Path) -> None:
    operator, attrs = OPERATORS_THAT_ACT.get(name, ("_Native", {"info": "4096"}))
    node: dict[str, Any] = {"op": operator, "name": "n", "attrs": attrs, "inputs": [[0, 0, 0]]}
    if name == "an_address_within":
        inner = {
            "nodes": [{"op": "null", "name": "i", "inputs": []}, {**node, "name": "m"}],
            "heads": [[1, 0, 0]],
        }
        node = {
            "op": "_foreach",
            "name": "n",
            "attrs": {"num_args": "1"},
            "inputs": [[0, 0, 0]],
            "subgraphs": [inner],
        }
    document = {
        "nodes": [{"op": "null", "name": "data", "inputs": []}, node],
        "arg_nodes": [0],
        "heads": [[1, 0, 0]],
    }
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps(document))
    model = files.read(artifact.look(path))
    with pytest.raises(RefusedError, match=f"operators that are on no list.*{operator}"):
        live.run(model, [np.ones((2, 4), np.float32)])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes otherwise")
def test_a_crash_within_mxnet_is_the_systems_again() -> None:
    """MXNet's own handlers would end the process with an exit code that any command may give."""
    program = "import os, signal, netferry.converters.mxnet.live as live; live.import_mxnet(); os.kill(os.getpid(), signal.SIGSEGV)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("console", ["io.StringIO()", "None"])
def test_mxnet_is_imported_where_errors_go_to_no_file(console: str) -> None:
    """As in a notebook, or under a capturing test runner, with Python's own handler of crashes on."""
    program = (
        f"import faulthandler, io, sys; faulthandler.enable(); sys.stderr = sys.__stderr__ = {console}; "
        "import netferry.converters.mxnet.live as live; live.import_mxnet()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
