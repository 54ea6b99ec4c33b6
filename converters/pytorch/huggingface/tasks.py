"""What a folder's model is for: the class of transformers that does it, and how that is called.

A task may end in ``-with-past``: the model goes on from a cache. ``encoder``, ``decoder`` and ``decoder-with-past`` are the parts of
a model that has both, as they are run one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from netferry.converters import calling
from netferry.converters.errors import RefusedError, UsageError, nearest
from netferry.converters.pytorch.calling import as_shown
from netferry.converters.pytorch.huggingface import inputs, rows
from netferry.converters.signature import Example

TASKS: Mapping[str, tuple[str, ...]] = {
    "feature-extraction": ("AutoModel",),
    "fill-mask": ("AutoModelForMaskedLM",),
    "text-generation": ("AutoModelForCausalLM",),
    "text2text-generation": ("AutoModelForSeq2SeqLM",),
    "text-classification": ("AutoModelForSequenceClassification",),
    "token-classification": ("AutoModelForTokenClassification",),
    "question-answering": ("AutoModelForQuestionAnswering",),
    "image-classification": ("AutoModelForImageClassification",),
    "zero-shot-image-classification": ("AutoModelForZeroShotImageClassification",),
    "image-segmentation": ("AutoModelForImageSegmentation", "AutoModelForUniversalSegmentation"),
    "semantic-segmentation": ("AutoModelForSemanticSegmentation",),
    "object-detection": ("AutoModelForObjectDetection",),
    "depth-estimation": ("AutoModelForDepthEstimation",),
    "image-to-image": ("AutoModelForImageToImage",),
    "masked-im": ("AutoModelForMaskedImageModeling",),
    "video-classification": ("AutoModelForVideoClassification",),
    "audio-classification": ("AutoModelForAudioClassification",),
    "audio-frame-classification": ("AutoModelForAudioFrameClassification",),
    "audio-xvector": ("AutoModelForAudioXVector",),
    "automatic-speech-recognition": ("AutoModelForSpeechSeq2Seq", "AutoModelForCTC"),
    "time-series-forecasting": ("AutoModelForTimeSeriesPrediction",),
}
"""The tasks, as optimum names them, and the classes that look up the one for an architecture."""

PARTS = ("encoder", "decoder", "decoder-with-past")
_PAST = "-with-past"


def auto_class(task: str) -> str:
    return _autos(task)[0]


def _autos(task: str) -> tuple[str, ...]:
    plain = task.removesuffix(_PAST)
    if plain not in TASKS:
        known = (*TASKS, *PARTS)
        raise UsageError(
            "no such task",
            expected=f"one of {', '.join(known)}",
            received=task,
            remedy=nearest(task, known),
        )
    return TASKS[plain]


def model_class(config: Any, architectures: Sequence[str], task: str | None, where: str) -> tuple[Any, str]:
    """The class for a task, or the one that the folder was saved from, and how it is to be called.

    Raises:
        RefusedError: the architecture has no such class.
    """
    import transformers

    part = task if task in PARTS else _PAST if task and task.endswith(_PAST) else "" if task else "own"
    if task is not None and task not in PARTS:
        for auto in _autos(task):
            mapping = getattr(transformers, auto)._model_mapping
            if type(config) in mapping:
                found = mapping[type(config)]
                return (found[0] if isinstance(found, tuple) else found), part
        raise RefusedError(f"{config.model_type} has no model for {task}", where=where)
    named = architectures[0] if architectures else ""
    kind = getattr(transformers, str(named), None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise RefusedError(
            "its configuration does not say which class of transformers it was saved from",
            where=where,
            received=named or "no architectures",
            remedy=f"Use --task {', '.join(list(TASKS)[:4])} ...",
        )
    return kind, part


def as_called(model: Any, part: str) -> Any:
    """The model with the inputs of its task; "own" is as its architecture is called, "" without a past."""
    if part in PARTS:
        return _part_of(model, part)
    return as_shown(model, inputs.shown(model, {"": False, _PAST: True}.get(part)))


# ---- encoders and decoders apart -----------------------------------------------------------------------


class Encoder(nn.Module):
    """The encoder of a model that has a decoder too."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, **given: torch.Tensor) -> Any:
        return {"last_hidden_state": self.encoder(**given)[0]}


class Decoder(nn.Module):
    """The decoder with its head: tokens and the encoder's states, or tokens and a cache that holds what was made of these."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
    ) -> Any:
        if encoder_hidden_states is None:
            keys = past_key_values.cross_attention_cache.layers[0].keys
            width = getattr(self.model.config, "d_model", None) or self.model.config.hidden_size
            encoder_hidden_states = keys.new_zeros((keys.shape[0], keys.shape[2], width))
        mask = {} if encoder_attention_mask is None else {"attention_mask": encoder_attention_mask}
        made = self.model(
            decoder_input_ids=input_ids,
            encoder_outputs=(encoder_hidden_states,),
            past_key_values=past_key_values,
            use_cache=True,
            **mask,
        )
        return {"logits": made.logits, "past_key_values": made.past_key_values}


def _part_of(model: Any, part: str) -> Any:
    if not model.config.is_encoder_decoder:
        raise UsageError(
            f"{type(model).__name__} is no encoder with a decoder", received=part, remedy="Leave --task out"
        )
    return encoder_of(model) if part == "encoder" else decoder_of(model, past=part != "decoder")


def encoder_of(model: Any) -> Any:
    """The encoder alone, called as the whole model is."""
    whole = [one for one in inputs.shown(model, past=False) if not one.name.startswith("decoder_")]
    names = tuple(one.name for one in whole)
    takes = inputs.parameters_of(model.get_encoder())
    kept = [one for one in whole if one.name in takes]
    if not kept:
        raise UsageError(f"the encoder of {type(model).__name__} takes none of {', '.join(names)}")
    encoder = Encoder(model).eval()
    return as_shown(encoder, kept)


def decoder_of(model: Any, past: bool) -> Any:
    """The decoder alone; with ``past`` it goes on from a cache, and the encoder's states are in that."""
    sizes = rows.Sizes(model.config, past=rows.SHOWN_PAST if past else 0)
    whole = {one.name: one for one in inputs.shown(model, past=False)}
    fed = {
        name: torch.from_numpy(np.array(one.array))
        for name, one in whole.items()
        if not name.startswith("decoder_")
    }
    states = _encoded(model, fed)
    batch, source = rows.BATCH_SIZE, "encoder_sequence_length"
    given: dict[str, Any] = {"input_ids": whole["decoder_input_ids"].array}
    free: dict[str, Any] = {"input_ids": {0: batch, 1: rows.LENGTH if past else "decoder_sequence_length"}}
    varies = "input_ids" in fed or "input_values" in fed
    if not past:
        given["encoder_hidden_states"] = states
        free["encoder_hidden_states"] = {0: batch, 1: source} if varies else {0: batch}
    if "attention_mask" in fed and "input_ids" in fed:
        given["encoder_attention_mask"] = fed["attention_mask"]
        free["encoder_attention_mask"] = {0: batch, 1: source}
    if past:
        cache = inputs.cache_after(model, sizes, encoder_outputs=(states,))
        given["past_key_values"] = cache
        for name in calling.examples({"past_key_values": cache}):
            axes = {2: source} if varies else {}
            free[name.name] = {0: batch} | (axes if ".encoder." in name.name else {2: rows.PAST})
    return as_shown(Decoder(model).eval(), _examples(given, free))


def _examples(given: Mapping[str, Any], free: Mapping[str, Any]) -> tuple[Example, ...]:
    return calling.examples(given, free)


def _encoded(model: Any, fed: Mapping[str, torch.Tensor]) -> torch.Tensor:
    takes = inputs.parameters_of(model.get_encoder())
    with torch.no_grad():
        states: torch.Tensor = model.get_encoder()(
            **{name: one for name, one in fed.items() if name in takes}
        )[0]
    return states
