"""The flags that commands share, and what they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from netferry.cli.panels import PART
from netferry.converters.errors import UsageError
from netferry.runtime.limits import Limits

Source = Annotated[str, typer.Argument(help="A file, a folder, or package.module:factory.", metavar="SRC")]
InputFlags = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME:SIZES",
        help="An input: x:1,3,224,224:f32, x:batch,3,h=224,w=224 (free axes), or x=photo.npy (its values).",
    ),
]
OutputAt = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        metavar="NAME",
        rich_help_panel=PART,
        help="End the model at a tensor, node, layer or submodule (inspect --layers).",
    ),
]
InputAt = Annotated[
    list[str] | None,
    typer.Option(
        "--input-at", metavar="NAME", help="Begin the model there instead, with what comes out of it."
    ),
]
Fix = Annotated[
    list[str] | None, typer.Option("--fix", metavar="X:SIZES", help="Fix an input's sizes: x:1,3,640,640.")
]
Rename = Annotated[
    list[str] | None, typer.Option("--rename", metavar="OLD=NEW", help="Another name for an input or output.")
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Weights for a factory (.safetensors, a state dict) or an MXNet symbol (.params)."),
]
Epoch = Annotated[
    int | None, typer.Option(min=0, help="Of an MXNet checkpoint: take the parameters of this epoch.")
]
RandomWeights = Annotated[
    bool,
    typer.Option(
        "--random-weights",
        help="For an MXNet symbol whose params are not there: try it with weights drawn by chance.",
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        help="What a Hugging Face folder's model is for: text-generation, text-generation-with-past, encoder, decoder ...; left out, "
        "what it was saved for."
    ),
]
ServedAs = Annotated[
    str | None,
    typer.Option("--signature", help="Which signature of a SavedModel is meant; inspect lists them."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Seed = Annotated[int, typer.Option(help="Seed of the inputs that are made.")]
FreshSeed = Annotated[
    int | None,
    typer.Option(
        "--seed", help="Seed of the inputs that are made; left out, a new one, which the report names."
    ),
]
Device = Annotated[str, typer.Option(help="Where onnxruntime runs: cpu, cuda or auto.")]
Html = Annotated[Path | None, typer.Option("--html", help="The report as one HTML page.")]
Junit = Annotated[Path | None, typer.Option("--junit", help="The results as JUnit XML, for CI.")]
Markdown = Annotated[Path | None, typer.Option("--markdown", help="The results as Markdown, for a summary.")]
ReportFolder = Annotated[
    Path | None, typer.Option("--report", help="A folder for the verdict: text, JSON, HTML, JUnit, Markdown.")
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace what stands there, also what netferry has not written or someone has changed.",
    ),
]
Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe", help="Let through what may act outside the model (code, file access), and name it."
    ),
]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        "--plugin",
        metavar="MODULE",
        help="Code of yours to import first (a module or a .py file): operators and layers of your own, classes of a Keras file.",
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
RealRows = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Real rows to compare on first: .parquet, .arrow, .csv, .npz, .npy, a folder of images.",
    ),
]
Rtol = Annotated[float | None, typer.Option(help="With --atol, in place of netferry's own limit.")]
Atol = Annotated[float | None, typer.Option(help="With --rtol; both directions must hold.")]
Quick = Annotated[bool, typer.Option("--quick", help="Few inputs, for a first look.")]
Samples = Annotated[int | None, typer.Option(min=1, help="The most inputs that are checked.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit code 1 too where a free axis was not tried at two sizes.")
]
MapOutput = Annotated[
    list[str] | None,
    typer.Option(metavar="A=B", help="The source's output A is the target's B, where the names differ."),
]
Factories = Annotated[
    bool, typer.Option("--factories", help="Let a catalogue name factories, whose code is then run.")
]
Engine = Annotated[
    str | None,
    typer.Option(help="Processes of their own: local, or ray for a cluster; what is done is kept."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="How many of them work at once.")]
DataDir = Annotated[
    Path | None, typer.Option("--data", help="A folder with MNIST's IDX files, for the digits.")
]


def limits_of(memory: float | None, seconds: float | None) -> Limits:
    """GiB and seconds as limits in bytes and seconds."""
    try:
        return Limits.of(memory, seconds)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None


def import_code(modules: Sequence[str] | None) -> None:
    """The modules of ``--import``."""
    if modules:
        from netferry.converters.source import import_code as do

        do(modules)


_ARRAYS = (".npy", ".npz")


def examples_of(flags: Sequence[str] | None, seed: int | None = None) -> Any:
    """Example inputs for ``--input`` flags, in their order; None where there are none.

    Those of which only sizes are given are made with ``seed``, 0 where there is none: a conversion writes the same
    bytes whatever seed its verification draws.
    """
    if not flags:
        return None
    from netferry.cli.arrays import load_inputs
    from netferry.converters.signature import examples, examples_from_flags

    files = [flag for flag in flags if flag.endswith(_ARRAYS)]
    sizes = examples_from_flags([flag for flag in flags if flag not in files], seed or 0)
    if not files:
        return sizes
    asked = any(example.asked for example in sizes)
    arrays = load_inputs(files)
    shown = examples({one.name: one.array for one in sizes if not asked} | arrays)
    made = {example.name: example for example in (*shown, *(sizes if asked else ()))}
    order = [flag.partition("=" if flag in files else ":")[0] for flag in flags]
    return tuple(
        sorted(made.values(), key=lambda one: order.index(one.name) if one.name in order else len(order))
    )


def files_of(flags: Sequence[str] | None) -> list[str]:
    """The files that ``--input`` flags name."""
    return [flag.rpartition("=")[2] for flag in flags or () if flag.endswith(_ARRAYS)]


def weights_of(weights: Path | None, epoch: int | None) -> Path | None:
    """``--weights``, or ``--epoch`` as the number that it may be, too."""
    if epoch is None:
        return weights
    if weights is not None:
        from netferry.converters.errors import UsageError

        raise UsageError("--weights and --epoch name the same parameters", remedy="Give one of them")
    return Path(str(epoch))


def outputs_of(flags: Sequence[str] | None, cut: Sequence[str] | None = None) -> Any:
    """``A=B`` as the target's output for each of the source's, or the names at which the source is ``cut``; None where
    there are neither."""
    from netferry.converters.errors import UsageError

    if cut and flags:
        raise UsageError(
            "--map-output names the outputs of a whole model", remedy="Use --rename with --output"
        )
    return list(cut) if cut else pairs_of(flags, "outputs are paired as A=B", "logits=output_0")


def pairs_of(flags: Sequence[str] | None, rule: str, example: str) -> dict[str, str] | None:
    """``A=B`` as a mapping; None where there are none."""
    from netferry.converters.errors import UsageError

    pairs = [flag.partition("=") for flag in flags or ()]
    for (ours, _, theirs), flag in zip(pairs, flags or (), strict=True):
        if not ours or not theirs:
            raise UsageError(rule, expected=example, received=flag)
    return {ours: theirs for ours, _, theirs in pairs} or None


def renames_of(flags: Sequence[str] | None) -> dict[str, str] | None:
    """``--rename`` flags."""
    return pairs_of(flags, "names are given as OLD=NEW", "logits=scores")


def sizes_of(flags: Sequence[str] | None) -> Any:
    """``--fix`` flags as the sizes of each input."""
    from netferry.converters.part import sizes_from_flags

    return sizes_from_flags(flags) or None


def columns_of(flags: Sequence[str] | None) -> dict[str, list[str]]:
    """``INPUT=A,B`` as the columns of each input."""
    from netferry.inference.feed import columns_from_flags

    return columns_from_flags(flags or ())


def pixels_of(flag: str | None) -> Any:
    """``--pixels`` as the way images are read."""
    from netferry.inference.images import pixels_from_flag

    return None if flag is None else pixels_from_flag(flag)


def conversion_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of ``convert`` that hold alike for one source and for each of many, as ``netferry.convert`` takes them."""
    return {name: given[name] for name in _PASSED_ON} | {
        "outputs": outputs_of(given["map_output"], given["output"]),
        "columns": columns_of(given["columns"]),
        "pixels": pixels_of(given["pixels"]),
        "fix": sizes_of(given["fix"]),
        "rename": renames_of(given["rename"]),
    }


_PASSED_ON = (
    "signature", "opset", "fuse", "simplify", "dequantize", "write_source", "verify", "keep", "seed", "device", "unsafe", "force", "quick", "samples",
    "input_at", "task", "random_weights", "dry_run",
)  # fmt: skip


_WHOLE = (
    "write_source",
    "keep",
    "dry_run",
    "map_output",
    "strict",
    "report",
    "optimizer_state",
    "learning_rate",
    "updates",
)


def demand_lowering(given: Mapping[str, Any]) -> None:
    """Refuse flags that say nothing of a model in another precision, and those of ``--precision`` without it."""
    if given["precision"] is None:
        if given["even_if_slower"]:
            raise typer.BadParameter("--even-if-slower is for --precision")
        return
    for name in _WHOLE:
        if given[name] not in (None, False, []):
            flag = "source" if name == "write_source" else name.replace("_", "-")
            raise typer.BadParameter(
                f"--{flag} is for a conversion that keeps its precision; leave --precision out"
            )


def lowering_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of ``convert`` that hold for ``--precision``, too."""
    options = conversion_options(given)
    own = {name: value for name, value in options.items() if name not in _WHOLE}
    return {**own, "even_if_slower": given["even_if_slower"]}
