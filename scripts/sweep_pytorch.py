"""Every model of the libraries that people use with PyTorch, small and with random weights, to ONNX: right at two sizes, or why not.

    python scripts/sweep_pytorch.py                      what has no result yet, into sweep-pytorch.json
    python scripts/sweep_pytorch.py llama gpt2 --again   these alone, anew
    python scripts/sweep_pytorch.py --every 10 --seed 3  a seeded tenth
    python scripts/sweep_pytorch.py --table --results scripts/models/results.json   those of docs/models.md, as Markdown

Each model runs in a process of its own, forked once the libraries are imported, and each result is kept as soon as it is there. Where
a library is missing, the script makes an environment for it (``--env``), which sees this one's packages. The oracle is the model
itself; an output is right within 1e-3 of its scale at the sizes of the export and at others.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import random
import re
import subprocess
import sys
import time
import venv
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.difference import difference
from sweep.forked import forked

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

PACKAGES = ("transformers",)
LIMIT_S = 1500.0
LIMIT_CPU_S = 75
"""Seconds that a model may take: of the clock, and of work."""

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


# ---- one model -----------------------------------------------------------------------------------------


def examined(name: str) -> dict[str, Any]:
    """What becomes of one model: right, wrong, refused, or not built."""
    import netferry
    from netferry.converters.pytorch.calling import as_shown

    try:
        try:
            model, shown = built(name)
        except Exception as alone:
            model, shown = built_as_a_part(name, alone)
        run = as_shown(model, shown)
    except Exception as error:
        return {"status": "not built", "why": short(error)}
    before, started = state_of(model), time.process_time()
    made = {"model": type(model).__name__, "inputs": [one.name for one in shown]}
    done, outcome = converted(run)
    if harmed := changed(before, state_of(model)):
        outcome = {"status": "wrong", "why": f"the model itself was changed: {harmed}"}
    if outcome:
        return {**made, **outcome}
    made |= {"seconds": round(time.process_time() - started, 2), "route": done.route}
    wrong = compared(run, shown, done.model)
    if not wrong:
        steps = generated(model, shown, done.model)
        return {**made, "status": "right"} | ({} if steps is None else {"generates": steps})
    if is_one_of_its_attentions(model, run, shown, done.model):
        return {
            **made,
            "status": "right",
            "note": "as with eager attention; with sdpa the model itself gives other results",
        }
    report = netferry.convert(run, "onnx", quick=True, seed=0).report
    if (
        report is not None and report.status == "passed"
    ):  # of queries or experts that are nearly alike, another is taken
        return {
            **made,
            "status": "right",
            "note": "as far as rounding leaves open what is taken; its verdict passed",
        }
    return {**made, "status": "wrong", "why": f"{wrong}; its verdict: {report.status if report else 'none'}"}


def converted(run: Any) -> tuple[Any, dict[str, Any]]:
    """The conversion, or what became of it instead."""
    import netferry
    from netferry.converters.errors import NetferryError

    try:
        return netferry.convert(run, "onnx", verify=False), {}
    except NetferryError as error:
        return None, {"status": "refused", "why": short(error)}
    except Exception as error:
        return None, {"status": "crashed", "why": short(error)}


def state_of(model: Any) -> dict[str, Any]:
    """All that a conversion must leave as it was: weights, modes, what each module holds, and random numbers to come."""
    import torch

    weights = {
        name: tensor.detach().clone() for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    parts = {
        name: (
            part.training,
            *map(len, (part._forward_hooks, part._forward_pre_hooks)),
            *((key, id(value)) for key, value in vars(part).items()),
        )
        for name, part in model.named_modules()
    }
    return {**weights, "parts": parts, "random": torch.get_rng_state(), "Python's": random.getstate()}


def changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    """What is not as it was; "" where all is."""
    import torch

    def same(a: Any, b: Any) -> bool:
        return bool(torch.equal(a, b)) if isinstance(a, torch.Tensor) else bool(a == b)

    names = [name for name in {**before, **after} if not (name in before and name in after)]
    return ", ".join(names or [name for name in before if not same(before[name], after[name])])[:200]


def built(name: str) -> tuple[Any, Any]:
    """A model that runs, with the inputs that it takes: as small as it can be."""
    from models import families_transformers

    from netferry.converters.pytorch.calling import as_shown

    first: Exception | None = None
    for group in families_transformers.GROUPS:
        try:
            model = families_transformers.build(name, group)
        except LookupError:
            raise
        except Exception as error:
            first = first or error
            continue
        for shown in ways_to_call(model):
            try:
                wanted(as_shown(model, shown), {one.name: one.array for one in shown})
            except Exception as error:
                first = first or error
            else:
                return model, shown
    assert first is not None
    raise first


def built_as_a_part(name: str, alone: Exception) -> tuple[Any, Any]:
    """The part of a larger model, with what that calls it with; raises ``alone`` where no model that is built has it."""
    import torch
    from models import families_transformers

    from netferry.converters import calling
    from netferry.converters.pytorch.calling import as_shown

    for other in families_transformers.wholes(name):
        try:
            whole, shown = built(other)
        except Exception:  # a family that cannot be built is told in its own line
            continue
        model = families_transformers.part(whole, name)
        given = {} if model is None else arguments_of(model, as_shown(whole, shown), shown)
        kept = {key: value for key, value in given.items() if isinstance(value, torch.Tensor)}
        if kept:
            batch = {
                key: {0: "batch_size"}
                for key, value in kept.items()
                if value.dim() and len(value) == len(shown[0].array)
            }
            shown = calling.examples(kept, batch)
            wanted(as_shown(model, shown), {one.name: one.array for one in shown})
            return model, shown
    raise alone


def arguments_of(model: Any, whole: Any, shown: Any) -> dict[str, Any]:
    """What a part is called with, by name, while the whole runs."""
    calls: list[dict[str, Any]] = []

    def note(_: Any, args: Any, kwargs: Any) -> None:
        own = dict(inspect.signature(model.forward).bind(*args, **kwargs).arguments)
        calls.append({**own, **own.pop("kwargs", {})})

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    wanted(whole, {one.name: one.array for one in shown})
    hook.remove()
    return calls[0] if calls else {}


def ways_to_call(model: Any) -> Any:
    """The inputs of its architecture; without those that it can do without; its main input alone."""
    from netferry.converters.pytorch.huggingface import inputs

    shown = inputs.shown(model)
    yield shown
    main = inputs.main_input(model, inputs.parameters_of(model))
    if len(shown) > 2:
        yield tuple(
            one
            for one in shown
            if one.name in (main, "attention_mask", "decoder_input_ids") or "past" in one.name
        )
    if len(shown) > 1:
        yield tuple(one for one in inputs.shown(model, past=False) if one.name in (main, "decoder_input_ids"))


OTHER_SIZES = {"batch_size": 3, "sequence_length": 11, "past_sequence_length": 3}


def compared(run: Any, shown: Any, proto: Any, at: Any = (None, OTHER_SIZES)) -> str:
    """Where the ONNX model is not the model: at the sizes of the export, and at others; "" where it is."""
    try:
        session = session_of(proto)
    except Exception as error:
        return f"onnxruntime refuses it: {short(error)}"
    for sizes in at:
        feeds = {one.name: resized(one, sizes) for one in shown}
        try:
            want = wanted(run, feeds)
        except Exception as error:
            if sizes is None:
                return short(error)
            continue  # the model itself takes no such sizes
        try:
            got = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})
        except Exception as error:
            return f"at {sizes or 'its own sizes'}: {short(error)}"
        for (output, array), own in zip(want.items(), [*got, *[None] * (len(want) - len(got))], strict=True):
            if found := difference(own, array):
                return f"at {'other sizes' if sizes else 'its own sizes'}, {output}: {found}"
    return ""


def is_one_of_its_attentions(model: Any, run: Any, shown: Any, proto: Any) -> bool:
    """Whether the ONNX model is, at each size, what the model is with sdpa or with its attention written out.

    Some models are not the same with both: sdpa leaves a mask away that is true throughout, and with it what else it says.
    """
    if getattr(model.config, "_attn_implementation", None) != "sdpa":
        return False
    try:
        for sizes in (None, OTHER_SIZES):
            model.set_attn_implementation("sdpa")
            if compared(run, shown, proto, (sizes,)):
                model.set_attn_implementation("eager")
                if compared(run, shown, proto, (sizes,)):
                    return False
    except Exception:  # whatever a model raises that has no other attention
        return False
    return True


STEPS = 32


def generated(model: Any, shown: Any, proto: Any) -> str | None:
    """Whether the ONNX model's greedy tokens, step by step from its own cache, are those that ``generate`` gives; None for others."""
    import numpy as np
    import torch

    pasts = {one.name: one for one in shown if one.name.startswith("past_key_values.")}
    if not pasts or not all(name.endswith((".key", ".value")) for name in pasts):
        return None
    ids = next(one.array for one in shown if one.name == "input_ids")[:, :4]
    mask = np.ones_like(ids)
    mask[0, 0] = 0
    ends = model.generation_config.eos_token_id
    try:
        given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        want = model.generate(
            **given,
            max_new_tokens=STEPS,
            min_new_tokens=STEPS,
            do_sample=False,
            pad_token_id=0,
            forced_eos_token_id=None,
        )
    except Exception as error:
        return f"generate itself does not run: {short(error)}"
    try:
        got = greedily(proto, ids, mask, pasts, [] if ends is None else np.atleast_1d(ends))
    except Exception as error:
        return short(error)
    same = np.array_equal(got, want.numpy())
    return (
        "equal"
        if same
        else f"other tokens from step {int((got != want.numpy()).any(0).argmax()) - ids.shape[1] + 1} on"
    )


def greedily(proto: Any, ids: Any, mask: Any, pasts: Any, ends: Any) -> Any:
    """The tokens of as many steps, those that end a text left out."""
    import numpy as np

    session = session_of(proto)
    takes, gives = [one.name for one in session.get_inputs()], [one.name for one in session.get_outputs()]
    past = {name: one.array[:, :, :0] for name, one in pasts.items()}
    new = got = ids
    for _ in range(STEPS):
        positions = (mask.cumsum(1) - 1).clip(0)[:, -new.shape[1] :]
        feeds = {
            "input_ids": new,
            "attention_mask": mask,
            "position_ids": positions,
            "token_type_ids": np.zeros_like(new),
            **past,
        }
        found = dict(zip(gives, session.run(None, {name: feeds[name] for name in takes}), strict=True))
        logits = found["logits"][:, -1].copy()
        logits[:, [end for end in ends if end < logits.shape[1]]] = -np.inf
        new = logits.argmax(-1)[:, None]
        got, mask = np.concatenate([got, new], 1), np.concatenate([mask, np.ones_like(new)], 1)
        past = {name: found[name.replace("past_key_values", "present")] for name in past}
    return got


def session_of(proto: Any) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def resized(example: Any, sizes: dict[str, int] | None) -> Any:
    """The example's array at other sizes: its entries once more, new numbers where it holds floats."""
    import numpy as np

    from netferry.converters import size_bounds

    array = example.array
    if sizes is None:
        return array
    known = {
        "frames": 12,
        "patches": 12,
        "encoder_sequence_length": 9,
        "decoder_sequence_length": 7,
        "audio_sequence_length": 3300,
        **sizes,
    }
    for axis, symbol in example.free.items():
        array = array.take(
            np.arange(size_bounds.size_of(symbol, known) or array.shape[axis]) % array.shape[axis], axis
        )
    if example.name == "position_ids":
        first = known["past_sequence_length"] if example.array.min() else 0
        return np.tile(np.arange(first, first + array.shape[1]), (array.shape[0], 1))
    if array.dtype.kind == "f":
        return np.random.default_rng(1).standard_normal(array.shape).astype(array.dtype)
    if example.name.endswith("attention_mask") and array.ndim == 2:
        array = array.copy()
        array[0, :1] = 0
    return array


def wanted(run: Any, feeds: Any) -> dict[str, Any]:
    from netferry.converters.pytorch.live import run as run_model

    found: dict[str, Any] = run_model(
        run, [feeds[name] for name in getattr(type(run), "netferry_inputs", feeds)]
    )
    return found


def short(error: object) -> str:
    said = re.sub(r"/\S*/(?=[\w.-]+)", "", f"{type(error).__name__}: {error}")  # no paths of this machine
    return " ".join(said.split())[:420]


# ---- processes -----------------------------------------------------------------------------------------


def warm() -> None:
    """Import in this process what every model needs, so that each fork has it."""
    import onnxruntime  # noqa: F401
    import torch
    from torch import nn

    import netferry

    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU()).eval()
    netferry.convert(layers, "onnx", verify=False, inputs=[torch.zeros(1, 3, 8, 8)])
    for name in ("llama", "vit"):
        examined(name)


def demand_packages(env: Path) -> None:
    """Go on in an environment that has the libraries; it is made where it is missing."""
    if all(find_spec(package) for package in PACKAGES):
        return
    python = env / "bin" / "python"
    if not python.exists():
        venv.create(env, with_pip=True)
        site = next(path for path in sys.path if path.endswith("site-packages"))
        own = next((env / "lib").glob("python*/site-packages"))
        (own / "here.pth").write_text(f"{site}\n")
        limits = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([python, "-m", "pip", "install", "-q", *limits, *PACKAGES], check=True)
    os.execv(python, [str(python), *sys.argv])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--results", type=Path, default=Path("sweep-pytorch.json"))
    parser.add_argument("--env", type=Path, default=Path.home() / ".cache" / "netferry-sweep")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seconds", type=float, default=7200.0, help="stop after so many")
    given = parser.parse_args()
    known = json.loads(given.results.read_text()) if given.results.exists() else {}
    if given.table:
        from models.page import page

        print(page(known), end="")
        return 0
    demand_packages(given.env)
    import torch
    import transformers
    from models import families_transformers

    import netferry

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warm()
    versions = {
        "torch": torch.__version__,
        "transformers": f"{transformers.__version__} ({len(families_transformers.names())} architectures)",
        "netferry": netferry.__version__,
    }
    names = given.names or families_transformers.names()
    if not given.names:
        random.Random(given.seed).shuffle(names)
    until = time.monotonic() + given.seconds
    for name in names[: -(-len(names) // given.every)]:
        key = f"transformers/{name}"
        if (key in known and not given.again) or time.monotonic() > until:
            continue
        known[key] = forked(partial(examined, name), LIMIT_S, LIMIT_CPU_S) or {
            "status": "crashed",
            "why": f"no result after {LIMIT_CPU_S} s of work, or the process ended",
        }
        known["versions"] = {**versions, "date": time.strftime("%Y-%m-%d", time.gmtime())}
        given.results.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        print(f"{known[key]['status']:<10} {name}: {known[key].get('why', '')}"[:300], flush=True)
    counted = [one["status"] for key, one in known.items() if key != "versions"]
    print(", ".join(f"{counted.count(status)} {status}" for status in sorted(set(counted))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
