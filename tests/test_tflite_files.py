"""Flatbuffers that were damaged, by chance or on purpose: read as they stand, or refused in a sentence."""

from __future__ import annotations

import struct
from pathlib import Path

import flat_files as flat
import numpy as np
import pytest
from lite_models import functional, of_keras, opened

from netferry.converters import artifact, source
from netferry.converters.errors import NetferryError, RefusedError
from netferry.converters.tensorflow.runtime import keras
from netferry.converters.tensorflow.tflite import interpreter
from netferry.converters.tensorflow.tflite.schema import DTYPES, OPERATORS, TABLES
from netferry.converters.trust import flatbuffers

L = keras.layers
DECLARED = {
    "Root": "number:i32=7 text:str parts:[Part] numbers:[f32]",
    "Part": "next:Part flag:bool=1 5@far:u8",
}


@pytest.fixture(scope="module")
def content() -> bytes:
    return of_keras(functional(lambda x: L.Dense(3)(L.Flatten()(L.Conv2D(4, 3)(x))), 6, 6, 2))


def root(data: bytes) -> flatbuffers.Message:
    return flatbuffers.root(DECLARED, "Root", memoryview(data), "here")


def table(fields: dict[int, bytes], count: int) -> bytes:
    """A vtable and its table; each field is four bytes, distances counted by whoever gives them."""
    vtable = [4 + 2 * count, 4 + 4 * len(fields)] + [0] * count
    for place, number in enumerate(fields):
        vtable[2 + number] = 4 + 4 * place
    head = struct.pack(f"<{len(vtable)}H", *vtable)
    return head + struct.pack("<i", len(head)) + b"".join(fields.values())


def test_fields_that_are_left_out_have_their_defaults() -> None:
    body = table({}, 0)
    found = root(struct.pack("<I", 4 + 4) + body)
    assert (found.number, found.text, found.parts, len(found.numbers)) == (7, "", [], 0)


def test_a_number_stands_where_the_table_says() -> None:
    body = table({0: struct.pack("<i", -3)}, 1)
    assert root(struct.pack("<I", 4 + 6) + body).number == -3


def test_a_list_that_is_longer_than_the_file_is_refused() -> None:
    body = table({3: struct.pack("<I", 4)}, 4) + struct.pack("<I", 1 << 30)
    with pytest.raises(RefusedError, match="longer than the file"):
        _ = root(struct.pack("<I", 4 + 12) + body).numbers


def test_what_is_pointed_to_over_and_over_is_refused() -> None:
    """Tables that share one long list would be read as often as there are of them."""
    data = struct.pack("<2I", 4, 2000) + bytes(8000)
    file = flatbuffers._File(memoryview(data), "here", {}, left=8 * len(data))
    read = 0
    with pytest.raises(RefusedError, match="over and over"):
        for read in range(2000):  # noqa: B007
            assert file.vector(0, 4) == (8, 2000)
    assert 5 < read < 10


def test_every_cut_and_every_turned_byte_is_read_or_refused(content: bytes, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    path = tmp_path / "model.tflite"
    refused = 0
    for trial in range(300):
        damaged = bytearray(content)
        if trial % 10 == 0:
            damaged = damaged[: draw.integers(8, len(content))]
        for _ in range(draw.integers(1, 6)):
            damaged[draw.integers(8, len(damaged))] = draw.integers(0, 256)
        path.write_bytes(damaged)
        try:
            source.open_source(path)
        except NetferryError as error:
            refused += 1
            assert "\n" not in str(error).strip()
    assert refused > 20


def test_a_file_is_known_by_its_content_under_any_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    assert artifact.look(path).kind == "tflite"


def test_another_version_and_an_empty_model_are_refused(content: bytes, tmp_path: Path) -> None:
    for damaged, why in (
        (content[:4] + b"TFL2" + content[8:], "not a model"),
        (b"\x08\0\0\0TFL3" + bytes(40), "flatbuffer|version"),
    ):
        with pytest.raises(RefusedError, match=why):
            opened(damaged, tmp_path)


def test_the_tables_are_those_of_the_format() -> None:
    """Held against what TensorFlow generates from the schema."""
    schema = pytest.importorskip("tensorflow.lite.python.schema_py_generated")
    named = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    assert dict(enumerate(OPERATORS)) == named
    sizes = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    assert {sizes[code] for code in DTYPES} >= {
        "FLOAT32",
        "FLOAT16",
        "INT8",
        "UINT8",
        "INT16",
        "INT32",
        "INT64",
        "BOOL",
    }
    for table_, fields in TABLES.items():
        made = getattr(schema, table_)
        number = 0
        for field in fields.split():
            place, _, rest = field.rpartition("@")
            number = int(place) if place else number
            name = "".join(part[:1].upper() + part[1:] for part in rest.partition(":")[0].split("_")).replace(
                "Adjoint", "Adj"
            )
            assert hasattr(made, name), f"{table_}.{name}"
            assert str(4 + 2 * number) in str(getattr(made, name).__code__.co_consts), f"{table_}.{name}"
            number += 1


@pytest.mark.parametrize("needed", [True, False])
def test_operators_of_tensorflow_are_not_handed_to_the_interpreter(needed: bool, tmp_path: Path) -> None:
    model = flat.relu()
    model["operator_codes"].append(
        {"builtin_code": 32, "deprecated_builtin_code": 32, "custom_code": "FlexWriteFile"}
    )
    graph = model["subgraphs"][0]
    graph["tensors"].append(flat.tensor("z"))
    graph["operators"].append(flat.operator([0], [2], 1))
    graph["outputs"] = [2 if needed else 1]
    path = tmp_path / "net.tflite"
    path.write_bytes(flat.packed(model))
    read = source.open_source(path)
    with pytest.raises(RefusedError, match=r"may act outside the model.*FlexWriteFile"):
        interpreter.run(read, [np.ones((2, 4), np.float32)])
