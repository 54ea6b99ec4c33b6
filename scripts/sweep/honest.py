"""The second half: conversions and rewritings that are right by the frameworks' own results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from sweep.case import Case, Group


def groups() -> list[Group]:
    from sweep import honest_convert, honest_exports, honest_large, honest_operators, honest_rewrites

    rooms = (honest_convert, honest_rewrites, honest_exports, honest_operators, honest_large)
    found: list[Group] = []
    for room in rooms:
        for name, parts in room.TOGETHER.items():
            quick = name not in room.SLOW
            found.append(Group(f"honest, {name}", "honest", partial(_one_after_the_other, parts), quick))
    return found


def _one_after_the_other(parts: tuple[Callable[[], Iterator[Case]], ...]) -> Iterator[Case]:
    """Making frameworks ready takes longer than many pairs, so that much shares a process."""
    for part in parts:
        yield from part()
