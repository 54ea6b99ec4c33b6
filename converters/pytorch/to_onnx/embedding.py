"""The table of torch functions: embeddings."""

from __future__ import annotations

from typing import Any

from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import row


@row(F.embedding)
def embedding(
    e: Emitter,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    if max_norm is not None:
        raise CannotConvert("an embedding with max_norm rewrites its weights as it runs")
    base = e.beneath(input)[0]
    gathered = e.g.Gather(weight, base, axis=0)
    return gathered if base is input else e.g.transpose(gathered, (*(input.perm or ()), input.rank))
