"""Write an imported model as a TFLite file: through a SavedModel and TensorFlow's converter, which runs in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError, Unsupported, UnsupportedError, first_line
from netferry.converters.imported import ImportedModel
from netferry.converters.signature import Array
from netferry.converters.tensorflow.names import served_name
from netferry.converters.tensorflow.runtime import quiet, tf
from netferry.converters.tensorflow.saved_models import write_saved_model
from netferry.converters.tensorflow.tflite import converting

Feeds = Sequence[Mapping[str, Array]]
PRECISIONS = ("float32", "float16", "int8-dynamic", "int8-static")


def write_tflite(imported: ImportedModel, path: Path, precision: str = "float32", feeds: Feeds = ()) -> None:
    """Write ``path``; ``feeds`` are the rows that static int8 is calibrated on, one row each.

    Raises:
        UnsupportedError: TFLite has no operator for a part of the model, all of them at once.
        RefusedError: TensorFlow's converter refuses the model for another reason, or crashes.
    """
    with TemporaryDirectory() as folder:
        home = Path(folder)
        with _edges_around_pools(), _unrolled(imported, precision):
            write_saved_model(imported, home / "model")
        order = {
            "saved_model": str(home / "model"), "to": str(home / "model.tflite"), "says": str(home / "says"),
            "precision": precision, "rows": str(home / "rows.npz"),
        }  # fmt: skip
        if feeds:
            np.savez(home / "rows.npz", **_named(feeds))  # type: ignore[arg-type]
        (home / "order.json").write_text(json.dumps(order))
        code = _run(home)
        if code or not (home / "model.tflite").is_file():
            raise _refusal(imported, home / "says", code)
        path.write_bytes((home / "model.tflite").read_bytes())


def _named(feeds: Feeds) -> dict[str, Array]:
    return {
        f"{number}/{served_name(name)}": array
        for number, feed in enumerate(feeds)
        for name, array in feed.items()
    }


def _run(home: Path) -> int:
    """The converter's exit status; below 0 it is the signal that ended it. What it prints is not shown.

    The command line's own child may start no program. It was made for this one conversion and its end is told
    in a sentence, so there the converter runs in it.
    """
    own = os.environ | {
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "CUDA_VISIBLE_DEVICES": "",
    }
    order = home / "order.json"
    command = [sys.executable, "-m", converting.__name__, str(order)]
    nowhere = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, cwd=home, env=own, check=False, stdin=nowhere, stdout=nowhere, stderr=nowhere
        )
    except PermissionError:
        with quiet():
            return converting.ordered(order)
    return done.returncode


def _refusal(imported: ImportedModel, says: Path, code: int) -> Exception:
    """What the converter said, in a sentence."""
    if code < 0:
        return RefusedError(
            f"TensorFlow's TFLite converter crashed on it ({signal.Signals(-code).name})", remedy=_ANOTHER
        )
    said = says.read_text() if says.is_file() else "it gave no reason"
    lacking = re.findall(r"^\s*(?:TF Select|Flex|Custom) ops: (.*)$", said, re.MULTILINE)
    names = sorted(
        {name.strip().removeprefix("Flex") for found in lacking for name in found.split(",")} - {""}
    )
    if names:
        return UnsupportedError(
            [
                Unsupported(
                    "", name, "TFLite has no operator for it, and Flex operators need all of TensorFlow"
                )
                for name in names
            ]
        )
    free = any(not isinstance(size, int) for spec in imported.signature.inputs for size in spec.dims or ())
    return RefusedError(
        f"TensorFlow's TFLite converter refuses it ({_reason(said)})",
        remedy=_FIX.format(_fixed(imported)) if free else "",
    )


_ANOTHER = "Write it in another precision, or as ONNX"
_FIX = "Fix its free sizes: --fix {}"


def _fixed(imported: ImportedModel) -> str:
    spec = imported.signature.inputs[0]
    return f"{spec.name}:{','.join(str(size if isinstance(size, int) else 1) for size in spec.dims or ())}"


def _reason(said: str) -> str:
    """The first line that says what is wrong, of a converter's many."""
    errors = re.findall(r"error: (.*)", said)
    return first_line(RuntimeError(errors[0] if errors else said))[:300]


# ---- pools that are padded -----------------------------------------------------------------------


@contextmanager
def _edges_around_pools() -> Iterator[None]:
    """While a model is traced, what is padded with minus infinity before a pool of maxima is padded with its own edge.

    A window that reaches into the padding has the edge in it, as no padding is as wide as the window, so that the edge
    once more changes no maximum. Minus infinity has no place in a range of whole numbers: with it the quantised
    model has one number for everything else, and the converter ends the process.
    """
    padded: dict[int, tuple[Any, Any, Any]] = {}
    pad, names = tf.pad, ("max_pool", "max_pool2d", "max_pool1d", "max_pool3d", "pool")
    kept = {name: getattr(tf.nn, name) for name in names}

    def noted(
        tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0, name: Any = None
    ) -> Any:
        made = pad(tensor, paddings, mode, constant_values, name)
        if mode == "CONSTANT" and _is_lowest(constant_values):
            padded[id(made)] = made, tensor, paddings
        return made

    def around(function: Any) -> Any:
        def call(x: Any, *args: Any, **options: Any) -> Any:
            _, tensor, paddings = padded.get(id(x), (None, None, None))
            return function(x if tensor is None else _by_edges(pad, tensor, paddings), *args, **options)

        return call

    try:
        tf.pad = noted
        for name, function in kept.items():
            setattr(tf.nn, name, around(function))
        yield
    finally:
        tf.pad = pad
        for name, function in kept.items():
            setattr(tf.nn, name, function)


def _is_lowest(value: Any) -> bool:
    found = tf.get_static_value(value) if tf.is_tensor(value) else value
    return found is not None and np.ndim(found) == 0 and bool(np.isneginf(found))


def _by_edges(pad: Any, x: Any, paddings: Any) -> Any:
    """One place of each edge at a time, which mirrored at itself is itself."""
    left = np.asarray(tf.get_static_value(paddings) if tf.is_tensor(paddings) else paddings)
    while left.any():
        x = pad(x, np.minimum(left, 1), "SYMMETRIC")
        left = np.maximum(left - 1, 0)
    return x


# ---- recurrent layers ------------------------------------------------------------------------------


MOST_STEPS, MOST_UNITS = 32, 128
"""As many steps, and as many units, of a layer that is written step by step: 1.3 to 8 times as fast as a loop of them (docs/measured.md)."""


def prepared(imported: ImportedModel) -> ImportedModel:
    """A model that is to be written, with a note on what is written otherwise than it was built."""
    model = imported.model
    short = [layer.name for layer in _rolled(model) if _is_short(model, layer)]
    if not short:
        return imported
    note = f"written step by step, which TFLite runs faster than a loop: {', '.join(sorted(short))}"
    return replace(imported, build=lambda: model, notes=(*imported.notes, note))


def _rolled(model: Any) -> list[Any]:
    """Recurrent layers that run in a loop, each direction of one by itself."""
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()
    return [layer for layer in layers if getattr(layer, "unroll", None) is False]


def _is_short(model: Any, layer: Any) -> bool:
    """Whether a layer has few steps, of a fixed number, and few units."""
    owners = (each for each in model._flatten_layers() if layer in vars(each).values())
    owner = layer if layer._inbound_nodes else next(owners, layer)
    if len(owner._inbound_nodes) != 1:
        return False
    steps = owner._inbound_nodes[0].input_tensors[0].shape[1]
    units = getattr(layer, "units", None)
    return isinstance(steps, int) and steps <= MOST_STEPS and isinstance(units, int) and units <= MOST_UNITS


@contextmanager
def _unrolled(imported: ImportedModel, precision: str) -> Iterator[None]:
    """Short recurrent layers step by step, and all of a fixed length where ranges are read off rows: the converter crashes on loops there."""
    sizes = [size for spec in imported.signature.inputs for size in (spec.dims or ("",))[1:]]
    fixed = precision == "int8-static" and all(isinstance(size, int) for size in sizes)
    model = imported.model
    rolled = [layer for layer in _rolled(model) if fixed or _is_short(model, layer)]
    try:
        for layer in rolled:
            layer.unroll = True
        yield
    finally:
        for layer in rolled:
            layer.unroll = False
