"""Structures as text, from declarations that read like C's: ``Struct("l_onoff int; l_linger int")``.

Members lie at their natural alignment, as compilers lay them out, for 64-bit and 32-bit programs alike.
"""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from insitu.syscalls.argument import Argument, hexadecimal
from insitu.syscalls.kinds.numbers import descriptor, enum_text, flags_text
from insitu.syscalls.kinds.strings import quoted

__all__ = ["Member", "Struct", "c_string", "hex_or_0", "interface"]

_DECLARATION: Final = re.compile(r"(?:(\w+) )?([a-z]+)(\d+)?(?:\(([^)]*)\))?(?:\[(\d+)\])?$")


class Member(NamedTuple):
    """A member: where it is, and how it is shown."""

    name: str
    type: str
    size: int
    given: tuple[str, ...]
    elements: int
    """Of an array; 0: not an array."""
    offset: int


def hex_or_0(value: int) -> str:
    """Returns a number as C's ``%#x`` has it."""
    return f"{value:#x}" if value else "0"


def c_string(argument: Argument, data: bytes) -> str:
    """Returns an array of characters up to its NUL; ``...`` after it where it has none."""
    text, nul, _ = data.partition(b"\0")
    return quoted(text, argument.options.strings_in_hex) + ("" if nul else "...")


def _signed(value: int, size: int) -> int:
    return value - (1 << 8 * size) if value >> (8 * size - 1) else value


def interface(index: int) -> str:
    """Returns ``if_nametoindex("lo")`` of an interface's number, the number where it has no name."""
    try:
        return f"if_nametoindex({quoted(socket.if_indextoname(index).encode())})" if index else "0"
    except (OSError, OverflowError):
        return str(index)


def _states(argument: Argument, value: int) -> str:
    """A set of TCP's states: bit 1<<TCP_LISTEN."""
    words = []
    for each in argument.facts.constants("tcp_state"):
        if value >> each.value & 1:
            words.append(f"1<<{each.name}")
            value &= ~(1 << each.value)
    if value:
        words.append(hex_or_0(value))
    return "|".join(words) or "0"


def _swapped(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "big")


_TEXTS: Final[dict[str, Callable[[Argument, int, int, tuple[str, ...]], str]]] = {
    "i": lambda a, value, size, given: str(_signed(value, size)),
    "u": lambda a, value, size, given: str(value),
    "x": lambda a, value, size, given: hex_or_0(value),
    "o": lambda a, value, size, given: f"0{value:o}" if value else "0",
    "long": lambda a, value, size, given: str(_signed(value, size)),
    "ulong": lambda a, value, size, given: str(value),
    "xlong": lambda a, value, size, given: hex_or_0(value),
    "ptr": lambda a, value, size, given: hexadecimal(value),
    "flags": lambda a, value, size, given: flags_text(a, given[0], value, *given[1:]),
    "flagslong": lambda a, value, size, given: flags_text(a, given[0], value, *given[1:]),
    "enum": lambda a, value, size, given: enum_text(a, given[0], value, *given[1:]),
    "be": lambda a, value, size, given: f"{'htons' if size == 2 else 'htonl'}({_swapped(value, size)})",
    "bex": lambda a, value, size, given: f"{'htons' if size == 2 else 'htonl'}({_swapped(value, size):#x})",
    "if": lambda a, value, size, given: interface(value),
    "tcpstates": lambda a, value, size, given: _states(a, value),
    "fd": lambda a, value, size, given: descriptor(a, _signed(value, size)),
    "id": lambda a, value, size, given: str(_signed(value, size) if value == (1 << 8 * size) - 1 else value),
}
"""By type: (argument, value, size, in parentheses) -> text."""
_LONG: Final = ("long", "ulong", "xlong", "ptr", "flagslong")
_OF_BYTES: Final = ("char", "bytes", "pad")
_PLAIN: Final = {"int": ("i", "32"), "fd": ("fd", "32"), "id": ("id", "32")}


class Struct:
    """A structure's declaration: members with ``;`` between, each ``name type``.

    Types: ``int``, ``u8`` to ``u64``, ``i8`` to ``i64``, ``x32`` (hexadecimal), ``o32`` (octal), ``long``, ``ulong``,
    ``ptr``, ``flags32(set)``, ``enum16(set, what is unknown)``, ``be16`` (network order), ``fd``, ``id`` (-1 or
    unsigned), ``char16`` (characters up to NUL), ``bytes6``; ``[4]`` after one makes an array. ``pad4`` are bytes
    that are not shown. A member ``...`` stands where strace(1) stops without -v.
    """

    def __init__(self, declaration: str) -> None:
        self.declaration = declaration

    @functools.lru_cache(maxsize=2)  # noqa: B019  # of declarations, which live as long as the process
    def members(self, long_size: int) -> tuple[tuple[Member, ...], int]:
        """Returns the members, and the size of the whole."""
        found, offset, alignment = [], 0, 1
        for each in self.declaration.split(";"):
            word = " ".join(each.split())
            if word == "...":
                found.append(Member("...", "...", 0, (), 0, offset))
                continue
            matched = _DECLARATION.match(word)
            if matched is None:
                raise ValueError(f"invalid member {word!r}")
            name, type_, digits, given, count = matched.groups()
            type_, digits = _PLAIN.get(type_, (type_, digits))
            if type_ in _OF_BYTES:
                size, align = int(digits), 1
            else:
                size = long_size if type_ in _LONG else int(digits) // 8
                align = min(size, long_size)
            offset = -(-offset // align) * align
            alignment = max(alignment, align)
            names = tuple(each.strip() for each in given.split(",")) if given else ()
            found.append(Member(name or "", type_, size, names, int(count or 0), offset))
            offset += size * max(int(count or 0), 1)
        return tuple(found), -(-offset // alignment) * alignment

    def size(self, long_size: int = 8) -> int:
        """Returns the bytes of the whole."""
        return self.members(long_size)[1]

    def text(self, argument: Argument, data: bytes | None = None) -> str | None:
        """Returns ``{l_onoff=1, l_linger=5}``: of ``data``, or of what is at the argument's address."""
        data = argument.read(self.size(argument.long_size)) if data is None else data
        if data is None or len(data) < self.size(argument.long_size):
            return None
        return "{" + ", ".join(self.words(argument, data)) + "}"

    def words(self, argument: Argument, data: bytes) -> list[str]:
        """Returns ``l_onoff=1`` of each member that ``data`` has whole."""
        words = []
        for member in self.members(argument.long_size)[0]:
            if member.type == "...":
                if not argument.options.verbose:
                    words.append("...")
                    break
            elif member.type != "pad" and member.offset + member.size * max(member.elements, 1) <= len(data):
                words.append(f"{member.name}={_member_text(argument, member, data)}")
        return words

    def value(self, argument: Argument, data: bytes, name: str) -> int:
        """Returns a member's number, unsigned; 0 where ``data`` ends before it. Raises KeyError."""
        for member in self.members(argument.long_size)[0]:
            if member.name == name:
                return int.from_bytes(data[member.offset : member.offset + member.size], "little")
        raise KeyError(name)


def _member_text(argument: Argument, member: Member, data: bytes) -> str:
    elements = []
    for index in range(max(member.elements, 1)):
        start = member.offset + index * member.size
        part = data[start : start + member.size]
        if member.type == "char":
            elements.append(c_string(argument, part))
        elif member.type == "bytes":
            elements.append(quoted(part, "all" if member.given else argument.options.strings_in_hex))
        else:
            elements.append(_TEXTS[member.type](argument, int.from_bytes(part, "little"), member.size, member.given))
    return f"[{', '.join(elements)}]" if member.elements else elements[0]
