"""Wildcard patterns as tables of a nondeterministic automaton, whose set of states is the bits of a u64."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Glob", "parse_glob"]

_MAX_LENGTH = 62  # one bit for each state, between elements


class Glob(Struct, frozen=True):
    """``length`` elements, each of which accepts one byte; bit ``n`` of a set stands for element ``n``.

    ``any_byte`` is the set of those that accept every byte, ``ranges`` has (first byte, last byte, set). ``stars`` is
    the set of states in which any bytes may be skipped: bit ``n`` is the state before element ``n``.
    """

    length: int
    any_byte: int
    ranges: tuple[tuple[int, int, int], ...]
    stars: int


def parse_glob(pattern: bytes) -> Glob:
    """A pattern of literal bytes, ``?``, ``*``, ``[abc]``, ``[a-z]`` and ``[!abc]``.

    :raises ValueError: for a class without an end, and a pattern that is too long.
    """
    any_byte = stars = length = at = 0
    ranges: dict[tuple[int, int], int] = {}
    while at < len(pattern):
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            stars |= 1 << length
            continue
        if byte == b"?":
            any_byte |= 1 << length
        else:
            accepted = [(byte[0], byte[0])]
            if byte == b"[":
                accepted, at = _class(pattern, at)
            for each in accepted:
                ranges[each] = ranges.get(each, 0) | 1 << length
        length += 1
        if length > _MAX_LENGTH:
            raise ValueError(f"a pattern may have at most {_MAX_LENGTH} characters besides *")
    return Glob(length, any_byte, tuple((first, last, places) for (first, last), places in ranges.items()), stars)


def _class(pattern: bytes, at: int) -> tuple[list[tuple[int, int]], int]:
    """The ranges of bytes that a class accepts, and where it ends. A ``]`` that comes first is one of its bytes."""
    negated = pattern[at : at + 1] == b"!"
    at += negated
    end = pattern.find(b"]", at + 1)
    if end < 0:
        raise ValueError("unterminated character class in the pattern: ']' is missing")
    inside = pattern[at:end]
    members: set[int] = set()
    index = 0
    while index < len(inside):
        if inside[index + 1 : index + 2] == b"-" and index + 2 < len(inside):
            members |= set(range(inside[index], inside[index + 2] + 1))
            index += 3
        else:
            members.add(inside[index])
            index += 1
    if negated:
        members = set(range(1, 256)) - members
    found: list[tuple[int, int]] = []
    for byte in sorted(members):
        if found and found[-1][1] == byte - 1:
            found[-1] = (found[-1][0], byte)
        else:
            found.append((byte, byte))
    return found, end + 1
