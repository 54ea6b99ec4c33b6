"""Encoder, as an MXNet symbol: ``load()`` gives a gluon block with its weights."""

from pathlib import Path

import numpy as np

if "bool" not in vars(np):  # mxnet 1.9.1 reads a name that numpy has since dropped
    np.bool = np.bool_

import mxnet as mx

INPUTS = ['x']
CONSTANTS = []
"""Parameters that training leaves alone."""


def numpy_like(operator, *inputs, **attributes):
    """One of MXNet's numpy-like operators among classic symbols."""
    home, word = mx.sym.np._internal, operator.removeprefix("_npi_")
    if word == operator:
        home, word = mx.sym.np._op, operator.removeprefix("_np_")
    return getattr(home, word)(*(x.as_np_ndarray() for x in inputs), **attributes).as_nd_ndarray()


def symbol():
    """The graph; parameters are variables under their names."""
    x = mx.sym.var('x', shape=(0, 0, 16), dtype='float32', attr={'__input__': '0'})
    position = mx.sym.var('position', shape=(1, 9, 16), dtype='float32')
    getitem = mx.sym.slice_like(position, x, axes=(1,), name='getitem')
    add = mx.sym.broadcast_add(x, getitem, name='add')
    layers_layers_0_norm1_weight = mx.sym.var('layers.layers.0.norm1.weight', shape=(16,), dtype='float32')
    layers_layers_0_norm1_bias = mx.sym.var('layers.layers.0.norm1.bias', shape=(16,), dtype='float32')
    layers_layers_0_norm1 = mx.sym.LayerNorm(add, layers_layers_0_norm1_weight, layers_layers_0_norm1_bias, axis=-1, eps=9.999999747378752e-06, name='layers.layers.0.norm1')
    layers_layers_0_self_attn_in_proj_weight = mx.sym.var('layers.layers.0.self_attn.in_proj_weight', shape=(48, 16), dtype='float32')
    layers_layers_0_self_attn_in_proj_bias = mx.sym.var('layers.layers.0.self_attn.in_proj_bias', shape=(48,), dtype='float32')
    layers_layers_0_self_attn_linear = mx.sym.FullyConnected(layers_layers_0_norm1, layers_layers_0_self_attn_in_proj_weight, layers_layers_0_self_attn_in_proj_bias, num_hidden=48, flatten=False, name='layers.layers.0.self_attn/linear')
    layers_layers_0_self_attn_chunk = mx.sym.SliceChannel(layers_layers_0_self_attn_linear, num_outputs=3, axis=2, name='layers.layers.0.self_attn/chunk')
    layers_layers_0_self_attn_view = mx.sym.Reshape(layers_layers_0_self_attn_chunk[0], shape=(0, 0, 4, 4), name='layers.layers.0.self_attn/view')
    layers_layers_0_self_attn_view_Reshape_1 = mx.sym.Reshape(layers_layers_0_self_attn_chunk[2], shape=(0, 0, 4, 4), name='layers.layers.0.self_attn/view/Reshape_1')
    layers_layers_0_self_attn_matmul_Transpose = mx.sym.transpose(layers_layers_0_self_attn_view, axes=(0, 2, 1, 3), name='layers.layers.0.self_attn/matmul/Transpose')
    layers_layers_0_self_attn_matmul_Transpose_2 = mx.sym.transpose(layers_layers_0_self_attn_view_Reshape_1, axes=(0, 2, 1, 3), name='layers.layers.0.self_attn/matmul/Transpose_2')
    layers_layers_0_self_attn_matmul_MatMul = mx.sym.Reshape(layers_layers_0_self_attn_chunk[1], shape=(0, 0, 4, 4), name='layers.layers.0.self_attn/matmul/MatMul')
    layers_layers_0_self_attn_matmul_MatMul_transpose = mx.sym.transpose(layers_layers_0_self_attn_matmul_MatMul, axes=(0, 2, 1, 3), name='layers.layers.0.self_attn/matmul/MatMul_transpose')
    layers_layers_0_self_attn_matmul_MatMul_mul_scalar = mx.sym._internal._mul_scalar(layers_layers_0_self_attn_matmul_Transpose, scalar=0.5, name='layers.layers.0.self_attn/matmul/MatMul_mul_scalar')
    layers_layers_0_self_attn_matmul_MatMul_transpose_1 = mx.sym.transpose(layers_layers_0_self_attn_matmul_MatMul_transpose, axes=(0, 1, 3, 2), name='layers.layers.0.self_attn/matmul/MatMul_transpose_1')
    layers_layers_0_self_attn_matmul_MatMul_npi_matmul = numpy_like('_npi_matmul', layers_layers_0_self_attn_matmul_MatMul_mul_scalar, layers_layers_0_self_attn_matmul_MatMul_transpose_1, name='layers.layers.0.self_attn/matmul/MatMul_npi_matmul')
    layers_layers_0_self_attn_matmul_MatMul_softmax = mx.sym.softmax(layers_layers_0_self_attn_matmul_MatMul_npi_matmul, axis=3, name='layers.layers.0.self_attn/matmul/MatMul_softmax')
    layers_layers_0_self_attn_matmul_MatMul_npi_matmul_1 = numpy_like('_npi_matmul', layers_layers_0_self_attn_matmul_MatMul_softmax, layers_layers_0_self_attn_matmul_Transpose_2, name='layers.layers.0.self_attn/matmul/MatMul_npi_matmul_1')
    layers_layers_0_self_attn_flatten_Transpose = mx.sym.transpose(layers_layers_0_self_attn_matmul_MatMul_npi_matmul_1, axes=(0, 2, 1, 3), name='layers.layers.0.self_attn/flatten/Transpose')
    layers_layers_0_self_attn_flatten = mx.sym.Reshape(layers_layers_0_self_attn_flatten_Transpose, shape=(0, 0, 16), name='layers.layers.0.self_attn/flatten')
    layers_layers_0_self_attn_out_proj_weight = mx.sym.var('layers.layers.0.self_attn.out_proj.weight', shape=(16, 16), dtype='float32')
    layers_layers_0_self_attn_out_proj_bias = mx.sym.var('layers.layers.0.self_attn.out_proj.bias', shape=(16,), dtype='float32')
    layers_layers_0_self_attn_linear_MatMul = mx.sym.FullyConnected(layers_layers_0_self_attn_flatten, layers_layers_0_self_attn_out_proj_weight, layers_layers_0_self_attn_out_proj_bias, num_hidden=16, flatten=False, name='layers.layers.0.self_attn/linear/MatMul')
    layers_layers_0_add = mx.sym.broadcast_add(add, layers_layers_0_self_attn_linear_MatMul, name='layers.layers.0/add')
    layers_layers_0_norm2_weight = mx.sym.var('layers.layers.0.norm2.weight', shape=(16,), dtype='float32')
    layers_layers_0_norm2_bias = mx.sym.var('layers.layers.0.norm2.bias', shape=(16,), dtype='float32')
    layers_layers_0_norm2 = mx.sym.LayerNorm(layers_layers_0_add, layers_layers_0_norm2_weight, layers_layers_0_norm2_bias, axis=-1, eps=9.999999747378752e-06, name='layers.layers.0.norm2')
    layers_layers_0_linear1_weight = mx.sym.var('layers.layers.0.linear1.weight', shape=(32, 16), dtype='float32')
    layers_layers_0_linear1_bias = mx.sym.var('layers.layers.0.linear1.bias', shape=(32,), dtype='float32')
    layers_layers_0_linear1 = mx.sym.FullyConnected(layers_layers_0_norm2, layers_layers_0_linear1_weight, layers_layers_0_linear1_bias, num_hidden=32, flatten=False, name='layers.layers.0.linear1')
    layers_layers_0_gelu = mx.sym.LeakyReLU(layers_layers_0_linear1, act_type='gelu', name='layers.layers.0/gelu')
    layers_layers_0_linear2_weight = mx.sym.var('layers.layers.0.linear2.weight', shape=(16, 32), dtype='float32')
    layers_layers_0_linear2_bias = mx.sym.var('layers.layers.0.linear2.bias', shape=(16,), dtype='float32')
    layers_layers_0_linear2 = mx.sym.FullyConnected(layers_layers_0_gelu, layers_layers_0_linear2_weight, layers_layers_0_linear2_bias, num_hidden=16, flatten=False, name='layers.layers.0.linear2')
    layers_layers_0_add_Add = mx.sym.broadcast_add(layers_layers_0_add, layers_layers_0_linear2, name='layers.layers.0/add/Add')
    layers_layers_1_norm1_weight = mx.sym.var('layers.layers.1.norm1.weight', shape=(16,), dtype='float32')
    layers_layers_1_norm1_bias = mx.sym.var('layers.layers.1.norm1.bias', shape=(16,), dtype='float32')
    layers_layers_1_norm1 = mx.sym.LayerNorm(layers_layers_0_add_Add, layers_layers_1_norm1_weight, layers_layers_1_norm1_bias, axis=-1, eps=9.999999747378752e-06, name='layers.layers.1.norm1')
    layers_layers_1_self_attn_in_proj_weight = mx.sym.var('layers.layers.1.self_attn.in_proj_weight', shape=(48, 16), dtype='float32')
    layers_layers_1_self_attn_in_proj_bias = mx.sym.var('layers.layers.1.self_attn.in_proj_bias', shape=(48,), dtype='float32')
    layers_layers_1_self_attn_linear = mx.sym.FullyConnected(layers_layers_1_norm1, layers_layers_1_self_attn_in_proj_weight, layers_layers_1_self_attn_in_proj_bias, num_hidden=48, flatten=False, name='layers.layers.1.self_attn/linear')
    layers_layers_1_self_attn_chunk = mx.sym.SliceChannel(layers_layers_1_self_attn_linear, num_outputs=3, axis=2, name='layers.layers.1.self_attn/chunk')
    layers_layers_1_self_attn_view = mx.sym.Reshape(layers_layers_1_self_attn_chunk[0], shape=(0, 0, 4, 4), name='layers.layers.1.self_attn/view')
    layers_layers_1_self_attn_view_Reshape_1 = mx.sym.Reshape(layers_layers_1_self_attn_chunk[2], shape=(0, 0, 4, 4), name='layers.layers.1.self_attn/view/Reshape_1')
    layers_layers_1_self_attn_matmul_Transpose = mx.sym.transpose(layers_layers_1_self_attn_view, axes=(0, 2, 1, 3), name='layers.layers.1.self_attn/matmul/Transpose')
    layers_layers_1_self_attn_matmul_Transpose_2 = mx.sym.transpose(layers_layers_1_self_attn_view_Reshape_1, axes=(0, 2, 1, 3), name='layers.layers.1.self_attn/matmul/Transpose_2')
    layers_layers_1_self_attn_matmul_MatMul = mx.sym.Reshape(layers_layers_1_self_attn_chunk[1], shape=(0, 0, 4, 4), name='layers.layers.1.self_attn/matmul/MatMul')
    layers_layers_1_self_attn_matmul_MatMul_transpose = mx.sym.transpose(layers_layers_1_self_attn_matmul_MatMul, axes=(0, 2, 1, 3), name='layers.layers.1.self_attn/matmul/MatMul_transpose')
    layers_layers_1_self_attn_matmul_MatMul_mul_scalar = mx.sym._internal._mul_scalar(layers_layers_1_self_attn_matmul_Transpose, scalar=0.5, name='layers.layers.1.self_attn/matmul/MatMul_mul_scalar')
    layers_layers_1_self_attn_matmul_MatMul_transpose_1 = mx.sym.transpose(layers_layers_1_self_attn_matmul_MatMul_transpose, axes=(0, 1, 3, 2), name='layers.layers.1.self_attn/matmul/MatMul_transpose_1')
    layers_layers_1_self_attn_matmul_MatMul_npi_matmul = numpy_like('_npi_matmul', layers_layers_1_self_attn_matmul_MatMul_mul_scalar, layers_layers_1_self_attn_matmul_MatMul_transpose_1, name='layers.layers.1.self_attn/matmul/MatMul_npi_matmul')
    layers_layers_1_self_attn_matmul_MatMul_softmax = mx.sym.softmax(layers_layers_1_self_attn_matmul_MatMul_npi_matmul, axis=3, name='layers.layers.1.self_attn/matmul/MatMul_softmax')
    layers_layers_1_self_attn_matmul_MatMul_npi_matmul_1 = numpy_like('_npi_matmul', layers_layers_1_self_attn_matmul_MatMul_softmax, layers_layers_1_self_attn_matmul_Transpose_2, name='layers.layers.1.self_attn/matmul/MatMul_npi_matmul_1')
    layers_layers_1_self_attn_flatten_Transpose = mx.sym.transpose(layers_layers_1_self_attn_matmul_MatMul_npi_matmul_1, axes=(0, 2, 1, 3), name='layers.layers.1.self_attn/flatten/Transpose')
    layers_layers_1_self_attn_flatten = mx.sym.Reshape(layers_layers_1_self_attn_flatten_Transpose, shape=(0, 0, 16), name='layers.layers.1.self_attn/flatten')
    layers_layers_1_self_attn_out_proj_weight = mx.sym.var('layers.layers.1.self_attn.out_proj.weight', shape=(16, 16), dtype='float32')
    layers_layers_1_self_attn_out_proj_bias = mx.sym.var('layers.layers.1.self_attn.out_proj.bias', shape=(16,), dtype='float32')
    layers_layers_1_self_attn_linear_MatMul = mx.sym.FullyConnected(layers_layers_1_self_attn_flatten, layers_layers_1_self_attn_out_proj_weight, layers_layers_1_self_attn_out_proj_bias, num_hidden=16, flatten=False, name='layers.layers.1.self_attn/linear/MatMul')
    layers_layers_1_add = mx.sym.broadcast_add(layers_layers_0_add_Add, layers_layers_1_self_attn_linear_MatMul, name='layers.layers.1/add')
    layers_layers_1_norm2_weight = mx.sym.var('layers.layers.1.norm2.weight', shape=(16,), dtype='float32')
    layers_layers_1_norm2_bias = mx.sym.var('layers.layers.1.norm2.bias', shape=(16,), dtype='float32')
    layers_layers_1_norm2 = mx.sym.LayerNorm(layers_layers_1_add, layers_layers_1_norm2_weight, layers_layers_1_norm2_bias, axis=-1, eps=9.999999747378752e-06, name='layers.layers.1.norm2')
    layers_layers_1_linear1_weight = mx.sym.var('layers.layers.1.linear1.weight', shape=(32, 16), dtype='float32')
    layers_layers_1_linear1_bias = mx.sym.var('layers.layers.1.linear1.bias', shape=(32,), dtype='float32')
    layers_layers_1_linear1 = mx.sym.FullyConnected(layers_layers_1_norm2, layers_layers_1_linear1_weight, layers_layers_1_linear1_bias, num_hidden=32, flatten=False, name='layers.layers.1.linear1')
    layers_layers_1_gelu = mx.sym.LeakyReLU(layers_layers_1_linear1, act_type='gelu', name='layers.layers.1/gelu')
    layers_layers_1_linear2_weight = mx.sym.var('layers.layers.1.linear2.weight', shape=(16, 32), dtype='float32')
    layers_layers_1_linear2_bias = mx.sym.var('layers.layers.1.linear2.bias', shape=(16,), dtype='float32')
    layers_layers_1_linear2 = mx.sym.FullyConnected(layers_layers_1_gelu, layers_layers_1_linear2_weight, layers_layers_1_linear2_bias, num_hidden=16, flatten=False, name='layers.layers.1.linear2')
    layers_layers_1_add_Add = mx.sym.broadcast_add(layers_layers_1_add, layers_layers_1_linear2, name='layers.layers.1/add/Add')
    layers_norm_weight = mx.sym.var('layers.norm.weight', shape=(16,), dtype='float32')
    layers_norm_bias = mx.sym.var('layers.norm.bias', shape=(16,), dtype='float32')
    layers_norm = mx.sym.LayerNorm(layers_layers_1_add_Add, layers_norm_weight, layers_norm_bias, axis=-1, eps=9.999999974752427e-07, attr={'__output__': 'output'}, name='layers.norm')
    return layers_norm


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
