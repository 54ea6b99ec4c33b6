"""What is changed during a trace and restored afterwards: stand-ins in PyTorch and Python, the user's own module."""

from __future__ import annotations

import builtins
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import reduce
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import transformer

from netferry.converters.pytorch.snapshot import Snapshot, code_names
from netferry.converters.pytorch.to_onnx.tracer.untraceable import Stateful


class Recorder(Protocol):
    """What sees every call of a module."""

    def call(self, enter: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any: ...


ONE_AT_A_TIME = threading.RLock()
_RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)
"""The trace that the code at hand runs in; other threads are in none, and what stands in is not for them."""


@contextmanager
def stand_ins(recorder: Recorder, module: nn.Module) -> Iterator[None]:
    """What PyTorch and Python do while a trace runs, in its own thread."""
    token = _RECORDER.set(recorder)
    try:
        with ExitStack() as stack:
            for where, name, stand_in in (
                (nn.Module, "__call__", _called(nn.Module.__call__)),
                (transformer, "_detect_is_causal_mask", _asked(transformer._detect_is_causal_mask)),
                (torch.backends.opt_einsum, "enabled", False),
                (builtins, "len", _len),
                (builtins, "max", _extreme(builtins.max, torch.sym_max)),
                (builtins, "min", _extreme(builtins.min, torch.sym_min)),
            ):
                stack.enter_context(patch.object(where, name, stand_in))
            stack.enter_context(_numbers_in(code_names(module)))
            stack.enter_context(_hushed())
            yield
    finally:
        _RECORDER.reset(token)


def _called(enter: Callable[..., Any]) -> Callable[..., Any]:
    """In place of ``nn.Module.__call__``."""

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        recorder = _RECORDER.get()
        if recorder is None:
            return enter(module, *args, **kwargs)
        return recorder.call(enter, module, args, kwargs)

    return call


def _asked(look: Callable[..., bool]) -> Callable[..., bool]:
    """In place of PyTorch's look into the mask: the mask is always passed on, the hint only saves time."""

    def ask(mask: Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
        return look(mask, is_causal, size) if _RECORDER.get() is None else is_causal is True

    return ask


@contextmanager
def left_as_it_was(module: nn.Module) -> Iterator[None]:
    """``restored``; a weight that the code replaces as it runs is a refusal."""
    with restored(module) as replaced:
        yield
    if replaced:
        raise Stateful(f"the code replaces {', '.join(map(repr, replaced))} as it runs")


@contextmanager
def restored(model: Any) -> Iterator[list[str]]:
    """Take back all that a run of the model changes; yields the weights that it has replaced, in the end."""
    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    own = [
        (part, part._parameters.copy(), part._buffers.copy())
        for part in parts
        if not isinstance(part, torch.jit.ScriptModule)
    ]
    before = Snapshot(model)
    replaced: list[str] = []
    try:
        yield replaced
    finally:
        for part, parameters, buffers in own:
            for now, kept in ((part._parameters, parameters), (part._buffers, buffers)):
                replaced += [name for name, tensor in kept.items() if now.get(name) is not tensor]
        before.restore()


_real_len = len


def _len(sized: Any) -> Any:
    """``len`` of a tensor is its first size, which stays symbolic."""
    return sized.shape[0] if isinstance(sized, FakeTensor) else _real_len(sized)


def _extreme(real: Callable[..., Any], symbolic: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """``max`` and ``min`` of sizes, which asks nothing of them."""

    def of(*items: Any, **how: Any) -> Any:
        given = items[0] if len(items) == 1 and isinstance(items[0], tuple | list) else items
        sizes = not how and any(isinstance(item, torch.SymInt | torch.SymFloat) for item in given)
        plain = all(isinstance(item, int | float | torch.SymInt | torch.SymFloat) for item in given)
        return reduce(symbolic, given) if sizes and plain else real(*items, **how)

    return of


class _Number(type):
    """``int`` and ``float`` as a model's code calls them: a free size stays one. They are still those types to all else."""

    plain: type
    symbolic: Callable[[Any], Any]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        size = args[0] if len(args) == 1 and not kwargs else None
        if isinstance(size, torch.SymInt | torch.SymFloat):
            return cls.symbolic(size)
        return cls.plain(*args, **kwargs)

    def __instancecheck__(cls, item: Any) -> bool:
        return isinstance(item, cls.plain)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, cls.plain)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.plain

    def __hash__(cls) -> int:
        return hash(cls.plain)


class _Int(int, metaclass=_Number):
    plain, symbolic, dtype = int, staticmethod(torch.sym_int), np.dtype(int)


class _Float(float, metaclass=_Number):
    plain, symbolic, dtype = float, staticmethod(torch.sym_float), np.dtype(float)


@contextmanager
def _numbers_in(namespaces: Sequence[dict[str, Any]]) -> Iterator[None]:
    """The model's own code finds these instead of Python's."""
    put = [
        (names, name, number)
        for names in namespaces
        for name, number in (("int", _Int), ("float", _Float))
        if name not in names
    ]
    for names, name, number in put:
        names[name] = number
    try:
        yield
    finally:
        for names, name, number in put:
            if names.get(name) is number:
                del names[name]


@contextmanager
def _hushed() -> Iterator[None]:
    """PyTorch logs what its fake tensors cannot do; here that is a finding and no message."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
