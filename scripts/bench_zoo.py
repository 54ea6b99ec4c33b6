"""The zoo's models of one framework: a run in onnxruntime against a run at home, one thread each, as JSON.

python scripts/bench_zoo.py pytorch        (``python scripts/bench.py zoo`` runs all three and prints the table)
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ[variable] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

BATCHES, RUNS = (1, 32), 200
Call = Callable[[], object]


def pytorch(model: Any, rows: Any) -> Call:
    import torch

    torch.set_num_threads(1)
    model.eval()
    tensor = torch.from_numpy(rows)

    def call() -> object:
        with torch.inference_mode():
            return model(tensor)

    return call


def tensorflow(model: Any, rows: Any) -> Call:
    """As a ``tf.function``: called eagerly it would take far longer."""
    import tensorflow as tf

    function, tensor = tf.function(lambda x: model(x, training=False)), tf.constant(rows)
    return lambda: function(tensor)


def mxnet(model: Any, rows: Any) -> Call:
    """Hybridized; MXNet computes behind one's back, so the result is waited for."""
    import mxnet as mx

    model.hybridize(static_alloc=True, static_shape=True)
    tensor = mx.nd.array(rows)
    return lambda: model(tensor).wait_to_read()


HOMES: dict[str, Callable[[Any, Any], Call]] = {"pytorch": pytorch, "tensorflow": tensorflow, "mxnet": mxnet}


def measured(framework: str) -> list[dict[str, Any]]:
    """Milliseconds of each model at each batch, medians of runs that took turns."""
    import netferry
    from netferry.converters.signature import BATCH, Example
    from netferry.inference.bench import interleaved
    from netferry.inference.session import Session
    from netferry.zoo import catalog, data
    from netferry.zoo.train import trainer

    native, found = trainer(framework), []
    for spec in catalog.CATALOG.values():
        held_out = data.load(spec).x_test[:32]
        rows, model = native.to_native(held_out), native.build(spec)
        native.predict(model, held_out)
        given = Example(spec.input, rows, {0: BATCH}, asked=True)
        session = Session(netferry.convert(model, "onnx", inputs=[given], verify=False).model, threads=1)
        for batch in BATCHES:
            feed = {session.signature.inputs[0].name: rows[:batch]}
            calls = {"home": HOMES[framework](model, rows[:batch]), "onnxruntime": partial(session.run, feed)}
            seconds = interleaved(calls, RUNS)
            ms = {name: statistics.median(times) * 1e3 for name, times in seconds.items()}
            found.append({"model": spec.name, "framework": framework, "batch": batch, **ms})
    return found


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1])))
