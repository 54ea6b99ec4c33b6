"""Two models side by side: each as the steps that it ran, and what of one has no counterpart in the other.

The counterparts are those of the make, not of the numbers: steps are paired by the tensors that were found to be the same, by
their names, and by their kinds in between.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from netferry.validation.reports.inside import Side
from netferry.validation.reports.page.graphs import Graph, Node

_SAME: Mapping[str, str] = {
    "conv": "conv convolution depthwiseconv separableconv convolutiondepthwise depthwiseconvnative quantizedconv",
    "convtranspose": "convtranspose deconvolution convbackpropinput",
    "dense": "dense linear gemm matmul fullyconnected dot batchdot batchmatmul einsum addmm bmm einsumdense",
    "norm": "batchnorm batchnormalization syncbatchnorm fusedbatchnorm",
    "layernorm": "layernorm layernormalization",
    "pool": "maxpool maxpooling avgpool averagepool averagepooling pooling adaptiveavgpool adaptivemaxpool globalaveragepool globalmaxpool "
    "globalaveragepooling globalmaxpooling lppool",
    "reshape": "reshape flatten view squeeze unsqueeze expanddims",
    "transpose": "transpose permute swapaxes moveaxis",
    "add": "add elemwiseadd broadcastadd biasadd addv plus npadd",
    "sub": "sub subtract elemwisesub broadcastsub",
    "mul": "mul multiply elemwisemul broadcastmul",
    "div": "div truediv divide realdiv elemwisediv broadcastdiv",
    "concat": "concat concatenate cat",
    "slice": "slice getitem crop stridedslice sliceaxis split slicelike",
    "gather": "gather embedding take indexselect resourcegather",
    "softmax": "softmax softmaxactivation softmaxoutput",
    "rnn": "rnn simplernn lstm gru bidirectional",
    "mean": "mean reducemean",
    "pad": "pad zeropadding constantpad",
    "resize": "resize upsample upsampling interpolate",
    "same": "identity dropout cast to contiguous",
}
"""Operations that are one another's in the frameworks' words, without digits and strokes."""

_KINDS: Mapping[str, str] = {word: kind for kind, words in _SAME.items() for word in words.split()}

_ATTRIBUTES: Mapping[str, str] = {
    name: common
    for common, names in {
        "strides": "stride strides", "kernel": "kernel kernel_size kernel_shape pool_size", "groups": "group groups num_group",
        "dilations": "dilation dilations dilate dilation_rate", "epsilon": "eps epsilon", "padding": "padding pads pad",
    }.items()
    for name in names.split()
}  # fmt: skip
"""Attributes that mean the same in every framework, by their names in each."""

_LEFT_OUT: Mapping[str, str] = {"strides": "1", "dilations": "1", "groups": "1"}
"""What one of these is where it is not said."""

_ROOM = 250_000
"""Pairs of steps that are looked at between two that are known to correspond."""


@dataclass(frozen=True)
class Mark:
    """What is to be seen of a step beside the other model: where its counterpart stands there, and what differs."""

    twin: int | None = None
    differs: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        return "; ".join(self.differs) if self.twin is not None else "on this side only"

    def __bool__(self) -> bool:
        """Whether anything is to be marked."""
        return self.twin is None or bool(self.differs)


def graph_of(side: Side, title: str) -> Graph:
    """The steps of a run as a graph: all of them depend on the inputs."""
    nodes = tuple(
        Node(
            step.kind.partition("/")[0],
            step.name,
            step.reads,
            step.gives,
            bool(step.weights),
            tuple(side.sizes[name] for name in step.gives if name in side.sizes),
            (*step.attributes, *([("written", step.line)] if step.line else [])),
        )
        for step in side.steps
    )
    return Graph(title, side.ends.inputs, tuple(dict.fromkeys(side.ends.outputs.values())), nodes)


def marks(a: Graph, b: Graph, counterparts: Mapping[str, str]) -> tuple[tuple[Mark, ...], tuple[Mark, ...]]:
    """For each step of both what is to be seen beside the other; ``counterparts`` are tensors of ``b`` by those of ``a``."""
    kinds = [_kind(node) for node in a.nodes], [_kind(node) for node in b.nodes]
    anchors = sorted(_anchors(a, b, kinds, counterparts))
    in_order = _increasing(anchors)
    twins, taken = dict(in_order), {other for _, other in in_order}
    for one, other in anchors:  # branches that run in another order there
        if one not in twins and other not in taken:
            twins[one] = other
            taken.add(other)
    twins |= dict(_between(in_order, kinds, (twins.keys(), taken)))
    back = {other: one for one, other in twins.items()}
    return _marked(a.nodes, b.nodes, twins), _marked(b.nodes, a.nodes, back)


def _marked(nodes: Sequence[Node], others: Sequence[Node], twins: Mapping[int, int]) -> tuple[Mark, ...]:
    return tuple(
        Mark(twins[place], tuple(_differing(node, others[twins[place]]))) if place in twins else Mark()
        for place, node in enumerate(nodes)
    )


def _kind(node: Node) -> str:
    """``Conv2d``, ``Convolution`` and ``Conv`` are one."""
    plain = re.sub(r"[\d_]+", "", node.op.lower())
    words = (plain, plain.removesuffix("d"), plain.removesuffix("v"))
    return next((_KINDS[word] for word in words if word in _KINDS), plain)


def _key(node: Node) -> str:
    """A name as all frameworks have it."""
    return re.sub(r"[^a-z0-9]+", ".", node.name.lower()).strip(".")


Kinds = tuple[Sequence[str], Sequence[str]]


def _anchors(a: Graph, b: Graph, kinds: Kinds, counterparts: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """Steps of one kind that give the same tensor, or have one name that nothing else has."""
    makers = {name: place for place, node in enumerate(b.nodes) for name in node.outputs}
    names: dict[str, list[int]] = {}
    for place, node in enumerate(b.nodes):
        names.setdefault(_key(node), []).append(place)
    for place, node in enumerate(a.nodes):
        found = [makers[other] for name in node.outputs if (other := counterparts.get(name)) in makers]
        found += names.get(_key(node), ())
        yield from ((place, other) for other in found if kinds[0][place] == kinds[1][other])


def _increasing(found: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """As many of the pairs as keep the order of both sides, each step once."""
    ends: list[int] = []
    last: list[int] = []
    before: list[int | None] = []
    ordered = sorted(set(found), key=lambda pair: (pair[0], -pair[1]))
    for place, (_, other) in enumerate(ordered):
        at = bisect_left(ends, other)
        before.append(last[at - 1] if at else None)
        ends[at:], last[at:] = [other, *ends[at + 1 :]], [place, *last[at + 1 :]]
    chosen: list[tuple[int, int]] = []
    step = last[-1] if last else None
    while step is not None:
        chosen.append(ordered[step])
        step = before[step]
    return chosen[::-1]


def _between(
    anchors: Sequence[tuple[int, int]], kinds: Kinds, taken: tuple[Collection[int], Collection[int]]
) -> Iterator[tuple[int, int]]:
    """Between each two anchors the steps of one kind in the same order, of those that are not taken."""
    start = (0, 0)
    for end in (*anchors, (len(kinds[0]), len(kinds[1]))):
        free = [[at for at in range(start[side], end[side]) if at not in taken[side]] for side in (0, 1)]
        for i, j in _common(*([kinds[side][at] for at in free[side]] for side in (0, 1))):
            yield free[0][i], free[1][j]
        start = end[0] + 1, end[1] + 1


def _common(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """The longest common subsequence, as pairs of places; none where it would be too much to look for."""
    if not a or not b or len(a) * len(b) > _ROOM:
        return []
    best = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            best[i][j] = best[i + 1][j + 1] + 1 if a[i] == b[j] else max(best[i + 1][j], best[i][j + 1])
    found, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return found


def _differing(ours: Node, theirs: Node) -> Iterator[str]:
    """Attributes that both sides are known by and that differ."""
    if not ours.attributes or not theirs.attributes:
        return
    mine, other = dict(_common_names(ours)), dict(_common_names(theirs))
    windowed = _kind(ours) in ("conv", "pool") and len(mine) > 0 and len(other) > 0
    for name in dict.fromkeys((*mine, *other)):
        left, right = (side.get(name, _LEFT_OUT.get(name, "") if windowed else "") for side in (mine, other))
        if left and right and left != right:
            yield f"{name} {left}, on the other side {right}"


def _common_names(node: Node) -> Iterator[tuple[str, str]]:
    for name, text in node.attributes:
        if name in _ATTRIBUTES and (value := _plain(text)):
            yield _ATTRIBUTES[name], value


def _plain(text: str) -> str:
    """``(2, 2)`` is 2, and 1e-5 is 0.00001; a word (``same``) says nothing that can be compared."""
    parts = [part for part in re.split(r"[(),\[\]\s]+", text) if part]
    try:
        parts = [f"{float(part):.6g}" for part in parts]
    except ValueError:
        return ""
    return ", ".join(parts[:1]) if len(set(parts)) == 1 else ", ".join(parts)
