"""What a configuration of Hugging Face names is neither fetched nor run, and what it asks for is held against its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from netferry.converters import source
from netferry.converters.errors import RefusedError
from netferry.converters.pytorch.huggingface import demands

transformers = pytest.importorskip("transformers")

KERNELS = {
    "attn_implementation": "somebody/attention",
    "_attn_implementation": "somebody/attention",
    "_attn_implementation_internal": "flash_attention_2",
    "_experts_implementation": "somebody/experts",
}


@pytest.mark.parametrize("name", [*sorted(demands.LEFT_OUT)])
def test_fields_that_name_code_are_left_out_at_any_depth(name: str) -> None:
    given = {name: "x", "a": [{"b": {name: {"c": 1}, "kept": [1, "x"]}}], "hidden_size": 4}
    assert demands.plain(given) == {"a": [{"b": {"kept": [1, "x"]}}], "hidden_size": 4}


def saved(folder: Path, **changes: Any) -> Path:
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=20
    )
    torch.manual_seed(5)
    transformers.BertModel(config).save_pretrained(folder)
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | changes))
    return folder


def test_a_model_that_names_kernels_is_read_without_them(tmp_path: Path) -> None:
    opened = source.open_source(saved(tmp_path / "named", **KERNELS))
    (model,) = [each for each in opened.modules() if isinstance(each, transformers.BertModel)]
    assert model.config._attn_implementation in ("eager", "sdpa")
    want = transformers.BertModel.from_pretrained(saved(tmp_path / "plain")).state_dict()
    assert set(model.state_dict()) == set(want)
    assert all(torch.equal(value, want[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("numbers", "fits"),
    [([1 << 23], True), ([1 << 24], True), ([1 << 24, 1 << 20], False), ([1 << 40], False)],
)
def test_numbers_are_held_against_those_of_the_files(numbers: list[int], fits: bool) -> None:
    def build() -> None:
        module = torch.nn.Module()
        for place, count in enumerate(numbers):
            module.register_parameter(f"p{place}", torch.nn.Parameter(torch.empty(count, device="meta")))

    with demands.no_more_than({"w": torch.empty(1000, device="meta")}, "net"):
        if fits:
            build()
        else:
            with pytest.raises(RefusedError, match="far more weights"):
                build()
    build()


def test_parameters_are_counted_too() -> None:
    with demands.no_more_than({}, "net"), pytest.raises(RefusedError, match="far more weights"):
        for _ in range(demands._PARAMETERS + 1):
            torch.nn.Module().register_parameter("p", torch.nn.Parameter(torch.empty(1)))


@pytest.mark.parametrize("layers", [3, 12, 61, 126])
def test_as_many_layers_as_models_have_are_no_matter(layers: int) -> None:
    demands.demand_plain(
        {"num_hidden_layers": layers, "backbone": "resnet50.a1_in1k", "num_labels": 21_841}, "net"
    )
