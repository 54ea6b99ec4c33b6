"""The text of an imported module: its class with its layers, ``forward``, and ``load``."""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from netferry.converters.graph.codegen.writer import source
from netferry.converters.graph.ir.names import identifier
from netferry.converters.pytorch.from_onnx.namespace import TorchNamespace
from netferry.converters.pytorch.from_onnx.runtime_helpers import helper_text
from netferry.converters.signature import Signature, TensorSpec


def class_name(name: str) -> str:
    """``resnet_v2`` as a class is called: ``ResnetV2``."""
    return "".join(part[:1].upper() + part[1:] for part in identifier(name).split("_"))


CHAIN = "y"


def name_chains(body: Sequence[ast.stmt]) -> None:
    """Call what only the next line reads ``y``, as a person would: its memory is free as soon as it is not needed."""
    reads = Counter(
        n.id for s in body for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
    )
    for block in _blocks(body):
        for statement, after in itertools.pairwise(block):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            if (
                not isinstance(target, ast.Name)
                or not isinstance(after, ast.Assign | ast.Return)
                or reads[target.id] != 1
            ):
                continue
            for node in ast.walk(after.value) if after.value is not None else ():
                if isinstance(node, ast.Name) and node.id == target.id:
                    node.id = target.id = CHAIN
                    break


def _blocks(body: Sequence[ast.stmt]) -> Iterator[Sequence[ast.stmt]]:
    yield body
    for statement in body:
        for field in ("body", "orelse"):
            inner = getattr(statement, field, None)
            if isinstance(inner, list) and inner:
                yield from _blocks(inner)


def module_text(
    title: str, signature: Signature, parameters: Sequence[str], body: Sequence[ast.stmt], xp: TorchNamespace
) -> str:
    """The text of the whole module."""
    init = _double_quoted("\n".join(xp.state.lines()))
    forward = _double_quoted(source(body))
    helpers = helper_text(xp.helpers)
    functional = "from torch.nn import functional as F\n" if "F." in forward + helpers else ""
    maths = "import math\n" if "math." in helpers else ""
    parts = [
        f'"""{_sentence(title, signature)}"""\n',
        f"{maths}from pathlib import Path\n",
        f"import torch\nfrom safetensors.torch import load_file\nfrom torch import nn\n{functional}\n",
        f"{helpers}\n\n" if helpers else "",
        f"class {title}({xp.state.base}):\n"
        f"    input_specs = {_specs(signature.inputs)}\n"
        f"    output_names = {_names(signature.outputs)}\n",
        f"    def __init__(self):\n        super().__init__()\n{textwrap.indent(init, ' ' * 8)}".rstrip()
        + "\n",
        f"    def forward(self{''.join(f', {word}' for word in parameters)}):\n{textwrap.indent(forward, ' ' * 8)}\n\n",
        _LOAD.format(title=title, take=_TAKE if len(xp.state.arrays) < _MANY else _TAKE_MANY),
    ]
    return "\n".join(part for part in parts if part)


def _double_quoted(text: str) -> str:
    """``self.layer1["0"]`` rather than ``self.layer1['0']``, as code is formatted today."""
    return re.sub(r"\['(\w+)'\]", r'["\1"]', text, flags=re.ASCII)


_LOAD = '''\
def load(weights=None):
    """The model, ready to run: with the weights of a state dict, a .safetensors file, or the one beside this module."""
    if not isinstance(weights, dict):
        weights = load_file(weights or Path(__file__).with_suffix(".safetensors"))
    with torch.device("meta"):
        model = {title}()
    {take}
    return model.eval()
'''


_TAKE = "model.load_state_dict(weights, assign=True)"


_MANY = 2000


_TAKE_MANY = """\
layers = dict(model.named_modules())
    if missing := model.state_dict().keys() ^ weights.keys():
        raise KeyError(f"missing or unexpected: {sorted(missing)}")
    for path, tensor in weights.items():
        layer, _, name = path.rpartition(".")
        layers[layer].load_state_dict({name: tensor}, strict=False, assign=True)"""
"""Of very many weights each goes to its layer: ``load_state_dict`` asks each layer for all of them."""


def _sentence(title: str, signature: Signature) -> str:
    """What goes in and out; whatever the names hold, it cannot end the docstring."""
    lines = [f"{title}, carried to PyTorch by netferry.", ""]
    lines += [f"in   {spec}" for spec in signature.inputs]
    lines += [f"out  {spec}" for spec in signature.outputs]
    return "\n".join(re.sub(r"[^\w \[\](),.:?/*+<>-]", "_", line) for line in lines) + "\n"


def _specs(specs: Iterable[TensorSpec]) -> str:
    """What ``forward`` takes, by the names that its inputs had: ``{'x': ('float32', ('batch', 3))}``."""
    rows = (f"{spec.name!r}: ({spec.dtype.name!r}, {spec.dims or ()!r})" for spec in specs)
    return f"{{{', '.join(rows)}}}"


def _names(specs: Iterable[TensorSpec]) -> str:
    return repr(tuple(spec.name for spec in specs))
