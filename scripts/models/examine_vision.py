"""What becomes of a model of the vision and audio libraries: right at several sizes, unharmed, and back in PyTorch and Keras."""

from __future__ import annotations

import copy
import hashlib
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from models.difference import TOLERANCE, astray, difference
from models.families_vision import Case, build


def examined(key: str, back_to: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """What becomes of ``library/model``, step by step; ``back_to`` names frameworks that its ONNX model is then imported into.

    What a step gives takes the place of what the steps before said of the same, so that one that does not end leaves a word.
    """
    import netferry
    from netferry.converters import size_bounds
    from netferry.converters.errors import NetferryError

    yield {"status": "not built", "why": "no end of building and running the model itself"}
    try:
        case = build(key)
        want = own(case.own, case.inputs)
        free = free_sizes(case)
    except Exception as error:
        yield {"status": "not built", "why": short(error)}
        return
    yield {
        "model": type(case.model).__name__,
        "free": free,
        "status": "crashed",
        "why": "no end of the conversion",
    }
    before, started = _state(case.model), time.process_time()
    try:
        done = netferry.convert(
            case.model, "onnx", verify=False, inputs=case.inputs, dynamic=free_axes(case, free)
        )
    except NetferryError as error:
        yield {"status": "refused", "why": short(error)}
        return
    except Exception as error:
        yield {"status": "crashed", "why": short(error)}
        return
    yield {"seconds": round(time.process_time() - started, 2), "route": done.route}
    bounds = size_bounds.of_metadata({entry.key: entry.value for entry in done.model.metadata_props})
    yield {"bounds": list(bounds), "why": "no end of running the ONNX model"}
    harm, ranked = _harm(case, before, want), set[str]()
    try:
        wrong = compared(in_onnxruntime(done.model), case, bounds, ranked)
    except Exception as error:
        wrong = f"onnxruntime refuses it: {short(error)}"
    if harm:
        wrong = f"the model itself has changed: {harm}"
    yield {"status": "wrong" if wrong else "right", "why": wrong}
    if ranked:
        yield {
            "note": f"but for the order of {', '.join(sorted(ranked))}, which rounding decides in the model itself too"
        }
    for framework in back_to:
        yield {framework: "no end of the import"}
        yield {framework: _back(done.model, framework, case, bounds)}


def free_axes(case: Case, free: Collection[str]) -> dict[str, dict[int, str]]:
    """The axes of each input that are to be free."""
    named = {
        name: {axis: symbol for axis, symbol in axes.items() if symbol in free}
        for name, axes in case.free.items()
    }
    return {name: axes for name, axes in named.items() if axes}


def free_sizes(case: Case) -> list[str]:
    """The sizes that the model itself takes otherwise."""
    symbols = dict.fromkeys(symbol for axes in case.free.values() for symbol in axes.values())
    return [
        symbol
        for symbol in symbols
        if any(_runs(case, {symbol: at[symbol]}) for at in case.others if symbol in at)
    ]


def _runs(case: Case, sizes: Mapping[str, int]) -> bool:
    try:
        own(case.own, case.at(sizes))
    except Exception:  # whatever a model raises at sizes that it does not take
        return False
    return True


def own(model: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """What the model itself gives."""
    import torch

    from netferry.converters.pytorch.outputs import named_outputs

    def tensor(value: Any) -> Any:
        return [tensor(one) for one in value] if isinstance(value, list) else torch.from_numpy(value)

    with torch.no_grad():
        result = model(*map(tensor, feeds.values()))
    return {name: value.numpy() for name, value in named_outputs(result).items()}


def compared(
    run: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    case: Case,
    bounds: tuple[str, ...],
    ranked: set[str] | None = None,
) -> str:
    """Where what runs is not the model, at the sizes of the export and at others within the bounds; "" where it is.

    Outputs whose order rounding decides are added to ``ranked``.
    """
    from netferry.converters import size_bounds

    for sizes in ({}, *case.others):
        if not size_bounds.hold(bounds, {**case.shown, **sizes}):
            continue
        feeds = case.at(sizes)
        try:
            want = own(case.own, feeds)
        except Exception:  # the model itself takes no such sizes
            continue
        try:
            got = run(feeds)
        except Exception as error:
            return f"at {sizes or 'its own sizes'}: {short(error)}"
        off = {
            name: found for name in want if (found := difference(got.get(name), want[name], case.tolerance))
        }
        if off and _as_rounding_decides(case, feeds, want, got, off):
            (set() if ranked is None else ranked).update(off)
        elif off:
            return "; ".join(f"at {sizes or 'its own sizes'}, {name}: {found}" for name, found in off.items())
    return ""


def _as_rounding_decides(
    case: Case,
    feeds: Mapping[str, Any],
    want: Mapping[str, Any],
    got: Mapping[str, Any],
    off: Mapping[str, str],
) -> bool:
    """Whether no more rows differ than in the model itself, computed more exactly or from numbers some last bits away.

    Detectors keep what scores best; of scores that are all but equal, rounding decides which come first, and which last.
    """
    if any(got.get(name) is None or got[name].shape != want[name].shape for name in off):
        return False
    if _swapped_where_alike(got, want, off):
        return True
    others = [own(_with_jitter(case.own, seed), _each(partial(_jittered, seed), feeds)) for seed in range(3)]
    with suppress(Exception):  # not every model's code knows float64
        others.append(own(copy.deepcopy(case.own).double(), _each(lambda x: x.astype("float64"), feeds)))
    for name in off:
        itself = max(_share_astray(other[name], want[name]) for other in others)
        if itself == 0 or _share_astray(got[name], want[name]) > 1.5 * itself + 0.01:
            return False
    return True


def _swapped_where_alike(got: Mapping[str, Any], want: Mapping[str, Any], off: Mapping[str, str]) -> bool:
    """Whether what is found is what the model finds, but for the order of some whose scores are one to a few last bits."""
    import numpy as np

    count = want[next(iter(off))].shape[:1]
    found = {name: array for name, array in want.items() if array.shape[:1] == count}
    scores = [array for array in found.values() if array.ndim == 1 and array.dtype.kind == "f"]
    if not count or not count[0] or not off.keys() <= found.keys() or not scores:
        return False

    def rows(outputs: Mapping[str, Any]) -> Any:
        flat = {name: np.asarray(outputs[name], np.float64).reshape(count[0], -1) for name in found}
        return np.concatenate([flat[name] / (np.abs(found[name]).max() or 1) for name in found], 1)

    a, b = rows(got), rows(want)
    places = [int(np.abs(b - row).max(1).argmin()) for row in a]
    alike = any(np.abs(one[places] - one).max() <= 1e-6 * np.abs(one).max() for one in scores)
    return alike and np.abs(b[places] - a).max() <= TOLERANCE and not astray(b, a)


def _share_astray(a: Any, b: Any) -> float:
    if not difference(a, b):
        return 0.0
    return max(astray(a, b), astray(b, a), 1e-6) if a.shape == b.shape else 1.0


def _with_jitter(model: Any, seed: int) -> Any:
    """The model with weights some last bits away."""
    import torch

    twin = copy.deepcopy(model)
    with torch.no_grad():
        for weight in twin.parameters():
            if weight.dtype == torch.float32:
                weight.copy_(torch.from_numpy(_jittered(seed, weight.numpy())))
    return twin


def _jittered(seed: int, x: Any) -> Any:
    """One last bit away, four, or sixteen: the order of long sums makes as much."""
    import numpy as np

    signs = np.random.default_rng(seed).choice([-1.0, 1.0], x.shape)
    return (x * (1 + np.finfo(x.dtype).eps * 4**seed * signs)).astype(x.dtype)


def _each(change: Callable[[Any], Any], feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs, those of floats changed."""

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(one) for one in value]
        return change(value) if value.dtype.kind == "f" else value

    return {name: changed(value) for name, value in feeds.items()}


def in_onnxruntime(model: Any) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    source = model if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    return lambda feeds: dict(zip(outputs, session.run(None, _by_name(feeds, names)), strict=True))


def _by_name(feeds: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """The arrays under the names that a converted model has for them, lists one by one."""
    if set(names) <= {name for name, value in feeds.items() if not isinstance(value, list)}:
        return {name: feeds[name] for name in names}
    flat = [one for value in feeds.values() for one in (value if isinstance(value, list) else [value])]
    return dict(zip(names, flat, strict=True))


def _back(proto: Any, framework: str, case: Case, bounds: tuple[str, ...]) -> str:
    """Whether the ONNX model is right in another framework: "right", or why not."""
    import netferry
    from netferry.converters import frameworks

    try:
        model = netferry.convert(proto, framework, verify=False).model
        live = frameworks.of(model).live
        names = [one.name for one in proto.graph.input]
        found = compared(lambda feeds: live.run(model, list(_by_name(feeds, names).values())), case, bounds)
    except Exception as error:
        return short(error)
    return found or "right"


def _state(model: Any) -> Any:
    """All that a conversion must leave as it was."""
    import numpy as np
    import torch

    weights = {
        name: hashlib.sha256(
            tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        ).hexdigest()
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, torch.Tensor) and tensor.numel()
    }
    attributes = {
        name: {key: _described(value) for key, value in vars(part).items() if key != "_modules"}
        for name, part in model.named_modules()
    }
    numbers = torch.get_rng_state().tolist(), random.getstate()[1], np.random.get_state()[1].tolist()
    return weights, attributes, numbers


def _described(value: Any, depth: int = 0) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return type(value).__name__, tuple(value.shape), str(value.dtype), value.requires_grad, id(value)
    if isinstance(value, dict) and depth < 3:
        return {str(key): _described(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple) and depth < 3:
        return [_described(one, depth + 1) for one in value]
    return value if isinstance(value, int | float | str | bool | None) else type(value).__name__


def _harm(case: Case, before: Any, want: Mapping[str, Any]) -> str:
    names = ("its weights", "its attributes", "random numbers")
    after = _state(case.model)
    found = [name for name, a, b in zip(names, before, after, strict=True) if a != b]
    if case.model.training:  # to run it would change it
        return ", ".join(found)
    try:
        again = own(case.model, case.inputs)
    except Exception as error:
        return short(error)
    found += [name for name in want if difference(again.get(name), want[name])]
    return ", ".join(found)


def short(error: object) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:600]
