"""ONNX's Resize, in whatever form, to sizes that come when the model runs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def resize(
    x: Any, *, axes: Any = None, scales: Any = None, sizes: Any = None, roi: Any = None, mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel", nearest_mode: str = "round_prefer_floor", antialias: bool = False,
    exclude_outside: bool = False, cubic_coeff_a: float = -0.75, extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
) -> Any:  # fmt: skip
    """One axis after the other: each is a matrix, or a picking of places."""
    rank = x.shape.rank
    axes = [axis % rank for axis in (range(rank) if axes is None else axes)]
    have = [tf.cast(tf.shape(x)[axis], tf.float64) for axis in axes]
    if scales is not None:
        scales = tf.unstack(tf.cast(scales, tf.float64), len(axes))
        sizes = [tf.floor(size * by * (1 + 1e-7)) for size, by in zip(have, scales, strict=True)]
    else:
        sizes = [tf.cast(want, tf.float64) for want in sizes]
        scales = [want / size for want, size in zip(sizes, have, strict=True)]
        if keep_aspect_ratio_policy != "stretch":
            most = tf.reduce_min if keep_aspect_ratio_policy == "not_larger" else tf.reduce_max
            scales = [most(tf.stack(scales))] * len(axes)
            sizes = [tf.floor(by * size + 0.5) for by, size in zip(scales, have, strict=True)]
    cropped = coordinate_transformation_mode == "tf_crop_and_resize"
    windows = tf.unstack(tf.cast(roi, tf.float64), 2 * len(axes)) if cropped else [0.0, 1.0] * len(axes)
    for number, axis in enumerate(axes):
        size, out, scale = have[number], sizes[number], scales[number]
        start, stop = windows[number], windows[number + len(axes)] if cropped else 1.0
        kind = tf.float32 if mode == "nearest" else tf.float64
        place = resized_places(
            tf.range(tf.cast(out, tf.int64)),
            size,
            out,
            scale,
            (start, stop),
            coordinate_transformation_mode,
            kind,
        )

        def changed(
            x: Any = x, axis: int = axis, size: Any = size, scale: Any = scale, place: Any = place
        ) -> Any:
            last = tf.cast(size, tf.int64) - 1
            if mode == "nearest":
                rounded = {
                    "round_prefer_floor": lambda v: tf.math.ceil(v - 0.5), "round_prefer_ceil": lambda v: tf.floor(v + 0.5),
                    "floor": tf.floor, "ceil": tf.math.ceil,
                }[nearest_mode](place)  # fmt: skip
                made = tf.gather(x, tf.clip_by_value(tf.cast(rounded, tf.int64), 0, last), axis=axis)
            else:
                stretch = tf.minimum(scale, 1.0) if antialias else tf.ones_like(scale)
                weights = resize_weights(
                    place, size, mode, stretch, exclude_outside, antialias, cubic_coeff_a
                )
                made = tf.tensordot(x, tf.cast(weights, x.dtype), [[axis], [1]])
                made = tf.transpose(made, [*range(axis), rank - 1, *range(axis, rank - 1)])
            if not cropped:
                return made
            outside = (place < 0) | (place > tf.cast(size - 1, place.dtype))
            outside = tf.reshape(outside, [-1 if other == axis else 1 for other in range(rank)])
            return tf.where(outside, tf.cast(extrapolation_value, x.dtype), made)

        same = tf.equal(scale, 1.0) & tf.equal(start, 0.0) & tf.equal(stop, 1.0)
        x = tf.cond(same, lambda x=x: x, changed)
    return x


def resized_places(
    place: Any, size: Any, out: Any, scale: Any, window: tuple[Any, Any], mode: str, kind: Any
) -> Any:
    """Where in an axis of ``size`` places each of ``out`` places looks."""
    y = tf.cast(place, kind)
    size, out, scale, start, stop = (tf.cast(number, kind) for number in (size, out, scale, *window))
    span = tf.maximum(out - 1, 1)
    if mode == "align_corners":
        return tf.where(out > 1, y * (size - 1) / span, y * 0)
    if mode == "asymmetric":
        return y / scale
    if mode == "tf_crop_and_resize":
        inside = tf.where(out > 1, y * (stop - start) / span + start, y * 0 + (start + stop) / 2)
        return inside * (size - 1)
    half = (y + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return tf.where(out > 1, half, y * 0)
    return half + size / 2 * (1 - out / (scale * size)) if mode == "half_pixel_symmetric" else half


def resize_weights(
    place: Any, size: Any, mode: str, stretch: Any, inside_only: bool, antialias: bool, a: float
) -> Any:
    """(out, size): how much of each place goes into each output place; R. Keys, 1981, for the cubic kernel."""
    span = tf.math.ceil((2 if mode == "cubic" else 1) / stretch) + 1
    near = tf.floor(place)[:, None] + tf.range(-span, span + 1, dtype=place.dtype)
    d = tf.abs(place[:, None] - near) * stretch
    if mode == "cubic":
        close, far = ((a + 2) * d - (a + 3)) * d**2 + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        weights = tf.where(d <= 1, close, tf.where(d < 2, far, 0.0))
    else:
        weights = tf.clip_by_value(1 - d, 0, 1)
    if inside_only:
        weights = tf.where((near < 0) | (near >= size), tf.zeros_like(weights), weights)
    if antialias or inside_only:
        total = tf.reduce_sum(weights, 1, keepdims=True)
        weights = weights / tf.where(tf.equal(total, 0), tf.ones_like(total), total)
    where = tf.cast(tf.clip_by_value(near, 0, size - 1), tf.int64)
    rows = tf.broadcast_to(tf.range(tf.shape(where, tf.int64)[0])[:, None], tf.shape(where))
    shape = tf.stack([tf.shape(where, tf.int64)[0], tf.cast(size, tf.int64)])
    return tf.scatter_nd(tf.stack([rows, where], -1), weights, shape)
