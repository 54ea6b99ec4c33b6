"""Runs the graph of a scripted or traced module, one node at a time, in torch functions that a trace sees.

TorchScript runs its code by itself, where no ``TorchFunctionMode`` looks in. Its graph says all that it does: nodes of ``aten`` are
called as functions, those on numbers and lists are Python's own, so that sizes stay symbolic, and If and Loop are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from netferry.converters.pytorch.to_onnx.tracer.python_names import FreeRange
from netferry.converters.pytorch.to_onnx.tracer.torchscript.operators import (
    ATTRIBUTES,
    DTYPES,
    MAKE_NUMBERS,
    ON_NUMBERS,
)
from netferry.converters.pytorch.to_onnx.tracer.untraceable import Stateful, Untraceable

_FOR_EVER = 2**31
"""A Loop of so many turns is a ``while``."""


def run(module: torch.jit.ScriptModule, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What the module's ``forward`` gives; ``name`` is where it stands in the whole."""
    method: Any = module.forward
    bound = list(args)
    for argument in method.schema.arguments[1 + len(args) :]:
        if argument.name in kwargs:
            bound.append(kwargs[argument.name])
        elif argument.has_default_value():
            bound.append(argument.default_value)
        else:
            raise TypeError(f"'{name}' needs '{argument.name}'")
    graph = method.graph.copy()
    torch._C._jit_pass_inline(graph)
    results = _Interpreter(name).block(graph, [module, *bound])
    return results[0] if len(results) == 1 else tuple(results)


class _Interpreter:
    def __init__(self, name: str) -> None:
        self._name = name
        self._known: dict[str, Any] = {}

    def block(self, block: Any, given: Iterable[Any]) -> list[Any]:
        """A graph or a block of one: what it gives for these inputs."""
        for value, item in zip(block.inputs(), given, strict=True):
            self._known[value.debugName()] = item
        for node in block.nodes():
            self._run(node)
        return [self._known[value.debugName()] for value in block.outputs()]

    def _run(self, node: Any) -> None:
        kind = node.kind()
        given = [self._known[value.debugName()] for value in node.inputs()]
        results: Sequence[Any]
        if kind in _CONTROL:
            results = _CONTROL[kind](self, node, given)
        elif kind in _STRUCTURES:
            results = _STRUCTURES[kind](node, given)
        elif kind in ATTRIBUTES and len(given) <= 1:
            results = [ATTRIBUTES[kind](*given)]
        else:
            results = self._called(node, kind, given)
        for value, item in zip(node.outputs(), results, strict=True):
            self._known[value.debugName()] = item

    # ---- operators ----------------------------------------------------------------------------

    def _called(self, node: Any, kind: str, given: list[Any]) -> list[Any]:
        namespace, _, title = kind.partition("::")
        if node.schema() == "(no schema)":
            raise self._refused(kind)
        schema = torch._C.parse_schema(node.schema())
        first = str(schema.arguments[0].type) if schema.arguments else ""
        on_tensors = "Tensor" in first and title not in MAKE_NUMBERS
        if namespace in ("aten", "prim") and title in ON_NUMBERS and not on_tensors:
            results = ON_NUMBERS[title](*given)
        else:
            args, kwargs = _bound(schema, given)
            results = self._function(namespace, title, schema.overload_name)(*args, **kwargs)
        count = len(list(node.outputs()))
        if count == 1:
            return [results]
        return list(results) if count else []

    def _function(self, namespace: str, title: str, overload: str) -> Callable[..., Any]:
        try:
            operator: Any = getattr(getattr(torch.ops, namespace), title)
        except AttributeError as error:
            raise self._refused(f"{namespace}::{title}") from error
        found: Callable[..., Any] = getattr(operator, overload or "default", operator)
        return found

    def _refused(self, kind: str) -> Untraceable:
        return Untraceable(
            f"'{self._name}' is TorchScript, and its operator {kind} has no meaning outside of it"
        )

    # ---- control flow -------------------------------------------------------------------------

    def _if(self, node: Any, given: list[Any]) -> list[Any]:
        blocks = list(node.blocks())
        return self.block(blocks[0 if given[0] else 1], ())

    def _loop(self, node: Any, given: list[Any]) -> list[Any]:
        """As often as it is said, for as long as its condition holds: (turns, condition, carried ...)."""
        turns, goes_on, *carried = given
        (body,) = node.blocks()
        counted: Iterable[int] = (
            FreeRange(turns) if isinstance(turns, torch.SymInt) else range(min(turns, _FOR_EVER))
        )
        for turn in counted:
            if not goes_on:
                break
            goes_on, *carried = self.block(body, [turn, *carried])
        return carried

    def _raise(self, _node: Any, given: list[Any]) -> list[Any]:
        raise RuntimeError(f"'{self._name}' raises: {given[0]}")

    def _set_attribute(self, node: Any, _given: list[Any]) -> list[Any]:
        raise Stateful(f"'{self._name}' keeps '{node.s('name')}' as it runs")


_CONTROL: Mapping[str, Callable[[_Interpreter, Any, list[Any]], list[Any]]] = {
    "prim::If": _Interpreter._if,
    "prim::Loop": _Interpreter._loop,
    "prim::RaiseException": _Interpreter._raise,
    "prim::SetAttr": _Interpreter._set_attribute,
}


def _constant(node: Any, _given: list[Any]) -> list[Any]:
    return [node.output().toIValue()]


def _tuple_index(_node: Any, given: list[Any]) -> list[Any]:
    return [given[0][given[1]]]


def _dictionary(_node: Any, given: list[Any]) -> list[Any]:
    return [dict(zip(given[::2], given[1::2], strict=True))]


_STRUCTURES: Mapping[str, Callable[[Any, list[Any]], Sequence[Any]]] = {
    "prim::Constant": _constant,
    "prim::GetAttr": lambda node, given: [getattr(given[0], node.s("name"))],
    "prim::ListConstruct": lambda _, given: [list(given)],
    "prim::TupleConstruct": lambda _, given: [tuple(given)],
    "prim::DictConstruct": _dictionary,
    "prim::ListUnpack": lambda _, given: list(given[0]),
    "prim::TupleUnpack": lambda _, given: list(given[0]),
    "prim::TupleIndex": _tuple_index,
    "prim::Uninitialized": lambda *_: [None],
    "prim::unchecked_cast": lambda _, given: given[:1],
    "prim::NumToTensor": lambda _, given: [torch.tensor(given[0])],
    "prim::Print": lambda *_: [],
    "aten::warn": lambda *_: [],
}
"""What makes and takes apart structures, and reads constants and attributes."""


def _bound(schema: Any, given: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as the operator takes them; those at the end that have their defaults are left out."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    last = 0
    for place, (argument, item) in enumerate(zip(schema.arguments, given, strict=True)):
        plain = (
            argument.has_default_value() and item == argument.default_value
            if not _holds_tensors(item)
            else False
        )
        if argument.name == "dtype" and isinstance(item, int):
            item = DTYPES[item]
        if argument.kwarg_only:
            if not plain and argument.name not in ("layout", "pin_memory"):
                kwargs[argument.name] = item
            continue
        args.append(item)
        last = last if plain else place + 1
    return args[:last], kwargs


def _holds_tensors(item: Any) -> bool:
    return isinstance(item, Tensor) or (
        isinstance(item, list | tuple) and any(isinstance(x, Tensor) for x in item)
    )
