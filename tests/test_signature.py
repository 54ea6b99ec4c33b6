"""Inputs as people write them."""

from __future__ import annotations

import numpy as np
import pytest

from netferry.converters.errors import UsageError
from netferry.converters.signature import examples, examples_from_flags


def test_a_flag_gives_an_array_with_a_free_batch() -> None:
    [one] = examples_from_flags(["data:1,3,224,224"])
    assert (one.name, one.array.shape, one.array.dtype) == ("data", (1, 3, 224, 224), np.float32)
    assert one.free == {0: "batch"}
    assert not one.asked


def test_named_sizes_are_free_and_asked_for() -> None:
    image, mask = examples_from_flags(["x:batch,3,h=48,w:f16", "m:batch,5:i64"])
    assert image.array.shape == (2, 3, 48, 32)
    assert image.free == {0: "batch", 2: "h", 3: "w"}
    assert image.asked
    assert image.array.dtype == np.float16
    assert mask.array.dtype == np.int64
    assert mask.spec.dims == ("batch", 5)


@pytest.mark.parametrize("flag", ["x", "x:1,-3", "x:1,3:q8", ":1,3", "x:0,3", "x:1,,3", "x:1,a b!"])
def test_what_cannot_be_read_is_refused(flag: str) -> None:
    with pytest.raises(UsageError):
        examples_from_flags([flag])


def test_the_same_batch_size_means_the_same_batch() -> None:
    a, b, c = examples({"a": np.ones((4, 2)), "b": np.ones(4), "c": np.ones(7)})
    assert a.free == b.free == {0: "batch"}
    assert c.free == {}


def test_dynamic_names_exactly_what_is_free() -> None:
    [one] = examples({"a": np.ones((4, 2))}, {"a": {1: "width"}})
    assert one.spec.dims == (4, "width")
    assert one.asked
    [frozen] = examples({"a": np.ones((4, 2))}, {})
    assert frozen.spec.dims == (4, 2)


@pytest.mark.parametrize("dynamic", [{"b": {0: "n"}}, {"a": {2: "n"}}, {"a": {-1: "n"}}])
def test_dynamic_that_names_nothing_is_refused(dynamic: dict[str, dict[int, str]]) -> None:
    with pytest.raises(UsageError):
        examples({"a": np.ones((4, 2))}, dynamic)
