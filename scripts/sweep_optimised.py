"""Convert what onnxruntime's optimiser and quantiser make of thirty networks, and count what arrives.

    python scripts/sweep_optimised.py                          every network, kind and target, with the default verification
    python scripts/sweep_optimised.py --only lstm --kind QDQ   networks and kinds whose name holds the word
    python scripts/sweep_optimised.py --sample 0.2 --seed 3    a seeded fifth
    python scripts/sweep_optimised.py --to pytorch --no-verify

Each line says what became of one file; the table at the end counts them. Ends with 0 where everything arrived.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sweep import networks_keras, networks_torch, optimised
from sweep.case import Input, Network
from sweep.outcome import ARRIVED, line, outcome

IDS = (Input("ids", ("batch", "time"), "int64", 59), Input("mask", ("batch", "time"), "int64", 1))


def networks() -> list[Network]:
    found = [one for one in networks_torch.networks() if one.precision == "float32"]
    found += [one for one in networks_keras.networks() if one.precision == "float32"]
    for make in (optimised.bert, optimised.gpt2, optimised.t5):
        found.append(Network(make.__name__, "pytorch", make.__name__, make, IDS))
    found.append(Network("vit", "pytorch", "vit", optimised.vit, (Input("x", ("batch", 3, 16, 16)),)))
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--kind", default="", metavar="WORD")
    parser.add_argument("--to", action="append", metavar="FRAMEWORK")
    parser.add_argument("--sample", type=float, default=1.0, metavar="SHARE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-verify", action="store_true")
    return parser.parse_args()


def files(chosen: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(network, kind, file): what its tool cannot make is told and left out."""
    rng = random.Random(chosen.seed)
    for place, network in enumerate(one for one in networks() if chosen.only in one.name):
        source = folder / f"{place}.onnx"
        try:
            optimised.exported(network, source)
        except Exception as error:  # whatever an exporter raises
            print(f"- {network.name}: not exported: {line(error)}", flush=True)
            continue
        for kind, make in optimised.KINDS.items():
            if chosen.kind not in kind or rng.random() >= chosen.sample:
                continue
            path = folder / f"{place}-{kind.replace(' ', '-')}.onnx"
            try:
                make(source, path, network)
            except Exception as error:  # whatever a quantiser raises
                print(f"- {network.name}, {kind}: not made: {line(error)}", flush=True)
                continue
            yield network.name, kind, path


def main() -> int:
    chosen = options()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    targets = chosen.to or ["pytorch", "tensorflow"]
    table: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, kind, path in files(chosen, Path(folder)):
            for to in targets:
                start = time.process_time()
                word, sentence = outcome(path, to, not chosen.no_verify)
                table[kind, to, word] += 1
                spent = time.process_time() - start
                foreign = " ".join(optimised.foreign(path))
                print(f"{name}, {kind} -> {to}: {word} {sentence} [{foreign}] {spent:.1f} s", flush=True)
    for (kind, to, word), count in sorted(table.items()):
        print(f"{kind:14} {to:12} {word:12} {count}")
    return 0 if all(word in ARRIVED for _, _, word in table) else 1


if __name__ == "__main__":
    sys.exit(main())
