"""Terminals' settings: struct termios, termios2 and termio (include/uapi/asm-generic/termbits.h)."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import enum_text, flags_text

__all__ = ["termio", "termios", "termios2"]

_CBAUD: Final = 0o10017
_CSIZE: Final = 0x30
_DELAYS: Final = (
    ("termios_nl", 0x100), ("termios_cr", 0x600), ("termios_tab", 0x1800), ("termios_bs", 0x2000),
    ("termios_vt", 0x4000), ("termios_ff", 0x8000),
)  # fmt: skip
"""Fields of c_oflag, in the order in which they are shown."""


def _output(argument: Argument, value: int) -> str:
    rest = value & ~sum(mask for _, mask in _DELAYS)
    words = [enum_text(argument, name, value & mask) for name, mask in _DELAYS]
    return "|".join([*words, flags_text(argument, "termios_output", rest)] if rest else words)


def _control(argument: Argument, value: int) -> str:
    words = [enum_text(argument, "termios_speed", value & _CBAUD)]
    if value & _CBAUD << 16:
        words.append(f"{enum_text(argument, 'termios_speed', value >> 16 & _CBAUD)}<<IBSHIFT")
    words.append(enum_text(argument, "termios_size", value & _CSIZE))
    rest = value & ~(_CBAUD | _CBAUD << 16 | _CSIZE)
    return "|".join([*words, flags_text(argument, "termios_control", rest)] if rest else words)


def _characters(argument: Argument, data: bytes) -> str:
    names = (argument.facts.constant("termios_character", at) or str(at) for at in range(len(data)))
    return ", ".join(f"[{name}]={hex_or_0(value)}" for name, value in zip(names, data, strict=True))


def _text(argument: Argument, width: int, characters: int, size: int, speeds: bool) -> str | None:
    data = argument.read(size)
    if data is None:
        return None
    flags = [int.from_bytes(data[at : at + width], "little") for at in range(0, 4 * width, width)]
    line = data[4 * width]
    control = data[4 * width + 1 : 4 * width + 1 + characters]
    words = [
        f"c_iflag={flags_text(argument, 'termios_input', flags[0])}",
        f"c_oflag={_output(argument, flags[1])}",
        f"c_cflag={_control(argument, flags[2])}",
        f"c_lflag={flags_text(argument, 'termios_local', flags[3])}",
    ]
    if not argument.options.verbose:
        return "{" + ", ".join([*words, "..."]) + "}"
    words += [
        f"c_line={enum_text(argument, 'line_discipline', line, 'N_???')}",
        f"c_cc=[{_characters(argument, control)}]",
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
