"""Lowers records with parts of variable size: strings, buffers and stacks take the bytes they have.

bpf_ringbuf_reserve() wants a constant size, so such a record is put together in scratch memory and copied into the
ring. Its fields come first, of each part its length; then the parts, each padded to a multiple of 8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from insitu.kernel.calling_convention import COPIED_REGISTERS
from insitu.probe import ast
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.integers import inverted, negative
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.layout import RecordLayout
from insitu.probe.types import Buffer, Stack, String, Tuple, Type, Variable

__all__ = ["Append", "Part", "bounded", "largest_record", "output", "parts_of"]

# Writes a value of variable size to a pointer: the i64 of how many bytes it has, negative for an error.
Append = Callable[[Lowering, Type, ast.Expression, str], str]


class Part(Struct, frozen=True):
    """A part of a record: where the record has its length, its type, and the expression that it holds."""

    at: int
    kind: Type
    value: ast.Expression


def parts_of(fields: Tuple, values: Sequence[ast.Expression | None]) -> list[Part]:
    """The parts among a record's fields; ``values`` has each field's expression, None where it is not a part."""
    return [
        Part(8 + fields.offset(index), kind.element, value)
        for index, (kind, value) in enumerate(zip(fields.elements, values, strict=True))
        if isinstance(kind, Variable) and value is not None
    ]


def largest_record(layout: RecordLayout, parts: Sequence[Part]) -> int:
    """The most bytes that a record with these parts may have, as far as the verifier knows."""
    return layout.size + sum(_room(part.kind) for part in parts)


def output(
    low: Lowering,
    layout: RecordLayout,
    parts: Sequence[Part],
    append: Append,
    fill: Callable[[str], None],
    wakeup: Callable[[], str] = lambda: "0",
) -> str:
    """Send a record whose fields but the parts ``fill`` writes, given a pointer: i1, whether it was lost.

    ``wakeup`` results in the flags of bpf_ringbuf_output().
    """
    emit = low.emit
    with low.temporaries():
        record = low.temporary(largest_record(layout, parts))
        fill(record)
        end = str(layout.size)
        for part in parts:
            low.span = part.value.span
            length = bounded(low, part.kind, append(low, part.kind, part.value, emit.offset(record, end)))
            emit.store(length, emit.offset(record, part.at))
            padded = emit.hidden(emit.op("and", emit.op("add", length, "7"), "-8"))
            end = emit.hidden(emit.op("add", end, padded))
        sent = emit.call(
            Helper.RINGBUF_OUTPUT, emit.map(layout.ring), f"ptr {record}", f"i64 {end}", f"i64 {wakeup()}"
        )
        return emit.value(f"icmp ne i64 {sent}, 0")


def _room(kind: Type) -> int:
    """Bytes to keep for a part: as many as the verifier thinks it may have, and its padding."""
    if isinstance(kind, Stack) and kind.mode == "dwarf":
        return -(-(8 * len(COPIED_REGISTERS) + kind.limit) // 8) * 8
    return _mask(kind) + 1 + 8


def _mask(kind: Type) -> int:
    """All bits that the length of a part may have."""
    assert isinstance(kind, String | Buffer | Stack)
    most = 8 * kind.limit if isinstance(kind, Stack) else kind.capacity
    return (1 << most.bit_length()) - 1


def bounded(low: Lowering, kind: Type, length: str) -> str:
    """A length in a form whose bounds the verifier sees, 0 for an error; it would follow each branch by itself."""
    emit = low.emit
    if isinstance(kind, Stack) and kind.mode == "dwarf":
        return length
    length = emit.op("and", length, inverted(emit, negative(emit, length)))
    return emit.hidden(emit.op("and", emit.hidden(length), str(_mask(kind))))
