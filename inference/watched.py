"""onnxruntime where it may end the process that it runs in: each run is tried in a child first.

Some of its kernels do not refuse what they cannot compute, but end the process: Scan without a step where its outputs
are stacked along another axis than the first, recurrent layers without a row or a step, the smallest integer divided by -1.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array
from netferry.inference.binding import bind
from netferry.inference.session import Session

PATIENCE = 60.0
"""Seconds after which a child is ended, and its run taken for one that does no harm."""


class Watched(Session):
    """A session that refuses inputs of which onnxruntime dies, where the system can fork."""

    def __init__(self, model: Any, *, threads: int | None = None) -> None:
        super().__init__(model, threads=threads)
        self._model = model

    def run(self, inputs: Mapping[str, Any] | Sequence[Any]) -> dict[str, Array]:
        """Run once.

        Raises RefusedError where a process that runs this ends.
        """
        feed = bind(inputs, self.signature, self.device)
        end = _end_of_a_run(self._model, feed)
        if end:
            raise RefusedError(
                f"onnxruntime ends its process on these inputs ({end})",
                received=", ".join(f"{name}: {list(array.shape)}" for name, array in feed.items()),
            )
        return super().run(feed)


def _end_of_a_run(model: Any, feed: Mapping[str, Array]) -> str:
    """The signal that ends a process which runs the model on these; empty where none does."""
    if not hasattr(os, "fork"):
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, whose locks the child does not take
        child = os.fork()
    if not child:
        _try(model, feed)
    until = time.monotonic() + PATIENCE
    found, status = os.waitpid(child, os.WNOHANG)
    while not found and time.monotonic() < until:
        time.sleep(0.005)
        found, status = os.waitpid(child, os.WNOHANG)
    if not found:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return ""
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else ""


def _try(model: Any, feed: Mapping[str, Array]) -> None:
    """As a child: one run with a session of its own, that has no thread, and the end."""
    try:
        import faulthandler
        import resource

        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with contextlib.suppress(Exception):  # what is refused does no harm
            Session(model, threads=1).run(feed)
    finally:
        os._exit(0)
