"""Models run by their own frameworks, and how far apart two results lie: nothing of netferry is used.

(Only ``import_mxnet`` is netferry's: mxnet 1.9.1 needs names that numpy has dropped.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sweep.case import SPECIAL, Array, Feed, Pair, feeds

Run = Callable[[Feed], list[Array]]

MOVED = {"float64": 1e-4, "float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2, "quantised": 1e-4}
"""From which share of its scale an output has moved: a fault; some steps of the dtype where these are coarser."""

AGREES = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-2, "bfloat16": 6e-2, "quantised": 2.5e-2}
"""Up to which share of its scale two honest results lie apart, by the network's precision."""


class RunError(Exception):
    """A framework does not run the model at these inputs."""


def runner(model: Any) -> Run:
    """How a model is run: onnx.ModelProto, nn.Module, Keras model or gluon block."""
    roots = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    for root, make in _RUNNERS.items():
        if root in roots:
            return _guarded(make(model))
    raise TypeError(f"nothing runs a {type(model).__name__}")


def _guarded(run: Run) -> Run:
    def call(feed: Feed) -> list[Array]:
        try:
            return run(feed)
        except Exception as error:
            raise RunError(f"{type(error).__name__}: {str(error)[:200]}") from error

    return call


def _onnx(model: Any) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda feed: session.run(None, dict(zip(names, feed.values(), strict=True)))


def _torch(model: Any) -> Run:
    import torch

    def run(feed: Feed) -> list[Array]:
        tensors = [_tensor(torch, array) for array in feed.values()]
        with torch.no_grad():
            return [_numpy(torch, one) for one in flat(model(*tensors))]

    return run


def _tensor(torch: Any, array: Array) -> Any:
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(array))


def _numpy(torch: Any, tensor: Any) -> Array:
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.float().numpy()).astype("bfloat16")
    return np.asarray(tensor.numpy())


def _keras(model: Any) -> Run:
    import tensorflow as tf

    def run(feed: Feed) -> list[Array]:
        tensors = [tf.convert_to_tensor(array) for array in feed.values()]
        functional = hasattr(
            model, "operations"
        )  # one that has a call of its own takes its inputs one by one
        made = model(tensors, training=False) if functional and len(tensors) > 1 else model(*tensors)
        return [np.asarray(one) for one in flat(made)]

    return run


def _mxnet(model: Any) -> Run:
    from netferry.converters.mxnet.live import import_mxnet

    mx = import_mxnet()

    def run(feed: Feed) -> list[Array]:
        arrays = [mx.nd.array(array, dtype=array.dtype) for array in feed.values()]
        return [one.asnumpy() for one in flat(model(*arrays))]

    return run


_RUNNERS: dict[str, Callable[[Any], Run]] = {
    "onnx": _onnx, "keras": _keras, "torch": _torch, "mxnet": _mxnet,
}  # fmt: skip


def flat(outputs: Any) -> list[Any]:
    """The tensors of nested outputs, in order."""
    if hasattr(outputs, "to_tuple"):
        outputs = outputs.to_tuple()
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, list | tuple):
        return [leaf for one in outputs for leaf in flat(one)]
    return [] if outputs is None else [outputs]


# ---- how far apart -----------------------------------------------------------------------------------


def apart(a: Sequence[Array], b: Sequence[Array], steps: int = 0) -> float:
    """The largest distance of any output, as a share of its scale in ``a``; infinite where form or NaN differ.

    Integers count as wholly apart where they differ by more than ``steps``.
    """
    if len(a) != len(b):
        return float("inf")
    return max((_apart(one, other, steps) for one, other in zip(a, b, strict=True)), default=0.0)


def _apart(a: Array, b: Array, steps: int) -> float:
    if a.shape != b.shape:
        return float("inf")
    if a.size == 0:
        return 0.0
    if a.dtype.kind in "iu" and b.dtype.kind in "iu" and steps:
        return float(np.any(np.abs(a.astype(np.int64) - b.astype(np.int64)) > steps))
    if a.dtype.kind in "biuOSU" or b.dtype.kind in "biuOSU":
        return float(np.any(a != b))
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True) or not np.isfinite(y[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(x[finite]).max())
    error = float(np.abs(x[finite] - y[finite]).max())
    return error / scale if scale > 1e-30 else (0.0 if error < 1e-30 else float("inf"))


def moved(pair: Pair) -> tuple[float, str]:
    """The share of its scale by which the fault moves an output at most, and where: the proof that it is one.

    A sample counts only where the control (the target without its fault) stays with the source, and stays
    behind the fault by a factor of ten. Finite inputs come first: at NaN a fault is told only where it shows nowhere else.
    """
    source, target = runner(pair.source), _lazily(pair.target)
    control = None if pair.control is None else _lazily(pair.control)
    limit, found, runs = MOVED[pair.network.precision], {}, False
    for label, feed in pair.drawn():
        try:
            right = source(feed)
        except RunError:
            continue
        usual = 0.0 if control is None else _distance(label, right, control, feed)
        try:
            share, runs = _share(label, right, target(feed)), True
        except RunError:
            share = float("inf")
        if usual <= limit / 10:
            found[label] = share
    if not runs:
        return 0.0, "the target runs nowhere"
    special = found.pop(SPECIAL, 0.0)
    label = max(found, key=lambda one: found[one], default=SPECIAL)
    share = found.get(label, 0.0)
    if share < limit <= special:
        share, label = special, SPECIAL
    return (share, label) if share >= limit else (0.0, f"moves by {share:.1e}")


def _lazily(model: Any) -> Run:
    """The target, loaded when it first runs: one that its framework does not load is no model."""
    made: list[Run] = []

    def run(feed: Feed) -> list[Array]:
        if not made:
            try:
                made.append(runner(model))
            except Exception as error:
                raise RunError(str(error)[:200]) from error
        return made[0](feed)

    return run


def _distance(label: str, right: Sequence[Array], run: Run, feed: Feed) -> float:
    try:
        return _share(label, right, run(feed))
    except RunError:
        return float("inf")


def agreement(pair: Pair) -> tuple[str, str]:
    """What the frameworks themselves say of an honest pair: agrees, differs, still or unclear.

    Still: it agrees, and an output is empty or the same for all inputs, so that nothing is proved there.
    """
    try:
        source = runner(pair.source)
    except Exception as error:
        return "unclear", f"the source does not load: {str(error)[:200]}"
    target, worst, ran = _lazily(pair.target), (0.0, ""), 0
    limit, steps = AGREES[pair.network.precision], int(pair.network.precision == "quantised")
    movement = _Movement()
    for label, feed in pair.feeds() if pair.feeds else feeds(pair.network, plain=True):
        try:
            right = source(feed)
        except RunError:
            continue
        ran += 1
        limit = max(limit, *(AGREES.get(one.dtype.name, 0.0) for one in right))
        movement.see(right)
        try:
            worst = max(worst, (_agreed(label, right, target(feed), steps), label))
        except RunError as error:
            return "differs", f"the target does not run at {label}: {error}"
    if not ran:
        return "unclear", "the source runs nowhere"
    if worst[0] > limit:
        return "differs", f"by {worst[0]:.1e} of scale at {worst[1]}"
    return ("still" if movement.still else "agrees"), f"{worst[0]:.1e}"


STEEP = ("x 30", "small", "negative")
"""Kinds at which scores saturate or tie: integers made of them may flip there."""


def _share(label: str, a: Sequence[Array], b: Sequence[Array]) -> float:
    """How far apart, by floats alone where integers that stand beside them may flip for a rounding."""
    floats = any(one.dtype.kind not in "biu" for one in a)
    return _agreed(label, a, b, 0) if floats else apart(a, b)


def _agreed(label: str, a: Sequence[Array], b: Sequence[Array], steps: int) -> float:
    if label.startswith(STEEP) and len(a) == len(b):
        kept = [place for place, one in enumerate(a) if one.dtype.kind not in "biu"]
        return apart([a[place] for place in kept], [b[place] for place in kept], steps)
    return apart(a, b, steps)


class _Movement:
    """Which outputs are ever other than before at the same sizes."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, tuple[int, ...]], Array] = {}
        self._moved: dict[int, bool] = {}

    def see(self, outputs: Sequence[Array]) -> None:
        for place, one in enumerate(outputs):
            before = self._seen.setdefault((place, one.shape), one)
            self._moved[place] = self._moved.get(place, False) or apart([before], [one]) > 0

    @property
    def still(self) -> bool:
        return not all(self._moved.values())
