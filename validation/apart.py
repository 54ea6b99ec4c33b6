"""How far two models lie apart on one ordinary input: a figure for a note, no verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.signature import Example
from netferry.inference.binding import bind, rebind
from netferry.validation.comparison import stages
from netferry.validation.pair import paired


def apart(a: object, b: object, given: Sequence[Example] | None, seed: int) -> dict[str, float]:
    """Of each output of floats that both have, the largest difference relative to the scale of ``a``'s."""
    pair = paired(a, b, given, seed, quick=True)
    feed = bind(pair.made.samples[0].arrays, pair.source.signature)
    ours = pair.source.run(feed)
    theirs = pair.target.run(rebind(feed, pair.target.signature))
    found = {}
    for (name, one), other in zip(ours.items(), theirs.values(), strict=False):
        left, right = np.asarray(one), np.asarray(other)
        if left.shape == right.shape and left.dtype.kind == right.dtype.kind == "f":
            found[name] = stages.meaning(right, left)
    return found
