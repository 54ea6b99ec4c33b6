"""Regions of images, and boxes."""

# mypy: ignore-errors
# ruff: noqa: B905 - the programs read plainer so

from __future__ import annotations

import math

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name


def deform_conv(x, weight, offset, bias, mask, strides, dilations, pads, groups, offset_groups):
    """A convolution whose window places are moved by ``offset`` (batch, groups * places * 2, height, width)."""
    batch, channels, height, width = x.shape
    tall, wide = weight.shape[2:]
    out_h, out_w = offset.shape[2:]
    offset = offset.reshape(batch, offset_groups, tall * wide, 2, out_h, out_w)
    down = torch.arange(tall, device=x.device).repeat_interleave(wide) * dilations[0]
    right = torch.arange(wide, device=x.device).repeat(tall) * dilations[1]
    rows = torch.arange(out_h, device=x.device) * strides[0] - pads[0][0]
    columns = torch.arange(out_w, device=x.device) * strides[1] - pads[1][0]
    y = offset[:, :, :, 0] + down.reshape(-1, 1, 1) + rows.reshape(-1, 1)
    z = offset[:, :, :, 1] + right.reshape(-1, 1, 1) + columns
    grid = torch.stack([z * 2 / max(width - 1, 1) - 1, y * 2 / max(height - 1, 1) - 1], -1)
    grid = grid.reshape(batch * offset_groups, tall * wide * out_h, out_w, 2).to(x.dtype)
    planes = x.reshape(batch * offset_groups, channels // offset_groups, height, width)
    taken = F.grid_sample(planes, grid, align_corners=True)
    taken = taken.reshape(batch, offset_groups, channels // offset_groups, tall * wide, out_h * out_w)
    if mask is not None:
        taken = taken * mask.reshape(batch, offset_groups, 1, tall * wide, out_h * out_w)
    taken = taken.reshape(batch, groups, channels // groups * tall * wide, out_h * out_w)
    kernel = weight.reshape(groups, weight.shape[0] // groups, -1)
    result = (kernel @ taken).reshape(batch, weight.shape[0], out_h, out_w)
    return result if bias is None else result + bias.reshape(-1, 1, 1)


def roi_align(x, rois, batch_indices, size, sampling_ratio, spatial_scale, half_pixel, mode):
    """Regions (count, 4) of x sampled bilinearly to ``size``, averaged or the largest weighted corner taken."""
    results = []
    for roi, index in zip(rois, batch_indices.tolist()):
        left, top, right, bottom = (roi * spatial_scale - (0.5 if half_pixel else 0.0)).unbind()
        high, wide = bottom - top, right - left
        if not half_pixel:
            high, wide = high.clamp(min=1.0), wide.clamp(min=1.0)
        lines = []
        for start, length, count in ((top, high, size[0]), (left, wide, size[1])):
            samples = sampling_ratio or max(int(torch.ceil(length / count)), 1)
            steps = (torch.arange(count * samples, device=x.device, dtype=x.dtype) + 0.5) / samples
            lines.append((start + steps * (length / count), samples))
        results.append(_sampled_region(x[index], *lines, mode))
    if not results:
        return x.new_zeros(0, x.shape[1], *size)
    return torch.stack(results)


def _sampled_region(image, rows, columns, mode):
    """image (channels, height, width) at the crossings of rows and columns, pooled over each bin's samples."""
    (y, per_row), (x, per_column) = rows, columns
    corners = []
    for line, size in ((y, image.shape[1]), (x, image.shape[2])):
        inside = (line >= -1) & (line <= size)
        line = line.clamp(min=0)
        low = line.floor().to(torch.int64).clamp(max=size - 1)
        line = torch.where(low >= size - 1, low.to(line.dtype), line)
        part = line - low
        corners.append(((low, (1 - part) * inside), ((low + 1).clamp(max=size - 1), part * inside)))
    terms = [image[:, r][:, :, c] * (a.unsqueeze(1) * b) for r, a in corners[0] for c, b in corners[1]]
    shape = (image.shape[0], -1, per_row, len(x) // per_column, per_column)
    if mode == "max":
        return torch.stack(terms).amax(0).reshape(shape).amax((2, 4))
    return sum(terms).reshape(shape).mean((2, 4))


def max_roi_pool(x, rois, size, spatial_scale):
    """The maximum of every bin of each region; rois (count, 5) hold the batch index and the corners."""
    results = []
    for roi in rois.tolist():
        left, top, right, bottom = (math.floor(v * spatial_scale + 0.5) for v in roi[1:])
        high, wide = max(bottom - top + 1, 1), max(right - left + 1, 1)
        image = x[int(roi[0])]
        out = image.new_zeros(image.shape[0], *size)
        for i in range(size[0]):
            for j in range(size[1]):
                a, b = (min(max(math.floor(k * high / size[0]) + top, 0), x.shape[2]) for k in (i, i + 1))
                b = min(max(math.ceil((i + 1) * high / size[0]) + top, 0), x.shape[2])
                c = min(max(math.floor(j * wide / size[1]) + left, 0), x.shape[3])
                d = min(max(math.ceil((j + 1) * wide / size[1]) + left, 0), x.shape[3])
                if b > a and d > c:
                    out[:, i, j] = image[:, a:b, c:d].amax((1, 2))
        results.append(out)
    return torch.stack(results) if results else x.new_zeros(0, x.shape[1], *size)


def non_max_suppression(boxes, scores, limit=None, iou_threshold=None, score_threshold=None, center=False):
    """The boxes (batch, class, box) that are left when those that overlap a better one are dropped."""
    limit = 0 if limit is None else int(limit)
    overlap = 0.0 if iou_threshold is None else float(iou_threshold)
    corner = boxes[..., :2], boxes[..., 2:]
    if center:
        corner = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    low, high = torch.minimum(*corner), torch.maximum(*corner)
    area = (high - low).prod(-1)
    chosen = []
    for batch in range(scores.shape[0]):
        for kind in range(scores.shape[1]):
            score = scores[batch, kind]
            order = score.argsort(descending=True, stable=True)
            if score_threshold is not None:
                order = order[score[order] > score_threshold]
            kept = []
            while len(order) and len(kept) < limit:
                best, order = order[0], order[1:]
                kept.append(best)
                edges = torch.minimum(high[batch, best], high[batch, order]) - torch.maximum(
                    low[batch, best], low[batch, order]
                )
                shared = edges.clamp(min=0).prod(-1)
                union = area[batch, best] + area[batch, order] - shared
                order = order[~(shared / union > overlap)]
            chosen += [[batch, kind, int(best)] for best in kept]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)
