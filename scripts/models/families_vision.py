"""The models of the vision and audio libraries, small and with random weights: how each is built and what it is called with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from models.difference import TOLERANCE
from models.forms import FORMS, HALF, dtype_of

SYMBOLS = {"N": "batch", "H": "height", "W": "width", "T": "time", "L": "length"}
"""The letters that stand for a free size in a shape, and what the axis is called."""
SHOWN = {"batch": 2, "height": 64, "width": 96, "time": 8, "length": 16}
OTHERS = (
    {"batch": 3, "height": 128, "width": 64, "time": 12, "length": 11},
    {"batch": 1, "height": 75, "width": 117, "time": 9, "length": 23},
)
"""Sizes at which a model is shown, and others at which it is compared where the model itself takes them."""


@dataclass(frozen=True)
class Family:
    """Models of one library that are called alike.

    ``shapes`` maps inputs to their sizes: numbers, and letters for what may be free; ``x:i99`` is an input of whole numbers
    below 99, ``x:list`` a list of one tensor. ``build`` makes a model of its name. ``others`` are sizes beside ``OTHERS``.
    """

    library: str
    build: Callable[[str], Any]
    names: tuple[str, ...]
    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=lambda: {"x": ("N", 3, "H", "W")})
    shown: Mapping[str, int] = field(default_factory=dict)
    others: tuple[Mapping[str, int], ...] = OTHERS


@dataclass(frozen=True)
class Case:
    """A model, what says what it gives, the arrays that it is shown with, what is free of them, and other sizes."""

    model: Any
    own: Any
    inputs: dict[str, Any]
    free: dict[str, dict[int, str]]
    others: tuple[Mapping[str, int], ...]
    at: Callable[[Mapping[str, int]], dict[str, Any]]
    shown: Mapping[str, int]
    tolerance: float = TOLERANCE


def names() -> list[str]:
    """``library/model``, or ``library/model#form``, for each model whose library is installed."""
    from models.families_vision_names import IN_FORMS

    plain = [
        f"{family.library}/{name}"
        for family in _families()
        if find_spec(MODULES.get(family.library, family.library))
        for name in family.names
    ]
    return [*plain, *(f"{key}#{form}" for key in IN_FORMS if key in plain for form in FORMS)]


def build(key: str) -> Case:
    """The model with weights and statistics drawn by chance, in evaluation mode but for its form, and its inputs."""
    import torch

    key, _, form = key.partition("#")
    library, _, name = key.partition("/")
    family = next(one for one in _families() if one.library == library and name in one.names)
    torch.manual_seed(0)
    model = family.build(name).eval()
    _stir(model)
    shown = {**SHOWN, **family.shown}

    def at(sizes: Mapping[str, int], dtype: str = dtype_of(form)) -> dict[str, Any]:
        return {
            spec.partition(":")[0]: _drawn(spec, shape, {**shown, **sizes}, dtype)
            for spec, shape in family.shapes.items()
        }

    _settle(model, at({}, "float32"))
    free = {
        spec.partition(":")[0]: {
            axis: SYMBOLS[size] for axis, size in enumerate(shape) if isinstance(size, str)
        }
        for spec, shape in family.shapes.items()
    }
    if form:
        model = FORMS[form](model)
    own = copy.deepcopy(model).eval() if form else model
    return Case(model, own, at({}), free, family.others, at, shown, HALF if form == "half" else TOLERANCE)


def _drawn(spec: str, shape: tuple[int | str, ...], sizes: Mapping[str, int], dtype: str = "float32") -> Any:
    import numpy as np

    name, _, kind = spec.partition(":")
    dims = tuple(sizes[SYMBOLS[size]] if isinstance(size, str) else size for size in shape)
    rng = np.random.default_rng([len(name), *dims])
    if kind.startswith("i"):
        return rng.integers(1, int(kind[1:]), dims)
    if kind.startswith("lengths"):
        return np.maximum(1, np.full(dims, sizes["time"]) - np.arange(dims[0]))
    if kind.startswith("bool"):
        return rng.random(dims) < 0.7
    array = rng.random(dims, np.float32) if kind.startswith("list") else rng.standard_normal(dims, np.float32)
    array = array.astype(dtype)
    return [array] if kind.startswith("list") else array


def _stir(model: Any) -> None:
    """Statistics as after some training, and no weight that stands at 0 or 1, or so small that it hides a branch.

    What is drawn is small beside the weights that are there: a network without norms blows up otherwise, until all scores are one.
    """
    import torch

    with torch.no_grad():
        for weight in model.parameters():
            if weight.is_floating_point():
                spread = weight.std().item() if weight.ndim > 1 and weight.numel() > 1 else 0.0
                weight += torch.randn_like(weight) * (0.1 if weight.ndim <= 1 else 0.3 * spread or 0.02)
        for part in model.modules():
            if getattr(part, "running_var", None) is not None:
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.8, 1.3)


def _settle(model: Any, feeds: Mapping[str, Any]) -> None:
    """Statistics that are those of the inputs: weights by chance blow up what goes through many layers, until all scores are one."""
    from models.examine_vision import own

    parts = [part for part in model.modules() if getattr(part, "running_var", None) is not None]
    before = [(part.running_mean.clone(), part.running_var.clone(), part.momentum) for part in parts]
    for part in parts:
        part.momentum = 1.0
        part.train()
    try:
        own(model, feeds)
    except Exception:  # one value for a channel has no variance; then those drawn by chance stay
        for part, (mean, var, _) in zip(parts, before, strict=True):
            part.running_mean.copy_(mean)
            part.running_var.copy_(var)
    for part, (*_, momentum) in zip(parts, before, strict=True):
        part.momentum = momentum
        part.running_var.clamp_(min=1e-2)
        part.eval()


# ---- how they are built ------------------------------------------------------------------------------------

MODULES = {
    "smp": "segmentation_models_pytorch",
    "vit-pytorch": "vit_pytorch",
    "x-transformers": "x_transformers",
}
"""Libraries whose module has another name."""


def _torchvision(name: str) -> Any:
    from torchvision import models

    name, _, auxiliary = name.partition("+")
    plain: dict[str, Any] = {"weights": None}
    kind = models.get_model_builder(name)
    if "weights_backbone" in kind.__annotations__:
        plain["weights_backbone"] = None
    more: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if "rcnn" in name or "retinanet" in name or "fcos" in name:
        more = {"min_size": 64, "max_size": 128}
    if "rcnn" in name:  # of a thousand regions the heads alone take ten seconds
        more |= {"rpn_post_nms_top_n_test": 100, "box_detections_per_img": 30}
    if auxiliary:
        more = {"aux_loss": True}
    model = models.get_model(name, **plain, **more)
    for part in model.modules():
        if hasattr(part, "score_thresh"):
            part.score_thresh = 0.005  # what random weights find is all below the usual one
    return model


def _timm(name: str) -> Any:
    import timm

    name, _, part = name.partition("+")
    name, _, size = name.partition("@")
    more: dict[str, Any] = {"img_size": int(size)} if size else {}
    more |= {"features": {"features_only": True}, "headless": {"num_classes": 0}, "": {"num_classes": 10}}[
        part
    ]
    return timm.create_model(name, pretrained=False, **more)


def _yolo(name: str) -> Any:
    from ultralytics import RTDETR, YOLO

    name, _, export = name.partition("+")
    model = (RTDETR if name.startswith("rtdetr") else YOLO)(f"{name}.yaml").model
    for part in model.modules():
        if export and hasattr(part, "export"):
            part.export, part.format = True, "onnx"
    return model


def _smp(name: str) -> Any:
    import segmentation_models_pytorch as smp

    kind, _, encoder = name.partition("+")
    return smp.create_model(kind, encoder_name=encoder, encoder_weights=None, classes=3)


def _open_clip(name: str) -> Any:
    import open_clip

    return open_clip.create_model(name, pretrained=None)


def _of(module: str, **default: Any) -> Callable[[str], Any]:
    """``Name(key=value, ...)`` of a module, as it would be typed."""

    def make(text: str) -> Any:
        head, _, rest = text.partition("(")
        keywords = eval(f"dict({rest}", {"dict": dict}) if rest else {}
        target: Any = import_module(module)
        *rooms, last = head.split(".")
        for step in rooms:
            with suppress(ImportError):
                import_module(f"{target.__name__}.{step}")
            target = getattr(target, step)
        return getattr(target, last)(**{**default, **keywords})

    return make


def _families() -> Iterator[Family]:
    from models.families_vision_names import families

    return families()


def x_transformer(text: str) -> Any:
    """A ``TransformerWrapper`` of these layers."""
    import x_transformers

    layers = _of("x_transformers")(text)
    return x_transformers.TransformerWrapper(num_tokens=99, max_seq_len=64, attn_layers=layers)
