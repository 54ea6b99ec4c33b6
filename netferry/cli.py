"""What a person types. Each command calls one function of the library; only this file prints or exits."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from netferry import guard
from netferry.guard import GIB, Limits

app = typer.Typer(
    name="netferry",
    help="Carry a trained model from one framework to another, and prove that it arrived.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
zoo_app = typer.Typer(help="The reference models, trained natively in each framework.", no_args_is_help=True)
app.add_typer(zoo_app, name="zoo")

INTERRUPTED = 130
EXIT_CODES = {"passed": 0, "failed": 1, "not_checked": 1}

Source = Annotated[str, typer.Argument(help="A file, a folder, or package.module:factory.", metavar="SRC")]
InputFlags = Annotated[
    list[str] | None,
    typer.Option(
        "--input", help="An input: name:sizes:dtype, e.g. x:1,3,224,224:f32 or x:batch,3,h=224,w=224."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Weights for a factory (.safetensors, a state dict) or an MXNet symbol (.params)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Seed = Annotated[int, typer.Option(help="Seed of the inputs that are made.")]
Device = Annotated[str, typer.Option(help="Where onnxruntime runs: cpu, cuda or auto.")]
Html = Annotated[Path | None, typer.Option("--html", help="The report as one HTML page.")]
Junit = Annotated[Path | None, typer.Option("--junit", help="The results as JUnit XML, for CI.")]
Markdown = Annotated[Path | None, typer.Option("--markdown", help="The results as Markdown, for a summary.")]
ReportFolder = Annotated[
    Path | None, typer.Option("--report", help="A folder for the verdict: text, JSON, HTML, JUnit, Markdown.")
]
Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe", help="Let through what may act outside the model (code, file access), and name it."
    ),
]
Memory = Annotated[
    float | None, typer.Option(help="GiB of memory that opening and running the file may take.")
]
TimeLimit = Annotated[float | None, typer.Option(help="Seconds that it may take.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="INPUT=A,B", help="The columns of the data that an input is made of."),
]
PixelFlag = Annotated[
    str | None, typer.Option(help="How images are read: size=224x224,scale=1/255,mean=0.5,std=0.5.")
]
RowsToJudge = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Rows to judge another precision on: .parquet, .arrow, .csv, .npz, .npy, a folder."
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(help="Processes of their own: local, or ray for a cluster; what is done is kept."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="How many of them work at once.")]
DataDir = Annotated[
    Path | None, typer.Option("--data", help="A folder with MNIST's IDX files, for the digits.")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Say the version.", is_eager=True)] = False,
) -> None:
    if version:
        from netferry import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.command(
    epilog="Example: netferry convert cnn.keras cnn.pt2, or netferry convert cnn.onnx cnn --to pytorch"
)
def convert(
    source: Source,
    destination: Annotated[
        Path,
        typer.Argument(
            help="What to write: NAME.onnx, .pt2, .keras, NAME-symbol.json, or a folder with --to.",
            metavar="DST",
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(help="pytorch, tensorflow, mxnet or onnx; left out, the end of DST's name says it."),
    ] = None,
    inputs: InputFlags = None,
    weights: Weights = None,
    opset: Annotated[int | None, typer.Option(help="Opset of the written model.")] = None,
    fuse: Annotated[
        bool, typer.Option("--fuse", help="For ONNX: fold BatchNormalization into the convolution before it.")
    ] = False,
    write_source: Annotated[
        bool, typer.Option("--source", help="Write the model as readable Python beside DST, too.")
    ] = False,
    verify: Annotated[bool, typer.Option(help="Run source and result on the same inputs.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Keep a result that differs from its source.")] = False,
    report: ReportFolder = None,
    precision: Annotated[
        str | None,
        typer.Option(help="For ONNX: float16, bfloat16, int8-dynamic or int8-static, judged on --data."),
    ] = None,
    data: RowsToJudge = None,
    columns: Columns = None,
    pixels: PixelFlag = None,
    even_if_slower: Annotated[
        bool, typer.Option("--even-if-slower", help="Write another precision even where it is slower here.")
    ] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    unsafe: Unsafe = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Carry SRC to DST and check that it arrived."""
    with _speaking(as_json, _limits(memory, time_limit), source, beside=destination) as say:
        if precision is not None:
            from netferry.lowering import lower

            with _busy(f"carrying {source}"):
                lowered = lower(
                    source, destination, precision, data=data, columns=_columns(columns), pixels=_pixels(pixels),
                    even_if_slower=even_if_slower, inputs=_examples(inputs, seed), weights=weights, opset=opset,
                    verify=verify, seed=seed, device=device, unsafe=unsafe,
                )  # fmt: skip
            say(lowered.to_dict(), lowered.to_text)
            _leave(EXIT_CODES[lowered.status])
            return
        from netferry.api import convert as do

        with _busy(f"carrying {source}"):
            done = do(
                source, to, destination=destination, inputs=_examples(inputs, seed), weights=weights,
                opset=opset, fuse=fuse, write_source=write_source, verify=verify, keep=keep, seed=seed,
                device=device, unsafe=unsafe,
            )  # fmt: skip
        if report is not None and done.report is not None:
            from netferry.pages import extras_of

            _write_report(report, done.report, lambda: extras_of(done))
        say(done.to_dict(), lambda: _conversion_text(done, destination))
        _leave(0 if done.report is None else EXIT_CODES[done.report.status])


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
        _check(check, (a, b), inputs, seed, weights, unsafe, _limits(memory, time_limit), as_json)
        return
    if a is None or b is None:
        raise typer.BadParameter("two models are needed, A and B, or --check with a certificate")
    with _speaking(as_json, _limits(memory, time_limit), a, b) as say:
        from netferry.api import verify as do

        with _bar(f"comparing {a} and {b}") as progress:
            verdict = do(
                a, b, _examples(inputs, seed), weights=(weights, None), seed=seed, rtol=rtol, atol=atol,
                device=device, unsafe=unsafe, certificate=certificate, gradients=grad, training_steps=train_steps,
                quick=quick, samples=samples, progress=progress,
            )  # fmt: skip
        from netferry.pages import extras_between, of_verdict

        def extras() -> Any:
            with _busy(f"drawing {a} and {b}"):
                return extras_between((a, b), (weights, None), _examples(inputs, seed), unsafe=unsafe)

        if report is not None:
            _write_report(report, verdict, extras)
        forms = of_verdict(verdict.to_dict(), extras)
        _write_forms(forms, {"html": html, "junit": junit, "markdown": markdown})
        say(verdict.to_dict(), verdict.to_text)
        _leave(EXIT_CODES[verdict.status])


def _verify_all(
    catalogue: Path,
    engine: str | None,
    workers: int | None,
    wanted: Mapping[str, Path | None],
    as_json: bool,
) -> None:
    with _speaking(as_json) as say:
        from netferry.catalogue import verify_all

        with _progress(f"comparing the pairs of {catalogue}") as progress:
            found = verify_all(catalogue, engine=engine or "local", workers=workers, progress=progress)
        _write_forms({"junit": found.to_junit, "markdown": found.to_markdown}, wanted)
        say(found.to_dict(), found.to_text)
        _leave(0 if found.passed else 1)


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
    with _speaking(as_json, limits, *named) as say:
        from netferry.api import check as do

        with _busy(f"checking {certificate}"):
            found = do(certificate, *models, _examples(inputs, seed), weights=(weights, None), unsafe=unsafe)
        say(found.to_dict(), found.to_text)
        _leave(0 if found.holds else 1)


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
    with _speaking(as_json, _limits(memory, time_limit), a, b) as say:
        from netferry.api import bisect as do

        with _busy(f"looking for the first difference of {a} and {b}"):
            found = do(
                a, b, _examples(inputs, seed), weights=(weights, None), seed=seed, rtol=rtol, atol=atol,
                output=output, unsafe=unsafe,
            )  # fmt: skip
        say(found.to_dict(), found.to_text)
        _leave(EXIT_CODES[found.status])


@app.command(
    epilog="Example: netferry run cnn.onnx --input x=image.npy --output out.npz, "
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
    pixels: PixelFlag = None,
    batch: Annotated[int, typer.Option(help="Rows that are run at once.")] = 1024,
    on_error: Annotated[
        str, typer.Option(help="A row that cannot be given to the model: fail, or skip it and report it.")
    ] = "fail",
    engine: Annotated[
        str, typer.Option(help="local, or ray: a pool of workers, here or on a cluster.")
    ] = "local",
    workers: Annotated[int | None, typer.Option(help="How many workers an engine has.")] = None,
    weights: Weights = None,
    device: Device = "cpu",
    unsafe: Unsafe = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Run a model of any kind, once or over a data set."""
    with _speaking(as_json, _limits(memory, time_limit), model) as say:
        from netferry.converters.errors import UsageError

        if data is None:
            if not inputs:
                raise UsageError("nothing to run it on", remedy="Say --input x=x.npy, or --data rows.parquet")
            _run_once(say, model, inputs, output, weights, device, unsafe)
            return
        if output is None:
            raise UsageError("nowhere to write to", remedy="Say --output out.parquet")
        from netferry.streaming import stream

        with _progress(f"running {model} over {data}") as progress:
            outcome = stream(
                model, data, output, batch=batch, columns=_columns(columns), on_error=on_error, engine=engine,
                pixels=_pixels(pixels), workers=workers,
                inputs=_examples(inputs, 0), weights=weights, device=device, unsafe=unsafe, progress=progress,
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
) -> None:
    from netferry.api import run as do
    from netferry.arrays import load_inputs, save_outputs, summary

    arrays = load_inputs(inputs)
    with _busy(f"running {model}"):
        results = do(model, arrays, weights=weights, device=device, unsafe=unsafe)
    if output is not None:
        save_outputs(output, results)
    described = summary(results, output)
    say(
        described,
        lambda: "\n".join(f"{o['name']}: {o['dtype']}{o['shape']}" for o in described["outputs"]),
    )


def _pixels(flag: str | None) -> Any:
    from netferry.inference.feed import pixels_from_flag

    return None if flag is None else pixels_from_flag(flag)


def _columns(flags: Sequence[str] | None) -> dict[str, list[str]]:
    from netferry.converters.errors import UsageError

    made = {}
    for flag in flags or ():
        name, found, columns = flag.partition("=")
        if not found or not columns:
            raise UsageError("columns are written INPUT=A,B", expected="x=height,width", received=flag)
        made[name] = columns.split(",")
    return made


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
    return "\n".join(lines)


@app.command(epilog="Example: netferry inspect cnn.onnx --to all")
def inspect(
    model: Source,
    to: Annotated[
        list[str] | None, typer.Option(help="What this framework could take of it; all for every framework.")
    ] = None,
    inputs: InputFlags = None,
    weights: Weights = None,
    unsafe: Unsafe = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Inputs, outputs, operators and parameters of a model, and where it could go."""
    with _speaking(as_json, _limits(memory, time_limit), model) as say:
        from netferry.api import inspect as do

        with _busy(f"reading {model}"):
            wanted = "all" if "all" in (to or ()) else to or ()
            found = do(model, inputs=_examples(inputs, 0), weights=weights, to=wanted, unsafe=unsafe)
        say(found.to_dict(), lambda: _inspection_text(found))


@app.command(
    epilog="Example: netferry package cnn.keras --name cnn --triton models --kserve samples --card README.md"
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
    max_batch: Annotated[int, typer.Option(help="Rows that Triton may batch.")] = 32,
    inputs: InputFlags = None,
    weights: Weights = None,
    verify: Annotated[bool, typer.Option(help="Run source and result on the same inputs.")] = True,
    seed: Seed = 0,
    unsafe: Unsafe = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Pack a model for the engines that serve it."""
    with _speaking(as_json, _limits(memory, time_limit), model) as say:
        from netferry.packaging import package as do

        with _busy(f"packing {model}"):
            done = do(
                model, name=name or _plain_name(model), triton=triton, kserve=kserve, card=card,
                max_batch=max_batch, inputs=_examples(inputs, seed), weights=weights, verify=verify, seed=seed,
                unsafe=unsafe,
            )  # fmt: skip
        verdict = [] if done.report is None else [done.report.to_text()]
        say(done.to_dict(), lambda: "\n".join([*map(str, done.files), *verdict]))
        _leave(0 if done.report is None else EXIT_CODES[done.report.status])


def _plain_name(model: str) -> str:
    """A name that engines take, from a path or a factory."""
    stem = model.rpartition(":")[2] if ":" in model else Path(model).name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "model"


@app.command(epilog="Example: netferry bench cnn.keras cnn.onnx --batch 1 --batch 32")
def bench(
    models: Annotated[
        list[str], typer.Argument(help="Files, folders or factories, side by side.", metavar="MODEL...")
    ],
    batch: Annotated[
        list[int] | None, typer.Option(help="A batch size; 1, 8 and 32 where none is said.")
    ] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Threads of onnxruntime, each tried.")] = None,
    runs: Annotated[int, typer.Option(help="Runs of each model at each size.")] = 50,
    inputs: InputFlags = None,
    weights: Weights = None,
    device: Device = "cpu",
    html: Html = None,
    unsafe: Unsafe = False,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Time models side by side, in turns."""
    with _speaking(as_json, _limits(memory, time_limit), *models) as say:
        from netferry.benching import bench as do

        with _busy("timing " + ", ".join(models)):
            found = do(
                models, _examples(inputs, 0), batches=batch or (1, 8, 32), threads=threads or (), runs=runs,
                weights=weights, device=device, unsafe=unsafe,
            )  # fmt: skip
        if html is not None:
            from netferry.validation.page import bench_page

            _write_text(html, bench_page(found.to_dict()))
        say(found.to_dict(), found.to_text)


@app.command(epilog="Example: netferry doctor --json")
def doctor(as_json: AsJson = False) -> None:
    """What is installed, what is missing, what mends it."""
    with _speaking(as_json) as say:
        from netferry.doctor import PROBLEM, examine, to_dict

        findings = examine()

        def text() -> str:
            width = max(len(one.subject) for one in findings) + 2
            return "\n".join(
                f"{one.subject:<{width}}{one.state:<9}{one.detail}"
                + (f"\n{'':<{width + 9}}-> {one.remedy}" if one.remedy else "")
                for one in findings
            )

        say(to_dict(findings), text)
        _leave(4 if any(one.state == PROBLEM for one in findings) else 0)


@app.command(epilog="Example: netferry demo --output tour")
def demo(
    output: Annotated[Path, typer.Option(help="Where models and results go.")] = Path("netferry-demo"),
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The tour: train, carry and verify the zoo; a report that opens in the browser where there is a desktop."""
    _matrix(None, None, output, data, as_json, {"html": output / "report.html"}, show=True)


@zoo_app.command("list", epilog="Example: netferry zoo list")
def zoo_list(as_json: AsJson = False) -> None:
    """The reference models."""
    with _speaking(as_json) as say:
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
    as_json: AsJson = False,
) -> None:
    """Train one reference model and save it in the framework's own format."""
    with _speaking(as_json) as say:
        from netferry.zoo.catalog import named
        from netferry.zoo.train import train

        spec = named(model)
        with _progress(f"{model} in {framework}") as progress:
            trained = train(spec, framework, output, data, progress)
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
    as_json: AsJson = False,
) -> None:
    """Train, carry and verify every reference model from every framework."""
    if workers is not None and engine is None:
        raise typer.BadParameter("only an engine has workers: say --engine local, or ray")
    wanted = {"html": html, "junit": junit, "markdown": markdown}
    _matrix(model, framework, output, data, as_json, wanted, to=to, device=device, fan=(engine, workers))


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
) -> None:
    with _speaking(as_json) as say:
        from netferry.matrix import SOURCES, TARGETS, Fan, matrix
        from netferry.pages import of_matrix

        with _progress("training and carrying the zoo") as progress:
            engine, workers = fan
            result = matrix(
                models, frameworks or SOURCES, directory=output, data_dir=data, targets=to or tuple(TARGETS),
                device=device, progress=progress, fan=None if engine is None else Fan(engine, workers),
            )  # fmt: skip
        _write_text(output / "matrix.json", json.dumps(result.to_dict(), indent=2) + "\n")
        _write_text(output / "matrix.txt", result.to_text() + "\n")
        _write_forms(of_matrix(result), wanted)
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
            _open_on_desktop(page)
        _leave(0 if result.passed else 1)


def _examples(flags: Sequence[str] | None, seed: int) -> Any:
    from netferry.converters.signature import examples_from_flags

    return examples_from_flags(flags, seed) if flags else None


def _conversion_text(done: Any, destination: Path) -> str:
    lines = [f"{done.source} -> {destination if done.files else 'nothing written'} ({done.road})"]
    if done.report is not None:
        lines.append(done.report.to_text())
    return "\n".join(lines + [f"  note: {note}" for note in done.notes])


def _inspection_text(found: Any) -> str:
    lines = [f"{found.title}: {found.framework}, opset {found.opset} ({found.road})"]
    lines += [f"  in   {spec}" for spec in found.signature.inputs]
    lines += [f"  out  {spec}" for spec in found.signature.outputs]
    lines.append(f"  {found.parameters:,} parameters, {found.bytes:,} bytes")
    lines.append("  " + ", ".join(f"{name} {count}" for name, count in found.operators.items()))
    for target, prospect in found.targets.items():
        count = len(prospect.problems)
        lines.append(
            f"  to {target}: "
            + (f"{count} nodes cannot be carried" if count else f"all of it ({prospect.form})")
        )
        lines += [f"    {problem}" for problem in prospect.problems]
        lines += [f"    note: {note}" for note in prospect.notes]
    return "\n".join(lines + [f"  note: {note}" for note in found.notes])


def _write_report(folder: Path, report: Any, extras: Callable[[], Any]) -> None:
    from netferry.pages import of_verdict

    _write_text(folder / "verdict.json", report.to_json() + "\n")
    _write_text(folder / "verdict.txt", report.to_text() + "\n")
    names = {"html": "report.html", "junit": "junit.xml", "markdown": "report.md"}
    _write_forms(of_verdict(report.to_dict(), extras), {form: folder / name for form, name in names.items()})


def _write_forms(forms: Mapping[str, Callable[[], str]], wanted: Mapping[str, Path | None]) -> None:
    for form, path in wanted.items():
        if path is not None:
            _write_text(path, forms[form]())


def _open_on_desktop(page: Path) -> None:
    """Show the page where a person sits before a screen of this very machine; never over a wire or in CI."""
    away = ("CI", "SSH_CONNECTION", "SSH_TTY")
    screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if screen and sys.stderr.isatty() and not any(map(os.environ.get, away)):
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _write_text(path: Path, text: str) -> None:
    from netferry.converters.errors import WriteError
    from netferry.converters.staging import staged

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write here ({error.strerror})", where=str(path)) from error
    with staged(path) as stage:
        stage.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _busy(text: str) -> Iterator[None]:
    """A spinner on stderr while something takes time; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


_LINE_SECONDS = 1.0
"""A plain stream gets a line of progress no more often than this."""


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int, str], None] | None]:
    """A progress bar on a terminal, nothing on a plain stream."""
    if not sys.stderr.isatty():
        yield None
        return
    with _progress(title) as progress:
        yield progress


@contextlib.contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr; on a plain stream, a line for each step."""
    if not sys.stderr.isatty():
        told = -_LINE_SECONDS

        def line(done: int, total: int, text: str) -> None:
            nonlocal told
            if time.monotonic() - told >= _LINE_SECONDS or done == total:
                told = time.monotonic()
                print(f"[{done}/{total or '?'}] {text}", file=sys.stderr, flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


Say = Callable[[dict[str, Any], Callable[[], str]], None]


def _limits(memory: float | None, seconds: float | None) -> Limits:
    return Limits(None if memory is None else int(memory * GIB), seconds)


@contextlib.contextmanager
def _speaking(
    as_json: bool, limits: Limits | None = None, *files: str, beside: Path | None = None
) -> Iterator[Say]:
    """Keep stdout for the answer: whatever a framework prints meanwhile goes to stderr.

    With ``files``, which may be hostile, all that follows happens in a child with ``limits``. Errors become one
    message, or with ``--json`` one document, and the exit code of their kind.
    """
    from netferry.converters.errors import NetferryError

    warnings.showwarning = _show_warning
    answer = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)

    def write(words: str) -> None:
        with os.fdopen(os.dup(answer), "w", encoding="utf-8") as stream:
            stream.write(words + "\n")

    def say(document: dict[str, Any], text: Callable[[], str]) -> None:
        from netferry.validation.report import finite

        write(json.dumps(finite(document), indent=2, default=str) if as_json else text())

    try:
        if limits is not None and (code := _in_child(files, limits, beside)) is not None:
            raise typer.Exit(code)
        yield say
    except NetferryError as error:
        _tell(error, write, as_json)
        _leave(error.exit_code)
    except typer.Exit:
        raise
    except Exception as error:
        if os.environ.get("NETFERRY_TRACEBACK"):
            raise
        fault = guard.explained(error, files) or NetferryError(
            f"an unexpected {type(error).__name__}: {error}",
            remedy="This is a fault of netferry: please report it, with what NETFERRY_TRACEBACK=1 shows",
        )
        _tell(fault, write, as_json)
        _leave(fault.exit_code)
    except KeyboardInterrupt as interrupt:
        print(f"netferry: interrupted; {interrupt or 'nothing half-done was left behind'}", file=sys.stderr)
        _leave(INTERRUPTED)
    finally:
        sys.stdout.flush()
        os.dup2(answer, 1)
        os.close(answer)


def _in_child(files: Sequence[str], limits: Limits, beside: Path | None) -> int | None:
    """``guard.enter``; what a child that had to be killed was writing is swept up."""
    from netferry.converters.errors import RefusedError

    try:
        return guard.enter(files, limits)
    except RefusedError:
        if beside is not None:
            from netferry.converters.staging import sweep

            sweep(beside)
        raise


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """What netferry itself warns of is told; frameworks warn of their own future."""
    if category.__module__.startswith("netferry."):
        print(f"netferry: {message}", file=sys.stderr)


def _tell(error: Any, write: Callable[[str], None], as_json: bool) -> None:
    """An error as one message, or as the one document; nothing is imported for it, since imports may be what failed."""
    if as_json:
        write(json.dumps(error.to_json(), indent=2))
    else:
        print(f"netferry: {error}", file=sys.stderr)


def _leave(code: int) -> None:
    if code:
        raise typer.Exit(code)


_BETWEEN_SWEEPS = 50_000
"""Objects made between two sweeps of the garbage collector. A framework's import makes 200,000 that stay: with Python's
own number, 700, a short command spends a tenth of its time on looking through them."""


def main() -> None:
    """The console script."""
    gc.set_threshold(_BETWEEN_SWEEPS)
    atexit.register(gc.freeze)  # Python would sweep through it all again, more than once, before it ends
    app()
