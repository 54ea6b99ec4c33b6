"""A part of a PyTorch module: the same module, run from the output of some of its submodules to that of others.

While it runs, a tap stands in the place of each of these submodules. One where the part ends keeps what its submodule gives, and
ends the run once all have given; one where the part begins gives what the part was given. Code behind the end, which may look at
data as it likes, is not reached.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from netferry.converters import origin
from netferry.converters.errors import RefusedError, UsageError, first_line
from netferry.converters.exported import ExportedModel
from netferry.converters.part import found
from netferry.converters.pytorch.live import (
    device_of,
    examples_of,
    inference,
    module_of,
    named_outputs,
    run,
    to_numpy,
    to_torch,
)
from netferry.converters.signature import BATCH, Example, TensorSpec


class _Enough(BaseException):
    """All that is wanted has been given; no code of a model takes it for an error of its own."""


class _Tap(nn.Module):
    """Stands for ``part`` while the model runs; whatever else is asked of it, the submodule answers."""

    def __init__(
        self, part: nn.Module, name: str, given: Mapping[str, Any], kept: dict[str, Any], last: int
    ) -> None:
        super().__init__()
        self.__dict__.update(_part=part, _name=name, _given=given, _kept=kept, _last=last)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_part"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._name in self._given:
            return self._given[self._name]
        result = self._part(*args, **kwargs)
        self._kept.setdefault(self._name, result)
        if len(self._kept) == self._last:
            raise _Enough
        return result


def cut(
    model: Any, outputs: Sequence[str], inputs: Sequence[str], given: tuple[Example, ...] | None
) -> tuple[nn.Module, tuple[Example, ...] | None]:
    """The module from what the submodules ``inputs`` give to what the submodules ``outputs`` give.

    ``given`` are inputs of the whole module. A part that begins inside is shown what the module itself has there on them.
    """
    whole = module_of(model)
    parts = dict(whole.named_modules())
    names = [[_path(parts, name) for name in side] for side in (outputs, inputs)]
    if isinstance(whole, torch.jit.ScriptModule | torch.fx.GraphModule):
        raise RefusedError(
            "only a module with code of its own is cut by the names of its submodules",
            where=origin.named(model),
            received=type(whole).__name__,
            remedy="Convert it to ONNX, and cut that",
        )
    if not inputs:
        return _Part.of(whole, names[0], (), ()), given
    shown = examples_of(model, given)
    return _begun(whole, names[0], names[1], shown)


def layers(
    model: Any,
    export: ExportedModel,
    given: tuple[Example, ...] | None,
) -> tuple[TensorSpec, ...]:
    """What each submodule gives on the examples, those that give one tensor."""
    whole = module_of(model)
    seen: dict[str, TensorSpec] = {}

    def see(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, result: Any) -> None:
            if isinstance(result, torch.Tensor):
                seen.setdefault(name, TensorSpec(name, to_numpy(result[:0]).dtype, tuple(result.shape)))

        return hook

    parts = [(name, part) for name, part in whole.named_modules() if name]
    hooks = [part.register_forward_hook(see(name)) for name, part in parts]
    shown = [to_torch(example.array, device_of(whole)) for example in examples_of(model, given)]
    try:
        with inference(whole):  # which puts back what a run has changed, what the hooks have seen among it
            whole(*shown)
            return tuple(seen.values())
    except Exception as error:
        raise RefusedError(f"PyTorch could not run the model ({first_line(error)})") from error
    finally:
        for hook in hooks:
            hook.remove()


def _path(parts: Mapping[str, nn.Module], name: str) -> str:
    module = found(name, {path: part for path, part in parts.items() if path}, "submodule")
    return next(path for path, part in parts.items() if part is module)


class _Part(nn.Module):
    """What every part adds to the class of its module; it shares the module's weights, hooks, modes, and their names."""

    @classmethod
    def of(
        cls, whole: nn.Module, ends: Sequence[str], begins: Sequence[str], stand_ins: Sequence[torch.Tensor]
    ) -> nn.Module:
        kind: Any = type(whole)

        def forward(self: Any, *given: Any) -> Any:
            inside = dict(zip(begins, given, strict=False))
            outside = [_of_batch(one, given[0]) for one in stand_ins] if begins else given
            kept: dict[str, Any] = {}
            with _tapped(self, ends, inside, kept):
                try:
                    result = kind.forward(self, *outside)
                except _Enough:
                    result = None
            missing = [name for name in ends if name not in kept]
            if missing:
                raise RefusedError(f"the submodule '{missing[0]}' does not run when the model does")
            return result if not ends else kept if len(ends) > 1 else {ends[0]: kept[ends[0]]}

        if not begins:
            forward.__signature__ = inspect.signature(whole.forward)  # type: ignore[attr-defined]
        own = {"forward": forward, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
        if begins:
            own["netferry_inputs"] = tuple(begins)
        same: nn.Module = object.__new__(type(kind)(kind.__name__, (kind,), own))
        object.__setattr__(same, "__dict__", whole.__dict__)
        return same


@contextmanager
def _tapped(
    module: nn.Module, ends: Sequence[str], given: Mapping[str, Any], kept: dict[str, Any]
) -> Iterator[None]:
    """Taps in the places of the submodules; they are as they were afterwards."""
    before = []
    try:
        for path in dict.fromkeys([*given, *ends]):
            owner, _, name = path.rpartition(".")
            home: dict[str, Any] = module.get_submodule(owner)._modules
            before.append((home, name, home[name]))
            home[name] = _Tap(home[name], path, given, kept, len(ends))
        yield
    finally:
        for home, name, part in reversed(before):
            home[name] = part


def _of_batch(stand_in: torch.Tensor, given: Any) -> torch.Tensor:
    """A stand-in for an input that the part does not read, of as many rows as what it is given."""
    if not stand_in.ndim or not given.ndim:
        return stand_in
    return stand_in[:1].expand(given.shape[0], *stand_in.shape[1:])


def _begun(
    whole: nn.Module, ends: Sequence[str], begins: Sequence[str], shown: Sequence[Example]
) -> tuple[nn.Module, tuple[Example, ...]]:
    """A part that begins inside: what the module has there on the examples is what the part is shown."""
    inside = _Part.of(whole, begins, (), ())
    arrays = [example.array for example in shown]
    there = list(run(inside, arrays).values())
    if len(there) != len(begins):
        raise UsageError("a part begins where a submodule gives one tensor", received=", ".join(begins))
    free = any(example.free.get(0) == BATCH for example in shown)
    part = _Part.of(whole, ends, begins, [to_torch(array) for array in arrays])
    _demand_apart(whole, ends, begins, (arrays, there))
    return part, tuple(
        Example(name, array, {0: BATCH} if free and array.ndim else {})
        for name, array in zip(begins, there, strict=True)
    )


def _demand_apart(
    whole: nn.Module, ends: Sequence[str], begins: Sequence[str], shown: tuple[Sequence[Any], Sequence[Any]]
) -> None:
    """Refuse a part that reads more of the model's inputs than what stands at its beginning."""
    arrays, there = shown
    others = [
        np.roll(array, 1) + np.asarray(1, array.dtype) if array.dtype.kind == "f" else array
        for array in arrays
    ]
    results = []
    for inputs in (arrays, others):
        part = _Part.of(whole, ends, begins, [to_torch(array) for array in inputs])
        with inference(part):
            results.append(named_outputs(part(*map(to_torch, there))))
    apart = [
        name
        for name, tensor in results[0].items()
        if not np.array_equal(
            to_numpy(tensor), to_numpy(results[1][name]), equal_nan=tensor.is_floating_point()
        )
    ]
    if apart:
        raise RefusedError(
            f"'{apart[0]}' is not made of {', '.join(begins)} alone: the model's inputs are read behind them, too",
            remedy="Begin elsewhere, or convert the model to ONNX and cut that, which keeps such inputs",
        )
