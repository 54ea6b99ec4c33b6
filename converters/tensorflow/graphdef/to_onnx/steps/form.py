"""The places in a loop of what a recurrent layer has: a sequence, its mask, states, counters and what it yields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.to_onnx import loops
from netferry.converters.tensorflow.graphdef.to_onnx.lists import TensorList

_MOST_STATES = 13


@dataclass(frozen=True)
class Form:
    """A loop that may be a recurrent layer; ``states`` are all floats that it carries, also an output that it hands on."""

    sequence: int
    mask: int | None
    lengths: int | None
    states: tuple[int, ...]
    counters: tuple[int, ...]
    yields: int | None


def form_of(loop: loops.Loop) -> Form | None:
    """The form of a loop over one sequence, which may have a mask or lengths; None for any other loop."""
    carried = [at for at, role in enumerate(loop.roles) if role == loops.CARRIED]
    counters = tuple(at for at in carried if _is_counter(loop, at))
    states = tuple(at for at in carried if at not in counters)
    lists = [at for at, value in enumerate(loop.given) if isinstance(value, TensorList)]
    yields = [at for at in lists if loop.roles[at] in (loops.YIELDED, loops.LAST)]
    read = [at for at in lists if loop.roles[at] == loops.KEPT]
    sequences = [at for at in read if _is_sequence(loop.given[at].tensor)]
    masks = [at for at in read if _is_mask(loop.given[at].tensor)]
    fits = loop.bounds and 1 <= len(states) <= _MOST_STATES and len(yields) <= 1
    if not fits or len(sequences) != 1 or len(masks) > 1 or len(sequences) + len(masks) != len(read):
        return None
    if not all(_is_state(loop.given[at]) for at in states) or not _are_read_in_order(loop, read):
        return None
    lengths = [] if masks else [at for at in range(len(loop.given)) if _is_lengths(loop, at)]
    if len(lengths) > 1:
        return None
    return Form(sequences[0], _one(masks), _one(lengths), states, counters, _one(yields))


def _one(places: Sequence[int]) -> int | None:
    return places[0] if places else None


def _is_lengths(loop: loops.Loop, position: int) -> bool:
    """(batch,): how many steps count of each row."""
    value = loop.given[position]
    return (
        loop.roles[position] == loops.KEPT and isinstance(value, Tensor) and value.array is None
        and value.dtype.kind == "i" and value.dims is not None and len(value.dims) == 1
    )  # fmt: skip


def _is_counter(loop: loops.Loop, position: int) -> bool:
    value = loop.given[position]
    return isinstance(value, Tensor) and value.dtype.kind == "i" and loop.steps_by_one(position)


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Tensor) and value.dtype.kind == "f" and value.dims is not None
        and len(value.dims) == 2 and isinstance(value.dims[1], int)
    )  # fmt: skip


def _is_sequence(x: Tensor | None) -> bool:
    """(time, batch, input)"""
    return (
        x is not None and x.dims is not None and len(x.dims) == 3
        and isinstance(x.dims[2], int) and x.dtype.kind == "f"
    )  # fmt: skip


def _is_mask(x: Tensor | None) -> bool:
    """(time, batch), or (time, batch, 1)"""
    return x is not None and x.dims is not None and x.dtype == np.bool_ and x.dims[2:] in ((), (1,))


def _are_read_in_order(loop: loops.Loop, lists: Sequence[int]) -> bool:
    """Every reader of each list takes the element that the counter says, from the first one on."""
    for place in lists:
        readers = [
            node
            for node in loop.body.nodes.values()
            if node.operator not in ("Identity", "IdentityN")
            and any(loops.argument_of(loop.body, ref) == place for ref in node.inputs)
        ]
        if not readers or not all(_takes_next(loop, node) for node in readers):
            return False
    return True


def _takes_next(loop: loops.Loop, node: Any) -> bool:
    if node.operator != "TensorListGetItem":
        return False
    counter = loops.argument_of(loop.body, node.inputs[1])
    return counter is not None and _is_counter(loop, counter) and bool(loop.start(counter) == 0)
