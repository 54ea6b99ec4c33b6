"""How MXNet binds a symbol: node by node, and without its chatter."""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout

FUSION = "MXNET_SUBGRAPH_BACKEND"
"""Names what fuses nodes before a symbol runs; MXNet reads it at each bind.

Its default, oneDNN's fusion, adds what a convolution reads to the wrong tensor where both ends of a sum are
convolutions of one input; and a fused node shows only its last output.
"""


@contextmanager
def unfused() -> Iterator[None]:
    """Bind without fusion."""
    before = os.environ.get(FUSION)
    os.environ[FUSION] = "NONE"
    try:
        with quiet():
            yield
    finally:
        if before is None:
            del os.environ[FUSION]
        else:
            os.environ[FUSION] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what MXNet says while it binds from both streams: Python's, and those that it writes to past Python."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(redirect_stdout(io.StringIO()))
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        sys.stderr.flush()
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


_PLACE = re.compile(r"\[\d\d:\d\d:\d\d\] \S+?:\d+: ")
_CAUSE = re.compile(r"Error in operator|Check failed|not implemented|No matching|registered|Unknown")


def cause(error: Exception) -> str:
    """What an error of MXNet's says: the line that names the cause, without the place in its own source."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    line = next((line for line in lines if _CAUSE.search(line)), lines[-1] if lines else type(error).__name__)
    return _PLACE.sub("", line.removeprefix("MXNetError: "))
