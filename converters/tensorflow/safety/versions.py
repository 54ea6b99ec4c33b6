"""Which Keras wrote a file: what Keras 1 and 2 wrote is read as data, and nothing is looked up by a module that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def is_old(version: Any) -> bool:
    """Whether a file's ``keras_version`` is one before 3; the first files had none."""
    text = version.decode("utf-8", "replace") if isinstance(version, bytes) else version
    return not isinstance(text, str) or text.partition(".")[0] in ("0", "1", "2")


def of_archive(metadata: bytes | None) -> str:
    """The version in a ``.keras``' ``metadata.json``; without one it is read as Keras 3's."""
    if metadata is None:
        return "3"
    try:
        document = json.loads(metadata)
    except ValueError:
        return "3"
    return str(document.get("keras_version", "3")) if isinstance(document, Mapping) else "3"
