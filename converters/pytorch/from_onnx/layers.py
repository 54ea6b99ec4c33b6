"""Operators that own weights, as PyTorch's layers: Linear, the normalisations, Embedding, PReLU, Dropout.

Spatial layers stand in ``native_spatial.py``, recurrent ones in ``native_recurrent.py``, what decides by values
in ``native_flow.py``, random numbers in ``native_random.py``; together they fill the table ``LAYERS``.

A row makes a layer where the weights are constants, and writes the function where they are known only
at run time, or where they belong to another layer already.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.writer import shortest
from netferry.converters.graph.ir.sizes import Size, known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops import OPS
from netferry.converters.pytorch.dtypes import FLOAT32
from netferry.converters.pytorch.from_onnx.namespace import LAYERS, TorchNamespace
from netferry.converters.pytorch.from_onnx.state import Weight, parts
from netferry.converters.pytorch.from_onnx.writer import plain
from netferry.converters.signature import Array

Xp = TorchNamespace

row = LAYERS.row


_LAST_WORDS = frozenset(
    "alpha beta bias embeddings gamma kernel running_mean scale slope W w weight weights".split()
)
"""What a weight is called within its layer."""


def place(xp: Xp, *weights: Symbol | None) -> list[str] | None:
    """Where a layer stands: the path of a weight's name, or that of its node.

    None where the weight belongs to a module of another kind (``self_attn.in_proj_weight``), which holds it itself.
    """
    paths = [parts(weight.fact.name) for weight in weights if weight is not None]
    for path in paths:
        if len(path) > 1 and path[-1] in _LAST_WORDS:
            return path[:-1]
        if len(path) == 1 and path[0].endswith("_weight"):
            return [path[0].removesuffix("_weight")]
    if any(len(path) > 1 and path[-1].endswith(("_weight", "_bias")) for path in paths):
        return None
    path = [*dict.fromkeys(parts(xp.node.name or ""))]
    return (path[:-1] if len(path) > 1 and path[-1].startswith(xp.node.op_type) else path) or [
        xp.node.op_type.lower()
    ]


def held(x: Symbol, array: Array | None = None) -> Weight:
    """A constant as a layer holds it; ``array`` where that has another shape."""
    content = x.content
    assert content is not None
    return Weight(content if array is None else array, x.fact.name)


def turned(x: Symbol) -> Symbol:
    """A constant matrix, transposed: the same memory seen the other way."""
    content = x.content
    assert content is not None
    return Symbol(x.xp, replace(x.fact, content=content.T, dims=content.T.shape))


def fixed(*weights: Symbol | None) -> bool:
    """Whether all of these are constants of one floating type."""
    there = [weight for weight in weights if weight is not None]
    return (
        all(w.content is not None and w.dtype.kind in "fV" for w in there)
        and len({w.dtype for w in there}) == 1
    )


def layer(
    xp: Xp, kind: str, *args: Any, at: list[str] | None, weights: Mapping[str, Weight], **kwargs: Any
) -> ast.expr | None:
    """``nn.Conv2d(3, 64, 7, stride=2)`` in the module, and the expression that reads it from there."""
    if at is None:
        return None
    dtype = next((weight.array.dtype for weight in weights.values()), FLOAT32)
    call = xp.call_expr(ast.parse(f"nn.{kind}", mode="eval").body, *args, **kwargs,
                        dtype=dtype if dtype != FLOAT32 else None)  # fmt: skip
    return xp.state.layer(at, call, weights)


def applied(xp: Xp, made: ast.expr, x: Symbol, *more: Any) -> Symbol:
    """The layer's result: ``self.conv1(x)``."""
    return xp.made(xp.call_expr(made, x, *more), x)


def short(number: float) -> float:
    """An attribute as it was meant: ONNX keeps 0.1 as a float32."""
    return shortest(np.float32(number))


def composed(xp: Xp, operator: str, *inputs: Any, **attributes: Any) -> Any:
    """The operator from plain words, where PyTorch's own layer is not the same."""
    return OPS[operator](xp, *inputs, **attributes)


# ---- matrices -------------------------------------------------------------------------------------


@row("Linear")
def Linear(xp: Xp, x: Symbol, w: Symbol, b: Symbol | None = None) -> Symbol:
    if w.content is None:
        product = xp.matmul(x, w)
        return product if b is None else xp.add(product, b)
    inside, outside = w.content.shape
    if fixed(w, b) and w.dtype == x.dtype:
        weights = {"weight": held(w, w.content.T)} | ({} if b is None else {"bias": held(b)})
        if b is None or b.fact.dims == (outside,):
            made = layer(
                xp,
                "Linear",
                inside,
                outside,
                bias=False if b is None else None,
                at=place(xp, w, b),
                weights=weights,
            )
            if made is not None:
                return applied(xp, made, x)
    return xp.call("F.linear", x, turned(w), b)


@row("Gather")
def Gather(xp: Xp, data: Symbol, indices: Symbol, *, axis: int = 0) -> Any:
    """A matrix that is trained, read row by row, is an embedding.

    ONNX counts negative indices from the end; ``nn.Embedding`` refuses them when it runs, so none goes wrong.
    """
    rows = data.content
    if (
        rows is None
        or rows.ndim != 2
        or axis not in (0, -2)
        or not data.fact.trainable
        or indices.content is not None
    ):
        return composed(xp, "Gather", data, indices, axis=axis)
    at = place(xp, data)
    if not fixed(data) or indices.dtype.kind not in "iu":
        return composed(xp, "Gather", data, indices, axis=axis)
    places = indices if indices.dtype in (np.int64, np.int32) else xp.astype(indices, np.int64)
    made = layer(xp, "Embedding", *rows.shape, at=at, weights={"weight": held(data)})
    if made is None:
        return xp.call("F.embedding", places, data, dtype=data.dtype)
    return xp.made(xp.call_expr(made, places), dtype=data.dtype)


# ---- normalisations -------------------------------------------------------------------------------


def _dimensions(x: Symbol) -> int:
    """How many spatial axes a batch-first, channels-second tensor has, as layers count them (1 to 3)."""
    return max(x.ndim - 2, 1)


@row("BatchNormalization")
def BatchNormalization(
    xp: Xp, x: Symbol, scale: Symbol, b: Symbol, mean: Symbol, var: Symbol, *,
    epsilon: float = 1e-5, momentum: float = 0.9, training_mode: int = 0,
) -> Any:  # fmt: skip
    """PyTorch's momentum is the weight of the new value, ONNX's that of the old one."""
    if training_mode:
        return _batch_norm_of_this_batch(xp, x, scale, b, mean, var, epsilon=epsilon, momentum=momentum)
    mixed = len({part.dtype for part in (x, scale, b, mean, var)}) > 1
    if mixed or x.ndim < 2:
        return composed(xp, "BatchNormalization", x, scale, b, mean, var, epsilon=epsilon, momentum=momentum)
    eps, new = short(epsilon), round(1 - short(momentum), 7)
    if fixed(scale, b, mean, var) and x.ndim <= 5:
        weights = {
            "weight": held(scale),
            "bias": held(b),
            "running_mean": replace(held(mean), parameter=False),
            "running_var": replace(held(var), parameter=False),
            "num_batches_tracked": Weight(np.asarray(0, np.int64), parameter=False),
        }
        made = layer(xp, f"BatchNorm{_dimensions(x)}d", scale.size(0), eps=None if eps == 1e-5 else eps,
                     momentum=None if new == 0.1 else new, at=place(xp, scale, b, mean), weights=weights)  # fmt: skip
        if made is not None:
            return applied(xp, made, x)
    return xp.call("F.batch_norm", x, mean, var, scale, b, eps=eps)


def _batch_norm_of_this_batch(
    xp: Xp, x: Symbol, scale: Symbol, b: Symbol, mean: Symbol, var: Symbol, *, epsilon: float, momentum: float
) -> Any:
    """With training_mode the statistics are the batch's own; the new running ones are further outputs.

    Both are ONNX's: the variance is the biased one also in the running statistics.
    """
    y = xp.call("F.batch_norm", x, None, None, scale, b, training=True, eps=short(epsilon))
    if not xp.wanted(1) and not xp.wanted(2):
        return y
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    now = xp.mean(x, axes, False)
    old = short(momentum)
    spread = xp.made(xp.call_expr(ast.Attribute(x.expr, "var", ast.Load()), axes, correction=0), x)
    new = round(1 - old, 7)
    return (
        y,
        xp.add(mean * old, xp.astype(now, mean.dtype) * new),
        xp.add(var * old, xp.astype(spread, var.dtype) * new),
    )


@row("LayerNormalization")
def LayerNormalization(
    xp: Xp, x: Symbol, scale: Symbol, b: Symbol | None = None, *,
    axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1,
) -> Any:  # fmt: skip
    attributes = {"axis": axis, "epsilon": epsilon, "stash_type": stash_type}
    sizes = x.shape[axis:] if x.fact.dims is not None else ()
    plain_form = known(sizes) and sizes and scale.fact.dims == sizes and (b is None or b.fact.dims == sizes)
    alike = {x.dtype, scale.dtype, x.dtype if b is None else b.dtype} == {x.dtype}
    if xp.wanted(1) or xp.wanted(2) or not plain_form or not alike or stash_type != 1 or x.dtype.itemsize > 4:
        return composed(xp, "LayerNormalization", x, scale, b, **attributes)
    return _normalised(xp, "LayerNorm", "layer_norm", x, scale, b, sizes, short(epsilon), default=1e-5)


@row("RMSNormalization")
def RMSNormalization(
    xp: Xp, x: Symbol, scale: Symbol, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Any:
    sizes = x.shape[axis:] if x.fact.dims is not None else ()
    alike = x.dtype == scale.dtype and stash_type == 1 and x.dtype.itemsize <= 4
    if not known(sizes) or not sizes or scale.fact.dims != sizes or not alike:
        return composed(xp, "RMSNormalization", x, scale, axis=axis, epsilon=epsilon, stash_type=stash_type)
    return _normalised(xp, "RMSNorm", "rms_norm", x, scale, None, sizes, short(epsilon), default=None)


def _normalised(
    xp: Xp,
    kind: str,
    function: str,
    x: Symbol,
    scale: Symbol,
    b: Symbol | None,
    sizes: Any,
    eps: float,
    default: Any,
) -> Symbol:
    shape = sizes[0] if len(sizes) == 1 else tuple(sizes)
    if fixed(scale, b):
        weights = {"weight": held(scale)} | ({} if b is None else {"bias": held(b)})
        bias = False if b is None and kind == "LayerNorm" else None
        made = layer(
            xp,
            kind,
            shape,
            eps=None if eps == default else eps,
            bias=bias,
            at=place(xp, scale, b),
            weights=weights,
        )
        if made is not None:
            return applied(xp, made, x)
    if b is None:
        return xp.call(f"F.{function}", x, tuple(sizes), weight=scale, eps=eps)
    return xp.call(f"F.{function}", x, tuple(sizes), scale, b, eps=eps)


@row("GroupNormalization")
def GroupNormalization(
    xp: Xp,
    x: Symbol,
    scale: Symbol,
    bias: Symbol,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Any:
    if not x.dtype == scale.dtype == bias.dtype or stash_type != 1 or x.dtype.itemsize > 4:
        return composed(xp, "GroupNormalization", x, scale, bias, num_groups=num_groups, epsilon=epsilon,
                        stash_type=stash_type)  # fmt: skip
    eps = short(epsilon)
    if fixed(scale, bias):
        weights = {"weight": held(scale), "bias": held(bias)}
        made = layer(xp, "GroupNorm", num_groups, scale.size(0), eps=None if eps == 1e-5 else eps,
                     at=place(xp, scale, bias), weights=weights)  # fmt: skip
        if made is not None:
            return applied(xp, made, x)
    return xp.call("F.group_norm", x, num_groups, scale, bias, eps=eps)


@row("InstanceNormalization")
def InstanceNormalization(xp: Xp, x: Symbol, scale: Symbol, b: Symbol, *, epsilon: float = 1e-5) -> Any:
    if not x.dtype == scale.dtype == b.dtype:
        return composed(xp, "InstanceNormalization", x, scale, b, epsilon=epsilon)
    eps = short(epsilon)
    if fixed(scale, b) and 3 <= x.ndim <= 5:
        weights = {"weight": held(scale), "bias": held(b)}
        made = layer(xp, f"InstanceNorm{_dimensions(x)}d", scale.size(0), eps=None if eps == 1e-5 else eps, affine=True,
                     at=place(xp, scale, b), weights=weights)  # fmt: skip
        if made is not None:
            return applied(xp, made, x)
    return xp.call("F.instance_norm", x, weight=scale, bias=b, eps=eps)


# ---- what behaves by itself -----------------------------------------------------------------------


@row("PRelu")
def PRelu(xp: Xp, x: Symbol, slope: Symbol) -> Any:
    """A slope for all, or one for each channel; other shapes are written out."""
    slopes = slope.content
    per_channel = (
        slopes is not None
        and x.fact.dims is not None
        and slopes.size in (1, x.fact.dims[1] if x.ndim > 1 else 1)
    )
    shaped = slopes is not None and (
        slopes.size == 1 or (slopes.shape[0] == slopes.size and slopes.ndim == x.ndim - 1)
    )
    if not per_channel or not shaped or not fixed(slope) or x.dtype != slope.dtype:
        return composed(xp, "PRelu", x, slope)
    assert slopes is not None
    weights = {"weight": held(slope, slopes.reshape(-1))}
    made = layer(
        xp, "PReLU", *([slopes.size] if slopes.size > 1 else []), at=place(xp, slope), weights=weights
    )
    return composed(xp, "PRelu", x, slope) if made is None else applied(xp, made, x)


@row("Dropout")
def Dropout(
    xp: Xp,
    x: Symbol,
    ratio: Symbol | None = None,
    training_mode: Symbol | None = None,
    *,
    seed: int | None = None,
) -> Any:
    """Asleep in a trained model: ``train()`` wakes it. With training_mode set it always drops."""
    p = 0.5 if ratio is None else None if ratio.content is None else plain(ratio, FLOAT32)
    awake = (
        False
        if training_mode is None
        else None
        if training_mode.content is None
        else bool(plain(training_mode, None))
    )
    if p is None or awake is None:
        given = 0.5 if ratio is None else ratio, False if training_mode is None else training_mode
        return xp.unpack(xp.helper("dropout", x, *given, dtype=x.dtype), 2, [x.dtype, np.dtype(bool)])
    if awake:
        kept = xp.call("F.dropout", xp.call("torch.ones_like", x), p)
        return xp.multiply(x, kept), xp.not_equal(kept, 0)
    made = layer(xp, "Dropout", p, at=place(xp), weights={})
    assert made is not None
    mask = xp.like("torch.ones_like", x, bool) if xp.wanted(1) else None
    return (applied(xp, made, x), mask) if mask is not None else applied(xp, made, x)


# ---- activations that PyTorch has under its own name ------------------------------------------------


@row("Relu")
def Relu(xp: Xp, x: Symbol) -> Symbol:
    return xp.call("torch.relu", x)


@row("LeakyRelu")
def LeakyRelu(xp: Xp, x: Symbol, *, alpha: float = 0.01) -> Symbol:
    return xp.call("F.leaky_relu", x, short(alpha))


@row("Elu")
def Elu(xp: Xp, x: Symbol, *, alpha: float = 1.0) -> Symbol:
    return xp.call("F.elu", x, short(alpha))


@row("Celu")
def Celu(xp: Xp, x: Symbol, *, alpha: float = 1.0) -> Symbol:
    return xp.call("F.celu", x, short(alpha))


@row("Selu")
def Selu(
    xp: Xp, x: Symbol, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875
) -> Any:
    usual = (np.float32(alpha), np.float32(gamma)) == (np.float32(1.6732632), np.float32(1.050701))
    return xp.call("F.selu", x) if usual else composed(xp, "Selu", x, alpha=alpha, gamma=gamma)


@row("Gelu")
def Gelu(xp: Xp, x: Symbol, *, approximate: str = "none") -> Symbol:
    if approximate not in ("none", "tanh"):
        raise CannotConvert(f"approximate is {approximate!r}, expected 'none' or 'tanh'")
    return xp.call("F.gelu", x, approximate=approximate if approximate != "none" else None)


@row("HardSwish")
def HardSwish(xp: Xp, x: Symbol) -> Symbol:
    return xp.call("F.hardswish", x)


@row("Mish")
def Mish(xp: Xp, x: Symbol) -> Symbol:
    return xp.call("F.mish", x)


@row("Swish")
def Swish(xp: Xp, x: Symbol, *, alpha: float = 1.0) -> Any:
    return xp.call("F.silu", x) if alpha == 1.0 else composed(xp, "Swish", x, alpha=alpha)


@row("Softplus")
def Softplus(xp: Xp, x: Symbol) -> Any:
    """PyTorch's own gives x itself above 20, which float32 cannot tell from the true value; float64 can."""
    return xp.call("F.softplus", x) if x.dtype.itemsize <= 4 else composed(xp, "Softplus", x)


@row("Softsign")
def Softsign(xp: Xp, x: Symbol) -> Symbol:
    return xp.call("F.softsign", x)


# ---- attention ------------------------------------------------------------------------------------


@row("Attention")
def Attention(
    xp: Xp, q: Symbol, k: Symbol, v: Symbol, attn_mask: Symbol | None = None, past_key: Symbol | None = None,
    past_value: Symbol | None = None, nonpad_kv_seqlen: Symbol | None = None, **attributes: Any,
) -> Any:  # fmt: skip
    """One fused kernel where the operator is softmax(q k^T scale + mask) v and nothing more is asked for."""
    causal = bool(attributes.get("is_causal", 0))
    extras = (
        any(part is not None for part in (past_key, past_value, nonpad_kv_seqlen))
        or not _set(attributes) <= _PLAIN
    )
    alike = q.dtype == k.dtype == v.dtype and attributes.get("softmax_precision") in (None, 1)
    if (
        extras
        or any(map(xp.wanted, (1, 2, 3)))
        or not alike
        or (causal and attn_mask is not None)
        or q.ndim != k.ndim
    ):
        return composed(
            xp, "Attention", q, k, v, attn_mask, past_key, past_value, nonpad_kv_seqlen, **attributes
        )
    if not _mask_fits(attn_mask, k):
        return composed(xp, "Attention", q, k, v, attn_mask, **attributes)
    heads = (attributes.get("q_num_heads"), attributes.get("kv_num_heads"))
    flat = q.ndim == 3
    if flat:
        q, k, v = (_heads(xp, x, count) for x, count in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    scale = attributes.get("scale")
    same_heads = q.fact.dims is not None and k.fact.dims is not None and q.fact.dims[1] == k.fact.dims[1]
    if attn_mask is not None and attn_mask.dtype.kind not in "b" and attn_mask.dtype != q.dtype:
        attn_mask = xp.astype(attn_mask, q.dtype)
    made = xp.call(
        "F.scaled_dot_product_attention", q, k, v, attn_mask=attn_mask, is_causal=True if causal else None,
        scale=None if scale is None else short(scale), enable_gqa=None if same_heads else True, dtype=q.dtype,
    )  # fmt: skip
    return _merged(xp, made) if flat else made


_PLAIN = frozenset("is_causal q_num_heads kv_num_heads scale softmax_precision".split())
"""The attributes of Attention that the fused kernel knows."""


def _set(attributes: Mapping[str, Any]) -> set[str]:
    """The attributes that say something: a window of -1 is none, a softcap or an output mode of 0 is none."""
    neutral = {"softcap": 0.0, "qk_matmul_output_mode": 0, "left_window_size": -1, "right_window_size": -1}
    return {name for name, value in attributes.items() if neutral.get(name) != value or name not in neutral}


def _mask_fits(mask: Symbol | None, k: Symbol) -> bool:
    """The mask's last axis is the keys', or is known to be broadcast over them."""
    if mask is None:
        return True
    if mask.fact.dims is None or k.fact.dims is None or mask.ndim < 2:
        return False
    keys = k.shape[-2]
    return mask.shape[-1] == keys or mask.shape[-1] == 1


def _heads(xp: Xp, x: Symbol, count: int | None) -> Symbol:
    """(batch, length, heads * size) -> (batch, heads, length, size)."""
    if not count:
        raise CannotConvert("the number of heads is not given for inputs of rank 3")
    batch, length, width = x.shape
    if isinstance(width, Size):
        raise CannotConvert("the width of its input is not known before it runs")
    split = xp.reshape(x, (batch, length, count, width // count))
    made = xp.permute_dims(split, (0, 2, 1, 3))
    return xp.made(made.expr, x, dims=(batch, count, length, width // count))


def _merged(xp: Xp, x: Symbol) -> Symbol:
    """(batch, heads, length, size) -> (batch, length, heads * size)."""
    return xp.method(xp.method(x, "transpose", 1, 2), "flatten", 2)
