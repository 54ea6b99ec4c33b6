"""Symbols and params as people have them on disk: prefixes, epochs, archives, other names. mxnet is not needed."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import netferry
from netferry.converters import artifact
from netferry.converters.errors import NetferryError, RefusedError, UnsupportedError
from netferry.converters.mxnet import files
from netferry.converters.source import open_source

RNG = np.random.default_rng(5)
WEIGHTS = {name: RNG.normal(size=dims).astype(np.float32) for name, dims in (("w", (4, 6)), ("b", (4,)))}
OTHERS = {name: array + 1 for name, array in WEIGHTS.items()}
NODES = [
    {"op": "null", "name": "data", "inputs": []},
    {"op": "null", "name": "w", "inputs": []},
    {"op": "null", "name": "b", "inputs": []},
    {
        "op": "FullyConnected",
        "name": "fc",
        "attrs": {"num_hidden": "4"},
        "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]],
    },
]
SYMBOL = json.dumps({"nodes": NODES, "heads": [[3, 0, 0]], "attrs": {"mxnet_version": ["int", 10400]}})
SIGNATURE = json.dumps({"inputs": [{"data_name": "data", "data_shape": [1, 6]}]})


def _params(path: Path, arrays: dict[str, np.ndarray], kind: str = "arg:") -> Path:
    files.write_params(path, {f"{kind}{name}": array for name, array in arrays.items()})
    return path


def _checkpoint(folder: Path, symbol: str, *params: str) -> Path:
    """The last of ``params`` holds WEIGHTS, those before it OTHERS."""
    (folder / symbol).write_text(SYMBOL)
    for name in params:
        _params(folder / name, WEIGHTS if name == params[-1] else OTHERS)
    return folder / symbol


def _weights(source: str | Path, weights: str | None = None) -> np.ndarray:
    model = open_source(str(source), weights)
    assert isinstance(model, files.SymbolModel)
    return np.asarray(model.params["w"])


@pytest.mark.parametrize("asked", ["net", "net:12", "net-symbol.json", "net-0012.params"])
def test_a_checkpoint_opens_by_its_prefix_as_mxnet_opens_it(asked: str, tmp_path: Path) -> None:
    _checkpoint(tmp_path, "net-symbol.json", "net-0003.params", "net-0012.params")
    np.testing.assert_array_equal(_weights(tmp_path / asked), WEIGHTS["w"])


def test_an_epoch_is_chosen_by_its_number(tmp_path: Path) -> None:
    symbol = _checkpoint(tmp_path, "net-symbol.json", "net-0003.params", "net-0012.params")
    np.testing.assert_array_equal(_weights(f"{tmp_path}/net:3"), OTHERS["w"])
    np.testing.assert_array_equal(_weights(symbol, "3"), OTHERS["w"])
    with pytest.raises(RefusedError, match=r"net-0007\.params, received net-0003\.params, net-0012\.params"):
        _weights(f"{tmp_path}/net:7")


@pytest.mark.parametrize(
    ("symbol", "params"),
    [
        ("symbol.json", ("params",)),
        ("symbol.json", ("params.00002", "params.00010")),
        ("symbol.json", ("params.00010", "params.best")),
        ("net-symbol.json", ("other-0005.params",)),
        ("model-symbol.json", ("model.params",)),
    ],
)
def test_params_of_other_names_are_found_beside_the_symbol(
    symbol: str, params: tuple[str, ...], tmp_path: Path
) -> None:
    path = _checkpoint(tmp_path, symbol, *params)
    model = open_source(str(path))
    assert isinstance(model, files.SymbolModel)
    np.testing.assert_array_equal(model.params["w"], WEIGHTS["w"])
    assert any(params[-1] in note for note in model.notes) == (params != ("model.params",))
    np.testing.assert_array_equal(_weights(tmp_path), WEIGHTS["w"])


def test_arguments_and_states_in_files_of_their_own_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "symbol.json").write_text(SYMBOL)
    _params(tmp_path / "args.nd", {"w": WEIGHTS["w"]}, "")
    _params(tmp_path / "auxs.nd", {"b": WEIGHTS["b"]}, "")
    model = open_source(str(tmp_path))
    assert isinstance(model, files.SymbolModel) and set(model.params) == {"w", "b"}
    assert "weights from args.nd and auxs.nd, found beside the symbol" in model.notes


def test_a_symbol_of_any_name_is_found_beside_its_params(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(SYMBOL)
    (tmp_path / "settings.json").write_text('{"kwargs": {}}')
    _params(tmp_path / "args.nd", {"w": WEIGHTS["w"]}, "")
    _params(tmp_path / "auxs.nd", {"b": WEIGHTS["b"]}, "")
    model = open_source(str(tmp_path))
    assert isinstance(model, files.SymbolModel) and set(model.params) == {"w", "b"}


@pytest.mark.parametrize("depth", [1, 3])
def test_the_only_symbol_below_a_folder_opens(depth: int, tmp_path: Path) -> None:
    inner = tmp_path.joinpath(*["models"] * depth)
    inner.mkdir(parents=True)
    _checkpoint(inner, "net-symbol.json", "net-0000.params")
    (tmp_path / "predictor.pkl").write_bytes(b"\x80\x04N.")
    np.testing.assert_array_equal(_weights(tmp_path), WEIGHTS["w"])


def test_of_several_symbols_below_a_folder_none_is_guessed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _checkpoint(tmp_path / name, "net-symbol.json", "net-0000.params")
    with pytest.raises(
        RefusedError, match=r"no single model.*received one/net-symbol\.json, two/net-symbol\.json"
    ):
        open_source(str(tmp_path))


def test_of_several_params_of_strange_names_none_is_guessed(tmp_path: Path) -> None:
    path = _checkpoint(tmp_path, "net-symbol.json", "a-0001.params", "b-0001.params")
    with pytest.raises(RefusedError, match=r"no params file stands beside the symbol.*net-0000\.params"):
        netferry.convert(path, "onnx", verify=False)


# ---- archives ---------------------------------------------------------------------------------------


def _members(folder: Path) -> dict[str, bytes]:
    params = _params(folder / "kept.params", WEIGHTS).read_bytes()
    return {
        "net-symbol.json": SYMBOL.encode(), "net-0000.params": params, "signature.json": SIGNATURE.encode(),
        "service.py": b"raise SystemExit('this code must not run')", "MAR-INF/MANIFEST.json": b"{}",
    }  # fmt: skip


def _mar(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _tar(
    path: Path, members: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None
) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            if change is not None:
                change(info)
            archive.addfile(info, io.BytesIO(content[: info.size]))
    return path


@pytest.mark.parametrize(("name", "pack"), [("net.mar", _mar), ("net.model", _mar), ("model.tar.gz", _tar)])
def test_an_archive_of_a_server_opens(name: str, pack: Callable[..., Path], tmp_path: Path) -> None:
    packed = pack(tmp_path / name, _members(tmp_path))
    (tmp_path / "kept.params").unlink()
    done = netferry.convert(packed, "onnx", verify=False)
    (spec,) = netferry.inspect(packed).signature.inputs
    assert spec.dims == ("batch", 6)
    found = {value.name: value.const_value.numpy() for value in done.export.model.graph.initializers.values()}
    np.testing.assert_array_equal(found["w"], WEIGHTS["w"])


def test_the_sizes_that_sagemakers_classifiers_declare_are_read(tmp_path: Path) -> None:
    members = _members(tmp_path)
    members["model-shapes.json"] = json.dumps([{"name": "data", "shape": [1, 6]}]).encode()
    del members["signature.json"]
    (spec,) = netferry.inspect(_tar(tmp_path / "model.tar.gz", members)).signature.inputs
    assert spec.dims == ("batch", 6)


def _climbing(info: tarfile.TarInfo) -> None:
    info.name = f"../{info.name}"


def _linked(info: tarfile.TarInfo) -> None:
    if info.name.endswith(".py"):
        info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0


def _device(info: tarfile.TarInfo) -> None:
    if info.name.endswith(".py"):
        info.type, info.size = tarfile.CHRTYPE, 0


@pytest.mark.parametrize("change", [_climbing, _linked, _device])
def test_a_tar_archive_that_reaches_out_of_itself_is_refused(
    change: Callable[[tarfile.TarInfo], None], tmp_path: Path
) -> None:
    packed = _tar(tmp_path / "model.tar.gz", _members(tmp_path), change)
    with pytest.raises(RefusedError):
        open_source(str(packed))


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"no archive at all" * 90),
        gzip.compress(bytes(10240)),
        b"\x1f\x8b\x08damaged",
        gzip.compress(bytes(200 << 20), 9),
    ],
    ids=["text", "empty", "damaged", "bomb"],
)
def test_a_damaged_archive_or_one_that_swells_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(content)
    with pytest.raises(RefusedError):
        open_source(str(tmp_path / "model.tar.gz"))


# ---- what is none ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12\n",
            "git lfs pull",
        ),
        (b"\x80\x03}q\x00.", "netferry.optimizer_state"),
        (b"\x13\x01\x00\x00\x00\x00\x00\x00" + bytes(40), "0x112"),
    ],
)
def test_a_params_file_that_is_none_is_refused_by_what_it_is(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = _checkpoint(tmp_path, "net-symbol.json", "net-0000.params")
    (tmp_path / "net-0000.params").write_bytes(content)
    with pytest.raises(NetferryError, match=said):
        open_source(str(path))


def test_a_symbol_without_params_lists_what_has_no_row_first(tmp_path: Path) -> None:
    nodes = [
        *NODES[:3],
        {**NODES[3], "op": "NoSuchLayer"},
        {"op": "Custom", "name": "own", "inputs": [[3, 0, 0]]},
    ]
    (tmp_path / "net-symbol.json").write_text(json.dumps({"nodes": nodes, "heads": [[4, 0, 0]]}))
    with pytest.raises(UnsupportedError) as caught:
        netferry.convert(tmp_path / "net-symbol.json", "onnx", verify=False)
    assert {problem.operator for problem in caught.value.problems} == {"NoSuchLayer", "Custom"}


def test_a_name_that_is_neither_a_file_nor_a_prefix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no such file"):
        artifact.look(tmp_path / "net:3")
