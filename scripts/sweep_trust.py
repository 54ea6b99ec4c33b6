"""What is not everyday's work of the trust tests, once and to its end: it goes on where it stopped.

    python scripts/sweep_trust.py differential RESULTS [FORM ...]      10,000 mutants of each format, in parts of 500
    python scripts/sweep_trust.py hostile RESULTS [NAME ...]           every hostile file by the command line
    python scripts/sweep_trust.py laborious RESULTS [NAME ...]         ``inspect --to all`` of every small file that asks for much work
    python scripts/sweep_trust.py audit RESULTS [NAME ...]             every hostile and good file under an audit hook
    python scripts/sweep_trust.py summary RESULTS

RESULTS is a file of JSON lines, a line for each part; what stands there is not done again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

MUTANTS, PART = 10_000, 500
SECONDS = 300
"""After which a command counts as one that does not end; what is asked for is time of the processor."""

Row = dict[str, Any]


# ---- differential ----------------------------------------------------------------------------------


def differential(folder: Path) -> Iterator[tuple[str, Callable[[], Row]]]:
    import pytest
    import test_differential as structure
    import test_differential_operators as operators
    import test_differential_tensorflow as binary
    from hostile_good import write_good

    good = write_good(folder / "good")
    files = structure.good_files(folder)

    def part(form: str, operator: bool, seeds: range) -> Row:
        with pytest.MonkeyPatch.context() as patch:
            if operator:
                read, count = operators.alike(form, seeds, good, folder, patch)
                return {"refused": count - read, "alike": read}
            refused, read = structure.alike(form, seeds, files, structure.Reads(patch), folder)
            return {"refused": refused, "alike": read, "refused later": len(seeds) - refused - read}

    for form in binary.FORMS:
        (folder / form).mkdir()  # TensorFlow takes a checkpoint of its newer form for the older one beside it
        for at in range(0, MUTANTS, PART):
            yield (
                f"{form} {at}",
                lambda form=form, at=at: dict(binary.alike(form, range(at, at + PART), folder / form)),
            )
    for room, forms in ((False, structure.FORMATS), (True, operators.FORMS)):
        for form in forms:
            name = f"{form} operators" if room else form
            for at in range(0, MUTANTS, PART):
                yield (
                    f"{name} {at}",
                    lambda form=form, room=room, at=at: part(form, room, range(at, at + PART)),
                )


# ---- commands --------------------------------------------------------------------------------------


def hostile(folder: Path) -> Iterator[tuple[str, Callable[[], Row]]]:
    import hostile as corpus
    from hostile import Kit
    from hostile_good import write_good
    from preloaded import Preloaded

    good = write_good(folder / "good")
    preloaded = Preloaded("onnx", "pytorch", "tensorflow", "mxnet")

    def one(name: str) -> Row:
        case = corpus.load()[name]
        place = folder / "work"
        shutil.rmtree(place, ignore_errors=True)
        kit = Kit(place / "case", good)
        kit.folder.mkdir(parents=True)
        arguments = corpus.arguments(case, kit)
        Path(arguments[1]).parent.mkdir()
        before = {path for path in place.rglob("*") if "__pycache__" not in str(path)}
        done = preloaded(["convert", *arguments], place)
        said = done.stderr + done.stdout
        left = {path for path in place.rglob("*") if "__pycache__" not in str(path)} - before
        lines = [line for line in said.splitlines() if line.startswith("netferry: ")]
        return {
            "code": done.code, "one_sentence": len(lines) == 1, "words": bool(re.search(case.words, said, re.DOTALL)),
            "traceback": "Traceback" in said, "marker": kit.marker.exists(), "left": sorted(map(str, left)),
            "wall": round(done.seconds, 2), "grown": done.grown, "said": said[-300:] if done.code != 5 else "",
        }  # fmt: skip

    for name in corpus.load():
        yield name, lambda name=name: one(name)


def laborious(folder: Path) -> Iterator[tuple[str, Callable[[], Row]]]:
    import laborious as corpus
    from hostile import Kit
    from hostile_good import write_good

    good = write_good(folder / "good")

    def one(name: str) -> Row:
        shutil.rmtree(folder / "work", ignore_errors=True)
        kit = Kit(folder / "work", good)
        kit.folder.mkdir()
        made = corpus.FILES[name].make(kit)
        size = sum(each.stat().st_size for each in kit.folder.rglob("*") if each.is_file())
        wall, cpu, peak, code, said = corpus.measure(made, SECONDS)
        return {
            "kind": corpus.FILES[name].kind, "size": size, "wall": round(wall, 2), "cpu": round(cpu, 2), "peak": peak << 10,
            "code": code, "traceback": "Traceback" in said, "said": said[:300],
        }  # fmt: skip

    for name in corpus.load():
        yield name, lambda name=name: one(name)


def audit(folder: Path) -> Iterator[tuple[str, Callable[[], Row]]]:
    import test_hostile_files as tests
    from hostile import Kit
    from hostile_good import write_good
    from preloaded import Preloaded

    good = write_good(folder / "good")
    preloaded = Preloaded("onnx", "pytorch", "tensorflow", "mxnet")

    def row(arguments: list[str], place: Path, own: str = "\0") -> Row:
        code, found = tests.audited(preloaded, arguments, place)
        return {
            "code": code,
            "past": [each for each in found if own not in each],
            "marker": (place / "case.marker").exists(),
        }

    def fresh() -> Path:
        shutil.rmtree(folder / "work", ignore_errors=True)
        (folder / "work").mkdir()
        return folder / "work"

    def bad(name: str) -> Row:
        place = fresh()
        arguments = tests.prepared(tests.CASES[name], good, place)
        return row(arguments, place, arguments[0].rpartition(":")[0] if ".py:" in arguments[0] else "\0")

    def sound(name: str) -> Row:
        place = fresh()
        kit = Kit(place / "in", good)
        kit.folder.mkdir()
        (place / "out").mkdir()
        sizes = ["--input", "x:2,3"] if name == "script.pt" else []
        return row([str(kit.copy(name)), str(place / "out" / tests.GOOD[name]), *sizes], place)

    for name in tests.CASES:
        yield name, lambda name=name: bad(name)
    for name in tests.GOOD:
        yield f"good {name}", lambda name=name: sound(name)


# ---- the run ---------------------------------------------------------------------------------------

HALVES = {"differential": differential, "hostile": hostile, "laborious": laborious, "audit": audit}


def rows_of(results: Path) -> list[Row]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def run(half: str, results: Path, only: list[str]) -> None:
    done = {(row["half"], row["name"]) for row in rows_of(results)}
    with tempfile.TemporaryDirectory(prefix="sweep-trust-") as folder, results.open("a") as file:
        for name, work in HALVES[half](Path(folder)):
            if (half, name) in done or (only and not any(name.startswith(each) for each in only)):
                continue
            start = time.process_time()
            try:
                row = work()
            except AssertionError as error:
                row = {"fault": " ".join([str(error)[:600], *getattr(error, "__notes__", [])])}
            row = {"half": half, "name": name, "own_cpu": round(time.process_time() - start, 1), **row}
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


def summary(results: Path) -> None:
    rows = rows_of(results)
    totals: dict[str, Counter[str]] = {}
    for row in rows:
        form = (
            f"{row['half']} {row['name'].rpartition(' ')[0]}"
            if row["half"] == "differential"
            else row["half"]
        )
        found = totals.setdefault(form, Counter())
        found["parts"] += 1
        found["faults"] += "fault" in row
        found.update({key: value for key, value in row.items() if key.startswith("TensorFlow ended")})
        for key in ("refused", "alike", "refused later", "one_sentence", "words", "traceback", "marker"):
            found[key] += int(row.get(key, 0))
        found["own_cpu"] += row["own_cpu"]
        found[f"code {row.get('code')}"] += "code" in row
        found["left"] += bool(row.get("left"))
        found["past"] += bool(row.get("past"))
    for form, found in totals.items():
        print(form, ", ".join(f"{key} {round(value, 1)}" for key, value in found.items() if value))
    for row in rows:
        if "fault" in row or row.get("past") or row.get("traceback") or row.get("marker") or row.get("left"):
            print(json.dumps(row)[:600])
    timed = sorted((row for row in rows if "cpu" in row), key=lambda row: -row["cpu"])[:12]
    for row in timed:
        print(
            f"{row['half']:10} {row['name']:50} {row['cpu']:6.1f} cpu {row['wall']:6.1f} s {row.get('peak', 0) >> 20:5} MiB"
        )


if __name__ == "__main__":
    if sys.argv[1] == "summary":
        summary(Path(sys.argv[2]))
    else:
        run(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
