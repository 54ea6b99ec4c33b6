"""Mutants of two binary forms: TFLite's flatbuffers, and the sorted tables of TensorFlow's checkpoints.

Each is made from a good file, as it is told or as it stands, and a seeded draw; check sums are made right again, so that readers get far enough to differ.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import flat_files as flat
from flat_files import Table, operator, subgraph, tensor
from operator_mutants import decoded, proto_mutant
from structure_mutants import NUMBERS
from table_files import Entry, varint

from netferry.converters.trust.crc32c import masked

# ---- TFLite: as it is told -------------------------------------------------------------------------


def lite() -> Table:
    """A sum, a product by a quantised weight, and a branch of two subgraphs."""
    weight = {"scale": [0.5, 0.25], "zero_point": [0, 0], "quantized_dimension": 0}
    main = [
        tensor("x"), tensor("y"), tensor("w", [2, 4], buffer=1), tensor("q", [2, 4], buffer=2, type=9, quantization=weight),
        tensor("s"), tensor("p", [1], buffer=3, type=6), tensor("r", [2], buffer=4, type=2), tensor("z", [2, 4], shape_signature=[-1, 4]),
    ]  # fmt: skip
    branch = {
        "builtin_options_type": 92,
        "builtin_options": {"": "IfOptions", "then_subgraph_index": 1, "else_subgraph_index": 2},
    }
    softmax = {"builtin_options_type": 9, "builtin_options": {"": "SoftmaxOptions", "beta": 2.0}}
    steps = [operator([0, 2], [4], 0), operator([4], [7], 1, **softmax), operator([5, 7], [1], 2, **branch)]
    others = [
        subgraph([tensor("a"), tensor("b")], [operator([0], [1], 3)]),
        subgraph([tensor("c"), tensor("d")], [operator([0], [1], 4)]),
    ]
    served = {
        "inputs": [{"name": "in", "tensor_index": 0}], "outputs": [{"name": "out", "tensor_index": 1}],
        "signature_key": "serving_default", "subgraph_index": 0,
    }  # fmt: skip
    numbers = struct.pack("<8f", *range(8))
    buffers = [{"data": each} for each in (b"", numbers, bytes(range(8)), b"\1", struct.pack("<2i", 2, 4))]
    made = flat.model([subgraph(main, steps), *others], ["ADD", "SOFTMAX", "IF", "RELU", "TANH"])
    return made | {"buffers": buffers, "signature_defs": [served]}


def _tables(value: Any) -> list[Table]:
    found, waiting = [], [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            found.append(here)
            waiting.extend(here.values())
        elif isinstance(here, list):
            waiting.extend(here)
    return found


def _lists(model: Table) -> list[list[Any]]:
    return [value for each in _tables(model) for value in each.values() if isinstance(value, list) and value]


def _fit(kind: str, value: int) -> Any:
    """A number as a field of this kind holds it."""
    code = flat._CODES[kind]
    if code in "fd":
        return float(value & 0xFFFF)
    size = struct.calcsize(code)
    return struct.unpack(f"<{code}", (value & ((1 << 8 * size) - 1)).to_bytes(size, "little"))[0]


def _number(model: Table, draw: random.Random) -> None:
    """A field of numbers, said or not said before."""
    table = draw.choice(_tables(model))
    kind = table.get("", "") or next(iter(_kinds(table)))
    plain = [(name, each.kind) for name, each in flat._FIELDS[kind].items() if each.kind in flat._CODES]
    if plain:
        name, own = draw.choice(plain)
        table[name] = _fit(own, draw.choice((*NUMBERS, 3, 6, 9, 17, 92, 126, 127, 128)))


def _kinds(table: Table) -> Sequence[str]:
    """The tables that have all fields of this one."""
    found = [kind for kind, fields in flat._FIELDS.items() if all(name in fields for name in table if name)]
    return found or ["Model"]


def _element(model: Table, draw: random.Random) -> None:
    """A number in a list, a table twice, in another place, gone, or the same object in two places."""
    chosen = draw.choice(_lists(model))
    at = draw.randrange(len(chosen))
    if isinstance(chosen[at], int) and draw.random() < 0.6:
        chosen[at] = draw.choice((0, 1, 2, 5, -1, len(chosen), 0x7FFFFFFF))
        return
    change = draw.randrange(5)
    if change == 0:
        chosen.insert(draw.randint(0, len(chosen)), chosen[at])
    elif change == 1:
        chosen.insert(draw.randrange(len(chosen)), chosen.pop(at))
    elif change == 2 and len(chosen) > 1:
        chosen.pop(at)
    elif change == 3:
        chosen[at] = draw.choice(chosen)
    elif isinstance(chosen[at], dict):
        chosen.append(dict(chosen[at]))


def _named(model: Table, draw: random.Random) -> None:
    """Another name, or one that stands twice."""
    found = [
        (each, name)
        for each in _tables(model)
        for name in ("name", "signature_key", "custom_code")
        if name in each
    ]
    table, name = draw.choice(found)
    table[name] = draw.choice(
        (b"x", b"y", b"", b"serving_default", b"a\0b", b"\xff\xfe", "Ａ", "x" * 300, b"../x")
    )


def _bytes_elsewhere(model: Table, draw: random.Random) -> None:
    """A buffer that says both: bytes within, and a place in the file."""
    table = draw.choice(model["buffers"])
    table |= {"offset": draw.choice((0, 1, 2, 8, 64, *NUMBERS)), "size": draw.choice((0, 1, 4, 32, *NUMBERS))}
    if draw.random() < 0.5:
        table["data"] = draw.choice((b"", b"1234", bytes(32), bytes(33)))


def _custom(model: Table, draw: random.Random) -> None:
    """An operator under two numbers, or by a name of its own."""
    code = draw.choice(model["operator_codes"])
    code |= draw.choice((
        {"custom_code": b"evil", "builtin_code": 32, "deprecated_builtin_code": 32}, {"builtin_code": draw.randrange(210)},
        {"deprecated_builtin_code": draw.randrange(128)}, {"custom_code": b"FlexReadFile"}, {"deprecated_builtin_code": -1},
        {"deprecated_builtin_code": 127, "builtin_code": 127 + draw.randrange(80)}, {"version": draw.choice((0, 2, 99, -1))},
    ))  # fmt: skip


def _options(model: Table, draw: random.Random) -> None:
    """The options of another operator, or of a number that has none."""
    step = draw.choice([each for graph in model["subgraphs"] for each in graph.get("operators", ())] or [{}])
    kinds = (
        "SoftmaxOptions",
        "IfOptions",
        "AddOptions",
        "Conv2DOptions",
        "WhileOptions",
        "CallOptions",
        "ReshapeOptions",
    )
    step["builtin_options_type"] = draw.choice((0, 1, 9, 11, 17, 92, 93, 126, 255))
    if draw.random() < 0.6:
        step["builtin_options"] = {"": draw.choice(kinds)}


LITE: Sequence[Callable[[Table, random.Random], None]] = (
    _number, _number, _number, _element, _element, _element, _named, _bytes_elsewhere, _custom, _options,
)  # fmt: skip

# ---- TFLite: as it stands --------------------------------------------------------------------------


def _places(content: bytearray, draw: random.Random) -> None:
    """A distance that leads to another place, a count, or a place in a table of fields."""
    width = draw.choice((2, 4, 4))
    at = draw.randrange(0, len(content) - width, width)
    held = int.from_bytes(content[at : at + width], "little")
    told = draw.choice((
        draw.choice(NUMBERS), held + draw.choice((-8, -4, -2, -1, 1, 2, 4, 8)), draw.randrange(0, len(content), 4) - at, 4, 8,
        int.from_bytes(content[(other := draw.randrange(0, len(content) - width, width)) : other + width], "little"),
    ))  # fmt: skip
    content[at : at + width] = (told & ((1 << 8 * width) - 1)).to_bytes(width, "little")


def _distance(content: bytearray, draw: random.Random) -> None:
    """What looks like a distance is made to lead to where another leads."""
    leads = {at: at + int.from_bytes(content[at : at + 4], "little") for at in range(0, len(content) - 4, 4)}
    inside = [at for at, to in leads.items() if at < to < len(content) - 4]
    at, other = draw.choice(inside), draw.choice(inside)
    content[at : at + 4] = ((leads[other] - at) & 0xFFFFFFFF).to_bytes(4, "little")


def _around(content: bytearray, draw: random.Random) -> None:
    more = bytes(draw.choice((1, 4, 64)))
    draw.choice(
        (
            lambda: content.extend(more),
            lambda: content.extend(content),
            lambda: content.__delitem__(slice(-len(more), None)),
        )
    )()


RAW: Sequence[Callable[[bytearray, random.Random], None]] = (
    _places,
    _places,
    _places,
    _distance,
    _distance,
    _around,
)


def mutant_of_lite(draw: random.Random) -> bytes:
    """One or two changes to what is told, or to the bytes that hold it together, or to both."""
    model, how = lite(), draw.random()
    if how < 0.6:
        for _ in range(draw.choice((1, 1, 2))):
            draw.choice(LITE)(model, draw)
    content = bytearray(flat.packed(model))
    if how > 0.5:
        for _ in range(draw.choice((1, 1, 2))):
            draw.choice(RAW)(content, draw)
    return bytes(content)


# ---- checkpoints -----------------------------------------------------------------------------------


class Block:
    """A block as it is written: its entries, how often a key is written whole, and what its end says."""

    def __init__(self, entries: list[Entry], every: int) -> None:
        self.entries, self.every = entries, every
        self.restarts: Callable[[list[int]], list[int]] = lambda found: found
        self.change: Callable[[bytearray], None] = lambda body: None
        self.packing = 0

    def bytes(self) -> bytes:
        body, last, begins = bytearray(), b"", []
        for place, (key, value) in enumerate(self.entries):
            shared = 0
            if place % self.every:
                while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                    shared += 1
            else:
                begins.append(len(body))
            body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
            last = key
        self.change(body)
        found = self.restarts(begins or [0])
        return bytes(body) + struct.pack(
            f"<{len(found) + 1}I", *[each & 0xFFFFFFFF for each in found], len(found)
        )


class TableFile:
    """A table of blocks: what its index says of them, and its last 48 bytes."""

    def __init__(self, entries: Sequence[Entry], cut: int, every: int) -> None:
        parts = [list(entries[at : at + cut]) for at in range(0, len(entries), cut)]
        self.blocks = [Block(part, every) for part in parts]
        self.separators = [part[-1][0] for part in parts]
        self.order = list(range(len(parts)))
        self.handles: Callable[[list[tuple[int, int]]], list[tuple[int, int]]] = lambda found: found
        self.end: Callable[[bytes], bytes] = lambda content: content
        self.index: Callable[[Block], None] = lambda block: None

    def bytes(self) -> bytes:
        data, handles = bytearray(), []
        for each in self.blocks:
            content = each.bytes()
            handles.append((len(data), len(content)))
            data += self._trailed(content, each.packing)
        handles = self.handles(handles)
        rows = [
            (name, b"".join(map(varint, handles[place])))
            for name, place in zip(self.separators, self.order, strict=True)
        ]
        index = Block(rows, 1)
        self.index(index)
        content, at = index.bytes(), len(data)
        data += self._trailed(content, index.packing)
        footer = varint(0) + varint(0) + varint(at) + varint(len(content))
        return self.end(bytes(data) + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))

    @staticmethod
    def _trailed(content: bytes, packing: int) -> bytes:
        whole = content + bytes([packing])
        return whole + struct.pack("<I", masked(whole))


Change = Callable[[TableFile, random.Random], None]


def _entry_order(it: TableFile, draw: random.Random) -> None:
    chosen = draw.choice(it.blocks).entries
    at = draw.randrange(len(chosen))
    draw.choice((
        lambda: chosen.insert(draw.randint(0, len(chosen)), chosen[at]), lambda: chosen.insert(draw.randrange(len(chosen)), chosen.pop(at)),
        lambda: len(chosen) > 1 and chosen.pop(at), lambda: chosen.insert(at, (chosen[at][0], draw.choice(draw.choice(it.blocks).entries)[1])),
    ))()  # fmt: skip


def _entry_key(it: TableFile, draw: random.Random) -> None:
    chosen = draw.choice(it.blocks).entries
    at = draw.randrange(len(chosen))
    key, value = chosen[at]
    other = draw.choice(
        (
            key + b"\0",
            key + b"x",
            key[:-1],
            key.upper(),
            b"\xff" + key,
            b"zz",
            b"",
            key + b"/a",
            b"\xe4",
            key.swapcase(),
        )
    )
    chosen[at] = (other, value)
    if draw.random() < 0.6:
        chosen.sort(key=lambda each: each[0])


def _entry_value(it: TableFile, draw: random.Random) -> None:
    """The message of an entry: fields twice, apart, of another type, other numbers."""
    chosen = draw.choice(it.blocks).entries
    at = draw.randrange(len(chosen))
    key, value = chosen[at]
    chosen[at] = (key, proto_mutant(value, draw) if decoded(value) else b"\x08\x01")


def _block_ends(it: TableFile, draw: random.Random) -> None:
    changes: Sequence[Callable[[list[int]], list[int]]] = (
        lambda found: [*found, found[-1]], lambda found: [*found, 7], lambda found: found[::-1], lambda found: found[1:] or [0],
        lambda found: [each + 1 for each in found], lambda found: [], lambda found: found[:1], lambda found: [*found, 1 << 20], lambda found: [5, *found],
    )  # fmt: skip
    draw.choice(it.blocks).restarts = draw.choice(changes)


def _block_body(it: TableFile, draw: random.Random) -> None:
    def change(body: bytearray) -> None:
        at = draw.randrange(len(body))
        draw.choice((
            lambda: body.__setitem__(at, draw.choice((0, 1, 2, 127, 128, 255))), lambda: body.extend(b"\0\0\0"), lambda: body.extend(b"\0\1\0z"),
            lambda: body.__setitem__(slice(at, at), b"\x80\0"), lambda: body.__delitem__(at), lambda: body.__setitem__(slice(0, 1), b"\x80\x00"),
        ))()  # fmt: skip

    draw.choice(it.blocks).change = change


def _index(it: TableFile, draw: random.Random) -> None:
    """Blocks in another order, twice, left out; separators that lie."""
    at = draw.randrange(len(it.order))
    change = draw.randrange(6)
    if change == 0:
        it.separators[at] = draw.choice(
            (b"", b"a", b"zzz", it.separators[at] + b"\0", it.separators[at][:-1], it.separators[-1])
        )
    elif change == 1:
        it.order[at] = draw.randrange(len(it.blocks))
    elif change == 2:
        it.order.insert(at, it.order[at])
        it.separators.insert(at, it.separators[at])
    elif change == 3 and len(it.order) > 1:
        del it.order[at], it.separators[at]
    elif change == 4:
        it.order.reverse()
    else:
        it.index = lambda block: setattr(block, draw.choice(("every", "packing")), 2)


def _handles(it: TableFile, draw: random.Random) -> None:
    def change(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
        at = draw.randrange(len(found))
        offset, size = found[at]
        found[at] = draw.choice(
            (
                (offset + 1, size),
                (offset, size - 1),
                (offset, size + 5),
                (0, size),
                (offset, 0),
                (1 << 40, size),
                (offset, 1 << 62),
            )
        )
        return found

    it.handles = change


def _packing(it: TableFile, draw: random.Random) -> None:
    draw.choice(it.blocks).packing = draw.choice((1, 2, 255))


def _end(it: TableFile, draw: random.Random) -> None:
    ends: Sequence[Callable[[bytes], bytes]] = (
        lambda c: c + b"x", lambda c: c + c[-48:], lambda c: b"x" + c, lambda c: c[:-1], lambda c: c[:-12] + b"more" + c[-8:],
        lambda c: c + c, lambda c: c[:-48] + b"\x80\0" + c[-48:-2], lambda c: c[:-48] + bytes(16) + c[-48:],
    )  # fmt: skip
    it.end = draw.choice(ends)


TABLE: Sequence[Change] = (
    _entry_order, _entry_order, _entry_key, _entry_key, _entry_value, _entry_value, _entry_value, _block_ends, _block_ends, _block_body, _block_body,
    _index, _index, _handles, _packing, _end,
)  # fmt: skip


def mutant_of_table(entries: Sequence[Entry], draw: random.Random) -> bytes:
    """One or two changes; the check sums of blocks are right."""
    it = TableFile(entries, draw.choice((1, 2, 3, 99)), draw.choice((1, 2, 16)))
    for _ in range(draw.choice((1, 1, 2))):
        draw.choice(TABLE)(it, draw)
    return it.bytes()
