"""Tagger, carried to PyTorch by netferry.

in   x: int64[batch, time]
out  output: float32[time, batch, 3]
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn


class Tagger(nn.Module):
    input_specs = {'x': ('int64', ('batch', 'time'))}
    output_names = ('output',)

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 12)
        self.lstm = nn.LSTM(12, 7, num_layers=2, bidirectional=True)
        self.gru = nn.GRU(14, 6)
        self.out = nn.Linear(6, 3, bias=False)

    def forward(self, x):
        y = self.words(x)
        y = y.permute(1, 0, 2)
        lstm_Reshape_1, (lstm_LSTM, _) = self.lstm(y)
        lstm = lstm_LSTM[0:2]
        y = lstm_LSTM[2:]
        lstm_Concat = torch.cat([lstm, y], 0)
        gru_Squeeze, _ = self.gru(lstm_Reshape_1)
        out = self.out(gru_Squeeze)
        y = lstm_Concat.sum((0, 1, 2))
        y = out + y
        return y


def load(weights=None):
    """The model, ready to run: with the weights of a state dict, a .safetensors file, or the one beside this module."""
    if not isinstance(weights, dict):
        weights = load_file(weights or Path(__file__).with_suffix(".safetensors"))
    with torch.device("meta"):
        model = Tagger()
    model.load_state_dict(weights, assign=True)
    return model.eval()
