"""Hugging Face's models: their folders as sources, and their inputs by architecture. Runs where transformers is installed."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

import netferry
from netferry.converters import artifact
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.pytorch.to_onnx.ways_round import way_round

transformers = pytest.importorskip("transformers")

SMALL = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def llama() -> Any:
    config = transformers.LlamaConfig(**SMALL, **ENDS, intermediate_size=48, num_key_value_heads=2)
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).eval()


def bert(**more: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(**SMALL, intermediate_size=48, **more)
    return transformers.BertForMaskedLM(config).eval()


def t5() -> Any:
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=99, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config).eval()


def tokens(*sizes: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(3, 99, sizes)


def run(model: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(
        zip(
            names, session.run(None, {one.name: feeds[one.name] for one in session.get_inputs()}), strict=True
        )
    )


def inputs_of(model: Any) -> dict[str, list[Any]]:
    return {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in model.graph.input
    }


def test_a_folder_becomes_onnx_with_its_pipeline_beside_it(tmp_path: Path) -> None:
    model = bert(type_vocab_size=2)
    source, result = tmp_path / "bert", tmp_path / "out" / "bert.onnx"
    model.save_pretrained(source, max_shard_size="40KB")
    assert (source / "model.safetensors.index.json").is_file()
    (source / "vocab.txt").write_text("[PAD]\n")
    result.parent.mkdir()
    done = netferry.convert(source, destination=result, quick=True, seed=0)
    assert done.report is not None and done.report.status == "passed"
    assert {file.name for file in done.files} == {"bert.onnx", "config.json", "vocab.txt"}
    names = ["input_ids", "attention_mask", "token_type_ids"]
    assert inputs_of(done.model) == {name: ["batch_size", "sequence_length"] for name in names}
    feeds = {"input_ids": tokens(3, 11), "attention_mask": np.ones((3, 11), np.int64)}
    feeds |= {"token_type_ids": tokens(3, 11) % 2}
    with torch.no_grad():
        want = model(**{name: torch.from_numpy(array) for name, array in feeds.items()}).logits
    np.testing.assert_allclose(run(done.model, feeds)["logits"], want, atol=1e-5)


@pytest.mark.parametrize("saved", ["safetensors", "pickle"])
def test_a_task_chooses_the_class_and_a_missing_pooler_is_left_out(tmp_path: Path, saved: str) -> None:
    model = bert()
    model.save_pretrained(tmp_path / "bert")
    if saved == "pickle":
        (tmp_path / "bert" / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "bert" / "pytorch_model.bin")
    done = netferry.convert(tmp_path / "bert", "onnx", task="feature-extraction", verify=False)
    assert [one.name for one in done.model.graph.output] == ["last_hidden_state"]
    with pytest.raises(UsageError, match="no such task"):
        netferry.convert(tmp_path / "bert", "onnx", task="cooking")
    with pytest.raises(RefusedError, match=r"missing: .*classifier"):
        netferry.convert(tmp_path / "bert", "onnx", task="text-classification")


def test_what_a_folder_generates_is_what_the_model_generates() -> None:
    model = llama()
    done = netferry.convert(model, "onnx", verify=False)
    assert done.route == "direct"
    named = inputs_of(done.model)
    assert named["attention_mask"] == ["batch_size", "past_sequence_length + sequence_length"]
    assert named["past_key_values.1.value"] == ["batch_size", 2, "past_sequence_length", 8]
    ids, mask = tokens(2, 4), np.ones((2, 4), np.int64)
    mask[0, 0] = 0
    given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    want = model.generate(**given, max_new_tokens=32, min_new_tokens=32, do_sample=False).numpy()
    past = {n: np.zeros((2, 2, 0, 8), np.float32) for n in named if n.startswith("past_key_values")}
    new = got = ids
    for _ in range(32):
        positions = (mask.cumsum(1) - 1).clip(0)[:, -new.shape[1] :]
        result = run(done.model, {"input_ids": new, "attention_mask": mask, "position_ids": positions} | past)
        logits = result["logits"][:, -1]
        logits[:, ENDS["eos_token_id"]] = -np.inf
        new = logits.argmax(-1)[:, None]
        got, mask = np.concatenate([got, new], 1), np.concatenate([mask, np.ones_like(new)], 1)
        past = {name: result[name.replace("past_key_values", "present")] for name in past}
    np.testing.assert_array_equal(got, want)


def test_encoder_and_decoder_apart_are_the_whole(tmp_path: Path) -> None:
    model = t5()
    model.save_pretrained(tmp_path / "t5")
    parts = {
        part: netferry.convert(tmp_path / "t5", "onnx", task=part, verify=False).model
        for part in ("encoder", "decoder", "decoder-with-past")
    }
    ids, mask, start = tokens(2, 9), np.ones((2, 9), np.int64), tokens(2, 3, seed=1)
    mask[1, 6:] = 0
    with torch.no_grad():
        want = model(*map(torch.from_numpy, (ids, mask, start))).logits[:, -1]
    states = run(parts["encoder"], {"input_ids": ids, "attention_mask": mask})["last_hidden_state"]
    first = run(
        parts["decoder"],
        {"input_ids": start[:, :2], "encoder_hidden_states": states, "encoder_attention_mask": mask},
    )
    past = {name.replace("present", "past_key_values"): a for name, a in first.items() if "present" in name}
    second = run(
        parts["decoder-with-past"], {"input_ids": start[:, 2:], "encoder_attention_mask": mask} | past
    )
    np.testing.assert_allclose(second["logits"][:, -1], want, atol=1e-5)


def edited(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def test_no_code_of_a_folder_runs(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path / "bert")
    code = tmp_path / "bert" / "modeling_own.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    auto = {"AutoConfig": "modeling_own.Config", "AutoModel": "modeling_own.Model"}
    netferry.convert(edited(tmp_path / "bert", auto_map=auto), "onnx", verify=False)
    with pytest.raises(RefusedError, match=r"code of its own.*modeling_own"):
        netferry.convert(edited(tmp_path / "bert", model_type="own"), "onnx", verify=False)
    assert not (tmp_path / "ran").exists()


def test_folders_that_are_not_whole_are_refused_by_name(tmp_path: Path) -> None:
    source = tmp_path / "bert"
    bert().save_pretrained(source)

    def refusal(**changes: Any) -> str:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        for name, content in changes.pop("files", {}).items():
            (copy / name).unlink(missing_ok=True)
            if content is not None:
                (copy / name).write_text(content)
        with pytest.raises(RefusedError) as caught:
            netferry.convert(edited(copy, **changes), "onnx", verify=False)
        return str(caught.value)

    assert "no weights that PyTorch reads" in refusal(files={"model.safetensors": None})
    outside = json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}})
    named = {"model.safetensors": None, "model.safetensors.index.json": outside}
    assert "outside its folder" in refusal(files=named)
    assert "quantiser" in refusal(quantization_config={"quant_method": "gptq"})
    assert "no such architecture" in refusal(model_type="nothing")
    assert "which class of transformers" in refusal(architectures=["os"])
    assert "do not fit" in refusal(hidden_size=64)


def test_adapters_and_pipelines_are_told_apart(tmp_path: Path) -> None:
    for name, message in (("adapter_config.json", "adapter"), ("model_index.json", "pipeline")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("{}")
        with pytest.raises(RefusedError, match=message):
            artifact.look(folder)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_factory_takes_saved_weights_without_tied_copies(tmp_path: Path, device: str) -> None:
    model = llama()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "llama")
    (tmp_path / "factory.py").write_text(
        "import torch, transformers\n\n\ndef make():\n"
        f"    config = transformers.LlamaConfig.from_pretrained({str(tmp_path / 'llama')!r})\n"
        f"    with torch.device({device!r}):\n        return transformers.LlamaForCausalLM(config)\n"
    )
    done = netferry.convert(
        f"{tmp_path}/factory.py:make",
        "onnx",
        weights=tmp_path / "llama" / "model.safetensors",
        inputs={"input_ids": tokens(2, 7)},
        verify=False,
    )
    with torch.no_grad():
        want = model(torch.from_numpy(tokens(3, 7))).logits
    np.testing.assert_allclose(run(done.model, {"input_ids": tokens(3, 7)})["logits"], want, atol=1e-5)


def test_a_mixture_of_experts_is_right_at_another_length() -> None:
    config = transformers.MixtralConfig(
        **SMALL, **ENDS, intermediate_size=48, num_key_value_heads=2, num_local_experts=4
    )
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM(config).eval()
    ids = tokens(2, 6)
    free = {"input_ids": {0: "batch", 1: "length"}}
    done = netferry.convert(model, "onnx", inputs={"input_ids": ids}, dynamic=free, verify=False)
    assert done.route == "direct"
    other = tokens(3, 9)
    with torch.no_grad():
        want = model(torch.from_numpy(other)).logits
    np.testing.assert_allclose(run(done.model, {"input_ids": other})["logits"], want, atol=1e-5)


def mixtral(experts: str) -> Any:
    config = transformers.MixtralConfig(
        **SMALL, **ENDS, intermediate_size=48, num_key_value_heads=2, num_local_experts=4
    )
    config._experts_implementation = experts
    return transformers.MixtralForCausalLM(config).eval()


@pytest.mark.parametrize("experts", ["eager", "batched_mm"])
def test_experts_one_by_one_and_all_at_once_are_right_at_another_length(experts: str) -> None:
    model, free = mixtral(experts), {"input_ids": {0: "batch", 1: "length"}}
    done = netferry.convert(model, "onnx", inputs={"input_ids": tokens(2, 6)}, dynamic=free, verify=False)
    assert done.route == "direct"
    for ids in (tokens(1, 1), tokens(3, 9)):  # one token hits two experts of four
        with torch.no_grad():
            want = model(torch.from_numpy(ids)).logits
        np.testing.assert_allclose(run(done.model, {"input_ids": ids})["logits"], want, atol=1e-5)


def test_a_refusal_names_only_what_the_model_heeds() -> None:
    model = mixtral("eager")
    assert 'Set model.config._experts_implementation = "batched_mm"' in way_round(model)
    config = transformers.JetMoeConfig(
        **SMALL, **ENDS, intermediate_size=48, num_key_value_heads=4, kv_channels=8, num_local_experts=4
    )
    config._experts_implementation = "eager"
    assert way_round(transformers.JetMoeForCausalLM(config)) == ""


def test_a_vision_tower_is_converted_for_the_grid_that_is_told() -> None:
    config = transformers.Qwen2VLConfig().vision_config
    for name, size in {
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 4,
        "hidden_size": 32,
        "patch_size": 8,
    }.items():
        setattr(config, name, size)
    torch.manual_seed(0)
    tower = transformers.models.qwen2_vl.modeling_qwen2_vl.Qwen2VisionTransformerPretrainedModel(
        config
    ).eval()
    done = netferry.convert(tower, "onnx", verify=False)
    assert list(inputs_of(done.model)) == ["hidden_states"]
    assert any("grid_thw is fixed at [[1, 4, 4]]" in note for note in done.notes), done.notes
    patches = np.random.default_rng(0).standard_normal((16, 3 * 2 * 8 * 8)).astype(np.float32)
    with torch.no_grad():
        want = tower(torch.from_numpy(patches), torch.tensor([[1, 4, 4]])).pooler_output
    np.testing.assert_allclose(run(done.model, {"hidden_states": patches})["pooler_output"], want, atol=1e-5)


STEPPING: dict[str, dict[str, Any]] = {
    "Mamba": {"state_size": 8},
    "RecurrentGemma": {"num_hidden_layers": 3, "intermediate_size": 48, "num_key_value_heads": 1, "attention_window_size": 64},
}  # fmt: skip


@pytest.mark.parametrize("family", STEPPING)
def test_a_model_that_steps_through_the_text_in_python_is_right_at_any_length(family: str) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**{**SMALL, **ENDS, **STEPPING[family]})
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    free = {"input_ids": {0: "batch", 1: "length"}}
    done = netferry.convert(model, "onnx", inputs={"input_ids": tokens(2, 6)}, dynamic=free, verify=False)
    assert done.route == "direct", done.notes
    for ids in (tokens(1, 1), tokens(3, 9), tokens(2, 40)):
        with torch.no_grad():
            want = model(torch.from_numpy(ids), use_cache=False).logits
        np.testing.assert_allclose(run(done.model, {"input_ids": ids})["logits"], want, atol=1e-5)


def test_an_encoder_with_a_head_for_the_next_word_is_given_no_cache_that_it_does_not_give_back() -> None:
    torch.manual_seed(0)
    config = transformers.RobertaConfig(**SMALL, **ENDS, intermediate_size=48)
    model = transformers.RobertaForCausalLM(config).eval()
    named = inputs_of(netferry.convert(model, "onnx", verify=False).model)
    assert not [name for name in named if name.startswith("past")]
    assert named["attention_mask"] == ["batch_size", "sequence_length"]


def test_states_in_a_cache_keep_their_size_where_keys_and_values_grow() -> None:
    config = transformers.Lfm2Config(
        **SMALL, **ENDS, intermediate_size=48, num_key_value_heads=2, layer_types=["conv", "full_attention"]
    )
    torch.manual_seed(0)
    model = transformers.Lfm2ForCausalLM(config).eval()
    named = inputs_of(netferry.convert(model, "onnx", verify=False).model)
    assert named["past_key_values.0.conv_states.0"] == ["batch_size", 32, 3]
    assert named["past_key_values.1.key"] == ["batch_size", 2, "past_sequence_length", 8]


class Masked(torch.nn.Module):
    """Attention to the past, and within a first part, said as functions of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.config = transformers.LlamaConfig(**SMALL, attn_implementation="sdpa")
        self.masks = importlib.import_module("transformers.masking_utils")

    def forward(self, x: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        def alike(batch: Any, head: Any, query: Any, key: Any) -> Any:
            return (kinds[batch, query] == kinds[batch, key]) & (kinds[batch, key] == 1)

        mask = self.masks.create_causal_mask(self.config, x, None, None, or_mask_function=alike)
        return torch.nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask[:, 0])


def test_a_mask_of_functions_of_positions_is_right_at_another_length() -> None:
    rng = np.random.default_rng(0)
    kinds = np.asarray([[0, 1, 1, 0, 1], [1, 1, 0, 0, 1], [0, 0, 1, 1, 1]])
    x = rng.standard_normal((2, 4, 32)).astype(np.float32)
    free = {"x": {0: "batch", 1: "length"}, "kinds": {0: "batch", 1: "length"}}
    given = {"x": x, "kinds": kinds[:2, :4]}
    done = netferry.convert(Masked(), "onnx", inputs=given, dynamic=free, verify=False)
    assert done.route == "direct", done.notes
    other = rng.standard_normal((3, 5, 32)).astype(np.float32)
    want = Masked()(torch.from_numpy(other), torch.from_numpy(kinds))
    (got,) = run(done.model, {"x": other, "kinds": kinds}).values()
    np.testing.assert_allclose(got, want, atol=1e-5)
