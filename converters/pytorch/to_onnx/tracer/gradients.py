"""Derivatives that a model's code takes as it runs: ONNX has no operators for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from netferry.converters.pytorch.to_onnx.tracer.sizes import users_line
from netferry.converters.pytorch.to_onnx.tracer.untraceable import Gradient

TAKE_GRADIENTS = {torch.autograd.grad, torch.autograd.backward, Tensor.backward}
"""PyTorch's functions that do so."""


def refused(*_: Any, **__: Any) -> Any:
    """Instead of taking one."""
    raise Gradient("the code takes derivatives as it runs, for which ONNX has no operators", users_line())


PYTHON: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("torch._functorch.eager_transforms", name): refused
    for name in ("grad_increment_nesting", "jvp_increment_nesting")
}
"""Where ``torch.func``'s derivatives begin: module and name, and what stands in its place."""
