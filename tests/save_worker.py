"""Saves a model again and again in forked children that are killed or run out of room; run by test_saving.py.

    python save_worker.py FORMAT FOLDER kills|limits COUNT SEED

The old model and the new one differ in weights and in structure. After each child the folder must hold the
whole old model or the whole new one, told by what the model computes; the last line says what was seen.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from netferry import converters
from netferry.api import run
from netferry.converters.disk import staging
from netferry.converters.errors import WriteError
from netferry.converters.onnx import files

X = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)


def network(seed: int, layers: int) -> onnx.ModelProto:
    """Linear layers of 64, with Tanh between them."""
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for layer in range(layers):
        weight = (rng.standard_normal((64, 64)) / 8).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [f"t{layer}"]))
        last = f"t{layer}"
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64])  # noqa: E731
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def main(form: str, folder: Path, mode: str, count: int, seed: int) -> None:
    name, framework = FORMATS[form]
    if form == "onnx with data":
        files.EXTERNAL_FROM = 0
    carried = [converters.export_model(network(number, layers=3 + number)) for number in (0, 1)]
    results = [c if framework == "onnx" else converters.import_model(c.model, framework) for c in carried]
    for result in results:
        if framework != "onnx":
            result.model  # noqa: B018  built before the fork
    place = folder / name
    save(results[0], place)
    truths = [run(network(number, layers=3 + number), {"x": X})["y"] for number in (0, 1)]
    begun = time.perf_counter()
    save(results[0], place)
    usual = time.perf_counter() - begun
    largest = max(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    rng, seen = random.Random(seed), Counter[str]()
    current = 0
    for turn in range(count):
        child = os.fork()
        if child == 0:
            os._exit(child_saves(results[1 - current], place, mode, largest * turn // count))
        if mode == "kills":
            time.sleep(rng.random() * 2 * usual)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        got = opened(place)
        now = [i for i in (0, 1) if got.shape == truths[i].shape and np.allclose(got, truths[i], atol=1e-5)]
        assert len(now) == 1, f"turn {turn}: neither the old nor the new model"
        if mode == "limits":
            assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 6, f"turn {turn}: exit {status}"
            assert now[0] == current, f"turn {turn}: a failed save changed the model"
            assert not list(folder.glob(".netferry-*")), "something was left behind"
        seen["new" if now[0] != current else "old"] += 1
        current = now[0]
    save(results[0], place)
    assert not list(folder.glob(".netferry-*")), "something was left behind"
    print(json.dumps(seen))


def save(result: object, place: Path) -> None:
    with staging.staged(place) as stage:
        converters.write(result, stage)


def child_saves(result: object, place: Path, mode: str, limit: int) -> int:
    if mode == "limits":
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        save(result, place)
    except WriteError:
        return WriteError.exit_code
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        return 1
    return 0


def opened(place: Path) -> np.ndarray:
    staging._settle(place)
    model = f"{place / 'model.py'}:load" if place.is_dir() and (place / "model.py").exists() else place
    return np.asarray(next(iter(run(model, {"x": X}).values())))


FORMATS = {
    "onnx": ("m.onnx", "onnx"),
    "onnx with data": ("m.onnx", "onnx"),
    "pt2": ("m.pt2", "pytorch"),
    "pytorch folder": ("m", "pytorch"),
    "mxnet": ("m-symbol.json", "mxnet"),
    "keras": ("m.keras", "tensorflow"),
    "saved_model": ("m", "tensorflow"),
}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
