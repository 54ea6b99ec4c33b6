"""PyTorch's fake tensors and symbolic sizes without its compilers, whose import takes a second.

Their constructors import ``torch._dynamo`` to read three switches. Here the constructors are the same functions
with those imports answered: whoever imports PyTorch's compilers afterwards gets them as they are.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
import torch._compile
import torch._decomp
import torch._decomp.decompositions
import torch._refs
import torch._refs.nn.functional
import torch._refs.special
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

_ANSWERS: Mapping[str, Any] = {
    "torch._dynamo.config": SimpleNamespace(
        fake_tensor_cache_enabled=False,
        fake_tensor_cache_crosscheck_enabled=False,
        _custom_ops_profile=None,
    ),
    "torch.fx.experimental.validator": SimpleNamespace(translation_validation_enabled=lambda: False),
}
"""The modules that are answered for, and what is asked of them."""


class _Torch:
    """``torch``, but for what is answered here where no one has imported it."""

    _stand_in = SimpleNamespace(config=_ANSWERS["torch._dynamo.config"])

    @property
    def _dynamo(self) -> Any:
        return sys.modules.get("torch._dynamo", self._stand_in)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """In place of ``__import__``: ``import torch.x.y`` binds ``torch``, ``from torch.x import y`` reads from torch.x."""
    if name in _ANSWERS and fromlist:
        return _ANSWERS[name]
    if not name.startswith("torch.") or fromlist:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    if name not in _ANSWERS:
        importlib.import_module(name)
    return _Torch()


def _with_answers(function: Any, **names: Any) -> Any:
    """The function as it stands, with its imports made by ``_import``; ``names`` are globals that it sees."""
    function = getattr(function, "__wrapped__", function)
    imports = {**vars(builtins), "__import__": _import}
    namespace = {**function.__globals__, "__builtins__": imports, **names}
    same = FunctionType(
        function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    same.__kwdefaults__ = function.__kwdefaults__
    return same


def _silent(*_: Any, **__: Any) -> None:
    """In place of PyTorch's structured log."""


@contextmanager
def without_compilers() -> Iterator[None]:
    """PyTorch's rules for sizes that are written in Python ask its compilers not to look into them, which imports those: a
    second, for the first call of a process. Here they are not asked, as long as nobody has imported them."""
    put: list[Any] = []
    if "torch._dynamo" not in sys.modules:
        put = [function for function in _asking() if not hasattr(function, _ANSWER)]
    for function in put:
        setattr(function, _ANSWER, function)
    try:
        yield
    finally:
        for function in put:
            if vars(function).get(_ANSWER) is function:
                delattr(function, _ANSWER)


_ANSWER = "__dynamo_disable"
"""Where ``torch._disable_dynamo`` looks for what it has made of a function before."""


@cache
def _asking() -> tuple[Any, ...]:
    """The functions behind ``torch._disable_dynamo`` among PyTorch's rules."""
    rooms = (torch._refs, torch._refs.nn.functional, torch._refs.special, torch._decomp.decompositions)
    rules = (
        *(rule for room in rooms for rule in vars(room).values()),
        *torch._decomp.decomposition_table.values(),
    )
    asking = torch._compile._disable_dynamo(_silent).__code__
    found: dict[int, Any] = {}
    for rule in rules:
        while isinstance(rule, FunctionType):
            if rule.__code__ is asking:
                held = dict(zip(asking.co_freevars, rule.__closure__ or (), strict=True))
                inner = held["fn"].cell_contents
                found[id(inner)] = inner
            rule = getattr(rule, "__wrapped__", None)
    return tuple(found.values())


class PlainShapeEnv(ShapeEnv):
    """``ShapeEnv``, made without PyTorch's compilers."""

    __init__ = _with_answers(ShapeEnv.__init__)
    _init = _with_answers(ShapeEnv._init)
    _log_guard = _silent


class PlainFakeTensorMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """``FakeTensorMode``, made and run without PyTorch's compilers."""

    __init__ = _with_answers(FakeTensorMode.__init__)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled while a trace runs."""
        return False

    __torch_dispatch__ = _with_answers(FakeTensorMode.__torch_dispatch__)
    _dispatch_impl = _with_answers(FakeTensorMode._dispatch_impl, torch=_Torch())
