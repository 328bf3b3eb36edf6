"""Lowers join(): the words that an array of char* points to, up to a null pointer."""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.lowering import Lowering, Remote
from insitu.probe.codegen.maps import count_lost
from insitu.probe.layout import LOST_RING_FULL, RecordLayout
from insitu.probe.types import Pointer, Space, String, Tuple

__all__ = ["join"]


def join(low: Lowering, subject: ast.Expression, separator: str, *, words: int, word_bytes: int) -> None:
    """Send up to ``words`` strings of up to ``word_bytes``; missing ones are empty."""
    emit = low.emit
    space = subject.type.space if isinstance(subject.type, Pointer) else Space.ANY
    fields = Tuple((String(word_bytes),) * words)
    layout = RecordLayout("join", separator, fields, ring=low.layout.ring_map())
    address = low.value(subject)
    number = low.layout.record(layout)
    record = emit.call(Helper.RINGBUF_RESERVE, emit.map(layout.ring), f"i64 {layout.size}", "i64 0", answers="ptr")
    full, room, end = emit.label(), emit.label(), emit.label()
    emit.branch_if(emit.is_null(record), full, room)
    emit.block(room)
    emit.store(str(number), record)
    for index in range(words):
        pointer = emit.offset(record, 8 + index * word_bytes)
        word = low.read_scalar(Remote(address, space), 8 * index, 8, False)
        # A null address reads as an empty string, and so does everything behind it.
        emit.store("0", pointer)
        _read_word(low, pointer, word_bytes, Remote(word, space))
        ended = emit.value(f"icmp eq i64 {word}, 0")
        address = emit.select(ended, "0", address)
    emit.call(Helper.RINGBUF_SUBMIT, f"ptr {record}", "i64 0")
    emit.branch(end)
    emit.block(full)
    count_lost(low, LOST_RING_FULL)
    emit.block(end)


def _read_word(low: Lowering, pointer: str, capacity: int, place: Remote) -> None:
    helper = {
        Space.KERNEL: Helper.PROBE_READ_KERNEL_STR,
        Space.USER: Helper.PROBE_READ_USER_STR,
        Space.ANY: Helper.PROBE_READ_STR,
    }[place.space]
    low.emit.call(helper, f"ptr {pointer}", f"i64 {capacity}", f"i64 {place.address}")
