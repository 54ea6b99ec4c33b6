"""A PyTorch model against its ONNX file: exported at some sizes, run in onnxruntime at those and at others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from netferry.converters.exported import ExportedModel
from netferry.converters.pytorch import live
from netferry.converters.pytorch.to_onnx import to_onnx
from netferry.converters.signature import Array, Example

Shape = tuple[Any, ...]
"""Sizes; a letter is a free axis, of another size in each of the two runs."""

SIZES = ({"b": 3, "t": 6, "s": 4, "h": 8, "w": 12}, {"b": 1, "t": 9, "s": 7, "h": 12, "w": 16})
NAMES = {"b": "batch", "t": "length", "s": "past", "h": "height", "w": "width"}
KINDS = ("bool", "pos", "mask", "lengths", "float64", "float16")


class Fn(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args, *self.parts)


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight and every statistic of its own: neutral values hide mistakes."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if "running_var" in name:
                tensor.uniform_(0.3, 2.0)
            elif tensor.is_floating_point():
                tensor.normal_(0, 1 / max(tensor[0].numel() if tensor.dim() > 1 else 4, 1) ** 0.5)
    return module.train()


def arrays(shapes: tuple[Any, ...], sizes: Mapping[str, int], seed: int) -> list[Array]:
    """Normal floats; a word in front asks for others.

    ``("i64", 5, ...)`` are integers below 5, ``"pos"`` positive floats, ``"mask"`` ones with zeros behind them in
    each row, ``("lengths", 6, ...)`` integers from 1 to 6 of which one is 6.
    """
    rng = np.random.default_rng(seed)
    return [_array(rng, shape, sizes) for shape in shapes]


def _array(rng: np.random.Generator, shape: Shape, sizes: Mapping[str, int]) -> Array:
    kind, limit, named = _parts(shape)
    dims = [sizes.get(dim, dim) for dim in named]
    if kind == "i64":
        return rng.integers(0, limit, dims)
    if kind == "lengths":
        found = rng.integers(1, sizes.get(limit, limit) + 1, dims)
        found.flat[0] = sizes.get(limit, limit)
        return found
    if kind == "mask":
        kept = rng.integers(1, dims[-1] + 1, [*dims[:-1], 1])
        return (np.arange(dims[-1]) < kept).astype(np.int64)
    if kind == "bool":
        return rng.random(dims) < 0.4
    if kind == "pos":
        return rng.uniform(0.2, 3.0, dims).astype(np.float32)
    return rng.normal(size=dims).astype(kind or np.float32)


def _parts(shape: Shape) -> tuple[str | None, Any, Shape]:
    """The word in front, the number behind it, and the sizes."""
    kind = shape[0] if shape and shape[0] in (*KINDS, "i64") else None
    if kind in ("i64", "lengths"):
        return kind, shape[1], shape[2:]
    return kind, None, shape if kind is None else shape[1:]


def free_axes(shape: Shape) -> dict[int, str]:
    return {axis: NAMES[d] for axis, d in enumerate(_parts(shape)[2]) if isinstance(d, str)}


def export(
    module: nn.Module, *shapes: Shape, sizes: Mapping[str, int] = SIZES[0], **options: Any
) -> ExportedModel:
    examples = [
        Example(f"x{i}", array, free_axes(shape), asked=options.get("asked", True))
        for i, (shape, array) in enumerate(zip(shapes, arrays(shapes, sizes, 0), strict=True))
    ]
    return to_onnx(module, examples)


def session(found: ExportedModel) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(
        ir.to_proto(found.model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def check(module: nn.Module, *shapes: Shape, tolerance: float = 1e-5, route: str = "direct") -> ExportedModel:
    """Export at the first sizes, run at both, compare with PyTorch relative to the output's scale."""
    found = export(module, *shapes)
    assert found.route == route, found.notes
    running = session(found)
    for seed, sizes in enumerate(SIZES):
        given = arrays(shapes, sizes, seed)
        want = live.run(module, given)
        got = running.run(None, {i.name: a for i, a in zip(running.get_inputs(), given, strict=True)})
        assert [o.name for o in running.get_outputs()] == list(want)
        for name, b in zip(want, got, strict=True):
            a = want[name]
            assert a.dtype == b.dtype and a.shape == b.shape, (name, a.shape, b.shape, a.dtype, b.dtype)
            wide = np.complex128 if a.dtype.kind == "c" else np.float64
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            error = np.nanmax(np.abs(a.astype(wide) - b.astype(wide)), initial=0)
            assert error <= tolerance * max(np.nanmax(np.abs(a.astype(wide)), initial=0), 1e-6), (name, error)
    return found


def operators(found: ExportedModel) -> list[str]:
    return [node.op_type for node in found.model.graph]
