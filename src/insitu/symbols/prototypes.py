"""Prototypes of user functions: which registers hold their arguments, and how values are shown.

A value's kind is a short text, so that a recording can keep it: "i4" and "u8" are integers (signed, unsigned, and
their bytes), "p" a pointer, "s" a string, "b" a truth value, "c" a character, "v" nothing, "?" what no general
register holds, "." an argument that is not recorded, "e4:0=RED,1=GREEN" an enum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from insitu.symbols.btf import Kind, Type
from insitu.terminal_text import printable

__all__ = ["REGISTERS", "Prototype", "call_text", "prototype_of", "shown"]

REGISTERS: Final = 6
"""Arguments of a call that are recorded: those in registers."""
_REGISTER_BYTES: Final = 8
_MOST_ENUMERATORS: Final = 64
_INTEGERS: Final = frozenset({Kind.INT, Kind.ENUM, Kind.ENUM64})


class Prototype(NamedTuple):
    """Names and kinds of the parameters, in their order, and the kind returned.

    Those of kind "." are not in general registers, or beyond them; the last one stands for all that follow.
    """

    parameters: tuple[tuple[str, str], ...] = ()
    result: str = "v"

    def strings(self) -> list[int]:
        """Which of the parameters in registers are strings."""
        kinds = [kind for _, kind in self.parameters if kind != "."]
        return [at for at, kind in enumerate(kinds) if kind == "s"]


def prototype_of(function: Type) -> Prototype:
    """Returns a function's prototype by its debug information.

    Floating-point parameters are not known: probes do not see their registers. Nor is all that follows a struct that
    is passed by value, which may take any number of registers, or a variable number of arguments.
    """
    parameters: list[tuple[str, str]] = []
    registers = 0
    for name, type_ in function.parameters:
        kind = _kind(type_)
        if type_.strip().kind == Kind.FLOAT:
            parameters.append((name, "."))
        elif kind in ("?", "v") or registers == REGISTERS:
            parameters.append(("", "."))
            break
        else:
            parameters.append((name, kind))
            registers += 1
    return Prototype(tuple(parameters), _kind(function.returns))


def _kind(type_: Type) -> str:
    bare = type_.strip()
    if bare.kind == Kind.VOID:
        return "v"
    if bare.kind == Kind.PTR:
        return "s" if bare.target.character else "p"
    if bare.kind not in _INTEGERS or not 0 < bare.size <= _REGISTER_BYTES:
        return "?"
    if bare.boolean:
        return "b"
    if bare.character:
        return "c"
    if bare.kind != Kind.INT and 0 < len(names := bare.enumerators) <= _MOST_ENUMERATORS:
        return f"e{bare.size}:" + ",".join(f"{value}={name}" for name, value in names.items())
    return f"{'i' if bare.signed else 'u'}{bare.size}"


def shown(kind: str, word: int, text: str | None = None) -> str:
    """A register's value as text. ``text`` is what a string holds, None where it was not read."""
    if kind == "s" and text is not None and word:
        return '"' + printable(text).replace('"', '\\"') + '"'
    if kind in ("s", "p"):
        return f"{word:#x}" if word else "NULL"
    if kind == "b":
        return "true" if word & 0xFF else "false"
    if kind == "c":
        code = word & 0xFF
        return repr(chr(code)) if 32 <= code < 127 else str(code - (code >> 7 << 8))
    letter, size = kind[0], int(kind[1])
    value = word & (1 << 8 * size) - 1
    if letter == "i" or (letter == "e" and "=" in kind and value >> (8 * size - 1)):
        value -= value >> (8 * size - 1) << 8 * size
    if letter == "e":
        names = dict(each.split("=") for each in kind.partition(":")[2].split(","))
        return str(names.get(str(value), value))
    return str(value)


def call_text(parameters: Sequence[tuple[str, str]], words: Sequence[int], texts: Sequence[str | None]) -> str:
    """The arguments of a call, separated by commas; ``...`` for one that is not recorded.

    ``words`` are the registers' values, ``texts`` those of its first strings.
    """
    left, registers = iter(texts), iter(words)
    return ", ".join(
        "..." if kind == "." else shown(kind, next(registers, 0), next(left, None) if kind == "s" else None)
        for _, kind in parameters
    )
