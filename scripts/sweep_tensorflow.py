"""Sources of the TensorFlow world to ONNX, each compared with TensorFlow itself, beside plain tf2onnx and Keras' own export; and to other targets.

    python scripts/sweep_tensorflow.py                        what has no result yet, into sweep-tensorflow.json
    python scripts/sweep_tensorflow.py --ways netferry PyTorch MXNet
    python scripts/sweep_tensorflow.py "modules/a loop" --again   these alone, anew (a part of the name)
    python scripts/sweep_tensorflow.py --every 10 --seed 3    a seeded tenth
    python scripts/sweep_tensorflow.py --table                the results as Markdown

Each source runs in a process of its own, forked once TensorFlow is imported, and each result is kept as soon as it is there. What needs
Keras 2 is tried where tf_keras is installed, families of keras-hub where that is. An output is right within 1e-4 of its scale, at two batches.
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

Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Of inputs by name, a model's outputs by name and in their order."""


def sources() -> dict[str, Any]:
    from tensorflow_sources import FAMILIES, graphs, hub, layers, variants  # noqa: F401 - they fill the table

    return {f"{family}/{name}": build for family, named in FAMILIES.items() for name, build in named.items()}


# ---- one source ------------------------------------------------------------------------------------


def examined(build: Callable[[Path], Any], ways: Sequence[str]) -> dict[str, Any]:
    """Of each way: right, wrong, or refused with the reason."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            source = build(Path(folder))
            want = [results(source, feeds) for feeds in source.feeds]
        except Exception as error:
            return {"not built": short(error)}
        found: dict[str, Any] = {}
        for way in ways:
            if way == "Keras' export" and source.keras is None:
                continue
            started = time.process_time()
            try:
                run, told = WAYS[way](source, Path(folder))
                found[way] = {**told, "status": compared(run, source.feeds, want)}
            except (Exception, SystemExit) as error:
                found[way] = {"status": "refused", "why": short(error)}
            found[way]["seconds"] = round(time.process_time() - started, 2)
        return found


def results(source: Any, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
    """What TensorFlow gives: by name where that is a dict, else by number, in the order of its structure."""
    import tensorflow as tf

    y = source.function(*map(tf.constant, feeds.values()))
    named = isinstance(y, dict) and not any(map(tf.nest.is_nested, y.values()))
    names = sorted(y) if named else range(len(tf.nest.flatten(y)))
    return {str(name): value.numpy() for name, value in zip(names, tf.nest.flatten(y), strict=True)}


def by_netferry(source: Any, folder: Path, to: str = "onnx") -> tuple[Run, dict[str, Any]]:
    import netferry
    from netferry.converters import frameworks

    done = netferry.convert(source.given, to, outputs=list(source.outputs) or None, verify=False)
    if to == "onnx":
        return in_onnxruntime(done.model), {"route": done.route}
    framework = frameworks.of(done.model)
    names = [spec.name for spec in framework.signature(done.model).inputs]
    return lambda feeds: framework.live.run(done.model, by_name(names, feeds)), {"route": done.route}


def by_tf2onnx(source: Any, folder: Path) -> tuple[Run, dict[str, Any]]:
    import tensorflow as tf
    import tf2onnx

    specs = [
        tf.TensorSpec([None, *value.shape[1:]] if len(value.shape) > 1 else value.shape, value.dtype, name)
        for name, value in source.feeds[0].items()
    ]
    whole = tf.function(lambda *xs: source.function(*xs))
    return in_onnxruntime(tf2onnx.convert.from_function(whole, input_signature=specs, opset=18)[0]), {}


def by_keras(source: Any, folder: Path) -> tuple[Run, dict[str, Any]]:
    import onnx

    source.keras.export(folder / "keras.onnx", format="onnx", verbose=False)
    return in_onnxruntime(onnx.load(folder / "keras.onnx")), {}


WAYS: dict[str, Callable[[Any, Path], tuple[Run, dict[str, Any]]]] = {
    "netferry": by_netferry,
    "tf2onnx": by_tf2onnx,
    "Keras' export": by_keras,
    "PyTorch": partial(by_netferry, to="pytorch"),
    "MXNet": partial(by_netferry, to="mxnet"),
}


def in_onnxruntime(model: Any) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    asked, given = ([value.name for value in each] for each in (session.get_inputs(), session.get_outputs()))

    def run(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        results = session.run(None, dict(zip(asked, by_name(asked, feeds), strict=True)))
        return dict(zip(given, results, strict=True))

    return run


def by_name(names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
    """By the names of the inputs where they are those, else by their order."""
    return [feeds.get(name.split(":")[0], value) for name, value in zip(names, feeds.values(), strict=True)]


def compared(run: Run, feeds: Sequence[Mapping[str, Any]], want: Sequence[Mapping[str, Any]]) -> str:
    """Outputs by their names where both have the same, else by their order; the worst of all feeds."""
    import numpy as np

    worst = 0.0
    for given, right in zip(feeds, want, strict=True):
        found = run(given)
        got = [found[name] for name in right] if set(found) == set(right) else list(found.values())
        if [each.shape for each in got] != [each.shape for each in right.values()]:
            return "wrong: sizes"
        for one, other in zip(got, right.values(), strict=True):
            scale = float(np.abs(other).max(initial=0)) or 1.0
            worst = max(worst, float(np.abs(one.astype("f8") - other).max(initial=0)) / scale)
    return "right" if worst <= TOLERANCE else f"wrong: {worst:.1e}"


def short(error: BaseException) -> str:
    return (f"{type(error).__name__}: {error}".replace("\n", " "))[:240]


# ---- all of them -----------------------------------------------------------------------------------


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each family, then what is not right by netferry."""
    ways = [way for way in WAYS if any(way in each for each in results.values())]
    lines = [f"| sources | tried | {' | '.join(ways)} |", f"|---|---|{'---|' * len(ways)}"]
    families = dict.fromkeys(name.partition("/")[0] for name in results)
    for family in (*families, ""):
        rows = [
            each
            for name, each in results.items()
            if name.startswith(f"{family}/" if family else "") and ways[0] in each
        ]
        cells = [[row[way]["status"] == "right" for row in rows if way in row] for way in ways]
        counts = [f"{sum(cell)} of {len(cell)}" if cell else "-" for cell in cells]
        lines.append(f"| {family or 'all'} | {len(rows)} | {' | '.join(counts)} |")
    lines += [
        "",
        *(
            f"- {name}: {json.dumps(each)}"
            for name, each in results.items()
            if each.get(ways[0], {}).get("status") != "right"
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
    parser.add_argument(
        "--ways", nargs="+", choices=list(WAYS), default=list(WAYS)[:3], help="how each is converted"
    )
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
        known[name] = forked(partial(examined, builders[name], asked.ways), LIMIT_S) or {
            asked.ways[0]: {"status": "died, or took too long"}
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
