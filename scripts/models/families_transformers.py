"""Every architecture of transformers, small: one table of sizes for all configurations, and what single ones need beside it."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LARGEST = 60_000_000
"""Weights of a model that counts as small."""

SIZES: Mapping[str, Any] = {
    **dict.fromkeys(
        "hidden_size d_model n_embd dim encoder_hidden_size decoder_hidden_size projection_dim emb_dim "
        "hidden_dim embedding_size word_embed_proj_dim projection_size out_hidden_size proj_dim vision_hidden_size".split(),
        32,
    ),
    **dict.fromkeys(
        "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_encoder_layers num_decoder_layers "
        "encoder_num_hidden_layers decoder_num_hidden_layers depth num_hidden_groups mask_decoder_num_hidden_layers".split(),
        2,
    ),
    **dict.fromkeys(
        "num_attention_heads n_head n_heads encoder_attention_heads decoder_attention_heads encoder_num_attention_heads "
        "decoder_num_attention_heads num_attention_heads_per_layer".split(),
        4,
    ),
    **dict.fromkeys("num_key_value_heads num_kv_heads encoder_num_key_value_heads decoder_num_key_value_heads".split(), 2),
    **dict.fromkeys(
        "intermediate_size encoder_ffn_dim decoder_ffn_dim ffn_dim d_ff d_inner encoder_intermediate_size "
        "decoder_intermediate_size dim_feedforward moe_intermediate_size shared_expert_intermediate_size".split(),
        48,
    ),
    **dict.fromkeys("head_dim d_kv d_head attention_head_size v_head_dim qk_nope_head_dim".split(), 8),
    **dict.fromkeys("num_experts num_local_experts n_routed_experts moe_num_experts".split(), 4),
    **dict.fromkeys("num_experts_per_tok moe_k moe_topk num_selected_experts".split(), 2),
    **dict.fromkeys("max_position_embeddings n_positions max_target_positions max_seq_len".split(), 64),
    **dict.fromkeys("qk_rope_head_dim".split(), 4),
    **dict.fromkeys("q_lora_rank kv_lora_rank".split(), 16),
    "embed_dim": 24, "vocab_size": 99, "num_mel_bins": 16, "max_source_positions": 30, "sliding_window": 16, "num_labels": 3,
    "image_size": 32, "patch_size": 8, "num_queries": 8, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "state_size": 8, "num_codevectors_per_group": 8,
    "codevector_dim": 16, "proj_codevector_dim": 16, "d_state": 8, "n_groups": 1, "mamba_n_heads": 8, "mamba_d_head": 8,
    "vocab_size_per_layer_input": 99, "hidden_size_per_layer_input": 8, "mamba_d_state": 8, "time_step_rank": 4, "max_2d_position_embeddings": 128,
}  # fmt: skip
"""What a size is called, and what it is here. A name that a configuration does not have, or has as a list, is left out."""


def _each(names: Sequence[str], sizes: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return dict.fromkeys(names, sizes)


_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
OF: Mapping[str, Mapping[str, Any]] = {
    "albert": {"embedding_size": 16, "hidden_size": 32},
    "convbert": {"hidden_size": 32, "embedding_size": 32},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "hidden_size": 32, "num_heads": 4, "num_layers": 2},
    **_each(("t5", "mt5", "umt5", "longt5", "switch_transformers", "pop2piano", "udop", "pix2struct_text_model"), {"num_heads": 4}),
    "codegen": {"rotary_dim": 4}, "gptj": {"rotary_dim": 4}, "ctrl": {"dff": 48},
    "bloom": {"n_head": 4, "hidden_size": 32}, "mpt": {"n_heads": 4, "d_model": 32},
    "mamba2": {"num_heads": 8, "head_dim": 8, "hidden_size": 32},
    "reformer": {"axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16], "is_decoder": True, "attn_layers": ["local", "lsh"],
                 "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4, "feed_forward_size": 48},
    "dbrx": {"n_heads": 4, "d_model": 32, "n_layers": 2, "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0}},
    "longformer": {"attention_window": 8}, "bridgetower": {"text_config": {"num_attention_heads": 4, "hidden_size": 32, "num_hidden_layers": 2},
        "vision_config": {"hidden_size": 64, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8}, "hidden_size": 32},
    "bridgetower_vision_model": {"hidden_size": 64},
    **_each(("time_series_transformer", "autoformer", "informer"), {"prediction_length": 4, "context_length": 8}),
    **_each(("mimi", "mimi_decoder", "pocket_tts_audio_tokenizer", "pocket_tts_audio_tokenizer_decoder"), {"upsample_groups": 32}),
    "csm": {"codec_config": {"upsample_groups": 32}}, "kyutai_speech_to_text": {"codec_config": {"upsample_groups": 32}},
    "chameleon": {"vocabulary_map": {"<image>": 4, "IMGIMGAZ": 5, "IMGIMGBZ": 6}}, "janus": {"vq_config": {"base_channels": 32}},
    "deepseek_ocr2": {"text_config": {"num_experts_per_tok": 2, "mlp_layer_types": ["dense", "sparse"]}},
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320, "image_size": 64},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 8}}, "gemma3n_text": {"num_kv_shared_layers": 0},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "inkling2": {"vision_config": {"text_hidden_size": 32}},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "deepseek_ocr2_text": {"num_experts_per_tok": 2, "mlp_layer_types": ["dense", "sparse"]},
    "ernie4_5_vl_moe_text": {"moe_intermediate_size": [24, 16], "mlp_layer_types": ["dense", "sparse"]},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32}, "esmc": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 64}, "funnel": {"num_hidden_layers": None, "block_sizes": [1, 1], "num_decoder_layers": 1},
    "prophetnet": {"num_hidden_layers": None}, "xlnet": {"max_position_embeddings": None},
    "glm5_next": {"text_config": {"num_key_value_heads": 4, "qk_rope_head_dim": 0}},
    "glm5_next_text": {"num_key_value_heads": 4, "qk_rope_head_dim": 0},
    "granite_speech5_ctc": {"encoder_config": {"context_size": 16}}, "granite_speech5_encoder": {"context_size": 16},
    **_each(("hunyuan_v1_dense", "hunyuan_v1_moe", "hunyuan_vl_text", "ministral"), {"head_dim": 8}),
    "hunyuan_v1_moe": {"head_dim": 8, "num_experts": 4, "moe_topk": 2, "moe_intermediate_size": 16},
    "hunyuan_vl": {"text_config": {"head_dim": 8}},
    "gradium_phonon_tts": {"flow_head_config": {"condition_dim": 32}}, "pocket_tts": {"flow_head_config": {"condition_dim": 32}},
    "nemotron": {"num_key_value_heads": 2}, "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0}},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1}, "moonshine_streaming": {"num_key_value_heads": 4},
    "wav2vec2-bert": {"vocab_size": 32}, "wav2vec2-conformer": {"vocab_size": 32},
    "zaya": {"num_experts_per_tok": 1}, "zamba2": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zamba": {"num_hidden_layers": 3}, "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 48},
    "cohere_compass": {"text_config": {"layer_types": ["sliding_attention", "full_attention"], "rope_parameters": {
        name: {"rope_type": "default", "rope_theta": 1e4} for name in ("full_attention", "sliding_attention")}}},
    "cohere_compass_text": {"layer_types": ["sliding_attention", "full_attention"], "rope_parameters": {
        name: {"rope_type": "default", "rope_theta": 1e4} for name in ("full_attention", "sliding_attention")}},
    **_each(("glm4v_moe_text", "glm_ocr_text", "glm4v_text"), _ROPE), **_each(("glm_ocr", "glm4v_moe"), {"text_config": _ROPE}),
    "cosmos3_edge_text": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}},
    "cosmos3_edge": {"text_config": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}}},
    **_each(("detr", "conditional_detr", "deformable_detr", "table-transformer", "dab-detr"), {
        "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None,
        "backbone_config": {"model_type": "resnet", "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "embedding_size": 8,
                            "out_features": ["stage2", "stage3", "stage4"]}}),
    "upernet": {"backbone_config": {"model_type": "resnet", "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "embedding_size": 8,
                                    "out_features": ["stage1", "stage2", "stage3", "stage4"]}, "auxiliary_in_channels": 24},
    "convnext": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}, "convnextv2": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "swin": {"embed_dim": 24, "depths": [1, 2], "num_heads": [3, 6], "window_size": 4, "patch_size": 4, "image_size": 64},
    "swinv2": {"embed_dim": 24, "depths": [1, 2], "num_heads": [3, 6], "window_size": 4, "patch_size": 4, "image_size": 64},
    "swin2sr": {"embed_dim": 24, "depths": [1, 2], "num_heads": [3, 6], "window_size": 4, "image_size": 32, "patch_size": 1},
    "donut-swin": {"embed_dim": 24, "depths": [1, 2], "num_heads": [3, 6], "window_size": 4, "patch_size": 4, "image_size": 64},
    "vitpose_backbone": {"image_size": [64, 48], "patch_size": [16, 16]},
    "vitpose": {"backbone_config": {"model_type": "vitpose_backbone", "image_size": [64, 48], "patch_size": [16, 16], "hidden_size": 32,
                                    "num_hidden_layers": 2, "num_attention_heads": 4, "out_features": ["stage2"]}},
    "lw_detr_vit": {"image_size": 64, "pretrain_image_size": 64, "patch_size": 8, "num_windows": 4, "window_block_indices": [0]},
    "xlstm": {"hidden_size": 32, "embedding_dim": 32, "num_heads": 4, "num_hidden_layers": 2, "num_blocks": 2, "qk_dim_factor": 0.5, "chunk_size": 16},
    "vision-encoder-decoder": {"encoder": {"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
                                           "image_size": 32, "patch_size": 8},
                               "decoder": {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                                           "intermediate_size": 48, "vocab_size": 99, "is_decoder": True, "add_cross_attention": True}},
    "muse_spark_audio": {"num_hidden_layers": 4, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "out_hidden_size": 32},
}  # fmt: skip
"""What single architectures need beside the table, or otherwise."""

GROUPS: Mapping[str, frozenset[str]] = {
    "small": frozenset(),
    "images as they are": frozenset({"image_size", "patch_size", "embed_dim", "num_channels", "conv_dim", "conv_stride", "conv_kernel"}),
    "widths as they are": frozenset(SIZES) - frozenset(
        "vocab_size num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_encoder_layers num_decoder_layers depth "
        "encoder_num_hidden_layers decoder_num_hidden_layers".split()),
    "as it is": frozenset(SIZES),
}  # fmt: skip
"""Which of the sizes are left as they are, in the order in which this is tried: the first that makes a model that runs is taken."""

HEADS = (
    "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForSeq2SeqLM", "AutoModelForSpeechSeq2Seq", "AutoModelForCTC", "AutoModelForMaskedLM",
    "AutoModelForSequenceClassification", "AutoModelForImageClassification", "AutoModelForObjectDetection",
    "AutoModelForUniversalSegmentation", "AutoModelForSemanticSegmentation", "AutoModelForDepthEstimation",
    "AutoModelForVideoClassification", "AutoModelForAudioClassification", "AutoModelForZeroShotImageClassification",
    "AutoModelForImageToImage", "AutoModelForTimeSeriesPrediction", "AutoModel",
)  # fmt: skip
"""The classes that are asked, in this order, for the model of an architecture."""


def names() -> list[str]:
    """Every architecture of the installed transformers that has a model of its own."""
    from transformers import CONFIG_MAPPING

    return sorted(CONFIG_MAPPING)


def build(name: str, group: str = "small") -> Any:
    """A small model with random weights, in evaluation mode."""
    import torch
    import transformers

    config = small(transformers.CONFIG_MAPPING[name], OF.get(name, {}), GROUPS[group])
    kind = _kind_of(config)
    with torch.device("meta"):
        count = sum(tensor.numel() for tensor in kind(copy.deepcopy(config)).parameters())
    if count > LARGEST:
        raise ValueError(f"{count:,} weights with the table's sizes")
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for tensor in (
            model.parameters()
        ):  # gates and biases of nothing but zeros would show nothing, and tie what is sorted
            if tensor.is_floating_point() and tensor.numel() and bool(tensor.min() == tensor.max()):
                tensor.add_(torch.randn_like(tensor) * 0.02)
    return model


def _kind_of(config: Any) -> Any:
    """The class of the model: as transformers' tables have it, else the first that says so in the configuration's own package."""
    import transformers

    both = "text_config" in vars(config)  # a language model alone would not be what the configuration is of
    for auto in sorted(HEADS, key=lambda name: both and name == "AutoModelForCausalLM"):
        mapping = getattr(transformers, auto)._model_mapping
        if type(config) in mapping:
            kind = mapping[type(config)]
            return kind[0] if isinstance(kind, tuple) else kind
    own = importlib.import_module(type(config).__module__.replace(".configuration_", ".modeling_"))
    kinds = [
        kind
        for kind in vars(own).values()
        if isinstance(kind, type)
        and issubclass(kind, transformers.PreTrainedModel)
        and kind.config_class is type(config)
        and not kind.__name__.endswith("PreTrainedModel")
    ]
    if not kinds:
        raise LookupError("transformers has no model for this configuration")
    return min(
        kinds,
        key=lambda kind: (not kind.__name__.endswith(("Model", "Backbone")), "For" not in kind.__name__),
    )


def small(kind: Any, more: Mapping[str, Any], left: frozenset[str] = frozenset()) -> Any:
    """A configuration whose sizes are those of the table, those of the configurations in it too; those ``left`` are as they are."""
    default = kind()
    given = {
        name: size
        for name, size in SIZES.items()
        if name not in left
        and isinstance(value := _held(default, name), int | float | list | tuple)
        and isinstance(value, list | tuple) == isinstance(size, list | tuple)
        and not _is_computed(kind, name)
    }
    if (layers := next((given[name] for name in _LAYERS if name in given), None)) is not None:
        given |= {
            name: _shortened(value, layers)
            for name in _PER_LAYER
            if isinstance(value := _held(default, name), list | tuple) and not _is_computed(kind, name)
        }
    for name, inner in vars(default).items():
        if hasattr(inner, "model_type") and hasattr(inner, "to_dict"):
            own = more.get(name, {})
            given[name] = (
                own
                if isinstance(own, Mapping) and own.get("model_type", inner.model_type) != inner.model_type
                else small(type(inner), own, left).to_dict()
            )
    taken = dict(_tokens(default, given.get("vocab_size")))
    flat = {
        name: value for name, value in more.items() if name not in given or not isinstance(value, Mapping)
    }
    made = {**given, **taken, **flat}
    return kind(**{name: value for name, value in made.items() if value is not None or name not in more})


_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_PER_LAYER = ("layer_types", "layers_block_type", "mlp_layer_types")


def _shortened(kinds: Any, layers: int) -> list[Any]:
    """The kinds of as many layers, each kind that there is among them where they suffice."""
    different = list(dict.fromkeys(kinds))
    return (different + list(kinds))[:layers]


def _held(config: Any, name: str) -> Any:
    """A size that a configuration has for all layers; None where it has one for each."""
    try:
        return getattr(config, name, None)
    except Exception:  # a name that transformers lets nobody read
        return None


def _is_computed(kind: Any, name: str) -> bool:
    """Whether a configuration works a size out of others."""
    own = getattr(kind, name, None)
    return isinstance(own, property) and own.fset is None


def _tokens(default: Any, vocabulary: int | None) -> Iterator[tuple[str, int]]:
    """Numbers of special tokens that lie within the vocabulary."""
    place = 0
    for name, value in sorted(vars(default).items()):
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int) and vocabulary is not None:
            place += 1
            yield name, value if 0 <= value < vocabulary else min(vocabulary - place, vocabulary - 1)
