"""TFLite's own interpreter, which TensorFlow brings: it runs a model that was read without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.signature import Array
from netferry.converters.tensorflow.runtime import quiet, tf
from netferry.converters.tensorflow.tflite import schema
from netferry.converters.tensorflow.tflite.graph import needed
from netferry.converters.tensorflow.tflite.model import LiteModel, Operation, place_of

with quiet():
    from tensorflow.lite.python import schema_py_generated

_FLEX = "Flex"
"""How the name of a custom operator begins that TensorFlow's own kernels run."""

_RESOLVERS = tf.lite.experimental.OpResolverType


def run(model: LiteModel, arrays: Sequence[Array], *, plain: bool = False) -> dict[str, Array]:
    """Outputs by name; ``plain`` are TFLite's own kernels, without XNNPACK's.

    Raises:
        RefusedError: the interpreter does not take the file, or not these inputs.
    """
    try:
        with quiet():
            return _run(model, arrays, plain)
    except (RuntimeError, ValueError) as error:
        raise RefusedError(
            f"TFLite's interpreter does not run it ({first_line(error)})", where=model.label
        ) from error


def _run(model: LiteModel, arrays: Sequence[Array], plain: bool) -> dict[str, Array]:
    ports = model.signature.inputs
    if model.main.index:
        return _by_name(model, arrays, plain)
    interpreter = interpreter_of(model, plain)
    places = [place_of(port) for port in ports]
    fill(interpreter, places, arrays)
    interpreter.invoke()
    return {port.name: np.array(interpreter.get_tensor(place_of(port))) for port in model.signature.outputs}


def fill(interpreter: Any, places: Sequence[int], arrays: Sequence[Array]) -> None:
    """Inputs of any sizes, and states that begin anew."""
    details: Mapping[int, Any] = {each["index"]: each for each in interpreter.get_input_details()}
    for place, array in zip(places, arrays, strict=True):
        if tuple(details[place]["shape"]) != array.shape:
            interpreter.resize_tensor_input(place, array.shape)
    interpreter.allocate_tensors()
    interpreter.reset_all_variables()
    for place, array in zip(places, arrays, strict=True):
        interpreter.set_tensor(place, np.ascontiguousarray(array))


def _by_name(model: LiteModel, arrays: Sequence[Array], plain: bool) -> dict[str, Array]:
    """A signature of another subgraph than the first."""
    runner = interpreter_of(model, plain).get_signature_runner(model.signature.name)
    given = {port.name: array for port, array in zip(model.signature.inputs, arrays, strict=True)}
    found = runner(**given)
    return {port.name: np.array(found[port.name]) for port in model.signature.outputs}


@lru_cache(maxsize=4)
def interpreter_of(model: LiteModel, plain: bool = False, keep: bool = False) -> Any:
    """An interpreter of the file; ``keep`` keeps all tensors of a run.

    Raises:
        RefusedError: the file holds operators of TensorFlow itself, which an interpreter that knows them would run unseen.
    """
    if strange := sorted({each.custom for each in _handed_over(model) if each.custom.startswith(_FLEX)}):
        raise RefusedError(
            "it runs operators of TensorFlow, which may act outside the model",
            where=model.label,
            received=", ".join(strange[:3]),
        )
    kind = _RESOLVERS.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain or keep else _RESOLVERS.AUTO
    return tf.lite.Interpreter(
        model_content=content(model),
        experimental_op_resolver_type=kind,
        experimental_preserve_all_tensors=keep,
        num_threads=1,
    )


def _handed_over(model: LiteModel) -> Iterator[Operation]:
    """Every operator of ``content``, whether a result needs it or not: the interpreter runs them all."""
    for graph in model.subgraphs:
        yield from _kept(model) if model.cut and graph is model.main else graph.operations


def _kept(model: LiteModel) -> Sequence[Operation]:
    """The operators that a part needs."""
    starts, ends = _edges(model)
    return needed(model.main, ends, starts)


def _edges(model: LiteModel) -> tuple[list[int], list[int]]:
    """The tensors with which the signature that is meant begins, and those with which it ends."""
    called = model.signature
    return [place_of(port) for port in called.inputs], [place_of(port) for port in called.outputs]


def content(model: LiteModel) -> bytes:
    """The file as it was looked at; of a part a file of the operators that it needs."""
    whole = bytes(model.source.looked.content.view())
    return _part_of(whole, model) if model.cut else whole


def _part_of(whole: bytes, model: LiteModel) -> bytes:
    """Written with TensorFlow's own tables."""
    tables = schema_py_generated.ModelT.InitFromPackedBuf(whole)
    starts, ends = _edges(model)
    graph, kept = tables.subgraphs[model.main.index], {each.outputs for each in _kept(model)}
    graph.inputs, graph.outputs = starts, ends
    graph.operators = [each for each in graph.operators if tuple(each.outputs) in kept]
    tables.signatureDefs, tables.metadata = [], []
    builder = schema_py_generated.flatbuffers.Builder(len(whole))
    builder.Finish(tables.Pack(builder), schema.IDENTIFIER)
    return bytes(builder.Output())


def steps(model: LiteModel, arrays: Sequence[Array]) -> Iterator[tuple[Operation, dict[int, Array]]]:
    """Each operator of the main subgraph with what it gave, by the numbers of the tensors."""
    with quiet():
        interpreter = interpreter_of(model, keep=True)
        fill(interpreter, [place_of(port) for port in model.signature.inputs], arrays)
        interpreter.invoke()
    ports = [
        [place_of(port) for port in ports] for ports in (model.signature.outputs, model.signature.inputs)
    ]
    for operation in needed(model.main, *ports) if model.cut else model.main.operations:
        yield operation, {index: np.array(interpreter.get_tensor(index)) for index in operation.outputs}
