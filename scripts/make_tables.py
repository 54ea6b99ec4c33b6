"""Write the tables of README.md and docs/operators.md from the code and from a run of the matrix.

python scripts/make_tables.py                                 what is carried
python scripts/make_tables.py netferry-demo/matrix.json       and the matrix of that run
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "operators.md"


def rows() -> Mapping[str, list[str]]:
    """The names of everything that has a row, by framework and kind."""
    import netferry.converters.mxnet.to_onnx
    import netferry.converters.pytorch.to_onnx
    import netferry.converters.tensorflow.to_onnx  # noqa: F401 - fills the tables
    from netferry.converters.mxnet.to_onnx import emitter as mxnet
    from netferry.converters.pytorch.to_onnx import layers as modules, table
    from netferry.converters.tensorflow.to_onnx import emitter as pen

    layers = [key for key in pen.ROWS if ".layers." in key.__module__]
    return {
        "PyTorch layers": _names(modules.MODULES),
        "PyTorch functions": _names(table.FUNCTIONS),
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


def source() -> str:
    """What a small Keras model arrives as: the class, without the imports before and the loader behind it."""
    from netferry import converters
    from netferry.zoo import catalog, tensorflow

    export = converters.export_model(tensorflow.build(catalog.named("cnn")))
    text = converters.import_model(export.model, "pytorch", name="cnn").source
    module = ast.parse(text)
    [made] = [node for node in module.body if isinstance(node, ast.ClassDef)]
    ruff = [sys.executable, "-m", "ruff", "format", "--config", str(ROOT / "pyproject.toml"), "-"]
    shown = ast.get_source_segment(text, made)
    done = subprocess.run(ruff, input=shown, capture_output=True, text=True, check=True)
    return f"```python\n{done.stdout.rstrip()}\n```"


TARGETS = ("pytorch", "tensorflow", "mxnet")


def operators() -> str:
    """Each operator of ONNX, and in how many of ONNX's own node cases each target takes it.

    A case counts with its inputs as inputs, or, where the target needs that, with all but the first as
    initializers. Nothing is run: a walk says what can be carried, the tests say that it is right.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from onnx import defs

    found = _taken()
    names = sorted({s.name for s in defs.get_all_schemas() if s.domain == "" and not s.deprecated})
    lines = ["| operator | cases | " + " | ".join(TARGETS) + " |", "|---" * (2 + len(TARGETS)) + "|"]
    for name in names:
        taken = found.get(name, [])
        words = (_share([one[target] for one in taken]) for target in TARGETS)
        lines.append(f"| `{name}` | {len(taken) or '-'} | " + " | ".join(words) + " |")
    whole = (f"{sum(any(one[t] for one in found.get(n, [])) for n in names)} operators" for t in TARGETS)
    head = f"{len(names)} operators of ONNX {defs.onnx_opset_version()}: " + ", ".join(
        f"{target} takes {count}" for target, count in zip(TARGETS, whole, strict=True)
    )
    return f"<details><summary>{head}</summary>\n\n" + "\n".join(lines) + "\n\n</details>"


def _share(taken: Sequence[bool]) -> str:
    if not taken:
        return "-"
    return "all" if all(taken) else f"{sum(taken)}" if any(taken) else "refused"


def _taken() -> Mapping[str, list[Mapping[str, bool]]]:
    """Operator -> what each target says to each case of one node."""
    from onnx_cases import cases, freeze

    found: dict[str, list[Mapping[str, bool]]] = {}
    for case in cases():
        nodes = case.model.graph.node
        if len(nodes) == 1 and not nodes[0].domain:
            forms = [form for form in (case, freeze(case)) if form is not None]
            one = {target: any(_takes(form.model, target) for form in forms) for target in TARGETS}
            found.setdefault(nodes[0].op_type, []).append(one)
    return found


def _takes(model: Any, target: str) -> bool:
    import onnx_ir as ir

    from netferry.converters import import_model
    from netferry.converters.errors import NetferryError

    try:
        import_model(ir.from_proto(model), target)
    except NetferryError:
        return False
    return True


def matrix(document: Mapping[str, Any]) -> str:
    """Sources down, targets across: how many models passed, and the worst error, gradient and training among them."""
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
    ratios = [
        max((cell[name] for cell in passed if cell[name] is not None), default=None)
        for name in ("gradient_ratio", "training_ratio")
    ]
    learnt = "" if None in ratios else f"; gradients {ratios[0]:.2g}, steps {ratios[1]:.2g}"
    return f"{len(passed)} of {len(cells)} passed, worst {worst:.1e}{learnt}"


def put(text: str, marker: str, content: str) -> str:
    """Replace what stands between ``<!-- marker -->`` and ``<!-- /marker -->``."""
    pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def main() -> None:
    page = put(PAGE.read_text(encoding="utf-8"), "rows", carried())
    PAGE.write_text(put(page, "operators", operators()), encoding="utf-8")
    text = put(README.read_text(encoding="utf-8"), "source", source())
    if len(sys.argv) > 1:
        text = put(text, "matrix", matrix(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
