"""Layouts of the structures that calls take, and their members' values.

The file ``structs`` has a section ``[NAME SIZE]`` for each, ``[NAME.ABI SIZE]`` where an ABI has it otherwise, and
a line ``OFFSET SIZE KIND NAME [COUNT [STRUCTURE]]`` for each member; those of anonymous structures and unions as if
they were the structure's own. KIND: u unsigned, s signed, c char, p pointer, t structure or union, b bit field (SIZE is
then its storage's, and STRUCTURE is ``SHIFT+BITS``). COUNT: 0 for what is not an array, -1 for one of any length.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Member", "Structure", "structure"]

Values = Mapping[str, Any]
"""Values by member: int, bytes, Values, or a list of int or Values."""


class Member(NamedTuple):
    """A member: ``size`` is the bytes of one element, ``length`` None if it is not an array, -1 for one of any length.

    ``kind`` is a letter, see above. ``structure`` is the name of a "t". ``shift`` and ``bits`` are a bit field's.
    """

    offset: int
    size: int
    kind: str
    name: str
    length: int | None
    structure: str
    shift: int = 0
    bits: int = 0


class Structure(NamedTuple):
    """A structure's or union's layout in an ABI, sizes and offsets in bytes."""

    name: str
    abi: str
    size: int
    members: tuple[Member, ...]

    def member(self, name: str) -> Member:
        """Returns the member of that name. Raises KeyError."""
        for each in self.members:
            if each.name == name:
                return each
        raise KeyError(f"{self.name}.{name}")

    def unpack(self, data: bytes) -> Values:
        """Returns the members' values by name, of as many as ``data`` has: integers, bytes of char arrays, lists, and
        for structures what this returns for them. An array of any length has the elements that ``data`` has."""
        return {
            each.name: value for each in self.members if (value := self._value(each, data, each.offset)) is not None
        }

    def _value(self, member: Member, data: bytes, offset: int) -> Any:
        if member.length is None:
            return self._element(member, data[offset : offset + member.size])
        count = member.length
        if count < 0:
            count = max(len(data) - offset, 0) // member.size
        piece = data[offset : offset + count * member.size]
        if len(piece) < count * member.size:
            return None
        if member.kind == "c":
            return piece
        elements = (piece[at : at + member.size] for at in range(0, len(piece), member.size))
        return [self._element(member, each) for each in elements]

    def _element(self, member: Member, piece: bytes) -> int | Values | None:
        if len(piece) < member.size:
            return None
        if member.kind == "t":
            return structure(member.structure, self.abi).unpack(piece)
        value = int.from_bytes(piece, "little", signed=member.kind == "s")
        return value >> member.shift & ((1 << member.bits) - 1) if member.kind == "b" else value


@functools.cache
def structure(name: str, abi: str = "x86_64") -> Structure:
    """Returns a structure's layout in an ABI: that of 64-bit programs where the ABI has no other one.

    Raises KeyError.
    """
    sections = _sections()
    size, text = sections[f"{name}.{abi}" if f"{name}.{abi}" in sections else name]
    return Structure(name, abi, size, tuple(_member(line) for line in text.splitlines()))


def _member(line: str) -> Member:
    offset, size, kind, name, *rest = line.split(" ")
    count = int(rest[0]) if rest and rest[0] != "0" else None
    inner = rest[1] if len(rest) > 1 else ""
    if kind == "b":
        shift, _, bits = inner.partition("+")
        return Member(int(offset), int(size), kind, name, None, "", int(shift), int(bits))
    return Member(int(offset), int(size), kind, name, count, inner)


@functools.cache
def _sections() -> Mapping[str, tuple[int, str]]:
    """Size and members' lines by name."""
    with open(os.path.join(os.path.dirname(__file__), "structs"), encoding="utf-8") as file:  # noqa: PTH118, PTH120, PTH123
        text = file.read()
    found = {}
    for section in text[1:].split("\n["):
        head, _, body = section.partition("]\n")
        name, _, size = head.rpartition(" ")
        found[name] = (int(size), body)
    return found
