"""What is too slow to make twice."""

from __future__ import annotations

import pytest

from netferry.zoo.catalog import CATALOG
from netferry.zoo.train import TRAINERS, Trained, train


@pytest.fixture(scope="session")
def trained_zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Trained]:
    """Every model in every framework, by ``(model, framework)``: trained and saved once, in some two minutes."""
    directory = tmp_path_factory.mktemp("zoo")
    cells = [(name, framework) for framework in TRAINERS for name in CATALOG]
    return {(name, framework): train(CATALOG[name], framework, directory) for name, framework in cells}
