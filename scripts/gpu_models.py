"""Twenty architectures of transformers and detectors, small and with random weights, each with one input.

What a GPU computes otherwise is in their kernels and fusions (attention, normalisations, gathered positions), not in
their size: two layers of 64 show it in a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

TEXT = {
    "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "max_position_embeddings": 128,
}  # fmt: skip
CAUSAL = {**TEXT, "use_cache": False}
GROUPED = {**CAUSAL, "num_key_value_heads": 2}
SIGHT = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "image_size": 64,
    "patch_size": 16,
}  # fmt: skip
BOTH = {
    "vocab_size": 97, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "max_position_embeddings": 128,
    "use_cache": False,
}  # fmt: skip
STAGES = {"hidden_sizes": [32, 64], "depths": [1, 1]}

ARCHITECTURES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bert": ("BertForSequenceClassification", TEXT),
    "roberta": ("RobertaForTokenClassification", TEXT),
    "distilbert": ("DistilBertForQuestionAnswering", {"vocab_size": 97, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}),
    "electra": ("ElectraForPreTraining", {**TEXT, "embedding_size": 32}),
    "albert": ("AlbertModel", {**TEXT, "embedding_size": 32}),
    "gpt2": ("GPT2LMHeadModel", {"vocab_size": 97, "n_positions": 128, "n_embd": 64, "n_layer": 2, "n_head": 4, "use_cache": False}),
    "gpt-neox": ("GPTNeoXForCausalLM", CAUSAL),
    "opt": ("OPTForCausalLM", {**CAUSAL, "ffn_dim": 128, "word_embed_proj_dim": 64}),
    "llama": ("LlamaForCausalLM", GROUPED),
    "mistral": ("MistralForCausalLM", GROUPED),
    "qwen2": ("Qwen2ForCausalLM", GROUPED),
    "gemma": ("GemmaForCausalLM", {**GROUPED, "head_dim": 16}),
    "bart": ("BartModel", BOTH),
    "vit": ("ViTForImageClassification", SIGHT),
    "deit": ("DeiTForImageClassification", SIGHT),
    "convnext": ("ConvNextForImageClassification", {**STAGES, "num_stages": 2}),
    "resnet": ("ResNetForImageClassification", {**STAGES, "embedding_size": 32}),
    "segformer": ("SegformerForSemanticSegmentation", {
        "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [4, 2], "hidden_sizes": [32, 64], "patch_sizes": [7, 3],
        "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 64,
    }),
    "yolos": ("YolosForObjectDetection", {**SIGHT, "image_size": [64, 64], "num_detection_tokens": 20}),
    "detr": ("DetrForObjectDetection", {**BOTH, "num_queries": 20}),
}  # fmt: skip
"""Name -> (the class of transformers, the options of its configuration). The last two detect objects."""


def made(name: str, seed: int = 3) -> tuple[nn.Module, np.ndarray]:
    """The model in inference mode with an input of two rows: tokens (2, 24) or images (2, 3, 64, 64)."""
    torch.manual_seed(seed)
    kind, options = ARCHITECTURES[name]
    cls: Any = getattr(transformers, kind)
    if name == "detr":
        backbone = transformers.ResNetConfig(**STAGES, embedding_size=32, out_features=["stage2"])
        options = {
            **options,
            "backbone_config": backbone,
            "use_timm_backbone": False,
            "backbone": None,
            "use_pretrained_backbone": False,
        }
    module = cls(cls.config_class(**options)).eval()
    for layer in module.modules():
        if isinstance(getattr(layer, "running_var", None), torch.Tensor):
            layer.running_var.uniform_(0.5, 1.5)
            layer.running_mean.normal_(0, 0.2)
    images = module.main_input_name == "pixel_values"
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, 64, 64)).astype(np.float32) if images else rng.integers(3, 97, (2, 24))
    wrapped = _Positional(module, module.main_input_name)
    with torch.no_grad():  # transformers sets up what it records of a model when it is first called
        wrapped(torch.from_numpy(x))
    return wrapped, x


class _Positional(nn.Module):
    """A model of transformers as a function of one tensor, with the tensors of its answer."""

    def __init__(self, module: nn.Module, word: str) -> None:
        super().__init__()
        self.module, self.word = module, word

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answer = self.module(**{self.word: x}).to_tuple()
        return tuple(one for one in answer if isinstance(one, torch.Tensor))


def factories() -> dict[str, Callable[[], tuple[nn.Module, np.ndarray]]]:
    return {name: lambda name=name: made(name) for name in ARCHITECTURES}
