"""What a person may name as a model: a path, ``package.module:factory``, or the model itself."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from netferry.converters import artifact, frameworks, origin, pipeline, plugins
from netferry.converters.disk import staging
from netferry.converters.errors import NetferryError, RefusedError, UsageError
from netferry.converters.trust.paths import is_factory
from netferry.converters.trust.permit import Permit
from netferry.converters.trust.snapshot import Opened


def open_source(
    source: object,
    weights: str | os.PathLike[str] | None = None,
    *,
    unsafe: bool = False,
    task: str | None = None,
    signature: str | None = None,
) -> object:
    """Give the model in memory that ``source`` names; ``weights`` are loaded into what a factory built.

    ``task`` says what the model of a Hugging Face folder is for; ``signature`` chooses among those of a SavedModel. A file
    is looked at before a framework loads it; what ``unsafe`` lets through is reported in an ``UnsafeWarning``.
    """
    plugins.load()
    if task is not None and pipeline.folder_of(source) is None:
        raise UsageError("only a Hugging Face folder has tasks", received=task, remedy="Leave --task out")
    if not isinstance(source, str | os.PathLike):
        if weights is not None:
            raise UsageError("weights go with a file or a factory, not with a model that is already loaded")
        return served(source, signature)
    text, permit = os.fspath(source), Permit(unsafe)
    position = None if weights is None else Path(weights)
    if is_factory(text):
        module, _, name = text.rpartition(":")
        return served(_from_factory(module, name, position, permit), signature)
    return served(staging.steadily(Path(text), lambda: _read(text, position, permit, task)), signature)


def served(model: object, signature: str | None) -> object:
    """The model as one of its signatures serves it.

    Raises:
        UsageError: it has no such signature, or none at all.
    """
    if signature is None:
        return model
    live = frameworks.of(model).live
    if not hasattr(live, "served"):
        raise UsageError(
            "only SavedModels have signatures to choose from",
            where=title(model),
            received=f"--signature {signature}",
        )
    chosen: object = live.served(model, signature)
    return chosen


def signatures(model: object) -> tuple[str, ...]:
    """The signatures that a model has, by name; none where there is nothing to choose from."""
    live = frameworks.of(model).live
    found: tuple[str, ...] = live.signatures(model) if hasattr(live, "signatures") else ()
    return found


def demand(source: object) -> None:
    """Refuse, before any work, the name of a file that is not there."""
    if isinstance(source, str | os.PathLike) and not is_factory(os.fspath(source)):
        staging.finish(Path(source))
        artifact.demand(source)


def looked_at(path: str | os.PathLike[str], *, unsafe: bool = False) -> Opened:
    """A private copy of an ONNX file, which onnxruntime will open itself, once it is known to be harmless."""
    permit = Permit(unsafe)

    plugins.load()

    def read() -> Opened:
        found = artifact.look(path)
        opened: Opened = found.framework.files.opened(found, permit)
        return opened

    opened = staging.steadily(Path(path), read)
    permit.tell()
    return opened


def _read(text: str, weights: Path | None, permit: Permit, task: str | None) -> object:
    found = artifact.look(text)
    try:
        looked = found.framework.safety.look(found, weights, permit)
        permit.tell()
        how = {} if task is None else {"task": task}
        model: object = found.framework.files.read(found, weights=weights, looked=looked, **how)
        origin.remember(model, text)
        return model
    except ImportError as error:
        found.framework.require()
        raise frameworks.missing(error) or RefusedError(f"cannot be loaded ({error})", where=text) from error


def import_code(modules: Sequence[str]) -> None:
    """Import modules that a person named, which register classes, operators and layers: dotted names or ``.py`` files, each once."""
    for name in modules:
        known = str(Path(name).absolute()) if name.endswith(".py") else name
        if known not in _IMPORTED:
            _module(name, name)
            _IMPORTED[known] = None


_IMPORTED: dict[str, None] = {}


def imported_code() -> tuple[str, ...]:
    """What ``import_code`` has imported, for a process that goes on with the work."""
    return tuple(_IMPORTED)


def open_module(module: Path, name: str = "load") -> object:
    """The model that a function of a ``.py`` file builds: what ``--source`` wrote, read back."""
    return _from_factory(str(module), name, None, Permit())


def is_onnx_file(source: str | os.PathLike[str]) -> bool:
    """Whether this names an ONNX file, as its content has it."""
    return os.path.lexists(source) and artifact.look(source).kind == "onnx"


def title(source: object) -> str:
    """How a report names the source: its path without folders, or its class."""
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        path = Path(text)
        named = path if path.name.strip(".") else path.resolve()
        return text if is_factory(text) else named.name or text
    return f"{type(source).__module__.partition('.')[0]} {type(source).__name__}"


def _from_factory(module_name: str, name: str, weights: Path | None, permit: Permit) -> object:
    where = f"{module_name}:{name}"
    module = _module(module_name, where)
    try:
        maker = getattr(module, name)
    except AttributeError:
        raise RefusedError(f"the module has no '{name}'", where=where) from None
    try:
        model = maker() if isinstance(maker, type) or not _is_model(maker) else maker
    except NetferryError:
        raise
    except Exception as error:
        raise frameworks.missing(error) or RefusedError(
            f"the factory raised {type(error).__name__}: {error}",
            where=where,
            remedy="It must build the model when called without arguments",
        ) from error
    framework = frameworks.of(model)
    if weights is not None:
        if not os.path.lexists(weights):
            raise RefusedError("there is no such file", where=str(weights))
        looked = framework.safety.look_at_weights(weights, permit)
        permit.tell()
        framework.files.load_weights(model, weights, looked)
    return model


def _module(name: str, where: str) -> object:
    """Import by dotted name (the working folder counts) or from a ``.py`` file (its own folder counts).

    The module itself is sought there first; what it imports is sought there last, so that nothing in that folder
    stands before Python's modules or a package that is installed.
    """
    try:
        path = Path(name) if name.endswith(".py") else None
        home = str(Path.cwd() if path is None else path.parent.absolute())
        if home not in sys.path:
            sys.path.append(home)
        if path is not None and not path.is_file():
            raise RefusedError("there is no such file", where=where)
        top = name.partition(".")[0] if path is None else path.stem
        spec = PathFinder.find_spec(top, [home]) if path is None else spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or (path is None and top in sys.modules):
            return importlib.import_module(name)
        made = _executed(spec)
        return made if path is not None else importlib.import_module(name)
    except NetferryError:
        raise
    except Exception as error:
        raise frameworks.missing(error) or RefusedError(
            f"cannot be imported ({type(error).__name__}: {error})", where=where
        ) from error


def _executed(spec: ModuleSpec) -> ModuleType:
    """A module run from its file, entered under its name unless another has that."""
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    entered = sys.modules.setdefault(spec.name, module) is module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if entered:
            del sys.modules[spec.name]
        raise
    return module


def _is_model(candidate: object) -> bool:
    try:
        frameworks.of(candidate)
    except RefusedError:
        return False
    return True
