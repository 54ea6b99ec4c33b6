"""Which axes of a model's inputs its code leaves free: the freest trace, and the bounds within which it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils._sympy import functions as symbolic

from netferry.converters import origin
from netferry.converters.errors import UsageError
from netferry.converters.pytorch.to_onnx.layers import MODULES
from netferry.converters.pytorch.to_onnx.tracer.calls import Trace
from netferry.converters.pytorch.to_onnx.tracer.replay import harmless
from netferry.converters.pytorch.to_onnx.tracer.sizes import Narrowing, broken, without
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
    if "range(" in str(found.line):
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


def _widest(
    module: nn.Module, given: Sequence[Example]
) -> tuple[Trace, tuple[Narrowing, ...], frozenset[Narrowing]]:
    """The trace, its bounds, and those that make no difference.

    What is asked of a remainder (``if pad > 0``) has one side that is right on both: the trace that has the fewest bounds
    is taken, of the example's own sizes and of some at which they do not hold.
    """
    best = _bounded(module, trace(module, given, MODULES), given)
    periodic = [found for found in best[1] if _is_periodic(found.bound)]
    for at in [at for found in periodic for at in without(found.bound, best[0].hints)[:1]]:
        try:
            other = _bounded(module, trace(module, given, MODULES, at), given)
        except Untraceable:
            continue
        if len(other[1]) < len(best[1]) and not any(found.fixes for found in other[0].narrowings):
            best = other
    return best


def _bounded(
    module: nn.Module, traced: Trace, given: Sequence[Example]
) -> tuple[Trace, tuple[Narrowing, ...], frozenset[Narrowing]]:
    tried = harmless(module, traced, given)
    return traced, tuple(n for n in traced.narrowings if n.bound is not None and n not in tried), tried


def _is_periodic(condition: Any) -> bool:
    return bool(condition.has(symbolic.Mod, symbolic.PythonMod))


def _with_fixed(example: Example, fixed: Any) -> Example:
    free = {axis: symbol for axis, symbol in example.free.items() if symbol not in fixed}
    return Example(example.name, example.array, free, example.asked)
