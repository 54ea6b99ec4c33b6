"""Training a PyTorch model: its own autograd and its own optimizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from netferry.converters.pytorch import fast_path
from netferry.converters.pytorch.live import (
    device_of,
    layer_by_layer,
    module_of,
    to_numpy,
    to_torch,
)
from netferry.converters.pytorch.outputs import outputs_of
from netferry.converters.signature import Array
from netferry.converters.training import (
    BETAS,
    IN_TRAINING,
    WITH_GRADIENTS,
    Batch,
    Gradients,
    Loss,
    Optimizer,
    Step,
    first_fault,
)


class Training:
    """A module whose BatchNorm layers are in train mode and whose other layers are in evaluation mode."""

    one_by_one = False

    def __init__(self, model: Any, _inputs: int) -> None:
        self.module = module_of(model)
        self._norms = {
            path: part
            for path, part in self.module.named_modules()
            if isinstance(part, _BatchNorm) and part.running_mean is not None
        }
        self._parameters = dict(self.module.named_parameters())
        self._found = {n: t.detach().clone() for n, t in self._tensors().items()}
        self.weights, self.statistics = self.current()
        self.trainable = {name: p.requires_grad for name, p in self._parameters.items()}
        self.fixed = _fixed(model)
        self.notes = ("PyTorch's BatchNorm keeps the unbiased variance",) if self._norms else ()

    def __enter__(self) -> Self:
        self._modes = layer_by_layer(self.module)
        self._modes.__enter__()
        self._hooks = [hook for norm in self._norms.values() for hook in _keep_biased(norm)]
        self._hooks += fast_path.hook(self.module)
        for norm in self._norms.values():
            norm.training = True
        return self

    def __exit__(self, *error: object) -> None:
        self.reset()
        for hook in self._hooks:
            hook.remove()
        self._modes.__exit__(None, None, None)

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {**self._parameters, **dict(self.module.named_buffers())}

    def current(self) -> tuple[dict[str, Array], dict[str, Array]]:
        weights = {n: to_numpy(p).copy() for n, p in self._parameters.items() if p.is_floating_point()}
        statistics = {
            f"{path}.{kind}".lstrip("."): to_numpy(getattr(norm, kind)).copy()
            for path, norm in self._norms.items()
            for kind in ("running_mean", "running_var")
        }
        return weights, statistics

    def reset(self) -> None:
        self._assign(self._found)

    def holding(self, values: Mapping[str, Array]) -> Any:
        self._assign({name: to_torch(array) for name, array in values.items()})
        return self.module

    def _assign(self, values: Mapping[str, torch.Tensor]) -> None:
        tensors = self._tensors()
        for name, value in values.items():
            tensors[name].data.copy_(value)

    def outputs(self, inputs: Sequence[Array]) -> dict[str, Array]:
        named = self._forward([to_torch(x, device_of(self.module)) for x in inputs])
        return {name: to_numpy(y) for name, y in named.items()}

    def gradients(self, batch: Batch, loss: Loss) -> Gradients:
        inputs = [to_torch(x, device_of(self.module)) for x in batch.inputs]
        floats = [x.requires_grad_() for x in inputs if x.is_floating_point()]
        alive = {name: p for name, p in self._parameters.items() if p.requires_grad}
        outputs, slopes = self._backward(inputs, [*alive.values(), *floats], batch, loss)
        found = iter(slopes[len(alive) :])
        return Gradients(
            {name: to_numpy(y) for name, y in outputs.items()},
            {name: _array(slope) for name, slope in zip(alive, slopes, strict=False)},
            tuple(_array(next(found)) if x.is_floating_point() else None for x in inputs),
        )

    def stepper(self, optimizer: Optimizer, loss: Loss, held: Mapping[str, Array]) -> Step:
        alive = {name: p for name, p in self._parameters.items() if p.requires_grad}
        native = _native(optimizer, list(alive.values()))
        factors = {name: to_torch(factor) for name, factor in held.items()}

        def step(batch: Batch) -> Mapping[str, Array]:
            inputs = [to_torch(x, device_of(self.module)) for x in batch.inputs]
            outputs, slopes = self._backward(inputs, list(alive.values()), batch, loss)
            for (name, parameter), slope in zip(alive.items(), slopes, strict=True):
                parameter.grad = (
                    slope if slope is None or name not in factors else slope * factors[name].to(slope)
                )
            native.step()
            native.zero_grad()
            return {name: to_numpy(y) for name, y in outputs.items()}

        return step

    def _forward(self, inputs: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        named = outputs_of(self.module, self.module(*inputs))
        return {name: y for name, y in named.items() if y.is_floating_point()}

    def _backward(
        self, inputs: Sequence[torch.Tensor], by: Sequence[torch.Tensor], batch: Batch, loss: Loss
    ) -> tuple[dict[str, torch.Tensor], Sequence[torch.Tensor | None]]:
        with torch.enable_grad():
            outputs = self._forward(inputs)
            alive = {name: y for name, y in outputs.items() if name in batch.targets}
            with torch.no_grad():
                targets = {name: to_torch(t).to(alive[name]) for name, t in batch.targets.items()}
                heads = loss.heads(alive, targets, batch.weights)
            pairs = [
                (alive[name], head)
                for name, head in zip(batch.targets, heads, strict=True)
                if alive[name].requires_grad
            ]
            if not pairs or not by:
                return outputs, [None] * len(by)
            ys, slopes = zip(*pairs, strict=True)
            return outputs, torch.autograd.grad(ys, by, slopes, allow_unused=True)


def rehearse(model: Any, inputs: Sequence[Array]) -> str:
    """Why the module cannot be used as PyTorch's are, with gradients on and in training mode; empty where it can.

    Its buffers, its submodules' modes and the random state are afterwards what they were. An exported program has no
    training mode.
    """
    module = module_of(model)
    tensors = [to_torch(x, device_of(module)) for x in inputs]
    modes = [(part, part.training) for part in module.modules()]
    found = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}

    def call(training: bool) -> None:
        for part, _ in modes:
            part.training = training
        with torch.enable_grad():
            module(*tensors)

    calls = {WITH_GRADIENTS: lambda: call(False), IN_TRAINING: lambda: call(True)}
    if isinstance(model, torch.export.ExportedProgram):
        del calls[IN_TRAINING]
    try:
        with torch.random.fork_rng(devices=[]):
            fault = first_fault(calls)
    finally:
        for part, training in modes:
            part.training = training
        for name, buffer in module.named_buffers():
            if name in found and found[name].shape == buffer.shape:
                buffer.data.copy_(found[name])
    return "" if _TOO_FEW in fault else fault


_TOO_FEW = "Expected more than 1 value per channel"
"""What PyTorch's own BatchNorm says in training mode of a batch that is too small for statistics."""


def _native(optimizer: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if optimizer.kind == "sgd":
        return torch.optim.SGD(parameters, lr=optimizer.learning_rate)
    return torch.optim.Adam(parameters, lr=optimizer.learning_rate, betas=BETAS, eps=optimizer.epsilon)


def _array(slope: torch.Tensor | None) -> Array | None:
    if slope is None:
        return None
    return to_numpy(slope.to_dense() if slope.is_sparse else slope)


def _keep_biased(norm: Any) -> tuple[Any, Any]:
    """Hooks that turn what a pass adds to the running variance from n/(n-1) of the batch's variance into it."""

    kept: list[torch.Tensor] = []

    def before(module: Any, _inputs: Any) -> None:
        kept.append(module.running_var.clone())

    def after(module: Any, inputs: Any, _output: Any) -> None:
        count = inputs[0].numel() // inputs[0].shape[1]
        share = module.momentum
        if share is None:  # the plain mean over all batches
            share = 1 / int(module.num_batches_tracked)
        old, new = kept.pop() * (1 - share), module.running_var.data
        new.copy_(old + (new - old) * ((count - 1) / count))

    return norm.register_forward_pre_hook(before), norm.register_forward_hook(after)


def _fixed(model: Any) -> str:
    if not isinstance(model, torch.export.ExportedProgram):
        return ""
    norms = [node for node in model.graph.nodes if "batch_norm" in str(node.target)]
    return "an exported program is fixed in inference mode, and holds BatchNorm" if norms else ""
