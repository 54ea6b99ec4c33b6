"""What a person types. Each command calls one function of the library; only this file prints or exits."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

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
    write_source: Annotated[
        bool, typer.Option("--source", help="Write the model as readable Python beside DST, too.")
    ] = False,
    verify: Annotated[bool, typer.Option(help="Run source and result on the same inputs.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Keep a result that differs from its source.")] = False,
    report: Annotated[Path | None, typer.Option(help="A folder for the verdict as text and JSON.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Carry SRC to DST and check that it arrived."""
    with _speaking(as_json) as say:
        from netferry.api import convert as do

        with _busy(f"carrying {source}"):
            done = do(
                source, to, destination=destination, inputs=_examples(inputs, seed), weights=weights,
                opset=opset, write_source=write_source, verify=verify, keep=keep, seed=seed,
            )  # fmt: skip
        if report is not None and done.report is not None:
            _write_report(report, done.report)
        say(done.to_dict(), lambda: _conversion_text(done, destination))
        _leave(0 if done.report is None else EXIT_CODES[done.report.status])


@app.command(epilog="Example: netferry verify cnn.keras cnn.onnx --seed 3")
def verify(
    a: Annotated[str, typer.Argument(help="The source: a file, a folder, or package.module:factory.")],
    b: Annotated[str, typer.Argument(help="The target, likewise.")],
    inputs: InputFlags = None,
    weights: Weights = None,
    seed: Seed = 0,
    rtol: Annotated[float | None, typer.Option(help="With --atol, in place of netferry's own limit.")] = None,
    atol: Annotated[float | None, typer.Option(help="With --rtol; both directions must hold.")] = None,
    device: Device = "cpu",
    report: Annotated[Path | None, typer.Option(help="A folder for the verdict as text and JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run A and B on the same inputs and compare every output."""
    with _speaking(as_json) as say:
        from netferry.api import verify as do

        with _busy(f"comparing {a} and {b}"):
            verdict = do(
                a, b, _examples(inputs, seed), weights=(weights, None), seed=seed, rtol=rtol, atol=atol,
                device=device,
            )  # fmt: skip
        if report is not None:
            _write_report(report, verdict)
        say(verdict.to_dict(), verdict.to_text)
        _leave(EXIT_CODES[verdict.status])


@app.command(epilog="Example: netferry run cnn.onnx --input x=image.npy --output out.npz")
def run(
    model: Source,
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input", metavar="NAME=FILE", help="name=array.npy, or one .npz that holds all inputs by name."
        ),
    ],
    output: Annotated[Path | None, typer.Option(help="An .npz for the outputs.")] = None,
    weights: Weights = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Run a model of any kind once."""
    with _speaking(as_json) as say:
        from netferry.api import run as do
        from netferry.arrays import load_inputs, save_outputs, summary

        arrays = load_inputs(inputs)
        with _busy(f"running {model}"):
            results = do(model, arrays, weights=weights, device=device)
        if output is not None:
            save_outputs(output, results)
        described = summary(results, output)
        say(
            described,
            lambda: "\n".join(f"{o['name']}: {o['dtype']}{o['shape']}" for o in described["outputs"]),
        )


@app.command(epilog="Example: netferry inspect cnn.onnx --to all")
def inspect(
    model: Source,
    to: Annotated[
        list[str] | None, typer.Option(help="What this framework could take of it; all for every framework.")
    ] = None,
    inputs: InputFlags = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Inputs, outputs, operators and parameters of a model, and where it could go."""
    with _speaking(as_json) as say:
        from netferry.api import inspect as do

        with _busy(f"reading {model}"):
            wanted = "all" if "all" in (to or ()) else to or ()
            found = do(model, inputs=_examples(inputs, 0), weights=weights, to=wanted)
        say(found.to_dict(), lambda: _inspection_text(found))


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
    """The tour: train, carry and verify the zoo."""
    _matrix(None, None, output, data, as_json)


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
    output: Annotated[Path, typer.Option(help="Where models and results go.")] = Path("netferry-zoo"),
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Train, carry and verify every reference model from every framework."""
    _matrix(model, framework, output, data, as_json)


def _matrix(
    models: list[str] | None, frameworks: list[str] | None, output: Path, data: Path | None, as_json: bool
) -> None:
    with _speaking(as_json) as say:
        from netferry.matrix import SOURCES, matrix

        with _progress("training and carrying the zoo") as progress:
            result = matrix(models, frameworks or SOURCES, directory=output, data_dir=data, progress=progress)
        _write_text(output / "matrix.json", json.dumps(result.to_dict(), indent=2) + "\n")
        _write_text(output / "matrix.txt", result.to_text() + "\n")
        passed = sum(cell.status == "passed" for cell in result.cells)
        faults = [
            f"{c.model} from {c.source} to {c.target}: {c.reason}"
            for c in result.cells
            if c.status != "passed"
        ]
        closing = [
            f"{passed} of {len(result.cells)} cells passed; written to {output / 'matrix.txt'} and .json"
        ]
        say(result.to_dict(), lambda: "\n".join([result.to_text(), *faults, *closing]))
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


def _write_report(folder: Path, report: Any) -> None:
    _write_text(folder / "verdict.json", report.to_json() + "\n")
    _write_text(folder / "verdict.txt", report.to_text() + "\n")


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


@contextlib.contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr; on a plain stream, a line for each step."""
    if not sys.stderr.isatty():

        def line(done: int, total: int, text: str) -> None:
            print(f"[{done}/{total}] {text}", file=sys.stderr, flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title)
        yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)


Say = Callable[[dict[str, Any], Callable[[], str]], None]


@contextlib.contextmanager
def _speaking(as_json: bool) -> Iterator[Say]:
    """Keep stdout for the answer: whatever a framework prints meanwhile goes to stderr.

    Errors become one message, or with ``--json`` one document, and the exit code of their kind.
    """
    from netferry.converters.errors import NetferryError

    answer = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)

    def say(document: dict[str, Any], text: Callable[[], str]) -> None:
        from netferry.validation.report import finite

        words = json.dumps(finite(document), indent=2, default=str) if as_json else text()
        with os.fdopen(os.dup(answer), "w", encoding="utf-8") as stream:
            stream.write(words + "\n")

    try:
        yield say
    except NetferryError as error:
        _tell(error, say, as_json)
        _leave(error.exit_code)
    except typer.Exit:
        raise
    except Exception as error:
        if os.environ.get("NETFERRY_TRACEBACK"):
            raise
        fault = NetferryError(
            f"an unexpected {type(error).__name__}: {error}",
            remedy="This is a fault of netferry: please report it, with what NETFERRY_TRACEBACK=1 shows",
        )
        _tell(fault, say, as_json)
        _leave(fault.exit_code)
    except KeyboardInterrupt:
        print("netferry: interrupted; nothing half-done was left behind", file=sys.stderr)
        _leave(INTERRUPTED)
    finally:
        sys.stdout.flush()
        os.dup2(answer, 1)
        os.close(answer)


def _tell(error: Any, say: Say, as_json: bool) -> None:
    """An error as one message, or as the one document."""
    if as_json:
        say(error.to_json(), str)
    else:
        print(f"netferry: {error}", file=sys.stderr)


def _leave(code: int) -> None:
    if code:
        raise typer.Exit(code)


def main() -> None:
    """The console script."""
    app()
