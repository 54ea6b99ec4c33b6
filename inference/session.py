"""An onnxruntime session that never changes device in silence."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.disk.ledger import Overwriting, digest_of
from netferry.converters.disk.staging import staged
from netferry.converters.errors import NetferryError, RefusedError, UsageError, WriteError
from netferry.converters.onnx import live
from netferry.converters.onnx.files import external_files
from netferry.converters.signature import Array, Signature
from netferry.inference.binding import bind, fitter, spec_of
from netferry.inference.devices import CPU, CUDA, PROVIDERS, choose, no_cuda, require_onnxruntime

_PROTOBUF_LIMIT = 1_800_000_000
_GRAPH = "optimised graph"
"""What is kept here, as the ledger has it."""
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


class Session:
    """A model ready to run: ``Session("model.onnx").run({"x": array})``.

    ``device`` is ``cpu``, ``cuda``, or ``auto`` (CUDA where it can be had); ``.device`` says which it is.
    ``spinning=False`` lets onnxruntime's threads sleep between runs, where other work lies between them.
    ``optimize=False`` turns onnxruntime's graph optimisations off. ``folder`` is where a model in memory
    has its external data. ``tf32`` lets CUDA round products to 10 bits. ``cache`` is a folder for the graph as
    onnxruntime has optimised it for this model, version, device and processor; it is loaded from there next time.
    """

    def __init__(
        self,
        model: Any,
        device: str = CPU,
        *,
        threads: int | None = None,
        spinning: bool = True,
        optimize: bool = True,
        tf32: bool = False,
        cache: str | os.PathLike[str] | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        ort = require_onnxruntime()
        cache, folder = (None if one is None else Path(one) for one in (cache, folder))
        self.device = choose(device)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        options.add_session_config_entry(
            "session.load_model_format", "ONNX"
        )  # whatever its name or first bytes say
        if threads is not None:
            options.intra_op_num_threads = threads
        if not spinning:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if folder is not None:
            options.add_session_config_entry(_WEIGHTS_FOLDER, str(folder.resolve()))
        source = os.fspath(model) if isinstance(model, str | os.PathLike) else _bytes(model)
        providers: list[Any] = [PROVIDERS[CPU]]
        if self.device == CUDA:
            providers.insert(0, (PROVIDERS[CUDA], {"use_tf32": int(tf32)}))
        try:
            with _cached(cache, source, folder, options, self.device) as graph:
                # Without fallback: onnxruntime would open, or run, the model on the CPU when CUDA fails.
                self._session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
        except NetferryError:
            raise
        except Exception as error:  # onnxruntime raises its own family, not exported as one class
            raise RefusedError(
                f"onnxruntime refuses the model ({_first_line(error)})",
                where=str(model) if isinstance(source, str) else None,
            ) from error
        if self._session.get_providers()[0] != PROVIDERS[self.device]:
            raise no_cuda()
        inputs = tuple(spec_of(node) for node in self._session.get_inputs())
        unknown = live.unranked(model) if any(spec.dims == () for spec in inputs) else ()
        self.signature = Signature(
            tuple(replace(spec, dims=None) if spec.name in unknown else spec for spec in inputs),
            tuple(spec_of(node) for node in self._session.get_outputs()),
        )
        self._names = [spec.name for spec in self.signature.outputs]
        self._fits = fitter(self.signature)

    def __repr__(self) -> str:
        return f"<Session on {self.device}: {self.signature}>"

    def run(self, inputs: Mapping[str, Any] | Sequence[Any]) -> dict[str, Array]:
        """Run once; arrays are bound by name, or by position where they come as a sequence.

        Tensors of PyTorch, TensorFlow and whatever speaks DLPack are taken without a copy: on the CPU in any session,
        on the GPU in one that runs there.
        """
        feed = inputs if self._fits(inputs) else bind(inputs, self.signature, self.device)
        if self.device == CUDA and not _all_arrays(feed):
            return {name: value.numpy() for name, value in self._bound(feed, CPU).items()}
        try:
            values = self._session.run(self._names, feed)
        except Exception as error:  # as above
            raise _could_not_run(error) from error
        return dict(zip(self._names, values, strict=True))

    def run_on_device(self, inputs: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
        """Run once, and leave the outputs in the memory of the session's device.

        Each is a value that speaks DLPack (``torch.from_dlpack(outputs["y"])``) and may be an input of another session.
        """
        return self._bound(bind(inputs, self.signature, self.device), self.device)

    def _bound(self, feed: Mapping[str, Any], device_name: str) -> dict[str, Any]:
        """Run once on arrays and values of the device; the outputs as onnxruntime's values on ``device_name``."""
        binding = self._session.io_binding()
        try:
            binding.synchronize_inputs()  # whoever computes the tensors, on whatever stream, is done
            for name, value in feed.items():
                if isinstance(value, np.ndarray):
                    binding.bind_cpu_input(name, np.ascontiguousarray(value))
                else:
                    binding.bind_ortvalue_input(name, value)
            for name in self._names:
                binding.bind_output(name, device_name)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # as above
            raise _could_not_run(error) from error
        return dict(zip(self._names, binding.get_outputs(), strict=True))

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
            raise _could_not_run(error) from error
        return dict(zip(names, values, strict=True))

    def placement(self) -> dict[str, list[str]]:
        """Which provider runs which nodes: ``{provider: [node names]}``."""
        assignment: dict[str, list[str]] = {}
        for part in self._session.get_provider_graph_assignment_info():
            nodes = assignment.setdefault(part.ep_name, [])
            nodes.extend(node.name or node.op_type for node in part.get_nodes())
        return assignment

    @property
    def where(self) -> str:
        """The device, and how much of the graph it leaves to the CPU."""
        placed = self.placement()
        left = len(placed.get(PROVIDERS[CPU], ()))
        if self.device == CPU or not left:
            return self.device
        return f"{self.device}, {left} of {sum(map(len, placed.values()))} nodes on the cpu"


class Prepared:
    """A session with buffers of fixed sizes, used again by every run.

    ``run`` gives the same output arrays each time: copy what has to outlive the next run.
    """

    def __init__(self, session: Session, feed: Mapping[str, Array]) -> None:
        self._session = session._session
        self._stays = session.device == CPU
        self._inputs = {name: np.array(array, order="C") for name, array in feed.items()}
        self.outputs = {
            name: np.array(array, order="C") for name, array in session.run(dict(self._inputs)).items()
        }
        self._binding = self._session.io_binding()
        self._bind_inputs()
        for name, array in self.outputs.items():
            self._binding.bind_output(name, CPU, 0, array.dtype.type, array.shape, array.ctypes.data)

    def _bind_inputs(self) -> None:
        for name, array in self._inputs.items():
            self._binding.bind_input(name, CPU, 0, array.dtype.type, array.shape, array.ctypes.data)

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
            if not self._stays:  # a buffer goes to the GPU when it is bound, not when the model runs
                self._bind_inputs()
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # as above
            raise _could_not_run(error) from error
        return self.outputs


def _could_not_run(error: Exception) -> RefusedError:
    return RefusedError(f"onnxruntime could not run the model ({_first_line(error)})")


def _all_arrays(feed: Mapping[str, Any]) -> bool:
    return all(isinstance(value, np.ndarray) for value in feed.values())


@contextmanager
def _cached(
    cache: Path | None, source: str | bytes, folder: Path | None, options: Any, device: str
) -> Iterator[str | bytes]:
    """What to load: the optimised graph where the cache has it; else the source, whose optimised graph goes there."""
    ort = require_onnxruntime()
    if cache is None or options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL:
        yield source
        return
    digest = _digest(source, folder, f"{ort.__version__} {device} {_processor()}")
    if digest is None:
        yield source
        return
    kept = cache / f"{digest[:32]}.onnx"
    graph = _whole(kept)
    if graph is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if folder is None and not isinstance(source, bytes):
            options.add_session_config_entry(_WEIGHTS_FOLDER, str(Path(source).parent.resolve()))
        yield graph  # from memory: the weights beside the source are not beside it
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write here ({error.strerror})", where=str(cache)) from error
    with staged(kept, _GRAPH, Overwriting(force=True)) as stage:  # its name is a digest: no one else's file
        options.optimized_model_filepath = str(stage)
        yield source


def _digest(source: str | bytes, folder: Path | None, machine: str) -> str | None:
    """Of all that a model holds, the files with its weights among it; None where the whole is too large to be kept."""
    path = None if isinstance(source, bytes) else Path(source)
    size = len(source) if path is None else path.stat().st_size if path.is_file() else 0
    if size > _PROTOBUF_LIMIT:
        return None
    content = source if isinstance(source, bytes) else Path(source).read_bytes() if size else b""
    digest = hashlib.sha256(machine.encode() + content)
    files = external_files(content, folder or (path.parent if path else Path()), str(path or "the model"))
    if size + sum(file.stat().st_size for file in files.values() if file.is_file()) > _PROTOBUF_LIMIT:
        return None
    for device_name, file in files.items():
        digest.update(device_name.encode())
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _whole(kept: Path) -> bytes | None:
    """A kept graph, as it was written; one that is damaged, or was changed since, is made anew."""
    written = digest_of(kept, _GRAPH)
    try:
        graph = kept.read_bytes() if written is not None and kept.is_file() else b""
    except OSError:
        return None
    return graph if graph and hashlib.sha256(graph).hexdigest() == written else None


def _processor() -> str:
    """What onnxruntime's optimisations for a processor may depend on."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")


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
