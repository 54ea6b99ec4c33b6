"""The tensors inside a PyTorch model while it runs.

A module runs under a ``TorchFunctionMode``, which sees every call of a torch function, inside layers too; an exported
program is interpreted node by node; a scripted module runs under a ``TorchDispatchMode``.
"""

from __future__ import annotations

import ast
import linecache
import operator
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.graph.ir.build import unique
from netferry.converters.pytorch.live import (
    device_of,
    layer_by_layer,
    module_of,
    to_numpy,
    to_torch,
)
from netferry.converters.pytorch.outputs import outputs_of
from netferry.converters.signature import Array
from netferry.converters.steps import Ends, Step, Take, stated

_CHAIN = "y"
"""What a module written by netferry calls a tensor that only the next line reads: it names nothing."""


def stream(model: Any, arrays: Sequence[Array], take: Take) -> Ends:
    """Run in inference mode and hand each step to ``take``; the model and its mode are left as they were."""
    module = module_of(model)
    tensors = [to_torch(array, device_of(module)) for array in arrays]
    names = [f"input_{position}" for position in range(len(tensors))]
    recorder = _Recorder(module, take)
    for name, tensor in zip(names, tensors, strict=True):
        recorder.name(tensor, name)
    with layer_by_layer(module):
        try:
            result = _run(module, tensors, recorder)
        except RefusedError:
            raise
        except Exception as error:
            raise RefusedError(f"PyTorch could not run the model ({first_line(error)})") from error
    return Ends(
        tuple(names),
        {name: recorder.names.get(tensor, "") for name, tensor in outputs_of(module, result).items()},
    )


def weights(model: Any) -> Iterator[tuple[str, Array]]:
    """Parameters and buffers by name."""
    for name, tensor in module_of(model).state_dict().items():
        if isinstance(tensor, torch.Tensor):
            yield name, to_numpy(tensor)


def piece(
    model: Any,
    name: str,
    reads: Mapping[str, Array],
    gives: str,
) -> nn.Module | None:
    """The submodule ``name``, where it is one of PyTorch's own layers."""
    module = module_of(model)
    found = dict(module.named_modules()).get(name)
    return found if found is not None and type(found).__module__.startswith("torch.nn") else None


def _run(module: nn.Module, tensors: Sequence[torch.Tensor], recorder: _Recorder) -> Any:
    if isinstance(module, torch.fx.GraphModule):
        return _Interpreter(module, recorder).run(*tensors)  # type: ignore[no-untyped-call]
    if isinstance(module, torch.jit.ScriptModule):
        with _Dispatched(recorder):
            return module(*tensors)
    with recorder.inside_modules(), _Functions(recorder):
        return module(*tensors)


class _Recorder:
    """Names for the tensors of a run, and the steps that they come from."""

    def __init__(self, module: nn.Module, take: Take) -> None:
        self.module = module
        self.names: Any = WeakTensorKeyDictionary()
        self.weights: Any = WeakTensorKeyDictionary()
        self._take = take
        self._taken: set[str] = set()
        self._stack: list[str] = []
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self.weights[tensor] = (name,)

    def name(self, tensor: torch.Tensor, wish: str) -> str:
        name = unique(wish, self._taken)
        self.names[tensor] = name
        return name

    def record(
        self, operation: str, operands: Any, result: Any, name: str = "", line: str = "", wish: str = ""
    ) -> None:
        """One call: a step where something that it reads depends on the inputs, else a constant."""
        read = list(_tensors(operands))
        given = list(_tensors(result))
        weights = tuple(dict.fromkeys(w for t in read for w in self.weights.get(t, ())))
        reads = tuple(dict.fromkeys(self.names[t] for t in read if t in self.names))
        if not given:
            return
        if not reads:
            for tensor in given:
                if tensor not in self.names and tensor not in self.weights:
                    self.weights[tensor] = weights
            return
        path = name or (self._stack[-1] if self._stack else "")
        layer = self.module.get_submodule(path) if self._layer(path) else None
        kind = operation if layer is None else f"{type(layer).__name__}/{operation}"
        named = getattr(layer, "__constants__", ())
        attributes = stated({key: getattr(layer, key, None) for key in named})
        gives = {self.name(tensor, wish or path or operation): tensor for tensor in given}
        step = Step(path or wish or next(iter(gives)), kind, reads, tuple(gives), weights, line, attributes)
        self._take(step, {name: to_numpy(tensor) for name, tensor in gives.items()})

    def _layer(self, path: str) -> bool:
        return bool(path) and not self.module_is_own(path)

    @cache  # noqa: B019 - a recorder lives for one run
    def module_is_own(self, path: str) -> bool:
        """Whether the code of a submodule is the model's own and not PyTorch's."""
        try:
            return not type(self.module.get_submodule(path)).__module__.startswith("torch.nn")
        except AttributeError:
            return True

    @contextmanager
    def inside_modules(self) -> Iterator[None]:
        """Know at each call which submodule makes it."""
        hooks = []
        for path, part in self.module.named_modules():
            if path and not isinstance(part, torch.jit.ScriptModule):
                hooks.append(part.register_forward_pre_hook(self._enter(path), prepend=True))
                hooks.append(part.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, path: str) -> Callable[..., None]:
        return lambda *_: self._stack.append(path)

    def _leave(self, *_: Any) -> None:
        self._stack.pop()


class _Functions(TorchFunctionMode):
    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operation = (resolve_name(func) or getattr(func, "__name__", str(func))).rpartition(".")[2]
        made = args[0] if operation == "__setitem__" else result  # it changes its operand and returns nothing
        operands = (args, kwargs)
        if next(_tensors(made), None) is not None:
            line, wish = _line()
            self._recorder.record(operation, operands, made, line=line, wish=wish)
        return result


class _Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._recorder.record(func.overloadpacket.__name__, (args, kwargs), result)
        return result


class _Interpreter(torch.fx.Interpreter):
    """Runs an exported program node by node; what no later node reads is dropped."""

    def __init__(self, module: torch.fx.GraphModule, recorder: _Recorder) -> None:
        super().__init__(module)  # type: ignore[no-untyped-call]
        self._recorder = recorder

    def run_node(self, n: torch.fx.Node) -> Any:
        read = [self.env[source] for source in n.all_input_nodes]
        result = super().run_node(n)
        if n.op == "call_function" and n.target is not operator.getitem:
            stack = list((n.meta.get("nn_module_stack") or {}).values())
            path = stack[-1][0] if stack else ""
            operation = str(getattr(n.target, "__name__", n.target)).partition(".")[0]
            self._recorder.record(operation, read, result, path, n.format_node() or "", n.name)
        return result


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


# ---- the source line of a call ------------------------------------------------------------

_TORCH = f"{Path(torch.__file__).parent}{os.sep}"


def _line() -> tuple[str, str]:
    """The line of the model's own source that is being run, and the variable that it assigns."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_TORCH) and file != __file__ and "contextlib" not in file:
            text = linecache.getline(file, frame.f_lineno, frame.f_globals).strip()
            return text, _assigned(text)
        frame = frame.f_back
    return "", ""


@cache
def _assigned(text: str) -> str:
    try:
        statement = ast.parse(text).body[0]
    except (SyntaxError, IndexError):
        return ""
    target = statement.targets[0] if isinstance(statement, ast.Assign) else None
    if isinstance(target, ast.Tuple):
        target = target.elts[0]
    return target.id if isinstance(target, ast.Name) and target.id != _CHAIN else ""
