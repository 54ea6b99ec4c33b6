"""What the turns of a loop have added, as one tensor."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def stacked_turns(rows: Any, *sizes: int) -> Any:
    """A ``TensorArray`` stacked; of no turn, an empty tensor, whose sizes that only a turn tells are 0."""
    return tf.cond(tf.equal(rows.size(), 0), lambda: tf.zeros((0, *sizes), rows.dtype), lambda: rows.stack())
