"""Tagger: a functional Keras model.

``load()`` gives the model with its weights, which lie in the .safetensors file beside this one.
"""

from pathlib import Path

import keras
from keras import layers, ops


def build():
    x = keras.Input(batch_shape=(None, None), dtype='int64', name='x')
    words = layers.Embedding(50, 12, embeddings_initializer='zeros', name='words')(x)
    lstm_Reshape, lstm, _, part_1, _ = layers.Bidirectional(layers.LSTM(7, return_sequences=True, return_state=True, name='lstm'), name='lstm')(words)
    lstm_1 = ops.stack([lstm, part_1], 0)
    lstm_Reshape_1, lstm_LSTM, _, part_4, _ = layers.Bidirectional(layers.LSTM(7, return_sequences=True, return_state=True, name='lstm'), name='lstm.1')(lstm_Reshape)
    lstm_LSTM_1 = ops.stack([lstm_LSTM, part_4], 0)
    lstm_Concat = ops.concatenate([lstm_1, lstm_LSTM_1], 0)
    gru_Squeeze = layers.GRU(6, reset_after=True, return_sequences=True, name='gru')(lstm_Reshape_1)
    out = layers.Dense(3, use_bias=False, name='out')(gru_Squeeze)
    sum = ops.sum(lstm_Concat, axis=(0, 1, 2))
    output = out + sum
    output_transposed = ops.transpose(output, (1, 0, 2))
    output_1 = layers.Identity(name='output')(output_transposed)
    return keras.Model(x, output_1, name='Tagger')


def load(weights=None):
    """The model with its weights: those given by name, or those beside this file."""
    if weights is None:
        from safetensors.numpy import load_file

        weights = load_file(Path(__file__).with_suffix(".safetensors"))
    model = build()
    for variable in model.weights:
        variable.assign(weights[variable.path])
    return model
