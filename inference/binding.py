"""A call's values as a model's inputs: bound by name or position, checked, and not copied.

Arrays and tensors on the CPU become numpy's views of the same memory; tensors on the GPU stay there, as
onnxruntime's view of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from netferry.converters.errors import MissingError, RefusedError, UsageError, first_line, nearest
from netferry.converters.onnx.live import WITHOUT_MAPS
from netferry.converters.signature import NAMELESS, Array, Dim, Signature, TensorSpec, as_array
from netferry.inference.devices import CPU, CUDA, require_onnxruntime

_CPU, _CUDA, _PINNED, _MANAGED = 1, 2, 3, 13
"""DLPack's numbers for where a tensor lies; what is pinned or managed the CPU can read as its own."""

_PLACES: Mapping[int, str] = {_CPU: CPU, _PINNED: CPU, _MANAGED: CPU, _CUDA: CUDA}

_DTYPES: Mapping[str, str] = {"float": "float32", "double": "float64"}
"""onnxruntime's names of dtypes where they are not numpy's."""


def bind(
    inputs: Mapping[str, Any] | Sequence[Any], signature: Signature, device: str = CPU
) -> dict[str, Any]:
    """Give each input of the signature its value, and check dtype and sizes.

    A mapping is bound by name, a sequence by position. Values are arrays, or, where they
    lie on the GPU that ``device`` names, onnxruntime's values.

    Raises:
        UsageError: something does not fit, or lies on another device than the model.
    """
    specs = signature.inputs
    values = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
    names = list(inputs) if isinstance(inputs, Mapping) else None
    if len(values) != len(specs):
        raise UsageError(
            "the number of inputs does not fit",
            expected=f"{len(specs)} ({', '.join(map(str, specs))})",
            received=f"{len(values)}{f' ({chr(44).join(names)})' if names else ''}",
        )
    own = {spec.name for spec in specs}
    if isinstance(inputs, Mapping):
        if own != inputs.keys():
            strange = [name for name in inputs if name not in own]
            raise UsageError(
                f"no such input: {', '.join(map(repr, strange))}",
                expected=", ".join(spec.name for spec in specs),
                received=", ".join(inputs),
                remedy=nearest(strange[0], own, "A list, without names, is bound by position"),
            )
        values = [inputs[spec.name] for spec in specs]
    return {spec.name: _fitting(value, spec, device) for spec, value in zip(specs, values, strict=True)}


def rebind(arrays: Mapping[str, Array], signature: Signature) -> dict[str, Array]:
    """The inputs of one model as those of another: by name where both have the same names, else in their order."""
    own = {spec.name for spec in signature.inputs}
    return bind(arrays if own == arrays.keys() else list(arrays.values()), signature)


def fitter(signature: Signature) -> Callable[[Any], TypeGuard[dict[str, Array]]]:
    """A quick test whether a mapping is already what ``bind`` would make of it: names, dtypes, ranks, fixed sizes."""
    wanted = [
        (
            spec.name,
            spec.dtype,
            len(spec.dims),
            [(i, d) for i, d in enumerate(spec.dims) if isinstance(d, int)],
        )
        for spec in signature.inputs
        if spec.dims is not None
    ]
    complete, count, array_type = len(wanted) == len(signature.inputs), len(wanted), np.ndarray

    def fits(inputs: Any) -> TypeGuard[dict[str, Array]]:
        if not complete or type(inputs) is not dict or len(inputs) != count:
            return False
        for name, dtype, rank, fixed in wanted:
            array = inputs.get(name)
            if type(array) is not array_type or array.dtype != dtype or array.ndim != rank:
                return False
            shape = array.shape
            for axis, size in fixed:
                if shape[axis] != size:
                    return False
        return True

    return fits


def spec_of(node: Any) -> TensorSpec:
    """What onnxruntime says of an input or output."""
    return TensorSpec(node.name, _dtype(node.name, node.type), tuple(map(_dim, node.shape)))


def _dim(dim: object) -> Dim:
    """A size, or the name of a free one; sizes below 0 and what is no name are unknown."""
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    return dim if isinstance(dim, str) and dim != NAMELESS else None


def _dtype(name: str, kind: str) -> np.dtype[Any]:
    name_of = kind.removeprefix("tensor(").removesuffix(")")
    try:
        return np.dtype(_DTYPES.get(name_of, name_of))
    except (TypeError, ValueError):
        raise RefusedError(
            f"'{name}' has a type that netferry does not run ({kind})",
            remedy=WITHOUT_MAPS if "map(" in kind else None,
        ) from None


def _fitting(value: Any, spec: TensorSpec, device: str) -> Any:
    """The value as the model takes it, once it is known to fit."""
    where = _place(value)
    if where is None or where[0] == CPU:
        array = _array(value)
        _demand(spec, array.dtype, array.shape)
        return array
    if where != (device, 0):
        raise UsageError(
            f"input '{spec.name}' lies on another device than the model",
            expected="cuda:0" if device == CUDA else device,
            received=f"{where[0]}:{where[1]}",
            remedy="Move it there, or open the model with device='cuda'",
        )
    there = _on_gpu(value, spec)
    _demand(spec, _dtype(spec.name, there.data_type()), tuple(there.shape()))
    return there


def _demand(spec: TensorSpec, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if dtype != spec.dtype:
        raise UsageError(f"input '{spec.name}' has another dtype", expected=spec.dtype, received=dtype)
    if spec.dims is not None and not (
        len(spec.dims) == len(shape)
        and all(not isinstance(d, int) or d == n for d, n in zip(spec.dims, shape, strict=True))
    ):
        raise UsageError(f"input '{spec.name}' has another shape", expected=str(spec), received=shape)


def _place(value: Any) -> tuple[str, int] | None:
    """The device and its number where a tensor says them; None for whatever does not speak DLPack."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack_device__"):
        return None
    try:
        kind, number = value.__dlpack_device__()
    except Exception:  # a tensor without memory of its own: it is taken, or refused, as numpy sees it
        return None
    return _PLACES.get(int(kind), f"DLPack device {int(kind)}"), int(number)


def _on_gpu(value: Any, spec: TensorSpec) -> Any:
    """onnxruntime's view of a tensor in the GPU's memory; one whose numbers lie apart is put together there first."""
    ort_value = require_onnxruntime().OrtValue
    if isinstance(value, ort_value):
        return value
    if not hasattr(ort_value, "from_dlpack"):
        raise MissingError(
            "this onnxruntime takes no tensors that lie on the GPU",
            remedy="Upgrade it, or move the tensor to the CPU",
        )
    for wish in ("detach", "contiguous"):
        value = getattr(value, wish, lambda same=value: same)()
    try:
        return ort_value.from_dlpack(value)
    except Exception as error:  # onnxruntime's and the tensor's own families
        raise UsageError(
            f"input '{spec.name}' cannot be taken where it lies ({first_line(error)})",
            expected=str(spec),
            received=str(getattr(value, "dtype", type(value))),
        ) from error


def _array(value: Any) -> Array:
    """numpy's view of a tensor of any framework that speaks DLPack on the CPU; whatever else, as numpy has it."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return as_array(value)
    try:
        return np.from_dlpack(value.detach() if hasattr(value, "detach") else value)
    except (RuntimeError, TypeError, BufferError):  # a dtype that numpy has not
        pass
    try:
        return as_array(value)
    except TypeError as error:
        raise UsageError(
            "a tensor that numpy cannot hold", received=str(getattr(value, "dtype", type(value)))
        ) from error
