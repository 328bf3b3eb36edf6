"""The program of a process in which drgn reads a binary's types (see dwarf_types): run as a script.

Each request is one byte, a length of 4 bytes and a name of so many; each reply is REPLY_HEAD and a body. ``Types``
does the work, so that it can be tried without the process.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import drgn

__all__ = [
    "DAMAGED",
    "ENUMERATOR",
    "FOUND",
    "FUNCTION",
    "MISSING",
    "REPLY_HEAD",
    "REQUEST_HEAD",
    "TYPE",
    "Reply",
    "Types",
]

FUNCTION, TYPE, ENUMERATOR = range(3)
MISSING, FOUND, DAMAGED = range(3)
REQUEST_HEAD = struct.Struct("<BI")
REPLY_HEAD = struct.Struct(
    "<BI16sI"
)  # what came of it, the number of the type, an enumerator's value, the body's length
_ADDRESSES = (0, 1 << 48)

Reply = tuple[int, int, int, bytes]
"""What came of it, the type's number, an enumerator's value, and BTF or why nothing could be read."""


class Types:
    """The types of one binary, whose debug information may be in several files."""

    def __init__(self, name: str, descriptors: Sequence[int]) -> None:
        """``descriptors`` are of the files, and drgn's to close. It would follow their paths in our root."""
        import drgn

        self._name = name
        self._program = drgn.Program()
        module = self._program.extra_module(name, create=True)
        module.address_range = _ADDRESSES
        self._descriptors = descriptors
        self._module = module
        self._ask: dict[int, Callable[[str], tuple[drgn.Type, str, int]]] = {
            FUNCTION: lambda asked: (self._program.function(asked).type_, asked, 0),
            TYPE: lambda asked: (self._program.type(asked), "", 0),
            ENUMERATOR: self._enumerator,
        }

    def ask(self, what: int, asked: str) -> Reply:
        """Look up a FUNCTION, TYPE or ENUMERATOR."""
        import drgn

        from insitu.symbols.type_encoder import encoded

        try:
            self._open()
            try:
                type_, function, value = self._ask[what](asked)
            except OverflowError as error:  # a size beyond 64 bits
                return DAMAGED, 0, 0, str(error).encode()
            except (LookupError, SyntaxError, ValueError, TypeError):
                return MISSING, 0, 0, b""
            number, btf = encoded(type_, function)
        except Exception as error:
            # Of what libelf and libdw report, drgn makes a plain Exception.
            if type(error) not in (Exception, drgn.BadDataError, drgn.FaultError, drgn.OutOfBoundsError):
                raise
            return DAMAGED, 0, 0, str(error).partition("\n")[0].removeprefix(f"{self._name}: ").encode()
        return FOUND, number, value, btf

    def _open(self) -> None:
        descriptors, self._descriptors = self._descriptors, ()
        for descriptor in descriptors:
            # drgn finds out which of the files has what; it is not an error if none has any.
            self._module.try_file(self._name, fd=descriptor, force=True)

    def _enumerator(self, asked: str) -> tuple[drgn.Type, str, int]:
        found = self._program.constant(asked)
        return found.type_, "", int(found.value_())


def _main(words: Sequence[str]) -> None:
    memory, seconds = map(int, words[:2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    sys.path[:] = words[2].split(os.pathsep)
    types = Types(words[3], [*map(int, words[4:])])
    while len(head := sys.stdin.buffer.read(REQUEST_HEAD.size)) == REQUEST_HEAD.size:
        what, size = REQUEST_HEAD.unpack(head)
        try:
            state, number, value, body = types.ask(what, sys.stdin.buffer.read(size).decode())
        except MemoryError:
            os.abort()  # as native libraries do
        sys.stdout.buffer.write(
            REPLY_HEAD.pack(state, number, value.to_bytes(16, "little", signed=True), len(body)) + body
        )
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main(sys.argv[1:])
