"""A PyTorch model in float64: a copy, widened; the model itself stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from netferry.converters.errors import CannotConvert, first_line
from netferry.converters.pytorch import fast_path, live
from netferry.converters.pytorch.live import module_of, to_numpy
from netferry.converters.pytorch.outputs import outputs_of
from netferry.converters.rounding import Kind, Rounding, as_float32, table
from netferry.converters.signature import Array

Change = Callable[[str, Array], Array]

NARROW = (torch.float32, torch.float16, torch.bfloat16)


def as_float64(model: Any, change: Change | None = None) -> nn.Module:
    """The model with weights and arithmetic in float64; ``change`` may move each widened weight.

    A dtype that the code names (``x.to(torch.float32)``, ``torch.zeros(..., dtype=...)``) is widened as well; a float
    that it hands to an operator is the float32 that the operator would compute with.

    Raises:
        CannotConvert: the model cannot be copied, or is quantised.
    """
    try:
        wide = copy.deepcopy(module_of(model)).double()
    except Exception as error:
        raise CannotConvert(f"the module cannot be copied in float64 ({first_line(error)})") from error
    constant = as_float32 if change is None else _changed_constant(change)
    if isinstance(wide, torch.fx.GraphModule):
        _widen_graph(wide, constant)
    if change is not None:
        _move(wide, change)
    return Wide(wide, constant)


def weights(model: Any) -> dict[str, Array]:
    """Every parameter and buffer of floats by name, as it is."""
    tensors = dict(_tensors(module_of(model)))
    return {name: to_numpy(tensor) for name, tensor in tensors.items() if tensor.is_floating_point()}


def size(model: Any) -> int:
    """The number of weights."""
    return sum(tensor.numel() for _, tensor in _tensors(module_of(model)) if tensor.is_floating_point())


def constants(model: Any) -> set[float]:
    """The floats that modules hold as attributes and that the code of their ``forward`` spells out."""
    found: set[float] = set()
    for part in module_of(model).modules():
        found |= {value for value in vars(part).values() if isinstance(value, float)}
        code = getattr(getattr(type(part), "forward", None), "__code__", None)
        found |= {value for value in getattr(code, "co_consts", ()) if isinstance(value, float)}
        if isinstance(part, torch.fx.GraphModule):
            found |= {arg for node in part.graph.nodes for arg in node.args if isinstance(arg, float)}
    return found


def narrowest(model: Any) -> str:
    """The shortest float dtype among the model's weights."""
    kinds = {tensor.dtype for _, tensor in _tensors(module_of(model))}
    order = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    return str(next((kind for kind in order if kind in kinds), torch.float32)).removeprefix("torch.")


def run_rounded(wide: Wide, arrays: Sequence[Array], u: float, seed: int) -> dict[str, Array]:
    """Outputs of a float64 run whose every operation rounds to ``u`` by chance."""
    with _Rounded(Rounding(u, seed, KINDS)):
        return live.run(wide, arrays)


class Wide(nn.Module):
    """A widened module that reads float32 as float64 wherever its code says it; ``constants`` are the floats that its
    code has handed to operators so far."""

    def __init__(self, inner: nn.Module, constant: Callable[[float], float]) -> None:
        super().__init__()
        self.inner, self._constant = inner, constant
        fast_path.hook(inner)
        _NOTED[self] = set()

    @property
    def constants(self) -> set[float]:
        return _NOTED[self]

    def forward(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with _Widening(self._noted):
                result = self.inner(*(t.double() if t.is_floating_point() else t for t in tensors))
        finally:
            torch.set_default_dtype(before)
        return outputs_of(self.inner, result)

    def _noted(self, value: float) -> float:
        self.constants.add(value)
        return self._constant(value)


_NOTED: MutableMapping[Wide, set[float]] = WeakKeyDictionary()
"""Beside the modules, which each run leaves as they were."""


class _Widening(TorchFunctionMode):
    """Calls with every narrow float dtype among their arguments replaced, and every float rounded as float32 has it."""

    def __init__(self, constant: Callable[[float], float]) -> None:
        super().__init__()
        self._constant = constant

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _CASTS:
            return args[0].double()
        constant = self._grown if func in _SIZING else self._constant
        wide = [_wide(value, constant) for value in args]
        return func(*wide, **{name: _wide(value, constant) for name, value in (kwargs or {}).items()})

    def _grown(self, value: float) -> float:
        """Never below the number itself: a size that is made of it must stay what it is."""
        return max(value, self._constant(value))


_CASTS = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}

_SIZING = {
    torch.nn.functional.interpolate,
    torch.nn.functional.upsample,
    torch.arange,
    torch.range,
    torch.linspace,
}
"""Functions that make sizes of their floats, in double precision."""


def _changed_constant(change: Change) -> Callable[[float], float]:
    return lambda value: float(change("", np.asarray(as_float32(value))))


def _wide(value: Any, constant: Callable[[float], float]) -> Any:
    if isinstance(value, float):
        return constant(value)
    if isinstance(value, tuple | list) and value and all(type(item) is float for item in value):
        return type(value)(map(constant, value))
    return torch.float64 if isinstance(value, torch.dtype) and value in NARROW else value


def _widen_graph(module: torch.fx.GraphModule, constant: Callable[[float], float]) -> None:
    """Dtypes and floats that an exported program has in its graph."""

    def wide(value: Any) -> Any:
        return _wide(value, constant)

    for part in module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for node in part.graph.nodes:
            if node.target is torch.ops.aten._assert_tensor_metadata.default:
                node.kwargs = {}
            node.args = torch.fx.node.map_aggregate(node.args, wide)
            node.kwargs = torch.fx.node.map_aggregate(node.kwargs, wide)
        for node in list(part.graph.nodes):
            if node.target is torch.ops.aten._assert_tensor_metadata.default:
                part.graph.erase_node(node)
        part.recompile()


KINDS = table(
    EXACT="""_to_copy _unique2 abs amax amin argmax argmin as_strided cat ceil clamp clamp_max clamp_min clone constant_pad_nd
        contiguous copy copy_ cummax cummin detach embedding empty empty_like expand fill_ fill flip floor full full_like
        gather hardtanh im2col index index_put index_put_ index_select kthvalue lift_fresh masked_fill masked_fill_
        masked_scatter max max_pool1d max_pool2d_with_indices max_pool3d_with_indices maximum median min minimum mode neg
        new_full new_zeros nonzero one_hot ones ones_like permute pixel_shuffle pixel_unshuffle reflection_pad1d
        reflection_pad2d reflection_pad3d relu relu_ repeat repeat_interleave replication_pad1d replication_pad2d
        replication_pad3d roll round scatter scatter_ select_scatter sgn sign slice_scatter sort stack threshold topk tril
        triu trunc unfold upsample_nearest1d upsample_nearest2d upsample_nearest3d where zero_ zeros zeros_like""",
    INEXACT="""acos acosh asin asinh atan atan2 atanh celu cos cosh elu erf erfc erfinv exp exp2 expm1 gelu log log10 log1p
        log2 _log_softmax logaddexp mish pow selu silu sin sinh softplus special_erf tan tanh""",
    BOUNDED="sigmoid sigmoid_ _softmax _safe_softmax",
    SUM="""_adaptive_avg_pool2d _adaptive_avg_pool3d _cdist_forward _native_batch_norm_legit_no_training addbmm addcmul
        addmm addmv avg_pool1d avg_pool2d avg_pool3d baddbmm bmm convolution cumprod cumsum dot grid_sampler_2d
        grid_sampler_3d linear linalg_vector_norm logsumexp mean mm mv native_batch_norm native_group_norm
        native_layer_norm norm prod std sum upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_trilinear3d
        var var_mean""",
    COMPOUND="""_native_multi_head_attention _scaled_dot_product_flash_attention_for_cpu _thnn_fused_gru_cell
        _thnn_fused_lstm_cell _transformer_encoder_layer_fwd""",
)
"""ATen operators by how they round; what is not named rounds where the format does not represent its result."""


class _Rounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Moves the float64 results of each operator that computes; views are left as they are."""

    def __init__(self, rounding: Rounding) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rounding = rounding

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if self._rounding.kind(name) is Kind.COMPOUND:
            args = [self._moved_operand(name, one) for one in args]
        result = func(*args, **(kwargs or {}))
        if self._rounding.kind(name) is Kind.EXACT:
            return result
        given = result if isinstance(result, tuple | list) else (result,)
        for tensor, returned in zip(given, func._schema.returns, strict=False):
            alias = returned.alias_info
            if alias is not None and not alias.is_write:
                continue
            for part in tensor if isinstance(tensor, list) else (tensor,):
                self._move(name, part)
        return result

    def _moved_operand(self, name: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype is not torch.float64 or value.is_nested:
            return value
        return torch.from_numpy(np.array(self._rounding.operand(name, value.numpy())))

    def _move(self, name: str, tensor: Any) -> None:
        if isinstance(tensor, torch.Tensor) and tensor.dtype is torch.float64 and not tensor.is_nested:
            tensor.copy_(torch.from_numpy(np.array(self._rounding.result(name, tensor.numpy()))))


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _move(module: nn.Module, change: Change) -> None:
    with torch.no_grad():
        for name, tensor in _tensors(module):
            if tensor.is_floating_point():
                moved = np.ascontiguousarray(change(name, tensor.cpu().numpy()))
                tensor.copy_(torch.from_numpy(moved))
