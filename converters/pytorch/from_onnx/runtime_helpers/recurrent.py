"""Recurrent layers: packed sequences, and steps one by one."""

# mypy: ignore-errors
# ruff: noqa: B905 - the programs read plainer so

from __future__ import annotations

import torch
from torch import nn


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
