"""The fourth namespace: the operator table on numpy arrays, at once. It folds constants.

Arrays of dtype object hold integers of which some are a ``Size``; arithmetic on sizes goes through them as long
as its result does not depend on what the sizes will be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.namespace import BINARY, Namespace
from netferry.converters.graph.codegen.walk import Walk
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size, largest, smallest
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.numpy.namespace import STRUCTURAL, WORDS
from netferry.converters.graph.numpy.rows import ROWS, taken
from netferry.converters.graph.numpy.work import made
from netferry.converters.graph.schema.constants import SIZES
from netferry.converters.signature import Array


class NumpyNamespace(Namespace):
    """Every function computes; a symbol always has its content."""

    framework = "numpy"
    title = "numpy"
    rows = ROWS

    def __getattr__(self, word: str) -> Any:
        """A function of the namespace, on symbols."""
        return partial(self._call, word) if word in WORDS else Namespace.__getattr__(self, word)

    def given(self, content: Any, dtype: np.dtype[Any] | None = None) -> Any:
        """An array as a symbol; sequences stay lists of symbols, None stays None."""
        if content is None or isinstance(content, Symbol):
            return content
        if isinstance(content, list | tuple):
            return [self.given(item) for item in content]
        array = np.asarray(content)
        return Symbol(self, Fact(dtype or array.dtype, array.shape, array))

    def symbol(self, fact: Fact) -> Any:
        return Symbol(self, fact)

    def bind(
        self,
        values: Sequence[ir.Value],
        results: Sequence[Any],
        facts: Sequence[Fact],  # noqa: ARG002
    ) -> Sequence[Any]:
        return (*results, *[None] * (len(values) - len(results)))

    def choose(self, condition: Symbol, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        return then() if taken(condition).reshape(-1)[0] else otherwise()

    def _call(self, word: str, *args: Any) -> Any:
        like = next((x for x in _flat(args) if isinstance(x, Symbol)), None)
        if any(isinstance(x, Size) or (isinstance(x, Symbol) and _of_sizes(x)) for x in _flat(args)):
            function: Callable[..., Any] = _SIZE_WORDS.get(word, _undecided)
            plain = _plain(args, None)
            budget.make(made(word, plain))
            results = function(*plain)
        else:
            results = _computed(word, args, like)
        if isinstance(results, tuple):
            return tuple(self._made(result, like) for result in results)
        return self._made(results, like)

    def _made(self, result: Any, like: Symbol | None) -> Any:
        array = np.asarray(result)
        if array.dtype == object and like is not None and like.dtype != object:
            return self.given(_settled(array, like.dtype), like.dtype)
        return self.given(array)


def _flat(args: Any) -> Any:
    for arg in args:
        if isinstance(arg, list | tuple):
            yield from _flat(arg)
        elif isinstance(arg, dict):
            yield from _flat(arg.values())
        else:
            yield arg


def _plain(value: Any, wide: Callable[[Array], Array] | None) -> Any:
    """Arguments with arrays in the place of symbols."""
    if isinstance(value, Symbol):
        return taken(value) if wide is None else wide(taken(value))
    if isinstance(value, list | tuple):
        return type(value)(_plain(item, wide) for item in value)
    return value


def _computed(word: str, args: tuple[Any, ...], like: Symbol | None) -> Any:
    """A function on plain arrays, small dtypes in a wider one; a number has the dtype of the other operand."""
    dtype = None if like is None else like.dtype
    wide = None if word in STRUCTURAL else _widened
    plain = _plain(args, wide)
    if word in BINARY or word == "where":
        kind = next(
            (x.dtype for x, arg in zip(plain[-2:], args[-2:], strict=True) if isinstance(arg, Symbol)), dtype
        )
        plain = (
            *plain[:-2],
            *(x if isinstance(x, np.ndarray) else np.asarray(x).astype(kind) for x in plain[-2:]),
        )
    budget.make(made(word, plain))
    with np.errstate(all="ignore"):
        results = WORDS[word](*plain)
    if wide is None or dtype is None or _widened(np.empty(0, dtype)).dtype == dtype:
        return results
    return (
        tuple(_narrowed(x, dtype) for x in results)
        if isinstance(results, tuple)
        else _narrowed(results, dtype)
    )


def _widened(x: Array) -> Array:
    if x.dtype.kind in "OUST" or (x.dtype.isbuiltin != 2 and x.dtype != np.float16):
        return x
    return x.astype(np.int32 if x.dtype.name.startswith(("int", "uint")) else np.float32)


def _narrowed(x: Any, dtype: np.dtype[Any]) -> Any:
    wide = _widened(np.empty(0, dtype)).dtype
    return np.asarray(x).astype(dtype) if np.asarray(x).dtype == wide else x


# ---- arithmetic on sizes ---------------------------------------------------------------------------------------


def _of_sizes(x: Symbol) -> bool:
    content = x.fact.content
    return content is not None and content.dtype == object and x.dtype != object


def _undecided(*_: Any) -> Any:
    raise CannotConvert("its value depends on a size that is known only when the model runs")


def _settled(array: Array, dtype: np.dtype[Any]) -> Array:
    """Plain numbers as what they are, where no ``Size`` is left."""
    return array if any(isinstance(item, Size) for item in array.reshape(-1)) else array.astype(dtype)


def _pairwise(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    lifted = np.frompyfunc(function, 2, 1)
    return lambda a, b: np.asarray(lifted(np.asarray(a, object), np.asarray(b, object)), object)


def _never_negative(size: Any) -> bool:
    """Whether no size can make this negative: a sum of products, none of them subtracted."""
    return all(count >= 0 for _, count in size.terms) if isinstance(size, Size) else size >= 0


def _quotient(a: Any, b: Any) -> Any:
    """Toward zero, which is floor where both sides are not negative, and exact where nothing is left."""
    if isinstance(a, Size) and not isinstance(b, Size) and b and a % b == 0:
        return a // b
    if isinstance(a, Size) or isinstance(b, Size):
        return a // b if _never_negative(a) and _never_negative(b) else _undecided()
    return int(a / b) if abs(a) < 2**52 and b else _undecided()


def _modulo(a: Any, b: Any) -> Any:
    return a % b if _never_negative(b) else _undecided()


def _truth(holds: Callable[[int], bool], at_least: Callable[[Any], bool | None]) -> Callable[..., Any]:
    """A comparison by the sign of ``a - b``: decided where that is a number, or cannot be negative."""

    def compared(a: Any, b: Any) -> Any:
        difference = a - b
        if not isinstance(difference, Size):
            return holds(int(difference))
        answer = at_least(difference)
        return _undecided() if answer is None else answer

    lifted = np.frompyfunc(compared, 2, 1)
    return lambda a, b: np.asarray(lifted(np.asarray(a, object), np.asarray(b, object))).astype(bool)


def _sign(size: Any) -> int | None:
    """1 or -1 where the size is above or below zero whatever it is made of, 0 where it is not negative."""
    constant = dict(size.terms).get((), 0)
    if _never_negative(size):
        return 1 if constant > 0 else 0
    return -1 if _never_negative(-size) and constant < 0 else None


_ANSWERS: Mapping[str, tuple[Callable[[int], bool], Mapping[int | None, bool]]] = {
    "equal": (lambda d: d == 0, {1: False, -1: False}),
    "not_equal": (lambda d: d != 0, {1: True, -1: True}),
    "less": (lambda d: d < 0, {1: False, 0: False, -1: True}),
    "less_equal": (lambda d: d <= 0, {1: False, -1: True}),
    "greater": (lambda d: d > 0, {1: True, -1: False}),
    "greater_equal": (lambda d: d >= 0, {1: True, 0: True, -1: False}),
}
"""Comparison -> what a known difference says, and what the sign of one that is not known says."""


def _compared(word: str) -> Callable[..., Any]:
    holds, answers = _ANSWERS[word]
    return _truth(holds, lambda difference: answers.get(_sign(difference)))


def _as_integers(x: Array, dtype: np.dtype[Any]) -> Array:
    return x if dtype in (np.int64, np.int32) else _undecided()


_SIZE_WORDS: Mapping[str, Callable[..., Any]] = {
    "add": _pairwise(lambda a, b: a + b),
    "subtract": _pairwise(lambda a, b: a - b),
    "multiply": _pairwise(lambda a, b: a * b),
    "trunc_divide": _pairwise(_quotient),
    "floor_divide": _pairwise(lambda a, b: a // b),
    "remainder": _pairwise(_modulo),
    "fmod": _pairwise(lambda a, b: a % b if _never_negative(a) and _never_negative(b) else _undecided()),
    "maximum": _pairwise(largest),
    "minimum": _pairwise(smallest),
    "negative": lambda x: -x,
    "prod": lambda x, axes, keepdims: np.asarray(np.multiply.reduce(x, axes, keepdims=keepdims), object),
    "sum": lambda x, axes, keepdims: np.asarray(np.add.reduce(x, axes, keepdims=keepdims), object),
    "astype": _as_integers,
    **{word: _compared(word) for word in _ANSWERS},
    **{
        word: WORDS[word]
        for word in """
        reshape broadcast_to permute_dims expand_dims squeeze concat stack unstack split flip tile slice pad
        where take take_along_axis gather_nd compress diagonal scatter_nd scatter_along_axis
        """.split()
    },
}


# ---- one node, one graph -------------------------------------------------------------------------------------------


class _Node:
    """As much of a node as a row may ask for."""

    def __init__(self, outputs: int) -> None:
        self.outputs = (ir.Value(name="y"),) * outputs


def fold(
    operator: str, inputs: Sequence[Array | None], attributes: Mapping[str, Any], outputs: int = 1
) -> tuple[Array, ...] | None:
    """The outputs of a node whose inputs are constants; None where numpy does not support it or cannot decide.

    Arrays of dtype object hold int64 of which some are a ``Size``, as inputs and as outputs.
    """
    xp = NumpyNamespace()
    xp.node = _Node(outputs)  # type: ignore[assignment]
    positions = SIZES.get(operator, ())
    operands = [
        None if x is None else _sizes(x) if position in positions else xp.given(x, _dtype(x))
        for position, x in enumerate(inputs)
    ]
    try:
        results = xp.operator(operator, *operands, **attributes)
    except (CannotConvert, ValueError, TypeError, IndexError, AttributeError, ArithmeticError):
        return None
    results = results if isinstance(results, tuple) else (results,)
    return tuple(taken(result) for result in results[:outputs]) if _are_tensors(results) else None


def _are_tensors(results: Sequence[Any]) -> bool:
    return all(isinstance(result, Symbol) for result in results)


def _dtype(x: Array) -> np.dtype[Any]:
    """An array of objects holds sizes where any of them is one, and text elsewhere."""
    return (
        np.dtype(np.int64)
        if x.dtype == object and any(isinstance(item, Size) for item in x.flat)
        else x.dtype
    )


def _sizes(x: Array) -> tuple[Any, ...]:
    return tuple(item if isinstance(item, Size) else int(item) for item in x.reshape(-1))


class NumpyWalk(Walk):
    """A whole model, at once: what tests hold against ONNX's own outputs. Free sizes are read where they are."""

    def sizes(self, value: ir.Value) -> tuple[Any, ...]:
        return _sizes(taken(self._value(value)))

    def _value(self, value: ir.Value) -> Any:
        fact = self.plan.fact(value)
        if value in self.values or fact.content is None or fact.content.dtype != object:
            return super()._value(value)
        settled = [
            item.at(_FreeSizes(self)) if isinstance(item, Size) else item for item in fact.content.flat
        ]
        array = np.array(settled, fact.dtype).reshape(fact.content.shape)
        return Symbol(self.xp, Fact(array.dtype, array.shape, array))

    def free(self, name: str) -> int:
        """The free size of this name, as it is now."""
        home = self.plan.homes[name]
        x = taken(self._value(home.value))
        return int(x.shape[home.index] if home.kind == "dim" else x.reshape(-1)[home.index])


class _FreeSizes(dict[str, int]):
    """The free sizes of a walk under their names."""

    def __init__(self, walk: NumpyWalk) -> None:
        self._walk = walk

    def __missing__(self, name: str) -> int:
        return self._walk.free(name)


def run(walk: NumpyWalk, inputs: Mapping[ir.Value, Any]) -> tuple[Any, ...]:
    """The outputs of a plan for these inputs, as arrays."""
    xp = walk.xp
    assert isinstance(xp, NumpyNamespace)
    return tuple(_array(y) for y in walk.run(lambda value: xp.given(inputs[value])))


def _array(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_array(item) for item in value]
    return None if value is None else taken(value)
