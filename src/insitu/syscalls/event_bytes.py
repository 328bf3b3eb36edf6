"""Events as bytes, for files: a record is its length, a kind, its numbers, and the memory that was read.

All numbers are little-endian. A file may end within a record, where its writer was killed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from insitu.syscalls.call import (
    NOTHING,
    Enter,
    Event,
    Executed,
    Exit,
    Exited,
    Forked,
    LostHere,
    Memory,
    Pieces,
    Signal,
    Stopped,
)

__all__ = ["decode", "encode", "read_events"]

_LENGTH: Final = struct.Struct("<I")
_MOST_BYTES: Final = 1 << 20
"""Of a record: the engine reads less than that of one call's memory."""
_ABIS: Final = ("x86_64", "i386", "x32", "aarch64")

_ENTER: Final = struct.Struct("<BQiiBQ6QQ?Q")
_EXIT: Final = struct.Struct("<BQiiq??")
_COUNTS: Final = struct.Struct("<II")  # pieces of memory, and descriptors
_PIECE: Final = struct.Struct("<QI")  # address and length
_DESCRIPTOR: Final = struct.Struct("<iI")  # number and length of the text

_EXECUTED: Final = struct.Struct("<BQiiiI")  # and the length of the path, which the arguments follow

_ENTER_KIND: Final = 1
_EXIT_KIND: Final = 2
_EXECUTED_KIND: Final = 7
# Kinds of records that are the event's fields and nothing else.
_PLAIN: Final = (
    (3, Signal, struct.Struct("<BQiiiiiiIiqqQq")),
    (4, Stopped, struct.Struct("<BQiii")),
    (5, Exited, struct.Struct("<BQiii")),
    (6, Forked, struct.Struct("<BQiiii")),
    (8, LostHere, struct.Struct("<BQQ")),
)
_BY_TYPE: Final = {event: (kind, format_) for kind, event, format_ in _PLAIN}
_BY_KIND: Final = {kind: (event, format_) for kind, event, format_ in _PLAIN}


def encode(event: Event) -> bytes:
    """Returns an event as a record. Raises ValueError for one of an unknown ABI or with too much memory."""
    if isinstance(event, Enter):
        abi = _ABIS.index(event.abi)
        numbers = (event.ts_ns, event.pid, event.tid, abi, event.nr, *event.args)
        numbers += (event.stack, event.attached, event.stack_pointer)
        body = _ENTER.pack(_ENTER_KIND, *numbers) + _memory_bytes(event.memory)
    elif isinstance(event, Exit):
        numbers = (event.ts_ns, event.pid, event.tid, event.ret, event.injected, event.delayed)
        body = _EXIT.pack(_EXIT_KIND, *numbers) + _memory_bytes(event.memory)
    elif isinstance(event, Executed):
        head = _EXECUTED.pack(_EXECUTED_KIND, *event[:4], len(event.exe))
        body = head + event.exe + event.arguments
    else:
        kind, format_ = _BY_TYPE[type(event)]
        body = format_.pack(kind, *event)
    if len(body) > _MOST_BYTES:
        raise ValueError(f"an event of {len(body)} bytes")
    return _LENGTH.pack(len(body)) + body


def _memory_bytes(memory: Memory) -> bytes:
    if not isinstance(memory, Pieces):
        return b""
    if not memory.pieces and not memory.descriptors:
        return b""
    parts = [_COUNTS.pack(len(memory.pieces), len(memory.descriptors))]
    for address, data in memory.pieces:
        parts += (_PIECE.pack(address, len(data)), data)
    for number, text in memory.descriptors.items():
        data = text.encode("utf-8", "surrogateescape")
        parts += (_DESCRIPTOR.pack(number, len(data)), data)
    return b"".join(parts)


def decode(body: bytes) -> Event:
    """Returns the event of a record, of which ``body`` is all but the length.

    Raises ValueError for bytes that `encode` has not made.
    """
    try:
        kind = body[0]
        if kind == _ENTER_KIND:
            _, ts_ns, pid, tid, abi, nr, *arguments, stack, attached, pointer = _ENTER.unpack_from(body)
            memory = _memory(body, _ENTER.size)
            return Enter(ts_ns, pid, tid, _ABIS[abi], nr, tuple(arguments), memory, stack, attached, pointer)
        if kind == _EXIT_KIND:
            _, ts_ns, pid, tid, ret, injected, delayed = _EXIT.unpack_from(body)
            return Exit(ts_ns, pid, tid, ret, _memory(body, _EXIT.size), injected, delayed)
        if kind == _EXECUTED_KIND:
            _, ts_ns, pid, tid, old_tid, length = _EXECUTED.unpack_from(body)
            end = _EXECUTED.size + length
            return Executed(ts_ns, pid, tid, old_tid, _exactly(body, _EXECUTED.size, end), body[end:])
        event, format_ = _BY_KIND[kind]
        return event(*format_.unpack(body)[1:])
    except (struct.error, LookupError) as error:
        raise ValueError(f"not an event: {error}") from None


def _memory(body: bytes, at: int) -> Pieces:
    if at == len(body):
        return NOTHING
    pieces, count = _COUNTS.unpack_from(body, at)
    at += _COUNTS.size
    found = []
    for _ in range(pieces):
        address, length = _PIECE.unpack_from(body, at)
        at += _PIECE.size + length
        found.append((address, _exactly(body, at - length, at)))
    descriptors = {}
    for _ in range(count):
        number, length = _DESCRIPTOR.unpack_from(body, at)
        at += _DESCRIPTOR.size + length
        descriptors[number] = _exactly(body, at - length, at).decode("utf-8", "surrogateescape")
    if at != len(body):
        raise ValueError("not an event: bytes follow its memory")
    return Pieces(found, descriptors)


def _exactly(body: bytes, start: int, end: int) -> bytes:
    if end > len(body):
        raise ValueError("not an event: it ends within its bytes")
    return body[start:end]


def read_events(file: BinaryIO) -> Iterator[Event]:
    """Yields the events of a file. A torn record at its end, or what follows a corrupt one, is one LostHere."""
    ts_ns = 0
    while head := file.read(_LENGTH.size):
        size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else _MOST_BYTES + 1
        body = file.read(size) if size <= _MOST_BYTES else b""
        try:
            if len(body) < size:
                raise ValueError("it ends within a record")
            event = decode(body)
        except ValueError:
            yield LostHere(ts_ns, 1)
            return
        ts_ns = event.ts_ns
        yield event
