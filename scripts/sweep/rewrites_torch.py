"""Rewritings of PyTorch modules: the function stays, the arithmetic does not."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sweep.case import Dims, Input, Network
from sweep.networks_torch import Call, randomised

Change = Callable[[Any], Any]
Rows = list[tuple[Network, Change]]


def _network(
    name: str, make: Callable[[], nn.Module], dims: Dims, seed: int = 0, whole: bool = False
) -> Network:
    return Network(
        f"torch {name}",
        "pytorch",
        "rewriting",
        lambda: randomised(make(), seed),
        (Input("x", dims),),
        whole=whole,
    )


# ---- folded ---------------------------------------------------------------------------------------------


def _folded(model: nn.Sequential) -> nn.Module:
    from torch.nn.utils import fuse_conv_bn_eval

    parts: list[nn.Module] = []
    for part in copy.deepcopy(model).eval():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) and isinstance(parts[-1], nn.Conv1d | nn.Conv2d):
            parts[-1] = fuse_conv_bn_eval(parts[-1], part)
        else:
            parts.append(part)
    return nn.Sequential(*parts).eval()


def _conv_norm(groups: int, eps: float, act: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(4, 8, 3, padding=1, groups=groups, bias=groups == 1), nn.BatchNorm2d(8, eps=eps), act(),
            nn.Conv2d(8, 8, 3, 2, groups=2 * groups), nn.BatchNorm2d(8, eps=10 * eps), act(), nn.Flatten(), nn.Linear(72, 3),
        )  # fmt: skip

    return make


_ACTS = (nn.ReLU, nn.SiLU, nn.Hardswish)
FOLDED: Rows = [
    (_network(f"conv {groups} eps {eps} {act.__name__}", _conv_norm(groups, eps, act), ("batch", 4, 8, 8), whole=True), _folded)
    for groups, eps, act in itertools.product((1, 2), (1e-5, 1e-3), _ACTS)
]  # fmt: skip

# ---- hidden units in another order ------------------------------------------------------------------------


def _deep(width: int, act: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Linear(6, width), act(), nn.Linear(width, width), act(), nn.Linear(width, 4)
    )


def _wide(width: int, act: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Conv2d(3, width, 3), act(), nn.Conv2d(width, width, 3), act(), nn.Conv2d(width, 4, 1)
    )


def _reordered(model: nn.Sequential) -> nn.Module:
    other = copy.deepcopy(model)
    owners = [part for part in other if hasattr(part, "weight")]
    with torch.no_grad():
        for one, two in itertools.pairwise(owners):
            order = torch.randperm(one.weight.shape[0], generator=torch.Generator().manual_seed(3))
            one.weight.copy_(one.weight[order])
            one.bias.copy_(one.bias[order])
            two.weight.copy_(two.weight[:, order])
    return other


REORDERED: Rows = [
    (_network(f"{word} {width} {act.__name__}", make(width, act), dims, whole=True), _reordered)
    for (word, make, dims), width, act in itertools.product(
        (("units", _deep, ("batch", 6)), ("channels", _wide, ("batch", 3, 8, 8))), (8, 48), (nn.ReLU, nn.Tanh, nn.GELU)
    )
]  # fmt: skip

# ---- two affine maps as one -------------------------------------------------------------------------------


def _merged(model: nn.Sequential) -> nn.Module:
    one, two, *rest = copy.deepcopy(model)
    with torch.no_grad():
        w1, w2 = one.weight.double().flatten(1), two.weight.double().flatten(1)
        if isinstance(one, nn.Linear):
            both: nn.Module = nn.Linear(one.in_features, two.out_features)
        else:
            both = nn.Conv2d(one.in_channels, two.out_channels, one.kernel_size)
        both.weight.copy_((w2 @ w1).reshape(both.weight.shape))
        both.bias.copy_(w2 @ one.bias.double() + two.bias.double())
    return nn.Sequential(both, *rest).eval()


MERGED: Rows = [
    (_network(f"linear {hidden} {act.__name__}", lambda hidden=hidden, act=act: nn.Sequential(nn.Linear(6, hidden), nn.Linear(hidden, 5), act(), nn.Linear(5, 3)), ("batch", 6)), _merged)
    for hidden, act in itertools.product((4, 16, 64), (nn.ReLU, nn.Sigmoid))
] + [
    (_network(f"conv {hidden} {size}", lambda hidden=hidden, size=size: nn.Sequential(nn.Conv2d(3, hidden, size), nn.Conv2d(hidden, 5, 1), nn.ReLU()), ("batch", 3, 7, 7)), _merged)
    for hidden, size in itertools.product((4, 16, 32), (1, 3))
]  # fmt: skip

# ---- algebra: a function and the same written otherwise ------------------------------------------------------

Function = Callable[[Tensor], Any]


def _windows(x: Tensor) -> Tensor:
    return (x.unfold(2, 3, 2).unfold(3, 3, 2)).mean((-1, -2))


def _written_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5)


def _running(x: Tensor) -> Tensor:
    total, parts = torch.zeros_like(x[:, 0]), []
    for place in range(x.shape[1]):
        total = total + x[:, place]
        parts.append(total)
    return torch.stack(parts, 1)


ALGEBRA: dict[str, tuple[Function, Function, Dims]] = {
    "softmax": (lambda x: x.softmax(-1), lambda x: (x - x.logsumexp(-1, keepdim=True)).exp(), ("batch", 6)),
    "log_softmax": (lambda x: x.log_softmax(-1), lambda x: x - x.logsumexp(-1, keepdim=True), ("batch", 6)),
    "sigmoid": (torch.sigmoid, lambda x: 0.5 + 0.5 * torch.tanh(x / 2), ("batch", 6)),
    "silu": (F.silu, lambda x: x * torch.sigmoid(x), ("batch", 6)),
    "softplus": (lambda x: F.softplus(x, threshold=1e9), lambda x: x.clamp(min=0) + torch.log1p(torch.exp(-x.abs())), ("batch", 6)),
    "gelu": (F.gelu, lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), ("batch", 6)),
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), lambda x: x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)), ("batch", 6)),
    "hardswish": (F.hardswish, lambda x: x * F.relu6(x + 3) / 6, ("batch", 6)),
    "hardsigmoid": (F.hardsigmoid, lambda x: torch.clamp(x / 6 + 0.5, 0, 1), ("batch", 6)),
    "mish": (F.mish, lambda x: x * torch.tanh(F.softplus(x)), ("batch", 6)),
    "elu": (F.elu, lambda x: torch.where(x > 0, x, torch.expm1(x)), ("batch", 6)),
    "selu": (F.selu, lambda x: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * torch.expm1(x)), ("batch", 6)),
    "layer norm": (lambda x: F.layer_norm(x, (8,)), _written_norm, ("batch", "time", 8)),
    "rms norm": (lambda x: F.rms_norm(x, (8,), eps=1e-5), lambda x: x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt(), ("batch", "time", 8)),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), lambda x: (x @ x.mT / 8**0.5).softmax(-1) @ x, ("batch", 2, 7, 8)),
    "causal attention": (
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
        lambda x: (x @ x.mT / 8**0.5 + torch.triu(torch.full((7, 7), -1e30), 1)).softmax(-1) @ x, ("batch", 2, 7, 8),
    ),
    "average pooling": (lambda x: F.avg_pool2d(x, 3, 2), _windows, ("batch", 2, 9, 9)),
    "a sum": (lambda x: x.sum(1), lambda x: x.flip(1).cumsum(1)[:, -1], ("batch", 48)),
    "a mean": (lambda x: x.mean(1), lambda x: (x[:, ::2].sum(1) + x[:, 1::2].sum(1)) / 48, ("batch", 48)),
    "cumulative sum": (lambda x: x.cumsum(1), _running, ("batch", 9, 3)),
    "variance": (lambda x: x.var(-1, unbiased=False), lambda x: (x - x.mean(-1, keepdim=True)).pow(2).mean(-1), ("batch", 16)),
    "einsum": (lambda x: torch.einsum("bij,bkj->bik", x, x), lambda x: x @ x.mT, ("batch", 5, 8)),
    "norm": (lambda x: F.normalize(x, dim=-1), lambda x: x / x.pow(2).sum(-1, keepdim=True).sqrt(), ("batch", 8)),
    "logsumexp": (lambda x: x.logsumexp(-1), lambda x: x.amax(-1) + (x - x.amax(-1, keepdim=True)).exp().sum(-1).log(), ("batch", 8)),
    "squared distance": (lambda x: (x[:, None] - x[:, :, None]).pow(2).sum(-1), lambda x: torch.stack([(x - x[:, place : place + 1]).square().sum(-1) for place in range(5)], 1), ("batch", 5, 4)),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2) * 1.5, lambda x: x.unflatten(1, (1, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3) * 1.5, ("batch", 4, 3, 5)),
}  # fmt: skip


def _algebra() -> Iterator[tuple[Network, Change]]:
    """Each between two affine maps of the last axis, so that weights are there."""
    for name, (one, other, dims) in ALGEBRA.items():
        size = int(dims[-1])

        def make(function: Function = one, size: int = size, dims: Dims = dims) -> nn.Module:
            first = nn.Linear(size, size)
            shape = [2 if isinstance(dim, str) else dim for dim in dims]
            last = nn.Linear(
                function(torch.zeros(shape)).shape[-1] if function(torch.zeros(shape)).ndim > 1 else 2, 3
            )
            if function(torch.zeros(shape)).ndim == 1:
                return Call(lambda parts, x: function(parts[0](x)), first)
            return Call(lambda parts, x: parts[1](function(parts[0](x))), first, last)

        def change(model: Any, other: Function = other) -> nn.Module:
            if len(model.parts) == 1:
                return Call(lambda parts, x: other(parts[0](x)), *model.parts).eval()
            return Call(lambda parts, x: parts[1](other(parts[0](x))), *model.parts).eval()

        yield _network(name, make, dims), change


REWRITES: dict[str, Rows] = {"units reordered": REORDERED, "maps merged": MERGED, "algebra": list(_algebra())}
