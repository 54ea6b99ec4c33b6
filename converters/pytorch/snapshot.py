"""What a run of a model can change, as it was before, put back behind it.

A model's code writes wherever it likes: into attributes, dicts and lists of its own, of objects that it holds, of its
classes, of the Python modules that its code stands in; into closures, caches and random generators. All of that is reached
from the model: through what its objects hold, and through the functions that its classes are made of.
"""

from __future__ import annotations

import array
import copy
import functools
import itertools
import site
import sys
import threading
import types
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from enum import Enum
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from netferry.converters.pytorch.random_state import GENERATORS, SETTINGS, equal_states, random_generators
from netferry.converters.pytorch.restoring import (
    NOTHING,
    Pairs,
    TensorState,
    added_to,
    cell_content,
    dict_methods,
    forget,
    holds_tensors,
    is_done_once,
    restore_array,
    restore_cell,
    restore_class_of,
    restore_dict,
    restore_slot,
    restore_variable,
    slot_value,
    slots_of,
    variable_value,
)

_ATOMS = frozenset(
    {int, float, complex, bool, str, bytes, type(None), range, slice, type(...), types.CodeType}
    | {types.BuiltinFunctionType, torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size}
)
"""Types of what holds nothing that changes."""

_FOREIGN = sys.stdlib_module_names | frozenset(
    """
    PIL _pytest av filelock fsspec functorch h5py httpx httpx2 huggingface_hub jax keras matplotlib ml_dtypes mxnet
    netferry networkx numpy onnx onnx_ir onnxruntime pandas pyarrow pydantic pytest regex requests safetensors scipy sklearn
    sympy tensorflow tokenizers torch torchgen tqdm triton typing_extensions yaml
    """.split()
)
"""Packages whose own state is no part of any model."""

_OPEN = frozenset("_thread _weakrefset argparse collections functools queue types weakref".split())
"""Modules of the standard library whose objects are entered all the same."""

_INSTALLED = tuple(site.getsitepackages()) if hasattr(site, "getsitepackages") else ()
_CONTAINERS: Mapping[type, tuple[Callable[[Any], Iterable[Any]], Callable[[Any, list[Any]], Any]]] = {
    list: (list.__iter__, lambda item, before: list.__setitem__(item, slice(None), before)),
    set: (set.__iter__, lambda item, before: (set.clear(item), set.update(item, before))),
    deque: (deque.__iter__, lambda item, before: (deque.clear(item), deque.extend(item, before))),
}
"""How a container is read and filled again, whatever its own class makes of that."""

_ITERATORS = (itertools.count, itertools.cycle)
_LRU_CACHE: Any = type(functools.lru_cache(lambda: None))


class Snapshot:
    """The state of everything that a run of ``model`` can reach; ``restore`` makes it that again.

    Where other threads run Python, state of classes and Python modules is put back only where tensors or symbolic sizes
    came into it: the rest may be theirs. A weight is given back its memory, not what was written there in place; nor are
    tensors and arrays that only code holds, which may be all of a person's data.
    """

    def __init__(self, model: Any) -> None:
        self._alone = threading.active_count() == 1
        self._seen: dict[int, Any] = {}  # what is in here lives, so that no id is given out anew
        self._handlers: dict[type, Callable[[Any], Iterable[Any]]] = {}
        self._dicts: list[tuple[Any, Pairs]] = []
        self._undo: list[Callable[[], None]] = []
        self._in_code = self._looks = False
        self._waiting: dict[int, _Holder] = {}
        self._found: list[_Holder] = []
        self._settings = [(set_, get, get()) for get, set_ in SETTINGS]
        with warnings.catch_warnings(), torch._C.DisableTorchFunction():
            warnings.simplefilter("ignore")  # copies of iterators, gradients of what is no leaf
            self._walk_all(model)

    def restore(self) -> None:
        """Put back what has changed, and touch nothing else: another thread may be reading it."""
        with warnings.catch_warnings(), torch._C.DisableTorchFunction(), torch.no_grad():
            warnings.simplefilter("ignore")
            for now, before in self._dicts:
                restore_dict(now, before)
            for undo in self._undo:
                undo()
        for set_, get, before in self._settings:
            if get() != before:
                set_(before)

    def _walk_all(self, model: Any) -> None:
        """What the model holds itself, then the code: what is known of it already, and what is not."""
        key = _code_of(model)
        known = _KNOWN.get(key, ())
        self._seen.update((id(item), item) for _, item in known)
        self._walk([model, *random_generators()])
        self._in_code = True
        for enter, item in known:
            self._walk([contents for contents in enter(self, item) if not isinstance(contents, _DEFINED)])
        self._looks = True
        while self._waiting:
            enter, item = self._waiting.popitem()[1]
            self._found.append((enter, item))
            self._walk([*enter(self, item)])
        if self._found:
            _KNOWN.clear()
            _KNOWN[key] = (*known, *self._found)

    # ---- the walk -------------------------------------------------------------------------------

    def _walk(self, waiting: list[Any]) -> None:
        handlers, seen = self._handlers, self._seen
        while waiting:
            item = waiting.pop()
            kind = type(item)
            if kind in _ATOMS or id(item) in seen:
                continue
            seen[id(item)] = item
            handler = handlers.get(kind)
            if handler is None:
                handler = handlers[kind] = self._handler(kind)
            contents = handler(item)
            if not self._in_code or _few(contents):
                waiting.extend(contents)

    def _handler(self, kind: type) -> Callable[[Any], Iterable[Any]]:
        """What is done with the items of a type: it keeps their state and gives what they hold."""
        rows: tuple[tuple[Any, Callable[[Any], Iterable[Any]]], ...] = (
            ((Enum, torch.jit.ScriptModule, FakeTensor), _closed),
            (nn.Module, self._object),
            (Tensor, self._tensor),
            (dict, self._dict),
            (tuple, tuple.__iter__),
            (list, partial(self._container, list)),
            (set, partial(self._container, set)),
            (frozenset, frozenset.__iter__),
            (deque, partial(self._container, deque)),
            ((np.ndarray, bytearray, array.array), self._array),
            (types.FunctionType, self._function),
            (types.MethodType, lambda method: (method.__func__, method.__self__)),
            ((staticmethod, classmethod), lambda method: (method.__func__,)),
            (property, lambda one: (one.fget, one.fset)),
            (functools.cached_property, lambda one: (one.func,)),
            (functools.partial, lambda one: (one.func, one.args, one.keywords)),
            (types.CellType, self._cell),
            (types.MappingProxyType, lambda one: one.values()),
            (_LRU_CACHE, self._lru_cache),
            (ContextVar, self._context_variable),
            (weakref.ref, lambda one: (one(),)),
            (type, self._class),
            (types.ModuleType, self._python_module),
            (tuple(GENERATORS), self._random_generator),
        )
        row = next((row for base, row in rows if issubclass(kind, base)), None)
        if row is not None:
            return row
        return self._object if _is_own(kind.__module__) or kind.__module__ in _OPEN else _closed

    def _object(self, item: Any) -> Iterable[Any]:
        """An instance: its attributes, its class, its slots."""
        kind: Any = type(item)
        if isinstance(item, nn.Module):
            self._undo.append(partial(restore_class_of, item, kind))
        contents: list[Any] = [kind]
        for slot in slots_of(kind):
            value = slot_value(slot, item)
            contents.append(value)
            self._undo.append(partial(restore_slot, slot, item, value))
        attributes = getattr(item, "__dict__", None)
        return (*contents, *self._pairs(attributes)) if type(attributes) is dict else contents

    def _dict(self, item: Any) -> Iterable[Any]:
        contents = self._pairs(item)
        attributes = getattr(item, "__dict__", None)
        return (*contents, attributes) if attributes else contents

    def _pairs(self, item: Any) -> Iterable[Any]:
        pairs = [*dict_methods(item).items(item)]
        if self._in_code:
            self._undo.append(partial(self._restore_in_code, item, pairs))
        else:
            self._dicts.append((item, pairs))
        for name, value in pairs:
            if isinstance(value, _ITERATORS):  # what cannot be rewound is run on in a copy
                dict_methods(item).__setitem__(item, name, copy.copy(value))
        return [value for _, value in pairs]

    def _restore_in_code(self, now: Any, before: Pairs) -> None:
        if self._alone or holds_tensors(added_to(now, before)):
            restore_dict(now, before)

    def _container(self, kind: type, item: Any) -> Iterable[Any]:
        of, refill = _CONTAINERS[kind]
        before = list(of(item))
        self._put_back(of, item, before, lambda: refill(item, before))
        return before

    def _put_back(
        self, of: Callable[[Any], Iterable[Any]], item: Any, before: list[Any], put_back: Callable[[], None]
    ) -> None:
        in_code = self._in_code

        def undo() -> None:
            now = list(of(item))
            if len(now) == len(before) and all(map(_is, now, before)):
                return
            known = set(map(id, before))
            if not in_code or self._alone or holds_tensors([new for new in now if id(new) not in known]):
                put_back()

        self._undo.append(undo)

    def _array(self, item: Any) -> Iterable[Any]:
        if self._in_code:
            return ()
        before = copy.copy(item)
        self._undo.append(partial(restore_array, item, before))
        return ()

    def _tensor(self, item: Any) -> Iterable[Any]:
        if self._in_code:
            return ()
        self._undo.append(TensorState(item).restore)
        return vars(item), item.grad if item.is_leaf else None

    def _cell(self, item: Any) -> Iterable[Any]:
        before = cell_content(item)
        if not isinstance(before, _DEFINED):
            self._undo.append(partial(restore_cell, item, before))
            self._note(Snapshot._cell, item)
        return (before,)

    def _lru_cache(self, item: Any) -> Iterable[Any]:
        self._undo.append(partial(forget, item, item.cache_info()))
        self._note(Snapshot._lru_cache, item)
        return (item.__wrapped__,)

    def _context_variable(self, item: Any) -> Iterable[Any]:
        before = variable_value(item)
        self._undo.append(partial(restore_variable, item, before))
        return (before,)

    def _random_generator(self, item: Any) -> Iterable[Any]:
        get, set_ = next(row for kind, row in GENERATORS.items() if isinstance(item, kind))
        before = get(item)
        self._undo.append(lambda: None if equal_states(get(item), before) else set_(item, before))
        return ()

    # ---- code: entered last, for what the model holds itself is its own -------------------------

    def _note(self, enter: _Enter, item: Any) -> None:
        """Something in the code that holds a state: the next snapshot looks there at once."""
        if self._looks:
            self._found.append((enter, item))

    def _function(self, item: Any) -> Iterable[Any]:
        self._enter(item.__globals__)
        return (*(item.__closure__ or ()), *self._kept_by(item))

    def _kept_by(self, function: Any) -> Iterable[Any]:
        """What a function keeps from call to call: its defaults and its attributes."""
        contents = [*(function.__defaults__ or ()), function.__kwdefaults__]
        if vars(function) or function.__name__ in function.__code__.co_names:
            contents.append(vars(function))
        if any(type(one) not in _ATOMS for one in contents):
            self._note(Snapshot._kept_by, function)
        return contents

    def _python_module(self, item: Any) -> Iterable[Any]:
        self._enter(object.__getattribute__(item, "__dict__"))
        return ()

    def _enter(self, names: dict[str, Any]) -> None:
        """A Python module that may be the model's own; an installed one only where it works with tensors."""
        if id(names) in self._seen or not _is_own(names.get("__name__")):
            return
        self._seen[id(names)] = names
        if not str(names.get("__file__")).startswith(_INSTALLED) or torch in names.values():
            self._waiting[id(names)] = Snapshot._names, names

    def _names(self, names: Any) -> Iterable[Any]:
        """What a Python module's names stand for."""
        pairs = list(names.items())
        self._undo.append(partial(self._restore_names, names, pairs))
        return [value for name, value in pairs if not name.startswith("__")]

    def _class(self, item: Any) -> Iterable[Any]:
        if _is_own(item.__module__):
            self._waiting[id(item)] = Snapshot._class_names, item
        return ()

    def _class_names(self, item: Any) -> Iterable[Any]:
        pairs = list(vars(item).items())
        self._undo.append(partial(self._restore_names, item, pairs))
        return (*item.__mro__, *(value for _, value in pairs))

    def _restore_names(self, owner: Any, pairs: Pairs) -> None:
        """The names of a class or a Python module; what was imported or defined meanwhile stays.

        A name that was empty and is now something other than a tensor or a number tells of a thing that is done once (a
        library opened, an operator registered): where nothing else has changed, it stays too.
        """
        before, now = dict(pairs), vars(owner) if isinstance(owner, type) else owner
        changed = {
            name: value
            for name, value in list(now.items())
            if before.get(name, NOTHING) is not value
            and not name.startswith("__")
            and not isinstance(value, _DEFINED)
        }
        gone = {name: value for name, value in before.items() if name not in now and name[:2] != "__"}
        if not (changed or gone) or not (self._alone or holds_tensors(changed.values())):
            return
        if not gone and all(is_done_once(before.get(name, NOTHING), new) for name, new in changed.items()):
            return
        set_, delete = (
            (partial(type.__setattr__, owner), partial(type.__delattr__, owner))
            if isinstance(owner, type)
            else (owner.__setitem__, owner.__delitem__)
        )
        for name in changed:
            delete(name) if name not in before else set_(name, before[name])
        for name, value in gone.items():
            set_(name, value)


_Enter: TypeAlias = Callable[[Snapshot, Any], Iterable[Any]]
_Holder: TypeAlias = tuple[_Enter, Any]

_KNOWN: dict[Any, Sequence[_Holder]] = {}
"""Where code that was last looked at holds its state."""


def _code_of(model: Any) -> Any:
    """What tells which code a model runs: the classes of its modules, and how much is imported."""
    parts = model.modules() if isinstance(model, nn.Module) else (model,)
    return frozenset(map(type, parts)), len(sys.modules)


def code_names(model: Any) -> list[dict[str, Any]]:
    """The names of the Python modules that hold a model's code, once a snapshot was made."""
    return [names for enter, names in _KNOWN.get(_code_of(model), ()) if enter is Snapshot._names]


_DEFINED = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType)


def _package(module: str) -> str:
    return str(module).partition(".")[0]


def _is_own(module: Any) -> bool:
    """Whether what stands in a Python module may be a model's own."""
    return isinstance(module, str) and _package(module) not in _FOREIGN


def _closed(_: Any) -> Iterable[Any]:
    return ()


def _few(contents: Iterable[Any]) -> bool:
    """Whether a container in code is entered: a long one holds data, and is itself put back as it was."""
    return not isinstance(contents, list) or len(contents) <= 10_000


def _is(a: Any, b: Any) -> bool:
    return a is b
