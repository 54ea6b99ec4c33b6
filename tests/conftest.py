"""What is too slow to make twice."""

from __future__ import annotations

import importlib.util
import signal
import sys
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from mxnet_oracle import Oracle

from netferry.zoo.catalog import CATALOG
from netferry.zoo.train import TRAINERS, Trained, train

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as a background job of a shell has it: tests of Ctrl-C need one
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the trained zoo begins first: it takes longest."""
    first = {item.path for item in items if "trained_zoo" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in first)


@cache
def _generators(module: str) -> list[np.random.Generator]:
    """Those that a module of tests, and what stands beside it, hold for all their tests."""
    beside = Path(__file__).parent
    names = [
        name
        for name, one in list(sys.modules.items())
        if Path(getattr(one, "__file__", None) or "/").parent == beside
    ]
    held = [name for name in sorted(names) if name == module or not name.startswith("test_")]
    found = (
        one
        for name in held
        for one in vars(sys.modules[name]).values()
        if isinstance(one, np.random.Generator)
    )
    return list({id(one): one for one in found}.values())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test draws is its own, whichever tests ran before it in its process."""
    drawn = np.random.PCG64(zlib.crc32(item.nodeid.encode()))
    for place, generator in enumerate(_generators(Path(item.path).stem)):
        generator.bit_generator.state = drawn.jumped(place + 1).state


@pytest.fixture(scope="session")
def trained_zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Trained]:
    """Every model in every framework, by ``(model, framework)``: trained and saved once, in some two minutes."""
    directory = tmp_path_factory.mktemp("zoo")
    cells = [(name, framework) for framework in TRAINERS for name in CATALOG]
    return {(name, framework): train(CATALOG[name], framework, directory) for name, framework in cells}


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    """mxnet itself, in a process of its own."""
    if importlib.util.find_spec("mxnet") is None:
        pytest.skip("mxnet, the oracle, is not installed")
    worker = Oracle()
    yield worker
    worker.close()


@pytest.fixture(autouse=True)
def _stored_seed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons in tests repeat one seed; ``fresh_seed`` marks those that are about drawing one."""
    if request.node.get_closest_marker("fresh_seed") is None:
        monkeypatch.setattr("netferry.api.drawn", lambda seed: 0 if seed is None else seed)
