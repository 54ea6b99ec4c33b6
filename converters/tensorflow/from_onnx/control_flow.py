"""Branches and loops as TensorFlow's own: ``tf.cond`` and ``tf.while_loop``. The function form alone has them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.walk import Body
from netferry.converters.graph.codegen.writer import dotted
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.function_form import Function
from netferry.converters.tensorflow.from_onnx.function_names import BOOL, INT32, INT64
from netferry.converters.tensorflow.from_onnx.layout import Tensor
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE

LAST = np.iinfo(np.int32).max
"""How many turns a loop without a limit takes at most."""


def in_function(xp: TensorflowNamespace) -> Function:
    if not isinstance(xp, Function):
        raise CannotConvert("a functional Keras model holds no control flow")
    return xp


def _tensor(xp: Function, x: Symbol | None, what: str) -> Symbol:
    if x is None or x.fact.dtype is None:
        raise CannotConvert(f"{what} is no tensor")
    return x


@NATIVE.row("If")
def If(xp: TensorflowNamespace, cond: Symbol, *, then_branch: Body, else_branch: Body) -> Any:
    f = in_function(xp)
    names: list[Any] = []
    results: tuple[Symbol, ...] = ()
    for word, branch in (("then", then_branch), ("otherwise", else_branch)):
        name = f.fresh(word)
        results = _written(f, name, [], branch, ())
        names.append(ast.Name(name, ast.Load()))
    test = f.call_expr(dotted("tf.reshape"), cond, ())
    whole = f.made(f.call_expr(dotted("tf.cond"), test, *names), dtype=BOOL)
    parts = _parts(f, whole, [result.dtype for result in results])
    return tuple(Tensor(f, Fact(part.fact.dtype), part.expr) for part in parts)


def _parts(f: Function, whole: Symbol, dtypes: Sequence[Any]) -> list[Symbol]:
    """The elements of a tuple, also of a tuple of one."""
    kept = f.let(whole, "result").expr
    return [
        Symbol(f, Fact(dtype), f.index(Symbol(f, Fact(None), kept), position).expr)
        for position, dtype in enumerate(dtypes)
    ]


def _written(
    f: Function, name: str, arguments: Sequence[str], body: Body, given: Sequence[Symbol],
    finish: Callable[[Sequence[Symbol]], Sequence[Any]] | None = None,
) -> tuple[Symbol, ...]:  # fmt: skip
    """A subgraph as a function of its own, written here."""
    f.depth += 1
    try:
        with f.block() as statements:
            for value, symbol in zip(body.graph.inputs, given, strict=True):
                f.read_sizes(value, symbol)
            results = tuple(_tensor(f, result, "an output of a subgraph") for result in body(*given))
            exprs = [result.expr for result in results] if finish is None else list(finish(results))
            exprs = f._shared([f.to_expr(expr) for expr in exprs])
    finally:
        f.depth -= 1
    f.define(name, arguments, statements, exprs)
    return results


def _argument(f: Function, wish: str, fact: Fact) -> Tensor:
    return Tensor(f, fact, ast.Name(f.fresh(wish or "value"), ast.Load()))


def _invariant(f: Function, dims: Any) -> ast.expr:
    """The sizes that every turn keeps."""
    if dims is None:
        return f.call_expr(dotted("tf.TensorShape"), dotted("None"))
    return f.call_expr(dotted("tf.TensorShape"), [size if isinstance(size, int) else None for size in dims])


def _rows(f: Function, dtype: Any, dims: Any) -> ast.expr:
    """An empty list of tensors that a loop adds to."""
    known = dims is not None and all(isinstance(size, int) for size in dims)
    shape = None if dims is None else tuple(size if isinstance(size, int) else None for size in dims)
    return f.call_expr(
        dotted("tf.TensorArray"), dtype, size=0, dynamic_size=True, element_shape=shape,
        infer_shape=None if known else False,
    )  # fmt: skip


@NATIVE.row("Loop")
def Loop(
    xp: TensorflowNamespace, limit: Symbol | None, cond: Symbol | None, *initial: Symbol, body: Body
) -> Any:
    f = in_function(xp)
    states = [_tensor(f, state, "a state of the loop") for state in initial]
    inner, outputs = body.graph.inputs, body.graph.outputs
    turn = _argument(f, "turn", Fact(INT64, ()))
    going = _argument(f, "going", Fact(BOOL, ()))
    loop_states = [
        _argument(f, v.name or "state", _inside(f, v, s)) for v, s in zip(inner[2:], states, strict=True)
    ]
    facts = [f.plan.fact(value) for value in outputs[1 + len(states) :]]
    lists = [_argument(f, value.name or "rows", Fact(None)) for value in outputs[1 + len(states) :]]
    arguments = [x.base.id for x in (turn, going, *loop_states, *lists)]

    def finish(results: Sequence[Symbol]) -> list[Any]:
        again, kept, rows = results[0], results[1 : 1 + len(states)], results[1 + len(states) :]
        position = f.call_expr(dotted("tf.cast"), turn, INT32)
        added = [
            f.call_expr(ast.Attribute(x.base, "write", ast.Load()), position, row)
            for x, row in zip(lists, rows, strict=True)
        ]
        test = f.call_expr(dotted("tf.reshape"), again, ())
        return [f.binary("+", turn, 1).expr, test, *(x.expr for x in kept), *added]

    step, test = f.fresh("step"), f.fresh("more")
    results = _written(f, step, arguments, body, [turn, going, *loop_states], finish)
    most = LAST if limit is None else f.call_expr(dotted("tf.reshape"), limit, ())
    more = f.call_expr(dotted("tf.logical_and"), f.binary("<", turn, most, dtype=BOOL), going)
    f.write(ast.FunctionDef(test, _arguments(arguments), [ast.Return(more)], []))
    begins: Any = True if cond is None else f.call_expr(dotted("tf.reshape"), cond, ())
    start = [
        f.array(np.zeros((), np.int64)),
        begins,
        *states,
        *(_rows(f, fact.dtype, fact.dims) for fact in facts),
    ]
    shapes = [_invariant(f, ()), _invariant(f, ()), *(_invariant(f, x.fact.dims) for x in loop_states)]
    whole = _loop(
        f, test, step, start, shapes if not lists else [*shapes, *[_invariant(f, None)] * len(lists)]
    )
    parts = _parts(
        f, whole, [INT64, BOOL, *(s.dtype for s in states), *(r.dtype for r in results[1 + len(states) :])]
    )[2:]
    turns = limit.content if limit is not None and limit.content is not None else np.zeros(())
    always = begins is True and turns.all()
    stacked = [
        _stacked(f, part) if always else _stacked_turns(f, part, fact, body, place)
        for place, (part, fact) in enumerate(zip(parts[len(states) :], facts, strict=True), 1 + len(states))
    ]
    return tuple(Tensor(f, Fact(part.fact.dtype), part.expr) for part in [*parts[: len(states)], *stacked])


def _stacked_turns(f: Function, part: Symbol, fact: Fact, body: Body, place: int) -> Symbol:
    """What may be no turn at all: TensorFlow then knows the sizes only where none of them is free."""
    if fact.dims is None or all(isinstance(size, int) for size in fact.dims):
        return _stacked(f, part)
    f.use("stacked_turns")
    sizes = body.sizes_of_no_turn(place, fact.dims)
    return Symbol(f, part.fact, f.call_expr(dotted("stacked_turns"), part, *sizes))


def _inside(f: Function, value: Any, state: Symbol) -> Fact:
    """What is known of a state in every turn."""
    fact = f.plan.facts.get(value)
    return Fact(state.dtype, None if fact is None else fact.dims)


def _arguments(names: Sequence[str]) -> ast.arguments:
    return ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])


def _loop(f: Function, test: str, step: str, start: Sequence[Any], shapes: Sequence[Any]) -> Symbol:
    call = f.call_expr(
        dotted("tf.while_loop"), dotted(test), dotted(step), tuple(start), shape_invariants=tuple(shapes)
    )
    return f.made(call, dtype=BOOL)


def _stacked(f: Function, part: Symbol) -> Symbol:
    return Symbol(f, part.fact, f.call_expr(ast.Attribute(part.expr, "stack", ast.Load())))


@NATIVE.row("Scan")
def Scan(
    xp: TensorflowNamespace,
    *operands: Symbol,
    body: Body,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None,
    scan_input_directions: Sequence[int] | None,
    scan_output_axes: Sequence[int] | None,
    scan_output_directions: Sequence[int] | None,
) -> Any:
    f = in_function(xp)
    if None in operands or f.plan.graph.opset_imports.get("", 28) < 9:
        raise CannotConvert(
            "it is a Scan of opset 8, with a batch axis", "Export the model with opset 9 or newer"
        )
    count = len(operands) - num_scan_inputs
    states = [_tensor(f, x, "a state of the scan") for x in operands[:count]]
    scanned = [f.let(x, "scanned") if x.content is None else x for x in operands[count:]]
    axes = [axis % x.ndim for axis, x in zip(scan_input_axes or [0] * num_scan_inputs, scanned, strict=True)]
    inner, outputs = body.graph.inputs, body.graph.outputs
    total = f.let(
        Symbol(f, Fact(INT32, ()), f.size_of(Tensor(f, scanned[0].fact, scanned[0].expr), axes[0])), "count"
    )
    turn = _argument(f, "turn", Fact(INT32, ()))
    loop_states = [
        _argument(f, v.name or "state", _inside(f, v, s)) for v, s in zip(inner[:count], states, strict=True)
    ]
    facts = [f.plan.fact(value) for value in outputs[count:]]
    lists = [_argument(f, value.name or "rows", Fact(None)) for value in outputs[count:]]
    arguments = [x.base.id for x in (turn, *loop_states, *lists)]
    backwards = f.binary("-", f.binary("-", total, turn), 1)
    reads = [
        f.made(
            f.call_expr(dotted("tf.gather"), x, backwards if way else turn, axis=axis),
            dtype=x.dtype,
            dims=_less(x, axis),
        )
        for x, axis, way in zip(scanned, axes, scan_input_directions or [0] * num_scan_inputs, strict=True)
    ]
    ways = scan_output_directions or [0] * len(lists)

    def finish(results: Sequence[Symbol]) -> list[Any]:
        added = [
            f.call_expr(ast.Attribute(x.base, "write", ast.Load()), backwards if way else turn, row)
            for x, row, way in zip(lists, results[count:], ways, strict=True)
        ]
        return [f.binary("+", turn, 1).expr, *(x.expr for x in results[:count]), *added]

    step, test = f.fresh("step"), f.fresh("more")
    results = _written(f, step, arguments, body, [*loop_states, *reads], finish)
    more = ast.Return(f.binary("<", turn, total).expr)
    f.write(ast.FunctionDef(test, _arguments(arguments), [more], []))
    start = [f.array(np.zeros((), np.int32)), *states, *(_rows(f, fact.dtype, fact.dims) for fact in facts)]
    shapes = [
        _invariant(f, ()),
        *(_invariant(f, x.fact.dims) for x in loop_states),
        *[_invariant(f, None)] * len(lists),
    ]
    whole = _loop(f, test, step, start, shapes)
    parts = _parts(f, whole, [INT32, *(r.dtype for r in results)])[1:]
    positions = scan_output_axes or [0] * len(lists)
    stacked = [
        _placed(f, part, axis, fact) for part, axis, fact in zip(parts[count:], positions, facts, strict=True)
    ]
    return tuple(Tensor(f, Fact(part.fact.dtype), part.expr) for part in [*parts[:count], *stacked])


def _less(x: Symbol, axis: int) -> Any:
    return (*x.shape[:axis], *x.shape[axis + 1 :])


def _placed(f: Function, part: Symbol, axis: int, fact: Fact) -> Symbol:
    """The turns stacked along ``axis`` of the result."""
    stacked = _stacked(f, part)
    if axis == 0:
        return stacked
    if fact.dims is None:
        raise CannotConvert("the rank of what it scans is not known")
    rank = len(fact.dims) + 1
    order = list(range(1, rank))
    order.insert(axis % rank, 0)
    return Symbol(f, part.fact, f.call_expr(dotted("tf.transpose"), stacked, tuple(order)))


# ---- random numbers ------------------------------------------------------------------------------------------
