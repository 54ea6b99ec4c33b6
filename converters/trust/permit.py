"""What may run: what is not on a list is refused, or, with ``unsafe``, let through and named."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netferry.converters.errors import RefusedError
from netferry.converters.escaping import line

SHOWN = 5


class UnsafeWarning(UserWarning):
    """Says what ``unsafe`` has let through."""


class Permit:
    """Asked for each thing in a file that could act outside the model; ``allowed`` is what it let through."""

    def __init__(self, unsafe: bool = False) -> None:
        self.unsafe = unsafe
        self.allowed: list[str] = []

    def tell(self) -> None:
        """Warn of what was let through, once."""
        for each in dict.fromkeys(self.allowed):
            warnings.warn(line(f"unsafe: {each}"), UnsafeWarning, stacklevel=2)
        self.allowed.clear()

    def ask(self, what: str, names: list[str] | set[str], where: str, remedy: str = "") -> None:
        """Refuse the file because of ``names``, where there are any; ``what`` says what they are."""
        if not names:
            return
        found = sorted(names)
        some = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        if self.unsafe:
            self.allowed.append(f"{where}: {what} ({some})")
            return
        raise RefusedError(
            f"it holds {what}, which may act outside the model: {some}",
            where=where,
            remedy=f"{remedy}{'. ' if remedy else ''}Only if you trust who made the file: --unsafe lets exactly these through",
        )


@dataclass(frozen=True)
class Looked:
    """What a look into a file has left, for whoever loads it: the path is not opened again.

    What the file was allowed to hold; its content, which is what was looked at; the message it was read into, if it was; the
    files that belong to it, by the names that it has for them; the look into the weights that were given with it.
    """

    permit: Permit = field(default_factory=Permit)
    content: Any = None
    message: Any = None
    files: Mapping[str, Any] = field(default_factory=dict)
    weights: Looked | None = None
