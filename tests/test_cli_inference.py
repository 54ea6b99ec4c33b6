"""The last mile as it is typed: run over data, package, bench, another precision, a device that is not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from test_cli import fault, netferry

from netferry.converters.signature import TensorSpec
from netferry.inference.devices import missing_for_cuda
from netferry.inference.images import Pixels, read_image

ROWS, FEATURES = 400, 8
RNG = np.random.default_rng(9)
X = RNG.standard_normal((ROWS, FEATURES)).astype(np.float32)
W = RNG.standard_normal((FEATURES, 5)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["y"])]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])]
        for name, size in (("x", FEATURES), ("y", 5))
    ]
    graph = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(W, "w")])
    path = tmp_path / "modèle à moi.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def parquet(path: Path, rows: Any) -> Path:
    pa.parquet.write_table(pa.table({"x": pa.array(rows, pa.list_(pa.float32()))}), path)
    return path


def test_rows_run_through_a_model_into_a_file(model: Path, tmp_path: Path) -> None:
    data = parquet(tmp_path / "zeilen ü.parquet", X.tolist())
    done = netferry("run", model, "--data", data, "--output", tmp_path / "out ü.parquet", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], told["written"], told["bad"], told["device"]) == (ROWS, ROWS, {}, "cpu")
    written = pa.parquet.read_table(tmp_path / "out ü.parquet")["y"].to_pylist()
    np.testing.assert_allclose(written, np.tanh(X @ W), atol=1e-5)


def test_a_bad_row_ends_the_run_with_five_and_its_number_unless_it_is_to_be_skipped(
    model: Path, tmp_path: Path
) -> None:
    rows: list[Any] = X.tolist()
    rows[7], rows[300] = None, [1.0]
    data, out = parquet(tmp_path / "d.parquet", rows), tmp_path / "out.csv"
    message = fault(netferry("run", model, "--data", data, "--output", out), 5)
    assert "d.parquet: row 7 cannot be given to the model: column 'x' is null (and 1 more near it)" in message
    assert "--on-error skip" in message
    assert not out.exists()
    done = netferry("run", model, "--data", data, "--output", out, "--on-error", "skip")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{ROWS - 2} of {ROWS} rows -> ")
    assert "row 7 left out: column 'x' is null" in done.stdout
    assert "row 300 left out: column 'x' holds 1 numbers where 8 are wanted" in done.stdout
    assert len(out.read_text().splitlines()) == ROWS - 2 + 1


SLOW = """
import sys, time
from netferry.inference import stream
from netferry.inference.session import Session
stream.PART_ROWS, stream.BLOCK, run = 50, 50, Session.run
Session.run = lambda self, x: (time.sleep(0.2), run(self, x))[1]
from netferry.cli import app
app(sys.argv[1:])
"""


def test_ctrl_c_keeps_what_was_done_and_the_same_command_goes_on(model: Path, tmp_path: Path) -> None:
    data, out = parquet(tmp_path / "d.parquet", X.tolist()), tmp_path / "out.npz"
    arguments = ["run", str(model), "--data", str(data), "--output", str(out), "--batch", "50"]
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    parts, until = tmp_path / "out.npz.parts", time.monotonic() + 120
    while time.monotonic() < until and len(list(parts.glob("*.arrow"))) < 2:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 130, told
    assert "rows are kept in out.npz.parts: the same command goes on from there" in told
    assert "Traceback" not in told
    assert not out.exists()
    done = json.loads(netferry(*arguments, "--json").stdout)
    assert done["resumed"] >= 100
    with np.load(out) as written:
        np.testing.assert_allclose(written["y"], np.tanh(X @ W), atol=1e-5)
    assert not parts.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "d.parquet"], "nowhere to write to"),
        ([], "nothing to run it on"),
        (["--input", "x=x.npy", "--keep", "id"], "--keep is for rows of data"),
        (["--input", "x=x.npy", "--on-error", "skip"], "--on-error is for rows of data"),
        (["--data", "d.parquet", "--output", "o.npz", "--keep", "id"], "no column 'id'"),
        (["--data", "d.parquet", "--output", "out.txt"], "not a kind of file"),
        (["--data", "d.parquet", "--output", "o.npz", "--columns", "x"], "columns are written"),
        (["--data", "d.parquet", "--output", "o.npz", "--pixels", "big"], "not a way to read images"),
        (["--data", "d.parquet", "--output", "o.npz", "--workers", "2"], "only an engine with workers"),
        (["--data", "d.parquet", "--output", "d.parquet"], "the output is the data itself"),
    ],
)
def test_a_run_that_cannot_be_meant_ends_with_two(
    arguments: list[str], words: str, model: Path, tmp_path: Path
) -> None:
    parquet(tmp_path / "d.parquet", X.tolist())
    assert words in fault(netferry("run", model, *arguments, cwd=tmp_path), 2)


def test_a_model_is_packed_under_a_plain_name_of_its_own(model: Path, tmp_path: Path) -> None:
    done = netferry(
        "package", model, "--triton", tmp_path / "models", "--kserve", tmp_path / "requests", "--card", tmp_path / "README.md"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout
    config = (tmp_path / "models" / "mod-le-moi" / "config.pbtxt").read_text(encoding="utf-8")
    assert 'name: "mod-le-moi"' in config
    assert (tmp_path / "models" / "mod-le-moi" / "1" / "model.onnx").is_file()
    request, response = (
        json.loads((tmp_path / "requests" / f"{name}.json").read_text()) for name in ("request", "response")
    )
    x = np.reshape(request["inputs"][0]["data"], request["inputs"][0]["shape"])
    y = np.reshape(response["outputs"][0]["data"], response["outputs"][0]["shape"])
    np.testing.assert_allclose(np.tanh(x @ W), y, atol=1e-5)
    assert (tmp_path / "README.md").read_text(encoding="utf-8").startswith("---\nlibrary_name: onnx\n")
    assert "nothing is asked for" in fault(netferry("package", model), 2)


def test_models_are_timed_side_by_side_as_text_json_and_a_page(model: Path, tmp_path: Path) -> None:
    page = tmp_path / "bench.html"
    done = netferry(
        "bench", model, model, "--batch", "1", "--batch", "4", "--runs", "5", "--html", page, "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    timed = [(one["model"], one["batch"], one["runs"]) for one in told["timings"]]
    assert timed == [(name, size, 5) for size in (1, 4) for name in (str(model.name), f"{model.name} #2")]
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") >= 4
    assert model.name in text
    assert "http" not in text.replace("http-equiv", "")


def test_another_precision_is_judged_on_the_data(model: Path, tmp_path: Path) -> None:
    data, out = parquet(tmp_path / "d.parquet", X.tolist()), tmp_path / "small.onnx"
    done = netferry(
        "convert", model, out, "--precision", "int8-static", "--data", data, "--even-if-slower", "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["status"], told["rows"], told["real"]) == ("passed", 256, True)
    assert 0 < told["error"]["y"] < 0.2
    assert {"DequantizeLinear", "QuantizeLinear"} <= {node.op_type for node in onnx.load(out).graph.node}
    assert "no such precision" in fault(netferry("convert", model, out, "--precision", "int3"), 2)


@pytest.mark.skipif(not missing_for_cuda(), reason="CUDA is there")
@pytest.mark.parametrize("once", [True, False])
def test_cuda_where_there_is_none_ends_with_four_and_says_what_is_missing(
    once: bool, model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", X)
    data = ["--input", f"x={tmp_path / 'x.npy'}"] if once else ["--data", tmp_path / "x.npy"]
    message = fault(netferry("run", model, *data, "--output", tmp_path / "o.npz", "--device", "cuda"), 4)
    assert "no CUDA" in message or "missing: " in message
    assert not (tmp_path / "o.npz").exists()


@pytest.mark.skipif(not missing_for_cuda(), reason="CUDA is there")
@pytest.mark.parametrize("command", ["convert", "precision", "verify", "matrix"])
def test_what_asks_for_cuda_where_there_is_none_ends_with_four_before_any_work(
    command: str, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    words = {
        "convert": ("convert", model, out),
        "precision": ("convert", model, out, "--precision", "float16"),
        "verify": ("verify", model, model),
        "matrix": ("zoo", "matrix", "--to", "onnx", "--output", tmp_path / "zoo"),
    }[command]
    message = fault(netferry(*words, "--device", "cuda"), 4)
    assert "no CUDA" in message or "missing: " in message
    assert not out.exists()
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("flags", [("--batch", "0"), ("--runs", "0"), ("--threads", "-1")])
def test_a_count_below_one_is_refused_by_bench(flags: tuple[str, ...], model: Path) -> None:
    done = netferry("bench", model, *flags)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and flags[0] in done.stderr


def test_bare_arrays_are_bound_by_position(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", X[:2])
    done = netferry("run", model, "--input", tmp_path / "rows.npy")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize(
    "flags",
    [
        ("--input", "a.npz"),
        ("--input", "x=a.npy"),
        ("--data", "a.csv"),
        ("--data", "a.arrow"),
        ("--data", "a.parquet"),
    ],
)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(
    flags: tuple[str, str], model: Path, tmp_path: Path
) -> None:
    file = tmp_path / flags[1].rpartition("=")[2]
    os.mkfifo(file)
    given = flags[1].replace(file.name, str(file))
    done = netferry(
        "run", model, flags[0], given, *(("--output", tmp_path / "o.npz") if flags[0] == "--data" else ())
    )
    assert done.returncode == 5 and "not a regular file but a FIFO" in done.stderr, done.stderr


def test_an_image_is_read_as_one_of_the_kinds_that_its_name_may_mean(tmp_path: Path) -> None:
    """Of PostScript, say, Pillow would have another program make a picture."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    spec = TensorSpec("x", np.dtype(np.float32), (1, 3, 4, 4))
    with pytest.raises(OSError, match="cannot identify image file"):
        read_image(tmp_path / "a.png", spec, Pixels())


def test_a_model_without_inputs_takes_no_rows(tmp_path: Path) -> None:
    nodes = [helper.make_node("Constant", [], ["y"], value_floats=[1.0])]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    whole = helper.make_model(
        helper.make_graph(nodes, "g", [], ends), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    onnx.save(whole, tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", X)
    done = netferry(
        "run", tmp_path / "net.onnx", "--data", tmp_path / "x.npy", "--output", tmp_path / "o.npz"
    )
    assert done.returncode == 2 and "takes no inputs" in done.stderr, done.stderr
