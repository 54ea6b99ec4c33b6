"""Convert the pretrained files of a folder to each framework, and count what arrives.

    python scripts/sweep_files.py FOLDER --results table.jsonl                 every file, every target, the default verification
    python scripts/sweep_files.py FOLDER --results table.jsonl --only ocr      files whose path holds the word
    python scripts/sweep_files.py FOLDER --results table.jsonl --again failed  what stands there with that word is tried anew
    python scripts/sweep_files.py --results table.jsonl                        the table alone
    python scripts/sweep_files.py FOLDER --to pytorch --no-verify

Each file and target is a call of ``netferry convert`` with a limit of CPU time and of memory. Each result is a line of ``--results``, so that
a later call goes on from there. The table (Markdown) counts each target and quotes what did not arrive. Ends with 0 where everything arrived.
A FOLDER may also be a file, or a folder that is a model (a SavedModel).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

TARGETS = ("pytorch", "tensorflow", "mxnet")
ENDINGS = (".onnx", ".keras", ".h5", ".hdf5", ".tflite")
QUIET = {
    "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}  # fmt: skip
LATE, LARGE = "late", "too large"
COMMAND = Path(sys.executable).with_name("netferry")
REFUSALS = (2, 3, 4, 5, 6)

Result = dict[str, Any]
"""A line of the results: file, target, word, why, seconds (of CPU), memory (MiB at most)."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--results", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--only", action="append", default=[], metavar="WORD")
    parser.add_argument("--to", action="append", choices=TARGETS, metavar="FRAMEWORK")
    parser.add_argument("--again", action="append", default=[], metavar="OUTCOME")
    parser.add_argument("--seconds", type=int, default=120, help="of CPU, for each file and target")
    parser.add_argument("--memory", type=float, default=6.0, help="GiB, for each file and target")
    parser.add_argument("--no-verify", action="store_true")
    return parser.parse_args()


def files(folders: list[Path], words: list[str]) -> Iterator[tuple[str, Path]]:
    """(the name in the table, the path)."""
    for folder in folders:
        single = folder.is_file() or (folder / "saved_model.pb").is_file()
        found = [folder] if single else [p for p in folder.rglob("*") if p.suffix in ENDINGS]
        for path in sorted(found, key=lambda one: (one.stat().st_size, one)):  # the quick ones first
            name = path.name if single else path.relative_to(folder).as_posix()
            if not words or any(word in name for word in words):
                yield name, path


def tried(path: Path, to: str, chosen: argparse.Namespace) -> Result:
    """One call of the command, ended where it takes more than it is given."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(COMMAND), "convert", str(path), f"{folder}/made", "--to", to, "--json", "--seed", "1"]
        command += ["--no-verify"] if chosen.no_verify else []
        with Path(folder, "out").open("w") as out, Path(folder, "err").open("w") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err, env=os.environ | QUIET)
        most, seconds, ended = 0.0, 0.0, ""
        while process.poll() is None:
            time.sleep(0.3)
            family = _family(process.pid)
            memory, spent = _memory(family), _spent(family)
            most, seconds = max(most, memory), max(seconds, spent)
            if memory > chosen.memory * 1024 or seconds > chosen.seconds:
                ended = LARGE if memory > chosen.memory * 1024 else LATE
                for one in reversed(family):
                    with suppress(ProcessLookupError):
                        os.kill(one, signal.SIGKILL)
        said, errors = Path(folder, "out").read_text(), Path(folder, "err").read_text()
    word, why = (ended, "more than it is given") if ended else _said(said, errors, process.returncode)
    return {"target": to, "word": word, "why": why, "seconds": round(seconds, 1), "memory": round(most)}


def _said(out: str, err: str, code: int) -> tuple[str, str]:
    """passed, failed, not_checked, converted (not verified), refused or crashed; and why."""
    try:
        found = json.loads(out)
    except json.JSONDecodeError:
        return "crashed", f"ended with {code}: {err[-300:]}"
    if "error" in found:
        return "refused" if code in REFUSALS else "crashed", " ".join(found["message"].split())[:500]
    report = found.get("report")
    if report is None:
        return "converted", ""
    reasons = [one["reason"] for one in report["outputs"] if one["status"] != "passed"]
    why = "" if report["status"] == "passed" else report["reason"] or report["unusable"] or reasons[0]
    return report["status"], " ".join(why.split())[:500]


def _family(pid: int) -> list[int]:
    """A process and all that it started, parents first."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
    return found


def _spent(family: list[int]) -> float:
    """Seconds of CPU of processes and of those that they have waited for."""
    ticks = 0
    for pid in family:
        with suppress(OSError, IndexError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory(family: list[int]) -> float:
    """MiB that processes hold together; what they share is counted once."""
    held = 0
    for pid in family:
        with suppress(OSError, IndexError):
            held += int(Path(f"/proc/{pid}/smaps_rollup").read_text().partition("\nPss:")[2].split()[0])
    return held / 1024


def known(place: Path | None) -> dict[tuple[str, str], Result]:
    if place is None or not place.exists():
        return {}
    lines = map(json.loads, place.read_text().splitlines())
    return {(one["file"], one["target"]): one for one in lines}


def table(results: list[Result]) -> str:
    """Each file with its outcomes, the counts of each target, and each reason once."""
    targets = [one for one in TARGETS if any(result["target"] == one for result in results)]
    rows = {(one["file"], one["target"]): one for one in results}
    lines = [f"| file | {' | '.join(targets)} |", f"|---|{'---|' * len(targets)}"]
    for file in sorted({one["file"] for one in results}):
        cells = [rows.get((file, target)) for target in targets]
        said = ["" if one is None else f"{one['word']}, {one['seconds']} s" for one in cells]
        lines.append(f"| {file} | {' | '.join(said)} |")
    counts = {
        target: Counter(one["word"] for one in results if one["target"] == target) for target in targets
    }
    lines += ["", *(f"{target}: {dict(count.most_common())}" for target, count in counts.items()), ""]
    lines += [
        f"- {one['file']} -> {one['target']}: {one['word']}: {one['why']}" for one in results if one["why"]
    ]
    return "\n".join(lines)


def main() -> int:
    chosen = options()
    results = known(chosen.results)
    for name, path in files(chosen.folders, chosen.only):
        for to in chosen.to or TARGETS:
            before = results.get((name, to))
            if before is not None and before["word"] not in chosen.again:
                continue
            one = {"file": name, **tried(path, to, chosen)}
            results[name, to] = one
            print(
                f"{name} -> {to}: {one['word']} {one['why']} {one['seconds']} s, {one['memory']} MiB",
                flush=True,
            )
            if chosen.results is not None:
                with chosen.results.open("a") as file:
                    file.write(json.dumps(one) + "\n")
    print(table(list(results.values())))
    return 0 if all(one["word"] in ("passed", "converted") for one in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
