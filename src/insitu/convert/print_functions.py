"""The functions that may stand in a "print fmt": __print_flags(), __get_str() and others of trace_events.h."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from insitu.convert.print_directives import Expression, Values

__all__ = ["FUNCTIONS", "Arguments"]

_MOST_SHOWN: Final = 4096
_U64: Final = (1 << 64) - 1


class Arguments(Protocol):
    """A parser within the parentheses of a call. Its methods raise UnknownError for what is not there."""

    def expression(self) -> Expression:
        """Read an expression."""

    def string(self) -> str:
        """Read a string."""

    def word(self) -> str:
        """Read a name."""

    def need(self, mark: str) -> None:
        """Go past what has to come: a comma, the closing parenthesis."""

    def pairs(self) -> list[tuple[int, str]]:
        """Read the ``{ value, "name" }`` that follow, and the closing parenthesis."""


def _flags(parser: Arguments) -> Expression:
    value = parser.expression()
    parser.need(",")
    delimiter = parser.string()
    pairs = parser.pairs()

    def text(values: Values) -> str:
        left, found = value(values), []
        for mask, name in pairs:
            if mask and left & mask == mask:
                found.append(name)
                left &= ~mask
        if left:
            found.append(f"{left & _U64:#x}")
        return delimiter.join(found)

    return text


def _symbolic(parser: Arguments) -> Expression:
    value = parser.expression()
    names: dict[int, str] = {}
    for number, name in parser.pairs():
        names.setdefault(number, name)

    def text(values: Values) -> str:
        number = value(values)
        found = names.get(number)
        if found is None:
            found = names.get(number & _U64)
        return f"{number & _U64:#x}" if found is None else found

    return text


def _field(parser: Arguments) -> Expression:
    name = parser.word()
    parser.need(")")
    return lambda values: values[name]


def _length(parser: Arguments) -> Expression:
    inner = _field(parser)
    return lambda values: len(inner(values))


def _hexadecimal(separator: str) -> Callable[[Arguments], Expression]:
    def make(parser: Arguments) -> Expression:
        data = parser.expression()
        parser.need(",")
        size = parser.expression()
        parser.need(")")
        return lambda values: (
            bytes(data(values))[: max(size(values), 0)][:_MOST_SHOWN].hex(separator or "\0").replace("\0", "")
        )

    return make


def _array(parser: Arguments) -> Expression:
    data = parser.expression()
    parser.need(",")
    count = parser.expression()
    parser.need(",")
    size = parser.expression()
    parser.need(")")

    def text(values: Values) -> str:
        found, many = data(values), min(max(count(values), 0), _MOST_SHOWN)
        if isinstance(found, bytes):
            code = {1: "B", 2: "H", 4: "I", 8: "Q"}[size(values)]
            found = struct.unpack_from(f"<{min(many, len(found) // size(values))}{code}", found)
        return "{" + ",".join(f"{each:#x}" for each in found[:many]) + "}"

    return text


def _bits(parser: Arguments) -> Expression:
    inner = _field(parser)
    return lambda values: _ranges(int.from_bytes(inner(values)[:_MOST_SHOWN], "little"))


def _ranges(mask: int) -> str:
    """Bits that are set as %*pbl prints them: "0-2,5"."""
    found = []
    for match in re.finditer("1+", bin(mask)[:1:-1]):
        first, last = match.start(), match.end() - 1
        found.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(found)


def _expected(parser: Arguments) -> Expression:
    value = parser.expression()
    parser.need(",")
    parser.expression()
    parser.need(")")
    return value


FUNCTIONS: Final[Mapping[str, Callable[[Arguments], Expression]]] = {
    "__print_flags": _flags,
    "__print_flags_u64": _flags,
    "__print_symbolic": _symbolic,
    "__print_symbolic_u64": _symbolic,
    "__get_str": _field,
    "__get_rel_str": _field,
    "__get_dynamic_array": _field,
    "__get_rel_dynamic_array": _field,
    "__get_sockaddr": _field,
    "__get_dynamic_array_len": _length,
    "__get_rel_dynamic_array_len": _length,
    "__get_bitmask": _bits,
    "__get_cpumask": _bits,
    "__get_rel_bitmask": _bits,
    "__print_hex": _hexadecimal(" "),
    "__print_hex_str": _hexadecimal(""),
    "__print_array": _array,
    "__builtin_expect": _expected,
}
