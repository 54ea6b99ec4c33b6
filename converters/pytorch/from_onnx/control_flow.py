"""Operators in which values decide: branches and loops become Python's own, sequences its lists.

A branch or a body is written in place, by the walk of its graph.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.graph.codegen.walk import Body
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.dtypes import BOOL, INT64
from netferry.converters.pytorch.from_onnx.layers import Xp, row
from netferry.converters.pytorch.from_onnx.writer import plain


def sequence(xp: Xp, expr: ast.expr) -> Symbol:
    """A Python list of tensors, or what may be None."""
    return Symbol(xp, Fact(None), expr)


def number(xp: Xp, x: Symbol | None) -> Any:
    """One integer or truth as Python has it."""
    if x is None:
        return None
    return plain(x, x.dtype) if x.content is not None and x.content.size == 1 else xp.method(x, "item").expr


def assign(xp: Xp, names: Sequence[str], values: Sequence[ast.expr]) -> None:
    """``a, b = b, a + b``: all at once, so that no new value is read as an old one."""
    kept = [(n, v) for n, v in zip(names, xp._shared(list(values)), strict=True) if not _is_name(v, n)]
    if len(kept) == 1:
        xp.write(ast.Assign([ast.Name(kept[0][0], ast.Store())], kept[0][1]))
    elif kept:
        target = ast.Tuple([ast.Name(name, ast.Store()) for name, _ in kept], ast.Store())
        xp.write(ast.Assign([target], ast.Tuple([value for _, value in kept], ast.Load())))


def _is_name(expr: ast.expr, name: str) -> bool:
    return isinstance(expr, ast.Name) and expr.id == name


def named(xp: Xp, names: Sequence[str], results: Sequence[Symbol]) -> list[Symbol]:
    """What is read under names that a block has written."""
    return [
        Symbol(xp, Fact(r.fact.dtype), ast.Name(n, ast.Load())) for n, r in zip(names, results, strict=True)
    ]


# ---- branches and loops ---------------------------------------------------------------------------


@row("If")
def If(xp: Xp, cond: Symbol, *, then_branch: Body, else_branch: Body) -> Any:
    if cond.content is not None:
        return (then_branch if cond.content.all() else else_branch)()
    names = [xp.fresh(value.name or "branch") for value in xp.node.outputs]
    blocks: list[list[ast.stmt]] = []
    results: tuple[Symbol, ...] = ()
    for branch in (then_branch, else_branch):
        with xp.block() as statements:
            results = branch()
            assign(xp, names, [result.expr for result in results])
        blocks.append(statements or [ast.Pass()])
    xp.write(ast.If(cond.expr, *blocks))
    return named(xp, names, results)


@row("Loop")
def Loop(xp: Xp, limit: Symbol | None, cond: Symbol | None, *initial: Symbol, body: Body) -> Any:
    """``for`` where a number of turns is given, ``while`` elsewhere; what each turn adds is stacked at the end."""
    inputs, outputs = body.graph.inputs, body.graph.outputs
    states = [xp.fresh(value.name or "state") for value in inputs[2:]]
    turn, going = xp.fresh("turn"), xp.fresh(inputs[1].name or "going")
    lists = [xp.fresh(value.name or "rows") for value in outputs[1 + len(states) :]]
    assign(xp, states, [symbol.expr for symbol in initial])
    always = _always(xp, cond, body)
    if not always:
        assign(xp, [going], [xp.to_expr(True) if cond is None else cond.expr])
    _empty_lists(xp, lists)
    if limit is None:
        assign(xp, [turn], [xp.to_expr(0)])
    results: tuple[Symbol, ...] = ()
    with xp.block() as statements:
        if not always and limit is not None:
            xp.write(ast.If(ast.UnaryOp(ast.Not(), ast.Name(going, ast.Load())), [ast.Break()], []))
        results = body(*_inputs(xp, body, turn, None if always else going, states, initial))
        kept, rows = results[1 : 1 + len(states)], results[1 + len(states) :]
        _append(xp, lists, rows)
        goes_on = [] if always else [results[0].expr]
        assign(xp, [*([] if always else [going]), *states], [*goes_on, *(result.expr for result in kept)])
        if limit is None:
            xp.write(ast.AugAssign(ast.Name(turn, ast.Store()), ast.Add(), ast.Constant(1)))
    if limit is None:
        xp.write(ast.While(ast.Constant(True) if always else ast.Name(going, ast.Load()), statements, []))
    else:
        turns = ast.Call(ast.Name("range", ast.Load()), [xp.to_expr(number(xp, limit))], [])
        xp.write(ast.For(ast.Name(turn, ast.Store()), turns, statements, []))
    stacked = [
        _stacked(xp, name, results[place], body, place) for place, name in enumerate(lists, 1 + len(states))
    ]
    return [*named(xp, states, results[1 : 1 + len(states)]), *stacked]


def _always(xp: Xp, cond: Symbol | None, body: Body) -> bool:
    """Whether no condition ever ends the loop."""
    begins = cond is None or (cond.content is not None and bool(cond.content.all()))
    after = body.graph.outputs[0]
    known_after = xp.plan.fact(after).content
    passed_on = after is body.graph.inputs[1]
    return begins and (passed_on or (known_after is not None and bool(np.asarray(known_after, object).all())))


def _inputs(
    xp: Xp, body: Body, turn: str, going: str | None, states: Sequence[str], initial: Sequence[Symbol]
) -> list[Symbol]:
    """What a body gets: the turn's number, whether it goes on, and the states; their sizes are read inside."""
    counted = xp.make("torch.tensor", ast.Name(turn, ast.Load()), dtype=INT64, dims=())
    going_on = (
        xp.make("torch.tensor", True, dtype=BOOL, dims=())
        if going is None
        else Symbol(xp, Fact(BOOL), ast.Name(going, ast.Load()))
    )
    given = [xp.let(counted, body.graph.inputs[0].name or "iteration"), going_on]
    for value, name, first in zip(body.graph.inputs[2:], states, initial, strict=True):
        fact = xp.plan.fact(value)
        given.append(
            Symbol(xp, fact if fact.dtype is not None else Fact(first.fact.dtype), ast.Name(name, ast.Load()))
        )
    for value, symbol in zip(body.graph.inputs, given, strict=True):
        xp.read_sizes(value, symbol)
    return given


def _empty_lists(xp: Xp, names: Sequence[str]) -> None:
    for name in names:
        xp.write(ast.Assign([ast.Name(name, ast.Store())], ast.List([], ast.Load())))


def _append(xp: Xp, lists: Sequence[str], rows: Sequence[Symbol]) -> None:
    for name, one in zip(lists, rows, strict=True):
        append = ast.Attribute(ast.Name(name, ast.Load()), "append", ast.Load())
        xp.write(ast.Expr(ast.Call(append, xp._shared([one.expr]), [])))


def _stacked(xp: Xp, name: str, one: Symbol, body: Body, place: int, axis: int = 0) -> Symbol:
    """The rows of all turns, an output of the body, as one tensor; of no turn, an empty one."""
    rows = ast.Name(name, ast.Load())
    stack = xp.call_expr(ast.parse("torch.stack", mode="eval").body, rows, *([axis] if axis else []))
    dims = one.fact.dims
    if dims is not None:
        sizes = body.sizes_of_no_turn(place, dims)
        sizes.insert(axis if axis >= 0 else len(sizes) + 1 + axis, 0)
        empty = xp.make("torch.zeros", tuple(sizes), dtype=one.dtype)
        stack = ast.IfExp(rows, stack, empty.expr)
    return xp.made(stack, one)


@row("Scan")
def Scan(
    xp: Xp, *inputs: Symbol, body: Body, num_scan_inputs: int, scan_input_axes: Any, scan_input_directions: Any,
    scan_output_axes: Any, scan_output_directions: Any,
) -> Any:  # fmt: skip
    """A loop over the positions along an axis."""
    count = len(inputs) - num_scan_inputs
    initial, scanned = inputs[:count], inputs[count:]
    values, outputs = body.graph.inputs, body.graph.outputs
    states = [xp.fresh(value.name or "state") for value in values[:count]]
    lists = [xp.fresh(value.name or "rows") for value in outputs[count:]]
    axes = [axis % x.ndim for axis, x in zip(scan_input_axes or [0] * num_scan_inputs, scanned, strict=True)]
    turn = xp.fresh("turn")
    assign(xp, states, [symbol.expr for symbol in initial])
    _empty_lists(xp, lists)
    turns = ast.Call(ast.Name("range", ast.Load()), [xp.size_of(scanned[0], axes[0])], [])
    with xp.block() as statements:
        given = [
            Symbol(xp, xp.plan.fact(v), ast.Name(n, ast.Load()))
            for v, n in zip(values[:count], states, strict=True)
        ]
        backward = scan_input_directions or [0] * num_scan_inputs
        for value, x, axis, turned in zip(values[count:], scanned, axes, backward, strict=True):
            given.append(xp.let(_at(xp, x, axis, turn, bool(turned)), value.name or "row"))
        for value, symbol in zip(values, given, strict=True):
            xp.read_sizes(value, symbol)
        results = body(*given)
        _append(xp, lists, results[count:])
        assign(xp, states, [result.expr for result in results[:count]])
    xp.write(ast.For(ast.Name(turn, ast.Store()), turns, statements, []))
    stacked = []
    for place, (name, one) in enumerate(zip(lists, results[count:], strict=True)):
        if scan_output_directions and scan_output_directions[place]:
            xp.write(
                ast.Expr(ast.Call(ast.Attribute(ast.Name(name, ast.Load()), "reverse", ast.Load()), [], []))
            )
        axis = scan_output_axes[place] if scan_output_axes else 0
        stacked.append(_stacked(xp, name, one, body, count + place, axis))
    return [*named(xp, states, results[:count]), *stacked]


def _at(xp: Xp, x: Symbol, axis: int, turn: str, backward: bool) -> Symbol:
    """``x[turn]`` along one axis, from the end where it is read backward."""
    place: ast.expr = ast.Name(turn, ast.Load())
    if backward:
        place = ast.BinOp(ast.UnaryOp(ast.USub(), ast.Constant(1)), ast.Sub(), place)
    dims = None if x.fact.dims is None else (*x.fact.dims[:axis], *x.fact.dims[axis + 1 :])
    return xp.index(x, *[slice(None)] * axis, place, dims=dims)


# ---- sequences and optionals ----------------------------------------------------------------------


@row("SequenceEmpty")
def SequenceEmpty(xp: Xp, *, dtype: int) -> Symbol:
    return sequence(xp, ast.List([], ast.Load()))


@row("SequenceConstruct")
def SequenceConstruct(xp: Xp, *inputs: Symbol) -> Symbol:
    return sequence(xp, ast.List([x.expr for x in inputs], ast.Load()))


@row("SequenceInsert")
def SequenceInsert(xp: Xp, items: Symbol, tensor: Symbol, position: Symbol | None = None) -> Symbol:
    place = number(xp, position)
    before, after = (
        ast.Starred(xp.index(items, cut).expr, ast.Load()) for cut in (slice(None, place), slice(place, None))
    )
    if place is None:
        return sequence(xp, ast.List([ast.Starred(items.expr, ast.Load()), tensor.expr], ast.Load()))
    return sequence(xp, ast.List([before, tensor.expr, after], ast.Load()))


@row("SequenceErase")
def SequenceErase(xp: Xp, items: Symbol, position: Symbol | None = None) -> Symbol:
    return sequence(xp, xp.helper("without", items, -1 if position is None else number(xp, position)).expr)


@row("SequenceAt")
def SequenceAt(xp: Xp, items: Symbol, position: Symbol) -> Symbol:
    return xp.index(items, number(xp, position), dtype=xp.plan.fact(xp.node.outputs[0]).dtype)


@row("SequenceLength")
def SequenceLength(xp: Xp, items: Symbol) -> Symbol:
    return xp.make(
        "torch.tensor", ast.Call(ast.Name("len", ast.Load()), [items.expr], []), dtype=INT64, dims=()
    )


@row("SplitToSequence")
def SplitToSequence(xp: Xp, x: Symbol, split: Symbol | None = None, *, axis: int, keepdims: int) -> Symbol:
    if split is None:
        parts = xp.method(x, "split", 1, axis) if keepdims else xp.method(x, "unbind", axis)
        return sequence(xp, ast.List([ast.Starred(parts.expr, ast.Load())], ast.Load()))
    lengths: Any = number(xp, split) if split.fact.dims == () else xp.method(split, "tolist").expr
    if split.content is not None:
        lengths = split.content.tolist()
    return sequence(
        xp, ast.List([ast.Starred(xp.method(x, "split", lengths, axis).expr, ast.Load())], ast.Load())
    )


@row("ConcatFromSequence")
def ConcatFromSequence(xp: Xp, items: Symbol, *, axis: int, new_axis: int) -> Symbol:
    dtype = xp.plan.fact(xp.node.outputs[0]).dtype
    return xp.call("torch.stack" if new_axis else "torch.cat", items, axis, dtype=dtype)


@row("SequenceMap")
def SequenceMap(xp: Xp, items: Symbol, *others: Symbol, body: Body) -> Any:
    """One turn for each tensor; what else is a sequence is read beside it."""
    turn = xp.fresh("turn")
    lists = [xp.fresh(value.name or "items") for value in body.graph.outputs]
    _empty_lists(xp, lists)
    with xp.block() as statements:
        given = []
        for value, x in zip(body.graph.inputs, (items, *others), strict=True):
            fact = xp.plan.fact(value)
            one = xp.index(x, ast.Name(turn, ast.Load())) if x.fact.dtype is None else x
            given.append(xp.let(Symbol(xp, fact, one.expr), value.name or "item"))
            xp.read_sizes(value, given[-1])
        _append(xp, lists, body(*given))
    length = ast.Call(ast.Name("len", ast.Load()), [items.expr], [])
    xp.write(
        ast.For(
            ast.Name(turn, ast.Store()), ast.Call(ast.Name("range", ast.Load()), [length], []), statements, []
        )
    )
    return [sequence(xp, ast.Name(name, ast.Load())) for name in lists]


@row("Optional")
def Optional(xp: Xp, x: Symbol | None = None, *, type: Any) -> Symbol:
    return sequence(xp, ast.Constant(None) if x is None else x.expr)


@row("OptionalHasElement")
def OptionalHasElement(xp: Xp, x: Symbol | None = None) -> Symbol:
    found: Any = False if x is None else ast.Compare(x.expr, [ast.IsNot()], [ast.Constant(None)])
    return xp.make("torch.tensor", found, dtype=BOOL, dims=())


@row("OptionalGetElement")
def OptionalGetElement(xp: Xp, x: Symbol) -> Symbol:
    return Symbol(xp, xp.plan.fact(xp.node.outputs[0]), x.expr)
