"""Operators and layers of a person's own, converted like netferry's: one function each, in the words of ONNX.

A function gets ``g``, which writes ONNX: ``g.Tanh(x)``, ``g.Gemm(x, w, transB=1)`` give what the operator gives (of opset 21 where
a framework is exported, of the newest where ONNX is read), ``g.scalar(2.0, x)`` is a number of the dtype of ``x``, ``g.ints(0, 1)``
a vector of int64, ``g.constant(array)`` any constant. What it returns is one value, or a tuple of them. Sizes may be free, so it
asks the graph (``g.Shape(x)``) and never the value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from traceback import extract_tb
from typing import Any, TypeVar

from netferry.converters import frameworks
from netferry.converters.errors import CannotConvert, UsageError, first_line
from netferry.converters.graph.registry import Table
from netferry.converters.graph.schema.own import OWN

Function = TypeVar("Function", bound=Callable[..., Any])


def operator(name: str) -> Callable[[Function], Function]:
    """Say what an operator of an ONNX file is made of; ``name`` is its domain and its name, ``my.ops::Softcap``.

    ``function(g, *inputs, **attributes)``: attributes are keyword-only, with their defaults. Files with the operator are
    then read, run, verified and converted to every framework.
    """
    domain, _, own = name.partition("::")
    if not domain or not own.isidentifier() or domain in ("ai.onnx", "netferry"):
        raise UsageError("no name of an operator of one's own", expected="my.ops::Softcap", received=name)

    def register(function: Function) -> Function:
        _add(OWN, name, function, name)
        return function

    return register


def exporter(target: object) -> Callable[[Function], Function]:
    """Say what a layer or function of a framework is made of.

    ``target`` is a class of ``torch.nn.Module`` (whose ``forward`` runs over fake tensors, which have sizes alone) or ``keras.Layer`` (``function(g, layer, *inputs)``), a function of PyTorch or a
    custom operator such as ``torch.ops.my.softcap`` (``function(g, *arguments)``, as it is called), or the name of an
    operator of MXNet (``function(g, attributes, *inputs)``; ``attributes.number("cap", 30.0)``), one that ``mx.operator.register`` has
    named among them.
    """

    def register(function: Function) -> Function:
        framework = _framework_of(target)
        framework.require() if framework.name != "mxnet" else None
        _REGISTER[framework.name](target, function)
        return function

    return register


def _framework_of(target: object) -> frameworks.Framework:
    if isinstance(target, str):
        return frameworks.named("mxnet")
    modules = [
        cls.__module__ for cls in (target.__mro__ if isinstance(target, type) else type(target).__mro__)
    ]
    for module in (getattr(target, "__module__", None) or "", *modules):
        for framework in frameworks.FRAMEWORKS.values():
            if f"{module}.".startswith(tuple(f"{root}." for root in framework.roots)):
                return framework
    raise UsageError(
        "nothing that a framework calls",
        expected="a torch.nn.Module or keras.Layer class, a function of PyTorch, or the name of an operator of MXNet",
        received=repr(target),
    )


def _of_pytorch(target: Any, function: Callable[..., Any]) -> None:
    from netferry.converters.pytorch.to_onnx.layers import MODULES
    from netferry.converters.pytorch.to_onnx.table import FUNCTIONS
    from netferry.converters.pytorch.to_onnx.tracer.names import qualified

    @wraps(function)
    def row(e: Any, *arguments: Any, **named: Any) -> Any:
        return function(e.g, *arguments, **named)

    if isinstance(target, type):
        _add(MODULES, target, row, target.__name__)
    else:
        _add(FUNCTIONS, qualified(target) or target, row, str(target))


def _of_tensorflow(target: Any, function: Callable[..., Any]) -> None:
    from netferry.converters.tensorflow.to_onnx.emitter import ROWS

    _add(ROWS, target, function, target.__name__)


def _of_mxnet(target: Any, function: Callable[..., Any]) -> None:
    from netferry.converters.mxnet.to_onnx.emitter import CUSTOM, ROWS

    for key in (target, f"{CUSTOM}{target}"):
        _add(ROWS, key, function, target)


_REGISTER = {"pytorch": _of_pytorch, "tensorflow": _of_tensorflow, "mxnet": _of_mxnet}


def _add(table: Table[Any, Any], key: object, function: Callable[..., Any], name: str) -> None:
    try:
        table.row(key)(_blamed(function, name))
    except KeyError:
        raise UsageError(
            f"{name} is defined already", remedy="Define each once, under a name of your own"
        ) from None


def _blamed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same, whose mistakes are its own: they refuse what it defines, with the line where they were made."""

    @wraps(function)
    def row(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except Exception as error:  # whatever a person's code raises
            if type(error).__module__.startswith("netferry."):
                raise
            own = [frame for frame in extract_tb(error.__traceback__) if frame.filename != __file__]
            where = f"{own[0].filename}, line {own[0].lineno}" if own else "its definition"
            raise CannotConvert(
                f"the definition of {name} fails ({where}): {type(error).__name__}: {first_line(error)}",
                "Functions write operators by ONNX's names: g.Tanh(x)",
            ) from error

    return row
