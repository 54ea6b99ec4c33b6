"""Families of keras-hub, built small, where it is installed: each is held at two batches, and at two sizes where sizes are free."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tensorflow_sources import FAMILIES, Array, Build, Source, floats, randomised

WORDS, SIDES = 40, (32, 48)
FREE = (None, None, 3)
TEXT = {"vocabulary_size": WORDS, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
HEADS = TEXT | {"num_heads": 2}
QUERIES = TEXT | {"num_query_heads": 4, "num_key_value_heads": 2}
SHARP = {"sliding_window": 4}
PICTURE = {"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64, 96],
    "stackwise_num_blocks": [1, 2],
    "stackwise_num_strides": [1, 2],
}
MOBILE = {
    "stackwise_expansion": [[16], [24, 24]],
    "stackwise_num_blocks": [1, 2],
    "stackwise_num_filters": [[8], [12, 12]],
    "stackwise_kernel_size": [[3], [5, 3]],
    "stackwise_num_strides": [[2], [1, 1]],
    "stackwise_se_ratio": [[0.25], [None, 0.25]],
    "stackwise_activation": [["relu"], ["hard_swish", "hard_swish"]],
    "stackwise_padding": [[1], [2, 1]],
    "output_num_filters": 24,
    "depthwise_filters": 16,
    "depthwise_stride": 1,
    "depthwise_residual": True,
    "last_layer_filter": 16,
    "squeeze_and_excite": 0.5,
}
EFFICIENT = {
    "stackwise_kernel_sizes": [3, 5],
    "stackwise_num_repeats": [1, 2],
    "stackwise_input_filters": [8, 16],
    "stackwise_output_filters": [16, 16],
    "stackwise_expansion_ratios": [1, 4],
    "stackwise_squeeze_and_excite_ratios": [0.25, 0.25],
    "stackwise_strides": [1, 2],
    "stackwise_block_types": ["v1", "unfused"],
    "stackwise_width_coefficients": [1.0, 1.0],
    "stackwise_depth_coefficients": [1.0, 1.0],
    "num_features": 24,
}


def resnet(hub: Any, **more: Any) -> Any:
    return hub.ResNetBackbone(**RESNET | {"block_type": "basic_block", "image_shape": FREE} | more)


def mit(hub: Any, **more: Any) -> Any:
    given = {
        "layerwise_depths": [1, 1],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "hidden_dims": [8, 16],
        "image_shape": (32, 32, 3),
    }
    return hub.MiTBackbone(**given | more)


MADE: dict[str, Callable[[Any], Any]] = {
    "Albert": lambda hub: hub.AlbertBackbone(**HEADS, embedding_dim=8),
    "Bart": lambda hub: hub.BartBackbone(**HEADS),
    "Bert": lambda hub: hub.BertBackbone(**HEADS),
    "Bloom": lambda hub: hub.BloomBackbone(**HEADS),
    "CSPNet": lambda hub: hub.CSPNetBackbone(
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=[1, 2],
        stackwise_num_filters=[16, 24],
        block_type="dark_block",
        stage_type="dark",
    ),
    "DebertaV3": lambda hub: hub.DebertaV3Backbone(**HEADS, bucket_size=8),
    "DeiT": lambda hub: hub.DeiTBackbone(**PICTURE, intermediate_dim=24),
    "DenseNet": lambda hub: hub.DenseNetBackbone([1, 2], growth_rate=8),
    "DINOV2": lambda hub: hub.DINOV2Backbone(
        **PICTURE, intermediate_dim=24, position_embedding_shape=(48, 48, 3)
    ),
    "DINOV3": lambda hub: hub.DINOV3Backbone(**PICTURE, intermediate_dim=24),
    "DistilBert": lambda hub: hub.DistilBertBackbone(**HEADS),
    "EfficientNet": lambda hub: hub.EfficientNetBackbone(**EFFICIENT),
    "Electra": lambda hub: hub.ElectraBackbone(WORDS, 2, 2, 16, 8, 24),
    "ESM2": lambda hub: hub.ESM2Backbone(**HEADS),
    "Falcon": lambda hub: hub.FalconBackbone(**TEXT, num_attention_heads=2),
    "FNet": lambda hub: hub.FNetBackbone(**TEXT),
    "Gemma": lambda hub: hub.GemmaBackbone(**QUERIES, head_dim=8),
    "Gemma3": lambda hub: hub.Gemma3Backbone(
        **QUERIES, head_dim=8, image_size=0, use_sliding_window_attention=True, sliding_window_size=4
    ),
    "GPT2": lambda hub: hub.GPT2Backbone(**HEADS),
    "GPTNeoX": lambda hub: hub.GPTNeoXBackbone(**HEADS, rotary_percentage=0.5),
    "GptOss": lambda hub: hub.GptOssBackbone(**QUERIES, num_experts=4, head_dim=8),
    "Llama": lambda hub: hub.LlamaBackbone(**QUERIES),
    "Llama3": lambda hub: hub.Llama3Backbone(
        **QUERIES,
        rope_frequency_adjustment_factor=8.0,
        rope_low_freq_factor=1.0,
        rope_high_freq_factor=4.0,
        rope_pretraining_sequence_length=16,
    ),
    "MiT": mit,
    "Mistral": lambda hub: hub.MistralBackbone(**QUERIES, **SHARP),
    "Mixtral": lambda hub: hub.MixtralBackbone(**QUERIES, num_experts=4),
    "MobileNet": lambda hub: hub.MobileNetBackbone(**MOBILE),
    "OPT": lambda hub: hub.OPTBackbone(**HEADS),
    "Phi3": lambda hub: hub.Phi3Backbone(**QUERIES),
    "Qwen2": lambda hub: hub.Qwen2Backbone(**QUERIES),
    "Qwen3": lambda hub: hub.Qwen3Backbone(**QUERIES, head_dim=8),
    "Qwen3Moe": lambda hub: hub.Qwen3MoeBackbone(
        **QUERIES, moe_intermediate_dim=8, num_experts=4, top_k=2, head_dim=8
    ),
    "ResNet": resnet,
    "ResNet v2": lambda hub: resnet(hub, block_type="bottleneck_block", use_pre_activation=True),
    "RetinaNet": lambda hub: hub.RetinaNetBackbone(resnet(hub), 2, 4, False),
    "Roberta": lambda hub: hub.RobertaBackbone(**HEADS),
    "RoformerV2": lambda hub: hub.RoformerV2Backbone(**HEADS, head_size=8),
    "SegFormer": lambda hub: hub.SegFormerBackbone(mit(hub), 8),
    "SwinTransformer": lambda hub: hub.SwinTransformerBackbone((32, 32, 3), 8, [2, 2], [2, 4], 4),
    "T5": lambda hub: hub.T5Backbone(**HEADS),
    "VGG": lambda hub: hub.VGGBackbone([1, 2], [8, 16]),
    "ViT": lambda hub: hub.ViTBackbone(**PICTURE, mlp_dim=24),
    "ViTDet": lambda hub: hub.ViTDetBackbone(16, 2, 24, 2, [1], (64, 64, 3), 8, 16, window_size=4),
    "Whisper": lambda hub: hub.WhisperBackbone(
        **HEADS, num_mels=8, max_encoder_sequence_length=20, max_decoder_sequence_length=12
    ),
    "XLMRoberta": lambda hub: hub.XLMRobertaBackbone(**HEADS),
    "XLNet": lambda hub: hub.XLNetBackbone(**HEADS),
    "Xception": lambda hub: hub.XceptionBackbone([[8, 8], [16, 16]], [True, False]),
}


def feed(name: str, tensor: Any, batch: int, size: int, seed: int) -> Array:
    """Values of an input that its name asks for; what is free of a text has ``size`` places, of a picture a side of SIDES."""
    rng = np.random.default_rng(seed)
    free = SIDES[batch > 1] if len(tensor.shape) == 4 else size
    sizes = [batch, *(free if each is None else each for each in tensor.shape[1:])]
    if "mask" in name and "position" not in name:
        kept = rng.integers(2, size + 1, (batch, 1))
        return (np.arange(sizes[1]) < kept).astype(np.dtype(tensor.dtype))
    if "int" in str(tensor.dtype):
        return rng.integers(0, 2 if "segment" in name else WORDS, sizes).astype(np.dtype(tensor.dtype))
    return floats(*sizes, seed=seed)


def hub_model(make: Callable[[Any], Any]) -> Build:
    def build(_: Path) -> Source:
        import keras_hub

        model = randomised(make(keras_hub.models))
        named = model.input if isinstance(model.input, dict) else {"x": model.input}
        feeds = [
            {name: feed(name, each, batch, size, place) for place, (name, each) in enumerate(named.items())}
            for batch, size in ((1, 6), (3, 9))
        ]

        def function(*given: Any) -> Any:
            together = dict(zip(named, given, strict=True)) if isinstance(model.input, dict) else given[0]
            return model(together, training=False)

        return Source(model, function, feeds, keras=model)

    return build


if find_spec("keras_hub") is not None:
    FAMILIES["keras-hub"] = {name: hub_model(make) for name, make in MADE.items()}
