"""netferry installed outside of its tree, with each extra alone: what the extra is for works, and what is missing is told."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from environments import ROOT, built, environment, install, run
from models import dense, saved

pytestmark = pytest.mark.slow

TORCH = "import torch\nmodel = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())\nexample = torch.rand(2, 8)\n"
KERAS = "import keras\nmodel = keras.Sequential([keras.layers.Input((8,), name='x'), keras.layers.Dense(4, 'relu')])\nexample = keras.random.uniform((2, 8))\n"
GLUON = (
    "from netferry.converters.mxnet.live import import_mxnet\nmx = import_mxnet()\n"
    "model = mx.gluon.nn.HybridSequential()\nmodel.add(mx.gluon.nn.Dense(4, 'relu'))\nmodel.initialize()\n"
    "example = mx.nd.random.uniform(shape=(2, 8))\nmodel(example)\n"
)
BERT = (
    "import transformers as t\n"
    "config = t.BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)\n"
    "t.BertModel(config).eval().save_pretrained('bert')\n"
)


def first_conversion() -> str:
    """The README's first lines of Python."""
    [lines] = re.findall(
        r"```python\n(import netferry\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )[:1]
    return str(lines) + "assert done.report.status == 'passed', done.report.to_text()\n"


@dataclass(frozen=True)
class Extra:
    """What an environment with an extra does: lines of Python, then command lines; ``refused`` are command lines that lack something,
    and the extra that would bring it."""

    python: str = ""
    commands: tuple[str, ...] = ()
    refused: Mapping[str, str] = None  # type: ignore[assignment]


TO_PYTORCH, TO_KERAS = {"convert a.onnx out.pt2": "pytorch"}, {"convert a.onnx out.keras": "tensorflow"}
RUN = "run a.onnx --input x=x.npy"
EXTRAS: Mapping[str, Extra] = {
    "cpu": Extra("", (RUN, "convert a.onnx b.onnx --simplify", "inspect a.onnx --to all"), {**TO_PYTORCH, **TO_KERAS, "run a.onnx --data rows.parquet --output out.parquet": "data"}),
    "gpu": Extra("", (RUN, "convert a.onnx b.onnx --simplify"), {**TO_PYTORCH, **TO_KERAS}),
    "pytorch,cpu": Extra(TORCH + first_conversion(), ("convert a.onnx arrived --to pytorch", "convert a.onnx a.pt2"), {**TO_KERAS, "inspect bert": "transformers"}),
    "tensorflow,cpu": Extra(KERAS + first_conversion(), ("convert a.onnx a.keras", "convert a.onnx a.tflite"), TO_PYTORCH),
    "mxnet,cpu": Extra(GLUON + first_conversion(), ("convert a.onnx a-symbol.json",), {**TO_PYTORCH, **TO_KERAS}),
    "transformers,cpu": Extra(BERT, ("convert bert bert.onnx --quick", "convert a.onnx a.pt2"), TO_KERAS),
    "data,cpu": Extra("", ("run a.onnx --data rows.parquet --columns x=c0,c1,c2 --output out.parquet",), {"run a.onnx --data rows.npz --output out2.npz --engine ray": "ray"}),
    "ray,cpu": Extra("", ("run a.onnx --data rows.npz --output out.npz --engine ray",), TO_PYTORCH),
    "zoo,cpu": Extra("from netferry.zoo import catalog, data\nassert data.load(catalog.named('cnn')).x_train.ndim == 4\n", ("zoo list",), {"zoo train cnn --framework pytorch": "pytorch"}),
}  # fmt: skip
"""Each extra (beside ``cpu``, which runs ONNX), and what it must do."""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return built(tmp_path_factory.mktemp("shipped"))


def try_out(programs: Path, extra: Extra, folder: Path) -> None:
    folder.mkdir()
    saved(folder, dense(), "a.onnx")
    np.save(folder / "x.npy", np.ones((2, 3), np.float32))
    np.savez(folder / "rows.npz", x=np.random.default_rng(0).random((64, 3), np.float32))
    rows_as_parquet(folder / "rows.parquet")
    (folder / "bert").mkdir()
    (folder / "bert" / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    (folder / "bert" / "model.safetensors").write_bytes(b"")
    if "save_pretrained" in extra.python:
        shutil.rmtree(folder / "bert")
    if extra.python:
        run(programs / "python", "-c", extra.python, cwd=folder)
    for command in extra.commands:
        run(programs / "netferry", *command.split(), cwd=folder)
    for command, brought_by in extra.refused.items():
        said = run(programs / "netferry", *command.split(), cwd=folder, code=4)
        assert f'pip install "netferry[{brought_by}]"' in said, said


def rows_as_parquet(path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    values = np.random.default_rng(0).random((64, 3), np.float32)
    parquet.write_table(pa.table({f"c{place}": values[:, place] for place in range(3)}), path)


@pytest.mark.parametrize("name", EXTRAS)
def test_an_extra_brings_what_it_is_for(name: str, shipped: tuple[Path, Path], tmp_path: Path) -> None:
    with environment(tmp_path / "env", f"{shipped[0]}[{name}]") as programs:
        try_out(programs, EXTRAS[name], tmp_path / "work")


def test_every_extra_is_tried() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {one for name in EXTRAS for one in name.split(",")} == extras.keys() - {"all", "dev"}


def test_the_sdist_installs_and_an_extra_can_be_added_later(
    shipped: tuple[Path, Path], tmp_path: Path
) -> None:
    """What the messages say, ``pip install "netferry[data]"``, adds to what is installed."""
    with environment(tmp_path / "env", f"{shipped[1]}[cpu]") as programs:
        try_out(programs, EXTRAS["cpu"], tmp_path / "work")
        install(programs, "netferry[data]")
        try_out(programs, EXTRAS["data,cpu"], tmp_path / "later")


def test_all_of_it_together_converts_between_the_three_frameworks(
    shipped: tuple[Path, Path], tmp_path: Path
) -> None:
    commands = (
        "convert a.onnx a.pt2",
        "convert a.pt2 b.keras",
        "convert b.keras c-symbol.json",
        "convert c-symbol.json d --to pytorch",
    )
    with environment(tmp_path / "env", f"{shipped[0]}[all]") as programs:
        try_out(programs, Extra(TORCH + first_conversion(), (*commands, RUN), {}), tmp_path / "work")
