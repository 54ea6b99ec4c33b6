"""Groups in processes of their own, with a time limit for each case; what is known already is not done again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sweep.case import Group, chosen
from sweep.examine import Result, asked, examine

LIMIT = 240.0
"""Seconds without a line from a worker, after which its case is late; making a group's models counts too."""

QUIET = {
    "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error",
}  # fmt: skip
MARK = "sweep> "


def groups() -> list[Group]:
    from sweep import faults, honest

    return [*faults.groups(), *honest.groups()]


# ---- in the worker ----------------------------------------------------------------------------------


def work(name: str, only: str, share: float, seed: int, known: set[str]) -> Iterator[Result]:
    """Examine the cases of one group that are chosen and not known; begins are told, too."""
    group = next(group for group in groups() if group.name == name)
    for case in group.cases():
        if case.key in known or only not in case.kind or not chosen(case.key, share, seed):
            continue
        yield {"begin": case.key, "half": case.half, "kind": case.kind, "name": case.name}
        yield {"group": name, **examine(case)}


def explain(chosen_groups: list[Group], word: str) -> bool:
    """Print what is known of the cases whose key holds the word, with netferry's whole report; False where there is none."""
    found = False
    for group in chosen_groups:
        for case in group.cases():
            if word in case.key:
                found = True
                print(json.dumps(examine(case), indent=1))
                pair = case.build()
                print("" if pair is None else asked(pair).to_text(), flush=True)
    return found


def worker(name: str, only: str, share: float, seed: int) -> None:
    """As a process: the known keys on stdin, lines of JSON on stdout, everything else on stderr."""
    warnings.filterwarnings("ignore")
    known = set(json.load(sys.stdin))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for result in work(name, only, share, seed, known):
        answers.write(MARK + json.dumps(result) + "\n")
        answers.flush()
    answers.write(MARK + json.dumps({"end": name}) + "\n")
    answers.flush()
    os._exit(0)  # frameworks take long to leave, and some crash at it


# ---- in the parent ----------------------------------------------------------------------------------


class Sweep:
    """Runs groups and keeps each result as a line of ``place``, so that a later call goes on from there."""

    def __init__(self, place: Path, only: str = "", share: float = 1.0, seed: int = 0) -> None:
        self.place, self.only, self.share, self.seed = place, only, share, seed
        self.results: dict[str, Result] = {}
        self._lock = threading.Lock()
        if place.exists():
            for line in place.read_text().splitlines():
                self._known(json.loads(line))

    def _known(self, result: Result) -> None:
        self.results[result["key"]] = result

    def _keep(self, result: Result) -> None:
        with self._lock, self.place.open("a") as file:
            self._known(result)
            file.write(json.dumps(result) + "\n")

    def run(self, chosen_groups: list[Group], workers: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            for name, count, seconds in pool.map(self._group, chosen_groups):
                print(f"{seconds:6.0f} s  {count:4d}  {name}", file=sys.stderr, flush=True)

    def _group(self, group: Group) -> tuple[str, int, float]:
        begun, before = time.monotonic(), len(self.results)
        while self._attempt(group):
            pass
        return group.name, len(self.results) - before, time.monotonic() - begun

    def _attempt(self, group: Group) -> bool:
        """One process; True where it ended early at a case that is known now, so that the rest can go on."""
        command = [
            sys.executable,
            str(Path(__file__).parents[1] / "sweep_verdict.py"),
            "--worker",
            group.name,
        ]
        command += ["--only", self.only, "--sample", str(self.share), "--seed", str(self.seed)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | QUIET,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        json.dump(list(self.results), process.stdin)
        process.stdin.close()
        said: list[str] = []
        threading.Thread(target=said.extend, args=(process.stderr,), daemon=True).start()
        clock = _Clock(process)
        begun: Result = {}
        for line in process.stdout:
            clock.touch()
            answer = json.loads(line.removeprefix(MARK)) if line.startswith(MARK) else {}
            if "begin" in answer:
                begun = answer
            elif "key" in answer:
                self._keep(answer)
                begun = {}
            elif "end" in answer:
                clock.stop()
                return False
        clock.stop()
        return self._died(group, begun, clock.late, "".join(said)[-300:])

    def _died(self, group: Group, begun: Result, late: bool, said: str) -> bool:
        key = begun.get("begin", f"{group.half}/{group.name}/its models")
        words = {
            "half": group.half,
            "kind": begun.get("kind", group.name),
            "name": begun.get("name", "its models"),
        }
        reason = f"no end within {LIMIT:.0f} s" if late else f"the process died: {said}"
        self._keep(
            {
                "key": key,
                **words,
                "field": "",
                "whole": False,
                "state": "late" if late else "broken",
                "reason": reason,
                "seconds": 0,
            }
        )
        return bool(begun)


class _Clock(threading.Thread):
    """Ends a process that has said nothing for too long."""

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        super().__init__(daemon=True)
        self._process, self.late, self._done = process, False, threading.Event()
        self.touch()
        self.start()

    def touch(self) -> None:
        self._last = time.monotonic()

    def stop(self) -> None:
        self._done.set()
        self._process.wait()

    def run(self) -> None:
        while not self._done.wait(1.0):
            if time.monotonic() - self._last > LIMIT:
                self.late = True
                self._process.kill()
                return
