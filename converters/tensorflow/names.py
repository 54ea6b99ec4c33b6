"""Names that Keras and TensorFlow take for layers and inputs."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WEIGHT = re.compile(
    r"""(?P<path>.+?)[./_](?P<weight>weight|bias|kernel|gamma|beta|moving_mean|moving_variance|running_mean|running_var|
    embeddings|recurrent_kernel|weight_[ih]h_l\d+(_reverse)?|bias_[ih]h_l\d+(_reverse)?|depthwise_kernel|alpha|scale|mean|
    var|variance|w|b|W|B|[lr]\d+_[ih]2h_(weight|bias))""",
    re.VERBOSE,
)
"""Where a weight's name is its layer's path and the weight's own name."""


def layer_path(names: Sequence[str]) -> str:
    """The layer's path in the source: its weight's without the last part; empty where no weight shows it."""
    for name in names:
        match = _WEIGHT.fullmatch(name)
        if match:
            path = match["path"]
            stem, _, last = path.rpartition("/")
            return stem if stem and last.endswith("_cell") else path
    return ""


def legal(path: str) -> str:
    """A name that Keras takes: no slash, nothing that HDF5 or TensorFlow's scopes stumble over."""
    word = re.sub(r"[^A-Za-z0-9_.\-]+", "_", path.strip("/").replace("/", ".")).strip("._-")
    return word or "layer"


def served_name(name: str) -> str:
    """A name that TensorFlow takes for an input of a signature."""
    word = legal(name).replace("-", "_")
    return word if word[0].isalpha() else f"x_{word}"
