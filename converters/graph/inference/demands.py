"""What the readers of a value demand of it: ranks and sizes without which the model would not run at all.

An exporter that does not know a rank writes both ways: ``If(size == 1) {Squeeze} else {Identity}``, or a Squeeze without axes.
Where one of them alone gives what the operators behind it take, it is the one that runs. A free size of an input that an operator
can only take as one number is that number. Both hold wherever the source runs, so nothing is guessed. What is found out changes the
graph, which is then evaluated once more: one decision leads to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.inference import contents
from netferry.converters.graph.inference.dims import ints
from netferry.converters.graph.inference.evaluate import Evaluator, plain_attributes
from netferry.converters.graph.ir.sizes import Size

Ranks = frozenset[int]
_ANY: Ranks = frozenset(range(9))
"""Ranks that a value may have of which nothing is known."""


def settled(graph: ir.Graph, evaluator: Evaluator) -> bool:
    """Let the graph say what its operators demand; whether anything has changed, so that it is to be evaluated anew."""
    sizes = _fix_sizes(graph, evaluator)
    return _decide(graph, evaluator) or sizes


# ---- sizes ----------------------------------------------------------------------------------------------------


def _fix_sizes(graph: ir.Graph, evaluator: Evaluator) -> bool:
    """Write into the inputs' types the sizes that alone can be; of a size that has a name, wherever it stands."""
    inputs, changed = set(graph.inputs), False
    for node in graph:
        for size, number in _equal(node, evaluator):
            names = tuple(size.names())
            home = evaluator.homes.get(next(iter(names))) if len(names) == 1 else None
            if home is None or home.kind != "dim" or home.value not in inputs or size != Size.named(*names):
                continue
            shape = home.value.shape
            dim = None if shape is None else shape[home.index]
            if shape is None or (isinstance(dim, int) and dim >= 0):
                continue
            _write(graph, home.value, home.index, number)
            changed = True
    return changed


def _write(graph: ir.Graph, value: ir.Value, axis: int, number: int) -> None:
    assert value.shape is not None
    symbol = getattr(value.shape[axis], "value", None)
    for one in (*graph.inputs, *graph.outputs):
        if one.shape is not None and symbol is not None:
            one.shape = ir.Shape([number if getattr(d, "value", d) == symbol else d for d in one.shape])
    dims = list(value.shape)
    dims[axis] = number
    value.shape = ir.Shape(dims)


def _equal(node: ir.Node, evaluator: Evaluator) -> Iterator[tuple[Size, int]]:
    """Free sizes that a node can only take as a number, since another operand has that."""
    rule = None if node.domain else _EQUAL.get(node.op_type)
    if rule is None:
        return
    dims = [None if value is None else evaluator.facts[value].dims for value in node.inputs]
    for one, other in rule(node, dims, evaluator):
        for size, number in ((one, other), (other, one)):
            if isinstance(size, Size) and isinstance(number, int) and number > 0:
                yield size, number


Pairs = Iterator[tuple[Any, Any]]


def _recurrent(node: ir.Node, dims: Sequence[Any], _: Evaluator) -> Pairs:
    """The states have the batch of the sequence, the weights its width."""
    batch_first = node.attributes.get_int("layout", 0) == 1
    x = dims[0]
    if x is not None and len(x) == 3:
        for state in filter(None, dims[5:7]):
            yield x[0 if batch_first else 1], state[0 if batch_first else 1]
        if dims[1] is not None:
            yield x[2], dims[1][-1]


def _product(node: ir.Node, dims: Sequence[Any], _: Evaluator) -> Pairs:
    a, b = dims[:2]
    if a and b and len(a) > 1 and len(b) > 1:
        first = 0 if node.attributes.get_int("transA", 0) else -1
        second = -1 if node.attributes.get_int("transB", 0) else -2
        yield a[first], b[second]


def _convolved(node: ir.Node, dims: Sequence[Any], _: Evaluator) -> Pairs:
    x, w = dims[:2]
    if x and w and len(x) == len(w) > 2 and isinstance(w[1], int):
        yield x[1], w[1] * node.attributes.get_int("group", 1)


def _squeezed(node: ir.Node, dims: Sequence[Any], evaluator: Evaluator) -> Pairs:
    x, axes = dims[0], None if len(node.inputs) < 2 else ints(evaluator.facts.get(node.inputs[1]))  # type: ignore[arg-type]
    if x is not None and axes is not None and all(isinstance(axis, int) for axis in axes):
        yield from ((x[axis], 1) for axis in axes if -len(x) <= axis < len(x))


_EQUAL: Mapping[str, Callable[[ir.Node, Sequence[Any], Evaluator], Pairs]] = {
    "Squeeze": _squeezed,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("MatMul", "Gemm"), _product),
    "Conv": _convolved,
}
"""Operator -> pairs of sizes that are one."""


# ---- ranks ----------------------------------------------------------------------------------------------------


def _decide(graph: ir.Graph, evaluator: Evaluator, *, top: bool = True) -> bool:
    """Decide what the ranks decide, in this graph and in those inside it."""
    changed = False
    for inside in _inner(graph):
        changed |= _decide(inside, evaluator, top=False)
    open_nodes = [node for node in graph if _is_open(node, evaluator)]
    unsaid = [value for value in graph.inputs if value.type is not None and value.shape is None and top]
    if not open_nodes and not unsaid:
        return changed
    ranks = _Ranks(evaluator)
    ranks.narrow(graph)
    for value in unsaid:
        changed |= _give_rank(value, ranks)
    for node in open_nodes:
        changed |= (_take_branch if node.op_type == "If" else _give_axes)(node, ranks)
    return changed


def _inner(graph: ir.Graph) -> Iterator[ir.Graph]:
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield attribute.value


def _is_open(node: ir.Node, evaluator: Evaluator) -> bool:
    """Whether a node leaves the rank of something unknown that another way of it would tell."""
    if node.domain or node.op_type not in ("If", "Squeeze"):
        return False
    if node.op_type == "Squeeze" and any(value is not None for value in node.inputs[1:]):
        return False
    return any(evaluator.facts[value].dims is None for value in node.outputs if value in evaluator.facts)


def _give_rank(value: ir.Value, ranks: _Ranks) -> bool:
    """An input whose rank the file does not say has the one that its readers take."""
    demanded = ranks.of(value)
    if len(demanded) == 1:
        value.shape = ir.Shape([None] * next(iter(demanded)))
    return len(demanded) == 1


def _take_branch(node: ir.Node, ranks: _Ranks) -> bool:
    """Give an If a constant condition where the results of one branch alone are what is demanded."""
    fits = [
        all(ranks.of(value) & one for value, one in zip(node.outputs, ranks.results(branch), strict=True))
        for branch in _branches(node)
    ]
    if sum(fits) != 1:
        return False
    ranks.constant(node, 0, np.array(fits[0]), "condition")
    return True


def _give_axes(node: ir.Node, ranks: _Ranks) -> bool:
    """Name the axes of a Squeeze where the rank that is demanded says whether free sizes are among them."""
    x, demanded = node.inputs[0], ranks.of(node.outputs[0])
    dims = None if x is None else ranks.evaluator.facts[x].dims
    if dims is None or len(demanded) != 1:
        return False
    ones = [axis for axis, dim in enumerate(dims) if dim == 1]
    free = [axis for axis, dim in enumerate(dims) if isinstance(dim, Size)]
    dropped = len(dims) - next(iter(demanded))
    if dropped not in (len(ones), len(ones) + len(free)):
        return False
    axes = ones if dropped == len(ones) else sorted(ones + free)
    ranks.constant(node, 1, np.array(axes, np.int64), "axes")
    return True


def _branches(node: ir.Node) -> list[ir.Graph]:
    return [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]


class _Ranks:
    """The ranks that values may have, narrowed by what makes and what reads them until nothing changes."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._may: dict[ir.Value, Ranks] = {}

    def of(self, value: ir.Value) -> Ranks:
        fact = self.evaluator.facts.get(value)
        if fact is not None and fact.dims is not None:
            return frozenset([len(fact.dims)])
        return self._may.get(value, _ANY)

    def narrow(self, graph: ir.Graph) -> None:
        nodes = list(graph)
        for _ in range(_ROUNDS):
            # An open rank is told by few nodes around it: forward along the graph, then back along it.
            changed = [self._narrow_node(node) for node in nodes]
            changed += [self._narrow_node(node) for node in reversed(nodes)]
            if not any(changed):
                return

    def results(self, branch: ir.Graph) -> list[Ranks]:
        """The ranks that a branch may give; what it demands of the values around it holds only where it runs."""
        inside = _Ranks(self.evaluator)
        inside._may = dict(self._may)
        for node in branch:
            inside._forward(node)
        return [inside.of(value) for value in branch.outputs]

    def constant(self, node: ir.Node, position: int, array: Any, what: str) -> None:
        """Make an operand of a node a constant of this graph."""
        name = f"{node.outputs[0].name}_{what}"
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        self.evaluator.facts[value] = contents.of_array(array)
        assert isinstance(node.graph, ir.Graph)
        node.graph.register_initializer(value)
        node.resize_inputs(max(len(node.inputs), position + 1))
        node.replace_input_with(position, value)

    def _set(self, value: ir.Value | None, ranks: Ranks) -> bool:
        before = _ANY if value is None else self.of(value)
        after = before & ranks
        if (
            value is None or not after or after == before
        ):  # nothing fits: the graph will not run, whatever is taken
            return False
        self._may[value] = after
        return True

    def _narrow_node(self, node: ir.Node) -> bool:
        changed = self._forward(node)
        if node.domain:
            return changed
        for position, rank in _demanded(node, self):
            changed |= self._set(node.inputs[position], frozenset([rank]))
        step = _step(node, self)
        if step is not None and node.inputs:
            x, wanted = node.inputs[0], self.of(node.outputs[0])
            fitting = frozenset(r for r in (_ANY if x is None else self.of(x)) if r + step in wanted)
            changed |= self._set(x, fitting)
        return changed

    def _forward(self, node: ir.Node) -> bool:
        if node.domain:
            return False
        if node.op_type == "If":
            both = [self.results(branch) for branch in _branches(node)]
            told = [
                self._set(value, one | other) for value, one, other in zip(node.outputs, *both, strict=True)
            ]
            return any(told)
        if node.op_type == "Squeeze" and len(node.inputs) == 1:
            return self._squeezed(node)
        step, x = _step(node, self), node.inputs[0] if node.inputs else None
        if step is None or x is None:
            return False
        return self._set(node.outputs[0], frozenset(r + step for r in self.of(x) if r + step >= 0))

    def _squeezed(self, node: ir.Node) -> bool:
        x = node.inputs[0]
        dims = None if x is None else self.evaluator.facts[x].dims
        if dims is None:
            return False
        most = sum(dim != 1 for dim in dims)
        least = sum(isinstance(dim, int) and dim != 1 for dim in dims)
        return self._set(node.outputs[0], frozenset(range(least, most + 1)))


_ROUNDS = 8


def _step(node: ir.Node, ranks: _Ranks) -> int | None:
    """By how much the rank of the output differs from that of the first input; None where that does not follow."""
    if node.op_type in _KEEPS:
        return 0
    if node.op_type in ("Unsqueeze", "Squeeze"):
        axes = _content(node, 1, ranks)
        return None if axes is None else len(axes) if node.op_type == "Unsqueeze" else -len(axes)
    if node.op_type.startswith("Reduce"):
        if node.attributes.get_int("keepdims", 1):
            return 0
        axes = _content(node, 1, ranks)
        return None if not axes else -len(axes)
    if node.op_type in ("ArgMax", "ArgMin"):
        return 0 if node.attributes.get_int("keepdims", 1) else -1
    if node.op_type == "Gather" and node.inputs[1] is not None:
        index = ranks.of(node.inputs[1])
        return next(iter(index)) - 1 if len(index) == 1 else None
    if node.op_type in _BROADCASTS:
        others = [ranks.of(value) for value in node.inputs[1:] if value is not None]
        return 0 if all(len(one) == 1 and next(iter(one)) < 2 for one in others) and others else None
    return None


def _content(node: ir.Node, position: int, ranks: _Ranks) -> tuple[Any, ...] | None:
    value = node.inputs[position] if position < len(node.inputs) else None
    return None if value is None else ints(ranks.evaluator.facts.get(value))


def _demanded(node: ir.Node, ranks: _Ranks) -> Iterator[tuple[int, int]]:
    """(place of an input, the one rank that it can have)."""
    fixed = _RANKS.get(node.op_type, ())
    yield from ((place, rank) for place, rank in enumerate(fixed) if place < len(node.inputs))
    if node.op_type in (
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "Concat",
        "GatherElements",
        "ScatterElements",
    ):
        alike = [place for place, value in enumerate(node.inputs) if value is not None]
        alike = alike if node.op_type == "Concat" else alike[:2]
        known = [ranks.of(v) for place in alike if (v := node.inputs[place]) is not None]
        told = {next(iter(one)) for one in known if len(one) == 1}
        if len(told) == 1:
            yield from ((place, rank) for place in alike for rank in told)
    attributes = plain_attributes(node)
    for name, more in _LISTS.get(node.op_type, ()):
        if attributes.get(name) is not None:
            yield 0, len(attributes[name]) + more
    if node.op_type in ("Tile", "Pad") and (pads := _content(node, 1, ranks)) and len(node.inputs) < 4:
        yield 0, len(pads) // (2 if node.op_type == "Pad" else 1)


_RANKS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (3, 3, 3, 2, 1, 3, 3)),
    "Gemm": (2, 2),
    "DepthToSpace": (4,),
    "SpaceToDepth": (4,),
    "NonMaxSuppression": (3, 3),
    "RoiAlign": (4, 2, 1),
}
"""Operator -> the ranks that its inputs have."""

_LISTS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "Transpose": (("perm", 0),),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "Conv", "ConvTranspose"), (("kernel_shape", 2),)),
}
"""Operator -> an attribute with one number for each axis of the first input, less so many axes."""

_KEEPS = frozenset(
    """
    Abs Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip Conv ConvTranspose Cos Cosh
    CumSum Dropout Elu Erf Exp Floor Gelu GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Hardmax Identity
    InstanceNormalization LRN LayerNormalization LeakyRelu Log LogSoftmax MaxPool Mish Neg Not Pad PRelu Reciprocal Relu Round
    Selu Sigmoid Sign Sin Sinh Slice Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Tile Transpose Trilu
    """.split()
)
"""Operators whose output has the rank of their first input."""

_BROADCASTS = frozenset("Add Sub Mul Div Pow Mod Min Max".split())
