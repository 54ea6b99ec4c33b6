"""The text of a generated module."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from netferry.converters.graph.codegen.writer import loaded, prune, source
from netferry.converters.tensorflow.names import legal

RESERVED = (
    "keras",
    "layers",
    "np",
    "ops",
    "tf",
    "Path",
    "build",
    "load",
    "load_file",
    "Model",
    "weights",
    "self",
)
"""Names of the generated module that no value gets."""


FUNCTIONAL, FUNCTION = "functional", "function"


_HEAD = '''"""{name}: {title}.

``load()`` gives the model with its weights, which lie in the .safetensors file beside this one.
"""

from pathlib import Path

import keras
{imports}
'''


_LOAD = '''

def load(weights=None):
    """The model with its weights: those given by name, or those beside this file."""
    if weights is None:
        from safetensors.numpy import load_file

        weights = load_file(Path(__file__).with_suffix(".safetensors"))
    model = {make}
    for variable in model.weights:
        variable.assign(weights[variable.path])
    return model
'''


_TITLES: Mapping[str, str] = {
    FUNCTIONAL: "a functional Keras model",
    FUNCTION: "a Keras model whose call is made of TensorFlow's operations",
}


def helper_text(name: str) -> str:
    """The text of one of ``runtime_helpers/`` below its imports."""
    text = Path(__file__).with_name("runtime_helpers").joinpath(f"{name}.py").read_text(encoding="utf-8")
    return text.split("import tensorflow as tf\n", 1)[1].strip().replace(": Any", "").replace(" -> Any", "")


def body_text(statements: Sequence[ast.stmt], last: ast.stmt) -> str:
    kept = prune(statements, loaded(last))
    return source([*kept, last])


def indented(text: str, by: int = 4) -> str:
    return "\n".join(" " * by + line if line else line for line in text.splitlines())


def module_text(name: str, form: str, body: str, make: str) -> str:
    imports = [
        line
        for prefix, line in (("np.", "import numpy as np"), ("tf.", "import tensorflow as tf"))
        if prefix in body
    ]
    names = [name for name in ("layers", "ops") if f"{name}." in body]
    imports += [f"from keras import {', '.join(names)}"] if names else []
    head = _HEAD.format(name=legal(name), title=_TITLES[form], imports="\n".join(imports))
    return head.rstrip("\n") + "\n\n\n" + body.rstrip("\n") + "\n" + _LOAD.format(make=make)
