"""Which memory a call's arguments need: declared by the kinds of arguments, read by the engines.

The BPF engine generates its program from these declarations, the ptrace engine interprets them; a decoder then
finds in a call's memory what was declared here.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Array", "Bytes", "Capture", "Choice", "Linked", "OnStack", "String", "Wide"]


class String(NamedTuple):
    """A NUL-terminated string, with its NUL where that is within the limit. ``path``: up to 4096 bytes; else -s."""

    path: bool = False


class Bytes(NamedTuple):
    """``size`` bytes, or as many elements of ``size`` bytes as the parameter's brackets say, up to the limit.

    ``whole``: up to ``most`` bytes whatever -s says (a structure is of no use without its end); else -s of them.
    """

    size: int
    whole: bool = True
    most: int = 4096
    """An engine may have a lower limit of its own."""


class Array(NamedTuple):
    """A NULL-terminated array of pointers, at most ``most``, each to a string (argv)."""

    most: int = 64


class Linked(NamedTuple):
    """Elements of ``size`` bytes, up to ``most``, that hold pointers to more memory.

    ``links`` are (offset of a pointer, offset of its length or -1, bytes of the length (1 to 8), what is there).
    """

    size: int
    links: tuple[tuple[int, int, int, String | Bytes | Linked | Wide], ...]
    most: int = 1


class Choice(NamedTuple):
    """What is there depends on another argument of the call (ioctl's request): number ``argument``, from 0."""

    argument: int
    captures: tuple[tuple[int, Capture], ...]
    """(value of the argument, what is there then)"""
    otherwise: Capture | None = None
    mask: int = 0xFFFFFFFF
    """Of the argument's bits."""


class Wide(NamedTuple):
    """What is there depends on the size of a pointer in the calling program."""

    long8: String | Bytes | Linked
    long4: String | Bytes | Linked


class OnStack(NamedTuple):
    """``size`` bytes at the thread's stack pointer plus ``offset``, whatever the argument is (sigreturn's frame)."""

    size: int
    offset: int


Capture = String | Bytes | Array | Linked | Choice | Wide | OnStack
