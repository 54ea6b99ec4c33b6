"""Training a reference model: what is the same in every framework.

Seeds, the held-out metric, and the files that stay behind: the framework's own, and ``NAME.json`` that says
how they came about and what they hold.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from netferry.converters import frameworks
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.disk.staging import demand, staged
from netferry.converters.errors import NetferryError, RefusedError, UsageError, WriteError
from netferry.converters.signature import Array
from netferry.converters.training import BINARY_CROSS_ENTROPY, CROSS_ENTROPY, SQUARES, Loss
from netferry.zoo import data
from netferry.zoo.catalog import ModelSpec, Progress

TRAINERS: Mapping[str, str] = {
    "pytorch": "netferry.zoo.pytorch",
    "tensorflow": "netferry.zoo.tensorflow",
    "mxnet": "netferry.zoo.mxnet",
}
"""Where each framework's models and loop stand; imported only when used."""

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "pytorch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "keras"),
    "mxnet": ("mxnet",),
}
"""Whose versions are written down beside a trained model, where they are installed."""

SAVED: Mapping[str, tuple[str, ...]] = {
    "pytorch": (".safetensors",),
    "tensorflow": (".keras",),
    "mxnet": ("-symbol.json", "-0000.params"),
}
"""How the names of the files end that each framework saves."""

TRAINED = "trained model"
"""What is written here, as the ledger has it."""

EMBEDDED_ROWS = 2_000
FEWEST_EPOCHS = 2
PREDICTED_AT_ONCE = 512
FURTHER_STEPS, FURTHER_BATCHES, FURTHER_ROWS = 20, 4, 32
"""How a trained model goes on in every framework: steps, and the batches that they go through again and again."""

LOSSES: Mapping[str, Loss] = {
    "regression": SQUARES,
    "binary": BINARY_CROSS_ENTROPY,
    "classes": CROSS_ENTROPY,
}


class Trainer(Protocol):
    """The verbs of a framework's file."""

    def seed(self, value: int) -> None: ...
    def build(self, spec: ModelSpec) -> Any: ...
    def train(
        self, model: Any, spec: ModelSpec, dataset: data.Dataset, progress: Progress
    ) -> list[float]: ...
    def predict(self, model: Any, x: Array) -> Array: ...
    def to_native(self, x: Array) -> Array: ...
    def save(self, model: Any, directory: Path, name: str) -> list[Path]: ...
    def load(self, spec: ModelSpec, directory: Path) -> Any: ...


@dataclass(frozen=True)
class Trained:
    """A trained model and how it came about.

    ``history`` is the mean loss of each pass over the data; ``metrics`` were measured on held-out rows;
    ``seconds`` is training alone; ``checksum`` is the sha256 of ``files`` one after the other, None where
    nothing was saved.
    """

    model: Any
    spec: ModelSpec
    framework: str
    history: tuple[float, ...]
    metrics: Mapping[str, float]
    seconds: float
    files: tuple[Path, ...] = ()
    checksum: str | None = None

    @property
    def metric(self) -> float:
        """The one that the catalog judges this model by."""
        return self.metrics[self.spec.metric]


def trainer(framework: str) -> Trainer:
    """A framework's file of the zoo."""
    if framework not in TRAINERS:
        raise UsageError(
            "the zoo does not train in this", expected=f"one of {', '.join(TRAINERS)}", received=framework
        )
    frameworks.named(framework).require()
    return cast(Trainer, import_module(TRAINERS[framework]))


def train(
    spec: ModelSpec,
    framework: str,
    directory: Path | None = None,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    *,
    force: bool = False,
) -> Trained:
    """Train ``spec`` in one framework, from its seed: the same call gives the same losses.

    Python's, numpy's and the framework's random state are set. With ``directory`` the model is saved in
    ``directory/FRAMEWORK``; ``data_dir`` holds MNIST's files where the digit models are to learn from them. What stands
    there and is not as an earlier training left it is replaced only with ``force``.
    """
    native = trainer(framework)
    replacing = Overwriting(force)
    if directory is not None:
        demand_trained(directory, spec.name, framework, replacing)
    dataset = data.load(spec, data_dir)
    spec = replace(spec, epochs=_epochs(spec, len(dataset.x_train)))
    _seed(native, spec.seed)
    model = native.build(spec)
    start = time.perf_counter()
    history = tuple(native.train(model, spec, _in_layout(native, dataset), progress or silent))
    seconds = time.perf_counter() - start
    if not all(map(math.isfinite, history)):
        raise NetferryError(
            "training did not converge", where=f"{spec.name} in {framework}", received=history[-1]
        )
    metrics = measure(spec, lambda x: native.predict(model, x), dataset)
    trained = Trained(model, spec, framework, history, metrics, seconds)
    return trained if directory is None else _saved(native, trained, directory / framework, replacing)


def further_batches(
    spec: ModelSpec, framework: str, data_dir: Path | None = None
) -> tuple[list[Array], list[Array], Loss]:
    """The batches on which a trained model goes on: inputs as ``framework`` takes them, what its output should be
    (floats of the output's shape), and the loss that both are judged by."""
    whole = data.load(spec, data_dir)
    rows = slice(0, FURTHER_BATCHES * FURTHER_ROWS)
    x, y = trainer(framework).to_native(whole.x_train[rows]), whole.y_train[rows]
    aims = np.eye(spec.outputs)[y] if spec.task == "classes" else y.reshape(len(y), -1)
    parts = [aim.astype(np.float32) for aim in np.split(aims, FURTHER_BATCHES)]
    return np.split(x, FURTHER_BATCHES), parts, LOSSES[spec.task]


def _in_layout(native: Trainer, dataset: data.Dataset) -> data.Dataset:
    return replace(dataset, x_train=native.to_native(dataset.x_train))


def reload(spec: ModelSpec, framework: str, directory: Path) -> Any:
    """The model that ``train`` saved under ``directory``, once its files match their checksums."""
    folder = directory / framework
    record = _record(folder / f"{spec.name}.json")
    for name, expected in record.items():
        path = folder / name
        received = _sha256([path]) if path.is_file() else "no such file"
        if received != expected:
            raise RefusedError(
                "this is not the file that was trained", where=str(path), expected=expected, received=received
            )
    return trainer(framework).load(spec, folder)


def measure(spec: ModelSpec, predict: Callable[[Array], Array], dataset: data.Dataset) -> dict[str, float]:
    """How a model does on the held-out rows; of a line, the slope and the intercept as well."""
    x, y = dataset.x_test, dataset.y_test
    parts = range(0, len(x), PREDICTED_AT_ONCE)
    outputs = np.concatenate([predict(x[start : start + PREDICTED_AT_ONCE]) for start in parts])
    if spec.task == "classes":
        return {"accuracy": float((outputs.argmax(axis=-1) == y).mean())}
    if spec.task == "binary":
        return {"accuracy": float(((outputs > 0.5) == (y > 0.5)).mean())}
    unexplained = ((y - outputs) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    metrics = {"R2": float(1 - unexplained)}
    if spec.metric == "slope":
        at_0, at_1 = predict(np.array([[0.0], [1.0]], np.float32))[:, 0]
        metrics |= {"slope": float(at_1 - at_0), "intercept": float(at_0)}
    return metrics


def _epochs(spec: ModelSpec, rows: int) -> int:
    """The catalog's passes are for the embedded data; a larger set is gone through fewer times."""
    return spec.epochs if rows <= EMBEDDED_ROWS else max(FEWEST_EPOCHS, spec.epochs * EMBEDDED_ROWS // rows)


def _seed(native: Trainer, value: int) -> None:
    random.seed(value)
    np.random.seed(value)
    native.seed(value)


def silent(done: int, total: int, text: str) -> None:
    """No one is watching."""


def demand_trained(directory: Path, name: str, framework: str, replacing: Overwriting) -> None:
    """Refuse, before any work, what stands where a trained model is to go."""
    folder = directory / framework
    if folder.exists() and not folder.is_dir():
        raise WriteError("cannot make this folder (a file is in its way)", where=str(folder))
    beside = [f"{name}{ending}" for ending in SAVED[framework]]
    demand(folder / f"{name}.json", TRAINED, replacing, beside)


def _saved(native: Trainer, trained: Trained, folder: Path, replacing: Overwriting) -> Trained:
    """The files and the note about them appear together, or what stood there before still stands."""
    name = trained.spec.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot make this folder ({error.strerror})", where=str(folder)) from error
    with staged(folder / f"{name}.json", TRAINED, replacing) as note:
        files = native.save(trained.model, note.parent, name)
        checksum = _sha256(files)
        note.write_text(json.dumps(_description(trained, files), indent=2) + "\n", encoding="utf-8")
    return replace(trained, files=tuple(folder / path.name for path in files), checksum=checksum)


def _description(trained: Trained, files: Iterable[Path]) -> dict[str, Any]:
    spec = trained.spec
    return {
        "model": spec.name,
        "framework": trained.framework,
        "data": spec.data,
        "seed": spec.seed,
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "optimizer": spec.optimizer,
        "learning_rate": spec.learning_rate,
        "metrics": dict(trained.metrics),
        "history": list(trained.history),
        "seconds": round(trained.seconds, 3),
        "versions": _versions(trained.framework),
        "sha256": {path.name: _sha256([path]) for path in files},
    }


def _versions(framework: str) -> dict[str, str]:
    packages = (*PACKAGES[framework], "numpy")
    return {package: version for package in packages if (version := frameworks.installed_version(package))}


def _record(path: Path) -> dict[str, str]:
    """The checksums that ``NAME.json`` holds, by file name."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))["sha256"]
        return {Path(str(name)).name: str(checksum) for name, checksum in record.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefusedError(
            "the note beside a trained model cannot be read",
            where=str(path),
            remedy="Train it again: netferry zoo train",
        ) from error


def _sha256(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()
