"""CUDA for real, where there is a GPU: the session's tests, parity of the zoo's models on both devices, latency.

    .venv/bin/python scripts/gpu_check.py [--json]

Ends with 0 where everything held, 1 where something did not, and 4 where nothing could be checked: then it says
what is missing, and that nothing was checked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters import carry, write
from netferry.converters.errors import MissingError
from netferry.converters.signature import Example
from netferry.inference.bench import interleaved
from netferry.inference.session import Session, missing_cuda_libraries
from netferry.matrix import example
from netferry.validation.metrics import PASSED
from netferry.validation.verify import verify
from netferry.zoo.catalog import CATALOG
from netferry.zoo.train import train

RUNS = 50


def main() -> int:
    parser = argparse.ArgumentParser(description="Check CUDA where a GPU is present.")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    as_json = parser.parse_args().json
    missing = missing_cuda_libraries()
    if missing:
        words = ", ".join(f"{library} ({origin})" for library, origin in missing.items())
        _say(as_json, {"checked": False, "missing": words}, f"NOT CHECKED: no CUDA here; missing: {words}")
        return MissingError.exit_code
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "tests/test_session.py"],
        stdout=sys.stderr,
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = list(_rows(Path(folder)))
    fine = tests.returncode == 0 and all(row["status"] == PASSED for row in rows)
    lines = [f"session tests: {'passed' if tests.returncode == 0 else 'failed'}"]
    lines += [
        f"{row['model']:<18}{row['status']:<10}{row['max_rel']:.1e} of scale   "
        f"{row['cpu_ms']:.3f} ms cpu, {row['cuda_ms']:.3f} ms cuda   {', '.join(row['providers'])}"
        for row in rows
    ]
    _say(as_json, {"checked": True, "fine": fine, "models": rows}, "\n".join(lines))
    return 0 if fine else 1


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Each reference model of PyTorch: its ONNX on CUDA against the module itself, and the time of 32 rows."""
    for name, spec in CATALOG.items():
        trained = train(spec, "pytorch", folder)
        given: Example = example(trained)
        path = folder / f"{name}.onnx"
        write(carry(trained.model, given=[given]), path)
        report = verify(trained.model, path, [given], device="cuda")
        sessions = {device: Session(path, device) for device in ("cpu", "cuda")}
        batch = np.ascontiguousarray(given.array[:32])
        seconds = interleaved(
            {device: partial(session.run, [batch]) for device, session in sessions.items()},
            RUNS,
        )
        yield {
            "model": name,
            "status": report.status,
            "max_rel": report.max_rel or 0.0,
            "providers": list(sessions["cuda"].placement()),
            **{f"{device}_ms": float(np.median(times)) * 1e3 for device, times in seconds.items()},
        }


def _say(as_json: bool, document: dict[str, Any], text: str) -> None:
    print(json.dumps(document, indent=2) if as_json else text)


if __name__ == "__main__":
    sys.exit(main())
