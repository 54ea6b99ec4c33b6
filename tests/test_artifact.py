"""What a file is told by its content; results reach the disk whole or not at all."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
from models import dense, saved

from netferry.converters import artifact, source
from netferry.converters.errors import RefusedError
from netferry.converters.trust.paths import is_factory

SYMBOL = json.dumps({"nodes": [], "arg_nodes": [], "heads": []})
PARAMS = (0x112).to_bytes(8, "little") + bytes(24)


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "content")
    return path


def test_kinds_are_told_by_content_and_not_by_suffix(tmp_path: Path) -> None:
    files = {
        "onnx": saved(tmp_path, dense(), "a.bin"),
        "keras": archive(tmp_path / "b.bin", "config.json", "metadata.json", "model.weights.h5"),
        "pt2": archive(tmp_path / "c.bin", "m/archive_format", "m/models/model.json"),
        "torchscript": archive(tmp_path / "d.bin", "m/constants.pkl", "m/data.pkl", "m/code/x.py"),
    }
    for kind, path in files.items():
        assert artifact.look(path).kind == kind
    (tmp_path / "e.bin").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert artifact.look(tmp_path / "e.bin").kind == "h5"
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    assert artifact.look(tmp_path / "saved").kind == "saved_model"


def test_a_symbol_brings_its_params_with_the_highest_epoch_last(tmp_path: Path) -> None:
    symbol = tmp_path / "net-symbol.json"
    symbol.write_text(SYMBOL)
    for name in ("net-0002.params", "net-0010.params", "net-10.txt", "other-0099.params"):
        (tmp_path / name).write_bytes(PARAMS)
    found = artifact.look(symbol)
    assert [path.name for path in found.companions] == ["net-0002.params", "net-0010.params"]
    assert artifact.look(tmp_path).path == symbol


def test_params_lead_to_their_symbol(tmp_path: Path) -> None:
    params = tmp_path / "net-0003.params"
    params.write_bytes(PARAMS)
    with pytest.raises(
        RefusedError, match=r"net-symbol\.json beside it"
    ):  # they are the weights of no known network
        source.open_source(params)
    (tmp_path / "net-symbol.json").write_text(SYMBOL)
    assert artifact.look(params) == artifact.Artifact("mxnet", tmp_path / "net-symbol.json", (params,))


REFUSED = {
    "nothing": (b"", "empty"),
    "text": (b"hello, I am not a model", "not a model"),
    "another json": (b'{"a": 1}', "not an MXNet symbol"),
    "broken json": (b'{"nodes": [', "neither JSON"),
    "a bare pickle": (b"\x80\x04N.", "bare pickle"),
    "safetensors": ((2).to_bytes(8, "little") + b"{}", "weights only"),
    "a broken zip": (b"PK\x03\x04broken", "damaged zip"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_model_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    path = tmp_path / "gewählt.onnx"
    path.write_bytes(content)
    with pytest.raises(RefusedError, match=message) as caught:
        artifact.look(path)
    assert "gewählt.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_state_dict_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = archive(tmp_path / "weights.pt", "weights/data.pkl", "weights/version")
    with pytest.raises(RefusedError, match=r"package\.module:factory"):
        artifact.look(path)


def test_a_fifo_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RefusedError, match="not a regular file"):
        artifact.look(tmp_path / "pipe")


def test_a_zip_of_a_version_to_come_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/archive_format", "pt2")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 115  # the version that is needed to extract it: 11.5
    path.write_bytes(content)
    with pytest.raises(RefusedError, match=r"damaged zip archive \(zip file version 11.5"):
        artifact.look(path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("https://example.org/net.onnx", "nothing from the network"),
        ("s3://bucket/net.onnx", "nothing from the network"),
        ("bert-base-uncased", "hf download bert-base-uncased --local-dir"),
        ("meta-llama/Llama-3.2-1B", "hf download meta-llama/Llama-3.2-1B --local-dir"),
        ("nowhere/net.onnx", "There is no folder nowhere"),
        ("model.ckpt-7", "there is no such file or folder"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_the_way_to_get_it(name: str, told: str) -> None:
    with pytest.raises(RefusedError) as caught:
        artifact.demand(name)
    assert told in str(caught.value)
    assert ("hf download" in str(caught.value)) == told.startswith("hf")


def test_a_folder_is_named_also_where_it_is_the_working_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert (source.title("."), source.title(".."), source.title("a/net.onnx")) == (
        "inner",
        tmp_path.name,
        "net.onnx",
    )


@pytest.mark.parametrize(
    ("text", "factory"),
    [
        ("package.module:make", True),
        ("net.py:make", True),
        ("my models/net 2.py:make", True),
        ("C:/my models/net.py:make", True),
        ("my model:make", False),
        ("net.py:2", False),
        ("a:b:make", False),
    ],
)
def test_a_factory_is_a_module_or_a_file_of_python_and_a_name(text: str, factory: bool) -> None:
    assert is_factory(text) == factory
