"""Words without recurrence: transformers, convolutions over sentences, pairs of sentences, tables of words."""

from __future__ import annotations

import math
from typing import Any

from mxnet_networks.registry import B, network, numbers, whole

WORDS, UNITS, HEADS = 40, 12, 3


def _split(sym: Any, x: Any) -> Any:
    """(batch, length, units) to (batch * heads, length, units of a head)."""
    x = sym.Reshape(x, shape=(0, 0, -4, HEADS, -1))
    return sym.Reshape(sym.transpose(x, axes=(0, 2, 1, 3)), shape=(-3, 0, 0))


def _attention(mx: Any, query: Any, memory: Any, name: str, bias: Any = None) -> Any:
    """As Sockeye writes it: heads folded into the batch, a bias that hides places, heads unfolded."""
    sym = mx.sym
    both = sym.FullyConnected(memory, num_hidden=2 * UNITS, no_bias=True, flatten=False, name=f"{name}kv2h")
    key, value = sym.split(both, num_outputs=2, axis=2)
    own = sym.FullyConnected(query, num_hidden=UNITS, no_bias=True, flatten=False, name=f"{name}q2h")
    own = own * (UNITS // HEADS) ** -0.5
    logits = sym.batch_dot(_split(sym, own), _split(sym, key), transpose_b=True)
    if bias is not None:
        logits = sym.broadcast_add(logits, bias)
    mixed = sym.batch_dot(sym.Dropout(sym.softmax(logits, axis=-1), p=0.1), _split(sym, value))
    mixed = sym.transpose(sym.Reshape(mixed, shape=(-4, -1, HEADS, 0, 0)), axes=(0, 2, 1, 3))
    return sym.FullyConnected(
        sym.Reshape(mixed, shape=(0, 0, -3)), num_hidden=UNITS, no_bias=True, flatten=False, name=f"{name}h2o"
    )


def _feedforward(sym: Any, x: Any, name: str) -> Any:
    y = sym.Activation(
        sym.FullyConnected(x, num_hidden=24, flatten=False, name=f"{name}i2h"), act_type="relu"
    )
    return sym.FullyConnected(y, num_hidden=UNITS, flatten=False, name=f"{name}h2o")


def _hidden_by_length(sym: Any, length: Any, most: int) -> Any:
    """0 where a word stands and -1e8 behind the end: (batch * heads, 1, places)."""
    zeros = sym.zeros_like(sym.broadcast_axis(sym.expand_dims(length, axis=1), axis=1, size=most))
    rows = sym.swapaxes(zeros, dim1=0, dim2=1)
    hidden = sym.SequenceMask(rows, length, use_sequence_length=True, value=-1e8)
    bias = sym.expand_dims(sym.swapaxes(hidden, dim1=0, dim2=1), axis=1)
    return sym.Reshape(
        sym.broadcast_axis(sym.expand_dims(bias, axis=1), axis=1, size=HEADS), shape=(-3, 0, 0)
    )


def _embedded(mx: Any, data: Any, most: int, name: str, weight: Any = None) -> Any:
    sym = mx.sym
    weight = sym.Variable(f"{name}_weight") if weight is None else weight
    x = sym.Embedding(data, weight=weight, input_dim=WORDS, output_dim=UNITS, name=name) * math.sqrt(UNITS)
    places = sym.Embedding(
        sym.arange(0, most, name=f"{name}_arange"), input_dim=most, output_dim=UNITS, name=f"{name}_position"
    )
    return sym.broadcast_add(x, sym.expand_dims(places, axis=0))


@network(
    "language models",
    "1.2",
    labels={"target_label": (B, 6)},
    source=whole(WORDS, B, 8),
    source_length=whole(8, B),
    target=whole(WORDS, B, 6),
)
def transformer_translator(mx: Any) -> Any:
    """Sockeye's: a source whose ends are hidden, a target that sees no future, and scores by the table of words."""
    sym = mx.sym
    length = sym.Variable("source_length") + 1
    x = _embedded(mx, sym.Variable("source"), 8, "source_embed")
    bias = _hidden_by_length(sym, length, 8)
    for layer in range(2):
        name = f"encoder_transformer_{layer}_"
        y = sym.LayerNorm(x, name=f"{name}att_pre_norm")
        x = x + _attention(mx, y, y, f"{name}att_self_", bias)
        x = x + _feedforward(sym, sym.LayerNorm(x, name=f"{name}ff_pre_norm"), f"{name}ff_")
    memory = sym.LayerNorm(x, name="encoder_norm")
    table = sym.Variable("target_weight")
    x = _embedded(mx, sym.Variable("target"), 6, "target_embed", table)
    steps = sym.arange(6)
    later = sym.broadcast_greater(sym.Reshape(steps, shape=(1, -1)), sym.Reshape(steps, shape=(-1, 1)))
    causal = sym.expand_dims(later * -1e8, axis=0)
    for layer in range(2):
        name = f"decoder_transformer_{layer}_"
        y = sym.LayerNorm(x, name=f"{name}att_pre_norm")
        x = x + _attention(mx, y, y, f"{name}att_self_", causal)
        y = sym.LayerNorm(x, name=f"{name}att_enc_pre_norm")
        x = x + _attention(mx, y, memory, f"{name}att_enc_", bias)
        x = x + _feedforward(sym, sym.LayerNorm(x, name=f"{name}ff_pre_norm"), f"{name}ff_")
    x = sym.Reshape(sym.LayerNorm(x, name="decoder_norm"), shape=(-3, -1))
    logits = sym.FullyConnected(x, weight=table, num_hidden=WORDS, name="logits")
    label = sym.Reshape(sym.Variable("target_label"), shape=(-1,))
    return sym.SoftmaxOutput(
        logits,
        label,
        ignore_label=0,
        use_ignore=True,
        normalization="valid",
        smooth_alpha=0.1,
        name="softmax",
    )


@network("language models", "export", data=whole(WORDS, B, 7))
def causal_transformer(mx: Any) -> Any:
    """A language model as a gluon block; its mask is made by comparing places."""
    nn = mx.gluon.nn

    class Cell(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            with self.name_scope():
                self.norm1, self.norm2 = nn.LayerNorm(epsilon=1e-5), nn.LayerNorm(epsilon=1e-5)
                self.qkv = nn.Dense(3 * UNITS, flatten=False, in_units=UNITS)
                self.proj = nn.Dense(UNITS, flatten=False, in_units=UNITS)
                self.up = nn.Dense(4 * UNITS, flatten=False, in_units=UNITS)
                self.down = nn.Dense(UNITS, flatten=False, in_units=4 * UNITS)

        def hybrid_forward(self, F: Any, x: Any, mask: Any) -> Any:
            packed = F.transpose(self.qkv(self.norm1(x)), axes=(1, 0, 2))
            packed = F.reshape(packed, shape=(0, 0, 3, HEADS, -1))
            packed = F.reshape(F.transpose(packed, axes=(0, 1, 3, 2, 4)), shape=(0, 0, -1))
            score = F.contrib.interleaved_matmul_selfatt_qk(packed, heads=HEADS)
            score = F.broadcast_add(score, F.expand_dims(mask, axis=0))
            mixed = F.contrib.interleaved_matmul_selfatt_valatt(
                packed, F.softmax(score, axis=-1), heads=HEADS
            )
            x = x + self.proj(F.transpose(mixed, axes=(1, 0, 2)))
            y = self.up(self.norm2(x))
            gelu = 0.5 * y * (1 + F.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * (y**3))))
            return x + self.down(gelu)

    class Model(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="gpt_")
            with self.name_scope():
                self.words, self.places = nn.Embedding(WORDS, UNITS), nn.Embedding(16, UNITS)
                self.first, self.second = Cell(prefix="h0_"), Cell(prefix="h1_")
                self.norm = nn.LayerNorm()
                self.head = nn.Dense(WORDS, flatten=False, use_bias=False, params=self.words.params)

        def hybrid_forward(self, F: Any, words: Any) -> Any:
            steps = F.contrib.arange_like(words, axis=1)
            x = F.broadcast_add(self.words(words), F.expand_dims(self.places(steps), axis=0))
            ahead = F.broadcast_lesser(F.expand_dims(steps, axis=1), F.expand_dims(steps, axis=0))
            for cell in (self.first, self.second):
                x = cell(x, ahead * -1e9)
            return self.head(self.norm(x))

    return Model()


@network("text", labels={"softmax_label": (B,)}, data=whole(WORDS, B, 20))
def text_convolution(mx: Any) -> Any:
    sym = mx.sym
    embed = sym.Embedding(sym.Variable("data"), input_dim=WORDS, output_dim=8, name="vocab_embed")
    image = sym.Reshape(data=embed, target_shape=(0, 1, 20, 8))
    pooled = []
    for width in (3, 4, 5):
        conv = sym.Convolution(image, kernel=(width, 8), num_filter=6, name=f"convolution{width}")
        relu = sym.Activation(conv, act_type="relu")
        pooled.append(sym.Pooling(relu, pool_type="max", kernel=(20 - width + 1, 1), stride=(1, 1)))
    joined = sym.Reshape(sym.Concat(*pooled, dim=1), target_shape=(0, 18))
    drop = sym.Dropout(joined, p=0.5)
    fc = sym.FullyConnected(drop, num_hidden=2, name="cls")
    return sym.SoftmaxOutput(fc, label=sym.Variable("softmax_label"), name="softmax")


@network("text", "0.8", data=whole(WORDS, B, 32))
def characters_by_convolution(mx: Any) -> Any:
    """Characters as rows of ones; convolutions as high as the alphabet."""
    sym = mx.sym
    x = sym.Reshape(sym.one_hot(sym.Variable("data"), depth=WORDS), shape=(0, 1, 32, WORDS))
    x = sym.transpose(x, axes=(0, 1, 3, 2))
    x = sym.Convolution(x, kernel=(WORDS, 7), num_filter=8, name="conv0")
    x = sym.Pooling(sym.Activation(x, act_type="relu"), kernel=(1, 3), stride=(1, 3), pool_type="max")
    x = sym.Convolution(x, kernel=(1, 3), num_filter=8, name="conv1")
    x = sym.Pooling(sym.Activation(x, act_type="relu"), kernel=(1, 3), stride=(1, 3), pool_type="max")
    x = sym.Dropout(
        sym.Activation(sym.FullyConnected(sym.Flatten(x), num_hidden=12, name="fc0"), act_type="relu")
    )
    return sym.SoftmaxOutput(sym.FullyConnected(x, num_hidden=3, name="fc1"), name="softmax")


@network("text", "plain", left=whole(WORDS, B, 6), right=whole(WORDS, B, 5))
def pair_of_sentences(mx: Any) -> Any:
    """Decomposable attention: each word of one sentence looks at all of the other."""
    sym = mx.sym
    table, weight = sym.Variable("embed_weight"), sym.Variable("f_weight")
    a, b = (
        sym.Embedding(sym.Variable(name), weight=table, input_dim=WORDS, output_dim=8)
        for name in ("left", "right")
    )
    f = [
        sym.Activation(
            sym.FullyConnected(x, weight=weight, no_bias=True, flatten=False, num_hidden=8), act_type="relu"
        )
        for x in (a, b)
    ]
    e = sym.batch_dot(f[0], f[1], transpose_b=True)
    beta = sym.batch_dot(sym.softmax(e, axis=2), b)
    alpha = sym.batch_dot(sym.softmax(e, axis=1), a, transpose_a=True)

    def compared(x: Any, y: Any, name: str) -> Any:
        z = sym.FullyConnected(sym.concat(x, y, dim=2), num_hidden=9, flatten=False, name=name)
        return sym.sum_axis(sym.relu(z), axis=1)

    both = sym.concat(compared(a, beta, "g1"), compared(b, alpha, "g2"), dim=1)
    return sym.softmax(sym.FullyConnected(both, num_hidden=3, name="h"), name="label_scores")


@network(
    "text",
    data=whole(WORDS, B, 4),
    label=whole(WORDS, B, 5),
    labels={"label_weight": (B, 5)},
)
def noise_contrastive_words(mx: Any) -> Any:
    """Words of a context against a few others, whose numbers come as ``label``: an input that the scores need."""
    sym = mx.sym
    table = sym.Variable("embed_weight")
    context = sym.Embedding(
        sym.Variable("data"), weight=table, input_dim=WORDS, output_dim=6, name="data_embed"
    )
    hidden = sym.FullyConnected(sym.sum(context, axis=1), num_hidden=6, name="proj")
    others = sym.Embedding(sym.Variable("label"), input_dim=WORDS, output_dim=6, name="label_embed")
    pred = sym.sum(sym.broadcast_mul(sym.Reshape(hidden, shape=(-1, 1, 6)), others), axis=2)
    return sym.LogisticRegressionOutput(data=pred, label=sym.Variable("label_weight"))


@network("text", "0.9", data=whole(WORDS, B, 5))
def continuous_bag_of_words(mx: Any) -> Any:
    sym = mx.sym
    words = sym.SliceChannel(sym.Variable("data"), num_outputs=5, squeeze_axis=1)
    table = sym.Variable("embed_weight")
    embedded = [sym.Embedding(words[i], weight=table, input_dim=WORDS, output_dim=6) for i in range(5)]
    mean = sym.ElementWiseSum(*embedded) / 5
    return sym.SoftmaxOutput(sym.FullyConnected(mean, num_hidden=WORDS, name="pred"), name="softmax")


@network("text", "export", data=whole(WORDS, B, 9))
def convolutions_with_gates(mx: Any) -> Any:
    """A convolutional translator's encoder: one-dimensional convolutions, gated linear units, weights of root two."""
    nn = mx.gluon.nn

    class Encoder(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.embed = nn.Embedding(WORDS, 8)
                self.place = self.params.get("place", shape=(1, 9, 8))
                self.convs = nn.HybridSequential()
                for width in (3, 3, 5):
                    self.convs.add(nn.Conv1D(16, width, padding=width // 2))
                self.out = nn.Dense(6, flatten=False)

        def hybrid_forward(self, F: Any, words: Any, place: Any) -> Any:
            x = F.transpose(F.broadcast_add(self.embed(words), place), axes=(0, 2, 1))
            for conv in self.convs:
                value, gate = F.split(conv(x), num_outputs=2, axis=1)
                x = (value * F.sigmoid(gate) + x) * math.sqrt(0.5)
            return self.out(F.transpose(x, axes=(0, 2, 1)))

    return Encoder()


@network("text", "export", data=whole(WORDS, B, 3, 5))
def hierarchical_attention(mx: Any) -> Any:
    """Words make sentences and sentences a document, each by a weighted mean."""
    nn = mx.gluon.nn

    class Pooled(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            with self.name_scope():
                self.hidden = nn.Dense(6, activation="tanh", flatten=False)
                self.score = nn.Dense(1, use_bias=False, flatten=False)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            weights = F.softmax(self.score(self.hidden(x)), axis=1)
            return F.squeeze(F.batch_dot(weights, x, transpose_a=True), axis=1)

    class Document(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.embed = nn.Embedding(WORDS, 7)
                self.words, self.sentences = Pooled(), Pooled()
                self.out = nn.Dense(4)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            words = F.reshape(self.embed(x), shape=(-3, 0, 0))
            sentences = F.reshape(self.words(words), shape=(-4, -1, 3, 0))
            return self.out(self.sentences(sentences))

    return Document()


@network("text", "numpy", data=numbers(B, 6, 8))
def attention_of_numpy(mx: Any) -> Any:
    """A transformer's layer with the numpy interface."""
    nn = mx.gluon.nn

    class Layer(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.query, self.key, self.value = (nn.Dense(8, flatten=False, in_units=8) for _ in range(3))
                self.norm, self.out = nn.LayerNorm(in_channels=8), nn.Dense(8, flatten=False, in_units=8)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            def heads(y: Any) -> Any:
                return F.np.transpose(F.np.reshape(y, (-2, -2, 2, -1)), (0, 2, 1, 3))

            q, k, v = (F.npx.reshape(f(x), (-2, -2, 2, -1)) for f in (self.query, self.key, self.value))
            q, k, v = (F.np.transpose(y, (0, 2, 1, 3)) for y in (q, k, v))
            weights = F.npx.softmax(F.np.matmul(q, F.np.swapaxes(k, 2, 3)) / 2.0, axis=-1)
            mixed = F.np.transpose(F.np.matmul(weights, v), (0, 2, 1, 3))
            return self.norm(x + self.out(F.npx.reshape(mixed, (-2, -2, -5))))

    return Layer()


@network("text", "1.2", data=whole(WORDS, B, 6), types=whole(2, B, 6), length=whole(6, B))
def bert_classifier(mx: Any) -> Any:
    """A pre-trained encoder with a head of two classes, attention by interleaved products, in ``float32`` masks."""
    sym = mx.sym
    words, types, length = sym.Variable("data"), sym.Variable("types"), sym.Variable("length") + 1
    x = sym.Embedding(words, input_dim=WORDS, output_dim=UNITS, name="word") + sym.Embedding(
        types, input_dim=2, output_dim=UNITS, name="type"
    )
    steps = sym.contrib.arange_like(words, axis=1)
    table = sym.Variable("position_weight", shape=(16, UNITS))
    x = sym.broadcast_add(
        x, sym.expand_dims(sym.Embedding(steps, weight=table, input_dim=16, output_dim=UNITS), axis=0)
    )
    x = sym.LayerNorm(x, eps=1e-12, name="embed_norm")
    mask = sym.broadcast_lesser(sym.Reshape(steps, shape=(1, -1)), sym.Reshape(length, shape=(-1, 1)))
    mask = sym.broadcast_mul(sym.expand_dims(mask, axis=1), sym.ones_like(sym.expand_dims(mask, axis=2)))
    each = sym.Reshape(
        sym.broadcast_axis(sym.expand_dims(mask, axis=1), axis=1, size=HEADS), shape=(-3, 0, 0)
    )
    packed = sym.FullyConnected(
        sym.transpose(x, axes=(1, 0, 2)), num_hidden=3 * UNITS, flatten=False, name="qkv"
    )
    score = sym.contrib.interleaved_matmul_selfatt_qk(packed, heads=HEADS)
    score = sym.where(each, score, -1e4 * sym.ones_like(each))
    mixed = sym.contrib.interleaved_matmul_selfatt_valatt(packed, sym.softmax(score, axis=-1), heads=HEADS)
    y = sym.FullyConnected(sym.transpose(mixed, axes=(1, 0, 2)), num_hidden=UNITS, flatten=False, name="proj")
    x = sym.LayerNorm(x + y, eps=1e-12, name="norm")
    first = sym.Reshape(sym.slice_axis(x, axis=1, begin=0, end=1), shape=(0, -1))
    pooled = sym.tanh(sym.FullyConnected(first, num_hidden=UNITS, name="pooler"))
    return sym.SoftmaxOutput(sym.FullyConnected(pooled, num_hidden=2, name="classifier"), name="softmax")
