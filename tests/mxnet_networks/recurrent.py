"""Language models and taggers of recurrent cells: unrolled by hand, by ``mx.rnn``, fused, and as gluon's layers."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, network, numbers, whole

WORDS = 40


def _decoded(mx: Any, outputs: Any, hidden: int, label: Any = None) -> Any:
    """Scores of the next word at each place, with the label in a row as the scores are."""
    sym = mx.sym
    scores = sym.FullyConnected(sym.Reshape(outputs, shape=(-1, hidden)), num_hidden=WORDS, name="pred")
    if label is None:
        return sym.softmax(scores, name="softmax")
    return sym.SoftmaxOutput(data=scores, label=sym.Reshape(label, shape=(-1,)), name="softmax")


@network("language models", labels={"softmax_label": (B, 9)}, data=whole(WORDS, B, 9))
def lstm_bucketing(mx: Any) -> Any:
    stack = mx.rnn.SequentialRNNCell()
    for layer in range(2):
        stack.add(mx.rnn.LSTMCell(num_hidden=12, prefix=f"lstm_l{layer}_"))
    embed = mx.sym.Embedding(mx.sym.Variable("data"), input_dim=WORDS, output_dim=10, name="embed")
    outputs, _ = stack.unroll(9, inputs=embed, merge_outputs=True)
    return _decoded(mx, outputs, 12, mx.sym.Variable("softmax_label"))


@network("language models", "1.2", data=whole(WORDS, B, 7))
def gru_bucketing(mx: Any) -> Any:
    stack = mx.rnn.SequentialRNNCell()
    stack.add(mx.rnn.GRUCell(num_hidden=12, prefix="gru_"))
    stack.add(mx.rnn.DropoutCell(0.3, prefix="dropout_"))
    stack.add(mx.rnn.ResidualCell(mx.rnn.RNNCell(num_hidden=12, activation="relu", prefix="rnn_")))
    embed = mx.sym.Embedding(mx.sym.Variable("data"), input_dim=WORDS, output_dim=10, name="embed")
    outputs, _ = stack.unroll(7, inputs=embed, merge_outputs=True)
    return _decoded(mx, outputs, 12)


@network("language models", labels={"softmax_label": (B, 6)}, data=whole(WORDS, B, 6))
def cudnn_lstm_bucketing(mx: Any) -> Any:
    cell = mx.rnn.FusedRNNCell(12, num_layers=2, mode="lstm", dropout=0.2, prefix="lstm_")
    embed = mx.sym.Embedding(mx.sym.Variable("data"), input_dim=WORDS, output_dim=10, name="embed")
    outputs, _ = cell.unroll(6, inputs=embed, merge_outputs=True, layout="NTC")
    return _decoded(mx, outputs, 12, mx.sym.Variable("softmax_label"))


@network("language models", "plain", data=whole(WORDS, 6, B))
def cudnn_bidirectional_gru(mx: Any) -> Any:
    cell = mx.rnn.FusedRNNCell(8, num_layers=2, mode="gru", bidirectional=True, prefix="gru_")
    embed = mx.sym.Embedding(mx.sym.Variable("data"), input_dim=WORDS, output_dim=10, name="embed")
    outputs, _ = cell.unroll(6, inputs=embed, merge_outputs=True, layout="TNC")
    return _decoded(mx, outputs, 16)


@network(
    "language models",
    "0.8",
    labels={"label": (B, 5)},
    data=whole(WORDS, B, 5),
    l0_init_c=numbers(B, 6),
    l0_init_h=numbers(B, 6),
)
def lstm_by_hand(mx: Any) -> Any:
    """As the first example of MXNet wrote it: gates of one product cut in four, words cut apart, labels turned round."""
    sym = mx.sym
    names = ("i2h_weight", "i2h_bias", "h2h_weight", "h2h_bias")
    shared = {name: sym.Variable(f"l0_{name}") for name in names}
    words = sym.SliceChannel(
        data=sym.Embedding(
            data=sym.Variable("data"),
            weight=sym.Variable("embed_weight"),
            input_dim=WORDS,
            output_dim=6,
            name="embed",
        ),
        num_outputs=5,
        squeeze_axis=1,
    )
    c, h = sym.Variable("l0_init_c"), sym.Variable("l0_init_h")
    states = []
    for step in range(5):
        i2h = sym.FullyConnected(
            words[step],
            weight=shared["i2h_weight"],
            bias=shared["i2h_bias"],
            num_hidden=24,
            name=f"t{step}_l0_i2h",
        )
        h2h = sym.FullyConnected(
            h, weight=shared["h2h_weight"], bias=shared["h2h_bias"], num_hidden=24, name=f"t{step}_l0_h2h"
        )
        gates = sym.SliceChannel(i2h + h2h, num_outputs=4, name=f"t{step}_l0_slice")
        enter, change = (
            sym.Activation(gates[0], act_type="sigmoid"),
            sym.Activation(gates[1], act_type="tanh"),
        )
        forget, leave = (
            sym.Activation(gates[2], act_type="sigmoid"),
            sym.Activation(gates[3], act_type="sigmoid"),
        )
        c = (forget * c) + (enter * change)
        h = leave * sym.Activation(c, act_type="tanh")
        states.append(h)
    pred = sym.FullyConnected(data=sym.Concat(*states, dim=0), num_hidden=WORDS, name="pred")
    label = sym.Reshape(data=sym.transpose(data=sym.Variable("label")), shape=(-1,))
    return sym.SoftmaxOutput(data=pred, label=label, name="softmax")


@network("language models", "0.9", data=whole(WORDS, B, 6))
def bidirectional_sort(mx: Any) -> Any:
    cell = mx.rnn.BidirectionalCell(
        mx.rnn.LSTMCell(num_hidden=8, prefix="forward_"), mx.rnn.LSTMCell(num_hidden=8, prefix="backward_")
    )
    embed = mx.sym.Embedding(mx.sym.Variable("data"), input_dim=WORDS, output_dim=6, name="embed")
    outputs, _ = cell.unroll(6, inputs=embed, merge_outputs=False)
    joined = mx.sym.Concat(*[mx.sym.expand_dims(each, axis=1) for each in outputs], dim=1)
    return _decoded(mx, joined, 16)


def _model(mx: Any, layer: str, tied: bool, steps: bool = False) -> Any:
    nn, rnn = mx.gluon.nn, mx.gluon.rnn

    class Model(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            with self.name_scope():
                self.drop = nn.Dropout(0.2)
                self.encoder = nn.Embedding(WORDS, 12)
                self.rnn = getattr(rnn, layer)(12, 2, dropout=0.2, input_size=12)
                shared = {"params": self.encoder.params} if tied else {}
                self.decoder = nn.Dense(WORDS, in_units=12, flatten=False, **shared)

        def hybrid_forward(self, F: Any, words: Any, *states: Any) -> Any:
            embedded = self.drop(self.encoder(words))
            if not states:
                return self.decoder(self.drop(self.rnn(embedded)))
            output, last = self.rnn(embedded, list(states))
            return [self.decoder(self.drop(output)), *last]

    return Model(prefix="awd_" if tied else "standard_")


@network("language models", "export", data=whole(WORDS, 7, B))
def word_language_model(mx: Any) -> Any:
    return _model(mx, "LSTM", tied=True)


@network(
    "language models", "export", data0=whole(WORDS, 4, B), data1=numbers(2, B, 12), data2=numbers(2, B, 12)
)
def word_language_model_with_states(mx: Any) -> Any:
    return _model(mx, "LSTM", tied=False)


@network("language models", "export", data0=whole(WORDS, 4, B), data1=numbers(2, B, 12))
def gru_language_model_with_states(mx: Any) -> Any:
    return _model(mx, "GRU", tied=False)


@network("language models", labels={"softmax_label": (B,)}, data=numbers(B, 8, 5))
def character_model_of_legacy_unrolling(mx: Any) -> Any:
    """A cell that is stepped by its owner, one step's input cut out of all."""
    sym = mx.sym
    cell = mx.rnn.LSTMCell(num_hidden=7, prefix="cell_")
    states, data = cell.begin_state(), sym.Variable("data")
    for step in range(8):
        now = sym.Reshape(sym.slice_axis(data, axis=1, begin=step, end=step + 1), shape=(0, -1))
        output, states = cell(now, states)
    return sym.SoftmaxOutput(sym.FullyConnected(output, num_hidden=6, name="fc"), name="softmax")


@network("language models", "export", data=numbers(B, 6, 5))
def zoneout_and_residual_cells(mx: Any) -> Any:
    """Cells of gluon in a stack, unrolled by a block of one's own, both ways round."""
    rnn = mx.gluon.rnn

    class Tagger(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.stack = rnn.HybridSequentialRNNCell()
                with self.stack.name_scope():
                    self.stack.add(rnn.BidirectionalCell(rnn.LSTMCell(6), rnn.GRUCell(6)))
                    self.stack.add(rnn.ResidualCell(rnn.LSTMCell(12)))
                    self.stack.add(rnn.ZoneoutCell(rnn.RNNCell(8), 0.3, 0.2))
                self.out = mx.gluon.nn.Dense(5, flatten=False)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            outputs, _ = self.stack.unroll(6, x, layout="NTC", merge_outputs=True)
            return F.log_softmax(self.out(outputs), axis=-1)

    return Tagger()


@network("language models", "plain", data=whole(WORDS, B, 7), length=whole(7, B))
def lengths_of_sentences(mx: Any) -> Any:
    """Only what stands within a sentence counts: its last state, its greatest and its mean."""
    sym = mx.sym
    length = sym.Variable("length") + 1
    embed = sym.Embedding(sym.Variable("data"), input_dim=WORDS, output_dim=6, name="embed")
    cell = mx.rnn.FusedRNNCell(8, num_layers=1, mode="lstm", prefix="lstm_")
    outputs, _ = cell.unroll(7, inputs=embed, merge_outputs=True, layout="NTC")
    timed = sym.swapaxes(outputs, dim1=0, dim2=1)
    last = sym.SequenceLast(timed, sequence_length=length, use_sequence_length=True)
    most = sym.max(sym.SequenceMask(timed, length, use_sequence_length=True, value=-100), axis=0)
    total = sym.sum(sym.SequenceMask(timed, length, use_sequence_length=True), axis=0)
    mean = sym.broadcast_div(total, sym.expand_dims(length, axis=1))
    turned = sym.SequenceReverse(timed, length, use_sequence_length=True)
    scores = sym.FullyConnected(sym.concat(last, most, mean, dim=1), num_hidden=4, name="fc")
    return [sym.softmax(scores, name="class"), sym.mean(turned, axis=0, name="mean")]


@network("language models", "1.2", data=whole(WORDS, B, 6), labels={"label": (B, 6)})
def named_entities(mx: Any) -> Any:
    """Scores of tags at each place, and a loss that leaves out what pads."""
    sym = mx.sym
    embed = sym.Embedding(sym.Variable("data"), input_dim=WORDS, output_dim=6, name="embed")
    cell = mx.rnn.SequentialRNNCell()
    cell.add(
        mx.rnn.BidirectionalCell(
            mx.rnn.GRUCell(6, prefix="l_"), mx.rnn.GRUCell(6, prefix="r_"), output_prefix="bi_"
        )
    )
    outputs, _ = cell.unroll(6, embed, merge_outputs=True, layout="NTC")
    scores = sym.FullyConnected(outputs, num_hidden=5, flatten=False, name="fc")
    return sym.SoftmaxOutput(
        sym.transpose(scores, axes=(0, 2, 1)), sym.Variable("label"), multi_output=True, use_ignore=True,
        ignore_label=0, normalization="valid", name="softmax",
    )  # fmt: skip


@network("language models", "export", data0=numbers(6, B, 4), data1=numbers(B, 5))
def loop_of_a_cell(mx: Any) -> Any:
    """``foreach`` over time, as code that wants no unrolling wrote it."""

    class Loop(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.cell = mx.gluon.rnn.GRUCell(5, input_size=4)

        def hybrid_forward(self, F: Any, data: Any, state: Any) -> Any:
            outputs, last = F.contrib.foreach(self.cell, data, [state])
            return outputs, last[0]

    return Loop()


@network("language models", data=whole(WORDS, B, 5), l0_h=numbers(B, 6), labels={"softmax_label": (B, 5)})
def recurrent_attention_decoder(mx: Any) -> Any:
    """The decoder of a translator: at each step it looks at every place of the source by a small network."""
    sym = mx.sym
    source = sym.Embedding(sym.Variable("data"), input_dim=WORDS, output_dim=6, name="source")
    encoder = mx.rnn.BidirectionalCell(mx.rnn.GRUCell(4, prefix="ef_"), mx.rnn.GRUCell(4, prefix="eb_"))
    memory, _ = encoder.unroll(5, source, merge_outputs=True)
    keys = sym.FullyConnected(memory, num_hidden=7, flatten=False, no_bias=True, name="keys")
    query_weight, score_weight = sym.Variable("query_weight"), sym.Variable("score_weight")
    cell = mx.rnn.GRUCell(6, prefix="dec_")
    h, scores = sym.Variable("l0_h"), []
    for _ in range(3):
        query = sym.FullyConnected(h, weight=query_weight, num_hidden=7, no_bias=True)
        energy = sym.Activation(sym.broadcast_add(keys, sym.expand_dims(query, axis=1)), act_type="tanh")
        weights = sym.FullyConnected(
            sym.Reshape(energy, shape=(-3, 0)), weight=score_weight, num_hidden=1, no_bias=True
        )
        weights = sym.softmax(sym.Reshape(weights, shape=(-1, 5)), axis=1)
        context = sym.sum(sym.broadcast_mul(memory, sym.expand_dims(weights, axis=2)), axis=1)
        output, (h,) = cell(context, [h])
        scores.append(sym.concat(output, context, dim=1))
    return _decoded(mx, sym.stack(*scores, axis=1), 14)
