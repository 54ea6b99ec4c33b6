"""The array namespace: the functions in which ``ops`` is written.

Names and meanings are those of the Python array API standard where it has them (``permute_dims``,
``expand_dims``, ``take_along_axis``), NumPy's where it has not. Each target has the same functions:
numpy computes at once, PyTorch and Keras write Python, MXNet writes symbol nodes. A function that a target lacks
is refused by name, so a namespace overrides what it has and nothing else.

Conventions, for every function:

- ``x`` is a symbol (in numpy, an array); numbers may stand for a tensor of the other operand's dtype.
- ``axis`` is an int and ``axes`` a tuple of ints, counted from 0, never negative. ``sizes`` are tuples of
  int or ``Size``; -1 stands for what is left over, as in NumPy.
- ``dtype`` is a ``numpy.dtype`` (bfloat16 and the small floats are those of ``ml_dtypes``).
- Both operands of a binary function have one dtype, the result has it too; integers stay integers.
- Integer overflow wraps, shifts are logical for unsigned, ``round`` is half to even.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ops import OPS
from netferry.converters.graph.ops.table import FLOAT32, as_dtype
from netferry.converters.graph.registry import Table
from netferry.converters.graph.schema.attributes import UnusedAttribute

if TYPE_CHECKING:
    import onnx_ir as ir


ELEMENTWISE = tuple(
    """
    abs acos acosh asin asinh atan atanh ceil cos cosh erf exp expm1 floor isinf isnan log log1p negative
    reciprocal round rsqrt sigmoid sign sin sinh sqrt square tan tanh logical_not bitwise_invert
    """.split()
)
"""One operand. ``isinf isnan logical_not`` give bool; ``sign`` keeps the dtype; NaN stays NaN."""

BINARY = tuple(
    """
    add subtract multiply divide floor_divide trunc_divide remainder fmod pow maximum minimum
    equal not_equal less less_equal greater greater_equal
    logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor left_shift right_shift
    """.split()
)
"""Two operands, broadcast as NumPy does. ``divide`` is for floats, ``trunc_divide`` for integers (ONNX's Div: toward
zero); ``remainder`` has the divisor's sign (Python's %), ``fmod`` the dividend's (C's). ``maximum`` and
``minimum`` give NaN where either side is. The six comparisons and the three logical functions give bool."""

REDUCTIONS = tuple("sum mean prod max min".split())
"""``sum(x, axes, keepdims)``: over the given axes (a tuple, never empty), in the dtype of ``x``."""

Sizes = Sequence[Any]


def without(node: ir.Node | None) -> str:
    """What to do about a node that cannot be converted: the model is cut behind it, or before it."""
    outputs = () if node is None else node.outputs
    inputs = () if node is None else node.inputs
    behind = next((value.name for value in outputs if value.name and value.uses()), None)
    before = next(
        (value.name for value in inputs if value is not None and value.producer() is not None), None
    )
    begin, end = f"begin behind it (--input-at '{behind}')", f"end before it (--output '{before}')"
    ways = [way for way, name in ((begin, behind), (end, before)) if name]
    return f"Cut the model: {' or '.join(ways)}" if ways else "Replace the operator in the source model"


class Namespace:
    """What a target must be able to write; every function is refused until it is overridden."""

    framework: str = ""
    """The folder's name: ``pytorch``, ``tensorflow``, ``mxnet``; ``numpy`` for the constant folder."""

    title: str = ""
    """The target's name in a sentence."""

    rows: Table[str, Any]
    """The target's own rows, asked before those of ``ops``: ``rows.get("Conv")(xp, x, w, b, strides=[2, 2])``."""

    node: ir.Node
    """The node that is being converted."""

    integers = False
    """Whether weights that the file holds as small integers stay so."""

    def __getattr__(self, word: str) -> Any:
        if word.startswith("_"):
            raise AttributeError(word)

        def refuse(*_: Any, **__: Any) -> Any:
            raise CannotConvert(f"{self.title} has no '{word}'")

        return refuse

    # ---- what the interpreter calls ----------------------------------------------------------------

    def wanted(self, output: int) -> bool:
        """Whether anything reads this output of the node that is being converted."""
        outputs = self.node.outputs
        return output < len(outputs) and bool(outputs[output].name)

    def operator(self, name: str, *inputs: Any, **attributes: Any) -> Any:
        """An ONNX operator: by the target's own row, or by the shared one where it has none, or that declines.

        A row declines by returning ``NotImplemented``, before it has written anything, and where it does not look at an
        attribute that counts.
        """
        refusal: CannotConvert | None = None
        for row in filter(None, (self.rows.get(name), OPS.get(name))):
            try:
                made = row(self, *inputs, **attributes)
            except UnusedAttribute as unused:
                refusal, made = unused, NotImplemented
            if made is not NotImplemented:
                return made
        raise refusal or CannotConvert(f"netferry does not support {name}", without(self.node))

    def symbol(self, fact: Fact) -> Any:
        """A constant: its content is known, its expression is made when it is first needed.

        Without content, something that stands for an output of a node that cannot be converted: no program is
        made of it, but the nodes behind it are still looked at.
        """
        raise NotImplementedError

    def bind(
        self, values: Sequence[ir.Value], results: Sequence[Any], facts: Sequence[Fact]
    ) -> Sequence[Any]:
        """Give the results of a node to its outputs; what comes back is what later nodes get."""
        raise NotImplementedError

    def bind_input(self, value: ir.Value, symbol: Any) -> None:
        """An input of the model is known from now on; its free sizes can be read."""

    def let(self, x: Any, wish: str = "x") -> Any:  # noqa: ARG002 - the recorder names a line by it
        """``x``, written once although it will be used often; only a target that writes lines has to do so."""
        return x

    def widened_like(self, x: Any, weight: Any) -> Any:  # noqa: ARG002 - what a weight becomes, the target knows
        """Integers in float32; in a target whose models change their dtype, in that of the ``weight`` by then."""
        return as_dtype(self, x, FLOAT32)

    def materialize(self, fact: Fact) -> Any:
        """The expression of a constant: a parameter, a buffer or a literal."""
        raise NotImplementedError

    # ---- making --------------------------------------------------------------------------------
    #
    # asarray(content, dtype)            a constant of the operator's own (numpy array or nested list)
    # full(sizes, value, dtype)          every element ``value`` (a number)
    # arange(start, stop, step, dtype)   numbers, sizes or 0-d symbols
    # eye(rows, columns, k, dtype)       ones on diagonal k
    # shape(x)                           1-D int64, the sizes of x when the model runs
    #
    # ---- dtype ---------------------------------------------------------------------------------
    #
    # astype(x, dtype)                   as ONNX's Cast: floats to integers toward zero
    # bitcast(x, dtype)                  the same bits
    #
    # ---- sizes and places ----------------------------------------------------------------------
    #
    # reshape(x, sizes)   broadcast_to(x, sizes)   permute_dims(x, axes)   expand_dims(x, axes)   squeeze(x, axes)
    # concat(xs, axis)    stack(xs, axis)          unstack(x, axis) -> tuple (size known)
    # split(x, lengths, axis) -> tuple             flip(x, axes)           tile(x, repeats)       roll(x, shift, axis)
    # slice(x, {axis: (start, stop, step)})        Python's meaning, ints or sizes; stop None is the end
    # pad(x, pairs, mode, value)                   pairs (before, after) for each axis; mode constant, reflect, edge,
    #                                              wrap; a negative pad cuts
    # diagonal(x, axis1, axis2)
    #
    # ---- picking -------------------------------------------------------------------------------
    #
    # where(condition, x, y)
    # take(x, indices, axis)             indices of any rank, negative ones count from the end
    # take_along_axis(x, indices, axis)  indices may be smaller than x on other axes (ONNX's GatherElements)
    # gather_nd(x, indices, batch_dims)  scatter_nd(x, indices, updates, reduction)
    # scatter_along_axis(x, indices, updates, axis, reduction)     reduction: none add mul max min
    # nonzero(x) -> (rank, count) int64  compress(x, condition, axis)
    # topk(x, k, axis, largest) -> values, indices (int64), sorted, the lower index first among equals
    # unique(x, axis, sorted) -> values, indices, inverse, counts (int64; axis None flattens)
    # tril(x, k)   triu(x, k)            of the last two axes
    #
    # ---- along axes ----------------------------------------------------------------------------
    #
    # sum mean prod max min (x, axes, keepdims)      argmax argmin (x, axis, keepdims) -> int64, first among equals
    # cumulative_sum cumulative_prod (x, axis)       logsumexp(x, axes, keepdims)
    # softmax(x, axis)   log_softmax(x, axis)
    #
    # ---- algebra -------------------------------------------------------------------------------
    #
    # matmul(a, b)   einsum(equation, *xs)   det(x)   inv(x)
    # dft(x, axis, length, inverse, onesided)        complex numbers as a last axis of 2, as ONNX's DFT
    #
    # ---- where the value decides (refused by targets that hold no control flow) ----------------
    #
    # choose(condition, then, otherwise)             two functions of no argument, each gives a tuple of symbols
    # body(graph, *inputs) -> tuple                  the subgraph, written in place
