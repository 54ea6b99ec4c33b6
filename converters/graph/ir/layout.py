"""Layouts: permutations of axes, and which operators do not care about them.

A transposition is not emitted where it is asked for. It travels with the tensor as a pending
permutation (see ``build.py``), passes through the operators listed here, and meets its inverse in
the next spatial layer: a channels-last CNN is written with one transpose at its input.
"""

from __future__ import annotations

Perm = tuple[int, ...]

POINTWISE = frozenset(
    """
    Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu
    DequantizeLinear QuantizeLinear HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not PRelu Reciprocal Relu Round Selu
    Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh ThresholdedRelu
    Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub Sum Where Xor
    """.split()
)
"""Operators whose output has its inputs' layout: each element from the elements at its own place."""


def identity(rank: int) -> Perm:
    return tuple(range(rank))


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes ``perm``."""
    back = [0] * len(perm)
    for position, axis in enumerate(perm):
        back[axis] = position
    return tuple(back)


def compose(first: Perm, then: Perm) -> Perm:
    """The one permutation that equals transposing by ``first`` and then by ``then``."""
    return tuple(first[axis] for axis in then)


def channels_first(rank: int) -> Perm:
    """(batch, *space, channels) -> (batch, channels, *space)."""
    return (0, rank - 1, *range(1, rank - 1))


def channels_last(rank: int) -> Perm:
    """(batch, channels, *space) -> (batch, *space, channels)."""
    return (0, *range(2, rank), 1)


def batch_second(rank: int) -> Perm:
    """(batch, time, ...) <-> (time, batch, ...)."""
    return (1, 0, *range(2, rank))
