"""Measure what netferry promises about speed: each figure beside its yardstick, interleaved, medians.

python scripts/bench.py              every benchmark
python scripts/bench.py start        only those whose name holds the word
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

ROUNDS = 15

YARDSTICK_IMPORTS = "import typer, rich"


def process(*command: str) -> Callable[[], float]:
    """Wall seconds of one whole process."""

    def once() -> float:
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - begun

    return once


BENCHMARKS: Mapping[str, tuple[Callable[[], float], Callable[[], float]]] = {
    "start: netferry --help against importing typer and rich": (
        process(sys.executable, "-m", "netferry", "--help"),
        process(sys.executable, "-c", YARDSTICK_IMPORTS),
    ),
}


def interleaved(ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float, float]:
    """Median seconds of both and the median of the ratios, pair by pair, after one round that is not counted."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(ROUNDS)]
    left, right = zip(*pairs, strict=True)
    return (
        statistics.median(left),
        statistics.median(right),
        statistics.median(a / b for a, b in pairs),
    )


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    for title, sides in BENCHMARKS.items():
        if word in title:
            mine, other, ratio = interleaved(*sides)
            print(f"{title}: {mine * 1e3:.0f} ms against {other * 1e3:.0f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
