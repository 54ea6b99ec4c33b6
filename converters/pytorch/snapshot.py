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
import random
import site
import sys
import threading
import types
import warnings
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import Enum
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

Pairs: TypeAlias = Sequence[tuple[Any, Any]]

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
_ITERATORS = (itertools.count, itertools.cycle)
_LRU_CACHE: Any = type(functools.lru_cache(lambda: None))
_NOTHING: Any = object()


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
        self._waiting: dict[int, _Place] = {}
        self._found: list[_Place] = []
        self._settings = [(set_, get, get()) for get, set_ in _SETTINGS]
        with warnings.catch_warnings(), torch._C.DisableTorchFunction():
            warnings.simplefilter("ignore")  # copies of iterators, gradients of what is no leaf
            self._walk_all(model)

    def restore(self) -> None:
        """Put back what has changed, and touch nothing else: another thread may be reading it."""
        with warnings.catch_warnings(), torch._C.DisableTorchFunction(), torch.no_grad():
            warnings.simplefilter("ignore")
            for now, before in self._dicts:
                _restore_dict(now, before)
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
        self._walk([model, *_random_generators()])
        self._in_code = True
        for enter, item in known:
            self._walk([held for held in enter(self, item) if not isinstance(held, _DEFINED)])
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
            held = handler(item)
            if not self._in_code or _few(held):
                waiting.extend(held)

    def _handler(self, kind: type) -> Callable[[Any], Iterable[Any]]:
        """What is done with the items of a type: it keeps their state and gives what they hold."""
        rows: tuple[tuple[Any, Callable[[Any], Iterable[Any]]], ...] = (
            ((Enum, torch.jit.ScriptModule, FakeTensor), _closed),
            (nn.Module, self._object),
            (Tensor, self._tensor),
            (dict, self._dict),
            (tuple, tuple.__iter__),
            (list, self._list),
            (set, self._set),
            (frozenset, frozenset.__iter__),
            (deque, self._deque),
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
            (tuple(_GENERATORS), self._random_generator),
        )
        row = next((row for base, row in rows if issubclass(kind, base)), None)
        if row is not None:
            return row
        return self._object if _is_own(kind.__module__) or kind.__module__ in _OPEN else _closed

    def _object(self, item: Any) -> Iterable[Any]:
        """An instance: its attributes, its class, its slots."""
        kind: Any = type(item)
        if isinstance(item, nn.Module):
            self._undo.append(partial(_restore_class_of, item, kind))
        held: list[Any] = [kind]
        for slot in _slots(kind):
            value = _of_slot(slot, item)
            held.append(value)
            self._undo.append(partial(_restore_slot, slot, item, value))
        attributes = getattr(item, "__dict__", None)
        return (*held, *self._pairs(attributes)) if type(attributes) is dict else held

    def _dict(self, item: Any) -> Iterable[Any]:
        held = self._pairs(item)
        attributes = getattr(item, "__dict__", None)
        return (*held, attributes) if attributes else held

    def _pairs(self, item: Any) -> Iterable[Any]:
        pairs = [*_methods(item).items(item)]
        if self._in_code:
            self._undo.append(partial(self._restore_in_code, item, pairs))
        else:
            self._dicts.append((item, pairs))
        for name, value in pairs:
            if isinstance(value, _ITERATORS):  # what cannot be turned back is run on in a copy
                _methods(item).__setitem__(item, name, copy.copy(value))
        return [value for _, value in pairs]

    def _restore_in_code(self, now: Any, before: Pairs) -> None:
        if self._alone or _holds_tensors(_added(now, before)):
            _restore_dict(now, before)

    def _list(self, item: Any) -> Iterable[Any]:
        before = list.__getitem__(item, slice(None))
        self._put_back(list.__iter__, item, before, lambda: list.__setitem__(item, slice(None), before))
        return before

    def _set(self, item: Any) -> Iterable[Any]:
        before = list(set.__iter__(item))

        def put_back() -> None:
            set.clear(item)
            set.update(item, before)

        self._put_back(set.__iter__, item, before, put_back)
        return before

    def _deque(self, item: Any) -> Iterable[Any]:
        before = list(deque.__iter__(item))

        def put_back() -> None:
            deque.clear(item)
            deque.extend(item, before)

        self._put_back(deque.__iter__, item, before, put_back)
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
            if not in_code or self._alone or _holds_tensors([new for new in now if id(new) not in known]):
                put_back()

        self._undo.append(undo)

    def _array(self, item: Any) -> Iterable[Any]:
        if self._in_code:
            return ()
        before = copy.copy(item)
        self._undo.append(partial(_restore_array, item, before))
        return ()

    def _tensor(self, item: Any) -> Iterable[Any]:
        if self._in_code:
            return ()
        self._undo.append(_TensorState(item).restore)
        return vars(item), item.grad if item.is_leaf else None

    def _cell(self, item: Any) -> Iterable[Any]:
        before = _content(item)
        if not isinstance(before, _DEFINED):
            self._undo.append(partial(_restore_cell, item, before))
            self._note(Snapshot._cell, item)
        return (before,)

    def _lru_cache(self, item: Any) -> Iterable[Any]:
        self._undo.append(partial(_forget, item, item.cache_info()))
        self._note(Snapshot._lru_cache, item)
        return (item.__wrapped__,)

    def _context_variable(self, item: Any) -> Iterable[Any]:
        before = _value_of(item)
        self._undo.append(partial(_restore_variable, item, before))
        return (before,)

    def _random_generator(self, item: Any) -> Iterable[Any]:
        get, set_ = next(row for kind, row in _GENERATORS.items() if isinstance(item, kind))
        before = get(item)
        self._undo.append(lambda: None if _equal(get(item), before) else set_(item, before))
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
        held = [*(function.__defaults__ or ()), function.__kwdefaults__]
        if vars(function) or function.__name__ in function.__code__.co_names:
            held.append(vars(function))
        if any(type(one) not in _ATOMS for one in held):
            self._note(Snapshot._kept_by, function)
        return held

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
            if before.get(name, _NOTHING) is not value
            and not name.startswith("__")
            and not isinstance(value, _DEFINED)
        }
        gone = {name: value for name, value in before.items() if name not in now and name[:2] != "__"}
        if not (changed or gone) or not (self._alone or _holds_tensors(changed.values())):
            return
        if not gone and all(_is_done_once(before.get(name, _NOTHING), new) for name, new in changed.items()):
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
_Place: TypeAlias = tuple[_Enter, Any]

_KNOWN: dict[Any, Sequence[_Place]] = {}
"""Where code that was last looked at holds its state."""


def _code_of(model: Any) -> Any:
    """What says which code a model runs: the classes of its modules, and how much is imported."""
    parts = model.modules() if isinstance(model, nn.Module) else (model,)
    return frozenset(map(type, parts)), len(sys.modules)


def code_names(model: Any) -> list[dict[str, Any]]:
    """The names of the Python modules that a model's code stands in, once a snapshot was made."""
    return [names for enter, names in _KNOWN.get(_code_of(model), ()) if enter is Snapshot._names]


_DEFINED = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType)


def _package(module: str) -> str:
    return str(module).partition(".")[0]


def _is_own(module: Any) -> bool:
    """Whether what stands in a Python module may be a model's own."""
    return isinstance(module, str) and _package(module) not in _FOREIGN


def _closed(_: Any) -> Iterable[Any]:
    return ()


def _few(held: Iterable[Any]) -> bool:
    """Whether a container in code is entered: a long one holds data, and is itself put back as it was."""
    return not isinstance(held, list) or len(held) <= 10_000


def _is(a: Any, b: Any) -> bool:
    return a is b


def _is_done_once(before: Any, now: Any) -> bool:
    empty = before is None or before is False or before is _NOTHING
    return (empty and not isinstance(now, Tensor | np.ndarray | int | float | dict | list | set)) or (
        before is False and now is True
    )


def _holds_tensors(values: Iterable[Any], depth: int = 3) -> bool:
    """Whether tensors or symbolic sizes stand among the values or a little below."""
    for value in values:
        if isinstance(value, Tensor | torch.SymInt | torch.SymFloat | torch.SymBool):
            return True
        if depth and _holds_tensors(_inside(value), depth - 1):
            return True
    return False


def _inside(value: Any) -> list[Any]:
    if type(value) in (dict, OrderedDict):
        return list(value.values())
    if isinstance(value, list | tuple | set | deque):
        return list(value)
    attributes = None if isinstance(value, type) else getattr(value, "__dict__", None)
    return list(attributes.values()) if type(attributes) is dict else []


# ---- dicts ----------------------------------------------------------------------------------------


def _methods(item: Any) -> type[dict[Any, Any]]:
    """Whose methods read and write a dict as it is, whatever its own class makes of them."""
    return OrderedDict if isinstance(item, OrderedDict) else dict


def _restore_dict(now: Any, before: Pairs) -> None:
    methods = _methods(now)
    pairs = [*methods.items(now)]
    if len(pairs) == len(before) and all(
        a is c and b is d for (a, b), (c, d) in zip(pairs, before, strict=True)
    ):
        return
    kept = dict(before)
    for name in [name for name, _ in pairs if name not in kept]:
        methods.__delitem__(now, name)
    for name, value in before:
        if dict.get(now, name, _NOTHING) is not value:
            methods.__setitem__(now, name, value)
    if [*methods.keys(now)] != [*kept]:  # an order that says what was used last
        methods.clear(now)
        methods.update(now, before)


def _added(now: Any, before: Pairs) -> list[Any]:
    known = {id(value) for _, value in before}
    return [value for value in list(dict.values(now)) if id(value) not in known]


# ---- tensors --------------------------------------------------------------------------------------

_UNLIKE = (RuntimeError, NotImplementedError, TypeError)
"""What kinds of tensors raise that cannot be copied or compared."""


class _TensorState:
    """A tensor's memory, its content where it is no weight, and how gradients treat it."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._kind = tensor, type(tensor)
        self._memory = tensor.detach()
        self._content = None
        self._wanted, self._leaf = tensor.requires_grad, tensor.is_leaf
        self._gradient = tensor.grad if self._leaf else None
        if not isinstance(tensor, nn.Parameter) and not tensor.is_meta:
            with suppress(*_UNLIKE):
                self._content = tensor.detach().clone()

    def restore(self) -> None:
        tensor = self._tensor
        if type(tensor) is not self._kind:
            tensor.__class__ = self._kind  # type: ignore[assignment]
        with suppress(*_UNLIKE):
            if not _one_memory(tensor, self._memory):
                tensor.data = self._memory
            if self._content is not None and not _equal_tensors(tensor, self._content):
                tensor.data.copy_(self._content)
        if self._leaf and not tensor.is_leaf:
            tensor.detach_()
        if self._leaf and tensor.requires_grad != self._wanted:
            tensor.requires_grad_(self._wanted)
        if self._leaf and tensor.grad is not self._gradient:
            tensor.grad = self._gradient


def _one_memory(a: Tensor, b: Tensor) -> bool:
    alike = a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and a.layout == b.layout
    if not alike or a.layout is not torch.strided:
        return alike
    return a.data_ptr() == b.data_ptr() and a.stride() == b.stride()


def _equal_tensors(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


# ---- other things that hold something -------------------------------------------------------------


def _restore_class_of(item: Any, kind: type) -> None:
    if type(item) is not kind:
        object.__setattr__(item, "__class__", kind)


@functools.lru_cache(256)
def _slots(kind: Hashable) -> list[Any]:
    """The descriptors of a class' slots."""
    return [
        member
        for base in kind.__mro__  # type: ignore[attr-defined]
        if "__slots__" in vars(base)
        for member in vars(base).values()
        if isinstance(member, types.MemberDescriptorType)
    ]


def _of_slot(slot: Any, item: Any) -> Any:
    try:
        return slot.__get__(item)
    except AttributeError:
        return _NOTHING


def _restore_slot(slot: Any, item: Any, before: Any) -> None:
    if _of_slot(slot, item) is before:
        return
    with suppress(AttributeError, TypeError):
        slot.__delete__(item) if before is _NOTHING else slot.__set__(item, before)


def _restore_array(item: Any, before: Any) -> None:
    if isinstance(item, np.ndarray):
        if item.shape == before.shape and item.tobytes() != before.tobytes():
            item[...] = before
    elif item != before:
        item[:] = before


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _NOTHING


def _restore_cell(cell: Any, before: Any) -> None:
    if _content(cell) is before:
        return
    if before is _NOTHING:
        del cell.cell_contents
    else:
        cell.cell_contents = before


def _forget(cache: Any, before: Any) -> None:
    """Empty a cache that something came into: nothing can take that out alone."""
    if cache.cache_info()[1:] != before[1:]:
        cache.cache_clear()


def _value_of(variable: ContextVar[Any]) -> Any:
    try:
        return variable.get()
    except LookupError:
        return _NOTHING


def _restore_variable(variable: ContextVar[Any], before: Any) -> None:
    if before is not _NOTHING and _value_of(variable) is not before:
        variable.set(before)


# ---- random numbers and settings ------------------------------------------------------------------

_GENERATORS: Mapping[type, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    random.SystemRandom: (lambda _: None, lambda _, __: None),
    random.Random: (random.Random.getstate, random.Random.setstate),
    np.random.Generator: (lambda g: g.bit_generator.state, lambda g, s: setattr(g.bit_generator, "state", s)),
    np.random.RandomState: (lambda g: g.get_state(legacy=False), lambda g, s: g.set_state(s)),
    torch.Generator: (lambda g: g.get_state(), lambda g, s: g.set_state(s)),
}
"""How the state of a random generator is read and set."""


def _random_generators() -> list[Any]:
    """Those that belong to everyone."""
    devices = torch.cuda.default_generators if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    own = (random._inst, np.random.mtrand._rand, torch.default_generator)  # type: ignore[attr-defined]
    return [*own, *devices]


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Numbers that are drawn inside continue where the last ones inside ended, so that no two runs draw the same."""
    generators = [
        (one, *next(row for kind, row in _GENERATORS.items() if isinstance(one, kind)))
        for one in _random_generators()
    ]
    before = [get(one) for one, get, _ in generators]
    for one, _, set_ in generators:
        if id(one) in _DRAWN:
            set_(one, _DRAWN[id(one)])
    try:
        yield
    finally:
        for (one, get, set_), state in zip(generators, before, strict=True):
            if not _equal(get(one), state):
                _DRAWN[id(one)] = get(one)
                set_(one, state)


_DRAWN: dict[int, Any] = {}
"""States of everyone's generators, as the last run has left them."""


def _equal(a: Any, b: Any) -> bool:
    """Whether two states of a generator are one."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(value, b[name]) for name, value in a.items())
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    (lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)),
    (torch.is_grad_enabled, torch._C._set_grad_enabled),
)
"""Settings of PyTorch's that code can change and forget."""
