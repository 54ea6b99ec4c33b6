"""PyTorch's files: exported programs, TorchScript archives, and weights for a model that code builds.

What a file is was looked at before (``artifact.py``); a pickle that can run code is never loaded.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError, UsageError, first_line
from netferry.converters.graph.codegen.execution import module_of
from netferry.converters.imported import ImportedModel
from netferry.converters.pytorch import safety
from netferry.converters.pytorch.huggingface import folder
from netferry.converters.pytorch.safety import agreement
from netferry.converters.trust.permit import Looked, Permit
from netferry.converters.trust.snapshot import Snapshot

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts save the state dict beside other things."""

_SHOWN = 8

_NAMES = "output_names"
"""What an exported program keeps beside itself: the names of its outputs, a line each."""


WRITTEN = "a folder (model.py and model.safetensors), a .py file, or a .pt2 exported program"


def write(imported: ImportedModel, path: Path) -> None:
    """Write an imported model.

    No suffix: a folder with ``model.py`` and ``model.safetensors``; ``.py``: that module, its weights beside it;
    ``.pt2``: an exported program. All of them run where netferry is not installed.
    """
    if path.suffix == ".pt2":
        _write_program(imported, path)
    elif path.suffix == ".py":
        imported.write_source(path)
    elif not path.suffix:
        path.mkdir()
        imported.write_source(path / "model.py")
    else:
        raise UsageError(
            f"PyTorch models are not written as {path.suffix}",
            where=str(path),
            expected=WRITTEN,
            remedy="A .safetensors file of the weights alone is part of the folder and of the .py form",
        )


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
        return folder.read(artifact.path, looked, task, _tensors)
    if artifact.kind == "torchscript":
        safety.refuse_hidden(looked, where)
    content = looked.content.opened("model.pt2")
    try:
        if artifact.kind == "pt2":
            extra = {_NAMES: ""}
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


def load_weights(model: nn.Module, path: Path, looked: Looked | None = None) -> None:
    """Load a ``.safetensors`` file or a saved state dict into ``model``; every weight must fit one of its tensors."""
    looked = looked or safety.look_at_weights(path, Permit())
    state = _tensors(looked)
    state = _with_ties(model, _without_wrapper_names(state, model.state_dict()))
    problems = list(_problems(model.state_dict(), state))
    if problems:
        raise RefusedError(
            f"the weights do not fit {type(model).__name__}: {'; '.join(problems)}", where=str(path)
        )
    _put(model, state)


def _put(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the model its weights in place of those it was made with, where both are plain tensors: no copy is made."""
    own = dict(model.named_parameters(remove_duplicate=False)) | dict(
        model.named_buffers(remove_duplicate=False)
    )
    if any(type(tensor) not in (Tensor, nn.Parameter) for name in state for tensor in (own.get(name),)):
        model.load_state_dict(state)
        return
    for name, tensor in state.items():
        own[name].data = tensor.to(own[name].dtype)


def _tensors(looked: Looked) -> Mapping[str, Tensor]:
    """The tensors of a file that was looked at: safetensors by its name, else what torch.save wrote."""
    return (
        _safetensors(looked.content) if looked.content.where.endswith(".safetensors") else _state_dict(looked)
    )


def _safetensors(held: Snapshot) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    content = held.opened("weights.safetensors")
    try:
        return load_file(content) if isinstance(content, Path) else load(content.read())
    except (SafetensorError, OSError, ValueError) as error:
        raise RefusedError(f"not a safetensors file ({first_line(error)})", where=held.where) from error


def _state_dict(looked: Looked) -> Mapping[str, Tensor]:
    content, where = looked.content.opened("weights.pt"), looked.content.where
    try:
        loaded = torch.load(content, map_location="cpu", weights_only=not looked.permit.unsafe)
    except Exception as error:
        raise RefusedError(
            "not a state dict that can be loaded without running code from the file",
            where=where,
            expected="what torch.save(model.state_dict(), path) writes",
            received=f"{type(error).__name__}: {first_line(error)}",
            remedy="Save the state dict of a pickled model where it was made, best as .safetensors",
        ) from error
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise RefusedError(
            "not a state dict",
            where=where,
            expected=f"tensors by name, or a mapping with one of {', '.join(WRAPPERS)}",
            received=_described(loaded),
        )
    return loaded


def _described(loaded: object) -> str:
    if not isinstance(loaded, Mapping):
        return type(loaded).__name__
    return f"a mapping with {', '.join(sorted(map(str, loaded))[:_SHOWN])}"


def _without_wrapper_names(state: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """DataParallel and torch.compile put a name of their own in front of every weight's."""
    for prefix in ("module.", "_orig_mod."):
        if state and all(name.startswith(prefix) and name not in known for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _with_ties(model: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """With the second names of weights that a model has under several: a file holds such a weight once."""
    names: dict[int, list[str]] = {}
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), []).append(name)
    tied = {
        name: state[known[0]]
        for own in names.values()
        if len(own) > 1 and (known := [name for name in own if name in state])
        for name in own
        if name not in state
    }
    return {**state, **tied}


def _problems(known: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Iterable[str]:
    missing = [name for name in known if name not in state]
    unexpected = [name for name in state if name not in known]
    reshaped = [
        f"{name} (expected {list(known[name].shape)}, received {list(state[name].shape)})"
        for name in known
        if name in state and known[name].shape != state[name].shape
    ]
    for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"{title}: {', '.join(names[:_SHOWN])}{more}"
