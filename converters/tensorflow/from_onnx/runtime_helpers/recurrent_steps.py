"""ONNX's recurrent operators step by step, for what Keras' layers do not have."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def recurrent_steps(
    cell: str, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h0: Any = None, c0: Any = None, p: Any = None,
    *, hidden: int, direction: str = "forward", activations: Any = (), alpha: Any = (), beta: Any = (),
    clip: Any = None, input_forget: bool = False, linear_before_reset: bool = False,
) -> Any:  # fmt: skip
    """x: (time, batch, input); w, r, b, p as ONNX packs them; gives (time, batch, directions * hidden) and the last
    states, each (directions, batch, hidden). Where a row's length is over, its states stay and its outputs are 0."""
    functions = _activations(activations, alpha, beta)
    per_direction = len(functions) // (2 if direction == "bidirectional" else 1)
    results = []
    for place in range(2 if direction == "bidirectional" else 1):
        backwards = direction == "reverse" or place == 1
        batch = tf.shape(x)[1]
        start = [
            tf.zeros([batch, hidden], x.dtype) if state is None else state[place]
            for state in ((h0, c0) if cell == "LSTM" else (h0,))
        ]
        results.append(
            _direction(
                cell, _reversed(x, lengths) if backwards else x, w[place], r[place], None if b is None else b[place],
                lengths, start, None if p is None else p[place],
                functions[place * per_direction : (place + 1) * per_direction], clip, input_forget, linear_before_reset,
            )
        )  # fmt: skip
        if backwards:
            results[-1] = (_reversed(results[-1][0], lengths), *results[-1][1:])
    sequence = tf.concat([one[0] for one in results], -1)
    return (sequence, *(tf.stack([one[i] for one in results]) for i in range(1, len(results[0]))))


def _reversed(x: Any, lengths: Any) -> Any:
    if lengths is None:
        return tf.reverse(x, [0])
    return tf.reverse_sequence(x, lengths, seq_axis=0, batch_axis=1)


def _direction(
    cell: str, x: Any, w: Any, r: Any, b: Any, lengths: Any, start: Any, p: Any,
    functions: Any, clip: Any, input_forget: bool, linear_before_reset: bool,
) -> Any:  # fmt: skip
    """One direction: the input's share of every gate at once, then a scan over time."""
    bw, br = (None, None) if b is None else tf.split(b, 2)
    given = tf.einsum("tbi,gi->tbg", x, w)
    given = given if bw is None else given + bw
    steps = tf.range(tf.shape(x)[0])

    def step(states: Any, now: Any) -> Any:
        place, share = now
        new = _CELLS[cell](share, states[1:], r, br, p, functions, clip, input_forget, linear_before_reset)
        shown = new[0]
        if lengths is not None:
            alive = tf.expand_dims(place < tf.cast(lengths, place.dtype), 1)
            new = tuple(tf.where(alive, one, old) for one, old in zip(new, states[1:], strict=True))
            shown = tf.where(alive, shown, tf.zeros_like(shown))
        return (shown, *new)

    every = tf.scan(step, (steps, given), (tf.zeros_like(start[0]), *start))
    last = [tf.concat([one[None], all_of_it], 0)[-1] for one, all_of_it in zip(start, every[1:], strict=True)]
    return (every[0], *last)


def _lstm(
    share: Any, states: Any, r: Any, br: Any, p: Any, functions: Any, clip: Any, input_forget: bool, _: bool
) -> Any:
    f, g, h_of = functions
    h, c = states
    gates = share + tf.matmul(h, r, transpose_b=True)
    i, o, forget, new = tf.split(gates if br is None else gates + br, 4, -1)
    pi, po, pf = (0, 0, 0) if p is None else tf.split(p, 3)
    i = f(_clipped(i + pi * c if p is not None else i, clip))
    forget = 1 - i if input_forget else f(_clipped(forget + pf * c if p is not None else forget, clip))
    c = forget * c + i * g(_clipped(new, clip))
    o = f(_clipped(o + po * c if p is not None else o, clip))
    return o * h_of(c), c


def _gru(
    share: Any,
    states: Any,
    r: Any,
    br: Any,
    _p: Any,
    functions: Any,
    clip: Any,
    _: bool,
    linear_before_reset: bool,
) -> Any:
    f, g = functions
    (h,) = states
    wz, wr, wh = tf.split(share, 3, -1)
    rz, rr, rh = tf.split(r, 3)
    bz, br_, bh = (0, 0, 0) if br is None else tf.split(br, 3)
    zero = tf.zeros([], share.dtype)
    z = f(_clipped(wz + tf.matmul(h, rz, transpose_b=True) + (bz if br is not None else zero), clip))
    reset = f(_clipped(wr + tf.matmul(h, rr, transpose_b=True) + (br_ if br is not None else zero), clip))
    inner = bh if br is not None else zero
    if linear_before_reset:
        new = wh + reset * (tf.matmul(h, rh, transpose_b=True) + inner)
    else:
        new = wh + tf.matmul(reset * h, rh, transpose_b=True) + inner
    return ((1 - z) * g(_clipped(new, clip)) + z * h,)


def _rnn(
    share: Any, states: Any, r: Any, br: Any, _p: Any, functions: Any, clip: Any, _: bool, __: bool
) -> Any:
    total = share + tf.matmul(states[0], r, transpose_b=True)
    return (functions[0](_clipped(total if br is None else total + br, clip)),)


_CELLS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def _clipped(x: Any, clip: Any) -> Any:
    return x if clip is None else tf.clip_by_value(x, -clip, clip)


_PARAMETERS = {
    # ONNX's name in lower case: the function of x, alpha and beta; the defaults of those it has
    "relu": (lambda x: tf.nn.relu(x),),
    "tanh": (lambda x: tf.tanh(x),),
    "sigmoid": (lambda x: tf.sigmoid(x),),
    "softsign": (lambda x: tf.nn.softsign(x),),
    "softplus": (lambda x: tf.nn.softplus(x),),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "leakyrelu": (lambda x, a: tf.where(x < 0, a * x, x), 0.01),
    "thresholdedrelu": (lambda x, a: tf.where(x > a, x, tf.zeros_like(x)), 1.0),
    "scaledtanh": (lambda x, a, b: a * tf.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: tf.clip_by_value(a * x + b, 0, 1), 0.2, 0.5),
    "elu": (lambda x, a: tf.where(x < 0, a * tf.math.expm1(tf.minimum(x, 0)), x), 1.0),
}


def _activations(names: Any, alpha: Any, beta: Any) -> Any:
    """Each name as a function; those with parameters take them from alpha and beta in their order."""
    alphas, betas = list(alpha), list(beta)
    made = []
    for name in names:
        function, *defaults = _PARAMETERS[name.lower()]
        values = [
            (kept.pop(0) if kept else default)
            for kept, default in zip((alphas, betas), defaults, strict=False)
        ]
        made.append(lambda x, function=function, values=values: function(x, *values))
    return made
