"""CUDA for real, where there is a GPU: the session's tests, the zoo and larger models against the CPU, latency.

    python scripts/gpu_check.py [--json] [--only WORD ...] [--models FOLDER]

Each part stands by itself: ``tests`` (pytest), ``zoo`` (every reference model of the frameworks that are installed, as
ONNX on CUDA against the framework itself), ``models`` (a ResNet-18, a BiLSTM, an encoder, and the .onnx files of
FOLDER: on CUDA against their source), ``data`` (rows of a file through ``netferry run --data``), ``latency``.
Ends with 0 where everything held, 1 where something did not, and 4 where nothing could be checked: then it says
what is missing, and that nothing was checked.
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
from netferry.matrix import matrix
from netferry.streaming import stream
from netferry.validation.metrics import PASSED
from netferry.validation.report import Report
from netferry.zoo.train import PACKAGES

TESTS = ("tests/test_session.py", "tests/test_session_cuda.py")
RUNS, BATCHES, ROWS = 50, (1, 32, 256), 200_000
FAILED = "failed"

Row = Mapping[str, Any]
"""One thing that was checked: ``what``, ``status``, and the figures that were seen."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part")
    parser.add_argument("--models", type=Path, help="a folder of .onnx files to check, too")
    asked = parser.parse_args()
    missing = missing_for_cuda()
    if missing:
        words = ", ".join(f"{library} ({origin})" for library, origin in missing.items())
        _say(asked.json, {"checked": False, "missing": words}, f"NOT CHECKED: no CUDA here; missing: {words}")
        return MissingError.exit_code
    parts: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in asked.only or PARTS:
            begun = time.perf_counter()
            parts[name] = list(PARTS[name](Path(scratch), asked.models))
            print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    fine = all(row["status"] == PASSED for rows in parts.values() for row in rows)
    text = "\n".join("\n".join([f"{name}:", *map(_line, rows)]) for name, rows in parts.items())
    _say(asked.json, {"checked": True, "fine": fine, "parts": parts}, text)
    return 0 if fine else 1


def _say(as_json: bool, document: Mapping[str, Any], text: str) -> None:
    print(json.dumps(document, indent=2) if as_json else text)


def _line(row: Row) -> str:
    figures = {key: value for key, value in row.items() if key not in ("what", "status")}
    words = "   ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in figures.items()
    )
    return f"  {row['what']:<34}{row['status']:<12}{words}".rstrip()


def tests(scratch: Path, folder: Path | None) -> Iterator[Row]:  # noqa: ARG001
    """The session's own tests, those that want a GPU among them."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *TESTS],
        stdout=subprocess.PIPE,
        text=True,
    )
    print(done.stdout, file=sys.stderr)
    yield {
        "what": "pytest",
        "status": FAILED if done.returncode else PASSED,
        "said": done.stdout.splitlines()[-1],
    }


def zoo(scratch: Path, folder: Path | None) -> Iterator[Row]:  # noqa: ARG001
    """Every reference model of each framework that is here, as ONNX on CUDA against the framework itself."""
    here = [name for name, packages in PACKAGES.items() if any(map(installed_version, packages))]
    result = matrix(None, here, directory=scratch, targets=("onnx",), device=CUDA)
    for cell in result.cells:
        yield {
            "what": f"{cell.model} from {cell.source}",
            "status": cell.status,
            "error": cell.max_rel,
            "ratio": cell.report.ratio if isinstance(cell.report, Report) else None,
            "home_ms": cell.source_ms,
            "cuda_ms": cell.latency_ms,
            **({"reason": cell.reason} if cell.reason else {}),
        }


def models(scratch: Path, folder: Path | None) -> Iterator[Row]:
    """Larger models of PyTorch, and ONNX files of one's own (whose source is the file, on the CPU)."""
    for name, (module, x) in _larger().items():
        path = scratch / f"{name}.onnx"
        convert(module, destination=path, inputs={"x": x}, verify=False)
        yield _held(name, module, path, {"x": x})
    for path in sorted(folder.rglob("*.onnx")) if folder else ():
        yield _held(str(path.relative_to(folder)), path, path, None)


def _held(what: str, source: object, path: Path, inputs: Mapping[str, Any] | None) -> Row:
    try:
        report = verify(source, path, inputs, device=CUDA, quick=True)
    except NetferryError as error:
        return {"what": what, "status": FAILED, "reason": str(error)}
    row = {"what": what, "status": report.status, "error": report.max_rel, "on": Session(path, CUDA).where}
    return row | ({"reason": report.reason} if report.status != PASSED else {})


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


def data(scratch: Path, folder: Path | None) -> Iterator[Row]:  # noqa: ARG001
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
    model, rows = scratch / "rows.onnx", scratch / "rows.npy"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), model)
    np.save(rows, rng.standard_normal((ROWS, 64)).astype(np.float32))
    results, seen = {}, {}
    for device in (CPU, CUDA):
        done = stream(model, rows, scratch / f"{device}.npz", device=device)
        seen[f"{device}_rows_per_s"] = done.rows / done.seconds
        results[device] = np.load(scratch / f"{device}.npz")["y"]
    error = float(np.abs(results[CPU] - results[CUDA]).max())
    yield {
        "what": f"{ROWS:,} rows of 64",
        "status": PASSED if error < 1e-5 and len(results[CUDA]) == ROWS else FAILED,
        "error": error,
        **seen,
    }


def latency(scratch: Path, folder: Path | None) -> Iterator[Row]:  # noqa: ARG001
    """Milliseconds of a run: PyTorch on the GPU, onnxruntime on both devices, with arrays and with tensors there."""
    for name, (module, x) in _larger().items():
        path = scratch / f"{name}.onnx"
        convert(module, destination=path, inputs={"x": x}, verify=False)
        sessions = {device: Session(path, device) for device in (CPU, CUDA)}
        for batch in BATCHES:
            rows = np.ascontiguousarray(np.resize(x, (batch, *x.shape[1:])))
            for title, calls in _calls(module, sessions, rows).items():
                seconds = interleaved(calls, RUNS if batch < BATCHES[-1] else 10)
                medians = {f"{side}_ms": statistics.median(t) * 1e3 for side, t in seconds.items()}
                yield {"what": f"{name}, batch {batch}, {title}", "status": PASSED, **medians}


def _calls(
    module: Any, sessions: Mapping[str, Session], rows: Any
) -> dict[str, dict[str, Callable[[], object]]]:
    import torch

    on_gpu, there, feed = module.cuda(), torch.from_numpy(rows).cuda(), {"x": rows}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def native() -> None:
        with torch.inference_mode():
            on_gpu(there)
        torch.cuda.synchronize()

    prepared = sessions[CUDA].prepared(feed)
    return {
        "arrays": {
            "cpu": partial(sessions[CPU].run, feed),
            "cuda": partial(sessions[CUDA].run, feed),
            "prepared": partial(prepared.run, feed),
        },
        "tensors": {
            "torch": native,
            "cuda": partial(sessions[CUDA].run_on_device, {"x": there}),
        },
    }


PARTS: Mapping[str, Callable[[Path, Path | None], Iterator[Row]]] = {
    "tests": tests,
    "zoo": zoo,
    "models": models,
    "data": data,
    "latency": latency,
}

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
