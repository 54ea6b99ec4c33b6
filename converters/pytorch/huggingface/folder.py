"""A Hugging Face folder as a source: ``config.json`` and weights, read by the trust rules; nothing in the folder runs.

transformers gives the architecture its code; it is handed the configuration and the tensors, and opens no file of the folder.
Code that the folder brings along (``trust_remote_code``) is for ``unsafe`` alone.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from netferry.converters.errors import MissingError, RefusedError, first_line
from netferry.converters.pytorch.huggingface import demands
from netferry.converters.trust import paths, texts
from netferry.converters.trust.permit import Looked, Permit

CONFIG = "config.json"
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What a folder may keep its weights in, the best first; an index names the shards."""

_LARGEST = 64 << 20
"""Bytes of a configuration or an index."""

_SHOWN = 8


def look(folder: Path, permit: Permit, look_at_weights: Any) -> Looked:
    """The configuration, and a look into each file of weights.

    Raises:
        RefusedError: something is missing or damaged, would run code, or needs a quantiser's.
    """
    config = _json(folder, CONFIG)
    demands.demand_plain(config, str(folder / CONFIG))
    if config.get("quantization_config"):
        kind = config["quantization_config"]
        raise RefusedError(
            "its weights are packed by a quantiser, whose own code unpacks them",
            where=str(folder / CONFIG),
            received=str(kind.get("quant_method", kind) if isinstance(kind, dict) else kind)[:60],
            remedy="Use the folder of the model that was not quantised",
        )
    if not is_known(config):
        _ask_for_code(folder, config, permit)
    files = {name: look_at_weights(folder, name, permit) for name in _weights(folder)}
    return Looked(permit, message=config, files=files)


def _json(folder: Path, name: str) -> dict[str, Any]:
    where = str(folder / name)
    with paths.opened_inside(folder, name, where) as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise RefusedError("it is larger than any such file", where=where)
    found = texts.document(content, where)
    if not isinstance(found, dict):
        raise RefusedError("a JSON object is expected", where=where, received=type(found).__name__)
    return found


def _weights(folder: Path) -> tuple[str, ...]:
    for name in WEIGHTS:
        if not (folder / name).is_file():
            continue
        if not name.endswith(".index.json"):
            return (name,)
        shards = _json(folder, name).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(one, str) for one in shards.values()):
            raise RefusedError(
                "its weight_map does not say which file holds which tensor", where=str(folder / name)
            )
        return tuple(sorted(set(shards.values())))
    raise RefusedError(
        "the folder has no weights that PyTorch reads",
        where=str(folder),
        expected=f"one of {', '.join(WEIGHTS)}",
        received=", ".join(sorted(file.name for file in folder.iterdir())[:_SHOWN]) or "nothing else",
        remedy="Save it where it runs: model.save_pretrained(folder)",
    )


def transformers() -> Any:
    """The library; without it there is no code for any architecture."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise MissingError(
            "transformers is not installed", remedy='Install it: pip install "netferry[transformers]"'
        ) from error


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether transformers itself has the architecture."""
    return config.get("model_type") in transformers().CONFIG_MAPPING


def _ask_for_code(folder: Path, config: Mapping[str, Any], permit: Permit) -> None:
    """Refuse an architecture that only the folder's own code has, unless that is let through."""
    named = config.get("auto_map")
    code = sorted(
        {str(name).partition("--")[2] or str(name) for name in named.values()}
        if isinstance(named, dict)
        else ()
    )
    if not code:
        raise RefusedError(
            f"transformers {transformers().__version__} has no such architecture",
            where=str(folder / CONFIG),
            received=f"model_type {config.get('model_type')!r}",
        )
    permit.ask(
        "code of its own (trust_remote_code)", code, str(folder), "Use an architecture that transformers has"
    )


# ---- reading -----------------------------------------------------------------------------------------


def read(folder: Path, looked: Looked, task: str | None, load: Any) -> Any:
    """The model with its weights; ``load(looked)`` gives the tensors of a file."""
    from netferry.converters.pytorch.huggingface import tasks

    where, config = str(folder), looked.message
    if not is_known(config):
        return _with_its_own_code(folder, task)
    settings = _config(config, where)
    kind, part = tasks.model_class(settings, config.get("architectures") or (), task, where)
    state: dict[str, Any] = {}
    for each in looked.files.values():
        state.update(load(each))
    model = _built(kind, settings, state, where)
    return tasks.as_called(model, part)


def _config(config: Mapping[str, Any], where: str) -> Any:
    try:
        return transformers().CONFIG_MAPPING[config["model_type"]].from_dict(demands.plain(config))
    except Exception as error:  # whatever an architecture's configuration raises of what it is given
        raise RefusedError(
            f"not a configuration of {config['model_type']} ({first_line(error)})", where=where
        ) from error


def _built(kind: Any, settings: Any, state: Mapping[str, Any], where: str) -> Any:
    """The module of its tensors: it is made without memory of its own, and no file is opened."""
    floats = [tensor.dtype for tensor in state.values() if tensor.is_floating_point()]
    dtype = max(set(floats), key=floats.count) if floats else None
    try:
        with _silent(), demands.no_more_than(state, where):
            model, found = _loaded(kind, settings, state, dtype)
            if _lacks_a_pooler(kind, found["missing_keys"]):
                model, found = _loaded(kind, settings, state, dtype, add_pooling_layer=False)
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(
            f"its weights do not make a {kind.__name__} ({first_line(error)})", where=where
        ) from error
    problems = [
        *_shown("missing", found["missing_keys"]),
        *_shown("of another shape", found["mismatched_keys"]),
    ]
    if problems:
        raise RefusedError(
            f"the weights do not fit {kind.__name__}: {'; '.join(problems)}",
            where=where,
            remedy="Use --task for the model that was saved, or save all weights",
        )
    return model.eval()


def made_without_weights(model: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """The buffers that a model on ``meta`` makes of its configuration and that no file of weights holds."""
    with _silent():
        made, _ = _loaded(type(model), model.config, state, None)
    known = dict(made.named_buffers())
    return {name: known[name] for name, tensor in model.named_buffers() if tensor.is_meta and name in known}


def _lacks_a_pooler(kind: Any, missing: Any) -> bool:
    """Whether all that is missing is the pooler, which a model saved for another task never had."""
    optional = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return optional and bool(missing) and all(name.startswith("pooler.") for name in missing)


def _loaded(kind: Any, settings: Any, state: Mapping[str, Any], dtype: Any, **how: Any) -> Any:
    return kind.from_pretrained(
        None, config=settings, state_dict=dict(state), dtype=dtype, ignore_mismatched_sizes=True,
        output_loading_info=True, **how,
    )  # fmt: skip


def _shown(title: str, names: Any) -> Iterator[str]:
    listed = sorted(str(name[0] if isinstance(name, tuple) else name) for name in names)
    if listed:
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        yield f"{title}: {', '.join(listed[:_SHOWN])}{more}"


@contextmanager
def _silent() -> Iterator[None]:
    """transformers writes a report of what it has loaded, and bars, to the terminal: what matters of it is in our errors."""
    logging = transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _with_its_own_code(folder: Path, task: str | None) -> Any:
    """An architecture of the folder's own code, which was let through: transformers loads it."""
    from netferry.converters.pytorch.huggingface import tasks

    auto = tasks.auto_class(task) if task else "AutoModel"
    with _silent():
        return (
            getattr(transformers(), auto)
            .from_pretrained(str(folder), trust_remote_code=True, local_files_only=True, dtype="auto")
            .eval()
        )
