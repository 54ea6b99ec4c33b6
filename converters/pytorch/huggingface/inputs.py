"""What a transformers model is called with, from its architecture: inputs, their free axes, and their names.

Names and axes are those that optimum writes. Each input is a row of ``INPUTS``; which of them a model takes is decided by the
parameters of its ``forward`` and by its configuration.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from netferry.converters import calling, structure
from netferry.converters.errors import UsageError
from netferry.converters.pytorch.caches import is_transformers
from netferry.converters.pytorch.huggingface.rows import (
    BATCH_SIZE,
    FIXED,
    FLAT_PATCHES,
    INPUTS,
    LENGTH,
    PAST,
    SHOWN_LENGTH,
    SHOWN_PAST,
    Sizes,
    is_spectrogram,
    token_ids,
)
from netferry.converters.signature import Example


def shown(model: Any, past: bool | None = None) -> tuple[Example, ...]:
    """Inputs for a transformers model, the free axes of each named; ``past``: go on from a cache (by itself: where it can).

    Raises UsageError where the architecture is not called with any of the inputs that are known.
    """
    takes = parameters_of(model)
    fixed = [name for name in takes if name in FIXED and _is_required(name, model, takes)]
    sizes, cache = _sizes(model, takes, past, in_patches="grid_thw" in fixed)
    names = [name for name in takes if name in INPUTS and _is_wanted(name, model, takes)]
    if not names:
        raise UsageError(
            f"what {type(model).__name__} is called with is not known",
            expected=f"one of {', '.join(INPUTS)}",
            received=", ".join(takes),
            remedy="Give its inputs: --input NAME:sizes:dtype",
        )
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {name: INPUTS[name][0](sizes, rng) for name in names}
    arrays |= {name: one.astype(_float_of(model)) for name, one in arrays.items() if one.dtype.kind == "f"}
    free = {name: {} if fixed else dict(INPUTS[name][1]) for name in names}
    if "input_values" in names and is_spectrogram(model.config):
        free["input_values"] = {0: BATCH_SIZE}
    elif "input_values" in names and arrays["input_values"].ndim == 3:  # (batch, channels, samples)
        free["input_values"] = {0: BATCH_SIZE, 2: free["input_values"][1]}
    elif "attention_mask" in names and "input_values" in names:
        arrays["attention_mask"] = np.ones_like(arrays["input_values"], np.int64)
        free["attention_mask"] = free["input_values"]
    if sizes.length > SHOWN_LENGTH:
        free |= {name: {0: BATCH_SIZE} for name in ("input_ids", "attention_mask") if name in names}
    main = main_input(model, takes)
    if "attention_mask" in names and main in names and arrays[main].ndim == 3 and 2 not in free[main]:
        arrays["attention_mask"] = np.ones(arrays[main].shape[:2], np.int64)
        free["attention_mask"] = free[main]
    if cache is not None:
        arrays["past_key_values"], free["past_key_values"] = cache, {0: BATCH_SIZE}
        before = cache.get_seq_length() if hasattr(cache, "get_seq_length") else sizes.past
        if (
            "attention_mask" in names
        ):  # over the past too, where there are keys of it, and what the model puts in front
            arrays["attention_mask"] = np.ones((sizes.batch, before + sizes.length), np.int64)
            free["attention_mask"] = {0: BATCH_SIZE, 1: f"{PAST} + {LENGTH}" if before else LENGTH}
    made = tuple(_growing(one) for one in calling.examples(arrays, free))
    return _with_fixed(made, {name: FIXED[name](sizes) for name in fixed}) if fixed else made


def _sizes(
    model: Any, takes: Mapping[str, inspect.Parameter], past: bool | None, in_patches: bool
) -> tuple[Sizes, Any]:
    """The sizes at which a model is shown, and the cache from which it goes on; None where it has none."""
    sizes = Sizes(model.config, in_patches=in_patches)
    if (
        main_input(model, takes) == "pixel_values"
    ):  # tokens that stand for an image, and the words behind them
        sizes = replace(sizes, length=SHOWN_LENGTH + sizes.image_tokens)
    if _can_go_on(model, takes) if past is None else past:
        with_past = replace(sizes, past=SHOWN_PAST)
        cache = cache_after(model, with_past)
        if structure.leaves(cache):
            return with_past, cache
    return sizes, None


def _with_fixed(made: tuple[Example, ...], numbers: Mapping[str, Any]) -> tuple[Example, ...]:
    """The examples, with arguments that are part of the model."""
    values = {one.name: structure.Array() for one in made} | {
        name: torch.tensor(value) for name, value in numbers.items()
    }
    call = structure.Arguments(values)
    return tuple(replace(one, call=call) for one in made)


def _growing(example: Example) -> Example:
    """Keys and values are as long as the past; the states of convolutions and recurrences in a cache are not."""
    grows = example.array.ndim == 4 and example.name.startswith("past_key_values.")
    if not grows or not example.name.endswith((".key", ".value")):
        return example
    return replace(example, free={**example.free, 2: PAST})


def _float_of(model: Any) -> Any:
    floats = {torch.float16: np.float16, torch.float64: np.float64}
    if model.dtype is torch.bfloat16:
        import ml_dtypes

        return ml_dtypes.bfloat16
    return floats.get(model.dtype, np.float32)


def _is_required(name: str, model: Any, takes: Mapping[str, Any]) -> bool:
    """Whether the model does not run without: a few parameters have a default that is none."""
    own = model.config.model_type.startswith(FLAT_PATCHES) and name in (*FIXED, "pixel_attention_mask")
    return own or takes[name].default is inspect.Parameter.empty


def _is_wanted(name: str, model: Any, takes: Mapping[str, Any]) -> bool:
    """Whether an input that ``forward`` has a parameter for belongs to it as people call it."""
    main, config = main_input(model, takes), model.config
    language = main == "input_ids"
    if name == main or _is_required(name, model, takes):
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
        return main not in ("input_features", "pixel_values") and not is_spectrogram(config)
    if name == "input_features_mask":
        return main == "input_features"
    if name == "decoder_input_ids":
        return bool(config.is_encoder_decoder)
    if name == "pixel_values":
        return not model.can_generate() and any(
            hasattr(config, name) for name in ("vision_config", "image_size", "backbone_config")
        )
    if name.startswith(("past_", "future_")):
        return hasattr(config, "lags_sequence")
    if name in ("input_features", "input_values"):
        return "audio_config" in vars(config) and not model.can_generate()
    if name == "input_ids":
        return "text_config" in vars(config) and (main == "pixel_values" or not model.can_generate())
    return name in _BELONG


_BELONG = frozenset(
    "bbox visual_feats visual_pos noise noise_sequence states actions rewards returns_to_go timesteps qformer_input_ids "
    "image_embeds_position_mask".split()
)
"""Inputs that are optional to Python alone: without them the model draws numbers, knows no places, or does not run."""


def main_input(model: Any, takes: Mapping[str, Any]) -> str:
    """What the model says that it is called with, else the first of its parameters that is known."""
    named: str = model.main_input_name
    return named if named in takes else next((name for name in takes if name in INPUTS), named)


def _can_go_on(model: Any, takes: Mapping[str, Any]) -> bool:
    own = "past_key_values" in takes and main_input(model, takes) == "input_ids"
    return own and model.can_generate() and not model.config.is_encoder_decoder


def cache_after(model: Any, sizes: Sizes, **more: Any) -> Any:
    """The cache that the model has filled after ``sizes.past`` tokens; one that keeps its whole past, where the model takes it,
    and None where it gives none.

    The window of a sliding attention is in the mask, so that a cache that keeps everything gives the same, for any past.
    """
    from transformers import DynamicCache, EncoderDecoderCache

    before = Sizes(sizes.config, length=sizes.past, batch=sizes.batch)
    name = "decoder_input_ids" if sizes.config.is_encoder_decoder else "input_ids"
    ids = torch.from_numpy(token_ids(before, np.random.default_rng(1))).to(model.device)
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
                made = model(**{name: ids}, past_key_values=empty, use_cache=True, **more)
                counts = empty.get_seq_length() > 0
            except Exception:  # whatever a model's code raises at a cache that is not of its kind
                counts = False
            if not counts:  # a cache of another kind: the model makes its own
                return getattr(model(**{name: ids}, use_cache=True, **more), "past_key_values", None)
    finally:
        for part, training in modes:
            part.training = training
    kept = getattr(
        made, "past_key_values", empty
    )  # an encoder with a head for the next word takes a cache, and gives none
    return DynamicCache() if kept is None else empty


def parameters_of(model: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of ``forward``, those that transformers' decorators hide among them."""
    return inspect.signature(model.forward).parameters


def is_known(model: Any) -> bool:
    """Whether a module is a transformers model whose inputs can be told."""
    return is_transformers(model) and hasattr(model, "config") and hasattr(model, "main_input_name")
