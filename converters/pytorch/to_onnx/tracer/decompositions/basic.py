"""Functions that are decomposed into others: moments, cells, sums of products, what is repeated and rolled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed
from netferry.converters.pytorch.to_onnx.tracer.sizes import users_line
from netferry.converters.pytorch.to_onnx.tracer.untraceable import Random


@decomposed(
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
    "feature_dropout",
)
def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, **other: Any
) -> Tensor:
    """Nothing; where the code keeps it on in inference, there is nothing to compare with."""
    if other.get("train", training) and p:
        raise Random("dropout is on in inference too; pass training=self.training", users_line())
    return input


@decomposed("iter")
def _iterate(input: Tensor) -> Iterator[Tensor]:
    return iter(input.unbind(0))


def _moments(input: Tensor, dim: Any, correction: float) -> tuple[Tensor, Tensor]:
    """Sum of squared deviations over its divisor, and the mean; both keep the reduced axes."""
    axes = _axes(input, dim)
    mean = input.mean(axes, keepdim=True)
    count = math.prod(input.size(axis) for axis in axes)
    squares = (input - mean).square()
    return (squares.mean(axes, keepdim=True) if not correction else
            squares.sum(axes, keepdim=True) / (count - correction)), mean  # fmt: skip


def _axes(input: Tensor, dim: Any) -> tuple[int, ...]:
    if dim is None or dim == ():
        return tuple(range(input.dim()))
    return (dim,) if isinstance(dim, int) else tuple(dim)


def _spread(
    pick: Callable[[Tensor, Tensor], Any], input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *,
    correction: Any = None,
) -> Any:  # fmt: skip
    """What is picked of variance and mean. ``var(True)`` and ``var(dim, True)`` both say unbiased; correction defaults to 1."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    variance, mean = _moments(input, dim, correction)
    if not keepdim:
        axes = tuple(axis % input.dim() for axis in _axes(input, dim))
        variance, mean = _without(variance, axes), _without(mean, axes)
    return pick(variance, mean)


def _without(input: Tensor, axes: tuple[int, ...]) -> Tensor:
    return input.squeeze(axes) if axes else input


_SPREADS: Mapping[str, Callable[[Tensor, Tensor], Any]] = {
    "var": lambda variance, _: variance,
    "std": lambda variance, _: variance.sqrt(),
    "var_mean": lambda variance, mean: (variance, mean),
    "std_mean": lambda variance, mean: (variance.sqrt(), mean),
}
"""What each function gives of the variance and the mean."""

for _name, _pick in _SPREADS.items():
    decomposed(_name)(partial(_spread, _pick))


@decomposed("normalize")
def _normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    length: Tensor = input.norm(p, dim, keepdim=True)
    return input / length.clamp_min(eps)


@decomposed(torch._weight_norm)
def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / |v|, the norm taken over all axes but ``dim``; -1 stands for none."""
    axes = [axis for axis in range(v.dim()) if axis != dim]
    length: Tensor = v.norm(2, axes, keepdim=True)
    return v * (g / length)


@decomposed("cosine_similarity")
def _cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    first, second = (_normalize(x, 2, dim, eps) for x in (x1, x2))
    return (first * second).sum(dim)


@decomposed("rrelu")
def _rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """In inference the slope is the middle of what training draws from."""
    if training:
        raise Random("rrelu draws its slopes in inference too; pass training=self.training", users_line())
    return F.leaky_relu(input, (lower + upper) / 2)


@decomposed("glu")
def _glu(input: Tensor, dim: int = -1) -> Tensor:
    value, gate = input.chunk(2, dim)
    return value * gate.sigmoid()


@decomposed("bilinear")
def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = torch.einsum("...i,oij,...j->...o", input1, weight, input2)
    return product if bias is None else product + bias


@decomposed("baddbmm", "addmm", "addmv")
def _add_product(input: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = left @ right
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (input if beta == 1 else input * beta)


@decomposed("lstm_cell")
def _lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gates stand in the order input, forget, cell, output."""
    i, f, g, o = (F.linear(input, w_ih, b_ih) + F.linear(hx[0], w_hh, b_hh)).chunk(4, -1)
    c = f.sigmoid() * hx[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@decomposed("gru_cell")
def _gru_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """Gates stand in the order reset, update, new; the reset comes behind the product."""
    r, z, n = F.linear(input, w_ih, b_ih).chunk(3, -1)
    hr, hz, hn = F.linear(hx, w_hh, b_hh).chunk(3, -1)
    update, new = (z + hz).sigmoid(), (n + (r + hr).sigmoid() * hn).tanh()
    return (hx - new) * update + new


def _rnn_cell(
    activation: Callable[[Tensor], Tensor],
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    *biases: Tensor | None,
) -> Tensor:
    b_ih, b_hh = biases or (None, None)
    return activation(F.linear(input, w_ih, b_ih) + F.linear(hx, w_hh, b_hh))


decomposed("rnn_tanh_cell")(partial(_rnn_cell, torch.tanh))
decomposed("rnn_relu_cell")(partial(_rnn_cell, torch.relu))


@decomposed("addcmul")
def _addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    return input + (tensor1 * tensor2 if value == 1 else tensor1 * tensor2 * value)


@decomposed("addcdiv")
def _addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    return input + (tensor1 / tensor2 if value == 1 else tensor1 / tensor2 * value)


@decomposed("lerp")
def _lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    step: Tensor = weight * (end - input)
    return input + step


@decomposed("unbind")
def _unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    return tuple(input.select(dim, position) for position in range(input.size(dim)))


@decomposed("repeat_interleave")
def _repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: Any = None
) -> Any:
    """Each element as often; a tensor says how often for each, and alone it gives their numbers, which have a row."""
    if repeats is None:
        return NotImplemented
    if dim is None:
        input, dim = input.flatten(), 0
    if isinstance(repeats, Tensor):
        return input.index_select(dim, torch.repeat_interleave(repeats.expand(input.size(dim))))
    dim %= input.dim()
    sizes = [-1] * (input.dim() + 1)
    sizes[dim + 1] = repeats
    return input.unsqueeze(dim + 1).expand(*sizes).flatten(dim, dim + 1)


@decomposed("roll")
def _roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    if dims is None or dims == ():
        return _roll(input.flatten(), shifts, 0).view(input.shape)
    for shift, dim in zip(_axes(input, shifts), _axes(input, dims), strict=True):
        size = input.size(dim)
        cut = size - shift % size
        input = torch.cat([input.narrow(dim, cut, size - cut), input.narrow(dim, 0, cut)], dim)
    return input


@decomposed("meshgrid")
def _meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    flat = list(tensors[0]) if isinstance(tensors[0], list | tuple) else list(tensors)
    order = [1, 0, *range(2, len(flat))] if indexing == "xy" and len(flat) > 1 else list(range(len(flat)))
    sizes = [flat[position].numel() for position in order]
    grids = []
    for axis, position in enumerate(order):
        shape = [1] * len(flat)
        shape[axis] = -1
        grids.append((position, flat[position].view(shape).expand(sizes)))
    return tuple(grid for _, grid in sorted(grids, key=lambda pair: pair[0]))


@decomposed(torch.batch_norm)
def _batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    """``torch.batch_norm`` orders its arguments in its own way."""
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


@decomposed(torch.embedding)
def _embedding(weight: Tensor, indices: Tensor, *rest: Any) -> Tensor:
    """``torch.embedding`` takes the table first."""
    return F.embedding(indices, weight)


@decomposed("new_tensor")
def _new_tensor(
    input: Tensor, data: Any, dtype: torch.dtype | None = None, device: Any = None, **_: Any
) -> Tensor:
    return torch.tensor(data, dtype=dtype or input.dtype, device=device or input.device)
