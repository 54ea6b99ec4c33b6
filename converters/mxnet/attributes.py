"""The attributes of a node, read by type, and those that say nothing about inference."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from netferry.converters.errors import CannotConvert, RefusedError
from netferry.converters.mxnet.symbol import Node

HARMLESS: Mapping[str, frozenset[str]] = {
    op: frozenset(names.split())
    for op, names in {
        "*": "workspace cudnn_tune cudnn_off mkldnn_off cudnn_algo_verbose cudnn_algo_fwd cudnn_algo_fwd_prec"
             " cudnn_algo_bwd_data cudnn_algo_bwd_data_prec cudnn_algo_bwd_filter cudnn_algo_bwd_filter_prec is_int sparse_grad ctx num_args forward_stype"
             " min_calib_range max_calib_range",
        "BatchNorm": "use_global_stats output_mean_var",
        "_contrib_SyncBatchNorm": "use_global_stats output_mean_var key ndev",
        "_contrib_BatchNormWithReLU": "use_global_stats output_mean_var",
        "LayerNorm": "output_mean_var", "GroupNorm": "output_mean_var",
        "Dropout": "p axes", "RNN": "p",
        "Convolution": "num_filter", "_contrib_DeformableConvolution": "num_filter",
        "_contrib_ModulatedDeformableConvolution": "num_filter", "Deconvolution": "num_filter", "FullyConnected": "num_hidden",
        "Embedding": "input_dim output_dim dtype", "_contrib_SparseEmbedding": "input_dim output_dim dtype",
        "IdentityAttachKLSparseReg": "sparseness_target penalty momentum",
        "LeakyReLU": "slope lower_bound upper_bound",
        "SoftmaxOutput": "grad_scale ignore_label use_ignore normalization out_grad smooth_alpha",
        "SVMOutput": "margin regularization_coefficient use_linear",
        "LinearRegressionOutput": "grad_scale", "LogisticRegressionOutput": "grad_scale",
        "MAERegressionOutput": "grad_scale", "MakeLoss": "grad_scale valid_thresh normalization",
        "amp_multicast": "num_outputs", "_foreach": "num_outputs",
    }.items()
}  # fmt: skip
"""Attributes that change memory, speed or training, never the result of inference."""


Value = TypeVar("Value")


_REQUIRED: Any = object()


_NONE = frozenset({"None", "none", ""})


_MOST_NUMBERS, _SHOWN = 4096, 200


_TRUE = frozenset({"True", "true", "1"})


_FALSE = frozenset({"False", "false", "0"})


def _integer(text: str) -> int:
    return int(text.strip().rstrip("Ll"))


def _flag(text: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(text)


def _items(text: str) -> Iterator[str]:
    text = text.strip()
    inner = text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else text
    yield from (item.strip() for item in inner.split(",") if item.strip())


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(_integer, _items(text)))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, _items(text)))


def _pairs(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple(_integers(pair) for pair in re.findall(r"[(\[]([^()\[\]]*)[)\]]", text.strip()[1:-1]))


def _bounds(text: str) -> tuple[int | None, ...]:
    return tuple(None if item in _NONE else _integer(item) for item in _items(text))


class Attrs:
    """The attributes of a node, read by type; one left out takes the default that the row gives."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._read: set[str] = set()

    def integer(self, name: str, default: int = _REQUIRED) -> int:
        return self._value(name, "an integer", _integer, default)

    def number(self, name: str, default: float = _REQUIRED) -> float:
        return self._value(name, "a number", float, default)

    def flag(self, name: str, default: bool = _REQUIRED) -> bool:
        return self._value(name, "True or False", _flag, default)

    def string(self, name: str, default: str = _REQUIRED, *, among: str = "") -> str:
        """A string; ``among`` are those that the row supports."""
        text = self._value(name, "a string", str, default)
        if among and text not in among.split():
            raise CannotConvert(f"{name}={text!r} is not supported", f"Supported: {', '.join(among.split())}")
        return text

    def integers(self, name: str, default: tuple[int, ...] = _REQUIRED) -> tuple[int, ...]:
        return self._value(name, "a tuple of integers", _integers, default)

    def numbers(self, name: str, default: tuple[float, ...] = _REQUIRED) -> tuple[float, ...]:
        return self._value(name, "a tuple of numbers", _numbers, default)

    def pairs(self, name: str) -> tuple[tuple[int, ...], ...]:
        return self._value(name, "a tuple of pairs of integers", _pairs, _REQUIRED)

    def maybe_integer(self, name: str, default: int | None = None) -> int | None:
        return self._maybe(name, "an integer or None", _integer, default)

    def maybe_number(self, name: str) -> float | None:
        return self._maybe(name, "a number or None", float)

    def maybe_string(self, name: str) -> str | None:
        return self._maybe(name, "a string or None", str)

    def maybe_integers(self, name: str) -> tuple[int, ...] | None:
        return self._maybe(name, "a tuple of integers or None", _integers)

    def bounds(self, name: str, default: tuple[int | None, ...] = _REQUIRED) -> tuple[int | None, ...]:
        """A tuple in which None stands for an end of the axis."""
        return self._value(name, "a tuple of integers or None", _bounds, default)

    def subgraph(self, index: int) -> Any:
        """A graph inside of the node, as it stands in the file."""
        if index >= len(self._node.subgraphs):
            raise CannotConvert(f"it has no graph {index} inside")
        return self._node.subgraphs[index]

    def ignore(self, *names: str) -> None:
        """These mean nothing in the form that the row met."""
        self._read.update(names)

    def unread(self) -> list[str]:
        """Attributes that no reader asked for and that could mean something."""
        harmless = HARMLESS["*"] | HARMLESS.get(self._node.op, frozenset())
        return sorted(set(self._node.attrs) - self._read - harmless)

    def _maybe(
        self, name: str, kind: str, read: Callable[[str], Value], default: Value | None = None
    ) -> Value | None:
        return self._value(name, kind, lambda text: None if text in _NONE else read(text), default)

    def _value(self, name: str, kind: str, read: Callable[[str], Value], default: Value) -> Value:
        self._read.add(name)
        text = self._node.attrs.get(name)
        if text is None:
            if default is _REQUIRED:
                raise RefusedError(f"attribute '{name}' is missing", where=self._node.label(), expected=kind)
            return default
        if text.count(",") > _MOST_NUMBERS:
            raise RefusedError(
                f"attribute '{name}' holds far more numbers than a tensor has axes",
                where=self._node.label(),
                expected=f"at most {_MOST_NUMBERS:,}",
                received=f"{text.count(',') + 1:,}",
            )
        try:
            return read(text)
        except ValueError as error:
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
            raise RefusedError(
                f"attribute '{name}' does not hold together",
                where=self._node.label(),
                expected=kind,
                received=repr(shown),
            ) from error
