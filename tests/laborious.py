"""Makes small files that ask for much work: all of them are below a megabyte, and none is damaged.

``python tests/laborious.py FOLDER`` writes them all; ``python tests/laborious.py FOLDER --measure`` also runs
``netferry inspect --to all`` over each and prints its seconds, its memory and what was said. ``words`` are what the
refusal says; None where the file is carried.
"""

from __future__ import annotations

import importlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostile import Kit

Given = Path | list[str]
Maker = Callable[[Kit], Given]
KINDS = ("onnx", "pytorch", "keras", "saved_model", "mxnet", "tflite", "megabytes")


@dataclass(frozen=True)
class Laborious:
    """``kind`` is the file's format; what ``make`` gives is a model, or the arguments of the command that opens it."""

    name: str
    kind: str
    make: Maker
    words: str | None


FILES: dict[str, Laborious] = {}


def laborious(words: str | None, name: str = "") -> Callable[[Maker], Maker]:
    """Enter a maker under its own name, its kind being the module's."""

    def enter(make: Maker) -> Maker:
        key, kind = name or make.__name__, make.__module__.removeprefix("laborious_")
        assert key not in FILES, key
        FILES[key] = Laborious(key, kind, make, words)
        return make

    return enter


def load() -> dict[str, Laborious]:
    for kind in KINDS:
        importlib.import_module(f"laborious_{kind}")
    return FILES


def measure(given: Given, seconds: int) -> tuple[float, float, int, int, str]:
    """Wall and CPU seconds, peak KiB of one of its processes, exit code and first line of ``inspect --to all``, or of its own command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    asked = given if isinstance(given, list) else ["inspect", str(given), "--to", "all", "--json"]
    command = [sys.executable, "-m", "netferry", *asked]
    watch = [sys.executable, __file__, "--watched", *command, "--time-limit", str(seconds), "--memory", "3"]
    done = subprocess.run(watch, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.monotonic() - start
    code, peak, said = done.stdout.split("\n", 2)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, int(peak), int(code), said.strip()


def _watched(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, sep="\n")
    print(done.stdout[:300] if done.returncode == 0 else done.stdout[:600] + done.stderr[-300:])


if __name__ == "__main__":
    if sys.argv[1] == "--watched":
        _watched(sys.argv[2:])
        raise SystemExit
    sys.modules["laborious"] = sys.modules["__main__"]
    from hostile_good import write_good

    home, only = Path(sys.argv[1]), sys.argv[3:]
    if not (home / "good").exists():
        write_good(home / "good")
    for one in load().values():
        if only and not any(word in one.name or word == one.kind for word in only):
            continue
        kit = Kit(home / one.name, home / "good")
        kit.folder.mkdir(exist_ok=True)
        made = one.make(kit)
        if "--measure" in sys.argv:
            wall, cpu, peak, code, said = measure(made, 90)
            size = sum(f.stat().st_size for f in kit.folder.rglob("*") if f.is_file())
            row = f"{one.kind:12} {one.name:44} {size >> 10:5} KiB {wall:6.1f} s {cpu:6.1f} cpu {peak >> 10:6} MiB  {code}"
            print(row, " ".join(said.split())[:260], flush=True)
