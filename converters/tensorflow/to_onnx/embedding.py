"""Tables of trained rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import keras
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter

layers = keras.layers


@ROWS.row(layers.Embedding)
def embedding(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    indices = x if x.dtype in (np.int32, np.int64) else g.cast(x, np.int32)
    return g.Gather(g.weight(layer.embeddings), indices)
