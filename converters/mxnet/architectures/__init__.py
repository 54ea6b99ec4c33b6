"""Networks that are known by their weights: a params file without a symbol becomes one, from names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from netferry.converters.errors import RefusedError
from netferry.converters.mxnet.architectures import detectors, gluon, gluoncv, resnest, segmentation
from netferry.converters.mxnet.architectures.builder import built, count, groups_of
from netferry.converters.mxnet.architectures.layers import Part, Wired
from netferry.converters.mxnet.symbol import Symbol
from netferry.converters.signature import Array

TABLES: Mapping[str, Mapping[str, Callable[[], Part]]] = {
    "gluon's model zoo": gluon.NETWORKS,
    "GluonCV": {
        **gluoncv.NETWORKS, **resnest.NETWORKS, **detectors.NETWORKS, **segmentation.NETWORKS,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Recognised:
    """A network of a table, and its symbol with the names that the weights have; ``note``: what the weights do not tell."""

    name: str
    table: str
    symbol: Symbol
    note: str = ""


@cache
def _parts() -> list[tuple[str, str, Part, int]]:
    """Each network: its table, its name, its parts and how many layers it has."""
    return [
        (table, name, part, count(part))
        for table, networks in TABLES.items()
        for name, network in networks.items()
        for part in [network()]
    ]


def recognised(params: Mapping[str, Array], called: str) -> Recognised | None:
    """The network whose weights these are; None where none of the tables fits.

    Some networks differ in what has no weights: then the file's name ``called``, or the names of the weights, must tell.

    Raises:
        RefusedError: the weights fit several networks, and no name tells which.
    """
    groups = groups_of(params)
    if groups is None:
        return None
    found = [
        Recognised(name, table, symbol, part.note if isinstance(part, Wired) else "")
        for table, name, part, layers in _parts()
        if layers == len(groups) and (symbol := built(groups, params, part)) is not None
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
