"""PyTorch models in memory: what they take and give, and running them."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import nn

from netferry.converters import origin
from netferry.converters.errors import CannotConvert, RefusedError, UsageError, first_line
from netferry.converters.pytorch import calling, fast_path
from netferry.converters.pytorch.calling import parameter_names, parameters
from netferry.converters.pytorch.huggingface import inputs
from netferry.converters.pytorch.outputs import outputs_of
from netferry.converters.pytorch.random_state import own_random_numbers
from netferry.converters.pytorch.snapshot import Snapshot
from netferry.converters.signature import (
    BATCH,
    BATCH_SHOWN,
    LADDER,
    SIZE_SHOWN,
    Array,
    Dim,
    Example,
    aligned,
)

DTYPES: Mapping[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
    torch.bool: np.dtype(np.bool_),
    torch.int8: np.dtype(np.int8),
    torch.int16: np.dtype(np.int16),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
    torch.uint8: np.dtype(np.uint8),
    torch.uint16: np.dtype(np.uint16),
    torch.uint32: np.dtype(np.uint32),
    torch.uint64: np.dtype(np.uint64),
}
BYTES: Mapping[torch.dtype, np.dtype[Any]] = {
    torch.float8_e4m3fn: np.dtype(ml_dtypes.float8_e4m3fn),
    torch.float8_e4m3fnuz: np.dtype(ml_dtypes.float8_e4m3fnuz),
    torch.float8_e5m2: np.dtype(ml_dtypes.float8_e5m2),
    torch.float8_e5m2fnuz: np.dtype(ml_dtypes.float8_e5m2fnuz),
    torch.float8_e8m0fnu: np.dtype(ml_dtypes.float8_e8m0fnu),
}
"""Types that imported models may take and give; PyTorch and numpy agree on their bits alone."""
NARROW: Mapping[np.dtype[Any], torch.dtype] = {
    np.dtype(ml_dtypes.int4): torch.int8,
    np.dtype(ml_dtypes.uint4): torch.uint8,
    np.dtype(ml_dtypes.int2): torch.int8,
    np.dtype(ml_dtypes.uint2): torch.uint8,
}
"""Types that PyTorch has not: what holds the same numbers."""
_TORCH: Mapping[np.dtype[Any], torch.dtype] = {native: dtype for dtype, native in DTYPES.items()}


def accepts(model: object) -> bool:
    """Modules, scripted modules (which are modules) and exported programs."""
    return isinstance(model, nn.Module | torch.export.ExportedProgram)


def run(model: Any, arrays: Sequence[Array]) -> dict[str, Array]:
    """Run in inference mode: inputs by position, outputs by name and in order."""
    module = module_of(model)
    device = device_of(module)
    tensors = [to_torch(array, device) for array in arrays]
    with inference(module):
        try:
            result = module(*tensors)
        except Exception as error:
            raise RefusedError(
                "the model does not run on these inputs",
                where=origin.named(model),
                expected=f"({', '.join(parameter_names(module))})",
                received=", ".join(f"{array.dtype.name}{list(array.shape)}" for array in arrays),
                remedy=f"PyTorch says: {first_line(error)}",
            ) from error
    return {name: to_numpy(tensor) for name, tensor in outputs_of(module, result).items()}


def run_otherwise(model: Any, arrays: Sequence[Array]) -> dict[str, Array] | None:
    """Run without the fast path of transformer layers; None where the model has no such layers."""
    module = module_of(model)
    if not fast_path.has_one(module):
        return None
    with _shared_change("fast path", fast_path.off):
        return run(model, arrays)


def examples_of(model: Any, given: Sequence[Example] | None) -> Sequence[Example]:
    """``given``, or the inputs that an exported program brings along; else the caller must give them."""
    if given is not None:
        return _in_parameter_order(model, given)
    if isinstance(model, torch.export.ExportedProgram) and model.example_inputs is not None:
        return _program_examples(model)
    if isinstance(getattr(model, "input_specs", None), Mapping):
        return _imported_examples(model)
    if (shown := getattr(type(model), "netferry_shown", None)) is not None:
        return tuple(shown)
    names = parameter_names(module_of(model))
    shown = ", ".join(f'"{name}": array' for name in names) or '"x": array'
    raise UsageError(
        "a PyTorch model does not say what its inputs look like",
        where=origin.named(model),
        remedy=f"Give example inputs: inputs={{{shown}}}, or --input {names[0] if names else 'x'}:1,3,224,224:f32",
    )


def _in_parameter_order(model: Any, given: Sequence[Example]) -> Sequence[Example]:
    """The inputs in the order of ``forward`` where all have names of its parameters, else as they come."""
    own = getattr(type(model), "netferry_inputs", None) or parameters(model)
    return given if own is None else aligned(given, list(own))


def called(model: Any, given: Sequence[Example] | None) -> Any:
    """The module as it takes these inputs by position, or, where none are given, those that its library knows it to take."""
    if given is None and inputs.is_known(model) and not hasattr(type(model), "netferry_inputs"):
        return calling.as_shown(model, inputs.shown(model))
    return calling.called(model, given)


def module_of(model: Any) -> nn.Module:
    """The module that runs: an exported program's is made of it."""
    if isinstance(model, torch.export.ExportedProgram):
        module = model.module(check_guards=False)
        vars(module)["output_names"] = getattr(model, "output_names", None)
        origin.remember(module, origin.named(model))
        return module
    assert isinstance(model, nn.Module)
    return model


def device_of(module: nn.Module) -> torch.device:
    """Where the model's weights lie."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, as people run a model; afterwards all that a run can change is what it was.

    Threads may run one model at once: the last to leave puts all back.
    """

    def evaluate() -> Callable[[], None]:
        before = Snapshot(module)
        modes = [
            (part, part.training) for part in module.modules() if hasattr(part, "training")
        ]  # a frozen script has none
        for part, _ in modes:
            part.training = False

        def undo() -> None:
            before.restore()
            _set_modes(modes)

        return undo

    with _shared_change(id(module), evaluate), own_random_numbers(), torch.no_grad():
        yield


@contextmanager
def layer_by_layer(module: nn.Module) -> Iterator[None]:
    """The same, without the fast path of PyTorch's transformer layers, which nothing can look into."""
    with _shared_change("fast path", fast_path.off), inference(module):
        yield


def _set_modes(modes: Sequence[tuple[nn.Module, bool]]) -> None:
    for part, training in modes:
        part.training = training


_LOCK = threading.Lock()
_CHANGES: dict[object, tuple[int, Callable[[], None]]] = {}


@contextmanager
def _shared_change(key: object, change: Callable[[], Callable[[], None]]) -> Iterator[None]:
    """A change that holds while anyone is inside: the first makes it, the last takes it back."""
    with _LOCK:
        count, undo = _CHANGES.get(key) or (0, change())
        _CHANGES[key] = count + 1, undo
    try:
        yield
    finally:
        with _LOCK:
            count, undo = _CHANGES.pop(key)
            if count > 1:
                _CHANGES[key] = count - 1, undo
            else:
                undo()


def to_numpy(tensor: torch.Tensor) -> Array:
    """The tensor's content; the memory is shared where it can be."""
    tensor = tensor.detach().cpu()
    if tensor.dtype in BYTES:
        return tensor.contiguous().view(torch.uint8).numpy().view(BYTES[tensor.dtype])
    dtype = numpy_dtype(tensor.dtype)
    if tensor.dtype is torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(dtype)
    return tensor.resolve_conj().resolve_neg().numpy()


def to_torch(array: Array, device: torch.device | None = None) -> torch.Tensor:
    """A tensor with a copy of the array, so that a model may write into its input."""
    if array.dtype in NARROW:
        return torch.from_numpy(array.astype(numpy_dtype(NARROW[array.dtype]))).to(device)
    for dtype, native in BYTES.items():
        if native == array.dtype:
            return torch.from_numpy(np.array(array).view(np.uint8)).view(dtype).to(device)
    dtype = torch_dtype(array.dtype)
    if dtype is torch.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(dtype).to(device)
    return torch.from_numpy(np.array(array)).to(device)


def shared(array: Array) -> torch.Tensor:
    """A tensor that shares the array's memory where PyTorch can: to be read, never to be written."""
    if array.dtype in NARROW or array.dtype not in _TORCH or _TORCH[array.dtype] is torch.bfloat16:
        return to_torch(array)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that a mapped file cannot be written
        return torch.from_numpy(array)


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    if dtype not in DTYPES:
        raise CannotConvert(f"ONNX has no dtype {dtype}")
    return DTYPES[dtype]


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    if dtype not in _TORCH:
        raise UsageError("PyTorch has no such dtype", received=dtype.name)
    return _TORCH[dtype]


def _imported_examples(model: Any) -> tuple[Example, ...]:
    """Inputs that an imported model runs on; it declares what it takes: ``{"x": ("float32", ("batch", 3))}``."""

    def of(size: int, rows: int) -> tuple[Example, ...]:
        specs = model.input_specs.items()
        return tuple(_imported_example(name, dtype, dims, size, rows) for name, (dtype, dims) in specs)

    for size, rows in product(LADDER, (BATCH_SHOWN, 1)):
        try:
            run(model, [example.array for example in of(size, rows)])
        except RefusedError:
            continue
        return of(size, rows)
    return of(SIZE_SHOWN, BATCH_SHOWN)


def _imported_example(name: str, dtype: str, dims: Sequence[Dim], size: int, rows: int) -> Example:
    rng = np.random.default_rng(0)
    shape = [d if isinstance(d, int) else rows if axis == 0 else size for axis, d in enumerate(dims)]
    array: Any = rng.integers(0, 2, shape) if np.dtype(dtype).kind in "biu" else rng.standard_normal(shape)
    free = {axis: d or f"{name}_{axis}" for axis, d in enumerate(dims) if not isinstance(d, int)}
    return Example(name, np.asarray(array).astype(dtype), free, asked=bool(free))


def _program_examples(program: torch.export.ExportedProgram) -> tuple[Example, ...]:
    args, kwargs = program.example_inputs
    if kwargs or not all(isinstance(arg, torch.Tensor) for arg in args):
        raise UsageError(
            "the exported program takes more than plain tensors by position",
            remedy="Export it again with tensors as its only arguments",
        )
    metas = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    return tuple(
        Example(name, to_numpy(arg), _free_axes(metas[name]), asked=True)
        for name, arg in zip(program.graph_signature.user_inputs, args, strict=True)
    )


def _free_axes(meta: torch.Tensor) -> dict[int, str]:
    """The axes that the program keeps free; the first one that leads an input is its batch."""
    return {
        axis: BATCH if axis == 0 else str(size)
        for axis, size in enumerate(meta.shape)
        if isinstance(size, torch.SymInt)
    }
