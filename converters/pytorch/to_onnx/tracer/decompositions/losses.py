"""Functions that are decomposed into others: losses, as PyTorch's own library calls them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed

_MEAN, _SUM = 1, 2
"""PyTorch's numbers for what becomes of the losses; 0 leaves them as they are."""

_NN: Any = torch._C._nn
_FUNCTIONS: Any = torch._C._VariableFunctions


def _reduced(losses: Tensor, reduction: int) -> Tensor:
    return losses.mean() if reduction == _MEAN else losses.sum() if reduction == _SUM else losses


def _apart(measure: Callable[..., Tensor], input: Tensor, target: Tensor, reduction: int = _MEAN, *more: float) -> Tensor:  # fmt: skip
    return _reduced(measure(input - target, *more), reduction)


def _huber(apart: Tensor, delta: float = 1.0) -> Tensor:
    """Squares within ``delta``, lines beyond."""
    size = apart.abs()
    return torch.where(size < delta, 0.5 * size * size, delta * (size - 0.5 * delta))


def _smooth(apart: Tensor, beta: float = 1.0) -> Tensor:
    return apart.abs() if beta == 0 else _huber(apart, beta) / beta


decomposed(_NN.mse_loss)(partial(_apart, torch.square))
decomposed(_NN.l1_loss)(partial(_apart, torch.abs))
decomposed(_NN.huber_loss)(partial(_apart, _huber))
decomposed(_NN.smooth_l1_loss)(partial(_apart, _smooth))


@decomposed(_NN.soft_margin_loss)
def _soft_margin(input: Tensor, target: Tensor, reduction: int = _MEAN) -> Tensor:
    return _reduced(torch.log1p(torch.exp(-target * input)), reduction)


@decomposed(_NN.binary_cross_entropy)
def _binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = _MEAN
) -> Tensor:
    """Logarithms are cut off at -100."""
    positive, negative = (x.log().clamp(min=-100) for x in (input, 1 - input))
    losses = (target - 1) * negative - target * positive
    return _reduced(losses if weight is None else losses * weight, reduction)


@decomposed(_FUNCTIONS.binary_cross_entropy_with_logits)
def _binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = _MEAN
) -> Tensor:  # fmt: skip
    share: Any = 1 if pos_weight is None else (pos_weight - 1) * target + 1
    losses = (1 - target) * input - share * F.logsigmoid(input)
    return _reduced(losses if weight is None else losses * weight, reduction)


@decomposed(_FUNCTIONS.kl_div)
def _kl_div(input: Tensor, target: Tensor, reduction: int = _MEAN, *, log_target: bool = False) -> Tensor:
    losses = target.exp() * (target - input) if log_target else torch.xlogy(target, target) - target * input
    return _reduced(losses, reduction)


@decomposed(_NN.cross_entropy_loss)
def _cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = _MEAN, ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """Of scores (batch, classes, ...) and class indices or probabilities."""
    axis = 1 if input.dim() > 1 else 0
    shares = input.log_softmax(axis)
    if target.dtype.is_floating_point:
        return _of_probabilities(shares, target, weight, reduction, label_smoothing, axis)
    plain = _nll(shares, target, weight, reduction, ignore_index)
    if not label_smoothing:
        return plain
    kept = (target != ignore_index).to(shares.dtype)
    scaled = shares if weight is None else shares * _along(weight, shares, axis)
    smooth = -scaled.sum(axis) * kept
    share = label_smoothing / shares.size(axis)
    if reduction == _MEAN:
        counted = kept if weight is None else kept * weight[target.clamp(min=0)]
        smooth = smooth.sum() / counted.sum()
    elif reduction == _SUM:
        smooth = smooth.sum()
    return plain * (1 - label_smoothing) + smooth * share


def _of_probabilities(
    shares: Tensor, target: Tensor, weight: Tensor | None, reduction: int, smoothing: float, axis: int
) -> Tensor:
    wanted = target * (1 - smoothing) + smoothing / shares.size(axis) if smoothing else target
    losses = -(shares * wanted if weight is None else shares * wanted * _along(weight, shares, axis))
    found = losses.sum(axis)
    return found.mean() if reduction == _MEAN else _reduced(found, reduction)


def _along(weight: Tensor, like: Tensor, axis: int) -> Tensor:
    return weight.view([-1 if position == axis else 1 for position in range(like.dim())])


@decomposed(_NN.nll_loss_nd, _NN.nll_loss, _NN.nll_loss2d)
def _nll(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = _MEAN, ignore_index: int = -100
) -> Tensor:  # fmt: skip
    """Minus what stands at each target's place; the mean is over the weights of what is not ignored."""
    axis = 1 if input.dim() > 1 else 0
    kept = target != ignore_index
    place = torch.where(kept, target, 0)
    counted = kept.to(input.dtype)
    if weight is not None:
        counted = counted * weight[place]
    losses = -input.gather(axis, place.unsqueeze(axis)).squeeze(axis) * counted
    return losses.sum() / counted.sum() if reduction == _MEAN else _reduced(losses, reduction)


@decomposed(_FUNCTIONS.cosine_embedding_loss)
def _cosine_embedding(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = _MEAN
) -> Tensor:
    axis = target.dim()
    lengths = (input1.square().sum(axis) + 1e-12) * (input2.square().sum(axis) + 1e-12)
    alike = (input1 * input2).sum(axis) / lengths.sqrt()
    apart = torch.where(target == -1, (alike - margin).clamp(min=0), 0.0)
    return _reduced(torch.where(target == 1, 1 - alike, apart), reduction)


@decomposed(_FUNCTIONS.hinge_embedding_loss)
def _hinge_embedding(input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = _MEAN) -> Tensor:
    apart = torch.where(target != 1, (margin - input).clamp(min=0), 0.0)
    return _reduced(apart + torch.where(target != -1, input, 0.0), reduction)


@decomposed(_FUNCTIONS.margin_ranking_loss)
def _margin_ranking(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = _MEAN
) -> Tensor:
    return _reduced((-target * (input1 - input2) + margin).clamp(min=0), reduction)


@decomposed(_FUNCTIONS.triplet_margin_loss)
def _triplet_margin(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2, eps: float = 1e-6,
    swap: bool = False, reduction: int = _MEAN,
) -> Tensor:  # fmt: skip
    near, far = (F.pairwise_distance(anchor, other, p, eps) for other in (positive, negative))
    if swap:
        far = torch.minimum(far, F.pairwise_distance(positive, negative, p, eps))
    return _reduced((near - far + margin).clamp(min=0), reduction)


@decomposed(_FUNCTIONS.poisson_nll_loss)
def _poisson_nll(
    input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int
) -> Tensor:  # fmt: skip
    losses = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        losses = losses + torch.where(target > 1, stirling, 0.0)
    return _reduced(losses, reduction)
