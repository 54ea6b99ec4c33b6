"""What MXNet's files may hold. The readers here are our own: they take nothing before it is known to be there."""

from __future__ import annotations

from pathlib import Path

from netferry.converters.artifact import Artifact
from netferry.converters.trust import snapshot, texts
from netferry.converters.trust.permit import Looked, Permit


def look(artifact: Artifact, weights: Path | None = None, permit: Permit | None = None) -> Looked:
    """Look into a symbol; the params file that is read with it is opened here, and read where it is by our own reader."""
    content = snapshot.mapped(artifact.path)
    document = texts.document(content.read(), str(artifact.path))
    given = [weights] if weights is not None else artifact.companions[-1:]
    params = [Looked(content=snapshot.mapped(path)) for path in given]
    return Looked(permit or Permit(), content, document, weights=next(iter(params), None))


def look_at_weights(path: Path, permit: Permit) -> Looked:
    """A params file, or the archive of numpy's that MXNet 2 writes, for MXNet to read."""
    return Looked(permit, content=snapshot.take(path))
