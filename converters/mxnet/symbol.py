"""The symbol graph as data: nodes, typed attributes, aliases, and what older generations left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from netferry.converters.errors import RefusedError

Entry = tuple[int, int]
"""One output of one node: (node's position, output's position)."""

VERSION = 10901
"""The generation that is written, and whose defaults the rows have: MXNet 1.9.1."""

OLDEST = 800
"""Symbols without a version are MXNet 0.8's or older."""

MXNET_2 = (
    "sum max min prod all any copy transpose squeeze moveaxis roll dot cumsum diag diagonal diagflat trace"
    " atleast_1d atleast_2d atleast_3d"
)
"""Operators of the numpy interface that MXNet 2 calls ``_npi_`` where 1.9.1 says ``_np_``."""

ALIASES: Mapping[str, str] = {
    "ElementWiseSum": "add_n", "Softmax": "SoftmaxOutput", "max_axis": "max", "min_axis": "min", "sum_axis": "sum",
    "_Plus": "elemwise_add", "_plus": "elemwise_add", "_add": "elemwise_add", "_grad_add": "elemwise_add",
    "_Minus": "elemwise_sub", "_minus": "elemwise_sub", "_sub": "elemwise_sub",
    "_Mul": "elemwise_mul", "_mul": "elemwise_mul", "_Div": "elemwise_div", "_div": "elemwise_div",
    "_Mod": "_mod", "_Power": "_power", "_Hypot": "_hypot", "_Maximum": "_maximum", "_Minimum": "_minimum",
    "_Equal": "_equal", "_Not_Equal": "_not_equal", "_Greater": "_greater", "_Lesser": "_lesser",
    "_Greater_Equal": "_greater_equal", "_Lesser_Equal": "_lesser_equal",
    "_Logical_And": "_logical_and", "_Logical_Or": "_logical_or", "_Logical_Xor": "_logical_xor",
    "_PlusScalar": "_plus_scalar", "_MinusScalar": "_minus_scalar", "_RMinusScalar": "_rminus_scalar",
    "_MulScalar": "_mul_scalar", "_DivScalar": "_div_scalar", "_RDivScalar": "_rdiv_scalar",
    "_ModScalar": "_mod_scalar", "_RModScalar": "_rmod_scalar",
    "_PowerScalar": "_power_scalar", "_RPowerScalar": "_rpower_scalar", "_HypotScalar": "_hypot_scalar",
    "_MaximumScalar": "_maximum_scalar", "_MinimumScalar": "_minimum_scalar",
    "_EqualScalar": "_equal_scalar", "_NotEqualScalar": "_not_equal_scalar",
    "_GreaterScalar": "_greater_scalar", "_GreaterEqualScalar": "_greater_equal_scalar",
    "_LesserScalar": "_lesser_scalar", "_LesserEqualScalar": "_lesser_equal_scalar",
    "_LogicalAndScalar": "_logical_and_scalar", "_LogicalOrScalar": "_logical_or_scalar",
    "_LogicalXorScalar": "_logical_xor_scalar",
    "broadcast_plus": "broadcast_add", "broadcast_minus": "broadcast_sub", "broadcast_axes": "broadcast_axis",
    "cast": "Cast", "concat": "Concat", "crop": "slice", "flatten": "Flatten", "flip": "reverse",
    "identity": "_copy", "pad": "Pad", "reshape": "Reshape", "split": "SliceChannel", "swapaxes": "SwapAxis",
    "stop_gradient": "BlockGrad", "choose_element_0index": "pick",
    "_npi_rnn_param_concat": "_rnn_param_concat", "_np_repeat": "repeat", "_npi_clip": "clip",
    "_npx_activation": "Activation", "_npx_arange_like": "_contrib_arange_like", "_npx_batch_dot": "batch_dot",
    "_npx_batch_flatten": "Flatten", "_npx_batch_norm": "BatchNorm", "_npx_cast": "Cast", "_npi_cast": "Cast",
    "_npx_convolution": "Convolution", "_npx_deconvolution": "Deconvolution", "_npx_dropout": "Dropout",
    "_npx_embedding": "Embedding", "_npx_erf": "erf", "_npx_erfinv": "erfinv", "_npx_gamma": "gamma", "_npx_gammaln": "gammaln", "_npx_fully_connected": "FullyConnected",
    "_npx_layer_norm": "LayerNorm", "_npx_leaky_relu": "LeakyReLU", "_npx_log_softmax": "log_softmax",
    "_npx_one_hot": "one_hot", "_npx_pick": "pick", "_npx_pooling": "Pooling", "_npx_rnn": "RNN",
    "_npx_reshape_like": "reshape_like", "_npx_sequence_mask": "SequenceMask", "_npx_slice": "slice",
    "_npi_slice": "slice", "_npx_smooth_l1": "smooth_l1", "_npx_softmax": "softmax", "_npx_topk": "topk",
    "_npi_expand_dims": "expand_dims", "_npi_swapaxes": "SwapAxis", "_npi_tile": "tile",
    "_npi_full": "_full", "_npi_split": "_split_v2", "_npi_take": "take", "_npi_argsort": "argsort", "_npi_sort": "sort",
    "_npi_maximum": "broadcast_maximum", "_npi_minimum": "broadcast_minimum", "_npi_hypot_scalar": "_hypot_scalar",
    "_npi_maximum_scalar": "_maximum_scalar", "_npi_minimum_scalar": "_minimum_scalar",
    "_npi_gather_nd": "gather_nd", "_npx_gather_nd": "gather_nd", "_npx_shape_array": "shape_array",
    "_npi_linspace": "_linspace", "_npi_det": "_linalg_det", "_npi_slogdet": "_linalg_slogdet",
    "_npi_abs": "_npi_absolute", "_npi_reshape": "_npx_reshape", "cumsum": "_np_cumsum",
    "_np_amax": "_np_max", "_np_amin": "_np_min", "_np_product": "_np_prod", "_np_sometrue": "_np_any",
    "_npi_boolean_mask": "_contrib_boolean_mask",
    "_npi_slice_assign": "_slice_assign", "_npi_slice_assign_scalar": "_slice_assign_scalar",
    "_crop_assign": "_slice_assign", "_crop_assign_scalar": "_slice_assign_scalar",
    "_npx_multibox_detection": "_contrib_MultiBoxDetection", "_npx_multibox_prior": "_contrib_MultiBoxPrior",
    "_npx_roi_pooling": "ROIPooling", "_contrib_box_non_maximum_suppression": "_contrib_box_nms",
    **{f"linalg_{name}": f"_linalg_{name}" for name in (
        "det extractdiag extracttrian gemm gemm2 makediag maketrian slogdet sumlogdiag syrk trmm"
    ).split()},
    "ravel_multi_index": "_ravel_multi_index", "unravel_index": "_unravel_index",
    **{f"_npx__image_{name}": f"_image_{name}" for name in (
        "crop flip_left_right flip_top_bottom normalize to_tensor"
    ).split()},
    **{f"_npi_{name}": f"_np_{name}" for name in MXNET_2.split()},
    "BatchNorm_v1": "BatchNorm", "Convolution_v1": "Convolution",
    "_npi_scatter_set_nd": "_scatter_set_nd", "_npi_nonzero": "_npx_nonzero", "_npi_inv": "_linalg_inverse",
    **{f"linalg_{name}": f"_linalg_{name}" for name in "potrf potri trsm inverse".split()},
    "_npi_Custom": "Custom", "_npx__image_resize": "_image_resize", "_npx__image_adjust_lighting": "_image_adjust_lighting",
    "_npi_histogram": "_histogram", "linalg_gelqf": "_linalg_gelqf", "_contrib_CTCLoss": "CTCLoss",
    "_contrib_ctc_loss": "CTCLoss", "ctc_loss": "CTCLoss", "_npx_multibox_target": "_contrib_MultiBoxTarget",
    **{f"random_pdf_{name}": f"_random_pdf_{name}" for name in (
        "dirichlet exponential gamma generalized_negative_binomial negative_binomial normal poisson uniform"
    ).split()},
}  # fmt: skip
"""Names under which older (and numpy-like) symbols call an operator of MXNet 1.9.1."""

FORKED: Mapping[str, str] = {"ChannelwiseConvolution": "Convolution"}
"""Names that forks of MXNet have given to its operators."""

_NORMALIZATION = ("data", "gamma", "beta")
_STATISTICS = (*_NORMALIZATION, "moving_mean", "moving_var")

INPUTS: Mapping[str, tuple[str, ...]] = {
    "Convolution": ("data", "weight", "bias"), "_contrib_DeformableConvolution": ("data", "offset", "weight", "bias"),
    "_contrib_ModulatedDeformableConvolution": ("data", "offset", "mask", "weight", "bias"), "Deconvolution": ("data", "weight", "bias"),
    "FullyConnected": ("data", "weight", "bias"), "Embedding": ("data", "weight"), "_contrib_SparseEmbedding": ("data", "weight"),
    "BatchNorm": _STATISTICS, "_contrib_SyncBatchNorm": _STATISTICS, "_contrib_BatchNormWithReLU": _STATISTICS,
    "LayerNorm": _NORMALIZATION, "InstanceNorm": _NORMALIZATION, "GroupNorm": _NORMALIZATION,
    "LeakyReLU": ("data", "gamma"), "RNN": ("data", "parameters", "state", "state_cell"),
    "UpSampling": ("data", "weight"), "SoftmaxOutput": ("data", "label"), "SVMOutput": ("data", "label"),
    "LinearRegressionOutput": ("data", "label"), "LogisticRegressionOutput": ("data", "label"),
    "MAERegressionOutput": ("data", "label"),
}  # fmt: skip
"""What the inputs of an operator are called, where some of them are weights or labels."""

OUTPUT = "__output__"
"""The hidden attribute with the name that an output had where the model came from."""

INPUT = "__input__"
"""The hidden attribute of an input of a model that was imported: its place among the inputs, whatever reads it."""

STORAGE, COMPRESSED = "__storage_type__", "__compressed__"
"""The hidden attributes that say how an array is stored, and that an input came as compressed rows."""

IMAGE = "image"
"""An input on which MXNet writes an initialiser, as on a weight, and which is none."""

WEIGHTS = frozenset({"weight", "bias", "gamma", "beta", "moving_mean", "moving_var", "parameters"})
STATISTICS = frozenset({"moving_mean", "moving_var"})

OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "RNN": ("output", "state_output", "statecell_output"),
    "make_loss": ("loss",),
    **dict.fromkeys(("sort", "_contrib_box_nms", "_linalg_det", "_npi_norm"), ("output0",)),
    **dict.fromkeys(("_npi_matmul", "_npi_concatenate", "_npi_hstack", "_npi_dstack"), ("out",)),
    **dict.fromkeys(("_contrib_Proposal", "_contrib_MultiProposal"), ("output", "score")),
    "_npi_average": ("output0", "output1"),
    "_sg_mkldnn_conv": ("output", "output_min", "output_max"),
    **dict.fromkeys(
        ("_sg_mkldnn_fully_connected", *(f"_contrib_quantized_{name}" for name in (
            "act batch_norm concat conv elemwise_add flatten fully_connected pooling"
        ).split())),
        ("output", "min_output", "max_output"),
    ),
    "_npi_std": ("std",),
    "_npi_var": ("var",),
}  # fmt: skip
"""What MXNet calls the outputs of an operator, where it is not output, or output0, output1 ..."""


_HIDDEN = frozenset(["ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage", "profiler_scope"])
_TRAINING_ONLY = re.compile(r"_(lr_mult|wd_mult)$")


@dataclass(frozen=True)
class Node:
    """One node: ``op`` is MXNet 1.9.1's name, ``null`` for a variable.

    ``attrs`` are the operator's own, as text; ``hidden`` those that MXNet writes as ``__shape__``.
    """

    name: str
    op: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Entry, ...] = ()
    subgraphs: tuple[Any, ...] = ()

    @property
    def is_variable(self) -> bool:
        return self.op == "null"

    def label(self) -> str:
        return f"node '{self.name}' ({self.op})"


@dataclass(frozen=True)
class Symbol:
    """A graph; ``heads`` are its outputs. Nodes stand in the file's order.

    ``numpy``: it was written under ``npx.set_np``, where 0 is a size and tensors may have no axes.
    """

    nodes: tuple[Node, ...]
    heads: tuple[Entry, ...]
    version: int = VERSION
    numpy: bool = False

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The nodes that the heads need, each after its inputs; file order where that is free."""
        needed, stack = set[int](), [position for position, _ in self.heads]
        while stack:
            position = stack.pop()
            if position not in needed:
                needed.add(position)
                stack.extend(source for source, _ in self.nodes[position].inputs)
        sources = {
            position: [source for source, _ in self.nodes[position].inputs] for position in sorted(needed)
        }
        if all(source < position for position, before in sources.items() for source in before):
            return tuple(sources)
        sorter = TopologicalSorter(sources)
        try:
            return tuple(sorter.static_order())
        except CycleError as error:
            names = " -> ".join(f"'{self.nodes[position].name}'" for position in error.args[1])
            raise RefusedError("the symbol's nodes form a cycle", received=names) from error

    @cached_property
    def variables(self) -> tuple[int, ...]:
        """Places of the variables that the heads need, in MXNet's order of arguments."""
        return tuple(sorted(position for position in self.order if self.nodes[position].is_variable))

    @cached_property
    def consumers(self) -> Mapping[int, tuple[Entry, ...]]:
        """Who reads a node: (the reader's position, which of its inputs)."""
        found: dict[int, list[Entry]] = {}
        for position in self.order:
            for slot, (source, _) in enumerate(self.nodes[position].inputs):
                found.setdefault(source, []).append((position, slot))
        return {position: tuple(readers) for position, readers in found.items()}


def output_name(node: Node, index: int, count: int) -> str:
    """What MXNet's ``list_outputs`` calls output ``index`` of ``count`` of a node."""
    if OUTPUT in node.hidden:
        return node.hidden[OUTPUT]
    if node.is_variable:
        return node.name
    numbered = count > 1 or node.op == "SliceChannel" or node.attrs.get("ret_typ") == "value"
    names = OUTPUTS.get(node.op) or ([f"output{i}" for i in range(count)] if numbered else ["output"])
    own = names[index]
    return f"{node.name}_{own}" if node.name else own


def input_name(node: Node, slot: int) -> str:
    """What the operator calls its input ``slot``; ``data`` where no table says more."""
    names = INPUTS.get(node.op, ())
    if node.op == "UpSampling" and node.attrs.get("sample_type") == "nearest":
        return IMAGE  # it has a weight in its other form alone
    return names[slot] if slot < len(names) else "data"


def rewired(symbol: Symbol, moved: Mapping[int, Entry]) -> Symbol:
    """The symbol whose readers of a node in ``moved`` read that entry instead."""

    def entries(given: tuple[Entry, ...]) -> tuple[Entry, ...]:
        return tuple(moved.get(position, (position, index)) for position, index in given)

    nodes = tuple(replace(node, inputs=entries(node.inputs)) for node in symbol.nodes)
    return replace(symbol, nodes=nodes, heads=entries(symbol.heads))


def with_one_variable_a_name(symbol: Symbol) -> Symbol:
    """What a name stands for is one array, as often as the code that made the symbol called for a variable of it."""
    first, moved = dict[str, int](), dict[int, Entry]()
    nodes = list(symbol.nodes)
    for position in symbol.variables:
        node = nodes[position]
        other = first.setdefault(node.name, position)
        if other != position:
            moved[position] = (other, 0)
            nodes[other] = replace(nodes[other], hidden={**node.hidden, **nodes[other].hidden})
    return rewired(replace(symbol, nodes=tuple(nodes)), moved) if moved else symbol


# ---- older generations ---------------------------------------------------------------------------


def upgrade(symbol: Symbol) -> Symbol:
    """Bring a symbol of any generation to today's: names, hidden attributes, inputs once implied."""
    symbol = replace(symbol, nodes=tuple(map(_with_todays_attributes, symbol.nodes)))
    if symbol.version < 900:
        symbol = _with_statistics(symbol)
    if symbol.version < 905:
        symbol = replace(symbol, nodes=tuple(map(_with_whole_argmax, symbol.nodes)))
    return symbol


def _with_todays_attributes(node: Node) -> Node:
    attrs, hidden = {}, dict(node.hidden)
    for key, text in node.attrs.items():
        bare = key[2:-2] if key.startswith("__") and key.endswith("__") else None
        if bare is not None or key in _HIDDEN:
            hidden[f"__{bare or key}__"] = text
        elif not _TRAINING_ONLY.search(key):
            attrs[key] = text
    if hidden.get(STORAGE) == "2":  # an input that comes as compressed rows: its numbers are the same
        del hidden[STORAGE]
        hidden[COMPRESSED] = "csr"
    op = node.op.removeprefix("_sparse_")
    if op == "WarpCTC":  # outside of training a softmax of what it reads
        return replace(node, op="softmax", attrs={}, hidden=hidden, inputs=node.inputs[:1])
    op = FORKED.get(op, op)
    return replace(node, op=ALIASES.get(op, op), attrs=attrs, hidden=hidden)


def _with_statistics(symbol: Symbol) -> Symbol:
    """Before 0.9 a BatchNorm did not list its moving mean and variance."""
    nodes = list(symbol.nodes)
    for position, node in enumerate(symbol.nodes):
        wanted = INPUTS.get(node.op, ())
        absent = wanted[len(node.inputs) :] if STATISTICS.intersection(wanted) else ()
        first = len(nodes)
        nodes += [Node(f"{node.name}_{name}" if node.name else name, "null") for name in absent]
        added = tuple((first + i, 0) for i in range(len(absent)))
        nodes[position] = replace(node, inputs=node.inputs + added)
    return replace(symbol, nodes=tuple(nodes))


def _with_whole_argmax(node: Node) -> Node:
    """Before 0.9.5 axis -1 of argmax and argmin meant all axes at once."""
    if node.op not in ("argmax", "argmin") or node.attrs.get("axis") != "-1":
        return node
    return replace(node, attrs={key: text for key, text in node.attrs.items() if key != "axis"})
