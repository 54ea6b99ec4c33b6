"""convert, inspect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app
from netferry.cli.console import code_of, leave, speaking
from netferry.cli.many import convert_many
from netferry.cli.options import (
    AsJson,
    Columns,
    Device,
    Engine,
    Epoch,
    Factories,
    Fix,
    Force,
    FreshSeed,
    Imports,
    InputAt,
    InputFlags,
    MapOutput,
    Memory,
    OutputAt,
    PixelFlag,
    Quick,
    RandomWeights,
    RealRows,
    Rename,
    ReportFolder,
    Samples,
    ServedAs,
    Source,
    Strict,
    Task,
    TimeLimit,
    Unsafe,
    Weights,
    Workers,
    conversion_options,
    demand_lowering,
    examples_of,
    files_of,
    import_code,
    limits_of,
    lowering_options,
    sizes_of,
    weights_of,
)
from netferry.cli.progress import bar, busy
from netferry.cli.reports import demand_forms, size_text, sizes_text, to_convert_again, write_report


@app.command(
    epilog="Example: netferry convert cnn.keras cnn.pt2, or netferry convert cnn.onnx cnn --to pytorch, or "
    "netferry convert a.keras mlp.keras --to onnx --output-dir out --quick"
)
def convert(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to convert: a file, a folder, or package.module:factory; then what to write: NAME.onnx, .pt2, .keras, "
            "NAME-symbol.json, or a folder with --to. With --output-dir all are sources.",
            metavar="SRC DST",
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="The framework; left out, the end of DST's name decides.")
    ] = None,
    inputs: InputFlags = None,
    output: OutputAt = None,
    input_at: InputAt = None,
    fix: Fix = None,
    rename: Rename = None,
    weights: Weights = None,
    epoch: Epoch = None,
    random_weights: RandomWeights = False,
    signature: ServedAs = None,
    opset: Annotated[int | None, typer.Option(help="Opset of the written model.")] = None,
    fuse: Annotated[
        bool, typer.Option("--fuse", help="For ONNX: fold BatchNormalization into the convolution before it.")
    ] = False,
    simplify: Annotated[
        bool, typer.Option("--simplify", help="For ONNX: write what is known before it runs as constants.")
    ] = False,
    dequantize: Annotated[
        bool,
        typer.Option("--dequantize", help="Integers of a quantised model as floats, which can be trained."),
    ] = False,
    write_source: Annotated[
        bool, typer.Option("--source", help="Write the model as readable Python beside DST, too.")
    ] = False,
    optimizer_state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The source's optimizer (SGD, Adam, AdamW), for training to go on: what torch.save wrote of its state_dict(), "
            "a .keras that was saved with it, or MXNet's .states.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Of --optimizer-state, where MXNet's file does not say it (SGD of a Module)."
        ),
    ] = None,
    updates: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The steps taken, where MXNet's file does not say them (Adam of a Module)."
        ),
    ] = None,
    verify: Annotated[bool, typer.Option(help="Run source and result on the same inputs.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Keep a result that differs from its source.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do all but the writing and the check, and say what would be.")
    ] = False,
    report: ReportFolder = None,
    precision: Annotated[
        str | None, typer.Option(help="For ONNX and TFLite: another precision, judged on --data.")
    ] = None,
    data: RealRows = None,
    columns: Columns = None,
    pixels: PixelFlag = None,
    even_if_slower: Annotated[
        bool, typer.Option("--even-if-slower", help="Write another precision even where it is slower here.")
    ] = False,
    quick: Quick = False,
    samples: Samples = None,
    map_output: MapOutput = None,
    strict: Strict = False,
    seed: FreshSeed = None,
    device: Device = "cpu",
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Many sources at once: each is converted into this folder."),
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="A TOML file of pairs: each a is converted to its b.")
    ] = None,
    engine: Engine = None,
    workers: Workers = None,
    factories: Factories = False,
    unsafe: Unsafe = False,
    imports: Imports = None,
    force: Force = False,
    task: Task = None,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Convert SRC to DST and check that both are equal; with --output-dir or --catalogue, many at once."""
    given = dict(locals())
    if output_dir is not None or catalogue is not None:
        convert_many(given)
        return
    if engine is not None or workers is not None or factories:
        raise typer.BadParameter("engines, workers and --factories are for --output-dir or a --catalogue")
    demand_lowering(given)
    if len(models or ()) != 2:
        raise typer.BadParameter(
            "a source and a destination are needed: netferry convert SRC DST, or many sources with --to and --output-dir"
        )
    source, destination = models[0], Path(models[1])  # type: ignore[index]
    opens = given | {"models": None, "source": source, "destination": destination}
    with speaking(as_json, limits_of(memory, time_limit), source, opens=opens) as say:
        import_code(imports)
        from netferry.converters.disk.ledger import Overwriting

        weights = weights_of(weights, epoch)
        replacing = Overwriting(force, (source, weights, data, optimizer_state, *files_of(inputs)))
        demand_forms(replacing, {}, report)
        if precision is not None:
            _lower(say, source, destination, given | {"weights": weights})
            return
        from netferry.api import convert as do

        with bar(f"converting {source}") as progress:
            done = do(
                source, to, destination=destination, inputs=examples_of(inputs, seed), weights=weights, data=data,
                optimizer_state=optimizer_state, learning_rate=learning_rate, updates=updates, progress=progress, **conversion_options(given),
            )  # fmt: skip
        verdict = done.report
        if report is not None and verdict is not None:
            from netferry.tasks.extras import extras_of

            def extras() -> Any:
                shown = examples_of(inputs, seed)
                again = to_convert_again(source, destination, given, verdict.seed)
                return extras_of(
                    done, source, weights, shown, signature=signature, unsafe=unsafe, commands=again
                )

            write_report(report, verdict, extras, replacing)
        say(done.to_dict(), lambda: _conversion_text(done, destination, dry_run))
        leave(code_of(done.report, strict))


def _lower(say: Any, source: str, destination: Path, given: Mapping[str, Any]) -> None:
    from netferry.tasks.precision import lower
    from netferry.validation.reports.report import exit_code_of

    with busy(f"converting {source}"):
        lowered = lower(
            source, destination, given["precision"], weights=given["weights"], data=given["data"],
            inputs=examples_of(given["inputs"], given["seed"]), **lowering_options(given),
        )  # fmt: skip
    say(lowered.to_dict(), lambda: "\n".join([lowered.to_text(), *sizes_text(lowered.files)]))
    leave(exit_code_of(lowered.status))


def _conversion_text(done: Any, destination: Path, dry_run: bool = False) -> str:
    from netferry.converters import escaping

    written = "would be written (--dry-run)" if dry_run else "nothing written"
    goal = f"{destination}" if done.files else f"{destination}: {written}"
    lines = [f"{done.source} -> {goal} ({done.route})"]
    if done.files and done.report is not None and done.report.missing:
        lines.append(f"written, not checked: {done.report.missing}")
    elif done.report is not None:
        lines += done.report.to_text().splitlines()
    elif not dry_run:
        lines.append("not checked: source and result were not compared (--no-verify)")
    lines += [f"  {line}" for line in sizes_text(done.files)]
    return "\n".join(map(escaping.line, [*lines, *(f"  note: {note}" for note in done.notes)]))


@app.command(epilog="Example: netferry inspect cnn.onnx --to all")
def inspect(
    model: Source,
    to: Annotated[
        list[str] | None, typer.Option(help="What this framework could take of it; all for every framework.")
    ] = None,
    inputs: InputFlags = None,
    output: OutputAt = None,
    input_at: InputAt = None,
    fix: Fix = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="The names at which the model can be cut, with the sizes there.")
    ] = False,
    every_node: Annotated[
        bool,
        typer.Option(
            "--every-node", help="With --to: look at all nodes, however many and however long it takes."
        ),
    ] = False,
    weights: Weights = None,
    signature: ServedAs = None,
    task: Task = None,
    unsafe: Unsafe = False,
    imports: Imports = None,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Inputs, outputs, operators and parameters of a model, and where it could go."""
    with speaking(as_json, limits_of(memory, time_limit), model, opens=locals()) as say:
        import_code(imports)
        from netferry.api import inspect as do

        with busy(f"reading {model}"):
            wanted = "all" if "all" in (to or ()) else to or ()
            found = do(
                model, inputs=examples_of(inputs, 0), weights=weights, signature=signature, to=wanted, unsafe=unsafe,
                outputs=output, input_at=input_at, fix=sizes_of(fix), layers=layers, task=task,
                every_node=every_node,
            )  # fmt: skip
        say(found.to_dict(), lambda: _inspection_text(found))


def _totals_text(totals: Any) -> str:
    unknown = f", without {totals.unknown} nodes of unknown sizes" if totals.unknown else ""
    return (
        f"a run with free sizes at 1: {totals.operations:,} operations{unknown}, {size_text(totals.weights)} of weights, "
        f"{size_text(totals.tensors)} of tensors at once"
    )


def _inspection_text(found: Any) -> str:
    from netferry.converters import escaping

    lines = [f"{found.title}: {found.framework}, opset {found.opset} ({found.route})"]
    if len(found.signatures) > 1:
        lines.append(f"  signatures {', '.join(found.signatures)}")
    lines += [f"  in   {spec}" for spec in found.signature.inputs]
    lines += [f"  out  {spec}" for spec in found.signature.outputs]
    lines.append(f"  {found.parameters:,} parameters, {found.bytes:,} bytes")
    lines.append("  " + ", ".join(f"{name} {count}" for name, count in found.operators.items()))
    lines += [f"  layer {spec}" for spec in found.layers]
    if found.totals is not None:
        lines.append(f"  {_totals_text(found.totals)}")
    for target, prospect in found.targets.items():
        lines.append(f"  to {target}: {_prospect_text(prospect)}")
        lines += [f"    {problem}" for problem in prospect.problems]
        lines += [f"    note: {note}" for note in prospect.notes]
    return "\n".join(map(escaping.line, [*lines, *(f"  note: {note}" for note in found.notes)]))


def _prospect_text(prospect: Any) -> str:
    count = len(prospect.problems)
    if prospect.looked_at is None:
        return f"{count} nodes are not supported" if count else f"all of it ({prospect.form})"
    looked, whole = prospect.looked_at
    found = f"{count} of them are not supported" if count else "nothing against it in those"
    return f"only the first {looked:,} of {whole:,} nodes were looked at, {found} (--every-node looks at all)"
