"""Folders of Hugging Face in each form that they come in, of ten families: the command line makes what the model gives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

transformers = pytest.importorskip("transformers")

TEXT = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
IMAGE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
Making = tuple[str, dict[str, Any], str, str]
FAMILIES: dict[str, Making] = {
    "bert": ("BertForSequenceClassification", TEXT, "shards", "text-classification"),
    "roberta": ("RobertaForTokenClassification", TEXT | ENDS, "pickle", ""),
    "distilbert": ("DistilBertForMaskedLM", {"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}, "float16", ""),
    "gpt2": ("GPT2LMHeadModel", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4} | ENDS, "pickled shards", "text-generation"),
    "llama": ("LlamaForCausalLM", TEXT | ENDS | {"num_key_value_heads": 2, "tie_word_embeddings": True}, "torch_dtype", "text-generation-with-past"),
    "qwen3": ("Qwen3ForCausalLM", TEXT | ENDS | {"num_key_value_heads": 2, "head_dim": 8}, "bfloat16", "text-generation"),
    "t5": ("T5ForConditionalGeneration", {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
                                         "decoder_start_token_id": 0}, "shards", "encoder"),
    "vit": ("ViTForImageClassification", IMAGE, "safetensors", ""),
    "clip": ("CLIPVisionModel", IMAGE, "float16", "feature-extraction"),
    "wav2vec2": ("Wav2Vec2ForCTC", {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
                                    "conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2,
                                    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}, "pickle", ""),
}  # fmt: skip
"""The class, its configuration, the form of the folder, and the task that is asked for."""


def _safetensors(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)


def _shards(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="20KB")
    assert (folder / "model.safetensors.index.json").is_file()


def _pickle(model: Any, folder: Path) -> None:
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def _pickled_shards(model: Any, folder: Path) -> None:
    _pickle(model, folder)
    (folder / "pytorch_model.bin").unlink()
    state, shards = model.state_dict(), {}
    for place, name in enumerate(state):
        shards[name] = f"pytorch_model-0000{place % 2 + 1}-of-00002.bin"
    for shard in set(shards.values()):
        torch.save({name: tensor for name, tensor in state.items() if shards[name] == shard}, folder / shard)
    index = {"metadata": {}, "weight_map": shards}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def _older_name_of_the_dtype(model: Any, folder: Path) -> None:
    """As folders were written before: ``torch_dtype``, and no copy of what is tied."""
    model.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    (folder / "config.json").write_text(json.dumps(config))


FORMS: dict[str, Callable[[Any, Path], None]] = {
    "safetensors": _safetensors, "shards": _shards, "pickle": _pickle, "pickled shards": _pickled_shards,
    "float16": lambda model, folder: model.half().save_pretrained(folder),
    "bfloat16": lambda model, folder: model.bfloat16().save_pretrained(folder),
    "torch_dtype": _older_name_of_the_dtype,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_each_form_is_converted_by_the_command_line(family: str, tmp_path: Path) -> None:
    name, settings, form, task = FAMILIES[family]
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    model = kind(kind.config_class(**settings)).eval()
    folder, result = tmp_path / "model", tmp_path / "model.onnx"
    FORMS[form](model, folder)
    command = [sys.executable, "-m", "netferry", "convert", folder, result, "--no-verify"]
    done = subprocess.run(
        [*command, *(["--task", task] if task else [])],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = onnx.load(result)
    if form == "bfloat16":  # onnxruntime computes little of it on a processor
        own = set(model.state_dict())
        types = {one.data_type for one in made.graph.initializer if one.name in own}
        assert types == {onnx.TensorProto.BFLOAT16}
        return
    session = ort.InferenceSession(result, providers=["CPUExecutionProvider"])
    feeds = {one.name: _array(one) for one in session.get_inputs()}
    own = model.get_encoder() if task == "encoder" else model
    plain = {name: torch.from_numpy(array) for name, array in feeds.items() if "." not in name}
    past = {name: array for name, array in feeds.items() if "." in name}
    if past:
        cache = transformers.DynamicCache()
        for layer in range(len(past) // 2):
            keys, values = (
                torch.from_numpy(past[f"past_key_values.{layer}.{part}"]) for part in ("key", "value")
            )
            cache.update(keys, values, layer)
        plain["past_key_values"] = cache
    with torch.no_grad():
        want = own(**plain)[0].float().numpy()
    (got, *_) = session.run(None, feeds)
    scale = np.abs(want).max()
    assert np.abs(got.astype(np.float32) - want).max() <= scale * (
        2e-2 if model.dtype is torch.float16 else 1e-4
    )


SIZES = {"batch_size": 3, "sequence_length": 6, "past_sequence_length": 2, "audio_sequence_length": 1700}


def _array(one: Any) -> np.ndarray[Any, Any]:
    """Numbers for an input, at sizes that it was not converted at."""
    shape = [
        dim
        if isinstance(dim, int)
        else SIZES.get(dim) or SIZES["past_sequence_length"] + SIZES["sequence_length"]
        for dim in one.shape
    ]
    rng = np.random.default_rng(len(one.name))
    if one.type == "tensor(int64)":
        low, high = {"token_type_ids": (0, 2), "attention_mask": (1, 2)}.get(one.name, (3, 32))
        return rng.integers(low, high, shape)
    return rng.standard_normal(shape).astype(np.float16 if one.type == "tensor(float16)" else np.float32)
