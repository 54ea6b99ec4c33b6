"""PyTorch's optimizers: what ``optimizer.state_dict()`` and the files of ``torch.save`` hold of it, and one that goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netferry.converters import training
from netferry.converters.errors import UsageError
from netferry.converters.optimizer import Kind, OptimizerState, Settings, demand_fit, refusal
from netferry.converters.pytorch import safety, weights
from netferry.converters.pytorch.live import module_of, to_numpy
from netferry.converters.pytorch.training import Training
from netferry.converters.signature import Array
from netferry.converters.trust.permit import Permit

WRAPPERS = ("optimizer", "optimizer_state_dict", "optimizer_state", "optim")
"""Keys under which training scripts save the optimizer beside the weights."""

_MOMENTS: Mapping[Kind, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
}
"""What PyTorch calls what is kept of a parameter."""

_ONE_FOR_ALL = (
    "lr",
    "momentum",
    "nesterov",
    "betas",
    "eps",
    "amsgrad",
    "weight_decay",
    "dampening",
    "maximize",
)
"""What groups of parameters may have of their own, and one optimizer of another framework cannot."""


def read(
    state: Any, model: Any, learning_rate: float | None = None, updates: int | None = None
) -> OptimizerState:
    """What an optimizer of PyTorch's keeps: a live one, its ``state_dict()``, or a file of ``torch.save`` with one.

    ``model`` is the module that it trains. A state dict numbers parameters as ``model.parameters()`` gives them.

    Raises:
        UsageError: another optimizer than SGD, Adam and AdamW, one with settings for some parameters alone, or one
            that does not belong to the module.
    """
    module = module_of(model)
    where = str(state) if isinstance(state, Path) else f"optimizer of {type(module).__name__}"
    known = {id(parameter): name for name, parameter in module.named_parameters()}
    names: list[str] | None = None
    if isinstance(state, torch.optim.Optimizer):
        titles = [known.get(id(p)) for group in state.param_groups for p in group["params"]]
        if None in titles:
            raise UsageError("the optimizer trains parameters that are none of the model's", where=where)
        names = [title for title in titles if title is not None]
        kept: Any = state.state_dict()
    else:
        kept = _unwrapped(_loaded(state) if isinstance(state, Path) else state, where)
    groups, state = kept["param_groups"], kept["state"]
    numbers = [number for group in groups for number in group["params"]]
    names = names or _names(groups, numbers, module, where)
    first = _one_group(groups, where)
    kind = _kind(first, state.values(), where)
    moments = {
        name: tuple(to_numpy(state[number][key]) for key in _MOMENTS[kind] if key in state[number])
        for number, name in zip(numbers, names, strict=True)
        if number in state and state[number].get(_MOMENTS[kind][0]) is not None
    }
    demand_fit(moments, {name: to_numpy(p) for name, p in module.named_parameters()}, where)
    steps = updates or max((int(one["step"]) for one in state.values() if "step" in one), default=0)
    return OptimizerState(kind, moments, steps, _settings(kind, first, learning_rate))


def arrays(model: Any) -> dict[str, Array]:
    """The weights and statistics by their names."""
    made: Any = Training(model, 0)
    return training.arrays_of(made)


def holding(model: Any, values: Mapping[str, Array]) -> AbstractContextManager[nn.Module]:
    """The module with these values in the place of its own."""
    made: Any = Training(model, 0)
    return training.holding(made, values)


def _loaded(path: Path) -> Any:
    return weights.loaded(safety.look_at_weights(path, Permit()))


def _unwrapped(loaded: Any, where: str) -> Any:
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not {"state", "param_groups"} <= loaded.keys():
        raise UsageError(
            "no state of an optimizer",
            where=where,
            expected=f"what optimizer.state_dict() gives, or a mapping with it under one of {', '.join(WRAPPERS)}",
            received=type(loaded).__name__,
        )
    return loaded


def _names(groups: Sequence[Any], numbers: Sequence[int], module: nn.Module, where: str) -> list[str]:
    """The parameters by the names that the state keeps, else in their order: all of them, or those that are trained."""
    named = [name for group in groups for name in group.get("param_names", ())]
    if len(named) == len(numbers):
        return named
    everything = [name for name, _ in module.named_parameters()]
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    for names in (everything, trained):
        if len(names) == len(numbers):
            return [names[number] for number in numbers]
    raise UsageError(
        "the optimizer's state does not fit the model",
        where=where,
        expected=f"{len(everything)} parameters",
        received=f"{len(numbers)}",
        remedy="Give the optimizer itself, which knows its parameters",
    )


def _one_group(groups: Sequence[Any], where: str) -> Mapping[str, Any]:
    first: Mapping[str, Any] = groups[0]
    for key in _ONE_FOR_ALL:
        if any(group.get(key) != first.get(key) for group in groups):
            raise refusal(where, f"groups of parameters, each with {key} of its own")
    return first


def _kind(group: Mapping[str, Any], entries: Any, where: str) -> Kind:
    keys = {key for entry in entries for key in entry} - {"step"}
    if "betas" in group and keys <= set(_MOMENTS["adam"]):
        if group.get("maximize"):
            raise refusal(where, "Adam that maximizes")
        if "decoupled_weight_decay" not in group and group.get("weight_decay"):
            raise UsageError(
                "it does not say whether it is Adam's or AdamW's, and it decays weights",
                where=where,
                remedy="Give the optimizer itself",
            )
        return "adamw" if group.get("decoupled_weight_decay") else "adam"
    if "momentum" in group and "dampening" in group and keys <= set(_MOMENTS["sgd"]):
        odd = [key for key in ("dampening", "maximize") if group.get(key)]
        if odd:
            raise refusal(where, f"SGD with {odd[0]}")
        return "sgd"
    raise refusal(where, f"one that keeps {', '.join(sorted(keys)) or 'nothing'}")


def _settings(kind: Kind, group: Mapping[str, Any], learning_rate: float | None) -> Settings:
    decay = float(group.get("weight_decay", 0))
    common: dict[str, Any] = {"learning_rate": learning_rate or float(group["lr"])}
    if kind == "sgd":
        return Settings(
            **common, momentum=float(group["momentum"]), nesterov=bool(group["nesterov"]), weight_decay=decay
        )
    decays = {"decoupled_decay" if kind == "adamw" else "weight_decay": decay}
    one, two = group["betas"]
    adam: dict[str, Any] = {"epsilon": float(group["eps"]), "amsgrad": bool(group["amsgrad"]), **decays}
    return Settings(**common, betas=(float(one), float(two)), **adam)


def going_on(state: OptimizerState, module: nn.Module) -> dict[int, dict[str, Any]]:
    """The ``"state"`` of an optimizer over ``module.parameters()``, by the parameters' places."""
    return dict(_entries(state, module))


def _entries(state: OptimizerState, module: nn.Module) -> Iterator[tuple[int, dict[str, Any]]]:
    for place, (name, parameter) in enumerate(module.named_parameters()):
        kept = state.moments.get(name)
        if kept is None:
            continue
        step = {} if state.kind == "sgd" else {"step": torch.tensor(float(state.steps))}
        yield (
            place,
            step
            | {
                key: parameter.new_tensor(array)
                for key, array in zip(_MOMENTS[state.kind], kept, strict=False)
            },
        )


def demand(state: OptimizerState, where: str) -> None:
    """Refuse settings that no optimizer of PyTorch's has."""
    if state.kind == "sgd" and state.settings.decoupled_decay:
        raise UsageError(
            "SGD with a weight decay of Keras', which shrinks the weights themselves: PyTorch's adds it to the gradient",
            where=where,
            remedy="Train with weight_decay=None, or with AdamW",
        )


def native(state: OptimizerState, module: nn.Module) -> torch.optim.Optimizer:
    """An optimizer over ``module.parameters()`` that goes on where ``state`` stands."""
    said = state.settings
    parameters = list(module.parameters())
    rate = said.learning_rate if said.learning_rate is not None else 1e-3
    if state.kind == "sgd":
        made: torch.optim.Optimizer = torch.optim.SGD(
            parameters, rate, said.momentum, weight_decay=said.weight_decay, nesterov=said.nesterov
        )
    else:
        adam = torch.optim.AdamW if state.kind == "adamw" else torch.optim.Adam
        decay = said.decoupled_decay if state.kind == "adamw" else said.weight_decay
        made = adam(parameters, rate, said.betas, said.epsilon, decay, amsgrad=said.amsgrad)
    made.load_state_dict(
        {"state": going_on(state, module), "param_groups": made.state_dict()["param_groups"]}
    )
    return made
