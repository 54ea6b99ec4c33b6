"""Draw docs/conversion.svg: a real conversion in a terminal, and beside it the verdict that it gave.

python scripts/make_picture.py

The zoo's Keras ``cnn`` with fresh weights goes to ONNX and on to PyTorch; what is drawn is what the commands print and
what their ``verdict.json`` holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "conversion.svg"

COMMANDS = (
    "netferry convert cnn.keras cnn.onnx --seed 7 --report verdict",
    "netferry convert cnn.onnx arrived --to pytorch --seed 7",
    "ls arrived",
)
WIDTH, LINE, LEFT = 1060, 20, 700
"""Pixels: of the whole, of a line of text, and of the terminal."""

STYLE = """
  text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d6dde6; white-space: pre }
  .prompt { fill: #7ee0a1 } .good { fill: #7ee0a1; font-weight: 600 } .dim { fill: #8b98a8 }
  .card text { font-family: system-ui, "DejaVu Sans", sans-serif; fill: #1d2733 }
  .card .good { fill: #12773c } .card .dim { fill: #5b6877 }
  .terminal > rect { fill: #161d27 } .sheet { fill: #ffffff; stroke: #d4dae2 } .bar { fill: #3f87d9 }
  @media (prefers-color-scheme: dark) {
    .sheet { fill: #1f2833; stroke: #37424f } .card text { fill: #e5ebf2 }
    .card .good { fill: #7ee0a1 } .card .dim { fill: #9aa7b5 }
  }
"""


def record(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """The lines of the session, and the verdict of its first command."""
    make = (
        "from netferry.zoo import catalog, tensorflow as t; t.build(catalog.named('cnn')).save('cnn.keras')"
    )
    subprocess.run([sys.executable, "-c", make], cwd=folder, check=True, capture_output=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines = []
    for command in COMMANDS:
        done = subprocess.run(
            command.split(),
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"PATH": path},
        )
        lines += [f"$ {command}", *done.stdout.splitlines(), ""]
    verdict: dict[str, Any] = json.loads((folder / "verdict" / "verdict.json").read_text(encoding="utf-8"))
    return lines[:-1], verdict


def text(x: float, y: float, content: str, kind: str = "", extra: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}"{extra}>{escape(content)}</text>'


def terminal(lines: Sequence[str]) -> Iterator[str]:
    for row, line in enumerate(lines):
        kind = "prompt" if line.startswith("$") else "good" if line.startswith("passed") else ""
        yield text(18, 52 + row * LINE, line, kind)


def card(verdict: dict[str, Any], x: float, width: float) -> Iterator[str]:
    """The verdict in words, and how many elements have which error."""
    [output] = verdict["outputs"]
    yield text(x, 56, f"{verdict['source']} → {verdict['target']}", "dim", ' style="font-size:14px"')
    yield text(x, 88, f"✓ {verdict['status']}", "good", ' style="font-size:24px"')
    facts = (
        f"{len(verdict['samples'])} samples, {output['elements']} numbers",
        f"worst error {verdict['max_rel']:.1e} of the output's scale",
        f"in float64 {verdict['meaning']:.0e}: they mean the same",
        f"truth: {verdict['truth']}",
    )
    for row, fact in enumerate(facts):
        yield text(x, 118 + row * LINE, fact)
    yield from bars(output["histogram"], x, 118 + len(facts) * LINE, width)


def bars(counts: Iterable[int], x: float, top: float, width: float) -> Iterator[str]:
    counts = list(counts)
    while counts and not counts[-1]:
        counts.pop()
    step, high = width / len(counts), 60.0
    for place, count in enumerate(counts):
        tall = high * count / max(counts)
        yield (
            f'<rect class="bar" x="{x + place * step:.1f}" y="{top + high - tall:.1f}" '
            f'width="{step - 3:.1f}" height="{tall:.1f}" rx="2"/>'
        )
    yield text(x, top + high + 18, "errors, from equal to the largest", "dim")


def drawn(lines: Sequence[str], verdict: dict[str, Any]) -> str:
    height = max(70 + len(lines) * LINE, 310)
    dots = "".join(f'<circle cx="{20 + 16 * n}" cy="18" r="5" fill="#3a4656"/>' for n in range(3))
    return "\n".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="A conversion in a terminal, and its verdict">',
        f"<style>{STYLE}</style>",
        f'<g class="terminal"><rect width="{LEFT}" height="{height}" rx="10"/>{dots}',
        *terminal(lines),
        "</g>",
        f'<g class="card"><rect class="sheet" x="{LEFT + 20}" y="0.5" width="{WIDTH - LEFT - 21}" height="{height - 1}" rx="10"/>',
        *card(verdict, LEFT + 44, WIDTH - LEFT - 70),
        "</g>",
        "</svg>",
        "",
    ))  # fmt: skip


def main() -> None:
    with TemporaryDirectory() as folder:
        PICTURE.write_text(drawn(*record(Path(folder))), encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
