"""The ways out to ONNX beside the official exporters: CPU time on one thread, memory, and what is in the file.

python scripts/bench_export.py              names what there is to measure
python scripts/bench_export.py resnet18     measures one of it here, as JSON
(``python scripts/bench.py export`` gives each a process of its own and prints the table)
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench_measure import GIB, OURS, Figure, beside, cpu, grown, in_turns, process_cpu, status, tell


def in_child(*arguments: str) -> Any:
    """What this file prints when it is started with these arguments."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


# ---- Keras ------------------------------------------------------------------------------------------


def keras_by_netferry(model: Any, path: Path) -> None:
    import netferry

    netferry.convert(model, destination=path, verify=False)


def keras_by_tf2onnx(model: Any, path: Path) -> None:
    """``from_function``: tf2onnx' ``from_keras`` fails on Sequential models of Keras 3."""
    import tensorflow as tf
    from tf2onnx import convert

    signature = [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in model.inputs]
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    convert.from_function(function, signature, opset=18, output_path=str(path))


KERAS: Mapping[str, Callable[[Any, Path], None]] = {OURS: keras_by_netferry, "tf2onnx": keras_by_tf2onnx}


def keras_application(name: str, exporter: str) -> dict[str, float]:
    """A network of ``keras.applications`` by one exporter, after a small model that takes care of the imports."""
    import keras
    import onnx

    export, folder = KERAS[exporter], Path(tempfile.mkdtemp())
    export(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), folder / "small.onnx")
    model, path = getattr(keras.applications, name)(weights=None), folder / "model.onnx"
    taken: list[float] = []
    memory = grown(lambda: taken.append(cpu(partial(export, model, path))))
    nodes = onnx.load(path).graph.node
    shutil.rmtree(folder)
    return {
        "seconds": taken[0], "memory": memory, "weights": sum(w.numpy().nbytes for w in model.weights),
        "transposes": sum(node.op_type == "Transpose" for node in nodes),
    }  # fmt: skip


def keras_resnet50() -> list[Figure]:
    _demand_memory(10 * GIB)
    theirs = in_child("keras", "ResNet50", "tf2onnx")
    runs = [in_child("keras", "ResNet50", OURS) for _ in range(3)]
    ours = {key: statistics.median(run[key] for run in runs) for key in theirs}

    def both(key: str, unit: float) -> dict[str, float]:
        return {OURS: ours[key] / unit, "tf2onnx": theirs[key] / unit}

    return [
        beside("Keras ResNet50 -> ONNX", "s", both("seconds", 1)),
        beside("memory grown meanwhile, in times the weights", "x", both("memory", ours["weights"])),
    ]


def keras_mobilenet() -> list[Figure]:
    found = {exporter: in_child("keras", "MobileNetV3Small", exporter)["transposes"] for exporter in KERAS}
    return [beside("transposes in Keras MobileNetV3Small", "", found)]


def _demand_memory(needed: int) -> None:
    free = status("MemAvailable", "meminfo")
    if free < needed:
        raise SystemExit(
            f"tf2onnx needs {needed / GIB:.0f} GiB of free memory for this, {free / GIB:.1f} are there"
        )


def keras_gru() -> list[Figure]:
    """100 steps of 64 features in, the last state out, on one thread."""
    import keras
    import numpy as np
    import onnxruntime

    folder = Path(tempfile.mkdtemp())
    model = keras.Sequential([keras.Input((100, 64)), keras.layers.GRU(128)])
    for name, export in KERAS.items():
        export(model, folder / f"{name}.onnx")
    (folder / "bare GRU operator.onnx").write_bytes(bare_gru(64, 128).SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    steps = np.random.default_rng(0).standard_normal((1, 100, 64)).astype(np.float32)

    def latency(path: Path) -> Callable[[], float]:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        [place] = session.get_inputs()
        feed = {place.name: steps if place.shape[1] == 100 else steps.swapaxes(0, 1)}
        return lambda: 1e3 * cpu(lambda: session.run(None, feed), times=20)

    sides = {path.stem: latency(path) for path in sorted(folder.iterdir(), key=lambda p: p.stem != OURS)}
    shutil.rmtree(folder)
    return [
        in_turns("Keras GRU(128), 100 steps, batch 1: one run in onnxruntime", "ms", sides, 21, warm=True)
    ]


def bare_gru(features: int, units: int) -> Any:
    """ONNX's operator alone, as Keras' GRU means it (``reset_after``): steps (time, batch, features) to the last state."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    shapes = {"w": (1, 3 * units, features), "r": (1, 3 * units, units), "b": (1, 6 * units)}
    weights = [
        numpy_helper.from_array((random.standard_normal(shape) * 0.1).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    node = helper.make_node("GRU", ["x", *shapes], ["", "h"], hidden_size=units, linear_before_reset=1)
    graph = helper.make_graph(
        [node], "gru",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("time", "batch", features))],
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, (1, "batch", units))],
        weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


# ---- PyTorch ----------------------------------------------------------------------------------------


def pytorch_by_netferry(model: Any, x: Any, path: Path) -> None:
    import netferry

    netferry.convert(model, destination=path, inputs={"x": x.numpy()}, verify=False)


def pytorch_by_torchscript(model: Any, x: Any, path: Path) -> None:
    import torch

    free = {"x": {0: "batch"}}
    torch.onnx.export(model, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=free)


def pytorch_by_dynamo(model: Any, x: Any, path: Path) -> None:
    import torch

    free = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(model, (x,), path, dynamo=True, input_names=["x"], dynamic_shapes=free, verbose=False)


PYTORCH: Mapping[str, Callable[[Any, Any, Path], None]] = {
    OURS: pytorch_by_netferry, "TorchScript": pytorch_by_torchscript, "dynamo": pytorch_by_dynamo,
}  # fmt: skip


def pytorch_exporters(
    models: Mapping[str, tuple[Any, Any]], rounds: int, once: Collection[str] = ()
) -> list[Figure]:
    """Each model by all exporters, in one process and in turns, with a free batch; imports were done by a small model."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for export in PYTORCH.values():
            export(torch.nn.Linear(4, 2).eval(), torch.randn(2, 4), path)

        def side(export: Callable[[Any, Any, Path], None], model: Any, x: Any) -> Callable[[], float]:
            return lambda: cpu(lambda: export(model, x, path))

        return [
            in_turns(
                f"{title} -> ONNX", "s", {name: side(export, *made) for name, export in PYTORCH.items()}, rounds, once
            )
            for title, made in models.items()
        ]  # fmt: skip


def pytorch_resnet18() -> list[Figure]:
    import torch
    from bench_models import ResNet18, randomised

    return pytorch_exporters(
        {"torch resnet18": (randomised(ResNet18()), torch.randn(2, 3, 224, 224))}, rounds=5
    )


def pytorch_encoders() -> list[Figure]:
    """``nn.TransformerEncoder`` of width 256 with 8 heads over 32 steps."""
    import torch
    from torch import nn

    def encoder(layers: int) -> nn.Module:
        layer = nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True)
        return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()

    x = torch.randn(2, 32, 256)
    models = {f"torch encoder of {layers} layers": (encoder(layers), x) for layers in (2, 8, 24)}
    return pytorch_exporters(models, rounds=5, once=["dynamo"])


def large() -> list[Figure]:
    """1 GiB of weights to a file with external data, against copying that file."""
    import torch

    netferry_writes = PYTORCH[OURS]
    x = torch.randn(2, 4096)
    with tempfile.TemporaryDirectory() as folder:
        path, copy = Path(folder) / "large.onnx", Path(folder) / "copy"
        netferry_writes(torch.nn.Linear(4, 2).eval(), torch.randn(2, 4), path)
        model = torch.nn.Sequential(*(torch.nn.Linear(4096, 4096, bias=False) for _ in range(16))).eval()
        memory = GIB + grown(lambda: netferry_writes(model, x, path))
        data = max(Path(folder).iterdir(), key=lambda file: file.stat().st_size)

        def settled(work: Callable[[], object]) -> Callable[[], float]:
            """Nobody pays for what the one before has left to be written."""

            def side() -> float:
                copy.unlink(missing_ok=True)
                os.sync()
                return cpu(work)

            return side

        sides = {
            OURS: settled(lambda: netferry_writes(model, x, path)),
            "copying the file": settled(lambda: shutil.copyfile(data, copy)),
        }
        return [
            in_turns("1 GiB of weights -> ONNX", "s", sides, 5),
            Figure("memory at the most, in times the weights", "x", {OURS: memory / GIB}),
        ]


# ---- whole processes --------------------------------------------------------------------------------


def cold() -> list[Figure]:
    """One Linear on the command line, beside what every exporter has to import."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "tiny.py").write_text(
            "import torch\n\n\ndef model():\n    return torch.nn.Linear(8, 4).eval()\n"
        )
        command = ("-m", "netferry", "convert", "tiny:model", "out.onnx", "--no-verify", "--input", "x:1,8")
        sides = {
            OURS: lambda: process_cpu(place, *command),
            "importing torch, onnx, onnxruntime": lambda: process_cpu(
                place, "-c", "import torch, onnx, onnxruntime"
            ),
        }
        return [in_turns("one Linear, netferry convert --no-verify, whole process", "s", sides, 9, warm=True)]


def mxnet_resnet50() -> list[Figure]:
    """Files that gluon exported, carried without MXNet."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write = (
            "from netferry.converters.mxnet.live import import_mxnet; mx = import_mxnet(); "
            "net = mx.gluon.model_zoo.vision.resnet50_v1(); net.initialize(); net.hybridize(); "
            "net(mx.nd.zeros((1, 3, 224, 224))); net.export('resnet50')"
        )
        process_cpu(place, "-c", write)
        command = (
            "-m", "netferry", "convert", "resnet50-symbol.json", "out.onnx", "--no-verify", "--input",
            "data:1,3,224,224",
        )  # fmt: skip
        sides = {
            OURS: lambda: process_cpu(place, *command),
            "importing onnx": lambda: process_cpu(place, "-c", "import onnx"),
        }
        return [in_turns("MXNet resnet50_v1 files -> ONNX, whole process", "s", sides, 9, warm=True)]


CASES: Mapping[str, Callable[[], list[Figure]]] = {
    "resnet50": keras_resnet50,
    "mobilenet": keras_mobilenet,
    "gru": keras_gru,
    "resnet18": pytorch_resnet18,
    "encoders": pytorch_encoders,
    "large": large,
    "cold": cold,
    "mxnet": mxnet_resnet50,
}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["keras", name, exporter]:
            print(json.dumps(keras_application(name, exporter)))
        case arguments:
            tell(CASES, arguments)
