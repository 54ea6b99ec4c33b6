"""Loops: a few steps are written out one by one, more, or a free number of them, as ONNX's Scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.files import body_of
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, cast
from netferry.converters.mxnet.to_onnx.sizes import stacked

_MOST_STEPS, _WEIGHT = 1024, 2


def _bound(
    g: Emitter, a: Attrs, graph: int, inputs: Sequence[Tensor], positions: Sequence[int]
) -> list[Tensor]:
    """A graph inside of the node, its variables being those of the node's inputs that ``positions`` name."""
    return g.inline(body_of(a.subgraph(graph)), [inputs[position] for position in positions])


@ROWS.row("_cond")
def cond(g: Emitter, a: Attrs, *inputs: Tensor) -> list[Tensor]:
    """Both branches are computed, and the one that holds is taken: they change nothing."""
    a.ignore("num_args", "num_outputs")
    condition, first, second = (
        _bound(g, a, index, inputs, a.integers(f"{name}_input_locs"))
        for index, name in enumerate(("cond", "then", "else"))
    )
    holds = cast(g, g.Reshape(condition[0], g.ints()), np.bool_)
    return [g.Where(holds, x, y) for x, y in zip(first, second, strict=True)]


@ROWS.row("_while_loop")
def while_loop(g: Emitter, a: Attrs, *inputs: Tensor) -> list[Tensor]:
    """Every step that the loop may take, of which those count that it takes; what it gives, zeros behind, then its variables."""
    a.ignore("num_args", "num_outputs")
    steps, given = a.integer("max_iterations"), a.integer("num_out_data")
    places = {name: a.integers(f"{name}_input_locs") for name in ("cond", "func")}
    names = a.integers("func_var_locs")
    body = body_of(a.subgraph(1))
    if not 0 < steps <= _MOST_STEPS or not budget.take("nodes", steps * _WEIGHT * len(body.nodes)):
        raise CannotConvert(f"{steps} steps of a loop", f"Up to {_MOST_STEPS} are written out")
    state = list(inputs)
    variables = [places["func"][position] for position in names]
    running: Tensor | None = None
    found: list[list[Tensor]] = []
    for _ in range(steps):
        (asked,) = _bound(g, a, 0, state, places["cond"])
        holds = cast(g, g.Reshape(asked, g.ints()), np.bool_)
        running = holds if running is None else g.And(running, holds)
        made = _bound(g, a, 1, state, places["func"])
        found.append([g.Where(running, x, g.scalar(0, x)) for x in made[:given]])
        for place, x in zip(variables, made[given:], strict=True):
            state[place] = g.Where(running, x, state[place])
    return [
        *(stacked(g, column, 0) for column in zip(*found, strict=True)),
        *(state[place] for place in variables),
    ]


@ROWS.row("_foreach")
def foreach(g: Emitter, a: Attrs, *inputs: Tensor) -> list[Tensor]:
    """The body at each position of the first axis of some inputs; what it gives, stacked, then its last states.

    inputs: those, the first states, and what the body reads besides; ``*_locs`` say which of the body's
    variables they are.
    """
    body = body_of(a.subgraph(0))
    positions = [a.integers(f"in_{kind}_locs") for kind in ("data", "state")]
    along, states = (list(each) for each in (inputs[: len(positions[0])], inputs[len(positions[0]) :]))
    others = states[len(positions[1]) :]
    states = states[: len(positions[1])]
    bound: dict[int, Tensor] = dict(zip(a.integers("remain_locs"), others, strict=True))
    given = a.integer("num_out_data")

    def turn(before: Sequence[Tensor], rows: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The next states, and what this turn gives; a row of a list of numbers is a list of one."""
        here = [g.Reshape(row, g.ints(1)) if x.rank == 1 else row for x, row in zip(along, rows, strict=True)]
        inside = (
            bound | dict(zip(positions[0], here, strict=True)) | dict(zip(positions[1], before, strict=True))
        )
        made = g.inline(body, [inside[position] for position in sorted(inside)])
        return made[given:], made[:given]

    steps = along[0].dims[0] if along[0].dims else None
    if not isinstance(steps, int) or steps > _MOST_STEPS:
        last, joined = g.scan(turn, states, along)
        return [*joined, *last]
    if not steps or not budget.take("nodes", steps * _WEIGHT * len(body.nodes)):
        raise CannotConvert(
            f"{steps} steps of a loop of {len(body.nodes)} nodes",
            "Fewer are written out, loops within loops together",
        )
    yielded: list[Sequence[Tensor]] = []
    for step in range(steps):
        states, rows = turn(states, [g.Gather(x, g.constant(step, np.int64), axis=0) for x in along])
        yielded.append(rows)
    return [*(stacked(g, column, 0) for column in zip(*yielded, strict=True)), *states]
