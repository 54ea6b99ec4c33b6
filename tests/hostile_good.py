"""The good models that ``hostile.py`` spoils, one of each format, small and random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from models import dense


def write_good(folder: Path) -> Path:
    """``net.onnx``, ``ext.onnx`` with ``ext.data``, ``net.pt2``, ``script.pt``, ``state.pt``, ``net.keras``, ``whole.h5``, ``served/``, ``mx-symbol.json``."""
    folder.mkdir(parents=True)
    onnx.save(dense(), folder / "net.onnx")
    onnx.save(dense(), folder / "ext.onnx", save_as_external_data=True, location="ext.data", size_threshold=0)
    write_torch(folder)
    _write_keras(folder)
    _write_mxnet(folder)
    return folder


def write_torch(folder: Path) -> None:
    """The part of it that PyTorch reads."""
    import torch

    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    example = (torch.ones(2, 3),)
    program = torch.export.export(model, example, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, folder / "net.pt2")
    torch.jit.script(model).save(folder / "script.pt")
    torch.save(model.state_dict(), folder / "state.pt")
    (folder / "factory.py").write_text(
        "import torch\ndef net():\n"
        "    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()\n"
    )


def _write_keras(folder: Path) -> None:
    from netferry.converters.tensorflow.runtime import keras, quiet

    with quiet():
        keras.utils.set_random_seed(3)
        layers = [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="relu", name="dense"),
            keras.layers.Dense(2, name="dense_1"),
        ]
        model = keras.Sequential(layers)
        model.save(folder / "net.keras")
        model.save(folder / "whole.h5")
        model.export(folder / "served", verbose=False)


def _write_mxnet(folder: Path) -> None:
    from netferry.converters.mxnet.files import parse_symbol, write_params, write_symbol

    draw = np.random.default_rng(3)
    arrays = {
        "arg:fc_weight": draw.normal(size=(2, 3)).astype(np.float32),
        "arg:fc_bias": np.float32([0.5, -1]),
    }
    write_params(folder / "mx-0000.params", arrays)
    write_symbol(folder / "mx-symbol.json", parse_symbol(SYMBOL))


SYMBOL = """{"nodes": [
    {"op": "null", "name": "data", "inputs": []},
    {"op": "null", "name": "fc_weight", "inputs": []},
    {"op": "null", "name": "fc_bias", "inputs": []},
    {"op": "FullyConnected", "name": "fc", "attrs": {"num_hidden": "2"}, "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]]}],
"arg_nodes": [0, 1, 2], "heads": [[3, 0, 0]], "attrs": {"mxnet_version": ["int", 10901]}}"""
