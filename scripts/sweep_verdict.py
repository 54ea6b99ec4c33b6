"""Measure the verdict: a wrong model must never pass, a right one never fail.

    python scripts/sweep_verdict.py                              everything, within an hour on two cores
    python scripts/sweep_verdict.py --half faults                planted faults alone (honest: the honest pairs)
    python scripts/sweep_verdict.py --only epsilon               kinds whose name holds the word
    python scripts/sweep_verdict.py --group "onnx, onnx"         groups whose name holds the word; --list names them
    python scripts/sweep_verdict.py --sample 0.1 --seed 3        a seeded tenth of the pairs
    python scripts/sweep_verdict.py --resume results.jsonl       go on where that file ends; left out, begin anew
    python scripts/sweep_verdict.py --group "onnx, onnx" --case "integers, onnx: Clip 5"   these cases alone, with netferry's whole report

Planted faults are changed copies of networks; each is measured first, by the frameworks themselves, and counts only where it moves an
output. Honest pairs are conversions and rewritings; each counts only where the frameworks' own results agree. Then netferry
is asked. The table is printed as Markdown and kept as FILE.md and FILE.json beside the results.
Ends with 0 where netferry made no mistake, else with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sweep import run
from sweep.table import markdown, summary


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", choices=("faults", "honest"))
    parser.add_argument("--only", default="", metavar="KIND")
    parser.add_argument("--group", default="", metavar="WORD")
    parser.add_argument("--sample", type=float, default=1.0, metavar="SHARE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, metavar="FILE")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--case", default="", metavar="WORD")
    parser.add_argument("--list", action="store_true", help="name the groups and end")
    parser.add_argument("--worker", metavar="GROUP", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    chosen = options()
    if chosen.worker:
        os.environ.update(run.QUIET)
        run.worker(chosen.worker, chosen.only, chosen.sample, chosen.seed)
    groups = [one for one in run.groups() if chosen.half in (None, one.half) and chosen.group in one.name]
    if chosen.list:
        print("\n".join(one.name for one in groups))
        return 0
    if chosen.case:
        os.environ.update(run.QUIET)
        return 0 if run.explain(groups, chosen.case) else 2
    place = chosen.resume or Path(tempfile.mkdtemp(prefix="sweep_")) / "results.jsonl"
    sweep = run.Sweep(place, chosen.only, chosen.sample, chosen.seed)
    sweep.run(groups, chosen.workers)
    document = summary(sweep.results.values())
    text = markdown(document)
    place.with_suffix(".json").write_text(json.dumps(document, indent=1))
    place.with_suffix(".md").write_text(text)
    print(text)
    print(f"results: {place}")
    return 1 if any(document[half]["mistakes"] for half in document) else 0


if __name__ == "__main__":
    sys.exit(main())
