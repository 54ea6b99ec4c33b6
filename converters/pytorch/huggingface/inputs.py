"""What a transformers model is called with, from its architecture: inputs, their free axes, and their names.

Names and axes are those that optimum writes. Each input is a row of ``INPUTS``; which of them a model takes is decided by the
parameters of its ``forward`` and by its configuration.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from netferry.converters import calling
from netferry.converters.errors import UsageError
from netferry.converters.pytorch.caches import is_transformers
from netferry.converters.signature import Array, Example

BATCH_SIZE, LENGTH, PAST = "batch_size", calling.LENGTH, calling.PAST
SHOWN, SHOWN_LENGTH, SHOWN_PAST = 2, 8, 5
"""Sizes of the inputs that a model is shown with."""

_SPECIAL = (
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
    "mask_token_id",
    "image_token_id",
)


@dataclass(frozen=True)
class Sizes:
    """The sizes at which a model is shown, and what its configuration says."""

    config: Any
    length: int = SHOWN_LENGTH
    past: int = 0
    batch: int = SHOWN

    def of(self, *names: str, default: Any = None) -> Any:
        """The first of these that the configuration, or one of those that it holds, says."""
        for config in (self.config, *_inner(self.config)):
            for name in names:
                if (value := getattr(config, name, None)) is not None:
                    return value
        return default

    @property
    def image(self) -> tuple[int, int]:
        size = self.of("image_size", "img_size", "input_size", default=224)
        pair = size if isinstance(size, Sequence) else (size, size)
        return int(pair[-2]), int(pair[-1])


def _inner(config: Any) -> list[Any]:
    held = [value for value in vars(config).values() if hasattr(value, "model_type")]
    return [*held, *(inner for one in held for inner in _inner(one))]


Row = tuple[Callable[[Sizes, np.random.Generator], Array], Mapping[int, str]]


def _ids(sizes: Sizes, rng: np.random.Generator) -> Array:
    vocabulary = int(sizes.of("vocab_size", default=32))
    special = {number for name in _SPECIAL if isinstance(number := sizes.of(name), int)}
    plain = [number for number in range(3, min(vocabulary, 4096)) if number not in special] or [0]
    return rng.choice(np.asarray(plain, np.int64), (sizes.batch, sizes.length))


def _mask(sizes: Sizes, _: np.random.Generator) -> Array:
    return np.ones((sizes.batch, sizes.past + sizes.length), np.int64)


def _positions(sizes: Sizes, _: np.random.Generator) -> Array:
    return np.tile(np.arange(sizes.past, sizes.past + sizes.length), (sizes.batch, 1))


def _zeros(sizes: Sizes, _: np.random.Generator) -> Array:
    return np.zeros((sizes.batch, sizes.length), np.int64)


def _pixels(sizes: Sizes, rng: np.random.Generator) -> Array:
    channels = int(sizes.of("num_channels", "in_channels", "in_chans", default=3))
    return rng.standard_normal((sizes.batch, channels, *sizes.image)).astype(np.float32)


def _frames(sizes: Sizes, rng: np.random.Generator) -> Array:
    count = int(sizes.of("num_frames", default=8))
    channels = int(sizes.of("num_channels", default=3))
    return rng.standard_normal((sizes.batch, count, channels, *sizes.image)).astype(np.float32)


def _samples(sizes: Sizes, rng: np.random.Generator) -> Array:
    channels = () if sizes.of("codebook_size") is None else (int(sizes.of("audio_channels", default=1)),)
    return rng.standard_normal((sizes.batch, *channels, 1600 + 160 * sizes.length)).astype(np.float32)


_FRAMES_LAST = (
    "whisper",
    "moonshine_streaming",
    "qwen2_audio",
    "voxtral",
    "audioflamingo",
    "musicflamingo",
    "glmasr",
)
"""Architectures whose features are (bins, frames), of exactly as many frames as they have positions for."""


def _features(sizes: Sizes, rng: np.random.Generator) -> Array:
    bins = int(sizes.of("num_mel_bins", "input_feat_per_channel", "feature_size", default=80))
    frames = int(sizes.of("max_source_positions", default=30)) * 2
    last = not sizes.config.model_type.startswith(_FRAMES_LAST)
    shape = (sizes.batch, 40, bins) if last else (sizes.batch, bins, frames)
    return rng.standard_normal(shape).astype(np.float32)


def _states(sizes: Sizes, rng: np.random.Generator) -> Array:
    width = int(sizes.of("hidden_size", "d_model", "dim", default=32))
    return rng.standard_normal((sizes.batch, sizes.length, width)).astype(np.float32)


def _encoded(sizes: Sizes, rng: np.random.Generator) -> Array:
    width = int(
        sizes.of("encoder_hidden_size", "cross_attention_hidden_size", "hidden_size", "d_model", default=32)
    )
    return rng.standard_normal((sizes.batch, sizes.length - 1, width)).astype(np.float32)


def _spectrogram(sizes: Sizes, rng: np.random.Generator) -> Array:
    bins = int(sizes.of("model_in_dim", "num_mel_bins", "mel_dim", default=80))
    return rng.standard_normal((sizes.batch, 2 * sizes.length, bins)).astype(np.float32)


def _series(sizes: Sizes, rng: np.random.Generator) -> Array:
    count = int(sizes.of("num_input_channels", default=1))
    return rng.standard_normal((sizes.batch, int(sizes.of("context_length", default=32)), count)).astype(
        np.float32
    )


def _patches(sizes: Sizes, rng: np.random.Generator) -> Array:
    """Rows and columns of the patches, counted from 1, before their pixels."""
    width = int(sizes.of("patch_embed_hidden_size", default=768))
    made = rng.standard_normal((sizes.batch, 2 * sizes.length, width + 2)).astype(np.float32)
    places = np.arange(2 * sizes.length)
    made[..., 0], made[..., 1] = places // 4 + 1, places % 4 + 1
    return made


TOKENS = {0: BATCH_SIZE, 1: LENGTH}
INPUTS: Mapping[str, Row] = {
    "input_ids": (_ids, TOKENS),
    "attention_mask": (_mask, TOKENS),
    "token_type_ids": (_zeros, TOKENS),
    "position_ids": (_positions, TOKENS),
    "pixel_values": (_pixels, {0: BATCH_SIZE}),
    "pixel_values_videos": (_frames, {0: BATCH_SIZE}),
    "input_values": (_samples, {0: BATCH_SIZE, 1: "audio_sequence_length"}),
    "input_features": (_features, {0: BATCH_SIZE}),
    "decoder_input_ids": (_ids, {0: BATCH_SIZE, 1: "decoder_sequence_length"}),
    "audio_input_ids": (_ids, TOKENS),
    "image": (_pixels, {0: BATCH_SIZE}),
    "hidden_states": (_states, TOKENS),
    "inputs_embeds": (_states, TOKENS),
    "query_embeds": (_states, TOKENS),
    "encoder_hidden_states": (_encoded, {0: BATCH_SIZE, 1: "encoder_sequence_length"}),
    "spectrogram": (_spectrogram, {0: BATCH_SIZE, 1: "frames"}),
    "flattened_patches": (_patches, {0: BATCH_SIZE, 1: "patches"}),
    "past_values": (_series, {0: BATCH_SIZE}),
}
"""An input of each name: how it is made, and its free axes."""


def shown(model: Any, past: bool | None = None) -> tuple[Example, ...]:
    """Inputs for a transformers model, the free axes of each named; ``past``: go on from a cache (by itself: where it can).

    Raises UsageError where the architecture is not called with any of the inputs that are known.
    """
    takes = parameters_of(model)
    with_past = _can_go_on(model, takes) if past is None else past
    sizes = Sizes(model.config, past=SHOWN_PAST if with_past else 0)
    names = [name for name in takes if name in INPUTS and _is_wanted(name, model, takes)]
    if not names:
        raise UsageError(
            f"what {type(model).__name__} is called with is not known",
            expected=f"one of {', '.join(INPUTS)}",
            received=", ".join(takes),
            remedy="Give its inputs: --input NAME:sizes:dtype",
        )
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {name: INPUTS[name][0](sizes, rng).astype(_dtype(name, model)) for name in names}
    free = {name: dict(INPUTS[name][1]) for name in names}
    if "input_values" in names and arrays["input_values"].ndim == 3:  # (batch, channels, samples)
        free["input_values"] = {0: BATCH_SIZE, 2: free["input_values"][1]}
    elif "attention_mask" in names and "input_values" in names:
        arrays["attention_mask"] = np.ones_like(arrays["input_values"], np.int64)
        free["attention_mask"] = free["input_values"]
    main = main_input(model, takes)
    if "attention_mask" in names and main in names and arrays[main].ndim == 3 and 2 not in free[main]:
        arrays["attention_mask"] = np.ones(arrays[main].shape[:2], np.int64)
        free["attention_mask"] = free[main]
    if with_past:
        free |= (
            {"attention_mask": {0: BATCH_SIZE, 1: f"{PAST} + {LENGTH}"}} if "attention_mask" in names else {}
        )
        cache = arrays["past_key_values"] = cache_after(model, sizes)
        free["past_key_values"] = {0: BATCH_SIZE}
        length = cache.get_seq_length() if hasattr(cache, "get_seq_length") else sizes.past
        if "attention_mask" in names and length != sizes.past:  # the model puts something of its own in front
            arrays["attention_mask"] = np.ones((sizes.batch, length + sizes.length), np.int64)
    return tuple(_growing(one) for one in calling.examples(arrays, free))


def _growing(example: Example) -> Example:
    """Keys and values are as long as the past; the states of convolutions and recurrences in a cache are not."""
    grows = example.array.ndim == 4 and example.name.startswith("past_key_values.")
    if not grows or not example.name.endswith((".key", ".value")):
        return example
    return replace(example, free={**example.free, 2: PAST})


def _dtype(name: str, model: Any) -> Any:
    floats = {torch.float16: np.float16, torch.float64: np.float64}
    if name.endswith(("_ids", "_mask")):
        return np.int64
    if model.dtype is torch.bfloat16:
        import ml_dtypes

        return ml_dtypes.bfloat16
    return floats.get(model.dtype, np.float32)  # type: ignore[call-overload]


def _is_wanted(name: str, model: Any, takes: Mapping[str, Any]) -> bool:
    """Whether an input that ``forward`` has a parameter for belongs to it as people call it."""
    main, config = main_input(model, takes), model.config
    language = main == "input_ids"
    if name == main or takes[name].default is inspect.Parameter.empty:
        return True
    if name == "encoder_hidden_states":
        return bool(
            getattr(config, "cross_attention_frequency", 0) or getattr(config, "add_cross_attention", False)
        )
    if name == "token_type_ids":
        return language and (getattr(config, "type_vocab_size", 0) or 0) > 1
    if name == "position_ids":
        return language and model.can_generate() and not config.is_encoder_decoder
    if name == "attention_mask":
        return language or main == "input_values" or not {"input_features", "pixel_values"} & {main}
    if name == "decoder_input_ids":
        return bool(config.is_encoder_decoder)
    if name == "pixel_values":
        return not model.can_generate() and "vision_config" in vars(config)
    return name == "input_ids" and "text_config" in vars(config) and not model.can_generate()


def main_input(model: Any, takes: Mapping[str, Any]) -> str:
    """What the model says that it is called with, else the first of its parameters that is known."""
    named: str = model.main_input_name
    return named if named in takes else next((name for name in takes if name in INPUTS), named)


def _can_go_on(model: Any, takes: Mapping[str, Any]) -> bool:
    own = "past_key_values" in takes and main_input(model, takes) == "input_ids"
    return own and model.can_generate() and not model.config.is_encoder_decoder


def cache_after(model: Any, sizes: Sizes, **more: Any) -> Any:
    """The cache that the model has filled after ``sizes.past`` tokens; one that keeps its whole past, where the model takes it.

    The window of a sliding attention is in the mask, so that a cache that keeps everything gives the same, for any past.
    """
    from transformers import DynamicCache, EncoderDecoderCache

    before = Sizes(sizes.config, length=sizes.past, batch=sizes.batch)
    name = "decoder_input_ids" if sizes.config.is_encoder_decoder else "input_ids"
    ids = torch.from_numpy(_ids(before, np.random.default_rng(1))).to(model.device)
    empty: Any = (
        EncoderDecoderCache(DynamicCache(), DynamicCache())
        if sizes.config.is_encoder_decoder
        else DynamicCache()
    )
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            try:
                model(**{name: ids}, past_key_values=empty, use_cache=True, **more)
            except Exception:  # a cache of another kind: the model makes its own
                made = model(**{name: ids}, use_cache=True, **more)
                return made.past_key_values
    finally:
        for part, training in modes:
            part.training = training
    return empty


def parameters_of(model: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of ``forward``, those that transformers' decorators hide among them."""
    return inspect.signature(model.forward).parameters


def is_known(model: Any) -> bool:
    """Whether a module is a transformers model whose inputs can be told."""
    return is_transformers(model) and hasattr(model, "config") and hasattr(model, "main_input_name")
