"""A module as it takes inputs by position: whatever the parameters of its ``forward`` are, and what they are made of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import torch
from torch import nn

from netferry.converters.pytorch.caches import cache_of
from netferry.converters.pytorch.dtypes import TORCH_DTYPES
from netferry.converters.signature import Example, aligned
from netferry.converters.structure import Arguments, Array, argument


def called(model: Any, given: Sequence[Example] | None) -> Any:
    """The module as it takes these inputs by position, whatever their positions in its ``forward``.

    It is the same module under another class: it shares its weights, hooks and modes, and their names. Inputs that are parts
    of an argument (of a cache, a dict, a list, a dataclass) become that argument; an argument that no input is for is left out.
    """
    fixed = isinstance(model, torch.jit.ScriptModule | torch.fx.GraphModule) or not isinstance(
        model, nn.Module
    )
    if fixed or given is None or "forward" in vars(model) or hasattr(type(model), "netferry_inputs"):
        return model
    own = parameters(model) or {}
    call = next((one.call for one in given if one.call is not None), None) or _said_by_names(
        model, own, given
    )
    if call is not None:
        names = tuple(one.name for one in _in_order(given, call, own))
        same = _as_called(model, names, lambda inputs: _bound(call, inputs))
        type(same).netferry_notes = tuple(_said_of_fixed(call))
        return same
    if not own and _takes_any_name(model):
        return _as_called(model, tuple(example.name for example in given), lambda inputs: ((), inputs))
    if not {example.name for example in given} <= own.keys():
        return model
    names = tuple(example.name for example in aligned(given, list(own)))
    keyword_only = any(own[name].kind is inspect.Parameter.KEYWORD_ONLY for name in names)
    if names == tuple(own)[: len(names)] and not keyword_only:
        return model
    return _as_called(model, names, lambda inputs: ((), inputs))


def _takes_any_name(model: Any) -> bool:
    """Whether ``forward`` takes all that it is given by keyword: ``forward(self, **batch)``."""
    own = inspect.signature(model.forward).parameters.values()
    return [one.kind for one in own] == [inspect.Parameter.VAR_KEYWORD]


Binding = Callable[[Mapping[str, Any]], tuple[Sequence[Any], Mapping[str, Any]]]
"""From the inputs by name to the arguments of ``forward``, by position and by name."""


def _as_called(model: nn.Module, names: tuple[str, ...], binding: Binding) -> Any:
    """The same module under a class whose ``forward`` takes the inputs of these names by position."""
    kind: Any = type(model)

    def forward(self: Any, *inputs: Any) -> Any:
        args, kwargs = binding(dict(zip(names, inputs, strict=True)))
        return kind.forward(self, *args, **kwargs)

    outer = {"forward": forward, "netferry_inputs": names, "__module__": kind.__module__}
    same = object.__new__(type(kind)(kind.__name__, (kind,), {**outer, "__qualname__": kind.__qualname__}))
    object.__setattr__(same, "__dict__", model.__dict__)
    return same


def _said_of_fixed(call: Arguments) -> Iterator[str]:
    """A note for each tensor that is part of the model, not of its inputs."""
    for name, value in call.values.items():
        if isinstance(value, torch.Tensor):
            yield f"{name} is fixed at {value.tolist()}: the model's code counts through it"


def as_shown(model: nn.Module, shown: Sequence[Example]) -> Any:
    """The module as it takes these inputs, which are also what it is shown with where the caller gives none."""
    same = called(model, shown)
    if same is model:
        names = tuple(example.name for example in shown)
        same = _as_called(model, names, lambda inputs: ((), inputs))
    type(same).netferry_shown = aligned(shown, type(same).netferry_inputs)
    return same


def _bound(call: Arguments, inputs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    bound = call.bound(inputs)
    return (tuple(bound.values()), {}) if call.by_position else ((), bound)


def _in_order(
    given: Sequence[Example], call: Arguments, own: Mapping[str, inspect.Parameter]
) -> Sequence[Example]:
    """The inputs in the order of the parameters that they are for; those of one argument as they come."""
    positions = {name: place for place, name in enumerate(own)}
    if call.by_position or not all(call.of_input(one.name) in positions for one in given):
        return given
    return sorted(given, key=lambda one: positions[call.of_input(one.name)])


# ---- arguments that only names tell of ---------------------------------------------------------------


def _said_by_names(
    model: nn.Module, own: Mapping[str, inspect.Parameter], given: Sequence[Example]
) -> Arguments | None:
    """The arguments that inputs called ``past.0.key`` or ``batch.image`` are parts of; None where no name says so."""
    parts: dict[str, dict[str, Any]] = {}
    for one in given:
        head, dot, rest = one.name.partition(".")
        if not dot or one.name in own or head not in own:
            continue
        dtype = getattr(torch, TORCH_DTYPES[one.array.dtype].removeprefix("torch."))
        parts.setdefault(head, {})[rest] = torch.zeros(one.array.shape, dtype=dtype)
    whole = {one.name for one in given if one.name in own}
    if not parts or not all(one.name in own or one.name.partition(".")[0] in parts for one in given):
        return None
    values: dict[str, Any] = {name: Array() for name in whole}
    for name, tensors in parts.items():
        made = argument(name, _made(model, name, _nested(tensors)))
        values[name] = made
    return Arguments({name: values[name] for name in own if name in values})


def _nested(tensors: Mapping[str, Any]) -> Any:
    """``{"0.key": t}`` as mappings in mappings, and numbered ones as lists."""
    heads: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        head, dot, rest = name.partition(".")
        heads.setdefault(head, {})[rest if dot else ""] = tensor
    items = {head: inner[""] if set(inner) == {""} else _nested(inner) for head, inner in heads.items()}
    if all(head.isdigit() for head in items):
        return [items[head] for head in sorted(items, key=int)]
    return items


def _made(model: nn.Module, name: str, parts: Any) -> Any:
    """The argument as the model's code expects it: its cache, a dataclass that the parameter is annotated with, or as it is."""
    layers = isinstance(parts, list) and all(isinstance(layer, Mapping) for layer in parts)
    if layers and all({"key", "value"} <= layer.keys() or {"decoder"} <= layer.keys() for layer in parts):
        return cache_of(model, _annotation(model, name), parts)
    kind = _annotation(model, name)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(parts, Mapping):
        return kind(**{one.name: parts[one.name] for one in fields(kind) if one.name in parts})
    return parts


def _annotation(model: nn.Module, name: str) -> Any:
    try:
        return get_type_hints(type(model).forward).get(name)
    except Exception:  # whatever evaluating a person's annotations raises
        return None


# ---- the parameters of forward -----------------------------------------------------------------------


def parameters(model: Any) -> Mapping[str, inspect.Parameter] | None:
    """The parameters of ``forward`` that have a name of their own; None where it declares none."""
    try:
        own = inspect.signature(model.forward).parameters
    except (AttributeError, TypeError, ValueError):
        return None
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: one for name, one in own.items() if one.kind not in many}


def is_open_ended(model: Any) -> bool:
    """Whether ``forward`` takes any number of arguments by position."""
    try:
        own = inspect.signature(model.forward).parameters.values()
    except (AttributeError, TypeError, ValueError):
        return True
    return any(one.kind is one.VAR_POSITIONAL for one in own)


def parameter_names(module: nn.Module) -> list[str]:
    """The positional parameters of ``forward`` that have no default."""
    if isinstance(module, torch.jit.ScriptModule):
        return [a.name for a in module.forward.schema.arguments[1:]]  # type: ignore[attr-defined]
    try:
        own = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in own if p.kind in positional and p.default is inspect.Parameter.empty]
