"""A certificate says what was compared and what came out, and whether that still holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry.converters.errors import RefusedError, UsageError
from netferry.validation.reports import certificate


def _model(scale: float = 1.0) -> onnx.ModelProto:
    weight = np.random.default_rng(2).standard_normal((5, 4)).astype(np.float32) * np.float32(scale)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Tanh", ["z"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two equal models, the second with its weights in a file of their own, and the certificate of the pair."""
    here = tmp_path_factory.mktemp("made")
    onnx.save(_model(), here / "a.onnx")
    onnx.save(_model(), here / "b.onnx", save_as_external_data=True, location="b.bin", size_threshold=0)
    netferry.verify(here / "a.onnx", here / "b.onnx", seed=0, certificate=here / "proof.json")
    return here


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The same in a folder of its own."""
    for name in ("a.onnx", "b.onnx", "b.bin", "proof.json"):
        shutil.copy(made / name, tmp_path)
    return tmp_path


def _document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "proof.json").read_text())
    return found


def _sealed(folder: Path, **changes: Any) -> None:
    """Write another document under a digest that fits, as netferry of another day would have."""
    document = _document(folder) | changes
    document["digest"] = certificate._digest(document)
    (folder / "proof.json").write_text(json.dumps(document))


def test_an_untouched_certificate_holds(folder: Path) -> None:
    found = netferry.check(folder / "proof.json")
    assert found.holds
    assert (found.was, found.now, found.versions) == ("passed", "passed", ())


def test_the_same_comparison_writes_the_same_bytes_and_no_machine_path(folder: Path) -> None:
    first = (folder / "proof.json").read_bytes()
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for name in ("a.onnx", "b.onnx", "b.bin"):
        shutil.copy(folder / name, elsewhere)
    netferry.verify(elsewhere / "a.onnx", elsewhere / "b.onnx", seed=0, certificate=elsewhere / "proof.json")
    assert (elsewhere / "proof.json").read_bytes() == first
    assert str(folder).encode() not in first


def test_a_certificate_names_every_file_with_its_hash_the_inputs_and_the_limits(folder: Path) -> None:
    document = _document(folder)
    assert set(document["source"]["files"]) == {certificate.MODEL}
    assert set(document["target"]["files"]) == {certificate.MODEL, "b.bin"}
    assert document["inputs"]["samples"]
    assert document["options"]["seed"] == 0
    assert document["limits"]
    assert document["versions"]["onnx"] == onnx.__version__
    assert document["verdict"]["outputs"][0]["name"] == "y"


def test_moved_together_models_and_certificate_still_hold(folder: Path) -> None:
    moved = folder.with_name(f"{folder.name}_moved")
    folder.rename(moved)
    assert netferry.check(moved / "proof.json").holds


def test_changed_weights_beside_the_model_are_named_though_the_model_file_is_the_same(folder: Path) -> None:
    data = bytearray((folder / "b.bin").read_bytes())
    data[3] ^= 0x40
    (folder / "b.bin").write_bytes(bytes(data))
    found = netferry.check(folder / "proof.json")
    assert not found.holds
    assert found.changed == ("b.onnx, the target: b.bin has another content",)


def test_a_model_that_differs_now_changes_the_verdict(folder: Path) -> None:
    onnx.save(_model(1.5), folder / "c.onnx")
    found = netferry.check(folder / "proof.json", folder / "a.onnx", folder / "c.onnx")
    assert (found.was, found.now) == ("passed", "failed")
    assert "output y: passed, now failed" in found.verdict
    assert "c.onnx, the target: b.bin is gone" in found.changed


def test_a_copy_under_another_name_is_the_same_model(folder: Path) -> None:
    shutil.copy(folder / "a.onnx", folder / "copy.onnx")
    assert netferry.check(folder / "proof.json", folder / "copy.onnx").holds


def test_a_certificate_of_a_failure_holds_as_long_as_it_fails(folder: Path) -> None:
    onnx.save(_model(1.5), folder / "c.onnx")
    netferry.verify(
        folder / "a.onnx", folder / "c.onnx", seed=0, certificate=folder / "proof.json", force=True
    )
    found = netferry.check(folder / "proof.json")
    assert found.holds
    assert found.was == found.now == "failed"


@pytest.mark.parametrize(
    ("before", "after"), [('"passed"', '"failed"'), ('"seed": 0', '"seed": 1'), ('"batch"', '"rows"')]
)
def test_a_change_by_hand_is_noticed(folder: Path, before: str, after: str) -> None:
    text = (folder / "proof.json").read_text()
    assert before in text
    (folder / "proof.json").write_text(text.replace(before, after))
    with pytest.raises(RefusedError, match="changed after it was written"):
        netferry.check(folder / "proof.json")


def test_other_versions_are_told_and_do_not_break_it(folder: Path) -> None:
    _sealed(folder, versions=_document(folder)["versions"] | {"onnx": "1.0.0"})
    found = netferry.check(folder / "proof.json")
    assert found.holds
    assert found.versions == (f"onnx 1.0.0, now {onnx.__version__}",)


def test_other_limits_are_told(folder: Path) -> None:
    _sealed(folder, limits={"RELATIVE_TO_SCALE": {"float32": 1.0}})
    assert any("other limits" in line for line in netferry.check(folder / "proof.json").versions)


def test_given_inputs_are_hashed_and_must_be_given_again(folder: Path) -> None:
    x = np.random.default_rng(4).standard_normal((3, 5)).astype(np.float32)
    a, b, proof = folder / "a.onnx", folder / "b.onnx", folder / "proof.json"
    netferry.verify(a, b, {"x": x}, certificate=proof, force=True)
    with pytest.raises(UsageError, match="inputs that were given"):
        netferry.check(proof)
    assert netferry.check(proof, inputs={"x": x}).holds
    assert netferry.check(proof, inputs={"x": x + 1}).changed == ("the inputs are not those that were given",)


_CODE = """\
import torch

torch.manual_seed({seed})


def make():
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh()).eval()
"""


def test_code_is_hashed_with_its_weights_and_never_run_on_the_word_of_a_certificate(folder: Path) -> None:
    (folder / "made.py").write_text(_CODE.format(seed=1))
    named, x = f"{folder / 'made.py'}:make", np.ones((2, 5), np.float32)
    netferry.verify(named, named, {"x": x}, seed=0, certificate=folder / "proof.json", force=True)
    source = _document(folder)["source"]
    assert (source["title"], set(source["files"])) == ("made.py:make", {certificate.CODE})
    with pytest.raises(UsageError, match="is code or a live model"):
        netferry.check(folder / "proof.json", inputs={"x": x})
    # Another length: Python keeps compiled code by the file's second and size.
    (folder / "made.py").write_text(_CODE.format(seed=22))
    changed = netferry.check(folder / "proof.json", named, named, {"x": x}).changed
    assert "made.py:make, the source: (its code) has another content" in changed
    assert "the weights of the source are others" in changed


@pytest.mark.parametrize("place", ["../a.onnx", "/etc/hostname"])
def test_a_certificate_cannot_point_out_of_its_folder(folder: Path, place: str) -> None:
    shutil.copy(folder / "a.onnx", folder.parent / "a.onnx")
    _sealed(folder, source=_document(folder)["source"] | {"path": place})
    with pytest.raises(UsageError, match="is not beside it"):
        netferry.check(folder / "proof.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}'])
def test_what_is_no_certificate_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "proof.json").write_text(text)
    with pytest.raises(RefusedError, match="not a certificate"):
        netferry.check(tmp_path / "proof.json")


def _with_options(folder: Path, **changes: Any) -> None:
    _sealed(folder, options=_document(folder)["options"] | changes)


OPTIONS: dict[str, dict[str, Any]] = {
    "a certificate to write": {"certificate": "../x"},
    "a certificate over the model": {"certificate": "b.onnx"},
    "unsafe": {"unsafe": True},
    "data": {"data": "/etc/passwd"},
    "columns": {"columns": {"x": ["y"]}},
    "weights": {"weights": ["../w", None]},
    "force": {"force": True},
    "progress": {"progress": "print"},
    "a key that is none": {"": 1},
    "a key with an escape": {"\x1b[2J": 1},
    "a seed in letters": {"seed": "0"},
    "a seed below nought": {"seed": -1},
    "a seed that is true": {"seed": True},
    "a seed with a point": {"seed": 1.5},
    "a large seed": {"seed": 10**400},
    "a list for a tolerance": {"rtol": [1e-3], "atol": 0},
    "an infinite tolerance": {"rtol": 1e999, "atol": 1e-3},
    "a tolerance below nought": {"rtol": -1.0, "atol": 1e-3},
    "one of two tolerances": {"rtol": 1e-3},
    "a tolerance that is true": {"rtol": True, "atol": True},
    "a device of none": {"device": "tpu"},
    "a device of several": {"device": ["cpu"]},
    "a number for a flag": {"quick": 1},
    "a text for a flag": {"gradients": "no"},
    "steps in letters": {"training_steps": "1"},
    "steps without end": {"training_steps": 10**9},
    "no samples": {"samples": 0},
    "samples in letters": {"samples": "many"},
    "outputs in a row that are numbers": {"outputs": [1, 2]},
    "a size of nothing": {"fix": {"x": [0]}},
    "an input at a number": {"input_at": [3]},
    "outputs that are numbers": {"outputs": {"y": 1}},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_an_option_that_is_none_or_of_another_type_is_refused_in_a_sentence(kind: str, folder: Path) -> None:
    _with_options(folder, **OPTIONS[kind])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(RefusedError) as caught:
        netferry.check(folder / "proof.json")
    message = str(caught.value)
    assert message.isprintable() and len(message) < 500 and "proof.json" in message
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not (folder.parent / "x").exists()


PARTS: dict[str, dict[str, Any]] = {
    "options in a row": {"options": []},
    "a source in letters": {"source": "a.onnx"},
    "a path that is a number": {"source": {"title": "a", "path": 1, "files": {}}},
    "a title that is none": {"source": {"title": None, "path": "a.onnx", "files": {}}},
    "files in a row": {"target": {"title": "a", "path": "a.onnx", "files": []}},
    "digests that are numbers": {"target": {"title": "a", "path": "a.onnx", "files": {"(the model)": 1}}},
    "no inputs": {"inputs": None},
    "inputs that are numbers": {"inputs": {"given": [1], "samples": [], "data": None}},
    "inputs without names": {"inputs": {"given": [{"sha256": ""}], "samples": [], "data": None}},
    "data in letters": {"inputs": {"given": None, "samples": [], "data": "rows"}},
    "versions in a row": {"versions": ["1"]},
    "versions that are numbers": {"versions": {"onnx": 1}},
    "a verdict in letters": {"verdict": "passed"},
    "a verdict of none": {"verdict": {"status": "perfect", "outputs": []}},
    "outputs that are none": {"verdict": {"status": "passed", "outputs": None}},
    "outputs without names": {"verdict": {"status": "passed", "outputs": [{"status": "passed"}]}},
    "limits in a row": {"limits": [1]},
    "a format in letters": {"format": "1"},
    "a format that is true": {"format": True},
}


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_of_another_type_is_refused_in_a_sentence(kind: str, folder: Path) -> None:
    _sealed(folder, **PARTS[kind])
    with pytest.raises(RefusedError, match=r"proof\.json.*another (type|format)"):
        netferry.check(folder / "proof.json")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"format": NaN}',
        '{"a": 1, "a": 2}',
        '{"format": "\\ud800"}',
        "\xff",
        "1" * 10_000,
        '"x"',
        "null",
    ],
)
def test_json_that_is_no_certificate_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "proof.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RefusedError, match=r"proof\.json: not a certificate"):
        netferry.check(tmp_path / "proof.json")


def test_a_fifo_is_no_certificate(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "proof.json")
    with pytest.raises(RefusedError, match="not a regular file but a FIFO"):
        netferry.check(tmp_path / "proof.json")


@pytest.mark.parametrize("what", ["the model", "its weights", "a folder", "a link to a link"])
def test_a_link_out_of_the_folder_is_not_followed(
    what: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    for name in ("a.onnx", "b.onnx", "b.bin"):
        shutil.copy(folder / name, outside)
    if what == "a folder":
        (folder / "sub").symlink_to(outside)
        _sealed(folder, target=_document(folder)["target"] | {"path": "sub/b.onnx"})
    else:
        name = "b.bin" if what == "its weights" else "b.onnx"
        (folder / name).unlink()
        (outside / "link").symlink_to(outside / name)
        (folder / name).symlink_to(outside / ("link" if what == "a link to a link" else name))
    with pytest.raises((UsageError, RefusedError), match=r"is not beside it|leaves its folder"):
        netferry.check(folder / "proof.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rtol": 1e9, "atol": 1e9}, "rtol=1000000000.0, atol=1000000000.0"),
        ({"quick": True}, "quick=true"),
        ({"samples": 2}, "samples=2"),
    ],
)
def test_what_is_not_the_default_stands_in_the_first_line(
    changes: dict[str, Any], words: str, folder: Path
) -> None:
    _with_options(folder, **changes)
    first = netferry.check(folder / "proof.json").to_text().splitlines()[0]
    assert first.startswith(f"proof.json still holds, compared with {words}: the verdict was passed")
    report = netferry.verify(folder / "a.onnx", folder / "b.onnx", seed=0, **changes)
    assert report.to_text().startswith(f"passed, compared with {words}")
    plain = netferry.verify(folder / "a.onnx", folder / "b.onnx", seed=3)
    assert "compared with" not in plain.to_text()


def _ends(*arguments: object) -> int:
    """The exit code of the command, run as a person runs it."""
    command = [sys.executable, "-m", "netferry", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=300, check=False).returncode


def test_the_command_line_ends_with_zero_one_two_or_five(folder: Path) -> None:
    proof = folder / "proof.json"
    before = proof.read_bytes()
    proof.unlink()
    assert _ends(folder / "a.onnx", folder / "b.onnx", "--certificate", proof, "--seed", 0) == 0
    assert proof.read_bytes() == before
    onnx.save(_model(1.5), folder / "a.onnx")
    assert _ends("--check", proof) == 1
    proof.write_text(proof.read_text().replace("passed", "failed"))
    assert _ends("--check", proof) == 5
    assert _ends() == 2
