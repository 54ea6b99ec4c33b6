"""The table of torch functions, shapes, joining and converting tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import FUNCTIONS, row
from netferry.converters.pytorch.to_onnx.tracer.names import getter

_TO_THE_START = np.iinfo(np.int64).min

# ---- the same content, seen otherwise -------------------------------------------------------------


@row(
    "contiguous", "detach", "clone", "alias", "lift_fresh_copy", "resolve_conj", "resolve_neg", "cpu", "cuda"
)
def same(e: Emitter, input: Tensor, *_: Any, **__: Any) -> Tensor:
    return input


FUNCTIONS.row(getter("data"), torch.Tensor.requires_grad_)(same)


@row(
    "to",
    "type",
    "type_as",
    "float",
    "double",
    "half",
    "bfloat16",
    "int",
    "long",
    "short",
    "char",
    "byte",
    "bool",
    "_to_copy",
    torch.ops.aten._to_copy.default,
)
def convert(e: Emitter, input: Tensor, *_: Any, **__: Any) -> Tensor:
    return e.cast(input, e.dtype)


@row("view", "reshape", "unflatten", "view_as", "reshape_as", "ravel", "unsafe_view", "_unsafe_view")
def reshape(e: Emitter, input: Tensor, *_: Any, **__: Any) -> Tensor:
    """Whatever way it was asked for: the result has the sizes that PyTorch gave it."""
    if input.dtype != e.dtype:
        raise CannotConvert("the bytes of a tensor are seen as another dtype")
    return e.reshape(input, e.out.dims)


@row("flatten")
def flatten(e: Emitter, input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """ONNX's Flatten where all axes behind the batch are merged, so that a person recognises it."""
    if start_dim == 1 and end_dim in (-1, input.rank - 1) and input.rank > 2:
        return e.g.Flatten(input, axis=1)
    return e.reshape(input, e.out.dims)


@row("unsqueeze")
def unsqueeze(e: Emitter, input: Tensor, dim: int) -> Tensor:
    return e.g.Unsqueeze(input, e.g.ints(dim))


@row("squeeze")
def squeeze(e: Emitter, input: Tensor, dim: Any = None) -> Tensor:
    """Axes that are known to have size 1 go; a free axis stays, at size 1 too."""
    asked = range(input.rank) if dim is None else [dim] if isinstance(dim, int) else dim
    sizes = input.dims or ()
    gone = sorted(axis % input.rank for axis in asked if sizes[axis] == 1)
    e.notes += [f"squeeze keeps '{sizes[a]}' also where it is 1" for a in asked if isinstance(sizes[a], str)]
    return e.g.Squeeze(input, e.g.ints(*gone)) if gone else input


@row("permute")
def permute(e: Emitter, input: Tensor, *dims: Any, **named: Any) -> Tensor:
    axes = named.get("dims", dims[0] if dims and not isinstance(dims[0], int) else dims)
    return e.transpose(input, [axis % input.rank for axis in axes])


@row("transpose", "swapaxes", "swapdims")
def transpose(e: Emitter, input: Tensor, dim0: int, dim1: int) -> Tensor:
    axes = list(range(input.rank))
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return e.transpose(input, axes)


@row("t", "numpy_T", getter("T"), getter("H"))
def reverse_axes(e: Emitter, input: Tensor) -> Tensor:
    return e.transpose(input, range(input.rank)[::-1])


@row("adjoint", getter("mT"), getter("mH"))
def swap_last(e: Emitter, input: Tensor) -> Tensor:
    return transpose(e, input, -2, -1)


@row("movedim", "moveaxis")
def movedim(e: Emitter, input: Tensor, source: Any, destination: Any) -> Tensor:
    pairs = zip(*([p] if isinstance(p, int) else p for p in (source, destination)), strict=True)
    placed = {to % input.rank: axis % input.rank for axis, to in pairs}
    rest = iter(axis for axis in range(input.rank) if axis not in placed.values())
    return e.transpose(input, [placed[to] if to in placed else next(rest) for to in range(input.rank)])


@row("expand", "expand_as", "broadcast_to")
def expand(e: Emitter, input: Tensor, *_: Any, **__: Any) -> Tensor:
    return e.expand(input, e.out.dims)


@row("repeat", "tile")
def repeat(e: Emitter, input: Tensor, *sizes: Any, **named: Any) -> Tensor:
    given = next(iter(named.values()), sizes)
    times = list(given[0] if len(given) == 1 and isinstance(given[0], list | tuple) else given)
    times = [1] * (input.rank - len(times)) + times
    if len(times) > input.rank:
        input = e.reshape(input, [1] * (len(times) - input.rank) + e.sizes_of(input))
    return e.g.Tile(input, e.shape(times))


@row("flip")
def flip(e: Emitter, input: Tensor, *given: Any, dims: Any = ()) -> Tensor:
    axes = [d for dim in (*given, dims) for d in (dim if isinstance(dim, list | tuple) else [dim])]
    n = len(axes)
    return e.g.Slice(
        input, e.g.ints(*[-1] * n), e.g.ints(*[_TO_THE_START] * n), e.g.ints(*axes), e.g.ints(*[-1] * n)
    )


@row("tril")
def tril(e: Emitter, input: Tensor, diagonal: int = 0) -> Tensor:
    return e.g.Trilu(input, e.g.constant(diagonal, np.int64), upper=0)


@row("triu")
def triu(e: Emitter, input: Tensor, diagonal: int = 0) -> Tensor:
    return e.g.Trilu(input, e.g.constant(diagonal, np.int64), upper=1)


# ---- joining and parting --------------------------------------------------------------------------


@row("cat", "concat", "concatenate")
def cat(e: Emitter, tensors: Sequence[Tensor], dim: int = 0, **named: Any) -> Tensor:
    """Concat; a pending transposition that all parts share stays pending. Empty vectors count for nothing."""
    parts = [e.cast(x, e.dtype) for x in tensors if x.dims != (0,) or len(e.out.dims) == 1]
    axis = named.get("axis", dim) % parts[0].rank
    if len({x.perm for x in parts}) > 1 or any(x.array is not None for x in parts):
        return e.g.Concat(*parts, axis=axis)
    bases, axes, wraps = zip(*(e.along(x, axis) for x in parts), strict=True)
    joined: Tensor = wraps[0](e.g.Concat(*bases, axis=axes[0]))
    return joined


@row("stack")
def stack(e: Emitter, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    parts = [e.g.Unsqueeze(e.cast(x, e.dtype), e.g.ints(dim)) for x in tensors]
    return e.g.Concat(*parts, axis=dim)


@row(
    "chunk",
    "split",
    "split_with_sizes",
    "tensor_split",
    "unsafe_chunk",
    "unsafe_split",
    "unsafe_split_with_sizes",
)
def split(e: Emitter, input: Tensor, sections: Any = None, dim: int = 0, **named: Any) -> Sequence[Tensor]:
    """The sizes of the parts are those that PyTorch gave them."""
    if len(e.outs) == 1:
        return [input]
    base, axis, wrap = e.along(input, dim)
    sizes = e.shape([part.dims[dim] for part in e.outs])
    return [wrap(part) for part in e.g.ops("Split", base, sizes, outputs=len(e.outs), axis=axis)]


# ---- padding ---------------------------------------------------------------------------------------


PAD_MODES = {
    "constant": "constant",
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}
"""PyTorch's modes of padding, and ONNX's."""


@row("pad", "constant_pad_nd")
def pad(
    e: Emitter, input: Tensor, pad: Sequence[Any], mode: str = "constant", value: float | None = None
) -> Tensor:
    """PyTorch lists (begin, end) from the last axis on."""
    if not isinstance(mode, str):  # constant_pad_nd
        mode, value = "constant", mode
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    pairs = [(0, 0)] * (input.rank - len(pairs)) + pairs
    pads = e.shape([begin for begin, _ in pairs] + [end for _, end in pairs])
    fill = e.tensor(value, input.dtype) if value else None
    return e.g.Pad(input, pads, fill, mode=PAD_MODES[mode])
