"""run, bench, package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app
from netferry.cli.console import code_of, leave, speaking
from netferry.cli.options import (
    AsJson,
    Columns,
    Device,
    Force,
    Html,
    Imports,
    InputFlags,
    Memory,
    PixelFlag,
    Seed,
    Source,
    TimeLimit,
    Unsafe,
    Weights,
    columns_of,
    examples_of,
    files_of,
    import_code,
    limits_of,
    pixels_of,
)
from netferry.cli.progress import busy, progress_bar
from netferry.cli.reports import demand_forms, sizes_text, write_text
from netferry.converters import escaping

BATCH = 1024


@app.command(
    epilog="Example: netferry run cnn.onnx --input image=image.npy --output out.npz, "
    "or netferry run mlp.onnx --data rows.parquet --output out.parquet"
)
def run(
    model: Source,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=FILE",
            help="name=array.npy, or one .npz that holds all inputs by name; with --data a shape, as in convert.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Rows: .parquet, .arrow, .csv, .npz, .npy, or a folder of images or .npy files."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="An .npz; with --data also .parquet, .arrow or .csv.")
    ] = None,
    columns: Columns = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Columns of the data to write beside the results; file, for a folder."
        ),
    ] = None,
    pixels: PixelFlag = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows that are run at once.")] = BATCH,
    on_error: Annotated[
        str, typer.Option(help="A row that cannot be given to the model: fail, or skip it and report it.")
    ] = "fail",
    engine: Annotated[
        str, typer.Option(help="local, or ray: a pool of workers, here or on a cluster.")
    ] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="How many workers an engine has.")] = None,
    weights: Weights = None,
    device: Device = "cpu",
    unsafe: Unsafe = False,
    imports: Imports = None,
    force: Force = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Run a model of any kind, once or over a data set."""
    with speaking(as_json, limits_of(memory, time_limit), model, opens=locals()) as say:
        import_code(imports)
        from netferry.converters.disk.ledger import Overwriting
        from netferry.converters.errors import UsageError

        if data is None:
            if not inputs:
                raise UsageError("nothing to run it on", remedy="Use --input x=x.npy, or --data rows.parquet")
            of_rows = {
                "--columns": columns, "--keep": keep, "--pixels": pixels, "--batch": batch != BATCH,
                "--on-error": on_error != "fail", "--engine": engine != "local", "--workers": workers,
            }  # fmt: skip
            for flag in (flag for flag, given in of_rows.items() if given):
                raise UsageError(f"{flag} is for rows of data", remedy=f"Use --data, or leave {flag} out")
            replacing = Overwriting(force, (model, weights, *files_of(inputs)))
            _run_once(say, model, inputs, output, weights, device, unsafe, replacing)
            return
        if output is None:
            raise UsageError("nowhere to write to", remedy="Use --output out.parquet")
        from netferry.tasks.stream import stream

        with progress_bar(f"running {model} over {data}") as progress:
            outcome = stream(
                model, data, output, batch=batch, columns=columns_of(columns), on_error=on_error, engine=engine,
                keep=keep.split(",") if keep else (), pixels=pixels_of(pixels), workers=workers,
                inputs=examples_of(inputs, 0), weights=weights, device=device, unsafe=unsafe, force=force, progress=progress,
            )  # fmt: skip
        say(outcome.to_dict(), lambda: _outcome_text(outcome))


def _run_once(
    say: Any,
    model: str,
    inputs: list[str],
    output: Path | None,
    weights: Path | None,
    device: str,
    unsafe: bool,
    replacing: Any,
) -> None:
    from netferry.api import run as do
    from netferry.cli.arrays import demand_output, load_inputs, save_outputs, summary

    demand_output(output, replacing)
    arrays: Any = load_inputs(inputs)
    if not any(
        "=" in flag or flag.endswith(".npz") for flag in inputs
    ):  # bare arrays have no names of their own
        arrays = list(arrays.values())
    with busy(f"running {model}"):
        results = do(model, arrays, weights=weights, device=device, unsafe=unsafe)
    if output is not None:
        save_outputs(output, results, replacing)
    described = summary(results, output)
    say(
        described,
        lambda: "\n".join(
            escaping.line(f"{o['name']}: {o['dtype']}{o['shape']}") for o in described["outputs"]
        ),
    )


def _outcome_text(outcome: Any) -> str:
    lines = [
        f"{outcome.written:,} of {outcome.rows:,} rows -> {outcome.output} in {outcome.seconds:.1f} s "
        f"({outcome.engine}, {outcome.device or 'cpu'})"
    ]
    if outcome.resumed:
        lines.append(f"  {outcome.resumed:,} of them were there from an earlier run")
    lines += [f"  row {row} left out: {reason}" for row, reason in list(outcome.bad.items())[:20]]
    if len(outcome.bad) > 20:
        lines.append(f"  and {len(outcome.bad) - 20:,} more; --json lists them all")
    return "\n".join(map(escaping.line, lines))


@app.command(epilog="Example: netferry bench cnn.keras cnn.onnx --batch 1 --batch 32")
def bench(
    models: Annotated[
        list[str], typer.Argument(help="Files, folders or factories, side by side.", metavar="MODEL...")
    ],
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="A batch size; 1, 8 and 32 by default.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Threads of onnxruntime, each tried.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each model at each size.")] = 50,
    inputs: InputFlags = None,
    weights: Weights = None,
    device: Device = "cpu",
    html: Html = None,
    unsafe: Unsafe = False,
    imports: Imports = None,
    force: Force = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Time models side by side, in turns."""
    with speaking(as_json, limits_of(memory, time_limit), *models, opens=locals()) as say:
        import_code(imports)
        from netferry.converters.disk.ledger import Overwriting
        from netferry.tasks.bench import bench as do

        replacing = Overwriting(force, (*models, weights, *files_of(inputs)))
        demand_forms(replacing, {"html": html})
        with busy("timing " + ", ".join(models)):
            found = do(
                models, examples_of(inputs, 0), batches=batch or (1, 8, 32), threads=threads or (), runs=runs,
                weights=weights, device=device, unsafe=unsafe,
            )  # fmt: skip
        if html is not None:
            from netferry.validation.reports.page import bench_page

            write_text(html, bench_page(found.to_dict()), "html", replacing)
        say(found.to_dict(), found.to_text)


@app.command(
    epilog="Example: netferry package cnn.keras --name cnn --triton models --kserve samples --card README.md, or "
    "netferry package cnn.keras --hub hub --licence apache-2.0"
)
def package(
    model: Source,
    name: Annotated[str | None, typer.Option(help="The served model's name; left out, that of SRC.")] = None,
    triton: Annotated[Path | None, typer.Option(metavar="DIR", help="A Triton model repository.")] = None,
    kserve: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A sample request (Open Inference Protocol) and its answer."),
    ] = None,
    card: Annotated[Path | None, typer.Option(metavar="FILE", help="A model card with the verdict.")] = None,
    hub: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder for the Hugging Face Hub: model, tokenizer, card."),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="For the card of --hub: what it was made from.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", metavar="NAME", help="For the card of --hub.")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Rows that Triton may batch.")] = 32,
    inputs: InputFlags = None,
    weights: Weights = None,
    verify: Annotated[bool, typer.Option(help="Run source and result on the same inputs.")] = True,
    seed: Seed = 0,
    unsafe: Unsafe = False,
    imports: Imports = None,
    force: Force = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Pack a model for the engines that serve it."""
    with speaking(as_json, limits_of(memory, time_limit), model, opens=locals()) as say:
        import_code(imports)
        from netferry.tasks.package import package as do

        with busy(f"packing {model}"):
            done = do(
                model, name=name or _plain_name(model), triton=triton, kserve=kserve, card=card, hub=hub, base_model=base_model, licence=licence,
                max_batch=max_batch, inputs=examples_of(inputs, seed), weights=weights, verify=verify, seed=seed,
                unsafe=unsafe, force=force,
            )  # fmt: skip
        verdict = [] if done.report is None else [done.report.to_text()]
        batching = [] if done.unbatched is None else [f"Triton will not batch requests: {done.unbatched}"]
        notes = [f"note: {note}" for note in done.notes]
        written = [escaping.line(line) for line in (*sizes_text(done.files), *batching, *notes)]
        say(done.to_dict(), lambda: "\n".join([*written, *verdict]))
        leave(code_of(done.report))


def _plain_name(model: str) -> str:
    """A name that engines take, from a path or a factory."""
    stem = model.rpartition(":")[2] if ":" in model else Path(model).name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "model"
