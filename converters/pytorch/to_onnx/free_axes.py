"""Which axes of a model's inputs its code leaves free: the freest trace, and the bounds within which it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sympy import Eq, Ne
from sympy.core.relational import Relational
from torch import nn
from torch.utils._sympy import functions as symbolic

from netferry.converters import origin
from netferry.converters.errors import UsageError
from netferry.converters.pytorch.to_onnx.layers import MODULES
from netferry.converters.pytorch.to_onnx.table import FUNCTIONS
from netferry.converters.pytorch.to_onnx.tracer.calls import Trace
from netferry.converters.pytorch.to_onnx.tracer.conditions import broken, without
from netferry.converters.pytorch.to_onnx.tracer.replay import Gives, harmless
from netferry.converters.pytorch.to_onnx.tracer.sizes import Narrowing
from netferry.converters.pytorch.to_onnx.tracer.trace import trace
from netferry.converters.pytorch.to_onnx.tracer.untraceable import Untraceable
from netferry.converters.signature import Example


@dataclass(frozen=True)
class FreestTrace:
    """A trace, the bounds within which it is what the model is, and the notes on them."""

    trace: Trace
    given: Sequence[Example]
    bounds: tuple[Narrowing, ...]
    notes: tuple[str, ...]


def freest_trace(module: nn.Module, given: Sequence[Example]) -> FreestTrace:
    """The trace with as many free axes as the model's code allows; one that was asked for must be."""
    notes: dict[str, None] = {}
    while True:
        traced, bounds, tried = _widest(module, given)
        notes |= {
            f"a condition of the code makes no difference at the sizes checked: {found}": None
            for found in tried
        }
        needs = [found for found in traced.narrowings if not found.fixes and found.bound is None]
        notes |= {f"the model needs that {found}": None for found in needs}
        notes |= {f"an assertion on data is left out: {line}": None for line in traced.left_out}
        fixed = {s: found for found in traced.narrowings for s in found.fixes}
        own = {s: example.array.shape[axis] for example in given for axis, s in example.free.items()}
        fixed |= {
            str(s): found for found in bounds if broken(found.bound, own) for s in found.bound.free_symbols
        }
        affected = [example for example in given if fixed.keys() & set(example.free.values())]
        if not affected:
            notes |= {
                f"right where {found}; beyond, the model's code goes another way": None for found in bounds
            }
            return FreestTrace(traced, given, bounds, tuple(notes))
        for example in affected:
            symbol = next(symbol for symbol in example.free.values() if symbol in fixed)
            if example.asked:
                raise _not_free(module, symbol, fixed[symbol])
        notes |= {
            f"'{symbol}' is fixed at the example's size: {found}": None for symbol, found in fixed.items()
        }
        given = [_with_fixed(example, fixed) for example in given]


def _not_free(module: nn.Module, symbol: str, found: Narrowing) -> UsageError:
    """The error for a size that was asked to be free and that the model's code fixes."""
    if re.search(r"(?<![\w.])range\(", str(found.line)):
        return UsageError(
            f"the model's code does not leave the size '{symbol}' free: it is a loop in Python over it",
            where=type(module).__name__,
            received=found.line,
            remedy=f"Leave '{symbol}' out of dynamic, or write the loop as an operator or a recurrent layer",
        )
    return UsageError(
        f"the model's code does not leave the size '{symbol}' free",
        where=origin.named(module),
        expected=f"code that treats every '{symbol}' alike",
        received=f"code for which {found}",
        remedy=f"Leave '{symbol}' out of dynamic, or change that line",
    )


_Tried = tuple[Trace, tuple[Narrowing, ...], frozenset[Narrowing]]
"""A trace, its bounds, and the conditions that make no difference."""

_OTHER_TRACES = 6
"""How many are tried to find the freest one."""


def _widest(module: nn.Module, given: Sequence[Example]) -> _Tried:
    """The freest trace.

    Of some branches one side is right on both: a pad by nothing where nothing is to be padded, a table resized to the size
    that it has. So traces are also made at sizes at which conditions of the first fail, and the one that narrows least is
    taken, as long as the example is within it.
    """
    gives: Gives = {}

    def at(sizes: Mapping[str, int] | None = None) -> _Tried:
        return _bounded(module, trace(module, given, MODULES, sizes, FUNCTIONS), given, gives)

    try:
        best = at()
    except Untraceable as problem:
        best = _from_another_side(problem, at)
    own = {name: example.array.shape[axis] for example in given for axis, name in example.free.items()}
    tried: set[tuple[tuple[str, int], ...]] = set()
    no_better: set[Any] = set()
    while len(tried) < _OTHER_TRACES:
        sides = _other_sides(best, no_better)
        sizes = next((at for at in sides if tuple(sorted(at.items())) not in tried), None)
        if sizes is None:
            break
        tried.add(tuple(sorted(sizes.items())))
        try:
            other = at(sizes)
        except Untraceable:
            continue
        if _doubts(other, own) < _doubts(best, own):
            best = other
        else:
            no_better |= {_place(found) for found in other[1] if broken(found.bound, own)}
    return best


def _from_another_side(problem: Untraceable, at: Callable[[Mapping[str, int]], _Tried]) -> _Tried:
    """A trace at sizes at which the code goes another way than the one that cannot be traced: windows of what was padded fit at
    all sizes, those of what needed no padding at the example's alone."""
    for sizes in islice(_ways(problem.narrowings, problem.hints, ()), _OTHER_TRACES):
        with suppress(Untraceable):
            return at(sizes)
    raise problem


def _place(found: Narrowing) -> Any:
    """Where the code asks what of sizes: layers that are alike ask it at one place."""
    return found.line, frozenset(
        map(str, found.bound.free_symbols if found.bound is not None else found.fixes)
    )


def _doubts(tried: _Tried, own: Mapping[str, int]) -> tuple[int, int]:
    """How much a trace narrows: axes that it fixes, or that its bounds keep from the example; bounds."""
    fixed = [found for found in tried[0].narrowings if found.fixes and found not in tried[2]]
    return len(fixed) + sum(broken(found.bound, own) for found in tried[1]), len(tried[1])


def _other_sides(tried: _Tried, no_better: Container[Any]) -> Iterator[dict[str, int]]:
    """Sizes at which the branches that a trace has taken are not: all of them at once, then one after the other; but for those
    whose other side is known to be no better."""
    traced, bounds, unimportant = tried
    doubtful = [found for found in traced.narrowings if found.fixes and found not in unimportant]
    return _ways((*doubtful, *bounds), traced.hints, no_better)


def _ways(
    narrowings: Sequence[Narrowing], hints: Mapping[str, int], no_better: Container[Any]
) -> Iterator[dict[str, int]]:
    asked = [
        found.condition_on
        for found in narrowings
        if _has_another_side(found) and _place(found) not in no_better
    ]
    ways = [at[0] for condition in asked if (at := without(condition, hints))]
    if len(ways) > 1:
        yield {**hints, **dict(pair for way in ways for pair in way.items())}
    for way in ways:
        yield {**hints, **way}


def _has_another_side(found: Narrowing) -> bool:
    """Whether the other side of a branch may be right on both: that of equal sizes, of remainders, of sizes of inputs."""
    asked = found.condition_on
    if not isinstance(asked, Relational):
        return False
    floors = asked.has(symbolic.Mod, symbolic.PythonMod, symbolic.FloorDiv, symbolic.CeilToInt)
    return floors or isinstance(asked, Eq | Ne) or len(asked.free_symbols) > 1


def _bounded(module: nn.Module, traced: Trace, given: Sequence[Example], gives: Gives) -> _Tried:
    tried = harmless(module, traced, given, gives)
    return traced, tuple(n for n in traced.narrowings if n.bound is not None and n not in tried), tried


def _with_fixed(example: Example, fixed: Any) -> Example:
    free = {axis: symbol for axis, symbol in example.free.items() if symbol not in fixed}
    return Example(example.name, example.array, free, example.asked)
