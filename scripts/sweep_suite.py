"""Run ONNX's own node suite through netferry.convert and netferry.run, and count what is right.

    python scripts/sweep_suite.py --to mxnet --results suite.jsonl            every case, as it is and with weights as initializers
    python scripts/sweep_suite.py --to mxnet --results suite.jsonl --only lstm --again
    python scripts/sweep_suite.py --results suite.jsonl                       the counts alone, and the reasons by kind

A case is right where ``netferry.run`` gives what the suite expects, refused where netferry says so before anything is written,
and else wrong or cannot run: there must be none of these. ``core`` are the cases of plain tensors and ONNX's own domain.
Cases run in one process; where that dies, the case is cannot run, and another process goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

TARGETS = ("pytorch", "tensorflow", "mxnet")
RIGHT, REFUSED, WRONG, CANNOT_RUN = "right", "refused", "wrong", "cannot run"
QUIET = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

Result = dict[str, Any]
"""A line: target, half (as it is, or frozen), name, core, word, why."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", choices=TARGETS, metavar="FRAMEWORK")
    parser.add_argument("--results", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--again", action="store_true", help="cases that are known, too")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def wanted(only: str) -> Iterator[tuple[str, Any]]:
    """(half, case) of every case whose name holds the word."""
    import onnx_cases

    for case in onnx_cases.cases():
        if only in case.name:
            yield "as it is", case
            frozen = onnx_cases.freeze(case)
            if frozen is not None:
                yield "frozen", frozen


def judged(case: Any, to: str) -> tuple[str, str]:
    import onnx_cases

    import netferry

    try:
        made = netferry.convert(case.model, to, verify=False).model
    except netferry.NetferryError as error:
        return REFUSED, str(error)
    for inputs, expected in case.data:
        try:
            outputs = netferry.run(made, list(inputs))
        except Exception as error:  # whatever: it was converted
            return CANNOT_RUN, f"{type(error).__name__}: {error}"
        try:
            onnx_cases.check(case, list(outputs.values()), expected)
        except AssertionError as error:
            return WRONG, str(error)
    return RIGHT, ""


def work(to: str, only: str, done: set[tuple[str, str]]) -> None:
    """As a process: a line before each case, and one with its result."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for half, case in wanted(only):
        if (half, case.name) in done:
            continue
        one: Result = {"target": to, "half": half, "name": case.name, "core": case.core}
        print(json.dumps(one | {"word": CANNOT_RUN, "why": "the process died"}), file=answers, flush=True)
        word, why = judged(case, to)
        print(json.dumps(one | {"word": word, "why": " ".join(why.split())[:400]}), file=answers, flush=True)
    answers.flush()
    os._exit(0)  # frameworks take long to leave, and some crash at it


def run(chosen: argparse.Namespace, known: dict[tuple[str, str, str], Result]) -> None:
    """Workers, until every case has its result."""
    command = [sys.executable, __file__, *sys.argv[1:], "--worker"]
    done = {key[1:] for key in known if key[0] == chosen.to and not chosen.again}
    while True:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | QUIET,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        json.dump(sorted(done), process.stdin)
        process.stdin.close()
        one: Result | None = None
        for line in process.stdout:
            one = json.loads(line)
            assert one is not None
            done.add((one["half"], one["name"]))
            known[chosen.to, one["half"], one["name"]] = one
        with chosen.results.open("w") as file:
            file.writelines(json.dumps(one) + "\n" for one in known.values())
        if process.wait() == 0 or one is None:
            return


def counts(results: list[Result]) -> Iterator[str]:
    """Per target and half: the shares, and the reasons of all that is not right, the most usual first."""
    for to in TARGETS:
        for half in ("as it is", "frozen"):
            own = [one for one in results if one["target"] == to and one["half"] == half]
            if not own:
                continue
            core = [one for one in own if one["core"]]
            words = Counter(one["word"] for one in own)
            shares = [sum(one["word"] == RIGHT for one in some) / max(len(some), 1) for some in (own, core)]
            yield f"\n{to}, {half}: {shares[0]:.1%} of {len(own)}, core {shares[1]:.1%} of {len(core)}; {dict(words)}"
            kinds = Counter(
                (one["word"], re.sub(r"'[^']*'|\d+|\"[^\"]*\"", "#", one["why"])[:150])
                for one in own
                if one["word"] != RIGHT
            )
            for (word, why), count in kinds.most_common():
                yield f"  {count:4} {word}: {why}"


def main() -> int:
    chosen = options()
    if chosen.worker:
        work(chosen.to, chosen.only, {(half, name) for half, name in json.load(sys.stdin)})
    lines = chosen.results.read_text().splitlines() if chosen.results.exists() else []
    known = {(one["target"], one["half"], one["name"]): one for one in map(json.loads, lines)}
    if chosen.to:
        run(chosen, known)
    print("\n".join(counts(list(known.values()))))
    return 1 if any(one["word"] in (WRONG, CANNOT_RUN) for one in known.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
