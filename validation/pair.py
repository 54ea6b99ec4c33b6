"""Two models ready to run, and the inputs that both get."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from netferry.converters import frameworks
from netferry.converters.errors import MissingError, NetferryError, RefusedError, UsageError
from netferry.converters.onnx import live
from netferry.converters.signature import Array, Example, Signature
from netferry.inference.run import Runnable, runnable
from netferry.inference.session import Session
from netferry.inference.watched import Watched
from netferry.validation.comparison.truth import Double
from netferry.validation.samples.effort import Weigh, too_heavy, weigher
from netferry.validation.samples.explore import Made, made_for
from netferry.validation.samples.rows import Rows


@dataclass(frozen=True)
class Pair:
    """Two models ready to run, the examples that each was shown, and the inputs that both will get."""

    source: Runnable
    target: Runnable
    shown: tuple[Sequence[Example] | None, Sequence[Example] | None]
    made: Made
    weigh: Weigh


def paired(
    a: object,
    b: object,
    given: Sequence[Example] | None = None,
    seed: int = 0,
    *,
    device: str = "cpu",
    quick: bool = False,
    rows: Rows | None = None,
    graph: object = None,
) -> Pair:
    """Open the source and the target, and make their inputs: a target that declares no sizes is shown the first of them.

    ``graph`` is what the source is as ONNX, where that is at hand: it gives the cost of a run.

    Raises MissingError where onnxruntime has no kernel for one of them.
    """
    source, ours = opened(a, given, "cpu")
    early, theirs = (None, given) if kind(b) == "pytorch" else opened(b, given, device)
    known = [(a, source.signature)]
    known += [(b, early.signature)] if early is not None and kind(b) == "onnx" else []
    weigh = weigher((graph, a, b))
    heavy = too_heavy(weigh, source.signature, 4 * Double(a, ours).size)
    own = weigher((graph, a))  # the target, which may be wrong, does not choose the sizes
    if isinstance(source, Session) and own.is_perilous:
        source = Watched(a, threads=_threads(a))
    made = made_for(
        source, known, given, seed, quick=quick, heavy=heavy, hollow=own.hollow, beyond=own.beyond, rows=rows,
        fixed={} if given is not None or own.planned is None else own.planned.sizes,
    )  # fmt: skip
    if early is not None:
        return Pair(source, early, (ours, theirs), made, weigh)
    target, shown = opened(b, made.shown(), device)
    return Pair(source, target, (ours, shown), made, weigh)


def opened(
    model: object, given: Sequence[Example] | None, device: str
) -> tuple[Runnable, Sequence[Example] | None]:
    """The model ready to run, and the examples that it was shown: one that declares its own inputs needs no part of them.

    Raises MissingError where onnxruntime has no kernel for what is a model all the same.
    """
    try:
        return runnable(model, given, device, threads=_threads(model)), given
    except RefusedError as error:
        if why := no_kernel(error):
            raise MissingError(why) from error
        raise
    except UsageError:
        own = _signature(model)
        if given is None or own is None or len(given) >= len(own.inputs):
            raise
        return runnable(model, None, device, threads=_threads(model)), None


def _threads(model: object) -> int | None:
    """One, where what onnxruntime computes depends on how many threads share the work."""
    return 1 if kind(model) == "onnx" and live.depends_on_threads(model) else None


def _signature(model: object) -> Signature | None:
    """What a model declares of its inputs without examples; None where it declares nothing."""
    try:
        found: Signature = frameworks.of(model).signature(model)
    except NetferryError:
        return None
    return found


_NO_KERNEL = re.compile(
    r"NOT_IMPLEMENTED|Type 'tensor\((?:bfloat16|float8\w*)\)' of input parameter", re.ASCII
)


def no_kernel(error: Exception) -> str:
    """Why onnxruntime cannot run a model that is one all the same: it has no kernel; empty for any other reason."""
    said = str(error)
    return f"it cannot be checked here: {said}" if _NO_KERNEL.search(said) else ""


def kind(model: object) -> str:
    return "onnx" if isinstance(model, str | os.PathLike) else frameworks.of(model).name


def unoptimised(model: object, target: Runnable) -> Runnable | None:
    """The target once more with onnxruntime's optimisations off, on the same device, where it runs there."""
    if not isinstance(target, Session):
        return None
    try:
        return Session(model, target.device, optimize=False, threads=_threads(model))
    except NetferryError:
        return None


def other_path(model: object, source: Runnable) -> Callable[[Mapping[str, Array]], Mapping[str, Array]]:
    """The source along the path that people do not take: onnxruntime without its optimisations, PyTorch without its
    fast path; nothing where there is one path alone."""
    if isinstance(source, Session):
        opened: list[Runnable | None] = []

        def run(feed: Mapping[str, Array]) -> Mapping[str, Array]:
            if not opened:
                opened.append(unoptimised(model, source))
            return {} if opened[0] is None else opened[0].run(feed)

        return run
    otherwise = getattr(frameworks.of(model).live, "run_otherwise", None)
    return lambda feed: (otherwise(model, list(feed.values())) if otherwise is not None else None) or {}
