"""How many numbers the weights of a model may be while Keras builds it: as many as its file can hold, and some more.

Keras makes every weight before it reads any; how large one is follows from settings, from the input's sizes, or from
a ``build_config`` of the file's own. So it is the making of a weight that is counted.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from netferry.converters.errors import RefusedError
from netferry.converters.tensorflow.runtime import keras

SPARE, PER_BYTE = 1 << 24, 4
"""Numbers that any file may ask for, and those for each of its bytes: weights may be packed."""


class Weights:
    """``made`` is how many numbers have been asked for, ``refusal`` the error of the one that was too large."""

    def __init__(self, size: int, where: str) -> None:
        self.where = where
        self.limit = SPARE + PER_BYTE * size
        self.made = 0
        self.refusal: RefusedError | None = None

    def ask(self, variable: Any) -> None:
        count = math.prod(variable.shape)
        if self.made + count > self.limit:
            self.refusal = RefusedError(
                f"the weight '{variable.path}' asks for far more numbers than the file holds",
                where=self.where,
                expected=f"at most {self.limit:,} in all",
                received=f"{list(variable.shape)}, after {self.made:,}",
            )
            raise self.refusal
        self.made += count


_COUNTED: ContextVar[Weights | None] = ContextVar("weights", default=None)
_MAKE = "_initialize_with_initializer"
"""What a variable of Keras calls to get its first value; of another Keras that has no such thing nothing is counted."""


class _Counting:
    """Keras' own function with a count before it, for as long as anybody counts, in whatever thread."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0

    def begin(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1 and hasattr(keras.Variable, _MAKE):
                self._make = make = getattr(keras.Variable, _MAKE)

                def counted(variable: Any, initializer: Any) -> None:
                    if (asked := _COUNTED.get()) is not None:
                        asked.ask(variable)
                    make(variable, initializer)

                setattr(keras.Variable, _MAKE, counted)

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and hasattr(keras.Variable, _MAKE):
                setattr(keras.Variable, _MAKE, self._make)


_COUNTING = _Counting()


@contextmanager
def within(size: int, where: str) -> Iterator[Weights]:
    """Count the weights that Keras makes inside, of a file of ``size`` bytes.

    Raises:
        RefusedError: they would be far more than the file can hold; none has been made too much.
    """
    weights = Weights(size, where)
    token = _COUNTED.set(weights)
    _COUNTING.begin()
    try:
        yield weights
    except Exception as error:
        if weights.refusal is not None:  # Keras may have put it into an error of its own
            raise weights.refusal from error
        raise
    finally:
        _COUNTING.end()
        _COUNTED.reset(token)
