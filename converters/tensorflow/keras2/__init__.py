"""Models that Keras 1 and 2 saved, built anew as models of Keras 3: what a file says is read as data, and no class or function is looked up by a name in it."""

from netferry.converters.tensorflow.keras2.files import read_archive, read_h5

__all__ = ["read_archive", "read_h5"]
