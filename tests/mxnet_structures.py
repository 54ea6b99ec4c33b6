"""What people keep in MXNet, rebuilt as symbols with few channels: mxnet's process imports this."""

from __future__ import annotations

from typing import Any


def arcface(mx: Any, units: tuple[int, ...] = (3, 4, 14, 3), width: int = 8) -> Any:
    """insightface's r50: residual units with PReLU, an embedding under a BatchNorm with fixed gamma, its length 1."""
    sym = mx.sym

    def norm(x: Any, name: str, fixed: bool = False) -> Any:
        return sym.BatchNorm(x, fix_gamma=fixed, eps=2e-5, momentum=0.9, name=name)

    def conv(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
        return sym.Convolution(
            x, num_filter=filters, kernel=(kernel, kernel), stride=(stride, stride),
            pad=(kernel // 2, kernel // 2), no_bias=True, workspace=256, name=name,
        )  # fmt: skip

    def unit(x: Any, filters: int, stride: int, same: bool, name: str) -> Any:
        y = conv(norm(x, f"{name}_bn1"), filters, 3, 1, f"{name}_conv1")
        y = sym.LeakyReLU(norm(y, f"{name}_bn2"), act_type="prelu", name=f"{name}_relu1")
        y = norm(conv(y, filters, 3, stride, f"{name}_conv2"), f"{name}_bn3")
        short = x if same else norm(conv(x, filters, 1, stride, f"{name}_conv1sc"), f"{name}_sc")
        return y + short

    x = sym.identity(sym.Variable("data"), name="id")
    x = (x - 127.5) * 0.0078125
    x = sym.LeakyReLU(norm(conv(x, width, 3, 1, "conv0"), "bn0"), act_type="prelu", name="relu0")
    for stage, count in enumerate(units, 1):
        for index in range(1, count + 1):
            filters = width * 2 ** (stage - 1)
            x = unit(x, filters, 2 if index == 1 else 1, index > 1, f"stage{stage}_unit{index}")
    x = sym.Dropout(norm(x, "bn1"), p=0.4)
    x = sym.FullyConnected(x, num_hidden=64, name="pre_fc1")
    return sym.L2Normalization(norm(x, "fc1", fixed=True), mode="instance", name="embedding")


def ssd(mx: Any, classes: int = 3) -> Any:
    """Predictions on three scales, anchors of each, and MultiBoxDetection."""
    sym = mx.sym
    x, scores, shifts, anchors = (sym.Variable("data") - 127.5) / 128, [], [], []
    for scale, (sizes, ratios) in enumerate(
        [((0.2, 0.27), (1, 2, 0.5)), ((0.37, 0.45), (1, 2)), ((0.6,), (1, 2, 3))]
    ):
        x = sym.Convolution(x, num_filter=8, kernel=(3, 3), pad=(1, 1), name=f"conv{scale}")
        x = sym.Activation(sym.BatchNorm(x, fix_gamma=False, name=f"bn{scale}"), act_type="relu")
        x = sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", pooling_convention="full")
        count = len(sizes) + len(ratios) - 1
        for found, filters, name in ((scores, count * (classes + 1), "cls"), (shifts, count * 4, "loc")):
            y = sym.Convolution(x, num_filter=filters, kernel=(3, 3), pad=(1, 1), name=f"{name}{scale}")
            found.append(sym.Flatten(sym.transpose(y, axes=(0, 2, 3, 1))))
        anchors.append(sym.contrib.MultiBoxPrior(x, sizes=sizes, ratios=ratios, clip=False, steps=(-1, -1)))
    score = sym.Reshape(sym.Concat(*scores, dim=1), shape=(0, -1, classes + 1))
    probability = sym.SoftmaxActivation(sym.transpose(score, axes=(0, 2, 1)), mode="channel")
    return sym.contrib.MultiBoxDetection(
        probability, sym.Concat(*shifts, dim=1), sym.Concat(*anchors, dim=1), name="detection",
        threshold=0.01, nms_threshold=0.45, force_suppress=False, variances=(0.1, 0.1, 0.2, 0.2), nms_topk=400,
    )  # fmt: skip


def yolo(mx: Any, classes: int = 3) -> Any:
    """GluonCV's YOLOv3 in two scales: the deeper one goes up to meet the other; box_nms over both."""
    sym = mx.sym
    kinds = 3

    def cell(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
        x = sym.Convolution(
            x, num_filter=filters, kernel=(kernel, kernel), stride=(stride, stride),
            pad=(kernel // 2, kernel // 2), no_bias=True, name=f"{name}_conv",
        )  # fmt: skip
        x = sym.BatchNorm(x, fix_gamma=False, eps=1e-5, name=f"{name}_bn")
        return sym.LeakyReLU(x, act_type="leaky", slope=0.1)

    def output(x: Any, stride: int, name: str) -> Any:
        """(batch, cells * kinds * classes, 6): class, score and box."""
        x = sym.Convolution(x, num_filter=kinds * (5 + classes), kernel=(1, 1), name=f"{name}_pred")
        x = sym.Reshape(x, shape=(0, kinds * (5 + classes), -1))
        x = sym.Reshape(sym.transpose(x, axes=(0, 2, 1)), shape=(0, -1, kinds, 5 + classes))
        centre = sym.sigmoid(sym.slice_axis(x, axis=-1, begin=0, end=2))
        offsets = sym.Variable(f"{name}_offsets", shape=(1, 1, kinds, 2), init="zeros")
        centre = sym.broadcast_mul(sym.broadcast_add(centre, offsets), sym.ones(shape=(1, 1, 1, 2)) * stride)
        size = sym.exp(sym.slice_axis(x, axis=-1, begin=2, end=4) * 0.3)
        size = sym.broadcast_mul(
            size, sym.Variable(f"{name}_anchors", shape=(1, 1, kinds, 2), init="zeros") + 9
        )
        sure = sym.sigmoid(sym.slice_axis(x, axis=-1, begin=4, end=5))
        score = sym.broadcast_mul(sym.sigmoid(sym.slice_axis(x, axis=-1, begin=5, end=None)), sure)
        box = sym.Reshape(sym.concat(centre - size / 2, centre + size / 2, dim=-1), shape=(0, -1, 4))
        boxes = sym.tile(sym.expand_dims(box, axis=0), reps=(classes, 1, 1, 1))
        scores = sym.expand_dims(
            sym.transpose(sym.Reshape(score, shape=(0, -1, classes)), axes=(2, 0, 1)), axis=-1
        )
        places = sym.Reshape(sym.arange(0, classes), shape=(classes, 1, 1, 1))
        ids = sym.broadcast_add(scores * 0, places)
        found = sym.concat(ids, scores, boxes, dim=-1)
        return sym.Reshape(sym.transpose(found, axes=(1, 0, 2, 3)), shape=(0, -1, 6))

    x = cell((sym.Variable("data") - 127.5) / 128, 8, 3, 1, "stem")
    route = cell(cell(x, 16, 3, 2, "down1"), 16, 3, 2, "down2")
    deep = cell(route, 16, 3, 2, "down3")
    deep = deep + cell(cell(deep, 8, 1, 1, "res1"), 16, 3, 1, "res2")
    first = output(cell(deep, 16, 3, 1, "tip1"), 8, "yolo1")
    up = sym.UpSampling(cell(deep, 8, 1, 1, "transition"), scale=2, sample_type="nearest")
    both = sym.concat(sym.slice_like(up, route * 0, axes=(2, 3)), route, dim=1)
    second = output(cell(both, 16, 3, 1, "tip2"), 4, "yolo2")
    result = sym.contrib.box_nms(
        sym.concat(first, second, dim=1), overlap_thresh=0.45, valid_thresh=0.01, topk=400, id_index=0,
        score_index=1, coord_start=2, force_suppress=False,
    )  # fmt: skip
    result = sym.slice_axis(result, axis=1, begin=0, end=100)
    names = {"ids": (0, 1), "scores": (1, 2), "boxes": (2, None)}
    return [sym.slice_axis(result, axis=-1, begin=b, end=e, name=name) for name, (b, e) in names.items()]


def bert(mx: Any, layers: int = 2, units: int = 24, heads: int = 3, interleaved: bool = True) -> Any:
    """GluonNLP's BERT: ids, kinds of sentences and how many tokens count; the sequence and the pooled first token.

    Attention by the interleaved products of later versions, or by batch_dot of earlier ones.
    """
    sym = mx.sym
    ids, types, length = (sym.Variable(name) for name in ("data", "other", "third"))

    def dense(x: Any, hidden: int, name: str) -> Any:
        return sym.FullyConnected(x, num_hidden=hidden, flatten=False, name=name)

    def embedding(x: Any, count: int, name: str) -> Any:
        return sym.Embedding(x, input_dim=count, output_dim=units, name=name)

    steps = sym.contrib.arange_like(ids, axis=1)
    places = sym.Variable("position_weight", shape=(32, units))
    x = embedding(ids, 50, "word_embed") + embedding(types, 2, "token_type_embed")
    x = sym.broadcast_add(x, sym.expand_dims(sym.take(places, steps), axis=0))
    x = sym.Dropout(sym.LayerNorm(x, eps=1e-12, name="ln"), p=0.1)
    inside = sym.broadcast_lesser(sym.Reshape(steps, shape=(1, -1)), sym.Reshape(length, shape=(-1, 1)))
    mask = sym.broadcast_mul(sym.expand_dims(inside, axis=1), sym.ones_like(sym.expand_dims(inside, axis=2)))

    def attention(x: Any, name: str) -> Any:
        """x: (batch, length, units)."""
        if interleaved:
            packed = dense(sym.transpose(x, axes=(1, 0, 2)), 3 * units, f"{name}_qkv")
            score = sym.contrib.interleaved_matmul_selfatt_qk(packed, heads=heads)
            weights = masked(score)
            mixed = sym.contrib.interleaved_matmul_selfatt_valatt(packed, weights, heads=heads)
            return sym.transpose(mixed, axes=(1, 0, 2))
        query, key, value = (split(dense(x, units, f"{name}_{kind}")) for kind in ("query", "key", "value"))
        score = sym.batch_dot(sym.contrib.div_sqrt_dim(query), key, transpose_b=True)
        mixed = sym.Reshape(sym.batch_dot(masked(score), value), shape=(-1, heads, 0, 0), reverse=True)
        return sym.Reshape(sym.transpose(mixed, axes=(0, 2, 1, 3)), shape=(0, 0, -1))

    def split(x: Any) -> Any:
        x = sym.transpose(sym.Reshape(x, shape=(0, 0, heads, -1)), axes=(0, 2, 1, 3))
        return sym.Reshape(x, shape=(-1, 0, 0), reverse=True)

    def masked(score: Any) -> Any:
        """score: (batch * heads, length, length)."""
        each = sym.Reshape(
            sym.broadcast_axis(sym.expand_dims(mask, axis=1), axis=1, size=heads), shape=(-3, 0, 0)
        )
        bounded = sym.where(each, score, -1e18 * sym.ones_like(each))
        return sym.broadcast_mul(sym.softmax(bounded, axis=-1), each)

    for layer in range(layers):
        name = f"layer{layer}"
        x = sym.LayerNorm(x + dense(attention(x, name), units, f"{name}_proj"), eps=1e-12, name=f"{name}_ln1")
        y = sym.LeakyReLU(dense(x, 4 * units, f"{name}_ffn1"), act_type="gelu")
        x = sym.LayerNorm(x + dense(y, units, f"{name}_ffn2"), eps=1e-12, name=f"{name}_ln2")
    ended = sym.SequenceMask(x, length, use_sequence_length=True, axis=1, name="sequence")
    first = sym.Reshape(sym.slice_axis(x, axis=1, begin=0, end=1), shape=(0, -1))
    return [ended, sym.Activation(dense(first, units, "pooler"), act_type="tanh", name="pooled")]


def normalised(mx: Any) -> Any:
    """A block as it is written under ``npx.set_np``: numpy's functions between gluon's layers."""

    class Normalised(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.first, self.last = mx.gluon.nn.Dense(6, flatten=False), mx.gluon.nn.Dense(3)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            y = F.npx.relu(self.first(x))
            y = (y - F.np.mean(y, axis=-1, keepdims=True)) / (F.np.std(y, axis=-1, keepdims=True) + 0.5)
            return F.npx.softmax(self.last(F.np.concatenate([y, x], axis=2))), F.np.max(y)

    return Normalised()


def unrolled(mx: Any, cell: Any, length: int) -> Any:
    """A recurrent cell written out step by step: (batch, length, inputs) to (batch, length, hidden)."""

    class Unrolled(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return self.cell.unroll(length, x, layout="NTC", merge_outputs=True)[0]

    return Unrolled()
