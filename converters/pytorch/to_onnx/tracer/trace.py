"""Our own trace of a module: which layers and functions it calls, with sizes kept symbolic.

``forward`` runs once over fake tensors (dtype and sizes, no content) under a ``TorchFunctionMode``. Layers that
the caller has a row for are kept whole, all others are entered. What comes out is a plain list of calls with no
ONNX in it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from netferry.converters import size_bounds
from netferry.converters.errors import UsageError, first_line
from netferry.converters.pytorch.live import device_of, layer_by_layer, outputs_of, torch_dtype
from netferry.converters.pytorch.to_onnx.tracer import decompositions_attention, decompositions_indexing  # noqa: F401 - they fill the table
from netferry.converters.pytorch.to_onnx.tracer.cache import Memo
from netferry.converters.pytorch.to_onnx.tracer.calls import Call, Trace, Value, leaves_of, map_structure
from netferry.converters.pytorch.to_onnx.tracer.decompositions import COMPOSITIONS
from netferry.converters.pytorch.to_onnx.tracer.fake_tensors import PlainFakeTensorMode
from netferry.converters.pytorch.to_onnx.tracer.names import by_place, torch_function, writes
from netferry.converters.pytorch.to_onnx.tracer.patching import ONE_AT_A_TIME, left_as_it_was, stand_ins
from netferry.converters.pytorch.to_onnx.tracer.shape_rules import SHAPES
from netferry.converters.pytorch.to_onnx.tracer.sizes import Sizes, line_of, users_line
from netferry.converters.pytorch.to_onnx.tracer.untraceable import (
    Complex,
    DataDependent,
    Random,
    StaleAlias,
    Stateful,
    Untraceable,
)
from netferry.converters.signature import Example


def trace(
    module: nn.Module,
    given: Sequence[Example],
    leaves: Container[type[nn.Module]],
    at: Mapping[str, int] | None = None,
) -> Trace:
    """Run ``module`` over fake tensors shaped as ``given``; layers whose class is in ``leaves`` stay whole.

    Where the code branches on free sizes, it goes the way of ``at``, else that of the examples.
    """
    recorder = _Recorder(module, leaves)
    inputs = recorder.inputs(given, device_of(module), at or {})
    values = tuple(map(recorder.value, inputs))
    try:
        with (
            ONE_AT_A_TIME,
            layer_by_layer(module),
            left_as_it_was(module),
            stand_ins(recorder, module),
            recorder,
        ):
            result = module(*inputs)
    except Untraceable:
        raise
    except Exception as error:
        raise Untraceable(f"{type(error).__name__}: {first_line(error)}", users_line_of(error)) from error
    outputs = {name: recorder.value(tensor) for name, tensor in outputs_of(module, result).items()}
    if odd := [name for name, value in outputs.items() if value.dtype.is_complex]:
        raise Complex(f"the output '{odd[0]}' is complex, which ONNX's operators do not take")
    calls = tuple(_needed(recorder.calls, outputs.values()))
    return Trace(values, outputs, calls, tuple(recorder.sizes.narrowings), recorder.sizes.hints)


_LOOKS_AT_VALUES = frozenset(
    getattr(Tensor, name)
    for name in "__bool__ __int__ __float__ __complex__ __index__ __contains__ item tolist is_nonzero".split()
) | {
    torch.is_nonzero,
    torch.equal,
    torch.allclose,
    Tensor.equal,
    Tensor.allclose,
    Tensor.numpy,
    Tensor.__array__,
}
"""Functions that carry a tensor's content into Python."""


_GIVE_MEMORY = Tensor.data.__set__  # type: ignore[attr-defined]
"""What ``x.data = y`` calls."""

_SMALL = 1 << 12
"""Elements of a tensor whose content is known while a trace runs."""

_DRAWS = frozenset(
    """
    bernoulli cauchy exponential geometric gumbel_softmax log_normal multinomial normal poisson rand rand_like
    randint randint_like randn randn_like random randperm rrelu_with_noise uniform
    """.split()
)
"""Names of functions that draw random numbers."""


class _Recorder(TorchFunctionMode):
    """Sees every torch function that the model's code calls, and every call of a module."""

    def __init__(self, root: nn.Module, leaves: Container[type[nn.Module]]) -> None:
        super().__init__()
        self.sizes = Sizes()
        self.calls: list[Call] = []
        self._fake = PlainFakeTensorMode(shape_env=self.sizes)
        self._fake.cache_enabled = False  # with symbolic sizes it costs more than it saves
        self._memo = Memo(self.sizes, self._fake, self._seen)
        self._leaves = leaves
        self._paths = [""]
        self._module_names = {id(part): name for name, part in root.named_modules()}
        self._weight_names: dict[int, str] = {}
        for name, tensor in (*root.named_parameters(), *root.named_buffers()):
            self._weight_names.setdefault(id(tensor), name)
        self._values: dict[int, tuple[Tensor, Value]] = {}
        self._memories: dict[int, int] = {}  # fake tensors that share memory have one number
        self._sharing: dict[int, list[Tensor]] = {}  # and the tensors that have it
        self._stand_ins: dict[int, _StandIn] = {}
        self._stale: dict[int, Tensor] = {}  # fake tensors that share memory with one written since: that one
        self._cut_from: dict[int, tuple[Tensor, Any]] = {}  # results of indexing: of which tensor, by what
        self._views: dict[
            int, _View
        ] = {}  # results that share memory with an argument: how they were made of it
        self._overwritten: set[int] = set()  # memory of constants that a traced value was written into
        self._made: dict[int, Tensor] = {}
        self._real: dict[int, Tensor] = {}  # what fake tensors hold that are made of buffers alone

    # ---- tensors ------------------------------------------------------------------------------

    def inputs(self, given: Sequence[Example], device: torch.device, at: Mapping[str, int]) -> list[Tensor]:
        """A fake tensor per example; free axes of one name have one symbol, and one named ``a + b`` has no own."""
        names = {name: example.array.shape[axis] for example in given for axis, name in example.free.items()}
        plain = [name for name in names if not size_bounds.is_composed(name, names)]
        free = {name: self.sizes.free(name, at.get(name, names[name])) for name in plain}
        shown = {name: names[name] for name in plain}
        fakes = []
        for example in given:
            shape: list[Any] = list(example.array.shape)
            for axis, name in example.free.items():
                if size_bounds.size_of(name, shown) != shape[axis]:
                    raise UsageError(
                        f"the examples give the size '{name}' two values",
                        where=f"input '{example.name}', axis {axis}",
                        expected=size_bounds.size_of(name, shown),
                        received=shape[axis],
                    )
                shape[axis] = size_bounds.size_of(name, free)
            dtype = torch_dtype(example.array.dtype)
            with self._fake:
                fake = torch.empty(shape, dtype=dtype, device=device)
            self._know(fake)
            fakes.append(fake)
        return fakes

    def value(self, tensor: Tensor) -> Value:
        """The value that a tensor holds now."""
        stand_in = self._seen(tensor)
        if id(stand_in) in self._stale:
            self._view_again(stand_in)
        return self._values[id(stand_in)][1]

    def _know(self, fake: Tensor, data: Tensor | None = None, name: str = "") -> Value:
        value = Value(fake.dtype, tuple(map(self.sizes.named, fake.shape)), data, name)
        if id(fake) not in self._values:
            memory = self._memories.setdefault(id(fake), _new(self._sharing))
            self._sharing.setdefault(memory, []).append(fake)
        self._values[id(fake)] = (fake, value)
        self._stale.pop(id(fake), None)
        return value

    def _seen(self, tensor: Tensor) -> Tensor:
        """The fake tensor that the trace sees for ``tensor``: itself, or what stands in for a real one."""
        if id(tensor) in self._values:
            return tensor
        stand_in = self._stand_ins.get(id(tensor))
        if stand_in is None or not stand_in.holds():
            weight = self._weight_names.get(id(tensor), "")
            with self._fake:
                fake = torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
                )
            self._know(fake, tensor if weight else tensor.detach().clone(), weight)
            stand_in = self._stand_ins[id(tensor)] = _StandIn(tensor, fake, tensor._version)
        return stand_in.fake

    def _is_traced(self, tensor: Tensor) -> bool:
        """Whether the tensor is a weight or depends on the inputs; others are constants."""
        if isinstance(tensor, FakeTensor) or id(tensor) in self._weight_names:
            return True
        stand_in = self._stand_ins.get(id(tensor))
        if stand_in is not None and stand_in.written:
            return True
        if self._overwritten and _storage(tensor) in self._overwritten:
            raise _stale()
        return False

    # ---- functions ----------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        func, kwargs = torch_function(func), dict(kwargs or {})
        if func in COMPOSITIONS:
            args, kwargs = by_place(func, COMPOSITIONS[func], args, kwargs)
            with self.sizes.kernels(), self:
                return COMPOSITIONS[func](*args, **kwargs)
        tensors = leaves_of((args, kwargs), Tensor)
        traced = [tensor for tensor in tensors if self._is_traced(tensor)]
        if getattr(func, "__name__", "").removesuffix("_") in _DRAWS:
            raise Random(f"'{func.__name__}' draws random numbers", users_line())
        if traced and func in _LOOKS_AT_VALUES:
            known = [self._known(tensor) for tensor in tensors]
            if all(tensor is not None for tensor in known):
                return func(*map_structure(self._as_known, args), **map_structure(self._as_known, kwargs))
            raise DataDependent("the code looks at a tensor's values", users_line())
        if func is _GIVE_MEMORY:
            raise Stateful(f"the code gives {self._called(args[0])} other memory", users_line())
        if func is Tensor.__setitem__ and traced and self._is_there(*args):
            return None
        with self.sizes.kernels():
            if not traced and not leaves_of((args, kwargs), torch.SymInt):
                return self._constant(func, tensors, args, kwargs)
            return self._record(func, SHAPES.get(func, func), args, kwargs)

    def _constant(self, func: Any, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Call with what is known now; what comes of it is a constant of the model."""
        name = getattr(func, "__name__", "a function")
        if writes(func) and tensors and _storage(tensors[0]) not in self._made:
            raise Stateful(f"'{name}' writes into a tensor that outlives the call", users_line())
        before = torch.random.get_rng_state()
        result = func(*args, **kwargs)
        if not torch.equal(before, torch.random.get_rng_state()):
            torch.random.set_rng_state(before)
            raise Random(f"'{name}' draws random numbers", users_line())
        inputs = set(map(_storage, tensors))
        self._made.update((_storage(t), t) for t in leaves_of(result, Tensor) if _storage(t) not in inputs)
        return result

    def _record(
        self,
        target: Any,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        module: nn.Module | None = None,
    ) -> Any:
        """Call over fake tensors and write it down; whatever it wrote into is a new value from now on."""
        given, given_kwargs = map_structure(self._argument, (args, kwargs))
        tensors = leaves_of((args, kwargs), Tensor)
        key = self._memo.key(target, args, kwargs, module)
        result, written = self._found(key, tensors) or self._made_by(function, args, kwargs, tensors, key)
        outputs = leaves_of(result, Tensor)
        if not outputs and not written:
            return result
        for tensor in written:
            self._write(tensor)
        if target is Tensor.__getitem__:
            self._cut_from[id(result)] = (self._seen(args[0]), args[1])
        if module is None and not written:
            self._compute(target, args, kwargs, outputs)
        recorded = map_structure(self._result, result if outputs else self._seen(written[0]))
        self.calls.append(Call(target, self._paths[-1], given, given_kwargs, recorded, module))
        for tensor in written:
            self._write_through(self._seen(tensor))
        if not written and isinstance(result, Tensor) and args and isinstance(args[0], Tensor):
            self._note_view(result, self._seen(args[0]), target, given, given_kwargs)
        return self._as_called(result, written)

    def _found(self, key: Hashable | None, tensors: list[Tensor]) -> tuple[Any, list[Tensor]] | None:
        """What a call like this one has given before, as new tensors."""
        given = [self._seen(tensor) for tensor in tensors]
        found = None if key is None else self._memo.recall(key, given)
        if found is None:
            return None
        result, views = found
        for place, tensor in views.items():
            self._memories[place] = self._memories[id(tensor)]
        return result, []

    def _made_by(
        self,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        tensors: list[Tensor],
        key: Hashable | None,
    ) -> tuple[Any, list[Tensor]]:
        """What the call gives over fake tensors, and which of those it was given it wrote into."""
        given = [self._seen(tensor) for tensor in tensors]
        versions = [fake._version for fake in given]
        try:
            result = self._over_fakes(function, map_structure(self._stood_in, (args, kwargs)))
        except DataDependentOutputException:
            result = self._over_fakes(function, map_structure(self._as_number, (args, kwargs)))
        written = [
            t for t, fake, version in zip(tensors, given, versions, strict=True) if fake._version != version
        ]
        storages = {_storage(fake): fake for fake in given}
        for made in leaves_of(result, Tensor):
            base = storages.get(_storage(made))
            if base is not None and id(made) not in self._values:
                self._memories[id(made)] = self._memories[id(base)]
        if key is not None and not written:
            self._memo.keep(key, result, given)
        return result, written

    def _over_fakes(self, function: Callable[..., Any], given: tuple[Any, Any]) -> Any:
        args, kwargs = given
        with self._fake, enable_python_dispatcher():  # else compositions in C++ ask for sizes as numbers
            return function(*args, **kwargs)

    def _argument(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            return self.value(item)
        if isinstance(item, torch.SymInt | torch.SymFloat):
            return self.sizes.named(item)
        return item

    def _stood_in(self, item: Any) -> Any:
        return self._seen(item) if isinstance(item, Tensor) else item

    def _result(self, item: Any) -> Any:
        return self._know(item) if isinstance(item, Tensor) else item

    # ---- numbers that are known --------------------------------------------------------------

    def _known(self, tensor: Tensor) -> Tensor | None:
        """What a tensor holds, where that is the same in every run: constants, buffers, what is made of them."""
        if id(tensor) in self._real:
            return self._real[id(tensor)]
        fixed = not isinstance(tensor, FakeTensor | nn.Parameter) and tensor.numel() <= _SMALL
        return tensor if fixed and not tensor.is_meta else None

    def _as_known(self, item: Any) -> Any:
        return self._known(item) if isinstance(item, Tensor) else item

    def _as_number(self, item: Any) -> Any:
        """A tensor of one known number as that number, where a function can do with nothing else."""
        known = self._known(item) if isinstance(item, Tensor) and item.dim() == 0 else None
        return self._stood_in(item) if known is None else known.item()

    def _compute(self, target: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
        """Keep what a call over known tensors gives."""
        tensors = leaves_of((args, kwargs), Tensor)
        known = [self._known(tensor) for tensor in tensors]
        if not tensors or any(tensor is None for tensor in known) or leaves_of((args, kwargs), torch.SymInt):
            return
        try:
            result = target(*map_structure(self._as_known, args), **map_structure(self._as_known, kwargs))
        except Exception:
            return
        made = leaves_of(result, Tensor)
        if len(made) == len(outputs) and all(tensor.numel() <= _SMALL for tensor in made):
            self._real.update((id(fake), real) for fake, real in zip(outputs, made, strict=True))

    def _write(self, tensor: Tensor) -> None:
        """``tensor`` was written in place: what shares its memory no longer holds what its value says."""
        if id(tensor) in self._weight_names:
            raise Stateful(f"the code writes into '{self._weight_names[id(tensor)]}'", users_line())
        fake = self._seen(tensor)
        if fake is not tensor:
            if _storage(tensor) not in self._made:
                raise Stateful("the code writes into a tensor that outlives the call", users_line())
            self._stand_ins[id(tensor)].written = True
            self._overwritten.add(_storage(tensor))
        for other in self._sharing[self._memories[id(fake)]]:
            self._real.pop(id(other), None)
            if other is not fake:
                self._stale[id(other)] = fake

    def _called(self, tensor: Tensor) -> str:
        weight = self._weight_names.get(id(tensor))
        return f"'{weight}'" if weight else "a tensor"

    def _is_there(self, base: Tensor, index: Any, part: Any) -> bool:
        """``x[i] += 1`` writes into the view ``x[i]`` and then assigns it to where it is."""
        if not isinstance(part, Tensor):
            return False
        fake, (cut_from, place) = self._seen(base), self._cut_from.get(id(self._seen(part)), (None, None))
        fresh = cut_from is fake and id(fake) not in self._stale
        return fresh and not leaves_of((place, index), Tensor) and bool(place == index)

    def _as_called(self, result: Any, written: list[Tensor]) -> Any:
        """The result as the caller expects it: an in-place function returns the very tensor it wrote."""
        return next((tensor for tensor in written if self._seen(tensor) is result), result)

    # ---- views --------------------------------------------------------------------------------

    def _note_view(self, fake: Tensor, base: Tensor, target: Any, given: Any, kwargs: Any) -> None:
        if fake is not base and self._memories[id(fake)] == self._memories[id(base)]:
            self._views.setdefault(id(fake), _View(base, target, tuple(given[1:]), kwargs))

    def _write_through(self, fake: Tensor) -> None:
        """What was written into a view is written into what it is a view of, as far as that can be said."""
        view = self._views.get(id(fake))
        back = None if view is None else view.back()
        if view is None or back is None:
            return
        written, before = self._values[id(fake)][1], self._values[id(view.base)][1]
        target, args = back(before, written)
        after = self._know(view.base)
        self.calls.append(Call(target, self._paths[-1], args, {}, after))
        self._write_through(view.base)

    def _view_again(self, fake: Tensor) -> None:
        """A view whose base was written is made of it once more."""
        view = self._views.get(id(fake))
        if view is None:
            raise _stale()
        base = self.value(view.base)
        made = self._know(fake)
        self.calls.append(Call(view.target, self._paths[-1], (base, *view.rest), view.kwargs, made))

    # ---- modules ------------------------------------------------------------------------------

    def call(self, enter: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A call of a module: recorded where it is kept whole, else entered."""
        key = self._leaf(module)
        with self._inside(module):
            if key is None:
                return enter(module, *args, **kwargs)
            with self.sizes.kernels(), torch._C.DisableTorchFunction():
                return self._record(key, _forward_of(module, key, self._stood_in), args, kwargs, module)

    def _leaf(self, module: nn.Module) -> type[nn.Module] | None:
        """The class under which a module is kept whole: its own, or one whose ``forward`` it has."""
        hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__
        if hooked:
            return None
        kinds = (kind for kind in type(module).__mro__ if kind in self._leaves)
        own = getattr(type(module), "forward", None)
        return next((kind for kind in kinds if getattr(kind, "forward", None) is own), None)

    @contextmanager
    def _inside(self, module: nn.Module) -> Iterator[None]:
        self._paths.append(self._module_names.get(id(module), type(module).__name__))
        try:
            yield
        finally:
            self._paths.pop()


@dataclass(frozen=True)
class _View:
    """How a view was made: ``target(base, *rest, **kwargs)``."""

    base: Tensor
    target: Any
    rest: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def back(self) -> Callable[[Value, Value], tuple[Any, tuple[Any, ...]]] | None:
        """From the values of the base and of the view: the call that gives the base with the view in it."""
        name = getattr(self.target, "__name__", "")
        if self.target is Tensor.__getitem__:
            return lambda base, view: (Tensor.__setitem__, (base, self.rest[0], view))
        if name in _RESHAPES:
            return lambda base, view: (Tensor.reshape, (view, base.dims))
        if name in ("transpose", "swapaxes", "t", "adjoint"):
            places = self.rest[:2] if name in ("transpose", "swapaxes") else (-2, -1)
            return lambda _, view: (Tensor.transpose, (view, *places))
        return None


_RESHAPES = frozenset({"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as"})
"""Functions whose result has all elements of their first argument, in order."""


@dataclass
class _StandIn:
    """The fake tensor for a real one, which is kept alive; ``version`` tells whether it was written since."""

    real: Tensor
    fake: Tensor
    version: int
    written: bool = field(default=False)

    def holds(self) -> bool:
        return self.written or self.real._version == self.version


def _forward_of(
    module: nn.Module, key: type[nn.Module], stood_in: Callable[[Any], Any]
) -> Callable[..., Any]:
    """The layer's own forward over stand-ins of its weights, or our rule for its sizes."""
    if key in SHAPES:
        return lambda *args, **kwargs: SHAPES[key](module, *args, **kwargs)

    twin = object.__new__(key)  # the user's module is not touched: another thread may be running it
    twin.__dict__.update(module.__dict__)
    twin.__dict__["_parameters"] = map_structure(stood_in, module._parameters)
    twin.__dict__["_buffers"] = map_structure(stood_in, module._buffers)
    if parametrize.is_parametrized(module):
        parts: Any = module.parametrizations
        twin.__dict__.update({name: stood_in(getattr(module, name)) for name in parts})
    return twin.forward


def users_line_of(error: BaseException) -> str | None:
    """The user's line in an error's traceback, if it passes through one."""
    lines = []
    traceback = error.__traceback__
    while traceback is not None:
        lines.append(line_of(traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return next((line for line in reversed(lines) if line), None)


def _needed(calls: Sequence[Call], outputs: Any) -> list[Call]:
    """The calls that the outputs depend on, in order."""
    wanted = set(map(id, outputs))
    kept: list[Call] = []
    for call in reversed(calls):
        if any(id(value) in wanted for value in leaves_of(call.result, Value)):
            kept.append(call)
            wanted.update(map(id, leaves_of((call.args, call.kwargs), Value)))
    return kept[::-1]


def _stale() -> StaleAlias:
    return StaleAlias("a tensor is read after one that shares its memory was written in place", users_line())


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _new(numbered: Mapping[int, Any]) -> int:
    return -1 - len(numbered)
