"""TensorFlow and Keras models in memory: what they take and give, and running them.

Every kind of model shows one ``Face``: its inputs in order, and a call from tensors to named tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from netferry.converters.errors import MissingError, UsageError
from netferry.converters.signature import Array, examples
from netferry.converters.tensorflow.interface import interface_of, interface_or_none
from netferry.converters.tensorflow.runtime import BACKEND, INSTALLED, keras, quiet, tf

# ---- what every framework's folder offers --------------------------------------------------------------------


def accepts(model: object) -> bool:
    """Keras models, functions of TensorFlow, and modules or loaded SavedModels that have one.

    A Keras model that runs on PyTorch is a ``torch.nn.Module``, and is taken as one where it can be compared so.
    """
    if isinstance(model, keras.Model):
        return keras.backend.backend() != "torch" or not INSTALLED
    return interface_or_none(model) is not None


def run(model: object, arrays: Sequence[Array]) -> dict[str, Array]:
    """Run in inference mode: inputs by position, outputs by name and in order.

    Raises:
        MissingError: this processor's TensorFlow has no kernel for an operator of the model.
    """
    if keras.backend.backend() != BACKEND:
        raise MissingError(
            f"Keras runs on {keras.backend.backend()} here, and is compared on TensorFlow",
            remedy="Save it (model.save('model.keras')) and verify the file where TensorFlow is installed, without KERAS_BACKEND",
        )
    given = examples(arrays)
    interface = interface_of(model, given)
    expected = len(interface.inputs(given).specs)
    if expected != len(arrays):
        raise UsageError("the wrong number of inputs", expected=expected, received=len(arrays))
    with running():
        named = interface.call([tf.convert_to_tensor(array) for array in arrays])
    return in_memory(named)


def in_memory(named: Mapping[str, Any]) -> dict[str, Array]:
    """Tensors as arrays: by ``numpy()``, since numpy itself takes no single bfloat16 from TensorFlow."""
    return {name: np.asarray(tf.convert_to_tensor(tensor).numpy()) for name, tensor in named.items()}


_NO_KERNEL = re.compile(r"[^{}\n]*(CPU implementations do not|only supports (the )?ND?HWC)[^\[\n]*")
"""TensorFlow's message where only oneDNN has a kernel: channels first, and transposed convolutions that are dilated."""


@contextmanager
def running() -> Iterator[None]:
    """Nothing on standard error while TensorFlow computes.

    Raises:
        MissingError: this processor's TensorFlow has no kernel for an operator.
    """
    try:
        with quiet():
            yield
    except tf.errors.OpError as error:
        missing = _without_kernel(error)
        if missing is None:
            raise
        raise missing from error


def _without_kernel(error: Exception) -> MissingError | None:
    """The error in one sentence, where it is the processor's and not the model's."""
    message = _NO_KERNEL.search(str(error))
    if message is None:
        return None
    layer = re.search(r"calling (\S+)\.call\(\)", str(error))
    return MissingError(
        f"TensorFlow has no kernel on this processor for {layer[1] if layer else 'an operator'} "
        f"({message[0].strip().rstrip('.')})",
        remedy="Set TF_ENABLE_ONEDNN_OPTS=1 before the start, which adds oneDNN's kernels",
    )


# ---- kinds of models ------------------------------------------------------------------------


# ---- names and sizes ------------------------------------------------------------------------
