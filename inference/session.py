"""An onnxruntime session that never changes device in silence."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.errors import MissingError, NetferryError, RefusedError, UsageError, WriteError
from netferry.converters.frameworks import installed_version
from netferry.converters.onnx import live
from netferry.converters.signature import Array, Signature, TensorSpec
from netferry.converters.staging import staged

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
    ``optimize=False`` turns onnxruntime's graph optimisations off. ``folder`` is where a model in memory
    has its external data. ``tf32`` lets CUDA round products to 10 bits. ``cache`` is a folder for the graph as
    onnxruntime has optimised it for this model, version, device and processor; it is loaded from there next time.
    """

    def __init__(
        self,
        model: Any,
        device: str = "cpu",
        *,
        threads: int | None = None,
        optimize: bool = True,
        tf32: bool = False,
        cache: Path | None = None,
        folder: Path | None = None,
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
        if folder is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(folder.resolve())
            )
        source = os.fspath(model) if isinstance(model, str | os.PathLike) else _bytes(model)
        providers: list[Any] = [PROVIDERS["cpu"]]
        if self.device == "cuda":
            providers.insert(0, (PROVIDERS["cuda"], {"use_tf32": int(tf32)}))
        try:
            with _cached(cache, source, folder, options, self.device) as graph:
                self._session = ort.InferenceSession(graph, options, providers=providers)
        except NetferryError:
            raise
        except Exception as error:  # onnxruntime raises its own family, not exported as one class
            raise RefusedError(
                f"onnxruntime refuses the model ({_first_line(error)})",
                where=str(model) if isinstance(source, str) else None,
            ) from error
        if self._session.get_providers()[0] != PROVIDERS[self.device]:
            raise _no_cuda()
        self.signature = Signature(
            tuple(_spec(node) for node in self._session.get_inputs()),
            tuple(_spec(node) for node in self._session.get_outputs()),
        )

        self._names = [spec.name for spec in self.signature.outputs]
        self._fits = fitter(self.signature)

    def run(self, inputs: Mapping[str, Any] | Sequence[Any]) -> dict[str, Array]:
        """Run once; arrays are bound by name, or by position where they come as a sequence.

        Tensors of PyTorch and TensorFlow are taken without a copy where they lie on the CPU.
        """
        feed = inputs if self._fits(inputs) else bind(inputs, self.signature)
        try:
            values = self._session.run(self._names, feed)
        except Exception as error:  # as above
            raise RefusedError(f"onnxruntime could not run the model ({_first_line(error)})") from error
        return dict(zip(self._names, values, strict=True))

    def prepared(self, inputs: Mapping[str, Any] | Sequence[Any]) -> Prepared:
        """The model with its inputs and outputs bound to buffers of these sizes: for small models that run often."""
        return Prepared(self, bind(inputs, self.signature))

    def warm_up(self, inputs: Mapping[str, Any] | Sequence[Any], runs: int = 3) -> None:
        """Run a few times, so that the first run that counts finds memory and kernels ready."""
        for _ in range(runs):
            self.run(inputs)

    def raw(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run once on values by name, tensors or sequences, that are known to fit."""
        names = [node.name for node in self._session.get_outputs()]
        try:
            values = self._session.run(names, dict(inputs))
        except Exception as error:  # as above
            raise RefusedError(f"onnxruntime could not run the model ({_first_line(error)})") from error
        return dict(zip(names, values, strict=True))

    def placement(self) -> dict[str, list[str]]:
        """Which provider runs which nodes: ``{provider: [node names]}``."""
        assignment: dict[str, list[str]] = {}
        for part in self._session.get_provider_graph_assignment_info():
            nodes = assignment.setdefault(part.ep_name, [])
            nodes.extend(node.name or node.op_type for node in part.get_nodes())
        return assignment


class Prepared:
    """A session with buffers of fixed sizes, used again by every run.

    ``run`` gives the same output arrays each time: copy what has to outlive the next run.
    """

    def __init__(self, session: Session, feed: Mapping[str, Array]) -> None:
        self._session = session._session
        self._inputs = {name: np.array(array, order="C") for name, array in feed.items()}
        self.outputs = {
            name: np.array(array, order="C") for name, array in session.run(dict(self._inputs)).items()
        }
        self._binding = self._session.io_binding()
        for name, array in self._inputs.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in self.outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once on arrays of the sizes that this was prepared for, by name."""
        for name, buffer in self._inputs.items():
            array = inputs.get(name)
            if array is None or array.shape != buffer.shape or array.dtype != buffer.dtype:
                raise UsageError(
                    f"input '{name}' is not what the session was prepared for",
                    expected=f"{buffer.dtype}{list(buffer.shape)}",
                    received="nothing" if array is None else f"{array.dtype}{list(array.shape)}",
                )
            buffer[...] = array
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # as above
            raise RefusedError(f"onnxruntime could not run the model ({_first_line(error)})") from error
        return self.outputs


@contextmanager
def _cached(
    cache: Path | None, source: str | bytes, folder: Path | None, options: Any, device: str
) -> Iterator[str | bytes]:
    """What to load: the optimised graph where the cache has it; else the source, whose optimised graph goes there."""
    ort = require_onnxruntime()
    if cache is None or options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL:
        yield source
        return
    digest = hashlib.sha256(f"{ort.__version__} {device} {_processor()} {folder}".encode())
    if isinstance(source, bytes):
        digest.update(source)
    else:
        stat = Path(source).stat()
        digest.update(f"{Path(source).resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
    kept = cache / f"{digest.hexdigest()[:32]}.onnx"
    if _is_whole(kept):
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        yield str(kept)
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write here ({error.strerror})", where=str(cache)) from error
    with staged(kept) as stage:
        options.optimized_model_filepath = str(stage)
        yield source


def _is_whole(kept: Path) -> bool:
    """Whether a kept graph can still be read: a damaged one is made anew."""
    if not kept.is_file():
        return False
    import onnx

    try:
        onnx.load(kept, load_external_data=False)
    except Exception:  # protobuf's family
        return False
    return True


def _processor() -> str:
    """What onnxruntime's optimisations for a processor may depend on."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")


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
    return {spec.name: _fitting(_array(value), spec) for spec, value in zip(specs, values, strict=True)}


def fitter(signature: Signature) -> Callable[[Any], bool]:
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

    def fits(inputs: Any) -> bool:
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


def _array(value: Any) -> Array:
    """numpy's view of a tensor of any framework that speaks DLPack on the CPU; whatever else, as numpy has it."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    try:
        return np.from_dlpack(value.detach() if hasattr(value, "detach") else value)
    except (RuntimeError, TypeError, BufferError):  # on another device, or a dtype that numpy has not
        pass
    try:
        return np.asarray(value)
    except TypeError as error:
        raise UsageError(
            "a tensor that numpy cannot hold", received=str(getattr(value, "dtype", type(value)))
        ) from error


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
