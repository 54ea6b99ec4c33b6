"""Every model of the libraries of vision and audio, small and with random weights, to ONNX and back: right at several sizes, or why not.

    python scripts/sweep_vision.py                             what has no result yet, into sweep-vision.json
    python scripts/sweep_vision.py timm/levit_128s --again     this alone, anew
    python scripts/sweep_vision.py --library timm --every 10   a seeded tenth of one library
    python scripts/sweep_vision.py --causes                    what was not right, by cause
    python scripts/sweep_vision.py --table --results scripts/models/results_vision.json   those of docs/models-vision.md
    python scripts/sweep_vision.py --peers 30                  a seeded thirty once more, beside PyTorch's own exporters

It runs where the libraries are installed (torchvision, timm, ultralytics, open_clip_torch, segmentation-models-pytorch, kornia, monai,
vit-pytorch, x-transformers, torchaudio), and leaves out those that are not. Each model runs in a process of its own, and each result is
kept as soon as it is there. The oracle is the model itself; an output is right within 1e-3 of its scale at the sizes of the export and at
others. What is right goes back to PyTorch, and a third of it to Keras.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("YOLO_OFFLINE", "true")

LIMIT_S = 1200.0
LIMIT_CPU_S = 150
"""Seconds that a model may take with all its ways: of the clock, and of work."""
DISTRIBUTIONS = (
    "torch torchvision torchaudio timm ultralytics open_clip_torch segmentation-models-pytorch kornia monai vit-pytorch x-transformers "
    "onnxruntime onnxruntime-gpu tensorflow keras netferry"
).split()


def examined(name: str) -> Iterator[dict[str, Any]]:
    """What becomes of a model, step by step; a third of them go to Keras too."""
    from models import examine_vision

    third = zlib.crc32(name.encode()) % 3 == 0
    return examine_vision.examined(name, ("pytorch", "tensorflow") if third else ("pytorch",))


def warm(names: list[str], peers: bool) -> None:
    """Do once in this process what every model needs, so that each fork has it."""
    import onnxruntime  # noqa: F401
    import torch
    from models.families_vision import MODULES
    from torch import nn

    import netferry

    torch.set_num_threads(1)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU()).eval()
    done = netferry.convert(layers, "onnx", verify=False, inputs=[torch.zeros(1, 3, 8, 8)])
    netferry.convert(done.model, "pytorch", verify=False)
    if peers:
        for kind in (True, False):
            torch.onnx.export(layers, (torch.zeros(1, 3, 8, 8),), os.devnull, dynamo=kind)
    for library in {name.partition("/")[0] for name in names}:
        import_module(MODULES.get(library, library))


def versions(listed: int) -> dict[str, str]:
    """What was swept with, and when, and how many models there are."""
    found = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "listed": str(listed)}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def causes(known: Mapping[str, Any]) -> str:
    """What was not right, the most frequent cause first."""
    groups: dict[str, list[str]] = {}
    for name, one in known.items():
        if name == "versions":
            continue
        found = {"onnx": one.get("why", "")} if one["status"] != "right" else {}
        found |= {way: one[way] for way in ("pytorch", "tensorflow") if one.get(way, "right") != "right"}
        for way, why in found.items():
            cause = re.sub(r"\d+", "#", why)[:160]
            groups.setdefault(f"{one['status'] if way == 'onnx' else 'to ' + way}: {cause}", []).append(name)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return "\n".join(f"{len(names):4d}  {cause}\n      {', '.join(names)}" for cause, names in ordered)


def counts(known: Mapping[str, Any]) -> str:
    """How many came to what."""
    ones = [one for name, one in known.items() if name != "versions"]
    parts = [
        f"{sum(one['status'] == status for one in ones)} {status}"
        for status in sorted({one["status"] for one in ones})
    ]
    parts += [
        f"{way}: {sum(one[way] == 'right' for one in ones if way in one)} of {sum(way in one for one in ones)}"
        for way in ("pytorch", "tensorflow")
    ]
    return ", ".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--library", action="append", default=[])
    parser.add_argument("--results", type=Path, default=Path("sweep-vision.json"))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--causes", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--peers", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=7200.0, help="stop after so many")
    given = parser.parse_args()
    known = json.loads(given.results.read_text()) if given.results.exists() else {}
    if given.causes:
        print(causes(known), counts(known), sep="\n")
        return 0
    if given.table:
        from models.page_vision import page

        print(page(known), end="")
        return 0
    from models import families_vision, peers
    from sweep.forked import forked

    names = given.names or [
        name
        for name in families_vision.names()
        if not given.library or name.partition("/")[0] in given.library
    ]
    if not given.names:
        random.Random(given.seed).shuffle(names)
    names = names[: given.peers or -(-len(names) // given.every)]
    warm(names, bool(given.peers))
    until, listed = time.monotonic() + given.seconds, len(families_vision.names())
    for name in names:
        done = known.get(name, {})
        if time.monotonic() > until or (
            not given.again and ("peers" in done if given.peers else "status" in done)
        ):
            continue
        if given.peers:
            found = forked(partial(peers.beside_peers, name), LIMIT_S, LIMIT_CPU_S) or {}
            known[name] = {**done, "peers": found}
        else:
            found = forked(partial(examined, name), LIMIT_S, LIMIT_CPU_S) or {
                "status": "crashed",
                "why": "the process ended",
            }
            known[name] = {key: value for key, value in found.items() if value != ""}
        known["versions"] = versions(listed)
        given.results.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        print(f"{known[name].get('status', ''):<10} {name}: {found}"[:300], flush=True)
    print(counts(known))
    return 0


if __name__ == "__main__":
    sys.exit(main())
