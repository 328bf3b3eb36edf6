"""Terminals' settings: struct termios, termios2 and termio (include/uapi/asm-generic/termbits.h)."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import enum_text

__all__ = ["termio", "termios", "termios2"]

_CBAUD: Final = 0o10017
_SPEEDS: Final = (
    "B0", "B50", "B75", "B110", "B134", "B150", "B200", "B300", "B600", "B1200", "B1800", "B2400", "B4800", "B9600",
    "B19200", "B38400",
)  # fmt: skip
_FAST: Final = (
    "BOTHER", "B57600", "B115200", "B230400", "B460800", "B500000", "B576000", "B921600", "B1000000", "B1152000",
    "B1500000", "B2000000", "B2500000", "B3000000", "B3500000", "B4000000",
)  # fmt: skip
_SIZES: Final = ("CS5", "CS6", "CS7", "CS8")
_INPUT: Final = (
    (0x1, "IGNBRK"), (0x2, "BRKINT"), (0x4, "IGNPAR"), (0x8, "PARMRK"), (0x10, "INPCK"), (0x20, "ISTRIP"), (0x40, "INLCR"),
    (0x80, "IGNCR"), (0x100, "ICRNL"), (0x200, "IUCLC"), (0x400, "IXON"), (0x800, "IXANY"), (0x1000, "IXOFF"),
    (0x2000, "IMAXBEL"), (0x4000, "IUTF8"),
)  # fmt: skip
_OUTPUT: Final = (
    (0x1, "OPOST"), (0x2, "OLCUC"), (0x4, "ONLCR"), (0x8, "OCRNL"), (0x10, "ONOCR"), (0x20, "ONLRET"), (0x40, "OFILL"),
    (0x80, "OFDEL"),
)  # fmt: skip
_DELAYS: Final = (
    (0x100, ("NL0", "NL1"), 8), (0x600, ("CR0", "CR1", "CR2", "CR3"), 9), (0x1800, ("TAB0", "TAB1", "TAB2", "TAB3"), 11),
    (0x2000, ("BS0", "BS1"), 13), (0x4000, ("VT0", "VT1"), 14), (0x8000, ("FF0", "FF1"), 15),
)  # fmt: skip
_LOCAL: Final = (
    (0x1, "ISIG"), (0x2, "ICANON"), (0x4, "XCASE"), (0x8, "ECHO"), (0x10, "ECHOE"), (0x20, "ECHOK"), (0x40, "ECHONL"),
    (0x80, "NOFLSH"), (0x8000, "IEXTEN"), (0x200, "ECHOCTL"), (0x400, "ECHOPRT"), (0x800, "ECHOKE"), (0x1000, "FLUSHO"),
    (0x4000, "PENDIN"), (0x100, "TOSTOP"), (0x10000, "EXTPROC"),
)  # fmt: skip
_CONTROL: Final = (
    (0x40, "CSTOPB"), (0x80, "CREAD"), (0x100, "PARENB"), (0x200, "PARODD"), (0x400, "HUPCL"), (0x800, "CLOCAL"),
    (0x20000000, "ADDRB"), (0x40000000, "CMSPAR"), (0x80000000, "CRTSCTS"),
)  # fmt: skip
_CHARACTERS: Final = (
    "VINTR", "VQUIT", "VERASE", "VKILL", "VEOF", "VTIME", "VMIN", "VSWTC", "VSTART", "VSTOP", "VSUSP", "VEOL",
    "VREPRINT", "VDISCARD", "VWERASE", "VLNEXT", "VEOL2",
)  # fmt: skip


def _bits(names: tuple[tuple[int, str], ...], value: int) -> list[str]:
    words = [word for bit, word in names if value & bit]
    rest = value & ~sum(bit for bit, _ in names)
    return [*words, f"{rest:#x}"] if rest else words


def _speed(value: int) -> str:
    return (_FAST if value & 0o10000 else _SPEEDS)[value & 0xF]


def _control_words(value: int) -> list[str]:
    words = [_speed(value & _CBAUD)]
    if value & _CBAUD << 16:
        words.append(f"{_speed(value >> 16 & _CBAUD)}<<IBSHIFT")
    rest = value & ~(_CBAUD | _CBAUD << 16 | 0x30)
    return [*words, _SIZES[value >> 4 & 3], *_bits(_CONTROL, rest)]


def _output_words(value: int) -> list[str]:
    rest = value & ~sum(mask for mask, _, _ in _DELAYS)
    return [*(names[(value & mask) >> shift] for mask, names, shift in _DELAYS), *_bits(_OUTPUT, rest)]


def _characters(data: bytes) -> str:
    names = (*_CHARACTERS, *map(str, range(len(_CHARACTERS), len(data))))
    return ", ".join(f"[{name}]={hex_or_0(value)}" for name, value in zip(names, data, strict=False))


def _text(argument: Argument, width: int, characters: int, size: int, speeds: bool) -> str | None:
    data = argument.read(size)
    if data is None:
        return None
    flags = [int.from_bytes(data[at : at + width], "little") for at in range(0, 4 * width, width)]
    line = data[4 * width]
    control = data[4 * width + 1 : 4 * width + 1 + characters]
    words = [
        f"c_iflag={'|'.join(_bits(_INPUT, flags[0])) or '0'}",
        f"c_oflag={'|'.join(_output_words(flags[1]))}",
        f"c_cflag={'|'.join(_control_words(flags[2]))}",
        f"c_lflag={'|'.join(_bits(_LOCAL, flags[3])) or '0'}",
    ]
    if not argument.options.verbose:
        return "{" + ", ".join([*words, "..."]) + "}"
    words += [
        f"c_line={enum_text(argument, 'line_discipline', line, 'N_???')}",
        f"c_cc=[{_characters(control)}]",
    ]
    if speeds:
        at = size - 8
        rates = [int.from_bytes(data[start : start + 4], "little") for start in (at, at + 4)]
        words += [f"c_ispeed={rates[0]}", f"c_ospeed={rates[1]}"]
    return "{" + ", ".join(words) + "}"


def termios(argument: Argument) -> str | None:
    """Returns a struct termios, as the kernel has it."""
    return _text(argument, 4, 19, 36, speeds=False)


def termios2(argument: Argument) -> str | None:
    """Returns a struct termios2, which has speeds too."""
    return _text(argument, 4, 19, 44, speeds=True)


def termio(argument: Argument) -> str | None:
    """Returns a struct termio of System V."""
    return _text(argument, 2, 8, 18, speeds=False)
