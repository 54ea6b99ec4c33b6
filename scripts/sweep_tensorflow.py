"""A hundred sources of the TensorFlow world to ONNX, each compared with TensorFlow itself, beside plain tf2onnx and Keras' own export.

    python scripts/sweep_tensorflow.py                        what has no result yet, into sweep-tensorflow.json
    python scripts/sweep_tensorflow.py "modules/a loop" --again   these alone, anew (a part of the name)
    python scripts/sweep_tensorflow.py --every 10 --seed 3    a seeded tenth
    python scripts/sweep_tensorflow.py --table                the results as Markdown

Each source runs in a process of its own, forked once TensorFlow is imported, and each result is kept as soon as it is there. What needs
Keras 2 is tried where tf_keras is installed. An output is right within 1e-4 of its scale, at two batches.
"""

# ruff: noqa: ARG001 - sources and ways are called alike

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sweep.forked import forked

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
LIMIT_S, TOLERANCE = 240, 1e-4

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WAYS = ("netferry", "tf2onnx", "Keras' export")


def sources() -> dict[str, Any]:
    from tensorflow_sources import FAMILIES, graphs, layers  # noqa: F401 - they fill the table

    return {f"{family}/{name}": build for family, named in FAMILIES.items() for name, build in named.items()}


# ---- one source ------------------------------------------------------------------------------------


def examined(build: Callable[[Path], Any]) -> dict[str, Any]:
    """Of each way: right, wrong, or refused with the reason."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            source = build(Path(folder))
            want = [results(source, feeds) for feeds in source.feeds]
        except Exception as error:
            return {"not built": short(error)}
        found: dict[str, Any] = {}
        for way, convert in zip(WAYS, (by_netferry, by_tf2onnx, by_keras), strict=True):
            if way == WAYS[2] and source.keras is None:
                continue
            started = time.process_time()
            try:
                model, told = convert(source, Path(folder))
                found[way] = {**told, "status": compared(model, source.feeds, want)}
            except (Exception, SystemExit) as error:
                found[way] = {"status": "refused", "why": short(error)}
            found[way]["seconds"] = round(time.process_time() - started, 2)
        return found


def results(source: Any, feeds: Mapping[str, Any]) -> list[Any]:
    """What TensorFlow gives, in the order of its structure."""
    import tensorflow as tf

    y = source.function(*map(tf.constant, feeds.values()))
    return [value.numpy() for value in tf.nest.flatten(y)]


def by_netferry(source: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    import netferry

    done = netferry.convert(source.given, "onnx", outputs=list(source.outputs) or None, verify=False)
    return done.model, {"route": done.route}


def by_tf2onnx(source: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    import tensorflow as tf
    import tf2onnx

    specs = [
        tf.TensorSpec([None, *value.shape[1:]] if len(value.shape) > 1 else value.shape, value.dtype, name)
        for name, value in source.feeds[0].items()
    ]
    whole = tf.function(lambda *xs: source.function(*xs))
    return tf2onnx.convert.from_function(whole, input_signature=specs, opset=18)[0], {}


def by_keras(source: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    import onnx

    source.keras.export(folder / "keras.onnx", format="onnx", verbose=False)
    return onnx.load(folder / "keras.onnx"), {}


def compared(model: Any, feeds: Sequence[Mapping[str, Any]], want: Sequence[Sequence[Any]]) -> str:
    """By the names of the inputs where they are those, else by their order; outputs by their order."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    worst = 0.0
    for given, right in zip(feeds, want, strict=True):
        arrays = [
            given.get(name.split(":")[0], value) for name, value in zip(names, given.values(), strict=True)
        ]
        got = session.run(None, dict(zip(names, arrays, strict=True)))
        if [each.shape for each in got] != [each.shape for each in right]:
            return "wrong: sizes"
        for one, other in zip(got, right, strict=True):
            scale = float(np.abs(other).max(initial=0)) or 1.0
            worst = max(worst, float(np.abs(one.astype("f8") - other).max(initial=0)) / scale)
    return "right" if worst <= TOLERANCE else f"wrong: {worst:.1e}"


def short(error: BaseException) -> str:
    return (f"{type(error).__name__}: {error}".replace("\n", " "))[:240]


# ---- all of them -----------------------------------------------------------------------------------


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each family, then what is not right by netferry."""
    lines = [f"| sources | tried | {' | '.join(WAYS)} |", f"|---|---|{'---|' * len(WAYS)}"]
    families = dict.fromkeys(name.partition("/")[0] for name in results)
    for family in (*families, ""):
        rows = [
            each
            for name, each in results.items()
            if name.startswith(f"{family}/" if family else "") and WAYS[0] in each
        ]
        cells = [[row[way]["status"] == "right" for row in rows if way in row] for way in WAYS]
        counts = [f"{sum(cell)} of {len(cell)}" if cell else "-" for cell in cells]
        lines.append(f"| {family or 'all'} | {len(rows)} | {' | '.join(counts)} |")
    lines += [
        "",
        *(
            f"- {name}: {json.dumps(each)}"
            for name, each in results.items()
            if each.get(WAYS[0], {}).get("status") != "right"
        ),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="parts of names")
    parser.add_argument("--into", type=Path, default=Path("sweep-tensorflow.json"))
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--every", type=int, default=1, help="one of so many, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print the results as Markdown")
    asked = parser.parse_args()
    known = json.loads(asked.into.read_text()) if asked.into.is_file() else {}
    if asked.table:
        print(table(known))
        return
    builders = sources()
    wanted = [name for name in builders if not asked.names or any(part in name for part in asked.names)]
    if asked.every > 1:
        wanted = random.Random(asked.seed).sample(wanted, max(1, len(wanted) // asked.every))
    for name in wanted:
        if name in known and not asked.again:
            continue
        known[name] = forked(partial(examined, builders[name]), LIMIT_S) or {
            "netferry": {"status": "died, or took too long"}
        }
        asked.into.write_text(json.dumps(known, indent=1))
        print(
            name,
            json.dumps(
                {
                    way: each.get("status") if isinstance(each, dict) else each
                    for way, each in known[name].items()
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
