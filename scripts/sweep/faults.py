"""The first half: faults planted in copies of networks, and in what netferry made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

from sweep.case import Case, Group, Network, Pair, chosen, some
from sweep.networks import FRAMEWORKS, networks

PER_KIND = 1
"""Faults of one kind in one network on one road: a seeded few of all places."""

SPECIAL = ("NaN",)
"""Kinds that only NaN shows."""


def groups() -> list[Group]:
    """One process for each network and road."""
    found = []
    for framework in FRAMEWORKS:
        for route in ROUTES:
            if (framework == "onnx") != route.startswith("onnx"):
                continue
            found.append(
                Group(
                    f"faults, {framework}, {route}",
                    "faults",
                    partial(_cases, framework, route),
                    quick=framework in ("pytorch", "onnx")
                    and "to tensorflow" not in route
                    and "mxnet" not in route,
                )
            )
    return found


def _cases(framework: str, route: str) -> Iterator[Case]:
    for network in networks(framework):
        try:
            yield from _chosen(network, route)
        except UnplantableError as error:
            print(f"sweep: {network.name}, {route}: {error}")


class UnplantableError(Exception):
    """The road does not carry this network."""


def _chosen(network: Network, route: str) -> Iterator[Case]:
    source = network.make()
    by_kind: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    control, planted = ROUTES[route].plant(network, source)
    for kind, where, model in planted:
        by_kind[kind].append((where, model))
    for kind, found in by_kind.items():
        if not chosen(f"{network.name}, {route}, {kind}", ROUTES[route].share, 0):
            continue
        count = (
            1 if network.framework == "tensorflow" else ROUTES[route].per_kind
        )  # Keras runs slowest by far
        for where, model in some(found, count, network.name, route, kind):
            build = partial(_pair, network, route, source, model, control, kind in SPECIAL)
            yield Case("faults", kind, f"{network.name}, {route}: {where}", build, network.field)


def _pair(network: Network, route: str, source: Any, model: Any, control: Any, special: bool) -> Pair | None:
    from sweep.faults_native import Later

    made = model.make() if isinstance(model, Later) else model
    target = None if made is None else ROUTES[route].finish(network, made)
    return None if target is None else Pair(source, target, network, control, special)


# ---- roads --------------------------------------------------------------------------------------------


class Route:
    """How a faulty target comes about: ``plant`` gives the control and the faults, ``finish`` carries one further."""

    per_kind, share = PER_KIND, 1.0

    def plant(self, network: Network, source: Any) -> tuple[Any, Iterator[tuple[str, str, Any]]]:
        raise NotImplementedError

    def finish(self, _network: Network, model: Any) -> Any:
        return model


class Native(Route):
    """A copy in the framework's own form, changed."""

    per_kind = 2

    def plant(self, network: Network, source: Any) -> tuple[Any, Iterator[tuple[str, str, Any]]]:
        from sweep.faults_native import PLANTERS

        return source, PLANTERS[network.framework](source)


class ToOnnx(Route):
    """What netferry wrote as ONNX, changed."""

    def plant(self, network: Network, source: Any) -> tuple[Any, Iterator[tuple[str, str, Any]]]:
        from sweep.faults_onnx_nodes import faults

        proto = converted(network, source, "onnx")
        if proto is None:
            raise UnplantableError("netferry refuses it")
        return proto, faults(proto)


class Onnx(Route):
    """A copy of the graph, changed."""

    per_kind = 2

    def plant(self, _network: Network, source: Any) -> tuple[Any, Iterator[tuple[str, str, Any]]]:
        from sweep.faults_onnx_nodes import faults

        return source, faults(source)


class OnnxOn(Onnx):
    """The changed graph, carried to another framework by netferry."""

    per_kind = 1

    def __init__(self, to: str, share: float) -> None:
        self.to, self.share = to, share

    def plant(self, network: Network, source: Any) -> tuple[Any, Iterator[tuple[str, str, Any]]]:
        control = converted(network, source, self.to)
        if control is None:
            raise UnplantableError("netferry refuses it")
        return control, super().plant(network, source)[1]

    def finish(self, network: Network, model: Any) -> Any:
        return converted(network, model, self.to)


def converted(network: Network, model: Any, to: str) -> Any:
    """What netferry makes of it, unverified; None where it refuses, and where it fails outright."""
    import netferry

    try:
        done = netferry.convert(model, to, inputs=network.example, dynamic=network.dynamic, verify=False)
        return done.model
    except Exception:  # a changed graph need not be a model at all
        return None


ROUTES: dict[str, Route] = {
    "its own form": Native(), "as onnx": ToOnnx(), "onnx": Onnx(), "onnx to pytorch": OnnxOn("pytorch", 0.7),
    "onnx to tensorflow": OnnxOn("tensorflow", 0.3), "onnx to mxnet": OnnxOn("mxnet", 0.4),
}  # fmt: skip
