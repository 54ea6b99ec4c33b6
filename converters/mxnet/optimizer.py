"""The state of an MXNet optimizer (``module.save_optimizer_states``, ``trainer.save_states``), for training to go on in another framework.

The file is a pickle. It is read with nothing but stand-ins: no name in it is imported, no code of it runs.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.mxnet.array_format import Reader, read_array
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.symbol import STATISTICS, input_name
from netferry.converters.optimizer import Kind, OptimizerState, Settings
from netferry.converters.signature import Array
from netferry.converters.trust import snapshot

_KINDS: Mapping[int, Kind] = {1: "sgd", 2: "adam"}
"""The optimizer by how many arrays it keeps of each parameter: a momentum, or two moments."""

_TAKEN_OVER = ("SGD", "NAG", "Adam")
"""MXNet's optimizers whose state others have too, as a file that holds the optimizer calls them."""


@dataclass(frozen=True)
class States:
    """``arrays``: what is kept of each parameter, by its number; ``settings``: those of the optimizer, and ``called``, its name,
    where the file has them, which is one that gluon's Trainer wrote."""

    arrays: Mapping[int, tuple[Array, ...]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    called: str = ""

    @property
    def kind(self) -> Kind:
        return _KINDS[len(next(iter(self.arrays.values())))]


class _Kept:
    """Stands for any object of MXNet's: it keeps what it is given."""

    called = ""

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
            return type("_Named", (_Kept,), {"called": name})
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_file(path: str | Path) -> States:
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
    found = States(arrays, settings, optimizer.called if isinstance(optimizer, _Kept) else "")
    _demand_taken_over(found, content.where)
    return found


def _demand_taken_over(states: States, where: str) -> None:
    """Refuse another optimizer than those that are taken over, by its name or by its numbers: sums of squares have one sign, momenta two."""
    received = states.called
    if not received:
        first = [kept[0] for kept in states.arrays.values()]
        signed = any((array < 0).any() for array in first) or not any((array > 0).any() for array in first)
        received = "SGD" if signed else "no number below zero, as AdaGrad, RMSProp and AdaDelta keep"
    if received not in _TAKEN_OVER:
        raise RefusedError(
            "the state of an optimizer that PyTorch has no equal of here",
            where=where,
            expected=", ".join(_TAKEN_OVER),
            received=received,
        )


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


def _by_name(state: States, model: SymbolModel) -> dict[str, tuple[Array, ...]]:
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


def read(
    state: Any, model: SymbolModel, learning_rate: float | None = None, updates: int | None = None
) -> OptimizerState:
    """What the optimizer of a symbol keeps: a ``.states`` file, or what ``read_file`` gives of one.

    MXNet's momentum is scaled by the learning rate, that of a parameter with ``lr_mult`` by their product. Adam counts its updates, which a
    module's file does not say.

    Raises:
        UsageError: it belongs to another symbol, or the learning rate or the updates are neither in the file nor given.
    """
    kept = state if isinstance(state, States) else read_file(state)
    rate = learning_rate or kept.settings.get("lr")
    count = updates or kept.settings.get("num_update")
    known = {"sgd": ("learning_rate", rate), "adam": ("updates", count)}
    title, value = known[kept.kind]
    if not value:
        flag = title.replace("_", "-")
        remedy = f"Give {title}=, on the command line --{flag}"
        raise UsageError(f"the file does not say {title}", where=model.label, remedy=remedy)
    moments = _by_name(kept, model)
    faster = _multipliers(kept, model, "lr_mult")
    if kept.kind == "sgd":
        scales = {name: float(rate or 1) * faster.get(name, 1.0) for name in moments}
        moments = {
            name: tuple(array / np.float32(-scales[name] or 1) for array in arrays)
            for name, arrays in moments.items()
        }
    uneven = faster | (_multipliers(kept, model, "wd_mult") if kept.settings.get("wd") else {})
    return OptimizerState(kept.kind, moments, int(count or 0), _settings(kept, rate, tuple(uneven)))


def _multipliers(kept: States, model: SymbolModel, kind: str) -> dict[str, float]:
    """The parameters whose learning rate or weight decay is another than that of the optimizer, and how many times it."""
    key, said = f"__{kind}__", kept.settings.get(kind)
    own = {node.name: node.hidden[key] for node in model.graph.nodes if key in node.hidden}
    own |= said if isinstance(said, dict) else {}
    return {name: float(own[name]) for name in trained(model) if float(own.get(name, 1)) != 1}


def _settings(kept: States, rate: float | None, uneven: tuple[str, ...]) -> Settings:
    said = kept.settings
    betas = float(said.get("beta1", 0.9)), float(said.get("beta2", 0.999))
    return Settings(
        None if rate is None else float(rate), float(said.get("momentum", 0.9)), betas=betas,
        epsilon=float(said.get("epsilon", 1e-8)), weight_decay=float(said.get("wd", 0)), nesterov=kept.called == "NAG", uneven=uneven,
    )  # fmt: skip


def arrays(model: SymbolModel) -> dict[str, Array]:
    """The weights and statistics by their names."""
    return dict(model.params)


@contextmanager
def holding(model: SymbolModel, values: Mapping[str, Array]) -> Iterator[SymbolModel]:
    """The model with these values in the place of its own."""
    yield replace(model, params={**model.params, **values})
