"""The state of an MXNet optimizer (``module.save_optimizer_states``, ``trainer.save_states``), for training to go on in PyTorch.

The file is a pickle. It is read with nothing but stand-ins: no name in it is imported, no code of it runs.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.mxnet.array_format import Reader, read_array
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.symbol import STATISTICS, input_name
from netferry.converters.signature import Array
from netferry.converters.trust import snapshot

_KINDS = {1: "sgd", 2: "adam"}
"""The optimizer by how many arrays it keeps of each parameter: a momentum, or two moments."""


@dataclass(frozen=True)
class OptimizerState:
    """``arrays``: what is kept of each parameter, by its number; ``settings``: those of the optimizer, where the file has them,
    which is one that gluon's Trainer wrote."""

    arrays: Mapping[int, tuple[Array, ...]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return _KINDS[len(next(iter(self.arrays.values())))]


class _Kept:
    """Stands for any object of MXNet's: it keeps what it is given."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encoded(text: str, _encoding: str = "latin1") -> bytes:
    """How Python 2 pickled bytes."""
    return str(text).encode("latin1")


class _Reader(pickle.Unpickler):
    """Makes arrays and plain values; every class of MXNet's is a stand-in, and any other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("builtins", "bytearray"), ("__builtin__", "bytearray")):
            return bytearray
        if (module, name) == ("_codecs", "encode"):
            return _encoded
        if module == "mxnet" or module.startswith("mxnet."):
            return _Kept
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read(path: str | Path) -> OptimizerState:
    """Read a ``.states`` file.

    Raises:
        RefusedError: it is none, or it is of an optimizer that keeps something else than a momentum or two moments.
    """
    content = snapshot.mapped(Path(path))
    try:
        raw = _Reader(BytesIO(content.read())).load()
    except Exception as error:
        raise RefusedError(
            f"not the state of an MXNet optimizer ({error})", where=content.where, expected="a .states file"
        ) from error
    states, optimizer = raw if isinstance(raw, tuple) and len(raw) == 2 else (raw, None)
    if not isinstance(states, dict) or not states:
        raise RefusedError(
            "not the state of an MXNet optimizer", where=content.where, expected="one for each parameter"
        )
    arrays = {number: tuple(_arrays(state, content.where)) for number, state in states.items()}
    counts = {len(kept) for kept in arrays.values()}
    if (
        len(counts) != 1
        or not counts <= _KINDS.keys()
        or not all(isinstance(number, int) for number in arrays)
    ):
        raise RefusedError(
            "the state of an optimizer that PyTorch has no equal of here",
            where=content.where,
            expected="SGD with momentum (one array a parameter) or Adam (two)",
            received=f"{sorted(counts)} arrays a parameter",
        )
    settings = optimizer.state if isinstance(optimizer, _Kept) and isinstance(optimizer.state, dict) else {}
    return OptimizerState(arrays, settings)


def _arrays(state: Any, where: str) -> Iterator[Array]:
    """The arrays of one parameter's state: one, a tuple of them, or nothing."""
    if isinstance(state, tuple | list):
        for each in state:
            yield from _arrays(each, where)
    elif isinstance(state, _Kept) and isinstance(state.state, dict):
        raw = state.state.get("handle")
        if isinstance(raw, bytes | bytearray):
            reader = Reader(np.frombuffer(bytes(raw), np.uint8), where)
            reader.item = "an array of the state"
            yield read_array(reader)
    elif state is not None:
        raise RefusedError("it keeps something else than arrays", where=where, received=type(state).__name__)


def trained(model: SymbolModel) -> list[str]:
    """The parameters that are trained, in the order in which a Module numbers them."""
    graph = model.graph
    statistics = {
        graph.nodes[node.inputs[slot][0]].name
        for node in graph.nodes
        for slot in range(len(node.inputs))
        if input_name(node, slot) in STATISTICS
    }
    names = (graph.nodes[position].name for position in graph.variables)
    return [name for name in names if name in model.params and name not in statistics]


def _by_name(state: OptimizerState, model: SymbolModel) -> dict[str, tuple[Array, ...]]:
    """What is kept of each parameter, by its name.

    A Module numbers those that are trained, in the symbol's order. gluon's Trainer numbers all of them, statistics too, in the
    order of their names (``gluon/trainer.py`` of MXNet 1.9.1). Which of them wrote a file is told by whether it holds the optimizer, and by the sizes.

    Raises:
        UsageError: neither fits.
    """
    names, numbers = trained(model), sorted(state.arrays)
    everything = sorted(model.params)
    module = dict(zip(names, numbers, strict=False)) if len(names) == len(numbers) else {}
    trainer = {name: number for number, name in enumerate(everything) if name in names}
    for found in (trainer, module) if state.settings else (module, trainer):
        if sorted(found.values()) == numbers and all(
            array.shape == model.params[name].shape
            for name, number in found.items()
            for array in state.arrays[number]
        ):
            return {name: state.arrays[found[name]] for name in names}
    raise UsageError(
        "the state does not fit the model",
        where=model.label,
        expected=f"{len(names)} parameters, of the model's sizes",
        received=f"{len(numbers)}",
    )


def to_pytorch(
    state: OptimizerState,
    model: SymbolModel,
    parameters: Sequence[tuple[str, Any]],
    *,
    learning_rate: float | None = None,
    updates: int | None = None,
) -> dict[int, dict[str, Array]]:
    """What PyTorch's SGD or Adam keeps of ``parameters`` (``module.named_parameters()``), by their place.

    A parameter is found by its values, so the weights must be those of ``model``, which the state belongs to. MXNet's momentum is
    scaled by the learning rate, PyTorch's is not; Adam counts its updates, which MXNet's file does not say.
    """
    kept = _by_name(state, model)
    names = list(kept)
    rate = learning_rate or state.settings.get("lr")
    count = updates or state.settings.get("num_update")
    missing = (
        "learning_rate"
        if state.kind == "sgd" and not rate
        else "updates"
        if state.kind == "adam" and not count
        else ""
    )
    if missing:
        raise UsageError(f"the file does not say {missing}", where=model.label, remedy=f"Give {missing}=")
    found: dict[int, dict[str, Array]] = {}
    for place, (title, parameter) in enumerate(parameters):
        name, turned = _source(title, np.asarray(parameter), model, names)
        arrays = [array.T if turned else array for array in kept[name]]
        if state.kind == "sgd":
            found[place] = {
                "momentum_buffer": np.ascontiguousarray(arrays[0]) / np.float32(-float(rate or 1))
            }
        else:
            moments = dict(zip(("exp_avg", "exp_avg_sq"), map(np.ascontiguousarray, arrays), strict=True))
            found[place] = {"step": np.asarray(float(count or 0), np.float32), **moments}
    return found


def _source(title: str, array: Array, model: SymbolModel, names: Sequence[str]) -> tuple[str, bool]:
    """The parameter of MXNet's that a parameter of PyTorch's has the values of, and whether it is transposed."""
    for turned in (False, True):
        own = array.T if turned else array
        fits = [
            name
            for name in names
            if model.params[name].shape == own.shape and np.array_equal(model.params[name], own)
        ]
        near = [name for name in fits if name.replace(".", "_").endswith(title.replace(".", "_"))] or fits
        if near:
            return near[0], turned
    raise UsageError(
        f"no parameter of the symbol has the values of '{title}'",
        where=model.label,
        remedy="Take the state over before the first step, and only for models whose weights are not merged (no RNN operator)",
    )
