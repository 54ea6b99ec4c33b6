"""How networks end: heads on what is read elsewhere, losses beside predictions, several of every kind."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, images, network, numbers, whole


@network("generation", "0.9", data=numbers(B, 20))
def autoencoder_of_its_own_input(mx: Any) -> Any:
    """The label of the loss is the input itself."""
    sym = mx.sym
    data = sym.Variable("data")
    x = sym.Activation(sym.FullyConnected(data, num_hidden=8, name="encoder"), act_type="relu")
    return sym.LinearRegressionOutput(sym.FullyConnected(x, num_hidden=20, name="decoder"), data, name="loss")


@network("images", "1.2", labels={"softmax_label": (B, 15)}, data=images(6, 20, 20))
def differences_of_frames(mx: Any) -> Any:
    """Chances of 15 volumes of a heart, from differences of frames beside one another."""
    sym = mx.sym
    data = (sym.Variable("data") - 128) * (1.0 / 128)
    frames = sym.SliceChannel(data, num_outputs=6)
    x = sym.Concat(*[frames[i + 1] - frames[i] for i in range(5)])
    for index in range(2):
        x = sym.Convolution(x, kernel=(5, 5), num_filter=6, name=f"conv{index}")
        x = sym.Activation(sym.BatchNorm(x, name=f"bn{index}"), act_type="relu")
        x = sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")
    x = sym.FullyConnected(sym.Dropout(sym.Flatten(x)), num_hidden=15, name="fc")
    return sym.LogisticRegressionOutput(data=x, name="softmax")


@network(
    "other",
    "plain",
    data=numbers(B, 4),
    action=numbers(B, 2),
    kept=("policy_output", "qvalue_output"),
    labels={"yval": (B,)},
)
def continuous_control(mx: Any) -> Any:
    """An actor and a critic of one graph (DDPG); the loss of the critic falls away."""
    sym = mx.sym
    obs, act = sym.Variable("data"), sym.Variable("action")

    def body(x: Any, name: str, out: int) -> Any:
        for index in range(2):
            x = sym.Activation(sym.FullyConnected(x, num_hidden=8, name=f"{name}{index}"), act_type="relu")
        return sym.FullyConnected(x, num_hidden=out, name=f"{name}_out")

    policy = sym.Activation(body(obs, "policy", 2), act_type="tanh", name="policy_act")
    q = body(sym.Concat(obs, act, dim=1), "q", 1)
    loss = sym.MakeLoss(
        sym.mean(sym.square(sym.Reshape(q, shape=(-1,)) - sym.Variable("yval_label"))), name="qloss"
    )
    return [sym.BlockGrad(policy, name="policy"), sym.BlockGrad(q, name="qvalue"), loss]


@network(
    "faces", "0.9", data=images(1, 24, 24), labels={"softmax_label": (B,), "center_label": (B,)},
    kept=("softmax_output",),
)  # fmt: skip
def centres_of_classes(mx: Any) -> Any:
    """Halves of maps, the greater of which goes on; a loss pulls features to their class's centre."""
    sym = mx.sym
    x = sym.Variable("data") / 255
    for index, filters in enumerate((8, 12)):
        x = sym.Convolution(x, kernel=(3, 3), num_filter=filters, name=f"conv{index}")
        one, two = sym.SliceChannel(x, num_outputs=2, name=f"slice{index}")
        x = sym.Pooling(sym.maximum(one, two), kernel=(2, 2), stride=(2, 2), pool_type="max")
    feature = sym.FullyConnected(x, num_hidden=6, name="feature")
    out = sym.SoftmaxOutput(sym.FullyConnected(feature, num_hidden=5, name="fc"), name="softmax")
    centres = sym.Embedding(
        sym.Variable("center_label"), weight=sym.Variable("centres"), input_dim=5, output_dim=6
    )
    return [
        out,
        sym.MakeLoss(sym.sum(sym.square(feature - centres), axis=1) / 2, grad_scale=0.01, name="center_loss"),
    ]


@network("other", "0.8", data=numbers(B, 10), labels={"a_label": (B, 2), "b_label": (B,), "c_label": (B,)})
def heads_of_every_kind(mx: Any) -> Any:
    """Four heads over one body: a regression, a chance, an absolute one, and what is only looked at."""
    sym = mx.sym
    body = sym.Activation(
        sym.FullyConnected(sym.Variable("data"), num_hidden=9, name="body"), act_type="tanh"
    )
    body = sym.IdentityAttachKLSparseReg(body, name="sparse", sparseness_target=0.1)
    heads = [sym.FullyConnected(body, num_hidden=n, name=f"head{n}") for n in (2, 3, 4, 5)]
    return [
        sym.LinearRegressionOutput(heads[0], sym.Variable("a_label"), name="a", grad_scale=0.1),
        sym.SoftmaxOutput(heads[1], sym.Variable("b_label"), name="b", normalization="valid", out_grad=True),
        sym.MAERegressionOutput(heads[2], name="mae"),
        sym.BlockGrad(sym.LogisticRegressionOutput(heads[3], name="logistic"), name="seen"),
        sym.SVMOutput(
            heads[1], sym.Variable("c_label"), name="svm", margin=0.5, regularization_coefficient=0.9
        ),
    ]


@network(
    "detection",
    "1.2",
    data=images(3, 32, 32),
    labels={"cls_label": (B, 16)},
    kept=("cls_output", "box_output"),
)
def focal_losses_beside(mx: Any) -> Any:
    """A loss of its own is written out in the graph and kept beside two predictions."""
    sym = mx.sym
    x = sym.Activation(
        sym.Convolution(sym.Variable("data") / 255, kernel=(8, 8), stride=(8, 8), num_filter=6, name="base"),
        act_type="relu",
    )
    cls = sym.sigmoid(sym.Convolution(x, kernel=(1, 1), num_filter=1, name="cls_conv"))
    box = sym.exp(sym.Convolution(x, kernel=(1, 1), num_filter=4, name="box_conv") * 0.1)
    flat, label = sym.Flatten(cls), sym.Variable("cls_label")
    right = sym.where(sym.broadcast_greater(label, sym.zeros_like(label) + 0.5), flat, 1 - flat)
    loss = sym.MakeLoss(
        -sym.power(1 - right, 2) * sym.log(sym.maximum(right, 1e-6)), normalization="batch", name="focal"
    )
    return [sym.BlockGrad(cls, name="cls"), sym.BlockGrad(box, name="box"), loss]


@network("segmentation", "plain", data=numbers(B, 3, 18, 22))
def sizes_that_are_told(mx: Any) -> Any:
    """Crops of a size, and statistics that come out of a normalisation."""
    sym = mx.sym
    x = sym.Convolution(
        sym.Variable("data"), kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=6, name="down"
    )
    normed = sym.BatchNorm(x, fix_gamma=False, output_mean_var=True, name="bn")
    x = sym.Activation(normed[0], act_type="softsign")
    up = sym.Deconvolution(x, kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_filter=4, name="up")
    part = sym.Crop(up, h_w=(12, 16), offset=(2, 3), num_args=1)
    whole_part = sym.Crop(up, h_w=(8, 8), center_crop=True, num_args=1)
    return [
        sym.softmax(part, axis=1),
        sym.log_softmax(whole_part, axis=1, temperature=2.0),
        sym.hard_sigmoid(up, alpha=0.3),
    ]


@network("images", "1.2", data=numbers(B, 3, 12, 12))
def halves_that_were_cast(mx: Any) -> Any:
    """As automatic mixed precision leaves a graph, where all that is cast stays float32."""
    sym = mx.sym
    x = sym.amp_cast(sym.Variable("data"), dtype="float32")
    one = sym.Convolution(x, kernel=(3, 3), num_filter=6, name="conv1", cudnn_tune="off", cudnn_off=True)
    two = sym.Convolution(x, kernel=(3, 3), num_filter=6, name="conv2")
    a, b = sym.amp_multicast(one, two, num_outputs=2)
    mean, var = sym.moments(a + b, axes=(2, 3))
    return [
        sym.softmin(mean, axis=1),
        sym.sqrt(var),
        sym.norm(a * b, ord=2, axis=(2, 3)),
        sym.softsign(sym.rsqrt(sym.square(a) + 1)),
    ]


@network("recommendation", "1.2", user=whole(30, B), item=whole(50, B), labels={"score": (B,)})
def sparse_factors_with_biases(mx: Any) -> Any:
    sym = mx.sym
    user, item = sym.Variable("user"), sym.Variable("item")

    def table(x: Any, count: int, width: int, name: str) -> Any:
        weight = sym.Variable(f"{name}_weight", stype="row_sparse")
        return sym.contrib.SparseEmbedding(
            data=x, weight=weight, input_dim=count, output_dim=width, name=name
        )

    u, i = table(user, 30, 6, "user_embed"), table(item, 50, 6, "item_embed")
    bias = sym.Flatten(table(user, 30, 1, "user_bias") + table(item, 50, 1, "item_bias"))
    pred = sym.sum(u * i, axis=1, keepdims=True) + bias
    pred = sym.broadcast_add(pred, sym.Variable("mean_bias", shape=(1, 1)))
    return sym.MAERegressionOutput(sym.reshape(pred, shape=(-1,)), sym.Variable("score"), name="pred")


@network("recommendation", "export", data0=whole(30, B, 5), data1=whole(30, B))
def interest_in_what_was_seen(mx: Any) -> Any:
    """DIN: a candidate looks at a history; a unit decides how much each of it counts."""
    nn = mx.gluon.nn

    class Interest(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="din_")
            with self.name_scope():
                self.table, self.unit, self.score = (
                    nn.Embedding(30, 6),
                    nn.Dense(5, flatten=False),
                    nn.Dense(1, flatten=False, use_bias=False),
                )
                self.dice, self.out = nn.BatchNorm(axis=-1, center=False, scale=False), nn.Dense(1)
                self.alpha = self.params.get("alpha", shape=(1, 1, 5))

        def hybrid_forward(self, F: Any, seen: Any, one: Any, alpha: Any) -> Any:
            history, target = self.table(seen), F.expand_dims(self.table(one), 1)
            wide = F.broadcast_like(target, history)
            x = self.unit(F.concat(wide, history, wide - history, wide * history, dim=-1))
            p = F.sigmoid(self.dice(x))
            x = p * x + F.broadcast_mul(alpha, (1 - p) * x)
            mask = F.expand_dims(seen > 2, -1)
            weight = F.where(mask, self.score(x), F.ones_like(mask) * -(2.0**16))
            weight = F.softmax(weight / (6**0.5), axis=1)
            pooled = F.sum(F.broadcast_mul(weight, history), axis=1)
            return F.sigmoid(self.out(F.concat(pooled, F.squeeze(target, axis=1), dim=1)))

    return Interest()


@network("recommendation", "plain", data=whole(20, B, 4))
def compressed_interactions(mx: Any) -> Any:
    """xDeepFM: outer products of fields, compressed by a convolution over the width of the table."""
    sym = mx.sym
    fields = sym.Embedding(sym.Variable("data"), input_dim=20, output_dim=5, name="fields")
    base = x = fields
    pooled = []
    for layer, maps in enumerate((6, 3)):
        left = sym.Reshape(x, shape=(0, 0, 1, -1))
        right = sym.Reshape(base, shape=(0, 1, 4, -1))
        outer = sym.Reshape(sym.broadcast_mul(left, right), shape=(0, -3, 0))
        x = sym.relu(sym.Convolution(outer, kernel=(1,), num_filter=maps, layout="NCW", name=f"cin{layer}"))
        pooled.append(sym.sum(x, axis=2))
    return sym.sigmoid(
        sym.FullyConnected(sym.Concat(*pooled, dim=1), num_hidden=1, name="logit"), name="click"
    )


@network("series", "1.2", data=numbers(B, 3, 32))
def beats_of_a_heart(mx: Any) -> Any:
    """Convolutions, poolings and sums of one dimension, with MXNet's own layouts left out."""
    sym = mx.sym
    x = sym.Variable("data")
    for index, filters in enumerate((6, 8, 8)):
        y = sym.Convolution(x, kernel=(5,), pad=(2,), stride=(2,), num_filter=filters, name=f"conv{index}")
        y = sym.LeakyReLU(sym.BatchNorm(y, fix_gamma=False, name=f"bn{index}"), act_type="elu", slope=0.3)
        z = sym.Pooling(
            x, kernel=(3,), stride=(2,), pool_type="avg", pooling_convention="full", count_include_pad=False
        )
        x = sym.Concat(y, sym.slice_like(z, y, axes=(2,)), dim=1)
    x = sym.Pooling(x, global_pool=True, kernel=(1,), pool_type="sum")
    return sym.SoftmaxOutput(sym.FullyConnected(x, num_hidden=4, name="fc"), name="softmax")


@network("series", "numpy", data=numbers(B, 10, 4))
def flow_of_densities(mx: Any) -> Any:
    """A coupling layer of a normalising flow, and the density of what comes out."""
    nn = mx.gluon.nn

    class Coupling(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.scale, self.shift = (
                    nn.Dense(2, flatten=False, activation="tanh", in_units=2),
                    nn.Dense(2, flatten=False, in_units=2),
                )

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            a, b = F.np.split(x, 2, axis=-1)
            s = self.scale(a)
            y = F.np.concatenate([a, b * F.np.exp(s) + self.shift(a)], axis=-1)
            log = -0.5 * F.np.sum(y * y, axis=-1) - 2 * 1.8378770664093453 + F.np.sum(s, axis=-1)
            return F.np.flip(y, axis=2), F.np.mean(log, axis=1)

    return Coupling()


@network("other", "plain", data=numbers(B, 9, 4))
def relations_of_pairs(mx: Any) -> Any:
    """A relation network: every pair of objects through one network, then summed."""
    sym = mx.sym
    x = sym.Variable("data")
    a = sym.tile(sym.expand_dims(x, axis=1), reps=(1, 9, 1, 1))
    b = sym.repeat(sym.expand_dims(x, axis=2), repeats=9, axis=2)
    pairs = sym.Reshape(sym.Concat(a, b, dim=3), shape=(-3, -2))
    pairs = sym.Reshape(pairs, shape=(-1, 8))
    g = sym.relu(sym.FullyConnected(pairs, num_hidden=6, name="g1"))
    g = sym.sum(sym.Reshape(g, shape=(-1, 81, 6)), axis=1)
    return sym.SoftmaxOutput(sym.FullyConnected(g, num_hidden=3, name="f"), name="softmax")


@network("other", "1.2", data=numbers(B, 6, 5))
def products_of_matrices(mx: Any) -> Any:
    """A second-order pooling: covariances, their Cholesky factors, logarithms of their determinants."""
    sym = mx.sym
    x = sym.FullyConnected(sym.Variable("data"), num_hidden=5, flatten=False, name="fc")
    x = sym.broadcast_sub(x, sym.mean(x, axis=2, keepdims=True))
    gram = sym.broadcast_add(
        sym.linalg.syrk(x, alpha=0.2), sym.expand_dims(sym.one_hot(sym.arange(6), depth=6), axis=0)
    )
    factor = sym.linalg.potrf(gram)
    volume = 2 * sym.linalg.sumlogdiag(factor)
    solved = sym.linalg.trsm(factor, x)
    return [sym.linalg.gemm2(solved, solved, transpose_b=True), volume]
