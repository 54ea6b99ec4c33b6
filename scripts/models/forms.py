"""The forms in which people hand over a model of images: not in evaluation mode, in half precision, behind a normalisation ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

HALF = 2e-2
"""Of an output's scale: what half precision may do to a whole network."""


class Normalized(nn.Module):
    """What stands before a model that takes pictures as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Named(nn.Module):
    """A model within another, whose result is a dict."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, scale: float = 0.5) -> dict[str, Tensor]:
        found = self.model(image)
        logits = found if isinstance(found, Tensor) else found[0]
        return {"logits": logits * scale, "probabilities": logits.softmax(-1)}


FORMS: Mapping[str, Callable[[nn.Module], nn.Module]] = {
    "train": lambda model: model.train(),
    "half": lambda model: model.half(),
    "channels_last": lambda model: model.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
    "normalized": lambda model: nn.Sequential(Normalized(), model).eval(),
    "named": lambda model: Named(model).eval(),
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "parallel": lambda model: nn.DataParallel(model).eval(),
    "frozen": lambda model: model.requires_grad_(False),
    "pruned": lambda model: _pruned(model),
    "spectral": lambda model: _spectral(model),
}
"""Each makes of a model in evaluation mode what is converted."""


def _first(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    return next(part for part in model.modules() if isinstance(part, kind))


def _pruned(model: nn.Module) -> nn.Module:
    from torch.nn.utils import prune

    with torch.no_grad():  # what has a gradient's history cannot be copied
        prune.l1_unstructured(_first(model, nn.Conv2d), "weight", amount=0.3)
    return model


def _spectral(model: nn.Module) -> nn.Module:
    torch.nn.utils.parametrizations.spectral_norm(_first(model, nn.Conv2d))
    return model.eval()


def dtype_of(form: str) -> Any:
    """The type of numbers that a form's inputs have."""
    return "float16" if form == "half" else "float32"
