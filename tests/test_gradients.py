"""Gradients and training, framework against framework, and the faults that only they show."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netferry
from netferry.converters.errors import UsageError
from netferry.converters.signature import BATCH, Example
from netferry.converters.training import BETAS, BINARY_CROSS_ENTROPY, CROSS_ENTROPY, SQUARES, Batch, Loss
from netferry.validation.training import weight_matching
from netferry.validation.training.gradients import compare_training
from netferry.validation.training.results import LIMIT, TrainingVerdict

FRAMEWORKS = ("pytorch", "tensorflow", "mxnet")


class Small(nn.Module):
    """A convolution, BatchNorm with a momentum of its own, dropout, a layer for the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6, eps=3e-4, momentum=0.2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 4)
        rng = torch.Generator().manual_seed(5)
        for tensor in (self.norm.weight, self.norm.running_var):
            nn.init.uniform_(tensor, 0.5, 2, generator=rng)
        for tensor in (self.norm.bias, self.norm.running_mean):
            nn.init.normal_(tensor, 0, 0.3, generator=rng)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(torch.tanh(self.norm(self.conv(x)))).mean((2, 3)))


class Tagger(nn.Module):
    """An LSTM with two biases that are not zero, and a layer for every step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 7, batch_first=True, bidirectional=True)
        self.head = nn.Linear(14, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0])


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "small": (Small, (9, 2, 6, 6)),
    "tagger": (Tagger, (6, 4, 5)),
}


@pytest.fixture(scope="module")
def carried() -> Callable[[str, str], tuple[Any, Any, tuple[Any, ...]]]:
    """(case, framework) -> the source, what it has become, and inputs; each is made once."""
    made: dict[tuple[str, str], Any] = {}
    sources: dict[str, Any] = {}

    def of(case: str, to: str) -> tuple[Any, Any, tuple[Any, ...]]:
        factory, shape = CASES[case]
        x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
        if case not in sources:
            torch.manual_seed(1)
            sources[case] = factory().eval()
        if (case, to) not in made:
            made[case, to] = netferry.convert(sources[case], to, inputs={"x": x}, verify=False).model
        return sources[case], made[case, to], (x,)

    return of


def learnt(a: Any, b: Any, inputs: tuple[Any, ...], steps: int = 5) -> TrainingVerdict:
    given = [Example("x", inputs[0], {0: BATCH}, asked=True)]
    return compare_training(a, b, [inputs], given=given, steps=steps)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("to", FRAMEWORKS)
def test_what_arrives_learns_as_its_source_does(case: str, to: str, carried: Any) -> None:
    source, target, inputs = carried(case, to)
    verdict = learnt(source, target, inputs)
    assert verdict.status == "passed", verdict.to_text()
    assert {w.name for w in verdict.weights} == {name for name, _ in source.named_parameters()}
    assert all(weight.counterparts for weight in verdict.weights)
    assert verdict.truth.startswith("the source itself in float64")
    assert len(verdict.statistics) == (2 if case == "small" else 0)
    for curve in verdict.curves:
        assert len(curve.source) == len(curve.target) == 5
        assert curve.target[-1] < curve.target[0]
    assert verdict.ratio is not None and verdict.ratio <= LIMIT


def test_a_model_is_compared_with_its_source_in_the_other_direction_too(carried: Any) -> None:
    source, target, inputs = carried("tagger", "tensorflow")
    verdict = learnt(target, source, inputs)
    assert verdict.status == "passed", verdict.to_text()
    assert any("one bias on one side and two on the other" in note for note in verdict.notes)


def test_two_frameworks_that_both_came_from_a_third_are_compared(carried: Any) -> None:
    _, keras_model, inputs = carried("small", "tensorflow")
    _, block, _ = carried("small", "mxnet")
    verdict = learnt(keras_model, block, inputs)
    assert verdict.status == "passed", verdict.to_text()


def test_training_leaves_both_models_as_they_were(carried: Any) -> None:
    for to in FRAMEWORKS:
        source, target, inputs = carried("small", to)
        before = [netferry.run(model, [*inputs]) for model in (source, target)]
        state = {name: tensor.clone() for name, tensor in source.state_dict().items()}
        learnt(source, target, inputs)
        after = [netferry.run(model, [*inputs]) for model in (source, target)]
        assert all(torch.equal(state[name], tensor) for name, tensor in source.state_dict().items())
        for one, other in zip(before, after, strict=True):
            for name, array in one.items():
                assert np.array_equal(array, other[name])


def test_gradients_are_those_of_pytorch_itself(carried: Any) -> None:
    """An oracle without a line of ours: the loss written in PyTorch, backward called on it."""
    from netferry.converters.pytorch.training import Training

    source, _, inputs = carried("tagger", "pytorch")
    target = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    with Training(source, 1) as training:
        found = training.gradients(Batch(inputs, {"output": target}, {"output": 1 / target.size}), SQUARES)
    twin = copy.deepcopy(source)
    nn.functional.mse_loss(twin(torch.from_numpy(inputs[0])), torch.from_numpy(target)).backward()
    for name, parameter in twin.named_parameters():
        assert np.allclose(found.weights[name], parameter.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", [SQUARES, CROSS_ENTROPY, BINARY_CROSS_ENTROPY], ids=lambda loss: loss.name)
def test_the_slope_of_a_loss_is_its_derivative(loss: Loss) -> None:
    y, t = np.random.default_rng(3).uniform(0.1, 0.9, (2, 50))
    step = 1e-6
    rise = (loss.value(y + step, t) - loss.value(y - step, t)) / (2 * step)
    assert np.allclose(loss.slope(y, t), rise, rtol=1e-6)


def test_adams_constants_are_exact_in_float32() -> None:
    assert all(float(np.float32(beta)) == beta for beta in BETAS)


# ---- faults ---------------------------------------------------------------------------------------


def folded(model: nn.Module) -> nn.Module:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    twin = copy.deepcopy(model)
    twin.conv, twin.norm = fuse_conv_bn_eval(twin.conv, twin.norm), nn.Identity()
    return twin


def changed(**attributes: Any) -> Callable[[nn.Module], nn.Module]:
    def change(model: nn.Module) -> nn.Module:
        twin = copy.deepcopy(model)
        for name, value in attributes.items():
            setattr(twin.norm, name, value)
        return twin

    return change


def frozen(model: nn.Module) -> nn.Module:
    twin = copy.deepcopy(model)
    twin.conv.weight.requires_grad_(False)
    return twin


def detached(model: nn.Module) -> nn.Module:
    """The same outputs, but no gradient goes back through the layer."""
    twin = copy.deepcopy(model)
    twin.conv.register_forward_hook(lambda _module, _inputs, output: output.detach())
    return twin


def moved(model: nn.Module) -> nn.Module:
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.head.weight[0, 0] += 1e-4
    return twin


FAULTS: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "BatchNorm folded": (folded, "BatchNorm was folded"),
    "a frozen layer": (frozen, "its counterpart is frozen"),
    "gradients cut off": (detached, "conv.weight"),
    "an epsilon of 3.3e-4 for 3e-4": (changed(eps=3.3e-4), "float64"),
    "a momentum of 0.21 for 0.2": (changed(momentum=0.21), "norm.running_mean"),
    "one weight moved": (moved, "its value in the target is another"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_only_training_shows_fails(fault: str, carried: Any) -> None:
    source, _, inputs = carried("small", "pytorch")
    make, words = FAULTS[fault]
    verdict = learnt(source, make(source).eval(), inputs, steps=2)
    assert verdict.status == "failed"
    assert words in verdict.to_text() + verdict.reason


def test_a_folded_batch_norm_passes_forward_and_fails_here(carried: Any) -> None:
    source, _, inputs = carried("small", "pytorch")
    twin = folded(source)
    forward = netferry.verify(source, twin, {"x": inputs[0]}, rtol=1e-4, atol=1e-5)
    assert all(output.comparison.max_rel < 1e-5 for output in forward.outputs)
    verdict = learnt(source, twin, inputs, steps=0)
    assert verdict.status == "failed"
    assert "BatchNorm was folded into another layer" in verdict.reason


def test_a_frozen_layer_of_keras_fails(carried: Any) -> None:
    source, target, inputs = carried("tagger", "tensorflow")
    layer = target.get_layer("head")
    layer.trainable = False
    try:
        verdict = learnt(source, target, inputs, steps=0)
    finally:
        layer.trainable = True
    assert verdict.status == "failed"
    assert "head.weight: it is trainable and its counterpart is frozen" in verdict.to_text()


def test_a_frozen_parameter_of_mxnet_fails(carried: Any) -> None:
    source, target, inputs = carried("small", "mxnet")
    parameter = next(p for name, p in target.collect_params().items() if name.startswith("conv"))
    parameter.grad_req = "null"
    try:
        verdict = learnt(source, target, inputs, steps=0)
    finally:
        parameter.grad_req = "write"
    assert verdict.status == "failed"
    assert "its counterpart is frozen" in verdict.reason


def test_a_weight_without_counterpart_is_not_checked_and_not_passed(carried: Any) -> None:
    class Scaled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.scale = inner, nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) * self.scale

    source, _, inputs = carried("tagger", "pytorch")
    verdict = learnt(source, Scaled(copy.deepcopy(source)).eval(), inputs, steps=0)
    assert verdict.status == "not_checked"
    assert "scale: this weight of the target has no counterpart" in verdict.reason


def test_onnx_has_no_gradients_and_is_refused_in_the_call(carried: Any) -> None:
    source, _, inputs = carried("tagger", "pytorch")
    graph = netferry.convert(source, "onnx", inputs={"x": inputs[0]}, verify=False).model
    with pytest.raises(UsageError, match="an ONNX model has no gradients"):
        netferry.verify(source, graph, {"x": inputs[0]}, gradients=True)


def test_a_model_of_integers_has_nothing_to_learn() -> None:
    class Largest(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.argmax(-1)

    x = np.zeros((2, 3), np.float32)
    verdict = compare_training(Largest(), Largest(), [(x,)], steps=1)
    assert verdict.status == "not_checked"
    assert "no output" in verdict.reason


def test_the_report_carries_gradients_and_training(carried: Any) -> None:
    source, target, inputs = carried("tagger", "mxnet")
    report = netferry.verify(source, target, {"x": inputs[0]}, gradients=True, training_steps=2)
    assert report.training is not None and report.training.status == "passed", report.to_text()
    document = report.to_dict()["training"]
    assert document["steps"] == 2 and document["ratio"] <= LIMIT
    assert "gradient of a weight: at most" in report.to_text()


# ---- counterparts -----------------------------------------------------------------------------------


def test_rearranged_packed_and_summed_weights_are_found_by_value() -> None:
    rng = np.random.default_rng(4)
    source = {
        "kernel": rng.standard_normal((3, 4)).astype(np.float32),
        "b1": rng.standard_normal(8).astype(np.float32),
        "b2": rng.standard_normal(8).astype(np.float32),
        "q": rng.standard_normal((2, 2)).astype(np.float32),
    }
    target = {
        "weight": source["kernel"].T,
        "bias": (source["b1"] + source["b2"])[[4, 5, 6, 7, 0, 1, 2, 3]],
        "packed": np.concatenate([source["q"].T.reshape(-1), np.zeros(2, np.float32)]),
        "other": np.zeros(8, np.float32),
    }
    found = weight_matching.by_value(source, target, "")
    assert found.names == {"weight": ("kernel",), "bias": ("b1", "b2"), "packed": ("q",)}
    assert found.missing == ("other",)
    for name, array in found.push(source).items():
        assert np.allclose(array, target[name].reshape(-1))


def test_pulling_gradients_back_is_the_transpose_of_pushing_values() -> None:
    rng = np.random.default_rng(6)
    source = {"a": rng.standard_normal((2, 3)), "b": rng.standard_normal(3), "c": rng.standard_normal(3)}
    target = {"one": source["a"].T, "two": source["a"].copy(), "sum": source["b"] + source["c"]}
    found = weight_matching.by_value(source, target, "")
    slopes = {name: rng.standard_normal(array.shape) for name, array in target.items()}
    pulled, pushed = found.pull(slopes), found.push(source)
    left = sum((pushed[name] * slopes[name].reshape(-1)).sum() for name in target)
    assert np.isclose(left, sum((pulled[name] * source[name]).sum() for name in source))


def test_the_command_line_compares_gradients_of_two_files(carried: Any, tmp_path: Any) -> None:
    import json

    from test_cli import netferry as command

    source, _, inputs = carried("tagger", "mxnet")
    program, symbol = tmp_path / "tagger.pt2", tmp_path / "tagger-symbol.json"
    for position in (program, symbol):
        netferry.convert(source, destination=position, inputs={"x": inputs[0]}, verify=False)
    done = command("verify", program, symbol, "--grad", "--train-steps", "2", "--json")
    assert done.returncode == 0, done.stderr
    training = json.loads(done.stdout)["training"]
    assert training["status"] == "passed"
    assert [len(curve["target"]) for curve in training["curves"]] == [2, 2]
    assert {weight["name"] for weight in training["weights"]} == {n for n, _ in source.named_parameters()}


class Offset(nn.Module):
    """A hidden layer that adds ``offset`` and takes it away again: nothing in float64, some bits in float32."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.hidden, self.out, self.offset = nn.Linear(64, 8), nn.Linear(8, 1), offset

    def before(self, x: torch.Tensor) -> torch.Tensor:
        products = nn.functional.linear(x, self.hidden.weight) + self.offset
        return products - self.offset + self.hidden.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.before(x)))


def at_a_kink(row: np.ndarray) -> tuple[Offset, Offset]:
    """Two models that float64 cannot tell apart; for ``row`` one unit stands so near to zero that the bits which the
    second one loses carry it to the other side."""
    for seed in range(500):
        torch.manual_seed(seed)
        source, target = Offset(0.0), Offset(8.0)
        with torch.no_grad():
            x = torch.from_numpy(row)
            source.hidden.bias[0] += 3e-7 - source.double().before(x.double())[0, 0]
            target.load_state_dict(source.float().state_dict())
            above, below = source.before(x)[0, 0], target.before(x)[0, 0]
        if above > 2e-7 and below <= 0:
            return source, target
    raise AssertionError("no weights were found that float32 carries to the other side of zero")


def test_a_unit_at_its_kink_on_one_batch_is_no_fault_and_a_fault_on_all_is_one() -> None:
    rng = np.random.default_rng(4)
    batches = [[rng.standard_normal((8, 64)).astype(np.float32)] for _ in range(4)]
    source, target = at_a_kink(batches[0][0][:1])
    alone = compare_training(source, target, batches[:1])
    assert (alone.status, "what float32 explains" in alone.reason) == ("failed", True)
    found = compare_training(source, target, batches)
    assert found.status == "passed", found.reason
    assert any("a unit at its kink" in note for note in found.notes)
    # The same row in each batch: now the source and the target part everywhere, and no other batch speaks for them.
    same = [[np.concatenate([batches[0][0][:1], x[1:]])] for [x] in batches]
    assert compare_training(source, target, same).status == "failed"
