"""Operators that are known and stay out, each with the reason and what to do."""

from __future__ import annotations

from collections.abc import Mapping

_PACKED = "Export the model without packing (without convert_to_packing_mode)"
_ORDERED = "Quantise the model with onnxruntime.quantization in its QDQ format"
_BLOCKED = (
    "Save the model with ORT_ENABLE_EXTENDED: ORT_ENABLE_ALL writes for the one processor that it ran on"
)
_GENERATES = (
    "Export the model without its search (onnxruntime's convert_generation adds it), and search outside"
)

REFUSED: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("PackedAttention", "PackedMultiHeadAttention", "RemovePadding", "RestorePadding"),
        ("it works on batches without padding", _PACKED),
    ),
    **dict.fromkeys(
        """QOrderedAttention QOrderedGelu QOrderedLayerNormalization QOrderedLongformerAttention QOrderedMatMul
        QuantizeWithOrder DequantizeWithOrder""".split(),
        ("its tensors lie in an order of one kind of GPU", _ORDERED),
    ),
    **dict.fromkeys(
        ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"),
        ("it searches for text, over a graph of its own", _GENERATES),
    ),
    **dict.fromkeys(
        ("EPContext", "Snpe"), ("it holds what was compiled for one device", "Start from the model before it")
    ),
    **dict.fromkeys(
        ("Tokenizer", "WordConvEmbedding"),
        ("it works on texts", "Cut the model behind it, and compute its output outside"),
    ),
}
"""Operator -> why it is not opened, and what to do."""

BLOCKED = ("it lies in blocks of channels, as long as a processor's registers", _BLOCKED)
"""Of the domain ``com.microsoft.nchwc``."""
