"""Weights for a model that code builds: safetensors, and state dicts that ``torch.save`` wrote, after a look into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.pytorch import safety
from netferry.converters.pytorch.caches import is_transformers
from netferry.converters.pytorch.huggingface import folder
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Snapshot

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts save the state dict beside other things."""

_SHOWN = 8


def load_weights(model: nn.Module, path: Path, looked: Looked | None = None) -> None:
    """Load a ``.safetensors`` file or a saved state dict into ``model``; every weight must fit one of its tensors."""
    looked = looked or safety.look_at_weights(path, Permit())
    state = tensors_of(looked)
    state = _with_ties(model, _without_wrapper_names(state, model.state_dict()))
    problems = list(_problems(model.state_dict(), state))
    if problems:
        raise RefusedError(
            f"the weights do not fit {type(model).__name__}: {'; '.join(problems)}", where=str(path)
        )
    _put(model, state)
    if is_transformers(model) and _without_memory(model):
        for name, tensor in folder.made_without_weights(model, state).items():
            _replace(model, name, tensor)
    _demand_memory(model, str(path))


def _put(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the model its weights in place of those it was made with, where both are plain tensors: no copy is made.

    Those without memory (on ``meta``) are replaced under all their names.
    """
    own = dict(model.named_parameters(remove_duplicate=False)) | dict(
        model.named_buffers(remove_duplicate=False)
    )
    if any(type(tensor) not in (Tensor, nn.Parameter) for name in state for tensor in (own.get(name),)):
        model.load_state_dict(state)
        return
    made: dict[int, Tensor] = {}
    for name, tensor in state.items():
        before = own[name]
        if not before.is_meta:
            before.data = tensor.to(before.dtype)
            continue
        if id(before) not in made:
            made[id(before)] = _like(before, tensor.to(before.dtype))
        _replace(model, name, made[id(before)])


def _like(before: Tensor, tensor: Tensor) -> Tensor:
    """A parameter where there was one."""
    if not isinstance(before, nn.Parameter):
        return tensor
    return nn.Parameter(tensor, requires_grad=before.requires_grad)


def _replace(model: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, last = name.rpartition(".")
    part = model.get_submodule(path)
    held: Any = part._parameters if last in part._parameters else part._buffers
    held[last] = tensor


def _without_memory(model: nn.Module) -> list[str]:
    return [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]


def _demand_memory(model: nn.Module, where: str) -> None:
    """Refuse a model of which a part is still on ``meta``: a buffer that no file of weights holds."""
    bare = _without_memory(model)
    if bare:
        raise RefusedError(
            f"{type(model).__name__} is made on 'meta', and the weights do not hold all of it: {', '.join(bare[:_SHOWN])}",
            where=where,
            expected="a weight for each tensor that has no memory",
            remedy="Make these buffers in the factory (to_empty and their values), or register them as persistent",
        )


def tensors_of(looked: Looked) -> Mapping[str, Tensor]:
    """The tensors of a file that was looked at: safetensors by its name, else what torch.save wrote."""
    return (
        _safetensors(looked.content) if looked.content.where.endswith(".safetensors") else _state_dict(looked)
    )


def _safetensors(held: Snapshot) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    content = held.opened("weights.safetensors")
    try:
        return load_file(content) if isinstance(content, Path) else load(content.read())
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:  # of a dtype, or of sizes
        raise RefusedError(f"not a safetensors file ({first_line(error)})", where=held.where) from error


def loaded(looked: Looked) -> Any:
    """What ``torch.save`` wrote, after a look into it: tensors and plain values."""
    content, where = looked.content.opened("weights.pt"), looked.content.where
    try:
        return torch.load(content, map_location="cpu", weights_only=not looked.permit.unsafe)
    except Exception as error:
        raise RefusedError(
            "not a state dict that can be loaded without running code from the file",
            where=where,
            expected="what torch.save(model.state_dict(), path) writes",
            received=f"{type(error).__name__}: {first_line(error)}",
            remedy="Save the state dict of a pickled model where it was made, best as .safetensors",
        ) from error


def _state_dict(looked: Looked) -> Mapping[str, Tensor]:
    state, where = loaded(looked), looked.content.where
    for key in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise RefusedError(
            "not a state dict",
            where=where,
            expected=f"tensors by name, or a mapping with one of {', '.join(WRAPPERS)}",
            received=_described(state),
        )
    return state


def _described(loaded: object) -> str:
    if not isinstance(loaded, Mapping):
        return type(loaded).__name__
    return f"a mapping with {', '.join(sorted(map(str, loaded))[:_SHOWN])}"


def _without_wrapper_names(state: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """DataParallel and torch.compile put a name of their own in front of every weight's."""
    for prefix in ("module.", "_orig_mod."):
        if state and all(name.startswith(prefix) and name not in known for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _with_ties(model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """With the second names of weights that a model has under several: a file holds such a weight once."""
    names: dict[int, list[str]] = {}
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), []).append(name)
    tied = {
        name: state[known[0]]
        for own in names.values()
        if len(own) > 1 and (known := [name for name in own if name in state])
        for name in own
        if name not in state
    }
    return {**state, **tied}


def _problems(known: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Iterable[str]:
    missing = [name for name in known if name not in state]
    unexpected = [name for name in state if name not in known]
    reshaped = [
        f"{name} (expected {list(known[name].shape)}, received {list(state[name].shape)})"
        for name in known
        if name in state and known[name].shape != state[name].shape
    ]
    for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"{title}: {', '.join(names[:_SHOWN])}{more}"
