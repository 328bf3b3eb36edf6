"""Asynchronous I/O of the kernel: io_submit(2) and its kin."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Bytes, Linked
from insitu.syscalls.kinds.arrays import array_text
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import descriptor, enum_text, flags_text
from insitu.syscalls.kinds.strings import quoted

__all__ = ["KINDS"]

_PREAD, _PWRITE, _FSYNC, _FDSYNC, _POLL, _NOOP, _PREADV, _PWRITEV = (
    0,
    1,
    2,
    3,
    5,
    6,
    7,
    8,
)  # include/uapi/linux/aio_abi.h
_RESFD: Final = 1
_CONTROL_BLOCK: Final = Linked(64, ((24, 32, 8, Bytes(1, whole=False)),))


def _block(argument: Argument, *, head: bool = False) -> str | None:
    """struct iocb. ``head``: without what it reads or writes."""
    data = argument.read(64)
    if data is None:
        return None

    def number(at: int, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(data[at : at + size], "little", signed=signed)

    command, fd = number(16, 2), number(20, 4, signed=True)
    buffer, count, offset = number(24, 8), number(32, 8), number(40, 8, signed=True)
    words = [f"aio_data={hex_or_0(number(0, 8))}"]
    if number(8, 4):
        words.append(f"aio_key={number(8, 4)}")
    if number(12, 4):
        words.append(f"aio_rw_flags={flags_text(argument, 'rwf', number(12, 4))}")
    words.append(f"aio_lio_opcode={enum_text(argument, 'aio_command', command)}")
    if number(18, 2):
        words.append(f"aio_reqprio={number(18, 2, signed=True)}")
    words.append(f"aio_fildes={descriptor(argument, fd)}")
    if head:
        return "{" + ", ".join(words) + "}"
    if command in (_PREAD, _PWRITE):
        words.append(f"aio_buf={_buffer(argument, buffer, count) if command == _PWRITE else hexadecimal(buffer)}")
        words += [f"aio_nbytes={count}", f"aio_offset={offset}"]
    elif command in (_PREADV, _PWRITEV):
        words.append(f"aio_buf={_vectors(argument, buffer, count, command == _PWRITEV)}")
        words += [f"aio_nbytes={count}", f"aio_offset={offset}"]
    elif command == _POLL:
        words.append(f"aio_buf={flags_text(argument, 'poll', buffer)}")
    elif command not in (_FSYNC, _FDSYNC, _NOOP):
        words += [f"aio_buf={hexadecimal(buffer)}", f"aio_nbytes={count}", f"aio_offset={offset}"]
    flags = number(56, 4)
    if flags & _RESFD and command not in (_FSYNC, _FDSYNC, _NOOP, _POLL):
        words.append(f"aio_flags={flags_text(argument, 'aio_flags', flags)}")
        words.append(f"aio_resfd={descriptor(argument, number(60, 4, signed=True))}")
    return "{" + ", ".join(words) + "}"


def _buffer(argument: Argument, address: int, count: int) -> str:
    limit = argument.options.string_limit
    data = argument.at(address).read(min(count, limit)) if count else b""
    if data is None:
        return hexadecimal(address)
    return quoted(data, argument.options.strings_in_hex) + ("..." if count > limit else "")


def _vectors(argument: Argument, address: int, count: int, given: bool) -> str:
    from insitu.syscalls.kinds.messages import vector_text

    return vector_text(argument, address, count) if given else hexadecimal(address)


def _pointer_to_block(argument: Argument) -> str | None:
    pointer = argument.number(argument.long_size)
    if pointer is None:
        return None
    return "NULL" if not pointer else _block(argument.at(pointer)) or hexadecimal(pointer)


def _event(argument: Argument) -> str | None:
    data = argument.read(32)
    if data is None:
        return None
    numbers = [int.from_bytes(data[start : start + 8], "little", signed=start > 8) for start in range(0, 32, 8)]
    return f"{{data={hex_or_0(numbers[0])}, obj={hexadecimal(numbers[1])}, res={numbers[2]}, res2={numbers[3]}}}"


def _context(argument: Argument) -> str | None:
    value = argument.number(argument.long_size)
    return None if value is None else f"[{hexadecimal(value)}]"


KINDS: Kinds = {
    "aio_block_head": Kind(lambda a: _block(a, head=True), Bytes(64)),
    "aio_blocks": Kind(
        lambda a: array_text(a, a.long_size, a.count or 0, _pointer_to_block),
        Linked(8, ((0, -1, 0, _CONTROL_BLOCK),), 64),
    ),
    "aio_events": Kind(lambda a: array_text(a, 32, a.count or 0, _event), Bytes(32)),
    "aio_context": Kind(_context, Bytes(8)),
}
