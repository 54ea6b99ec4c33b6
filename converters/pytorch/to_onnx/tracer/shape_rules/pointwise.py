"""Sizes of what works element by element, and of layers that give what they are given.

PyTorch's own rules for these are written in Python and ask for its compilers; most calls of most models are such.
They are left to decide wherever dtypes are promoted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from netferry.converters.pytorch.to_onnx.tracer.names import everywhere, writes
from netferry.converters.pytorch.to_onnx.tracer.shape_rules.views import empty_like

_FLOATS = """
    abs acos acosh add asin asinh atan atan2 atanh ceil celu clamp clamp_max clamp_min clip cos cosh div divide elu
    erf erfc exp exp2 expm1 fix floor floordiv floor_divide fmod gelu hardshrink hardsigmoid hardswish hardtanh
    leaky_relu log log10 log1p log2 log_softmax logsigmoid maximum minimum mish mod mul multiply neg negative pow
    radd rdiv reciprocal relu relu6 remainder rmul round rpow rsqrt rsub rtruediv selu sigmoid sign silu sin sinh
    softmax softmin softplus softshrink softsign sqrt square sub subtract tan tanh tanhshrink threshold
    true_divide truediv trunc
""".split()
_TRUTHS = "eq ge gt le lt ne greater greater_equal less less_equal not_equal isnan isinf isfinite".split()


def _given(args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    return [item for item in (*args, *kwargs.values()) if isinstance(item, Tensor)]


def _together(tensors: Sequence[Tensor]) -> tuple[Any, ...] | None:
    """The sizes that tensors are broadcast to; None where that is left to PyTorch."""
    longest = max(tensors, key=Tensor.dim)
    sizes = list(longest.shape)
    for tensor in tensors:
        for position, size in enumerate(reversed(tensor.shape), 1):
            have = sizes[-position]
            if have is size or (isinstance(size, int) and size == 1):
                continue
            if isinstance(have, int) and have == 1:
                sizes[-position] = size
            elif have != size:
                return None
    return tuple(sizes)


def _like(tensors: Sequence[Tensor], sizes: tuple[Any, ...], dtype: torch.dtype) -> Tensor:
    """A tensor of these sizes, its axes in memory as they are in the operand that has them all."""
    for tensor in tensors:
        if tensor.dim() == len(sizes) and all(
            a is b or a == b for a, b in zip(tensor.shape, sizes, strict=True)
        ):
            return empty_like(tensor, dtype=dtype)
    return tensors[0].new_empty(sizes, dtype=dtype)


def _pointwise(function: Callable[..., Any], truth: bool, *args: Any, **kwargs: Any) -> Any:
    """Of floats of one dtype; where that is not so, PyTorch decides."""
    tensors = _given(args, kwargs)
    alike = truth or (tensors[0].dtype.is_floating_point and len({t.dtype for t in tensors}) == 1)
    odd = (
        any(isinstance(item, complex) or item is True for item in args[1:])
        or {"dtype", "out"} & kwargs.keys()
    )
    sizes = _together(tensors) if alike and not odd and not kwargs.get("inplace") else None
    if sizes is None:
        return function(*args, **kwargs)
    if not writes(function):
        return _like(tensors, sizes, torch.bool if truth else tensors[0].dtype)
    if (
        truth
        or not isinstance(args[0], Tensor)
        or any(a != b for a, b in zip(args[0].shape, sizes, strict=True))
    ):
        return function(*args, **kwargs)
    return _written(args[0])


def _written(input: Tensor) -> Tensor:
    torch.autograd.graph.increment_version(input)
    return input


def _same(m: Any, input: Tensor) -> Any:
    """A layer that gives what it is given, of floats; in place where it is set to be."""
    if not input.dtype.is_floating_point:
        return NotImplemented
    return _written(input) if getattr(m, "inplace", False) else empty_like(input)


def _per_channel(m: Any, input: Tensor) -> Any:
    """A normalisation with one weight per channel: (batch, channels, ...)."""
    channels = m.num_channels if isinstance(m, nn.GroupNorm) else m.num_features
    if input.dim() < 2 or input.shape[1] != channels:
        return NotImplemented
    return empty_like(input)


_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softmax, nn.LogSoftmax,
    nn.Softmin, nn.Softplus, nn.Softsign, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Hardshrink,
    nn.Softshrink, nn.Tanhshrink, nn.LogSigmoid, nn.Threshold,
)  # fmt: skip

POINTWISE: dict[Any, Callable[..., Any]] = {
    **{
        function: partial(_pointwise, function, names is _TRUTHS)
        for names in (_FLOATS, _TRUTHS)
        for name in names
        for function in everywhere(name)
    },
    **dict.fromkeys(_ACTIVATIONS, _same),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm), _per_channel),
}


def _kept(
    function: Callable[..., Any], input: Tensor, dim: Any = None, keepdim: bool = False, **kwargs: Any
) -> Any:
    """A reduction of floats over axes that are named by numbers."""
    axes = [dim] if isinstance(dim, int) else dim
    if not input.dtype.is_floating_point or not axes or isinstance(dim, bool) or kwargs:
        given = {} if dim is None else {"dim": dim, **({"keepdim": True} if keepdim else {})}
        return function(input, **given, **kwargs)
    gone = {axis % input.dim() for axis in axes}
    sizes = [
        1 if axis in gone else size for axis, size in enumerate(input.shape) if keepdim or axis not in gone
    ]
    return input.new_empty(sizes)


REDUCED: dict[Any, Callable[..., Any]] = {
    function: partial(_kept, function)
    for name in "mean sum amax amin logsumexp".split()
    for function in everywhere(name)
    if not writes(function)
}
