"""What a model costs by its graph alone: arithmetic operations and bytes moved, at given sizes.

A multiply and an add count as two operations. Bytes are those that must be moved however good the caches are: every
weight and input read once, every output written once. Both bound the time of a run from below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from netferry.converters.graph.ir.facts import Plan
from netferry.converters.graph.ir.sizes import Size

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """Operations and bytes of one run; ``unknown`` counts the nodes of which a size is not known before it."""

    flops: int
    bytes: int
    unknown: int = 0


def cost(plan: Plan, sizes: Mapping[str, int]) -> Cost:
    """Sum over all nodes, the free sizes being ``sizes``: the dearer branch of an If, and the body of a Loop or Scan as
    often as it runs, or once where that is not known before."""
    return _sum(plan, plan.graph, sizes)


def _sum(plan: Plan, nodes: Iterable[ir.Node], sizes: Mapping[str, int]) -> Cost:
    flops = total = unknown = 0
    for node in nodes:
        try:
            taken = [_shape(plan, value, sizes) for value in node.inputs]
            given = [_shape(plan, value, sizes) for value in node.outputs]
        except KeyError:
            unknown += 1
            continue
        inner = _within(plan, node, sizes, taken)
        flops += _FLOPS.get(node.op_type, _elementwise)(node, taken, given) + inner.flops
        values = (*node.inputs, *node.outputs)
        total += inner.bytes + sum(
            _bytes(plan, value, shape) for value, shape in zip(values, [*taken, *given], strict=True)
        )
    return Cost(flops, total, unknown)


def _within(plan: Plan, node: ir.Node, sizes: Mapping[str, int], taken: list[Shape]) -> Cost:
    """What a node's subgraphs add, as far as their sizes are known."""
    graphs = [one.as_graph() for one in node.attributes.values() if one.type is ir.AttributeType.GRAPH]
    if not graphs:
        return Cost(0, 0)
    dearest = max((_sum(plan, graph, sizes) for graph in graphs), key=lambda one: one.flops + one.bytes)
    turns = _TURNS[node.op_type](plan, node, sizes, taken) if node.op_type in _TURNS else 1
    return Cost(turns * dearest.flops, turns * dearest.bytes)


def _steps(plan: Plan, node: ir.Node, sizes: Mapping[str, int], taken: list[Shape]) -> int:
    """Of a Scan: the size of its first sequence along the axis that it goes."""
    count = node.attributes.get_int("num_scan_inputs", 1)
    axes = node.attributes.get_ints("scan_input_axes", [0])
    return taken[-count][axes[0]]


def _trips(plan: Plan, node: ir.Node, sizes: Mapping[str, int], taken: list[Shape]) -> int:
    """Of a Loop: what it is told, where that is known before and is no mere limit."""
    content = None if node.inputs[0] is None else plan.fact(node.inputs[0]).content
    told = 1 if content is None else content.reshape(-1)[0]
    count = int(told.at(sizes) if isinstance(told, Size) else told)
    return count if count < NO_LIMIT else 1


NO_LIMIT = 2**31 - 1
"""Turns from which a Loop runs until its condition ends it."""


def peak(plan: Plan, sizes: Mapping[str, int]) -> int:
    """Bytes of the tensors that are there at once, weights aside, where each goes after its last reader; a tensor whose size is not known
    before the run counts for nothing."""
    ends = set(plan.graph.outputs)
    readers = Counter(value for node in plan.graph for value in node.inputs if value is not None)
    held = {value: _held(plan, value, sizes) for value in plan.graph.inputs}
    total = most = sum(held.values())
    for node in plan.graph:
        for value in node.outputs:
            held[value] = _held(plan, value, sizes)
            total += held[value]
        most = max(most, total)
        taken = [value for value in node.inputs if value is not None]
        readers.subtract(taken)
        for one in (*taken, *node.outputs):
            if readers[one] <= 0 and one not in ends:
                total -= held.pop(one, 0)
    return most


def _held(plan: Plan, value: ir.Value, sizes: Mapping[str, int]) -> int:
    try:
        return _bytes(plan, value, _shape(plan, value, sizes))
    except KeyError:
        return 0


def _shape(plan: Plan, value: ir.Value | None, sizes: Mapping[str, int]) -> Shape:
    """The sizes of a value; none at all for an input that is left out. Raises KeyError where one is not known."""
    if value is None:
        return (0,)
    dims = plan.fact(value).dims
    if dims is None:
        if not value.uses() and not value.is_graph_output():
            return (0,)
        raise KeyError(value.name)
    return tuple(dim.at(sizes) if isinstance(dim, Size) else dim for dim in dims)


def _bytes(plan: Plan, value: ir.Value | None, shape: Shape) -> int:
    dtype = None if value is None else plan.fact(value).dtype
    return prod(shape) * (0 if dtype is None else dtype.itemsize)


def _elementwise(node: ir.Node, taken: list[Shape], given: list[Shape]) -> int:
    return prod(given[0]) if given else 0


def _product(node: ir.Node, taken: list[Shape], given: list[Shape]) -> int:
    """MatMul and Linear: one multiply and add for each output and each element of the axis that goes."""
    return 2 * prod(given[0]) * (taken[0][-1] if taken[0] else 1)


def _gemm(node: ir.Node, taken: list[Shape], given: list[Shape]) -> int:
    turned = node.attributes.get_int("transA", 0)
    return 2 * prod(given[0]) * taken[0][0 if turned else 1]


def _convolution(node: ir.Node, taken: list[Shape], given: list[Shape]) -> int:
    """Every output is a product over the kernel: (out, in / group, *kernel)."""
    return 2 * prod(given[0]) * prod(taken[1][1:])


def _transposed(node: ir.Node, taken: list[Shape], given: list[Shape]) -> int:
    """Every input is spread over the kernel: (in, out / group, *kernel)."""
    return 2 * prod(taken[0]) * prod(taken[1][1:])


def _quantised_convolution(node: ir.Node, taken: list[Shape], given: list[Shape]) -> int:
    """As Conv, whose weight comes behind the input's scale and zero point."""
    return 2 * prod(given[0]) * prod(taken[3][1:])


def _recurrent(node: ir.Node, taken: list[Shape], given: list[Shape]) -> int:
    """Each step of each direction multiplies the input and the state by their matrices."""
    time, batch = taken[0][:2]
    return 2 * time * batch * (prod(taken[1]) + prod(taken[2]))


def _attention(node: ir.Node, taken: list[Shape], given: list[Shape]) -> int:
    """Scores, then the weighted sum: queries by keys by the width of all heads, twice."""
    keys = taken[1][-2]
    return 4 * prod(given[0]) * keys


_FLOPS: Mapping[str, Callable[[ir.Node, list[Shape], list[Shape]], int]] = {
    **dict.fromkeys(("Linear", "MatMul", "MatMulInteger", "QLinearMatMul"), _product),
    "Gemm": _gemm,
    **dict.fromkeys(("Conv", "ConvInteger"), _convolution),
    "QLinearConv": _quantised_convolution,
    "ConvTranspose": _transposed,
    "Recurrent": _recurrent,
    "Attention": _attention,
}
_TURNS: Mapping[str, Callable[[Plan, ir.Node, Mapping[str, int], list[Shape]], int]] = {
    "Scan": _steps,
    "Loop": _trips,
}
