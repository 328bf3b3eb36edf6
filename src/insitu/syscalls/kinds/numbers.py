"""Numbers, descriptors, constants and sets of flags."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call

__all__ = ["KINDS", "descriptor", "enum_text", "flags_text"]

_AT_FDCWD: Final = -100


def flags_text(argument: Argument, name: str, value: int) -> str:
    """Returns ``O_RDONLY|O_CLOEXEC``: bits of a set of constants; those without a name in hexadecimal at the end."""
    raw = f"{value:#x}" if value else "0"
    if argument.options.constants == "raw":
        return raw
    rest, seen = value, 0
    words: list[str] = []
    zero = ""
    for bits, word, mask in argument.facts.constants(name):
        if not mask:
            zero = zero or word
        elif value & mask == bits and not seen & mask and (rest & bits or not bits):
            words.append(word)
            rest &= ~mask
            seen |= mask
    if rest:
        words.append(f"{rest:#x}")
    text = "|".join(words) or zero or "0"
    return f"{raw} /* {text} */" if argument.options.constants == "verbose" else text


def enum_text(argument: Argument, name: str, value: int, unknown: str = "") -> str:
    """Returns the name of a value, else the number and ``/* SEEK_??? */``: ``unknown`` is that comment."""
    word = argument.facts.constant(name, value)
    raw = f"{value:#x}" if value else "0"
    if argument.options.constants == "raw":
        return raw
    if word is None:
        return f"{raw} /* {unknown} */" if unknown else raw
    return f"{raw} /* {word} */" if argument.options.constants == "verbose" else word


def descriptor(argument: Argument, value: int) -> str:
    """Returns a file descriptor, with what it is open on where -y asks for that."""
    if not argument.options.descriptors or value < 0:
        return str(value)
    seen = getattr(argument.memory, "descriptors", {})  # of the very moment, where the engine looked
    peer = argument.options.peer_of
    what = seen[value] if value in seen else peer(argument.call.enter.pid, value) if peer is not None else ""
    return f"{value}<{what}>" if what else str(value)


def _dirfd(argument: Argument) -> str:
    return "AT_FDCWD" if argument.signed == _AT_FDCWD else descriptor(argument, argument.signed)


def _creates(call: Call) -> bool:
    flags = call.enter.args[2 if call.enter.nr == _openat(call) else 1]
    return bool(flags & 0o100) or flags & 0o20200000 == 0o20200000


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
    "hex": Kind(lambda a: f"{a.value:#x}"),
    "hex_or_0": Kind(lambda a: f"{a.value:#x}" if a.value else "0"),
    "pointer": Kind(lambda a: hexadecimal(a.value)),
    "address": Kind(lambda a: hexadecimal(a.value)),
    "mode": Kind(lambda a: f"0{a.value & 0xFFFF:03o}", skipped=lambda call: not _creates(call)),
    "fd": Kind(lambda a: descriptor(a, a.signed)),
    "dirfd": Kind(_dirfd),
    "flags": Kind(lambda a: flags_text(a, a.given[0], a.value & 0xFFFFFFFF)),
    "enum": Kind(lambda a: enum_text(a, a.given[0], a.value & 0xFFFFFFFF, *a.given[1:])),
}
