"""One argument of a call while it is turned into text: what a kind gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from insitu.syscalls.call import Call, Memory, c_int

if TYPE_CHECKING:
    from insitu.syscalls.capture import Capture
    from insitu.syscalls.facts import Facts

__all__ = ["Argument", "Kind", "TextOptions", "hexadecimal"]


def hexadecimal(value: int) -> str:
    """Returns a pointer as strace(1) shows it."""
    return f"{value:#x}" if value else "NULL"


@dataclass(frozen=True)
class TextOptions:
    """How values are shown: strace(1)'s options of these names."""

    string_limit: int = 32
    """-s"""
    verbose: bool = False
    """-v: structures are not abbreviated."""
    strings_in_hex: str = ""
    """-x: "non-ascii"; -xx: "all"."""
    constants: str = "abbrev"
    """-X: "raw", "abbrev" or "verbose"."""
    descriptors: int = 0
    """-y: 1; -yy: 2."""
    peer_of: Callable[[int, int], str] | None = field(default=None, compare=False)
    """(pid, descriptor) -> what -y shows in < >."""


@dataclass(slots=True)
class Argument:
    """One value, with what is around it. Structures' members are arguments too: see ``member``."""

    value: int
    given: tuple[str, ...]
    count: int | None
    """How many elements it points to, as the table's brackets say."""
    memory: Memory
    call: Call
    options: TextOptions
    facts: Facts
    at_exit: bool = False
    """Whether the memory is what the kernel left there."""

    @property
    def signed(self) -> int:
        """The value as an int."""
        return c_int(self.value)

    @property
    def long(self) -> int:
        """The value as a long of the call's ABI."""
        bits = 8 * self.long_size
        value = self.value & ((1 << bits) - 1)
        return value - (1 << bits) if value >> (bits - 1) else value

    @property
    def long_size(self) -> int:
        """Bytes of a long and a pointer in the calling program."""
        return 4 if self.call.enter.abi in ("i386", "x32") else 8

    def at(self, address: int, count: int | None = None, *given: str) -> Argument:
        """Returns the same with another value: what a structure or an array of pointers points to."""
        return Argument(address, given, count, self.memory, self.call, self.options, self.facts, self.at_exit)

    def read(self, size: int, offset: int = 0) -> bytes | None:
        """Returns exactly ``size`` bytes at the address (plus offset), None if they are not known."""
        data = self.memory.read(self.value + offset, size)
        return data if data is not None and len(data) == size else None

    def number(self, size: int, offset: int = 0, *, signed: bool = False) -> int | None:
        """Returns the integer at the address (plus offset), None if it is not known."""
        data = self.read(size, offset)
        return None if data is None else int.from_bytes(data, "little", signed=signed)

    def named(self, raw: str, word: str) -> str:
        """Returns a value that has a name as -X wants it: the number, the name, or both."""
        constants = self.options.constants
        return word if constants == "abbrev" else raw if constants == "raw" else f"{raw} /* {word} */"

    def other(self, index: int) -> int:
        """Returns the call's argument number ``index``, from 0."""
        return self.call.enter.args[index]


class Kind(NamedTuple):
    """A kind of argument. ``capture`` is the memory that its text needs, where it points to any."""

    text: Callable[[Argument], str | None]
    """None: the address is shown instead, as where memory could not be read."""
    capture: Capture | None = None
    skipped: Callable[[Call], bool] | None = None
    """Of optional parameters: whether the call does not have it."""
    null: bool = False
    """Whether ``text`` is asked of 0 too, which is NULL otherwise (ioctl's argument may be a number)."""


Kinds = Mapping[str, Kind]
