"""How the function form is written: its weights and layers as members, sizes as tensors."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.writer import dotted, literal, loaded, prune
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size, known, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.signature import Array
from netferry.converters.tensorflow.from_onnx.function_names import INT32, INT64
from netferry.converters.tensorflow.from_onnx.layout import Tensor, base_axes, perm_of
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace


class FunctionWriter(TensorflowNamespace):
    """Writes ``__init__`` and ``call`` of ``class Model(keras.Model)``."""

    title = "TensorFlow"
    column, root = 1, "tf"

    def __init__(self, plan: Any, *, reserved: Sequence[str] = ()) -> None:
        super().__init__(plan, reserved=reserved)
        self.members: set[str] = set(MEMBERS)
        self.layers_made: dict[str, ast.expr] = {}

    # ---- what each form writes in its own way -----------------------------------------------------------------------------

    def allow(self, dtype: np.dtype[Any] | None) -> None:
        if dtype is not None and dtype.kind not in "OUS" and dtype.name not in DTYPES | SMALL_FLOATS.keys():
            raise CannotConvert(f"TensorFlow does not compute in {dtype}")

    def materialize(self, fact: Fact) -> ast.expr:
        """Also a constant of which some elements are sizes."""
        if fact.content is None or fact.constant is not None:
            return super().materialize(fact)
        items = [item if isinstance(item, Size) else int(item) for item in fact.content.reshape(-1)]
        whole = self.call_expr(dotted("tf.reshape"), items, fact.content.shape)
        return self.call_expr(dotted("tf.cast"), whole, fact.dtype)

    def array(self, content: Array) -> ast.expr:
        if content.size == 0 and content.ndim > 1:
            return self.call_expr(dotted("tf.zeros"), content.shape, content.dtype.name)
        if content.dtype.kind in "OUS":
            return self.call_expr(dotted("tf.constant"), content.tolist(), "string")
        if content.dtype.name in SMALL_FLOATS:
            single = self.call_expr(dotted("tf.constant"), _listed(content), "float32")
            return self.call_expr(dotted("tf.cast"), single, content.dtype.name)
        return self.call_expr(dotted("tf.constant"), _listed(content), content.dtype.name)

    def parameter(self, fact: Fact, content: Array) -> ast.expr:
        if content.dtype.kind in "OUS":
            return self.array(content)
        if content.dtype.name not in DTYPES:
            raise CannotConvert(f"TensorFlow keeps no parameters in {content.dtype}")
        name = self.layer_name(fact.name or "constant")
        self.hold(name, content, [fact.name])
        made = self.call_expr(
            dotted("keras.Variable"),
            "zeros",
            shape=content.shape,
            dtype=content.dtype.name,
            trainable=fact.trainable,
            name=name,
        )
        member = self._member(name)
        self.preamble.append(ast.Assign([_stored(member)], made))
        return self.call_expr(dotted("tf.convert_to_tensor"), member)

    def owned(self, kind: str, name: str, shape: Sequence[Any], *args: Any, **kwargs: Any) -> ast.expr:
        """A layer, made and built in ``__init__``."""
        if name not in self.layers_made:
            member = self._member(name)
            made = self.call_expr(dotted(f"layers.{kind}"), *args, **kwargs, name=name)
            self.preamble.append(ast.Assign([_stored(member)], made))
            build = self.call_expr(ast.Attribute(member, "build", ast.Load()), tuple(shape))
            self.preamble.append(ast.Expr(build))
            self.layers_made[name] = member
        return self.layers_made[name]

    def _member(self, name: str) -> ast.expr:
        from netferry.converters.graph.ir.build import unique
        from netferry.converters.graph.ir.names import identifier

        operation = unique(identifier(name), self.members)
        return ast.Attribute(ast.Name("self", ast.Load()), operation, ast.Load())

    # ---- statements -----------------------------------------------------------------------------------------

    def define(
        self, name: str, arguments: Sequence[str], statements: Sequence[ast.stmt], results: Sequence[Any]
    ) -> None:
        """``def name(arguments): ...; return (results,)``: a branch or the body of a loop."""
        last = ast.Return(ast.Tuple(list(results), ast.Load()))
        given = ast.arguments([], [ast.arg(argument) for argument in arguments], None, [], [], None, [])
        body = [*prune(statements, loaded(last)), last]
        self.write(ast.FunctionDef(name, given, body, []))

    # ---- sizes ----------------------------------------------------------------------------------------------

    def size_of(self, x: Symbol, axis: int) -> ast.expr:
        position = base_axes(perm_of(x), (axis,))[0]
        return self.call_expr_index("tf.shape", self._base(x), position)

    def call_expr_index(self, function: str, base: ast.expr, position: int) -> ast.expr:
        return ast.Subscript(self.call_expr(dotted(function), base), literal(position), ast.Load())

    def element_of(self, x: Symbol, index: int) -> ast.expr:
        whole: ast.expr = x.expr
        if x.ndim:
            whole = ast.Subscript(
                self.call_expr(dotted("tf.reshape"), whole, (-1,)), literal(index), ast.Load()
            )
        if x.dtype.itemsize == 8 and x.dtype.kind == "i":
            whole = self.call_expr(dotted("tf.clip_by_value"), whole, -(2**31 - 1), 2**31 - 1)
        return self.call_expr(dotted("tf.cast"), whole, "int32")

    def size_expr(self, size: Size) -> ast.expr:
        def call(operation: str, a: ast.expr, b: ast.expr) -> ast.expr:
            if operation in ("max", "min"):
                return self.call_expr(dotted(f"tf.{operation}imum"), a, b)
            if operation == "nonzero":
                test = self.call_expr(dotted("tf.equal"), a, 0)
                return self.call_expr(dotted("tf.where"), test, b, a)
            return ast.BinOp(a, _ARITHMETIC[operation](), b)

        return size.build(self._size_name, call, literal)

    def reshaped(self, base: ast.expr, fact: Fact, sizes: Sequence[Any]) -> Tensor:
        free = [position for position, size in enumerate(sizes) if isinstance(size, Size)]
        wanted = list(sizes)
        if len(free) == 1 and -1 not in sizes and 0 not in sizes:
            wanted[free[0]] = -1
        shape = tuple(wanted) if known(wanted) else list(wanted)
        return self.write_call("reshape", base, shape, dtype=fact.dtype)

    def shape(self, x: Symbol) -> Tensor:
        return self.call("tf.shape", x, out_type=dotted("tf.int64"), dtype=INT64, dims=(x.ndim,))

    def broadcast_to(self, x: Symbol, sizes: Sequence[Any]) -> Tensor:
        return self.call("tf.broadcast_to", x, list(sizes), dtype=x.dtype, dims=tuple(sizes))

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype[Any]) -> Tensor:
        if not any(isinstance(v, Size | Symbol) for v in (start, stop, step)) and (
            (stop - start) / step <= _WRITTEN
        ):
            return self.asarray(np.arange(start, stop, step), dtype)
        sizes = any(isinstance(v, Size) for v in (start, stop, step))
        computed = INT32 if sizes or (dtype.kind == "i" and dtype.itemsize < 4) else dtype
        ends = [
            (v if computed == INT32 else self._typed(v, computed))
            if isinstance(v, int | float)
            else self._cast_end(v, computed)
            for v in (start, stop, step)
        ]
        made = self.call("tf.range", *ends, dtype=computed)
        return made if computed == dtype else self.astype(made, dtype)

    def _cast_end(self, v: Any, dtype: np.dtype[Any]) -> Any:
        if not isinstance(v, Symbol):
            return v
        v = v if v.fact.dims == () else self.reshape(v, ())
        return v if v.dtype == dtype else self.astype(v, dtype)

    def full(self, sizes: Sequence[Any], value: Any, dtype: np.dtype[Any]) -> Tensor:
        if known(sizes) and product(sizes) <= 16:
            return self.asarray(np.full(tuple(sizes), value), dtype)
        return self.call(
            "tf.fill",
            list(sizes),
            self.array(np.asarray(value).astype(dtype)),
            dtype=dtype,
            dims=tuple(sizes),
        )

    def slice(self, x: Symbol, positions: Any) -> Tensor:
        start, stop, step = (
            {axis: None if _beyond(cut[i]) else cut[i] for axis, cut in positions.items()} for i in range(3)
        )
        return super().slice(x, {axis: (start[axis], stop[axis], step[axis]) for axis in positions})

    def padded(self, base: ast.expr, pairs: Sequence[Any], value: Any, dtype: np.dtype[Any]) -> ast.expr:
        fill = None if not isinstance(value, ast.expr) and value == 0 else self._typed(value, dtype)
        free = [list(pair) for pair in pairs]
        return self.write_call("pad", base, free, constant_values=fill, dtype=dtype).base  # type: ignore[no-any-return]

    def parted(self, base: ast.expr, lengths: Sequence[Any], axis: int, dtype: np.dtype[Any]) -> Tensor:
        return self.made(self.call_expr(dotted("tf.split"), base, list(lengths), axis=axis), dtype=dtype)


MEMBERS = frozenset(
    """
    activity_regularizer add_loss add_metric add_variable add_weight autocast build build_from_config built call
    call_signature_parameters compile compile_from_config compiled compiled_loss compiled_metrics compute_dtype
    compute_loss compute_mask compute_metrics compute_output_shape compute_output_spec count_params
    distribute_reduction_method distribute_strategy dtype dtype_policy evaluate export fit from_config
    get_build_config get_compile_config get_config get_layer get_metrics_result get_quantization_layer_structure
    get_state_tree get_weights input input_dtype input_spec jit_compile layers load_own_variables load_weights loss
    losses make_predict_function make_test_function make_train_function metrics metrics_names metrics_variables name
    non_trainable_variables non_trainable_weights output path predict predict_function predict_on_batch predict_step
    quantization_mode quantize quantized_build quantized_call rematerialized_call reset_metrics run_eagerly save
    save_own_variables save_weights serve set_state_tree set_weights stateless_call stateless_compute_loss
    steps_per_execution summary supports_jit supports_masking symbolic_call test_function test_on_batch test_step
    to_json train_function train_on_batch train_step trainable trainable_variables trainable_weights
    unrolled_steps_per_execution variable_dtype variables weights
    """.split()
)
"""What a ``keras.Model`` has already: no layer or weight gets such a name."""


DTYPES = frozenset(
    """
    bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64 complex64 complex128
    """.split()
)
"""What TensorFlow has kernels for."""


SMALL_FLOATS = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}
"""Of smaller types it casts these, and does not saturate by itself at their largest number."""


_WRITTEN = 1 << 16
"""As many numbers of a range are written down; more are counted when the model runs."""


_ARITHMETIC: dict[str, Any] = {"+": ast.Add, "-": ast.Sub, "*": ast.Mult, "//": ast.FloorDiv, "%": ast.Mod}


def _beyond(v: Any) -> bool:
    return isinstance(v, int) and abs(v) >= 2**31 - 1


def _listed(content: Array) -> Any:
    """An array as nested lists of numbers."""
    plain = content if content.dtype.kind in "fiubc" else content.astype(np.float32)
    return plain.tolist()


def _stored(member: ast.expr) -> ast.expr:
    assert isinstance(member, ast.Attribute)
    return ast.Attribute(member.value, member.attr, ast.Store())
