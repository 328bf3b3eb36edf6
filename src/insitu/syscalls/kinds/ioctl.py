"""ioctl(2) by request: its name, and what its argument points to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes, Choice, Linked
from insitu.syscalls.kinds.interfaces import IFREQ, IFREQ_PARTS, ifconf, ifreq
from insitu.syscalls.kinds.layout import Struct, hex_or_0
from insitu.syscalls.kinds.numbers import descriptor, enum_text, flags_text
from insitu.syscalls.kinds.strings import quoted
from insitu.syscalls.kinds.terminals import termio, termios, termios2

__all__ = ["KINDS", "request_name"]

_DIRECTIONS: Final = {0: "_IOC_NONE", 1: "_IOC_WRITE", 2: "_IOC_READ", 3: "_IOC_READ|_IOC_WRITE"}
_EVENTS: Final = {6: "NAME", 7: "PHYS", 8: "UNIQ", 9: "PROP", 0x18: "KEY", 0x19: "LED", 0x1A: "SND", 0x1B: "SW"}
_READS, _WRITES, _BOTH = "<", ">", "<>"


def request_name(argument: Argument, request: int) -> str:
    """Returns ``TCGETS``, else ``_IOC(_IOC_READ, 0x54, 0x30, 0x4)``.

    Requests that have the size of a buffer in them are named by their type and number.
    """
    name = argument.facts.request(request) or _sized(request)
    if name:
        return name
    kind, number, size = request >> 8 & 0xFF, request & 0xFF, request >> 16 & 0x3FFF
    return f"_IOC({_DIRECTIONS[request >> 30]}, {hex_or_0(kind)}, {hex_or_0(number)}, {hex_or_0(size)})"


def _sized(request: int) -> str:
    kind, number, size, direction = request >> 8 & 0xFF, request & 0xFF, request >> 16 & 0x3FFF, request >> 30
    if kind == ord("E") and direction == 2:  # include/uapi/linux/input.h
        if number in _EVENTS:
            return f"EVIOCG{_EVENTS[number]}({size})"
        if 0x20 <= number < 0x40:
            return f"EVIOCGBIT({hex_or_0(number - 0x20) if number > 0x20 else '0'}, {size})"
    if kind == ord("E") and 0x40 <= number < 0x80 and direction == 2:
        return f"EVIOCGABS({hex_or_0(number - 0x40)})"
    if kind == ord("j") and number == 0x13 and direction == 2:
        return f"JSIOCGNAME({size})"
    if kind == ord("U") and number == 0x2C and direction == 2:
        return f"UI_GET_SYSNAME({size})"
    return ""


def _struct(declaration: str) -> tuple[Callable[[Argument], str | None], int]:
    struct = Struct(declaration)
    return struct.text, struct.size(8)


def _number(size: int, *, signed: bool = True, hexed: bool = False) -> tuple[Callable[[Argument], str | None], int]:
    def text(argument: Argument) -> str | None:
        value = argument.number(size, signed=signed)
        return None if value is None else f"[{hex_or_0(value) if hexed else value}]"

    return text, size


def _long(argument: Argument) -> str | None:
    value = argument.number(argument.long_size, signed=True)
    return None if value is None else f"[{value}]"


def _flags(name: str, size: int = 4, unknown: str = "") -> tuple[Callable[[Argument], str | None], int]:
    def text(argument: Argument) -> str | None:
        value = argument.number(size)
        return None if value is None else f"[{flags_text(argument, name, value, unknown)}]"

    return text, size


def _words(name: str) -> tuple[Callable[[Argument], str | None], int]:
    def text(argument: Argument) -> str | None:
        value = argument.number(4)
        return None if value is None else f"[{enum_text(argument, name, value)}]"

    return text, 4


def _clone_range(argument: Argument) -> str | None:
    data = argument.read(32)
    if data is None:
        return None
    fd, offset, length, to = (int.from_bytes(data[at : at + 8], "little") for at in (0, 8, 16, 24))
    return (
        f"{{src_fd={descriptor(argument, fd - (1 << 64) if fd >> 63 else fd)}, src_offset={offset}, "
        f"src_length={length}, dest_offset={to}}}"
    )


def _path(argument: Argument) -> str | None:
    data = argument.memory.read(argument.value, argument.options.string_limit + 1)
    if data is None:
        return None
    text, nul, _ = data.partition(b"\0")
    return quoted(text[: argument.options.string_limit], argument.options.strings_in_hex) + ("" if nul else "...")


_WINDOW: Final = _struct("ws_row u16; ws_col u16; ws_xpixel u16; ws_ypixel u16")
_RTC: Final = _struct(
    "tm_sec int; tm_min int; tm_hour int; tm_mday int; tm_mon int; tm_year int; ...; "
    "tm_wday int; tm_yday int; tm_isdst int"
)
_INT: Final = _number(4)
_REQUESTS: Final[dict[int, tuple[str, Callable[[Argument], str | None], int]]] = {
    0x5401: (_WRITES, termios, 36),
    0x5402: (_READS, termios, 36), 0x5403: (_READS, termios, 36), 0x5404: (_READS, termios, 36),
    0x802C542A: (_WRITES, termios2, 44), 0x402C542B: (_READS, termios2, 44), 0x402C542C: (_READS, termios2, 44),
    0x402C542D: (_READS, termios2, 44),
    0x5405: (_WRITES, termio, 18), 0x5406: (_READS, termio, 18), 0x5407: (_READS, termio, 18),
    0x5408: (_READS, termio, 18),
    0x5413: (_WRITES, *_WINDOW), 0x5414: (_READS, *_WINDOW),
    0x540F: (_WRITES, *_INT), 0x5410: (_READS, *_INT), 0x5429: (_WRITES, *_INT),
    0x5411: (_WRITES, *_INT), 0x541B: (_WRITES, *_INT), 0x5421: (_READS, *_INT), 0x5452: (_READS, *_INT),
    0x5415: (_WRITES, *_flags("termios_modem")), 0x5416: (_READS, *_flags("termios_modem")),
    0x5417: (_READS, *_flags("termios_modem")), 0x5418: (_READS, *_flags("termios_modem")),
    0x5420: (_READS, *_INT), 0x5424: (_WRITES, *_INT), 0x5423: (_READS, *_words("line_discipline")),
    0x80045430: (_WRITES, *_INT), 0x40045431: (_READS, *_INT), 0x80045438: (_WRITES, *_INT),
    0x80045439: (_WRITES, *_INT),
    0x5419: (_WRITES, *_INT), 0x541A: (_READS, *_INT), 0x5460: (_WRITES, *_INT), 0x5412: (_READS, _path, 2),
    0x8901: (_READS, *_INT), 0x8902: (_READS, *_INT), 0x8903: (_WRITES, *_INT), 0x8904: (_WRITES, *_INT),
    0x8905: (_WRITES, *_INT),
    0x1260: (_WRITES, _long, 8), 0x1263: (_WRITES, _long, 8), 0x1268: (_WRITES, *_INT),
    0x1278: (_WRITES, *_number(4, signed=False)),
    0x127B: (_WRITES, *_number(4, signed=False)), 0x1279: (_WRITES, *_number(4, signed=False)),
    0x127A: (_WRITES, *_INT), 0x125E: (_WRITES, *_INT), 0x125D: (_READS, *_INT),
    0x80081272: (_WRITES, *_number(8, signed=False)), 0x1267: (_WRITES, *_number(2, signed=False)),
    0x80086601: (_WRITES, *_flags("inode_flags")), 0x40086602: (_READS, *_flags("inode_flags")),
    0x80087601: (_WRITES, _long, 8), 0x40087602: (_READS, _long, 8),
    0x4020940D: (_READS, _clone_range, 32),
    0x80247009: (_WRITES, *_RTC), 0x4024700A: (_READS, *_RTC), 0x40247007: (_READS, *_RTC),
    0x80247008: (_WRITES, *_RTC),
    0x80082407: (_WRITES, *_number(8, signed=False)), 0x40082404: (_READS, *_number(8, signed=False)),
    0x80045200: (_WRITES, *_INT), 0x40045201: (_READS, *_INT),
    0x8912: (_BOTH, ifconf, 16),
    0x8004B704: (_WRITES, *_number(4, signed=False)),
    **{code: (_BOTH, ifreq(part), IFREQ) for code, part in IFREQ_PARTS.items()},
}  # fmt: skip
"""By request: whether the kernel reads the argument's memory, writes it or both; its text; its size."""
_PLAIN: Final[dict[int, Callable[[Argument], str]]] = {
    0x540B: lambda a: enum_text(a, "termios_flush", a.value),
    0x540A: lambda a: enum_text(a, "termios_flow", a.value),
    0x5409: lambda a: str(a.signed), 0x5425: lambda a: str(a.signed), 0x540E: lambda a: str(a.signed),
    0x40049409: lambda a: descriptor(a, a.signed),
    0x2400: lambda a: flags_text(a, "perf_ioctl_flags", a.value),
    0x2401: lambda a: flags_text(a, "perf_ioctl_flags", a.value),
    0x2403: lambda a: flags_text(a, "perf_ioctl_flags", a.value),
    0x2402: lambda a: str(a.value),
    0x2405: lambda a: descriptor(a, a.signed),
    0x40042408: lambda a: descriptor(a, a.signed),
    0x40042409: lambda a: str(a.value),
    0x4C00: lambda a: descriptor(a, a.signed),
    0x4C06: lambda a: descriptor(a, a.signed),
    0x5441: lambda a: flags_text(a, "open", a.value & 0xFFFFFFFF),
}  # fmt: skip
"""Requests whose argument is a number."""
_NONE: Final = (
    0x5450, 0x5451, 0x540C, 0x540D, 0x5422, 0x5427, 0x5428, 0x5437, 0x1261, 0x125F, 0x4C01, 0xB701, 0xB702, 0xB703,
    0xC0045877, 0xC0045878, 0x7001, 0x7002, 0x7003, 0x7004,
)  # fmt: skip
"""Requests without an argument."""


def _text(argument: Argument) -> str | None:
    request = argument.other(1) & 0xFFFFFFFF
    plain = _PLAIN.get(request)
    known = _REQUESTS.get(request)
    if known is not None:
        way, text, _ = known
        if not argument.value:
            return "NULL"
        return text(argument) if way == _BOTH or (way == _WRITES) == argument.at_exit else None
    if argument.at_exit:
        return None
    return plain(argument) if plain is not None else hex_or_0(argument.value)


def _skipped(call: Call) -> bool:
    return call.enter.args[1] & 0xFFFFFFFF in _NONE


KINDS: Kinds = {
    "ioctl_request": Kind(lambda a: _request(a)),
    "ioctl_argument": Kind(
        _text,
        Choice(
            1,
            tuple(
                (code, Linked(16, ((8, 0, 4, Bytes(1)),)) if code == 0x8912 else Bytes(size))
                for code, (_, _, size) in _REQUESTS.items()
            ),
        ),
        _skipped,
        null=True,
    ),
}


def _request(argument: Argument) -> str:
    request = argument.value & 0xFFFFFFFF
    if argument.options.constants == "raw":
        return hex_or_0(request)
    name = request_name(argument, request)
    return f"{hex_or_0(request)} /* {name} */" if argument.options.constants == "verbose" else name
