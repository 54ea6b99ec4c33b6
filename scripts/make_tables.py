"""Write the tables of README.md from the code and from a run of the matrix.

python scripts/make_tables.py                                 what is carried
python scripts/make_tables.py netferry-demo/matrix.json       and the matrix of that run
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

README = Path(__file__).parent.parent / "README.md"


def rows() -> Mapping[str, list[str]]:
    """The names of everything that has a row, by framework and kind."""
    import netferry.converters.mxnet.to_onnx
    import netferry.converters.pytorch.to_onnx
    import netferry.converters.tensorflow.to_onnx  # noqa: F401 - fills the tables
    from netferry.converters.mxnet import rows as mxnet
    from netferry.converters.pytorch import functions, modules
    from netferry.converters.tensorflow import pen

    layers = [key for key in pen.ROWS if ".layers." in key.__module__]
    return {
        "PyTorch layers": _names(modules.MODULES),
        "PyTorch functions": _names(functions.FUNCTIONS),
        "Keras layers": _names(layers),
        "Keras operations": _names(key for key in pen.ROWS if key not in layers),
        "Keras activations": _names(pen.ACTIVATIONS),
        "MXNet operators": _names(mxnet.ROWS),
    }


def _names(keys: Iterable[Any]) -> list[str]:
    """Names as a person writes them; those that only an implementation has are left out."""
    names = {key if isinstance(key, str) else getattr(key, "__name__", str(key)) for key in keys}
    return sorted(
        (name for name in names if name.isidentifier() and not name.startswith("__")),
        key=lambda name: (name.lower(), name),
    )


def carried() -> str:
    """Each kind with its count, the names folded away."""
    blocks = [
        f"<details><summary>{len(names)} {kind}</summary>\n\n{', '.join(f'`{name}`' for name in names)}\n\n</details>"
        for kind, names in rows().items()
    ]
    return "\n".join(blocks)


def matrix(document: Mapping[str, Any]) -> str:
    """Sources down, targets across: how many models passed, and the worst error among them."""
    cells = document["cells"]
    targets = list(dict.fromkeys(cell["target"] for cell in cells))
    lines = ["| from \\ to | " + " | ".join(targets) + " |", "|---" * (len(targets) + 1) + "|"]
    for source in dict.fromkeys(cell["source"] for cell in cells):
        words = (
            _summary([cell for cell in cells if (cell["source"], cell["target"]) == (source, target)])
            for target in targets
        )
        lines.append(f"| {source} | " + " | ".join(words) + " |")
    return "\n".join(lines)


def _summary(cells: Sequence[Mapping[str, Any]]) -> str:
    passed = [cell for cell in cells if cell["status"] == "passed"]
    worst = max((cell["max_rel"] for cell in passed), default=0.0)
    return f"{len(passed)} of {len(cells)} passed, worst {worst:.1e}"


def put(text: str, marker: str, content: str) -> str:
    """Replace what stands between ``<!-- marker -->`` and ``<!-- /marker -->``."""
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def main() -> None:
    text = put(README.read_text(encoding="utf-8"), "rows", carried())
    if len(sys.argv) > 1:
        text = put(text, "matrix", matrix(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
