"""In which panel of a command's help an option stands, and which words it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Annotated, Any, get_args, get_origin

from typer.models import OptionInfo

MODEL, PART, WRITTEN, CHECK, MANY, FORMS, SAFETY, SPEECH = (
    "How the model is read", "A part of the model", "What is written", "How it is checked", "Many at once",
    "Files beside it", "Safety and limits", "What is said",
)  # fmt: skip

_PANELS: Mapping[str, str] = {
    MODEL: "inputs weights epoch random_weights task signature imports columns pixels",
    PART: "input_at fix rename layers",
    WRITTEN: "to opset fuse simplify dequantize write_source optimizer_state learning_rate updates precision even_if_slower keep force dry_run",
    CHECK: "verify data seed quick samples map_output strict rtol atol grad train_steps device certificate check",
    MANY: "output_dir catalogue engine workers factories",
    FORMS: "report html junit markdown triton kserve card hub base_model licence max_batch",
    SAFETY: "unsafe memory time_limit every_node",
    SPEECH: "as_json verbose quiet log",
}
PANELS: Mapping[str, str] = {name: panel for panel, names in _PANELS.items() for name in names.split()}
"""Each option's parameter and its panel; what is not here is the command's own and stands under "Options"."""

_FRAMEWORKS = ("pytorch", "tensorflow", "mxnet", "onnx")
CHOICES: Mapping[str, Sequence[str]] = {
    "to": _FRAMEWORKS,
    "framework": _FRAMEWORKS[:3],
    "device": ("cpu", "cuda", "auto"),
    "precision": ("float16", "bfloat16", "int8-dynamic", "int8-static"),
    "engine": ("local", "ray"),
    "on_error": ("fail", "skip"),
}
"""Options that take one of a few words: they are shown and completed. The library refuses others, and knows more names for some
(torch, keras, tf, fp16)."""


def in_panels(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters of a command, each option in its panel and with its words."""
    return [one.replace(annotation=_placed(one.name, one.annotation)) for one in parameters]


def _placed(name: str, annotation: Any) -> Any:
    if get_origin(annotation) is not Annotated:
        return annotation
    kind, info = get_args(annotation)[:2]
    if not isinstance(info, OptionInfo):
        return annotation
    placed = copy(info)
    placed.rich_help_panel = info.rich_help_panel or PANELS.get(name)
    if name in CHOICES:
        placed.metavar = "|".join(CHOICES[name])
        placed.autocompletion = _completion(CHOICES[name])
    return Annotated[kind, placed]


def _completion(words: Sequence[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete
