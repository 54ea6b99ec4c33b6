"""Pairs and cells in processes of their own: a crash costs one, what is done is kept, engines agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from netferry.converters.errors import NetferryError, RefusedError, UsageError
from netferry.converters.onnx.files import external_files
from netferry.runtime.limits import Limits
from netferry.tasks import fanout
from netferry.tasks.catalogue import pairs_of, verify_all
from netferry.tasks.fanout import Task, fan_out

NETFERRY = (sys.executable, "-m", "netferry")
W = np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)


def save(path: Path, weight: np.ndarray) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["y"])]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])]
        for name, size in (("x", 4), ("y", 3))
    ]
    graph = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


CATALOGUE = """
[defaults]
seed = 3
quick = true

[[pair]]
name = "same"
a = "a.onnx"
b = "b ü.onnx"

[[pair]]
a = "a.onnx"
b = "other.onnx"

[[pair]]
name = "crash"
a = "crashing:model"
b = "a.onnx"

[[pair]]
name = "absent"
a = "a.onnx"
b = "no.onnx"
"""


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save(tmp_path / "a.onnx", W)
    save(tmp_path / "b ü.onnx", W)
    save(tmp_path / "other.onnx", W + 0.01)
    (tmp_path / "crashing.py").write_text("import os\n\ndef model():\n    os.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "models.toml").write_text(CATALOGUE, encoding="utf-8")
    return tmp_path / "models.toml"


STATES = {"same": "passed", "a.onnx -> other.onnx": "failed", "crash": "not_checked", "absent": "not_checked"}


def test_each_pair_is_judged_by_itself_and_what_is_done_is_kept(catalogue: Path) -> None:
    first = verify_all(catalogue, workers=2, factories=True)
    assert {pair.name: pair.status for pair in first.pairs} == STATES
    reasons = {pair.name: pair.reason for pair in first.pairs}
    assert "crashed (SIGABRT)" in reasons["crash"]
    assert "no such file" in reasons["absent"]
    assert not any(pair.kept for pair in first.pairs)
    save(catalogue.with_name("no.onnx"), W)
    second = verify_all(catalogue, factories=True)
    assert {pair.name: pair.kept for pair in second.pairs} == {
        "same": True, "a.onnx -> other.onnx": True, "crash": False, "absent": False,
    }  # fmt: skip
    assert [pair.report for pair in second.pairs[:2]] == [pair.report for pair in first.pairs[:2]]
    assert second.pairs[3].status == "passed"


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 400_000) + " = 1",
        "".join(f"[{'.'.join(['a'] * depth)}]\n" for depth in range(1, 900)),
        "pair = {" + ".".join(['"a"'] * 100_000) + " = 1}",
        "a = " + "[" * 400_000,
        "a = " + "{a=" * 100_000,
    ],
)
def test_a_catalogue_of_a_great_depth_is_refused_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(text)
    start = time.process_time()
    with pytest.raises(RefusedError, match=r"without end|too deep"):
        pairs_of(tmp_path / "models.toml")
    assert time.process_time() - start < 5


WORDS = {
    "unsafe": ('unsafe = true\nb = "a.onnx"', {"unsafe": True}, "'unsafe = true'.*pair 2 .*--unsafe"),
    "a factory": (
        'b = "crashing:model"',
        {"factories": True},
        "factories.*pair 2 \\(crashing:model\\).*--factories",
    ),
    "a device": (
        'device = "auto"\nb = "a.onnx"',
        {"device": "cuda"},
        "'device'.*pair 2 \\(auto\\).*--device",
    ),
    "any device": ('device = "gpu"\nb = "a.onnx"', {"device": "auto"}, "'device'.*pair 2 \\(gpu\\)"),
    "a file's factory": ('b = "crashing.py:model"', {"factories": True}, "pair 2 \\(crashing.py:model\\)"),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_a_catalogue_would_run_needs_a_word_of_the_callers(
    name: str, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, word, said = WORDS[name]
    catalogue.write_text(f'[[pair]]\na = "a.onnx"\nb = "a.onnx"\n\n[[pair]]\na = "a.onnx"\n{text}\n')
    monkeypatch.setattr("netferry.tasks.catalogue.fan_out", lambda tasks, *_, **__: [])
    with pytest.raises(RefusedError, match=said):
        verify_all(catalogue)
    with pytest.raises(RefusedError, match=said):
        verify_all(catalogue, **({"factories": True} if "unsafe" in word else {"unsafe": True}))
    assert verify_all(catalogue, **word).pairs == ()


def test_defaults_of_a_catalogue_need_the_word_too(catalogue: Path) -> None:
    catalogue.write_text('[defaults]\nunsafe = true\n\n[[pair]]\na = "a.onnx"\nb = "a.onnx"\n')
    with pytest.raises(RefusedError, match=r"pair 1 .*a.onnx -> a.onnx.*--unsafe"):
        verify_all(catalogue)


def test_a_pair_whose_file_or_options_have_changed_is_compared_again(catalogue: Path) -> None:
    text = CATALOGUE.partition('[[pair]]\nname = "crash"')[0]
    catalogue.write_text(text, encoding="utf-8")
    verify_all(catalogue)
    save(catalogue.with_name("other.onnx"), W)
    changed = verify_all(catalogue).pairs
    assert [(pair.status, pair.kept) for pair in changed] == [("passed", True), ("passed", False)]
    catalogue.write_text(text.replace("seed = 3", "seed = 4"), encoding="utf-8")
    assert not any(pair.kept for pair in verify_all(catalogue).pairs)


def test_the_command_gives_a_table_an_exit_code_json_junit_and_markdown(catalogue: Path) -> None:
    command = [*NETFERRY, "verify", "--catalogue", str(catalogue), "--workers", "2", "--factories"]
    forms = ["--junit", str(catalogue.with_name("r.xml")), "--markdown", str(catalogue.with_name("r.md"))]
    said = subprocess.run([*command, *forms], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert said.stdout.splitlines()[-1] == "1 of 4 pairs passed"
    suites = ElementTree.parse(catalogue.with_name("r.xml")).getroot()
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors")) == ("4", "1", "2")
    assert "| same | a.onnx | b ü.onnx | ✓ passed |" in catalogue.with_name("r.md").read_text(
        encoding="utf-8"
    )
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    document = json.loads(again.stdout)
    assert {pair["name"]: pair["status"] for pair in document["pairs"]} == STATES
    assert document["status"] == "failed"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[pair]]\na = "x"', "pair 1: has no 'b'"),
        ('[[pair]]\na = "x"\nb = "y"\nsede = 1', "no option of a pair.*sede.*Did you mean seed"),
        ('[[pair]]\na = "x"\nb = "y"\nseed = "1"', "'seed' has another type"),
        ("", "names no pairs"),
        ("[[pair]\n", "is no TOML"),
        ("[pairs]\n", "unknown in a catalogue"),
        ('[[pair]]\na = "x"\nb = "y"\n' * 2, "two tasks have one name"),
    ],
)
def test_a_catalogue_that_cannot_be_meant_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(NetferryError, match=words):
        verify_all(tmp_path / "models.toml")
    with pytest.raises(UsageError, match="no such engine"):
        fan_out([], tmp_path, engine="spark")


def test_ctrl_c_ends_every_process_and_keeps_what_was_done(catalogue: Path) -> None:
    (catalogue.parent / "crashing.py").write_text(
        "import os, time, pathlib\n\ndef model():\n"
        "    pathlib.Path(__file__).with_name('pid').write_text(str(os.getpid()))\n    time.sleep(600)\n"
    )
    command = [*NETFERRY, "verify", "--catalogue", str(catalogue), "--factories"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pid = catalogue.with_name("pid")
    until = time.monotonic() + 120
    while time.monotonic() < until and not (pid.is_file() and pid.read_text()):
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted" in told
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert len(list(catalogue.with_name("models.toml.results").glob("*.json"))) == 2


def test_a_task_that_takes_too_long_is_ended(catalogue: Path) -> None:
    (catalogue.parent / "crashing.py").write_text("import time\n\ndef model():\n    time.sleep(600)\n")
    pair = ["crashing:model", str(catalogue.with_name("a.onnx"))]
    (answer,) = fan_out([Task("slow", "verify", pair, limits=Limits(seconds=8))], catalogue.parent / "kept")
    assert answer.error is not None
    assert "not done after 8 seconds" in answer.error["message"]


@pytest.mark.slow
def test_ray_gives_the_same_verdicts_and_a_crash_there_costs_one_pair(catalogue: Path) -> None:
    pytest.importorskip("ray")
    found = verify_all(catalogue, engine="ray", workers=2, factories=True)
    assert {pair.name: pair.status for pair in found.pairs} == STATES
    assert "crashed (SIGABRT)" in found.pairs[2].reason


@pytest.mark.slow
def test_a_matrix_in_processes_of_its_own_has_the_cells_of_one_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from netferry.tasks import matrix as room

    def plain(matrix: room.Matrix) -> list[tuple[Any, ...]]:
        return [(c.model, c.source, c.target, c.status, c.max_rel, c.metric, c.graphs) for c in matrix.cells]

    here = room.matrix(["linear"], ["pytorch"], directory=tmp_path / "here")
    fan = room.Fan("local", 2)
    there = room.matrix(["linear"], ["pytorch"], directory=tmp_path / "there", fan=fan)
    assert plain(here) == plain(there)
    assert there.passed
    again = room.matrix(["linear"], ["pytorch"], directory=tmp_path / "there", fan=fan)
    assert again.to_dict() == there.to_dict()


def test_an_answer_is_kept_only_while_every_file_of_netferry_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digested: list[str] = []
    monkeypatch.setattr(fanout, "of_file", lambda file: digested.append(file.name))
    fanout._own_code.__wrapped__()
    assert {"api.py", "fanout.py", "guard.py", "verify.py", "session.py", "catalog.py"} <= set(digested)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("memory = nan", "no such number"), ("memory = inf", "no such number"), ("memory = -1", "no such number"),
        ("time_limit = nan", "no such number"), ("seed = -1", "no such number"), ("rtol = nan", "no such number"),
        ("atol = -inf", "no such number"), ("samples = -5", "no such number"),
        ('inputs = ["x:99999,99999"]', "too large"), ('inputs = ["x:a,b,c,d,e,f,g"]', "too large"),
        ('inputs = ["x:20000,2000", "y:20000,2000", "z:20000,2000", "w:20000,2000"]', "too large"),
        (f'inputs = ["x:{"9" * 5000}"]', "'inputs' is no such text"),
        (f'inputs = ["x:{"9" * 900}"]', "neither a number nor a name"),
        ("samples = 1001", "no such number"), ("train_steps = 99999999999999999999", "no such number"),
        ("seed = 99999999999999999999", "no such number"), ("opset = 99999999999999999999", "no such number"),
        (f'weights = "{"9" * 5000}"', "no such text"), ('data = "a\\u0000b"', "no such text"),
        ('output = ["a\\u0000b"]', "no such text"),
    ],
)  # fmt: skip
def test_a_catalogue_cannot_ask_for_work_or_limits_without_end(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(f'[[pair]]\na = "a.onnx"\nb = "b.onnx"\n{line}\n')
    with pytest.raises(UsageError, match=words):
        pairs_of(tmp_path / "models.toml")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("memory = 1e308", "no limit of memory"), ("memory = 99999999999", "no limit of memory"),
        ("time_limit = 1e300", "no limit of seconds"), (f'fix = ["x:{"9" * 500}"]', "sizes are fixed as"),
        ('pixels = "size=99999999x2"', "not a way to read images"), ('pixels = "size=0x0"', "not a way to read images"),
        ('pixels = "mean=nan"', "not a way to read images"), ('pixels = "scale=1e400"', "not a way to read images"),
    ],
)  # fmt: skip
def test_an_option_of_a_pair_is_held_against_what_the_flag_takes(
    line: str, words: str, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netferry.tasks.catalogue.fan_out", lambda tasks, *_, **__: [])
    catalogue.write_text(f'[[pair]]\na = "a.onnx"\nb = "other.onnx"\n{line}\n')
    with pytest.raises(UsageError, match=words):
        verify_all(catalogue)


def test_a_catalogue_has_a_thousand_pairs_at_most(tmp_path: Path) -> None:
    pairs = [f'[[pair]]\na = "a{i}.onnx"\nb = "b.onnx"\n' for i in range(1_001)]
    path = tmp_path / "models.toml"
    path.write_text("".join(pairs[:-1]))
    assert len(pairs_of(path)) == 1_000
    path.write_text("".join(pairs))
    with pytest.raises(UsageError, match="more pairs than are taken at once"):
        pairs_of(path)


def test_no_process_is_started_for_models_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout.guard, "call", lambda *_, **__: pytest.fail("a process was started"))
    pairs = [f'[[pair]]\na = "a{i}.onnx"\nb = "b.onnx"\n' for i in range(20)]
    (tmp_path / "models.toml").write_text("".join(pairs))
    found = verify_all(tmp_path / "models.toml").pairs
    assert [pair.status for pair in found] == ["not_checked"] * 20
    assert all("there is no such file" in pair.reason for pair in found)


def test_the_pairs_of_a_catalogue_count_together(tmp_path: Path) -> None:
    pair = '[[pair]]\na = "a.onnx"\nb = "b.onnx"\ninputs = ["x:5000,2000"]\n'
    (tmp_path / "models.toml").write_text(pair * 13)
    assert len(pairs_of(tmp_path / "models.toml")) == 13
    (tmp_path / "models.toml").write_text(pair * 14)
    with pytest.raises(UsageError, match="too large"):
        pairs_of(tmp_path / "models.toml")


def test_the_files_of_a_pair_are_told_without_a_parser_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked for in the caller's own process, which keeps its rights."""
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(W, "inner"))],
        "then", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [4, 3])],
    )  # fmt: skip
    model = onnx.load(save(tmp_path / "m.onnx", W))
    model.graph.node.append(helper.make_node("If", ["t"], ["z"], then_branch=inner, else_branch=inner))
    tensors = [
        model.graph.initializer[0],
        *(a.g.node[0].attribute[0].t for a in model.graph.node[-1].attribute),
    ]
    for number, tensor in enumerate(tensors):
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="length", value="48")
        tensor.external_data.add(key="location", value=f"w{number}.bin")
        (tmp_path / f"w{number}.bin").write_bytes(W.tobytes())
    content = model.SerializeToString()
    monkeypatch.setattr(onnx, "load_model_from_string", lambda *_: pytest.fail("it was parsed"))
    found = external_files(memoryview(content), tmp_path, "m")
    assert found == {f"w{number}.bin": tmp_path / f"w{number}.bin" for number in range(3)}
    assert external_files(model.graph.node[0].SerializeToString(), tmp_path, "m") == {}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "FIFO"), (lambda path: path.symlink_to("/dev/zero"), "a device"), (Path.mkdir, "a folder"),
        (lambda path: path.write_text("#" * (5 << 20)), "larger than a catalogue"),
    ],
)  # fmt: skip
def test_a_catalogue_is_a_regular_file_of_some_megabytes(make: Any, words: str, tmp_path: Path) -> None:
    make(tmp_path / "models.toml")
    with pytest.raises(RefusedError, match=words):
        pairs_of(tmp_path / "models.toml")
