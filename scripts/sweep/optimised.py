"""What onnxruntime's optimiser and quantiser make of a model: each kind of file that is found in the wild."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from sweep.case import Feed, Network, feeds

Maker = Callable[[Path, Path, Network], None]
"""(the file as it was exported, the file to write, its network)."""


def exported(network: Network, path: Path) -> None:
    """The network as ONNX: PyTorch's by its own exporter, those of other frameworks by netferry's."""
    if network.framework == "pytorch":
        _from_torch(network, path, network.dynamic)
        if not _runs_elsewhere(network, path):  # the trace has frozen sizes that it declares free
            _from_torch(network, path, {})
        return
    from netferry.converters import export_model, write

    write(export_model(network.make()), path)


def _runs_elsewhere(network: Network, path: Path) -> bool:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    try:
        for _, feed in feeds(network):
            session.run(None, dict(zip(names, feed.values(), strict=True)))
    except Exception:  # whatever a kernel says
        return False
    return True


def _from_torch(network: Network, path: Path, dynamic: Mapping[str, Mapping[int, str]]) -> None:
    import torch

    example = network.example
    made = network.make()
    with torch.no_grad():
        outputs = made(*map(torch.from_numpy, example.values()))
    count = len(outputs) if isinstance(outputs, tuple) else 1
    torch.onnx.export(
        made, tuple(map(torch.from_numpy, example.values())), str(path), input_names=list(example),
        output_names=[f"y{place}" for place in range(count)], dynamic_axes=dynamic, dynamo=False,
        opset_version=17,
    )  # fmt: skip


def extended(source: Path, path: Path, _network: Network) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def transformers(source: Path, path: Path, network: Network) -> None:
    from onnxruntime.transformers import optimizer

    kind = network.field if network.field in ("gpt2", "t5", "vit") else "bert"
    found = optimizer.optimize_model(str(source), model_type=kind, opt_level=0, use_gpu=False)
    found.save_model_to_file(str(path))


def dynamic(source: Path, path: Path, _network: Network) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(source), str(path), weight_type=QuantType.QInt8)


def dynamic_extended(source: Path, path: Path, network: Network) -> None:
    middle = path.with_suffix(".quantised.onnx")
    dynamic(source, middle, network)
    extended(middle, path, network)


def _static(source: Path, path: Path, network: Network, form: str) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = _named(source, network)

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    quantize_static(
        str(source), str(path), Reader(), quant_format=getattr(QuantFormat, form),
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=False,
    )  # fmt: skip


def _named(source: Path, network: Network) -> Iterator[Feed]:
    """A few inputs under the names of the file, of the sizes of the example: a trace may have no others."""
    names = [value.name for value in onnx.load(source, load_external_data=False).graph.input]
    shapes = [array.shape for array in network.example.values()]
    for _, feed in feeds(network):
        if [array.shape for array in feed.values()] == shapes:
            yield dict(zip(names, feed.values(), strict=True))


def qdq(source: Path, path: Path, network: Network) -> None:
    _static(source, path, network, "QDQ")


def qoperator(source: Path, path: Path, network: Network) -> None:
    """As it is run: onnxruntime's optimiser goes over the quantised file too."""
    middle = path.with_suffix(".quantised.onnx")
    _static(source, middle, network, "QOperator")
    extended(middle, path, network)


def few_bits(source: Path, path: Path, _network: Network) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        onnx.load(source), block_size=16, is_symmetric=False, accuracy_level=None
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(path))


KINDS: Mapping[str, Maker] = {
    "extended": extended,
    "transformers": transformers,
    "dynamic": dynamic,
    "dynamic extended": dynamic_extended,
    "QDQ": qdq,
    "QOperator": qoperator,
    "few bits": few_bits,
}


def foreign(path: Path) -> list[str]:
    """The operators of the file that are not ONNX's."""
    found = {node.op_type for node in onnx.load(path).graph.node if node.domain not in ("", "ai.onnx")}
    return sorted(found)


WORDS = {"vocab_size": 60}
LAYERS = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def bert() -> Any:
    """A small BERT of Hugging Face, with random weights."""
    return _hugging(
        "BertModel", "BertConfig", intermediate_size=48, max_position_embeddings=64, **WORDS, **LAYERS
    )


def gpt2() -> Any:
    return _hugging(
        "GPT2Model", "GPT2Config", n_inner=48, n_embd=24, n_layer=2, n_head=2, n_positions=64, **WORDS
    )


def t5() -> Any:
    """The encoder alone."""
    return _hugging(
        "T5EncoderModel", "T5Config", d_model=24, d_kv=12, d_ff=48, num_layers=2, num_heads=2, **WORDS
    )


def vit() -> Any:
    return _hugging(
        "ViTModel",
        "ViTConfig",
        ("pixel_values",),
        intermediate_size=48,
        image_size=16,
        patch_size=8,
        **LAYERS,
    )


def _hugging(
    model: str, config: str, names: tuple[str, ...] = ("input_ids", "attention_mask"), **sizes: int
) -> Any:
    import torch
    import transformers as hugging
    from torch import nn

    torch.manual_seed(0)
    made = getattr(hugging, model)(
        getattr(hugging, config)(**sizes, attn_implementation="eager", use_cache=False)
    ).eval()

    class Alone(nn.Module):
        """Tensors in, one out."""

        def __init__(self) -> None:
            super().__init__()
            self.model = made

        def forward(self, *inputs: torch.Tensor) -> Any:
            return self.model(**dict(zip(names, inputs, strict=True))).last_hidden_state

    return Alone()
