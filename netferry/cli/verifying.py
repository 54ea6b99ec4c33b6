"""verify, bisect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app
from netferry.cli.console import code_of, leave, speaking
from netferry.cli.options import (
    AsJson,
    Atol,
    Columns,
    Device,
    Engine,
    Factories,
    Fix,
    Force,
    FreshSeed,
    Html,
    Imports,
    InputAt,
    InputFlags,
    Junit,
    MapOutput,
    Markdown,
    Memory,
    OutputAt,
    PixelFlag,
    Quick,
    RealRows,
    ReportFolder,
    Rtol,
    Samples,
    ServedAs,
    Strict,
    Task,
    TimeLimit,
    Unsafe,
    Weights,
    Workers,
    columns_of,
    examples_of,
    files_of,
    import_code,
    limits_of,
    outputs_of,
    pixels_of,
    sizes_of,
)
from netferry.cli.progress import bar, busy, progress_bar
from netferry.cli.reports import demand_forms, to_see_again, write_forms, write_report
from netferry.runtime.limits import Limits


@app.command(epilog="Example: netferry verify cnn.keras cnn.onnx --seed 3")
def verify(
    a: Annotated[
        str | None, typer.Argument(help="The source: a file, a folder, or package.module:factory.")
    ] = None,
    b: Annotated[str | None, typer.Argument(help="The target, likewise.")] = None,
    inputs: InputFlags = None,
    output: OutputAt = None,
    input_at: InputAt = None,
    fix: Fix = None,
    weights: Weights = None,
    task: Task = None,
    signature: ServedAs = None,
    data: RealRows = None,
    columns: Columns = None,
    pixels: PixelFlag = None,
    seed: FreshSeed = None,
    rtol: Rtol = None,
    atol: Atol = None,
    device: Device = "cpu",
    samples: Samples = None,
    quick: Quick = False,
    map_output: MapOutput = None,
    strict: Strict = False,
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
        Path | None, typer.Option(help="A certificate: repeat it, and report whether it still holds.")
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="A TOML file of pairs, each compared in a process of its own.")
    ] = None,
    engine: Engine = None,
    workers: Workers = None,
    factories: Factories = False,
    unsafe: Unsafe = False,
    imports: Imports = None,
    force: Force = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Run A and B on the same inputs and compare every output."""
    typed = dict(locals())
    if catalogue is not None:
        if any(one is not None for one in (a, html, report, certificate, check)):
            raise typer.BadParameter(
                "a catalogue names its own models, and has --junit, --markdown and --json alone"
            )
        how = {
            "engine": engine or "local", "workers": workers, "unsafe": unsafe, "factories": factories, "device": device, "imports": imports or (),
        }  # fmt: skip
        _verify_all(catalogue, how, {"junit": junit, "markdown": markdown}, force, as_json)
        return
    if engine is not None or workers is not None or factories:
        raise typer.BadParameter("engines, workers and --factories are for a --catalogue")
    if check is not None:
        rows = {"data": data, "columns": columns_of(columns), "pixels": pixels_of(pixels)}
        limits = limits_of(memory, time_limit)
        _check(check, (a, b), inputs, seed, weights, rows, device, unsafe, imports, limits, as_json)
        return
    if a is None or b is None:
        raise typer.BadParameter("two models are needed, A and B, or --check with a certificate")
    with speaking(as_json, limits_of(memory, time_limit), a, b, opens=locals()) as say:
        import_code(imports)
        from netferry.api import verify as do
        from netferry.conversion import CERTIFICATE
        from netferry.converters.disk.ledger import Overwriting
        from netferry.converters.disk.staging import demand

        wanted = {"html": html, "junit": junit, "markdown": markdown}
        replacing = Overwriting(force, (a, b, weights, data, *files_of(inputs)))
        demand(certificate, CERTIFICATE, replacing)
        demand_forms(replacing, wanted, report)
        with bar(f"comparing {a} and {b}") as progress:
            verdict = do(
                a, b, examples_of(inputs, seed), weights=(weights, None), seed=seed, rtol=rtol, atol=atol,
                device=device, unsafe=unsafe, certificate=certificate, force=force, gradients=grad, training_steps=train_steps,
                quick=quick, samples=samples, outputs=outputs_of(map_output, output), input_at=input_at, fix=sizes_of(fix), data=data,
                columns=columns_of(columns), pixels=pixels_of(pixels), task=task, signature=signature, progress=progress,
            )  # fmt: skip
        from netferry.tasks.extras import extras_between
        from netferry.tasks.pages import of_verdict

        def extras() -> Any:
            with busy(f"drawing {a} and {b}"):
                given = examples_of(inputs, seed)
                again = to_see_again((a, b), typed, verdict.seed)
                return extras_between(
                    (a, b), (weights, None), given, unsafe=unsafe, report=verdict, commands=again
                )

        if report is not None:
            write_report(report, verdict, extras, replacing)
        write_forms(of_verdict(verdict.to_dict(), extras), wanted, replacing)
        say(verdict.to_dict(), verdict.to_text)
        leave(code_of(verdict, strict))


def _verify_all(
    catalogue: Path, how: Mapping[str, Any], wanted: Mapping[str, Path | None], force: bool, as_json: bool
) -> None:
    with speaking(as_json) as say:
        from netferry.converters.disk.ledger import Overwriting
        from netferry.tasks.catalogue import verify_all

        replacing = Overwriting(force, (catalogue,))
        demand_forms(replacing, wanted)

        with progress_bar(f"comparing the pairs of {catalogue}") as progress:
            found = verify_all(catalogue, progress=progress, force=force, **how)
        write_forms({"junit": found.to_junit, "markdown": found.to_markdown}, wanted, replacing)
        say(found.to_dict(), found.to_text)
        leave(0 if found.passed else 1)


def _check(
    certificate: Path,
    models: tuple[str | None, str | None],
    inputs: Sequence[str] | None,
    seed: int | None,
    weights: Path | None,
    rows: Mapping[str, Any],
    device: str,
    unsafe: bool,
    imports: Sequence[str] | None,
    limits: Limits,
    as_json: bool,
) -> None:
    named = [str(certificate), *(model for model in models if model is not None)]
    opens = {
        "check": certificate,
        "a": models[0],
        "b": models[1],
        "inputs": inputs,
        "weights": weights,
        "device": device,
        "imports": imports,
        **rows,
    }
    with speaking(as_json, limits, *named, opens=opens) as say:
        import_code(imports)
        from netferry.api import check as do

        with busy(f"checking {certificate}"):
            found = do(
                certificate,
                *models,
                examples_of(inputs, seed),
                weights=(weights, None),
                unsafe=unsafe,
                **rows,
            )
        say(found.to_dict(), found.to_text)
        leave(0 if found.holds else 1)


@app.command(epilog="Example: netferry diff cnn.onnx other.onnx")
def diff(
    a: Annotated[str, typer.Argument(help="A file, a folder, or package.module:factory.")],
    b: Annotated[str, typer.Argument(help="The other one, likewise.")],
    inputs: InputFlags = None,
    weights: Weights = None,
    unsafe: Unsafe = False,
    imports: Imports = None,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """What of inputs, weights, operators and attributes differs between two models; exit code 1 where anything does."""
    with speaking(as_json, limits_of(memory, time_limit), a, b, opens=locals()) as say:
        import_code(imports)
        from netferry.tasks.diff import diff as do

        with busy(f"comparing {a} and {b}"):
            found = do(a, b, examples_of(inputs, 0), weights=(weights, None), unsafe=unsafe)
        say(found.to_dict(), found.to_text)
        leave(0 if found.same else 1)


@app.command(epilog="Example: netferry bisect cnn.keras cnn.onnx --output difference")
def bisect(
    a: Annotated[str, typer.Argument(help="The source: a file, a folder, or package.module:factory.")],
    b: Annotated[str, typer.Argument(help="The target, likewise.")],
    inputs: InputFlags = None,
    weights: Weights = None,
    data: RealRows = None,
    columns: Columns = None,
    pixels: PixelFlag = None,
    seed: FreshSeed = None,
    rtol: Rtol = None,
    atol: Atol = None,
    output: Annotated[
        Path | None, typer.Option(help="A new folder for the step alone, its inputs and both results.")
    ] = None,
    unsafe: Unsafe = False,
    imports: Imports = None,
    force: Force = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Name the first tensor inside A that differs in B, across frameworks."""
    with speaking(as_json, limits_of(memory, time_limit), a, b, opens=locals()) as say:
        import_code(imports)
        from netferry.api import bisect as do

        with busy(f"looking for the first difference of {a} and {b}"):
            found = do(
                a, b, examples_of(inputs, seed), weights=(weights, None), seed=seed, rtol=rtol, atol=atol,
                output=output, unsafe=unsafe, force=force, data=data, columns=columns_of(columns), pixels=pixels_of(pixels),
            )  # fmt: skip
        say(found.to_dict(), found.to_text)
        leave(code_of(found.report))
