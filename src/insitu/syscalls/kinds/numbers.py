"""Numbers, descriptors, constants and sets of flags."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call

__all__ = ["BY_VALUE", "KINDS", "descriptor", "directory", "enum_text", "flags_text", "octal"]

_AT_FDCWD: Final = -100
_O_CREAT: Final = 0x40
_O_TMPFILE: Final = 0x400000  # without O_DIRECTORY


def flags_text(argument: Argument, name: str, value: int, unknown: str = "") -> str:
    """Returns ``O_RDONLY|O_CLOEXEC``: bits of a set of constants, those without a name in hexadecimal after them.

    ``unknown``: the comment on a value in which no bit has a name, such as AT_???; else the set's own.
    """
    facts = argument.facts
    unknown = unknown or facts.unknown(name)
    raw = f"{value:#x}" if value else "0"
    if argument.options.constants == "raw":
        return raw
    rest, named = value, False
    words: list[str] = []
    after: list[str] = []
    zero = ""
    fields: dict[int, list[int]] = {}  # mask: where its word belongs, how many values have names
    done = 0
    for bits, word, mask in facts.constants(name):
        if word.startswith("<<"):
            if value & mask:
                after.append(f"{(value & mask) // bits}{word}")
                rest &= ~mask
        elif not mask:
            zero = word
        elif bits == mask:
            if rest & mask == mask:
                words.append(word)
                rest &= ~mask
                named = True
        else:
            fields.setdefault(mask, [len(words), 0])[1] += 1
            if value & mask == bits and not done & mask:
                words.append(word)
                rest &= ~mask
                done |= mask
                named = True
    for mask, (place, values) in fields.items():
        if values > 1 and rest & mask and not done & mask:
            words.insert(place, f"{rest & mask:#x} /* {unknown} */")
            rest &= ~mask
            named = True
    if rest and not named and not after:
        return f"{rest:#x} /* {unknown} */" if unknown else f"{rest:#x}"
    if rest:
        words.append(f"{rest:#x}")
    words += after
    if not words:
        words = [zero] if zero else []
    text = "|".join(words)
    if not text:
        return raw
    return f"{raw} /* {text} */" if argument.options.constants == "verbose" else text


def enum_text(argument: Argument, name: str, value: int, unknown: str = "") -> str:
    """Returns the name of a value, else the number with a comment: ``0x9 /* SEEK_??? */``.

    ``unknown``: that comment, else the set's own.
    """
    word = argument.facts.constant(name, value)
    raw = f"{value:#x}" if value else "0"
    if argument.options.constants == "raw":
        return raw
    if word is None:
        unknown = unknown or argument.facts.unknown(name)
        return f"{raw} /* {unknown} */" if unknown else raw
    return f"{raw} /* {word} */" if argument.options.constants == "verbose" else word


def octal(value: int) -> str:
    """Returns permissions as C's ``%#03o`` has them: 000, 07777."""
    return f"0{value:o}".rjust(3, "0")


def descriptor(argument: Argument, value: int) -> str:
    """Returns a file descriptor, with what it is open on where -y asks for that."""
    return f"{value}{_opened(argument, value)}"


def _opened(argument: Argument, value: int) -> str:
    if not argument.options.descriptors or (value < 0 and value != _AT_FDCWD):
        return ""
    seen = getattr(argument.memory, "descriptors", {})  # of the very moment, where the engine looked
    peer = argument.options.peer_of
    what = seen[value] if value in seen else peer(argument.call.enter.pid, value) if peer is not None else ""
    closed = what.endswith(">(deleted)")  # what > there is in a name is escaped
    return f"<{what}{'' if closed else '>'}" if what else ""


def directory(argument: Argument) -> str:
    """Returns the descriptor of a directory, AT_FDCWD for the current one."""
    if argument.signed != _AT_FDCWD:
        return descriptor(argument, argument.signed)
    return argument.named(str(_AT_FDCWD), "AT_FDCWD") + _opened(argument, _AT_FDCWD)


def _creates(call: Call) -> bool:
    flags = call.enter.args[2 if call.enter.nr == _openat(call) else 1]
    return bool(flags & (_O_CREAT | _O_TMPFILE))


def _openat(call: Call) -> int | None:
    from insitu.syscalls.facts import facts_of

    return facts_of(call.enter.abi).numbers.get("openat")


KINDS: Kinds = {
    "int": Kind(lambda a: str(a.signed)),
    "unsigned": Kind(lambda a: str(a.value & 0xFFFFFFFF)),
    "int_long": Kind(lambda a: str(a.long)),
    "unsigned_long": Kind(lambda a: str(a.value & ((1 << 8 * a.long_size) - 1))),
    "size": Kind(lambda a: str(a.value & ((1 << 8 * a.long_size) - 1))),
    "offset": Kind(lambda a: str(a.long)),
    "uid": Kind(lambda a: str(a.signed if a.signed == -1 else a.value & 0xFFFFFFFF)),
    "hex": Kind(lambda a: f"{a.value:#x}"),
    "hex_or_0": Kind(lambda a: f"{a.value:#x}" if a.value else "0"),
    "pointer": Kind(lambda a: hexadecimal(a.value)),
    "address": Kind(lambda a: hexadecimal(a.value)),
    "mode": Kind(lambda a: octal(a.value & 0xFFFF), skipped=lambda call: not _creates(call)),
    "fd": Kind(lambda a: descriptor(a, a.signed)),
    "dirfd": Kind(directory),
    "flags": Kind(lambda a: flags_text(a, a.given[0], a.value & 0xFFFFFFFF, *a.given[1:])),
    "flags_long": Kind(lambda a: flags_text(a, a.given[0], a.value & ((1 << 8 * a.long_size) - 1), *a.given[1:])),
    "enum": Kind(lambda a: enum_text(a, a.given[0], a.value & 0xFFFFFFFF, *a.given[1:])),
    "enum_long": Kind(lambda a: enum_text(a, a.given[0], a.value & ((1 << 8 * a.long_size) - 1), *a.given[1:])),
}
BY_VALUE: Final = frozenset(KINDS)
"""Kinds whose text depends on the argument's value alone, but for what a descriptor is open on."""
