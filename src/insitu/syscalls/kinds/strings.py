"""Strings, buffers, vectors of strings."""

from __future__ import annotations

from typing import Final

from insitu.plurals import counted
from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Array, Bytes, String

__all__ = ["KINDS", "buffer", "quoted"]

_PATH_MAX: Final = 4096
_ESCAPES: Final = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quoted(data: bytes, in_hex: str = "") -> str:
    """Returns bytes in quotes as strace(1) has them: octal escapes, shortened where no digit follows.

    ``in_hex``: "all" bytes as ``\\x41``, or those of strings with "non-ascii" bytes.
    """
    if in_hex == "all" or (in_hex == "non-ascii" and any(not (32 <= b < 127 or b in range(9, 14)) for b in data)):
        return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'
    if data.isascii():
        text = data.decode("ascii")
        if text.isprintable() and '"' not in text and "\\" not in text:
            return f'"{text}"'
    parts = []
    for index, byte in enumerate(data):
        if byte in _ESCAPES:
            parts.append(_ESCAPES[byte])
        elif 32 <= byte < 127:
            parts.append(chr(byte))
        else:
            digit_follows = index + 1 < len(data) and 48 <= data[index + 1] < 56
            parts.append(f"\\{byte:03o}" if digit_follows else f"\\{byte:o}")
    return '"' + "".join(parts) + '"'


def string(argument: Argument, limit: int) -> str | None:
    """Returns the string at the address in quotes, ``...`` after it where it is longer than ``limit``;
    None where its end cannot be read."""
    data = argument.memory.read(argument.value, limit + 1)
    if data is None:
        return None
    end = data.find(b"\0")
    if end >= 0:
        return quoted(data[:end], argument.options.strings_in_hex)
    if len(data) <= limit:
        return None  # it ends with its mapping: the kernel could not read it either
    return quoted(data[:limit], argument.options.strings_in_hex) + "..."


def buffer(argument: Argument, *, is_string: bool = False) -> str | None:
    """Returns as many bytes as the argument's count in quotes, ``...`` after them where -s shows less.

    ``is_string``: a NUL at their end is not shown.
    """
    count = argument.count
    if count is None:
        return None
    limit = argument.options.string_limit
    data = argument.memory.read(argument.value, min(count, limit)) if count else b""
    if data is None or len(data) < min(count, limit):
        return None
    if is_string and count <= limit:
        data = data.removesuffix(b"\0")
    return quoted(data, argument.options.strings_in_hex) + ("..." if count > limit else "")


def _strings(argument: Argument) -> str | None:
    """Returns ``["ls", "-l"]``; of an environment ``0x7ffd... /* 23 vars */``, as long as -v is not given."""
    size = argument.long_size
    addresses: list[int] = []
    while (address := argument.number(size, size * len(addresses))) and len(addresses) < 8192:
        addresses.append(address)
    if address is None and not addresses:
        return None
    if argument.given == ("environment",) and not argument.options.verbose:
        return f"{hexadecimal(argument.value)} /* {counted(len(addresses), 'var')} */"
    shown = addresses if argument.options.verbose else addresses[:32]
    unreadable = address is None
    words = [string(argument.at(each), argument.options.string_limit) or hexadecimal(each) for each in shown]
    if len(shown) < len(addresses):
        words.append("...")
    elif unreadable:
        words.append(f"... /* {argument.value + size * len(addresses):#x} */")
    return f"[{', '.join(words)}]"


KINDS: Kinds = {
    "path": Kind(lambda a: string(a, _PATH_MAX - 1), String(path=True)),
    "string": Kind(lambda a: string(a, a.options.string_limit), String()),
    "buffer": Kind(buffer, Bytes(1, whole=False)),
    "strings": Kind(_strings, Array()),
}
