"""A difference in a folder: the step alone, what it reads, what both sides make of it, and a script that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from netferry import converters
from netferry.converters import escaping, frameworks
from netferry.converters.disk import archives, staging
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.errors import NetferryError
from netferry.converters.signature import Array, examples
from netferry.inference.intermediate import framework_of, piece
from netferry.inference.session import Session
from netferry.validation.reports.report import as_json
from netferry.validation.tensors.alignment import arranged
from netferry.validation.tensors.difference import Bisection, Location

KIND = "reproduction"
"""What is written here, as the ledger has it."""

_SHOW = '''\
"""Shows the difference; needs numpy, and onnxruntime for the sub-models."""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
source, target = np.load(HERE / "source.npy"), np.load(HERE / "target.npy")
error = np.abs(source.astype(np.float64) - target.astype(np.float64))
worst = np.unravel_index(np.nanargmax(error), error.shape)
print(f"{error.size} values, the largest error is {error[worst]:.6g} at {tuple(map(int, worst))}:")
print(f"  source {source[worst]!r}")
print(f"  target {target[worst]!r}")

for side, recorded in (("source", source), ("target", target)):
    model = HERE / f"{side}.onnx"
    if not model.is_file():
        continue
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    with np.load(HERE / f"{side}_inputs.npz") as inputs:
        arrays = [inputs[name] for name in inputs.files]
    feed = {node.name: array for node, array in zip(session.get_inputs(), arrays)}
    again = session.run(None, feed)[0]
    off = np.abs(np.sort(again, axis=None).astype(np.float64) - np.sort(recorded, axis=None)).max()
    print(f"{model.name} on {side}_inputs.npz gives the {side}'s values again (they differ by {off:.3g})")
'''

_FILES = """
source_inputs.npz, source.npy    what the source's step reads, and what it gives
target_inputs.npz, target.npy    what the target's step reads as it lies there, and what it gives in the source's order
source.onnx, target.onnx         the step alone, where it can be had as ONNX
bisect.json                      all that was found
show.py                          shows it: python show.py
"""


def write(
    found: Bisection, models: tuple[object, object], folder: Path, replacing: Overwriting | None = None
) -> Bisection:
    """Write the reproduction of ``found.difference`` to ``folder``; gives ``found`` with its files."""
    one = found.difference
    if one is None:
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    with staging.staged(folder, KIND, replacing) as stage:
        stage.mkdir()
        sides = (
            ("source", models[0], one.source, one.evidence.source_inputs, one.evidence.source),
            ("target", models[1], one.target, one.evidence.target_inputs, one.evidence.target),
        )
        for side_name, model, location, inputs, result in sides:
            _save_inputs(stage / f"{side_name}_inputs.npz", inputs)
            part = _alone(model, location, inputs, result)
            if part is None:
                notes.append(f"the {side_name}'s step is not available alone as ONNX; it is at: {location}")
            else:
                onnx.save(part, stage / f"{side_name}.onnx")
        np.save(stage / "source.npy", one.evidence.source)
        np.save(stage / "target.npy", one.evidence.moved)
        _text(stage / "show.py", _SHOW)
        _text(stage / "bisect.json", as_json(found.to_dict()) + "\n")
        _text(stage / "README.txt", "\n".join([found.to_text(), *map(escaping.line, notes)]) + "\n" + _FILES)
        names = sorted(file.name for file in stage.iterdir())
    return Bisection(
        **{**vars(found), "notes": (*found.notes, *notes), "files": tuple(str(folder / n) for n in names)}
    )


def _alone(
    model: object, location: Location, inputs: Mapping[str, Array], result: Array
) -> onnx.ModelProto | None:
    """The step as ONNX, once it has been seen to give the same result again; else None."""
    try:
        part = piece(model, location.name, inputs, location.tensor)
        if part is None:
            return None
        if framework_of(part).name != "onnx":
            export = converters.export_model(part, given=examples(inputs, {}))
            part = ir.to_proto(export.model)
        proto: onnx.ModelProto = frameworks.named("onnx").live.proto(part)
        again = next(iter(Session(proto, optimize=False).run(list(inputs.values())).values()))
    except NetferryError:
        return None
    return proto if again.size == result.size and arranged(result, again).same else None


def _save_inputs(path: Path, inputs: Mapping[str, Array]) -> None:
    with path.open("wb") as file:
        archives.write(file, inputs)


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
