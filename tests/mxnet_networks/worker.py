"""In mxnet's process: builds a network with random weights, saves it in its form, reads it back and runs it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mxnet_networks.registry import Network


def values(name: str, shape: tuple[int, ...], scale: float) -> Any:
    """Nothing is 0 or 1; variances are positive, and what many numbers add up to keeps its size."""
    rng = np.random.default_rng([7, *name.encode()])
    if name.endswith(("var", "gamma")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    terms = int(np.prod(shape[1:])) if len(shape) > 1 else 0
    spread = np.sqrt(1.6 / terms) if terms > 6 else 0.3
    return rng.normal(0.02, spread * scale, shape).astype(np.float32)


def saved_and_run(network: Network, prefix: str, feeds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What MXNet, reading the files again, makes of each set of inputs, node by node."""
    import mxnet as mx

    os.environ["MXNET_SUBGRAPH_BACKEND"] = "NONE"
    if network.form == "numpy":
        mx.npx.set_np()
    try:
        _save(mx, network, prefix, feeds[0])
        return [_run(mx, network, prefix, feed) for feed in feeds]
    finally:
        if network.form == "numpy":
            mx.npx.reset_np()


def _save(mx: Any, network: Network, prefix: str, feed: Mapping[str, Any]) -> None:
    if network.form in ("export", "numpy"):
        block = network.build(mx)
        block.initialize()
        array = mx.np.array if network.form == "numpy" else mx.nd.array
        arrays = [array(each) for each in feed.values()]
        block.hybridize(static_alloc=True, static_shape=True)
        with (
            mx.autograd.train_mode()
        ):  # in inference oneDNN puts weights in an order of its own, which cannot be saved
            block(*arrays)
        for name, parameter in block.collect_params().items():
            if parameter.grad_req != "null" or name.endswith(("mean", "var")):
                parameter.set_data(array(values(name, parameter.shape, network.scale)))
        block.export(prefix, 3)
        return
    graph = network.build(mx)
    graph = mx.sym.Group(graph) if isinstance(graph, list) else graph
    arguments, states = _sizes(network, graph, feed)
    params = {
        name: mx.nd.array(values(name, shape, network.scale))
        for name, shape in arguments.items()
        if name not in feed and not _is_label(network, name)
    }
    aux = {name: mx.nd.array(values(name, shape, 1)) for name, shape in states.items()}
    FORMS[network.form](mx, graph, params, aux, prefix)


def _is_label(network: Network, name: str) -> bool:
    return name in network.labels or name.endswith("label")


def _sizes(network: Network, graph: Any, feed: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    batch = next(array.shape[axis] for name, array in feed.items() for axis in network.inputs[name].free)
    known = {name: array.shape for name, array in feed.items()}
    known |= {
        name: tuple(batch if size == "batch" else size for size in dims)
        for name, dims in network.labels.items()
    }
    own = graph.list_inputs()
    shapes, _, states = graph.infer_shape(**{name: dims for name, dims in known.items() if name in own})
    return (
        dict(zip(graph.list_arguments(), shapes, strict=True)),
        dict(zip(graph.list_auxiliary_states(), states, strict=True)),
    )


def _run(mx: Any, network: Network, prefix: str, feed: Mapping[str, Any]) -> dict[str, Any]:
    symbol = mx.sym.load(f"{prefix}-symbol.json")
    if network.kept:
        symbol = mx.sym.Group([symbol.get_internals()[name] for name in network.kept])
    files = sorted(Path(prefix).parent.glob(f"{Path(prefix).name}-0*.params"))
    params = {
        name.removeprefix("arg:").removeprefix("aux:"): array
        for name, array in mx.nd.load(str(files[0])).items()
    }
    arguments, _ = _sizes(network, symbol, feed)
    states = {name: params.pop(name) for name in symbol.list_auxiliary_states()}
    given = {name: mx.nd.array(array) for name, array in feed.items() if name in arguments}
    rest = {
        name: params[name] if name in params else mx.nd.zeros(shape)
        for name, shape in arguments.items()
        if name not in given
    }
    bound = symbol.bind(mx.cpu(), given | rest, aux_states=states, grad_req="null")
    outputs = [output.asnumpy() for output in bound.forward(is_train=False)]
    return dict(zip(symbol.list_outputs(), outputs, strict=True))


# ---- how models are kept ----------------------------------------------------------------------------


def _checkpoint(mx: Any, graph: Any, params: Any, aux: Any, prefix: str) -> None:
    mx.model.save_checkpoint(prefix, 7, graph, params, aux)


def _plain_names(mx: Any, graph: Any, params: Any, aux: Any, prefix: str) -> None:
    Path(f"{prefix}-symbol.json").write_text(graph.tojson())
    mx.nd.save(f"{prefix}-0000.params", params | aux)


def _older(version: int) -> Callable[..., None]:
    """As MXNet 0.8 (attributes under ``param``, no statistics among the inputs), 0.9, 0.11 or 1.2 wrote the graph."""

    def save(mx: Any, graph: Any, params: Any, aux: Any, prefix: str) -> None:
        mx.model.save_checkpoint(prefix, 1, graph, params, aux)
        path = Path(f"{prefix}-symbol.json")
        path.write_text(json.dumps(downgraded(json.loads(path.read_text()), version), indent=2))

    return save


STATISTICS = frozenset({"BatchNorm"})


def downgraded(document: dict[str, Any], version: int) -> dict[str, Any]:
    """A symbol of MXNet 1.9 as an older generation wrote it."""
    nodes, heads, arguments = document["nodes"], document["heads"], document["arg_nodes"]
    key = "attrs" if version >= 1100 else "attr"
    for node in nodes:
        attrs = node.pop("attrs", {})
        hidden = {name[2:-2]: text for name, text in attrs.items() if name.startswith("__")}
        own = {name: text for name, text in attrs.items() if not name.startswith("__")}
        if version < 900:
            node["param"] = own
            node["backward_source_id"] = -1
            if hidden:
                node["attr"] = hidden
        elif attrs:
            node[key] = attrs
        if version < 900 and node["op"] in STATISTICS:
            node["inputs"] = node["inputs"][:3]
        if version < 900:
            node["inputs"] = [entry[:2] for entry in node["inputs"]]
    found = {"nodes": nodes, "arg_nodes": arguments, "heads": heads}
    if version < 900:
        return _without_unread(found | {"heads": [entry[:2] for entry in heads]})
    return found | {"node_row_ptr": document["node_row_ptr"], "attrs": {"mxnet_version": ["int", version]}}


def _without_unread(document: dict[str, Any]) -> dict[str, Any]:
    """The document without variables that no node reads."""
    nodes = document["nodes"]
    read = {entry[0] for node in nodes for entry in node["inputs"]} | {
        entry[0] for entry in document["heads"]
    }
    kept = [index for index, node in enumerate(nodes) if node["op"] != "null" or index in read]
    place = {old: new for new, old in enumerate(kept)}

    def moved(entries: list[list[int]]) -> list[list[int]]:
        return [[place[entry[0]], *entry[1:]] for entry in entries]

    fresh = [nodes[index] | {"inputs": moved(nodes[index]["inputs"])} for index in kept]
    arguments = [index for index, node in enumerate(fresh) if node["op"] == "null"]
    return {"nodes": fresh, "arg_nodes": arguments, "heads": moved(document["heads"])}


FORMS: Mapping[str, Callable[..., None]] = {
    "checkpoint": _checkpoint,
    "plain": _plain_names,
    "0.8": _older(800),
    "0.9": _older(904),
    "0.11": _older(1100),
    "1.2": _older(10200),
}
"""How a symbol is kept; ``export`` and ``numpy`` are a block's own ways."""
