"""Verdicts and matrices as plain data, as ``to_dict()`` gives them, for the tests of what is written from them."""

from __future__ import annotations

import math
from typing import Any

FRAMEWORKS = ("pytorch", "tensorflow", "mxnet")
TARGETS = ("onnx", *FRAMEWORKS)

HOSTILE = (
    '</script><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\'"&|`\n\x00\x1b# @all'
)
"""A name from a file that means harm: it breaks out of scripts, attributes, tables and XML."""


def output(
    name: str = "output", status: str = "passed", ratio: float | None = 1.4, **more: Any
) -> dict[str, Any]:
    return {
        "name": name, "status": status, "reason": "", "elements": 6400, "scale": 1.0, "max_abs": 3e-7,
        "max_rel": 2e-7, "max_ulp": 3.0, "top1": 1.0, "meaning": 3e-16, "ratio": ratio, "slice": "row 3",
        "histogram": [1200, 900, 1500, 1800, 700, 250, 40, 10, 0, 0, 0, 0, 0, 0], "bound": 0.0125,
        "worst_sample": "normal, batch 16",
    } | more  # fmt: skip


def training(status: str = "passed") -> dict[str, Any]:
    losses = [math.exp(-step / 6) for step in range(20)]
    return {
        "status": status, "reason": "", "steps": 20, "ratio": 2.5, "notes": [],
        "weights": [{"name": f"layer{n}.weight", "gradient": {"ratio": 0.4 + n % 3}} for n in range(9)],
        "curves": [
            {"optimizer": kind, "source": losses, "target": losses, "measured": {"ratio": 1.1}}
            for kind in ("sgd", "adam")
        ],
    }  # fmt: skip


def report(*outputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = outputs or (output(),)
    statuses = {one["status"] for one in found}
    return {
        "status": next((s for s in ("failed", "not_checked") if s in statuses), "passed"),
        "source": "cnn.keras", "target": "cnn.onnx", "max_abs": 3e-7, "max_rel": 2e-7, "outputs": list(found),
        "samples": [f"normal, batch {n}" for n in range(1, 25)], "seed": 0, "reason": "", "notes": ["a note"],
        "truth": "Keras in float64", "versions": {"python": "3.11", "numpy": "1.26"}, "training": None,
    } | more  # fmt: skip


def cell(model: str, source: str, target: str, status: str = "passed", **more: Any) -> dict[str, Any]:
    number = sum(map(ord, model + source + target)) % 40
    losses = [0.05 * math.exp(-step / 8) * (1 + FRAMEWORKS.index(source) / 5) for step in range(20)]
    return {
        "model": model, "source": source, "target": target, "status": status, "max_abs": 1e-7,
        "max_rel": number * 1e-7, "seconds": 1.5, "route": "direct", "train_seconds": 3.2, "latency_ms": 0.1 + number,
        "source_ms": 0.4, "metric": 0.97, "metric_name": "accuracy",
        "history": [2 * math.exp(-epoch / 3) for epoch in range(8)], "further": [] if target == "onnx" else losses,
        "files": [], "reason": "" if status == "passed" else "an error of 0.3, where rounding explains 2e-06",
        "report": report(output(status=status, ratio=number / 10)),
    } | more  # fmt: skip


def matrix(*models: str, **statuses: str) -> dict[str, Any]:
    """Every cell of ``models``; ``statuses`` are of cells named ``model_source_target``."""
    cells = [
        cell(m, s, t, statuses.get(f"{m}_{s}_{t}", "passed"))
        for m in models
        for s in FRAMEWORKS
        for t in TARGETS
    ]
    return {"cells": cells, "versions": {"python": "3.11"}}
