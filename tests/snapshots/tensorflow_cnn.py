"""Cnn: a functional Keras model.

``load()`` gives the model with its weights, which lie in the .safetensors file beside this one.
"""

from pathlib import Path

import keras
from keras import layers, ops


def build():
    x = keras.Input(batch_shape=(None, 3, None, None), name='x')
    x_transposed = ops.transpose(x, (0, 2, 3, 1))
    stem_0 = layers.Conv2D(8, 3, strides=2, use_bias=False, name='stem.0')(layers.ZeroPadding2D(((1, 1), (1, 1)))(x_transposed))
    stem_1 = layers.BatchNormalization(epsilon=0.001, momentum=0.97, name='stem.1')(stem_0)
    stem_2 = ops.relu(stem_1)
    depth = layers.DepthwiseConv2D((3, 5), padding='same', name='depth')(stem_2)
    slope = layers.PReLU(shared_axes=[1, 2], name='slope')(depth)
    max_pool2d = layers.MaxPooling2D(2, strides=2)(slope)
    up = layers.Conv2DTranspose(4, 3, strides=2, name='up')(max_pool2d)[:, 1:, 1:]
    norm = layers.GroupNormalization(groups=2, epsilon=1e-05, name='norm')(up)
    mean = ops.mean(norm, axis=(1, 2))
    output = layers.Dense(5, name='head')(mean)
    output_1 = layers.Identity(name='output')(output)
    return keras.Model(x, output_1, name='Cnn')


def load(weights=None):
    """The model with its weights: those given by name, or those beside this file."""
    if weights is None:
        from safetensors.numpy import load_file

        weights = load_file(Path(__file__).with_suffix(".safetensors"))
    model = build()
    for variable in model.weights:
        variable.assign(weights[variable.path])
    return model
