"""Functions that an arriving program brings along where PyTorch has no word for what ONNX means.

``from_onnx`` copies those that are called, as they stand here, into the module that it writes: each uses
``torch``, ``F``, ``math`` and its neighbours here and nothing else.
"""

# mypy: ignore-errors
# ruff: noqa: B905 - the programs read plainer so

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

# ---- integers of 64 bits without a sign -----------------------------------------------------------


def unsigned_divide(x, y):
    """x // y of uint64: by int64, half of x first where it has the top bit."""
    low = -(2**63)
    a, b = (torch.as_tensor(v).to(torch.int64) for v in (x, y))
    divisor = torch.where(b == 0, 1, b)
    half = unsigned_shift(a, torch.ones_like(a))
    quotient = torch.where(divisor < 0, 0, torch.div(half, divisor.clamp(min=1), rounding_mode="trunc") * 2)
    rest = a - quotient * b
    quotient = quotient + ((rest ^ low) >= (b ^ low)).to(torch.int64)
    return quotient.to(torch.uint64)


def unsigned_shift(x, y):
    """x >> y of 64 bits, zeros coming in at the top; by 64 or more, 0."""
    dtype = x.dtype
    a, b = x.to(torch.int64), torch.as_tensor(y).to(torch.int64)
    mask = ~(torch.full_like(a, -1) << (64 - b).clamp(0, 63))
    shifted = torch.where(b <= 0, a, (a >> b.clamp(0, 63)) & mask)
    return torch.where(b > 63, 0, shifted).to(dtype)


# ---- places ---------------------------------------------------------------------------------------


def pad_by_index(x, pairs, mode):
    """Pad each axis by (before, after) with what the tensor holds: mode reflect, edge or wrap; negative ones cut."""
    for axis, (before, after) in enumerate(pairs):
        size = x.shape[axis]
        if before == 0 and after == 0:
            continue
        place = torch.arange(-before, size + after, device=x.device)
        if mode == "edge":
            place = place.clamp(0, size - 1)
        elif mode == "wrap":
            place = place % size
        else:
            period = max(2 * (size - 1), 1)
            place = size - 1 - (place % period - (size - 1)).abs()
        x = x.index_select(axis, place)
    return x


def gather_nd(x, indices, batch_dims):
    """x at the points along the last axis of ``indices``; the first ``batch_dims`` axes belong together."""
    rank = indices.dim() - 1
    grids = [
        torch.arange(x.shape[axis], device=x.device).reshape([-1 if a == axis else 1 for a in range(rank)])
        for axis in range(batch_dims)
    ]
    return x[(*grids, *indices.unbind(-1))]


def scatter_nd(x, indices, updates, reduce):
    """x with ``updates`` combined into it at the points along the last axis of ``indices``."""
    depth = indices.shape[-1]
    place = torch.zeros_like(indices[..., 0])
    for axis in range(depth):
        size = x.shape[axis]
        part = indices[..., axis]
        place = place * size + torch.where(part < 0, part + size, part)
    inner = x.shape[depth:]
    flat = x.reshape(-1, math.prod(inner))
    rows = updates.reshape(-1, math.prod(inner))
    where = place.reshape(-1, 1).expand(rows.shape)
    return flat.scatter_reduce(0, where, rows, reduce).reshape(x.shape)


def unique(x, axis, sorted):
    """Distinct elements (or slices along ``axis``), where each stands first, which one each is, how often."""
    x = x.reshape(-1) if axis is None else x
    dim = 0 if axis is None else axis
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=dim)
    place = torch.arange(inverse.shape[0], device=x.device)
    first = torch.full_like(counts, inverse.shape[0]).scatter_reduce(0, inverse, place, "amin")
    if not sorted:
        order = first.argsort()
        inverse = order.argsort()[inverse]
        values, first, counts = values.index_select(dim, order), first[order], counts[order]
    return values, first, inverse, counts


# ---- spectra --------------------------------------------------------------------------------------


def dft(x, axis, length=None, inverse=False, onesided=False):
    """The Fourier transform along ``axis``; a last axis of 2 holds the complex numbers, of 1 real ones."""
    axis = axis % x.dim()
    if inverse and onesided:
        return torch.fft.irfft(torch.view_as_complex(x.contiguous()), length, axis).unsqueeze(-1)
    whole = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1)
    result = (torch.fft.ifft if inverse else torch.fft.fft)(whole, length, axis)
    if onesided:
        result = result.narrow(axis, 0, result.shape[axis] // 2 + 1)
    return torch.view_as_real(result)


# ---- windows --------------------------------------------------------------------------------------


def window_sums(x, kernel, strides, dilations):
    """The sum over every window of x: (batch, channels, *space)."""
    rank = len(kernel)
    conv = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    ones = torch.ones(1, 1, *kernel, dtype=x.dtype, device=x.device)
    sums = conv(x.reshape(-1, 1, *x.shape[2:]), ones, stride=strides, dilation=dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def window_means(x, kernel, strides, dilations, counted, beyond):
    """The mean over every window of x, padded by ``counted`` (which counts) and ``beyond`` (which does not).

    Both are written as ``F.pad`` takes them: the last axis first.
    """
    ones = F.pad(torch.ones_like(x[:1, :1]), counted, value=1.0)
    sums = window_sums(F.pad(F.pad(x, counted), beyond), kernel, strides, dilations)
    return sums / window_sums(F.pad(ones, beyond), kernel, strides, dilations)


def places_in_tensor(places, x, sizes, starts, column_major=False):
    """Where the maxima of a pool stand in the whole of ``x``: ``places`` count in one plane, padded to ``sizes``."""
    space = x.shape[2:]
    coordinates = []
    for size, start in zip(reversed(sizes), reversed(starts)):
        coordinates.insert(0, places % size - start)
        places = places // size
    order = range(len(space))
    inside = torch.zeros_like(places)
    for axis in reversed(order) if column_major else order:
        inside = inside * space[axis] + coordinates[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(
        x.shape[0], x.shape[1], *[1] * len(space)
    )
    return inside + planes * math.prod(space)


def max_unpool(x, indices, whole, wanted):
    """Zeros of the sizes ``wanted``, with x at ``indices``, which count through a tensor of the sizes ``whole``."""
    flat = x.new_zeros(math.prod(wanted))
    if tuple(whole) == tuple(wanted):
        return flat.index_put((indices.reshape(-1),), x.reshape(-1)).reshape(wanted)
    place, rest = torch.zeros_like(indices), indices
    step = 1
    for have, want in zip(reversed(whole), reversed(wanted)):
        place, rest, step = place + rest % have * step, rest // have, step * want
    return flat.index_put((place.reshape(-1),), x.reshape(-1)).reshape(wanted)


def col2im(x, image, block, dilations, pads, strides):
    """Blocks (batch, channels * block, blocks) summed into images (batch, channels, *image)."""
    batch, rank = x.shape[0], len(image)
    channels = x.shape[1] // math.prod(block)
    sizes = [size + before + after for size, (before, after) in zip(image, pads)]
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(sizes, block, dilations, strides)]
    place = torch.zeros(1, dtype=torch.int64, device=x.device)
    for axis in range(rank):
        inside = torch.arange(block[axis], device=x.device) * dilations[axis]
        corner = torch.arange(counts[axis], device=x.device) * strides[axis]
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = block[axis], counts[axis]
        place = place * sizes[axis] + (inside.unsqueeze(1) + corner).reshape(shape)
    summed = x.new_zeros(batch, channels, math.prod(sizes))
    summed = summed.index_add(2, place.reshape(-1), x.reshape(batch, channels, -1)).reshape(
        batch, channels, *sizes
    )
    for axis, (before, _) in enumerate(pads):
        summed = summed.narrow(2 + axis, before, image[axis])
    return summed


# ---- regions --------------------------------------------------------------------------------------


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


# ---- recurrent layers, step by step ---------------------------------------------------------------


def run_packed(layer, x, lengths, states=None, reverse=False):
    """A recurrent layer on rows of their own lengths: zeros behind each row's end, its last state there.

    An empty row keeps its first state. ``reverse`` lets a layer of one direction read every row from its own end.
    """
    if reverse:
        x = turned_rows(x, lengths)
    empty = (lengths < 1).unsqueeze(1)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths.clamp(min=1).cpu(), enforce_sorted=False)
    packed, finals = layer(packed, states)
    y, _ = nn.utils.rnn.pad_packed_sequence(packed, total_length=x.shape[0])
    if reverse:
        y = turned_rows(y, lengths)
    finals = finals if isinstance(finals, tuple) else (finals,)
    firsts = states if isinstance(states, tuple) else (states,) * len(finals)
    lasts = [
        final.masked_fill(empty, 0) if first is None else torch.where(empty, first, final)
        for first, final in zip(firsts, finals)
    ]
    return (y.masked_fill(empty, 0), *lasts)


def turned_rows(x, lengths):
    """x (time, batch, features) with the first ``lengths`` steps of each row in the other order."""
    time = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    place = torch.where(time < lengths, lengths - 1 - time, time).to(torch.int64)
    return x.gather(0, place.unsqueeze(-1).expand(x.shape))


def lstm_steps(
    x, w, r, b, lengths, h, c, activations, clip=None, direction="forward", peepholes=None, input_forget=False
):
    """ONNX's LSTM on x (time, batch, features): the sequence and the last states. Gates stand in the order i, o, f, c."""

    def of_direction(d):
        f, g, last = activations[d]
        pi, po, pf = (0, 0, 0) if peepholes is None else peepholes[d].chunk(3)

        def step(now, h, c):
            i, o, forget, cell = gates(now, h, w[d], r[d], None if b is None else b[d]).chunk(4, -1)
            i = f(clipped(i + pi * c, clip))
            forget = 1 - i if input_forget else f(clipped(forget + pf * c, clip))
            c = forget * c + i * g(clipped(cell, clip))
            return f(clipped(o + po * c, clip)) * last(c), c

        return step

    return run_steps(x, (h, c), r, lengths, direction, of_direction)


def gru_steps(x, w, r, b, lengths, h, activations, clip=None, direction="forward", before_reset=False):
    """ONNX's GRU on x (time, batch, features): the sequence and the last state. Gates stand in the order z, r, h."""

    def of_direction(d):
        f, g = activations[d]
        zeros = w.new_zeros(2 * w.shape[1])
        bw, br = (zeros if b is None else b[d]).chunk(2)

        def step(now, h):
            wz, wr, wh = (now @ w[d].T + bw).chunk(3, -1)
            rz, rr, rh = r[d].chunk(3)
            bz, bs, bh = br.chunk(3)
            update = f(clipped(wz + h @ rz.T + bz, clip))
            reset = f(clipped(wr + h @ rr.T + bs, clip))
            past = reset * (h @ rh.T + bh) if before_reset else (reset * h) @ rh.T + bh
            return ((1 - update) * g(clipped(wh + past, clip)) + update * h,)

        return step

    return run_steps(x, (h,), r, lengths, direction, of_direction)


def rnn_steps(x, w, r, b, lengths, h, activations, clip=None, direction="forward"):
    """ONNX's RNN on x (time, batch, features): the sequence and the last state."""

    def of_direction(d):
        (f,) = activations[d]
        return lambda now, h: (f(clipped(gates(now, h, w[d], r[d], None if b is None else b[d]), clip)),)

    return run_steps(x, (h,), r, lengths, direction, of_direction)


def gates(now, h, w, r, b):
    """What goes into the gates of one step; b holds both biases, one after the other."""
    sums = now @ w.T + h @ r.T
    return sums if b is None else sums + b.reshape(2, -1).sum(0)


def clipped(x, limit):
    return x if limit is None else x.clamp(-limit, limit)


def run_steps(x, states, r, lengths, direction, of_direction):
    """Each direction step by step: the sequence (time, batch, directions * hidden) and the last states.

    Where rows have lengths, a state stands still behind the row's end and the sequence is zero there.
    """
    sequences, finals = [], []
    for d in range(r.shape[0]):
        order = list(range(x.shape[0]))
        if direction == "reverse" or d == 1:
            order.reverse()
        now = tuple(x.new_zeros(x.shape[1], r.shape[2]) if state is None else state[d] for state in states)
        step, outputs = of_direction(d), [None] * len(order)
        for t in order:
            new = step(x[t], *now)
            if lengths is None:
                now, outputs[t] = new, new[0]
            else:
                inside = (t < lengths).unsqueeze(1)
                now = tuple(torch.where(inside, a, b) for a, b in zip(new, now))
                outputs[t] = torch.where(inside, new[0], 0)
        sequences.append(torch.stack(outputs))
        finals.append(now)
    return (torch.cat(sequences, -1), *(torch.stack(state) for state in zip(*finals)))


# ---- sequences ------------------------------------------------------------------------------------


def without(items, place):
    """A list without the element at one place."""
    items = list(items)
    del items[place]
    return items


# ---- axes that are known only here ----------------------------------------------------------------


def reduce_axes(x, word, axes, keepdims):
    """``sum``, ``mean``, ``prod``, ``amax``, ``amin`` or ``logsumexp`` over axes; of nothing, the neutral value."""
    axes = sorted((axis % x.dim() for axis in axes), reverse=True) or list(range(x.dim()))[::-1]
    exact = {"dtype": x.dtype} if not x.is_floating_point() else {}
    for axis in axes:
        if word in ("amax", "amin") and x.shape[axis] == 0:
            sizes = [1 if a == axis else size for a, size in enumerate(x.shape)]
            x = x.new_full(sizes, extreme(x.dtype, largest=word == "amin"))
        elif word in ("sum", "prod"):
            x = getattr(x, word)(axis, keepdim=True, **exact)
        else:
            x = getattr(x, word)(axis, keepdim=True)
    for axis in [] if keepdims else axes:
        x = x.squeeze(axis)
    return x


def extreme(dtype, largest):
    """The largest or the least value that a dtype has."""
    if dtype.is_floating_point:
        return math.inf if largest else -math.inf
    return largest if dtype is torch.bool else getattr(torch.iinfo(dtype), "max" if largest else "min")


def reshape(x, sizes):
    """x in other sizes; where one is 0, it is that of x."""
    return x.reshape([size or x.shape[axis] for axis, size in enumerate(sizes)])


def cumulate(x, word, axis, exclusive=False, reverse=False):
    """``cumsum`` or ``cumprod``; an exclusive one is moved on by one place, the neutral element first."""
    x = x.flip(axis) if reverse else x
    if exclusive:
        first = torch.full_like(x.narrow(axis, 0, 1), 0 if word == "cumsum" else 1)
        x = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    y = getattr(x, word)(axis, dtype=x.dtype)
    return y.flip(axis) if reverse else y


def unsqueeze(x, axes):
    """New axes of size 1 at these places of the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def slice_axes(x, starts, ends, axes, steps):
    """Python's slices along axes; a negative step reads the axis from its other end."""
    for start, end, axis, step in zip(starts, ends, axes, steps):
        if step < 0:
            x, start, end, step = (
                x.flip(axis),
                *(-1 - min(max(v, -(2**62)), 2**62) for v in (start, end)),
                -step,
            )
        size = x.shape[axis]
        start, end, step = slice(start, end, step).indices(size)
        x = x.index_select(axis, torch.arange(start, max(start, end), step, device=x.device))
    return x


def pad_axes(x, pads, axes, mode, value=0):
    """Pad these axes: all that comes before, then all that comes behind."""
    pairs = [(0, 0)] * x.dim()
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :]):
        pairs[axis] = (before, after)
    if mode != "constant":
        return pad_by_index(x, pairs, mode)
    return F.pad(x, [end for pair in reversed(pairs) for end in pair], value=float(value))


def dropout(x, ratio, training):
    """x with some elements dropped and the others stretched, and which were kept."""
    if not bool(training) or float(ratio) == 0:
        return x, torch.ones_like(x, dtype=torch.bool)
    kept = F.dropout(torch.ones_like(x), float(ratio))
    return x * kept, kept != 0


def resize(
    x,
    axes=None,
    scales=None,
    sizes=None,
    roi=None,
    mode="nearest",
    coordinate_transformation_mode="half_pixel",
    nearest_mode="round_prefer_floor",
    antialias=False,
    exclude_outside=False,
    cubic_coeff_a=-0.75,
    extrapolation_value=0.0,
    keep_aspect_ratio_policy="stretch",
):
    """ONNX's Resize, one axis after the other: each is a matrix, or a picking of places."""
    axes = [axis % x.dim() for axis in (range(x.dim()) if axes is None else axes)]
    have = [x.shape[axis] for axis in axes]
    if scales is not None:
        sizes = [math.floor(size * by * (1 + 1e-7)) for size, by in zip(have, scales)]
    elif keep_aspect_ratio_policy == "stretch":
        scales = [want / size for want, size in zip(sizes, have)]
    else:
        most = min if keep_aspect_ratio_policy == "not_larger" else max
        scales = [most(want / size for want, size in zip(sizes, have))] * len(axes)
        sizes = [int(scale * size + 0.5) for scale, size in zip(scales, have)]
    windows = [(0.0, 1.0)] * len(axes) if roi is None else list(zip(roi[: len(axes)], roi[len(axes) :]))
    for axis, size, out, scale, window in zip(axes, have, sizes, scales, windows):
        if scale == 1 and window == (0.0, 1.0):
            continue
        kind = torch.float32 if mode == "nearest" else torch.float64
        place = resized_places(
            torch.arange(out, dtype=kind, device=x.device),
            size,
            out,
            scale,
            window,
            coordinate_transformation_mode,
        )
        if mode == "nearest":
            half = {
                "round_prefer_floor": lambda v: (v - 0.5).ceil(),
                "round_prefer_ceil": lambda v: (v + 0.5).floor(),
            }
            rounded = half.get(nearest_mode, getattr(torch, nearest_mode, None))(place)
            x = x.index_select(axis, rounded.clamp(0, size - 1).to(torch.int64))
        else:
            stretch = min(scale, 1.0) if antialias else 1.0
            weights = resize_weights(place, size, mode, stretch, exclude_outside, antialias, cubic_coeff_a)
            x = (x.transpose(axis, -1) @ weights.to(x.dtype).T).transpose(axis, -1)
        if coordinate_transformation_mode == "tf_crop_and_resize":
            outside = ((place < 0) | (place > size - 1)).reshape(
                [-1 if a == axis else 1 for a in range(x.dim())]
            )
            x = torch.where(outside, extrapolation_value, x)
    return x


def resized_places(y, size, out, scale, window, mode):
    """Where in an axis of ``size`` places each of ``out`` places looks."""
    span = out - 1
    if mode == "align_corners":
        return y * (size - 1) / span if span else y * 0
    if mode == "asymmetric":
        return y / scale
    if mode == "tf_crop_and_resize":
        start, stop = window
        return (y * (stop - start) / span + start if span else y * 0 + (start + stop) / 2) * (size - 1)
    if mode == "pytorch_half_pixel" and out == 1:
        return y * 0
    offset = size / 2 * (1 - out / (scale * size)) if mode == "half_pixel_symmetric" else 0
    return (y + 0.5) / scale - 0.5 + offset


def resize_weights(place, size, mode, stretch, inside_only, antialias, a):
    """(out, size): how much of each place goes into each output place; R. Keys, 1981, for the cubic kernel."""
    span = math.ceil((2 if mode == "cubic" else 1) / stretch) + 1
    near = place.floor().unsqueeze(1) + torch.arange(-span, span + 1, device=place.device)
    d = (place.unsqueeze(1) - near).abs() * stretch
    if mode == "cubic":
        close, far = ((a + 2) * d - (a + 3)) * d**2 + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        weights = torch.where(d <= 1, close, torch.where(d < 2, far, 0.0))
    else:
        weights = (1 - d).clamp(0, 1)
    if inside_only:
        weights = torch.where((near < 0) | (near >= size), 0.0, weights)
    if antialias or inside_only:
        total = weights.sum(1, keepdim=True)
        weights = weights / torch.where(total == 0, 1.0, total)
    where = near.clamp(0, size - 1).to(torch.int64)
    return torch.zeros(len(place), size, dtype=place.dtype, device=place.device).scatter_add(
        1, where, weights
    )
