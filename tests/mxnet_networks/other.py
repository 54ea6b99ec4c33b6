"""What fits no other field: several tasks, support vectors, agents, graphs, loops, code of one's own."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, images, network, numbers, whole


@network("other", labels={"softmax1_label": (B,), "softmax2_label": (B,)}, data=numbers(B, 12))
def several_tasks(mx: Any) -> Any:
    sym = mx.sym
    x = sym.Activation(sym.FullyConnected(sym.Variable("data"), num_hidden=10, name="fc1"), act_type="relu")
    heads = [
        sym.FullyConnected(x, num_hidden=count, name=f"fc{2 + index}") for index, count in enumerate((5, 2))
    ]
    return [sym.SoftmaxOutput(head, name=f"softmax{index + 1}") for index, head in enumerate(heads)]


@network("other", "0.9", labels={"svm_label": (B,)}, data=numbers(B, 12))
def support_vectors(mx: Any) -> Any:
    sym = mx.sym
    x = sym.Activation(
        sym.FullyConnected(sym.Variable("data"), num_hidden=10, name="fc1"), act_type="softrelu"
    )
    return sym.SVMOutput(sym.FullyConnected(x, num_hidden=4, name="fc2"), name="svm", use_linear=True)


@network(
    "other",
    data=images(4, 20, 20),
    kept=("policy_output", "value_output"),
    labels={"score": (B,), "action_label": (B,)},
)
def actor_and_critic(mx: Any) -> Any:
    """What to do, how good it is, and losses of both beside them."""
    sym = mx.sym
    x = sym.Variable("data") / 255
    for index in range(2):
        x = sym.Activation(
            sym.Convolution(x, kernel=(4, 4), stride=(2, 2), num_filter=6, name=f"conv{index}"),
            act_type="relu",
        )
    x = sym.relu(sym.FullyConnected(sym.Flatten(x), num_hidden=12, name="fc"))
    policy = sym.softmax(sym.FullyConnected(x, num_hidden=4, name="scores"), name="policy_inner")
    value = sym.FullyConnected(x, num_hidden=1, name="value_inner")
    entropy = sym.MakeLoss(sym.sum(policy * sym.log(policy + 1e-7), axis=1) * 0.01, name="entropy")
    chosen = sym.MakeLoss(-sym.log(sym.pick(policy, sym.Variable("action_label"))), name="chosen")
    return [sym.BlockGrad(policy, name="policy"), sym.BlockGrad(value, name="value"), entropy, chosen]


@network("other", "0.8", data=images(4, 20, 20))
def duelling_values(mx: Any) -> Any:
    sym = mx.sym
    x = sym.Flatten(
        sym.relu(
            sym.Convolution(
                sym.Variable("data") / 255, kernel=(4, 4), stride=(4, 4), num_filter=6, name="conv"
            )
        )
    )
    value = sym.FullyConnected(x, num_hidden=1, name="value")
    gain = sym.FullyConnected(x, num_hidden=5, name="advantage")
    mean = sym.Reshape(sym.sum_axis(gain, axis=1) / 5, shape=(-1, 1))
    return sym.broadcast_plus(value, sym.broadcast_minus(gain, mean), name="q")


@network("other", "plain", data=numbers(B, 6, 4), adjacency=numbers(B, 6, 6))
def graph_convolution(mx: Any) -> Any:
    sym = mx.sym
    links = sym.sigmoid(sym.Variable("adjacency")) > 0.5
    degree = sym.sum(links, axis=2, keepdims=True) + 1
    x = sym.Variable("data")
    for index in range(2):
        mixed = sym.batch_dot(links, sym.FullyConnected(x, num_hidden=5, flatten=False, name=f"gc{index}"))
        x = sym.LeakyReLU(sym.broadcast_div(mixed, degree), act_type="gelu")
    return sym.mean(x, axis=1, name="nodes")


@network("other", "export", data=numbers(B, 5))
def loop_while(mx: Any) -> Any:
    """A state that is fed to itself until it has been done four times."""

    class Loop(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.step = mx.gluon.nn.Dense(5, activation="tanh", in_units=5)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return self.step(self.step(self.step(self.step(x))) + x)

    return Loop()


@network(
    "other", labels={"softmax_label": (B,)}, refused="Python code of the model's own", data=numbers(B, 6)
)
def operator_of_ones_own(mx: Any) -> Any:
    import mxnet.operator as operator

    class Double(operator.CustomOp):  # type: ignore[misc]
        def forward(self, is_train: bool, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
            self.assign(out_data[0], req[0], in_data[0] * 2)

    @operator.register("double_of_ones_own")
    class _DoubleProp(operator.CustomOpProp):  # type: ignore[misc]
        def create_operator(self, *_: Any) -> Any:
            return Double()

    x = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=4, name="fc")
    return mx.sym.SoftmaxOutput(mx.sym.Custom(x, op_type="double_of_ones_own", name="twice"), name="softmax")


@network("other", "1.2", data=numbers(B, 8), kept=("out_output",))
def clusters(mx: Any) -> Any:
    """Deep clustering: how near a point is to each of a few centres, in a t-distribution."""
    sym = mx.sym
    x = sym.relu(sym.FullyConnected(sym.Variable("data"), num_hidden=6, name="encoder"))
    centres = sym.Variable("centres", shape=(3, 6))
    gaps = sym.broadcast_sub(sym.expand_dims(x, axis=1), sym.expand_dims(centres, axis=0))
    near = 1.0 / (1.0 + sym.sum(sym.square(gaps), axis=2))
    return sym.broadcast_div(near, sym.sum(near, axis=1, keepdims=True), name="out")


@network("other", data=numbers(B, 10), labels={"softmax_label": (B,)})
def gates_between_experts(mx: Any) -> Any:
    sym = mx.sym
    data = sym.Variable("data")
    experts = sym.stack(
        *[sym.FullyConnected(data, num_hidden=4, name=f"expert{i}") for i in range(3)], axis=1
    )
    scores = sym.FullyConnected(data, num_hidden=3, name="gate")
    chosen = sym.topk(scores, k=2, ret_typ="mask")
    gate = sym.softmax(sym.where(chosen, scores, sym.ones_like(scores) * -1e9))
    mixed = sym.sum(sym.broadcast_mul(experts, sym.expand_dims(gate, axis=2)), axis=1)
    return sym.SoftmaxOutput(mixed, name="softmax")


@network("other", "plain", data=whole(30, B, 5), answer=whole(30, B, 3))
def memory_of_sentences(mx: Any) -> Any:
    """A question goes over a memory three times, with the same tables."""
    sym = mx.sym
    table_a, table_c = sym.Variable("a_weight"), sym.Variable("c_weight")
    memory, output = (
        sym.Embedding(sym.Variable("data"), weight=t, input_dim=30, output_dim=6) for t in (table_a, table_c)
    )
    u = sym.sum(sym.Embedding(sym.Variable("answer"), weight=table_a, input_dim=30, output_dim=6), axis=1)
    weight = sym.Variable("h_weight")
    for _ in range(3):
        p = sym.softmax(sym.Reshape(sym.batch_dot(memory, sym.expand_dims(u, axis=2)), shape=(0, -1)))
        o = sym.Reshape(sym.batch_dot(sym.expand_dims(p, axis=1), output), shape=(0, -1))
        u = o + sym.FullyConnected(u, weight=weight, num_hidden=6, no_bias=True)
    return sym.softmax(sym.dot(u, table_c, transpose_b=True), name="answers")


@network("other", "export", data=numbers(B, 3, 10), refused="")
def points_in_space(mx: Any) -> Any:
    """PointNet: a matrix that turns the points, then the greatest of each feature."""
    nn = mx.gluon.nn

    class Points(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="pointnet_")
            with self.name_scope():
                self.turn = nn.HybridSequential()
                self.turn.add(nn.Conv1D(6, 1, activation="relu"), nn.GlobalMaxPool1D(), nn.Dense(9))
                self.body, self.out = nn.Conv1D(8, 1, activation="relu"), nn.Dense(4)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            matrix = F.broadcast_add(F.reshape(self.turn(x), (-1, 3, 3)), F.expand_dims(F.eye(3), 0))
            return self.out(F.max(self.body(F.batch_dot(matrix, x)), axis=2))

    return Points()


@network("other", "numpy", data=numbers(B, 4, 6))
def functions_of_numpy(mx: Any) -> Any:
    nn = mx.gluon.nn

    class Functions(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.first, self.out = nn.Dense(6, flatten=False, in_units=6), nn.Dense(3, in_units=24)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            y = F.np.einsum("bij,bkj->bik", self.first(x), x)
            y = F.np.where(y > 0, y, F.np.exp(y) - 1)
            z = F.np.tensordot(y, F.np.ones((4, 6)), axes=((2,), (0,)))
            z = F.np.stack([z, x], axis=1).sum(axis=1)
            return self.out(F.np.clip(z, -3, 3)), F.np.linalg.norm(x, axis=-1), F.np.argmax(y, axis=1)

    return Functions()
