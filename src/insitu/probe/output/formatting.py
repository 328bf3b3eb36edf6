"""Values as text, as bpftrace shows them, and as JSON."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from msgspec import Struct, field

from insitu.kernel import procfs
from insitu.probe.layout import RecordLayout
from insitu.probe.output.number_names import KINDS, number_name
from insitu.probe.output.printf_formats import Conversion, c_integer, parse_format
from insitu.probe.runtime.decode import Pieces, decoder, piece_count
from insitu.probe.runtime.drain import FIELDS
from insitu.probe.runtime.symbols import Symbols
from insitu.probe.types import (
    FUNCTION_MARK,
    Array,
    Buffer,
    Inet,
    Integer,
    MacAddress,
    NamedNumber,
    Pointer,
    Record,
    Stack,
    String,
    Timestamp,
    Tuple,
    Type,
    UserSymbol,
    Variable,
)
from insitu.terminal_text import printable

__all__ = ["Formatter", "Members"]

_UINT32, _UINT64 = 2**32 - 1, 2**64 - 1


class Members(dict[str, Any]):
    """A record or a named tuple in JSON: written with spaces inside of its braces, as bpftrace 0.17 does."""


class Formatter(Struct):
    """Turns values into text. ``points`` are (probe, function) by number; ``texts`` the formats of strftime()."""

    symbols: Symbols
    points: dict[int, tuple[str, str]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    boot_offset_ns: int = 0  # from CLOCK_BOOTTIME to the wall clock
    trailer: str = ""  # shown after text that fills ``max_strlen``: it was cut
    max_strlen: int = 0
    on_terminal: bool = False  # whether values, but not the script's own text, are escaped
    newer_form: bool = False  # that of bpftrace 0.24 and later, instead of 0.17's

    def shown(self, text: str) -> str:
        """Text that a script was given, as it is written."""
        return printable(text) if self.on_terminal else text

    def text(self, kind: Type, value: Any, *, indent: int = 8) -> str:
        """What print() and %s show. ``indent`` is that of a stack's frames."""
        if isinstance(kind, Integer):
            return self.shown(_integer(kind, value))
        if isinstance(kind, String):
            return self.shown(self._marked(kind, value) if self.trailer else str(value))
        if isinstance(kind, Pointer):
            return f"{value:#x}"
        if isinstance(kind, Tuple):
            texts = [self.text(k, v) for k, v in zip(kind.elements, value, strict=True)]
            return self._members(kind.names, texts) if kind.names else f"({', '.join(texts)})"
        if isinstance(kind, Record):
            return self._members(value, [self.text(k, v) for k, v in _with_types(kind, value)])
        if isinstance(kind, Buffer):
            return escaped(value)
        if isinstance(kind, Array):
            element = kind.element.resolve()
            return f"[{','.join(self.text(element, v) for v in value)}]"
        if isinstance(kind, Stack):
            return self.symbols.stack(value[0], value[1], kind, indent, self.shown)
        if isinstance(kind, Timestamp):
            return self.clock(self.texts[value[0]], value[1] + self.boot_offset_ns)
        return self.shown(self._named(kind, value))

    def _members(self, names: Iterable[str], texts: Sequence[str]) -> str:
        members = [f".{self.shown(name)} = {text}" for name, text in zip(names, texts, strict=True)]
        return f"{{ {', '.join(members)} }}"

    def _marked(self, kind: String, value: str) -> str:
        full = kind.capacity == self.max_strlen and len(value.encode("utf-8", "surrogateescape")) >= kind.capacity - 1
        return value + self.trailer if full else value

    def _named(self, kind: Type, value: Any) -> str:
        if isinstance(kind, NamedNumber):
            return self._number(kind.kind, value)
        if isinstance(kind, UserSymbol):
            return self.symbols.user_text(value[0], value[1])
        if isinstance(kind, Inet):
            import socket

            if value[0] == socket.AF_INET:
                return socket.inet_ntop(socket.AF_INET, value[1][:4])
            return socket.inet_ntop(socket.AF_INET6, value[1]) if value[0] == socket.AF_INET6 else ""
        if isinstance(kind, MacAddress):
            return ":".join(f"{byte:02X}" for byte in struct.pack("<Q", value)[:6])
        return "" if value is None else str(value)

    def _number(self, kind: str, value: int) -> str:
        if kind == "func" or (kind == "ksym" and value & ~0xFFFFFFFF == FUNCTION_MARK):
            return self.points.get(value & 0xFFFFFFFF, ("", ""))[1]
        if kind == "ksym":
            found = self.symbols.kernel(value)
            return found[0] if found else f"{value:#x}"
        if kind == "username":
            return _user_name(value)
        if kind == "probe":
            return self.points.get(value, ("", ""))[0]
        if kind == "comm":
            return _process_name(value)
        if kind in KINDS:
            return number_name(kind, value)
        if kind.startswith("cgroup_path:"):
            from insitu.kernel.cgroup_paths import cgroup_path

            return cgroup_path(value, kind.partition(":")[2])
        return str(value)

    @staticmethod
    def clock(text: str, realtime_ns: int) -> str:
        """strftime() of a wall clock time; %f is microseconds."""
        if "%f" in text:
            text = re.sub(r"(%%)|%f", lambda m: m.group(1) or f"{realtime_ns // 1000 % 10**6:06d}", text)
        return time.strftime(text, time.localtime(realtime_ns // 10**9))

    def json(self, kind: Type, value: Any) -> Any:
        """A value as JSON knows it: enumerators and addresses are numbers there, records and named tuples objects."""
        if isinstance(kind, Tuple):
            values = [self.json(k, v) for k, v in zip(kind.elements, value, strict=True)]
            return self._object(kind.names, values) if kind.names else values
        if isinstance(kind, Record):
            return self._object(value, [self.json(k, v) for k, v in _with_types(kind, value)])
        if isinstance(kind, Integer):
            return bool(value) if kind.enum == "bool" else self.number(value)
        if value is None:
            return value
        if isinstance(kind, Pointer):
            return self.number(value)
        if isinstance(kind, Array):
            element = kind.element.resolve()
            return [self.json(element, v) for v in value]
        return self.text(kind, value)

    def _object(self, names: Iterable[str], values: Sequence[Any]) -> dict[str, Any]:
        return (dict if self.newer_form else Members)(zip(names, values, strict=True))

    def number(self, value: int) -> int | str:
        """A number for JSON: in the newer form, text where a double (all that JavaScript has) cannot hold it."""
        return str(value) if self.newer_form and int(float(value)) != value else value

    # Records

    def printf(self, layout: RecordLayout) -> Callable[[Pieces], str]:
        """A function that formats a record's values."""
        parts, conversions = parse_format(layout.text)
        template = parts[0].replace("%", "%%")
        getters: list[Callable[[Pieces], Any]] = []
        start = FIELDS
        for part, conversion, kind in zip(parts[1:], conversions, layout.fields.elements, strict=True):
            shown = self._shown(conversion, kind, start)
            if conversion.differs:
                getters.append(_by_c(conversion, shown))
                template += "%s" + part.replace("%", "%%")
            else:
                getters.append(shown)
                template += conversion.python + part.replace("%", "%%")
            start += piece_count(kind)
        if not getters:
            return lambda pieces: parts[0]
        if len(getters) == 1:
            only = getters[0]
            return lambda pieces: template % only(pieces)
        return lambda pieces: template % tuple([get(pieces) for get in getters])

    def _shown(self, conversion: Conversion, kind: Type, start: int) -> Callable[[Pieces], Any]:
        value = decoder(kind, start)
        kind = kind.element if isinstance(kind, Variable) else kind
        if conversion.letter == "rx":
            return lambda pieces: "".join(f"\\x{byte:02x}" for byte in value(pieces))
        if conversion.letter == "rh":
            return lambda pieces: value(pieces).hex(" ")
        if conversion.letter == "gr":
            from insitu.probe.output.gfp_flags import named_flags

            return lambda pieces: named_flags(value(pieces))
        if conversion.letter in ("s", "r"):
            if isinstance(kind, String) and not self.trailer and not self.on_terminal:
                return value
            return lambda pieces: self.text(kind, value(pieces))
        if conversion.letter == "p":
            return lambda pieces: value(pieces) & _UINT64
        if conversion.letter == "c":
            return lambda pieces: self.shown(bytes([value(pieces) & 0xFF]).decode("utf-8", "surrogateescape"))
        if conversion.letter == "d":
            if conversion.bits < 32:
                return lambda pieces: _signed(value(pieces), conversion.bits)
            if isinstance(kind, Integer) and kind.signed:
                return lambda pieces: pieces[start]
            return lambda pieces: _signed(value(pieces), 64)
        if isinstance(kind, Integer) and not kind.signed and conversion.bits >= 32:
            return lambda pieces: pieces[start]
        return lambda pieces: _unsigned(value(pieces), conversion.bits)


def _integer(kind: Integer, value: int) -> str:
    """A number; a truth value or an enumerator by its name."""
    if kind.enum == "bool":
        return "true" if value else "false"
    return next((name for name, number in kind.enumerators if number == value), str(value))


def _with_types(kind: Record, value: dict[str, Any]) -> list[tuple[Type, Any]]:
    """A record's values with their types."""
    fields = kind.fields()
    return [(fields[name].type.resolve(), each) for name, each in value.items()]


def _by_c(conversion: Conversion, shown: Callable[[Pieces], Any]) -> Callable[[Pieces], str]:
    """What Python's % operator would show in another way than C."""
    return lambda pieces: c_integer(conversion, shown(pieces))


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _unsigned(value: int, bits: int) -> int:
    """As C shows a number of that width; but one that does not fit is shown whole rather than cut."""
    if bits == 32:
        return value & _UINT32 if -(2**31) <= value < 0 else value & _UINT64
    return value & ((1 << bits) - 1)


def escaped(data: bytes) -> str:
    """Bytes as text, those that are not printable as \\xNN."""
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in data)


def _process_name(pid: int) -> str:
    """The name of a process now; empty when it has ended."""
    try:
        return procfs.comm(pid).decode(errors="surrogateescape")
    except OSError:
        return ""


@cache
def _user_name(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return ""
