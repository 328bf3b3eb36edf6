"""Types and function arguments of a user-space binary: its DWARF, handed on as BTF.

drgn reads it in a process of its own, where a crash, a loop or a bomb ends only that: see type_process.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import weakref
from collections.abc import Sequence
from functools import cached_property

from insitu.errors import InsituError
from insitu.symbols import type_cache
from insitu.symbols.btf import Btf, Type
from insitu.symbols.debug_files import find_debug_file
from insitu.symbols.elf import Elf
from insitu.symbols.read_budget import megabytes
from insitu.symbols.reader_limits import ReaderLimits, program, reader_limits
from insitu.symbols.type_process import DAMAGED, ENUMERATOR, FUNCTION, MISSING, REPLY_HEAD, REQUEST_HEAD, TYPE, Reply

__all__ = ["BinaryTypes"]

_MAX_THREADS = 4  # of drgn's, each of which takes address space
_WALL_TIME_FACTOR = 4  # to CPU time: a disk may hang
_MAX_REPLY_BYTES = 64 << 20


class BinaryTypes:
    """The types of one binary. What has no debug information has no types: every question is answered by None.

    All methods raise InsituError where the debug information is damaged, or reading it takes too much.
    """

    def __init__(self, elf: Elf) -> None:
        """The separate debug file of ``elf`` is looked for as symbols' is."""
        self._elf = elf
        self._found: dict[tuple[int, str], tuple[Type, int] | None] = {}
        self._process: _Process | None = None
        self._failure = ""

    def function(self, name: str) -> Type | None:
        """The function of that name (C++: qualified, without parameters), as a BTF FUNC."""
        return self._type(FUNCTION, name)

    def find(self, name: str, tag: str = "") -> Type | None:
        """The type of that name; ``tag`` is "struct", "union", "enum" or, for a typedef or base type, nothing."""
        return self._type(TYPE, f"{tag} {name}".strip())

    def enumerator(self, name: str) -> tuple[Type, int] | None:
        """The type and value of an enumerator."""
        return self._look_up(ENUMERATOR, name)

    @cached_property
    def _files(self) -> list[Elf]:
        """The binary, and its debug file."""
        elf = self._elf
        both = (elf, find_debug_file(elf, elf.path, elf.root))
        return [each for each in both if each is not None]

    def _type(self, what: int, name: str) -> Type | None:
        found = self._look_up(what, name)
        return None if found is None else found[0]

    def _look_up(self, what: int, name: str) -> tuple[Type, int] | None:
        if (what, name) not in self._found:
            state, number, value, body = self._ask(what, name)
            if state == DAMAGED:
                raise InsituError(f"{self._elf.name}: debug information is damaged: {body.decode(errors='replace')}")
            found = None
            if state != MISSING:
                found = Btf(body, f"types of {self._elf.name}").type(number), value
            self._found[what, name] = found
        return self._found[what, name]

    def _ask(self, what: int, name: str) -> Reply:
        if self._failure:
            raise InsituError(self._failure)
        path = type_cache.entry(_descriptors(self._files), what, name)
        if path and (stored := type_cache.load(path)):
            return stored
        try:
            if self._process is None:
                self._process = _Process(self._elf.name, self._files)
            reply = self._process.ask(what, name)
            if path:
                type_cache.store(path, reply)
            return reply
        except _EndedError as error:
            self._process = None
            self._failure = f"{self._elf.name}: debug information cannot be read: {error}"
            raise InsituError(self._failure) from None


def _descriptors(files: Sequence[Elf]) -> list[int]:
    return [each.descriptor for each in files if each.descriptor is not None]


class _EndedError(Exception):
    """The process could not start or has ended, and why."""


class _Process:
    """drgn's process for one binary. It ends with this object."""

    def __init__(self, name: str, files: Sequence[Elf]) -> None:
        self._limits = _limits(files)
        descriptors = _descriptors(files)
        threads = min(_MAX_THREADS, os.cpu_count() or 1)
        words = [*self._limits, os.pathsep.join(sys.path), name, *descriptors]
        self._process = subprocess.Popen(
            [*program("type_process.py"), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=descriptors,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                "MALLOC_ARENA_MAX": "1",
            },
        )
        weakref.finalize(self, _end, self._process)

    def ask(self, what: int, name: str) -> Reply:
        """Raises _EndedError."""
        assert self._process.stdin is not None
        encoded = name.encode()
        try:
            self._process.stdin.write(REQUEST_HEAD.pack(what, len(encoded)) + encoded)
        except OSError:
            raise self._ended() from None
        state, number, value, size = REPLY_HEAD.unpack(self._read(REPLY_HEAD.size))
        if size > _MAX_REPLY_BYTES:
            raise _EndedError(f"types of {megabytes(size)}")
        return state, number, int.from_bytes(value, "little", signed=True), self._read(size)

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        replies, data = self._process.stdout.fileno(), bytearray()
        while len(data) < size:
            most_s = _WALL_TIME_FACTOR * self._limits.seconds
            if not select.select([replies], [], [], most_s)[0]:
                raise _EndedError(f"reading it took more than {most_s} s")
            piece = os.read(replies, size - len(data))
            if not piece:
                raise self._ended()
            data += piece
        return bytes(data)

    def _ended(self) -> _EndedError:
        return _EndedError(self._limits.failure(self._process.wait()))


def _limits(files: Sequence[Elf]) -> ReaderLimits:
    """Of a process that reads these files. Raises _EndedError for one that is too large."""
    sections = [each for file in files for each in file.sections if each.name.startswith((".debug_", ".zdebug_"))]
    limits = reader_limits(
        sum(os.fstat(each.descriptor).st_size for each in files if each.descriptor is not None),
        sum(each.size for each in sections if each.in_file),
    )
    if isinstance(limits, str):
        raise _EndedError(limits)
    return limits


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.wait()
