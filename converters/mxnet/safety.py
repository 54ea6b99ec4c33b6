"""What MXNet's files may hold. The readers here are our own: they take nothing before it is known to be there."""

from __future__ import annotations

from pathlib import Path

from netferry.converters.artifact import Artifact
from netferry.converters.trust import paths, texts, zips
from netferry.converters.trust.permit import Looked, Permit


def look(artifact: Artifact, weights: Path | None = None, permit: Permit | None = None) -> Looked:
    """Look into a symbol and the params file that will be read with it."""
    texts.document(paths.regular(artifact.path).read_bytes(), str(artifact.path))
    for path in [weights] if weights is not None else artifact.companions[-1:]:
        look_at_weights(path, permit or Permit())
    return Looked(permit or Permit())


def look_at_weights(path: Path, permit: Permit) -> None:
    """Look at a params file, or the archive of numpy's that MXNet 2 writes."""
    with paths.regular(path).open("rb") as file:
        head = file.read(4)
    if head.startswith(b"PK"):
        zips.look(path, str(path))
