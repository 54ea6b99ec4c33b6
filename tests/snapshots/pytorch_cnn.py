"""Cnn, carried to PyTorch by netferry.

in   x: float32[batch, 3, height, width]
out  output: float32[batch, 5]
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn


class Cnn(nn.Module):
    input_specs = {'x': ('float32', ('batch', 3, 'height', 'width'))}
    output_names = ('output',)

    def __init__(self):
        super().__init__()
        self.stem = nn.ModuleDict({
            "0": nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            "1": nn.BatchNorm2d(8, eps=0.001, momentum=0.03),
        })
        self.depth = nn.Conv2d(8, 8, (3, 5), padding=(1, 2), groups=8)
        self.slope = nn.PReLU(8)
        self.max_pool2d = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        y = self.stem["0"](x)
        y = self.stem["1"](y)
        y = torch.relu(y)
        y = self.depth(y)
        y = self.slope(y)
        y = self.max_pool2d(y)
        y = self.up(y)
        y = self.norm(y)
        y = y.mean((2, 3))
        y = self.head(y)
        return y


def load(weights=None):
    """The model, ready to run: with the weights of a state dict, a .safetensors file, or the one beside this module."""
    if not isinstance(weights, dict):
        weights = load_file(weights or Path(__file__).with_suffix(".safetensors"))
    with torch.device("meta"):
        model = Cnn()
    model.load_state_dict(weights, assign=True)
    return model.eval()
