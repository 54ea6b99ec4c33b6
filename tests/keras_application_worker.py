"""Carry one network of keras.applications and say what became of it, as one line of JSON."""

from __future__ import annotations

import json
import sys

from keras_models import carried, randomised, worst_error

from netferry.converters.tensorflow.runtime import keras

name = sys.argv[1]
smallest = {"InceptionResNetV2": 139, "InceptionV3": 139, "Xception": 71, "NASNetMobile": 224}
side = smallest.get(name, 64)
model = randomised(
    getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classes=10, classifier_activation=None
    )
)
onnx_model = carried(model)
operators = onnx_model.operators
kinds = [type(layer) for layer in model._flatten_layers(include_self=False)]
print(
    json.dumps(
        {
            "road": onnx_model.export.route,
            "notes": onnx_model.export.notes,
            "error": worst_error(model, onnx_model, [(1, 0), (2, 0)]),
            "transposes": operators["Transpose"],
            "cast or identity": operators["Cast"] + operators["Identity"],
            "batch norms": operators["BatchNormalization"],
            "batch normalizations of Keras": kinds.count(keras.layers.BatchNormalization),
        }
    )
)
