"""One examination in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


def forked(
    examine: Callable[[], Mapping[str, Any] | Iterator[Mapping[str, Any]]],
    seconds: float,
    cpu_seconds: int | None = None,
) -> dict[str, Any] | None:
    """What ``examine`` gives, as JSON holds it, in a forked process that says nothing; None where that ends without, or takes longer.

    Where it gives one part after the other, they are put together, and what was there in time is kept.
    """
    with tempfile.TemporaryFile() as result:
        child = os.fork()
        if child == 0:
            try:
                if cpu_seconds is not None:
                    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
                with Path(os.devnull).open("w") as nowhere:
                    os.dup2(nowhere.fileno(), 1)
                    os.dup2(nowhere.fileno(), 2)
                    given = examine()
                    for part in given if isinstance(given, Iterator) else [given]:
                        result.write(json.dumps(part).encode() + b"\n")
                        result.flush()
            finally:
                os._exit(0)
        until = time.monotonic() + seconds
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > until:
                os.kill(child, 9)
                os.waitpid(child, 0)
                break
            time.sleep(0.05)
        result.seek(0)
        found: dict[str, Any] = {}
        for line in result:
            if line.endswith(b"\n"):
                found |= json.loads(line)
        return found or None
