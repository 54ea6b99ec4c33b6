"""Many conversions in one call: each has its own verdict, the worst decides, and what is done is not done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from models import dense, saved

from netferry.converters.errors import RefusedError, UsageError, WriteError
from netferry.tasks.conversions import convert_all, convert_each
from netferry.tasks.fanout import Answer

NETFERRY = (sys.executable, "-m", "netferry")


def netferry(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NETFERRY, *map(str, args)], capture_output=True, text=True, cwd=cwd, timeout=300, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved(tmp_path, dense(), "a.onnx")
    saved(tmp_path, dense(1.5), "b.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x0anonsense")
    return tmp_path


def test_each_source_has_its_verdict_and_the_worst_is_the_exit_code(folder: Path) -> None:
    many = (
        "convert",
        "a.onnx",
        "broken.onnx",
        "b.onnx",
        "--to",
        "onnx",
        "--output-dir",
        "out",
        "--workers",
        "2",
        "--quick",
    )
    done = netferry(*many, "--report", "report", "--json", cwd=folder)
    assert done.returncode == 5, done.stderr
    found = json.loads(done.stdout)
    assert [one["status"] for one in found["conversions"]] == ["passed", "not_checked", "passed"]
    assert found["conversions"][1]["error"]["exit_code"] == 5
    assert {path.name for path in (folder / "out").iterdir()} == {"a.onnx", "b.onnx", ".netferry"}
    suites = ElementTree.parse(folder / "report" / "junit.xml").getroot()
    assert (suites.get("tests"), suites.get("errors"), suites.get("failures")) == ("3", "1", "0")
    assert json.loads((folder / "report" / "verdict.json").read_text())["status"] == "not_checked"
    assert "| b.onnx |" in (folder / "report" / "report.md").read_text()
    text = (folder / "report" / "verdict.txt").read_text()
    assert "2 of 3 conversions passed" in text
    assert "wrote out/a.onnx" in text


def test_what_cannot_be_meant_is_refused_before_any_work(folder: Path) -> None:
    saved(folder, dense(), "a.b.onnx").rename(folder / "deep.onnx")
    (folder / "other").mkdir()
    saved(folder / "other", dense(), "a.onnx")
    with pytest.raises(UsageError, match="two sources would become one file"):
        convert_each([str(folder / "a.onnx"), str(folder / "other" / "a.onnx")], "onnx", folder / "out")
    assert not (folder / "out").exists()
    (folder / "out").mkdir()
    (folder / "out" / "a.onnx").write_text("precious")
    with pytest.raises(WriteError):
        convert_each([str(folder / "b.onnx"), str(folder / "a.onnx")], "onnx", folder / "out")
    assert [path.name for path in (folder / "out").iterdir()] == ["a.onnx"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--output-dir", "out"), "--to"),
        (("--to", "onnx", "--output-dir", "out", "--weights", "w.params"), "--weights is for one model"),
        (
            ("--to", "onnx", "--output-dir", "out", "--precision", "float16", "--dry-run"),
            "leave --precision out",
        ),
        (("--to", "onnx", "--output-dir", "out", "--even-if-slower"), "--even-if-slower is for --precision"),
        (("--catalogue", "m.toml"), "names its own models"),
        (("--to", "onnx", "--workers", "2"), "--output-dir or a"),
        ((), "a source and a destination are needed"),
    ],
)
def test_flags_that_do_not_go_together_are_named(flags: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = netferry("convert", "a.onnx", "b.onnx", "c.onnx", *flags, "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert told in json.loads(done.stdout)["message"]


def test_many_sources_go_to_another_precision_each_judged_on_the_data(folder: Path) -> None:
    np.savez(folder / "rows.npz", x=np.random.default_rng(3).normal(size=(40, 3)).astype(np.float32))
    many = ("convert", "a.onnx", "broken.onnx", "b.onnx", "--to", "onnx", "--output-dir", "out", "--quick")
    how = ("--precision", "float16", "--data", "rows.npz", "--even-if-slower", "--json")
    done = netferry(*many, *how, cwd=folder)
    assert done.returncode == 5, done.stderr
    first, broken, last = json.loads(done.stdout)["conversions"]
    assert (first["status"], broken["status"], last["status"]) == ("passed", "not_checked", "passed")
    for one, factor in ((first, 1.0), (last, 1.5)):
        assert (one["precision"]["rows"], one["precision"]["real"]) == (40, True)
        [weight, *_] = onnx.load(folder / one["files"][0]).graph.initializer
        stored = onnx.numpy_helper.to_array(weight)
        assert stored.dtype == np.float16
        [wanted, *_] = dense(factor).graph.initializer
        np.testing.assert_array_equal(stored, onnx.numpy_helper.to_array(wanted).astype(np.float16))


def test_a_pair_of_a_catalogue_names_its_precision_and_its_data(folder: Path) -> None:
    np.savez(folder / "rows.npz", x=np.random.default_rng(3).normal(size=(40, 3)).astype(np.float32))
    text = """[[pair]]
a = "a.onnx"
b = "small.onnx"
precision = "float16"
even_if_slower = true
data = "rows.npz"
quick = true
"""
    (folder / "models.toml").write_text(text)
    done = netferry("convert", "--catalogue", "models.toml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "float16: " in done.stdout and (folder / "small.onnx").is_file()
    assert "kept" in netferry("convert", "--catalogue", "models.toml", cwd=folder).stdout
    np.savez(folder / "rows.npz", x=np.random.default_rng(4).normal(size=(41, 3)).astype(np.float32))
    assert "kept" not in netferry("convert", "--catalogue", "models.toml", cwd=folder).stdout
    (folder / "models.toml").write_text(text.replace('precision = "float16"\n', ""))
    refused = netferry("convert", "--catalogue", "models.toml", cwd=folder)
    assert refused.returncode == 2 and "for a pair with a precision" in refused.stderr


CATALOGUE = """
[defaults]
quick = true

[[pair]]
name = "first"
a = "a.onnx"
b = "made/first.onnx"
rename = ["y=scores"]

[[pair]]
a = "b.onnx"
b = "made/second.onnx"
fix = ["x:2,3"]
"""


def test_a_catalogue_is_converted_and_what_stands_is_not_made_again(folder: Path) -> None:
    import onnx

    toml = folder / "models.toml"
    toml.write_text(CATALOGUE)
    dry = convert_all(toml, dry_run=True)
    assert [one.exit_code for one in dry.pairs] == [0, 0]
    assert "nothing was written (--dry-run)" in dry.to_text()
    assert not list((folder).glob("made/*.onnx"))
    first = convert_all(toml, workers=2)
    assert [(one.status, one.kept) for one in first.pairs] == [("passed", False)] * 2, first.to_text()
    assert onnx.load(folder / "made" / "first.onnx").graph.output[0].name == "scores"
    saved(folder, dense(2.0), "b.onnx")
    second = convert_all(toml)
    assert [one.kept for one in second.pairs] == [True, False]
    (folder / "made" / "first.onnx").unlink()
    third = convert_all(toml)
    assert [one.kept for one in third.pairs] == [False, True]
    assert (folder / "made" / "first.onnx").exists()


@pytest.mark.parametrize(
    ("line", "error", "told"),
    [
        ("grad = true", UsageError, "says how a pair is compared"),
        ('rename = ["y"]', UsageError, "OLD=NEW"),
        ("output = [3]", UsageError, "'output' has another type"),
        ("unsafe = true", RefusedError, "--unsafe"),
        ('to = "caffe"', UsageError, "no such framework"),
    ],
)
def test_what_a_catalogue_may_not_say_is_refused_before_any_work(
    line: str, error: type[Exception], told: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(tasks: object, *_: object, **__: object) -> list[Answer]:
        raise AssertionError("nothing may begin")

    monkeypatch.setattr("netferry.tasks.conversions.fan_out", never)
    (folder / "m.toml").write_text(f'[[pair]]\na = "a.onnx"\nb = "out.onnx"\n{line}\n')
    with pytest.raises(error, match=told):
        convert_all(folder / "m.toml")


@pytest.mark.parametrize("named", ["../out.onnx", "/tmp/out.onnx", "link/out.onnx", "a/../../out.onnx"])
def test_a_catalogue_writes_nothing_outside_of_its_folder(named: str, folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    (home / "link").symlink_to(folder)
    (home / "m.toml").write_text(f'[[pair]]\na = "../a.onnx"\nb = "{named}"\n')
    before = sorted(folder.rglob("*"))
    with pytest.raises(RefusedError, match="outside of its own folder"):
        convert_all(home / "m.toml")
    assert sorted(folder.rglob("*")) == before


def test_a_dry_run_says_what_would_be_and_writes_nothing(folder: Path) -> None:
    before = sorted(folder.iterdir())
    done = netferry("convert", "a.onnx", "arrived", "--to", "pytorch", "--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "a.onnx -> arrived: would be written (--dry-run)" in done.stdout
    assert sorted(folder.iterdir()) == before


def test_ctrl_c_ends_all_of_them_and_leaves_no_result(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\ndef one():\n    open('begun', 'w').close()\n    time.sleep(60)\ntwo = three = one\n"
    )
    sources = [f"slow.py:{name}" for name in ("one", "two", "three")]
    command = [*NETFERRY, "convert", *sources, "--to", "onnx", "--output-dir", "out", "--workers", "2"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 90
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert not list((tmp_path / "out").iterdir())
