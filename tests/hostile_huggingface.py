"""Folders of Hugging Face whose configuration names code, other models, or far more than its weights hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Kit, case, cases

BERT: Mapping[str, Any] = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 8, "vocab_size": 20, "max_position_embeddings": 8,
}  # fmt: skip
TIMM = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperModel"]}
MORE, OTHER, COUNTS = "far more weights", "names another model", "more than any model has"
CONFIGS: Mapping[str, tuple[object, str]] = {
    "code_of_its_own": ({"model_type": "mine", "auto_map": {"AutoModel": "modeling_mine.Mine"}}, "code of its own"),
    "code_of_another_repository": ({"model_type": "mine", "auto_map": {"AutoModel": "else/where--modeling.Mine"}}, "code of its own"),
    "code_as_a_list": ({"model_type": "mine", "auto_map": ["modeling_mine.Mine"]}, "no such architecture"),
    "a_quantiser": ({**BERT, "quantization_config": {"quant_method": "aqlm"}}, "quantiser"),
    "a_timm_model_of_a_folder": ({**TIMM, "architecture": "local-dir:../elsewhere"}, OTHER),
    "a_timm_model_of_the_hub": ({**TIMM, "architecture": "hf-hub:some/model"}, OTHER),
    "a_backbone_by_its_path": ({**BERT, "model_type": "detr", "backbone": "../elsewhere/model"}, OTHER),
    "a_backbone_in_a_part": ({**BERT, "vision_config": {"backbone": "C:\\models\\net"}}, OTHER),
    "a_million_layers": ({**BERT, "num_hidden_layers": 1_000_000}, COUNTS),
    "layers_of_many_digits": ({**BERT, "num_hidden_layers": 10**400}, COUNTS),
    "ten_thousand_layers": ({**BERT, "num_hidden_layers": 10_000}, MORE),
    "a_large_vocabulary": ({**BERT, "vocab_size": 1 << 30}, MORE),
    "a_wide_layer": ({**BERT, "intermediate_size": 1 << 40}, MORE),
    "many_positions": ({**BERT, "max_position_embeddings": 1 << 34}, MORE),
    "labels_without_end": ({**BERT, "num_labels": 1 << 30}, COUNTS),
    "layers_of_a_part": ({**BERT, "text_config": {"num_hidden_layers": 1 << 30}}, COUNTS),
    "a_kind_that_is_a_list": ({**BERT, "model_type": ["bert"]}, "no single model"),
    "a_kind_that_is_a_path": ({**BERT, "model_type": "../bert"}, "no such architecture"),
    "sizes_of_text": ({**BERT, "hidden_size": "8"}, "not a configuration|do not make"),
    "sizes_below_zero": ({**BERT, "hidden_size": -8}, "not a configuration|do not make"),
}  # fmt: skip


def _folder(kit: Kit, config: bytes) -> Path:
    from safetensors.numpy import save

    (kit.folder / "config.json").write_bytes(config)
    (kit.folder / "model.safetensors").write_bytes(save({"w": np.zeros(4, np.float32)}))
    return kit.folder


@cases(CONFIGS, "hub")
def _configured(kit: Kit, config: object) -> Path:
    return _folder(kit, json.dumps(config).encode())


@case("twice")
def hub_key_twice(kit: Kit) -> Path:
    return _folder(kit, json.dumps(BERT).encode()[:-1] + b', "model_type": "gpt2"}')


@case("no single model|nested too deep")
def hub_lists_without_end(kit: Kit) -> Path:
    return _folder(kit, json.dumps(BERT).encode()[:-1] + b', "x": ' + b"[" * 9_000 + b"]" * 9_000 + b"}")


def _sharded(kit: Kit, place: str) -> Path:
    folder = _folder(kit, json.dumps(BERT).encode())
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": place}}))
    return folder


SHARDS: Mapping[str, tuple[object, str]] = {
    "above": ("../secret.bin", "outside|leads out|not inside|\\.\\."),
    "by_a_whole_path": ("/etc/hostname", "outside|absolute|leads out|not inside"),
    "that_is_a_pickle": ("evil.bin", "more than tensors need"),
}


@cases(SHARDS, "hub_shard")
def _shard(kit: Kit, place: object) -> Path:
    from hostile_pytorch import evil, saved

    assert kit.secret
    folder = _sharded(kit, str(place))
    if place == "evil.bin":
        (folder / "evil.bin").write_bytes(saved(evil(kit)))
    return folder


@case("link|leads out|outside")
def hub_configuration_that_is_a_link(kit: Kit) -> Path:
    folder = _folder(kit, json.dumps(BERT).encode())
    (folder / "config.json").rename(kit.folder.parent / f"{kit.folder.name}.elsewhere.json")
    (folder / "config.json").symlink_to(kit.folder.parent / f"{kit.folder.name}.elsewhere.json")
    return folder
