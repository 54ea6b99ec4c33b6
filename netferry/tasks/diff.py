"""What is different in the make of two models: ``netferry diff``. What they compute is for ``verify`` and ``bisect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry import converters
from netferry.arguments import Inputs, PathLike, given_examples
from netferry.converters import escaping, frameworks, source
from netferry.converters.graph.schema.attributes import defaults
from netferry.converters.signature import Example, Signature, TensorSpec

Facts = Mapping[str, str]
"""The parts of one kind, by name, each with what is said of it."""

KINDS = ("input", "output", "weight", "operator", "attribute")
_MOST_SHOWN = 40


@dataclass(frozen=True)
class Change:
    """One part: its kind (of ``KINDS``), its name, and what is said of it on either side; None where it is not there."""

    kind: str
    name: str
    a: str | None
    b: str | None

    def __str__(self) -> str:
        if self.a is None or self.b is None:
            only = f"only in the {'first' if self.b is None else 'second'}"
            return f"{self.kind} {self.name}: {only} ({self.b if self.a is None else self.a})"
        return f"{self.kind} {self.name}: {self.a} -> {self.b}"


@dataclass(frozen=True)
class Difference:
    """What differs between two models, part by part; ``equal`` counts the parts that do not, by kind."""

    a: str
    b: str
    changes: tuple[Change, ...]
    equal: Mapping[str, int]

    @property
    def same(self) -> bool:
        return not self.changes

    def to_dict(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "same": self.same,
            "equal": dict(self.equal),
            "changes": [asdict(change) for change in self.changes],
        }

    def to_text(self) -> str:
        """A line for each change, those of one kind together."""
        alike = ", ".join(
            f"{count} {kind}{'s' * (count != 1)}" for kind, count in self.equal.items() if count
        )
        head = (
            "made alike" if self.same else f"{len(self.changes)} difference{'s' * (len(self.changes) != 1)}"
        )
        lines = [f"{head}: {self.a} and {self.b} (equal: {alike or 'nothing'})"]
        for kind in KINDS:
            found = [change for change in self.changes if change.kind == kind]
            lines += [f"  {change}" for change in found[:_MOST_SHOWN]]
            if len(found) > _MOST_SHOWN:
                lines.append(f"  and {len(found) - _MOST_SHOWN:,} more {kind}s; --json lists them all")
        return "\n".join(map(escaping.line, lines))


def diff(
    a: object,
    b: object,
    inputs: Inputs | None = None,
    *,
    weights: tuple[PathLike | None, PathLike | None] = (None, None),
    unsafe: bool = False,
) -> Difference:
    """Compare how two models are made: inputs, outputs, weights, operators and their attributes; not their numbers.

    ``a`` and ``b`` are paths, factories or live models of any framework, each looked at as it stands in ONNX. Weights are
    paired by name, attributes where nodes have the same name and operator.
    """
    examples = given_examples(inputs, None)
    sides = []
    for model, own in zip((a, b), weights, strict=True):
        live = source.open_source(model, own, unsafe=unsafe)
        given = _named_by(live, examples)
        live = frameworks.called(live, given)
        sides.append(_facts(converters.export_model(live, given=given).model))
    changes, equal = [], {}
    for kind in KINDS:
        left, right = (side[kind] for side in sides)
        found = list(_changes(kind, left, right))
        changes += found
        equal[kind] = len({**left, **right}) - len(found)
    return Difference(source.title(a), source.title(b), tuple(changes), equal)


def _named_by(model: object, examples: tuple[Example, ...] | None) -> tuple[Example, ...] | None:
    """The examples for a model that does not say what it takes; one whose inputs have names needs none of other names."""
    names = frameworks.of(model).input_names(model)
    if examples is None or names is None:
        return examples
    strange = not any(one.positional or one.name in names.names for one in examples)
    return None if names.declared and strange else names.bound(examples)


def _facts(model: ir.Model) -> Mapping[str, Facts]:
    signature: Signature = frameworks.named("onnx").signature(model)
    nodes = list(model.graph.all_nodes())
    return {
        "input": _specs(signature.inputs),
        "output": _specs(signature.outputs),
        "weight": {
            name: f"{value.dtype.name.lower() if value.dtype else '?'}{list(value.shape or ())}"
            for name, value in model.graph.initializers.items()
            if value.dtype is None or value.dtype.is_floating_point()
        },
        "operator": {name: str(count) for name, count in sorted(Counter(map(_operator, nodes)).items())},
        "attribute": {
            f"{node.name}.{name} ({_operator(node)})": value for node in nodes for name, value in _attributes(node)
        },
    }  # fmt: skip


def _specs(specs: tuple[TensorSpec, ...]) -> Facts:
    return {spec.name: str(spec).partition(": ")[2] for spec in specs}


def _operator(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _attributes(node: ir.Node) -> Iterator[tuple[str, str]]:
    """The attributes of a node that are values, those at the schema's default too: one side may have left them out."""
    known = {name: value for name, value in (defaults(_operator(node)) or {}).items() if _is_plain(value)}
    given = {
        name: attribute.value
        for name, attribute in node.attributes.items()
        if not attribute.is_ref() and attribute.type not in (ir.AttributeType.GRAPH, ir.AttributeType.TENSOR)
    }
    for name, value in sorted({**known, **given}.items()):
        yield name, repr([*map(_as_stored, value)] if isinstance(value, tuple | list) else _as_stored(value))


def _as_stored(value: object) -> object:
    """An attribute's number as an ONNX file holds it: floats have four bytes there."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float | str | tuple | list)


def _changes(kind: str, a: Facts, b: Facts) -> Iterator[Change]:
    for name in dict.fromkeys((*a, *b)):
        if a.get(name) != b.get(name):
            if kind == "attribute" and (name not in a or name not in b):
                continue  # of a node that the other side has not: its operator is counted
            yield Change(kind, name, a.get(name), b.get(name))
