"""Whole PyTorch models to ONNX by netferry's own road, each right at another batch, length and image size."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from pytorch_models import HUGGING_FACE, MODELS, Answering, Packed
from pytorch_oracle import Fn, check, export, operators, randomized, session
from torch import nn

import netferry
from netferry.converters import size_bounds
from netferry.converters.errors import UnsupportedError
from netferry.converters.pytorch import live
from netferry.converters.pytorch.to_onnx import to_onnx
from netferry.converters.signature import Example

STEPS = ("b", "t", 6)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_right_at_other_sizes(name: str) -> None:
    make, shapes = MODELS[name]
    found = check(randomized(make()), *shapes)
    assert not {"Identity", "Loop", "If"} & set(operators(found))
    assert _chains(found.model, "Cast") == _chains(found.model, "Transpose") == 0


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_an_architecture_of_hugging_face_is_right_at_other_sizes(name: str) -> None:
    pytest.importorskip("transformers", reason="the architectures are those of transformers")
    make, shapes = HUGGING_FACE[name]
    found = check(randomized(make()), *shapes)
    assert "Identity" not in operators(found)
    assert _chains(found.model, "Cast") == _chains(found.model, "Transpose") == 0


def _chains(model: ir.Model, operator: str) -> int:
    """How many nodes of a kind read from a node of the same kind."""
    nodes = [node for node in model.graph if node.op_type == operator]
    producers = [value.producer() for node in nodes for value in node.inputs[:1] if value is not None]
    return sum(node is not None and node.op_type == operator for node in producers)


def test_packed_sequences_that_are_all_shorter_than_the_input_give_a_shorter_output() -> None:
    module = randomized(Packed())
    found = export(module, STEPS, ("lengths", "t", "b"))
    x, lengths = np.random.default_rng(1).normal(size=(4, 9, 6)).astype(np.float32), np.array([2, 7, 5, 7])
    want = live.run(module, [x, lengths])
    assert want["output_0"].shape == (4, 7, 4)
    got = session(found).run(None, {"x0": x, "x1": lengths})
    for a, b in zip(want.values(), got, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_what_stands_behind_a_packed_sequence_is_the_padding_that_was_asked_for() -> None:
    def run(x: torch.Tensor, lengths: torch.Tensor, layer: nn.Module, head: nn.Module) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, False)
        data, *rest = layer(packed)[0]
        out = nn.utils.rnn.PackedSequence(head(data).tanh(), *rest)
        return nn.utils.rnn.pad_packed_sequence(out, True, padding_value=-2.5, total_length=12)

    parts = nn.GRU(6, 4, batch_first=True), nn.Linear(4, 3)
    check(randomized(Fn(run, *parts)), STEPS, ("lengths", "t", "b"))


# ---- code that decides by a size ------------------------------------------------------------------


def hinted(x: torch.Tensor) -> torch.Tensor:
    if x.shape[1] > 1:
        return x.softmax(1) + 1
    return torch.ones_like(x) + 1


def forked(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if x.shape[1] != 1 else x


def checked(x: torch.Tensor) -> torch.Tensor:
    if x.shape[1] > 64:
        raise ValueError("too long")
    return x * 2


def bounded(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if x.shape[1] < 100 else x


def test_a_branch_on_a_size_of_one_that_changes_nothing_leaves_the_size_free_and_is_told() -> None:
    found = export(Fn(hinted), STEPS)
    assert any("length is above 1" in note and "if x.shape[1] > 1" in note for note in found.notes)
    for length in (1, 2, 7):
        x = np.random.default_rng(0).normal(size=(2, length, 6)).astype(np.float32)
        np.testing.assert_allclose(
            session(found).run(None, {"x0": x})[0], live.run(Fn(hinted), [x])["output"], rtol=1e-5
        )


def test_a_branch_on_a_size_of_one_that_changes_the_result_is_a_bound_that_is_told_with_its_line() -> None:
    found = export(Fn(forked), STEPS)
    (note,) = found.notes
    assert "length is not 1" in note and "test_pytorch_models.py" in note and "x.shape[1] != 1" in note
    assert size_bounds.of_metadata(found.model.metadata_props) == ("(length != 1)",)


def test_a_size_that_the_code_raises_on_is_a_need_that_is_told() -> None:
    found = export(Fn(checked), STEPS)
    assert found.notes == (f"the model needs that length is at most 64 ({_line('if x.shape[1] > 64')})",)


@pytest.mark.parametrize("asked", [True, False])
def test_a_size_that_the_code_bounds_stays_free_below_and_the_bound_is_told_and_kept(asked: bool) -> None:
    found = export(Fn(bounded), STEPS, asked=asked)
    assert found.model.graph.inputs[0].shape == ir.Shape(["batch", "length", 6])
    assert "length is below 100" in found.notes[0] and "if x.shape[1] < 100" in found.notes[0]
    assert size_bounds.of_metadata(found.model.metadata_props) == ("(length < 100)",)


def test_a_bound_rules_the_sizes_of_the_verdict() -> None:
    inputs = {"x": np.ones((3, 90, 6), np.float32)}
    done = netferry.convert(Fn(bounded), "onnx", inputs=inputs, dynamic={"x": {1: "time"}}, seed=0)
    assert done.report is not None and done.report.status == "passed"
    assert any("time is below 100" in note for note in done.notes)


def _line(text: str) -> str:
    lines = Path(__file__).read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.strip().startswith(text))
    return f"{Path(__file__).name}:{number}: {lines[number - 1].strip()}"


# ---- refusals -------------------------------------------------------------------------------------


def chosen_by_values(x: torch.Tensor) -> torch.Tensor:
    if x.mean() > 0:
        return x + 1
    return x - 1


def test_a_branch_on_values_is_refused_with_the_line_of_the_users_source() -> None:
    with pytest.raises(UnsupportedError, match="looks at a tensor's values") as caught:
        export(Fn(chosen_by_values), STEPS)
    assert _line("if x.mean() > 0") in str(caught.value)


def test_complex_outputs_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="'output' is complex"):
        export(Fn(torch.fft.fft), STEPS)


def test_what_onnx_has_no_word_for_is_named() -> None:
    with pytest.raises(UnsupportedError, match="linalg_svdvals"):
        export(Fn(torch.linalg.svdvals), STEPS)


def test_a_fourier_transform_inside_is_written_over_real_numbers() -> None:
    found = check(Fn(lambda x: torch.fft.rfft(x).abs()), ("b", "t"), tolerance=1e-4)
    assert "DFT" in operators(found)


# ---- inputs and outputs ----------------------------------------------------------------------------


def test_the_fields_of_a_dataclass_name_the_outputs() -> None:
    found = check(randomized(Answering()), STEPS)
    assert [value.name for value in found.model.graph.outputs] == ["logits", "states_0", "states_1"]


# ---- threads, and the user's own model -------------------------------------------------------------


def _snapshot(module: nn.Module) -> list[Any]:
    def shown(part: nn.Module) -> dict[str, Any]:
        kept = {name: item for name, item in part.__dict__.items() if not isinstance(item, dict)}
        inner = {name: dict(item) for name, item in part.__dict__.items() if isinstance(item, dict)}
        return kept | inner

    return [(type(part), shown(part)) for part in module.modules()]


class Remembering(nn.Module):
    """Writes into itself and then fails on values: what a trace must take back."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.seen: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen, self.last = x, self.fc(x)
        self.fc.extra = x
        return self.norm(self.last.flatten(0, 1)) if x.sum() > 0 else x


def test_a_model_is_as_it_was_after_an_export_that_failed() -> None:
    module = Remembering().train()
    module.norm.eval()
    before, called, length = _snapshot(module), nn.Module.__call__, len
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(UnsupportedError, match="values"):
        export(module, STEPS)
    assert _snapshot(module) == before and nn.Module.__call__ is called and len is length
    assert not hasattr(module, "last") and module.seen is None
    assert all(torch.equal(tensor, weights[name]) for name, tensor in module.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled() and torch.is_grad_enabled()


def test_a_model_runs_in_one_thread_while_others_export_it() -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Event

    layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
    model = randomized(
        nn.Sequential(nn.Conv1d(5, 5, 1), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    )
    model.eval()
    x, done = torch.randn(3, 5, 6), Event()
    with torch.no_grad():
        want = model(x)

    def run() -> int:
        rounds = 0
        with torch.no_grad():
            while not done.is_set() or not rounds:
                torch.testing.assert_close(model(x), want)
                rounds += 1
        return rounds

    def carry(_: int) -> bytes:
        found = to_onnx(model, [Example("x", x.numpy(), {0: "batch"})])
        return ir.to_proto(found.model).SerializeToString(deterministic=True)

    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(run)
        files = list(pool.map(carry, range(6)))
        done.set()
        assert running.result() > 0
    assert len(set(files)) == 1
    assert not model.training and torch.backends.mha.get_fastpath_enabled()


# ---- the same bytes everywhere ---------------------------------------------------------------------

SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, "."]
import numpy as np, torch, onnx_ir as ir
from pytorch_models import MODELS
from pytorch_oracle import export, randomized
import mine
for make, shapes in (MODELS["vision transformer by hand"], MODELS["tagger"], MODELS["packed gru"]):
    found = export(randomized(make()), *shapes)
    assert found.route == "direct"
    sys.stdout.buffer.write(ir.to_proto(found.model).SerializeToString())
found = export(mine.Aliased(), ("b", 6))
assert found.route == "dynamo", found
sys.stdout.buffer.write(ir.to_proto(found.model).SerializeToString())
"""

MINE = """
import torch
class Aliased(torch.nn.Module):
    def forward(self, x):
        y = x * 2
        y.unfold(-1, 2, 2)[..., 0].mul_(5)
        return y + 1
"""


@pytest.mark.slow
def test_two_hash_seeds_and_two_folders_give_the_same_bytes_without_a_path_in_them(tmp_path: Path) -> None:
    written = []
    for seed in ("1", "4711"):
        folder = tmp_path / f"folder_{seed}"
        folder.mkdir()
        (folder / "mine.py").write_text(textwrap.dedent(MINE))
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        script = SCRIPT.format(tests=str(Path(__file__).parent))
        command = [sys.executable, "-W", "ignore", "-c", script]
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr.decode()[-2000:]
        for path in (str(tmp_path), str(Path(torch.__file__).parent), str(Path(__file__).parent), ".py"):
            assert path.encode() not in ran.stdout, path
        written.append(hashlib.sha256(ran.stdout).hexdigest())
    assert written[0] == written[1]


@pytest.mark.slow
def test_the_first_export_of_a_process_brings_in_no_compiler_of_pytorch() -> None:
    script = (
        "import sys, numpy as np, torch; from netferry.converters import export_model; from netferry.converters.signature import "
        "Example; net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), "
        "torch.nn.AdaptiveAvgPool2d(6), torch.nn.Flatten(), torch.nn.GELU(), torch.nn.Linear(144, 2)); x = np.ones((2, 3, 8, 8), np.float32); "
        "export_model(net, given=[Example('x', x, {0: 'batch'})]); "
        "print(sorted(m for m in sys.modules if m in ('torch._dynamo', 'torch._inductor'))); "
        "print(torch.compile(net, backend='eager')(torch.ones(2, 3, 8, 8)).shape)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[]", "torch.Size([2, 2])"]


class Named(nn.Module):
    def forward(self, tokens: torch.Tensor, mask: Any = None, memory: Any = None) -> torch.Tensor:
        return tokens * 2 if memory is None else tokens * memory


def test_inputs_are_given_to_the_parameters_that_they_name_whatever_their_places() -> None:
    x, y = np.ones((2, 3), np.float32), np.full((2, 3), 5, np.float32)
    model = Named()
    found = to_onnx(model, [Example("memory", y), Example("tokens", x)])
    assert [value.name for value in found.model.graph.inputs] == ["tokens", "memory"]
    want = live.run(live.called(model, [Example("memory", y), Example("tokens", x)]), [x, y])["output"]
    np.testing.assert_array_equal(session(found).run(None, {"tokens": x, "memory": y})[0], want)
    assert type(model) is Named
    assert to_onnx(model, [Example("tokens", x)]).route == "direct"
    assert to_onnx(model, [Example("x", x)]).route == "direct"
