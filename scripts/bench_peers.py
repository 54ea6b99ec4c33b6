"""ONNX files through netferry and through its peers: what a simplified file holds, what an import takes and gives.

python scripts/bench_peers.py simplify FILE...     nodes, bytes, CPU time; whether float64 gives the same bits
python scripts/bench_peers.py import FILE...       CPU time, latency beside onnxruntime, how much of the weights can be trained

The peers (onnxsim, onnxslim; onnx2torch, onnx2pytorch) are taken from where ``PYTHONPATH`` finds them; one that is missing, or
fails, has an empty cell. Each tool and file is a process of its own, the tools in turns; the tables are Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

OURS = "netferry"
Figures = dict[str, Any]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("simplify", "import"))
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--worker", metavar="TOOL", help=argparse.SUPPRESS)
    return parser.parse_args()


# ---- simplifying --------------------------------------------------------------------------------------


def by_netferry(source: Path, made: Path) -> None:
    import netferry

    netferry.convert(source, "onnx", destination=made, simplify=True, verify=False)


def by_onnxsim(source: Path, made: Path) -> None:
    import onnxsim

    onnx.save(onnxsim.simplify(onnx.load(source))[0], made)


def by_onnxslim(source: Path, made: Path) -> None:
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(source)), made)


SIMPLIFIERS: Mapping[str, Callable[[Path, Path], None]] = {
    OURS: by_netferry,
    "onnxsim": by_onnxsim,
    "onnxslim": by_onnxslim,
}


def simplified(tool: str, source: Path) -> Figures:
    made = Path(tempfile.mkdtemp()) / "made.onnx"
    warm(SIMPLIFIERS[tool])
    start = time.process_time()
    SIMPLIFIERS[tool](source, made)
    seconds = time.process_time() - start
    return {
        "nodes": count(made), "bytes": made.stat().st_size, "seconds": seconds, "alike": alike(source, made),
    }  # fmt: skip


def warm(simplify: Callable[[Path, Path], None]) -> None:
    """The imports, with a small model."""
    folder = Path(tempfile.mkdtemp())
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { h = Abs (x) y = Neg (h) }'
        ),
        folder / "small.onnx",
    )
    simplify(folder / "small.onnx", folder / "made.onnx")


def count(path: Path) -> int:
    """The nodes of a file, of the graphs inside it too."""
    return sum(1 for _ in nodes(onnx.load(path, load_external_data=False).graph))


def nodes(graph: onnx.GraphProto) -> Any:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def tensors(graph: onnx.GraphProto) -> Any:
    """What a graph holds: initializers, and constants among its nodes, those of the graphs inside it too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from tensors(attribute.g)


def alike(source: Path, made: Path) -> bool | None:
    """Whether both give the same bits in float64, on one sample; None where the evaluator does not take one of them."""
    from netferry.converters.onnx import double

    try:
        runs = [double.as_float64(onnx.load(path)) for path in (source, made)]
        arrays = inputs(source)
        one, other = (list(run.run(arrays).values()) for run in runs)
    except Exception:  # an operator that ONNX's evaluator lacks
        return None
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def inputs(source: Path) -> list[Any]:
    """One sample at which the model runs, as the verification makes it."""
    from netferry.inference.run import runnable
    from netferry.validation.samples.effort import weigher
    from netferry.validation.samples.explore import made_for

    model = runnable(source, threads=1)
    own = weigher([source])
    made = made_for(model, [(source, model.signature)], quick=True, hollow=own.hollow, beyond=own.beyond)
    return list(made.samples[0].arrays.values())


# ---- importing ----------------------------------------------------------------------------------------


def in_netferry(source: Path) -> Any:
    import netferry

    return netferry.convert(source, "pytorch", verify=False).model


def in_onnx2torch(source: Path) -> Any:
    import onnx2torch

    return onnx2torch.convert(str(source)).eval()


def in_onnx2pytorch(source: Path) -> Any:
    from onnx2pytorch import ConvertModel

    return ConvertModel(onnx.load(source), experimental=True).eval()


IMPORTERS: Mapping[str, Callable[[Path], Any]] = {
    OURS: in_netferry, "onnx2torch": in_onnx2torch, "onnx2pytorch": in_onnx2pytorch,
}  # fmt: skip


def imported(tool: str, source: Path) -> Figures:
    import torch

    torch.set_num_threads(1)
    arrays = inputs(source)
    warm(lambda small, _: IMPORTERS[tool](small) and None)
    start = time.process_time()
    module = IMPORTERS[tool](source)
    seconds = time.process_time() - start
    given = [torch.from_numpy(array) for array in arrays]
    from netferry.inference.run import runnable

    session = runnable(source, threads=1)
    feed = dict(zip((spec.name for spec in session.signature.inputs), arrays, strict=True))
    with torch.no_grad():
        found = module(*given)
        ours, theirs = medians(lambda: module(*given), lambda: session.run(feed))
    first = (
        found
        if isinstance(found, torch.Tensor)
        else next(iter(found.values() if isinstance(found, dict) else found))
    )
    want = next(iter(session.run(feed).values()))
    weights = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    held = sum(
        int(np.prod(tensor.dims))
        for tensor in tensors(onnx.load(source).graph)
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims
    )
    return {
        "seconds": seconds,
        "latency": ours / theirs,
        "trainable": weights / max(held, 1),
        "off": float(np.abs(first.detach().numpy() - want).max() / max(np.abs(want).max(), 1e-30)),
    }


def medians(*functions: Callable[[], object], rounds: int = 15) -> list[float]:
    """Seconds of CPU that each takes, in turns."""
    taken: list[list[float]] = [[] for _ in functions]
    for number in range(rounds + 2):
        for function, times in zip(functions, taken, strict=True):
            start = time.process_time()
            function()
            if number > 1:
                times.append(time.process_time() - start)
    return [float(np.median(times)) for times in taken]


# ---- both ---------------------------------------------------------------------------------------------

TOOLS: Mapping[str, tuple[Mapping[str, Any], Callable[[str, Path], Figures]]] = {
    "simplify": (SIMPLIFIERS, simplified),
    "import": (IMPORTERS, imported),
}


def child(what: str, tool: str, file: Path) -> Figures:
    """What one tool makes of one file; empty where it fails."""
    command = [sys.executable, __file__, what, str(file), "--worker", tool]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    lines = done.stdout.splitlines()
    return dict(json.loads(lines[-1])) if not done.returncode and lines else {}


def row(what: str, file: Path, figures: Sequence[Figures]) -> str:
    cells = [file.name]
    if what == "simplify":
        cells += [f"{count(file)} nodes, {file.stat().st_size:,} B"]
    for one in figures:
        if not one:
            cells.append("fails")
        elif what == "simplify":
            bits = {True: "same bits", False: "other bits", None: "not compared"}[one["alike"]]
            cells.append(f"{one['nodes']}, {one['bytes']:,} B, {one['seconds']:.2f} s, {bits}")
        else:
            right = "" if one["off"] < 1e-3 else f", **off by {one['off']:.1g}**"
            cells.append(f"{one['seconds']:.2f} s, {one['latency']:.2f} x, {one['trainable']:.0%}{right}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    chosen = options()
    tools, measure = TOOLS[chosen.what]
    if chosen.worker:
        warnings.simplefilter("ignore")
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        print(json.dumps(measure(chosen.worker, chosen.files[0])), file=answers, flush=True)
        os._exit(0)
    heads = ["file", *(["as it is"] if chosen.what == "simplify" else []), *tools]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for file in chosen.files:
        print(row(chosen.what, file, [child(chosen.what, tool, file) for tool in tools]), flush=True)


if __name__ == "__main__":
    main()
