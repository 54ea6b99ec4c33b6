"""Keras: configurations that name code or files, weights that are elsewhere or far larger than they are."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hostile import Kit, case, cases
from hostile_pytorch import cut, entries, write

Config = dict[str, Any]


def configured(kit: Kit, change: Callable[[Config], object]) -> Path:
    path = kit.copy("net.keras")
    content = entries(path)
    config = json.loads(content["config.json"])
    change(config)
    return write(path, {**content, "config.json": json.dumps(config).encode()})


def layer(**other: Any) -> Callable[[Config], object]:
    """The last layer with other keys."""
    return lambda config: config["config"]["layers"][-1].update(other)


def setting(**other: Any) -> Callable[[Config], object]:
    return lambda config: config["config"]["layers"][-1]["config"].update(other)


def named(module: str | None, name: Any, /, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": {"name": "x", **config}, "registered_name": None}


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
CODE, UNKNOWN = "Python code", "class that Keras does not know"

cases(
    {
        "a_lambda": (layer(**named("keras.layers", "Lambda", function=LAMBDA)), CODE),
        "a_lambda_as_activation": (setting(activation=LAMBDA), CODE),
        "a_function_of_python": (
            setting(
                activation={
                    "module": "builtins",
                    "class_name": "function",
                    "config": "eval",
                    "registered_name": "eval",
                }
            ),
            UNKNOWN,
        ),
        "a_function_of_os": (
            setting(
                activation={
                    "module": "os",
                    "class_name": "function",
                    "config": "system",
                    "registered_name": "system",
                }
            ),
            UNKNOWN,
        ),
        "a_class_of_subprocess": (layer(**named("subprocess", "Popen", args=["touch", "marker"])), UNKNOWN),
        "a_download": (layer(**named("keras.utils", "get_file", origin="http://127.0.0.1:1/x")), UNKNOWN),
        "a_loader": (layer(**named("keras.models", "load_model", filepath="/etc/hostname")), UNKNOWN),
        "a_pickled_torch_module": (layer(**named("keras.layers", "TorchModuleWrapper", module="x")), UNKNOWN),
        "a_saved_model": (layer(**named("keras.layers", "TFSMLayer", filepath="/tmp")), UNKNOWN),
        "a_jax_function": (layer(**named("keras.layers", "JaxLayer", call_fn=LAMBDA)), f"{UNKNOWN}|{CODE}"),
        "a_flax_module": (layer(**named("keras.layers", "FlaxLayer")), UNKNOWN),
        "an_optimizer_for_a_layer": (layer(**named("keras.src.export", "ExportArchive")), UNKNOWN),
        "a_class_of_another_module": (layer(**named("my.package", "Dense")), UNKNOWN),
        "a_module_like_kerass": (layer(**named("keras_evil.layers", "Dense")), UNKNOWN),
        "a_custom_class": (layer(**(named(None, "Mine") | {"registered_name": "Custom>Mine"})), UNKNOWN),
        "a_dotted_class": (layer(**named("keras.layers", "Dense.__init__")), UNKNOWN),
        "a_class_without_a_text": (layer(class_name=7), UNKNOWN),
        "a_class_that_is_a_list": (layer(class_name=["Dense"]), UNKNOWN),
        "a_module_that_is_none": (layer(module={"a": 1}), UNKNOWN),
        "a_lambda_in_a_wrapper": (
            layer(
                **named(
                    "keras.layers", "TimeDistributed", layer=named("keras.layers", "Lambda", function=LAMBDA)
                )
            ),
            CODE,
        ),
        "a_cell_of_ones_own": (layer(**named("keras.layers", "RNN", cell=named("cells", "Cell"))), UNKNOWN),
        "an_initializer_of_ones_own": (setting(kernel_initializer=named("evil", "Init")), UNKNOWN),
        "a_vocabulary_in_a_file": (
            layer(**named("keras.layers", "StringLookup", vocabulary="/etc/hostname")),
            "vocabulary from a file",
        ),
        "a_vocabulary_on_the_net": (
            layer(**named("keras.layers", "TextVectorization", vocabulary="http://127.0.0.1:1/x")),
            "vocabulary from a file",
        ),
        "integers_in_a_file": (
            layer(**named("keras.layers", "IntegerLookup", vocabulary="/etc/hostname")),
            "vocabulary from a file",
        ),
        "a_layer_of_terabytes": (setting(units=1 << 40), "far larger than its weights"),
        "a_layer_of_gigabytes": (setting(units=1 << 30), "far larger than its weights"),
    },
    "keras_config",
)(lambda kit, change: configured(kit, change))  # type: ignore[arg-type]


def replaced(kit: Kit, **content: bytes) -> Path:
    path = kit.copy("net.keras")
    names = {"config": "config.json", "weights": "model.weights.h5"}
    return write(path, {**entries(path), **{names[key]: data for key, data in content.items()}})


cases(
    {
        "config_cut": ({"config": b'{"module": "keras", '}, "not JSON"),
        "config_nested": ({"config": b'{"config":' * 3000 + b"1" + b"}" * 3000}, "too deep|not JSON"),
        "config_of_a_number": ({"config": b"7"}, "damaged|cannot load"),
        "config_in_latin": ({"config": b'{"a": "\xff\xfe"}'}, "not JSON"),
        "weights_empty": ({"weights": b""}, "damaged"),
        "weights_of_text": ({"weights": b"hello"}, "damaged"),
        "weights_cut": ({"weights": b"\x89HDF\r\n\x1a\n" + bytes(100)}, "damaged"),
    },
    "keras",
)(lambda kit, content: replaced(kit, **content))  # type: ignore[arg-type]


@case("leads out of it")
def keras_entry_that_climbs(kit: Kit) -> Path:
    path = kit.copy("net.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/../../marker", b"x")
    return path


@case("far more than its size allows")
def keras_bomb(kit: Kit) -> Path:
    path = kit.copy("net.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/x", bytes(1 << 28), zipfile.ZIP_DEFLATED, 9)
    return path


cases({f"at_{percent}": (percent / 100, "damaged|not") for percent in (5, 50, 95)}, "keras_cut")(
    lambda kit, part: cut(kit, "net.keras", float(str(part)))
)

# ---- HDF5 ----------------------------------------------------------------------------------------


def _weights(kit: Kit, change: Callable[[h5py.File], object]) -> Path:
    """The weights inside of a ``.keras`` changed: the first array is taken out, and ``change`` puts another in its place."""
    path = kit.copy("net.keras")
    content = entries(path)
    stream = BytesIO(content["model.weights.h5"])
    with h5py.File(stream, "a") as file:
        change(file)
    return write(path, {**content, "model.weights.h5": stream.getvalue()})


PLACE = "layers/dense/vars/0"


def _instead(make: Callable[[h5py.File], object]) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[PLACE]
        make(file)

    return change


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (3, 4), "f4")
    file.create_virtual_dataset(PLACE, layout)


cases(
    {
        "a_link_into_another_file": (
            lambda file: file.__setitem__(PLACE, h5py.ExternalLink("/etc/hostname", "x")),
            "link",
        ),
        "a_soft_link": (lambda file: file.__setitem__(PLACE, h5py.SoftLink("/layers/dense/vars/1")), "link"),
        "content_in_another_file": (
            lambda file: file.create_dataset(PLACE, (3, 4), "f4", external=[("/etc/hostname", 0, 48)]),
            "kept in another file",
        ),
        "a_virtual_array": (_virtual, "kept in another file"),
        "texts": (
            lambda file: file.create_dataset(PLACE, data=["a", "b"], dtype=h5py.string_dtype()),
            "texts or objects",
        ),
        "references": (lambda file: file.create_dataset(PLACE, (3,), h5py.ref_dtype), "texts or objects"),
        "rows_of_any_length": (
            lambda file: file.create_dataset(PLACE, (3,), h5py.vlen_dtype(np.int32)),
            "texts or objects",
        ),
        "terabytes_that_were_never_written": (
            lambda file: file.create_dataset(PLACE, (1 << 20, 1 << 20), "f4", chunks=(1, 1024)),
            "not there|too many pieces",
        ),
        "a_bomb": (
            lambda file: file.create_dataset(
                PLACE, data=np.zeros(1 << 26, "f4"), compression="gzip", compression_opts=9
            ),
            "far larger than its size",
        ),
        "groups_in_a_circle": (
            lambda file: file.__setitem__("layers/dense/again", file["layers"]),
            "hold each other",
        ),
        "another_shape": (
            lambda file: file.create_dataset(PLACE, data=np.zeros((5, 5), "f4")),
            "shape|cannot load",
        ),
        "nothing": (lambda file: None, "cannot load|damaged"),
        "a_type": (lambda file: file.__setitem__(PLACE, np.dtype("f4")), "type of its own|cannot load"),
    },
    "keras_weights",
)(lambda kit, make: _weights(kit, _instead(make)))  # type: ignore[arg-type]


def _whole(kit: Kit, config: bytes | None) -> Path:
    path = kit.copy("whole.h5")
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
        if config is not None:
            file.attrs["model_config"] = np.bytes_(config)
    return path


cases(
    {
        "a_lambda": (
            json.dumps({"class_name": "Lambda", "config": {"function": ["4wEA", None, None]}}).encode(),
            CODE,
        ),
        "a_class_of_os": (
            json.dumps({"class_name": "system", "module": "os", "config": {}}).encode(),
            UNKNOWN,
        ),
        "a_circle_of_text": (b"[" * 5000 + b"]" * 5000, "deep|JSON"),
        "no_json": (b"Dense(4)", "not JSON"),
        "nothing": (None, "weights without their model"),
    },
    "h5_config",
)(lambda kit, config: _whole(kit, config))  # type: ignore[arg-type]


@case("link")
def h5_link_out(kit: Kit) -> Path:
    path = kit.copy("whole.h5")
    with h5py.File(path, "a") as file:
        del file["model_weights/dense"]
        file["model_weights/dense"] = h5py.ExternalLink(str(kit.secret), "/")
    return path


cases({f"at_{percent}": (percent / 100, "damaged") for percent in (5, 30, 60, 95)}, "h5_cut")(
    lambda kit, part: cut(kit, "whole.h5", float(str(part)))
)
