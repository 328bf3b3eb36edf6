"""printf formats: which conversions a format has, what values each takes, and its Python equivalent."""

from __future__ import annotations

import re

from msgspec import Struct

__all__ = ["Conversion", "c_integer", "parse_format"]

_CONVERSION = r"%([-+ #0]*)(\*|\d{0,4})(?:\.(\d{0,4}))?(hh|h|ll|l|j|z|t)?([%a-zA-Z])"
_TEXTS = ("s", "r", "rx", "rh", "gr")
_LETTERS = (*"duxXocp", *_TEXTS)
_SIZES = {"hh": 8, "h": 16, "": 32, "l": 64, "ll": 64, "j": 64, "z": 64, "t": 64}


class Conversion(Struct, frozen=True):
    """``letter`` is d, u, x, X, o, c, s, p, r, rx, rh or gr; ``bits`` how many of an integer C would look at.

    ``python`` is the conversion as Python's % operator takes it; it is C's, too, unless ``flags``, ``width`` and
    ``precision`` (None: not given) are to be applied by c_integer().
    """

    letter: str
    bits: int
    python: str
    flags: str = ""
    width: int = 0
    precision: int | None = None

    @property
    def differs(self) -> bool:
        """Whether C writes some numbers in another way than Python."""
        if self.letter not in "duxXo":
            return self.letter == "p"
        signs = self.letter != "d" and ("+" in self.flags or " " in self.flags)
        zeros = self.precision is not None and ("0" in self.flags or self.precision == 0)
        return "#" in self.flags or signs or zeros

    @property
    def takes_integer(self) -> bool:
        """Whether the value is a number."""
        return self.letter not in _TEXTS or self.letter == "gr"


def parse_format(text: str) -> tuple[list[str], list[Conversion]]:
    """The literal parts around the conversions (one more than conversions), %% resolved.

    :raises ValueError: for a conversion that does not exist.
    """
    parts = [""]
    conversions: list[Conversion] = []
    position = 0
    while (start := text.find("%", position)) >= 0:
        parts[-1] += text[position:start]
        match = re.compile(_CONVERSION).match(text, start)
        if match is None:
            raise ValueError(f"unfinished conversion {text[start : start + 4]!r}")
        flags, width, precision, length, letter = match.groups()
        position = match.end()
        if letter == "%":
            parts[-1] += "%"
            continue
        letter = {"i": "d"}.get(letter, letter)
        if letter + text[position : position + 1] in ("rx", "rh", "gr"):
            letter += text[position]
            position += 1
        if letter not in _LETTERS:
            raise ValueError(f"unknown conversion %{letter}")
        if width == "*":
            raise ValueError("a width of * is not supported")
        shape = f"%{flags}{width}" + (f".{precision}" if precision is not None else "")
        if letter == "c":  # as text: it may be escaped
            python = f"%{flags}{width}s"
        elif letter in _TEXTS:
            python = shape + "s"
        else:
            python = shape + {"u": "d"}.get(letter, letter)
        bits = 8 if letter == "c" else 64 if letter == "p" or letter in _TEXTS else _SIZES[length or ""]
        digits = None if precision is None else int(precision or 0)
        conversions.append(Conversion(letter, bits, python, flags, int(width or 0), digits))
        parts.append("")
    parts[-1] += text[position:]
    return parts, conversions


def c_integer(conversion: Conversion, value: int) -> str:
    """A number as C's printf writes it (ISO C17, 7.21.6.1)."""
    flags, precision = conversion.flags, conversion.precision
    letter = conversion.letter
    digits = format(abs(value), {"u": "d", "p": "x"}.get(letter, letter))
    if precision is not None:
        digits = digits.rjust(precision, "0") if precision or value else ""
    prefix = ""
    if letter in "dp":
        prefix = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    if letter == "p":  # of the C library that bpftrace uses
        if not value:
            return _padded("(nil)", conversion)
        prefix += "0x"
    elif "#" in flags and letter == "o" and not digits.startswith("0"):
        digits = f"0{digits}"
    elif "#" in flags and letter in "xX" and value:
        prefix = f"0{letter}"
    if "0" in flags and "-" not in flags and precision is None:
        digits = digits.rjust(conversion.width - len(prefix), "0")
    return _padded(prefix + digits, conversion)


def _padded(text: str, conversion: Conversion) -> str:
    return text.ljust(conversion.width) if "-" in conversion.flags else text.rjust(conversion.width)
