"""What sees every call of a trace: of torch functions, and of modules."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from netferry.converters import size_bounds
from netferry.converters.errors import UsageError
from netferry.converters.pytorch.live import torch_dtype
from netferry.converters.pytorch.quantized_weights import has_quantized, is_quantized
from netferry.converters.pytorch.to_onnx.tracer import gradients
from netferry.converters.pytorch.to_onnx.tracer.assertions import Unknown, wanted_truth
from netferry.converters.pytorch.to_onnx.tracer.cache import Memo
from netferry.converters.pytorch.to_onnx.tracer.calls import Call, leaves_of, map_structure
from netferry.converters.pytorch.to_onnx.tracer.complex_numbers import ComplexNumbers
from netferry.converters.pytorch.to_onnx.tracer.contents import SYMBOLS
from netferry.converters.pytorch.to_onnx.tracer.decompositions import (  # noqa: F401 - they fill the table
    DECOMPOSITIONS,
    aten,
    attention,
    basic,
    elementwise,
    grouped,
    images,
    indexing,
    linear,
    losses,
    quantized,
    reduction,
    writing,
)
from netferry.converters.pytorch.to_onnx.tracer.decompositions.found import MOST, all_places, loops_over_all
from netferry.converters.pytorch.to_onnx.tracer.names import (
    body_of,
    by_position,
    everywhere,
    qualified,
    torch_function,
    writes,
)
from netferry.converters.pytorch.to_onnx.tracer.python_names import FreeRange
from netferry.converters.pytorch.to_onnx.tracer.shape_rules import COUNTED, SHAPES
from netferry.converters.pytorch.to_onnx.tracer.shape_rules.views import lies_in_order
from netferry.converters.pytorch.to_onnx.tracer.sizes import users_frame, users_line
from netferry.converters.pytorch.to_onnx.tracer.tensors import PARTS, TracedTensors, storage_of
from netferry.converters.pytorch.to_onnx.tracer.torchscript import interpreter
from netferry.converters.pytorch.to_onnx.tracer.untraceable import (
    DataDependent,
    OwnKernel,
    Random,
    Stateful,
)
from netferry.converters.signature import Example

_GIVES_NUMBERS = {
    Tensor.item,
    Tensor.tolist,
    Tensor.is_nonzero,
    torch.is_nonzero,
    torch.equal,
    torch.allclose,
    Tensor.equal,
    Tensor.allclose,
}
_LOOKS_AT_VALUES = _GIVES_NUMBERS | {
    Tensor.numpy,
    Tensor.__array__,
    *(getattr(Tensor, f"__{name}__") for name in "bool int float complex index contains".split()),
}
"""Functions that bring a tensor's content into Python."""

_ASSERTS = {
    getattr(torch, name) for name in ("_assert_async", "_functional_assert_async") if hasattr(torch, name)
}
"""Operators that raise where data are not as they should be, and give nothing."""

_GIVE_MEMORY = Tensor.data.__set__  # type: ignore[attr-defined]
"""What ``x.data = y`` calls."""

_AS: Mapping[Any, Callable[[Any], Any]] = {
    Tensor.item: lambda x: x,
    Tensor.is_nonzero: bool,
    torch.is_nonzero: bool,
    Tensor.__bool__: bool,
    Tensor.__int__: int,
    Tensor.__float__: float,
    Tensor.__index__: int,
    Tensor.__complex__: complex,
    Tensor.numpy: lambda x: np.asarray(x, object),
    Tensor.__array__: lambda x: np.asarray(x, object),
}
"""What is made of the size that a tensor of one element holds."""

_NO_ARGUMENTS = (Unknown, FreeRange, torch.SymBool)
"""What PyTorch's functions do not take."""

_DRAWS = frozenset(
    """
    bernoulli cauchy exponential geometric gumbel_softmax log_normal multinomial normal poisson rand rand_like
    randint randint_like randn randn_like random randperm rrelu_with_noise uniform
    """.split()
)
"""Names of functions that draw random numbers."""


_VIEWS_MADE_ANEW = frozenset(
    (*everywhere("diagonal"), *everywhere("as_strided"), torch.linalg.diagonal, Tensor.unfold)
)
"""Functions that give views in PyTorch and are decomposed into such as copy: what is written into one is noticed."""


class Recorder(TracedTensors, TorchFunctionMode):
    """Sees every torch function that the model's code calls, and every call of a module."""

    def __init__(self, root: nn.Module, leaves: Container[type[nn.Module]], rows: Container[Any]) -> None:
        super().__init__(root)
        self._rows = rows
        self._complex = ComplexNumbers(self._fake, self._is_traced)
        self._memo = Memo(self.sizes, self._fake, self._seen)
        self._leaves = leaves
        self.looks: Unknown | None = None  # the first number of data that the code has got hold of
        self.left_out: dict[str, None] = {}  # lines that assert something of data
        self._module_names = {id(part): name for name, part in root.named_modules()}

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

    # ---- functions ----------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        func, kwargs = torch_function(func), dict(kwargs or {})
        if leaves_of((args, kwargs), _NO_ARGUMENTS):
            args, kwargs = self._plain_arguments(func, args, kwargs)
        if any(map(is_quantized, leaves_of((args, kwargs), Tensor))):
            if func.__name__ == "__get__":
                return func(*args, **kwargs)
            with self.sizes.kernels(), self:
                args, kwargs = quantized.opened(func, args, kwargs)
                return func(*args, **kwargs)
        if self._complex.concerns(func, args, kwargs):
            with self.sizes.kernels(), self:
                return self._complex.call(func, args, kwargs)
        if func is Tensor.unbind and (places := self._all_places(args[0])) is not None:
            return places
        if func in DECOMPOSITIONS:
            given = by_position(func, DECOMPOSITIONS[func], args, kwargs)
            with self.sizes.kernels(), self:
                result = DECOMPOSITIONS[func](*given[0], **given[1])
            if result is not NotImplemented:
                if func in _VIEWS_MADE_ANEW and isinstance(result, Tensor) and self._is_traced(result):
                    self._share(result, args[0] if args else kwargs["input"])
                return result
        tensors = leaves_of((args, kwargs), Tensor)
        traced = [tensor for tensor in tensors if self._is_traced(tensor)]
        if getattr(func, "__name__", "").removesuffix("_") in _DRAWS:
            raise Random(f"'{func.__name__}' draws random numbers", users_line())
        if traced and func in _LOOKS_AT_VALUES:
            return self._looked_at(func, tensors, args, kwargs)
        if func in _ASSERTS:
            return self.leave_out()
        if func in gradients.TAKE_GRADIENTS:
            gradients.refused()
        if _is_of_dynamic_bytes(func):
            raise OwnKernel(
                f"'{func.__name__}' finds its scale as it runs, as only PyTorch's kernels do", users_line()
            )
        if func is _GIVE_MEMORY:
            raise Stateful(f"the code gives {self._called(args[0])} other memory", users_line())
        if func is Tensor.__setitem__ and traced and self._is_there(*args):
            return None
        if not traced and not leaves_of((args, kwargs), SYMBOLS):
            with self.sizes.kernels():
                return self._constant(func, tensors, args, kwargs)
        body = None if func in self._rows else body_of(func)
        if body is not None:
            with self:
                return body(*args, **kwargs)
        with self.sizes.kernels():
            return self._record(func, SHAPES.get(func) or SHAPES.get(qualified(func), func), args, kwargs)

    def _plain_arguments(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """What PyTorch takes of what stands for Python's numbers here: tensors of ranges, truths of sizes."""
        for unknown in leaves_of((args, kwargs), Unknown):
            raise unknown.refuse()
        if getattr(func, "__name__", "").startswith("sym_"):
            return args, kwargs

        def plain(item: Any) -> Any:
            if isinstance(item, FreeRange):
                with self:
                    return item.tensor()
            return bool(item) if isinstance(item, torch.SymBool) else item

        found: tuple[Any, Any] = map_structure(plain, (args, kwargs))
        return found

    def _looked_at(self, func: Any, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        """What the code finds when it looks into a tensor: what is known of it, or something that it may only assert."""
        known = [self._known(tensor) for tensor in tensors]
        if all(tensor is not None for tensor in known):
            return func(*map_structure(self._as_known, args), **map_structure(self._as_known, kwargs))
        held = self._content(tensors[0]) if len(tensors) == 1 else None
        if held is not None and func is not Tensor.__contains__:
            return (
                held.tolist() if func is Tensor.tolist else _AS[func](held.item()) if held.size == 1 else held
            )
        unknown = self._unknown(held=func in _GIVES_NUMBERS)
        if func in _GIVES_NUMBERS:
            return unknown
        if func in (Tensor.__bool__, Tensor.__contains__):
            return bool(unknown)
        raise unknown.refuse()

    def _unknown(self, held: bool) -> Unknown:
        """What stands for data that the code looks at in this line; ``held``: and goes on with."""
        line = users_line()
        unknown = Unknown(self._asserted, lambda: DataDependent("the code looks at a tensor's values", line))
        if held and self.looks is None:
            self.looks = unknown
        return unknown

    def _all_places(self, found: Tensor) -> Iterator[Tensor] | None:
        """What goes through all places that can be found instead of those that are, where the loop at hand allows that."""
        mask, frame = self._places.get(id(self._seen(found))), users_frame()
        if mask is None or frame is None or not isinstance(mask.shape[0], int) or mask.shape[0] > MOST:
            return None
        if not loops_over_all(frame):
            return None
        for constant in leaves_of(list(frame.f_locals.values()), Tensor):
            self._seen(constant)  # what is written into it is then known from what it held before
        return all_places(mask, frame, self, self._unknown(held=True).refuse)

    def _asserted(self) -> bool:
        """The truth of what only the data say, where an assertion asks for it."""
        wanted = wanted_truth(users_frame())
        if wanted is None:
            raise DataDependent("the code looks at a tensor's values", users_line())
        self.leave_out()
        return wanted

    def leave_out(self) -> None:
        """Note an assertion on data, which is no part of the model."""
        self.left_out[str(users_line())] = None

    def _constant(self, func: Any, tensors: list[Tensor], args: Any, kwargs: Any) -> Any:
        """Call with what is known now; what comes of it is a constant of the model."""
        name = getattr(func, "__name__", "a function")
        if writes(func) and tensors and storage_of(tensors[0]) not in self._made:
            raise Stateful(f"'{name}' writes into a tensor that outlives the call", users_line())
        before = torch.random.get_rng_state()
        result = func(*args, **kwargs)
        if not torch.equal(before, torch.random.get_rng_state()):
            torch.random.set_rng_state(before)
            raise Random(f"'{name}' draws random numbers", users_line())
        inputs = set(map(storage_of, tensors))
        self._made.update(
            (storage_of(t), t) for t in leaves_of(result, Tensor) if storage_of(t) not in inputs
        )
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
        tensors = leaves_of((args, kwargs), Tensor)
        counted = target in COUNTED or qualified(target) in COUNTED
        key = None if counted else self._memo.key(target, args, kwargs, module)
        given, given_kwargs = map_structure(self._argument, (args, kwargs))
        try:
            result, written = self._found(key, tensors) or self._made_by(function, args, kwargs, tensors, key)
        except DataDependentOutputException:
            args, kwargs = map_structure(self._as_number, (args, kwargs))
            tensors = leaves_of((args, kwargs), Tensor)
            given, given_kwargs = map_structure(self._argument, (args, kwargs))
            try:
                result, written = self._made_by(function, args, kwargs, tensors, None)
            except DataDependentOutputException as error:
                raise DataDependent("the code looks at a tensor's values", users_line()) from error
        outputs = leaves_of(result, Tensor)
        if not outputs and not written:
            return result
        for tensor in written:
            self._write(tensor)
        if getattr(target, "__name__", "") in ("nonzero", "argwhere") and tensors[0].dim() == 1:
            self._places[id(result)] = self._seen(tensors[0])
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
        if isinstance(result, list | tuple) and getattr(target, "__name__", "") in PARTS:
            self._note_parts(result, self._seen(args[0]), given, given_kwargs)
        return self._as_called(result, written)

    def _found(self, key: Hashable | None, tensors: list[Tensor]) -> tuple[Any, list[Tensor]] | None:
        """What a call like this one has given before, as new tensors."""
        given = [self._seen(tensor) for tensor in tensors]
        found = None if key is None else self._memo.recall(key, given)
        if found is None:
            return None
        result, views = found
        for position, tensor in views.items():
            self._memories[position] = self._memories[id(tensor)]
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
        result = self._over_fakes(function, map_structure(self._stood_in, (args, kwargs)))
        written = [
            t for t, fake, version in zip(tensors, given, versions, strict=True) if fake._version != version
        ]
        storages = {storage_of(fake): fake for fake in given}
        result = map_structure(lambda made: self._brief(made, storages), result)
        for made in leaves_of(result, Tensor):
            base = storages.get(storage_of(made))
            if base is not None and id(made) not in self._values:
                self._memories[id(made)] = self._memories[id(base)]
        if key is not None and not written:
            self._memo.keep(key, result, given)
        return result, written

    def _brief(self, made: Any, storages: Container[int]) -> Any:
        """A new tensor that lies in order, with symbols for what is long in its sizes."""
        if not isinstance(made, FakeTensor) or id(made) in self._values or storage_of(made) in storages:
            return made
        sizes = [self.sizes.brief(size) for size in made.shape]
        if all(a is b for a, b in zip(sizes, made.shape, strict=True)) or not lies_in_order(made):
            return made
        with self._fake:
            return torch.empty(sizes, dtype=made.dtype, device=made.device)

    def _over_fakes(self, function: Callable[..., Any], given: tuple[Any, Any]) -> Any:
        args, kwargs = given
        with self._fake, enable_python_dispatcher():  # else compositions in C++ ask for sizes as numbers
            return function(*args, **kwargs)

    # ---- modules ------------------------------------------------------------------------------

    def call(self, enter: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A call of a module: recorded where it is kept whole, else entered."""
        if isinstance(module, torch.jit.ScriptModule):
            name = self._module_names.get(id(module)) or module.original_name
            with self._inside(module):
                return interpreter.run(module, name, args, kwargs)
        key = None if self._complex.concerns(None, args, kwargs) else self._leaf(module)
        with self._inside(module):
            if key is None:
                return enter(module, *args, **kwargs)
            with self.sizes.kernels(), torch._C.DisableTorchFunction():
                return self._record(key, _forward_of(module, key, self._stood_in), args, kwargs, module)

    def _leaf(self, module: nn.Module) -> type[nn.Module] | None:
        """The class under which a module is kept whole: its own, or one whose ``forward`` it has."""
        hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__
        if hooked or has_quantized(module):
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


def _is_of_dynamic_bytes(func: Any) -> bool:
    """Whether it is an operator of ``quantize_dynamic``'s layers."""
    name = qualified(func) or ""
    return name.startswith("quantized::") and "_dynamic" in name


def _forward_of(
    module: nn.Module, key: type[nn.Module], stood_in: Callable[[Any], Any]
) -> Callable[..., Any]:
    """The layer's own forward over stand-ins of its weights, or our rule for its sizes."""

    def by_rule(*args: Any, **kwargs: Any) -> Any:
        found = SHAPES[key](module, *args, **kwargs)
        return _twin(module, key, stood_in).forward(*args, **kwargs) if found is NotImplemented else found

    return by_rule if key in SHAPES else _twin(module, key, stood_in).forward


def _twin(module: nn.Module, key: type[nn.Module], stood_in: Callable[[Any], Any]) -> nn.Module:
    """The layer with stand-ins of its weights."""
    twin = object.__new__(key)  # the user's module is not touched: another thread may be running it
    twin.__dict__.update(module.__dict__)
    twin.__dict__["_parameters"] = map_structure(stood_in, module._parameters)
    twin.__dict__["_buffers"] = map_structure(stood_in, module._buffers)
    if parametrize.is_parametrized(module):
        parts: Any = module.parametrizations
        twin.__dict__.update({name: stood_in(getattr(module, name)) for name in parts})
    return twin
