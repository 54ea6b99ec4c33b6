"""A loop over what the data have found (``for expert in hit.nonzero():``), as one over all places that can be found.

The loop runs for each place, and what it has written is taken where the place was found, else what was there before. That is
the loop itself only where all that it leaves behind is in tensors that it writes in place: its source is read for that.
"""

from __future__ import annotations

import ast
import dis
from collections.abc import Callable, Collection, Iterator, Mapping
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from netferry.converters.pytorch.to_onnx.tracer.assertions import definition_around, statement_of

MOST = 512
"""Places that a loop is written out for."""

Kept = Mapping[int, tuple[Tensor, Any]]
"""Tensors of a trace that are no views of others, and the values that they hold."""


def loops_over_all(frame: FrameType) -> bool:
    """Whether ``frame`` is about to go through a tensor in a ``for`` that leaves nothing behind but what it writes in place."""
    if not _begins_a_loop(frame):
        return False
    loop, around = statement_of(frame), definition_around(frame)
    if not isinstance(loop, ast.For) or around is None or _may_end(loop):
        return False
    tensors = {name for name, value in frame.f_locals.items() if isinstance(value, Tensor)}
    bound = {name for name, stored in _names(loop, in_place=tensors) if stored}
    before = {name for name, stored in _names(around, until=loop.lineno) if stored}
    after = {name for name, stored in _names(around, since=loop.end_lineno) if not stored}
    return not bound & (before | after) and not any(_keeps(node, tensors) for node in ast.walk(loop))


def _begins_a_loop(frame: FrameType) -> bool:
    code, at = frame.f_code.co_code, frame.f_lasti
    return [dis.opname[code[place]] for place in (at, at + 2) if place < len(code)] == [
        "GET_ITER",
        "FOR_ITER",
    ]


def _may_end(loop: ast.For) -> bool:
    """Whether a loop may end before its last place, or does something then."""
    leaves = any(isinstance(node, ast.Return | ast.Raise | ast.Try) for node in ast.walk(loop))
    return leaves or bool(loop.orelse) or any(map(_breaks, loop.body))


def _breaks(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.For | ast.While):
        return False
    inner = (one for one in ast.iter_child_nodes(statement) if isinstance(one, ast.stmt))
    return isinstance(statement, ast.Break) or any(map(_breaks, inner))


def _names(
    node: ast.AST, since: int | None = None, until: int | None = None, in_place: Collection[str] = ()
) -> Iterator[tuple[str, bool]]:
    """The names in a part of the source, and whether each is bound there; ``in_place``: those for which ``+=`` binds nothing."""
    added = {id(one.target) for one in ast.walk(node) if isinstance(one, ast.AugAssign)}
    for one in ast.walk(node):
        line = getattr(one, "lineno", 0)
        if id(one) in added and isinstance(one, ast.Name) and one.id in in_place:
            continue
        if (since is not None and line <= since) or (until is not None and line >= until):
            continue
        if isinstance(one, ast.Name):
            yield one.id, not isinstance(one.ctx, ast.Load)
        elif isinstance(one, ast.arg):
            yield one.arg, True


_GATHERS = frozenset("append extend insert add update setdefault pop remove clear discard".split())


def _keeps(node: ast.AST, tensors: Collection[str]) -> bool:
    """Whether something is kept in an object that is no tensor: an attribute, an item, what a list or a set is given."""
    if isinstance(node, ast.Attribute):
        return not isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Subscript):
        written = not isinstance(node.ctx, ast.Load)
        return written and not (isinstance(node.value, ast.Name) and node.value.id in tensors)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in _GATHERS
    return isinstance(
        node, ast.Yield | ast.YieldFrom | ast.Await | ast.Global | ast.Nonlocal | ast.NamedExpr | ast.Delete
    )


class Places(Protocol):
    """What a trace knows of its tensors."""

    def bases(self) -> Kept: ...
    def constants(self) -> set[int]: ...
    def written_constants(self) -> set[int]: ...
    def again(self, tensor: Tensor, value: Any) -> Tensor: ...


def all_places(
    mask: Tensor, frame: FrameType, trace: Places, refuse: Callable[[], Exception]
) -> Iterator[Tensor]:
    """Each place as an index; after each, what was written since is taken where ``mask`` is true."""
    for place in range(int(mask.shape[0])):
        hit, before, constants, held = mask[place] != 0, dict(trace.bases()), trace.constants(), _held(frame)
        yield torch.tensor([place])
        changed = not constants <= trace.constants() or not trace.written_constants() <= before.keys()
        if changed or _held(frame).items() & held.items() != held.items():
            raise refuse()
        for key, (tensor, now) in dict(trace.bases()).items():
            if key in before and now is not before[key][1]:
                tensor.copy_(torch.where(hit, tensor, trace.again(tensor, before[key][1])))


def _held(frame: FrameType) -> dict[int, int]:
    """How much is in each list, set and mapping that the code has a name for."""
    return {id(item): len(item) for item in frame.f_locals.values() if isinstance(item, list | set | dict)}
