"""An onnxruntime session that never changes device in silence."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from netferry.converters.errors import MissingError, RefusedError, UsageError
from netferry.converters.frameworks import installed_version
from netferry.converters.onnx import live
from netferry.converters.signature import Array, Signature, TensorSpec

PROVIDERS: Mapping[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

CUDA_LIBRARIES: Mapping[str, str] = {
    "libcuda.so.1": "the NVIDIA driver",
    "libcudart.so.13": "nvidia-cuda-runtime",
    "libcublasLt.so.13": "nvidia-cublas",
    "libcudnn.so.9": "nvidia-cudnn-cu13",
}
"""What onnxruntime-gpu loads for CUDA, and which package brings it."""

_PROTOBUF_LIMIT = 1_800_000_000


class Session:
    """A model ready to run: ``Session("model.onnx").run({"x": array})``.

    ``device`` is ``cpu``, ``cuda``, or ``auto`` (CUDA where it can be had); ``.device`` says which it is.
    ``optimize=False`` turns onnxruntime's graph optimisations off.
    """

    def __init__(
        self, model: Any, device: str = "cpu", *, threads: int | None = None, optimize: bool = True
    ) -> None:
        ort = require_onnxruntime()
        self.device = _choose(device)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        source = os.fspath(model) if isinstance(model, str | os.PathLike) else _bytes(model)
        providers = [PROVIDERS["cpu"]] if self.device == "cpu" else [PROVIDERS["cuda"], PROVIDERS["cpu"]]
        try:
            self._session = ort.InferenceSession(source, options, providers=providers)
        except Exception as error:  # onnxruntime raises its own family, not exported as one class
            raise RefusedError(
                f"onnxruntime refuses the model ({_first_line(error)})",
                where=str(model) if isinstance(source, str) else None,
            ) from error
        if self._session.get_providers()[0] != providers[0]:
            raise _no_cuda()
        self.signature = Signature(
            tuple(_spec(node) for node in self._session.get_inputs()),
            tuple(_spec(node) for node in self._session.get_outputs()),
        )

    def run(self, inputs: Mapping[str, Any] | Sequence[Any]) -> dict[str, Array]:
        """Run once; arrays are bound by name, or by position where they come as a sequence."""
        feed = bind(inputs, self.signature)
        try:
            values = self._session.run(None, feed)
        except Exception as error:  # as above
            raise RefusedError(f"onnxruntime could not run the model ({_first_line(error)})") from error
        return dict(zip((spec.name for spec in self.signature.outputs), values, strict=True))

    def placement(self) -> dict[str, list[str]]:
        """Which provider runs which nodes: ``{provider: [node names]}``."""
        assignment: dict[str, list[str]] = {}
        for part in self._session.get_provider_graph_assignment_info():
            nodes = assignment.setdefault(part.ep_name, [])
            nodes.extend(node.name or node.op_type for node in part.get_nodes())
        return assignment


def require_onnxruntime() -> Any:
    """onnxruntime, or the one line that says how to get it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingError(
            "onnxruntime is not installed",
            remedy='Install it: pip install "netferry[cpu]", or "netferry[gpu]" for CUDA',
        ) from error
    return onnxruntime


def missing_cuda_libraries() -> dict[str, str]:
    """The CUDA libraries that cannot be loaded, each with what brings it."""
    ort = require_onnxruntime()
    if hasattr(ort, "preload_dlls"):
        with redirect_stdout(StringIO()):  # it prints what it does not find; we say it ourselves
            ort.preload_dlls()
    missing = {}
    for library, origin in CUDA_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing[library] = origin
    return missing


def installed_onnxruntimes() -> dict[str, str]:
    """The onnxruntime wheels that are installed: two at once overwrite each other's files."""
    return {
        name: version
        for name in ("onnxruntime", "onnxruntime-gpu")
        if (version := installed_version(name)) is not None
    }


def bind(inputs: Mapping[str, Any] | Sequence[Any], signature: Signature) -> dict[str, Array]:
    """Give each input of the signature its array, and check dtype and sizes.

    A mapping with the model's own names is bound by name, any other by position.
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
    if names is not None and set(names) == {spec.name for spec in specs}:
        assert isinstance(inputs, Mapping)
        values = [inputs[spec.name] for spec in specs]
    return {spec.name: _fitting(np.asarray(value), spec) for spec, value in zip(specs, values, strict=True)}


def _fitting(array: Array, spec: TensorSpec) -> Array:
    if array.dtype != spec.dtype:
        raise UsageError(f"input '{spec.name}' has another dtype", expected=spec.dtype, received=array.dtype)
    if spec.dims is not None and not (
        len(spec.dims) == array.ndim
        and all(not isinstance(d, int) or d == n for d, n in zip(spec.dims, array.shape, strict=True))
    ):
        raise UsageError(
            f"input '{spec.name}' has another shape", expected=str(spec), received=tuple(array.shape)
        )
    return array


def _choose(device: str) -> str:
    if device not in (*PROVIDERS, "auto"):
        raise UsageError("no such device", expected="cpu, cuda or auto", received=device)
    if device == "cpu":
        return device
    available = PROVIDERS["cuda"] in require_onnxruntime().get_available_providers()
    ready = available and not missing_cuda_libraries()
    if device == "cuda" and not ready:
        raise _no_cuda()
    return "cuda" if ready else "cpu"


def _no_cuda() -> MissingError:
    if PROVIDERS["cuda"] not in require_onnxruntime().get_available_providers():
        return MissingError(
            "this onnxruntime has no CUDA",
            received=", ".join(installed_onnxruntimes()) or "a build of its own",
            remedy='Exchange it: pip uninstall -y onnxruntime && pip install "netferry[gpu]"',
        )
    missing = missing_cuda_libraries()
    driver = "libcuda.so.1" in missing
    return MissingError(
        "CUDA cannot be had here",
        expected="a GPU with its driver and libraries",
        received="missing: " + ", ".join(f"{lib} ({origin})" for lib, origin in missing.items())
        if missing
        else "onnxruntime could not start its CUDA provider",
        remedy="Install the NVIDIA driver for your GPU, or choose --device cpu"
        if driver
        else 'Install the libraries: pip install "onnxruntime-gpu[cuda,cudnn]"',
    )


_ORT_DTYPES: Mapping[str, str] = {"float": "float32", "double": "float64"}


def _spec(node: Any) -> TensorSpec:
    word = node.type.removeprefix("tensor(").removesuffix(")")
    try:
        dtype = np.dtype(_ORT_DTYPES.get(word, word))
    except TypeError:
        raise RefusedError(f"'{node.name}' has a type that netferry does not run ({node.type})") from None
    dims = tuple(dim if isinstance(dim, int | str) else None for dim in node.shape)
    return TensorSpec(node.name, dtype, dims)


def _bytes(model: Any) -> bytes:
    if isinstance(model, bytes):
        return model
    proto = live.proto(model)
    if proto.ByteSize() > _PROTOBUF_LIMIT:
        raise UsageError(
            "the model is too large to run from memory", remedy="Save it, and give the path of the file"
        )
    content: bytes = proto.SerializeToString()
    return content


def _first_line(error: Exception) -> str:
    return (
        str(error).strip().splitlines()[0].rpartition("] ")[2] if str(error).strip() else type(error).__name__
    )
