"""Graphs of TensorFlow's operators: functions, modules that were saved, and TensorFlow 1."""

# ruff: noqa: ARG001, ARG005 - sources and ways are called alike

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tensorflow_sources import FAMILIES, Array, Build, Source, floats

v1 = tf.compat.v1
Body = Callable[..., Any]


class Served(tf.Module):  # type: ignore[misc]
    """A function with two weights, saved with its signature."""

    def __init__(self, body: Body, specs: Sequence[Any]) -> None:
        super().__init__()
        self.w, self.v = (
            tf.Variable(floats(6, 6, seed=5) * 0.4, name="w"),
            tf.Variable(floats(6, seed=6), name="v"),
        )
        self.serve = tf.function(lambda *given: {"y": body(self, *given)}, list(specs))


def spec(*sizes: int | None, name: str = "x", dtype: Any = tf.float32) -> Any:
    return tf.TensorSpec(sizes, dtype, name)


def module(body: Body, feeds: Sequence[dict[str, Array]], *specs: Any) -> Build:
    def build(folder: Path) -> Source:
        held = Served(body, specs)
        tf.saved_model.save(held, str(folder / "net"), signatures=held.serve)
        return Source(folder / "net", held.serve, feeds)

    return build


ROWS = [{"x": floats(batch, 6, seed=batch)} for batch in (2, 5)]
PLAIN = (spec(None, 6),)


def looped(m: Any, x: Any) -> Any:
    return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y @ m.w)), [0, x])[1]


FUNCTIONS: dict[str, Body] = {
    "dense": lambda m, x: tf.nn.relu(x @ m.w + m.v),
    "a branch": lambda m, x: tf.cond(tf.reduce_sum(x) > 0, lambda: x @ m.w, lambda: tf.sigmoid(x)),
    "a loop": looped,
    "a map": lambda m, x: tf.map_fn(lambda row: tf.reduce_max(row) * m.v, x),
    "einsum": lambda m, x: tf.einsum("bi,ij,j->bj", x, m.w, m.v),
    "the largest": lambda m, x: tf.math.top_k(x @ m.w, 3).values,
    "slices": lambda m, x: tf.concat([x[:, ::2], x[:, -1:], x[:, tf.newaxis, 1:3][:, 0]], 1),
    "scattered": lambda m, x: tf.tensor_scatter_nd_add(x, [[0, 1], [1, 2]], m.v[:2]),
    "segments": lambda m, x: tf.math.segment_sum(tf.transpose(x), [0, 0, 1, 1, 1, 2]),
    "one hot": lambda m, x: tf.one_hot(tf.argmax(x, 1), 6) * m.v,
    "cumulated": lambda m, x: tf.cumsum(x, 1, exclusive=True, reverse=True),
    "normalised": lambda m, x: (
        tf.nn.l2_normalize(x - tf.reduce_mean(x, 1, keepdims=True), 1) + tf.math.reduce_std(x)
    ),
    "a band": lambda m, x: x @ tf.linalg.band_part(m.w, 1, 0),
    "moments": lambda m, x: tf.nn.batch_normalization(x, *tf.nn.moments(x, [0]), m.v, m.v, 1e-3),
    "where": lambda m, x: tf.where(x > 0, x, tf.math.expm1(x)) + tf.gather(m.v, [5, 4, 3, 2, 1, 0]),
    "a softmax behind a mask": lambda m, x: tf.nn.softmax(
        tf.where(x > 1, tf.fill(tf.shape(x), -1e9), x @ m.w)
    ),
}
FAMILIES["modules"] = {name: module(body, ROWS, *PLAIN) for name, body in FUNCTIONS.items()}

IMAGES = [{"x": floats(batch, 9, 8, 3, seed=batch)} for batch in (1, 3)]
PIXELS: dict[str, Body] = {
    "bilinear": lambda m, x: tf.image.resize(x, (5, 17)),
    "nearest": lambda m, x: tf.image.resize(x, (18, 16), "nearest"),
    "blocks": lambda m, x: tf.nn.space_to_depth(x[:, :8], 2),
    "patches": lambda m, x: tf.image.extract_patches(x, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME"),
    "response": lambda m, x: tf.nn.local_response_normalization(x),
    "padded": lambda m, x: tf.pad(x, [[0, 0], [1, 2], [2, 1], [0, 0]], "REFLECT"),
    "crops": lambda m, x: tf.image.crop_and_resize(x, [[0.1, 0.2, 0.8, 0.9]], [0], (4, 4)),
}
FAMILIES["images"] = {name: module(body, IMAGES, spec(None, 9, 8, 3)) for name, body in PIXELS.items()}


# ---- detection and lookups -------------------------------------------------------------------------


def boxes(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.7, (12, 2))
    both = np.concatenate([corner, corner + rng.uniform(0.1, 0.3, (12, 2))], 1)
    return {"boxes": both.astype(np.float32), "scores": rng.uniform(0, 1, 12).astype(np.float32)}


def combined(m: Any, given: Any, scores: Any) -> Any:
    found = tf.image.combined_non_max_suppression(given[None, :, None], scores[None, :, None], 5, 5, 0.4, 0.2)
    return tf.concat([found[0], found[1][..., None]], -1)


DETECTIONS: dict[str, Body] = {
    "NonMaxSuppressionV3": lambda m, given, scores: tf.gather(given, tf.image.non_max_suppression(given, scores, 6, 0.4)),
    "NonMaxSuppressionV4": lambda m, given, scores: tf.image.non_max_suppression_padded(given, scores, 6, 0.4, pad_to_max_output_size=True)[0],
    "NonMaxSuppressionV5": lambda m, given, scores: tf.image.non_max_suppression_with_scores(given, scores, 6, 0.4)[1],
    "CombinedNonMaxSuppression": combined,
}  # fmt: skip
FAMILIES["detection"] = {
    name: module(body, [boxes(1), boxes(2)], spec(12, 4, name="boxes"), spec(12, name="scores"))
    for name, body in DETECTIONS.items()
}


class Table(tf.Module):  # type: ignore[misc]
    def __init__(self, values: Any) -> None:
        super().__init__()
        held = tf.lookup.KeyValueTensorInitializer(tf.constant([3, 5, 8], tf.int64), tf.constant(values))
        self.table = tf.lookup.StaticHashTable(held, values[0])
        self.serve = tf.function(lambda x: {"y": self.table.lookup(x)}, [spec(None, 2, dtype=tf.int64)])


def table(values: Any) -> Build:
    def build(folder: Path) -> Source:
        held = Table(values)
        tf.saved_model.save(held, str(folder / "net"), signatures=held.serve)
        return Source(
            folder / "net", held.serve, [{"x": np.asarray([[3, 4], [8, 5]])}, {"x": np.asarray([[5, 3]])}]
        )

    return build


FAMILIES["lookups"] = {"floats": table([0.5, 1.5, -2.0]), "integers": table([7, 1, 2])}


# ---- TensorFlow 1 ----------------------------------------------------------------------------------


def dense(x: Any) -> Any:
    return tf.nn.relu(
        x @ v1.get_variable("w", [6, 4], use_resource=False) + v1.get_variable("b", [4], use_resource=False)
    )


def in_parts(x: Any) -> Any:
    return x @ v1.get_variable("w", [6, 4], partitioner=v1.fixed_size_partitioner(3), use_resource=False)


def convolved(x: Any) -> Any:
    image = tf.reshape(x, [-1, 3, 2, 1])
    y = tf.nn.conv2d(image, v1.get_variable("kernel", [2, 2, 1, 3]), 1, "SAME")
    return v1.nn.fused_batch_norm(
        y, *(v1.get_variable(n, [3]) for n in "gb"), tf.zeros(3), tf.ones(3) * 0.5, is_training=False
    )[0]


def counted(x: Any) -> Any:
    return v1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 1.5 + x), [0, x])[1]


def branched(x: Any) -> Any:
    return v1.cond(tf.reduce_sum(x) > 0, lambda: x * 2.0, lambda: tf.sigmoid(x))


OLD: dict[str, Body] = {
    "dense": dense,
    "in parts": in_parts,
    "convolved": convolved,
    "a loop": counted,
    "a branch": branched,
}


def old(body: Body, how: str) -> Build:
    """A graph of TensorFlow 1 as a frozen file, a SavedModel, or a checkpoint of either format with its graph."""

    def build(folder: Path) -> Source:
        v1.disable_control_flow_v2()
        with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
            x = v1.placeholder(tf.float32, [None, 6], "x")
            y = tf.identity(body(x), "y")
            session.run(v1.global_variables_initializer())
            for variable in v1.global_variables():
                session.run(variable.assign(floats(*variable.shape, seed=3)))
            held = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["y"])
            if how == "frozen":
                tf.io.write_graph(held, str(folder), "net.pb", as_text=False)
            elif how == "saved":
                v1.saved_model.simple_save(session, str(folder / "net"), {"x": x}, {"y": y})
            else:
                v1.train.Saver(v1.global_variables() or [tf.Variable(0.0)], write_version=int(how)).save(
                    session, str(folder / "net")
                )
        wrapped = v1.wrap_function(lambda: tf.graph_util.import_graph_def(held, name=""), [])
        function = wrapped.prune(["x:0"], ["y:0"])
        path = folder / {"frozen": "net.pb", "saved": "net"}.get(how, "net.meta")
        return Source(path, lambda x: function(x), ROWS, outputs=("y",) if how in "12" else ())

    return build


for title, way in (
    ("frozen graphs", "frozen"),
    ("SavedModels of TensorFlow 1", "saved"),
    ("checkpoints", "2"),
):
    FAMILIES[title] = {
        name: old(body, way)
        for name, body in OLD.items()
        if way != "2" or name in ("dense", "in parts", "convolved")
    }
FAMILIES["old checkpoints"] = {name: old(OLD[name], "1") for name in ("dense", "in parts")}
