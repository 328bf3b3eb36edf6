"""Captures as numbers: what the BPF engine's program is given in its maps for each call, to read at entry and exit.

The program interprets them, so that its text depends neither on the calls that are recorded nor on the options.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

from insitu.syscalls.capture import Array, Capture, Linked, String
from insitu.syscalls.decode import signature_of
from insitu.syscalls.facts import facts_of
from insitu.syscalls.kinds import KINDS
from insitu.syscalls.signature import Parameter

__all__ = [
    "ADDRESSES",
    "BYTES",
    "COUNT_AT",
    "COUNT_SHIFT",
    "LINKED",
    "MOST_WORDS",
    "RETURNED",
    "SIZE_MASK",
    "SIZE_SHIFT",
    "STRING",
    "STRINGS",
    "WHOLE",
    "CallWords",
    "call_words",
    "linked_shapes",
]

# A word: the argument's position, how it is read, what counts its elements, their size.
_HOW_SHIFT: Final = 3
BYTES, STRING, STRINGS, ADDRESSES, LINKED = 1, 2, 3, 4, 5
"""How: bytes; a string; an array of pointers to strings; such an array without the strings; a structure with
pointers, whose shape (see linked_shapes) is in place of the size."""
COUNT_SHIFT: Final = 6
"""What counts elements: 0 nothing, 1 to 6 an argument, RETURNED what the call returned."""
RETURNED: Final = 7
COUNT_AT: Final = 1 << 9
"""That argument points to the count, an unsigned int."""
WHOLE: Final = 1 << 10
"""As many bytes as a page has, whatever -s says."""
SIZE_SHIFT: Final = 11
SIZE_MASK: Final = 0x1FFF
MOST_WORDS: Final = 7
"""Of a call's entry or exit."""

_CREATES: Final = ("fd",)
_PAIRS: Final = {"pipe": 0, "pipe2": 0, "socketpair": 3}


class CallWords(NamedTuple):
    """What to do for a call: how many arguments it has, and the words of what to read at entry and exit.

    ``opens``: whether it returns a descriptor. ``pair_at``: the argument that points to where it writes two.
    """

    arguments: int
    enter: tuple[int, ...]
    exit: tuple[int, ...]
    opens: bool
    pair_at: int | None


@functools.cache
def linked_shapes() -> tuple[Linked, ...]:
    """Returns all distinct structures with pointers that kinds of arguments declare."""
    found = {kind.capture for kind in KINDS.values() if isinstance(kind.capture, Linked)}
    return tuple(sorted(found, key=repr))


def call_words(abi: str, nr: int, *, verbose: bool = False) -> CallWords:
    """Returns what to read for a call. ``verbose``: also the strings of an environment."""
    signature = signature_of(abi, nr)
    enter: list[int] = []
    after: list[int] = []
    for index, parameter in enumerate(signature.parameters):
        capture = KINDS[parameter.kind].capture
        if capture is None:
            continue
        word = _word(index, parameter, capture, verbose=verbose)
        if parameter.reads:
            enter.append(word)
        if parameter.writes:
            after.append(word)
        if parameter.size.startswith("*$"):  # another count when the call returns
            count = _packed(int(parameter.size[2:]), BYTES, 0, 4, WHOLE)
            enter.append(count)
            if parameter.writes:
                after.append(count)
    known = facts_of(abi).calls.get(nr)
    arguments = max(len(known.parameters) if known else 6, len(signature.parameters))
    opens = signature.returns.kind in _CREATES
    return CallWords(arguments, _simple_first(enter), _simple_first(after), opens, _PAIRS.get(signature.name))


def _simple_first(words: list[int]) -> tuple[int, ...]:
    """Bytes or a string first: the program sends those with the record of the entry or exit itself."""
    return tuple(sorted(words[:MOST_WORDS], key=lambda word: _how(word) not in (BYTES, STRING)))


def _how(word: int) -> int:
    return word >> _HOW_SHIFT & 7


def _packed(index: int, how: int, counted: int, size: int, flags: int) -> int:
    return index | how << _HOW_SHIFT | counted << COUNT_SHIFT | flags | min(size, SIZE_MASK) << SIZE_SHIFT


def _word(index: int, parameter: Parameter, capture: Capture, *, verbose: bool) -> int:
    elements, counted, flags = 1, 0, 0
    size = parameter.size
    if size == "=":
        counted = RETURNED
    elif size.startswith("*$"):
        counted, flags = 1 + int(size[2:]), COUNT_AT
    elif size.startswith("$"):
        counted = 1 + int(size[1:])
    elif size:
        elements = int(size)
    if isinstance(capture, String):
        return _packed(index, STRING, 0, 1, WHOLE if capture.path else 0)
    if isinstance(capture, Array):
        strings = verbose or "environment" not in parameter.given
        return _packed(index, STRINGS if strings else ADDRESSES, 0, 8, 0)
    if isinstance(capture, Linked):
        return _packed(index, LINKED, counted, linked_shapes().index(capture), flags)
    return _packed(index, BYTES, counted, capture.size * elements, flags | (WHOLE if capture.whole else 0))
