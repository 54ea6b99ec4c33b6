"""Every architecture of transformers, small: one table of sizes for all configurations, and what single ones need beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
    "mamba_d_state": 8, "time_step_rank": 4, "max_2d_position_embeddings": 128,
}  # fmt: skip
"""What a size is called, and what it is here. A name that a configuration does not have, or has as a list, is left out."""

OF: Mapping[str, Mapping[str, Any]] = {
    "albert": {"embedding_size": 16, "hidden_size": 32},
    "convbert": {"hidden_size": 32, "embedding_size": 32},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "hidden_size": 32, "num_heads": 4, "num_layers": 2},
    "t5": {"num_heads": 4}, "mt5": {"num_heads": 4}, "umt5": {"num_heads": 4}, "longt5": {"num_heads": 4},
    "switch_transformers": {"num_heads": 4}, "pop2piano": {"num_heads": 4}, "udop": {"num_heads": 4},
    "codegen": {"rotary_dim": 4}, "gptj": {"rotary_dim": 4}, "ctrl": {"dff": 48},
    "bloom": {"n_head": 4, "hidden_size": 32}, "mpt": {"n_heads": 4, "d_model": 32},
    "mamba2": {"num_heads": 8, "head_dim": 8, "hidden_size": 32}, "reformer": {"axial_pos_shape": [8, 8]},
    "dbrx": {"n_heads": 4, "d_model": 32, "n_layers": 2}, "longformer": {"attention_window": 8},
}  # fmt: skip
"""What single architectures need beside the table, or otherwise."""

HEADS = (
    "AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForSpeechSeq2Seq", "AutoModelForCTC", "AutoModelForMaskedLM",
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


def build(name: str) -> Any:
    """A small model with random weights, in evaluation mode."""
    import torch
    import transformers

    config = small(transformers.CONFIG_MAPPING[name], OF.get(name, {}))
    torch.manual_seed(0)
    for auto in HEADS:
        mapping = getattr(transformers, auto)._model_mapping
        if type(config) in mapping:
            kind = mapping[type(config)]
            return (kind[0] if isinstance(kind, tuple) else kind)(config).eval()
    raise LookupError("transformers has no model for this configuration")


def small(kind: Any, more: Mapping[str, Any]) -> Any:
    """A configuration whose sizes are those of the table, those of the configurations in it too."""
    default = kind()
    given = {
        name: size
        for name, size in SIZES.items()
        if isinstance(value := getattr(default, name, None), int | float | list | tuple)
        and isinstance(value, list | tuple) == isinstance(size, list | tuple)
        and not _is_computed(kind, name)
    }
    for name, inner in vars(default).items():
        if hasattr(inner, "model_type") and hasattr(inner, "to_dict"):
            given[name] = small(type(inner), {}).to_dict()
    taken = dict(_tokens(default, given.get("vocab_size")))
    return kind(**{**given, **taken, **more})


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
