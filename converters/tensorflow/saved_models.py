"""Write an imported model as a SavedModel folder, the same bytes for the same model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from netferry.converters.errors import CannotConvert, Unsupported, UnsupportedError
from netferry.converters.imported import ImportedModel
from netferry.converters.tensorflow.runtime import FingerprintDef, keras, quiet, tf
from netferry.converters.tensorflow.specs import served_specs


def write_saved_model(imported: ImportedModel, path: Path) -> None:
    """Inputs and outputs under ONNX's names, as far as TensorFlow takes them; the weights stay trainable."""
    model, names = imported.model, [spec.name for spec in imported.signature.outputs]

    def serve(*tensors: Any) -> dict[str, Any]:
        given = list(tensors)
        result = (
            model(*given, training=False) if imported.form != "functional" else model(given, training=False)
        )
        if isinstance(result, dict):
            return {name: result[name] for name in names}
        return dict(zip(names, tf.nest.flatten(result), strict=True))

    try:
        with quiet():
            archive = keras.export.ExportArchive()
            archive.track(model)
            archive.add_endpoint("serve", serve, input_signature=served_specs(model, imported.signature))
            _in_one_order(archive, model)
            archive.write_out(str(path), verbose=False)
            _nameless(path / "fingerprint.pb")
    except CannotConvert as cannot:
        raise UnsupportedError([Unsupported(path.stem, "graph", cannot.reason, cannot.remedy)]) from cannot


def _in_one_order(archive: Any, model: Any) -> None:
    """A function lists its variables as they lie in memory; here as the model does."""
    order = {id(variable.value): position for position, variable in enumerate(model.variables)}
    for function in archive._tf_trackable.serve._list_all_concrete_functions():
        function.graph.variables = sorted(function.variables, key=lambda v: order.get(id(v), len(order)))


def _nameless(path: Path) -> None:
    """A fingerprint whose random number is made of the digests beside it."""
    fingerprint = FingerprintDef.FromString(path.read_bytes())
    fingerprint.ClearField("uuid")
    digest = hashlib.sha256(fingerprint.SerializeToString(deterministic=True)).hexdigest()
    fingerprint.uuid = str(int(digest[:16], 16))
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))
