"""How much work a file may ask for before its model runs: counted, so that every look at it ends.

Each kind of work has a limit that honest models do not come near; those that grow with a file have so much more. What
goes over it is not done: a size stays free, a constant is made when the model runs. Only where there is nothing
to fall back on, the file is refused. ``Budget.spent`` says what was counted, ``Budget.seen`` how many nodes were
reached, and ``Budget.short`` whether something was left undone that the limits allow and ``most`` did not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import onnx_ir as ir

from netferry.converters.errors import CannotConvert, RefusedError

Kind = Literal["terms", "elements", "nodes", "words"]

LIMITS: Mapping[Kind, int] = {"terms": 500_000, "elements": 1 << 24, "nodes": 50_000, "words": 100_000}
"""``terms`` of sizes that are added and multiplied, ``elements`` of constants that are made of others, ``nodes`` that a
file does not hold (of functions that are opened, of bodies that are looked at again), ``words`` of the program that is
written."""

PER_NODE: Mapping[Kind, int] = {"terms": 50, "words": 30}
PER_ELEMENT = 16
"""What each node, and each element of a weight, may add to that."""

MOST_AXES = 64
"""As many axes has a tensor at most; so it is in numpy, and in PyTorch."""


class Budget:
    """What has been ``spent`` of each kind, and what there is of it."""

    def __init__(self, *, nodes: int = 0, elements: int = 0) -> None:
        """``nodes`` and ``elements`` are what the file itself holds."""
        self.limits = {kind: limit + PER_NODE.get(kind, 0) * nodes for kind, limit in LIMITS.items()}
        self.limits["elements"] += PER_ELEMENT * elements
        self.spent: Counter[Kind] = Counter()
        self.most: Mapping[Kind, int] = {}
        self.short = False
        self.seen = 0

    @classmethod
    def of(cls, model: ir.Model, most: Mapping[Kind, int] | None = None) -> Budget:
        """What a model may ask for by its length; and only ``most``, where less is to be done than could be."""
        nodes = [
            *model.graph.all_nodes(),
            *(node for f in model.functions.values() for node in f.all_nodes()),
        ]
        weights = [value.const_value for value in model.graph.initializers.values()]
        weights += [
            attribute.value
            for node in nodes
            if node.op_type == "Constant"
            for attribute in node.attributes.values()
            if attribute.type == ir.AttributeType.TENSOR
        ]
        made = cls(nodes=len(nodes), elements=sum(weight.size for weight in weights if weight is not None))
        made.most = {kind: min(limit, made.limits[kind]) for kind, limit in (most or {}).items()}
        return made

    def take(self, kind: Kind, amount: int) -> bool:
        """Whether so much more may be done; if not, nothing is counted."""
        whole = self.spent[kind] + amount
        if whole > self.limits[kind]:
            return False
        if whole > self.most.get(kind, whole):
            self.short = True
            return False
        self.spent[kind] += amount
        return True


_CURRENT: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def counted(budget: Budget) -> Iterator[Budget]:
    """Count what is done inside in ``budget``."""
    token = _CURRENT.set(budget)
    try:
        yield budget
    finally:
        _CURRENT.reset(token)


def in_force() -> Budget | None:
    """The budget that is counted in now."""
    return _CURRENT.get()


def see() -> None:
    """Note that one more node is reached."""
    budget = _CURRENT.get()
    if budget is not None:
        budget.seen += 1


def take(kind: Kind, amount: int) -> bool:
    """``Budget.take`` of the budget in force; outside of any, everything may be done."""
    budget = _CURRENT.get()
    return budget is None or budget.take(kind, amount)


class TooMuch(CannotConvert):
    """Something so large is not made before the model runs, and not written."""


def write(words: int) -> None:
    """Count words of the program that are about to be written.

    Raises:
        TooMuch: the program would be far longer than the file.
    """
    if not take("words", words):
        raise TooMuch(
            "what is written for it and the nodes before it is far longer than the file",
            f"Files of this length may become {LIMITS['words']:,} words and {PER_NODE['words']} for each node",
        )


def make(elements: float) -> None:
    """Count the elements of a constant that is about to be made.

    Raises:
        TooMuch: there is no room for so many, and nothing has been made.
    """
    if not take("elements", int(min(elements, 1 << 62))):
        raise TooMuch(
            f"a constant of {elements:,.0f} elements would be made for it",
            f"Files of this length may have {LIMITS['elements']:,} made, or a few times what they hold",
        )


def look_again(nodes: int, problem: str) -> None:
    """Count nodes that the file does not hold, or that are looked at once more.

    Raises:
        RefusedError: they are too many; ``problem`` says so.
    """
    if not take("nodes", nodes):
        raise RefusedError(
            problem,
            expected=f"at most {LIMITS['nodes']:,} nodes that the file does not hold",
            remedy="Open functions where the model is made (onnx.inliner), or nest it less",
        )
