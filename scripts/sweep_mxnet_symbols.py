"""Convert every MXNet symbol of a folder, with weights drawn by chance, to ONNX, PyTorch and Keras, and count.

    python scripts/sweep_mxnet_symbols.py FOLDER [PART OF A NAME ...]

The sizes of the inputs are found by trying: those of the table below, then images of usual sizes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import netferry
from netferry.converters.errors import NetferryError, UnsupportedError, UsageError
from netferry.converters.signature import Array

TARGETS = ("onnx", "pytorch", "tensorflow")

TOKENS = np.random.default_rng(1).integers(0, 1000, (2, 384)).astype(np.float32)
KNOWN: dict[str, dict[str, Array]] = {
    "bert": {"data0": TOKENS, "data1": TOKENS % 2, "data2": np.array([384, 200], np.float32)},
    "ptb": {"data": TOKENS[:, :35]},
    "mlp": {"data": TOKENS[:1, :196].repeat(4, 1) / 1000},
    "save-0008": {"data": TOKENS[:, :100] / 1000},
}
"""Inputs of symbols that read no image, by a part of the name."""

SIZES = (224, 112, 512, 24, 48, 64, 299)


def inputs_of(symbol: Path) -> Iterator[dict[str, Array]]:
    known = [arrays for part, arrays in KNOWN.items() if part in symbol.name]
    yield from known
    if known:
        return
    rng = np.random.default_rng(2)
    sizes = sorted(SIZES, key=lambda size: str(size) not in symbol.name)
    for channels in (3, 1, 15):
        for size in sizes:
            yield {"data": rng.normal(size=(1, channels, size, size)).astype(np.float32)}


def outcome(symbol: Path, target: str, folder: Path) -> str:
    """right, wrong, or refused with the reason."""
    said = ""
    for arrays in inputs_of(symbol):
        try:
            done = netferry.convert(
                symbol, target, destination=folder / f"{symbol.stem}-{target}" if target != "onnx" else folder / "net.onnx",
                inputs=arrays, random_weights=True, quick=True, samples=2, force=True, seed=1,
            )  # fmt: skip
        except UnsupportedError as error:
            return f"refused: {str(error).splitlines()[-1].strip()}"
        except (UsageError, NetferryError) as error:
            said = said or f"refused: {str(error).splitlines()[0]}"
            continue
        report = done.report
        assert report is not None
        if report.status == "failed" and "only the source runs" not in report.to_text():
            return "wrong: " + report.to_text().splitlines()[0]
        return {"passed": "right"}.get(report.status, report.status)
    return said


def main() -> None:
    folder, parts = Path(sys.argv[1]), sys.argv[2:]
    counts = {target: Counter[str]() for target in TARGETS}
    with tempfile.TemporaryDirectory() as made:
        for symbol in sorted(folder.glob("*symbol.json")):
            if parts and not any(part in symbol.name for part in parts):
                continue
            for target in TARGETS:
                start = time.monotonic()
                found = outcome(symbol, target, Path(made))
                counts[target][found.partition(":")[0]] += 1
                print(f"{symbol.name} {target}: {found} ({time.monotonic() - start:.1f} s)", flush=True)
    for target, count in counts.items():
        print(target, dict(count))


if __name__ == "__main__":
    main()
