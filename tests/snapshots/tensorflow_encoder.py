"""Encoder: a functional Keras model.

``load()`` gives the model with its weights, which lie in the .safetensors file beside this one.
"""

from pathlib import Path

import keras
from keras import layers, ops


def build():
    x = keras.Input(batch_shape=(None, None, 16), name='x')
    zero = ops.sum(ops.zeros_like(x[:1, :1, :1], dtype='int32'))
    position = ops.reshape(layers.Embedding(1, 144, embeddings_initializer='zeros', name='position')(zero), (1, 9, 16))
    getitem = ops.take(position, ops.cumsum(ops.reshape(ops.ones_like(x[:1, :, :1], dtype='int64'), (-1,)), axis=0) + -1, axis=1)
    add = x + getitem
    layers_layers_0_norm1 = layers.LayerNormalization(epsilon=1e-05, name='layers.layers.0.norm1')(add)
    layers_layers_0_self_attn_linear_Add = layers.Dense(48, name='layers.layers.0.self_attn.in_proj')(layers_layers_0_norm1)
    layers_layers_0_self_attn_chunk, layers_layers_0_self_attn_chunk_1, layers_layers_0_self_attn_chunk_2 = ops.split(layers_layers_0_self_attn_linear_Add, [16, 32], axis=2)
    layers_layers_0_self_attn_view = layers.Reshape((-1, 4, 4))(layers_layers_0_self_attn_chunk)
    layers_layers_0_self_attn_view_Reshape_1 = layers.Reshape((-1, 4, 4))(layers_layers_0_self_attn_chunk_2)
    layers_layers_0_self_attn_matmul_MatMul_output_transpose_reshape = layers.Reshape((-1, 4, 4))(layers_layers_0_self_attn_chunk_1)
    layers_layers_0_self_attn_matmul_MatMul_output_transpose_reshape_transposed = ops.transpose(layers_layers_0_self_attn_matmul_MatMul_output_transpose_reshape, (0, 2, 3, 1))
    layers_layers_0_self_attn_view_Reshape_1_transposed = ops.transpose(layers_layers_0_self_attn_view_Reshape_1, (0, 2, 1, 3))
    layers_layers_0_self_attn_matmul_MatMul = ops.matmul(ops.softmax(ops.matmul(ops.transpose(layers_layers_0_self_attn_view * 0.5, (0, 2, 1, 3)), layers_layers_0_self_attn_matmul_MatMul_output_transpose_reshape_transposed), axis=3), layers_layers_0_self_attn_view_Reshape_1_transposed)
    layers_layers_0_self_attn_matmul_MatMul_transposed = ops.transpose(layers_layers_0_self_attn_matmul_MatMul, (0, 2, 1, 3))
    layers_layers_0_self_attn_flatten = layers.Reshape((-1, 16))(layers_layers_0_self_attn_matmul_MatMul_transposed)
    layers_layers_0_self_attn_linear_Add_1 = layers.Dense(16, name='layers.layers.0.self_attn.out_proj')(layers_layers_0_self_attn_flatten)
    layers_layers_0_add = add + layers_layers_0_self_attn_linear_Add_1
    layers_layers_0_norm2 = layers.LayerNormalization(epsilon=1e-05, name='layers.layers.0.norm2')(layers_layers_0_add)
    layers_layers_0_linear1_Add = layers.Dense(32, name='layers.layers.0.linear1')(layers_layers_0_norm2)
    layers_layers_0_gelu = ops.gelu(layers_layers_0_linear1_Add, approximate=False)
    layers_layers_0_linear2_Add = layers.Dense(16, name='layers.layers.0.linear2')(layers_layers_0_gelu)
    layers_layers_0_add_Add = layers_layers_0_add + layers_layers_0_linear2_Add
    layers_layers_1_norm1 = layers.LayerNormalization(epsilon=1e-05, name='layers.layers.1.norm1')(layers_layers_0_add_Add)
    layers_layers_1_self_attn_linear_Add = layers.Dense(48, name='layers.layers.1.self_attn.in_proj')(layers_layers_1_norm1)
    layers_layers_1_self_attn_chunk, layers_layers_1_self_attn_chunk_1, layers_layers_1_self_attn_chunk_2 = ops.split(layers_layers_1_self_attn_linear_Add, [16, 32], axis=2)
    layers_layers_1_self_attn_view = layers.Reshape((-1, 4, 4))(layers_layers_1_self_attn_chunk)
    layers_layers_1_self_attn_view_Reshape_1 = layers.Reshape((-1, 4, 4))(layers_layers_1_self_attn_chunk_2)
    layers_layers_1_self_attn_matmul_MatMul_output_transpose_reshape = layers.Reshape((-1, 4, 4))(layers_layers_1_self_attn_chunk_1)
    layers_layers_1_self_attn_matmul_MatMul_output_transpose_reshape_transposed = ops.transpose(layers_layers_1_self_attn_matmul_MatMul_output_transpose_reshape, (0, 2, 3, 1))
    layers_layers_1_self_attn_view_Reshape_1_transposed = ops.transpose(layers_layers_1_self_attn_view_Reshape_1, (0, 2, 1, 3))
    layers_layers_1_self_attn_matmul_MatMul = ops.matmul(ops.softmax(ops.matmul(ops.transpose(layers_layers_1_self_attn_view * 0.5, (0, 2, 1, 3)), layers_layers_1_self_attn_matmul_MatMul_output_transpose_reshape_transposed), axis=3), layers_layers_1_self_attn_view_Reshape_1_transposed)
    layers_layers_1_self_attn_matmul_MatMul_transposed = ops.transpose(layers_layers_1_self_attn_matmul_MatMul, (0, 2, 1, 3))
    layers_layers_1_self_attn_flatten = layers.Reshape((-1, 16))(layers_layers_1_self_attn_matmul_MatMul_transposed)
    layers_layers_1_self_attn_linear_Add_1 = layers.Dense(16, name='layers.layers.1.self_attn.out_proj')(layers_layers_1_self_attn_flatten)
    layers_layers_1_add = layers_layers_0_add_Add + layers_layers_1_self_attn_linear_Add_1
    layers_layers_1_norm2 = layers.LayerNormalization(epsilon=1e-05, name='layers.layers.1.norm2')(layers_layers_1_add)
    layers_layers_1_linear1_Add = layers.Dense(32, name='layers.layers.1.linear1')(layers_layers_1_norm2)
    layers_layers_1_gelu = ops.gelu(layers_layers_1_linear1_Add, approximate=False)
    layers_layers_1_linear2_Add = layers.Dense(16, name='layers.layers.1.linear2')(layers_layers_1_gelu)
    layers_layers_1_add_Add = layers_layers_1_add + layers_layers_1_linear2_Add
    output = layers.LayerNormalization(epsilon=1e-06, name='layers.norm')(layers_layers_1_add_Add)
    output_1 = layers.Identity(name='output')(output)
    return keras.Model(x, output_1, name='Encoder')


def load(weights=None):
    """The model with its weights: those given by name, or those beside this file."""
    if weights is None:
        from safetensors.numpy import load_file

        weights = load_file(Path(__file__).with_suffix(".safetensors"))
    model = build()
    for variable in model.weights:
        variable.assign(weights[variable.path])
    return model
