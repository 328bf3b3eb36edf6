"""The directives of an event's "print fmt" (Documentation/core-api/printk-formats.rst), as closures over fields."""

from __future__ import annotations

import re
import socket
import struct
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["Expression", "Printer", "UnknownError", "Values", "pieces"]

Values = Mapping[str, Any]
Expression = Callable[[Values], Any]
Printer = Callable[[Values], str]

_DIRECTIVE: Final = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>\d+|\*)?(?:\.(?P<precision>\d+|\*))?(?P<size>hh|h|ll|l|L|z|j|t|q)?"
    r"(?P<kind>p(?:[Ii][46]c?|IS[pfsc]*|[A-Za-z]*)|[diuoxXcs%])"
)
_MOST_SHOWN: Final = 4096
_U64: Final = (1 << 64) - 1


class UnknownError(Exception):
    """A print fmt with something that only the kernel's sources explain."""


def pieces(shape: str, arguments: list[Expression | None], symbol: Callable[[int], str]) -> list[Printer]:
    """A closure for each directive, and for the text between."""
    found: list[Printer] = []
    left = iter(arguments)
    at = 0
    for match in _DIRECTIVE.finditer(shape):
        if match.start() > at:
            found.append(_constant(shape[at : match.start()]))
        at = match.end()
        if match["kind"] == "%":
            found.append(_constant("%"))
            continue
        try:
            width = next(left) if match["width"] == "*" else None
            precision = next(left) if match["precision"] == "*" else None
            value = next(left)
            if value is None or (width is None and match["width"] == "*"):
                found.append(_constant("?"))
            else:
                found.append(_directive(match, value, width, precision, symbol))
        except StopIteration:
            raise UnknownError from None
    found.append(_constant(shape[at:]))
    return found


def _constant(text: str) -> Printer:
    return lambda values: text


def _directive(
    match: re.Match[str],
    value: Expression,
    width: Expression | None,
    precision: Expression | None,
    symbol: Callable[[int], str],
) -> Printer:
    kind, flags = match["kind"], match["flags"]
    given = int(match["width"]) if match["width"] and width is None else 0
    digits = int(match["precision"]) if match["precision"] and precision is None else None
    if given > _MOST_SHOWN or (digits or 0) > _MOST_SHOWN:
        raise UnknownError
    if kind == "s":
        show: Callable[[Any], str] = _text
    else:
        show = _pointer(kind, symbol) if kind[0] == "p" else _number(kind, match["size"] or "", flags, digits)
    if width is None and not given and (kind != "s" or (digits is None and precision is None)):
        return lambda values: show(value(values))

    def text(values: Values) -> str:
        found = value(values)
        size = min(abs(width(values)), _MOST_SHOWN) if width is not None and kind[0] != "p" else given
        shown = show(found)
        if kind == "s" and (digits is not None or precision is not None):
            shown = shown[: digits if precision is None else max(precision(values), 0)]
        if len(shown) >= size:
            return shown
        if "-" in flags:
            return shown.ljust(size)
        zeros = "0" in flags and digits is None and kind != "s"
        return shown.zfill(size) if zeros else shown.rjust(size)

    return text


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.split(b"\0", 1)[0].decode("utf-8", "replace")
    return value if isinstance(value, str) else f"({value:#x})" if isinstance(value, int) else str(value)


_SIZES: Final = {"hh": 8, "h": 16, "": 32, "l": 64, "ll": 64, "L": 64, "z": 64, "j": 64, "t": 64, "q": 64}


def _number(kind: str, size: str, flags: str, digits: int | None) -> Callable[[Any], str]:
    mask = (1 << _SIZES[size]) - 1
    top = (mask + 1) >> 1

    def show(value: Any) -> str:
        number = int(value) & mask
        if kind == "c":
            return chr(number & 0xFF)
        if kind in "di":
            number = number - mask - 1 if number & top else number
            text = str(abs(number)).zfill(digits or 0)
            return f"-{text}" if number < 0 else f"+{text}" if "+" in flags else text
        text = f"{number:{'d' if kind == 'u' else kind}}".zfill(digits or 0)
        return {"x": "0x", "X": "0X", "o": "0"}.get(kind, "") + text if "#" in flags and number else text

    return show


def _pointer(kind: str, symbol: Callable[[int], str]) -> Callable[[Any], str]:
    if kind in ("ps", "pS", "pF", "pf", "pB"):
        return lambda value: (
            symbol(int(value)) if kind in ("pS", "pF", "pB") else symbol(int(value)).partition("+")[0]
        )
    if kind.startswith("pU"):
        return lambda value: str(uuid.UUID(bytes=bytes(value)[:16]))
    if kind in ("pM", "pm"):
        return lambda value: bytes(value)[:6].hex(":" if kind == "pM" else "\0").replace("\0", "")
    if kind in ("pI4", "pi4"):
        return lambda value: socket.inet_ntoa(_four(value))
    if kind in ("pI6", "pi6", "pI6c"):
        return lambda value: socket.inet_ntop(socket.AF_INET6, bytes(value)[:16])
    if kind.startswith("pIS"):
        return _address
    if kind in ("p", "px", "pK"):
        return lambda value: f"{int(value) & _U64:016x}"
    raise UnknownError


def _four(value: Any) -> bytes:
    return bytes(value)[:4] if isinstance(value, bytes) else struct.pack("<I", int(value) & 0xFFFFFFFF)


def _address(value: Any) -> str:
    """A struct sockaddr with its port, as %pISpc prints it."""
    raw = bytes(value)
    family = int.from_bytes(raw[:2], "little")
    port = int.from_bytes(raw[2:4], "big")
    if family == socket.AF_INET:
        return f"{socket.inet_ntoa(raw[4:8])}:{port}"
    if family == socket.AF_INET6:
        return f"[{socket.inet_ntop(socket.AF_INET6, raw[8:24])}]:{port}"
    return raw.hex()
