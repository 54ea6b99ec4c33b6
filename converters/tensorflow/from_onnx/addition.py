"""Where ``keras.ops.add`` is a sum, and where it adds a bias along another axis."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.layout import perm_of


def base_dims(a: Any, b: Any) -> tuple[Any, Any]:
    """The sizes of two operands as the program will hold them."""
    dims = [x.fact.dims if isinstance(x, Symbol) else () for x in (a, b)]
    perm = next((perm_of(x) for x in (a, b) if perm_of(x) is not None), None)
    if perm is None or any(one is None for one in dims):
        return dims[0], dims[1]
    whole = [(1,) * (len(perm) - len(one)) + tuple(one) if one else () for one in dims if one is not None]
    one, two = (tuple(size[axis] for axis in layout.inverse(perm)) if size else () for size in whole)
    return one, two


def plain_sum(a: Any, b: Any) -> bool:
    """Whether ``keras.ops.add`` of tensors of these sizes is their sum.

    Where the second has, when the model runs, one size other than 1, and that is the size of the first's axis 1
    or of its last, Keras squeezes it and adds it along that axis as a bias (``tf.nn.bias_add``), wherever it
    lay. So a (1, 4, 1) on a (3, 4, 4) is added along the last axis.
    """
    if a == () or b == () or (a is not None and (len(a) == 1 or a == b)):
        return True
    if a is None or b is None or len(b) > len(a):
        return False
    b = (1,) * (len(a) - len(b)) + tuple(b)
    wide = [axis for axis, size in enumerate(b) if not isinstance(size, Size) and size != 1]
    free = [axis for axis, size in enumerate(b) if isinstance(size, Size)]
    if len(wide) > 1:
        return True
    return all(_as_bias(a, b[axis], axis) for axis in wide or free)


def _as_bias(a: Any, size: Any, axis: int) -> bool:
    """Whether Keras adds ``size`` elements along the axis on which they lie, or as it adds anything."""
    last = len(a) - 1
    if axis == last:
        return bool(a[last] == size)
    if isinstance(size, Size) or isinstance(a[last], Size) or a[last] == size:
        return False
    return axis == 1 or (not isinstance(a[1], Size) and a[1] != size)
