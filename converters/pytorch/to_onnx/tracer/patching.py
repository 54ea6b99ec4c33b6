"""What is changed during a trace and restored afterwards: stand-ins in PyTorch and Python, the user's own module."""

from __future__ import annotations

import builtins
import logging
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import reduce
from typing import Any, Protocol
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from torch.nn.modules import transformer

from netferry.converters.pytorch.snapshot import Snapshot, code_names
from netferry.converters.pytorch.to_onnx.tracer import gradients
from netferry.converters.pytorch.to_onnx.tracer.assertions import Unknown
from netferry.converters.pytorch.to_onnx.tracer.decompositions import named_axes, regions, scans
from netferry.converters.pytorch.to_onnx.tracer.masks import broadcast
from netferry.converters.pytorch.to_onnx.tracer.python_names import (
    MATH,
    METHODS,
    TORCH,
    extreme,
    length,
    numbers_in,
)
from netferry.converters.pytorch.to_onnx.tracer.untraceable import Stateful


class Recorder(Protocol):
    """What sees every call of a module."""

    def call(self, enter: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any: ...
    def leave_out(self) -> None: ...


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
                (torch.distributions.Distribution, "_validate_args", False),
                (builtins, "len", length),
                (builtins, "max", extreme(builtins.max, torch.sym_max)),
                (builtins, "min", extreme(builtins.min, torch.sym_min)),
                (torch.SymInt, "__hash__", _hashed(torch.SymInt.__hash__)),
                *((math, name, stand_in) for name, stand_in in MATH.items()),
                *((functional, name, stand_in) for name, stand_in in TORCH.items()),
                *((torch, name, _checked(getattr(torch, name))) for name in _CHECKS if hasattr(torch, name)),
                *(
                    (torch.compiler, name, _InATrace())
                    for name in ("_is_exporting_flag", "_is_compiling_flag")
                ),
            ):
                stack.enter_context(patch.object(where, name, stand_in))
            for (where, path), stand_in in (
                *regions.PYTHON.items(),
                *scans.PYTHON.items(),
                *named_axes.PYTHON.items(),
                *gradients.PYTHON.items(),
            ):
                *kind_of, name = path.split(".")
                owner = reduce(lambda item, step: getattr(item, step, None), kind_of, sys.modules.get(where))
                if (plain := getattr(owner, name, None)) is not None:
                    stack.enter_context(patch.object(owner, name, _in_a_trace(plain, stand_in)))
            for kind in (torch.SymInt, torch.SymFloat):
                for name, method in METHODS.items():
                    stack.enter_context(patch.object(kind, name, method, create=True))
            if "torch._dynamo" in sys.modules:  # what is compiled runs as it was written
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(broadcast(lambda: _RECORDER.get() is not None))
            stack.enter_context(numbers_in(code_names(module)))
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


def _in_a_trace(plain: Callable[..., Any], stand_in: Callable[..., Any]) -> Callable[..., Any]:
    """``stand_in`` in the thread of a trace, else, or where that declines, what stands there."""

    def call(*args: Any, **kwargs: Any) -> Any:
        made = NotImplemented if _RECORDER.get() is None else stand_in(*args, **kwargs)
        return plain(*args, **kwargs) if made is NotImplemented else made

    return call


def _asked(look: Callable[..., bool]) -> Callable[..., bool]:
    """In place of PyTorch's look into the mask: the mask is always passed on, the hint only saves time."""

    def ask(mask: Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
        return look(mask, is_causal, size) if _RECORDER.get() is None else is_causal is True

    return ask


_CHECKS = """_check _check_value _check_index _check_type _check_not_implemented _check_tensor_all _check_with _assert
    _check_is_size""".split()
"""PyTorch's functions that state what a model needs."""


def _checked(check: Callable[..., Any]) -> Callable[..., Any]:
    """In place of those: what they ask of data is left out."""

    def ask(*args: Any, **kwargs: Any) -> Any:
        recorder = _RECORDER.get()
        asks = any(isinstance(item, Unknown | FakeTensor) for item in (*args, *kwargs.values()))
        return check(*args, **kwargs) if recorder is None or not asks else recorder.leave_out()

    return ask


class _InATrace:
    """In place of the flags that ``torch.compiler`` asks: true in the thread of a trace, so that a library takes the branch
    that can be exported."""

    def __bool__(self) -> bool:
        return _RECORDER.get() is not None

    def __or__(self, other: Any) -> Any:
        return bool(self) | other

    __ror__ = __or__


def _hashed(plain: Callable[[torch.SymInt], int]) -> Callable[[torch.SymInt], int]:
    """In place of ``SymInt.__hash__``: a size that is a key of a cache is that size, whatever the example's is."""

    def of(size: torch.SymInt) -> int:
        return plain(size) if _RECORDER.get() is None else hash(("size", size.node._expr))

    return of


@contextmanager
def left_as_it_was(module: nn.Module, is_same: Callable[[Any, Any], bool]) -> Iterator[None]:
    """``restored``; a weight in whose place the code puts another than the same (``is_same(now, before)``) is a refusal."""
    with restored(module) as replaced:
        yield
    names = [name for name, before, now in replaced if not is_same(now, before)]
    if names:
        raise Stateful(f"the code replaces {', '.join(map(repr, names))} as it runs")


@contextmanager
def restored(model: Any) -> Iterator[list[tuple[str, Any, Any]]]:
    """Take back all that a run of the model changes; yields the weights that it has replaced, before and now, in the end."""
    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    own = [
        (part, part._parameters.copy(), part._buffers.copy())
        for part in parts
        if not isinstance(part, torch.jit.ScriptModule)
    ]
    before = Snapshot(model)
    replaced: list[tuple[str, Any, Any]] = []
    try:
        yield replaced
    finally:
        for part, parameters, buffers in own:
            for now, kept in ((part._parameters, parameters), (part._buffers, buffers)):
                replaced += [
                    (name, was, now.get(name)) for name, was in kept.items() if now.get(name) is not was
                ]
        before.restore()


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
