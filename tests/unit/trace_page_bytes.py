"""Pages of a trace ring buffer, written as include/linux/ring_buffer.h describes them."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

PAGE_BYTES = 4096
HEADER_PAGE = """\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;
"""
MISSED_EVENTS, MISSED_STORED = 1 << 31, 1 << 30


class Written(NamedTuple):
    """A record: its time and its bytes, of which the kernel keeps a multiple of four."""

    ts_ns: int
    payload: bytes
    absolute: bool = False
    """Its time comes before it as a whole (RINGBUF_TYPE_TIME_STAMP)."""
    long: bool = False
    """Its length stands in a word of its own, as that of every record above 112 bytes does."""
    discarded_ns: int = 0
    """A record that was reserved and discarded comes before it, so much earlier."""


def _head(kind: int, delta: int, *words: int) -> bytes:
    return struct.pack("<I", kind | delta << 5) + b"".join(struct.pack("<I", word & 0xFFFFFFFF) for word in words)


def page(records: Sequence[Written], *, missed: int = 0, stored: bool = False, start_ns: int | None = None) -> bytes:
    """One page with these records."""
    now = start = start_ns if start_ns is not None else records[0].ts_ns if records else 0
    data = b""
    for each in records:
        if each.discarded_ns:
            data += _head(29, each.discarded_ns, 12) + bytes(8)
            now += each.discarded_ns if each.discarded_ns > 1 else 0
        delta = each.ts_ns - now
        if each.absolute:
            low = each.ts_ns & (1 << 59) - 1
            data += _head(31, low & (1 << 27) - 1, low >> 27)
            delta = 0
        elif delta >= 1 << 27:
            data += _head(30, delta & (1 << 27) - 1, delta >> 27)
            delta = 0
        payload = each.payload + bytes(-len(each.payload) % 4)
        if each.long or not 0 < len(payload) <= 112:
            data += _head(0, delta, len(payload) + 4) + payload
        else:
            data += _head(len(payload) // 4, delta) + payload
        now = each.ts_ns
    assert len(data) <= PAGE_BYTES - 16, "one page holds no more"
    commit = len(data) | (MISSED_EVENTS if missed else 0) | (MISSED_STORED if stored else 0)
    if stored:
        data += struct.pack("<Q", missed)
    return (struct.pack("<QQ", start, commit) + data).ljust(PAGE_BYTES, b"\xa5")


def bytes_of(event: int, tid: int, rest: bytes = b"") -> bytes:
    """A record's bytes: struct trace_entry, then the event's own."""
    return struct.pack("<HBBi", event, 0, 0, tid) + rest
