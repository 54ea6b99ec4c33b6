"""Real mxnet in a process of its own: its errors come late and poison what follows.

The worker (``python mxnet_oracle.py``) reads pickled calls from its input and answers on its output.
"""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


class OracleError(Exception):
    """mxnet refused the case."""


class Oracle:
    """The worker as an object: ``oracle.symbol(...)`` runs ``symbol`` there. One that has died, or has said nothing for
    ``patience`` seconds, is replaced: with some attributes mxnet's engine waits for ever. It fuses nothing: that is wrong for
    some symbols, and refuses those that name a variable twice. ``onednn=False`` leaves out oneDNN's kernels too."""

    def __init__(self, patience: float = 600, onednn: bool = True) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._patience = patience
        self._environment = {
            "OMP_NUM_THREADS": "1", "DMLC_LOG_STACK_TRACE_DEPTH": "0", "MXNET_SUBGRAPH_BACKEND": "NONE",
            "MXNET_MKLDNN_ENABLED": str(int(onednn)),
        }  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            return self._call(name, arguments, options)

        return call

    def _call(self, name: str, arguments: Any, options: Any) -> Any:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | self._environment,
            )
            assert process.stdout is not None
            pickle.load(process.stdout)  # it has imported mxnet, which takes its time on a busy machine
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump((name, arguments, options), process.stdin)
            process.stdin.flush()
            if not select.select([process.stdout], [], [], self._patience)[0]:
                process.kill()
                process.wait()
            worked, answer = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise OracleError(f"mxnet's process died at {name}{arguments}") from error
        if not worked:
            raise OracleError(answer)
        return answer

    def close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()


# ---- in the worker -------------------------------------------------------------------------------


def _random(name: str, shape: tuple[int, ...], seed: int) -> Any:
    """Values that tell everything apart: no zeros, no ones, variances positive."""
    import numpy as np

    rng = np.random.default_rng([seed, *name.encode()])
    if name.endswith(("var", "gamma")):
        return rng.uniform(0.4, 2.0, shape).astype(np.float32)
    inputs = int(np.prod(shape[1:]))
    if inputs > 20:  # many add up: the signal is to keep its size
        return rng.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32)
    return rng.normal(0.05, 0.4, shape).astype(np.float32)


def _words(mx: Any, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a case may say: of symbols, or of arrays that are ``given``."""
    import numpy as np

    class All:
        """Operators under their registered names, those with an underscore too."""

        def __getattr__(self, name: str) -> Any:
            for prefix, place in places.items():
                found = getattr(place, name.removeprefix(prefix), None) if name.startswith(prefix) else None
                if found is not None:
                    return found
            return getattr(mx.sym, name, None) or getattr(mx.sym._internal, name)

    places = {
        "_npi_": mx.sym.numpy._symbol._npi, "_np_": mx.sym.numpy._symbol._mx_np_op, "_npx_": mx.sym.numpy_extension,
        "_contrib_": mx.sym.contrib, "_linalg_": mx.sym.linalg, "_image_": mx.sym.image,
    }  # fmt: skip
    names = {name: mx.sym.var(name) for name in ("data", "other", "third", "fourth")}
    if mx.util.is_np_shape():
        names = {name: variable.as_np_ndarray() for name, variable in names.items()}
    names |= given or {}
    import mxnet_structures

    return {
        "mx": mx,
        "structures": mxnet_structures,
        "F": All(),
        "var": mx.sym.var,
        "nn": mx.gluon.nn,
        "rnn": mx.gluon.rnn,
        "np": np,
        "np_": mx.sym.np if given is None else mx.np,
        "npx_": mx.sym.npx if given is None else mx.npx,
        **names,
    }


def symbol(case: str, inputs: list[dict[str, Any]], prefix: str, seed: int = 0, numpy: bool = False) -> Any:
    """Evaluate a symbol, save it with random parameters, run it on each set of inputs.

    ``numpy``: as code under ``npx.set_np`` writes it.
    """
    import mxnet as mx

    with mx.util.np_shape(numpy):
        graph = eval(case, _words(mx))
        several = isinstance(graph, list | tuple)
        heads = [head.as_nd_ndarray() if numpy else head for head in (graph if several else [graph])]
        group = mx.sym.Group(heads) if several else heads[0]
        if group.infer_shape(**{k: v.shape for k, v in inputs[0].items()})[0] is None:
            group.save(f"{prefix}-symbol.json")  # its sizes depend on its content
            mx.nd.save(f"{prefix}-0000.params", {})
            return group.list_outputs(), [_at_once(mx, case, arrays, numpy) for arrays in inputs]
        return _run(mx, group, inputs, prefix, seed)


def _at_once(mx: Any, case: str, inputs: dict[str, Any], numpy: bool) -> Any:
    """A case without a symbol, operator by operator."""
    with mx.util.np_array(numpy):
        make = mx.np.array if numpy else mx.nd.array
        words = _words(mx, {name: make(array, dtype=array.dtype) for name, array in inputs.items()})
        return [eval(case, words | ({} if numpy else {"F": mx.nd})).asnumpy()]


def _run(mx: Any, graph: Any, inputs: list[dict[str, Any]], prefix: str, seed: int) -> Any:
    first = inputs[0]
    shapes, _, state_shapes = graph.infer_shape(**{k: v.shape for k, v in first.items()})
    arguments = dict(zip(graph.list_arguments(), shapes, strict=True))
    states = dict(zip(graph.list_auxiliary_states(), state_shapes, strict=True))
    labels = {name for name in arguments if name.endswith("_label")}
    params = {
        name: mx.nd.array(_random(name, shape, seed))
        for name, shape in arguments.items()
        if name not in first and name not in labels
    }
    aux = {name: mx.nd.array(_random(name, shape, seed)) for name, shape in states.items()}
    graph.save(f"{prefix}-symbol.json")
    mx.nd.save(
        f"{prefix}-0000.params",
        {**{f"arg:{k}": v for k, v in params.items()}, **{f"aux:{k}": v for k, v in aux.items()}},
    )
    results = []
    for arrays in inputs:
        fed = {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}
        shapes, _, _ = graph.infer_shape(**{k: v.shape for k, v in fed.items()})
        for name, shape in zip(graph.list_arguments(), shapes, strict=True):
            if name in labels:
                fed[name] = mx.nd.zeros(shape)
        bound = graph.bind(mx.cpu(), {**fed, **params}, aux_states=aux, grad_req="null")
        results.append([output.asnumpy() for output in bound.forward(is_train=False)])
    return graph.list_outputs(), results


def _block(case: str, inputs: list[Any], seed: int) -> Any:
    import mxnet as mx

    block = eval(case, _words(mx))
    block.initialize()
    block(*(mx.nd.array(array, dtype=array.dtype) for array in inputs))
    for name, parameter in block.collect_params().items():
        parameter.set_data(mx.nd.array(_random(name, parameter.shape, seed)))
    return block


def _outputs(block: Any, arrays: list[Any]) -> list[Any]:
    import mxnet as mx

    from netferry.converters.mxnet.live import _flat

    return [y.asnumpy() for y in _flat(block(*(mx.nd.array(a, dtype=a.dtype) for a in arrays)))]


def gluon(case: str, inputs: list[list[Any]], prefix: str, seed: int = 0) -> Any:
    """Build a block with random parameters, run it on each set of inputs, export it."""
    block = _block(case, inputs[0], seed)
    block.hybridize()
    results = [_outputs(block, arrays) for arrays in inputs]
    block.export(prefix, 0)
    return results


def zoo(name: str, inputs: list[list[Any]], prefix: str) -> Any:
    """A network of gluon's zoo with random weights and statistics, run and exported.

    Scales are a little smaller than elsewhere: with larger ones the deep networks are chaotic, and one unit of
    rounding on their input moves their output by 3e-5 of its scale.
    """
    block, results = _zoo(name, inputs)
    block.export(prefix, 0)
    return results


def _zoo(name: str, inputs: list[list[Any]], **options: Any) -> Any:
    import mxnet as mx

    block = mx.gluon.model_zoo.vision.get_model(name, **options)
    block.initialize()
    block(mx.nd.array(inputs[0][0]))
    for key, parameter in block.collect_params().items():
        values = _random(key, parameter.shape, 1)
        if key.endswith("gamma"):
            values *= values.dtype.type(0.8)
        parameter.set_data(mx.nd.array(values))
    block.hybridize()
    return block, [_outputs(block, arrays) for arrays in inputs]


def zoo_weights(name: str, inputs: list[list[Any]], folder: str, classes: int) -> Any:
    """A network of gluon's zoo, run, and its weights alone in each form in which gluon saves them."""
    block, results = _zoo(name, inputs, classes=classes)
    block.save_parameters(f"{folder}/structural.params")
    block.collect_params().save(f"{folder}/collected.params")
    block.collect_params().save(f"{folder}/stripped.params", strip_prefix=block.prefix)
    return results


def zoo_names() -> list[str]:
    """What ``get_model`` knows, as it says itself when it is asked for something else."""
    from mxnet.gluon.model_zoo import vision

    try:
        vision.get_model("")
    except ValueError as error:
        return sorted(str(error).partition("\n\t")[2].split())
    raise AssertionError("there is a network without a name")


def live(case: str, inputs: list[Any], seed: int = 0, shown: bool = True, hybridize: bool = False) -> Any:
    """Carry a block in memory; ``run`` it too."""
    import onnx_ir as ir

    from netferry.converters.mxnet import live as room
    from netferry.converters.mxnet.to_onnx import to_onnx
    from netferry.converters.signature import examples

    block = _block(case, inputs, seed)
    if hybridize:
        block.hybridize()
        _outputs(block, inputs)
    export = to_onnx(block, examples(inputs) if shown else None)
    return ir.to_proto(export.model).SerializeToString(), room.run(block, inputs), _outputs(block, inputs)


def live_numpy(case: str, inputs: list[Any]) -> Any:
    """``live`` of a block that is made and run under ``npx.set_np``."""
    import mxnet as mx
    import onnx_ir as ir

    from netferry.converters.mxnet import live as room
    from netferry.converters.mxnet.to_onnx import to_onnx
    from netferry.converters.signature import examples

    mx.npx.set_np()
    try:
        block = eval(case, _words(mx))
        block.initialize()
        arrays = [mx.np.array(array, dtype=array.dtype) for array in inputs]
        block(*arrays)
        for name, parameter in block.collect_params().items():
            parameter.set_data(mx.np.array(_random(name, parameter.shape, 1)))
        truth = [output.asnumpy() for output in room._flat(block(*arrays))]
        export = to_onnx(block, examples(inputs))
        return ir.to_proto(export.model).SerializeToString(), room.run(block, inputs), truth
    finally:
        mx.npx.reset_np()


def network(name: str, prefix: str, feeds: list[dict[str, Any]]) -> Any:
    """A network of ``mxnet_networks``, saved in its form with random weights, and run on each set of inputs."""
    from mxnet_networks import NETWORKS
    from mxnet_networks.worker import saved_and_run

    return saved_and_run(NETWORKS[name], prefix, feeds)


def reload(case: str, inputs: list[Any], path: str) -> Any:
    """Save a block's weights, load them into a fresh one through netferry, run both."""
    from netferry.converters.mxnet import files

    block, fresh = _block(case, inputs, 1), _block(case, inputs, 2)
    block.save_parameters(path)
    files.load_weights(fresh, Path(path))
    return _outputs(block, inputs), _outputs(fresh, inputs)


def module(case: str, array: Any, prefix: str) -> Any:
    """A Module with random parameters: carried in memory, and its checkpoint saved."""
    import mxnet as mx
    import onnx_ir as ir

    from netferry.converters.mxnet import live as room
    from netferry.converters.mxnet.to_onnx import to_onnx
    from netferry.converters.signature import examples

    made = mx.mod.Module(eval(case, _words(mx)), context=mx.cpu())
    made.bind([("data", array.shape)], for_training=False)
    made.init_params(mx.init.Normal(0.5))
    made.save_checkpoint(prefix, 7)
    made.forward(mx.io.DataBatch([mx.nd.array(array)]), is_train=False)
    export = to_onnx(made, examples({"data": array}))
    truth = [output.asnumpy() for output in made.get_outputs()]
    return ir.to_proto(export.model).SerializeToString(), room.run(made, [array]), truth


def run_files(prefix: str, arrays: list[Any]) -> Any:
    """``live.run`` on a symbol read from its files."""
    from netferry.converters import artifact
    from netferry.converters.mxnet import files, live as room

    return room.run(files.read(artifact.look(f"{prefix}-symbol.json")), arrays)


def quantized(case: str, data: Any, prefix: str, kind: str, seed: int = 0) -> Any:
    """Quantise a network as MXNet does for its CPU, save it with all its tensors as outputs, and run it."""
    import logging

    import mxnet as mx
    import numpy as np
    from mxnet.contrib.quantization import quantize_model_mkldnn

    graph = eval(case, _words(mx))
    shapes, _, states = graph.infer_shape(data=data.shape)
    given = [
        *zip(graph.list_arguments(), shapes, strict=True),
        *zip(graph.list_auxiliary_states(), states, strict=True),
    ]
    arrays = {n: mx.nd.array(_random(n, s, seed)) for n, s in given if n not in ("data", "softmax_label")}
    aux = {name: arrays.pop(name) for name in graph.list_auxiliary_states()}
    rows = mx.io.NDArrayIter(data, np.zeros(len(data)), batch_size=len(data), label_name="softmax_label")
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.ERROR)
    whole, arrays, aux = quantize_model_mkldnn(
        graph, arrays, aux, ctx=mx.cpu(), calib_mode="naive", calib_data=rows, num_calib_examples=len(data),
        quantized_dtype=kind, logger=quiet,
    )  # fmt: skip
    inside = whole.get_internals()
    names = [
        name for name in inside.list_outputs() if "quantize" in name and name not in inside.list_inputs()
    ]
    group = mx.sym.Group([*(inside[name] for name in names), whole])
    group.save(f"{prefix}-symbol.json")
    mx.nd.save(
        f"{prefix}-0000.params",
        {f"arg:{k}": v for k, v in arrays.items()} | {f"aux:{k}": v for k, v in aux.items()},
    )
    wide = mx.nd.array(data * 1.3)
    bound = group.bind(
        mx.cpu(),
        {"data": wide, "softmax_label": mx.nd.zeros(len(data)), **arrays},
        aux_states=aux,
        grad_req="null",
    )
    return dict(zip(group.list_outputs(), [y.asnumpy() for y in bound.forward(is_train=False)], strict=True))


def continued(
    case: str, batches: list[Any], prefix: str, kind: str, options: dict[str, float], steps: int
) -> Any:
    """Train a Module for one step a batch, save its checkpoint with the optimizer's state, and go on: losses."""
    import mxnet as mx
    import numpy as np

    made = mx.mod.Module(eval(case, _words(mx)), context=mx.cpu())
    made.bind([("data", batches[0][0].shape)], [("softmax_label", batches[0][1].shape)])
    made.init_params(mx.init.Xavier())
    made.init_optimizer(optimizer=kind, optimizer_params=options)

    def step(data: Any, label: Any) -> float:
        made.forward(mx.io.DataBatch([mx.nd.array(data)], [mx.nd.array(label)]), is_train=True)
        chance = made.get_outputs()[0].asnumpy()
        made.backward()
        made.update()
        return float(-np.log(chance[np.arange(len(label)), label.astype(int)]).mean())

    for data, label in batches:
        step(data, label)
    made.save_checkpoint(prefix, 1, save_optimizer_states=True)
    return [step(*batches[index % len(batches)]) for index in range(steps)]


def trainers_state(kind: str, options: dict[str, float], path: str) -> None:
    """What a Trainer keeps after two steps of a dense layer."""
    import mxnet as mx

    layer = mx.gluon.nn.Dense(3, in_units=4)
    layer.initialize()
    trainer = mx.gluon.Trainer(layer.collect_params(), kind, options)
    for sign in (1, -1):
        with mx.autograd.record():
            loss = (sign * layer(mx.nd.random.normal(shape=(2, 4)))).sum()
        loss.backward()
        trainer.step(2)
    trainer.save_states(path)


def bare(case: str, prefix: str) -> None:
    """A symbol without parameters, saved."""
    import mxnet as mx

    eval(case, _words(mx)).save(f"{prefix}-symbol.json")
    mx.nd.save(f"{prefix}-0000.params", {})


def fused(case: str, inputs: dict[str, Any], prefix: str) -> Any:
    """``symbol``, saved as oneDNN's fusion writes it."""
    import mxnet as mx

    answer = symbol(case, [inputs], prefix)
    eval(case, _words(mx)).optimize_for("MKLDNN").save(f"{prefix}-symbol.json")
    return answer


def verdict(prefix: str, destination: str, inputs: dict[str, Any]) -> Any:
    """Convert files and compare: the report's status, its notes, and where its truth is from."""
    import netferry

    done = netferry.convert(
        f"{prefix}-symbol.json", destination=destination, inputs=inputs, quick=True, seed=3
    )
    report = done.report
    assert report is not None
    return report.status, report.notes, report.truth


def imported(prefix: str, names: list[str], feeds: list[list[Any]]) -> Any:
    """What gluon makes of an arrived symbol and its params file: the outputs at each feed; ``netferry.run`` at tensors of
    nothing, which MXNet takes only where it is told that 0 is a size."""
    import mxnet as mx

    import netferry

    block = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", names, f"{prefix}-0000.params")
    return [
        list(netferry.run(f"{prefix}-symbol.json", arrays).values())
        if any(array.size == 0 for array in arrays)
        else _outputs(block, arrays)
        for arrays in feeds
    ]


def from_module(path: str, feeds: list[list[Any]]) -> Any:
    """What a generated module makes of its weights, and the symbol that it writes."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("arrived", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    block = module.load()
    return [_outputs(block, arrays) for arrays in feeds], module.symbol().tojson()


def trained(prefix: str, names: list[str], array: Any, target: Any, steps: int, rate: float = 0.05) -> Any:
    """Losses of some steps of an arrived block, and its parameters before and after."""
    import mxnet as mx

    block = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", names, f"{prefix}-0000.params")
    before = {name: p.data().asnumpy() for name, p in block.collect_params().items()}
    trainer = mx.gluon.Trainer(block.collect_params(), "sgd", {"learning_rate": rate})
    loss = mx.gluon.loss.L2Loss()
    x, y = (mx.nd.array(a, dtype=a.dtype) for a in (array, target))
    losses = []
    for _ in range(steps):
        with mx.autograd.record():
            value = loss(block(x), y)
        value.backward()
        trainer.step(len(array))
        losses.append(float(value.mean().asnumpy().item()))
    return losses, before, {name: p.data().asnumpy() for name, p in block.collect_params().items()}


def save(arrays: Any, path: str) -> None:
    """``mx.nd.save`` of a mapping or a list; dtypes are kept."""
    import mxnet as mx

    def made(array: Any) -> Any:
        return mx.nd.array(array, dtype=array.dtype)

    both = {k: made(v) for k, v in arrays.items()} if isinstance(arrays, dict) else list(map(made, arrays))
    mx.nd.save(path, both)


def save_numpy(arrays: dict[str, Any], path: str) -> None:
    """``mx.npx.savez``, or numpy's where this mxnet has none."""
    import mxnet as mx
    import numpy as np

    getattr(mx.npx, "savez", np.savez)(path, **arrays)


def save_sparse(array: Any, kind: str, path: str) -> None:
    import mxnet as mx

    sparse = mx.nd.array(array, dtype=array.dtype).tostype(kind)
    mx.nd.waitall()  # save writes the sizes before they are known
    mx.nd.save(path, {"x": sparse})


def load(path: str) -> Any:
    import mxnet as mx

    found = mx.nd.load(path)
    named = isinstance(found, dict)
    return {k: v.asnumpy() for k, v in found.items()} if named else [v.asnumpy() for v in found]


def registry() -> dict[str, dict[str, str]]:
    """Each operator's attributes and their defaults, as mxnet's own registry describes them; under "" its name."""
    return {
        operator: {
            name: kind.partition("default=")[2].strip("'") for name, kind in attributes if "default=" in kind
        }
        | {"": own}
        for operator, (own, attributes) in _described().items()
    }


def types() -> dict[str, dict[str, str]]:
    """Each operator's attributes that have a default, and what mxnet says of their types."""
    return {
        operator: {name: kind for name, kind in attributes if "default=" in kind}
        for operator, (_, attributes) in _described().items()
    }


def _described() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Each registered name: the operator's own name, and (attribute, description) in order."""
    import ctypes

    from mxnet.base import _LIB, c_str, py_str

    count, names = ctypes.c_uint(), ctypes.POINTER(ctypes.c_char_p)()
    _LIB.MXListAllOpNames(ctypes.byref(count), ctypes.byref(names))
    found = {}
    for operator in [py_str(names[i]) for i in range(count.value)]:
        handle = ctypes.c_void_p()
        _LIB.NNGetOpHandle(c_str(operator), ctypes.byref(handle))
        size, texts = ctypes.c_uint(), [ctypes.c_char_p() for _ in range(4)]
        lists = [ctypes.POINTER(ctypes.c_char_p)() for _ in range(3)]
        _LIB.MXSymbolGetAtomicSymbolInfo(
            handle, *map(ctypes.byref, (texts[0], texts[1], size, *lists, texts[2], texts[3]))
        )
        described = [(py_str(lists[0][j]), py_str(lists[1][j])) for j in range(size.value)]
        found[operator] = (py_str(texts[0].value), described)
    return found


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what mxnet prints must not stand among the answers
    from netferry.converters.mxnet.live import import_mxnet

    mx = import_mxnet()
    pickle.dump("ready", answers)
    answers.flush()
    while True:
        try:
            name, arguments, options = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = (True, globals()[name](*arguments, **options))
            mx.nd.waitall()
        except Exception as error:
            answer = (False, f"{type(error).__name__}: {error}")
            with suppress(Exception):  # what else this call has started fails here, not in the next one
                mx.nd.waitall()
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve()
