"""TensorFlow and Keras, imported in one place: set up before they start, and kept from chattering.

The other rooms import from here, never from TensorFlow or Keras themselves. What netferry needs of
Keras' inner modules stands here too, so that a new version of Keras is met in one place.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from netferry.converters.frameworks import named

BACKEND = "tensorflow"
_IN_ITS_PLACE = ("jax", "torch")
"""What Keras runs on where TensorFlow is not installed: its files are read and written as ONNX all the same."""


class _Absent:
    """What is TensorFlow's own, where it is not installed."""

    def __getattr__(self, name: str) -> Any:
        named("tensorflow").require()
        raise AttributeError(name)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep log lines and warnings off standard error, those that C++ writes past Python too."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    disabled = logging.root.manager.disable
    try:
        os.dup2(nowhere, 2)
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def names_from_scratch() -> Iterator[None]:
    """Let Keras count the names that it makes up (``relu``, ``relu_1``) from the beginning, so that they do not
    depend on what was built before."""
    kept = global_state.get_global_attribute(_COUNTS)
    global_state.set_global_attribute(_COUNTS, defaultdict(int))
    try:
        yield
    finally:
        global_state.set_global_attribute(_COUNTS, defaultdict(int) if kept is None else kept)


_COUNTS = "object_name_uids"

INSTALLED = named("tensorflow").installed
_others = [name for name in _IN_ITS_PLACE if find_spec(name) is not None]
if not INSTALLED and (find_spec("keras") is None or not _others):
    named("tensorflow").require()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", BACKEND if INSTALLED else _others[0])
with quiet():
    import keras
    from keras.src import backend, ops as all_ops, quantizers, tree
    from keras.src.activations.activations import ReLU as ReluOperation
    from keras.src.applications import convnext
    from keras.src.backend import KerasTensor, result_type
    from keras.src.backend.common import global_state
    from keras.src.layers import layer as layer_module
    from keras.src.legacy.saving import legacy_h5_format as legacy_h5
    from keras.src.models.functional import Functional
    from keras.src.ops import (
        core as core_ops,
        image as image_ops,
        linalg as linalg_ops,
        math as math_ops,
        nn as nn_ops,
        numpy as numpy_ops,
        operation as operation_module,
    )
    from keras.src.ops.operation import Operation
    from keras.src.utils import traceback_utils

    own_backend = import_module(f"keras.src.backend.{keras.backend.backend()}")
    if INSTALLED:
        import tensorflow as tf

        tf.config.list_physical_devices()  # says on standard error, once, that there is no GPU
        from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef
        from tensorflow.python.eager import context as eager_context
        from tensorflow.python.eager.execute import quick_execute
        from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction
        from tensorflow.python.framework import convert_to_constants, op_callbacks
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2 as freeze,
        )
        from tensorflow.python.framework.function_def_to_graph import function_def_to_graph
        from tensorflow.python.framework.op_def_registry import get as op_definition
    else:
        tf = FingerprintDef = eager_context = quick_execute = convert_to_constants = op_callbacks = _Absent()
        ConcreteFunction = freeze = function_def_to_graph = op_definition = tf

__all__ = [
    "BACKEND",
    "INSTALLED",
    "ConcreteFunction",
    "FingerprintDef",
    "Functional",
    "KerasTensor",
    "Operation",
    "ReluOperation",
    "all_ops",
    "backend",
    "convert_to_constants",
    "convnext",
    "core_ops",
    "eager_context",
    "eagerly",
    "freeze",
    "function_def_to_graph",
    "function_of_graph",
    "global_state",
    "image_ops",
    "keras",
    "layer_module",
    "legacy_h5",
    "linalg_ops",
    "math_ops",
    "names_from_scratch",
    "nn_ops",
    "numpy_ops",
    "op_callbacks",
    "op_definition",
    "operation_module",
    "own_backend",
    "quantizers",
    "quick_execute",
    "quiet",
    "result_type",
    "tf",
    "traceback_utils",
    "tree",
]


def function_of_graph(graph: Any, inputs: Iterable[str], outputs: Iterable[str]) -> Any:
    """A GraphDef as a function from some of its tensors to others, by their names (``node:0``)."""
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    inside = [[wrapped.graph.get_tensor_by_name(name) for name in names] for names in (inputs, outputs)]
    return wrapped.prune(*inside)


@contextmanager
def eagerly() -> Iterator[None]:
    """Functions run operation by operation, as plain Python does; afterwards as they did."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
