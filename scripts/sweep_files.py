"""Convert the pretrained files of a folder to each framework, and count what arrives.

    python scripts/sweep_files.py FOLDER --results table.jsonl                 every file, every target, the default verification
    python scripts/sweep_files.py FOLDER --results table.jsonl --only ocr      files whose path holds the word
    python scripts/sweep_files.py FOLDER --results table.jsonl --again failed  what stands there with that word is tried anew
    python scripts/sweep_files.py --results table.jsonl                        the table alone
    python scripts/sweep_files.py FOLDER --to pytorch --no-verify

Each file and target is a process of its own with a limit of CPU time and of memory. Each result is a line of ``--results``, so that
a later call goes on from there. The table (Markdown) counts each target and quotes what did not arrive. Ends with 0 where everything arrived.
A FOLDER may also be a file, or a folder that is a model (a SavedModel).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

TARGETS = ("pytorch", "tensorflow", "mxnet")
ENDINGS = (".onnx", ".keras", ".h5", ".hdf5", ".tflite")
QUIET = {
    "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}  # fmt: skip
LATE, LARGE = "late", "too large"
PAGE = os.sysconf("SC_PAGE_SIZE")

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
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def worker(path: str, to: str, verify: bool) -> None:
    """As a process: one line of JSON on stdout."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from sweep.outcome import outcome

    json.dump(outcome(Path(path), to, verify), answers)
    answers.flush()
    os._exit(0)  # frameworks take long to leave, and some crash at it


def files(folders: list[Path], words: list[str]) -> Iterator[tuple[str, Path]]:
    """(the name in the table, the path), in order."""
    for folder in folders:
        single = folder.is_file() or (folder / "saved_model.pb").is_file()
        found = [folder] if single else sorted(p for p in folder.rglob("*") if p.suffix in ENDINGS)
        for path in found:
            name = path.name if single else path.relative_to(folder).as_posix()
            if not words or any(word in name for word in words):
                yield name, path


def tried(path: Path, to: str, chosen: argparse.Namespace) -> Result:
    """One process, ended where it takes more than it is given."""
    command = [sys.executable, __file__, "--worker", str(path), to]
    command += ["--no-verify"] if chosen.no_verify else []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | QUIET,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (chosen.seconds, chosen.seconds + 5)),
    )  # fmt: skip
    most, seconds, large = 0.0, 0.0, False
    while process.poll() is None:
        time.sleep(0.2)
        memory, seconds = _taken(process.pid, seconds)
        most = max(most, memory)
        if memory > chosen.memory * 1024:
            large = True
            process.kill()
    out, err = process.communicate()
    word, why = _ended(out, err, process.returncode, large, seconds >= chosen.seconds - 1)
    return {"target": to, "word": word, "why": why, "seconds": round(seconds, 1), "memory": round(most)}


def _taken(pid: int, before: float) -> tuple[float, float]:
    """MiB in memory and seconds of CPU of a process; what was known, once it has gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except (OSError, IndexError):
        return 0.0, before
    return pages * PAGE / 2**20, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _ended(out: bytes, err: bytes, code: int, large: bool, late: bool) -> tuple[str, str]:
    if large:
        return LARGE, "more memory than it is given"
    if out:
        word, why = json.loads(out)
        return word, why
    if late:
        return LATE, "more time than it is given"
    return "crashed", f"ended with {code}: {err.decode(errors='replace')[-300:]}"


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
    if chosen.worker:
        worker(*chosen.worker, verify=not chosen.no_verify)
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
