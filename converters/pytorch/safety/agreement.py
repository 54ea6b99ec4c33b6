"""Whether the tensors of an exported program fit the operators whose kernels trust them.

What a file says of the sizes inside it is a claim. Where such an operator occurs, the program is run once without numbers: its weights with the
sizes that they have, its inputs with those that it asks for. Everything between is PyTorch's own inference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import statically_known_true

from netferry.converters.errors import RefusedError, first_line


class _Disagree(Exception):  # noqa: N818 - reported as a refusal
    """Two tensors that do not fit, as a sentence."""


def check(program: ExportedProgram, where: str) -> None:
    """Refuse a program whose tensors do not fit its operators.

    Raises:
        RefusedError: with the operator's name.
    """
    graphs = [module for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    trusting = {_name(node.target) for module in graphs for node in module.graph.nodes} & _RULES.keys()
    if not trusting:
        return
    try:
        for more in (0, 3):
            with FakeTensorMode():  # what the program makes by itself has no numbers either
                values = _values(program, more)
                try:
                    _Sizes(program.graph_module).run(*values)
                except Exception as error:
                    if not more or isinstance(error, _Disagree):  # at other sizes it need not run
                        raise
    except Exception as error:  # PyTorch's inference raises whatever an operator does
        raise RefusedError(
            f"its tensors do not fit its operators ({first_line(error)})",
            where=where,
            expected=f"sizes that agree, for {', '.join(sorted(trusting))}",
        ) from error


def _name(target: object) -> str:
    return target._opname if isinstance(target, torch._ops.OpOverload) else ""


def _values(program: ExportedProgram, more: int) -> list[Any]:
    """What stands for the inputs of the graph: no numbers, the sizes of the weights that were read, and free sizes as in
    the example, each ``more`` and its position larger."""
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    held = {**program.constants, **program.state_dict}
    names = {
        spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target is not None
    }
    free: dict[str, int] = {}

    def number(size: Any) -> int:
        if not isinstance(size, torch.SymInt):
            return int(size)
        own = size.node.hint if size.node.hint is not None else 2
        return int(own) + (free.setdefault(str(size), more + len(free)) if more else 0)

    def without_numbers(node: torch.fx.Node) -> Any:
        own = held.get(names.get(node.name, ""))
        value = node.meta.get("val") if own is None else own
        if not isinstance(value, torch.Tensor):
            return number(value) if isinstance(value, torch.SymInt) else value
        return torch.empty([number(size) for size in value.shape], dtype=value.dtype)

    return [without_numbers(node) for node in nodes]


class _Sizes(torch.fx.Interpreter):
    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        rule = _RULES.get(_name(target))
        if rule is not None:
            try:
                rule(*args, **kwargs)
            except _Disagree as error:
                raise _Disagree(f"{target}: {error}") from None
        if isinstance(target, torch._ops.HigherOrderOperator) and rule is None:
            inner = [each for each in args if isinstance(each, torch.fx.GraphModule)]
            if any(_name(node.target) in _RULES for module in inner for node in module.graph.nodes):
                raise _Disagree(f"{target}: sizes inside a branch or a loop are not known")
        return super().call_function(target, args, kwargs)


def _demand_same(a: Any, b: Any, what: str) -> None:
    if not statically_known_true(a == b):
        raise _Disagree(f"{what}: {a} and {b}")


def _normalized(given: Any, *tensors: Any, **_: Any) -> None:
    """Weight, bias, mean and variance (channels,) of a batch normalisation of (batch, channels, ...)."""
    if given.dim() < 2:
        raise _Disagree("no axis of channels")
    for each in tensors[:4]:
        if isinstance(each, torch.Tensor):
            _demand_same(each.dim(), 1, "axes")
            _demand_same(each.size(0), given.size(1), "channels")
            if each.dtype not in (given.dtype, torch.float32):
                raise _Disagree(f"dtypes: {given.dtype} and {each.dtype}")


def _attention(query: Any, key: Any, value: Any, *more: Any, **named: Any) -> None:
    """Query (..., queries, width), key and value (..., keys, width), a mask that spreads over (..., queries, keys)."""
    mask = named.get("attn_mask", more[0] if more and isinstance(more[0], torch.Tensor) else None)
    grouped = named.get("enable_gqa", False)
    for axis in range(query.dim()):
        if not grouped or axis != query.dim() - 3:
            _demand_same(
                key.size(axis), value.size(axis), "keys and values"
            ) if axis != query.dim() - 1 else None
        if axis < query.dim() - 2 and not grouped:
            _demand_same(query.size(axis), key.size(axis), "batches or heads")
    _demand_same(query.size(-1), key.size(-1), "widths")
    if isinstance(mask, torch.Tensor):
        for axis, size in ((-1, key.size(-2)), (-2, query.size(-2))):
            if mask.dim() >= -axis and not statically_known_true(mask.size(axis) == 1):
                _demand_same(mask.size(axis), size, "the mask")


def _scaled(direction: Any, length: Any, dim: int = 0) -> None:
    """A weight as its direction and a length for each row or column."""
    if dim not in (0, direction.dim() - 1):
        raise _Disagree(f"axis {dim} of {direction.dim()}")
    _demand_same(length.numel(), direction.size(dim), "lengths")


def _recurrent(gates: int) -> Callable[..., None]:
    """Of a layer in each direction: weights (gates * hidden, inputs) and (gates * hidden, outputs), two biases, a projection."""

    def rule(given: Any, *rest: Any) -> None:
        packed = (
            isinstance(rest[0], torch.Tensor)
            and not isinstance(rest[1], bool)
            and isinstance(rest[2], list | tuple)
        )
        batch = None if packed else given.size(given.dim() - 2 if rest[-1] is False else 0)
        states, weights, biased, layers = rest[1:5] if packed else rest[:4]
        directions = 2 if rest[7 if packed else 6] else 1
        states = states if isinstance(states, list | tuple) else [states]
        per, rows = 4 if biased else 2, layers * directions
        projected = len(weights) == rows * (per + 1) and gates == 4
        per += projected
        _demand_same(len(weights), rows * per, "weights")
        _demand_same(len(states), 2 if gates == 4 else 1, "states")
        size, width = weights[1].size(0), weights[1].size(1)
        for row in range(rows):
            own = weights[row * per : (row + 1) * per]
            inputs = given.size(-1) if row < directions else directions * width
            expected = [(size, inputs), (size, width), *([(size,)] * 2 if biased else [])]
            expected += [(width, size // gates)] if projected else []
            for each, sizes in zip(own, expected, strict=True):
                _demand_sizes(each, sizes, "a weight")
        if not projected:
            _demand_same(size, gates * width, "gates")
        for state, wide in zip(states, (width, size // gates), strict=False):
            _demand_sizes(state, (rows, state.size(1) if batch is None else batch, wide), "a state")

    return rule


def _demand_sizes(tensor: Any, sizes: tuple[Any, ...], what: str) -> None:
    _demand_same(tensor.dim(), len(sizes), f"axes of {what}")
    for axis, size in enumerate(sizes):
        _demand_same(tensor.size(axis), size, f"{what}, axis {axis}")


_RULES: Mapping[str, Callable[..., None]] = {
    "_native_batch_norm_legit_no_training": _normalized,
    "scaled_dot_product_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_weight_norm_interface": _scaled,
    "_weight_norm": _scaled,
    "lstm": _recurrent(4),
    "gru": _recurrent(3),
    "rnn_tanh": _recurrent(1),
    "rnn_relu": _recurrent(1),
}
"""Operators whose kernels were found to read beside tensors that do not fit them."""
