"""CUDA for real, where there is a GPU: tests, the zoo, transformers and detectors against the CPU, float16, latency.

    python scripts/gpu_check.py [--json] [--only WORD ...] [--models FOLDER] [--minutes N] [--rehearse]

Each part stands by itself: ``tests`` (pytest), ``zoo`` (every reference model of the frameworks that are installed, as
ONNX on CUDA against the framework itself), ``transformers`` (twenty of them, detectors among them: on CUDA against
PyTorch, ``cpu`` against onnxruntime on the CPU, and ``tf32``, how far TF32 would move them: it is off wherever
something is checked), ``float16`` (the same on CUDA in float16 against float32), ``models`` (a ResNet-18, a BiLSTM, an
encoder, and the .onnx files of FOLDER: on CUDA against their source), ``data`` (rows of a file through ``netferry run
--data``), ``latency``. What ten minutes (or N) do not reach is told as not checked.
Ends with 0 where everything held, 1 where something did not or was not reached, and 4 where nothing could be checked:
then it says what is missing, and that nothing was checked. A rehearsal runs it all on the CPU: it checks this script,
not CUDA, and ends with 4, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from netferry.api import convert, verify
from netferry.converters.errors import MissingError, NetferryError
from netferry.converters.frameworks import installed_version
from netferry.inference.bench import interleaved
from netferry.inference.devices import CPU, CUDA, missing_for_cuda
from netferry.inference.session import Session
from netferry.tasks.matrix import matrix
from netferry.tasks.precision import lower
from netferry.tasks.stream import stream
from netferry.validation.comparison.metrics import NOT_CHECKED, PASSED
from netferry.validation.reports.report import Report
from netferry.zoo.catalog import CATALOG
from netferry.zoo.train import PACKAGES

TESTS = ("tests/test_session.py", "tests/test_session_cuda.py")
RUNS, BATCHES, ROWS, MINUTES = 50, (1, 32), 200_000, 10.0
FAILED = "failed"

Row = Mapping[str, Any]
"""One thing that was checked: ``what``, ``status``, and the figures that were seen."""


@dataclass(frozen=True)
class Work:
    """Where a part writes, the user's own models, the device under test, and when all of it must be done."""

    scratch: Path
    folder: Path | None
    device: str
    end: float

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.perf_counter()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part")
    parser.add_argument("--models", type=Path, help="a folder of .onnx files to check, too")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="the time that there is (10)")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU: checks this script alone")
    asked = parser.parse_args()
    missing = {} if asked.rehearse else missing_for_cuda()
    if missing:
        words = ", ".join(f"{library} ({origin})" for library, origin in missing.items())
        _say(asked.json, {"checked": False, "missing": words}, f"NOT CHECKED: no CUDA here; missing: {words}")
        return MissingError.exit_code
    device = CPU if asked.rehearse else CUDA
    with tempfile.TemporaryDirectory() as scratch:
        work = Work(Path(scratch), asked.models, device, time.perf_counter() + 60 * asked.minutes)
        parts = {name: list(_in_time(name, work)) for name in asked.only or PARTS}
    fine = all(row["status"] == PASSED for rows in parts.values() for row in rows)
    text = "\n".join("\n".join([f"{name}:", *map(_line, rows)]) for name, rows in parts.items())
    if asked.rehearse:
        text += "\nNOT CHECKED: this was a rehearsal on the CPU; CUDA has not run"
    _say(asked.json, {"checked": not asked.rehearse, "fine": fine, "parts": parts}, text)
    return MissingError.exit_code if asked.rehearse else 0 if fine else 1


def _in_time(name: str, work: Work) -> Iterator[Row]:
    """The rows of a part until the time is over; a part that gave none, or not all, says so in a row."""
    begun, seen = time.perf_counter(), 0
    rows = PARTS[name](work)
    while work.left > 0 and (row := next(rows, None)) is not None:
        seen += 1
        yield row
    if work.left <= 0:
        yield {"what": f"the rest of {name}", "status": NOT_CHECKED, "reason": "no time was left"}
    elif not seen:
        yield {"what": name, "status": NOT_CHECKED, "reason": "what it runs is not installed"}
    print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)


def _say(as_json: bool, document: Mapping[str, Any], text: str) -> None:
    print(json.dumps(document, indent=2) if as_json else text)


def _line(row: Row) -> str:
    figures = {key: value for key, value in row.items() if key not in ("what", "status")}
    words = "   ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in figures.items()
    )
    return f"  {row['what']:<34}{row['status']:<12}{words}".rstrip()


def tests(work: Work) -> Iterator[Row]:
    """The session's own tests, those that want a GPU among them."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *TESTS]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=max(work.left, 1))
    except subprocess.TimeoutExpired:
        return
    print(done.stdout, file=sys.stderr)
    yield {
        "what": "pytest",
        "status": FAILED if done.returncode else PASSED,
        "said": done.stdout.splitlines()[-1],
    }


def zoo(work: Work) -> Iterator[Row]:
    """Every reference model of each framework that is here, as ONNX on CUDA against the framework itself."""
    here = [name for name, packages in PACKAGES.items() if any(map(installed_version, packages))]
    for name, home in ((name, home) for name in CATALOG for home in here):
        (cell,) = matrix([name], [home], directory=work.scratch, targets=("onnx",), device=work.device).cells
        yield {
            "what": f"{cell.model} from {cell.source}",
            "status": cell.status,
            "error": cell.max_rel,
            "ratio": cell.report.ratio if isinstance(cell.report, Report) else None,
            "home_ms": cell.source_ms,
            "cuda_ms": cell.latency_ms,
            **({"reason": cell.reason} if cell.reason else {}),
        }


def transformers(work: Work) -> Iterator[Row]:
    """Each architecture on CUDA against PyTorch; how far the CPU and TF32 lie from CUDA, relative to the scale."""
    for name, make in _architectures().items():
        module, x = make()
        path = work.scratch / f"{name}.onnx"
        convert(module, destination=path, inputs={"x": x}, verify=False)
        row = _held(name, module, path, {"x": x}, work.device)
        apart = {"cpu": Session(path, CPU), "tf32": Session(path, work.device, tf32=True)}
        here = Session(path, work.device).run({"x": x})
        yield row | {word: _apart(here, session.run({"x": x})) for word, session in apart.items()}


def _apart(here: Mapping[str, Any], there: Mapping[str, Any]) -> float:
    """The largest difference of an output, relative to its largest element."""
    return max(
        float(np.abs(a - there[name]).max() / np.abs(a).max())
        for name, a in here.items()
        if a.dtype.kind == "f" and np.abs(a).max() > 0
    )


def float16(work: Work) -> Iterator[Row]:
    """Each architecture in float16 on CUDA against itself in float32, as ``convert --precision`` judges it."""
    for name, make in _architectures().items():
        module, x = make()
        try:
            lowered = lower(
                module, work.scratch / f"{name}-half.onnx", "float16", inputs={"x": x}, verify=False,
                device=work.device, even_if_slower=True,
            )  # fmt: skip
        except NetferryError as error:
            yield {"what": name, "status": FAILED, "reason": str(error)}
            continue
        yield {
            "what": name,
            "status": lowered.status,
            "error": max(lowered.error.values()),
            "speed": lowered.speed,
        }


def _architectures() -> dict[str, Callable[[], tuple[Any, Any]]]:
    """Small models of transformers; nothing where PyTorch or transformers is not here."""
    try:
        from gpu_models import factories
    except ImportError:
        return {}
    return factories()


def models(work: Work) -> Iterator[Row]:
    """Larger models of PyTorch, and ONNX files of one's own (whose source is the file, on the CPU)."""
    for name, (module, x) in _larger().items():
        path = work.scratch / f"{name}.onnx"
        convert(module, destination=path, inputs={"x": x}, verify=False)
        yield _held(name, module, path, {"x": x}, work.device)
    for path in sorted(work.folder.rglob("*.onnx")) if work.folder else ():
        yield _held(str(path.relative_to(work.folder)), path, path, None, work.device)


def _held(what: str, source: object, path: Path, inputs: Mapping[str, Any] | None, device: str) -> Row:
    try:
        report = verify(source, path, inputs, device=device, quick=True)
    except NetferryError as error:
        return {"what": what, "status": FAILED, "reason": str(error)}
    row = {"what": what, "status": report.status, "error": report.max_rel, "on": Session(path, device).where}
    if report.status == PASSED:
        return row
    why = [report.reason, *(one.comparison.reason for one in report.outputs)]
    return row | {"reason": "; ".join(filter(None, why))}


def _larger() -> dict[str, tuple[Any, Any]]:
    """PyTorch's models of the benchmarks with one input each; nothing where PyTorch is not here."""
    try:
        import torch
        from bench_models import BiLSTM, Encoder, ResNet18, randomised
    except ImportError:
        return {}
    torch.manual_seed(3)
    return {
        "resnet18": (randomised(ResNet18()), torch.randn(2, 3, 224, 224).numpy()),
        "bilstm": (randomised(BiLSTM()), torch.randn(2, 50, 64).numpy()),
        "encoder": (randomised(Encoder()), torch.randint(0, 1000, (2, 64)).numpy()),
    }


def data(work: Work) -> Iterator[Row]:
    """Rows of a file through a model: on CUDA the same as on the CPU, and how many a second."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    w = rng.standard_normal((64, 10)).astype(np.float32)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        for name, width in {"x": 64, "y": 10}.items()
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["y"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(w, "w")])
    model, rows = work.scratch / "rows.onnx", work.scratch / "rows.npy"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), model)
    np.save(rows, rng.standard_normal((ROWS, 64)).astype(np.float32))
    results, seen = {}, {}
    for device in (CPU, work.device):
        done = stream(model, rows, work.scratch / f"{device}.npz", device=device)
        seen[f"{device}_rows_per_s"] = done.rows / done.seconds
        results[device] = np.load(work.scratch / f"{device}.npz")["y"]
    error = float(np.abs(results[CPU] - results[work.device]).max())
    yield {
        "what": f"{ROWS:,} rows of 64",
        "status": PASSED if error < 1e-5 and len(results[work.device]) == ROWS else FAILED,
        "error": error,
        **seen,
    }


def latency(work: Work) -> Iterator[Row]:
    """Milliseconds of a run: PyTorch on the GPU, onnxruntime on both devices, with arrays and with tensors there."""
    for name, (module, x) in _larger().items():
        path = work.scratch / f"{name}.onnx"
        convert(module, destination=path, inputs={"x": x}, verify=False)
        sessions = Session(path, CPU), Session(path, work.device)
        for batch in BATCHES:
            rows = np.ascontiguousarray(np.resize(x, (batch, *x.shape[1:])))
            for title, calls in _calls(module, sessions, rows).items():
                seconds = interleaved(calls, RUNS if batch < BATCHES[-1] else 10)
                medians = {f"{side}_ms": statistics.median(t) * 1e3 for side, t in seconds.items()}
                yield {"what": f"{name}, batch {batch}, {title}", "status": PASSED, **medians}


def _calls(
    module: Any, sessions: tuple[Session, Session], rows: Any
) -> dict[str, dict[str, Callable[[], object]]]:
    import torch

    cpu, tested = sessions
    on_gpu, there, feed = module.to(tested.device), torch.from_numpy(rows).to(tested.device), {"x": rows}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def native() -> None:
        with torch.inference_mode():
            on_gpu(there)
        if tested.device == CUDA:
            torch.cuda.synchronize()

    prepared = tested.prepared(feed)
    return {
        "arrays": {
            "cpu": partial(cpu.run, feed),
            "cuda": partial(tested.run, feed),
            "prepared": partial(prepared.run, feed),
        },
        "tensors": {
            "torch": native,
            "cuda": partial(tested.run_on_device, {"x": there}),
        },
    }


PARTS: Mapping[str, Callable[[Work], Iterator[Row]]] = {
    "tests": tests,
    "zoo": zoo,
    "transformers": transformers,
    "float16": float16,
    "models": models,
    "data": data,
    "latency": latency,
}

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
