"""Every command line that the README, the pages and ``--help`` show runs, in the order in which it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

ROOT = Path(__file__).parent.parent

LEFT_OUT: Mapping[str, str] = {
    "netferry demo": "it trains the whole zoo",
    "netferry zoo matrix": "it trains the whole zoo",
    "netferry zoo train": "training is what tests/test_zoo.py tries",
    "bert-symbol.json": "tests/test_mxnet_structures.py carries such a network",
    "FOLDER": "tests/test_huggingface.py converts such folders",
    "--engine ray": "tests/test_cluster.py starts a cluster",
    "--device cuda": "only its refusal can be seen without a GPU",
}
"""Part of a command line -> why it is not run here."""


def zoo(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        from netferry.zoo import catalog, tensorflow

        tensorflow.build(catalog.named(name)).save(path)

    return make


def converted(source: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import netferry

        made(path.with_name(source))
        netferry.convert(path.with_name(source), destination=path, verify=False)

    return make


def rows(path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    from netferry.zoo import catalog, tensorflow

    width = tensorflow.build(catalog.named("mlp")).inputs[0].shape[1]
    values = np.random.default_rng(0).normal(size=(64, width)).astype(np.float32)
    parquet.write_table(pa.table({f"c{place}": values[:, place] for place in range(width)}), path)


def pixels(path: Path) -> None:
    parquet_rows = np.random.default_rng(0).random((8, 28, 28, 1), np.float32)
    np.save(path, parquet_rows)


def images(path: Path) -> None:
    np.savez(path, image=np.random.default_rng(0).random((64, 28, 28, 1), np.float32))


def catalogue(path: Path) -> None:
    for name in ("cnn.keras", "cnn.onnx"):
        made(path.with_name(name))
    path.write_text('[[pair]]\na = "cnn.keras"\nb = "cnn.onnx"\n')


def symbol(size: int) -> Callable[[Path], None]:
    """An MXNet convolution net over images of this size, written without MXNet."""

    def make(path: Path) -> None:
        import netferry
        from netferry.converters.graph.ir.build import GraphBuilder
        from netferry.converters.signature import TensorSpec

        random = np.random.default_rng(1)
        g = GraphBuilder("net")
        x = g.input(TensorSpec("data", np.dtype(np.float32), ("batch", 3, size, size)))
        weight = g.constant(random.normal(size=(4, 3, 3, 3)).astype(np.float32), name="conv_weight")
        g.output(g.GlobalAveragePool(g.Relu(g.Conv(x, weight, kernel_shape=[3, 3]))), "out")
        from onnx_ir import serde

        netferry.convert(serde.serialize_model(g.finish()), destination=path, verify=False)

    return make


def checkpoint(path: Path) -> None:
    """A classifier of TensorFlow 1 with its loss, as a Saver leaves it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 6], name="x")
        labels = v1.placeholder(tf.float32, [None, 3], name="labels")
        weight = v1.get_variable("weight", initializer=tf.random.normal([6, 3], seed=1))
        y = tf.nn.softmax(x @ weight, name="probabilities")
        loss = tf.reduce_mean(tf.square(y - labels))
        v1.train.GradientDescentOptimizer(0.1).minimize(loss)
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(path.with_name("model.ckpt")), global_step=7)


def frozen(path: Path) -> None:
    """A frozen graph that ends in a pool, a dense layer and probabilities."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        image = v1.placeholder(tf.float32, [None, 7, 7, 512], name="image")
        features = tf.nn.relu(image * 2.0 - 1.0, name="pool/Relu")
        weight = tf.constant(np.random.default_rng(2).normal(size=(512, 5)).astype(np.float32) / 20)
        tf.nn.softmax(tf.reduce_mean(features, [1, 2]) @ weight, name="probabilities")
        path.write_bytes(graph.as_graph_def().SerializeToString())


def compiled(path: Path) -> None:
    """A Keras model that has been trained a step, saved with its optimizer."""
    import keras

    model = keras.Sequential([keras.layers.Input((6,), name="x"), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    random = np.random.default_rng(3)
    model.fit(random.random((8, 6), np.float32), random.random((8, 3), np.float32), verbose=0)
    model.save(path)


TRAINED = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 30 * 30, 2))
"""


def trained(path: Path) -> None:
    """PyTorch code, with the weights and the optimizer of a step of training beside it."""
    import torch

    path.with_name("train.py").write_text(TRAINED)
    space: dict[str, Any] = {}
    exec(TRAINED, space)
    model = space["make"]()
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    model(torch.rand(2, 3, 32, 32)).square().mean().backward()
    adam.step()
    torch.save(model.state_dict(), path.with_name("net.pt"))
    torch.save({"optimizer": adam.state_dict()}, path.with_name("checkpoint.pt"))


MAKERS: Mapping[str, Callable[[Path], None]] = {
    "cnn.keras": zoo("cnn"), "model.keras": zoo("lstm"), "a.keras": zoo("mlp"), "mlp.keras": zoo("mlp"),
    "cnn.onnx": converted("cnn.keras"), "other.onnx": converted("cnn.keras"), "mlp.onnx": converted("mlp.keras"), "b.onnx": converted("a.keras"), "mlp.pt2": converted("mlp.keras"),
    "rows.parquet": rows, "rows.npz": images, "image.npy": pixels, "models.toml": catalogue,
    "resnet-symbol.json": symbol(224), "model-symbol.json": symbol(112), "yolo3-symbol.json": symbol(416),
    "model.ckpt-7": checkpoint, "net.pb": frozen, "net.keras": compiled, "train.py:make": trained,
}  # fmt: skip
"""The files that a reader is supposed to have."""


def made(path: Path) -> None:
    if not path.exists() and path.name in MAKERS:
        MAKERS[path.name](path)


def shown(page: str) -> list[str]:
    """The command lines of a page, without what is said behind them."""
    if page == "--help":
        return list(examples())
    text = re.sub(r"\\\n\s*", "", (ROOT / page).read_text(encoding="utf-8"))
    found = re.findall(rf"^(?: {{4}})?(netferry (?:{'|'.join(commands())}) [^\n]*)$", text, re.MULTILINE)
    return [re.split(r"\s{2,}|\s# ", line)[0] for line in found]


def commands() -> Mapping[str, Any]:
    from netferry.cli import app

    found: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return found


def examples() -> Iterator[str]:
    """The examples with which the help of each command ends."""
    for command in commands().values():
        for one in getattr(command, "commands", {"": command}).values():
            yield from re.split(r", or ", (one.epilog or "").removeprefix("Example: "))


def run(line: str, folder: Path) -> None:
    for word in shlex.split(line):
        made(folder / word.rpartition("=")[2])
    if "arrived/model.py" in line and not (folder / "arrived").exists():
        run("netferry convert model.keras arrived --to pytorch --no-verify", folder)
    command = [sys.executable, "-m", "netferry", *shlex.split(line)[1:]]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


PAGES = (
    "README.md",
    *sorted(f"docs/{page.name}" for page in ROOT.glob("docs/*.md") if shown(f"docs/{page.name}")),
    "--help",
)


@pytest.mark.parametrize(
    "page", [page if page == "README.md" else pytest.param(page, marks=pytest.mark.slow) for page in PAGES]
)
def test_the_command_lines_of_a_page_run_in_their_order(page: str, tmp_path: Path) -> None:
    lines = [line for line in shown(page) if not any(part in line for part in LEFT_OUT)]
    assert lines
    for line in lines:
        run(line, tmp_path)


def test_what_is_left_out_is_shown_somewhere() -> None:
    lines = [line for page in PAGES for line in shown(page)]
    for part in LEFT_OUT:
        assert any(part in line for line in lines), part
