"""Training that goes on in PyTorch from where MXNet left it: its optimizers' states, read without their code."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mxnet_oracle import Oracle

import netferry
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.mxnet import optimizer
from netferry.converters.mxnet.files import SymbolModel, parse_symbol

RNG = np.random.default_rng(9)
ROWS, STEPS = 16, 20
BATCHES = [
    (RNG.normal(size=(ROWS, 1, 8, 8)).astype(np.float32), RNG.integers(0, 3, ROWS).astype(np.float32))
    for _ in range(4)
]
NETWORK = (
    "F.SoftmaxOutput(F.FullyConnected(F.Activation(F.FullyConnected(F.Flatten(F.Pooling(F.Activation(F.Convolution(data, "
    "kernel=(3, 3), num_filter=6, name='c1'), act_type='relu'), kernel=(2, 2), stride=(2, 2), pool_type='max')), num_hidden=8, "
    "name='f1'), act_type='tanh'), num_hidden=3, name='f2'), name='softmax')"
)
OPTIMIZERS: dict[str, tuple[dict[str, float], Any, dict[str, Any]]] = {
    "sgd": (
        {"learning_rate": 0.05, "momentum": 0.9},
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        {"learning_rate": 0.05},
    ),
    "nag": (
        {"learning_rate": 0.05, "momentum": 0.9},
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
        {"learning_rate": 0.05},
    ),
    "adam": ({"learning_rate": 0.01}, lambda p: torch.optim.Adam(p, lr=0.01), {"updates": len(BATCHES)}),
}


needs_mxnet = pytest.mark.skipif(
    importlib.util.find_spec("mxnet") is None, reason="mxnet, the oracle, is not installed"
)


def _losses(module: Any, training: torch.optim.Optimizer) -> list[float]:
    losses = []
    module.train()
    for index in range(STEPS):
        data, label = BATCHES[index % len(BATCHES)]
        training.zero_grad()
        chance = module(torch.from_numpy(data))
        loss = -torch.log(chance[torch.arange(ROWS), torch.from_numpy(label).long()]).mean()
        loss.backward()
        training.step()
        losses.append(loss.item())
    return losses


@needs_mxnet
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_goes_on_in_pytorch_with_mxnets_own_losses(
    kind: str, oracle: Oracle, tmp_path: Path
) -> None:
    options, make, said = OPTIMIZERS[kind]
    prefix = str(tmp_path / "net")
    truth = oracle.continued(NETWORK, BATCHES, prefix, kind, options, STEPS)
    done = netferry.convert(prefix, "pytorch", inputs={"data": BATCHES[0][0]}, verify=False)
    module: Any = done.model
    training = make(list(module.parameters()))
    state = netferry.optimizer_state(f"{prefix}-0001.states", prefix, module, **said)
    training.load_state_dict({"state": state, "param_groups": training.state_dict()["param_groups"]})
    losses = _losses(module, training)
    assert truth[-1] < truth[0]
    np.testing.assert_allclose(losses, truth, rtol=1e-4)
    with pytest.raises(UsageError, match="does not say"):
        netferry.optimizer_state(f"{prefix}-0001.states", prefix, module)


@needs_mxnet
def test_weights_with_a_learning_rate_of_their_own_go_on_in_groups(oracle: Oracle, tmp_path: Path) -> None:
    network = NETWORK.replace("name='f1'", "weight=F.Variable('f1_weight', lr_mult=0.1), name='f1'")
    prefix, rate = str(tmp_path / "net"), 0.05
    truth = oracle.continued(network, BATCHES, prefix, "sgd", OPTIMIZERS["sgd"][0], STEPS)
    given = {"data": BATCHES[0][0]}
    module: Any = netferry.convert(prefix, "pytorch", inputs=given, verify=False).model
    groups = [
        {"params": [weight], "lr": rate * (0.1 if name.startswith("f1") and weight.ndim == 2 else 1)}
        for name, weight in module.named_parameters()
    ]
    assert len({group["lr"] for group in groups}) == 2
    training = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    state = netferry.optimizer_state(f"{prefix}-0001.states", prefix, module, learning_rate=rate)
    training.load_state_dict({"state": state, "param_groups": training.state_dict()["param_groups"]})
    np.testing.assert_allclose(_losses(module, training), truth, rtol=1e-4)
    with pytest.raises(UsageError, match=r"of their own.*received f1_weight"):
        netferry.convert(
            prefix,
            "pytorch",
            inputs=given,
            verify=False,
            optimizer_state=f"{prefix}-0001.states",
            learning_rate=rate,
        )


@needs_mxnet
@pytest.mark.parametrize("kind", ["adagrad", "rmsprop"])
def test_the_state_of_another_optimizer_of_a_module_is_refused(
    kind: str, oracle: Oracle, tmp_path: Path
) -> None:
    prefix = str(tmp_path / "net")
    oracle.continued(NETWORK, BATCHES, prefix, kind, {"learning_rate": 0.01}, 1)
    with pytest.raises(RefusedError, match="expected SGD, NAG, Adam, received no number below zero"):
        optimizer.read_file(f"{prefix}-0001.states")


@needs_mxnet
@pytest.mark.parametrize(
    ("kind", "refused"), [("signum", True), ("adamax", True), ("nag", False), ("adam", False)]
)
def test_a_trainer_says_which_optimizer_it_is(
    kind: str, refused: bool, oracle: Oracle, tmp_path: Path
) -> None:
    options = {"learning_rate": 0.1} | ({"momentum": 0.9} if kind == "nag" else {})
    oracle.trainers_state(kind, options, str(tmp_path / "net.states"))
    if refused:
        with pytest.raises(RefusedError, match=f"(?i)received {kind}"):
            optimizer.read_file(tmp_path / "net.states")
    else:
        assert optimizer.read_file(tmp_path / "net.states").called.lower() == kind


def trainer_order(names: Sequence[str]) -> dict[int, str]:
    return dict(enumerate(sorted(names)))


@pytest.mark.parametrize("dumped", [True, False])
def test_a_trainers_state_is_numbered_by_names_and_a_modules_by_the_symbol(dumped: bool) -> None:
    """Weight and bias change places: sorted by name the bias comes first, and the statistics of a BatchNorm count."""
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        *({"op": "null", "name": name, "inputs": []} for name in ("f_weight", "f_bias")),
        {"op": "FullyConnected", "name": "f", "attrs": {"num_hidden": "3"}, "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]]},
        *({"op": "null", "name": f"b_{name}", "inputs": []} for name in ("gamma", "beta", "moving_mean", "moving_var")),
        {"op": "BatchNorm", "name": "b", "attrs": {"fix_gamma": "False"}, "inputs": [[3, 0, 0], *([n, 0, 0] for n in range(4, 8))]},
    ]  # fmt: skip
    graph = parse_symbol(
        json.dumps({"nodes": nodes, "arg_nodes": [0, 1, 2, 4, 5, 6, 7], "heads": [[8, 0, 0]]})
    )
    sizes = {
        "f_weight": (3, 3),
        "f_bias": (3,),
        **{f"b_{n}": (3,) for n in ("gamma", "beta", "moving_mean", "moving_var")},
    }
    params = {name: RNG.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    momenta = {
        name: RNG.normal(size=sizes[name]).astype(np.float32)
        for name in ("f_weight", "f_bias", "b_gamma", "b_beta")
    }
    order = (
        trainer_order(list(params))
        if dumped
        else dict(enumerate(("f_weight", "f_bias", "b_gamma", "b_beta")))
    )
    arrays = {number: (momenta[name],) for number, name in order.items() if name in momenta}
    state = optimizer.States(arrays, {"lr": 0.5} if dumped else {})
    model = SymbolModel(graph, params, label="net")
    found = optimizer.read(state, model, learning_rate=0.5)
    for name, momentum in momenta.items():
        np.testing.assert_allclose(found.moments[name][0], momentum / -0.5, rtol=1e-6)
    wrong = optimizer.States(
        {number: (array[:, None],) for number, (array,) in arrays.items()}, state.settings
    )
    with pytest.raises(UsageError, match="does not fit"):
        optimizer.read(wrong, model, learning_rate=0.5)


class _Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch here",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({0: _Hostile()}),
        pickle.dumps({0: np.ones(3)}),
        pickle.dumps({}),
        pickle.dumps([1, 2]),
        pickle.dumps({0: None}),
        b"\x80\x04damaged",
        b"no pickle",
    ],
)
def test_a_state_that_is_none_or_would_act_is_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.states").write_bytes(content)
    with pytest.raises(RefusedError):
        optimizer.read_file(tmp_path / "net.states")
    assert [path.name for path in tmp_path.iterdir()] == ["net.states"]
