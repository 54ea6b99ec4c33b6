"""What people type. Each command calls one function of the library; only this folder prints or exits."""

from __future__ import annotations

import atexit
import gc

from netferry.cli import converting, running, verifying, zoo
from netferry.cli.app import app

__all__ = ["app", "converting", "main", "running", "verifying", "zoo"]

_BETWEEN_SWEEPS = 50_000
"""Objects made between two sweeps of the garbage collector. A framework's import makes 200,000 that stay: with Python's
own number, 700, a short command spends a tenth of its time on looking through them."""


def main() -> None:
    """The console script."""
    gc.set_threshold(_BETWEEN_SWEEPS)
    atexit.register(gc.freeze)  # Python would sweep through it all again, more than once, before it ends
    app()
