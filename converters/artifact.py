"""What a file is, by its content and not by its name, before any framework loads it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from netferry.converters import checkpoints, frameworks
from netferry.converters.errors import RefusedError, UsageError, nearest
from netferry.converters.trust import paths, snapshot, tables, tars

KINDS: Mapping[str, tuple[str, str]] = {
    "pt2": ("pytorch", "a PyTorch exported program"),
    "torchscript": ("pytorch", "a TorchScript archive"),
    "transformers": ("pytorch", "a Hugging Face model folder"),
    "keras": ("tensorflow", "a Keras model"),
    "h5": ("tensorflow", "a Keras HDF5 model"),
    "saved_model": ("tensorflow", "a TensorFlow SavedModel"),
    "frozen_graph": ("tensorflow", "a frozen graph of TensorFlow"),
    "meta_graph": ("tensorflow", "a checkpoint of TensorFlow 1 with its graph"),
    "tflite": ("tensorflow", "a TFLite model"),
    "mxnet": ("mxnet", "an MXNet symbol with its parameters"),
    "onnx": ("onnx", "an ONNX model"),
}
"""Each kind of file, the framework that reads it, and its name in a sentence."""

DESTINATIONS: Mapping[str, str] = {
    ".onnx": "onnx",
    ".pt2": "pytorch",
    ".keras": "tensorflow",
    ".tflite": "tensorflow",
    "-symbol.json": "mxnet",
}
"""How the name of a new file ends -> the framework that reads it."""

WRITTEN: Mapping[str, str] = {
    "onnx": "NAME.onnx",
    "pytorch": "a folder (model.py and model.safetensors), NAME.py (its weights beside it), or NAME.pt2",
    "tensorflow": "NAME.keras, NAME.tflite, a folder (a SavedModel), or NAME.py (its weights beside it)",
    "mxnet": "NAME-symbol.json or NAME (its parameters beside it), or NAME.py",
}
"""What each framework's models are written as."""

_FOREIGN = frozenset(
    ".bin .ckpt .engine .gguf .h5 .hdf5 .keras .mar .mlmodel .mlpackage .npz .onnx .ort .params .pb .pkl .pt .pt2 .pth"
    " .safetensors .tflite .trt .zip".split()
)
"""How models' files end: a destination that ends so is meant as such a file, never as a folder."""

_WITHOUT: Mapping[str, frameworks.Framework] = {
    "saved_model": frameworks.GRAPHS,
    "frozen_graph": frameworks.GRAPHS,
    "meta_graph": frameworks.GRAPHS,
    "tflite": frameworks.LITE,
}
"""Kinds that are read without TensorFlow, and what reads them."""

_HEAD = 64
_LARGEST_CONFIG = 64 << 20
_ONNX_FIRST_BYTES = frozenset(b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca")
"""The first byte of a ModelProto: the tag of any of its fields (number << 3 | wire type)."""

_SAVED_MODEL = "saved_model.pb"
_GRAPH_FIRST_BYTE = 0x0A
"""The tag of a GraphDef's nodes, which stand first in it; no field of a ModelProto has it."""

_TFLITE, ORT = b"TFL3", b"ORTM"
"""Behind four bytes of a distance, what a TFLite file and one of onnxruntime's own format are told by."""

_GIVE_A_FACTORY = (
    "Weights alone are not a model: give the code that builds it, "
    "netferry convert package.module:factory out.onnx --weights {}"
)


def framework_of(destination: Path) -> str:
    """The framework that a destination is meant for, by its name."""
    for ending, framework in DESTINATIONS.items():
        if destination.name.endswith(ending):
            return framework
    raise UsageError(
        "the name of the destination does not show which framework is meant",
        where=str(destination),
        expected=f"a name that ends in {', '.join(DESTINATIONS)}",
        remedy="Or use --to pytorch, tensorflow, mxnet or onnx",
    )


def demand_ending(destination: Path, framework: str) -> None:
    """Refuse, before any work, a destination whose name says that it is a file which this framework's models are not
    written as."""
    ending = destination.suffix.lower()
    if ending in _FOREIGN and DESTINATIONS.get(ending) != framework:
        raise UsageError(
            f"{frameworks.named(framework).title} models are not written as {ending}",
            where=str(destination),
            expected=WRITTEN[framework],
        )


@dataclass(frozen=True)
class Artifact:
    """A model on disk: its kind, its main file or folder, and the files that may belong to it, of which the last is meant;
    ``also`` are read with that."""

    kind: str
    path: Path
    companions: tuple[Path, ...] = ()
    also: tuple[Path, ...] = ()

    @property
    def framework(self) -> frameworks.Framework:
        return _WITHOUT.get(self.kind) or frameworks.named(KINDS[self.kind][0])

    @property
    def title(self) -> str:
        return KINDS[self.kind][1]


def demand(path: str | os.PathLike[str]) -> Path:
    """A path at which something stands, or the prefix of a checkpoint."""
    known = os.path.lexists(path) or checkpoints.meta_of(path) is not None
    if not known and checkpoints.by_prefix(path) is None:
        raise RefusedError("there is no such file or folder", where=str(path), remedy=_meant(os.fspath(path)))
    return Path(path)


_MOST_BESIDE = 2000


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_OF_A_HUB = re.compile(r"([\w-]+/)?[\w-]+(\.\d[\w-]*)*")
"""ORG/NAME or NAME: a point stands before digits alone there, where a file's name has an ending behind it."""


def _meant(name: str) -> str | None:
    """What to do about a name that is not there: what stands beside it and is like it, or how to get it."""
    if _ADDRESS.match(name):
        return "netferry reads files, and nothing from the network: download it first"
    found = beside(Path(name)) or ""
    if not _OF_A_HUB.fullmatch(name) or found.startswith("Did you mean"):
        return found or None
    hub = f"A model of the Hugging Face Hub is downloaded first: hf download {name} --local-dir FOLDER"
    return f"{found}. {hub}" if found else hub


def beside(path: Path) -> str | None:
    """Of a name that is not there: what stands beside it and is like it, or that its folder is not there either."""
    try:
        with os.scandir(path.parent) as found:
            names = [entry.name for entry, _ in zip(found, range(_MOST_BESIDE), strict=False)]
    except FileNotFoundError:
        return f"There is no folder {path.parent}"
    except OSError:
        return None
    return nearest(path.name, names)


def look(path: str | os.PathLike[str]) -> Artifact:
    """What stands at ``path``; what is not a model is refused, with what to do where something can be done."""
    path = demand(path)
    if (meta := checkpoints.meta_of(path)) is not None:
        return Artifact("meta_graph", meta)
    if not os.path.lexists(path):
        return _from_prefix(path)
    if path.is_dir():
        return _look_at_folder(path)
    with paths.opened(path) as file:
        return _look_at_file(path, file.read(_HEAD))


def _look_at_folder(path: Path) -> Artifact:
    if (path / _SAVED_MODEL).is_file():
        return Artifact("saved_model", path)
    symbols = sorted(path.glob("*symbol.json"))
    if len(symbols) == 1:
        return look(symbols[0])
    if not symbols and (meta := checkpoints.meta_in(path)) is not None:
        return Artifact("meta_graph", meta)
    if not symbols and _is_transformers(path):
        return Artifact("transformers", path)
    for name, reason, remedy in _OTHER_FOLDERS:
        if not symbols and (path / name).is_file():
            raise RefusedError(reason, where=str(path), remedy=remedy)
    symbols = symbols or checkpoints.hidden_symbols(path)
    if len(symbols) == 1:
        return look(symbols[0])
    raise RefusedError(
        "the folder holds no single model",
        where=str(path),
        expected="a SavedModel (saved_model.pb), a Hugging Face model (config.json), or one NAME-symbol.json with its .params",
        received=", ".join(str(symbol.relative_to(path)) for symbol in symbols[:6]) or "none of these",
    )


_OTHER_FOLDERS = (
    (
        "adapter_config.json",
        "the folder holds an adapter, which changes another model",
        "Merge it where it was trained: model.merge_and_unload().save_pretrained(folder)",
    ),
    ("model_index.json", "the folder holds a pipeline of several models", "Give one of its folders"),
)
"""What else is published as a folder: the file that tells it, the reason, and what to do."""


def _is_transformers(path: Path) -> bool:
    """Whether a folder is one that ``save_pretrained`` writes: its config.json names an architecture."""
    config = path / "config.json"
    if not config.is_file():
        return False
    with paths.opened_inside(path, config.name, str(config)) as file:
        content = file.read(_LARGEST_CONFIG)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("model_type"), str)


def _look_at_file(path: Path, head: bytes) -> Artifact:
    if not head:
        raise RefusedError("the file is empty", where=str(path))
    snapshot.demand_content(head, str(path))
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return Artifact("h5", path)
    if head.startswith(b"PK"):
        return _look_into_zip(path)
    if head.startswith(tars.GZIP):
        return Artifact("mxnet", path)
    if int.from_bytes(head[:8], "little") == 0x112:
        return _from_params(path)
    if head.lstrip().startswith(b"{"):
        return _from_symbol(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size - 8:
        raise RefusedError(
            "a safetensors file holds weights only",
            where=str(path),
            remedy=_GIVE_A_FACTORY.format(path.name),
        )
    if head.startswith(b"\x80") and path.suffix == ".states":
        raise RefusedError(
            "the state of an MXNet optimizer, not a model",
            where=str(path),
            remedy="Give the symbol, and this file with --optimizer-state, in Python to netferry.optimizer_state",
        )
    if head.startswith(b"\x80"):
        raise RefusedError(
            "a bare pickle is never loaded",
            where=str(path),
            remedy=_GIVE_A_FACTORY.format("weights.safetensors"),
        )
    if head[4:8] == _TFLITE:
        return Artifact("tflite", path)
    if path.name == _SAVED_MODEL:
        return Artifact("saved_model", path.parent)
    if checkpoints.is_tensorflow(path):
        raise RefusedError(
            "a checkpoint of TensorFlow holds weights only",
            where=str(path),
            expected="its .meta beside it, which TensorFlow 1 writes",
            remedy="Export the model from the code that builds it: model.export(path), or tf.saved_model.save(model, path)",
        )
    if head[0] == _GRAPH_FIRST_BYTE:
        return Artifact("frozen_graph", path)
    if head[0] in _ONNX_FIRST_BYTES or head[4:8] == ORT:
        return Artifact("onnx", path)
    raise _not_a_model(path)


def _not_a_model(path: Path) -> RefusedError:
    titles = ", ".join(title for _, title in KINDS.values())
    remedy = f"Name the function in it that builds the model: {path}:make" if path.suffix == ".py" else None
    return RefusedError(
        "not a model that netferry knows", where=str(path), expected=f"one of: {titles}", remedy=remedy
    )


def _look_into_zip(path: Path) -> Artifact:
    kind = kind_of_zip(tables.names(path))
    if kind in KINDS:
        return Artifact(kind, path)
    if kind == "state_dict":
        raise RefusedError(
            "a file of torch.save: a state dict or a pickled module, not a model that can be loaded safely",
            where=str(path),
            remedy=_GIVE_A_FACTORY.format(path.name),
        )
    raise _not_a_model(path)


def kind_of_zip(names: Iterable[str]) -> str:
    """What an archive with entries of these names is: one of ``KINDS``, ``state_dict``, or nothing."""
    names = set(names)
    inner = {name.partition("/")[2].lower() for name in names}
    if {"config.json", "model.weights.h5"} <= names:
        return "keras"
    if "archive_format" in inner or "serialized_exported_program.json" in names | inner:
        return "pt2"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    if any(map(checkpoints.SYMBOL.search, names)):
        return "mxnet"
    return "state_dict" if "data.pkl" in inner else ""


def demand_kind(found: Artifact, names: Iterable[str]) -> None:
    """Refuse an archive that has become one of another kind since it was looked at."""
    if kind_of_zip(names) != found.kind:
        raise RefusedError("it was replaced while it was read", where=str(found.path))


def _from_symbol(path: Path) -> Artifact:
    try:
        document = json.loads(snapshot.mapped(path).read())
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"neither JSON nor another kind of model ({error})", where=str(path)) from error
    if not isinstance(document, dict) or not {"nodes", "heads"} <= document.keys():
        raise RefusedError(
            "JSON, but not an MXNet symbol", where=str(path), expected="the keys 'nodes' and 'heads'"
        )
    own, also = checkpoints.chosen(path.name, (file.name for file in path.parent.iterdir() if file.is_file()))
    return Artifact("mxnet", path, tuple(map(path.with_name, own)), tuple(map(path.with_name, also)))


def _from_prefix(prefix: Path) -> Artifact:
    named = checkpoints.by_prefix(prefix)
    assert named is not None
    symbol, epoch = named
    found = look(symbol)
    return replace(found, companions=(checkpoints.at_epoch(symbol, epoch),), also=()) if epoch else found


def _from_params(path: Path) -> Artifact:
    """The symbol beside a params file; the file itself where there is none, for its weights may tell which network it is."""
    prefix = re.sub(r"(-\d+)?\.params$", "", path.name)
    symbol = path.with_name(f"{prefix}-symbol.json")
    if not symbol.is_file() and len(symbols := sorted(path.parent.glob("*symbol.json"))) == 1:
        symbol = symbols[0]
    return Artifact("mxnet", symbol, (path,)) if symbol.is_file() else Artifact("mxnet", path, (path,))
