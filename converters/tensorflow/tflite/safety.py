"""What a TFLite file may hold. The reader is our own: nothing of the file runs, and no offset, size or count is believed."""

from __future__ import annotations

from pathlib import Path

from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.tensorflow.tflite.schema import IDENTIFIER, TABLES
from netferry.converters.trust import flatbuffers, snapshot
from netferry.converters.trust.permit import Looked, Permit

_VERSION = 3


def look(artifact: Artifact, weights: Path | None = None, permit: Permit | None = None) -> Looked:
    """Look into a file.

    Raises:
        RefusedError: it is damaged, or of another version of the format.
    """
    if weights is not None:
        raise UsageError(
            "weights are loaded into Keras models only", where=str(weights), received=artifact.title
        )
    content = snapshot.mapped(artifact.path)
    view, where = content.view(), str(artifact.path)
    if bytes(view[4:8]) != IDENTIFIER:
        raise RefusedError("not a TFLite model", where=where)
    message = flatbuffers.root(TABLES, "Model", view, where)
    if message.version != _VERSION:
        raise RefusedError(
            "a TFLite model of another version of the format",
            where=where,
            expected=_VERSION,
            received=message.version,
        )
    if not message.subgraphs:
        raise RefusedError("it holds no graph", where=where)
    return Looked(permit or Permit(), content=content, message=message)


def look_at_weights(path: Path, permit: Permit) -> Looked:
    raise UsageError("weights are loaded into Keras models only", where=str(path))
