"""convert with many sources, or with a catalogue of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from netferry.cli.console import leave, speaking
from netferry.cli.options import (
    conversion_options,
    demand_lowering,
    examples_of,
    files_of,
    limits_of,
    lowering_options,
)
from netferry.cli.progress import progress_bar
from netferry.cli.reports import REPORT, demand_forms, sizes_text, write_forms

_OF_ONE: Mapping[str, str] = {
    "weights": "--weights", "epoch": "--epoch", "optimizer_state": "--optimizer-state", "learning_rate": "--learning-rate", "updates": "--updates", "map_output": "--map-output",
}  # fmt: skip
"""What belongs to one model, whatever the others are."""

_OWN = frozenset(
    "models catalogue output_dir engine workers factories unsafe imports force as_json report device dry_run strict verify".split()
)
"""Flags that hold beside a catalogue, whose pairs say the rest."""

_FORMS = ("verdict", "text", "junit", "markdown")


def convert_many(given: Mapping[str, Any]) -> None:
    """What ``convert`` does with ``--output-dir`` or ``--catalogue``; ``given`` are its arguments."""
    _demand(given)
    with speaking(given["as_json"]) as say:
        from netferry.converters.disk.ledger import Overwriting
        from netferry.validation.reports.report import as_json as dumped

        replacing = Overwriting(given["force"], (*(given["models"] or ()), given["catalogue"]))
        folder = given["report"]
        wanted = {} if folder is None else {form: folder / REPORT[form] for form in _FORMS}
        demand_forms(replacing, wanted)
        with progress_bar(f"converting {given['catalogue'] or len(given['models'])}") as progress:
            found = _converted(given, progress)
        text = "\n".join([found.to_text(), *sizes_text(file for one in found.pairs for file in one.files)])
        forms = {
            "verdict": lambda: dumped(found.to_dict()) + "\n",
            "text": lambda: text + "\n",
            "junit": found.to_junit,
            "markdown": found.to_markdown,
        }
        write_forms(forms, wanted, replacing)
        say(found.to_dict(), lambda: text)
        unchecked = given["strict"] and any((one.report or {}).get("unchecked_axes") for one in found.pairs)
        leave(found.exit_code or int(bool(unchecked)))


def _demand(given: Mapping[str, Any]) -> None:
    """Refuse flags that cannot be meant so."""
    if given["catalogue"] is not None:
        others = [
            name for name, value in given.items() if name not in _OWN and value not in (None, False, [], ())
        ]
        if given["models"] or given["output_dir"] or others:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in others)
            raise typer.BadParameter(
                f"a catalogue names its own models and options{f'; it takes no {named}' if named else ''}"
            )
        if not given["verify"]:
            raise typer.BadParameter("a catalogue's conversions are checked: leave --no-verify out")
        return
    if not given["models"]:
        raise typer.BadParameter(
            "no sources are named: netferry convert a.keras b.keras --to onnx --output-dir out"
        )
    if given["to"] is None:
        raise typer.BadParameter("many sources need --to: pytorch, tensorflow, mxnet or onnx")
    for name, flag in _OF_ONE.items():
        if given[name] not in (None, False, []):
            raise typer.BadParameter(
                f"{flag} is for one model; name it in a --catalogue where there are many"
            )
    demand_lowering({**given, "report": None})  # of many, it holds what came of each
    if files_of(given["inputs"]):
        raise typer.BadParameter("--input x=FILE is for one model; give its sizes where there are many")
    if given["factories"]:
        raise typer.BadParameter("--factories is for a --catalogue; a factory that you name here is run")


def _converted(given: Mapping[str, Any], progress: Any) -> Any:
    from netferry.tasks.conversions import convert_all, convert_each

    how = {
        "engine": given["engine"] or "local", "workers": given["workers"], "imports": given["imports"] or (), "progress": progress,
    }  # fmt: skip
    if given["catalogue"] is not None:
        own = ("unsafe", "factories", "device", "force", "dry_run")
        return convert_all(Path(given["catalogue"]), **how, **{name: given[name] for name in own})
    lowered = given["precision"] is not None
    options = lowering_options(given) if lowered else conversion_options(given)
    options |= {"inputs": examples_of(given["inputs"], given["seed"]), "data": given["data"]}
    limits = limits_of(given["memory"], given["time_limit"])
    return convert_each(
        given["models"], given["to"], given["output_dir"], precision=given["precision"], limits=limits, **how, **options
    )  # fmt: skip
