"""Training an MXNet model: its symbol, bound with gradients, and MXNet's own optimizers.

A block's symbol is bound over copies of its parameters, so that the block itself does not move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from netferry.converters.errors import UsageError
from netferry.converters.mxnet import inputs as kinds_of
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.live import import_mxnet, labels, loaded, output_names, traced
from netferry.converters.mxnet.symbol import Symbol
from netferry.converters.signature import Array
from netferry.converters.training import (
    BETAS,
    IN_TRAINING,
    Batch,
    Gradients,
    Loss,
    Optimizer,
    Step,
    first_fault,
)

OWN_LOSS = frozenset(
    "SoftmaxOutput LinearRegressionOutput LogisticRegressionOutput MAERegressionOutput SVMOutput make_loss".split()
)
"""Operators whose gradient is that of a loss of their own, whatever follows them."""

DROPPED: Mapping[str, str] = {"Dropout": "p", "RNN": "p", "_npx_dropout": "p", "_npx_rnn": "p"}
"""The attribute that says how much an operator drops while it trains."""


class Training:
    """A symbol bound for training, its dropout set to nothing."""

    fixed = ""

    def __init__(self, model: Any, inputs: int) -> None:
        mx = import_mxnet()
        whole = model if isinstance(model, SymbolModel) else traced(model, inputs)
        whole = kinds_of.with_zero_states(whole, inputs)
        _demand_free_loss(whole)
        self.source = replace(whole, graph=_without_dropout(whole.graph))
        self.symbol = loaded(mx, self.source)
        known = kinds_of.variables(self.source)
        nodes = self.source.graph.nodes
        self._inputs = [nodes[position].name for position in known.inputs]
        self._labels = {nodes[position].name for position in known.labels}
        self._names = output_names(mx, self.source)
        self._states = set(self.symbol.list_auxiliary_states())
        self._arrays = {name: _lifted(mx, array) for name, array in self.source.params.items()}
        self._slopes = {
            name: mx.nd.zeros_like(a) for name, a in self._arrays.items() if name not in self._states
        }
        self._bound: dict[Any, Any] = {}
        self.weights, self.statistics = self.current()
        frozen = _constants(self.source.graph) | _without_gradient(model)
        self.trainable = {name: name not in frozen for name in self.weights}
        self.one_by_one = bool(self.statistics)
        self.notes = ("MXNet's BatchNorm keeps the biased variance",) if self.statistics else ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bound.clear()

    def current(self) -> tuple[dict[str, Array], dict[str, Array]]:
        arrays = {n: a.asnumpy() for n, a in self._arrays.items() if np.dtype(a.dtype).kind == "f"}
        return (
            {name: array for name, array in arrays.items() if name not in self._states},
            {name: array for name, array in arrays.items() if name in self._states},
        )

    def reset(self) -> None:
        for name, array in self._arrays.items():
            array[:] = _lifted(import_mxnet(), self.source.params[name])

    def holding(self, values: Mapping[str, Array]) -> Any:
        return replace(self.source, params={**self.source.params, **values})

    def outputs(self, inputs: Sequence[Array]) -> dict[str, Array]:
        return self._named(self._forward(inputs)[1])

    def gradients(self, batch: Batch, loss: Loss) -> Gradients:
        slopes, outputs = self._backward(batch, loss)
        return Gradients(
            self._named(outputs),
            {name: self._slopes[name].asnumpy() for name, trained in self.trainable.items() if trained},
            tuple(slopes[name].asnumpy() if name in slopes else None for name in self._inputs),
        )

    def stepper(self, optimizer: Optimizer, loss: Loss, held: Mapping[str, Array]) -> Step:
        mx = import_mxnet()
        native = _native(mx, optimizer)
        update = mx.optimizer.get_updater(native)
        alive = [name for name, trained in self.trainable.items() if trained]
        factors = {n: _lifted(mx, factor.astype(self._arrays[n].dtype)) for n, factor in held.items()}

        def step(batch: Batch) -> Mapping[str, Array]:
            _, outputs = self._backward(batch, loss)
            named = self._named(outputs)
            native.epsilon = optimizer.epsilon_hat(native.num_update + 1)
            for position, name in enumerate(alive):
                slope = self._slopes[name]
                update(position, slope * factors[name] if name in factors else slope, self._arrays[name])
            return named

        return step

    # ---- binding ---------------------------------------------------------------------------------

    def _backward(self, batch: Batch, loss: Loss) -> tuple[dict[str, Any], list[Any]]:
        mx = import_mxnet()
        executor, outputs = self._forward(batch.inputs)
        named = dict(zip(self._names, outputs, strict=True))
        targets = {name: _lifted(mx, t.astype(named[name].dtype)) for name, t in batch.targets.items()}
        heads = loss.heads(named, targets, batch.weights)
        given = dict(zip(batch.targets, heads, strict=True))
        with mx.util.np_shape(self.source.graph.numpy):
            executor.backward([given.get(name, mx.nd.zeros_like(y)) for name, y in named.items()])
        mx.nd.waitall()
        return {n: g for n, g in executor.grad_dict.items() if n in self._inputs and g is not None}, outputs

    def _forward(self, inputs: Sequence[Array]) -> tuple[Any, list[Any]]:
        mx = import_mxnet()
        empty = any(array.size == 0 for array in inputs)  # else 0 is a size that is not known
        with mx.util.np_shape(self.source.graph.numpy or empty):
            fed = {name: _lifted(mx, array) for name, array in zip(self._inputs, inputs, strict=True)}
            executor = self._executor(mx, fed)
            for name, array in fed.items():
                executor.arg_dict[name][:] = array
            return executor, executor.forward(is_train=True)

    def _executor(self, mx: Any, fed: Mapping[str, Any]) -> Any:
        key = tuple((array.shape, array.dtype) for array in fed.values())
        if key not in self._bound:
            arguments = {**self._arrays, **fed}
            names = self.symbol.list_arguments()
            arguments |= labels(mx, self.source, self.symbol, arguments)
            slopes = self._slopes | {n: mx.nd.zeros_like(a) for n, a in fed.items() if _is_float(a)}
            slopes = {n: g for n, g in slopes.items() if n in names and self.trainable.get(n, True)}
            self._bound[key] = self.symbol.bind(
                mx.cpu(),
                {n: arguments[n] for n in names},
                args_grad=slopes,
                grad_req={n: "write" if n in slopes else "null" for n in names},
                aux_states={n: self._arrays[n] for n in self.symbol.list_auxiliary_states()},
            )
        return self._bound[key]

    def _named(self, outputs: Sequence[Any]) -> dict[str, Array]:
        named = {name: y.asnumpy() for name, y in zip(self._names, outputs, strict=True)}
        return {name: y for name, y in named.items() if y.dtype.kind == "f"}


def rehearse(model: Any, inputs: Sequence[Array]) -> str:
    """Why the symbol cannot be run as MXNet's are in training mode; empty where it can.

    It is bound over copies of its parameters. A symbol that brings a loss of its own is trained by that.
    """
    try:
        with Training(model, len(inputs)) as training:
            return first_fault({IN_TRAINING: lambda: training.outputs(inputs)})
    except UsageError:
        return ""


def _demand_free_loss(model: SymbolModel) -> None:
    found = sorted({node.op for node in model.graph.nodes} & OWN_LOSS)
    if found:
        raise UsageError(
            "its output layer has a gradient of its own, whatever the loss",
            where=model.label,
            received=", ".join(found),
            remedy="Put softmax (or nothing) in its position to compare gradients",
        )


def _without_dropout(graph: Symbol) -> Symbol:
    nodes = tuple(
        replace(node, attrs={**node.attrs, DROPPED[node.op]: "0.0"}) if node.op in DROPPED else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)


def _constants(graph: Symbol) -> set[str]:
    """Variables whose every reader stops the gradient."""
    return {
        graph.nodes[position].name
        for position in graph.variables
        if (readers := graph.consumers.get(position, ()))
        and all(graph.nodes[reader].op == "BlockGrad" for reader, _ in readers)
    }


def _without_gradient(model: Any) -> set[str]:
    """The parameters of a live block that are set to have none."""
    if not hasattr(model, "collect_params"):
        return set()
    return {name for name, parameter in model.collect_params().items() if parameter.grad_req == "null"}


def _native(mx: Any, optimizer: Optimizer) -> Any:
    if optimizer.kind == "sgd":
        return mx.optimizer.SGD(learning_rate=optimizer.learning_rate)
    return mx.optimizer.Adam(learning_rate=optimizer.learning_rate, beta1=BETAS[0], beta2=BETAS[1])


def _lifted(mx: Any, array: Array) -> Any:
    return mx.nd.array(array, dtype=array.dtype)


def _is_float(array: Any) -> bool:
    return np.dtype(array.dtype).kind == "f"
