"""What people call from Python: convert, verify, check, bisect, run, inspect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry import converters
from netferry.arguments import (
    Columns,
    Data,
    Dynamic,
    Inputs,
    Outputs,
    PathLike,
    Reading,
    Readings,
    drawn,
    given_examples,
    part_of,
    reading_of,
    readings_of,
    rows_of,
    tolerance_of,
)
from netferry.conversion import (
    CERTIFICATE,
    MODEL,
    Stages,
    bound,
    companions,
    deliver,
    demand_runs,
    dequantized,
    exported,
    fitted,
    going_on,
    simplified,
    target_of,
    totals,
    with_random_weights,
    without_fixed_axes,
)
from netferry.converters import frameworks, part as parts, source
from netferry.converters.disk import staging
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.errors import RefusedError
from netferry.converters.part import Sizes
from netferry.converters.signature import Example, Signature
from netferry.notebook import bar
from netferry.prospects import prospects
from netferry.results import Conversion, Inspection

if TYPE_CHECKING:  # a conversion that is not verified does without inference and validation
    from netferry.inference.images import Pixels
    from netferry.validation.reports.certificate import Check
    from netferry.validation.reports.report import Report
    from netferry.validation.tensors.difference import Bisection
    from netferry.validation.training.results import TrainingVerdict
    from netferry.validation.verify import Progress


def convert(
    model: object,
    to: str | None = None,
    *,
    destination: PathLike | None = None,
    inputs: Inputs | None = None,
    dynamic: Dynamic | None = None,
    reading: Reading | None = None,
    weights: PathLike | None = None,
    task: str | None = None,
    signature: str | None = None,
    random_weights: bool = False,
    unsafe: bool = False,
    outputs: Outputs = None,
    input_at: Sequence[str] | str | None = None,
    fix: Sizes | None = None,
    rename: Mapping[str, str] | None = None,
    opset: int | None = None,
    fuse: bool = False,
    simplify: bool = False,
    dequantize: bool = False,
    write_source: bool = False,
    optimizer_state: object = None,
    learning_rate: float | None = None,
    updates: int | None = None,
    keep: bool = False,
    force: bool = False,
    dry_run: bool = False,
    verify: bool = True,
    seed: int | None = None,
    device: str = "cpu",
    data: Data = None,
    columns: Columns = None,
    pixels: Pixels | None = None,
    quick: bool = False,
    samples: int | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Convert ``model`` (a path, ``package.module:factory``, or a live model) to the framework ``to``, check it, and write it.

    **Where to.** Left out, ``to`` follows from the name of ``destination`` (``.onnx``, ``.pt2``, ``.keras``, ``-symbol.json``). Without a
    ``destination`` nothing is written: the result is ``.model``.

    **Inputs.** ``inputs`` maps the model's names to example arrays, in any order; for a model that has no names of its own (code: a module, a
    block) they become its names. A list is bound by position. A name that the model does not have is refused.
    ``dynamic`` maps an input's name to ``{axis: symbol}``; left out, the batch axis is free.

    **How the source is read.** ``reading`` holds what a file alone does not say (``Reading``); each of its fields is also a keyword here:
    ``weights``, ``task``, ``signature``, ``random_weights``, ``unsafe``.

    **Which part.** ``outputs`` names tensors, nodes, layers or submodules at which the model ends instead (a mapping is as for ``verify``),
    ``input_at`` those at which it begins; ``fix`` maps inputs to their sizes, ``rename`` inputs and outputs to other names.
    ``inspect(layers=True)`` lists all names.

    **What is written.** For ONNX, ``opset`` chooses the opset, ``fuse`` folds BatchNormalization into the convolution before it, and
    ``simplify`` writes what is known before the model runs as constants. With ``dequantize`` the integers of a quantised model become
    floats, which can be trained, and activations are rounded no more. ``write_source`` also writes the model as a readable Python
    module beside ``destination``. What stands at ``destination`` is replaced where netferry itself has written it and nobody has changed
    it since; anything else, and the source itself, only with ``force``. A Hugging Face folder's tokenizer and processors are copied beside it.
    With ``dry_run`` all is done but the writing and the check.

    **Training that goes on.** ``optimizer_state`` is the source's optimizer (SGD, Adam, AdamW) as ``netferry.optimizer_state`` takes it, live or a
    file: a result in PyTorch gets what ``optimizer.load_state_dict`` takes beside it (``NAME.optimizer.pt``), a ``.keras`` file holds its
    optimizer, and the result's ``optimizer`` is a live one over its ``model``. ``learning_rate`` and ``updates`` (steps taken) are for MXNet's
    ``.states`` of a Module, which do not hold them.

    **How it is checked.** With ``verify`` source and result are run on the same inputs, an ONNX model on ``device`` (cpu, cuda, auto).
    Where they differ nothing is written, unless ``keep``. ``seed`` (drawn anew where it is None), ``data``, ``columns``, ``pixels``,
    ``quick`` and ``samples`` are as for ``verify``. ``progress(done, total, what)`` is called at each stage.

    Raises:
        NetferryError: it names the place, what was expected, what was received, and what to do.
    """
    path = None if destination is None else Path(destination)
    target = target_of(to, path, opset, write_source, fuse or simplify, device, optimizer_state is not None)
    how = reading_of(
        reading, weights=weights, task=task, signature=signature, random_weights=random_weights, unsafe=unsafe
    )
    writes = path is not None and not dry_run
    title = source.title(model)
    stages = Stages(
        bar(progress, f"converting {title}"),
        writes=writes,
        imports=target != "onnx",
        verifies=verify and not dry_run,
    )
    given = given_examples(inputs, dynamic)
    part, pairs = part_of(outputs, input_at, fix, rename)
    source.demand(model)
    replacing = Overwriting(force, (model, how.parameters, data))
    staging.demand(
        path, MODEL, replacing, companions(path, target, write_source, model, optimizer_state is not None)
    )
    stages.begin("reading")
    opened_source = how.open(model)
    if how.random_weights:
        opened_source = with_random_weights(opened_source, given, drawn(seed))
    live, given = bound(opened_source, given, part)
    stages.begin("exporting")
    export, given = exported(live, given, opset, fuse)
    if not verify:
        demand_runs(export, live, given)
    export = part.exported(export)
    floats = dequantized(export) if dequantize else None
    export = export if floats is None else floats.export
    export = simplified(export) if simplify else export
    stages.begin("importing")
    imported = (
        None if target == "onnx" else converters.import_model(export.model, target, name=Path(title).stem)
    )
    imported = fitted(imported, path)
    if optimizer_state is not None and imported is not None:
        imported = going_on(imported, live, optimizer_state, given, learning_rate, updates)
    done = Conversion(export, title, target, imported=imported)
    stages.begin("writing")

    def check(result: Callable[[], object]) -> Report | None:
        if not verify:
            return None
        from netferry.validation.verify import verify as compare

        ours, ending = (live, title) if floats is None else floats.against(live, title)
        theirs, shown = result(), without_fixed_axes(given, export)
        report = compare(
            ours, theirs, shown, names=(ending, path.name if path else target), seed=drawn(seed), device=device,
            quick=quick, count=samples, outputs=part.pairs(pairs, export), rows=rows_of(data, columns, pixels), graph=export.model, progress=stages.samples,
        )  # fmt: skip
        return report if floats is None else floats.noted(report, live, theirs, shown)

    if path is None:
        done = replace(done, report=None if dry_run else check(lambda: done.model))
    elif not dry_run:
        done = deliver(done, path, check, keep, write_source, replacing, model)
    stages.end()
    return done


def verify(
    a: object,
    b: object,
    inputs: Inputs | None = None,
    *,
    dynamic: Dynamic | None = None,
    weights: tuple[PathLike | None, PathLike | None] = (None, None),
    seed: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    device: str = "cpu",
    unsafe: bool = False,
    certificate: PathLike | None = None,
    gradients: bool = False,
    training_steps: int = 0,
    quick: bool = False,
    samples: int | None = None,
    outputs: Outputs = None,
    input_at: Sequence[str] | str | None = None,
    fix: Sizes | None = None,
    data: Data = None,
    columns: Columns = None,
    pixels: Pixels | None = None,
    force: bool = False,
    task: str | None = None,
    signature: str | None = None,
    reading: Readings = None,
    progress: Progress | None = None,
) -> Report:
    """Run two models on the same inputs; the report's ``status`` is passed, failed or not_checked.

    ``a`` and ``b`` are paths, factories or live models of any framework; ``a`` is the source, whose
    signature the inputs are made from unless ``inputs`` are given. ``rtol`` and ``atol`` replace
    netferry's own limit; both are needed, and both directions must hold. ``certificate`` names a file
    for what was compared and what came out, which ``check`` repeats; one that netferry has not written itself it
    replaces only with ``force``. With ``gradients`` both also get the same loss,
    and the gradients of every weight and input are compared; ``training_steps`` adds so many steps of SGD and of
    Adam (``report.training``). Neither side may be ONNX then. ``quick`` takes few inputs, ``samples`` is the most
    that are taken. ``data`` is a file or folder whose first rows come before all others (``columns`` and ``pixels``
    as for ``run --data``). ``outputs`` maps outputs of ``a`` to those of ``b`` that have other names; names alone cut ``a`` there, as
    ``input_at`` and ``fix`` do, to compare that part of it with ``b``. ``seed`` is
    drawn anew where it is None; the report keeps it. ``task`` is what ``a`` is for, a Hugging Face folder, ``signature`` the one that is
    meant of a SavedModel; ``reading`` says how ``a`` is read (``Reading``), or of both, as a pair. ``progress(done, total, what)`` is called at each sample.
    """
    from netferry.validation.reports.certificate_form import options_text
    from netferry.validation.verify import verify as compare

    seed, rows = drawn(seed), rows_of(data, columns, pixels)
    part, pairs = part_of(outputs, input_at, fix, None)
    ways = readings_of(reading, weights, unsafe=unsafe, task=task, signature=signature)
    weights, task, signature = (ways[0].parameters, ways[1].parameters), ways[0].task, ways[0].signature
    replacing = Overwriting(force, (a, b, *weights, data))
    staging.demand(certificate, CERTIFICATE, replacing)
    if device != "cpu":
        from netferry.inference.devices import choose

        choose(device)  # what is missing is reported before any work
    left, right = ways[0].runnable(a, cut=bool(part)), ways[1].runnable(b)
    left, examples_given = bound(left, given_examples(inputs, dynamic), part)
    right = frameworks.called(right, examples_given)
    if gradients or training_steps:
        _demand_gradients(left, right)
    report = compare(
        left, right, examples_given, names=(source.title(a), source.title(b)), seed=seed, tolerance=tolerance_of(rtol, atol),
        device=device, quick=quick, count=samples, outputs=pairs, rows=rows,
        progress=bar(progress, f"comparing {source.title(a)} and {source.title(b)}"),
    )  # fmt: skip
    if gradients or training_steps:
        report = replace(
            report, training=_training(left, right, report, examples_given, training_steps, seed)
        )
    options: dict[str, Any] = {
        "seed": seed, "rtol": rtol, "atol": atol, "device": device, "gradients": gradients,
        "training_steps": training_steps, "quick": quick, "samples": samples,
        "outputs": dict(outputs) if isinstance(outputs, Mapping) else list(part.outputs) or None,
        "task": task, "signature": signature, "input_at": list(part.inputs) or None, "fix": {name: list(sizes) for name, sizes in part.fix.items()} or None,
    }  # fmt: skip
    report = replace(report, options=options_text(options))
    if certificate is not None:
        from netferry.validation.reports import certificate as certificates
        from netferry.validation.reports.certificate import Subject

        subjects = (Subject(a, left, weights[0]), Subject(b, right, weights[1]))
        certificates.write(Path(certificate), report, subjects, examples_given, options, replacing)
    return report


def check(
    certificate: PathLike,
    a: object = None,
    b: object = None,
    inputs: Inputs | None = None,
    *,
    dynamic: Dynamic | None = None,
    weights: tuple[PathLike | None, PathLike | None] = (None, None),
    unsafe: bool = False,
    data: Data = None,
    columns: Columns = None,
    pixels: Pixels | None = None,
) -> Check:
    """Repeat what a certificate says was compared; ``.holds`` is whether it comes out as it did.

    Models that are files are found beside the certificate; others, and inputs and data that were given, must be given
    again. The seed is the certificate's.
    """
    from netferry.validation.reports import certificate as certificates
    from netferry.validation.reports.certificate import Subject

    known = certificates.read(Path(certificate))
    named = known.subject("source", a), known.subject("target", b)
    examples_given = known.inputs(given_examples(inputs, dynamic), data is not None)
    options = known.options
    reading = {key: options.pop(key) for key in ("task", "signature")}
    ways = readings_of(None, weights, unsafe=unsafe, **reading)
    left, right = (how.runnable(model) for model, how in zip(named, ways, strict=True))
    return known.check(
        (Subject(named[0], left, weights[0]), Subject(named[1], right, weights[1])),
        examples_given,
        lambda: verify(
            left,
            right,
            examples_given,
            unsafe=unsafe,
            data=data,
            columns=columns,
            pixels=pixels,
            **options,
        ),
    )


def bisect(
    a: object,
    b: object,
    inputs: Inputs | None = None,
    *,
    dynamic: Dynamic | None = None,
    weights: tuple[PathLike | None, PathLike | None] = (None, None),
    seed: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    output: PathLike | None = None,
    unsafe: bool = False,
    data: Data = None,
    columns: Columns = None,
    pixels: Pixels | None = None,
    force: bool = False,
    reading: Readings = None,
) -> Bisection:
    """Name the first tensor inside ``a`` that differs in ``b``: what ``verify`` takes (``reading`` too), across frameworks.

    ``output`` names a folder for a reproduction: the step alone, its inputs, both results and a script. It is new or
    empty, or as an earlier reproduction left it; what was changed there is replaced with ``force``.
    """
    from netferry.validation.tensors import bisect as bisection, reproduction

    ways = readings_of(reading, weights, unsafe=unsafe)
    replacing = Overwriting(force, (a, b, *(how.parameters for how in ways), data))
    staging.demand(output, reproduction.KIND, replacing)
    left, right = (how.runnable(model) for model, how in zip((a, b), ways, strict=True))
    names = (source.title(a), source.title(b))
    left, given = bound(left, given_examples(inputs, dynamic))
    right = frameworks.called(right, given)
    found = bisection.bisect(
        left, right, given, names=names, seed=drawn(seed),
        tolerance=tolerance_of(rtol, atol), rows=rows_of(data, columns, pixels),
    )  # fmt: skip
    return found if output is None else reproduction.write(found, (left, right), Path(output), replacing)


def _demand_gradients(*models: object) -> None:
    from netferry.validation.training.reference import demand_gradients

    for model in models:
        demand_gradients(model)


def _training(
    a: object, b: object, report: Report, examples_given: Sequence[Example] | None, steps: int, seed: int
) -> TrainingVerdict:
    """Both models on the same batches, which are made from the source's signature."""
    from netferry.validation.training.gradients import compare_training
    from netferry.validation.training.reference import batches_for

    signature = report.signature or frameworks.of(a).signature(a, examples_given)
    return compare_training(
        a, b, batches_for(signature, examples_given, seed), given=examples_given, steps=steps, seed=seed
    )


def run(
    model: object,
    inputs: Mapping[str, Any] | Sequence[Any],
    *,
    weights: PathLike | None = None,
    device: str = "cpu",
    unsafe: bool = False,
    reading: Reading | None = None,
) -> dict[str, Any]:
    """Run a path, a factory or a live model once; outputs come in the model's order under its names.

    ``reading`` says how the model is read (``Reading``), in place of ``weights`` and ``unsafe``.
    """
    from netferry.inference import run as inference

    how = reading_of(reading, weights=weights, unsafe=unsafe)
    return inference.run(how.runnable(model), inputs, device)


def inspect(
    model: object,
    *,
    inputs: Inputs | None = None,
    dynamic: Dynamic | None = None,
    weights: PathLike | None = None,
    signature: str | None = None,
    to: str | Sequence[str] = (),
    outputs: Sequence[str] | str | None = None,
    input_at: Sequence[str] | str | None = None,
    fix: Sizes | None = None,
    layers: bool = False,
    every_node: bool = False,
    task: str | None = None,
    unsafe: bool = False,
    reading: Reading | None = None,
) -> Inspection:
    """Describe a model as it stands in ONNX, which is what every conversion starts from.

    Of a SavedModel, ``signature`` names the one that is meant; all are listed, and the first is described where none is the
    default. ``to`` names frameworks (or is "all"): what each of them can take is found out without importing it. ``outputs``, ``input_at``
    and ``fix`` are as for ``convert``: the part is described. Of a graph of many thousand nodes and few weights the targets look at the
    first ones, and say so (``Prospect.looked_at``), unless ``every_node`` is asked for. With ``layers`` the names are listed at which the model can be cut,
    and what a run costs.
    ``reading`` says how the model is read (``Reading``), in place of ``weights``, ``task``, ``signature`` and ``unsafe``.
    """
    how = reading_of(reading, weights=weights, task=task, signature=signature, unsafe=unsafe)
    part, given = part_of(outputs, input_at, fix, None)[0], given_examples(inputs, dynamic)
    live = how.open(model)
    signatures = source.signatures(live)
    if how.signature is None and len(signatures) > 1 and _DEFAULT not in signatures:
        live = source.served(live, signatures[0])
    live, given = bound(live, given, part)
    export = part.exported(converters.export_model(live, given=given))
    tensors = list(frameworks.named("onnx").live.constants(export.model))
    weights_only = [tensor for tensor in tensors if tensor.dtype.is_floating_point()]
    counts = Counter(node.op_type for node in export.model.graph.all_nodes())
    ports: Signature = frameworks.named("onnx").signature(export.model)
    try:
        targets = prospects(export.model, to, every_node=every_node)
    except RefusedError as error:
        raise error if error.where else error.at(source.title(model)) from None
    return Inspection(
        title=source.title(model),
        framework=frameworks.of(live).title,
        signature=ports,
        operators=dict(sorted(counts.items())),
        parameters=sum(tensor.size for tensor in weights_only),
        bytes=sum(tensor.nbytes for tensor in tensors),
        opset=export.model.opset_imports.get("", 0),
        route=export.route,
        notes=export.notes,
        targets=targets,
        signatures=signatures,
        layers=parts.layers(live, export, given) if layers else (),
        totals=totals(export.model) if layers else None,
    )


_DEFAULT = "serving_default"
"""The signature of a SavedModel that is meant where none is named."""
