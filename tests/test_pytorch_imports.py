"""What arrives in PyTorch is a module as any other: it runs, learns, is copied, narrowed, moved, saved and exported."""

from __future__ import annotations

import copy
import io
import shutil
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from pytorch_models import MODELS
from pytorch_oracle import SIZES, arrays, free_axes, randomized
from torch import nn

import netferry
from netferry.converters.signature import Example

FAMILIES = (
    "resnet18",
    "detector",
    "tagger",
    "text cnn",
    "transformer encoder",
    "gpt by hand",
    "rotary attention",
)
UNLIKE = {("rotary attention", "half")}
"""Whose float32 code stays float32: what it makes of positions meets what it has of weights."""


@cache
def _arrived(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...], torch.Tensor]:
    make, shapes = MODELS[name]
    model, given = randomized(make()).eval(), arrays(shapes, SIZES[0], 0)
    named = [Example(f"x{i}", a, free_axes(s)) for i, (a, s) in enumerate(zip(given, shapes, strict=True))]
    arrived = netferry.convert(model, "pytorch", inputs=named, verify=False).model
    inputs = tuple(torch.from_numpy(array) for array in given)
    with torch.no_grad():
        return arrived, inputs, _first(model(*inputs))


def _first(result: Any) -> torch.Tensor:
    while not isinstance(result, torch.Tensor):
        result = next(iter(result.values())) if isinstance(result, dict) else result[0]
    return result


def _in_inference(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    with torch.inference_mode():
        return model(*inputs)


def _trained(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    _first(model.train()(*inputs)).sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    return None


def _restored(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.load_state_dict(state)
    return model(*inputs)


def _half(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    return model.half()(*(x.half() if x.is_floating_point() else x for x in inputs))


def _on_meta(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    return model.to("meta")(*(x.to("meta") for x in inputs))


def exported(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    return torch.export.export(model, inputs).module()(*inputs)


def _without_gradients(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    with torch.no_grad():
        return model(*inputs)


def _saved(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    """Pickled by torch.save as a whole, and read again."""
    memory = io.BytesIO()
    torch.save(model, memory)
    memory.seek(0)
    return torch.load(memory, weights_only=False)(*inputs)


WAYS: dict[str, Callable[[nn.Module, tuple[torch.Tensor, ...]], Any]] = {
    "copied": lambda model, inputs: model(*inputs),
    "without gradients": _without_gradients,
    "in inference": _in_inference,
    "saved": _saved,
    "trained": _trained,
    "restored": _restored,
    "half": _half,
    "on meta": _on_meta,
    "exported": exported,
}


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in FAMILIES]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])
def test_what_arrives_is_a_module_as_any_other(name: str, way: str) -> None:
    arrived, inputs, want = _arrived(name)
    if (name, way) in UNLIKE:
        pytest.skip("its float32 is written in its code")
    result = WAYS[way](copy.deepcopy(arrived), inputs)
    if result is None:
        return
    found = _first(result)
    assert found.shape == want.shape
    if not found.is_meta:
        close = 8e-2 if found.dtype is torch.float16 else 1e-4
        assert (found.float() - want).abs().max() <= close * want.abs().max()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a compiler")
@pytest.mark.parametrize("name", FAMILIES)
def test_what_arrives_is_compiled_by_inductor(name: str) -> None:
    arrived, inputs, want = _arrived(name)
    with torch.no_grad():
        found = _first(torch.compile(copy.deepcopy(arrived), backend="inductor")(*inputs))
    assert (found - want).abs().max() <= 1e-4 * want.abs().max()
