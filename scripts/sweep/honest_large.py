"""Whole architectures of others: keras.applications at small inputs, transformers in tiny configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from sweep.case import Case, Input, Network, Pair
from sweep.honest_convert import carried, case

APPLICATIONS: Mapping[str, tuple[int, dict[str, Any]]] = {
    "MobileNet": (32, {"alpha": 0.25}), "MobileNetV2": (32, {"alpha": 0.35}), "MobileNetV3Small": (32, {"alpha": 0.75}),
    "MobileNetV3Large": (32, {"alpha": 0.75}), "EfficientNetB0": (32, {}), "EfficientNetV2B0": (32, {}), "DenseNet121": (32, {}),
    "ResNet50": (32, {}), "ResNet50V2": (32, {}), "Xception": (71, {}),
}  # fmt: skip
"""The smallest input of each, and what makes it narrow. VGG and Inception are left out: too many weights, too deep."""

BOUND = 24


def _application(name: str) -> Iterator[Case]:
    side, options = APPLICATIONS[name]
    options = {**options, "include_preprocessing": False} if "V3" in name else options

    def make() -> Any:
        import keras

        from sweep.networks_keras import calibrated

        build = getattr(keras.applications, name)
        return calibrated(
            build(
                weights=None, input_shape=(side, side, 3), classes=10, classifier_activation=None, **options
            )
        )

    network = Network(
        f"keras.applications.{name}", "tensorflow", "vision", make, (Input("x", ("batch", side, side, 3)),)
    )
    for to in ("onnx", "pytorch"):
        yield case("keras.applications", network, f"to {to}", partial(_kept_carried, network, to))


# ---- transformers ------------------------------------------------------------------------------------------

TOKENS = Input("input_ids", ("batch", "time"), "int64", BOUND - 1)
PIXELS = Input("pixel_values", ("batch", 3, 32, 32))
BASE: dict[str, Any] = {
    "vocab_size": BOUND, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
DECODER = {**BASE, "num_key_value_heads": 2, "use_cache": False, "head_dim": 4}
GPT: dict[str, Any] = {
    "vocab_size": BOUND,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 64,
    "use_cache": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

CAUSAL = "Llama Qwen2 Qwen3 Mistral Gemma Gemma2 Phi Phi3 StableLm Starcoder2 Olmo Olmo2 Granite Cohere Glm Persimmon GPTNeoX Nemotron SmolLM3 Helium Ernie4_5"
ENCODER = "Bert Roberta Electra MPNet Deberta DebertaV2 XLMRoberta Camembert Ernie RoFormer Nystromformer ModernBert ConvBert BertGeneration MegatronBert Data2VecText Esm LayoutLM SqueezeBert FNet IBert"

OTHERS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "decoders": {
        "GPT2": ("ForCausalLM:GPT2LMHeadModel", GPT), "GPTJ": ("GPTJForCausalLM", {**GPT, "rotary_dim": 4}),
        "GPTNeo": ("GPTNeoForCausalLM", {**BASE, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "use_cache": False}),
        "OPT": ("OPTForCausalLM", {**BASE, "ffn_dim": 24, "word_embed_proj_dim": 16, "use_cache": False}),
        "Bloom": ("BloomForCausalLM", {"vocab_size": BOUND, "hidden_size": 16, "n_layer": 2, "n_head": 2, "use_cache": False}),
        "Falcon": ("FalconForCausalLM", {**BASE, "use_cache": False}),
        "XGLM": ("XGLMForCausalLM", {"vocab_size": BOUND, "d_model": 16, "ffn_dim": 24, "num_layers": 2, "attention_heads": 2, "use_cache": False}),
    },
    "encoders": {
        "DistilBert": ("DistilBertModel", {"vocab_size": BOUND, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 64}),
        "Albert": ("AlbertModel", {**BASE, "embedding_size": 8}),
        "MobileBert": ("MobileBertModel", {**BASE, "embedding_size": 16, "intra_bottleneck_size": 16}),
    },
    "pairs": {
        "T5": ("T5Model", {"vocab_size": BOUND, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "use_cache": False, "decoder_start_token_id": 0}),
        "MT5": ("MT5Model", {"vocab_size": BOUND, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "use_cache": False, "decoder_start_token_id": 0}),
        **{name: (f"{name}Model", {
            "vocab_size": BOUND, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 64, "use_cache": False, "pad_token_id": 0, "bos_token_id": 1,
            "eos_token_id": 2, "decoder_start_token_id": 1,
        }) for name in ("Bart", "MBart", "Pegasus", "Marian", "Blenderbot", "M2M100", "PLBart")},
    },
    "vision and sound": {
        **{name: (f"{name}Model", {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8})
           for name in ("ViT", "DeiT", "Beit", "Dinov2", "ViTMSN", "SiglipVision", "CLIPVision", "IJepa")},
        **{name: (f"{name}Model", {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2, "layer_type": "basic", "embedding_size": 8})
           for name in ("ConvNext", "ConvNextV2", "RegNet", "ResNet", "VanillaNet")},
        "Swin": ("SwinModel", {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}),
        "PoolFormer": ("PoolFormerModel", {"hidden_sizes": [8, 8, 12, 12], "depths": [1, 1, 1, 1]}),
        "MobileNetV1": ("MobileNetV1Model", {"depth_multiplier": 0.25, "image_size": 32}),
        "MobileNetV2": ("MobileNetV2Model", {"depth_multiplier": 0.35, "image_size": 32}),
        "Segformer": ("SegformerModel", {"hidden_sizes": [8, 8, 12, 12], "num_attention_heads": [1, 2, 2, 2], "depths": [1, 1, 1, 1], "decoder_hidden_size": 8}),
        "Bit": ("BitModel", {"hidden_sizes": [8, 8], "depths": [1, 1], "embedding_size": 8, "num_groups": 4}),
    },
}  # fmt: skip


def _table(word: str) -> Iterator[tuple[str, str, str, dict[str, Any], tuple[Input, ...]]]:
    """Name, configuration, model, options and inputs of each architecture."""
    if word == "decoders":
        yield from (
            (name, f"{name}Config", f"{name}ForCausalLM", DECODER, (TOKENS,)) for name in CAUSAL.split()
        )
    if word == "encoders":
        yield from (
            (name, f"{name}Config", f"{name}Model", {**BASE, "embedding_size": 16}, (TOKENS, _mask()))
            for name in ENCODER.split()
        )
    for name, (model, options) in OTHERS[word].items():
        inputs = {
            "pairs": (TOKENS, Input("decoder_input_ids", ("batch", 5), "int64", BOUND - 1)), "vision and sound": (PIXELS,),
            "encoders": (TOKENS, _mask()), "decoders": (TOKENS,),
        }[word]  # fmt: skip
        yield name, f"{name}Config", model.rpartition(":")[2], options, inputs


def _mask() -> Input:
    return Input("attention_mask", ("batch", "time"), "int64", 1)


def _made(config: str, model: str, options: dict[str, Any]) -> Any:
    """The architecture with random weights, called by position."""
    import transformers

    from sweep.networks_torch import randomised

    whole = getattr(transformers, config)(**options)
    whole._attn_implementation = "eager"
    return randomised(getattr(transformers, model)(whole))


def _called(names: tuple[str, ...], config: str, model: str, options: dict[str, Any]) -> Any:
    """A module of one architecture that takes these inputs by position."""
    from sweep.networks_torch import Call

    def forward(parts: Any, *tensors: Any) -> Any:
        return parts[0](**dict(zip(names, tensors, strict=True)))

    return Call(forward, _made(config, model, options)).eval()


def _transformers(word: str) -> Iterator[Case]:
    import transformers

    transformers.logging.set_verbosity_error()
    for name, config, model, options, inputs in _table(word):
        if not (hasattr(transformers, config) and hasattr(transformers, model)):
            continue
        names = tuple(one.name for one in inputs)
        make = partial(_called, names, config, model, options)
        network = Network(
            f"transformers {name}", "pytorch", "text" if TOKENS in inputs else "vision", make, inputs
        )
        for to in ("onnx", "pytorch"):
            yield case("transformers", network, f"to {to}", partial(_kept_carried, network, to))


_KEPT: dict[str, Any] = {}
"""The last architecture: its conversions follow one another."""


def _kept_carried(network: Network, to: str) -> Pair:
    if network.name not in _KEPT:
        _KEPT.clear()
        try:
            _KEPT[network.name] = network.make()
        except Exception as error:  # a configuration that this version of the library does not take
            raise ValueError(f"it cannot be made: {error}") from error
    return carried(network, _KEPT[network.name], to)


NARROW = ("MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large")
TOGETHER = {
    "keras.applications, narrow": tuple(partial(_application, name) for name in NARROW),
    "keras.applications, wide": tuple(
        partial(_application, name) for name in APPLICATIONS if name not in NARROW
    ),
} | {f"transformers, {word}": (partial(_transformers, word),) for word in OTHERS}
SLOW = list(TOGETHER)
