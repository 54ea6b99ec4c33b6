"""Measure what netferry promises about speed: each figure beside its yardstick, interleaved, medians.

python scripts/bench.py              every benchmark
python scripts/bench.py start        only those whose name holds the word
python scripts/bench.py zoo          the zoo's models in onnxruntime against their own frameworks, as a table
python scripts/bench.py export       the ways out against the official exporters, as a table
python scripts/bench.py run          data sets and sessions against what one writes by hand, as a table
python scripts/bench.py verify       what a verification costs, in passes of the source, and its memory, as a table
                                     (these: --only NAME for one of them, --json FILE for the numbers)
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

ROUNDS = 15

YARDSTICK_IMPORTS = "import typer, rich"

Timed = Callable[[], float]
"""Runs once and gives the seconds that it took."""


def process(*command: str) -> Timed:
    """Wall seconds of one whole process."""
    return wall(
        lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), 1
    )


def wall(work: Callable[[], Any], times: int = 5) -> Timed:
    """Mean wall seconds of a few calls in a row."""

    def once() -> float:
        begun = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - begun) / times

    return once


def start() -> tuple[Timed, Timed]:
    return (
        process(sys.executable, "-m", "netferry", "--help"),
        process(sys.executable, "-c", YARDSTICK_IMPORTS),
    )


def _inputs() -> Mapping[str, Any]:
    """The measured models with one batch of each, all on one thread."""
    import torch
    from bench_models import BiLSTM, Encoder, ResNet18, randomised

    torch.set_num_threads(1)
    torch.manual_seed(3)
    return {
        "resnet18": (randomised(ResNet18()), torch.randn(1, 3, 224, 224)),
        "bilstm": (randomised(BiLSTM()), torch.randn(8, 50, 64)),
        "bilstm of one row": (randomised(BiLSTM()), torch.randn(1, 64, 64)),
        "encoder": (randomised(Encoder()), torch.randint(0, 1000, (8, 64))),
    }


def _exported(model: Any, x: Any) -> Any:
    import netferry

    return netferry.convert(model, "onnx", inputs={"x": x.numpy()}, verify=False).model


def in_pytorch(name: str) -> tuple[Timed, Timed]:
    """What arrives in PyTorch against the module that it came from."""
    import torch

    import netferry

    original, x = _inputs()[name]
    arrived = netferry.convert(_exported(original, x), "pytorch", verify=False).model

    def run(module: Any) -> Timed:
        def work() -> None:
            with torch.inference_mode():
                module(x)

        return wall(work)

    return run(arrived), run(original)


def in_keras(name: str, compiled: bool = False) -> tuple[Timed, Timed]:
    """What arrives in Keras, as a ``tf.function``, compiled by XLA or not, against onnxruntime on the same graph."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import netferry
    from netferry.inference.session import Session

    original, x = _inputs()[name]
    exported = _exported(original, x)
    session = Session(exported, threads=1)
    model = netferry.convert(exported, "tensorflow", verify=False).model
    function, tensor = (
        tf.function(lambda t: model(t, training=False), jit_compile=compiled),
        tf.constant(x.numpy()),
    )
    return wall(lambda: function(tensor)), wall(lambda: session.run([x.numpy()]))


def carry() -> tuple[Timed, Timed]:
    """CPU seconds of resnet18, an ONNX file to a live PyTorch module, against onnx reading and checking it."""
    import tempfile
    from pathlib import Path

    import onnx

    import netferry

    path = Path(tempfile.mkdtemp()) / "resnet18.onnx"
    onnx.save(_exported(*_inputs()["resnet18"]), path)

    def cpu(work: Callable[[], Any]) -> Timed:
        def once() -> float:
            begun = time.process_time()
            work()
            return time.process_time() - begun

        return once

    return (
        cpu(lambda: netferry.convert(path, "pytorch", verify=False).model),
        cpu(lambda: onnx.checker.check_model(onnx.load(path))),
    )


BENCHMARKS: Mapping[str, Callable[[], tuple[Timed, Timed]]] = {
    "start: netferry --help against importing typer and rich": start,
    "carry: resnet18 from .onnx to a live module, CPU, against onnx.load and its checker": carry,
    **{
        f"pytorch: {name} that arrived against the original module": lambda name=name: in_pytorch(name)
        for name in ("resnet18", "bilstm", "encoder")
    },
    **{
        f"keras: {name} that arrived, in tf.function, against onnxruntime": lambda name=name: in_keras(name)
        for name in ("resnet18", "bilstm", "bilstm of one row", "encoder")
    },
    **{
        f"keras: {name} that arrived, with jit_compile, against onnxruntime": lambda name=name: in_keras(
            name, True
        )
        for name in ("bilstm", "bilstm of one row")
    },
}


def interleaved(ours: Timed, theirs: Timed) -> tuple[float, float, float]:
    """Median seconds of both and the median of the ratios, pair by pair, after one round that is not counted."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(ROUNDS)]
    left, right = zip(*pairs, strict=True)
    return (
        statistics.median(left),
        statistics.median(right),
        statistics.median(a / b for a, b in pairs),
    )


def zoo(*_: object) -> str:
    """The zoo's models, untrained, in onnxruntime and at home: milliseconds of a run, one thread, a table in Markdown."""
    script = Path(__file__).with_name("bench_zoo.py")
    cells: dict[str, dict[str, str]] = {}
    heads: list[str] = []
    for framework, title in {"pytorch": "PyTorch", "tensorflow": "Keras", "mxnet": "MXNet"}.items():
        told = subprocess.run(
            [sys.executable, str(script), framework], check=True, capture_output=True, text=True
        )
        for one in json.loads(told.stdout.splitlines()[-1]):
            head = f"{title}, batch {one['batch']}"
            heads += [head] * (head not in heads)
            times = one["home"] / one["onnxruntime"]
            cells.setdefault(one["model"], {})[head] = (
                f"{one['home']:.3f} / {one['onnxruntime']:.3f} ({times:.1f}×)"
            )
    lines = [f"| model | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [
        f"| {model} | {' | '.join(row.get(head, '–') for head in heads)} |" for model, row in cells.items()
    ]
    return "\n".join(lines)


def table(name: str, only: str | None, numbers: Path | None) -> str:
    """Each case of ``bench_NAME.py`` in a process of its own; a table in Markdown, and JSON where it is wanted."""
    script = Path(__file__).with_name(f"bench_{name}.py")

    def told(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    names = told().split()
    if only is not None and only not in names:
        raise SystemExit(f"there is no {only} to measure, but {', '.join(names)}")
    rows = [row for name in names if only in (None, name) for row in json.loads(told(name).splitlines()[-1])]
    if numbers is not None:
        numbers.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return "\n".join(
        ["| what | netferry | beside it | netferry's share |", "|---|---|---|---|", *map(_line, rows)]
    )


def _line(row: Mapping[str, Any]) -> str:
    def said(value: float) -> str:
        return f"{value:.3g} {row['unit']}".strip()

    others = {name: value for name, value in row["values"].items() if name != "netferry"}
    cells = (
        row["what"],
        said(row["values"]["netferry"]),
        ", ".join(f"{name} {said(value)}" for name, value in others.items()),
        ", ".join(f"{ratio:.3g}" for ratio in row["ratios"].values()),
    )
    return f"| {' | '.join(cells)} |"


TABLES: Mapping[str, tuple[str, Callable[[str | None, Path | None], str]]] = {
    "zoo": ("the zoo: ms at home / in onnxruntime (times as fast), one thread", zoo),
    "export": ("the ways out: CPU time, one thread", partial(table, "export")),
    "run": ("running models: whole processes, and microseconds of a run", partial(table, "run")),
    "verify": (
        "verification: CPU time, beside one pass of the source at the largest sample",
        partial(table, "verify"),
    ),
}
"""What is told as a table: its title, and who makes it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("word", nargs="?", default="", help="what the name of a benchmark holds")
    parser.add_argument("--only", help="one case of export or run")
    parser.add_argument("--json", type=Path, help="where the numbers of export or run go")
    asked = parser.parse_args()
    word = asked.word
    for name, (title, make) in TABLES.items():
        if word in ("", name):
            print(title, make(asked.only, asked.json), sep="\n\n", flush=True)
    for title, sides in BENCHMARKS.items():
        if word in title and word not in TABLES:
            mine, other, ratio = interleaved(*sides())
            print(f"{title}: {mine * 1e3:.1f} ms against {other * 1e3:.1f} ms, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
