"""Networks of keras.applications, with random weights and random statistics, against Keras' own outputs.

Each runs in a process of its own: together they would fill the memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("keras_application_worker.py")

NETWORKS = {
    "ConvNeXtTiny": 42,
    "DenseNet121": 1,
    "EfficientNetB0": 1,
    "EfficientNetV2B0": 1,
    "InceptionResNetV2": 1,
    "InceptionV3": 1,
    "MobileNet": 2,
    "MobileNetV2": 1,
    "MobileNetV3Large": 2,
    "MobileNetV3Small": 2,
    "NASNetMobile": 1,
    "ResNet50": 1,
    "ResNet50V2": 1,
    "VGG16": 2,
    "Xception": 1,
}
"""How many transpositions each keeps at most: one at the input, one where space is flattened into features; ConvNeXt
normalises the channels between its convolutions, which ONNX does along the last axes only."""

QUICK = ("MobileNetV2",)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in NETWORKS]
)
def test_a_network_of_keras_applications_arrives_whole(name: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(WORKER), name], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["road"] == "direct"
    assert seen["error"] <= 1e-5
    assert seen["batch norms"] == seen["batch normalizations of Keras"]
    assert seen["transposes"] <= NETWORKS[name]
    assert seen["cast or identity"] == 0
