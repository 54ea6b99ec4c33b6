"""A plan written as a program: the functional form where it can be, else the function form."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import onnx_ir as ir

from netferry.converters.errors import CannotConvert, Unsupported, UnsupportedError
from netferry.converters.graph.codegen.walk import Walk
from netferry.converters.graph.codegen.writer import dotted, source
from netferry.converters.graph.ir.facts import Plan
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.signature import Signature, TensorSpec
from netferry.converters.tensorflow.from_onnx.function_form import Function
from netferry.converters.tensorflow.from_onnx.function_names import automatic, layer_dtype
from netferry.converters.tensorflow.from_onnx.functional_form import Functional
from netferry.converters.tensorflow.from_onnx.layout import Tensor
from netferry.converters.tensorflow.from_onnx.module import (
    FUNCTION,
    FUNCTIONAL,
    RESERVED,
    body_text,
    helper_text,
    indented,
    module_text,
)
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.names import legal, served_name


def _naming_the_graph(
    write: Callable[[Plan, Signature, str], Program],
) -> Callable[[Plan, Signature, str], Program]:
    """What is refused outside of any node is reported of the graph."""

    @wraps(write)
    def reported(plan: Plan, signature: Signature, name: str) -> Program:
        try:
            return write(plan, signature, name)
        except CannotConvert as cannot:
            raise UnsupportedError([Unsupported(name, "graph", cannot.reason, cannot.remedy)]) from cannot

    return reported


@dataclass(frozen=True)
class Program:
    """What was written: the form, its statements as text, and the namespace that holds the weights."""

    form: str
    text: str
    namespace: TensorflowNamespace


@_naming_the_graph
def functional(plan: Plan, signature: Signature, name: str) -> Program:
    """``def build() -> keras.Model``."""
    xp = Functional(plan, reserved=RESERVED)
    specs = dict(zip(plan.graph.inputs, signature.inputs, strict=True))
    results = Walk(plan, xp).run(lambda value: _keras_input(xp, value, specs[value], plan))
    statements = xp.statements
    outputs = _keras_outputs(xp, results, signature)
    model = xp.call_expr(dotted("keras.Model"), _only([x.expr for x in xp.inputs]), outputs, name=legal(name))
    whole = [*xp.preamble, *statements]
    body = body_text(whole, ast.Return(model))
    text = module_text(name, FUNCTIONAL, f"def build():\n{indented(body)}", "build()")
    return Program(FUNCTIONAL, text, xp)


def _keras_input(xp: Functional, value: Any, spec: TensorSpec, plan: Plan) -> Symbol:
    """``x = keras.Input(batch_shape=(None, 3, 224, 224), name="x")``"""
    fact = plan.fact(value)
    if fact.dims is None or fact.dtype is None:
        raise CannotConvert(f"the rank of input '{spec.name}' is not known")
    xp.allow(fact.dtype)
    dtype = fact.dtype.name
    shape = tuple(size if isinstance(size, int) else None for size in fact.dims)
    title = xp.layer_name(spec.name)
    made = xp.call_expr(
        dotted("keras.Input"), batch_shape=shape, dtype=None if dtype == "float32" else dtype, name=title
    )
    with xp.outside():
        symbol = Tensor(xp, fact, xp.let(Symbol(xp, fact, made), spec.name).expr)
    xp.inputs.append(symbol)
    return symbol


def _keras_outputs(xp: Functional, results: Sequence[Any], signature: Signature) -> Any:
    """Tensors under the source's names: by a layer of that name, or as a mapping where Keras has it taken."""
    names = [spec.name for spec in signature.outputs]
    exprs = [_hanging(xp, result) for result in results]
    plain = all(legal(n) == n and xp.free(n) and not automatic(n) for n in names) and len(set(names)) == len(
        names
    )
    if not plain:
        return ast.Dict([ast.Constant(n) for n in names], list(exprs))
    outputs = []
    for title, expr, result in zip(names, exprs, results, strict=True):
        layer = xp.call_expr(dotted("layers.Identity"), dtype=layer_dtype(result.dtype), name=title)
        outputs.append(xp.let(Symbol(xp, result.fact, xp.call_expr(layer, expr)), title).expr)
    return _only(outputs)


def _hanging(xp: Functional, result: Symbol) -> ast.expr:
    """An output; a constant one hangs on the input, as Keras wants it."""
    content = result.fact.constant
    return result.expr if content is None else xp.parameter(result.fact, content)


def _only(items: list[Any]) -> Any:
    return items[0] if len(items) == 1 else items


@_naming_the_graph
def function(plan: Plan, signature: Signature, name: str) -> Program:
    """``class Model(keras.Model)`` with ``call`` and the signature that it is served under."""
    xp = Function(plan, reserved=RESERVED)
    specs = dict(zip(plan.graph.inputs, signature.inputs, strict=True))
    arguments: list[str] = []

    def take(value: ir.Value) -> Symbol:
        fact = plan.fact(value)
        if fact.dtype is None:
            raise CannotConvert("it is no tensor")
        if fact.dtype.kind in "OUS":
            raise CannotConvert("it holds strings, which are not carried")
        xp.allow(fact.dtype)
        arguments.append(xp.fresh(specs[value].name))
        return Tensor(xp, fact, ast.Name(arguments[-1], ast.Load()))

    results = Walk(plan, xp).run(take)
    keys: list[ast.expr | None] = [ast.Constant(spec.name) for spec in signature.outputs]
    returned = ast.Return(ast.Dict(keys, [result.expr for result in results]))
    call = body_text(xp.statements, returned)
    text = "".join(f"{helper_text(operation)}\n\n\n" for operation in xp.helpers)
    text += _class_text(xp, name, arguments, _specs(plan, signature), call)
    return Program(FUNCTION, module_text(name, FUNCTION, text, "Model()"), xp)


def _specs(plan: Plan, signature: Signature) -> list[str]:
    """How each input is served: ``tf.TensorSpec([None, 3], "float32", name="x")``."""
    specs = []
    for value, spec in zip(plan.graph.inputs, signature.inputs, strict=True):
        dims, kind = plan.fact(value).dims, plan.fact(value).dtype
        shape = None if dims is None else [size if isinstance(size, int) else None for size in dims]
        dtype = "string" if kind is None or kind.kind in "OUS" else kind.name
        specs.append(f"tf.TensorSpec({shape!r}, {dtype!r}, name={served_name(spec.name)!r})")
    return specs


def _class_text(xp: Function, name: str, arguments: Sequence[str], specs: Sequence[str], call: str) -> str:
    given = ", ".join(["self", *arguments])
    made = source(xp.preamble)
    lines = [
        "class Model(keras.Model):",
        "    def __init__(self):",
        f"        super().__init__(name={legal(name)!r}, autocast=False)",
        *([indented(made, 8)] if made else []),
        "        self.built = True",
        "",
        f"    def call({given}):",
        indented(call, 8),
        "",
        f"    @tf.function(input_signature=[{', '.join(specs)}])",
        f"    def serve({given}):",
        f"        return self({', '.join([*arguments, 'training=False'])})",
    ]
    if not arguments:
        lines += ["", "    def __call__(self, training=False):", "        return self.call()"]
    return "\n".join(lines) + "\n"
