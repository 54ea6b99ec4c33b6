"""Where an error arises: how far each tensor inside the source is from its counterpart in the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netferry.converters.signature import Example
from netferry.inference.binding import bind
from netferry.validation.correspond import Trace, arranged, pairs
from netferry.validation.verify import paired

AT_ONCE = 1 << 25
"""Elements of the source's tensors that are held at a time: the models run again for each such share."""


def profile(
    a: object, b: object, given: Sequence[Example] | None = None, *, seed: int = 0
) -> tuple[tuple[str, float], ...]:
    """The source's tensors in order of execution, each with its largest error relative to its own scale.

    ``a`` (the source) and ``b`` (the target) are models in memory, run on the first of the inputs that are made. A
    tensor's counterpart is the one that holds the same values, else the one that the layer of the same weights gives;
    a tensor without one (what only one side computes) is left out, and so are integers.
    """
    pair = paired(a, b, given, seed, quick=True)
    arrays = bind(pair.made.samples[0].arrays, pair.source.signature)
    left = Trace(a, list(arrays.values())).run()
    right = Trace(b, list(bind(list(arrays.values()), pair.target.signature).values())).run()
    known = dict(zip(left.ends.inputs, right.ends.inputs, strict=False))
    found = pairs(left, right, known)
    found |= _by_layer(left, right, found)
    made = (name for step in left.steps for name in step.gives if name in found)
    names = [name for name in made if left.digests[name].dtype.startswith(_FLOATS)]
    return tuple(row for share in _shares(names, left) for row in _errors(share, found, left, right))


_FLOATS = ("float", "bfloat")


def _by_layer(left: Trace, right: Trace, found: dict[str, str]) -> dict[str, str]:
    """Tensors that no tensor of the target equals, beside what the layer with the same weights gives there."""
    made: dict[tuple[str, int], str] = {}
    for name in (n for step in right.steps for n in step.gives if n in right.digests):
        for owner in right.owners(name):
            made.setdefault((owner, right.digests[name].size), name)
    rest = (n for step in left.steps for n in step.gives if n in left.digests and n not in found)
    places = ((name, (owner, left.digests[name].size)) for name in rest for owner in left.owners(name))
    return {name: made[place] for name, place in places if place in made}


def _shares(names: Sequence[str], left: Trace) -> Iterator[list[str]]:
    share: list[str] = []
    held = 0
    for name in names:
        size = left.digests[name].size
        if share and held + size > AT_ONCE:
            yield share
            share, held = [], 0
        share.append(name)
        held += size
    if share:
        yield share


def _errors(
    names: Sequence[str], found: dict[str, str], left: Trace, right: Trace
) -> Iterator[tuple[str, float]]:
    ours, theirs = left.read(names), right.read([found[name] for name in names])
    for name in names:
        result = arranged(ours[name], theirs[found[name]], layouts=True).comparison
        if result.max_rel is not None:
            yield name, result.max_rel
