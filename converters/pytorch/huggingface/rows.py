"""What each input of a transformers model is: a row makes it, of the sizes that a configuration says, and names its free axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netferry.converters import calling
from netferry.converters.signature import Array

BATCH_SIZE, LENGTH, PAST = "batch_size", calling.LENGTH, calling.PAST
GRID = (4, 4)
SHOWN, SHOWN_LENGTH, SHOWN_PAST = 2, 8, 5
"""Sizes of the inputs that a model is shown with, rows and columns of patches among them."""

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
    in_patches: bool = False
    """Whether images come as one row of patches, whose grid is an argument of its own."""

    def of(self, *names: str, default: Any = None) -> Any:
        """The first of these that the configuration, or one of those that it holds, says."""
        for config in (self.config, *_inner(self.config)):
            for name in names:
                if (value := getattr(config, name, None)) is not None:
                    return value
        return default

    @property
    def image_tokens(self) -> int:
        """Tokens that stand for an image, of an architecture that asks as many questions of each."""
        known = getattr(self.config, "image_token_index", None) is not None
        return int(getattr(self.config, "num_query_tokens", 0) or 0) if known else 0

    @property
    def of_patches(self) -> int:
        """Patches of the image that is shown: a square that every merging of two or four divides."""
        return GRID[0] * GRID[1]

    @property
    def patch_width(self) -> int:
        """Numbers of a patch."""
        channels = int(self.of("num_channels", "in_channels", "in_chans", default=3))
        return channels * int(self.of("temporal_patch_size", default=1)) * self.patch**2

    @property
    def patch(self) -> int:
        """Rows of pixels in a patch."""
        size = self.of("patch_size", default=14)
        return int(size if isinstance(size, int) else size[-1])

    @property
    def image(self) -> tuple[int, int]:
        size = self.of("image_size", "img_size", "input_size", "max_img_size", default=224)
        pair = size if isinstance(size, Sequence) else (size, size)
        return int(pair[-2]), int(pair[-1])


def _inner(config: Any) -> list[Any]:
    held = [value for value in vars(config).values() if hasattr(value, "model_type")]
    return [*held, *(inner for one in held for inner in _inner(one))]


Row = tuple[Callable[[Sizes, np.random.Generator], Array], Mapping[int, str]]


def token_ids(sizes: Sizes, rng: np.random.Generator) -> Array:
    vocabulary = int(sizes.of("vocab_size", default=32))
    special = {number for name in _SPECIAL if isinstance(number := sizes.of(name), int)}
    plain = [number for number in range(3, min(vocabulary, 4096)) if number not in special] or [0]
    ids = rng.choice(np.asarray(plain, np.int64), (sizes.batch, sizes.length))
    if sizes.length > (count := sizes.image_tokens):
        ids[:, :count] = sizes.of("image_token_index", "image_token_id", default=0)
    return ids


def _mask(sizes: Sizes, _: np.random.Generator) -> Array:
    return np.ones((sizes.batch, sizes.past + sizes.length), np.int64)


def _positions(sizes: Sizes, _: np.random.Generator) -> Array:
    return np.tile(np.arange(sizes.past, sizes.past + sizes.length), (sizes.batch, 1))


def _zeros(sizes: Sizes, _: np.random.Generator) -> Array:
    return np.zeros((sizes.batch, sizes.length), np.int64)


_IN_A_ROW: Mapping[str, tuple[str, int]] = {
    **dict.fromkeys(("videomae", "timesformer", "vivit", "vjepa2", "xclip", "tvp"), ("num_frames", 8)),
    **dict.fromkeys(("superglue", "lightglue", "efficientloftr"), ("", 2)),
}  # fmt: skip
"""Architectures that take several images at once, and how many: frames of a video, both of a pair."""


def _pixels(sizes: Sizes, rng: np.random.Generator) -> Array:
    channels = int(sizes.of("num_channels", "in_channels", "in_chans", default=3))
    if sizes.in_patches:
        square = sizes.config.model_type.startswith(_SQUARE_PATCHES)
        shape = (channels, sizes.patch, sizes.patch) if square else (sizes.patch_width,)
        return rng.standard_normal((sizes.of_patches, *shape)).astype(np.float32)
    if sizes.config.model_type.startswith(FLAT_PATCHES):
        return rng.standard_normal((sizes.batch, sizes.of_patches, sizes.patch_width)).astype(np.float32)
    name, count = _IN_A_ROW.get(sizes.config.model_type, ("", 0))
    row: tuple[int, ...] = (int(sizes.of(name, default=count)),) if count else ()
    if (tiles := sizes.of("max_num_tiles")) is not None:  # one image, in as many tiles
        row = (1, int(tiles))
    return rng.standard_normal((sizes.batch, *row, channels, *sizes.image)).astype(np.float32)


_SQUARE_PATCHES = ("kimi",)
"""Architectures whose patches are small images."""
FLAT_PATCHES = ("siglip2", "gemma4_vision")
"""Architectures whose images come as rows of patches, of each image as many."""


def _frames(sizes: Sizes, rng: np.random.Generator) -> Array:
    count = int(sizes.of("num_frames", default=8))
    channels = int(sizes.of("num_channels", default=3))
    return rng.standard_normal((sizes.batch, count, channels, *sizes.image)).astype(np.float32)


def is_spectrogram(config: Any) -> bool:
    """Whether what is heard comes as frames of frequencies, of which there are always as many."""
    return hasattr(config, "time_stride")


def _samples(sizes: Sizes, rng: np.random.Generator) -> Array:
    if (bins := sizes.of("num_mel_bins")) is not None and hasattr(
        sizes.config, "time_stride"
    ):  # a spectrogram
        frames = int(sizes.of("max_length", default=1024))
        return rng.standard_normal((sizes.batch, frames, int(bins))).astype(np.float32)
    coded = sizes.of("codebook_size", "audio_channels", "downsampling_ratios") is not None
    channels = (int(sizes.of("audio_channels", default=1)),) if coded else ()
    return rng.standard_normal((sizes.batch, *channels, 1600 + 160 * sizes.length)).astype(np.float32)


_BINS = (
    "feature_projection_input_dim",
    "num_mel_bins",
    "input_feat_per_channel",
    "input_dim",
    "input_feat_size",
    "feature_size",
)
_FRAMES_LAST = (
    "whisper",
    "moonshine_streaming",
    "qwen2_audio",
    "voxtral",
    "audioflamingo",
    "musicflamingo",
    "glmasr",
    "qwen3_asr",
    "moss_transcribe_diarize",
)
"""Architectures whose features are (bins, frames), of exactly as many frames as they have positions for."""


def _features(sizes: Sizes, rng: np.random.Generator) -> Array:
    bins = int(sizes.of(*_BINS, default=80))
    if (whole := sizes.of("spec_size")) is not None:  # a spectrogram that is cut into a square
        return rng.standard_normal((sizes.batch, 1, 3 * int(whole), bins)).astype(np.float32)
    frames = int(sizes.of("max_source_positions", default=30)) * 2
    last = not sizes.config.model_type.startswith(_FRAMES_LAST)
    shape = (sizes.batch, 40, bins) if last else (sizes.batch, bins, frames)
    return rng.standard_normal(shape).astype(np.float32)


def _features_mask(sizes: Sizes, rng: np.random.Generator) -> Array:
    shape = _features(sizes, rng).shape
    return np.ones(
        (shape[0], shape[-1] if sizes.config.model_type.startswith(_FRAMES_LAST) else shape[1]), np.int64
    )


_IMAGES_AS_STATES = ("florence_vision", "slanet", "slanext")
"""Backbones that call an image their states."""


def _states(sizes: Sizes, rng: np.random.Generator) -> Array:
    if sizes.in_patches:
        return rng.standard_normal((sizes.of_patches, sizes.patch_width)).astype(np.float32)
    if sizes.config.model_type in _IMAGES_AS_STATES:
        return rng.standard_normal((sizes.batch, 3, *sizes.image)).astype(np.float32)
    width = int(sizes.of("input_dim", "hidden_size", "d_model", "dim", default=32))
    return rng.standard_normal((sizes.batch, sizes.length, width)).astype(np.float32)


def _encoded(sizes: Sizes, rng: np.random.Generator) -> Array:
    width = int(
        sizes.of("encoder_hidden_size", "cross_attention_hidden_size", "hidden_size", "d_model", default=32)
    )
    return rng.standard_normal((sizes.batch, sizes.length - 1, width)).astype(np.float32)


def _spectrogram(sizes: Sizes, rng: np.random.Generator) -> Array:
    bins = int(sizes.of("model_in_dim", "num_mel_bins", "mel_dim", default=80))
    return rng.standard_normal((sizes.batch, 2 * sizes.length, bins)).astype(np.float32)


def _timed(*after: str, future: bool = False) -> Callable[[Sizes, np.random.Generator], Array]:
    """Numbers for each step of a series: those that were, with the longest lag before them, or those to come."""

    def make(sizes: Sizes, rng: np.random.Generator) -> Array:
        context = int(sizes.of("context_length", "prediction_length", default=8))
        steps = (
            int(sizes.of("prediction_length", default=8))
            if future
            else context + max(sizes.of("lags_sequence", default=(0,)))
        )
        return rng.standard_normal(
            (sizes.batch, steps, *(int(sizes.of(name, default=1)) for name in after))
        ).astype(np.float32)

    return make


def _of_episodes(*names: str) -> Callable[[Sizes, np.random.Generator], Array]:
    """Numbers for each step of an episode."""

    def make(sizes: Sizes, rng: np.random.Generator) -> Array:
        return rng.standard_normal((sizes.batch, sizes.length, int(sizes.of(*names, default=1)))).astype(
            np.float32
        )

    return make


def _boxes(sizes: Sizes, rng: np.random.Generator) -> Array:
    """Left, top, right and bottom of each word; of Bros as many shares of the page as it has corners' numbers."""
    if (count := sizes.of("dim_bbox")) is not None:
        return rng.random((sizes.batch, sizes.length, int(count)), np.float32)
    if sizes.config.model_type == "udop":
        return np.sort(rng.random((sizes.batch, sizes.length, 4), np.float32))
    corners = rng.integers(
        0,
        min(int(sizes.of("max_2d_position_embeddings", default=1000)), 1000),
        (sizes.batch, sizes.length, 4),
    )
    return np.sort(corners.reshape(sizes.batch, sizes.length, 2, 2), 2).reshape(sizes.batch, sizes.length, 4)


_REGIONS = 6


def _regions(sizes: Sizes, rng: np.random.Generator) -> Array:
    return rng.standard_normal(
        (sizes.batch, _REGIONS, int(sizes.of("visual_feat_dim", default=2048)))
    ).astype(np.float32)


def _region_boxes(sizes: Sizes, rng: np.random.Generator) -> Array:
    return rng.random((sizes.batch, _REGIONS, int(sizes.of("visual_pos_dim", default=4))), np.float32)


def _noise(sizes: Sizes, rng: np.random.Generator) -> Array:
    """What decides which patches are seen."""
    patch = int(sizes.of("patch_size", default=16))
    return rng.random((sizes.batch, (sizes.image[0] // patch) * (sizes.image[1] // patch)), np.float32)


def _noise_sequence(sizes: Sizes, rng: np.random.Generator) -> Array:
    return rng.standard_normal((sizes.batch, 40, int(sizes.of("model_in_channels", default=64)))).astype(
        np.float32
    )


def _image_mask(sizes: Sizes, _: np.random.Generator) -> Array:
    """Which tokens stand for what is found in the image."""
    mask = np.zeros((sizes.batch, sizes.length), np.int64)
    mask[:, : int(sizes.of("latent_query_num", default=64))] = 1
    return mask


def _places(sizes: Sizes, _: np.random.Generator) -> Array:
    """Column and row of each patch."""
    rows, columns = np.divmod(np.arange(sizes.of_patches), GRID[1])
    return np.tile(np.stack([columns, rows], -1), (sizes.batch, 1, 1))


def _series(sizes: Sizes, rng: np.random.Generator) -> Array:
    if sizes.of("lags_sequence") is not None:
        return _timed()(sizes, rng)
    if sizes.of("horizon_length") is not None:
        return rng.standard_normal((sizes.batch, int(sizes.of("context_length", default=32)))).astype(
            np.float32
        )
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
    "input_ids": (token_ids, TOKENS),
    "attention_mask": (_mask, TOKENS),
    "token_type_ids": (_zeros, TOKENS),
    "position_ids": (_positions, TOKENS),
    "pixel_values": (_pixels, {0: BATCH_SIZE}),
    "pixel_values_videos": (_frames, {0: BATCH_SIZE}),
    "input_values": (_samples, {0: BATCH_SIZE, 1: "audio_sequence_length"}),
    "input_features": (_features, {0: BATCH_SIZE}),
    "decoder_input_ids": (token_ids, {0: BATCH_SIZE, 1: "decoder_sequence_length"}),
    "audio_input_ids": (token_ids, TOKENS),
    "qformer_input_ids": (lambda sizes, rng: token_ids(replace(sizes, length=SHOWN_LENGTH), rng), TOKENS),
    "image": (_pixels, {0: BATCH_SIZE}),
    "inputs": (lambda sizes, rng: (_samples if sizes.of("conv_stride") else token_ids)(sizes, rng), TOKENS),
    "aspect_ratio_ids": (lambda sizes, _: np.ones((sizes.batch, 1), np.int64), {0: BATCH_SIZE}),
    "aspect_ratio_mask": (
        lambda sizes, _: np.ones((sizes.batch, 1, int(sizes.of("max_num_tiles", default=4))), np.int64),
        {0: BATCH_SIZE},
    ),
    "input_features_mask": (_features_mask, {0: BATCH_SIZE}),
    "hidden_states": (_states, TOKENS),
    "inputs_embeds": (_states, TOKENS),
    "query_embeds": (_states, TOKENS),
    "context": (_states, TOKENS),
    "encoder_hidden_states": (_encoded, {0: BATCH_SIZE, 1: "encoder_sequence_length"}),
    "spectrogram": (_spectrogram, {0: BATCH_SIZE, 1: "frames"}),
    "flattened_patches": (_patches, {0: BATCH_SIZE, 1: "patches"}),
    "past_values": (_series, {0: BATCH_SIZE}),
    "past_time_features": (_timed("num_time_features"), {0: BATCH_SIZE}),
    "past_observed_mask": (lambda sizes, rng: np.ones_like(_timed()(sizes, rng)), {0: BATCH_SIZE}),
    "future_values": (_timed(future=True), {0: BATCH_SIZE}),
    "future_time_features": (_timed("num_time_features", future=True), {0: BATCH_SIZE}),
    "states": (_of_episodes("state_dim"), TOKENS),
    "actions": (_of_episodes("act_dim"), TOKENS),
    "rewards": (_of_episodes(), TOKENS),
    "returns_to_go": (_of_episodes(), TOKENS),
    "timesteps": (_positions, TOKENS),
    "bbox": (_boxes, TOKENS),
    "visual_feats": (_regions, {0: BATCH_SIZE, 1: "regions"}),
    "visual_pos": (_region_boxes, {0: BATCH_SIZE, 1: "regions"}),
    "noise": (_noise, {0: BATCH_SIZE}),
    "noise_sequence": (_noise_sequence, {0: BATCH_SIZE}),
    "image_embeds_position_mask": (_image_mask, TOKENS),
    "pixel_position_ids": (_places, {0: BATCH_SIZE}),
    "pixel_attention_mask": (
        lambda sizes, _: np.ones((sizes.batch, sizes.of_patches), np.int64),
        {0: BATCH_SIZE},
    ),
}
"""An input of each name: how it is made, and its free axes."""

FIXED: Mapping[str, Callable[[Sizes], Any]] = {
    "grid_thw": lambda _: [[1, *GRID]],
    "spatial_shapes": lambda sizes: [list(GRID)] * sizes.batch,
    "merge_sizes": lambda _: [2],
}
"""Inputs through which the code of the model counts, so that they are part of it: the grid of the image that is shown."""
