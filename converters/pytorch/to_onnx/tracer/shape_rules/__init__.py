"""Sizes of what some layers and functions give: their own kernels cannot run with symbolic sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.to_onnx.tracer.calls import leaves_of
from netferry.converters.pytorch.to_onnx.tracer.decompositions.scans import recurrence, recurrence_sizes
from netferry.converters.pytorch.to_onnx.tracer.names import everywhere
from netferry.converters.pytorch.to_onnx.tracer.places import unsettled_place, unsettled_sizes
from netferry.converters.pytorch.to_onnx.tracer.shape_rules.convolution import CONVOLUTIONS
from netferry.converters.pytorch.to_onnx.tracer.shape_rules.pointwise import POINTWISE, REDUCED
from netferry.converters.pytorch.to_onnx.tracer.shape_rules.views import VIEWS
from netferry.converters.pytorch.to_onnx.tracer.spectra import dft, dft_sizes


def _recurrent(module: nn.RNNBase, input: Any, hx: Any = None) -> tuple[Any, Any]:
    """Output (time, batch, directions * hidden), state (layers * directions, batch, hidden); unbatched has no batch.

    A projection stands in the place of what is hidden, but for the cell's state. Of packed sequences the data
    are (longest, batch, features), as ``_pack`` gives them.
    """
    x: Tensor = input if isinstance(input, Tensor) else input.data
    batch_first = module.batch_first and x is input
    directions, given = (2 if module.bidirectional else 1), (module.proj_size or module.hidden_size)
    output = x.new_empty((*x.shape[:-1], directions * given))
    batch = () if x.dim() == 2 else (x.shape[0 if batch_first else 1],)

    def state(size: int) -> Tensor:
        return x.new_empty((module.num_layers * directions, *batch, size))

    last = (state(given), state(module.hidden_size)) if module.mode == "LSTM" else state(given)
    return (output if x is input else input._replace(data=output)), last


def _pack(input: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """``torch._pack_padded_sequence``, whose data stay padded here: (longest, batch, features), and batch sizes.

    The longest sequence is a size of its own, known only when the model runs.
    """
    batch, time = input.shape[:2] if batch_first else (input.shape[1], input.shape[0])
    sizes: Any = input.fake_mode.shape_env  # type: ignore[attr-defined]
    longest = sizes.inner("longest", hint=int(sizes.shown(time)))
    return input.new_empty((longest, batch, *input.shape[2:])), lengths.new_empty((longest,))


def _unpack(
    data: Tensor, batch_sizes: Tensor, batch_first: bool, padding_value: float, total_length: Any
) -> tuple[Tensor, Tensor]:
    """``torch._pad_packed_sequence`` of what ``_pack`` gave: (total, batch, features), and lengths (batch,)."""
    batch = data.shape[1]
    front = (batch, total_length) if batch_first else (total_length, batch)
    return data.new_empty((*front, *data.shape[2:])), batch_sizes.new_empty((batch,))


def _put(input: Tensor, *_: Any, **__: Any) -> Tensor:
    """``index_put`` as programs of operators call it: None for an axis that is whole, which PyTorch's Python does not take."""
    return input.new_empty(input.shape)


def _recurrent_function(
    input: Tensor,
    hx: Any,
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """``torch.lstm`` and its like: the last states have the sizes of the first."""
    if isinstance(has_biases, list | tuple):
        raise NotImplementedError("packed sequences")
    states = hx if isinstance(hx, tuple | list) else [hx]
    hidden = params[1].shape[-1] * (2 if bidirectional else 1)
    output = input.new_empty((*input.shape[:-1], hidden))
    return output, *(state.new_empty(state.shape) for state in states)


def _max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As a pool over a plane of one row."""

    def plane(value: Any, row: int) -> tuple[Any, Any]:
        return row, value[0] if isinstance(value, tuple | list) else value

    stride = kernel_size if stride in (None, [], ()) else stride
    positions = plane(kernel_size, 1), plane(stride, 1), plane(padding, 0), plane(dilation, 1)
    pool: Any = F.max_pool2d
    found = pool(input.unsqueeze(-2), *positions, ceil_mode, return_indices)
    return tuple(y.squeeze(-2) for y in found) if return_indices else found.squeeze(-2)


def _max_pool1d_layer(m: nn.MaxPool1d, input: Tensor) -> Any:
    return _max_pool1d(input, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)


def _matmul(input: Tensor, other: Tensor) -> Tensor:
    """Of two stacks of matrices with the same sizes in front; others go PyTorch's own way."""
    front = input.shape[:-2]
    stacks = input.dim() == other.dim() > 2 and input.dtype == other.dtype
    if stacks and all(a == b for a, b in zip(front, other.shape[:-2], strict=True)):
        if input.shape[-1] != other.shape[-2]:
            raise RuntimeError(f"a product of {input.shape[-1]} columns and {other.shape[-2]} rows")
        return input.new_empty((*front, input.shape[-2], other.shape[-1]))
    return torch.matmul(input, other)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if weight.dim() != 2:
        return F.linear(input, weight, bias)
    if input.shape[-1] != weight.shape[1]:
        raise RuntimeError(f"a linear layer of {weight.shape[1]} features is given {input.shape[-1]}")
    if input.dtype != weight.dtype:
        raise RuntimeError(f"a linear layer of {weight.dtype} is given {input.dtype}")
    return input.new_empty((*input.shape[:-1], weight.shape[0]))


def _linear_layer(m: nn.Linear, input: Tensor) -> Tensor:
    if input.shape[-1] != m.in_features or input.dtype != next(m.parameters()).dtype:
        raise RuntimeError(f"{m} is given {input.dtype} of {input.shape[-1]} features")
    return input.new_empty((*input.shape[:-1], m.out_features))


def _layer_norm(m: nn.LayerNorm, input: Tensor) -> Tensor:
    return _normalized(input, m.normalized_shape)


def _normalized(input: Tensor, normalized_shape: Any, *_: Any, **__: Any) -> Tensor:
    size = tuple(normalized_shape)
    if any(a != b for a, b in zip(input.shape[-len(size) :], size, strict=True)):
        raise RuntimeError(f"a layer normalisation over {size} is given {tuple(input.shape)}")
    return input.new_empty(input.shape)


def _tensor(data: Any, *, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> Tensor:
    """A tensor made of symbolic sizes, in lists of lists as they come."""
    if isinstance(data, Tensor):
        return data.to(dtype=dtype or data.dtype, device=device)
    found = leaves_of(data, object)
    kinds = {
        item.dtype.is_floating_point if isinstance(item, Tensor) else isinstance(item, _FRACTIONS)
        for item in found
    }
    usual = torch.get_default_dtype() if True in kinds else torch.int64
    return torch.empty(_nesting(data), dtype=dtype or usual, device=device)


_FRACTIONS = (float, torch.SymFloat)


def _nesting(data: Any) -> tuple[int, ...]:
    """The sizes of lists within lists."""
    listed = isinstance(data, list | tuple)
    return (len(data), *_nesting(data[0])) if listed and data else (0,) if listed else ()


def _grouped_mm(
    input: Tensor,
    mat2: Tensor,
    *,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """A product for each group; PyTorch's own rule knows bfloat16 alone."""
    del bias
    stacked = [x.shape[0] for x in (input, mat2) if x.dim() == 3]
    both = len(stacked) == 2 or not stacked
    front = (stacked or [offs.shape[0] if offs is not None else 0])[:1] if both else []
    return input.new_empty((*front, input.shape[-2], mat2.shape[-1]), dtype=out_dtype or input.dtype)


def _nonzero(input: Tensor) -> Tensor:
    """(found, axes): how many there are is known only when the model runs."""
    sizes: Any = input.fake_mode.shape_env  # type: ignore[attr-defined]
    return input.new_empty((sizes.inner("found", hint=3), input.dim()), dtype=torch.int64)


def _repeated(repeats: Tensor) -> Tensor:
    """The number of each element as often as it is repeated."""
    sizes: Any = repeats.fake_mode.shape_env  # type: ignore[attr-defined]
    return repeats.new_empty((sizes.inner("total", hint=3),), dtype=torch.int64)


def _unique(
    input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> tuple[Tensor, ...]:
    """Values, where each element is among them, and how often; what is not asked for is empty."""
    sizes: Any = input.fake_mode.shape_env  # type: ignore[attr-defined]
    count = sizes.inner("found", hint=3)
    inverse = input.new_empty(input.shape if return_inverse else (0,), dtype=torch.int64)
    counts = input.new_empty((count if return_counts else 0,), dtype=torch.int64)
    return input.new_empty((count,)), inverse, counts


def _bincount(input: Tensor, weights: Tensor | None = None, minlength: Any = 0) -> Tensor:
    sizes: Any = input.fake_mode.shape_env  # type: ignore[attr-defined]
    kind = (
        torch.int64 if weights is None else torch.float64 if weights.dtype is torch.float64 else torch.float32
    )
    return input.new_empty((sizes.inner("counted", hint=3),), dtype=kind)


def _one_hot(input: Tensor, num_classes: Any = -1) -> Tensor:
    """As many classes as the largest number asks for, where it is not said."""
    sizes: Any = input.fake_mode.shape_env  # type: ignore[attr-defined]
    known = not isinstance(num_classes, int) or num_classes >= 0
    return input.new_empty((*input.shape, num_classes if known else sizes.inner("classes", hint=3)))


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The numbers of the boxes that stay."""
    sizes: Any = boxes.fake_mode.shape_env  # type: ignore[attr-defined]
    return boxes.new_empty((sizes.inner("kept", hint=3),), dtype=torch.int64)


def _roi_align(
    input: Tensor, rois: Tensor, spatial_scale: Any, pooled_height: int, pooled_width: int, *_: Any, **__: Any
) -> Tensor:
    """The scale may be made of sizes."""
    return input.new_empty((rois.shape[0], input.shape[1], pooled_height, pooled_width))


COUNTED: Mapping[Any, Callable[..., Any]] = {
    torch._pack_padded_sequence: _pack,
    torch.nonzero: _nonzero,
    Tensor.nonzero: _nonzero,
    torch.argwhere: _nonzero,
    Tensor.argwhere: _nonzero,
    torch.repeat_interleave: _repeated,
    Tensor.repeat_interleave: _repeated,
    torch._unique2: _unique,
    torch.bincount: _bincount,
    Tensor.bincount: _bincount,
    F.one_hot: _one_hot,
    "torchvision::nms": _nms,
}
"""Functions whose result has a size of its own at each call."""

SHAPES: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys((*everywhere("grouped_mm"), *everywhere("_grouped_mm")), _grouped_mm),
    **COUNTED,
    dft: dft_sizes,
    recurrence: recurrence_sizes,
    unsettled_place: unsettled_sizes,
    **POINTWISE,
    **VIEWS,
    **REDUCED,
    **CONVOLUTIONS,
    nn.RNN: _recurrent,
    nn.LSTM: _recurrent,
    nn.GRU: _recurrent,
    nn.Linear: _linear_layer,
    F.linear: _linear,
    nn.LayerNorm: _layer_norm,
    **dict.fromkeys(everywhere("layer_norm"), _normalized),
    nn.MaxPool1d: _max_pool1d_layer,
    Tensor.matmul: _matmul,
    Tensor.__matmul__: _matmul,
    torch.matmul: _matmul,
    F.max_pool1d: _max_pool1d,
    torch.max_pool1d: _max_pool1d,
    torch._pad_packed_sequence: _unpack,
    "torchvision::roi_align": _roi_align,
    torch.lstm: _recurrent_function,
    torch.gru: _recurrent_function,
    torch.rnn_tanh: _recurrent_function,
    torch.rnn_relu: _recurrent_function,
    torch.index_put: _put,
    torch.tensor: _tensor,
    torch.as_tensor: _tensor,
    torch.scalar_tensor: _tensor,
}
"""Layer classes and functions, and the rule for what they give; a layer's takes the layer first, and may decline."""
