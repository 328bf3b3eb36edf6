"""keyctl(2) by operation, and its kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call, c_int
from insitu.syscalls.capture import Bytes, Capture, Choice, String
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import enum_text, flags_text
from insitu.syscalls.kinds.strings import quoted, string

__all__ = ["KINDS"]

# include/uapi/linux/keyctl.h: operation -> what its arguments are. "key" serial, "string", "filled:N" written into,
# as long as argument N says, "given:N" the same read, "int", "long", "size", "uid", "perm", "ring" a default keyring.
_ARGUMENTS: Final = {
    0: ("key", "int"),
    1: ("string",),
    2: ("key", "given:3", "size"),
    3: ("key",),
    4: ("key", "uid", "uid"),
    5: ("key", "perm"),
    6: ("key", "filled:3", "size"),
    7: ("key",),
    8: ("key", "key"),
    9: ("key", "key"),
    10: ("key", "string", "string", "key"),
    11: ("key", "filled:3", "size"),
    12: ("key", "given:3", "size", "key"),
    13: ("key", "unsigned", "key"),
    14: ("ring",),
    15: ("key", "unsigned"),
    16: ("key",),
    17: ("key", "filled:3", "size"),
    18: (),
    19: ("key", "unsigned", "unsigned", "key"),
    20: ("key", "pointer", "size", "key"),
    21: ("key",),
    22: ("uid", "key"),
}
_SPECIAL: Final = (2, 6, 11, 12, 17)


def _kind(call: Call, index: int) -> str | None:
    kinds = _ARGUMENTS.get(call.enter.args[0] & 0xFFFFFFFF)
    if kinds is None:
        return "hex"
    return kinds[index - 1] if index <= len(kinds) else None


def _serial(argument: Argument, value: int) -> str:
    """A key's number; the special ones are negative."""
    number = value & 0xFFFFFFFF
    if argument.facts.constant("keyring", number) is None:
        return str(c_int(number))
    return enum_text(argument, "keyring", number)


def _filled(argument: Argument, length_index: int) -> str | None:
    if not argument.at_exit or argument.call.exit is None:
        return None
    count = min(max(argument.call.exit.ret, 0), argument.other(length_index))
    operation = argument.other(0) & 0xFFFFFFFF
    limit = argument.options.string_limit
    if operation == 11:  # KEYCTL_READ: of keyrings a list of serial numbers, else bytes
        limit = min(limit, count)
    data = argument.memory.read(argument.value, min(count, limit))
    if count and data is None:
        return None
    data = data or b""
    if operation in (6, 17):
        text = data.rstrip(b"\0") if count <= limit else data
        return quoted(text, argument.options.strings_in_hex) + ("..." if count > limit + 1 else "")
    return quoted(data, argument.options.strings_in_hex) + ("..." if count > limit else "")


def _given(argument: Argument, length_index: int) -> str | None:
    count = argument.other(length_index)
    limit = argument.options.string_limit
    data = argument.memory.read(argument.value, min(count, limit)) if count else b""
    if data is None:
        return None
    return quoted(data, argument.options.strings_in_hex) + ("..." if count > limit else "")


def _value(index: int) -> Callable[[Argument], str | None]:
    def text(argument: Argument) -> str | None:
        kind = _kind(argument.call, index) or "hex"
        name, _, detail = kind.partition(":")
        value = argument.value
        if name == "filled":
            return _filled(argument, int(detail)) if value else "NULL"
        if argument.at_exit:
            return None
        if name == "given":
            return _given(argument, int(detail)) if value else "NULL"
        if name == "string":
            return string(argument, argument.options.string_limit) if value else "NULL"
        return _NUMBERS[name](argument)

    return text


_NUMBERS: Final[dict[str, Callable[[Argument], str]]] = {
    "key": lambda a: _serial(a, a.value),
    "int": lambda a: str(a.signed),
    "unsigned": lambda a: str(a.value & 0xFFFFFFFF),
    "size": lambda a: str(a.value),
    "uid": lambda a: str(a.signed if a.signed == -1 else a.value & 0xFFFFFFFF),
    "perm": lambda a: flags_text(a, "key_permission", a.value & 0xFFFFFFFF),
    "ring": lambda a: enum_text(a, "keyctl_reqkey", a.value & 0xFFFFFFFF),
    "pointer": lambda a: hexadecimal(a.value),
    "hex": lambda a: hex_or_0(a.value),
}


def _skipped(index: int) -> Callable[[Call], bool]:
    return lambda call: _kind(call, index) is None


def _captures(index: int) -> Choice:
    found: list[tuple[int, Capture]] = []
    for operation, kinds in _ARGUMENTS.items():
        if index <= len(kinds):
            if kinds[index - 1] == "string":
                found.append((operation, String()))
            elif ":" in kinds[index - 1]:
                found.append((operation, Bytes(4096)))
    return Choice(0, tuple(found))


KINDS: Kinds = {
    "key": Kind(lambda a: _serial(a, a.value)),
    **{
        f"keyctl_{index}": Kind(_value(index), _captures(index), _skipped(index), null=True) for index in (1, 2, 3, 4)
    },
}
