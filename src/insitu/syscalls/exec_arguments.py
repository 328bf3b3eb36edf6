"""The arguments of execve() that were not in memory at its entry: the new program has them."""

from __future__ import annotations

from insitu.syscalls.call import Memory

__all__ = ["missing_arguments"]


def missing_arguments(memory: Memory, array: int, strings: bytes, size: int) -> list[tuple[int, bytes]]:
    """Returns the pieces that ``memory``, that of the entry, lacks. ``array`` is the address of argv, ``size`` the
    size of a pointer; ``strings`` are the program's arguments, each with a zero byte."""
    found = []
    for index, text in enumerate(strings.split(b"\0")[:-1]):
        pointer = int.from_bytes(memory.read(array + size * index, size) or b"", "little")
        if pointer and memory.read(pointer, 1) is None:
            found.append((pointer, text + b"\0"))
    return found
