"""What is known of each value before a model runs, and what finding out may cost."""

from netferry.converters.graph.inference import control_flow  # noqa: F401 - its rules for If, Loop and Scan
from netferry.converters.graph.inference.shapes import (  # noqa: F401 - their rules for sizes
    attention,
    elementwise,
    indexing,
    linear,
    recurrent,
    reduction,
    shape,
    spatial,
)
