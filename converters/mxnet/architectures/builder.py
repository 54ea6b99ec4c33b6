"""From the parts of a network and the weights of a file to a symbol."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netferry.converters.mxnet.architectures.layers import Branches, Layer, Part, Sum, Tap, Wired
from netferry.converters.mxnet.symbol import Entry, Node, Symbol
from netferry.converters.signature import Array

Group = tuple[str, Mapping[str, str]]
"""A layer's name in the file, and the name of each of its weights by its role."""

_ROLE = re.compile(
    r"(.*?)[._]?(?:(weight|bias|gamma|beta|running_mean|running_var|moving_mean|moving_var)"
    r"|(init_scale|scale|anchors?|offsets?)(?:_\d+)?)$"
)
_TODAY = {
    "moving_mean": "running_mean", "moving_var": "running_var", "anchor": "anchors", "offset": "offsets",
}  # fmt: skip


class OtherNetworkError(Exception):
    """The weights are not those of this network."""


def groups_of(params: Mapping[str, Array]) -> list[Group] | None:
    """The weights layer by layer, in the order of the file; None where a name ends otherwise. What is ``held`` stands alone."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name in params:
        parts = _ROLE.match(name)
        if parts is None:
            return None
        layer, role, alone = parts.groups()
        role = role or alone
        found.setdefault((layer, alone or ""), {})[_TODAY.get(role, role)] = name
    return [(layer, names) for (layer, _), names in found.items()]


def built(groups: Sequence[Group], params: Mapping[str, Array], part: Part) -> Symbol | None:
    """A network of so many layers as a symbol; None where the weights are not its own."""
    try:
        wiring = Wiring(params)
        heads = Taken(wiring, part, tuple(groups)).outputs((0, 0))
    except OtherNetworkError:
        return None
    return Symbol(tuple(wiring.nodes), tuple(heads))


def count(part: Part) -> int:
    """How many layers of the file a part takes."""
    if isinstance(part, Layer):
        return int(bool(part.weights))
    return sum(map(count, inner(part)))


def inner(part: Part) -> tuple[Part, ...]:
    """The parts of a part, in the order of their weights."""
    if isinstance(part, Sum):
        ways = (part.other, part.main) if part.other_first else (part.main, part.other)
        return (part.before, *ways)
    if isinstance(part, Branches):
        return part.ways
    if isinstance(part, Wired):
        return part.parts
    return part if isinstance(part, tuple) else ()


class Wiring:
    """The nodes as they are written."""

    def __init__(self, params: Mapping[str, Array]) -> None:
        self.nodes = [Node("data", "null")]
        self.features: list[Entry] = []
        self._params = params
        self._counts: dict[str, int] = {}

    def __call__(self, op: str, *inputs: Entry, **attrs: object) -> Entry:
        """An operator of MXNet."""
        return self.node(op, {key: str(value) for key, value in attrs.items()}, inputs)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._params[name].shape

    def variable(self, name: str) -> Entry:
        self.nodes.append(Node(name, "null"))
        return len(self.nodes) - 1, 0

    def node(self, op: str, attrs: Mapping[str, str], inputs: tuple[Entry, ...], name: str = "") -> Entry:
        kind = op.lower()
        if not name:
            name = f"{kind}{self._counts.get(kind, 0)}"
            self._counts[kind] = self._counts.get(kind, 0) + 1
        self.nodes.append(Node(name, op, attrs, {}, inputs))
        return len(self.nodes) - 1, 0


@dataclass(frozen=True)
class Taken:
    """A part and the layers of the file that are its own; called with an input it writes its nodes."""

    wiring: Wiring
    part: Part
    groups: tuple[Group, ...]

    def __call__(self, x: Entry) -> Entry:
        (head,) = self.outputs(x)
        return head

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of the first weight of each layer."""
        return [self.wiring.shape(next(iter(names.values()))) for _, names in self.groups]

    def outputs(self, x: Entry) -> list[Entry]:
        """What comes out of the part; several only of a whole network."""
        part = self.part
        if isinstance(part, Layer):
            return [self._layer(part, x)]
        if isinstance(part, Tap):
            self.wiring.features.append(x)
            return [x]
        inner = self._split()
        if isinstance(part, Wired):
            found = part.connect(self.wiring, inner, x)
            return found if isinstance(found, list) else [found]
        if isinstance(part, Branches):
            ways = [way(x) for way in inner]
            return [self.wiring("Concat", *ways, dim=1, num_args=len(ways))]
        if isinstance(part, Sum):
            start = inner[0](x)
            one, two = inner[1](start), inner[2](start)
            return [self.wiring("elemwise_add", one, two)]
        for each in inner:
            x = each(x)
        return [x]

    def _split(self) -> tuple[Taken, ...]:
        found, start = [], 0
        for part in inner(self.part):
            end = start + count(part)
            found.append(Taken(self.wiring, part, self.groups[start:end]))
            start = end
        return tuple(found)

    def _layer(self, layer: Layer, x: Entry) -> Entry:
        if not layer.weights:
            return self.wiring.node(layer.op, layer.attrs, (x,))
        ((name, own),) = self.groups
        if set(own) != set(layer.weights):
            raise OtherNetworkError
        shape = self.wiring.shape(own[layer.weights[0]])
        known = zip(shape, layer.shape, strict=False)
        if len(shape) != len(layer.shape) or any(want not in (None, size) for size, want in known):
            raise OtherNetworkError
        attrs = {**layer.attrs, layer.counts: str(shape[0])} if layer.counts else layer.attrs
        weights = tuple(self.wiring.variable(own[role]) for role in layer.weights)
        if not layer.op:
            return weights[0]
        return self.wiring.node(layer.op, attrs, (x, *weights), f"{name}_fwd" if name else "")
