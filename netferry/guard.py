"""The former name of ``netferry.runtime.guard``."""

import warnings

from netferry.runtime.guard import call
from netferry.runtime.limits import Limits

__all__ = ["Limits", "call"]

warnings.warn("'netferry.guard' is called 'netferry.runtime.guard'", DeprecationWarning, stacklevel=2)
