"""What a signature takes and gives, as its file declares it."""

from __future__ import annotations

from netferry.converters.tensorflow.graphdef.signature import input_names, signature

__all__ = ["input_names", "signature"]
