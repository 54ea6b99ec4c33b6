"""The functional form: operations of ``keras.ops`` between the layers of a ``keras.Model``.

Such a model holds no size that is known only when it runs, but for the ``None`` of its tensors. What can be
written without one is: a reshape with one free size, a table read at indices counted up to a free size.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partialmethod
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert, Unsupported, UnsupportedError
from netferry.converters.graph.codegen.writer import dotted, loaded
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size, known, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.signature import Array
from netferry.converters.tensorflow.from_onnx.addition import base_dims, plain_sum
from netferry.converters.tensorflow.from_onnx.function_names import INT32, INT64, layer_dtype
from netferry.converters.tensorflow.from_onnx.layout import Tensor, perm_of
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace, lengthened
from netferry.converters.tensorflow.from_onnx.table import NATIVE

DTYPES = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 float16 bfloat16 float32 float64".split())
"""What Keras computes in without changing it; of uint64 it silently makes uint32."""

_WIDENS = frozenset({"sum", "prod", "cumulative_sum", "cumulative_prod"})
"""Functions that Keras answers in a wider dtype for small integers, as NumPy does."""

_FREE = "a functional Keras model cannot hold the size {}, which is known only when it runs"

_DEEPEST = 800
"""Keras follows a functional model from its outputs back, each layer one call deeper, as far as Python lets it."""


def _is_operation(node: ast.AST) -> bool:
    """A call that is not only the making of a layer."""
    if not isinstance(node, ast.Call):
        return False
    root = node.func.value if isinstance(node.func, ast.Attribute) else None
    return not (isinstance(root, ast.Name) and root.id == "layers")


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
        self._depths: dict[str, int] = {}

    # ---- what each form writes in its own way -----------------------------------------------------------------------------

    def allow(self, dtype: np.dtype[Any] | None) -> None:
        if dtype is None or dtype.name not in DTYPES:
            raise CannotConvert(f"Keras does not keep {dtype or 'values that are no tensors'} as they are")

    def write(self, statement: ast.stmt) -> None:
        """Refuses at once what Keras cannot hold: a graph that is too deep may be long."""
        super().write(statement)
        if not isinstance(statement, ast.Assign):
            return
        before = max((self._depths.get(name, 0) for name in loaded(statement.value)), default=0)
        depth = before + sum(map(_is_operation, ast.walk(statement.value)))
        if depth > _DEEPEST:
            reason = f"Keras cannot hold layers in a row of more than {_DEEPEST}"
            raise UnsupportedError([Unsupported("", "graph", reason)])
        targets = (node for target in statement.targets for node in ast.walk(target))
        self._depths |= dict.fromkeys((node.id for node in targets if isinstance(node, ast.Name)), depth)

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
                row = self.write_call("reshape", row, content.shape)
            if held.dtype != content.dtype:
                row = self.astype(row, content.dtype)
            return self.let(row, name).expr  # type: ignore[no-any-return]

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Statements written inside stand before all others, beside the inputs."""
        kept, self.statements = self.statements, self.preamble
        try:
            yield
        finally:
            self.statements = kept

    def zero(self) -> ast.expr:
        """The number 0, as a tensor that hangs on the first input."""
        if self._zero is None:
            if not self.inputs:
                raise CannotConvert("a functional Keras model has no parameters without an input")
            x = self.inputs[0]
            corner = self.index(x, *[slice(None, 1)] * x.ndim) if x.ndim else x
            zeros = self.made(self.call_expr(dotted("ops.zeros_like"), corner, dtype="int32"), dtype=INT32)
            self._zero = self.let(
                self.write_call("sum", zeros, dtype=INT32) if x.ndim else zeros, "zero"
            ).expr
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
        operation = ast.Name(self.fresh(name), ast.Load())
        for statement in [*self.preamble, *self.statements]:
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and node.func is made:
                    node.func = operation
        self.preamble.append(ast.Assign([ast.Name(operation.id, ast.Store())], made))
        return operation

    def index(self, x: Symbol, *positions: Any, dtype: Any = None, dims: Any = None) -> Tensor:
        """Keras takes no slice that stands alone."""
        positions = (*positions, ...) if len(positions) == 1 else positions
        return super().index(x, *positions, dtype=dtype, dims=dims)

    # ---- sizes -------------------------------------------------------------------------------------------

    def reshaped(self, base: ast.expr, fact: Fact, sizes: Sequence[Any]) -> Tensor:
        wanted = _one_left_over(sizes)
        if wanted is not None:
            return self.write_call("reshape", base, wanted, dtype=fact.dtype)
        inner = None
        if fact.dims and len(fact.dims) > 1 and sizes[0] == fact.dims[0]:
            inner = _one_left_over(sizes[1:])
        if inner is None:
            free = ", ".join(str(size) for size in sizes if isinstance(size, Size))
            raise CannotConvert(
                f"a functional Keras model reshapes to one free size beside the batch, not to {free}"
            )
        layer = self.call_expr(dotted("layers.Reshape"), inner, dtype=layer_dtype(fact.dtype))
        return self.made(self.call_expr(layer, base), dtype=fact.dtype)

    def broadcast_to(self, x: Symbol, sizes: Sequence[Any]) -> Tensor:
        if known(sizes) and known(x.shape):
            return self.call("ops.broadcast_to", x, tuple(sizes), dtype=x.dtype, dims=tuple(sizes))
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
        zeros = self.write_call(
            "reshape", self.counted(size, x.dtype, "zeros_like"), tuple(shape), dtype=x.dtype
        )
        operation = "logical_or" if x.dtype.kind == "b" else "subtract"
        dims = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        return self.write_call(operation, x, zeros, dtype=x.dtype, dims=dims)

    def counted(self, size: Any, dtype: np.dtype[Any], operation: str) -> Tensor:
        """As many zeros or ones as a free size has, (size,)."""
        atom = size.atom if isinstance(size, Size) else None
        if atom is None or atom.args or atom.word not in self.homes:
            raise CannotConvert(_FREE.format(size))
        home, axis = self.homes[atom.word]
        edge = self.index(home, *[slice(None) if i == axis else slice(None, 1) for i in range(home.ndim)])
        many = self.made(self.call_expr(dotted(f"ops.{operation}"), edge, dtype=dtype), dtype=dtype)
        return self.write_call("reshape", many, (-1,), dtype=dtype, dims=(size,))

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype[Any]) -> Tensor:
        if not any(isinstance(v, Size | Symbol) for v in (start, stop, step)):
            budget.make(max((stop - start) / step, 0))
            return self.asarray(np.arange(start, stop, step), dtype)
        if isinstance(start, Size | Symbol) or isinstance(step, Size | Symbol) or step != 1:
            raise CannotConvert(_FREE.format(stop))
        ones = self.counted(stop if start == 0 else stop - start, dtype, "ones_like")
        positions = self.cumulative_sum(ones, 0)
        return positions + (start - 1)  # type: ignore[no-any-return]

    def full(self, sizes: Sequence[Any], value: Any, dtype: np.dtype[Any]) -> Tensor:
        if known(sizes):
            budget.make(product(sizes))
            return self.asarray(np.full(tuple(sizes), value), dtype)
        return self.broadcast_to(self.asarray(np.full((1,) * len(sizes), value), dtype), sizes)

    def squeeze(self, x: Symbol, axes: Sequence[int]) -> Tensor:
        """Keras refuses to drop an axis whose size it cannot see."""
        dims = x.fact.dims or ()
        if unseen := [dims[axis] for axis in axes if dims and isinstance(dims[axis], Size)]:
            raise CannotConvert(_FREE.format(unseen[0]))
        return super().squeeze(x, axes)

    def shape(self, x: Symbol) -> Tensor:
        if not known(x.shape):
            raise CannotConvert(_FREE.format(next(size for size in x.shape if isinstance(size, Size))))
        return self.asarray(x.shape, INT64)

    def slice(self, x: Symbol, positions: Any) -> Tensor:
        result: Any = x
        plain = {}
        for axis, (start, stop, step) in positions.items():
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
        return self.write_call("pad", base, pairs, mode="constant", constant_values=filled, dtype=dtype).base  # type: ignore[no-any-return]

    def _mirrored(self, x: Symbol, pairs: Sequence[tuple[Any, Any]], mode: str) -> Tensor:
        """Along an axis of a free size without a table of its places: from slices of both ends."""
        free = [axis for axis, pair in enumerate(pairs) if isinstance(x.shape[axis], Size) and any(pair)]
        if not free or not all(known(pair) for pair in pairs):
            return super()._mirrored(x, pairs, mode)
        result = super()._mirrored(x, [(0, 0) if axis in free else p for axis, p in enumerate(pairs)], mode)
        for axis in free:
            result = lengthened(self, result, axis, *pairs[axis], mode)
        return result

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

    # ---- where Keras means something else --------------------------------------------------------------------

    def write_call(
        self, operation: str, *args: Any, dtype: Any = None, dims: Any = None, perm: Any = None, **kwargs: Any
    ) -> Tensor:
        made = super().write_call(operation, *args, dtype=dtype, dims=dims, perm=perm, **kwargs)
        kept = made.dtype
        if operation in _WIDENS and kept.kind in "iub" and kept.itemsize < 4:
            made = super().write_call("astype", made.base, kept, dtype=kept, dims=dims, perm=perm)
        return made

    def _binary(self, operation: str, a: Any, b: Any) -> Tensor:
        """A sum that Keras may take for that of a tensor and its bias is written as a difference: see ``plain_sum``."""
        if operation == "add" and not plain_sum(*base_dims(a, b)):
            dtype = next(x.dtype for x in (a, b) if isinstance(x, Symbol))
            less = (
                self._unary("negative", b)
                if dtype.kind != "u"
                else self._binary("subtract", self.asarray(0, dtype), b)
            )
            return self._binary("subtract", a, less)
        return super()._binary(operation, a, b)

    def _reduce(self, operation: str, x: Symbol, axes: Sequence[int], keepdims: bool) -> Tensor:
        if operation == "mean" and x.dtype.kind != "f":
            raise CannotConvert("Keras gives the mean of integers as a float")
        if 0 in (x.fact.dims or ()):
            raise CannotConvert("Keras reduces nothing that is empty")
        if x.dtype.kind == "b":
            operation = {"max": "any", "min": "all"}.get(operation, operation)
        return super()._reduce(operation, x, axes, keepdims)

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
        return self.call("ops.take_along_axis", x, indices, axis=axis, dtype=x.dtype)

    def _argument(self, operation: str, x: Symbol, axis: int, keepdims: bool) -> Tensor:
        position = self.call(
            f"ops.{operation}", x, axis=axis, keepdims=True if keepdims else None, dtype=INT32
        )
        return self.astype(position, INT64)

    argmax = partialmethod(_argument, "argmax")
    argmin = partialmethod(_argument, "argmin")

    def topk(self, x: Symbol, k: Any, axis: int, largest: bool) -> tuple[Tensor, ...]:
        if not largest or isinstance(k, Size) or x.dtype.kind not in "f":
            raise CannotConvert("Keras gives the largest floats only, as many as are known before it runs")
        last = x.ndim - 1
        order = tuple(last if i == axis else axis if i == last else i for i in range(x.ndim))
        whole = self.call("ops.top_k", self.permute_dims(x, order), k, dtype=x.dtype)
        values, positions = self.unpack(whole, 2, [x.dtype, INT32])
        return tuple(self.permute_dims(part, order) for part in (values, self.astype(positions, INT64)))

    def diagonal(self, x: Symbol, axis1: int, axis2: int) -> Tensor:
        return self.call("ops.diagonal", x, axis1=axis1, axis2=axis2, dtype=x.dtype)

    def _triangle(self, operation: str, x: Symbol, k: int) -> Tensor:
        rows, columns = x.shape[-2:]
        if isinstance(rows, Size) or isinstance(columns, Size) or not -rows < k < columns:
            raise CannotConvert("the diagonal may lie outside of the matrix")
        return self.call(f"ops.{operation}", x, k=k, dtype=x.dtype, dims=x.fact.dims)

    tril = partialmethod(_triangle, "tril")
    triu = partialmethod(_triangle, "triu")

    def _shift(self, operation: str, a: Any, b: Any) -> Tensor:
        """Only by less than there are bits: what is beyond is not the same everywhere."""
        dtype = next(x.dtype for x in (a, b) if isinstance(x, Symbol))
        positions = b if not isinstance(b, Symbol) else b.content
        if positions is None or not np.all(
            (np.asarray(positions) >= 0) & (np.asarray(positions) < 8 * dtype.itemsize)
        ):
            raise CannotConvert("how far it shifts is known only when the model runs")
        return self._binary(operation, a, b)

    left_shift = partialmethod(_shift, "left_shift")
    right_shift = partialmethod(_shift, "right_shift")


def _end(stop: int) -> int | None:
    return None if stop > 0 else -(2**31 - 1)


def _one_left_over(sizes: Sequence[Any]) -> tuple[int, ...] | None:
    """Sizes as numbers, the one that is free (or asked for as -1) as -1; None where there are more."""
    free = [size for size in sizes if isinstance(size, Size) or size == -1]
    if len(free) > 1 or (free and 0 in sizes):
        return None
    return tuple(-1 if isinstance(size, Size) else size for size in sizes)
