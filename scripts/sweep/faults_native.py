"""Faults in a framework's own model: PyTorch modules, Keras configurations, MXNet symbols."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sweep.case import Array

Planted = Iterator[tuple[str, str, Any]]
"""Kind, where, and the model with the fault there."""

# ---- PyTorch --------------------------------------------------------------------------------------------

TORCH_SETTINGS: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    ("epsilon", "BatchNorm1d BatchNorm2d LayerNorm GroupNorm InstanceNorm2d", "eps", lambda e: e * 10 + 1e-4),
    ("slope", "LeakyReLU", "negative_slope", lambda a: a * 1.05), ("slope", "ELU", "alpha", lambda a: a * 1.05),
    ("ceil mode", "MaxPool2d AvgPool2d MaxPool1d", "ceil_mode", lambda flag: not flag),
    ("padding counted", "AvgPool2d", "count_include_pad", lambda flag: not flag),
    ("padding mode", "Conv2d Conv1d", "padding_mode", lambda mode: "replicate" if mode == "reflect" else "circular"),
    ("resize coordinates", "Upsample", "align_corners", lambda flag: None if flag is None else not flag),
    ("axis", "Softmax LogSoftmax", "dim", lambda _axis: 0),
    ("gelu", "GELU", "approximate", lambda word: "tanh" if word == "none" else "none"),
    ("norm first", "TransformerEncoderLayer", "norm_first", lambda flag: not flag),
    ("range end", "ReLU6", "max_val", lambda top: top - 0.05),
)  # fmt: skip

TORCH_WEIGHTS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("weight", "weight", lambda w: w * (1 + 0.01 * (w == w.max()))),
    ("transposed weight", "weight", lambda w: w.transpose(-1, -2) if w.ndim > 1 and w.shape[-1] == w.shape[-2] else w),
    ("bias", "bias", lambda b: b * (b != b.max())),
    ("gate order", "weight_hh_l0", lambda w: w.roll(w.shape[0] // (4 if w.shape[0] == 4 * w.shape[1] else 3), 0)),
    ("gate order", "bias_hh_l0", lambda b: b * 0),
    ("narrow dtype", "weight", lambda w: w.bfloat16().to(w.dtype) if w.ndim > 1 else w),
    ("normalisation statistics", "running_var", lambda v: v * 9 / 8),
    ("normalisation statistics", "running_mean", lambda m: m * 0),
)  # fmt: skip

TORCH_OTHERS: tuple[tuple[str, str, str], ...] = (
    ("activation", "ReLU", "ReLU6"), ("activation", "ReLU6", "ReLU"), ("activation", "SiLU", "Hardswish"),
    ("activation", "Hardswish", "SiLU"), ("activation", "GELU", "Mish"), ("activation", "Mish", "SiLU"),
    ("activation", "Softplus", "ReLU"), ("activation", "Tanh", "Softsign"), ("lost node", "LeakyReLU", "Identity"),
    ("lost node", "BatchNorm2d", "Identity"), ("lost node", "PReLU", "Identity"), ("activation", "ELU", "CELU"),
)  # fmt: skip


def pytorch(model: Any) -> Planted:
    import torch

    for path, module in model.named_modules():
        word = type(module).__name__
        for kind, types, name, change in TORCH_SETTINGS:
            if word in types.split() and change(getattr(module, name)) != getattr(module, name):
                other = copy.deepcopy(model)
                setattr(other.get_submodule(path), name, change(getattr(module, name)))
                yield kind, f"{path} {name}", other
        for kind, one, instead in TORCH_OTHERS:
            if word == one:
                other = copy.deepcopy(model)
                parent, _, last = path.rpartition(".")
                setattr(other.get_submodule(parent), last, getattr(torch.nn, instead)())
                yield kind, f"{path} {one} as {instead}", other
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        for kind, end, change in TORCH_WEIGHTS:
            if path.rpartition(".")[2] == end and tensor.is_floating_point():
                with torch.no_grad():
                    other = copy.deepcopy(model)
                    found = dict((*other.named_parameters(), *other.named_buffers()))[path]
                    found.copy_(change(tensor.clone()))
                if not torch.equal(found, tensor):
                    yield kind, path, other


# ---- Keras ----------------------------------------------------------------------------------------------

KERAS_CONFIG: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("epsilon", "epsilon", lambda e: e * 10 + 1e-4),
    ("slope", "negative_slope", lambda a: a * 1.05 if a else a),
    ("range end", "max_value", lambda top: top - 0.05 if top else top),
    ("resize mode", "interpolation", lambda mode: {"bilinear": "nearest", "nearest": "bilinear"}.get(mode, mode)),
    ("direction", "go_backwards", lambda flag: not flag),
    ("reset gate", "recurrent_activation", lambda _word: "hard_sigmoid"),
    ("order", "merge_mode", lambda _mode: "concat"),
    ("mask", "mask_zero", lambda flag: not flag),
    ("padding side", "cropping", lambda pairs: [list(reversed(pair)) for pair in pairs] if isinstance(pairs, list | tuple) else pairs),
    ("padding side", "padding", lambda pad: [list(reversed(pair)) for pair in pad] if isinstance(pad, list | tuple) else "same" if pad == "causal" else pad),
    ("axis", "axis", lambda axis: 1 if axis == -1 else axis),
    ("activation", "activation", lambda word: {
        "gelu": "swish", "swish": "gelu", "relu6": "relu", "elu": "selu", "selu": "elu", "tanh": "softsign", "softsign": "tanh",
        "hard_swish": "swish", "hard_sigmoid": "sigmoid", "softmax": "sigmoid", "softplus": "relu", "sigmoid": "hard_sigmoid",
    }.get(word, word) if isinstance(word, str) else word),
)  # fmt: skip

KERAS_WEIGHTS: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
    ("weight", "kernel", lambda w: w * (1 + 0.01 * (w == w.max()))),
    ("transposed weight", "kernel", lambda w: w.T if w.ndim == 2 and w.shape[0] == w.shape[1] else w[::-1, ::-1] if w.ndim == 4 else w),
    ("bias", "bias", lambda b: b * (b != b.max())),
    ("gate order", "recurrent_kernel", lambda w: np.roll(w, w.shape[0], -1)),
    ("narrow dtype", "kernel", lambda w: w.astype(np.float16).astype(w.dtype)),
    ("normalisation statistics", "moving_variance", lambda v: v * 9 / 8),
    ("normalisation statistics", "moving_mean", lambda m: m * 0),
    ("weight", "embeddings", lambda t: np.concatenate([t[:-1], -t[-1:]])),
)  # fmt: skip


@dataclass(frozen=True)
class Later:
    """A model that is made only when its case is examined; None where it cannot be made."""

    make: Callable[[], Any]


def keras(model: Any) -> Planted:
    """Configurations with one entry changed, the weights set as they were; then weights changed."""
    values = [np.asarray(variable) for variable in model.variables]
    for place, layer in enumerate(model.get_config()["layers"]):
        for kind, name, change in KERAS_CONFIG:
            old = layer["config"].get(name)
            if name in layer["config"] and change(old) != old:
                config = model.get_config()
                config["layers"][place]["config"][name] = change(old)
                where = f"{layer['config'].get('name')} {name} {change(old)}"
                yield kind, where, Later(partial(_from_config, model, config, values))
    for place, variable in enumerate(model.variables):
        for kind, name, change in KERAS_WEIGHTS:
            array = values[place]
            if variable.name == name and array.dtype.kind == "f":
                changed = np.asarray(change(array)).astype(array.dtype)
                if changed.shape == array.shape and (changed != array).any():
                    others = [*values[:place], changed, *values[place + 1 :]]
                    yield kind, variable.path, Later(partial(_from_config, model, model.get_config(), others))


def _from_config(model: Any, config: Any, values: list[Array]) -> Any:
    """None where Keras does not build it, or where it has other weights."""
    try:
        other = type(model).from_config(config)
        for variable, value in zip(other.variables, values, strict=True):
            variable.assign(value)
    except Exception:  # whatever Keras raises at a configuration that does not fit
        return None
    return other


# ---- MXNet ------------------------------------------------------------------------------------------------

MXNET_ATTRS: tuple[tuple[str, str, str, str], ...] = (
    ("epsilon", "BatchNorm", "eps", "0.01"), ("epsilon", "LayerNorm", "eps", "0.01"), ("epsilon", "L2Normalization", "eps", "0.01"),
    ("fixed gamma", "BatchNorm", "fix_gamma", "not"), ("slope", "LeakyReLU", "slope", "0.25"),
    ("ceil mode", "Pooling", "pooling_convention", "other"), ("padding counted", "Pooling", "count_include_pad", "False"),
    ("pooling", "Pooling", "pool_type", "other"), ("axis", "softmax", "axis", "0"), ("axis", "log_softmax", "axis", "0"),
    ("axis", "argmax", "axis", "0"), ("axis", "topk", "axis", "0"), ("topk order", "topk", "is_ascend", "True"),
    ("activation", "Activation", "act_type", "other"), ("activation", "LeakyReLU", "act_type", "other"),
    ("range end", "clip", "a_max", "2.5"), ("range end", "clip", "a_min", "-2.9"),
    ("resize coordinates", "_contrib_BilinearResize2D", "align_corners", "False"), ("slope", "hard_sigmoid", "alpha", "0.1666"),
    ("slice", "slice_axis", "begin", "1"), ("scale", "_div_scalar", "scalar", "2.7"),
)  # fmt: skip

_OTHER = {"full": "valid", "valid": "full", "max": "avg", "avg": "max", "relu": "softrelu", "softrelu": "relu", "leaky": "elu",
          "elu": "selu", "gelu": "selu", "True": "False", "False": "True", "": "full"}  # fmt: skip


def mxnet(model: Any) -> Planted:
    from sweep.networks_mxnet import block, mxnet as imported

    mx = imported()
    symbol = model(*[mx.sym.var(name) for name in _input_names(model)])
    symbol = mx.sym.Group(list(symbol)) if isinstance(symbol, list | tuple) else symbol
    params = {name: one.data().asnumpy() for name, one in model.collect_params().items()}
    document = json.loads(symbol.tojson())
    for place, node in enumerate(document["nodes"]):
        for kind, op, name, value in MXNET_ATTRS:
            if node["op"] == op:
                changed = copy.deepcopy(document)
                attrs = changed["nodes"][place].setdefault("attrs", {})
                old = attrs.get(name, "")
                attrs[name] = {
                    "other": _OTHER.get(old, old),
                    "not": "False" if old == "True" else "True",
                }.get(value, value)
                if attrs[name] != old:
                    yield (
                        kind,
                        f"{node['name']} {name} {attrs[name]}",
                        block(mx.sym.load_json(json.dumps(changed)), params),
                    )
    for name, array in params.items():
        for kind, end, change in MXNET_WEIGHTS:
            other = np.asarray(change(array)).astype(array.dtype)
            if name.endswith(end) and other.shape == array.shape and (other != array).any():
                yield kind, name, block(symbol, {**params, name: other})


MXNET_WEIGHTS: tuple[tuple[str, str, Callable[[Array], Array]], ...] = (
    ("weight", "weight", lambda w: w * (1 + 0.01 * (w == w.max()))),
    ("transposed weight", "weight", lambda w: w.T if w.ndim == 2 else w[..., ::-1]),
    ("bias", "bias", lambda b: b * (b != b.max())),
    ("bias", "beta", lambda b: b * 0),
    ("narrow dtype", "weight", lambda w: w.astype(np.float16)),
    ("normalisation statistics", "moving_var", lambda v: v * 9 / 8),
    ("normalisation statistics", "moving_mean", lambda m: m * 0),
)


def _input_names(model: Any) -> list[str]:
    return [one.name for one in model._cached_graph[0]] if getattr(model, "_cached_graph", None) else ["data"]


PLANTERS = {"pytorch": pytorch, "tensorflow": keras, "mxnet": mxnet}
