"""TFLite files as TensorFlow's converter writes them, and what its interpreter makes of them; for the tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from served_models import randomised

from netferry import converters
from netferry.converters import frameworks, source
from netferry.converters.exported import ExportedModel
from netferry.converters.tensorflow.runtime import keras, quiet, tf

Sizes = Sequence[int | None]


def of_function(call: Callable[..., Any], *specs: Any, extra: Any = ()) -> bytes:
    """A function of tensors as a file without signatures."""
    with quiet():
        traced = tf.function(call, autograph=False).get_concrete_function(*specs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, *extra]
        made: bytes = converter.convert()
    return made


def of_keras(model: Any, precision: str = "float32", *, whole: bool = False, kinds: Any = None) -> bytes:
    """A model in a precision; static ones are calibrated on numbers drawn by chance. ``whole`` takes and gives int8."""
    with quiet():
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision in ("int8", "int16"):
            converter.representative_dataset = lambda: _rows(model)
        if precision == "int16":
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            ]
        if whole:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = kinds or tf.int8
        made: bytes = converter.convert()
    return made


def _rows(model: Any) -> Iterator[list[np.ndarray]]:
    draw = np.random.default_rng(1)
    for _ in range(16):
        yield [
            draw.standard_normal([1 if s is None else s for s in each.shape]).astype(np.float32)
            for each in model.inputs
        ]


def functional(build: Callable[[Any], Any], *sizes: int | None, batch: int | None = None) -> Any:
    with quiet():
        x = keras.Input(sizes, batch_size=batch, name="x")
        return randomised(keras.Model(x, build(x)))


def opened(content: bytes, folder: Path) -> Any:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return source.open_source(path)


def exported(model: Any) -> ExportedModel:
    return converters.export_model(model)


def drawn(model: Any, batch: int = 2, seed: int = 3) -> list[np.ndarray]:
    """Inputs of the sizes that the file declares; a free one is ``batch``."""
    draw = np.random.default_rng(seed)
    found = []
    for spec in frameworks.of(model).signature(model).inputs:
        sizes = [size if isinstance(size, int) else batch for size in spec.dims or ()]
        whole = (
            draw.integers(0, 3, sizes)
            if spec.dtype.itemsize > 1
            else draw.integers(-120 if spec.dtype.kind == "i" else 0, 120, sizes)
        )
        found.append(
            draw.standard_normal(sizes).astype(spec.dtype)
            if spec.dtype.kind == "f"
            else whole.astype(spec.dtype)
        )
    return found


def both(
    model: Any, export: ExportedModel, arrays: Sequence[np.ndarray]
) -> tuple[Mapping[str, np.ndarray], dict[str, np.ndarray]]:
    """What TFLite's interpreter gives, and what onnxruntime gives for the export."""
    want = frameworks.of(model).live.run(model, arrays)
    session = onnxruntime.InferenceSession(
        ir.to_proto(export.model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = dict(zip([each.name for each in session.get_inputs()], arrays, strict=True))
    return want, dict(
        zip([each.name for each in session.get_outputs()], session.run(None, feeds), strict=True)
    )


def operators(export: ExportedModel) -> list[str]:
    return [node.op_type for node in export.model.graph.all_nodes()]


def by_hand(
    name: str,
    options: Any,
    tensors: Sequence[tuple[Any, bool]],
    outputs: Sequence[tuple[int, ...]],
    state: Collection[int] = (),
) -> bytes:
    """A file of one operator, written with TensorFlow's own tables: each input an array, whether it is the model's, or None.

    Inputs at the places in ``state`` are variables.
    """
    schema = import_module("tensorflow.lite.python.schema_py_generated")
    flatbuffers = import_module("flatbuffers")
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, graph.tensors, places = 3, [schema.BufferT()], [], []
    for place, (array, fed) in enumerate(tensors):
        if array is None:
            places.append(-1)
            continue
        places.append(len(graph.tensors))
        graph.tensors.append(_tensor(schema, f"t{place}", array.shape, variable=place in state))
        if not fed and place not in state:
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(array.astype(np.float32).tobytes(), np.uint8)
            graph.tensors[-1].buffer = len(model.buffers) - 1
    made = [len(graph.tensors) + number for number in range(len(outputs))]
    graph.tensors += [_tensor(schema, f"y{number}", sizes) for number, sizes in enumerate(outputs)]
    operator, code = schema.OperatorT(), schema.OperatorCodeT()
    operator.inputs, operator.outputs, operator.builtinOptions = places, made, options
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    graph.inputs = [places[place] for place, (_, fed) in enumerate(tensors) if fed]
    graph.outputs, graph.operators = made, [operator]
    model.subgraphs, model.operatorCodes = [graph], [code]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(schema: Any, name: str, sizes: Sequence[int], variable: bool = False) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.isVariable, tensor.hasRank = name, list(sizes), variable, True
    return tensor
