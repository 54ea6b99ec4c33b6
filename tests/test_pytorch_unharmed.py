"""A model that was converted is the model that it was: state in every place where a model's code can keep one."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import itertools
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

import netferry
from netferry.converters.errors import NetferryError
from netferry.converters.pytorch.to_onnx.tracer.patching import restored

X = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)

_GRIDS: dict[Any, torch.Tensor] = {}
_SEEN: list[Any] = []
_TABLE: torch.Tensor | None = None
_CALLS = 0
_VARIABLE: ContextVar[Any] = ContextVar("variable", default=None)


def _grid(n: int) -> torch.Tensor:
    return torch.linspace(0, 1, n)


def _kept_in_a_default(n: int, kept: dict[int, torch.Tensor] = {}) -> torch.Tensor:  # noqa: B006
    return kept.setdefault(n, _grid(n))


def _kept_in_a_keyword(n: int, *, kept: list[torch.Tensor] = []) -> torch.Tensor:  # noqa: B006
    kept.append(_grid(n))
    return kept[0]


def _kept_in_itself(n: int) -> torch.Tensor:
    if not hasattr(_kept_in_itself, "grid"):
        _kept_in_itself.grid = _grid(n)  # type: ignore[attr-defined]
    return _kept_in_itself.grid  # type: ignore[attr-defined, no-any-return]


@functools.lru_cache(None)
def _kept_by_lru_cache(n: int) -> torch.Tensor:
    return _grid(n)


def _kept_in_a_closure() -> Callable[[int], torch.Tensor]:
    kept: dict[int, torch.Tensor] = {}
    last = None

    def of(n: int) -> torch.Tensor:
        nonlocal last
        if n not in kept:
            kept[n] = last = _grid(n)
        assert last is not None
        return kept[n]

    return of


_IN_A_CLOSURE = _kept_in_a_closure()


@dataclass
class Cell:
    tensor: torch.Tensor | None = None
    by_size: dict[int, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Frozen:
    inner: Cell = field(default_factory=Cell)


class Slotted:
    __slots__ = ("count", "tensor")


class Shared:
    everyones: dict[str, torch.Tensor] = {}  # noqa: RUF012
    last: Any = None


def _on_self(m: Any, x: torch.Tensor) -> torch.Tensor:
    if not hasattr(m, "made"):
        m.made = m.weight * 2
    m.last = x
    return m.made  # type: ignore[no-any-return]


def _in_a_dict(m: Any, x: torch.Tensor) -> torch.Tensor:
    if "made" not in m.kept:
        m.kept["made"] = m.weight[m.order]
    m.kept[x.dtype] = x
    return m.kept["made"]  # type: ignore[no-any-return]


def _in_a_nested_dict(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.kept.setdefault("cpu", {}).setdefault(x.shape[-1], m.weight * 3)  # type: ignore[no-any-return]


def _in_a_list(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.list.append(m.weight.relu())
    m.list[0] = x
    return m.list[-1]  # type: ignore[no-any-return]


def _in_a_tuple_of_lists(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.tuple[1].insert(0, x)
    return m.weight  # type: ignore[no-any-return]


def _in_a_deque(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.deque.append(x.mean(-1))
    m.set.add(x)
    return m.weight  # type: ignore[no-any-return]


def _in_objects(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.cell.tensor = m.frozen.inner.by_size[4] = x
    m.names.anything = m.slotted.tensor = m.weight + 1
    m.plain.counter = getattr(m.plain, "counter", 0) + 1
    return m.names.anything  # type: ignore[no-any-return]


def _in_the_class(m: Any, x: torch.Tensor) -> torch.Tensor:
    type(m).seen = x
    Shared.last = Shared.everyones["last"] = x * 2
    return m.weight  # type: ignore[no-any-return]


def _in_globals(m: Any, x: torch.Tensor) -> torch.Tensor:
    global _TABLE, _CALLS
    _CALLS += 1
    if _TABLE is None:
        _TABLE = m.weight * 2
    _GRIDS["last"] = x
    _SEEN.append(x)
    _VARIABLE.set(x)
    return _TABLE


def _in_functions(m: Any, x: torch.Tensor) -> torch.Tensor:
    n = x.shape[-1]
    made = _kept_in_a_default(n) + _kept_in_a_keyword(n) + _kept_in_itself(n)
    return made + _kept_by_lru_cache(n) + _IN_A_CLOSURE(n) + m.closure(n) + m.weight  # type: ignore[no-any-return]


def _buffer_at_first_call(m: Any, x: torch.Tensor) -> torch.Tensor:
    if not hasattr(m, "late"):
        m.register_buffer("late", torch.arange(x.shape[-1]).float(), persistent=False)
        m.register_parameter("later", None)
        m.inner = nn.Identity()
    return m.late + m.weight  # type: ignore[no-any-return]


def _hooks_at_first_call(m: Any, x: torch.Tensor) -> torch.Tensor:
    if not getattr(m, "hooked", False):
        m.hooked = True
        m.fc.register_forward_hook(lambda _, __, result: result + 1)
    return m.fc(x)  # type: ignore[no-any-return]


def _counters(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.calls += 1
    m.numbers.append(next(m.count))
    m.order_of_use.move_to_end("a")
    m.array += 1
    return m.weight  # type: ignore[no-any-return]


def _flags(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.fc.weight.requires_grad_(False)
    m.fc.train()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)
    return m.weight  # type: ignore[no-any-return]


def _random_numbers(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.chosen = random.random() + np.random.rand() + m.numpys.random() + m.pythons.random()
    return m.weight  # type: ignore[no-any-return]


def _attributes_of_tensors(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.weight.doubled = m.weight * 2
    m.order.used = x
    return m.weight.doubled  # type: ignore[no-any-return]


def _a_weight_given_other_memory(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.fc.weight.data = m.fc.weight.data.renorm(2, 0, 0.1)
    return m.fc(x)  # type: ignore[no-any-return]


def _a_buffer_written(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.order += 1
    return m.weight  # type: ignore[no-any-return]


def _a_table_that_grows(m: Any, x: torch.Tensor) -> torch.Tensor:
    if x.shape[0] > m.table.shape[0]:
        m.table = torch.zeros(x.shape[0], 4)
    return m.table[: x.shape[0], None] + m.weight  # type: ignore[no-any-return]


def _a_table_in_its_own_place(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.table = m.table.to(device=x.device, dtype=x.dtype)
    return m.table[1] + m.weight  # type: ignore[no-any-return]


class Keeping(nn.Module):
    """A model with a place for everything; ``how`` is what its forward does with them."""

    seen: Any = None

    def __init__(self, how: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.fc = nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.randn(4))
        self.register_buffer("order", torch.tensor([3, 0, 2, 1]))
        self.register_buffer("table", torch.randn(3, 4))
        self.kept: dict[Any, Any] = {}
        self.list: list[Any] = [None]
        self.tuple: tuple[int, list[Any]] = (1, [])
        self.deque: deque[Any] = deque([1, 2, 3], maxlen=3)
        self.set = {1, 2}
        self.cell, self.frozen, self.names, self.slotted, self.plain = (
            Cell(),
            Frozen(),
            SimpleNamespace(),
            Slotted(),
            Shared(),
        )
        self.closure = _kept_in_a_closure()
        self.calls, self.numbers, self.count = 0, [-1], itertools.count()
        self.order_of_use = OrderedDict(a=1, b=2)
        self.array = np.zeros(3)
        self.numpys, self.pythons = np.random.default_rng(0), random.Random(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.how(self, x)


HOWS = [
    _on_self, _in_a_dict, _in_a_nested_dict, _in_a_list, _in_a_tuple_of_lists, _in_a_deque, _in_objects, _in_the_class,
    _in_globals, _in_functions, _buffer_at_first_call, _hooks_at_first_call, _counters, _flags, _random_numbers,
    _attributes_of_tensors, _a_weight_given_other_memory, _a_buffer_written, _a_table_that_grows, _a_table_in_its_own_place,
]  # fmt: skip


def _shown(item: Any, depth: int = 9) -> Any:
    """Anything as something that can be compared: tensors by their memory and content."""
    if isinstance(item, torch.Tensor):
        found = type(item).__name__, item.data_ptr(), tuple(item.shape), item.requires_grad, item.tolist()
        return (*found, _shown(vars(item), depth - 1))
    if isinstance(item, np.ndarray):
        return item.tobytes()
    if isinstance(item, dict):
        return [(_shown(name), _shown(value, depth - 1)) for name, value in item.items()]
    if isinstance(item, list | tuple | set | deque):
        return [_shown(value, depth - 1) for value in item]
    if isinstance(item, np.random.Generator):
        return item.bit_generator.state
    if isinstance(item, random.Random):
        return item.getstate()
    if depth and type(item).__module__ in (__name__, "types") and hasattr(item, "__dict__"):
        return _shown(vars(item), depth - 1)
    if isinstance(item, nn.Module):
        return type(item), [(name, _shown(value, depth - 1)) for name, value in vars(item).items()]
    return repr(item)


def _state(model: nn.Module) -> Any:
    everyones = (
        _GRIDS, _SEEN, _TABLE, _CALLS, _VARIABLE.get(), Shared.everyones, Shared.last, Keeping.seen,
        _kept_in_a_default.__defaults__, _kept_in_a_keyword.__kwdefaults__, vars(_kept_in_itself),
        _kept_by_lru_cache.cache_info().currsize, [cell.cell_contents for cell in _IN_A_CLOSURE.__closure__ or ()],
        [cell.cell_contents for cell in model.closure.__closure__],  # type: ignore[operator]
    )  # fmt: skip
    numbers = (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
    settings = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    return [_shown(everyones), _shown(model), numbers, settings, model.state_dict().keys()]


def _fakes() -> int:
    """How many fake tensors are alive: other tests in this process may have left some in PyTorch's own caches."""
    gc.collect()
    return sum(type(item) is FakeTensor for item in gc.get_objects())


def _converted(model: nn.Module, **how: Any) -> None:
    with contextlib.suppress(
        NetferryError
    ):  # who writes into a buffer is refused, and must be as before all the more
        netferry.convert(model, "onnx", inputs={"x": X}, seed=0, **how)


@pytest.mark.parametrize("how", HOWS, ids=lambda how: how.__name__.strip("_"))
def test_a_model_is_as_it_was_wherever_it_keeps_its_state(how: Callable[..., torch.Tensor]) -> None:
    model = Keeping(how).eval()
    before, fakes = _state(model), _fakes()
    _converted(model, verify=False, dynamic={"x": {0: "batch", 1: "length"}})
    assert _state(model) == before
    assert _fakes() == fakes
    with restored(model), torch.no_grad():  # and so it goes on, and is copied
        want = copy.deepcopy(Keeping(how).eval())(torch.from_numpy(X))
    with restored(model), torch.no_grad():
        torch.testing.assert_close(model(torch.from_numpy(X)), want)


@pytest.mark.parametrize(
    "how", [_in_a_dict, _in_globals, _in_functions, _hooks_at_first_call, _a_table_in_its_own_place]
)
def test_a_verdict_leaves_a_model_as_it_was(how: Callable[..., torch.Tensor]) -> None:
    model = Keeping(how).eval()
    before = _state(model)
    done = netferry.convert(model, "onnx", inputs={"x": X}, seed=0, quick=True)
    assert done.report is not None and done.report.status == "passed", done.report
    assert _state(model) == before
