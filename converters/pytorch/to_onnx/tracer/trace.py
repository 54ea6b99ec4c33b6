"""Our own trace of a module: which layers and functions it calls, with sizes kept symbolic.

``forward`` runs once over fake tensors (dtype and sizes, no content) under a ``TorchFunctionMode``. Layers that
the caller has a row for are kept whole, all others are entered. What comes out is a plain list of calls with no
ONNX in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.errors import first_line
from netferry.converters.pytorch.live import device_of, layer_by_layer
from netferry.converters.pytorch.outputs import outputs_of
from netferry.converters.pytorch.to_onnx.tracer.assertions import Unknown
from netferry.converters.pytorch.to_onnx.tracer.calls import Call, Trace, Value, leaves_of
from netferry.converters.pytorch.to_onnx.tracer.fake_tensors import without_compilers
from netferry.converters.pytorch.to_onnx.tracer.patching import ONE_AT_A_TIME, left_as_it_was, stand_ins
from netferry.converters.pytorch.to_onnx.tracer.recorder import Recorder
from netferry.converters.pytorch.to_onnx.tracer.sizes import line_of
from netferry.converters.pytorch.to_onnx.tracer.untraceable import (
    Complex,
    Stateful,
    Untraceable,
)
from netferry.converters.signature import Example


def trace(
    module: nn.Module,
    given: Sequence[Example],
    leaves: Container[type[nn.Module]],
    at: Mapping[str, int] | None = None,
    rows: Container[Any] = (),
) -> Trace:
    """Run ``module`` over fake tensors shaped as ``given``; layers whose class is in ``leaves`` stay whole.

    So do functions in ``rows``; others that PyTorch has written in Python are entered. Where the code branches on free sizes, it goes the way of ``at``, else that of the examples.
    """
    recorder = Recorder(module, leaves, rows)
    inputs = recorder.inputs(given, device_of(module), at or {})
    values = tuple(map(recorder.value, inputs))
    try:
        with (
            ONE_AT_A_TIME,
            without_compilers(),
            layer_by_layer(module),
            stand_ins(recorder, module),  # sizes can be keys within, also when dicts are put back
            left_as_it_was(module, recorder.stands_for),
            recorder,
        ):
            result = module(*inputs)
    except Untraceable:
        raise
    except Exception as error:
        if recorder.looks is not None:  # what has come of it may be anything
            raise recorder.looks.refuse() from error
        problem = Untraceable(f"{type(error).__name__}: {first_line(error)}", users_line_of(error))
        problem.narrowings, problem.hints = tuple(recorder.sizes.narrowings), recorder.sizes.hints
        raise problem from error
    for unknown in leaves_of(result, Unknown):
        raise unknown.refuse()
    outputs = {name: recorder.value(tensor) for name, tensor in outputs_of(module, result).items()}
    if odd := [name for name, value in outputs.items() if value.dtype.is_complex]:
        raise Complex(f"the output '{odd[0]}' is complex, which ONNX's operators do not take")
    calls = tuple(_needed(recorder.calls, outputs.values()))
    _demand_unread(calls)
    return Trace(
        values,
        outputs,
        calls,
        tuple(recorder.sizes.narrowings),
        recorder.sizes.hints,
        tuple(recorder.left_out),
        recorder.sizes.defined,
    )


def _demand_unread(calls: Sequence[Call]) -> None:
    """Refuse code that normalises a batch by itself and reads the statistics that this has changed: none are changed here."""
    changed: set[int] = set()
    for call in calls:
        by_itself: dict[str, Any] = {}
        if call.target is F.batch_norm:
            given = inspect.signature(F.batch_norm).bind(*call.args, **call.kwargs).arguments
            by_itself = given if given.get("training") else {}
        own = {id(by_itself[name].data) for name in _STATISTICS if by_itself.get(name) is not None}
        if changed:
            read = {id(value.data) for value in leaves_of((call.args, call.kwargs), Value)} - own
            read |= {id(getattr(call.module, name, None)) for name in _STATISTICS} - {id(None)}
            if changed & read:
                raise Stateful("the code reads statistics that a batch_norm in training has changed")
        changed |= own


_STATISTICS = "running_mean", "running_var"


def users_line_of(error: BaseException) -> str | None:
    """The user's line in an error's traceback, if it passes through one."""
    lines = []
    traceback = error.__traceback__
    while traceback is not None:
        lines.append(line_of(traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return next((line for line in reversed(lines) if line), None)


def _needed(calls: Sequence[Call], outputs: Any) -> list[Call]:
    """The calls that the outputs depend on, in order."""
    wanted = set(map(id, outputs))
    kept: list[Call] = []
    for call in reversed(calls):
        if any(id(value) in wanted for value in leaves_of(call.result, Value)):
            kept.append(call)
            wanted.update(map(id, leaves_of((call.args, call.kwargs), Value)))
    return kept[::-1]
