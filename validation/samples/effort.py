"""What a run takes at given sizes, by the graph alone: operations, and bytes moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath

import onnx
import onnx_ir as ir

from netferry.converters import size_bounds
from netferry.converters.errors import NetferryError
from netferry.converters.graph.inference.cost import cost
from netferry.converters.graph.ir.facts import Plan
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.signature import Signature
from netferry.validation.samples.sizes import Sizes

HEAVY = 128 << 20
"""Bytes that a run may move beside its weights: what it keeps in float64 is about as much."""
TIMES_WEIGHTS = 2
"""Where weights are large, activations may be so many times as large."""
LONG, MANY_TIMES = 30_000_000_000, 16
"""Operations that a run may take if they are more than so many times those at the usual sizes: about a second."""
MANY = 1 << 21
"""Elements of the inputs, where there is no graph to count with."""

STEPPING = frozenset({"Scan", "LSTM", "GRU", "RNN", "Recurrent"})
"""Operators whose kernels in onnxruntime end the process where they have no step or no row."""
DIVIDING = frozenset({"Div", "Mod"})
"""Those that divide integers as the processor does."""


@dataclass(frozen=True)
class Effort:
    """Operations and bytes moved in one run."""

    operations: int
    bytes: int

    @property
    def work(self) -> int:
        """Operations, and for each byte another one: what moves much and computes little takes time, too."""
        return self.operations + self.bytes


Weigh = Callable[[Sizes], Effort | None]
"""What a run at these sizes takes; None where it is not known."""


@dataclass(frozen=True)
class Weigher:
    """What is known of a model's runs by its graph; nothing, where there is none."""

    planned: Plan | None = None
    bounds: tuple[str, ...] = ()

    def __call__(self, sizes: Sizes) -> Effort | None:
        found = None if self.planned is None else cost(self.planned, sizes)
        known = found is not None and found.flops and not found.unknown
        return Effort(found.flops, found.bytes) if found is not None and known else None

    def beyond(self, sizes: Sizes) -> bool:
        """Whether these sizes are beyond the bounds in the model's metadata."""
        return not size_bounds.hold(self.bounds, sizes)

    def hollow(self, sizes: Sizes) -> bool:
        """Whether some tensor inside is empty at these sizes, where at larger ones none is."""
        return self._has_empty(sizes) and any(
            not self._has_empty(dict.fromkeys(sizes, size)) for size in (64, 512, 4096, 32000)
        )

    def _has_empty(self, sizes: Sizes) -> bool:
        return any(dim.at(sizes) < 1 for dim in self._dims if sizes.keys() >= set(dim.names()))

    @cached_property
    def is_perilous(self) -> bool:
        """Whether some kernel of onnxruntime might end the process: one that dies of nothing to do, where it is not
        known how much there is to do, or of the smallest integer divided by -1."""
        planned = self.planned
        return planned is not None and any(
            _dies_of_nothing(node, planned) or _dies_of_overflow(node, planned)
            for node in planned.graph.all_nodes()
        )

    @cached_property
    def _dims(self) -> list[Size]:
        """Every size inside that depends on those of the inputs."""
        nodes = [] if self.planned is None else list(self.planned.graph)
        facts = [
            self.planned.fact(value) for node in nodes for value in node.outputs if self.planned is not None
        ]
        return list({dim for fact in facts for dim in fact.dims or () if isinstance(dim, Size)})


def _dies_of_nothing(node: ir.Node, planned: Plan) -> bool:
    if node.op_type not in STEPPING:
        return False
    known = {name for value in planned.graph.inputs for name in _names(planned.fact(value).dims)}
    dims = [planned.fact(value).dims for value in node.inputs if value is not None]
    return any(one is None or not known.issuperset(_names(one)) for one in dims)


def _names(dims: Iterable[int | Size] | None) -> set[str]:
    return {name for dim in dims or () if isinstance(dim, Size) for name in dim.names()}


def _dies_of_overflow(node: ir.Node, planned: Plan) -> bool:
    if node.op_type not in DIVIDING or node.inputs[1] is None:
        return False
    by = planned.fact(node.inputs[1])
    return by.dtype is not None and by.dtype.kind == "i" and by.content is None and by.fill is None


def weigher(graphs: Iterable[object]) -> Weigher:
    """By the first of these that is a graph, as a path or in memory, and has sizes."""
    for graph in graphs:
        model = _loaded(graph)
        if model is None:
            continue
        try:
            return Weigher(plan(model), size_bounds.of_metadata(model.metadata_props))
        except NetferryError:
            continue
    return Weigher()


def is_heavy(effort: Effort, weights: int) -> bool:
    """Whether a run moves more than is given to a verification of a model with so many bytes of weights."""
    return effort.bytes > HEAVY + TIMES_WEIGHTS * weights


def too_heavy(weigh: Weigh, signature: Signature, weights: int) -> Callable[[Sizes, Sizes], bool]:
    """(sizes, the usual ones) -> whether a run there takes more memory than is given to a verification, or much longer.

    What the usual sizes take is never too much.
    """

    def heavy(sizes: Sizes, usual: Sizes) -> bool:
        one, least = weigh(sizes), weigh(usual)
        if one is None or least is None:
            return _elements(signature, sizes) > max(MANY, _elements(signature, usual))
        too_long = one.work > max(LONG, MANY_TIMES * least.work)
        return too_long or (is_heavy(one, weights) and one.bytes > least.bytes)

    return heavy


def _elements(signature: Signature, sizes: Sizes) -> int:
    total = 0
    for spec in signature.inputs:
        count = 1
        for axis, dim in enumerate(spec.dims or ()):
            count *= dim if isinstance(dim, int) else sizes.get(dim or f"{spec.name}_dim{axis}", 1)
        total += count
    return total


def _loaded(graph: object) -> ir.Model | None:
    if isinstance(graph, str | PathLike):
        return ir.load(fspath(graph))
    if isinstance(graph, onnx.ModelProto):
        return ir.from_proto(graph)
    return graph if isinstance(graph, ir.Model) else None
