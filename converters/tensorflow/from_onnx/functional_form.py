"""The functional form: operations of ``keras.ops`` between the layers of a ``keras.Model``.

Such a model holds no size that is known only when it runs, but for the ``None`` of its tensors. What can be
said without one is: a reshape with one free size, a table read at places counted up to a free size.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.writer import dotted
from netferry.converters.graph.ir import budget, layout
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size, known, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.signature import Array
from netferry.converters.tensorflow.from_onnx.layout import Tensor, perm_of
from netferry.converters.tensorflow.from_onnx.names import INT32, INT64, named
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE

DTYPES = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 float16 bfloat16 float32 float64".split())
"""What Keras computes in without changing it; of uint64 it silently makes uint32."""

_WIDENS = frozenset({"sum", "prod", "cumulative_sum", "cumulative_prod"})
"""Words that Keras answers in a wider dtype for small integers, as NumPy does."""

_FREE = "a functional Keras model cannot hold the size {}, which is known only when it runs"


class Functional(TensorflowNamespace):
    """Writes the body of ``build() -> keras.Model``."""

    title = "a functional Keras model"
    column, root = 0, "ops"
    rows = NATIVE

    def __init__(self, plan: Any, *, reserved: Sequence[str] = ()) -> None:
        super().__init__(plan, reserved=reserved)
        self.homes: dict[str, tuple[Symbol, int]] = {}
        self.inputs: list[Symbol] = []
        self._zero: ast.expr | None = None
        self._calls: dict[str, ast.expr] = {}

    # ---- what a form says -----------------------------------------------------------------------------

    def allow(self, dtype: np.dtype[Any] | None) -> None:
        if dtype is None or dtype.name not in DTYPES:
            raise CannotConvert(f"Keras does not keep {dtype or 'values that are no tensors'} as they are")

    def size_expr(self, size: Size) -> ast.expr:
        raise CannotConvert(_FREE.format(size))

    def read_sizes(self, value: ir.Value, symbol: Symbol) -> None:
        """Sizes are not read: what is known is which tensor has them."""
        for name, home in self._homes.get(value, ()):
            if home.kind == "dim":
                self.homes[name] = (self._again(value, symbol), home.index)

    def array(self, content: Array) -> ast.expr:
        if content.dtype.name == "bfloat16":
            raise CannotConvert("a constant in bfloat16 cannot be written into a functional Keras model")
        return self.call_expr(dotted("np.array"), content.tolist(), content.dtype.name)

    def parameter(self, fact: Fact, content: Array) -> ast.expr:
        """An Embedding of one row, read at a zero that hangs on the input, and given its shape.

        A layer that is called on a constant drops out of a Keras model, and a long constant would end as
        text in its configuration.
        """
        self.allow(content.dtype)
        if content.size == 0:
            raise CannotConvert("a functional Keras model has no empty parameters")
        whole = content.dtype.kind != "f" and content.dtype.name not in ("int32", "int64", "bfloat16")
        held = content.astype(np.int64) if whole else content
        name = self.layer_name(fact.name or "constant")
        self.hold(f"{name}/embeddings", held.reshape(1, -1), [fact.name])
        trainable = None if fact.trainable else False
        owned = self.owned(
            "Embedding", name, (None,), 1, content.size, trainable=trainable,
            dtype=None if held.dtype.name == "float32" else held.dtype.name,
            embeddings_initializer="zeros",
        )  # fmt: skip
        with self.outside():
            row: Any = self.made(self.call_expr(owned, self.zero()), dtype=held.dtype)
            if content.ndim != 1:
                row = self.say("reshape", row, content.shape)
            if held.dtype != content.dtype:
                row = self.astype(row, content.dtype)
            held_by: ast.expr = self.let(row, name).expr
            return held_by

    def outside(self) -> Any:
        """Statements written inside stand before all others, beside the inputs."""
        return _Outside(self)

    def zero(self) -> ast.expr:
        """The number 0, as a tensor that hangs on the first input."""
        if self._zero is None:
            if not self.inputs:
                raise CannotConvert("a functional Keras model has no parameters without an input")
            x = self.inputs[0]
            corner = self.index(x, *[slice(None, 1)] * x.ndim) if x.ndim else x
            zeros = self.made(self.call_expr(dotted("ops.zeros_like"), corner, dtype="int32"), dtype=INT32)
            self._zero = self.let(self.say("sum", zeros, dtype=INT32) if x.ndim else zeros, "zero").expr
        return self._zero

    def owned(self, kind: str, name: str, shape: Sequence[Any], *args: Any, **kwargs: Any) -> ast.expr:  # noqa: ARG002 - Keras finds it
        """``layers.Dense(10, name="fc")`` where it is called; given a line of its own when called again."""
        if name in self._calls:
            made = self._calls[name]
            if isinstance(made, ast.Call):
                self._calls[name] = self._hoisted(made, name)
            return self._calls[name]
        made = self.call_expr(dotted(f"layers.{kind}"), *args, **kwargs, name=name)
        self._calls[name] = made
        return made

    def _hoisted(self, made: ast.Call, name: str) -> ast.expr:
        """The layer moves to a line before all others; where it was made its name stands now."""
        word = ast.Name(self.fresh(name), ast.Load())
        for statement in [*self.preamble, *self.statements]:
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and node.func is made:
                    node.func = word
        self.preamble.append(ast.Assign([ast.Name(word.id, ast.Store())], made))
        return word

    def index(self, x: Symbol, *places: Any, dtype: Any = None, dims: Any = None) -> Tensor:
        """Keras takes no slice that stands alone."""
        places = (*places, ...) if len(places) == 1 else places
        return super().index(x, *places, dtype=dtype, dims=dims)

    # ---- sizes -------------------------------------------------------------------------------------------

    def reshaped(self, base: ast.expr, fact: Fact, sizes: Sequence[Any]) -> Tensor:
        wanted = _one_left_over(sizes)
        if wanted is not None:
            made: Tensor = self.say("reshape", base, wanted, dtype=fact.dtype)
            return made
        inner = None
        if fact.dims and len(fact.dims) > 1 and sizes[0] == fact.dims[0]:
            inner = _one_left_over(sizes[1:])
        if inner is None:
            free = ", ".join(str(size) for size in sizes if isinstance(size, Size))
            raise CannotConvert(
                f"a functional Keras model reshapes to one free size beside the batch, not to {free}"
            )
        layer = self.call_expr(dotted("layers.Reshape"), inner, dtype=named(fact.dtype))
        return self.made(self.call_expr(layer, base), dtype=fact.dtype)

    def broadcast_to(self, x: Symbol, sizes: Sequence[Any]) -> Tensor:
        if known(sizes) and known(x.shape):
            made: Tensor = self.call("ops.broadcast_to", x, tuple(sizes), dtype=x.dtype, dims=tuple(sizes))
            return made
        result: Any = x
        if x.ndim < len(sizes):
            result = self.expand_dims(x, tuple(range(len(sizes) - x.ndim)))
        for axis, (have, want) in enumerate(zip(result.shape, sizes, strict=True)):
            if have == want or want == 1:
                continue
            if have != 1:
                raise CannotConvert(_FREE.format(want))
            if isinstance(want, Size):
                result = self._grown(result, want, axis, len(sizes))
            else:
                dims = (*result.shape[:axis], want, *result.shape[axis + 1 :])
                result = self.call("ops.repeat", result, want, axis=axis, dtype=x.dtype, dims=dims)
        return Tensor(self, result.fact, self._base(result), perm_of(result))

    def _grown(self, x: Symbol, size: Size, axis: int, rank: int) -> Symbol:
        """``x``, which has size 1 along ``axis``, repeated to a free size: zeros that have it are taken away."""
        shape = [1] * rank
        shape[axis] = -1
        zeros = self.say("reshape", self.counted(size, x.dtype, "zeros_like"), tuple(shape), dtype=x.dtype)
        word = "logical_or" if x.dtype.kind == "b" else "subtract"
        dims = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        grown: Symbol = self.say(word, x, zeros, dtype=x.dtype, dims=dims)
        return grown

    def counted(self, size: Any, dtype: np.dtype[Any], word: str) -> Tensor:
        """As many zeros or ones as a free size says, (size,)."""
        atom = size.atom if isinstance(size, Size) else None
        if atom is None or atom.args or atom.word not in self.homes:
            raise CannotConvert(_FREE.format(size))
        home, axis = self.homes[atom.word]
        edge = self.index(home, *[slice(None) if i == axis else slice(None, 1) for i in range(home.ndim)])
        many = self.made(self.call_expr(dotted(f"ops.{word}"), edge, dtype=dtype), dtype=dtype)
        made: Tensor = self.say("reshape", many, (-1,), dtype=dtype, dims=(size,))
        return made

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype[Any]) -> Tensor:
        if not any(isinstance(v, Size | Symbol) for v in (start, stop, step)):
            budget.make(max((stop - start) / step, 0))
            return self.asarray(np.arange(start, stop, step), dtype)
        if isinstance(start, Size | Symbol) or isinstance(step, Size | Symbol) or step != 1:
            raise CannotConvert(_FREE.format(stop))
        ones = self.counted(stop if start == 0 else stop - start, dtype, "ones_like")
        places = self.cumulative_sum(ones, 0)
        shifted: Tensor = places + (start - 1)
        return shifted

    def full(self, sizes: Sequence[Any], value: Any, dtype: np.dtype[Any]) -> Tensor:
        if known(sizes):
            budget.make(product(sizes))
            return self.asarray(np.full(tuple(sizes), value), dtype)
        return self.broadcast_to(self.asarray(np.full((1,) * len(sizes), value), dtype), sizes)

    def shape(self, x: Symbol) -> Tensor:
        if not known(x.shape):
            raise CannotConvert(_FREE.format(next(size for size in x.shape if isinstance(size, Size))))
        return self.asarray(x.shape, INT64)

    def slice(self, x: Symbol, places: Any) -> Tensor:
        result: Any = x
        plain = {}
        for axis, (start, stop, step) in places.items():
            if known((start, stop)):
                plain[axis] = (start, stop if stop is None or abs(stop) < 2**31 - 1 else _end(stop), step)
            elif start in (0, None) and step == 1:
                result = self.take(result, self.arange(0, stop, 1, INT64), axis)
            else:
                raise CannotConvert(_FREE.format(stop if isinstance(stop, Size) else start))
        return super().slice(result, plain)

    def padded(self, base: ast.expr, pairs: Sequence[Any], value: Any, dtype: np.dtype[Any]) -> ast.expr:
        if dtype.kind == "b":
            raise CannotConvert("Keras pads no booleans")
        filled = None if value == 0 else value
        made: ast.expr = self.say(
            "pad", base, pairs, mode="constant", constant_values=filled, dtype=dtype
        ).base
        return made

    def parted(self, base: ast.expr, lengths: Sequence[Any], axis: int, dtype: np.dtype[Any]) -> Tensor:
        if not known(lengths):
            raise CannotConvert(_FREE.format(next(size for size in lengths if isinstance(size, Size))))
        ends = [int(end) for end in np.cumsum(lengths)[:-1]]
        return self.made(self.call_expr(dotted("ops.split"), base, ends, axis=axis), dtype=dtype)

    def tile(self, x: Symbol, repeats: Sequence[Any]) -> Tensor:
        if not known(repeats):
            if any(isinstance(n, Size) and d != 1 for n, d in zip(repeats, x.shape, strict=True)):
                raise CannotConvert(_FREE.format(next(n for n in repeats if isinstance(n, Size))))
            if any(
                not isinstance(n, Size) and n != 1 and d != 1 for n, d in zip(repeats, x.shape, strict=True)
            ):
                raise CannotConvert("it repeats along free and along known sizes at once")
            return self.broadcast_to(x, [n if d == 1 else d for n, d in zip(repeats, x.shape, strict=True)])
        return super().tile(x, repeats)

    # ---- words that Keras means otherwise --------------------------------------------------------------------

    def say(
        self, word: str, *args: Any, dtype: Any = None, dims: Any = None, perm: Any = None, **kwargs: Any
    ) -> Any:
        made = super().say(word, *args, dtype=dtype, dims=dims, perm=perm, **kwargs)
        kept = made.fact.dtype
        if word in _WIDENS and kept.kind in "iub" and kept.itemsize < 4:
            made = super().say("astype", made.base, kept, dtype=kept, dims=dims, perm=perm)
        return made

    def _binary(self, word: str, a: Any, b: Any) -> Tensor:
        """A sum that Keras may take for that of a tensor and its bias is written as a difference: see ``plain_sum``."""
        if word == "add" and not plain_sum(*_based(a, b)):
            dtype = next(x.dtype for x in (a, b) if isinstance(x, Symbol))
            less = (
                self._unary("negative", b)
                if dtype.kind != "u"
                else self._binary("subtract", self.asarray(0, dtype), b)
            )
            return self._binary("subtract", a, less)
        return super()._binary(word, a, b)

    def _reduce(self, word: str, x: Symbol, axes: Sequence[int], keepdims: bool) -> Tensor:
        if word == "mean" and x.dtype.kind != "f":
            raise CannotConvert("Keras gives the mean of integers as a float")
        if 0 in (x.fact.dims or ()):
            raise CannotConvert("Keras reduces nothing that is empty")
        if x.dtype.kind == "b":
            word = {"max": "any", "min": "all"}.get(word, word)
        return super()._reduce(word, x, axes, keepdims)

    def trunc_divide(self, a: Any, b: Any) -> Tensor:
        """Toward zero: one more than the floor where a negative quotient leaves a rest."""
        dtype = next(x.dtype for x in (a, b) if isinstance(x, Symbol))
        floor = self.floor_divide(a, b)
        if dtype.kind == "u":
            return Tensor(self, floor.fact, floor.base, perm_of(floor))
        rest = self.not_equal(self.remainder(a, b), 0)
        zero = self.asarray(0, dtype)
        negative = self.logical_xor(self.less(a, zero), self.less(b, zero))
        return self.where(self.logical_and(rest, negative), floor + 1, floor)

    def take(self, x: Symbol, indices: Any, axis: int) -> Tensor:
        return self.read_at(x, indices, axis)

    def take_along_axis(self, x: Symbol, indices: Symbol, axis: int) -> Tensor:
        if any(i != axis and a != b for i, (a, b) in enumerate(zip(x.shape, indices.shape, strict=True))):
            raise CannotConvert("Keras reads along an axis only where all other sizes are equal")
        made: Tensor = self.call("ops.take_along_axis", x, indices, axis=axis, dtype=x.dtype)
        return made

    def argmax(self, x: Symbol, axis: int, keepdims: bool) -> Tensor:
        return self._place("argmax", x, axis, keepdims)

    def argmin(self, x: Symbol, axis: int, keepdims: bool) -> Tensor:
        return self._place("argmin", x, axis, keepdims)

    def _place(self, word: str, x: Symbol, axis: int, keepdims: bool) -> Tensor:
        place = self.call(f"ops.{word}", x, axis=axis, keepdims=True if keepdims else None, dtype=INT32)
        return self.astype(place, INT64)

    def topk(self, x: Symbol, k: Any, axis: int, largest: bool) -> tuple[Tensor, ...]:
        if not largest or isinstance(k, Size) or x.dtype.kind not in "f":
            raise CannotConvert("Keras gives the largest floats only, as many as are known before it runs")
        last = x.ndim - 1
        order = tuple(last if i == axis else axis if i == last else i for i in range(x.ndim))
        whole = self.call("ops.top_k", self.permute_dims(x, order), k, dtype=x.dtype)
        values, places = self.unpack(whole, 2, [x.dtype, INT32])
        return tuple(self.permute_dims(part, order) for part in (values, self.astype(places, INT64)))

    def diagonal(self, x: Symbol, axis1: int, axis2: int) -> Tensor:
        made: Tensor = self.call("ops.diagonal", x, axis1=axis1, axis2=axis2, dtype=x.dtype)
        return made

    def tril(self, x: Symbol, k: int) -> Tensor:
        return self._triangle("tril", x, k)

    def triu(self, x: Symbol, k: int) -> Tensor:
        return self._triangle("triu", x, k)

    def _triangle(self, word: str, x: Symbol, k: int) -> Tensor:
        rows, columns = x.shape[-2:]
        if isinstance(rows, Size) or isinstance(columns, Size) or not -rows < k < columns:
            raise CannotConvert("the diagonal may lie outside of the matrix")
        made: Tensor = self.call(f"ops.{word}", x, k=k, dtype=x.dtype, dims=x.fact.dims)
        return made

    def left_shift(self, a: Any, b: Any) -> Tensor:
        return self._shift("left_shift", a, b)

    def right_shift(self, a: Any, b: Any) -> Tensor:
        return self._shift("right_shift", a, b)

    def _shift(self, word: str, a: Any, b: Any) -> Tensor:
        """Only by fewer places than there are bits: what is beyond is not the same everywhere."""
        dtype = next(x.dtype for x in (a, b) if isinstance(x, Symbol))
        places = b if not isinstance(b, Symbol) else b.content
        if places is None or not np.all(
            (np.asarray(places) >= 0) & (np.asarray(places) < 8 * dtype.itemsize)
        ):
            raise CannotConvert("how far it shifts is known only when the model runs")
        return self._binary(word, a, b)


def _based(a: Any, b: Any) -> tuple[Any, Any]:
    """The sizes of two operands as the program will hold them."""
    dims = [x.fact.dims if isinstance(x, Symbol) else () for x in (a, b)]
    perm = next((perm_of(x) for x in (a, b) if perm_of(x) is not None), None)
    if perm is None or any(one is None for one in dims):
        return dims[0], dims[1]
    whole = [(1,) * (len(perm) - len(one)) + tuple(one) if one else () for one in dims if one is not None]
    one, two = (tuple(size[axis] for axis in layout.inverse(perm)) if size else () for size in whole)
    return one, two


def plain_sum(a: Any, b: Any) -> bool:
    """Whether ``keras.ops.add`` of tensors of these sizes is their sum.

    Where the second has, when the model runs, one size other than 1, and that is the size of the first's axis 1
    or of its last, Keras squeezes it and adds it along that axis as a bias (``tf.nn.bias_add``), wherever it
    lay. So a (1, 4, 1) on a (3, 4, 4) is added along the last axis.
    """
    if a == () or b == () or (a is not None and (len(a) == 1 or a == b)):
        return True
    if a is None or b is None or len(b) > len(a):
        return False
    b = (1,) * (len(a) - len(b)) + tuple(b)
    wide = [axis for axis, size in enumerate(b) if not isinstance(size, Size) and size != 1]
    free = [axis for axis, size in enumerate(b) if isinstance(size, Size)]
    if len(wide) > 1:
        return True
    return all(_as_bias(a, b[axis], axis) for axis in wide or free)


def _as_bias(a: Any, size: Any, axis: int) -> bool:
    """Whether Keras adds ``size`` elements along the axis on which they lie, or as it adds anything."""
    last = len(a) - 1
    if axis == last:
        return bool(a[last] == size)
    if isinstance(size, Size) or isinstance(a[last], Size) or a[last] == size:
        return False
    return axis == 1 or (not isinstance(a[1], Size) and a[1] != size)


class _Outside:
    """Statements of a ``with`` go to the preamble."""

    def __init__(self, words: TensorflowNamespace) -> None:
        self._words = words
        self._kept: list[ast.stmt] = []

    def __enter__(self) -> None:
        self._kept, self._words.statements = self._words.statements, self._words.preamble

    def __exit__(self, *_: object) -> None:
        self._words.statements = self._kept


def _end(stop: int) -> int | None:
    return None if stop > 0 else -(2**31 - 1)


def _one_left_over(sizes: Sequence[Any]) -> tuple[int, ...] | None:
    """Sizes as numbers, the one that is free (or asked for as -1) as -1; None where there are more."""
    free = [size for size in sizes if isinstance(size, Size) or size == -1]
    if len(free) > 1 or (free and 0 in sizes):
        return None
    return tuple(-1 if isinstance(size, Size) else size for size in sizes)
