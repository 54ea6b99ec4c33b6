"""The arithmetic of sizes that rules of shapes share, and the table that these stand in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.registry import Table

Dims = tuple[Any, ...] | None
Rule = Callable[..., Any]

SHAPES: Table[str, Rule] = Table("shapes")


# ---- arithmetic of sizes ----------------------------------------------------------------------------


def at_least(size: Any, free: int = 1) -> float:
    """A lower bound, every free size being ``free`` or more."""
    if not isinstance(size, Size):
        return int(size)
    least = 0
    for atoms, count in size.terms:
        if atoms and count < 0:
            return -math.inf
        least += count * math.prod(0 if atom.args else free for atom in atoms)
    return least


def surely(small: Any, large: Any) -> bool:
    """Whether ``small <= large`` holds for all free sizes of 1 or more."""
    return at_least(large - small) >= 0


def together(a: Any, b: Any) -> Any:
    """The size of two axes that are broadcast; None where it is not known."""
    if a == b or (not isinstance(b, Size) and b == 1):
        return a
    if not isinstance(a, Size) and a == 1:
        return b
    for one, other in ((a, b), (b, a)):
        if one is not None and not isinstance(one, Size):
            return one
        if _is_capped(one, other):
            return other
    return None


def _is_capped(capped: Any, size: Any) -> bool:
    """Whether ``capped`` is min(size, n) with n > 1: then broadcasting fails unless it is ``size``."""
    atom = capped.atom if isinstance(capped, Size) else None
    if atom is None or atom.word != "min" or size not in atom.args:
        return False
    (limit,) = [arg for arg in atom.args if arg != size] or [0]
    return not isinstance(limit, Size) and limit > 1


def broadcast(*shapes: Dims) -> Dims:
    """The sizes of what is broadcast together."""
    if any(dims is None for dims in shapes):
        return None
    rank = max((len(dims or ()) for dims in shapes), default=0)
    result: list[Any] = [1] * rank
    for dims in shapes:
        dims = dims or ()
        for axis, dim in enumerate(dims, rank - len(dims)):
            result[axis] = together(result[axis], dim)
    return tuple(result)


def ints(fact: Fact | None) -> tuple[Any, ...] | None:
    """The elements of a content, as ints and sizes; None where it is not known."""
    if fact is None or fact.content is None:
        return None
    items = fact.content.reshape(-1)
    return tuple(item if isinstance(item, Size) else int(item) for item in items)


def axes_of(fact: Fact | None, rank: int, default: Sequence[int] = ()) -> tuple[int, ...] | None:
    """Axes given as an input, from 0; ``default`` where the input is missing; None where they are not known."""
    if fact is None:
        return tuple(default)
    axes = ints(fact)
    return None if axes is None or any(isinstance(a, Size) for a in axes) else tuple(a % rank for a in axes)


def ranked(rule: Rule) -> Rule:
    """The rule where the rank of the first input is known; an unknown rank elsewhere."""

    def asked(x: Fact, *inputs: Any, **attributes: Any) -> Any:
        return None if x.dims is None else rule(x, *inputs, **attributes)

    return asked
