"""ONNX's choice among boxes, for every image and every class of a batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def non_max_suppression(
    boxes: Any, scores: Any, limit: Any = 0, iou_threshold: Any = 0.0, score_threshold: Any = None, *, center: bool = False
) -> Any:  # fmt: skip
    """The places (batch, class, box) that are left when those that overlap a better one are dropped."""
    boxes, scores = tf.cast(boxes, tf.float32), tf.cast(scores, tf.float32)
    if center:
        middle, extent = tf.split(boxes, 2, -1)
        boxes = tf.concat([middle - extent / 2, middle + extent / 2], -1)
    kinds, count = tf.shape(scores)[1], tf.shape(scores)[2]
    most = tf.cast(tf.clip_by_value(tf.cast(limit, tf.int64), 0, tf.cast(count, tf.int64)), tf.int32)
    least = float("-inf") if score_threshold is None else tf.cast(tf.reshape(score_threshold, []), tf.float32)
    shared = tf.cast(tf.reshape(iou_threshold, []), tf.float32)

    def turn(place: Any, found: Any) -> Any:
        batch, kind = place // kinds, place % kinds
        chosen = tf.image.non_max_suppression(
            boxes[batch], scores[batch, kind], tf.reshape(most, []), shared, least
        )
        rows = tf.stack([tf.fill(tf.shape(chosen), batch), tf.fill(tf.shape(chosen), kind), chosen], 1)
        return place + 1, tf.concat([found, tf.cast(rows, tf.int64)], 0)

    turns, nothing = tf.shape(scores)[0] * kinds, tf.zeros([0, 3], tf.int64)
    shapes = tf.TensorShape([]), tf.TensorShape([None, 3])
    return tf.while_loop(lambda place, _: place < turns, turn, (tf.constant(0), nothing), shapes)[1]
