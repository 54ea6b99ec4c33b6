"""The forms in which people write a Keras model: each takes the direct route and gives what Keras gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_models import carried, distance, randomised

import netferry
from netferry.converters import source
from netferry.converters.errors import RefusedError, UnsupportedError, UsageError
from netferry.converters.signature import examples
from netferry.converters.tensorflow import live
from netferry.converters.tensorflow.runtime import keras, tf
from netferry.converters.tensorflow.signature import signature
from netferry.converters.tensorflow.to_onnx import to_onnx

L, ops = keras.layers, keras.ops
LIMIT = 3e-6
RNG = np.random.default_rng(5)
X, Y = (RNG.standard_normal((3, 6)).astype("f4") for _ in range(2))


def given(name: str) -> Any:
    return keras.Input((6,), name=name)


def body(x: Any) -> Any:
    return L.Dense(3)(L.BatchNormalization()(L.Dense(5, activation="relu")(x)))


def compared(model: Any, feeds: Mapping[str, Any], expected: Any) -> None:
    """By name into the ONNX model, which took the direct route; outputs in Keras' order."""
    arrived = carried(model)
    assert arrived.export.route == "direct"
    received = arrived.session.run(None, dict(feeds))
    flat = [np.asarray(y) for y in keras.tree.flatten(expected)]
    assert len(flat) == len(received)
    assert max(distance(y, z) for y, z in zip(flat, received, strict=True)) < LIMIT


# ---- functional models ----------------------------------------------------------------------


def one_in_a_list(form: Callable[[Any], Any]) -> Any:
    x = given("x")
    return keras.Model(form(x), body(x))


def called_twice() -> Any:
    x, a, b = given("x"), given("a"), given("b")
    inner = keras.Model([x], [body(x)], name="inner")
    parts = [keras.tree.flatten(inner([part]))[0] for part in (a, b)]
    return keras.Model([b, a], L.Subtract()(parts))


def nested() -> Any:
    a, b, c = given("a"), given("b"), given("c")
    return keras.Model({"p": [a, b], "q": {"r": c}}, [{"u": body(a + b)}, c * 2])


def sequential_inside() -> Any:
    x = given("x")
    inner = keras.Sequential([L.Dense(4), L.BatchNormalization()])
    return keras.Model([x], L.Dense(2)(inner(x)))


def functional_in_sequential() -> Any:
    x = given("x")
    return keras.Sequential([x, keras.Model([x], body(x)), L.Dense(2)])


class OfOnesOwn(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class of its own whose layers are a graph all the same."""


def subclassed() -> Any:
    x = given("x")
    return OfOnesOwn([x], body(x))


PAIR = {"a": X, "b": Y}
FORMS: dict[str, tuple[Callable[[], Any], Any, Mapping[str, Any]]] = {
    "a list": (lambda: one_in_a_list(lambda x: [x]), [X], {"x": X}),
    "a tuple": (lambda: one_in_a_list(lambda x: (x,)), (X,), {"x": X}),
    "a mapping": (lambda: one_in_a_list(lambda x: {"other": x}), {"other": X}, {"x": X}),
    "called on a list, twice": (called_twice, [Y, X], PAIR),
    "nested": (nested, {"p": [X, Y], "q": {"r": X}}, {"a": X, "b": Y, "c": X}),
    "a Sequential inside": (sequential_inside, [X], {"x": X}),
    "inside a Sequential": (functional_in_sequential, X, {"x": X}),
    "a class of its own": (subclassed, [X], {"x": X}),
}

REBUILT: dict[str, Callable[[Any, Path], Any]] = {
    "as it is": lambda model, _: model,
    "from_config": lambda model, _: type(model).from_config(model.get_config()),
    "cloned": lambda model, _: keras.models.clone_model(model),
    ".keras": lambda model, folder: read_back(model, folder / "m.keras"),
    ".h5": lambda model, folder: read_back(model, folder / "m.h5"),
}


def read_back(model: Any, path: Path) -> Any:
    model.save(path)
    return source.open_source(path)


@pytest.mark.parametrize("again", REBUILT)
@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_inputs_takes_the_direct_route(name: str, again: str, tmp_path: Path) -> None:
    make, packed, feeds = FORMS[name]
    if again in (".keras", ".h5") and name == "a class of its own":
        pytest.skip("a file holds the class, which is not ours")
    model = REBUILT[again](make(), tmp_path)
    model = randomised(model) if again not in (".keras", ".h5") else model
    compared(model, feeds, model(packed, training=False))


def test_an_h5_names_operations_between_layers_without_their_module(tmp_path: Path) -> None:
    x = keras.Input((6,), dtype="int32", name="x")
    y = L.LSTM(3, return_sequences=True)(L.Embedding(9, 4, mask_zero=True)(x))
    model = randomised(keras.Model(x, ops.relu(y[:, 2:, :2]) * ops.sigmoid(y[:, 1:-1, 1:])))
    ids = np.asarray([[1, 3, 4, 0, 0, 0], [2, 2, 5, 7, 8, 1]], np.int32)
    compared(read_back(model, tmp_path / "net.h5"), {"x": ids}, model(ids))


# ---- models whose layers are called by code of their own -----------------------------------


class Ranker(keras.Model):  # type: ignore[misc] # Keras has no types
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = L.Embedding(10, 3), L.Dense(4)

    def call(self, inputs: Any) -> Any:
        kind = ops.mean(self.table(inputs["kind"]), axis=1)
        return {"score": self.head(ops.concatenate([inputs["numbers"], kind], axis=-1))}


class Pair(keras.Model):  # type: ignore[misc] # Keras has no types
    def __init__(self) -> None:
        super().__init__()
        self.head = L.Dense(6)

    def call(self, both: Any) -> Any:
        a, b = both
        return self.head(a) - b


class Named(keras.Model):  # type: ignore[misc] # Keras has no types
    def __init__(self) -> None:
        super().__init__()
        self.head = L.Dense(6)

    def call(self, a: Any, b: Any, scale: Any = None, training: bool = False) -> Any:
        y = self.head(a) - b
        return y if scale is None else y * scale


RANKED = {"numbers": X, "kind": np.array([[1, 2], [3, 9], [0, 4]], "int32")}
OWN: dict[str, tuple[Callable[[], Any], Mapping[str, Any], Callable[[Any], Any]]] = {
    "a mapping": (Ranker, RANKED, lambda model: model(RANKED)),
    "a list": (Pair, PAIR, lambda model: model([X, Y])),
    "by name": (Named, {"b": Y, "a": X}, lambda model: model(X, Y)),
    "by name, with what may be left out": (
        Named,
        {"scale": Y[:, :1], "b": Y, "a": X},
        lambda model: model(X, Y, Y[:, :1]),
    ),
}


@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize("name", OWN)
def test_code_of_ones_own_gets_its_inputs_as_it_takes_them(name: str, called: bool) -> None:
    make, feeds, call = OWN[name]
    model = make()
    if called:
        call(model)
    exported = carried(model, examples(feeds))
    assert exported.export.route == "direct"
    names = [value.name for value in exported.session.get_inputs()]
    received = exported.session.run(None, dict(feeds))
    (expected,) = (np.asarray(y) for y in keras.tree.flatten(call(model)))
    assert distance(expected, received[0]) < LIMIT
    (again,) = live.run(model, [feeds[name] for name in names]).values()
    assert distance(expected, again) < LIMIT


def test_a_model_that_was_called_knows_its_inputs() -> None:
    model = Ranker()
    model(RANKED)
    inputs = {spec.name: (spec.dtype.name, spec.dims) for spec in signature(model).inputs}
    assert inputs == {"numbers": ("float32", ("batch", 6)), "kind": ("int32", ("batch", 2))}
    compared(model, RANKED, model(RANKED))


def test_a_model_that_was_never_called_asks_for_examples() -> None:
    with pytest.raises(UsageError, match="does not declare the sizes"):
        to_onnx(Named())


# ---- how layers are called ------------------------------------------------------------------


class Masked(L.Layer):  # type: ignore[misc] # Keras has no types
    def __init__(self, by_name: bool) -> None:
        super().__init__()
        self.softmax, self.head, self.by_name = L.Softmax(), L.Dense(4), by_name

    def call(self, x: Any, mask: Any) -> Any:
        y = self.head(inputs=x)
        return self.softmax(y, mask=mask) if self.by_name else self.softmax(y, mask)


@pytest.mark.parametrize("by_name", [True, False])
def test_a_mask_reaches_softmax_by_name_and_by_position(by_name: bool) -> None:
    x, mask = given("x"), keras.Input((4,), dtype="bool", name="mask")
    model = randomised(keras.Model([x, mask], Masked(by_name)(x, mask)))
    allowed = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0]], bool)
    compared(model, {"x": X, "mask": allowed}, model([X, allowed]))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("scores", [True, False])
def test_a_query_that_may_look_nowhere_gets_what_keras_gives_it(dropout: float, scores: bool) -> None:
    x, mask = keras.Input((4, 6), name="x"), keras.Input((4, 4), dtype="bool", name="mask")
    y = L.MultiHeadAttention(2, 3, dropout=dropout)(x, x, attention_mask=mask, return_attention_scores=scores)
    model = randomised(keras.Model([x, mask], y))
    allowed = RNG.random((3, 4, 4)) > 0.5
    allowed[0] = False
    values = RNG.standard_normal((3, 4, 6)).astype("f4")
    compared(model, {"x": values, "mask": allowed}, model([values, allowed]))


def dense() -> tuple[Any, Any]:
    x = given("x")
    return keras.Model([x], L.Dense(3)(L.Dense(8, activation="relu")(x))), X


def attending() -> tuple[Any, Any]:
    x = keras.Input((5, 6), name="x")
    return keras.Model([x], L.MultiHeadAttention(2, 4)(x, x)), RNG.standard_normal((2, 5, 6)).astype("f4")


def looked_up() -> tuple[Any, Any]:
    x = keras.Input((4,), dtype="int32", name="x")
    return keras.Model([x], L.Dense(3)(L.Embedding(9, 8)(x))), RNG.integers(0, 9, (2, 4)).astype("int32")


@pytest.mark.parametrize("make", [dense, attending, looked_up])
def test_layers_that_are_quantised_compute_with_the_same_integers(
    make: Callable[[], tuple[Any, Any]],
) -> None:
    model, x = make()
    randomised(model).quantize("int8")
    compared(model, {"x": x}, model([x]))


def by_equation() -> tuple[Any, Any]:
    x = keras.Input((5, 6), name="x")
    y = L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")(x)
    return keras.Model([x], y), RNG.standard_normal((2, 5, 6)).astype("f4")


def tied() -> tuple[Any, Any]:
    x, table = keras.Input((4,), dtype="int32", name="x"), L.ReversibleEmbedding(9, 7)
    y = table(L.Dense(7)(table(x)), reverse=True)
    return keras.Model([x], y), RNG.integers(0, 9, (2, 4)).astype("int32")


OTHERWISE: dict[str, Callable[[], Any]] = {
    "int4, in blocks": lambda: keras.quantizers.Int4QuantizationConfig(block_size=4),
    "int4, a channel at a time": lambda: keras.quantizers.Int4QuantizationConfig(
        block_size=-1, activation_quantizer=keras.quantizers.AbsMaxQuantizer()
    ),
    "float8": keras.quantizers.Float8QuantizationConfig,
    "int8, weights alone": lambda: keras.quantizers.Int8QuantizationConfig(activation_quantizer=None),
}


@pytest.mark.parametrize("how", OTHERWISE)
@pytest.mark.parametrize("make", [dense, by_equation, looked_up, tied])
def test_layers_of_four_bits_and_of_float8_compute_as_keras_does_also_from_their_file(
    make: Callable[[], tuple[Any, Any]], how: str, tmp_path: Path
) -> None:
    model, x = make()
    randomised(model).quantize(config=OTHERWISE[how]())
    compared(model, {"x": x}, model([x]))
    model.save(tmp_path / "net.keras")
    compared(source.open_source(tmp_path / "net.keras"), {"x": x}, model([x]))


@pytest.mark.parametrize("make", [dense, by_equation, looked_up])
def test_a_layer_that_is_adapted_by_lora_computes_its_weight(make: Callable[[], tuple[Any, Any]]) -> None:
    model, x = make()
    adapted = [layer for layer in model.layers if isinstance(layer, L.Dense | L.EinsumDense | L.Embedding)]
    for layer in adapted:
        layer.enable_lora(2)
    randomised(model)
    compared(model, {"x": x}, model([x]))
    names = {path for layer in adapted for path in (v.path for v in layer.variables) if "lora" in path}
    assert names <= set(to_onnx(model).model.graph.initializers)


def hashed() -> Any:
    x = keras.Input((1,), dtype="int64", name="x")
    return keras.Model(x, L.Dense(2)(L.Embedding(8, 3)(L.Hashing(8, name="bucket")(x))))


def test_hashes_are_refused_and_a_part_begins_behind_them() -> None:
    with pytest.raises(UnsupportedError, match=r"bucket.*hashes.*--input-at"):
        to_onnx(hashed())
    made = netferry.convert(hashed(), "onnx", input_at="bucket", verify=False)
    assert [value.name for value in made.model.graph.input] == ["bucket"]


class Compared(L.Layer):  # type: ignore[misc] # Keras has no types
    """Compares with the operators of Python, on sizes that are free."""

    def call(self, ids: Any) -> Any:
        places = ops.arange(ops.shape(ids)[1])
        own = ops.where(ops.expand_dims(places, -1) == places, 2.0, 0.5)
        known = ops.cast(ids != 0, "float32") + ops.cast(ids == 3, "float32")
        return ops.matmul(known, own)


def test_tensors_are_compared_element_by_element() -> None:
    x = keras.Input((None,), dtype="int32", name="x")
    model = keras.Model([x], Compared()(x))
    for size in (5, 8):
        ids = RNG.integers(0, 5, (3, size)).astype("int32")
        compared(model, {"x": ids}, model([ids]))


def test_a_loss_that_is_added_is_no_part_of_the_result() -> None:
    class Sparse(L.Layer):  # type: ignore[misc] # Keras has no types
        def call(self, x: Any) -> Any:
            self.add_loss(ops.sum(ops.abs(x)))
            return x * 2

    x = given("x")
    model = randomised(keras.Model([x], Sparse()(L.Dense(3, activity_regularizer="l2")(x))))
    compared(model, {"x": X}, model([X]))


# ---- what is no array of numbers -------------------------------------------------------------


def of_strings() -> Any:
    text = L.TextVectorization(max_tokens=9, output_sequence_length=3)
    text.adapt(["the cat", "a dog"])
    x = keras.Input((1,), dtype="string", name="x")
    return keras.Model(x, L.Embedding(9, 2)(text(x)))


def ragged() -> Any:
    x = keras.Input((None,), dtype="int64", name="x", ragged=True)
    return keras.Model([x], L.Embedding(4, 3)(x))


def sparse() -> Any:
    x = keras.Input((6,), name="x", sparse=True)
    return keras.Model([x], L.Dense(3)(x))


def lengths() -> Any:
    return tf.function(tf.strings.length, input_signature=[tf.TensorSpec([None], tf.string, name="x")])


def printed() -> Any:
    return tf.function(tf.strings.as_string, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])


FOREIGN = {
    "strings": of_strings,
    "ragged": ragged,
    "sparse": sparse,
    "lengths": lengths,
    "as_string": printed,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_array_of_numbers_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(RefusedError, match="which are not converted") as refusal:
        to_onnx(FOREIGN[name]())
    assert "\n" not in str(refusal.value)


def test_strings_as_examples_are_refused() -> None:
    with pytest.raises(RefusedError, match="strings"):
        to_onnx(tf.function(tf.strings.length), examples({"x": np.array(["a", "b"])}))
