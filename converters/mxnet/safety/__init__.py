"""What MXNet's files may hold. The readers here are our own: they take nothing before it is known to be there."""

from __future__ import annotations

from pathlib import Path

from netferry.converters import checkpoints
from netferry.converters.artifact import Artifact
from netferry.converters.mxnet import packages
from netferry.converters.trust import snapshot, texts
from netferry.converters.trust.permit import Looked, Permit

UNLISTED = "operators that are on no list"


def look(artifact: Artifact, weights: Path | None = None, permit: Permit | None = None) -> Looked:
    """Look into a symbol, or an archive with one; the params that are read with it are opened here, and read where they are
    by our own reader. ``weights`` may be the number of an epoch. Of params without a symbol the document is None."""
    permit = permit or Permit()
    if weights is not None and weights.name.isdigit() and not weights.exists():
        weights = checkpoints.at_epoch(artifact.path, weights.name)
    package = packages.look(artifact.path)
    content = snapshot.mapped(artifact.path) if package is None else package.symbol
    bare = artifact.companions == (artifact.path,)
    document = None if bare else texts.document(content.read(), content.where)
    if weights is not None:
        params = [snapshot.mapped(weights)]
    elif package is not None:
        params = list(package.params)
    else:
        params = [snapshot.mapped(path) for path in (*artifact.companions[-1:], *artifact.also)]
    looked: Looked | None = None
    for each in reversed(params):
        looked = Looked(content=each, weights=looked)
    return Looked(permit, content, document, {} if package is None else package.sizes, weights=looked)


def look_at_weights(path: Path, permit: Permit) -> Looked:
    """A params file, or the archive of numpy's that MXNet 2 writes, for MXNet to read."""
    return Looked(permit, content=snapshot.take(path))
