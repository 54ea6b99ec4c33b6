"""A folder as the Hugging Face Hub has them: a model in ONNX, its tokenizer's files, and a card with what was proved.

Sources: huggingface.co/docs/hub/model-cards, "Model card metadata"; its ``model-index`` is that of Papers with Code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from netferry.converters import pipeline
from netferry.converters.errors import UsageError
from netferry.converters.trust import paths
from netferry.validation.reports.report import Report

MODEL = "model.onnx"
README = "README.md"

_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?"
_BASE = re.compile(rf"{_PART}(?:/{_PART})?")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_NUMERIC = re.compile(r"[\d.eE_-]*|true|false|null|yes|no|on|off|y|n", re.IGNORECASE)
"""What YAML would take for something else than a text."""

_MOST = 1 << 20
"""Bytes of a source's own card and configuration that are read: both are small."""


def head(name: str, base_model: str | None, licence: str | None, report: Report | None) -> str:
    """The card's metadata between its two lines of dashes. A value that is no plain name is JSON, which YAML reads as it stands."""
    fields: dict[str, Any] = {"library_name": "onnx", "tags": ["onnx", "netferry"]}
    if base_model is not None:
        fields["base_model"] = base_model
    if licence is not None:
        fields["license"] = licence
    if report is not None:
        fields["model-index"] = [{"name": name, "results": [_result(report)]}]
    return "\n".join(["---", *(f"{key}: {_yaml(value)}" for key, value in fields.items()), "---", ""])


def _yaml(value: Any) -> str:
    plain = isinstance(value, str) and _BASE.fullmatch(value) and not _NUMERIC.fullmatch(value)
    return value if plain else json.dumps(value)


def _result(report: Report) -> dict[str, Any]:
    """The verdict as the Hub shows results: errors against the source, on the inputs that were made or given."""
    measured = {"max_rel_error": report.max_rel, "max_abs_error": report.max_abs}
    return {
        "task": {"type": "other", "name": "Equivalence to the source"},
        "dataset": {"type": "netferry", "name": f"{len(report.samples)} sets of inputs, seed {report.seed}"},
        "metrics": [
            {"type": kind, "name": f"{kind} ({report.status})", "value": value}
            for kind, value in measured.items()
            if value is not None
        ],
    }


def origin_of(model: object, base_model: str | None, licence: str | None) -> tuple[str | None, str | None]:
    """The model that it was made from, and its licence: as they are named, else as a Hugging Face folder states them.

    Raises:
        UsageError: what was named is no name of the Hub's.
    """
    for value, form, what, example in (
        (base_model, _BASE, "base model", "org/name"),
        (licence, _LICENCE, "licence", "apache-2.0"),
    ):
        if value is not None and not form.fullmatch(value):
            raise UsageError(f"this is no {what} as the Hub names them", expected=example, received=value)
    stated = dict(_stated(model))
    return base_model or stated.get("base_model"), licence or stated.get("license")


def _stated(model: object) -> Iterator[tuple[str, str]]:
    """What the source's own folder says, as far as it is a plain name."""
    folder = pipeline.folder_of(model)
    if folder is None:
        return
    try:
        settings: Mapping[str, Any] = json.loads(_text(folder, "config.json"))
        name = settings.get("_name_or_path")
    except (ValueError, AttributeError):
        name = None
    if isinstance(name, str) and "/" in name and _BASE.fullmatch(name):
        yield "base_model", name
    card = _text(folder, README)
    front = card.split("---", 2)[1] if card.startswith("---") and card.count("---") > 1 else ""
    for key, form in (("base_model", _BASE), ("license", _LICENCE)):
        found = re.search(rf"^{key}:\s*['\"]?({form.pattern})['\"]?\s*$", front, re.MULTILINE)
        if found:
            yield key, found[1]


def _text(folder: Path, name: str) -> str:
    if not (folder / name).is_file():
        return ""
    with paths.opened_inside(folder, name, str(folder / name)) as file:
        return file.read(_MOST).decode("utf-8", "replace")
