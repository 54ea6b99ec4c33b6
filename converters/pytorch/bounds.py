"""What a PyTorch model's inputs may hold: it is run once, and the operators that look something up are watched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from netferry.converters import origin
from netferry.converters.errors import RefusedError
from netferry.converters.pytorch.live import device_of, examples_of, inference, module_of, to_torch
from netferry.converters.signature import Example, Range


def ranges(model: Any, given: Sequence[Example] | None = None) -> dict[int, list[Range]]:
    """By the position of the input.

    An index is known as an input's by its memory, or, where it was cast, by its values.
    """
    shown = examples_of(model, given)
    module = module_of(model)
    if not any(_may_index(module, example) for example in shown):
        return {}
    tensors = [to_torch(example.array, device_of(module)) for example in shown]
    watch = _Watch(tensors)
    with inference(module), watch:
        try:
            module(*tensors)
        except Exception as error:
            raise RefusedError("the model does not run on these inputs", where=origin.named(model)) from error
    return watch.found


def _may_index(module: torch.nn.Module, example: Example) -> bool:
    embeds = any(isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag) for part in module.modules())
    return example.array.ndim > 0 and (
        example.array.dtype.kind in "iu" or embeds or example.array.shape[-1] == 5
    )


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which inputs reach an operator as indices, lengths or boxes."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inputs = list(inputs)
        self.found: dict[int, list[Range]] = {}

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        if name in ("aten::embedding", "aten::_embedding_bag", "aten::_embedding_bag_forward_only"):
            self._note(args[1], Range(0, args[0].shape[0] - 1))
        elif name == "aten::_pack_padded_sequence":
            axis = 1 if args[2] else 0
            within = self._with_size(args[0].shape[axis], axis)
            self._note(args[1], Range(1, args[0].shape[axis] if within is None else 0, within))
        elif name in ("torchvision::roi_align", "torchvision::roi_pool"):
            batch = self._with_size(args[0].shape[0], 0)
            self._note(args[1], Range(0, 0 if batch is None else -1, batch, column=0))
        return func(*args, **(kwargs or {}))

    def _with_size(self, size: int, axis: int) -> tuple[int, int] | None:
        """The first input of several axes that has this size along one of them: what a length measures, or a box cuts."""
        fits = (p for p, x in enumerate(self.inputs) if x.ndim > 2 and x.shape[axis] == size)
        return next(((position, axis) for position in fits), None)

    def _note(self, index: torch.Tensor, one: Range) -> None:
        for position in self._places(index):
            self.found.setdefault(position, []).append(one)

    def _places(self, index: torch.Tensor) -> list[int]:
        memory = index.untyped_storage().data_ptr()
        same = [p for p, x in enumerate(self.inputs) if x.untyped_storage().data_ptr() == memory]
        return same or [p for p, x in enumerate(self.inputs) if _equal(x, index)]


def _equal(x: torch.Tensor, index: torch.Tensor) -> bool:
    return x.numel() == index.numel() > 0 and bool(
        torch.equal(x.reshape(-1).to(index.dtype), index.reshape(-1))
    )
