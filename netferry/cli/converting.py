"""convert, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.app import app
from netferry.cli.console import EXIT_CODES, code_of, leave, speaking
from netferry.cli.options import (
    AsJson,
    Columns,
    Device,
    Epoch,
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
    columns_of,
    examples_of,
    files_of,
    import_code,
    limits_of,
    outputs_of,
    pixels_of,
    renames_of,
    sizes_of,
    weights_of,
)
from netferry.cli.progress import bar, busy
from netferry.cli.reports import demand_forms, write_report


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
        typer.Option(help="pytorch, tensorflow, mxnet or onnx; left out, the end of DST's name decides."),
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
    unsafe: Unsafe = False,
    imports: Imports = None,
    force: Force = False,
    task: Task = None,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Convert SRC to DST and check that both are equal."""
    with speaking(as_json, limits_of(memory, time_limit), source, opens=locals()) as say:
        import_code(imports)
        from netferry.converters.disk.ledger import Overwriting

        weights = weights_of(weights, epoch)
        replacing = Overwriting(force, (source, weights, data, *files_of(inputs)))
        demand_forms(replacing, {}, report)
        if precision is not None:
            from netferry.tasks.precision import lower

            with busy(f"converting {source}"):
                lowered = lower(
                    source, destination, precision, data=data, columns=columns_of(columns), pixels=pixels_of(pixels),
                    even_if_slower=even_if_slower, inputs=examples_of(inputs, seed), weights=weights, signature=signature, opset=opset,
                    verify=verify, seed=seed, device=device, unsafe=unsafe, force=force, task=task,
                )  # fmt: skip
            say(lowered.to_dict(), lowered.to_text)
            leave(EXIT_CODES[lowered.status])
            return
        from netferry.api import convert as do

        with bar(f"converting {source}") as progress:
            done = do(
                source, to, destination=destination, inputs=examples_of(inputs, seed), weights=weights,
                signature=signature, opset=opset, fuse=fuse, simplify=simplify, write_source=write_source, verify=verify, keep=keep, seed=seed,
                device=device, unsafe=unsafe, force=force, data=data, columns=columns_of(columns), pixels=pixels_of(pixels),
                quick=quick, samples=samples, outputs=outputs_of(map_output, output), input_at=input_at, fix=sizes_of(fix),
                rename=renames_of(rename), task=task, random_weights=random_weights, progress=progress,
            )  # fmt: skip
        if report is not None and done.report is not None:
            from netferry.tasks.extras import extras_of

            given = examples_of(inputs, seed)

            def extras() -> Any:
                return extras_of(done, source, weights, given, signature=signature, unsafe=unsafe)

            write_report(report, done.report, extras, replacing)
        say(done.to_dict(), lambda: _conversion_text(done, destination))
        leave(0 if done.report is None else code_of(done.report, strict))


def _conversion_text(done: Any, destination: Path) -> str:
    from netferry.converters import escaping

    lines = [f"{done.source} -> {destination if done.files else 'nothing written'} ({done.route})"]
    if done.report is not None:
        lines += done.report.to_text().splitlines()
    else:
        lines.append("not checked: source and result were not compared (--no-verify)")
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
            )  # fmt: skip
        say(found.to_dict(), lambda: _inspection_text(found))


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
    for target, prospect in found.targets.items():
        count = len(prospect.problems)
        lines.append(
            f"  to {target}: "
            + (f"{count} nodes are not supported" if count else f"all of it ({prospect.form})")
        )
        lines += [f"    {problem}" for problem in prospect.problems]
        lines += [f"    note: {note}" for note in prospect.notes]
    return "\n".join(map(escaping.line, [*lines, *(f"  note: {note}" for note in found.notes)]))
