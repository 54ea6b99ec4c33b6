"""A model packed for the engines that serve it: what ``netferry package`` does, from Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netferry.api import convert
from netferry.arguments import Inputs, PathLike
from netferry.converters import escaping, pipeline
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.disk.staging import demand, staged
from netferry.converters.errors import UsageError
from netferry.converters.graph.ir.names import identifier
from netferry.converters.signature import Example, Signature
from netferry.inference.rows import mixed, rowless, rows_are_free
from netferry.inference.serving import DOCUMENTS, requests, triton_config
from netferry.inference.session import Session
from netferry.tasks.hub import MODEL, README, head, origin_of
from netferry.validation.comparison.metrics import FAILED
from netferry.validation.reports import markdown
from netferry.validation.reports.report import Report
from netferry.validation.samples.explore import made_for
from netferry.validation.samples.inputs import Sample

REPOSITORY, REQUEST, CARD, HUB = "model repository", "request", "model card", "Hub folder"
"""What is written here, as the ledger has it."""


@dataclass(frozen=True)
class Package:
    """What was written, and the verdict on the model in it (None where none was asked for)."""

    name: str
    files: tuple[Path, ...]
    report: Report | None
    unbatched: str | None = None
    """Why Triton is configured not to batch requests, where their sizes would let it."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "files": [str(file) for file in self.files],
            "unbatched": self.unbatched,
            "notes": list(self.notes),
            "report": None if self.report is None else self.report.to_dict(),
        }


def package(
    model: object,
    *,
    name: str,
    triton: PathLike | None = None,
    kserve: PathLike | None = None,
    card: PathLike | None = None,
    hub: PathLike | None = None,
    base_model: str | None = None,
    licence: str | None = None,
    max_batch: int = 32,
    inputs: Inputs | None = None,
    weights: PathLike | None = None,
    verify: bool = True,
    seed: int = 0,
    unsafe: bool = False,
    force: bool = False,
) -> Package:
    """Convert ``model`` to ONNX, check it, and write what serves it under ``name``.

    ``triton``: the folder of a model repository, which gets ``name/config.pbtxt`` and ``name/1/model.onnx``.
    ``kserve``: a folder for a sample request of the Open Inference Protocol, the answer that is due and the model's
    metadata. ``card``: a Markdown file, a model card with the table of the verdict. ``hub``: a folder as the
    Hugging Face Hub has them: ``model.onnx``, the source's tokenizer and processors, and a card that names the ``base_model`` and the
    ``licence`` (a Hugging Face folder's own where they are left out) and holds the verdict as its ``model-index``. Nothing is written where the
    model in ONNX differs from its source, and nothing is replaced that an earlier ``package`` has not written, except
    with ``force``.
    """
    if triton is kserve is card is hub is None:
        raise UsageError(
            "nothing is asked for", remedy="Use --triton DIR, --kserve DIR, --card FILE or --hub DIR"
        )
    if hub is None and (base_model or licence):
        raise UsageError("--base-model and --licence stand on the card of --hub", remedy="Use --hub DIR")
    base_model, licence = origin_of(model, base_model, licence)
    replacing = Overwriting(force, (model, weights))
    if triton is not None:
        demand(Path(triton) / name, REPOSITORY, replacing)
    for document in DOCUMENTS if kserve is not None else ():
        demand(Path(kserve or "") / document, REQUEST, replacing)
    demand(card, CARD, replacing)
    demand(hub, HUB, replacing)
    done = convert(model, "onnx", inputs=inputs, weights=weights, verify=verify, seed=seed, unsafe=unsafe)
    if done.report is not None and done.report.status == FAILED:
        return Package(name, (), done.report)
    session = Session(done.model)
    files: list[Path] = []
    unbatched = None
    if triton is not None:
        unbatched = _mixed(session, seed) if max_batch > 0 and rows_are_free(session.signature) else None
        config = triton_config(session.signature, name, 0 if unbatched else max_batch)
        files += _repository(Path(triton), name, done, config, replacing)
    if kserve is not None:
        documents = requests(session.signature, *_sample(session, inputs, seed), name)
        files += _documents(Path(kserve), documents, replacing)
    if card is not None:
        text = head(name, None, None, None) + _card(name, done.report, session.signature)
        files += _text(Path(card), text, CARD, replacing)
    notes: tuple[str, ...] = ()
    if hub is not None:
        top = head(name, base_model, licence, done.report)
        files += _hub(Path(hub), done, model, top + _card(name, done.report, session.signature), replacing)
        notes = () if licence else ("the card names no licence: --licence apache-2.0, say",)
    return Package(name, tuple(files), done.report, unbatched, notes)


def _mixed(session: Session, seed: int) -> str | None:
    """Why rows of several requests must not go into one batch: some output has not a row of its own for each."""
    for sample in _made(session, seed):
        sizes = {len(array) for array in sample.arrays.values()}
        if len(sizes) == 1 and (rows := sizes.pop()) > 1:
            outputs = session.run(sample.arrays)
            name = rowless(outputs, rows) or mixed(session.run, sample.arrays, outputs)
            return f"a row's output '{name}' depends on the rows beside it" if name else None
    return None


def _made(session: Session, seed: int) -> list[Sample]:
    return made_for(session, [], None, seed).samples


def _repository(folder: Path, name: str, done: Any, config: str, replacing: Overwriting) -> list[Path]:
    from netferry import converters

    folder.mkdir(parents=True, exist_ok=True)
    with staged(folder / name, REPOSITORY, replacing) as stage:
        (stage / "1").mkdir(parents=True)
        converters.write(done.export, stage / "1" / "model.onnx")
        (stage / "config.pbtxt").write_text(config, encoding="utf-8")
    return sorted(file for file in (folder / name).rglob("*") if file.is_file())


def _hub(folder: Path, done: Any, model: object, card: str, replacing: Overwriting) -> list[Path]:
    from netferry import converters

    folder.parent.mkdir(parents=True, exist_ok=True)
    with staged(folder, HUB, replacing) as stage:
        stage.mkdir(parents=True)
        converters.write(done.export, stage / MODEL)
        pipeline.copy_beside(model, folder, stage)
        (stage / README).write_text(card, encoding="utf-8")
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _documents(folder: Path, documents: Mapping[str, Any], replacing: Overwriting) -> list[Path]:
    return [
        file
        for name, document in documents.items()
        for file in _text(folder / name, json.dumps(document, indent=2) + "\n", REQUEST, replacing)
    ]


def _text(path: Path, text: str, kind: str, replacing: Overwriting) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with staged(path, kind, replacing) as stage:
        stage.write_text(text, encoding="utf-8")
    return [path]


def _sample(session: Session, inputs: Inputs | None, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs given, else the first made ones that give only numbers JSON can say; and what the model gives."""
    given = tuple(item for item in inputs or () if isinstance(item, Example))
    made = ({one.name: one.array for one in given},) if given else None
    for arrays in made or (dict(sample.arrays) for sample in _made(session, seed)):
        outputs = session.run(arrays)
        if all(np.isfinite(one).all() for one in outputs.values()):
            break
    return arrays, outputs


def _card(name: str, report: Report | None, signature: Signature) -> str:
    """What stands below the head of a model card."""
    rows = [
        f"| {kind} | {escaping.code(spec.name)} | {spec.dtype} | {escaping.markdown(str(spec.dims))} |"
        for kind, specs in (("input", signature.inputs), ("output", signature.outputs))
        for spec in specs
    ]
    feed = ", ".join(f"{spec.name!r}: {identifier(spec.name)}_array" for spec in signature.inputs)
    return "\n".join(
        [
            "",
            f"# {escaping.markdown(name)}",
            "",
            "| | name | dtype | sizes |",
            "|---|---|---|---|",
            *rows,
            "",
            "```python",
            "import onnxruntime",
            "",
            'session = onnxruntime.InferenceSession("model.onnx")',
            f"outputs = session.run(None, {{{feed}}})",
            "```",
            "",
            markdown.of_report(report.to_dict()) if report is not None else "The model was not verified.\n",
        ]
    )
