"""PyTorch's files: exported programs, TorchScript archives, and weights for a model that code builds.

What a file is was looked at before (``artifact.py``); a pickle that can run code is never loaded.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError, UsageError, first_line
from netferry.converters.graph.codegen.execution import module_of
from netferry.converters.imported import ImportedModel
from netferry.converters.pytorch import optimizer, safety
from netferry.converters.pytorch.huggingface import folder
from netferry.converters.pytorch.safety import agreement
from netferry.converters.pytorch.weights import load_weights, tensors_of
from netferry.converters.trust.permit import Looked

_NAMES = "output_names"
"""What an exported program keeps beside itself: the names of its outputs, a line each."""


__all__ = ["load_weights", "read", "write"]


def write(imported: ImportedModel, path: Path) -> None:
    """Write an imported model.

    No suffix: a folder with ``model.py`` and ``model.safetensors``; ``.py``: that module, its weights beside it;
    ``.pt2``: an exported program. All of them run where netferry is not installed. The state of an optimizer that goes on
    comes beside it, or into the folder.
    """
    if path.suffix == ".pt2":
        _write_program(imported, path)
    elif path.suffix == ".py":
        imported.write_source(path)
    else:
        path.mkdir()
        imported.write_source(path / "model.py")
    if imported.optimizer is not None:
        native = optimizer.native(imported.optimizer, imported.model)
        torch.save(native.state_dict(), optimizer_file(path))


def optimizer_file(path: Path) -> Path:
    """Where the state of an optimizer lies that belongs to a model."""
    return path.with_name(f"{path.stem}.optimizer.pt") if path.suffix else path / "optimizer.pt"


def _write_program(imported: ImportedModel, path: Path) -> None:
    """An exported program whose free sizes stay free; nothing of this machine's folders is left in it."""
    from netferry.converters.pytorch.live import examples_of, shared, to_torch

    state = {key: shared(array) for key, array in imported.weights.items()}
    model = module_of(imported.source, "model").load(state)
    given = examples_of(model, None)
    sizes = tuple(dict.fromkeys(example.free, torch.export.Dim.DYNAMIC) for example in given)
    tensors = tuple(to_torch(example.array) for example in given)
    try:
        program = torch.export.export(model, tensors, dynamic_shapes=sizes)
    except Exception as error:
        raise RefusedError(
            f"torch.export does not take this model ({first_line(error)})",
            where=str(path),
            remedy="Write it as a folder or a .py file",
        ) from error
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    with path.open("wb") as file:
        sink = _Sink(file)
        torch.export.save(program, sink, extra_files={_NAMES: "\n".join(model.output_names)})  # type: ignore[arg-type]
    if sink.error is not None:
        raise sink.error


class _Sink(io.RawIOBase):
    """A file that keeps a write error to itself until PyTorch is done: its archive writer aborts the process."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:  # or PyTorch warns
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Closing flushes."""


@contextlib.contextmanager
def _saying_why() -> Iterator[None]:
    """PyTorch writes into its log why it cannot read a program, with a traceback, and raises that it did so: raise that cause."""
    log, causes = logging.getLogger("torch.export"), []

    def keep(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            causes.append(record.exc_info[1])
        return not causes

    log.addFilter(keep)
    try:
        yield
    except RuntimeError as error:
        raise causes[-1] if causes else error from error
    finally:
        log.removeFilter(keep)


def read(
    artifact: Artifact, *, weights: Path | None = None, looked: Looked | None = None, task: str | None = None
) -> Any:
    """Load an exported program (``pt2``), a TorchScript archive or a Hugging Face folder, onto the CPU."""
    where = str(artifact.path)
    if weights is not None:
        raise UsageError(
            f"{artifact.title} brings its own weights", where=where, remedy="Leave --weights out"
        )
    looked = looked or safety.look(artifact)
    if artifact.kind == "transformers":
        return folder.read(artifact.path, looked, task, tensors_of)
    if artifact.kind == "torchscript":
        safety.refuse_hidden(looked, where)
    content = looked.content.opened("model.pt2")
    try:
        if artifact.kind == "pt2":
            extra = {_NAMES: ""}
            with _saying_why():
                program = torch.export.load(content, extra_files=extra)
            agreement.check(program, where)
            names = tuple(line for line in extra[_NAMES].splitlines() if line)
            program.output_names = names or None  # type: ignore[attr-defined]
            return program
        return torch.jit.load(content, map_location="cpu")  # type: ignore[no-untyped-call]
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(
            f"not {artifact.title} that PyTorch reads ({first_line(error)})", where=where
        ) from error
