"""Networks as people wrote them for MXNet 0.7 to 1.9, by field: each built anew, small, in one of the forms in which they are kept."""

from mxnet_networks import (
    decoding,
    detection,
    faces,
    generation,
    heads,
    images,
    language,
    motion,
    other,
    pictures,
    recommendation,
    recurrent,
    segmentation,
    speech,
)
from mxnet_networks.registry import NETWORKS

__all__ = ["NETWORKS"]

FIELDS = (
    language,
    recurrent,
    speech,
    recommendation,
    images,
    faces,
    detection,
    segmentation,
    generation,
    other,
    decoding,
    heads,
    motion,
    pictures,
)
