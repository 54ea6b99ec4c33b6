"""verify, bisect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app
from netferry.cli.options import (
    AsJson,
    Device,
    Engine,
    Html,
    InputFlags,
    Junit,
    Markdown,
    Memory,
    ReportFolder,
    Seed,
    TimeLimit,
    Unsafe,
    Weights,
    Workers,
    examples_of,
    limits_of,
)
from netferry.cli.progress import bar, busy, progress_bar
from netferry.cli.reports import write_forms, write_report
from netferry.cli.speaking import EXIT_CODES, leave, speaking
from netferry.guard import Limits


@app.command(epilog="Example: netferry verify cnn.keras cnn.onnx --seed 3")
def verify(
    a: Annotated[
        str | None, typer.Argument(help="The source: a file, a folder, or package.module:factory.")
    ] = None,
    b: Annotated[str | None, typer.Argument(help="The target, likewise.")] = None,
    inputs: InputFlags = None,
    weights: Weights = None,
    seed: Seed = 0,
    rtol: Annotated[float | None, typer.Option(help="With --atol, in place of netferry's own limit.")] = None,
    atol: Annotated[float | None, typer.Option(help="With --rtol; both directions must hold.")] = None,
    device: Device = "cpu",
    samples: Annotated[int | None, typer.Option(min=1, help="The most inputs that are tried.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few inputs, for a first look.")] = False,
    grad: Annotated[
        bool, typer.Option("--grad", help="Compare the gradients of every weight and input, too.")
    ] = False,
    train_steps: Annotated[
        int, typer.Option(min=0, help="Then so many steps of SGD and of Adam on both sides.", metavar="K")
    ] = 0,
    report: ReportFolder = None,
    html: Html = None,
    junit: Junit = None,
    markdown: Markdown = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Write what was compared, on which inputs, and the verdict, as JSON.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="A certificate: repeat it, and say whether it still holds.")
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="A TOML file of pairs, each compared in a process of its own.")
    ] = None,
    engine: Engine = None,
    workers: Workers = None,
    unsafe: Unsafe = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Run A and B on the same inputs and compare every output."""
    if catalogue is not None:
        if (
            a is not None
            or html is not None
            or report is not None
            or certificate is not None
            or check is not None
        ):
            raise typer.BadParameter(
                "a catalogue names its own models, and has --junit, --markdown and --json alone"
            )
        _verify_all(catalogue, engine, workers, {"junit": junit, "markdown": markdown}, as_json)
        return
    if engine is not None or workers is not None:
        raise typer.BadParameter("engines and workers are for a --catalogue")
    if check is not None:
        _check(check, (a, b), inputs, seed, weights, unsafe, limits_of(memory, time_limit), as_json)
        return
    if a is None or b is None:
        raise typer.BadParameter("two models are needed, A and B, or --check with a certificate")
    with speaking(as_json, limits_of(memory, time_limit), a, b) as say:
        from netferry.api import verify as do

        with bar(f"comparing {a} and {b}") as progress:
            verdict = do(
                a, b, examples_of(inputs, seed), weights=(weights, None), seed=seed, rtol=rtol, atol=atol,
                device=device, unsafe=unsafe, certificate=certificate, gradients=grad, training_steps=train_steps,
                quick=quick, samples=samples, progress=progress,
            )  # fmt: skip
        from netferry.pages import extras_between, of_verdict

        def extras() -> Any:
            with busy(f"drawing {a} and {b}"):
                given = examples_of(inputs, seed)
                return extras_between((a, b), (weights, None), given, unsafe=unsafe, report=verdict)

        if report is not None:
            write_report(report, verdict, extras)
        forms = of_verdict(verdict.to_dict(), extras)
        write_forms(forms, {"html": html, "junit": junit, "markdown": markdown})
        say(verdict.to_dict(), verdict.to_text)
        leave(EXIT_CODES[verdict.status])


def _verify_all(
    catalogue: Path,
    engine: str | None,
    workers: int | None,
    wanted: Mapping[str, Path | None],
    as_json: bool,
) -> None:
    with speaking(as_json) as say:
        from netferry.catalogue import verify_all

        with progress_bar(f"comparing the pairs of {catalogue}") as progress:
            found = verify_all(catalogue, engine=engine or "local", workers=workers, progress=progress)
        write_forms({"junit": found.to_junit, "markdown": found.to_markdown}, wanted)
        say(found.to_dict(), found.to_text)
        leave(0 if found.passed else 1)


def _check(
    certificate: Path,
    models: tuple[str | None, str | None],
    inputs: Sequence[str] | None,
    seed: int,
    weights: Path | None,
    unsafe: bool,
    limits: Limits,
    as_json: bool,
) -> None:
    named = [str(certificate), *(model for model in models if model is not None)]
    with speaking(as_json, limits, *named) as say:
        from netferry.api import check as do

        with busy(f"checking {certificate}"):
            found = do(
                certificate, *models, examples_of(inputs, seed), weights=(weights, None), unsafe=unsafe
            )
        say(found.to_dict(), found.to_text)
        leave(0 if found.holds else 1)


@app.command(epilog="Example: netferry bisect cnn.keras cnn.onnx --output difference")
def bisect(
    a: Annotated[str, typer.Argument(help="The source: a file, a folder, or package.module:factory.")],
    b: Annotated[str, typer.Argument(help="The target, likewise.")],
    inputs: InputFlags = None,
    weights: Weights = None,
    seed: Seed = 0,
    rtol: Annotated[float | None, typer.Option(help="With --atol, in place of netferry's own limit.")] = None,
    atol: Annotated[float | None, typer.Option(help="With --rtol; both directions must hold.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="A new folder for the step alone, its inputs and both results.")
    ] = None,
    unsafe: Unsafe = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Name the first tensor inside A that differs in B, across frameworks."""
    with speaking(as_json, limits_of(memory, time_limit), a, b) as say:
        from netferry.api import bisect as do

        with busy(f"looking for the first difference of {a} and {b}"):
            found = do(
                a, b, examples_of(inputs, seed), weights=(weights, None), seed=seed, rtol=rtol, atol=atol,
                output=output, unsafe=unsafe,
            )  # fmt: skip
        say(found.to_dict(), found.to_text)
        leave(EXIT_CODES[found.status])
