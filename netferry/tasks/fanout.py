"""Many tasks, none of which can harm another: each in a process of its own, here or over Ray, the finished ones kept.

A task is a call of a function of netferry's on files and plain values; its answer is JSON. Its process has limits on
memory and time (``guard``), so that a crash is the answer of that task and of no other. An answer is kept in
``folder`` as soon as it is there, with a digest of what it is the answer to; the same task is not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from netferry.conversion import MODEL
from netferry.converters import source
from netferry.converters.disk.digests import below, of_file
from netferry.converters.disk.ledger import Overwriting, digest_of, written
from netferry.converters.disk.staging import demand, staged
from netferry.converters.errors import NetferryError, UsageError
from netferry.runtime import guard
from netferry.runtime.limits import Limits
from netferry.validation.reports.report import versions

ANSWER = "answer"
"""What is kept here, as the ledger has it."""

Document = Mapping[str, Any]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Task:
    """A call: ``function`` as ``guard.call`` takes it. ``known_by`` distinguishes it from all others, with what is in ``files``.

    Where it ``writes`` a model, its answer holds only as long as that stands as it was written. ``imports`` is a person's own code,
    which its process reads first. No process is started where one of its ``models`` is not there.
    """

    name: str
    function: str
    arguments: Sequence[Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    known_by: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Path] = ()
    limits: Limits = field(default_factory=Limits)
    writes: Path | None = None
    imports: Sequence[str] = ()
    models: Sequence[str] = ()

    def digest(self, contents: Callable[[Path], Mapping[str, str]]) -> str:
        """Of the call, of the files' ``contents`` as they are now, and of the versions that take part, netferry's own code
        among them."""
        found = [(str(file), contents(file)) for file in self.files]
        facts = [dict(self.known_by), found, versions(), _own_code()]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What a task gave: a document, or the error that it ended with. ``kept`` is whether it is of an earlier run."""

    task: Task
    document: Document | None
    error: Document | None
    seconds: float
    kept: bool = False


def fan_out(
    tasks: Sequence[Task],
    folder: Path | None,
    *,
    engine: str = "local",
    workers: int | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> list[Answer]:
    """Every task's answer, in the order of the tasks; those that came to a document are kept in ``folder``, if there is one.

    A file of another's that stands where an answer is to be kept is replaced only with ``force``.

    ``engine`` is "local" (``workers`` processes at once, one by default) or "ray".
    """
    if engine not in ENGINES:
        raise UsageError("no such engine", expected=" or ".join(ENGINES), received=engine)
    if workers is not None and workers < 1:
        raise UsageError("at least one worker is needed", received=workers)
    names = {_plain(task.name) for task in tasks}
    if len(names) < len(tasks):
        raise UsageError("two tasks have one name", received=", ".join(task.name for task in tasks[:20]))
    paths = {} if folder is None else {task.name: folder / f"{_plain(task.name)}.json" for task in tasks}
    replacing = Overwriting(force)
    for path in paths.values():
        demand(path, ANSWER, replacing)
    contents = cache(_contents)  # a file that many tasks name is read once
    digests = {task.name: task.digest(contents) for task in tasks if task.name in paths}
    known = (
        (task.name, _kept(paths[task.name], task, digests[task.name])) for task in tasks if task.name in paths
    )
    answers = {name: kept for name, kept in known if kept is not None}
    own = source.imported_code()
    tasks = [replace(task, imports=tuple(dict.fromkeys([*own, *task.imports]))) for task in tasks]
    tell = progress or _silent
    tell(len(answers), len(tasks), f"{len(answers)} kept from an earlier run" if answers else "begun")
    for answer in ENGINES[engine]([task for task in tasks if task.name not in answers], workers):
        answers[answer.task.name] = answer
        digest = digests.get(answer.task.name)
        if answer.document is not None and digest is not None and answer.task.digest(_contents) == digest:
            _keep(paths[answer.task.name], answer, digest, replacing)  # else a file changed meanwhile
        tell(len(answers), len(tasks), answer.task.name)
    return [answers[task.name] for task in tasks]


def _silent(done: int, total: int, text: str) -> None:
    pass


def run(task: Task, stop: threading.Event | None = None) -> Answer:
    """One task in a process of its own; whatever becomes of that, there is an answer."""
    begun = time.perf_counter()
    document = error = None
    try:
        for model in task.models:
            source.demand(model)
        document = guard.call(
            task.function,
            *task.arguments,
            limits=task.limits,
            stop=stop,
            imports=task.imports,
            **task.options,
        )
    except NetferryError as fault:
        error = fault.to_json() | {"problem": fault.problem}
    return Answer(task, document, error, time.perf_counter() - begun)


def _local(tasks: Sequence[Task], workers: int | None) -> Iterator[Answer]:
    stop = threading.Event()
    with ThreadPoolExecutor(workers or 1) as pool:
        running = [pool.submit(run, task, stop) for task in tasks]
        try:
            for one in as_completed(running):
                yield one.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _ray(tasks: Sequence[Task], workers: int | None) -> Iterator[Answer]:
    from netferry.inference.cluster import connected

    if not tasks:
        return
    with connected() as ray:
        most = workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        # Each is a process of its own in any case; Ray's worker only starts it, and may take the next.
        remote = ray.remote(num_cpus=1, max_retries=2)(_there)
        waiting = list(reversed(tasks))
        running: dict[Any, Task] = {}
        while waiting or running:
            while waiting and len(running) < most:
                task = waiting.pop()
                running[remote.remote(str(Path.cwd()), task)] = task
            (done, *_), _ = ray.wait(list(running))
            task = running.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as fault:
                error = NetferryError(f"Ray lost it ({str(fault).strip().splitlines()[0]})")
                yield Answer(task, None, error.to_json() | {"problem": error.problem}, 0.0)


def _there(folder: str, task: Task) -> Answer:
    """One task on a worker of Ray's, in the folder that its caller works in."""
    from netferry.inference.cluster import go_to

    go_to(folder)
    return run(task)


ENGINES: Mapping[str, Callable[[Sequence[Task], int | None], Iterator[Answer]]] = {
    "local": _local,
    "ray": _ray,
}


def _kept(path: Path, task: Task, digest: str) -> Answer | None:
    try:
        known = digest_of(path, ANSWER)
        content = b"" if known is None else path.read_bytes()
        if hashlib.sha256(content).hexdigest() != known:
            return None
        found = json.loads(content)
        if found["digest"] == digest and _stands(task.writes, found["document"]):
            return Answer(task, found["document"], None, found["seconds"], kept=True)
    except (OSError, ValueError, KeyError, TypeError, NetferryError):
        pass
    return None


def _stands(destination: Path | None, document: Document) -> bool:
    """Whether all that was written there is as it was written."""
    if destination is None:
        return True
    known = {destination.parent / name: one[0] for name, one in written(destination, MODEL).items()}
    return bool(document["files"]) and all(
        known.get(file) == of_file(file) for file in map(Path, document["files"])
    )


def _keep(path: Path, answer: Answer, digest: str, replacing: Overwriting) -> None:
    content = {"digest": digest, "seconds": answer.seconds, "document": answer.document}
    path.parent.mkdir(parents=True, exist_ok=True)
    with staged(path, ANSWER, replacing) as stage:
        stage.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _plain(name: str) -> str:
    """A name as that of a file, on any system; a digest keeps apart what would become equal."""
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:80]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _contents(path: Path) -> dict[str, str]:
    """The digests of a file, or of all files in a folder; of what cannot be read, why."""
    try:
        return {name: of_file(file) for name, file in below(path).items()}
    except NetferryError as error:
        return {"": str(error)}


@lru_cache(maxsize=1)
def _own_code() -> str:
    """A digest of netferry's files: another netferry may come to another answer."""
    package = Path(__file__).parents[1]
    files = [
        Path(folder, name)
        for part in sorted(package.iterdir())
        for folder, _, names in os.walk(part)
        for name in names
    ]
    digest = hashlib.sha256()
    for file in sorted(file for file in [*files, *package.glob("*.py")] if file.suffix == ".py"):
        digest.update(f"{file.relative_to(package)}\0{of_file(file)}\n".encode())
    return digest.hexdigest()
