"""MXNet models in memory: gluon blocks, Modules, and what ``files.read`` gives. mxnet is imported here only."""

from __future__ import annotations

import contextlib
import faulthandler
import inspect
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from netferry.converters.errors import (
    MissingError,
    RefusedError,
    UsageError,
)
from netferry.converters.frameworks import named
from netferry.converters.graph.ir.build import unique
from netferry.converters.mxnet import backend, inputs
from netferry.converters.mxnet.files import SymbolModel, model_of, parse_symbol, symbol_text
from netferry.converters.mxnet.safety import UNLISTED, allowlist
from netferry.converters.mxnet.symbol import OUTPUT
from netferry.converters.signature import Array, Example, InputNames
from netferry.converters.trust.permit import Permit

_NUMPY_ALIASES = {
    "bool": np.bool_, "PZERO": 0.0, "NZERO": -0.0, "PINF": np.inf, "NINF": -np.inf, "Inf": np.inf,
    "Infinity": np.inf, "infty": np.inf, "NAN": np.nan, "NaN": np.nan,
}  # fmt: skip
_FINANCE = ("mirr", "npv", "pmt", "ppmt", "pv", "rate")


def import_mxnet() -> Any:
    """Import mxnet 1.9.1 under a numpy and a Python that came after it.

    It reads names that numpy has since dropped, and ``distutils``, which Python 3.12 has dropped.
    """
    named("mxnet").require()
    for name, value in _NUMPY_ALIASES.items():
        if name not in vars(np):
            setattr(np, name, value)
    for name in _FINANCE:
        if name not in vars(np):
            setattr(np, name, _dropped)
    if sys.version_info >= (3, 12) and find_spec("distutils") is None:
        _stub_distutils()
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # else every bound graph is announced on stderr
    try:
        import mxnet
    except (ImportError, OSError, AttributeError) as error:
        raise MissingError(
            f"MXNet is installed and cannot be imported ({error})", remedy="Its files are read without it"
        ) from error
    with contextlib.suppress(ValueError):  # another thread than the main one sets no handlers
        _end_at_once()
    return mxnet


@cache
def _end_at_once() -> None:
    """A crash is the system's matter again: MXNet's handlers, which are set when it is imported, leave with an exit code like
    any other."""
    for name in ("SIGSEGV", "SIGFPE", "SIGBUS"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    if faulthandler.is_enabled():
        faulthandler.enable(2)  # what stands in the place of sys.stderr may be no file, as in a notebook


def _dropped(*_arguments: object) -> None:
    """Stands for a function that numpy has dropped and that mxnet wraps without calling."""
    raise NotImplementedError("numpy has dropped this function")


def _stub_distutils() -> None:
    package, version = ModuleType("distutils"), ModuleType("distutils.version")

    class LooseVersion(tuple[int, ...]):
        """Versions by their numbers."""

        def __new__(cls, text: str) -> LooseVersion:
            return super().__new__(cls, (int(part) for part in text.split(".") if part.isdigit()))

    version.LooseVersion = LooseVersion  # type: ignore[attr-defined]
    version.StrictVersion = LooseVersion  # type: ignore[attr-defined]
    package.version = version  # type: ignore[attr-defined]
    sys.modules |= {"distutils": package, "distutils.version": version}


# ---- the interface ---------------------------------------------------------------------------------


def accepts(model: object) -> bool:
    """A symbol with parameters, a gluon block, or a Module that was bound."""
    if isinstance(model, SymbolModel):
        return True
    names = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(model).__mro__}
    return bool(names & {("mxnet", "Block"), ("mxnet", "BaseModule")})


def run(model: object, arrays: Sequence[Array]) -> dict[str, Array]:
    """Run in mxnet itself, in inference mode: inputs by position, outputs under the symbol's names."""
    mx = import_mxnet()
    source = symbol_model(model) if not _is_block(model) else traced(model, len(arrays))
    source = inputs.with_zero_states(source, len(arrays))
    empty = any(array.size == 0 for array in arrays)  # else a size of 0 is one that is not known
    with mx.util.np_shape(source.graph.numpy or empty):
        outputs = _nothing(mx, source, arrays) if empty else None
        if outputs is None:
            outputs = _run_block(mx, model, arrays) if _is_block(model) else _run_symbol(mx, source, arrays)
        names = output_names(mx, source)
    return dict(zip(names, outputs, strict=True))


def _is_block(model: object) -> bool:
    return any(cls.__name__ == "Block" for cls in type(model).__mro__)


# ---- a block or a Module as a symbol -------------------------------------------------------------


def traced(model: Any, count: int | None = None) -> SymbolModel:
    """A live model as symbol and parameters; ``count`` is the number of its inputs, where known."""
    import_mxnet()
    if not _is_block(model):
        return _from_module(model)
    symbol, called = _symbol_of(model, count)
    graph = parse_symbol(symbol.tojson())
    return SymbolModel(graph, _parameters(model), label=type(model).__name__, called=called)


def _from_module(module: Any) -> SymbolModel:
    if not getattr(module, "params_initialized", False):
        raise UsageError(
            "the Module has no parameters yet", remedy="Bind and initialise it, or load a checkpoint"
        )
    arguments, states = module.get_params()
    params = {name: array.asnumpy() for name, array in {**arguments, **states}.items()}
    return model_of(parse_symbol(module.symbol.tojson()), params, label=type(module).__name__)


def _symbol_of(block: Any, count: int | None) -> tuple[Any, tuple[str, ...]]:
    """The symbol that a block writes when it is called with variables, and their names in order.

    What hybridising kept is taken where it has as many inputs: a bare recurrent layer counts its states.
    """
    mx = import_mxnet()
    cached = getattr(block, "_cached_graph", None)
    if cached and count in (None, len(cached[0])):
        return cached[1], tuple(variable.name for variable in cached[0])
    count = count or _count_inputs(block)
    names = ["data"] if count == 1 else [f"data{i}" for i in range(count)]
    try:
        variables = [mx.sym.var(name) for name in names]
        if mx.util.is_np_array():
            variables = [variable.as_np_ndarray() for variable in variables]
        outputs = [output.as_nd_ndarray() for output in _flat(block(*variables))]
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"the block cannot be traced ({type(error).__name__}: {reason})",
            where=type(block).__name__,
            expected="a HybridBlock whose hybrid_forward uses F alone",
        ) from error
    return outputs[0] if len(outputs) == 1 else mx.sym.Group(outputs), tuple(names)


def _count_inputs(block: Any) -> int:
    """How many inputs a block's own forward asks for; one where it does not say."""
    asked = _arguments(block)
    return sum(p.default is p.empty for p in asked) if asked else 1


def _arguments(block: Any) -> list[inspect.Parameter]:
    """What a block's own forward takes besides its weights; nothing where it does not say."""
    weights = set(getattr(block, "_reg_params", {}))
    for name, own in (("hybrid_forward", 1), ("forward", 0)):
        method = getattr(block, name, None)
        if method is None:
            continue
        parameters = inspect.signature(method).parameters.values()
        asked = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][own:]
        if any(p.default is p.empty for p in asked):
            return [p for p in asked if p.name not in weights]
    return []


def input_names(model: Any) -> InputNames | None:
    """Those of a Module's data, and of what was read from files; of a block's code, what its parameters are called."""
    if not _is_block(model):
        return InputNames(tuple(model.data_names))
    if isinstance(model, import_mxnet().gluon.SymbolBlock):
        return InputNames(tuple(variable.name for variable in model._cached_graph[0]))
    names = tuple(parameter.name for parameter in _arguments(model))
    return InputNames(names, declared=False) if names else None


def _flat(outputs: Any) -> Iterable[Any]:
    if not isinstance(outputs, list | tuple):
        yield outputs
        return
    for output in outputs:
        yield from _flat(output)


def _parameters(block: Any) -> Mapping[str, Array]:
    params = {}
    for name, parameter in block.collect_params().items():
        try:
            params[name] = parameter.data().asnumpy()
        except Exception as error:
            raise UsageError(
                f"parameter '{name}' has no value yet",
                where=type(block).__name__,
                remedy="Initialise the block and run it once",
            ) from error
    return params


# ---- mxnet runs it -------------------------------------------------------------------------------


def _run_block(mx: Any, block: Any, arrays: Sequence[Array]) -> list[Array]:
    make = mx.np.array if mx.util.is_np_array() else mx.nd.array
    results = _flat(block(*(make(array, dtype=array.dtype) for array in arrays)))
    return [result.asnumpy() for result in results]


def loaded(mx: Any, source: SymbolModel) -> Any:
    """A symbol as MXNet has it.

    Raises:
        RefusedError: it comes from a file, and names operators that are not known to compute alone.
    """
    reached = [source.graph.nodes[position] for position in source.graph.order]
    if source.foreign:
        Permit().ask(UNLISTED, allowlist.strange(reached), source.label)
    return mx.sym.load_json(symbol_text(source.graph))


def output_names(mx: Any, source: SymbolModel) -> list[str]:
    """MXNet's own names; one that an input or an earlier output has gets a number."""
    taken = {source.graph.nodes[position].name for position in inputs.variables(source).inputs}
    own = loaded(mx, source).list_outputs()
    return [
        unique(source.graph.nodes[position].hidden.get(OUTPUT, wish), taken)
        for (position, _), wish in zip(source.graph.heads, own, strict=True)
    ]


def _nothing(mx: Any, source: SymbolModel, arrays: Sequence[Array]) -> list[Array] | None:
    """The outputs, where all of them are empty: MXNet infers sizes of 0, and some of its kernels fail at them."""
    names = [source.graph.nodes[position].name for position in inputs.variables(source).inputs]
    given = {**dict(zip(names, arrays, strict=False)), **source.params}
    symbol = loaded(mx, source)
    known = {name: given[name] for name in symbol.list_arguments() if name in given}
    try:
        shapes = symbol.infer_shape(**{name: array.shape for name, array in known.items()})[1]
        dtypes = symbol.infer_type(**{name: array.dtype for name, array in known.items()})[1]
    except mx.base.MXNetError:
        return None
    if not shapes or not dtypes or any(0 not in shape for shape in shapes):
        return None
    return [np.empty(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]


def _run_symbol(mx: Any, model: object, arrays: Sequence[Array]) -> list[Array]:
    source = symbol_model(model)
    symbol = loaded(mx, source)
    return _forward(mx, source, bound(mx, source, symbol, arrays))


def _forward(mx: Any, source: SymbolModel, executor: Any) -> list[Array]:
    try:
        with backend.quiet():
            results = [output.asnumpy() for output in executor.forward(is_train=False)]
    except mx.base.MXNetError as error:
        raise _refusal(source, error) from error
    if any(result.size == 0 for result in results) and _is_open(executor):
        raise RefusedError(
            "MXNet runs no symbol whose sizes follow from the elements of its inputs: it gives empty arrays",
            where=source.label,
            remedy="Convert it without verification, and run what comes of it",
        )
    return results


def _is_open(executor: Any) -> bool:
    """Whether the sizes of the outputs do not follow from those of the inputs."""
    symbol = executor._symbol
    given = {**executor.arg_dict, **executor.aux_dict}
    known = {name: given[name].shape for name in symbol.list_arguments()}
    return bool(symbol.infer_shape(**known)[1] is None)


def bound(mx: Any, source: SymbolModel, symbol: Any, arrays: Sequence[Array], *, fused: bool = False) -> Any:
    """The symbol as an executor on the CPU, without fusion unless ``fused``.

    Labels, which inference does not read, are zeros of the dtype in which the model computes.
    """
    kinds = inputs.variables(source)
    names = [source.graph.nodes[position].name for position in kinds.inputs]
    if len(names) != len(arrays):
        raise UsageError(
            "the model takes another number of inputs",
            where=source.label,
            expected=f"{len(names)} ({', '.join(names)})",
            received=len(arrays),
        )
    fed = {name: mx.nd.array(array, dtype=array.dtype) for name, array in zip(names, arrays, strict=True)}
    fed |= {name: mx.nd.array(array, dtype=array.dtype) for name, array in source.params.items()}
    try:
        with backend.quiet() if fused else backend.unfused():
            fed |= labels(mx, source, symbol, fed)
            return symbol.bind(
                mx.cpu(),
                {name: fed[name] for name in symbol.list_arguments()},
                grad_req="null",
                aux_states={name: fed[name] for name in symbol.list_auxiliary_states()},
            )
    except mx.base.MXNetError as error:
        raise _refusal(source, error) from error


def labels(mx: Any, source: SymbolModel, symbol: Any, fed: Mapping[str, Any]) -> dict[str, Any]:
    """Zeros for what is not given, of the sizes that MXNet infers."""
    arguments = symbol.list_arguments()
    absent = [name for name in arguments if name not in fed]
    shapes, _, _ = symbol.infer_shape(**{name: fed[name].shape for name in arguments if name in fed})
    if not absent:
        return {}
    if shapes is None:
        raise RefusedError(
            "MXNet cannot run it (the sizes of its labels do not follow from its inputs)",
            where=source.label,
            received=", ".join(absent),
        )
    kinds = [np.dtype(array.dtype) for array in fed.values() if np.dtype(array.dtype).kind == "f"]
    kind = max(kinds, key=lambda dtype: dtype.itemsize, default=np.dtype(np.float32))
    return {
        name: mx.nd.zeros(shape, dtype=kind)
        for name, shape in zip(arguments, shapes, strict=True)
        if name in absent
    }


FUSED_APART = 1e-4
"""Of an output's scale: how far MXNet's default may lie from its own run node by node before a note says so."""


def remarks(model: object, arrays: Sequence[Array], outputs: Mapping[str, Array]) -> list[str]:
    """What a person should know of MXNet itself: its default fusion gives other numbers than the symbol's nodes do."""
    if _is_block(model):
        return []
    mx, source = import_mxnet(), inputs.with_zero_states(symbol_model(model), len(arrays))
    with mx.util.np_shape(source.graph.numpy):
        symbol = loaded(mx, source)
        try:
            results = _forward(mx, source, bound(mx, source, symbol, arrays, fused=True))
        except RefusedError as error:
            return [f"MXNet's default backend does not run this model ({error}); without fusion it does"]
    found = []
    for (name, plain), other in zip(outputs.items(), results, strict=True):
        apart = _apart(np.asarray(plain, np.float64), np.asarray(other, np.float64))
        if apart > FUSED_APART:
            found.append(
                f"MXNet's default backend (oneDNN's fusion) gives {name} {apart:.2g} of scale away from MXNet's own run node by "
                f"node, which is what is compared; set {backend.FUSION}=NONE where MXNet still serves this model"
            )
    return found


def _apart(plain: Array, other: Array) -> float:
    with np.errstate(all="ignore"):
        away = np.nan_to_num(np.abs(plain - other), nan=0.0).max(initial=0.0)
        scale = np.nan_to_num(np.abs(plain), nan=0.0).max(initial=0.0)
    return float(away / scale) if scale else 0.0


def _refusal(source: SymbolModel, error: Exception) -> RefusedError:
    return RefusedError(f"MXNet cannot run it ({backend.cause(error)})", where=source.label)


def symbol_model(model: object, given: Sequence[Example] | None = None) -> SymbolModel:
    """A model of any form as symbol and parameters; only a live one needs mxnet."""
    if isinstance(model, SymbolModel):
        return model
    from netferry.converters.mxnet import live

    return live.traced(model, None if given is None else len(given))
