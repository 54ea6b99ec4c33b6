"""Layers that draw at random while they train, and do nothing in inference."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import convnext, keras
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, one

layers = keras.layers


@ROWS.row(
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    convnext.StochasticDepth,
)
def nothing(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return x


_AUGMENTATIONS = [
    layers.AugMix,
    layers.CutMix,
    layers.MixUp,
    layers.RandAugment,
    *(kind for name, kind in vars(layers).items() if name.startswith("Random")),
]


@ROWS.row(*_AUGMENTATIONS)
def augmentation(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """In inference at most a cast; the transformation that Keras draws even there is not used."""
    return one(g.follow(layer.transform_images, x, transformation=None, training=False))
