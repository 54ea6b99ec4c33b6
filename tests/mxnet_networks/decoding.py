"""Reading and writing step by step: states given and returned, memories, beams, paths, cells of gluon's contrib."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, network, numbers, whole

WORDS = 40


def _cell(sym: Any, x: Any, h: Any, c: Any, shared: dict[str, Any], width: int) -> tuple[Any, Any]:
    """A step of an LSTM as examples of MXNet 0.7 wrote it."""
    i2h = sym.FullyConnected(x, weight=shared["i2h_weight"], bias=shared["i2h_bias"], num_hidden=4 * width)
    h2h = sym.FullyConnected(h, weight=shared["h2h_weight"], bias=shared["h2h_bias"], num_hidden=4 * width)
    gates = sym.SliceChannel(i2h + h2h, num_outputs=4)
    enter, forget, leave = (sym.Activation(gates[i], act_type="sigmoid") for i in (0, 2, 3))
    c = forget * c + enter * sym.Activation(gates[1], act_type="tanh")
    return leave * sym.Activation(c, act_type="tanh"), c


@network(
    "language models", "0.8", data=whole(WORDS, B), l0_init_c=numbers(B, 6), l0_init_h=numbers(B, 6),
    l1_init_c=numbers(B, 6), l1_init_h=numbers(B, 6),
)  # fmt: skip
def one_step_with_its_states(mx: Any) -> Any:
    """The inference symbol of the character model: scores, then every state in a Group."""
    sym = mx.sym
    x, states = sym.Embedding(sym.Variable("data"), input_dim=WORDS, output_dim=6, name="embed"), []
    for layer in range(2):
        shared = {
            n: sym.Variable(f"l{layer}_{n}") for n in ("i2h_weight", "i2h_bias", "h2h_weight", "h2h_bias")
        }
        h, c = sym.Variable(f"l{layer}_init_h"), sym.Variable(f"l{layer}_init_c")
        x, c = _cell(sym, sym.Dropout(x, p=0.5) if layer else x, h, c, shared, 6)
        states += [sym.BlockGrad(c, name=f"l{layer}_last_c"), sym.BlockGrad(x, name=f"l{layer}_last_h")]
    scores = sym.FullyConnected(x, num_hidden=WORDS, name="pred")
    return [sym.SoftmaxOutput(scores, name="softmax"), *states]


@network("text", "plain", context=whole(WORDS, B, 7), question=whole(WORDS, B, 4))
def attention_both_ways(mx: Any) -> Any:
    """BiDAF: similarities of words of a text and a question, and softmaxes along both."""
    sym = mx.sym
    table = sym.Variable("table_weight")
    text, asked = (
        sym.Embedding(sym.Variable(n), weight=table, input_dim=WORDS, output_dim=6)
        for n in ("context", "question")
    )
    for index in range(2):  # a highway, the same for both
        names = [sym.Variable(f"highway{index}_{n}") for n in ("t_weight", "t_bias", "h_weight", "h_bias")]

        def highway(x: Any, names: list[Any] = names) -> Any:
            gate = sym.sigmoid(sym.FullyConnected(x, names[0], names[1], num_hidden=6, flatten=False))
            return (
                gate * sym.relu(sym.FullyConnected(x, names[2], names[3], num_hidden=6, flatten=False))
                + (1 - gate) * x
            )

        text, asked = highway(text), highway(asked)
    a = sym.broadcast_axis(sym.expand_dims(text, axis=2), axis=2, size=4)
    b = sym.broadcast_axis(sym.expand_dims(asked, axis=1), axis=1, size=7)
    similar = sym.FullyConnected(
        sym.concat(a, b, a * b, dim=3), num_hidden=1, flatten=False, no_bias=True, name="similar"
    )
    similar = sym.squeeze(similar, axis=3)
    to_question = sym.batch_dot(sym.softmax(similar, axis=-1), asked)
    weights = sym.softmax(sym.max(similar, axis=-1))
    to_text = sym.broadcast_axis(sym.batch_dot(sym.expand_dims(weights, axis=1), text), axis=1, size=7)
    merged = sym.concat(text, to_question, text * to_question, text * to_text, dim=2)
    both = sym.FullyConnected(merged, num_hidden=2, flatten=False, name="span")
    start, end = sym.split(both, axis=2, num_outputs=2, squeeze_axis=True)
    return [sym.log_softmax(start, name="start"), sym.log_softmax(end, name="end")]


@network("text", "0.9", data=whole(WORDS, B, 24), labels={"softmax_label": (B,)})
def greatest_few_over_time(mx: Any) -> Any:
    """A very deep network of characters: temporal blocks, then the 3 greatest of each feature."""
    sym = mx.sym
    x = sym.Embedding(sym.Variable("data"), input_dim=WORDS, output_dim=6, name="embed")
    x = sym.Reshape(sym.transpose(x, axes=(0, 2, 1)), shape=(0, 0, 1, -1))
    for index, filters in enumerate((6, 8)):
        short = sym.Convolution(x, kernel=(1, 1), num_filter=filters, name=f"short{index}")
        for part in range(2):
            x = sym.Convolution(x, kernel=(1, 3), pad=(0, 1), num_filter=filters, name=f"b{index}c{part}")
            x = sym.Activation(sym.BatchNorm(x, name=f"b{index}n{part}"), act_type="relu")
        x = sym.Pooling(x + short, kernel=(1, 3), stride=(1, 2), pad=(0, 1), pool_type="max")
    best = sym.topk(sym.Reshape(x, shape=(0, 0, -1)), k=3, ret_typ="value", axis=2)
    return sym.SoftmaxOutput(sym.FullyConnected(sym.Flatten(best), num_hidden=4, name="fc"), name="softmax")


@network("language models", "plain", data=numbers(B, 6, 5))
def best_path_of_tags(mx: Any) -> Any:
    """A CRF read by Viterbi, unrolled: the best score and the last tag of it, and the sum over all paths."""
    sym = mx.sym
    scores = sym.FullyConnected(sym.Variable("data") * 4, num_hidden=4, flatten=False, name="emit")
    steps = sym.SliceChannel(scores, num_outputs=6, axis=1, squeeze_axis=True)
    moves = sym.expand_dims(sym.Variable("moves", shape=(4, 4)), axis=0)
    best = every = steps[0]
    for step in range(1, 6):
        reach = sym.broadcast_add(sym.expand_dims(best, axis=1), moves)
        best = sym.max(reach, axis=2) + steps[step]
        total = sym.broadcast_add(sym.expand_dims(every, axis=1), moves)
        top = sym.max(total, axis=2, keepdims=True)
        every = (
            sym.log(sym.sum(sym.exp(sym.broadcast_sub(total, top)), axis=2))
            + sym.squeeze(top, axis=2)
            + steps[step]
        )
    return [
        sym.max(best, axis=1, name="score"),
        sym.argmax(best, axis=1) + 1,
        sym.log(sym.sum(sym.exp(every), axis=1), name="all"),
    ]


@network("language models", "plain", data=numbers(B, 5), memory=numbers(B, 8, 4), weights=numbers(B, 8))
def memory_that_is_addressed(mx: Any) -> Any:
    """A head of a neural Turing machine: by content, between, shifted round, sharpened; then the memory is written."""
    sym = mx.sym
    memory = sym.Variable("memory")
    x = sym.tanh(sym.FullyConnected(sym.Variable("data"), num_hidden=8, name="controller"))

    def head(name: str, size: int) -> Any:
        return sym.FullyConnected(x, num_hidden=size, name=name)

    key, strength = sym.tanh(head("key", 4)), sym.Activation(head("beta", 1), act_type="softrelu")
    last = sym.softmax(sym.Variable("weights"))
    norm = sym.sqrt(sym.sum(sym.square(memory), axis=2)) * 1
    own = sym.sqrt(sym.sum(sym.square(key), axis=1, keepdims=True))
    near = sym.Reshape(sym.batch_dot(memory, sym.expand_dims(key, axis=2)), shape=(0, -1))
    near = sym.broadcast_div(near, sym.broadcast_mul(norm, own) + 1e-3)
    content = sym.softmax(sym.broadcast_mul(near, strength))
    gate = sym.sigmoid(head("gate", 1))
    between = sym.broadcast_mul(gate, content) + sym.broadcast_mul(1 - gate, last)
    shift = sym.softmax(head("shift", 3))
    rolled = [
        sym.Concat(
            sym.slice_axis(between, axis=1, begin=k, end=None),
            sym.slice_axis(between, axis=1, begin=0, end=k),
            dim=1,
        )
        if k
        else between
        for k in (7, 0, 1)
    ]
    mixed = sum(
        sym.broadcast_mul(sym.slice_axis(shift, axis=1, begin=i, end=i + 1), r) for i, r in enumerate(rolled)
    )
    sharp = sym.broadcast_power(mixed, 1 + sym.Activation(head("sharp", 1), act_type="softrelu"))
    weight = sym.broadcast_div(sharp, sym.sum(sharp, axis=1, keepdims=True))
    erase, add = (
        sym.expand_dims(sym.sigmoid(head("erase", 4)), axis=1),
        sym.expand_dims(sym.tanh(head("add", 4)), axis=1),
    )
    column = sym.expand_dims(weight, axis=2)
    written = memory * (1 - sym.batch_dot(column, erase)) + sym.batch_dot(column, add)
    read = sym.Reshape(sym.batch_dot(sym.expand_dims(weight, axis=1), memory), shape=(-1, 4))
    return [sym.FullyConnected(sym.Concat(x, read, dim=1), num_hidden=3, name="out"), written, weight]


@network("language models", "1.2", data=numbers(B, 12), beams=whole(10, B, 3), history=numbers(B, 3, 4))
def step_of_a_beam(mx: Any) -> Any:
    """One step of a search: the best three of all continuations, where they come from, and their histories."""
    sym = mx.sym
    scores = sym.FullyConnected(sym.Variable("data"), num_hidden=30, name="fc")
    scores = sym.log_softmax(sym.Reshape(scores, shape=(-1, 3, 10)), axis=-1)
    kept = sym.broadcast_add(scores, sym.expand_dims(-0.1 * sym.Variable("beams"), axis=2))
    values, places = sym.topk(
        sym.Reshape(kept, shape=(0, -1)), k=3, ret_typ="both", is_ascend=False, dtype="int32"
    )
    source = sym.floor(sym.Cast(places, dtype="float32") / 10)
    word = sym.Cast(places, dtype="float32") - source * 10
    rows = sym.broadcast_like(sym.expand_dims(sym.contrib.arange_like(source, axis=0), axis=1), source)
    history = sym.gather_nd(sym.Variable("history"), sym.stack(rows, source, axis=0))
    second = sym.Cast(sym.Reshape(sym.ones_like(source), shape=(-1,)), dtype="int32")
    chosen = sym.batch_take(sym.Reshape(kept, shape=(-3, 0)), second)
    return [values, word, history, chosen]


@network("language models", "1.2", data=whole(WORDS, B, 6), labels={"softmax_label": (B, 6)})
def shapes_that_are_kept(mx: Any) -> Any:
    """Scores of (batch, time, words) go into a softmax that keeps their shape."""
    sym = mx.sym
    table = sym.Variable("embed_weight")
    embed = sym.Embedding(sym.Variable("data"), weight=table, input_dim=WORDS, output_dim=6)
    cell = mx.rnn.SequentialRNNCell()
    cell.add(mx.rnn.LSTMCell(6, prefix="a_"))
    cell.add(mx.rnn.ResidualCell(mx.rnn.GRUCell(6, prefix="b_")))
    outputs, _ = cell.unroll(6, embed, merge_outputs=True)
    scores = sym.FullyConnected(
        sym.Reshape(outputs, shape=(-1, 6)), weight=table, no_bias=True, num_hidden=WORDS
    )
    scores = sym.Reshape(scores, shape=(-1, 6, WORDS))
    label = sym.slice_axis(
        sym.Cast(sym.Variable("softmax_label"), dtype="float32") - 1, axis=1, begin=0, end=6
    )
    return sym.SoftmaxOutput(
        scores, label, preserve_shape=True, use_ignore=True, ignore_label=-1, name="softmax"
    )


@network("other", "plain", data=numbers(B, 7, 3))
def pointers_into_a_list(mx: Any) -> Any:
    """A pointer network: each step points at one of the inputs, which is read next."""
    sym = mx.sym
    data = sym.Variable("data")
    keys = sym.FullyConnected(data, num_hidden=6, flatten=False, name="keys")
    cell = mx.rnn.GRUCell(6, prefix="decoder_")
    x = sym.Reshape(sym.slice_axis(data, axis=1, begin=0, end=1), shape=(-1, 3))
    states, chosen = cell.begin_state(), []
    for step in range(3):
        h, states = cell(x, states)
        scores = sym.Reshape(sym.batch_dot(keys, sym.expand_dims(h, axis=2)), shape=(-1, 7))
        place = sym.argmax_channel(scores) if step else sym.argmax(scores, axis=1)
        x = sym.Reshape(
            sym.batch_dot(sym.Reshape(sym.one_hot(place, depth=7), shape=(-1, 1, 7)), data), shape=(-1, 3)
        )
        chosen.append(sym.expand_dims(sym.softmax(scores), axis=1))
    return [sym.Concat(*chosen, dim=1), sym.SequenceLast(sym.swapaxes(data, dim1=0, dim2=1)), x]


@network("language models", "plain", data=whole(WORDS, B, 5), source=numbers(B, 4, 6))
def decoder_that_is_fed_its_attention(mx: Any) -> Any:
    """What the last step looked at is joined to the next word; at first it is zeros of a size that MXNet infers."""
    sym = mx.sym
    embed = sym.Embedding(sym.Variable("data"), input_dim=WORDS, output_dim=6, name="embed")
    steps = sym.SliceChannel(embed, num_outputs=5, axis=1, squeeze_axis=True)
    memory, cell = sym.Variable("source"), mx.rnn.LSTMCell(6, prefix="decoder_")
    names = [sym.Variable(name) for name in ("h_weight", "h_bias")]
    looked, states, outputs = sym.zeros(shape=(0, 6)), cell.begin_state(), []
    for step in steps:
        output, states = cell(sym.Concat(step, looked, dim=1), states)
        weights = sym.softmax(sym.batch_dot(memory, sym.expand_dims(output, axis=2)), axis=1)
        context = sym.Reshape(sym.batch_dot(weights, memory, transpose_a=True), shape=(-1, 6))
        looked = sym.tanh(sym.FullyConnected(sym.Concat(context, output, dim=1), *names, num_hidden=6))
        outputs.append(looked)
    return sym.FullyConnected(sym.stack(*outputs, axis=1), num_hidden=WORDS, flatten=False, name="scores")


@network("speech", "export", data=numbers(B, 4, 2, 8, 6))
def cells_of_pictures(mx: Any) -> Any:
    """Convolutional LSTM cells over time, then what comes next."""
    contrib = mx.gluon.contrib.rnn

    class Next(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="convlstm_")
            with self.name_scope():
                self.cell = contrib.Conv2DLSTMCell((2, 8, 6), 3, (3, 3), (3, 3), i2h_pad=(1, 1))
                self.second = contrib.Conv2DGRUCell(
                    (3, 8, 6), 2, (3, 3), (3, 3), i2h_pad=(1, 1), activation="relu"
                )
                self.out = mx.gluon.nn.Conv2D(1, 1)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            steps = F.split(x, 4, axis=1, squeeze_axis=True)
            a, b = (
                self.cell.begin_state(func=F.zeros, batch_size=0),
                self.second.begin_state(func=F.zeros, batch_size=0),
            )
            for step in steps:
                y, a = self.cell(step, a)
                y, b = self.second(y, b)
            return self.out(y)

    return Next()


@network("speech", "export", data=numbers(B, 6, 5))
def projected_and_varied_cells(mx: Any) -> Any:
    rnn, contrib = mx.gluon.rnn, mx.gluon.contrib.rnn

    class Acoustic(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="acoustic_")
            with self.name_scope():
                self.one = contrib.LSTMPCell(8, 4, input_size=5)
                self.two = contrib.VariationalDropoutCell(rnn.GRUCell(6, input_size=4), 0.2, 0.2, 0.2)
                self.layer = rnn.LSTM(5, 2, bidirectional=True, layout="NTC", input_size=6)
                self.out = mx.gluon.nn.Dense(4, flatten=False)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            x, _ = self.one.unroll(6, x, layout="NTC", merge_outputs=True)
            x, _ = self.two.unroll(6, x, layout="NTC", merge_outputs=True)
            return self.out(F.concat(self.layer(x), x, dim=2))

    return Acoustic()
