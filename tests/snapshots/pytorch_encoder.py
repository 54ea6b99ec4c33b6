"""Encoder, carried to PyTorch by netferry.

in   x: float32[batch, time, 16]
out  output: float32[batch, time, 16]
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F


class Encoder(nn.Module):
    input_specs = {'x': ('float32', ('batch', 'time', 16))}
    output_names = ('output',)

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({
            "layers": nn.ModuleDict({
                "0": nn.ModuleDict({
                    "norm1": nn.LayerNorm(16),
                    "self_attn": nn.ModuleDict({
                        "out_proj": nn.Linear(16, 16),
                    }),
                    "norm2": nn.LayerNorm(16),
                    "linear1": nn.Linear(16, 32),
                    "linear2": nn.Linear(32, 16),
                }),
                "1": nn.ModuleDict({
                    "norm1": nn.LayerNorm(16),
                    "self_attn": nn.ModuleDict({
                        "out_proj": nn.Linear(16, 16),
                    }),
                    "norm2": nn.LayerNorm(16),
                    "linear1": nn.Linear(16, 32),
                    "linear2": nn.Linear(32, 16),
                }),
            }),
            "norm": nn.LayerNorm(16, eps=1e-06),
        })
        self.position = nn.Parameter(torch.zeros(1, 9, 16))
        self.layers["layers"]["0"]["self_attn"].in_proj_weight = nn.Parameter(torch.zeros(48, 16))
        self.layers["layers"]["0"]["self_attn"].in_proj_bias = nn.Parameter(torch.zeros(48))
        self.layers["layers"]["1"]["self_attn"].in_proj_weight = nn.Parameter(torch.zeros(48, 16))
        self.layers["layers"]["1"]["self_attn"].in_proj_bias = nn.Parameter(torch.zeros(48))

    def forward(self, x):
        batch = x.shape[0]
        time = x.shape[1]
        y = self.position[:, :time]
        add = x + y
        y = self.layers["layers"]["0"]["norm1"](add)
        y = F.linear(y, self.layers["layers"]["0"]["self_attn"].in_proj_weight, self.layers["layers"]["0"]["self_attn"].in_proj_bias)
        layers_layers_0_self_attn_chunk, layers_layers_0_self_attn_chunk_1, layers_layers_0_self_attn_chunk_2 = y.split([16, 16, 16], 2)
        layers_layers_0_self_attn_view = layers_layers_0_self_attn_chunk.reshape(batch, time, 4, 4)
        layers_layers_0_self_attn_view_Reshape_1 = layers_layers_0_self_attn_chunk_2.reshape(batch, time, 4, 4)
        layers_layers_0_self_attn_matmul_Transpose = layers_layers_0_self_attn_view.permute(0, 2, 1, 3)
        layers_layers_0_self_attn_matmul_Transpose_2 = layers_layers_0_self_attn_view_Reshape_1.permute(0, 2, 1, 3)
        y = layers_layers_0_self_attn_chunk_1.reshape(batch, time, 4, 4)
        y = y.permute(0, 2, 1, 3)
        y = F.scaled_dot_product_attention(layers_layers_0_self_attn_matmul_Transpose, y, layers_layers_0_self_attn_matmul_Transpose_2, scale=0.5)
        y = y.permute(0, 2, 1, 3)
        y = y.reshape(batch, time, 16)
        y = self.layers["layers"]["0"]["self_attn"]["out_proj"](y)
        layers_layers_0_add = add + y
        y = self.layers["layers"]["0"]["norm2"](layers_layers_0_add)
        y = self.layers["layers"]["0"]["linear1"](y)
        y = F.gelu(y)
        y = self.layers["layers"]["0"]["linear2"](y)
        layers_layers_0_add_Add = layers_layers_0_add + y
        y = self.layers["layers"]["1"]["norm1"](layers_layers_0_add_Add)
        y = F.linear(y, self.layers["layers"]["1"]["self_attn"].in_proj_weight, self.layers["layers"]["1"]["self_attn"].in_proj_bias)
        layers_layers_1_self_attn_chunk, layers_layers_1_self_attn_chunk_1, layers_layers_1_self_attn_chunk_2 = y.split([16, 16, 16], 2)
        layers_layers_1_self_attn_view = layers_layers_1_self_attn_chunk.reshape(batch, time, 4, 4)
        layers_layers_1_self_attn_view_Reshape_1 = layers_layers_1_self_attn_chunk_2.reshape(batch, time, 4, 4)
        layers_layers_1_self_attn_matmul_Transpose = layers_layers_1_self_attn_view.permute(0, 2, 1, 3)
        layers_layers_1_self_attn_matmul_Transpose_2 = layers_layers_1_self_attn_view_Reshape_1.permute(0, 2, 1, 3)
        y = layers_layers_1_self_attn_chunk_1.reshape(batch, time, 4, 4)
        y = y.permute(0, 2, 1, 3)
        y = F.scaled_dot_product_attention(layers_layers_1_self_attn_matmul_Transpose, y, layers_layers_1_self_attn_matmul_Transpose_2, scale=0.5)
        y = y.permute(0, 2, 1, 3)
        y = y.reshape(batch, time, 16)
        y = self.layers["layers"]["1"]["self_attn"]["out_proj"](y)
        layers_layers_1_add = layers_layers_0_add_Add + y
        y = self.layers["layers"]["1"]["norm2"](layers_layers_1_add)
        y = self.layers["layers"]["1"]["linear1"](y)
        y = F.gelu(y)
        y = self.layers["layers"]["1"]["linear2"](y)
        y = layers_layers_1_add + y
        y = self.layers["norm"](y)
        return y


def load(weights=None):
    """The model, ready to run: with the weights of a state dict, a .safetensors file, or the one beside this module."""
    if not isinstance(weights, dict):
        weights = load_file(weights or Path(__file__).with_suffix(".safetensors"))
    with torch.device("meta"):
        model = Encoder()
    model.load_state_dict(weights, assign=True)
    return model.eval()
