"""Arrays of numbers and structures, and vectors of buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Bytes, Linked, Wide
from insitu.syscalls.kinds.strings import quoted

__all__ = ["CAPTURED", "KINDS", "array_text", "integer", "iovec_text"]

CAPTURED: Final = 4096
"""Bytes of an array that the engines read at most."""
_VECTORS: Final = 32


def array_text(
    argument: Argument, size: int, count: int, element: Callable[[Argument], str | None], *, short: bool = True
) -> str | None:
    """Returns ``[a, b, ...]``: ``count`` elements of ``size`` bytes at the address, None if the first is not known.

    ``short``: no more than -s of them are shown without -v. Elements from the first that could not be read on are
    shown as its address, as strace(1) does.
    """
    if not count:
        return "[]"
    if count * size >= 1 << 8 * argument.long_size:
        return None
    shown = count if argument.options.verbose or not short else min(count, argument.options.string_limit)
    words: list[str] = []
    for index in range(min(shown, CAPTURED // size)):
        at = argument.at(argument.value + index * size)
        word = element(at)
        if word is None:
            if not index:
                return None
            return f"[{', '.join(words)}, ... /* {at.value:#x} */]"
        words.append(word)
    if len(words) < count:
        words.append("...")
    return f"[{', '.join(words)}]"


def integer(size: int, *, signed: bool = False, form: str = "d") -> Callable[[Argument], str | None]:
    """Returns what shows the integer at an address."""

    def text(argument: Argument) -> str | None:
        value = argument.number(size, signed=signed)
        return None if value is None else format(value, form)

    return text


def _integers(size: int, *, signed: bool = False) -> Kind:
    return Kind(lambda a: array_text(a, size, a.count or 0, integer(size, signed=signed)), Bytes(size))


def _one(size: int, *, signed: bool = False, form: str = "d") -> Kind:
    """What shows ``[5]``."""
    inside = integer(size, signed=signed, form=form)

    def text(argument: Argument) -> str | None:
        value = inside(argument)
        return None if value is None else f"[{value}]"

    return Kind(text, Bytes(size))


def _long(*, signed: bool = False, form: str = "d") -> Kind:
    def text(argument: Argument) -> str | None:
        value = integer(argument.long_size, signed=signed, form=form)(argument)
        return None if value is None else f"[{value}]"

    return Kind(text, Wide(Bytes(8), Bytes(4)))


def _pointer_text(argument: Argument) -> str | None:
    value = argument.number(argument.long_size)
    return None if value is None else hexadecimal(value)


def _pointer_at(argument: Argument) -> str | None:
    text = _pointer_text(argument)
    return None if text is None else f"[{text}]"


def iovec_text(argument: Argument, count: int, data: int | None, *, bases: bool = True) -> str | None:
    """Returns ``[{iov_base="abc", iov_len=3}]``. ``data``: bytes that the buffers hold together (readv's), None
    for all that they can; ``bases`` False: their contents are not known, and their addresses are shown."""
    size = argument.long_size
    left = data

    def element(at: Argument) -> str | None:
        nonlocal left
        base, length = at.number(size), at.number(size, size)
        if base is None or length is None:
            return None
        text = None
        if bases:
            there = length if left is None else min(length, left)
            left = None if left is None else left - there
            text = _data_text(at.at(base), there)
        return f"{{iov_base={hexadecimal(base) if text is None else text}, iov_len={length}}}"

    return array_text(argument, 2 * size, count, element)


def _data_text(argument: Argument, size: int) -> str | None:
    if not argument.value:
        return "NULL"
    limit = min(size, argument.options.string_limit)
    data = argument.memory.read(argument.value, limit) if limit else b""
    if data is None or len(data) < limit:
        return None
    return quoted(data, argument.options.strings_in_hex) + ("..." if size > limit else "")


def _written(argument: Argument) -> int | None:
    """readv(): what the buffers hold is what the call returned."""
    return max(argument.call.exit.ret, 0) if argument.at_exit and argument.call.exit is not None else None


def _iovec_written(argument: Argument) -> str | None:
    # The vector itself is as it was before; only what it points to has been written.
    return iovec_text(argument, argument.count or 0, _written(argument), bases=not argument.call.failed)


def _vectors(there: Bytes) -> Wide:
    return Wide(Linked(16, ((0, 8, 8, there),), most=_VECTORS), Linked(8, ((0, 4, 4, there),), most=_VECTORS))


_DATA: Final = _vectors(Bytes(1, whole=False))
KINDS: Kinds = {
    "iovec": Kind(lambda a: iovec_text(a, a.count or 0, None), _DATA),
    "iovec_read": Kind(_iovec_written, _DATA),
    "iovec_addresses": Kind(lambda a: iovec_text(a, a.count or 0, None, bases=False), Wide(Bytes(16), Bytes(8))),
    "ints": _integers(4, signed=True),
    "ids": _integers(4),
    "int_at": _one(4, signed=True),
    "unsigned_at": _one(4),
    "int64_at": _one(8, signed=True),
    "unsigned_long_at": _long(),
    "pointer_at": Kind(_pointer_at, Wide(Bytes(8), Bytes(4))),
    "pointers": Kind(lambda a: array_text(a, a.long_size, a.count or 0, _pointer_text), Wide(Bytes(8), Bytes(4))),
}
