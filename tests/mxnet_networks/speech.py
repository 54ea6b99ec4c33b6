"""Speech and text in pictures: layers of convolutions and recurrences, with losses over alignments."""

from __future__ import annotations

from typing import Any

from mxnet_networks.registry import B, images, network, numbers


@network("speech", labels={"label": (B, 4)}, kept=("fc_output",), data=numbers(B, 1, 20, 12))
def deep_speech(mx: Any) -> Any:
    """Convolutions over time and frequency, recurrences both ways with BatchNorm between, a CTC loss."""
    sym = mx.sym
    x = sym.Variable("data")
    for index, filters in enumerate((4, 6)):
        x = sym.Convolution(
            x, kernel=(5, 3), stride=(2, 1), pad=(2, 1), num_filter=filters, no_bias=True, name=f"conv{index}"
        )
        x = sym.Activation(
            sym.BatchNorm(x, fix_gamma=False, eps=1e-3, momentum=0.9, name=f"bn{index}"), act_type="relu"
        )
    x = sym.Reshape(sym.transpose(x, axes=(0, 2, 1, 3)), shape=(0, 0, -3))
    steps = sym.SliceChannel(x, num_outputs=5, axis=1, squeeze_axis=True)
    for layer in range(2):
        ways = []
        for way, order in (("f", range(5)), ("b", range(4, -1, -1))):
            cell = mx.rnn.GRUCell(6, prefix=f"l{layer}{way}_")
            states, found = cell.begin_state(), dict[int, Any]()
            for step in order:
                found[step], states = cell(steps[step], states)
            ways.append(found)
        steps = [
            sym.BatchNorm(
                sym.Concat(ways[0][step], ways[1][step], dim=1), fix_gamma=False, name=f"bn_l{layer}_t{step}"
            )
            for step in range(5)
        ]
    x = sym.Concat(*[sym.Reshape(step, shape=(1, -1, 12)) for step in steps], dim=0)
    x = sym.FullyConnected(x, num_hidden=8, flatten=False, name="fc")
    return sym.MakeLoss(sym.contrib.CTCLoss(x, sym.Variable("label")), name="loss")


@network("speech", "plain", labels={"label": (B, 3)}, kept=("softmax_output",), data=numbers(6, B, 5))
def alignment_with_a_prediction_beside(mx: Any) -> Any:
    sym = mx.sym
    cell = mx.rnn.FusedRNNCell(6, num_layers=2, mode="lstm", bidirectional=True, prefix="lstm_")
    outputs, _ = cell.unroll(6, sym.Variable("data"), merge_outputs=True, layout="TNC")
    scores = sym.FullyConnected(outputs, num_hidden=7, flatten=False, name="scores")
    loss = sym.MakeLoss(sym.ctc_loss(scores, sym.Variable("label")), name="ctc")
    softmax = sym.BlockGrad(sym.softmax(scores, axis=2), name="softmax")
    return [softmax, loss]


@network("speech", labels={"softmax_label": (B, 6)}, data=numbers(B, 6, 8))
def projected_acoustic_model(mx: Any) -> Any:
    """Cells whose hidden state is projected, with peepholes written out, as in the first speech example."""
    sym = mx.sym
    weights = {name: sym.Variable(name) for name in ("x_weight", "x_bias", "h_weight", "proj_weight")} | {
        name: sym.Variable(name, shape=(7,)) for name in ("pi_bias", "pf_bias", "po_bias")
    }
    frames = sym.SliceChannel(sym.Variable("data"), num_outputs=6, axis=1, squeeze_axis=True)
    begin = sym.zeros_like(sym.slice_axis(frames[0], axis=1, begin=0, end=5))
    h, c = begin, sym.tile(sym.slice_axis(begin, axis=1, begin=0, end=1), reps=(1, 7))
    outputs = []
    for step in range(6):
        gates = sym.FullyConnected(
            frames[step], weight=weights["x_weight"], bias=weights["x_bias"], num_hidden=28
        ) + sym.FullyConnected(h, weight=weights["h_weight"], no_bias=True, num_hidden=28)
        enter, new, forget, leave = sym.SliceChannel(gates, num_outputs=4)
        peep = (
            [sym.broadcast_mul(c, sym.Reshape(weights[f"p{gate}_bias"], shape=(1, 7))) for gate in "if"]
            if step
            else [c, c]
        )
        c = sym.sigmoid(forget + peep[1]) * c + sym.sigmoid(enter + peep[0]) * sym.tanh(new)
        leave = sym.sigmoid(leave + sym.broadcast_mul(c, sym.Reshape(weights["po_bias"], shape=(1, 7))))
        h = sym.FullyConnected(leave * sym.tanh(c), weight=weights["proj_weight"], no_bias=True, num_hidden=5)
        outputs.append(sym.expand_dims(h, axis=1))
    x = sym.Reshape(sym.Concat(*outputs, dim=1), shape=(-3, 0))
    x = sym.FullyConnected(x, num_hidden=9, name="senones")
    return sym.SoftmaxOutput(x, sym.Reshape(sym.Variable("softmax_label"), shape=(-1,)), name="softmax")


@network("speech", "1.2", data=numbers(B, 10, 30))
def time_delays_with_statistics(mx: Any) -> Any:
    """Dilated convolutions over time, then mean and deviation of all of it: a speaker's vector."""
    sym = mx.sym
    x = sym.Variable("data")
    for index, (width, dilation) in enumerate(((5, 1), (3, 2), (3, 3))):
        x = sym.Convolution(x, kernel=(width,), dilate=(dilation,), num_filter=8, name=f"tdnn{index}")
        x = sym.BatchNorm(sym.relu(x), fix_gamma=True, name=f"bn{index}")
    mean = sym.mean(x, axis=2)
    deviation = sym.sqrt(
        sym.mean(sym.square(sym.broadcast_sub(x, sym.expand_dims(mean, axis=2))), axis=2) + 1e-5
    )
    x = sym.FullyConnected(sym.Concat(mean, deviation), num_hidden=6, name="embedding")
    return sym.L2Normalization(x, name="vector")


@network("speech", "export", data=numbers(B, 1, 40))
def dilated_waves(mx: Any) -> Any:
    """Gated dilated convolutions that see no future: padding is cut off behind."""
    nn = mx.gluon.nn

    class Wave(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.first = nn.Conv1D(6, 1)
                self.tanh, self.gate, self.skip = (nn.HybridSequential() for _ in range(3))
                for power in range(4):
                    self.tanh.add(nn.Conv1D(6, 2, dilation=2**power, padding=2**power))
                    self.gate.add(nn.Conv1D(6, 2, dilation=2**power, padding=2**power))
                    self.skip.add(nn.Conv1D(6, 1))
                self.last = nn.Conv1D(5, 1)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            x, total = self.first(x), 0
            for power, (tanh, gate, skip) in enumerate(zip(self.tanh, self.gate, self.skip, strict=True)):
                y = F.tanh(tanh(x)) * F.sigmoid(gate(x))
                y = skip(F.slice_axis(y, axis=2, begin=0, end=-(2**power)))
                total, x = total + y, x + y
            return F.log_softmax(self.last(F.relu(total)), axis=1)

    return Wave()


@network("speech", "0.9", data=images(1, 20, 16))
def keywords(mx: Any) -> Any:
    """Few words in a spectrum: separable convolutions and one average."""
    sym = mx.sym
    x = sym.Convolution(sym.Variable("data") / 255, kernel=(5, 3), stride=(2, 2), num_filter=8, name="conv0")
    for index in range(2):
        x = sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=8, num_group=8, name=f"depth{index}")
        x = sym.Activation(sym.BatchNorm(x, name=f"bn{index}"), act_type="relu")
        x = sym.Convolution(x, kernel=(1, 1), num_filter=8, name=f"point{index}")
        x = sym.LeakyReLU(x, act_type="elu", slope=0.7)
    x = sym.Flatten(sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg"))
    return sym.SoftmaxOutput(sym.FullyConnected(x, num_hidden=5, name="fc"), name="softmax")


@network("text in pictures", "export", data=images(1, 16, 48))
def captcha(mx: Any) -> Any:
    """A line of a picture read by convolutions and a recurrence both ways."""
    nn = mx.gluon.nn

    class Reader(mx.gluon.HybridBlock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(prefix="crnn_")
            with self.name_scope():
                self.features = nn.HybridSequential()
                for filters, pool in ((4, (2, 2)), (8, (2, 1)), (8, (4, 1))):
                    self.features.add(
                        nn.Conv2D(filters, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"),
                        nn.MaxPool2D(pool, pool),
                    )  # fmt: skip
                self.rnn = mx.gluon.rnn.LSTM(6, 2, bidirectional=True, layout="NTC", input_size=8)
                self.out = nn.Dense(11, flatten=False)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            y = F.squeeze(self.features(x / 255), axis=2)
            return self.out(self.rnn(F.transpose(y, axes=(0, 2, 1))))

    return Reader()


@network("text in pictures", labels={"label": (B, 4)}, data=images(3, 12, 32))
def licence_plates(mx: Any) -> Any:
    """Four signs, each with its own dense layer, one softmax over all of them."""
    sym = mx.sym
    x = sym.Variable("data") / 256.0
    for index, filters in enumerate((6, 8)):
        x = sym.Convolution(x, kernel=(3, 3), num_filter=filters, name=f"conv{index}")
        x = sym.Activation(
            sym.Pooling(x, pool_type="max" if index else "avg", kernel=(2, 2), stride=(2, 2)), act_type="relu"
        )
    x = sym.FullyConnected(sym.Flatten(x), num_hidden=16, name="fc1")
    signs = sym.Concat(*[sym.FullyConnected(x, num_hidden=10, name=f"fc2{i}") for i in range(4)], dim=0)
    label = sym.Reshape(sym.transpose(sym.Variable("label")), target_shape=(0,))
    return sym.SoftmaxOutput(signs, label, name="softmax")
