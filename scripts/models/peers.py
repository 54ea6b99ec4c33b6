"""netferry's export of a model beside those that PyTorch has: CPU seconds, and whether what they write is right."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from models.examine_vision import compared, free_axes, free_sizes, in_onnxruntime, short
from models.families_vision import Case, build

ROUNDS = {"netferry": 3, "TorchScript": 3, "dynamo": 1}


def beside_peers(key: str) -> Iterator[dict[str, Any]]:
    """CPU seconds of each exporter with the same free axes, the median of its rounds, and what its file is."""
    case = build(key)
    exporters = _exporters(case, free_axes(case, free_sizes(case)))
    for name, rounds in ROUNDS.items():
        yield {name: {"why": "no end"}}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            try:
                seconds = statistics.median(_seconds(exporters[name], path) for _ in range(rounds))
                found = compared(in_onnxruntime(path), case, ()) or "right"
            except Exception as error:
                yield {name: {"why": short(error)}}
            else:
                yield {name: {"seconds": round(seconds, 3), "why": found}}


def _seconds(export: Callable[[Path], object], path: Path) -> float:
    begun = time.process_time()
    export(path)
    return time.process_time() - begun


def _exporters(case: Case, free: dict[str, dict[int, str]]) -> dict[str, Callable[[Path], object]]:
    import torch

    import netferry

    def tensors(value: Any) -> Any:
        return [tensors(one) for one in value] if isinstance(value, list) else torch.from_numpy(value)

    def shapes(name: str) -> Any:
        axes = dict.fromkeys(free.get(name, {}), torch.export.Dim.DYNAMIC)
        return [axes] if isinstance(case.inputs[name], list) else axes

    given, names = tuple(map(tensors, case.inputs.values())), list(case.inputs)

    def by_netferry(path: Path) -> object:
        return netferry.convert(case.model, destination=path, inputs=case.inputs, dynamic=free, verify=False)

    def by_torchscript(path: Path) -> object:
        return torch.onnx.export(case.model, given, path, dynamo=False, input_names=names, dynamic_axes=free)

    def by_dynamo(path: Path) -> object:
        dynamic = tuple(map(shapes, names))
        return torch.onnx.export(
            case.model, given, path, dynamo=True, input_names=names, dynamic_shapes=dynamic, verbose=False
        )

    return {"netferry": by_netferry, "TorchScript": by_torchscript, "dynamo": by_dynamo}
