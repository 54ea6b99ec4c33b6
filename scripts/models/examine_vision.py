"""What becomes of a model of the vision and audio libraries: right at several sizes, unharmed, and back in PyTorch and Keras."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from models.difference import difference
from models.families_vision import Case, build


def examined(key: str, back_to: tuple[str, ...] = ()) -> dict[str, Any]:
    """What becomes of ``library/model``; ``back_to`` names frameworks that its ONNX model is then imported into."""
    from netferry.converters import size_bounds
    from netferry.converters.errors import NetferryError

    try:
        case = build(key)
        want = own(case.model, case.inputs)
        free = _free_sizes(case)
    except Exception as error:
        return {"status": "not built", "why": short(error)}
    made: dict[str, Any] = {"model": type(case.model).__name__, "free": free}
    before, started = _state(case.model), time.process_time()
    try:
        done = _converted(case, free)
    except NetferryError as error:
        return {**made, "status": "refused", "why": short(error)}
    except Exception as error:
        return {**made, "status": "crashed", "why": short(error)}
    made |= {"seconds": round(time.process_time() - started, 2), "route": done.route}
    if harm := _harm(case, before, want):
        return {**made, "status": "wrong", "why": f"the model itself has changed: {harm}"}
    bounds = size_bounds.of_metadata({entry.key: entry.value for entry in done.model.metadata_props})
    made["bounds"] = list(bounds)
    wrong = compared(_in_onnxruntime(done.model), case, bounds)
    made |= {framework: _back(done.model, framework, case, bounds) for framework in back_to}
    return {**made, "status": "wrong", "why": wrong} if wrong else {**made, "status": "right"}


def _converted(case: Case, free: list[str]) -> Any:
    import netferry

    dynamic = {
        name: {axis: symbol for axis, symbol in axes.items() if symbol in free}
        for name, axes in case.free.items()
    }
    asked: Any = {name: axes for name, axes in dynamic.items() if axes}
    return netferry.convert(case.model, "onnx", verify=False, inputs=case.inputs, dynamic=asked)


def _free_sizes(case: Case) -> list[str]:
    """The sizes that the model itself takes otherwise."""
    symbols = dict.fromkeys(symbol for axes in case.free.values() for symbol in axes.values())
    return [
        symbol
        for symbol in symbols
        if any(_runs(case, {symbol: at[symbol]}) for at in case.others if symbol in at)
    ]


def _runs(case: Case, sizes: Mapping[str, int]) -> bool:
    try:
        own(case.model, case.at(sizes))
    except Exception:
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
    run: Callable[[Mapping[str, Any]], Mapping[str, Any]], case: Case, bounds: tuple[str, ...]
) -> str:
    """Where what runs is not the model, at the sizes of the export and at others within the bounds; "" where it is."""
    from netferry.converters import size_bounds

    for sizes in ({}, *case.others):
        if not size_bounds.hold(bounds, {**case.shown, **sizes}):
            continue
        feeds = case.at(sizes)
        try:
            want = own(case.model, feeds)
        except Exception:  # the model itself takes no such sizes
            continue
        try:
            got = run(feeds)
        except Exception as error:
            return f"at {sizes or 'its own sizes'}: {short(error)}"
        for name, array in want.items():
            if found := difference(got.get(name), array):
                return f"at {sizes or 'its own sizes'}, {name}: {found}"
    return ""


def _in_onnxruntime(proto: Any) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
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
    try:
        again = own(case.model, case.inputs)
    except Exception as error:
        return short(error)
    found += [name for name in want if difference(again.get(name), want[name])]
    return ", ".join(found)


def short(error: object) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:420]
