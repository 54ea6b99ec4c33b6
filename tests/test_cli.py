"""What a person types: exit codes, one message, one JSON document, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import dense, saved
from onnx import TensorProto, helper

from netferry import convert, converters
from netferry.converters import frameworks
from netferry.converters.frameworks import Framework


def netferry(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "netferry", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


def fault(result: subprocess.CompletedProcess[str], code: int) -> str:
    """One message on stderr, no traceback, the exit code of its kind."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("netferry: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(tmp_path, dense(), "modèle à moi.onnx")


def test_help_shows_every_command_with_an_example() -> None:
    root = netferry("--help")
    assert root.returncode == 0
    for command in ("convert", "verify", "run", "inspect", "doctor", "demo"):
        assert command in root.stdout
        assert "Example: netferry" in netferry(command, "--help").stdout


def test_a_conversion_is_written_verified_and_told(source: Path) -> None:
    result = netferry("convert", source, source.with_name("out.onnx"), "--report", source.parent / "report")
    assert result.returncode == 0, result.stderr
    assert "passed" in result.stdout
    assert json.loads((source.parent / "report" / "verdict.json").read_text())["status"] == "passed"


def test_json_is_the_only_thing_on_stdout(source: Path) -> None:
    done = json.loads(netferry("convert", source, source.with_name("out.onnx"), "--json").stdout)
    assert done["status"] == "passed"
    assert done["files"] == [str(source.with_name("out.onnx"))]
    failed = netferry("convert", "nowhere.onnx", "out.onnx", "--json")
    assert failed.returncode == json.loads(failed.stdout)["exit_code"] == 5


def test_verify_ends_with_one_where_models_differ(source: Path) -> None:
    assert netferry("verify", source, source).returncode == 0
    other = netferry("verify", source, saved(source.parent, dense(1.01), "b.onnx"))
    assert other.returncode == 1
    assert other.stdout.startswith("failed")


def test_run_prints_shapes_and_writes_arrays(source: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    result = netferry("run", source, "--input", f"x={tmp_path / 'x.npy'}", "--output", tmp_path / "out.npz")
    assert result.stdout == "y: float32[2, 4]\n"
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["y"].shape == (2, 4)


def test_inspect_says_what_a_model_is(source: Path) -> None:
    found = json.loads(netferry("inspect", source, "--json").stdout)
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "dims": ["batch", 3]}]
    assert found["operators"] == {"MatMul": 1}
    assert found["parameters"] == 12


def test_names_out_of_a_file_give_a_terminal_no_orders(tmp_path: Path) -> None:
    """An input's name that clears the screen and begins a new line, in an answer and in an error."""
    name = "x\x1b[2J\nnetferry: passed"
    graph = helper.make_graph(
        [helper.make_node("NoSuchOperator", [name], ["y"], name=name, domain="")], "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )  # fmt: skip
    for number, operator in enumerate(("Relu", "NonZero", "StringNormalizer")):
        graph.node[0].op_type = operator
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(
            helper.make_model(
                graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
            ).SerializeToString()
        )
        for words in (
            ("inspect", path, "--to", "all"),
            ("convert", path, tmp_path / "out", "--to", "mxnet"),
            ("verify", path, path),
        ):
            done = netferry(*words)
            for said in (done.stdout, done.stderr):
                assert "\x1b" not in said
                assert not any(line.startswith("netferry: passed") for line in said.splitlines())


def test_a_reader_that_has_gone_ends_a_command_without_a_word() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "netferry", "zoo", "list"]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, "")
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False
            )
        assert done.returncode == 6
        assert done.stderr == "netferry: the answer cannot be written (No space left on device)\n"


def test_a_narrow_terminal_gets_plain_help_of_which_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    shown = netferry("convert", "--help").stdout
    assert "\u2500" not in shown and "\u2026" not in shown and "\x1b" not in shown
    assert "x:1,3,224,224:f32" in "".join(shown.split())
    wrong = netferry("convert", "--tto", "onnx")
    assert wrong.returncode == 2 and "--to" in wrong.stderr and "\u2500" not in wrong.stderr


def test_a_file_that_is_not_there_is_told_with_what_stands_beside_it(source: Path) -> None:
    said = fault(netferry("inspect", source.with_name("modele à moi.onnx")), 5)
    assert "Did you mean modèle à moi.onnx?" in said
    assert "There is no folder" in fault(netferry("inspect", source.parent / "nowhere" / "a.onnx"), 5)


def test_doctor_finds_the_frameworks() -> None:
    findings = json.loads(netferry("doctor", "--json").stdout)["findings"]
    subjects = {one["subject"]: one for one in findings}
    packages = {"h5py", "transformers", "pyarrow", "pillow", "ray"}
    assert {"python", "PyTorch", "MXNet", "onnxruntime", "CUDA", "sandbox", "processor", *packages} <= set(
        subjects
    )
    for name in packages:
        assert subjects[name]["state"] == "ok" or "pip install" in subjects[name]["remedy"]


def test_doctor_tells_of_a_framework_that_wants_another_version_of_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "mxnet-9.9.dist-info" / "METADATA"
    about.parent.mkdir()
    wants = ["numpy<1.5", "onnx>1", "nosuchthing>1", "onnx<1; sys_platform == 'nowhere'"]
    about.write_text(
        "\n".join(
            [
                "Metadata-Version: 2.1",
                "Name: mxnet",
                "Version: 9.9",
                *(f"Requires-Dist: {one}" for one in wants),
            ]
        )
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    findings = {one["subject"]: one for one in json.loads(netferry("doctor", "--json").stdout)["findings"]}
    assert findings["MXNet"]["state"] == "problem"
    assert findings["MXNet"]["detail"] == f"mxnet 9.9 wants numpy <1.5, {np.__version__} is installed"
    assert findings["MXNet"]["remedy"]
    assert findings["ONNX"]["state"] == "ok"


def test_a_framework_that_python_has_left_behind_is_not_said_to_be_installable() -> None:
    left = Framework("mxnet", "MXNet", "mxnet", ("mxnet",), (3, 0))
    assert left.remedy == "It runs on Python 3.0 and older"
    assert replace(left, last_python=(4, 0)).remedy == 'Install it: pip install "netferry[mxnet]"'


def test_the_zoo_is_listed() -> None:
    models = json.loads(netferry("zoo", "list", "--json").stdout)["models"]
    assert len(models) == 11


BAD_CALLS = {
    "no such file": (("convert", "nowhere.onnx", "out.onnx"), 5, "no such file"),
    "not a model": (("convert", "text.txt", "out.onnx"), 5, "not a model"),
    "a params file without its symbol": (
        ("convert", "net-0001.params", "out.onnx"),
        5,
        "without their symbol",
    ),
    "a symbol without its params": (("convert", "alone/lone-symbol.json", "out.onnx"), 5, "param"),
    "weights without a model": (("convert", "w.safetensors", "out.onnx"), 5, "weights only"),
    "a module that is not there": (("convert", "no_such_module:f", "out.onnx"), 5, "No module named"),
    "a factory that is not there": (("convert", "json:nothing", "out.onnx"), 5, "no 'nothing'"),
    "a factory of something else": (("convert", "json:JSONDecoder", "out.onnx"), 5, "not a model"),
    "a framework that is not there": (
        ("convert", "m.onnx", "out.onnx", "--to", "caffe"),
        2,
        "no such framework",
    ),
    "an opset that is not there": (("convert", "m.onnx", "out.onnx", "--opset", "99"), 2, "no such opset"),
    "an input that cannot be read": (
        ("convert", "m.onnx", "out.onnx", "--input", "x;3"),
        2,
        "name:sizes:dtype",
    ),
    "half a tolerance": (("verify", "m.onnx", "m.onnx", "--rtol", "1"), 2, "go together"),
    "a folder that is not there": (
        ("convert", "m.onnx", "no/out.onnx"),
        6,
        "There is no folder no: make it first",
    ),
    "an input's file that is not there": (
        ("run", "m.onnx", "--input", "x=x.npz"),
        5,
        "x.npz: there is no such file",
    ),
    "an input without a file": (("run", "m.onnx", "--input", "x"), 2, "expected x=FILE.npy"),
    "code without a function": (
        ("inspect", "code.py"),
        5,
        "Name the function in it that builds the model: code.py:make",
    ),
    "a folder in the way": (("convert", "m.onnx", "folder", "--to", "onnx"), 6, "stands in the way"),
    "a folder for no framework": (("convert", "m.onnx", "folder"), 2, "which framework is meant"),
    "an array of the wrong shape": (("run", "m.onnx", "--input", "x=wide.npy"), 2, "another shape"),
    "an array that is none": (("run", "m.onnx", "--input", "x=text.txt"), 5, "cannot be read as arrays"),
    "the wrong number of inputs": (
        ("verify", "m.onnx", "m.onnx", "--input", "x:2,3", "--input", "y:2"),
        2,
        "number",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_gives_one_message_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    saved(tmp_path, dense(), "m.onnx")
    (tmp_path / "text.txt").write_text("I am text")
    (tmp_path / "code.py").write_text("def make(): ...\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "net-0001.params").write_bytes((0x112).to_bytes(8, "little") + bytes(24))
    variable = {"op": "null", "name": "data", "inputs": []}
    weight = {"op": "null", "name": "w", "inputs": []}
    sizes = {"num_hidden": "3", "no_bias": "True"}
    layer = {"op": "FullyConnected", "name": "y", "attrs": sizes, "inputs": [[0, 0, 0], [1, 0, 0]]}
    symbol = {"nodes": [variable, weight, layer], "arg_nodes": [0, 1], "heads": [[2, 0, 0]]}
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/lone-symbol.json").write_text(json.dumps(symbol))
    (tmp_path / "w.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    np.save(tmp_path / "wide.npy", np.ones((2, 9), np.float32))
    before = sorted(tmp_path.rglob("*"))
    args, code, message = BAD_CALLS[name]
    assert message in fault(netferry(*args, cwd=tmp_path), code)
    assert sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts) == before


def test_a_wrong_call_ends_with_two() -> None:
    assert netferry("convert").returncode == 2
    assert netferry("no-such-command").returncode == 2


def test_a_conversion_that_differs_leaves_no_output_unless_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is planted on the road: a weight is one hundredth off."""
    wrong = converters.export_model(dense(1.01))
    monkeypatch.setattr(converters, "export_model", lambda *args, **kwargs: wrong)
    out = tmp_path / "out.onnx"
    done = convert(dense(), "onnx", destination=out)
    assert done.report is not None
    assert done.report.status == "failed"
    assert done.files == ()
    assert list(tmp_path.iterdir()) == []
    assert convert(dense(), "onnx", destination=out, keep=True).files == (out,)
    assert out.exists()


def test_an_existing_output_survives_a_failed_conversion(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    out.write_text("precious")
    assert netferry("convert", "nowhere.onnx", out).returncode == 5
    assert out.read_text() == "precious"


def test_interruption_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\ndef make():\n    open('begun', 'w').close()\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "netferry", "convert", "slow:make", "out.onnx"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; nothing half-done was left behind" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["convert", "m.onnx", "out.tflite", "--to", "pytorch"], "PyTorch models are not written as .tflite"),
        (["convert", "m.onnx", "out.h5", "--to", "pytorch"], "PyTorch models are not written as .h5"),
        (["convert", "m.onnx", "out.PT2", "--to", "onnx"], "ONNX models are not written as .pt2"),
        (["convert", "m.onnx", "out", "--to", "pytroch"], "Did you mean pytorch"),
        (
            ["convert", "m.onnx", "out.onnx", "--precision", "int8"],
            "Did you mean int8-dynamic or int8-static?",
        ),
        (["run", "m.onnx", "--input", "X=x.npy"], "no such input: 'X'"),
    ],
)
def test_what_is_mistyped_is_told_before_any_work(arguments: list[str], told: str, tmp_path: Path) -> None:
    convert(dense(), "onnx", destination=tmp_path / "m.onnx", verify=False)
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    done = netferry(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".netferry") == ["m.onnx", "x.npy"]


@pytest.mark.parametrize("alias", ["torch", "PyTorch", "pytorch"])
def test_a_framework_has_the_names_that_people_call_it_by(alias: str) -> None:
    assert frameworks.named(alias).name == "pytorch"


@pytest.mark.parametrize("arguments", [["convert", "a", "b", "--bogus"], ["convert"], ["nothing"]])
def test_json_tells_a_mistyped_command_in_one_document(arguments: list[str]) -> None:
    done = netferry(*arguments, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "UsageError"
