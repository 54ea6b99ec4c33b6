"""zoo list, zoo train, zoo matrix; demo; doctor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from netferry.cli.app import app, zoo_app
from netferry.cli.console import leave, speaking
from netferry.cli.options import AsJson, DataDir, Device, Engine, Force, Html, Junit, Markdown, Workers
from netferry.cli.progress import progress_bar
from netferry.cli.reports import demand_forms, open_on_desktop, write_forms


@app.command(epilog="Example: netferry doctor --json")
def doctor(as_json: AsJson = False) -> None:
    """What is installed, what is missing, what mends it."""
    with speaking(as_json) as say:
        from netferry.tasks.doctor import PROBLEM, examine, to_dict

        findings = examine()

        def text() -> str:
            width = max(len(one.subject) for one in findings) + 2
            return "\n".join(
                f"{one.subject:<{width}}{one.state:<9}{one.detail}"
                + (f"\n{'':<{width + 9}}-> {one.remedy}" if one.remedy else "")
                for one in findings
            )

        say(to_dict(findings), text)
        leave(4 if any(one.state == PROBLEM for one in findings) else 0)


@app.command(epilog="Example: netferry demo --output tour")
def demo(
    output: Annotated[Path, typer.Option(help="Where models and results go.")] = Path("netferry-demo"),
    data: DataDir = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """The tour: train, convert and verify the zoo; a report that opens in the browser where there is a desktop."""
    _matrix(None, None, output, data, as_json, {"html": output / "report.html"}, show=True, force=force)


@zoo_app.command("list", epilog="Example: netferry zoo list")
def zoo_list(as_json: AsJson = False) -> None:
    """The reference models."""
    with speaking(as_json) as say:
        from dataclasses import asdict

        from netferry.zoo.catalog import CATALOG

        specs = list(CATALOG.values())
        say(
            {"models": [asdict(spec) for spec in specs]},
            lambda: "\n".join(f"{spec.name:<18}{spec.title}\n{'':<18}{spec.formula}" for spec in specs),
        )


@zoo_app.command("train", epilog="Example: netferry zoo train lstm --framework mxnet --output models")
def zoo_train(
    model: Annotated[str, typer.Argument(help="A name from netferry zoo list.")],
    framework: Annotated[str, typer.Option(help="pytorch, tensorflow or mxnet.")] = "pytorch",
    output: Annotated[Path, typer.Option(help="Where the trained model goes.")] = Path("netferry-zoo"),
    data: DataDir = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train one reference model and save it in the framework's own format."""
    with speaking(as_json) as say:
        from netferry.zoo.catalog import named
        from netferry.zoo.train import train

        spec = named(model)
        with progress_bar(f"{model} in {framework}") as progress:
            trained = train(spec, framework, output, data, progress, force=force)
        say(
            {
                "model": model, "framework": framework, "metrics": dict(trained.metrics),
                "history": list(trained.history), "seconds": trained.seconds,
                "files": [str(file) for file in trained.files], "sha256": trained.checksum,
            },
            lambda: f"{model} in {framework}: {spec.metric} {trained.metric:.4f} after {trained.seconds:.1f} s\n"
            + "\n".join(f"  {file}" for file in trained.files),
        )  # fmt: skip


@zoo_app.command("matrix", epilog="Example: netferry zoo matrix --model lstm --model cnn --json")
def zoo_matrix(
    model: Annotated[list[str] | None, typer.Option(help="Only these models.")] = None,
    framework: Annotated[list[str] | None, typer.Option(help="Only from these frameworks.")] = None,
    to: Annotated[list[str] | None, typer.Option(help="Only to these frameworks.")] = None,
    output: Annotated[Path, typer.Option(help="Where models and results go.")] = Path("netferry-zoo"),
    data: DataDir = None,
    device: Device = "cpu",
    engine: Engine = None,
    workers: Workers = None,
    html: Html = None,
    junit: Junit = None,
    markdown: Markdown = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train, convert and verify every reference model from every framework."""
    if workers is not None and engine is None:
        raise typer.BadParameter("only an engine has workers: use --engine local, or ray")
    wanted = {"html": html, "junit": junit, "markdown": markdown}
    _matrix(
        model,
        framework,
        output,
        data,
        as_json,
        wanted,
        to=to,
        device=device,
        fan=(engine, workers),
        force=force,
    )


def _matrix(
    models: list[str] | None,
    frameworks: list[str] | None,
    output: Path,
    data: Path | None,
    as_json: bool,
    wanted: Mapping[str, Path | None],
    show: bool = False,
    to: list[str] | None = None,
    device: str = "cpu",
    fan: tuple[str | None, int | None] = (None, None),
    force: bool = False,
) -> None:
    with speaking(as_json) as say:
        from netferry.converters.disk.ledger import Overwriting
        from netferry.tasks.matrix import SOURCES, TARGETS, Fan, matrix
        from netferry.tasks.pages import of_matrix
        from netferry.validation.reports.report import as_json as dumped

        replacing = Overwriting(force, (data,))
        tables = {"matrix": output / "matrix.json", "text": output / "matrix.txt"}
        demand_forms(replacing, {**tables, **wanted})
        with progress_bar("training and converting the zoo") as progress:
            engine, workers = fan
            result = matrix(
                models, frameworks or SOURCES, directory=output, data_dir=data, targets=to or tuple(TARGETS),
                device=device, progress=progress, fan=None if engine is None else Fan(engine, workers), force=force,
            )  # fmt: skip
        forms = {
            **of_matrix(result),
            "matrix": lambda: dumped(result.to_dict()) + "\n",
            "text": lambda: result.to_text() + "\n",
        }
        write_forms(forms, {**tables, **wanted}, replacing)
        passed = sum(cell.status == "passed" for cell in result.cells)
        faults = [
            f"{c.model} from {c.source} to {c.target}: {c.reason}"
            for c in result.cells
            if c.status != "passed"
        ]
        closing = [
            f"{passed} of {len(result.cells)} cells passed; written to {output / 'matrix.txt'} and .json",
            *(f"report: {path.resolve()}" for path in wanted.values() if path is not None),
        ]
        say(result.to_dict(), lambda: "\n".join([result.to_text(), *faults, *closing]))
        if show and not as_json and (page := wanted.get("html")) is not None:
            open_on_desktop(page)
        leave(0 if result.passed else 1)
