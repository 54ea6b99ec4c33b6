"""The rows of every operator that Keras and TensorFlow have a layer or a kernel for."""

from netferry.converters.tensorflow import (
    native_activations,
    native_convolution,
    native_dynamic,
    native_flow,
    native_layers,
    native_normalization,
    native_pools,
    native_recurrent,
)

__all__ = [
    "native_activations",
    "native_convolution",
    "native_dynamic",
    "native_flow",
    "native_layers",
    "native_normalization",
    "native_pools",
    "native_recurrent",
]
