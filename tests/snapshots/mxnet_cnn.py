"""Cnn, as an MXNet symbol: ``load()`` gives a gluon block with its weights."""

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
    x = mx.sym.var('x', shape=(0, 3, 0, 0), dtype='float32', attr={'__input__': '0'})
    stem_0_weight = mx.sym.var('stem.0.weight', shape=(8, 3, 3, 3), dtype='float32')
    stem_0 = mx.sym.Convolution(x, stem_0_weight, kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=8, no_bias=True, name='stem.0')
    stem_1_weight = mx.sym.var('stem.1.weight', shape=(8,), dtype='float32')
    stem_1_bias = mx.sym.var('stem.1.bias', shape=(8,), dtype='float32')
    stem_1_running_mean = mx.sym.var('stem.1.running_mean', shape=(8,), dtype='float32')
    stem_1_running_var = mx.sym.var('stem.1.running_var', shape=(8,), dtype='float32')
    stem_1 = mx.sym.BatchNorm(stem_0, stem_1_weight, stem_1_bias, stem_1_running_mean, stem_1_running_var, eps=0.0010000000474974513, momentum=0.9700000286102295, fix_gamma=False, name='stem.1')
    stem_2 = mx.sym.relu(stem_1, name='stem.2')
    depth_weight = mx.sym.var('depth.weight', shape=(8, 1, 3, 5), dtype='float32')
    depth_bias = mx.sym.var('depth.bias', shape=(8,), dtype='float32')
    depth = mx.sym.Convolution(stem_2, depth_weight, depth_bias, kernel=(3, 5), pad=(1, 2), num_filter=8, num_group=8, name='depth')
    slope_weight = mx.sym.var('slope.weight', shape=(8,), dtype='float32')
    slope = mx.sym.LeakyReLU(depth, slope_weight, act_type='prelu', name='slope')
    max_pool2d = mx.sym.Pooling(slope, kernel=(2, 2), stride=(2, 2), pool_type='max', name='max_pool2d')
    up_weight = mx.sym.var('up.weight', shape=(8, 4, 3, 3), dtype='float32')
    up_bias = mx.sym.var('up.bias', shape=(4,), dtype='float32')
    up = mx.sym.Deconvolution(max_pool2d, up_weight, up_bias, kernel=(3, 3), stride=(2, 2), pad=(1, 1), adj=(1, 1), num_filter=4, no_bias=False, name='up')
    norm_full = mx.sym._internal._full(shape=(2,), value=1.0, dtype='float32', name='norm_full')
    norm_full_1 = mx.sym._internal._full(shape=(2,), value=0.0, dtype='float32', name='norm_full_1')
    norm_groupnorm = mx.sym.GroupNorm(up, norm_full, norm_full_1, num_groups=2, eps=9.999999747378752e-06, name='norm_groupnorm')
    norm_weight = mx.sym.var('norm.weight', shape=(4,), dtype='float32')
    norm_reshape = mx.sym.Reshape(norm_weight, shape=(1, 4, 1, 1), name='norm_reshape')
    norm_broadcast_mul = mx.sym.broadcast_mul(norm_groupnorm, norm_reshape, name='norm_broadcast_mul')
    norm_bias = mx.sym.var('norm.bias', shape=(4,), dtype='float32')
    norm_reshape_1 = mx.sym.Reshape(norm_bias, shape=(1, 4, 1, 1), name='norm_reshape_1')
    norm = mx.sym.broadcast_add(norm_broadcast_mul, norm_reshape_1, name='norm')
    mean = mx.sym.mean(norm, axis=(2, 3), keepdims=False, name='mean')
    head_weight = mx.sym.var('head.weight', shape=(5, 4), dtype='float32')
    head_bias = mx.sym.var('head.bias', shape=(5,), dtype='float32')
    head = mx.sym.FullyConnected(mean, head_weight, head_bias, num_hidden=5, attr={'__output__': 'output'}, name='head')
    return head


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
