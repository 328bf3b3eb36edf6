"""Arguments of printf() and its kind, by the format: what a variable number of arguments are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

__all__ = ["format_kinds"]

_CONVERSION: Final = re.compile(
    r"%(?:\d+\$)?[-+ #0']*(\*|\d+)?(?:\.(\*|\d*))?(hh|h|ll|l|q|j|z|t|L)?([a-zA-Z%])", re.ASCII
)
_SIZES: Final = {"hh": 1, "h": 2, "": 4}  # bytes of an integer; of all others 8
_UNSIGNED: Final = frozenset("ouxX")
_MOST: Final = 32


def format_kinds(text: str) -> Sequence[str]:
    """The kinds (see value_shape) of the arguments that a format takes; "?" ends them, for what is not known."""
    return list(_kinds(text))[:_MOST]


def _kinds(text: str) -> Iterator[str]:
    for found in _CONVERSION.finditer(text):
        width, precision, length, letter = found.groups()
        yield from ("i4" for each in (width, precision) if each == "*")
        if letter in "di":
            yield f"i{_SIZES.get(length or '', 8)}"
        elif letter in _UNSIGNED:
            yield f"u{_SIZES.get(length or '', 8)}"
        elif letter in "eEfFgGaA" and length != "L":
            yield "f8"
        elif letter == "c":
            yield "c"
        elif letter == "s":
            yield "s"
        elif letter in "pn":
            yield "p"
        elif letter not in "%m":
            yield "?"
            return
