"""Networks that are known by their weights: a params file without a symbol becomes one, from names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from netferry.converters.errors import RefusedError
from netferry.converters.mxnet.architectures import gluon, gluoncv
from netferry.converters.mxnet.architectures.layers import Branches, Layer, Part, Sum
from netferry.converters.mxnet.symbol import Entry, Node, Symbol
from netferry.converters.signature import Array

_ROLE = re.compile(r"(.*?)[._]?(weight|bias|gamma|beta|running_mean|running_var|moving_mean|moving_var)$")
_TODAY = {"moving_mean": "running_mean", "moving_var": "running_var"}

Group = tuple[str, Mapping[str, str]]
"""A layer's name in the file, and the name of each of its weights by its role."""


TABLES = {"gluon's model zoo": gluon.NETWORKS, "GluonCV": gluoncv.NETWORKS}


@dataclass(frozen=True)
class Recognised:
    """A network of a table, and its symbol with the names that the weights have."""

    name: str
    table: str
    symbol: Symbol


def recognised(params: Mapping[str, Array], called: str) -> Recognised | None:
    """The network whose weights these are; None where none of the tables fits.

    Some networks differ in what has no weights: then the file's name ``called``, or the names of the weights, must tell.

    Raises:
        RefusedError: the weights fit several networks, and no name tells which.
    """
    groups = _groups(params)
    if groups is None:
        return None
    found = [
        Recognised(name, table, symbol)
        for table, networks in TABLES.items()
        for name, network in networks.items()
        if (symbol := _built(groups, params, network)) is not None
    ]
    if len(found) < 2:
        return found[0] if found else None
    said = re.sub("[^a-z0-9]", "", f"{called} {next(iter(params))}".lower())
    told = [each for each in found if each.name.rpartition("_")[2] in said]
    if len(told) == 1:
        return told[0]
    names = ", ".join(each.name for each in found)
    raise RefusedError(
        f"the weights are those of several networks: {names}",
        where=called,
        expected="a name that tells which",
        remedy=f"Name the file {found[0].name}.params, or as it should be, or give the -symbol.json",
    )


def _built(groups: list[Group], params: Mapping[str, Array], network: Callable[[], Part]) -> Symbol | None:
    try:
        return _Builder(groups, params).symbol(network())
    except _OtherError:
        return None


class _OtherError(Exception):
    """The weights are not those of this network."""


def _groups(params: Mapping[str, Array]) -> list[Group] | None:
    """The weights layer by layer, in the order of the file; None where a name ends otherwise."""
    found: dict[str, dict[str, str]] = {}
    for name in params:
        parts = _ROLE.match(name)
        if parts is None:
            return None
        layer, role = parts.groups()
        found.setdefault(layer, {})[_TODAY.get(role, role)] = name
    return list(found.items())


class _Builder:
    """Walks the parts of a network and takes a layer of the file for each that has weights."""

    def __init__(self, groups: list[Group], params: Mapping[str, Array]) -> None:
        self._groups, self._params = iter(groups), params
        self._nodes = [Node("data", "null")]
        self._counts: dict[str, int] = {}

    def symbol(self, part: Part) -> Symbol:
        head = self._add(part, (0, 0))
        if next(self._groups, None) is not None:
            raise _OtherError
        return Symbol(tuple(self._nodes), (head,))

    def _add(self, part: Part, x: Entry) -> Entry:
        if isinstance(part, Layer):
            return self._layer(part, x)
        if isinstance(part, Sum):
            start = self._add(part.before, x)
            main = self._add(part.main, start)
            return self._node("elemwise_add", {}, (main, self._add(part.other, start)))
        if isinstance(part, Branches):
            ways = tuple(self._add(way, x) for way in part.ways)
            return self._node("Concat", {"dim": "1", "num_args": str(len(ways))}, ways)
        for each in part:
            x = self._add(each, x)
        return x

    def _layer(self, layer: Layer, x: Entry) -> Entry:
        if not layer.weights:
            return self._node(layer.op, layer.attrs, (x,))
        name, own = next(self._groups, ("", {}))
        if set(own) != set(layer.weights):
            raise _OtherError
        shape = self._params[own[layer.weights[0]]].shape
        known = zip(shape, layer.shape, strict=False)
        if len(shape) != len(layer.shape) or any(want not in (None, size) for size, want in known):
            raise _OtherError
        attrs = {**layer.attrs, layer.counts: str(shape[0])} if layer.counts else layer.attrs
        weights = tuple(self._variable(own[role]) for role in layer.weights)
        return self._node(layer.op, attrs, (x, *weights), f"{name}_fwd" if name else "")

    def _variable(self, name: str) -> Entry:
        self._nodes.append(Node(name, "null"))
        return len(self._nodes) - 1, 0

    def _node(self, op: str, attrs: Mapping[str, str], inputs: tuple[Entry, ...], name: str = "") -> Entry:
        kind = op.lower()
        if not name:
            name = f"{kind}{self._counts.get(kind, 0)}"
            self._counts[kind] = self._counts.get(kind, 0) + 1
        self._nodes.append(Node(name, op, attrs, {}, inputs))
        return len(self._nodes) - 1, 0
