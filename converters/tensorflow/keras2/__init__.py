"""Models that Keras 1 and 2 saved, built anew as models of Keras 3: what a file says is read as data, and no class or function is looked up by a name in it."""

from netferry.converters.tensorflow.keras2.files import is_old, read_archive, read_h5
from netferry.converters.tensorflow.keras2.known import CLASSES

__all__ = ["CLASSES", "is_old", "read_archive", "read_h5"]
