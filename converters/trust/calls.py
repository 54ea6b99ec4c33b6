"""How large a graph becomes once the functions that call each other are opened; nothing is opened to find out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from netferry.converters.errors import RefusedError

LARGEST, DEEPEST = 1_000_000, 100
"""How many nodes a model may have once its functions are inlined, and how deep they may be nested."""

Key = TypeVar("Key", bound=Hashable)


def check(functions: Mapping[Key, tuple[int, Sequence[Key]]], roots: Sequence[Key], where: str) -> None:
    """Refuse functions that call themselves, or grow without bound: 31 that each call the next one twice are 2^30 nodes.

    ``functions`` gives for each its own nodes, and the functions they call, as often as they are called.
    """
    sizes: dict[Key, int] = {}

    def size(key: Key, callers: tuple[Key, ...]) -> int:
        if key not in functions:
            return 1
        if key in callers or len(callers) > DEEPEST:
            raise RefusedError(
                "a function that calls itself, or is nested too deep", where=where, received=key
            )
        if key not in sizes:
            own, called = functions[key]
            sizes[key] = own + sum(size(each, (*callers, key)) for each in called)
        return sizes[key]

    total = sum(size(key, ()) for key in roots)
    if total > LARGEST:
        raise RefusedError(
            f"its functions call each other into {total:,} nodes",
            where=where,
            expected=f"at most {LARGEST:,}",
        )
