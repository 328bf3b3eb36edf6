"""printf formats: which conversions a format has, what values each takes, and its Python equivalent."""

from __future__ import annotations

import re

from msgspec import Struct

__all__ = ["Conversion", "parse_format"]

_CONVERSION = r"%([-+ #0]*)(\*|\d{0,4})(?:\.(\d{0,4}))?(hh|h|ll|l|j|z|t)?([%a-zA-Z])"
_TEXTS = ("s", "r", "rx", "rh", "gr")
_LETTERS = (*"duxXocp", *_TEXTS)
_SIZES = {"hh": 8, "h": 16, "": 32, "l": 64, "ll": 64, "j": 64, "z": 64, "t": 64}


class Conversion(Struct, frozen=True):
    """``letter`` is d, u, x, X, o, c, s, p, r, rx, rh or gr; ``bits`` how many of an integer C would look at.

    ``python`` is the conversion as Python's % operator takes it.
    """

    letter: str
    bits: int
    python: str

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
        if letter == "p":
            # C writes 0x in front and counts it in the width: done as text.
            python = f"%{flags}{width}s"
        elif letter == "c":  # as text too: it may be escaped
            python = f"%{flags}{width}s"
        elif letter in _TEXTS:
            python = shape + "s"
        else:
            python = shape + {"u": "d"}.get(letter, letter)
        bits = 8 if letter == "c" else 64 if letter == "p" or letter in _TEXTS else _SIZES[length or ""]
        conversions.append(Conversion(letter, bits, python))
        parts.append("")
    parts[-1] += text[position:]
    return parts, conversions
