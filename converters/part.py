"""A part of a model, as a person asks for it: where it ends, where it begins, its inputs' sizes, its names.

Each framework's ``part.py`` cuts its own models: what it gives is a model like any other, so that whatever is done with a
whole model can be done with a part. Sizes and names are the business of the ONNX graph, whatever the framework.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from netferry.converters.errors import NetferryError, UsageError
from netferry.converters.signature import Example, Signature, TensorSpec, drawn

if TYPE_CHECKING:  # numpy and onnx wait until something is converted
    from netferry.converters.exported import ExportedModel

Sizes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Part:
    """What is wanted of a model; nothing in it means the model as it is.

    ``outputs`` and ``inputs`` name tensors, nodes, layers or submodules, which means what they give: there the part ends, and
    there it begins. ``fix`` gives inputs their sizes; ``rename`` maps inputs and outputs to the names that they get.
    """

    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    fix: Sizes = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.outputs or self.inputs or self.fix or self.rename)

    def of(
        self, model: object, given: tuple[Example, ...] | None
    ) -> tuple[object, tuple[Example, ...] | None]:
        """The part as a model of the same framework, and what it is shown; a whole model comes back as it is."""
        from netferry.converters import frameworks

        framework = frameworks.of(model)
        if self.outputs or self.inputs:
            model, given = framework.part.cut(model, self.outputs, self.inputs, given)
        if self.fix and framework.name == "onnx":
            model = framework.part.fixed(model, self.fix)
        return model, self._fixed(model, given) if self.fix else given

    def exported(self, export: ExportedModel) -> ExportedModel:
        """The graph with the sizes and the names that were asked for."""
        if not self.fix and not self.rename:
            return export
        from netferry.converters import frameworks

        graphs = frameworks.named("onnx").part
        model = graphs.fixed(export.model, self.fix) if self.fix else export.model
        return replace(export, model=graphs.renamed(model, self.rename) if self.rename else model)

    def pairs(self, outputs: Mapping[str, str] | None, export: ExportedModel) -> Mapping[str, str] | None:
        """Which output of the source is which of the target; ``export`` has the new names already."""
        own = {value.name for value in export.model.graph.outputs}
        renamed = {old: new for old, new in self.rename.items() if new in own}
        return {**renamed, **(outputs or {})} or None

    def _fixed(self, model: object, given: tuple[Example, ...] | None) -> tuple[Example, ...]:
        """Examples of the sizes that are fixed; an input that is given an array keeps it, where it has them."""
        shown = {example.name: example for example in given or ()}
        own = {} if given is not None else {spec.name: spec for spec in _signature(model).inputs}
        for name, sizes in self.fix.items():
            known = shown.get(name)
            if known is not None and known.array.shape == tuple(sizes):
                shown[name] = replace(known, free={}, asked=True)
                continue
            if own and name not in own:
                raise unknown(name, own, "input")
            dtype = known.array.dtype if known is not None else own[name].dtype if own else np.dtype("f4")
            array = drawn(sizes, dtype, np.random.default_rng(0))
            shown[name] = Example(name, array, {}, asked=True)
        return tuple(shown.values())


def part(
    outputs: Iterable[str] | str | None,
    inputs: Iterable[str] | str | None,
    fix: Sizes | None,
    rename: Mapping[str, str] | None,
) -> Part:
    """What was asked for, once it makes sense."""
    part = Part(_names(outputs), _names(inputs), dict(fix or {}), dict(rename or {}))
    for name, sizes in part.fix.items():
        if not all(isinstance(size, int | np.integer) and size >= 0 for size in sizes):
            raise UsageError(
                f"the sizes of '{name}' cannot be fixed", expected="numbers", received=list(sizes)
            )
    both = set(part.outputs) & set(part.inputs)
    if both:
        raise UsageError("a part cannot begin where it ends", received=", ".join(sorted(both)))
    return part


def _names(names: Iterable[str] | str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys([names] if isinstance(names, str) else names or ()))


def unknown(name: str, known: Iterable[str], what: str = "tensor") -> UsageError:
    """The error for a name that the model does not have, with the nearest that it has."""
    known = list(known)
    near = get_close_matches(name, known, 5, 0.4) or [one for one in known if name in one][:5] or known[:5]
    return UsageError(
        f"there is no {what} '{name}' in the model",
        expected=", ".join(near) or None,
        remedy="netferry inspect --layers lists the names",
    )


def found(name: str, known: Mapping[str, Any], what: str = "tensor") -> Any:
    """What a model has under a name, with the ending that frameworks write for an output or without it."""
    for wish in (name, f"{name}_output", f"{name}:0", name.removesuffix("_output"), name.removesuffix(":0")):
        if wish in known:
            return known[wish]
    raise unknown(name, known, what)


_FIX = re.compile(r"(?P<name>[^:=]+)[:=](?P<sizes>\d{1,18}(,\d{1,18})*)")


def sizes_from_flags(flags: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """``x:1,3,640,640`` as the sizes of each input."""
    made = {}
    for flag in flags or ():
        match = _FIX.fullmatch(flag.replace(" ", ""))
        if match is None:
            raise UsageError("sizes are fixed as name:sizes", expected="x:1,3,640,640", received=flag)
        made[match["name"]] = tuple(map(int, match["sizes"].split(",")))
    return made


def layers(model: object, export: ExportedModel, given: tuple[Example, ...] | None) -> tuple[TensorSpec, ...]:
    """The names at which a model can be cut, with what the tensors there are."""
    from netferry.converters import frameworks

    made: tuple[TensorSpec, ...] = frameworks.of(model).part.layers(model, export, given)
    return made


def _signature(model: object) -> Signature:
    from netferry.converters import frameworks

    try:
        return frameworks.of(model).signature(model)
    except NetferryError:
        return Signature(())


__all__ = ["Part", "found", "layers", "part", "sizes_from_flags", "unknown"]
