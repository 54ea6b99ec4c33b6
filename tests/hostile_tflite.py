"""TFLite files that lie: places outside, tables that are one another, tensors that are not there, weights from nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flat_files as flat
from flat_files import Table, operator, subgraph, tensor
from hostile import Kit, cases

Change = Callable[[Table], Table | None]
DAMAGED = "damaged|not a whole flatbuffer"


def main(model: Table) -> Table:
    return model["subgraphs"][0]  # type: ignore[no-any-return]


def _set(table: Callable[[Table], Table], **values: Any) -> Change:
    return lambda model: table(model).update(values)


def _sparse(shape: list[int], levels: list[Table], values: bytes, **more: Any) -> Change:
    """The output is the input and a sparse weight, added."""

    def change(model: Table) -> None:
        tree = {"traversal_order": list(range(len(shape))), "block_map": [], "dim_metadata": levels, **more}
        weight = tensor("w", shape, buffer=1, sparsity=tree)
        main(model)["tensors"].append(weight)
        main(model)["operators"][0]["inputs"] = [0, 2]
        model["operator_codes"][0] = flat.model([], ["ADD"])["operator_codes"][0]
        model["buffers"].append({"data": values})

    return change


def _level(size: int) -> Table:
    return {"format": 0, "dense_size": size}


def _segments(segments: list[int], indices: list[int]) -> Table:
    vectors = {"array_segments": segments, "array_indices": indices}
    made: Table = {"format": 1}
    for name, values in vectors.items():
        made |= {f"{name}_type": 1, name: {"": "Int32Vector", "values": values}}
    return made


def _calling(kind: str, options: str, number: int, *targets: int) -> Change:
    """A subgraph that runs others, itself among them."""

    def change(model: Table) -> None:
        model["operator_codes"][0] = flat.model([], [kind])["operator_codes"][0]
        names = {"IfOptions": ("then_subgraph_index", "else_subgraph_index"), "CallOptions": ("subgraph",),
                 "WhileOptions": ("cond_subgraph_index", "body_subgraph_index")}[options]  # fmt: skip
        told = {"": options, **dict(zip(names, targets, strict=True))}
        main(model)["operators"][0] |= {"builtin_options_type": number, "builtin_options": told}

    return change


def _shared_subgraphs(model: Table) -> None:
    many = subgraph([tensor("x"), tensor("y")], [operator([0], [1])] * 900)
    model["subgraphs"] = [many] * 900


def _shared_operators(model: Table) -> None:
    main(model)["operators"] = [operator([0], [1])] * 40_000


def _shared_tensors(model: Table) -> None:
    main(model)["tensors"] += [tensor("t")] * 90_000


CHANGES: Mapping[str, tuple[Change, str]] = {
    "operator_code_outside": (_set(lambda m: main(m)["operators"][0], opcode_index=7), DAMAGED),
    "operator_code_2_31": (_set(lambda m: main(m)["operators"][0], opcode_index=1 << 31), DAMAGED),
    "input_outside": (_set(lambda m: main(m)["operators"][0], inputs=[9]), DAMAGED),
    "input_below_zero": (_set(lambda m: main(m)["operators"][0], inputs=[-2]), DAMAGED),
    "output_outside": (_set(lambda m: main(m)["operators"][0], outputs=[1 << 20]), DAMAGED),
    "output_missing": (_set(lambda m: main(m)["operators"][0], outputs=[-1]), DAMAGED),
    "graph_input_outside": (_set(main, inputs=[5]), DAMAGED),
    "graph_output_outside": (_set(main, outputs=[-1]), DAMAGED),
    "buffer_outside": (_set(lambda m: main(m)["tensors"][1], buffer=4), DAMAGED),
    "buffer_far_away": (_set(lambda m: m["buffers"][0], data=b"", offset=1 << 60, size=64), DAMAGED),
    "buffer_that_wraps": (_set(lambda m: m["buffers"][0], data=b"", offset=(1 << 64) - 8, size=16), DAMAGED),
    "weights_in_another_file": (_set(lambda m: main(m)["tensors"][1], external_buffer=1), "another file"),
    "weight_of_too_few_bytes": (lambda m: m["buffers"].append({"data": b"1234"}) or main(m)["tensors"][1].update(buffer=1), "as many bytes"),
    "weight_of_a_free_size": (lambda m: m["buffers"].append({"data": b"1234"}) or main(m)["tensors"][1].update(buffer=1, shape=[-1, 4]), "free size"),
    "weight_of_2_62_numbers": (lambda m: m["buffers"].append({"data": b"1234"}) or main(m)["tensors"][1].update(buffer=1, shape=[1 << 31 - 1] * 2), "as many bytes"),
    "half_bytes_of_another_count": (lambda m: m["buffers"].append({"data": b"123"}) or main(m)["tensors"][1].update(buffer=1, type=17), "as many bytes"),
    "signature_of_no_subgraph": (_set(lambda m: m, signature_defs=[{"signature_key": "s", "subgraph_index": 3}]), DAMAGED),
    "signature_of_no_tensor": (_set(lambda m: m, signature_defs=[{"signature_key": "s", "outputs": [{"name": "o", "tensor_index": 8}]}]), DAMAGED),
    "scales_of_another_axis": (_set(lambda m: main(m)["tensors"][0], type=9, quantization={"scale": [1.0, 2.0, 3.0], "quantized_dimension": 5}), "do not fit"),
    "zeros_of_another_count": (_set(lambda m: main(m)["tensors"][0], type=9, quantization={"scale": [1.0], "zero_point": [1] * 7}), "do not fit"),
    "calls_itself": (_calling("CALL", "CallOptions", 16, 0), "calls itself"),
    "branches_are_itself": (_calling("IF", "IfOptions", 92, 0, 0), "calls itself"),
    "loop_of_itself": (_calling("WHILE", "WhileOptions", 93, 0, 0), "calls itself"),
    "runs_no_subgraph": (_calling("WHILE", "WhileOptions", 93, 7, 8), DAMAGED),
    "one_subgraph_listed_often": (_shared_subgraphs, "over and over"),
    "one_operator_listed_often": (_shared_operators, "over and over"),
    "one_tensor_listed_often": (_shared_tensors, "over and over"),
    "sparse_2_30": (_sparse([1 << 15, 1 << 15], [_level(1 << 15), _segments([0] * ((1 << 15) + 1), [])], b"\0" * 0 + b"1234"), "far larger|damaged"),
    "sparse_rows_2_30": (_sparse([1 << 30], [_segments([0, 1], [0])], b"1234"), "far larger"),
    "sparse_indices_outside": (_sparse([2, 4], [_level(2), _segments([0, 1, 2], [0, 4])], b"12345678"), DAMAGED),
    "sparse_segments_that_fall": (_sparse([2, 4], [_level(2), _segments([0, 3, 2], [0, 1])], b"12345678"), DAMAGED),
    "sparse_axes_twice": (_sparse([2, 4], [_level(2), _level(4)], b"12345678", traversal_order=[0, 0]), DAMAGED),
    "sparse_blocks_of_nothing": (_sparse([2, 4], [_level(2), _level(4), _level(0)], b"12345678", traversal_order=[0, 1, 2], block_map=[1]), DAMAGED),
    "sparse_half_a_number": (_sparse([2, 4], [_level(2), _segments([0, 1, 2], [0, 1])], b"123456789"), "as many bytes"),
    "name_with_a_zero": (_set(lambda m: main(m)["tensors"][1], name=b"y\0z"), DAMAGED),
    "name_that_is_no_text": (_set(lambda m: main(m)["tensors"][1], name=b"\xff\xfe"), DAMAGED),
    "signature_with_a_zero": (_set(lambda m: m, signature_defs=[{"signature_key": b"s\0t", "subgraph_index": 0}]), DAMAGED),
    "weight_in_two_places": (lambda m: m["buffers"].append({"data": b"1234" * 8, "offset": 8, "size": 32}) or main(m)["tensors"].append(tensor("w", buffer=1)), "two places"),
    "weight_in_two_places_of_which_one_is_empty": (lambda m: m["buffers"].append({"data": b"1234" * 8, "offset": 2, "size": 0}) or main(m)["tensors"].append(tensor("w", buffer=1)), "two places"),
    "writes_its_own_input": (_set(lambda m: main(m)["operators"][0], outputs=[0]), DAMAGED),
    "writes_a_constant": (lambda m: m["buffers"].append({"data": b"1234" * 8}) or main(m)["tensors"][1].update(buffer=1), DAMAGED),
    "writes_what_another_has_written": (lambda m: main(m)["operators"].append(operator([0], [1])), DAMAGED),
    "writes_what_it_reads": (_set(lambda m: main(m)["operators"][0], inputs=[0, 1]), DAMAGED),
    "another_version": (_set(lambda m: m, version=9), "another version"),
    "no_subgraph": (_set(lambda m: m, subgraphs=[]), "no graph"),
}  # fmt: skip


@cases(CHANGES, "tflite")  # type: ignore[arg-type]
def _changed(kit: Kit, change: object) -> Path:
    model = flat.relu()
    made = change(model)  # type: ignore[operator]
    path = kit.folder / "net.tflite"
    path.write_bytes(flat.packed(made if isinstance(made, dict) and "version" in made else model))
    return path


def _at(content: bytes) -> int:
    return int(struct.unpack_from("<I", content)[0])


def _vtable(content: bytes) -> int:
    return _at(content) - int(struct.unpack_from("<i", content, _at(content))[0])


BYTES: Mapping[str, tuple[Callable[[bytes], dict[int, bytes]], str]] = {
    "root_outside": (lambda c: {0: struct.pack("<I", len(c) + 8)}, DAMAGED),
    "root_at_its_end": (lambda c: {0: struct.pack("<I", len(c) - 2)}, DAMAGED),
    "vtable_outside": (lambda c: {_at(c): struct.pack("<i", -(1 << 30))}, DAMAGED),
    "vtable_before_the_file": (lambda c: {_at(c): struct.pack("<i", 1 << 30)}, DAMAGED),
    "vtable_is_the_table": (lambda c: {_at(c): struct.pack("<i", 0)}, DAMAGED),
    "vtable_of_64_kilobytes": (lambda c: {_vtable(c): struct.pack("<H", 0xFFFE)}, DAMAGED),
    "table_of_64_kilobytes": (lambda c: {_vtable(c) + 2: struct.pack("<H", 0xFFFE)}, DAMAGED),
    "field_outside_of_its_table": (lambda c: {_vtable(c) + 8: struct.pack("<H", 0xFFF0)}, DAMAGED),
    "subgraphs_without_number": (lambda c: {_list(c): struct.pack("<I", 1 << 31)}, DAMAGED),
    "subgraph_is_the_model": (lambda c: {_list(c) + 4: struct.pack("<i", _at(c) - _list(c) - 4)}, DAMAGED),
    "list_that_begins_outside": (lambda c: {_field(c): struct.pack("<I", 0xFFFFFFF0)}, DAMAGED),
}  # fmt: skip


def _field(content: bytes) -> int:
    """Where the model's list of subgraphs is pointed to: its third field."""
    return _at(content) + int(struct.unpack_from("<H", content, _vtable(content) + 8)[0])


def _list(content: bytes) -> int:
    return _field(content) + int(struct.unpack_from("<I", content, _field(content))[0])


@cases(BYTES, "tflite")  # type: ignore[arg-type]
def _overwritten(kit: Kit, change: object) -> Path:
    content = bytearray(flat.packed(flat.relu()))
    for at, new in change(bytes(content)).items():  # type: ignore[operator]
        content[at : at + len(new)] = new
    path = kit.folder / "net.tflite"
    path.write_bytes(content)
    return path
