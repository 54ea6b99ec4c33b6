"""Tagger, as an MXNet symbol: ``load()`` gives a gluon block with its weights."""

from pathlib import Path

import numpy as np

if "bool" not in vars(np):  # mxnet 1.9.1 reads a name that numpy has since dropped
    np.bool = np.bool_

import mxnet as mx

INPUTS = ['x']
CONSTANTS = []
"""Parameters that training leaves alone."""


def symbol():
    """The graph; parameters are variables under their names."""
    x = mx.sym.var('x', shape=(0, 0), dtype='int64', attr={'__input__': '0'})
    words_mod_scalar = mx.sym._internal._mod_scalar(x, scalar=50, is_int=True, name='words_mod_scalar')
    words_weight = mx.sym.var('words.weight', shape=(50, 12), dtype='float32')
    words = mx.sym.Embedding(words_mod_scalar, words_weight, input_dim=50, output_dim=12, dtype='float32', name='words')
    lstm_Transpose = mx.sym.transpose(words, axes=(1, 0, 2), name='lstm/Transpose')
    lstm_l0_i2h_weight = mx.sym.var('lstm_l0_i2h_weight', shape=(28, 12), dtype='float32')
    lstm_reshape = mx.sym.Reshape(lstm_l0_i2h_weight, shape=(-1,), name='lstm_reshape')
    lstm_l0_h2h_weight = mx.sym.var('lstm_l0_h2h_weight', shape=(28, 7), dtype='float32')
    lstm_reshape_1 = mx.sym.Reshape(lstm_l0_h2h_weight, shape=(-1,), name='lstm_reshape_1')
    lstm_r0_i2h_weight = mx.sym.var('lstm_r0_i2h_weight', shape=(28, 12), dtype='float32')
    lstm_reshape_2 = mx.sym.Reshape(lstm_r0_i2h_weight, shape=(-1,), name='lstm_reshape_2')
    lstm_r0_h2h_weight = mx.sym.var('lstm_r0_h2h_weight', shape=(28, 7), dtype='float32')
    lstm_reshape_3 = mx.sym.Reshape(lstm_r0_h2h_weight, shape=(-1,), name='lstm_reshape_3')
    lstm_l0_i2h_bias = mx.sym.var('lstm_l0_i2h_bias', shape=(28,), dtype='float32')
    lstm_reshape_4 = mx.sym.Reshape(lstm_l0_i2h_bias, shape=(-1,), name='lstm_reshape_4')
    lstm_l0_h2h_bias = mx.sym.var('lstm_l0_h2h_bias', shape=(28,), dtype='float32')
    lstm_reshape_5 = mx.sym.Reshape(lstm_l0_h2h_bias, shape=(-1,), name='lstm_reshape_5')
    lstm_r0_i2h_bias = mx.sym.var('lstm_r0_i2h_bias', shape=(28,), dtype='float32')
    lstm_reshape_6 = mx.sym.Reshape(lstm_r0_i2h_bias, shape=(-1,), name='lstm_reshape_6')
    lstm_r0_h2h_bias = mx.sym.var('lstm_r0_h2h_bias', shape=(28,), dtype='float32')
    lstm_reshape_7 = mx.sym.Reshape(lstm_r0_h2h_bias, shape=(-1,), name='lstm_reshape_7')
    lstm_rnn_param_concat = mx.sym._internal._rnn_param_concat(lstm_reshape, lstm_reshape_1, lstm_reshape_2, lstm_reshape_3, lstm_reshape_4, lstm_reshape_5, lstm_reshape_6, lstm_reshape_7, dim=0, name='lstm_rnn_param_concat')
    lstm_zeros = mx.sym._internal._zeros(shape=(2, 0, 7), dtype='float32', name='lstm_zeros')
    lstm_zeros_1 = mx.sym._internal._zeros(shape=(2, 0, 7), dtype='float32', name='lstm_zeros_1')
    lstm = mx.sym.RNN(lstm_Transpose, lstm_rnn_param_concat, lstm_zeros, lstm_zeros_1, state_size=7, num_layers=1, bidirectional=True, mode='lstm', state_outputs=True, name='lstm')
    lstm_LSTM_l0_i2h_weight = mx.sym.var('lstm/LSTM_l0_i2h_weight', shape=(28, 14), dtype='float32')
    lstm_LSTM_reshape = mx.sym.Reshape(lstm_LSTM_l0_i2h_weight, shape=(-1,), name='lstm/LSTM_reshape')
    lstm_LSTM_l0_h2h_weight = mx.sym.var('lstm/LSTM_l0_h2h_weight', shape=(28, 7), dtype='float32')
    lstm_LSTM_reshape_1 = mx.sym.Reshape(lstm_LSTM_l0_h2h_weight, shape=(-1,), name='lstm/LSTM_reshape_1')
    lstm_LSTM_r0_i2h_weight = mx.sym.var('lstm/LSTM_r0_i2h_weight', shape=(28, 14), dtype='float32')
    lstm_LSTM_reshape_2 = mx.sym.Reshape(lstm_LSTM_r0_i2h_weight, shape=(-1,), name='lstm/LSTM_reshape_2')
    lstm_LSTM_r0_h2h_weight = mx.sym.var('lstm/LSTM_r0_h2h_weight', shape=(28, 7), dtype='float32')
    lstm_LSTM_reshape_3 = mx.sym.Reshape(lstm_LSTM_r0_h2h_weight, shape=(-1,), name='lstm/LSTM_reshape_3')
    lstm_LSTM_l0_i2h_bias = mx.sym.var('lstm/LSTM_l0_i2h_bias', shape=(28,), dtype='float32')
    lstm_LSTM_reshape_4 = mx.sym.Reshape(lstm_LSTM_l0_i2h_bias, shape=(-1,), name='lstm/LSTM_reshape_4')
    lstm_LSTM_l0_h2h_bias = mx.sym.var('lstm/LSTM_l0_h2h_bias', shape=(28,), dtype='float32')
    lstm_LSTM_reshape_5 = mx.sym.Reshape(lstm_LSTM_l0_h2h_bias, shape=(-1,), name='lstm/LSTM_reshape_5')
    lstm_LSTM_r0_i2h_bias = mx.sym.var('lstm/LSTM_r0_i2h_bias', shape=(28,), dtype='float32')
    lstm_LSTM_reshape_6 = mx.sym.Reshape(lstm_LSTM_r0_i2h_bias, shape=(-1,), name='lstm/LSTM_reshape_6')
    lstm_LSTM_r0_h2h_bias = mx.sym.var('lstm/LSTM_r0_h2h_bias', shape=(28,), dtype='float32')
    lstm_LSTM_reshape_7 = mx.sym.Reshape(lstm_LSTM_r0_h2h_bias, shape=(-1,), name='lstm/LSTM_reshape_7')
    lstm_LSTM_rnn_param_concat = mx.sym._internal._rnn_param_concat(lstm_LSTM_reshape, lstm_LSTM_reshape_1, lstm_LSTM_reshape_2, lstm_LSTM_reshape_3, lstm_LSTM_reshape_4, lstm_LSTM_reshape_5, lstm_LSTM_reshape_6, lstm_LSTM_reshape_7, dim=0, name='lstm/LSTM_rnn_param_concat')
    lstm_LSTM_zeros = mx.sym._internal._zeros(shape=(2, 0, 7), dtype='float32', name='lstm/LSTM_zeros')
    lstm_LSTM_zeros_1 = mx.sym._internal._zeros(shape=(2, 0, 7), dtype='float32', name='lstm/LSTM_zeros_1')
    lstm_LSTM = mx.sym.RNN(lstm[0], lstm_LSTM_rnn_param_concat, lstm_LSTM_zeros, lstm_LSTM_zeros_1, state_size=7, num_layers=1, bidirectional=True, mode='lstm', state_outputs=True, name='lstm/LSTM')
    lstm_Concat = mx.sym.Concat(lstm[1], lstm_LSTM[1], dim=0, name='lstm/Concat')
    gru_l0_i2h_weight = mx.sym.var('gru_l0_i2h_weight', shape=(18, 14), dtype='float32')
    gru_reshape = mx.sym.Reshape(gru_l0_i2h_weight, shape=(-1,), name='gru_reshape')
    gru_l0_h2h_weight = mx.sym.var('gru_l0_h2h_weight', shape=(18, 6), dtype='float32')
    gru_reshape_1 = mx.sym.Reshape(gru_l0_h2h_weight, shape=(-1,), name='gru_reshape_1')
    gru_l0_i2h_bias = mx.sym.var('gru_l0_i2h_bias', shape=(18,), dtype='float32')
    gru_reshape_2 = mx.sym.Reshape(gru_l0_i2h_bias, shape=(-1,), name='gru_reshape_2')
    gru_l0_h2h_bias = mx.sym.var('gru_l0_h2h_bias', shape=(18,), dtype='float32')
    gru_reshape_3 = mx.sym.Reshape(gru_l0_h2h_bias, shape=(-1,), name='gru_reshape_3')
    gru_rnn_param_concat = mx.sym._internal._rnn_param_concat(gru_reshape, gru_reshape_1, gru_reshape_2, gru_reshape_3, dim=0, name='gru_rnn_param_concat')
    gru_zeros = mx.sym._internal._zeros(shape=(1, 0, 6), dtype='float32', name='gru_zeros')
    gru = mx.sym.RNN(lstm_LSTM[0], gru_rnn_param_concat, gru_zeros, state_size=6, num_layers=1, mode='gru', name='gru')
    out_weight = mx.sym.var('out.weight', shape=(3, 6), dtype='float32')
    out = mx.sym.FullyConnected(gru, out_weight, num_hidden=3, no_bias=True, flatten=False, name='out')
    sum = mx.sym.sum(lstm_Concat, axis=(0, 1, 2), keepdims=False, name='sum')
    add = mx.sym.broadcast_add(out, sum, attr={'__output__': 'output'}, name='add')
    return add


def load(weights=None, ctx=None):
    """The model as a gluon block; ``weights`` is a .safetensors file, by default the one beside this module."""
    from safetensors.numpy import load_file

    weights = load_file(weights or Path(__file__).with_suffix(".safetensors"))
    arrays = {name: mx.nd.array(array, dtype=array.dtype) for name, array in weights.items()}
    block = mx.gluon.SymbolBlock(symbol(), [mx.sym.var(name) for name in INPUTS])
    for name, parameter in block.collect_params().items():
        parameter.shape, parameter.dtype = arrays[name].shape, arrays[name].dtype
        if name in CONSTANTS:
            parameter.grad_req = "null"
        parameter.initialize(mx.init.Zero(), ctx=ctx or mx.cpu())
        parameter.set_data(arrays[name])
    return block
