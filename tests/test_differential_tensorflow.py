"""TFLite files and checkpoints: what our own readers make of them is what TensorFlow's make of them, number by number.

Mutants change how the files are put together (``binary_mutants.py``). Each is refused by one of the two, or both see the same. Everyday some
hundred of each format; with ``--all`` 10,000. TensorFlow's readers are C++: each works in a child, and one that dies is counted.
"""

from __future__ import annotations

import faulthandler
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flat_files as flat
import numpy as np
import pytest
import table_files
from binary_mutants import TableFile, lite, mutant_of_lite, mutant_of_table
from table_files import HALVES, extents, field, shape, slice_key, varint

from netferry.converters.artifact import Artifact
from netferry.converters.errors import NetferryError
from netferry.converters.tensorflow.graphdef.checkpoint import Checkpoint, OldCheckpoint
from netferry.converters.tensorflow.tflite import files, safety, schema
from netferry.converters.trust import snapshot

EVERYDAY, ALL = 150, 10_000
PATIENCE = 20


# ---- TFLite ----------------------------------------------------------------------------------------

UNIONS = {1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"}


def _theirs(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each[:1].upper() + each[1:] for each in others)


def _same(ours: Any, theirs: Any, where: str) -> None:
    """Every declared field of a table, under our name and under TensorFlow's own reader's."""
    if ours is None or theirs is None:
        assert ours is None and theirs is None, where
        return
    for name, declared in ours._fields.items():
        if declared.kind == "any":
            kind = _union(ours, name)
            if kind is not None:
                _same(ours.as_(name, kind), getattr(theirs, _theirs(name)), f"{where}.{name}")
        else:
            _same_field(getattr(ours, name), getattr(theirs, _theirs(name)), declared.kind, f"{where}.{name}")


def _union(table: Any, name: str) -> str | None:
    """The kind of a table whose kind another field says, where we read it."""
    if name == "builtin_options":
        return schema.options_of(table.builtin_options_type)
    return UNIONS.get(getattr(table, f"{name}_type")) if name in ("array_segments", "array_indices") else None


def _same_field(ours: Any, theirs: Any, kind: str, where: str) -> None:
    if kind == "str":
        assert ours == (theirs or b"").decode("utf-8", "replace"), where
    elif not kind.startswith("["):
        _same(ours, theirs, where) if kind in schema.TABLES else _equal(ours, theirs, where)
    else:
        theirs = [] if theirs is None else theirs
        assert len(ours) == len(theirs), where
        if kind[1:-1] in schema.TABLES:
            for place, pair in enumerate(zip(ours, theirs, strict=True)):
                _same(*pair, f"{where}[{place}]")
        else:
            _equal(np.asarray(ours), np.asarray(theirs, np.asarray(ours).dtype), where)


def _equal(ours: Any, theirs: Any, where: str) -> None:
    assert np.array_equal(ours, theirs, equal_nan=np.asarray(ours).dtype.kind == "f"), (where, ours, theirs)


def of_lite(content: bytes, folder: Path) -> str:
    """Our reader against TensorFlow's tables in Python, and against what its interpreter says of the model."""
    from netferry.converters.tensorflow.runtime import tf
    from netferry.converters.tensorflow.tflite.interpreter import schema_py_generated

    path = folder / "net.tflite"
    path.write_bytes(content)
    looked = safety.look(Artifact("tflite", path))
    model = files.read(Artifact("tflite", path), looked=looked)
    try:
        runs = tf.lite.Interpreter(model_content=content, num_threads=1)
    except (RuntimeError, ValueError):
        return "refused later"
    _same(looked.message, schema_py_generated.ModelT.InitFromPackedBuf(content), "")
    assert runs.num_subgraphs() == len(model.subgraphs)
    for graph in model.subgraphs:
        told = runs.get_tensor_details(graph.index)
        assert [each["name"] for each in told] == [each.name for each in graph.tensors]
        for each, other in zip(graph.tensors, told, strict=True):
            _same_tensor(runs, graph.index, each, other)
    main, steps = model.subgraphs[0], runs._get_ops_details()
    names = [each.custom if each.name == "CUSTOM" else each.name for each in main.operations]
    assert [step["op_name"] for step in steps] == names, (steps, names)
    for step, each in zip(steps, main.operations, strict=True):
        assert (tuple(step["inputs"]), tuple(step["outputs"])) == (each.inputs, each.outputs)
    return "alike"


def _same_tensor(runs: Any, graph: int, ours: Any, theirs: Mapping[str, Any]) -> None:
    if ours.dtype is not None and ours.code in schema.DTYPES:
        assert np.dtype(theirs["dtype"]) == ours.dtype or ours.dtype.name == "bfloat16", ours
    assert ours.dims is None or len(theirs["shape"]) == len(ours.dims)
    try:
        plain = len(theirs["shape"]) <= 8 and min(theirs["shape"], default=0) >= 0  # numpy cannot have others
        held = runs.get_tensor(theirs["index"], graph) if plain else None
    except ValueError:  # it holds nothing before the model runs
        held = None
    if (
        ours.content is not None
        and held is not None
        and not theirs["sparsity_parameters"]
        and ours.code in schema.DTYPES
    ):
        assert held.shape == ours.content.shape and held.tobytes() == ours.content.tobytes(), ours
    if held is not None and held.size and ours.dtype is not None and not theirs["sparsity_parameters"]:
        assert ours.content is not None or ours.variable, ours


# ---- checkpoints -----------------------------------------------------------------------------------

NUMBERS = np.arange(24, dtype=np.float32)


entry = partial(table_files.entry, NUMBERS)
NEW = sorted(
    [
        (b"", field(1, 1) + field(3, field(1, 1))), (b"a", entry(0, 4)), (b"a/b", entry(16, 2, 3)), (b"ab", entry(40, 2)),
        (b"cut", entry(0, 2, 3, slices=[extents(*each) for each in HALVES])), (b"z", entry(72, 1, 6)),
        *((slice_key(b"cut", *each), entry(48 + 12 * place, 1, 3)) for place, each in enumerate(HALVES)),
    ]
)  # fmt: skip


def _saved(name: bytes, spans: bytes, content: bytes) -> bytes:
    numbers = varint(5 << 3 | 2) + varint(len(content)) + content
    return field(2, field(1, name) + field(2, spans) + field(3, numbers))


def _declared(name: bytes, *sizes: int, slices: Sequence[bytes]) -> bytes:
    return field(
        1,
        field(1, name) + field(2, shape(*sizes)) + field(3, 1) + b"".join(field(4, each) for each in slices),
    )


OLD = sorted(
    [
        (b"", field(1, _declared(b"a", 4, slices=[extents((0, 4))]) + _declared(b"cut", 2, 3, slices=[extents(*each) for each in HALVES])
                + field(2, field(1, 1)))),
        (slice_key(b"a", (0, 4)), _saved(b"a", extents((0, 4)), NUMBERS[:4].tobytes())),
        *((slice_key(b"cut", *each), _saved(b"cut", extents(*each), NUMBERS[4 + 3 * place : 7 + 3 * place].tobytes()))
          for place, each in enumerate(HALVES)),
    ]
)  # fmt: skip


def _names(found: Any) -> list[str]:
    """Without the parts of tensors, which have no name of their own."""
    return [name for name in found if not name.startswith("\0")]


def of_checkpoint(content: bytes, folder: Path, old: bool = False) -> str:
    """Names, sizes, dtypes and numbers, by our reader and by the one behind ``tf.train.load_checkpoint``."""
    from netferry.converters.tensorflow.runtime import tf

    prefix = folder / "net"
    index = prefix if old else folder / "net.index"
    index.write_bytes(content)
    if old:
        ours: Any = OldCheckpoint([snapshot.mapped(index)])
    else:
        shard = folder / "net.data-00000-of-00001"
        shard.write_bytes(NUMBERS.tobytes())
        ours = Checkpoint(snapshot.mapped(index), {(0, 1): snapshot.mapped(shard)})
    numbers = {}
    for name in _names(ours):
        try:
            numbers[name] = ours.read(name)
        except NetferryError:
            continue
    try:
        theirs = tf.train.load_checkpoint(str(prefix))
        named = theirs.get_variable_to_shape_map()
    except (tf.errors.OpError, RuntimeError, ValueError, UnicodeDecodeError):
        return "refused later"
    assert set(named) <= set(ours), set(named) - set(ours)
    seen = 0
    for name, value in numbers.items():
        try:
            other = theirs.get_tensor(name)
        except (
            tf.errors.OpError,
            RuntimeError,
            ValueError,
            TypeError,
            AttributeError,
        ):  # UnicodeError is a ValueError
            continue
        seen += 1
        assert (other.shape, other.dtype) == (
            value.shape,
            value.dtype,
        ) and other.tobytes() == value.tobytes(), name
    return "alike" if seen else "refused"


# ---- the run ---------------------------------------------------------------------------------------


class Form(NamedTuple):
    """A good file, what spoils it, and what holds two readers together."""

    good: bytes
    mutate: Callable[[random.Random], bytes]
    compare: Callable[[bytes, Path], str]


FORMS: Mapping[str, Form] = {
    "tflite": Form(flat.packed(lite()), mutant_of_lite, of_lite),
    "checkpoint": Form(TableFile(NEW, 3, 2).bytes(), lambda draw: mutant_of_table(NEW, draw), of_checkpoint),
    "old_checkpoint": Form(
        TableFile(OLD, 3, 2).bytes(),
        lambda draw: mutant_of_table(OLD, draw),
        partial(of_checkpoint, old=True),
    ),
}


def _fate(form: str, number: int, folder: Path) -> str:
    try:
        made = FORMS[form].good if number < 0 else FORMS[form].mutate(random.Random(f"{form} {number}"))
        return FORMS[form].compare(made, folder)
    except NetferryError:
        return "refused"
    except AssertionError as error:
        return "fault: seen in two ways: " + " ".join(str(error).split())[:300]
    except Exception as error:
        return f"fault: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def alike(form: str, seeds: range, folder: Path) -> Counter[str]:
    """By fate, how many mutants were refused by the look, refused later, seen alike, or ended TensorFlow's process; -1 is the good file.

    Raises:
        AssertionError: one was seen in two ways, or our reader failed at it in no ordinary way.
    """
    import netferry.converters.tensorflow.tflite.interpreter  # noqa: F401 - once, before the children

    found, left = Counter[str](), list(seeds)
    while left:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            faulthandler.disable()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            for number in left:
                signal.alarm(PATIENCE)
                os.write(writing, f"{_fate(form, number, folder)}\n".encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, errors="replace") as answers:
            fates = answers.read().splitlines()
        _, status = os.waitpid(child, 0)
        for number, fate in zip(left, fates, strict=False):
            assert not fate.startswith("fault"), f"{form} {number}: {fate}"
            found[fate] += 1
        if len(fates) < len(left):
            found[f"TensorFlow ended by {os.waitstatus_to_exitcode(status)}"] += 1
        left = left[len(fates) + 1 :]
    return found


@pytest.mark.parametrize("form", FORMS)
def test_no_two_readers_of_tensorflow_see_two_files(form: str, tmp_path: Path) -> None:
    found = alike(form, range(-1, EVERYDAY), tmp_path)
    assert found["alike"] > EVERYDAY // 50 and found["refused"] > EVERYDAY // 10


@pytest.mark.parametrize("form", FORMS)
def test_the_good_file_is_seen_alike(form: str, tmp_path: Path) -> None:
    assert alike(form, range(-1, 0), tmp_path) == {"alike": 1}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_no_two_readers_of_tensorflow_see_two_files_in_ten_thousand(form: str, tmp_path: Path) -> None:
    assert alike(form, range(EVERYDAY, EVERYDAY + ALL), tmp_path)["alike"] > ALL // 50
