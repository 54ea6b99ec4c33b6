"""Arguments of a PyTorch model that are more than an array: caches, dicts, lists, dataclasses, constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

import netferry
from netferry.converters import calling, structure
from netferry.converters.errors import UsageError
from netferry.converters.pytorch import calling as torch_calling
from netferry.converters.pytorch.outputs import named_outputs
from netferry.converters.signature import Example

Arrays = Mapping[str, np.ndarray[Any, Any]]
LAYERS, HEADS, WIDTH = 2, 2, 4


def floats(*sizes: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)


def tokens(*sizes: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(1, 50, sizes)


def run(model: Any, feeds: Arrays) -> dict[str, Any]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {one.name: feeds[one.name] for one in session.get_inputs()}
    return dict(zip(names, session.run(None, given), strict=True))


class ListCache:
    """A cache of lists, as transformers had it once."""

    def __init__(self) -> None:
        self.key_cache: list[Tensor] = []
        self.value_cache: list[Tensor] = []
        self._seen_tokens = 0

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if layer == 0:
            self._seen_tokens += key.shape[-2]
        if layer == len(self.key_cache):
            self.key_cache.append(key)
            self.value_cache.append(value)
        else:
            self.key_cache[layer] = torch.cat([self.key_cache[layer], key], -2)
            self.value_cache[layer] = torch.cat([self.value_cache[layer], value], -2)
        return self.key_cache[layer], self.value_cache[layer]

    @property
    def length(self) -> int:
        return self._seen_tokens


class Layer:
    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None) -> None:
        self.keys, self.values = keys, values
        self._window = torch.tensor(7)


class LayerCache:
    """A cache of layer objects, as transformers has it."""

    def __init__(self, layers: list[Layer] | None = None) -> None:
        self.layers = layers or []

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if layer == len(self.layers):
            self.layers.append(Layer())
        held = self.layers[layer]
        held.keys = key if held.keys is None else torch.cat([held.keys, key], -2)
        held.values = value if held.values is None else torch.cat([held.values, value], -2)
        return held.keys, held.values

    @property
    def length(self) -> int:
        keys = self.layers[0].keys if self.layers else None
        return 0 if keys is None else keys.shape[-2]


class Decoder(nn.Module):
    """Two layers of attention over what the cache holds; positions count on from it."""

    cache: type = ListCache

    def __init__(self) -> None:
        super().__init__()
        size = HEADS * WIDTH
        self.tokens, self.positions = nn.Embedding(50, size), nn.Embedding(64, size)
        self.qkv = nn.ModuleList(nn.Linear(size, 3 * size) for _ in range(LAYERS))
        self.head = nn.Linear(size, 50)

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: ListCache | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool = True,
    ) -> dict[str, Any]:
        cache: Any = self.cache() if past_key_values is None else past_key_values
        before, (batch, length) = cache.length, input_ids.shape
        own = torch.arange(before, before + length)
        x = self.tokens(input_ids) + self.positions(own)
        for place, layer in enumerate(self.qkv):
            q, k, v = (
                part.reshape(batch, length, HEADS, WIDTH).transpose(1, 2) for part in layer(x).chunk(3, -1)
            )
            k, v = cache.update(k, v, place)
            hidden = torch.arange(k.shape[2])[None] > own[:, None]
            if attention_mask is not None:
                hidden = hidden | (attention_mask[:, None, None] == 0)
            seen = (q @ k.transpose(2, 3)).masked_fill(hidden, -1e9).softmax(-1) @ v
            x = x + seen.transpose(1, 2).reshape(batch, length, -1)
        return {"logits": self.head(x)} | ({"past_key_values": cache} if use_cache else {})


class LayerDecoder(Decoder):
    cache = LayerCache


def filled(kind: type, batch: int, past: int, seed: int = 5) -> Any:
    cache = kind()
    for place in range(LAYERS):
        key, value = (
            torch.from_numpy(floats(batch, HEADS, past, WIDTH, seed=seed + place + n)) for n in (0, 9)
        )
        cache.update(key, value, place)
    return cache


def arrays_of(cache: Any) -> dict[str, Any]:
    made = structure.argument("past_key_values", cache)
    return {made.names[path]: array.numpy() for path, array in structure.leaves(cache).items()}


@pytest.fixture(params=[Decoder, LayerDecoder])
def decoder(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return request.param().eval()


def test_a_cache_goes_in_and_comes_out_with_past_and_length_free(decoder: Decoder) -> None:
    inputs = {
        "input_ids": tokens(2, 3),
        "attention_mask": np.ones((2, 8), np.int64),
        "past_key_values": filled(decoder.cache, 2, 5),
    }
    done = netferry.convert(decoder, "onnx", inputs=inputs, quick=True, seed=0)
    assert done.report is not None and done.report.status == "passed"
    assert done.route == "direct"
    named = [one.name for one in done.model.graph.input]
    assert set(named) == {"input_ids", "attention_mask"} | {
        f"past_key_values.{place}.{part}" for place in range(LAYERS) for part in ("key", "value")
    }
    for batch, length, past in ((3, 1, 9), (1, 4, 2)):
        cache = filled(decoder.cache, batch, past, seed=1)
        mask = np.ones((batch, past + length), np.int64)
        mask[0, :1] = 0
        given = {"input_ids": tokens(batch, length), "attention_mask": mask} | arrays_of(cache)
        got = run(done.model, given)
        with torch.no_grad():
            want = decoder(torch.from_numpy(given["input_ids"]), cache, torch.from_numpy(mask))
        np.testing.assert_allclose(got["logits"], want["logits"], atol=1e-5)
        for name, array in arrays_of(want["past_key_values"]).items():
            np.testing.assert_allclose(got[name.replace("past_key_values", "present")], array, atol=1e-5)


def test_the_cache_that_was_given_is_left_as_it_was(decoder: Decoder) -> None:
    cache = filled(decoder.cache, 2, 5)
    netferry.convert(
        decoder, "onnx", inputs={"input_ids": tokens(2, 3), "past_key_values": cache}, verify=False
    )
    assert cache.length == 5
    assert all(type(array) is Tensor and array.shape[2] == 5 for array in structure.leaves(cache).values())


def test_greedy_steps_through_the_cache_give_the_tokens_of_the_model(decoder: Decoder) -> None:
    inputs = {"input_ids": tokens(2, 3), "past_key_values": filled(decoder.cache, 2, 5)}
    done = netferry.convert(decoder, "onnx", inputs=inputs, verify=False)
    ids = tokens(2, 4, seed=7)
    with torch.no_grad():
        want = ids
        for _ in range(16):
            last = decoder(torch.from_numpy(want))["logits"][:, -1].argmax(-1)
            want = np.concatenate([want, last.numpy()[:, None]], 1)
    past = {
        f"past_key_values.{place}.{part}": np.zeros((2, HEADS, 0, WIDTH), np.float32)
        for place in range(LAYERS)
        for part in ("key", "value")
    }
    got, new = ids, ids
    for _ in range(16):
        result = run(done.model, {"input_ids": new} | past)
        new = result["logits"][:, -1].argmax(-1)[:, None]
        got = np.concatenate([got, new], 1)
        past = {name: result[name.replace("past_key_values", "present")] for name in past}
    np.testing.assert_array_equal(got, want)


def test_names_alone_say_that_inputs_are_parts_of_a_cache() -> None:
    torch.manual_seed(0)
    decoder, cache = Decoder().eval(), filled(ListCache, 2, 5)
    inputs = {"input_ids": tokens(2, 3)} | arrays_of(cache)
    free = {"input_ids": {0: "batch", 1: "length"}} | {
        name: {0: "batch", 2: "past"} for name in inputs if "." in name
    }
    done = netferry.convert(decoder, "onnx", inputs=inputs, dynamic=free, verify=False)
    with torch.no_grad():
        want = decoder(torch.from_numpy(inputs["input_ids"]), cache)["logits"]
    np.testing.assert_allclose(run(done.model, inputs)["logits"], want, atol=1e-5)


def test_what_is_said_of_an_argument_is_said_of_all_its_parts() -> None:
    cache = filled(ListCache, 2, 5)
    given = calling.examples(
        {"past_key_values": cache},
        {"past_key_values": {0: "b", 2: "past"}, "past_key_values.1.key": {2: "other"}},
    )
    assert {one.name: dict(one.free) for one in given} == {
        "past_key_values.0.key": {0: "b", 2: "past"},
        "past_key_values.0.value": {0: "b", 2: "past"},
        "past_key_values.1.key": {0: "b", 2: "other"},
        "past_key_values.1.value": {0: "b", 2: "past"},
    }


def test_an_empty_cache_and_constants_are_arguments_that_are_no_inputs() -> None:
    torch.manual_seed(0)
    decoder = Decoder().eval()
    for extra, outputs in (({"past_key_values": ListCache()}, 5), ({"use_cache": False}, 1)):
        done = netferry.convert(
            decoder, "onnx", inputs={"input_ids": tokens(2, 3)} | extra, quick=True, seed=0
        )
        assert done.report is not None and done.report.status == "passed"
        assert [one.name for one in done.model.graph.input] == ["input_ids"]
        assert len(done.model.graph.output) == outputs


@dataclass
class Batch:
    image: Tensor
    mask: Tensor | None = None


class Structured(nn.Module):
    def forward(self, batch: Batch, more: Any = None, parts: Any = (), scale: float = 2.0) -> Any:
        y = batch.image * scale
        y = y if batch.mask is None else y * batch.mask
        y = y if more is None else y + more["a"] - more["b"]["c"]
        return torch.cat([y, *parts], 1)


def test_dataclasses_dicts_and_lists_are_an_input_for_each_array() -> None:
    def inputs(rows: int) -> dict[str, Any]:
        image, mask, a, c = (torch.from_numpy(floats(rows, 3, seed=n)) for n in range(4))
        parts = [torch.from_numpy(floats(rows, n, seed=n)) for n in (2, 5)]
        return {"more": {"a": a, "b": {"c": c}}, "batch": Batch(image, mask), "parts": parts}

    done = netferry.convert(Structured(), "onnx", inputs=inputs(2), quick=True, seed=0)
    assert done.report is not None and done.report.status == "passed"
    want = ["batch.image", "batch.mask", "more.a", "more.b.c", "parts.0", "parts.1"]
    assert [one.name for one in done.model.graph.input] == want
    other = inputs(5)
    feeds = {one.name: one.array for one in calling.examples(other)}
    np.testing.assert_allclose(run(done.model, feeds)["output"], Structured()(**other), atol=1e-6)


class Named(nn.Module):
    def forward(self, **batch: Tensor) -> Tensor:
        y = batch.pop("first") * batch.pop("gate").sigmoid()
        return y - sum(batch.values())


def test_a_model_that_takes_any_names_is_given_its_inputs_by_them() -> None:
    names = ["rest", "gate", "first"]
    inputs = {name: floats(2, 3, seed=place) for place, name in enumerate(names)}
    done = netferry.convert(Named(), "onnx", inputs=inputs, quick=True, seed=0)
    assert done.report is not None and done.report.status == "passed"
    assert [one.name for one in done.model.graph.input] == names
    other = {name: floats(5, 3, seed=9 + place) for place, name in enumerate(names)}
    want = Named()(**{name: torch.from_numpy(array) for name, array in other.items()})
    np.testing.assert_allclose(run(done.model, other)["output"], want, atol=1e-6)


def test_one_array_in_two_places_is_two_inputs() -> None:
    x = floats(2, 3)
    given = calling.examples({"parts": [x, x]})
    assert [one.name for one in given] == ["parts.0", "parts.1"]


def test_a_dataclass_is_made_of_names_where_the_parameter_is_annotated_with_it() -> None:
    given = [Example("batch.image", floats(2, 3)), Example("batch.mask", floats(2, 3, seed=1))]
    model = torch_calling.called(Structured(), given)
    image, mask = (torch.from_numpy(one.array) for one in given)
    torch.testing.assert_close(model(image, mask), image * 2 * mask)


def test_numbers_in_a_list_are_one_array() -> None:
    (given,) = calling.examples({"x": [[1.0, 2.0], [3.0, 4.0]]})
    assert given.array.shape == (2, 2) and given.call is None


def test_a_cache_that_has_dropped_a_part_of_its_past_is_refused_by_name() -> None:
    cache = filled(ListCache, 2, 5)
    cache._seen_tokens = 12
    with pytest.raises(UsageError, match=r"_seen_tokens.*received 12"):
        calling.examples({"past_key_values": cache})


def test_only_pytorch_takes_what_is_no_array() -> None:
    done = netferry.convert(nn.Linear(3, 2), "onnx", inputs={"x": floats(2, 3)}, verify=False)
    with pytest.raises(UsageError, match="takes arrays alone"):
        netferry.convert(done.model, "pytorch", inputs={"x": floats(2, 3), "flag": True}, verify=False)


@pytest.mark.parametrize(
    ("past", "names"),
    [
        (tuple((torch.ones(1), torch.zeros(1)) for _ in range(2)), ["0.key", "0.value", "1.key", "1.value"]),
        (
            [tuple(torch.ones(1) for _ in range(4))],
            ["0.decoder.key", "0.decoder.value", "0.encoder.key", "0.encoder.value"],
        ),
        (LayerCache([Layer(torch.ones(1), torch.ones(1))]), ["0.key", "0.value"]),
    ],
)
def test_a_cache_comes_out_as_present(past: Any, names: list[str]) -> None:
    found = named_outputs({"logits": torch.ones(1), "past_key_values": past})
    assert list(found) == ["logits", *(f"present.{name}" for name in names)]


def test_an_encoders_cache_and_a_decoders_are_told_apart_by_their_roles() -> None:
    class Both:
        def __init__(self) -> None:
            self.self_attention_cache = LayerCache([Layer(torch.ones(1), torch.ones(1))])
            self.cross_attention_cache = LayerCache([Layer(torch.ones(1), torch.ones(1))])
            self.is_updated = {0: True}

    assert list(named_outputs((torch.ones(1), Both()))) == [
        "output_0", "present.0.decoder.key", "present.0.decoder.value", "present.0.encoder.key", "present.0.encoder.value",
    ]  # fmt: skip
