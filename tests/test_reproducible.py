"""The same model gives the same bytes, whatever the folder, the hash seed and the locale; no folder's name is in them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from netferry import __file__ as PACKAGE

WRITER = """
import hashlib, json, os, sys
from pathlib import Path
import numpy as np
import torch
from torch import nn
import netferry
from netferry import converters
from netferry.converters.onnx import files
from netferry.converters.tensorflow.runtime import keras

source = sys.argv[1]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.LSTM(4, 8, batch_first=True)
        self.heads = nn.ModuleDict({"grün": nn.Linear(8, 3), "b": nn.Linear(8, 2)})

    def forward(self, x):
        y, _ = self.body(x)
        return {name: head(y) for name, head in self.heads.items()}


def to(destination, model=source, **more):
    Path(destination).parent.mkdir(parents=True, exist_ok=True)
    netferry.convert(model, destination=destination, verify=False, **more)


to("from-onnx/net.pt2", dynamic=None)
to("from-onnx/net", to="pytorch")
to("from-onnx/net.keras")
to("from-onnx/saved", to="tensorflow")
to("from-onnx/net-symbol.json")
to("from-onnx/net.onnx", opset=18)
x = np.ones((2, 5, 4), np.float32)
to("from-pytorch/net.onnx", Net().eval(), inputs={"x": x})
keras.utils.set_random_seed(3)
given = keras.Input((6, 4))
to("from-keras/net.onnx", keras.Model(given, keras.layers.GRU(3)(keras.layers.Dense(5)(given))))
files.EXTERNAL_FROM = 0
to("apart/net.onnx")
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, a Linear large enough to lie in a file of its own, and names that are no identifiers."""
    random = np.random.default_rng(2)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["bild/ä", "conv.weight", "conv.bias"], ["c"], name="conv", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "fc.weight"], ["scores"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("bild/ä", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 300])],
        [weight("conv.weight", 5, 3, 3, 3), weight("conv.bias", 5), weight("fc.weight", 300, 5)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = tmp_path_factory.mktemp("source") / "net.onnx"
    onnx.save(model, path)
    return path


def written(folder: Path, source: Path, seed: str, locale: str) -> dict[str, str]:
    """What a process of its own writes into ``folder``: file -> sha256. Nothing of the folder stands in any of them."""
    folder.mkdir(parents=True)
    root = str(Path(PACKAGE).parent.parent.resolve())
    environment = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": locale, "PYTHONPATH": root}
    environment.pop("PYTHONUTF8", None)
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(source)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("[!.]*")) if file.is_file()}
    for name, file in files.items():
        content = file.read_bytes()
        for place in (str(folder), root, str(Path.home()), "site-packages"):
            assert place.encode() not in content, f"{name} holds {place}"
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


@pytest.fixture(scope="module")
def both(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    one = written(tmp_path_factory.mktemp("eine-kiste") / "a", source, "1", "C")
    two = written(tmp_path_factory.mktemp("andere") / "b" / "tief", source, "4242", "C.UTF-8")
    return one, two


FORMATS = {
    "from-onnx/net.pt2": 1,
    "from-onnx/net/": 2,
    "from-onnx/net.keras": 1,
    "from-onnx/saved/": 4,
    "from-onnx/net-": 2,
    "from-onnx/net.onnx": 1,
    "from-pytorch/": 1,
    "from-keras/": 1,
    "apart/": 2,
}
"""How the files of a format begin -> how many there are at least."""


@pytest.mark.parametrize("start", FORMATS)
def test_two_folders_two_hash_seeds_and_two_locales_give_the_same_bytes(
    start: str, both: tuple[dict[str, str], dict[str, str]]
) -> None:
    one, two = ({name: digest for name, digest in side.items() if name.startswith(start)} for side in both)
    assert len(one) >= FORMATS[start], json.dumps(sorted(both[0]), indent=1)
    assert one == two
