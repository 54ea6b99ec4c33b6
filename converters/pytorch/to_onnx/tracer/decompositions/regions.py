"""Functions of torchvision that go through what the data find one by one, for all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name


def _paste_masks(masks: Tensor, boxes: Tensor, img_shape: Any, padding: int = 1) -> Tensor:
    """``paste_masks_in_image``: each mask, as large as its box, where that lies in the image: (found, 1, height, width).

    Resizing is linear in rows and in columns, so it is a product with a matrix from each side; these also say where a mask
    ends. Source: torchvision.models.detection.roi_heads.
    """
    own = masks.shape[-1]
    padded = F.pad(masks, (padding,) * 4)[:, 0]
    scale = float(own + 2 * padding) / own
    first, last = boxes[:, :2], boxes[:, 2:]
    half, center = (last - first) * 0.5 * scale, (first + last) * 0.5
    first, last = (center - half).to(torch.int64), (center + half).to(torch.int64)
    rows, columns = (
        _resizing(first[:, axis], last[:, axis], size, padded.shape[-1], masks.dtype)
        for axis, size in ((1, img_shape[0]), (0, img_shape[1]))
    )
    return (rows @ padded @ columns.transpose(1, 2)).unsqueeze(1)


def _resizing(first: Tensor, last: Tensor, size: Any, own: int, dtype: torch.dtype) -> Tensor:
    """What each of ``size`` places takes of each of a mask's ``own`` elements: (found, size, own)."""
    at = torch.arange(size).unsqueeze(0) - first.unsqueeze(1)
    count = (last - first + 1).clamp(min=1).unsqueeze(1)
    inside = (at >= 0) & (at < count)
    source = ((at.to(dtype) + 0.5) * (own / count.to(dtype)) - 0.5).clamp(min=0.0)
    low = source.floor()
    share = (source - low).unsqueeze(2)
    elements = torch.arange(own, dtype=dtype)
    here = (elements == low.unsqueeze(2)).to(dtype)
    after = (elements == (low + 1).clamp(max=own - 1.0).unsqueeze(2)).to(dtype)
    taken: Tensor = (here * (1 - share) + after * share) * inside.unsqueeze(2).to(dtype)
    return taken


PYTHON: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("torchvision.models.detection.roi_heads", "paste_masks_in_image"): _paste_masks,
    ("torchvision.models.detection.transform", "paste_masks_in_image"): _paste_masks,
}
"""Where they stand, in the modules that call them; a trace calls these."""
