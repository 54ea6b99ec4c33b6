"""A flavour for MLflow: a model of any framework is converted to ONNX, checked, and kept with its verdict.

    netferry.mlflow.log_model(model, "classifier", inputs={"x": example})
    netferry.mlflow.load_model("models:/classifier/1", to="pytorch")
    mlflow.pyfunc.load_model("models:/classifier/1").predict({"x": rows})

It needs MLflow, which netferry does not bring.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from netferry.arguments import Inputs, PathLike
from netferry.converters.errors import MissingError, RefusedError, WriteError
from netferry.version import VERSION

FLAVOR_NAME = "netferry"
MODEL, VERDICT = "model.onnx", "verdict.json"
"""The files of a flavour, beside MLflow's own ``MLmodel``."""


def save_model(
    model: object,
    path: PathLike,
    *,
    inputs: Inputs | None = None,
    mlflow_model: Any = None,
    metadata: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Convert ``model`` (a path, a factory or a live model) to ONNX, check it, and write it to the new folder ``path`` as MLflow has them.

    ``options`` are those of ``netferry.convert``. A result that differs from its source is not written.
    """
    models, pyfunc = _mlflow("models"), _mlflow("pyfunc")
    folder = Path(path)
    if folder.exists() and any(folder.iterdir()):
        raise WriteError("the folder is not empty", where=str(folder), remedy="Name a new one")
    from netferry.api import convert

    folder.mkdir(parents=True, exist_ok=True)
    done = convert(model, "onnx", destination=folder / MODEL, inputs=inputs, **options)
    if not done.files:
        raise RefusedError(
            "the model in ONNX differs from its source", where=done.source, remedy="netferry bisect names the first difference"
        )  # fmt: skip
    status = "not compared" if done.report is None else done.report.status
    if done.report is not None:
        (folder / VERDICT).write_text(done.report.to_json() + "\n", encoding="utf-8")
    whole = models.Model() if mlflow_model is None else mlflow_model
    if metadata is not None:
        whole.metadata = dict(metadata)
    pyfunc.add_to_model(whole, loader_module=__name__, data=MODEL)
    whole.add_flavor(FLAVOR_NAME, data=MODEL, source=done.source, status=status, netferry_version=VERSION)
    whole.save(str(folder / "MLmodel"))


def log_model(model: object, name: str, **options: Any) -> Any:
    """``save_model`` into the active run, as the artifact ``name``; gives MLflow's description of it."""
    here = import_module(__name__)
    return _mlflow("models").Model.log(artifact_path=name, flavor=here, model=model, **options)


def load_model(model_uri: str, to: str | None = None) -> Any:
    """The model as a session of onnxruntime, or as a live model of the framework ``to``."""
    folder = Path(_mlflow("artifacts").download_artifacts(artifact_uri=model_uri))
    file = folder / MODEL
    if to is None:
        from netferry.inference.session import Session

        return Session(file)
    from netferry.api import convert

    return convert(file, to).model


class _Function:
    """What ``mlflow.pyfunc`` calls."""

    def __init__(self, path: str) -> None:
        from netferry.inference.session import Session

        self._session = Session(path)

    def predict(self, model_input: Any) -> Any:
        """Arrays by the inputs' names, or the one input's; the one output's, or arrays by the outputs' names."""
        given = (
            model_input if isinstance(model_input, Mapping) else [getattr(model_input, "values", model_input)]
        )
        found = self._session.run(given)
        return next(iter(found.values())) if len(found) == 1 else found


def _load_pyfunc(path: str) -> _Function:
    """MLflow calls it by this name; ``path`` is that of the ONNX file."""
    return _Function(path)


def _mlflow(part: str) -> Any:
    try:
        return import_module(f"mlflow.{part}")
    except ImportError as error:
        raise MissingError(f"MLflow is not available ({error})", remedy="pip install mlflow") from error
