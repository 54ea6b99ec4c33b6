"""The second half: conversions and rewritings that are right by the frameworks' own results."""

from __future__ import annotations

from sweep.case import Group


def groups() -> list[Group]:
    from sweep import honest_convert, honest_exports, honest_large, honest_operators, honest_rewrites

    rooms = (honest_convert, honest_rewrites, honest_exports, honest_operators, honest_large)
    return [group for room in rooms for group in room.groups()]
