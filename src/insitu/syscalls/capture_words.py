"""Captures as numbers: what the BPF engine's program is given in its maps for each call, to read at entry and exit.

The program interprets them, so that its text depends neither on the calls that are recorded nor on the options.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from insitu.syscalls.capture import Array, Bytes, Capture, Choice, Linked, OnStack, String, Wide
from insitu.syscalls.decode import signature_of
from insitu.syscalls.facts import facts_of
from insitu.syscalls.kinds import KINDS
from insitu.syscalls.signature import Parameter

__all__ = [
    "ADDRESSES",
    "BYTES",
    "CHOICE",
    "COUNT_AT",
    "COUNT_SHIFT",
    "LINKED",
    "MOST_WORDS",
    "OTHERWISE",
    "RETURNED",
    "SIZE_MASK",
    "SIZE_SHIFT",
    "STACK",
    "STRING",
    "STRINGS",
    "UNIT_SHIFT",
    "WHOLE",
    "WORD_BITS",
    "CallWords",
    "call_words",
    "chosen_words",
    "how",
    "linked_shapes",
    "on_stack_places",
    "stack_pointer_of",
]

# A word: the argument's position, how it is read, what counts its elements, their size.
_HOW_SHIFT: Final = 3
BYTES, STRING, STRINGS, ADDRESSES, LINKED, CHOICE, STACK = 1, 2, 3, 4, 5, 6, 7
"""How: bytes; a string; an array of pointers to strings; such an array without the strings; and, with a number in
place of the size: a structure with pointers (linked_shapes), a choice (chosen_words), bytes on the stack
(on_stack_places)."""
COUNT_SHIFT: Final = 6
"""What counts elements: 0 nothing, 1 to 6 an argument, RETURNED what the call returned. Of a choice: what chooses."""
RETURNED: Final = 7
COUNT_AT: Final = 1 << 9
"""That argument points to the count, an unsigned int."""
WHOLE: Final = 1 << 10
"""As many bytes as a page has, whatever -s says."""
UNIT_SHIFT: Final = 11
"""The count is of bits in words of 64 (1), or of bytes in pages (2)."""
_DIVISORS: Final = {1: 0, 64: 1, 4096: 2}
SIZE_SHIFT: Final = 13
SIZE_MASK: Final = 0x1FFF
WORD_BITS: Final = 26
MOST_WORDS: Final = 7
"""Of a call's entry or exit."""
OTHERWISE: Final = 1 << 32
"""Of a choice: any value that it does not name."""

_CREATES: Final = ("fd",)
_PAIRS: Final = {"pipe": 0, "pipe2": 0, "socketpair": 3}


class CallWords(NamedTuple):
    """What to do for a call: how many arguments it has, and the words of what to read at entry and exit.

    ``on_failure``: whether something is read at the exit of a call that fails, too. ``opens``: whether it returns a
    descriptor. ``pair_at``: the argument that points to where it writes two.
    """

    arguments: int
    enter: tuple[int, ...]
    exit: tuple[int, ...]
    on_failure: bool
    opens: bool
    pair_at: int | None


# Of kinds whose shapes would make the program twice as long, what is read instead.
_INSTEAD: Final[dict[str, Capture]] = {"socketcall_arguments": Bytes(24), "bpf_attr": Bytes(128)}


def _capture_of(name: str) -> Capture | None:
    kind = KINDS.get(name)
    return _INSTEAD.get(name, kind.capture) if kind is not None else None


def _captures() -> Iterator[Capture]:
    """All captures of kinds, those of choices too, as each ABI has them."""
    for name in KINDS:
        for wide in (True, False):
            if (declared := _capture_of(name)) is not None:
                capture = _resolved(declared, wide=wide)
                yield capture
                if isinstance(capture, Choice):
                    options = [each for _, each in capture.captures] + [capture.otherwise]
                    yield from (_resolved(each, wide=wide) for each in options if each is not None)


@functools.cache
def _resolved(capture: Capture, *, wide: bool) -> Capture:
    """The capture for programs whose pointers have 8 bytes, or 4.

    Not followed are the pointers in structures of 32-bit programs, and in structures that the elements of an array
    point to: with them, the program would take more stack than older kernels have.
    """
    if isinstance(capture, Wide):
        return _resolved(capture.long8 if wide else capture.long4, wide=wide)
    if isinstance(capture, Linked) and not (capture.links and wide):
        return Bytes(capture.size, most=capture.size * capture.most)
    if isinstance(capture, Linked):
        links = tuple((*link[:3], _linked(_resolved(link[3], wide=wide), capture.most)) for link in capture.links)
        return capture._replace(links=links)  # type: ignore[arg-type]
    return capture


def _linked(there: Capture, elements: int) -> Capture:
    """What a structure points to, of which there are so many."""
    flat = isinstance(there, Linked) and elements > 1
    return Bytes(there.size, most=there.size * there.most) if flat else there  # type: ignore[union-attr]


@functools.cache
def linked_shapes() -> tuple[Linked, ...]:
    """Returns all distinct structures with pointers that kinds of arguments declare."""
    return tuple(sorted({each for each in _captures() if isinstance(each, Linked)}, key=repr))


@functools.cache
def _shape_numbers() -> dict[Linked, int]:
    return {shape: number for number, shape in enumerate(linked_shapes())}


@functools.cache
def on_stack_places() -> tuple[OnStack, ...]:
    """Returns all distinct places on the stack that kinds of arguments declare."""
    return tuple(sorted({each for each in _captures() if isinstance(each, OnStack)}))


def stack_pointer_of(abi: str, nr: int, pieces: Sequence[tuple[int, bytes]]) -> int:
    """Returns the stack pointer of a call whose memory on the stack is the first piece, 0 of other calls."""
    offset = _stack_offset(abi, nr) if pieces else None
    return 0 if offset is None else pieces[0][0] - offset


@functools.cache
def _stack_offset(abi: str, nr: int) -> int | None:
    captures = (_capture_of(parameter.kind) for parameter in signature_of(abi, nr).parameters)
    return next((each.offset for each in captures if isinstance(each, OnStack)), None)


@functools.cache
def _choices() -> dict[tuple[Parameter, int], tuple[int, Choice]]:
    """All choices, by the parameters and positions that they stand at: each one's number, and itself."""
    found: dict[tuple[Parameter, int], tuple[int, Choice]] = {}
    for abi in ("x86_64", "i386", "x32", "aarch64"):
        for nr in facts_of(abi).calls:
            for index, parameter in enumerate(signature_of(abi, nr).parameters):
                capture = _capture_of(parameter.kind)
                if isinstance(capture, Choice) and (parameter, index) not in found:
                    found[parameter, index] = (len(found), capture)
    return found


def chosen_words(*, verbose: bool = False) -> Iterator[tuple[int, bool, int, int]]:
    """Yields (number of a choice, whether pointers have 8 bytes, value or OTHERWISE, word) of all choices."""
    for (parameter, index), (number, choice) in _choices().items():
        for wide in (True, False):
            options = [*choice.captures, *([(OTHERWISE, choice.otherwise)] if choice.otherwise is not None else [])]
            for value, capture in options:
                yield number, wide, value, _word(index, parameter, capture, wide=wide, verbose=verbose)


def call_words(abi: str, nr: int, *, verbose: bool = False) -> CallWords:
    """Returns what to read for a call. ``verbose``: also the strings of an environment."""
    signature = signature_of(abi, nr)
    enter: list[int] = []
    after: list[int] = []
    on_failure = False
    for index, parameter in enumerate(signature.parameters):
        capture = _capture_of(parameter.kind)
        if capture is None:
            continue
        word = _word(index, parameter, capture, wide=abi not in ("i386", "x32"), verbose=verbose)
        if parameter.reads:
            enter.append(word)
        if parameter.writes:
            after.append(word)
            on_failure |= parameter.on_failure
        if parameter.size.startswith("*$"):  # another count when the call returns
            count = _packed(int(parameter.size[2:]), BYTES, 0, 4, WHOLE)
            enter.append(count)
            if parameter.writes:
                after.append(count)
    known = facts_of(abi).calls.get(nr)
    arguments = max(len(known.parameters) if known else 6, len(signature.parameters))
    opens, pair_at = signature.returns.kind in _CREATES, _PAIRS.get(signature.name)
    return CallWords(arguments, _simple_first(enter), _simple_first(after), on_failure, opens, pair_at)


def _simple_first(words: list[int]) -> tuple[int, ...]:
    """Bytes or a string first: the program sends those with the record of the entry or exit itself."""
    return tuple(sorted(words[:MOST_WORDS], key=lambda word: how(word) not in (BYTES, STRING)))


def how(word: int) -> int:
    """Returns how memory is read: BYTES and the like."""
    return word >> _HOW_SHIFT & 7


def _packed(index: int, way: int, counted: int, size: int, flags: int) -> int:
    return index | way << _HOW_SHIFT | counted << COUNT_SHIFT | flags | min(size, SIZE_MASK) << SIZE_SHIFT


def _word(index: int, parameter: Parameter, capture: Capture, *, wide: bool, verbose: bool) -> int:
    elements, counted, flags = 1, 0, 0
    size = parameter.size
    if size == "=":
        counted = RETURNED
    elif size.startswith("*$"):
        counted, flags = 1 + int(size[2:]), COUNT_AT
    elif size.startswith("$"):
        position, _, divisor = size[1:].partition("/")
        counted, flags = 1 + int(position), _DIVISORS[int(divisor or 1)] << UNIT_SHIFT
    elif size:
        elements = int(size)
    capture = _resolved(capture, wide=wide)
    if isinstance(capture, String):
        return _packed(index, STRING, 0, 1, WHOLE if capture.path else 0)
    if isinstance(capture, Array):
        strings = verbose or "environment" not in parameter.given
        return _packed(index, STRINGS if strings else ADDRESSES, 0, 8, 0)
    if isinstance(capture, Linked):
        return _packed(index, LINKED, counted, _shape_numbers()[capture], flags)
    if isinstance(capture, Choice):
        return _packed(index, CHOICE, 1 + capture.argument, _choices()[parameter, index][0], 0)
    if isinstance(capture, OnStack):
        return _packed(index, STACK, 0, on_stack_places().index(capture), 0)
    assert isinstance(capture, Bytes)
    return _packed(index, BYTES, counted, capture.size * elements, flags | (WHOLE if capture.whole else 0))
