"""What people like, and what comes next: factorisations, sparse inputs, two towers, series of numbers."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, network, numbers, whole

USERS, ITEMS = 30, 50


@network("recommendation", "0.8", labels={"score_label": (B,)}, user=whole(USERS, B), item=whole(ITEMS, B))
def plain_factors(mx: Any) -> Any:
    sym = mx.sym
    user = sym.Embedding(data=sym.Variable("user"), input_dim=USERS, output_dim=6)
    item = sym.Embedding(data=sym.Variable("item"), input_dim=ITEMS, output_dim=6)
    pred = sym.Flatten(sym.sum_axis(user * item, axis=1))
    return sym.LinearRegressionOutput(data=pred, label=sym.Variable("score_label"))


@network("recommendation", labels={"score": (B,)}, user=whole(USERS, B), item=whole(ITEMS, B))
def factors_of_a_deep_network(mx: Any) -> Any:
    """A label that is called ``score``: what a loss reads is one, whatever its name."""
    sym = mx.sym

    def tower(name: str, count: int) -> Any:
        x = sym.Embedding(sym.Variable(name), input_dim=count, output_dim=8, name=f"{name}_embed")
        x = sym.Activation(sym.FullyConnected(x, num_hidden=7, name=f"{name}_fc1"), act_type="relu")
        return sym.FullyConnected(sym.Dropout(x, p=0.3), num_hidden=6, name=f"{name}_fc2")

    pred = sym.sum(tower("user", USERS) * tower("item", ITEMS), axis=1)
    return sym.LinearRegressionOutput(data=sym.Flatten(pred), label=sym.Variable("score"), name="lro")


@network("recommendation", "1.2", labels={"softmax_label": (B,)}, data=numbers(B, 20))
def factorisation_machine(mx: Any) -> Any:
    """Rows that come compressed; sums of pairs as the square of sums less the sum of squares."""
    sym = mx.sym
    x = sym.Variable("data", stype="csr")
    v, w1 = (
        sym.Variable("v", shape=(20, 4), stype="row_sparse"),
        sym.Variable("w", shape=(20, 1), stype="row_sparse"),
    )
    bias = sym.Variable("bias", shape=(1,))
    linear = sym.broadcast_add(sym.sparse.dot(x, w1), bias)
    squares = sym.sparse.dot(sym.square(x), sym.sum(sym.square(v), axis=1, keepdims=True))
    pairs = sym.sum(sym.square(sym.sparse.dot(x, v)), axis=1, keepdims=True)
    model = linear + 0.5 * (pairs - squares)
    return sym.LogisticRegressionOutput(
        data=sym.Flatten(model), label=sym.Variable("softmax_label"), name="model"
    )


@network("recommendation", labels={"softmax_label": (B,)}, csr_data=numbers(B, 15), dns_data=whole(10, B, 5))
def wide_and_deep(mx: Any) -> Any:
    sym = mx.sym
    wide, dns = sym.Variable("csr_data", stype="csr"), sym.Variable("dns_data")
    weight = sym.Variable("linear_weight", shape=(15, 2), stype="row_sparse")
    linear = sym.broadcast_add(sym.sparse.dot(wide, weight), sym.Variable("linear_bias", shape=(2,)))
    parts = []
    for column in range(2):
        ids = sym.slice_axis(dns, axis=1, begin=column, end=column + 1)
        table = sym.Variable(f"embed_{column}_weight", stype="row_sparse")
        embed = sym.contrib.SparseEmbedding(data=ids, weight=table, input_dim=10, output_dim=4)
        parts.append(sym.Flatten(embed))
    parts.append(sym.slice_axis(dns, axis=1, begin=2, end=5))
    x = sym.concat(*parts, dim=1)
    for index in range(2):
        x = sym.Activation(sym.FullyConnected(x, num_hidden=8, name=f"deep{index}"), act_type="relu")
    deep = sym.FullyConnected(x, num_hidden=2, name="deep_out")
    return sym.SoftmaxOutput(linear + deep, sym.Variable("softmax_label"), name="model")


@network(
    "recommendation", "plain", labels={"softmax_label": (B, 1)}, user=whole(USERS, B), item=whole(ITEMS, B)
)
def neural_factors(mx: Any) -> Any:
    """Products of factors beside a network of its own tables."""
    sym = mx.sym
    tables = {
        f"{kind}_{name}": sym.Embedding(
            sym.Variable(name), input_dim=count, output_dim=6, name=f"{kind}_{name}"
        )
        for kind in ("gmf", "mlp")
        for name, count in (("user", USERS), ("item", ITEMS))
    }
    product = tables["gmf_user"] * tables["gmf_item"]
    x = sym.concat(tables["mlp_user"], tables["mlp_item"], dim=1)
    for index, width in enumerate((8, 4)):
        x = sym.relu(sym.FullyConnected(x, num_hidden=width, name=f"mlp_fc{index}"))
    logit = sym.FullyConnected(sym.concat(product, x, dim=1), num_hidden=1, name="fc_final")
    return sym.LogisticRegressionOutput(logit, sym.Variable("softmax_label"), name="softmax")


@network("recommendation", "0.9", query=numbers(B, 30), title=numbers(B, 30))
def two_towers(mx: Any) -> Any:
    """A question and a title, hashed, meet as the cosine of their angle."""
    sym = mx.sym

    def tower(name: str) -> Any:
        x = sym.Variable(name)
        for index, width in enumerate((12, 6)):
            x = sym.Activation(
                sym.FullyConnected(x, num_hidden=width, name=f"{name}_{index}"), act_type="tanh"
            )
        return sym.L2Normalization(x, eps=1e-9)

    return sym.sum(tower("query") * tower("title"), axis=1, keepdims=True, name="cosine") * 10


@network("recommendation", "export", data=whole(USERS, B, 4))
def fields_and_factors(mx: Any) -> Any:
    """Fields of categories: a linear part, pairs, and a deep part over one table."""
    nn = mx.gluon.nn

    class Machine(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="deepfm_")
            with self.name_scope():
                self.table, self.linear = nn.Embedding(4 * USERS, 5), nn.Embedding(4 * USERS, 1)
                self.deep = nn.HybridSequential()
                self.deep.add(nn.Dense(8, "relu"), nn.Dropout(0.1), nn.Dense(1))
                self.offsets = self.params.get_constant("offsets", [[USERS * i for i in range(4)]])

        def hybrid_forward(self, F: Any, x: Any, offsets: Any) -> Any:
            ids = F.broadcast_add(x, offsets)
            table = self.table(ids)
            pairs = F.square(F.sum(table, axis=1)) - F.sum(table * table, axis=1)
            total = F.sum(self.linear(ids), axis=1) + self.deep(table) + 0.5 * F.sum(pairs, 1, keepdims=True)
            return F.sigmoid(total)

    return Machine()


@network("recommendation", labels={"label": (B, 20)}, data=numbers(B, 20))
def ratings_by_an_autoencoder(mx: Any) -> Any:
    sym = mx.sym
    x = sym.Variable("data")
    for index, width in enumerate((12, 6, 12)):
        x = sym.LeakyReLU(sym.FullyConnected(x, num_hidden=width, name=f"layer{index}"), act_type="selu")
    out = sym.FullyConnected(sym.Dropout(x, p=0.8), num_hidden=20, name="out")
    return sym.MAERegressionOutput(out, sym.Variable("label"), name="mae")


@network(
    "recommendation", data=whole(ITEMS, B, 6), positive=whole(ITEMS, B), negative=whole(ITEMS, B), kept=None
)
def sessions(mx: Any) -> Any:
    """What a session ends with, against one thing that was bought and one that was not."""
    sym = mx.sym
    table = sym.Variable("item_weight")
    embed = sym.Embedding(sym.Variable("data"), weight=table, input_dim=ITEMS, output_dim=6)
    _, states = mx.rnn.GRUCell(6, prefix="gru_").unroll(6, embed, merge_outputs=True)
    scores = [
        sym.sum(
            states[0] * sym.Embedding(sym.Variable(name), weight=table, input_dim=ITEMS, output_dim=6), axis=1
        )
        for name in ("positive", "negative")
    ]
    return sym.MakeLoss(-sym.log(sym.sigmoid(scores[0] - scores[1])), name="bpr")


@network("series", "export", data=numbers(B, 12, 5))
def convolution_and_recurrence_over_a_series(mx: Any) -> Any:
    """Short patterns, long ones with a skip, and a linear part of the last days."""
    nn, rnn = mx.gluon.nn, mx.gluon.rnn

    class Series(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="lstnet_")
            with self.name_scope():
                self.conv = nn.Conv2D(6, (3, 5), activation="relu")
                self.gru, self.skip = (
                    rnn.GRU(5, layout="TNC", input_size=6),
                    rnn.GRU(3, layout="TNC", input_size=6),
                )
                self.out, self.linear = nn.Dense(5), nn.Dense(1, flatten=False)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            c = F.squeeze(self.conv(F.expand_dims(x, axis=1)), axis=3)
            r = F.SequenceLast(self.gru(F.transpose(c, axes=(2, 0, 1))))
            s = F.reshape(F.slice_axis(c, axis=2, begin=-8, end=None), shape=(0, 0, 2, 4))
            s = F.reshape(F.transpose(s, axes=(2, 0, 3, 1)), shape=(0, -3, 0))
            s = F.reshape(F.SequenceLast(self.skip(s)), shape=(-1, 12))
            today = self.linear(F.transpose(F.slice_axis(x, axis=1, begin=-4, end=None), axes=(0, 2, 1)))
            return self.out(F.concat(r, s, dim=1)) + F.squeeze(today, axis=2)

    return Series()


@network("series", "export", data0=numbers(B, 6, 3), data1=numbers(B, 1))
def forecast_as_a_distribution(mx: Any) -> Any:
    """A mean and a width for each coming step, scaled back."""
    nn = mx.gluon.nn

    class Forecast(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="simplefeedforward_")
            with self.name_scope():
                self.net = nn.HybridSequential()
                self.net.add(
                    nn.Dense(10, "softrelu"),
                    nn.Dense(4 * 5),
                    nn.HybridLambda(lambda F, y: F.reshape(y, (0, 4, 5))),
                )
                self.mean, self.width = (
                    nn.Dense(1, flatten=False),
                    nn.Dense(1, flatten=False, activation="softrelu"),
                )

        def hybrid_forward(self, F: Any, past: Any, scale: Any) -> Any:
            scale = F.abs(scale) + 0.5
            y = self.net(F.broadcast_div(past, F.expand_dims(scale, axis=2)))
            mean, width = F.squeeze(self.mean(y), axis=-1), F.squeeze(self.width(y), axis=-1)
            return F.broadcast_mul(mean, scale), F.broadcast_mul(width + 1e-6, scale)

    return Forecast()
