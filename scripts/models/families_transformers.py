"""Every architecture of transformers, small: one table of sizes for all configurations, and what single ones need beside it."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from models.families_transformers_single import OF

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
    "AutoModelForImageToImage", "AutoModelForTimeSeriesPrediction", "AutoModelForTextToWaveform", "AutoModel",
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


def wholes(name: str) -> Iterator[str]:
    """The architectures of the same package, whose model may have the one of this name as a part."""
    from transformers.models.auto.configuration_auto import model_type_to_module_name as package

    yield from (other for other in names() if other != name and package(other) == package(name))


def part(whole: Any, name: str) -> Any:
    """The outermost module of a model that has a configuration of this architecture; None where it has none."""
    import transformers

    kind = transformers.CONFIG_MAPPING[name]
    return next((one for one in whole.modules() if type(getattr(one, "config", None)) is kind), None)


def _kind_of(config: Any) -> Any:
    """The class of the model: as transformers' tables have it, else the first that says so in the configuration's own package."""
    import transformers

    both = {"text_config", "text_encoder"} & vars(
        config
    ).keys()  # a language model alone would not be what the configuration is of
    for auto in sorted(HEADS, key=lambda name: bool(both) and name == "AutoModelForCausalLM"):
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
    if (counts := [name for name in _LAYERS if name in given]) and not {*_PER_LAYER} & more.keys():
        kinds = {
            name: _held(default, name)
            for name in _PER_LAYER
            if isinstance(_held(default, name), list | tuple) and not _is_computed(kind, name)
        }
        several = max(given[counts[0]], *(len(set(one)) for one in kinds.values()), 0)
        layers = more.get(counts[0]) or several
        given |= dict.fromkeys(counts, layers) | {
            name: _shortened(one, layers) for name, one in kinds.items()
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
    made = {**given, **_agreeing(default, given, more), **taken, **flat}
    return kind(**{name: value for name, value in made.items() if value is not None or name not in more})


def _agreeing(default: Any, given: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes that follow from others: of latent attention, and how rotations share out the width of a head."""
    found: dict[str, Any] = {}
    if "qk_rope_head_dim" in given and "num_attention_heads" in given:
        latent = {"head_dim": given["qk_rope_head_dim"], "num_key_value_heads": given["num_attention_heads"]}
        found |= {name: size for name, size in latent.items() if name in given}
    rope = _held(default, "rope_parameters")
    sections = rope.get("mrope_section") if isinstance(rope, Mapping) else None
    if sections:
        sizes = {**given, **found, **more}
        head = sizes.get("head_dim") or sizes["hidden_size"] // sizes["num_attention_heads"]
        half = int(head * rope.get("partial_rotary_factor", 1.0)) // 2
        parts = [max(half * part // sum(sections), 1) for part in sections]
        found["rope_parameters"] = {**rope, "mrope_section": [half - sum(parts[1:]), *parts[1:]]}
    return found


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
    own = getattr(kind, getattr(kind, "attribute_map", {}).get(name, name), None)
    return isinstance(own, property) and own.fset is None


def _tokens(default: Any, vocabulary: int | None) -> Iterator[tuple[str, int]]:
    """Numbers of special tokens that lie within the vocabulary."""
    place = 0
    for name, value in sorted(vars(default).items()):
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int) and vocabulary is not None:
            place += 1
            yield name, value if 0 <= value < vocabulary else min(vocabulary - place, vocabulary - 1)
