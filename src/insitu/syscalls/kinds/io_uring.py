"""io_uring_setup(2), io_uring_enter(2), io_uring_register(2) (include/uapi/linux/io_uring.h)."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Bytes, Choice
from insitu.syscalls.kinds.arrays import iovec_text
from insitu.syscalls.kinds.layout import Struct, hex_or_0
from insitu.syscalls.kinds.numbers import descriptor, flags_text

__all__ = ["KINDS"]

_PARAMS: Final = 120
_ATTACH_WQ: Final = 0x20
_BUFFERS, _FILES, _EVENTFD, _EVENTFD_ASYNC = 0, 2, 4, 7
_SQ: Final = Struct("head u32; tail u32; ring_mask u32; ring_entries u32; flags u32; dropped u32; array u32")
_CQ: Final = Struct("head u32; tail u32; ring_mask u32; ring_entries u32; overflow u32; cqes u32; flags u32")


def _params(argument: Argument) -> str | None:
    data = argument.read(_PARAMS)
    if data is None:
        return None
    entries, more, flags, cpu, idle, features, fd = (
        int.from_bytes(data[at : at + 4], "little") for at in range(0, 28, 4)
    )
    words = [
        f"flags={flags_text(argument, 'io_uring_setup', flags)}",
        f"sq_thread_cpu={hex_or_0(cpu)}",
        f"sq_thread_idle={idle}",
    ]
    if not argument.at_exit:
        if argument.call.exit is not None and not argument.call.failed:
            return None
        if flags & _ATTACH_WQ:
            words.append(f"wq_fd={descriptor(argument, fd)}")
        return "{" + ", ".join(words) + "}"
    if flags & _ATTACH_WQ:
        words.append(f"wq_fd={descriptor(argument, fd)}")
    words += [
        f"sq_entries={entries}",
        f"cq_entries={more}",
        f"features={flags_text(argument, 'io_uring_features', features)}",
        f"sq_off={_SQ.text(argument, data[40:80])}",
        f"cq_off={_CQ.text(argument, data[80:120])}",
    ]
    return "{" + ", ".join(words) + "}"


def _registered(argument: Argument) -> str | None:
    operation, count = argument.other(1) & 0xFFFFFFFF, argument.other(3) & 0xFFFFFFFF
    if argument.at_exit:
        return None
    if operation == _BUFFERS:
        return iovec_text(argument, count, None, bases=False)
    if operation in (_FILES, _EVENTFD, _EVENTFD_ASYNC):
        number = count if operation == _FILES else 1
        data = argument.memory.read(argument.value, 4 * min(number, 1024))
        if data is None:
            return None
        limit = len(data) // 4 if argument.options.verbose else min(len(data) // 4, argument.options.string_limit)
        words = [
            descriptor(argument, int.from_bytes(data[at : at + 4], "little", signed=True))
            for at in range(0, 4 * limit, 4)
        ]
        return f"[{', '.join(words)}{', ...' if limit < number else ''}]"
    return hexadecimal(argument.value)


KINDS: Kinds = {
    "io_uring_params": Kind(_params, Bytes(_PARAMS)),
    "io_uring_registered": Kind(
        _registered,
        Choice(1, ((_BUFFERS, Bytes(4096)), (_FILES, Bytes(4096)), (_EVENTFD, Bytes(4)),
                   (_EVENTFD_ASYNC, Bytes(4)))),
    ),
}  # fmt: skip
