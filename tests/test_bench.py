"""Timings are of what they say, and the operations of a graph are those that one counts by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from torch import nn

import netferry
from netferry import converters
from netferry.converters.errors import UsageError
from netferry.converters.graph.inference.cost import cost, peak
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.signature import examples
from netferry.inference.bench import Machine, interleaved, roof
from netferry.tasks.bench import bench

LINEAR = 2 * 5 * (8 * 16 + 16 * 3)
CONV = 2 * 5 * (6 * 10 * 10) * (2 * 3 * 3)
"""Batch 5: two linear layers; a grouped convolution of 4 channels to 6 over 3 by 3, on 10 by 10."""


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(7, 9, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.lstm(x)[0]


CASES: dict[str, tuple[nn.Module, tuple[int, ...], int]] = {
    "linear": (nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 3)), (2, 8), LINEAR),
    "convolution": (nn.Conv2d(4, 6, 3, groups=2, padding=1, bias=False), (2, 4, 10, 10), CONV),
    "recurrent": (Recurrent(), (2, 11, 7), 2 * 11 * 5 * 4 * 9 * (7 + 9)),
}


@pytest.mark.parametrize("name", CASES)
def test_operations_are_those_that_one_counts_by_hand(name: str) -> None:
    module, shape, wanted = CASES[name]
    given = examples({"x": np.zeros(shape, np.float32)}, {"x": {0: "batch"}})
    planned = plan(converters.export_model(module.eval(), given=given).model)
    found = cost(planned, {"batch": 5})
    # Besides products there are at most some elementwise operations on the outputs.
    assert wanted <= found.flops <= wanted * 1.05 + 5 * 11 * 9 * 8
    weights = sum(parameter.numel() for parameter in module.parameters()) * 4
    assert found.bytes >= weights + 5 * int(np.prod(shape[1:])) * 4
    assert found.unknown == 0


STEP = "step (float[n, 3] h, float[n, 3] row) => (float[n, 3] next) { m = MatMul (row, w) next = Add (h, m) }"
TURN = "turn (int64 i, bool go, float[n, 3] h) => (bool on, float[n, 3] next) { on = Identity (go) next = MatMul (h, w) }"
INTEGERS = "q = Cast <to = 3> (x) w8 = Cast <to = 3> (w) i = MatMulInteger (q, w8) y = Cast <to = 1> (i)"
BODIES: dict[str, tuple[str, int]] = {
    "Scan": (f"zero = Mul (first, none) y = Scan <num_scan_inputs = 1, body = {STEP}> (zero, x)", 7),
    "Loop": (f"four = Constant <value_int = 4> () y = Loop <body = {TURN}> (four, , first)", 4),
    "Loop until": (f"most = Constant <value_int = 9223372036854775807> () y = Loop <body = {TURN}> (most, , first)", 1),
    "integers": (INTEGERS, 7),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_products_in_bodies_count_as_often_as_they_are_computed(name: str) -> None:
    nodes, times = BODIES[name]
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        main (float[7, n, 3] x, float[n, 3] first) => (float[a, b] y)
        <float[3, 3] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}, float none = {{0}}> {{ {nodes} }}"""
    found = cost(plan(ir.from_proto(onnx.parser.parse_model(text))), {"n": 5})
    wanted = times * 2 * 5 * 3 * 3
    assert wanted <= found.flops <= wanted + 4 * 7 * 5 * 3


def test_what_is_held_at_once_is_a_steps_input_and_output_and_what_is_still_read() -> None:
    module, shape, _ = CASES["linear"]
    given = examples({"x": np.zeros(shape, np.float32)}, {"x": {0: "batch"}})
    planned = plan(converters.export_model(module.eval(), given=given).model)
    assert peak(planned, {"batch": 5}) == 5 * (8 + 16) * 4

    class Kept(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(torch.sin(torch.cos(x)))
            return x + y

    kept = plan(converters.export_model(Kept(), given=given).model)
    assert peak(kept, {"batch": 5}) == 5 * 8 * 3 * 4


def test_calls_take_turns() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = interleaved(calls, runs=3, warm_up=0)
    assert "".join(order) == "abbaab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_the_roof_is_what_binds() -> None:
    assert roof("m", 1, 2_000_000, 10, 0, gflops=1, gbytes=1).milliseconds == pytest.approx(2.0)
    assert roof("m", 1, 2_000_000, 10, 0, gflops=1, gbytes=1).bound == "arithmetic"
    assert roof("m", 1, 10, 3_000_000, 0, gflops=1, gbytes=1).milliseconds == pytest.approx(3.0)


def test_a_machine_is_measured_once_for_each_amount_that_is_moved() -> None:
    machine = Machine()
    assert machine.gflops > 1
    assert machine.gbytes_per_s(1000) == machine.gbytes_per_s(1 << 20)  # the least that is moved
    assert machine.gbytes_per_s() > 0.1


def test_a_file_and_a_live_model_are_timed_side_by_side(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    given = {"x": np.zeros((2, 8), np.float32)}
    netferry.convert(module, destination=tmp_path / "m.onnx", inputs=given)
    found = bench([tmp_path / "m.onnx", module], given, batches=(1, 4), threads=(1, 2), runs=5)
    seen = [(one.model, one.batch, one.threads) for one in found.timings]
    live = "torch Sequential"
    assert seen == [
        ("m.onnx", 1, None), (live, 1, None), ("m.onnx", 4, None), (live, 4, None),
        ("m.onnx", 1, 1), ("m.onnx", 4, 1), ("m.onnx", 1, 2), ("m.onnx", 4, 2),
    ]  # fmt: skip
    assert all(one.milliseconds[5] <= one.milliseconds[50] <= one.milliseconds[99] for one in found.timings)
    assert all(
        one.rows_per_second == pytest.approx(one.batch / one.milliseconds[50] * 1e3) for one in found.timings
    )
    assert {(one.model, one.batch) for one in found.roofs} == {
        (name, size) for name in ("m.onnx", live) for size in (1, 4)
    }
    starts = {one.model: one for one in found.starts}
    assert {name: one.fresh for name, one in starts.items()} == {"m.onnx": True, live: False}
    # A process of its own begins with Python and imports onnxruntime.
    assert starts["m.onnx"].first_result_s > 0.1
    assert starts["m.onnx"].memory_mb > 40
    assert "m.onnx" in found.to_text()


def test_a_model_that_takes_other_inputs_is_named(tmp_path: Path) -> None:
    for name, width in {"a": 8, "b": 5}.items():
        given = {"x": np.zeros((2, width), np.float32)}
        netferry.convert(nn.Linear(width, 3), destination=tmp_path / f"{name}.onnx", inputs=given)
    with pytest.raises(UsageError, match=r"^b\.onnx: .*another shape"):
        bench([tmp_path / "a.onnx", tmp_path / "b.onnx"], runs=1)


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(UsageError, match="no model"):
        bench([])
