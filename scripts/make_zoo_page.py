"""Write docs/zoo.md: each reference model in three frameworks, code beside code, with the numbers of one run.

python scripts/make_zoo_page.py netferry-demo/matrix.json
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from netferry.zoo.catalog import CATALOG, ModelSpec

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "zoo.md"
TITLES = {"pytorch": "PyTorch", "tensorflow": "TensorFlow/Keras", "mxnet": "MXNet"}
BARS = "▁▂▃▄▅▆▇█"

HEAD = """# The zoo, side by side

Eleven reference models, each written as a person who uses that framework would write it, and trained by that framework's
own loop. `scripts/make_zoo_page.py` writes this page from the sources and from one run of `netferry zoo matrix`.

The loss curve has a bar for each pass over the data, from its largest loss to its smallest. Latency is the median of one
row in onnxruntime on one thread. Seconds are training alone, on two cores. Under each target stand the verdict, the worst error
relative to the output's scale, and the loss of 20 further training steps that the model took after it had arrived.

How the frameworks differ in kind (values at once or a graph first, what broadcasts, computations composed before any value
exists) is run in all three by `tests/test_frameworks_side_by_side.py`.

What the metrics can and cannot say: epochs, learning rates, batch sizes and seeds were chosen while looking at these very
held-out rows, so they flatter a little. At the catalog's seeds the three frameworks agree within 0.02. At four other seeds of
initial weights and batches, on the same rows, 37 of 44 comparisons did; `linear-diabetes` (three times), `rnn` (twice),
`cnn-binary` and `gru` (once each) did not, the widest apart by 0.038 (`cnn-binary`), and `gru` once fell to 0.947, under its floor of 0.95.
"""


def code(framework: str, names: Sequence[str]) -> str:
    """The definitions called ``names`` in a framework's file, and the classes of that file they use."""
    source = (ROOT / "zoo" / f"{framework}.py").read_text(encoding="utf-8")
    defined = {node.name: node for node in ast.parse(source).body if isinstance(node, _DEFINITIONS)}
    wanted: dict[str, None] = {}
    for name in names:
        used = {node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)}
        wanted |= {
            other: None for other in defined if other in used and isinstance(defined[other], ast.ClassDef)
        }
        wanted[name] = None
    parts = (ast.get_source_segment(source, defined[name]) for name in wanted)
    return "\n\n\n".join(part for part in parts if part)


_DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def sections(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The page, part by part."""
    yield HEAD
    for spec in CATALOG.values():
        yield f"## {spec.title}\n\n`{spec.name}`: {spec.formula}\n"
        yield _numbers(spec, [cell for cell in cells if cell["model"] == spec.name])
        for framework, title in TITLES.items():
            yield f"{title}:\n\n```python\n{code(framework, [spec.factory])}\n```\n"
    yield "## The loops that train them\n"
    for framework, title in TITLES.items():
        yield f"{title}:\n\n```python\n{code(framework, ['train'])}\n```\n"


def _numbers(spec: ModelSpec, cells: Sequence[Mapping[str, Any]]) -> str:
    """Sources down; how training went, and how each target's worst error came out."""
    targets = list(dict.fromkeys(cell["target"] for cell in cells))
    lines = [
        f"| trained in | held-out {spec.metric} | training | loss | last loss | onnxruntime, one row | "
        + " | ".join(f"-> {target}" for target in targets)
        + " |",
        "|---" * (6 + len(targets)) + "|",
    ]
    for source in dict.fromkeys(cell["source"] for cell in cells):
        found = {cell["target"]: cell for cell in cells if cell["source"] == source}
        one = found["onnx"]
        lines.append(
            f"| {TITLES[source]} | {one['metric']:.4f} | {one['train_seconds']:.1f} s "
            f"| {curve(one['history'])} | {one['history'][-1]:.4f} | {one['latency_ms']:.3f} ms | "
            + " | ".join(_arrived(found[target]) for target in targets)
            + " |"
        )
    return "\n".join(lines) + "\n"


def _arrived(cell: Mapping[str, Any]) -> str:
    """The verdict, and the curve of the losses of the steps that were taken after the arrival."""
    error = "" if cell["max_rel"] is None else f" {cell['max_rel']:.1e}"
    return f"{cell['status']}{error} {curve(cell['further']) if cell['further'] else ''}".rstrip()


def curve(history: Sequence[float]) -> str:
    """A bar for each value, scaled from the smallest to the largest."""
    low, high = min(history), max(history)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in history)


def main() -> None:
    cells = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["cells"]
    PAGE.write_text("\n".join(sections(cells)), encoding="utf-8")


if __name__ == "__main__":
    main()
