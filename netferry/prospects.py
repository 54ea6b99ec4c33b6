"""What each framework could take of a model: found out without importing one, and within a budget of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from netferry import converters
from netferry.converters import frameworks
from netferry.converters.errors import CannotConvert, NetferryError, UnsupportedError
from netferry.converters.imported import ImportedModel
from netferry.results import Prospect

if TYPE_CHECKING:  # onnx waits until something is read
    import onnx_ir as ir

    from netferry.converters.graph.ir.budget import Kind

_NODES, _BYTES_PER_NODE = 4_000, 500
"""So many nodes are looked at of any graph, and one more for so many bytes of weights: hardly a model that somebody runs has more."""

_OF_AN_OLD_OPSET = 2
"""So many times the work is a node that has to be brought to a newer opset."""

_WORK: Mapping[Kind, int] = {"nodes": 16_000, "words": 32_000, "terms": 120_000}
"""The work that so many nodes are as a rule; where it is more, fewer are looked at."""


def prospects(model: ir.Model, to: str | Sequence[str], *, every_node: bool = False) -> dict[str, Prospect]:
    """What each of the frameworks (or "all") can take of a model.

    Of a graph of a great many nodes and few weights the first ones are looked at, and the answer says how many, unless
    ``every_node`` is asked for.
    """
    targets = _targets(to)
    found = {"onnx": Prospect("graph")}
    others = [name for name in targets if name != "onnx"]
    if others:
        whole = _looked_at(model, others, None)[0] if every_node else None
        found |= whole or _within_a_budget(model, others)
    return {name: found[name] for name in targets}


def _targets(to: str | Sequence[str]) -> tuple[str, ...]:
    names = tuple(name for name in frameworks.FRAMEWORKS if name != "onnx") if to == "all" else to
    return tuple(frameworks.named(name).name for name in ([names] if isinstance(names, str) else names))


def _within_a_budget(model: ir.Model, targets: Sequence[str]) -> Mapping[str, Prospect]:
    """Of the whole graph where that is no more work than a model of its weights is worth; else of its first nodes."""
    from netferry.converters.graph.ir.budget import Budget, counted
    from netferry.converters.graph.passes import versions
    from netferry.converters.graph.passes.normalize import demand_bounded

    live, parts = frameworks.named("onnx").live, frameworks.named("onnx").part
    with counted(Budget.of(model)):
        whole = demand_bounded(model)
    most = _NODES + sum(tensor.nbytes for tensor in live.constants(model)) // _BYTES_PER_NODE
    work: Mapping[Kind, int] = {kind: each * most // _NODES for kind, each in _WORK.items()}
    if not versions.stays(model):
        most //= _OF_AN_OLD_OPSET
    while most:
        part, count = (model, whole) if whole <= most else parts.beginning(model, most)
        if not count:
            break
        found, seen = _looked_at(part, targets, work)
        if found is not None:
            looked_at = None if count == whole else (count, whole)
            return {name: replace(one, looked_at=looked_at) for name, one in found.items()}
        most = min(count, seen) // 2  # of which another target may make more
    return dict.fromkeys(targets, Prospect(looked_at=(0, whole)))


def _looked_at(
    model: ir.Model, targets: Sequence[str], most: Mapping[Kind, int] | None
) -> tuple[Mapping[str, Prospect] | None, int]:
    """What each target can take; None where that is more work than ``most``, and how many nodes were reached."""
    from netferry.converters.graph.ir.budget import Budget

    budgets: list[Budget] = []

    def count(model: ir.Model) -> Budget:
        budgets.append(Budget.of(model, most))
        return budgets[-1]

    found: dict[str, Prospect] = {}
    try:
        importer = converters.importer(model, count=count)
        for name in targets:
            if budgets and budgets[-1].short:
                break
            found[name] = _prospect(importer, name)
    except UnsupportedError as error:
        found = dict.fromkeys(targets, Prospect(problems=error.problems))
    except (NetferryError, CannotConvert):
        if not budgets[-1].short:
            raise
    return (None if budgets[-1].short else found), budgets[-1].seen


def _prospect(importer: Callable[[str], ImportedModel], to: str) -> Prospect:
    try:
        imported = importer(to)
    except UnsupportedError as error:
        return Prospect(problems=error.problems)
    return Prospect(imported.form, notes=imported.notes)
