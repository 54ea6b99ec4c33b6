"""What several test files share and what is too slow to make twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from netferry.zoo.catalog import CATALOG
from netferry.zoo.train import TRAINERS, Trained, train


@dataclass(frozen=True)
class TrainedZoo:
    """Every model in every framework, saved under ``directory`` as ``train`` saves it."""

    directory: Path
    models: Mapping[tuple[str, str], Trained]

    def __getitem__(self, cell: tuple[str, str]) -> Trained:
        """The model ``(name, framework)``."""
        return self.models[cell]


@pytest.fixture(scope="session")
def trained_zoo(tmp_path_factory: pytest.TempPathFactory) -> TrainedZoo:
    """Trained once for all tests: some two minutes."""
    directory = tmp_path_factory.mktemp("zoo")
    cells = ((name, framework) for framework in TRAINERS for name in CATALOG)
    return TrainedZoo(directory, {(n, f): train(CATALOG[n], f, directory) for n, f in cells})
