"""Prototypes of user functions: where arguments and results are, what is recorded of them, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from insitu.symbols.argument_places import Placing
from insitu.symbols.format_arguments import format_kinds
from insitu.symbols.shape_text import BLOCK_BYTES, TEXT_BYTES, Origin, Reads, Value, value_text
from insitu.symbols.value_shape import FORMATTED, VARIABLE, VOID, Shape, decoded, encoded

__all__ = [
    "BLOCKS",
    "CAPTURE_BITS",
    "PUT_SHIFT",
    "STACK",
    "TEXTS",
    "Parameter",
    "Prototype",
    "Recorded",
    "call_text",
    "captures",
    "prototype",
    "result_text",
]

TEXTS: Final = 2
"""Texts of a call that are recorded."""
BLOCKS: Final = 3
"""Pieces of memory of BLOCK_BYTES that are recorded of a call; of a result, all but the last."""
STACK: Final = 7
"""The base of what is on the stack; 1 to 6 are registers of arguments, or 1 that of a result."""
PUT_SHIFT: Final = 60
"""In what captures() returns, of the base of the text that is read at the return."""
CAPTURE_BITS: Final = 12
"""Of each text and block in what captures() returns."""
_THROUGH: Final = 1 << 3
_VECTOR_REGISTERS: Final = 8
_WORD: Final = 8
_ALL_ONES: Final = (1 << 64) - 1
_MOST_OFFSET: Final = 0xFF  # in words


class Parameter(NamedTuple):
    """Its shape, and the places of its words: see Placing."""

    shape: Shape
    places: tuple[str, ...]


class Prototype(NamedTuple):
    """The parameters in their order, and the result."""

    parameters: tuple[Parameter, ...] = ()
    result: Parameter = Parameter(VOID, ())

    def as_json(self) -> Any:
        """What a recording keeps."""
        return [[encoded(shape), list(places)] for shape, places in (self.result, *self.parameters)]

    @classmethod
    def of_json(cls, tree: Any) -> Prototype:
        """What as_json() has made."""
        result, *parameters = (
            Parameter(decoded(shape), tuple(str(each) for each in places)) for shape, places in tree
        )
        return cls(tuple(parameters), result)


class Recorded(NamedTuple):
    """What has been recorded of a call's arguments, or of its result; what could not be read is None or empty.

    ``late`` is the first text at the return, ``put`` that which the function has put somewhere, ``result`` the number
    that was returned.
    """

    words: Sequence[int]
    texts: Sequence[bytes | None] = ()
    blocks: Sequence[bytes | None] = ()
    late: bytes | None = None
    put: bytes | None = None
    result: int | None = None


def prototype(parameters: Sequence[Shape], result: Shape, *, rust: bool = False) -> Prototype:
    """The prototype of a function whose arguments are passed as the calling convention says."""
    placing = Placing(result, rust=rust)
    placed = [Parameter(shape, _places(placing, shape)) for shape in parameters]
    return Prototype(tuple(placed), Parameter(result, placing.result))


def _places(placing: Placing, shape: Shape) -> tuple[str, ...]:
    if shape is FORMATTED:
        return placing.rest()
    return () if shape is VARIABLE else placing.place(shape)


def captures(found: Prototype) -> tuple[int, int]:
    """What the probes of a function are to record, of its arguments and of its result: TEXTS texts and BLOCKS blocks.

    Each is 12 bits: the base (0: nothing), whether to go on through the pointer there (8), and from bit 4 the offset
    from the base in words. Of arguments, above these: the base of a text that is to be read at the return.
    """
    plan, result = _plan(found.parameters), _plan((found.result,))
    put = plan.put.base if plan.put is not None else 0
    return _packed(plan.texts, plan.blocks) | put << PUT_SHIFT, _packed(result.texts, result.blocks)


def call_text(found: Prototype, recorded: Recorded) -> str:
    """The arguments of a call, separated by commas; ``...`` for what is not known."""
    reads = _of_plan(found.parameters, recorded)
    return ", ".join(_texts(found.parameters, recorded.words, reads))


def result_text(found: Prototype, recorded: Recorded) -> str:
    """What a call has returned; empty for nothing, and for what is not known."""
    result = found.result
    if result.shape.kind in ("v", "?") or "?" in result.places:
        return ""
    return _text(result, recorded.words, _of_plan((result,), recorded))


class _Plan(NamedTuple):
    texts: tuple[Origin, ...]
    blocks: tuple[Origin, ...]
    put: Origin | None


class _Planner(Reads):
    """Notes what showing the values asks for, as far as there is room."""

    def __init__(self) -> None:
        self.texts: dict[Origin, None] = {}
        self.blocks: dict[Origin, None] = {}
        self.at_return: Origin | None = None

    def text(self, at: Origin) -> str:
        """Some text."""
        if len(self.texts) < TEXTS and at.words <= _MOST_OFFSET:
            self.texts[at] = None
        return ""

    def block(self, at: Origin) -> bytes:
        """Some bytes."""
        if len(self.blocks) < BLOCKS and at.words <= _MOST_OFFSET:
            self.blocks[at] = None
        return bytes(BLOCK_BYTES)

    def put(self, at: Origin, *, by_result: bool) -> str | None:
        """None: only the first is read."""
        if self.at_return is None and not at.through:
            self.at_return = at
        return None


class _Recalled(Reads):
    """Returns what was recorded by a plan."""

    def __init__(self, plan: _Plan, recorded: Recorded) -> None:
        self._texts = dict(zip(plan.texts, recorded.texts, strict=False))
        self._recorded, self._put = recorded, plan.put
        if plan.texts and not self._texts.get(plan.texts[0]) and recorded.late:
            self._texts[plan.texts[0]] = recorded.late  # it could not be read before
        self._blocks = dict(zip(plan.blocks, recorded.blocks, strict=False))

    def text(self, at: Origin) -> str | None:
        """The text that was there."""
        return _decoded(self._texts.get(at))

    def block(self, at: Origin) -> bytes | None:
        """The bytes that were there."""
        return self._blocks.get(at) or None

    def put(self, at: Origin, *, by_result: bool) -> str | None:
        """The text that was there at the return."""
        text, result = self._recorded.put, self._recorded.result
        if at != self._put or not text or result is None:
            return None
        size = max(0, result - (result >> 63 << 64)) if by_result else len(text)
        return _decoded(text[:size] + b"\0")


def _decoded(text: bytes | None) -> str | None:
    return text.partition(b"\0")[0].decode("utf-8", "surrogateescape") if text else None


@lru_cache(maxsize=1 << 14)
def _plan(parameters: tuple[Parameter, ...]) -> _Plan:
    planner = _Planner()
    list(_texts(parameters, (1,) * STACK, planner))
    return _Plan(tuple(planner.texts), tuple(planner.blocks), planner.at_return)


def _of_plan(parameters: tuple[Parameter, ...], recorded: Recorded) -> Reads:
    return _Recalled(_plan(parameters), recorded)


def _packed(texts: Sequence[Origin], blocks: Sequence[Origin]) -> int:
    slots: Mapping[int, Origin] = dict(enumerate(texts)) | {TEXTS + at: each for at, each in enumerate(blocks)}
    return sum(
        (each.base | each.through * _THROUGH | each.words << 4) << CAPTURE_BITS * at for at, each in slots.items()
    )


def _texts(parameters: Sequence[Parameter], words: Sequence[int], reads: Reads) -> Iterator[str]:
    for at, each in enumerate(parameters):
        if each.shape.kind == "%" and at and (before := parameters[at - 1].places[0])[0] == "r":
            yield from _formatted(reads.text(Origin(1 + int(before[1:]), 0)), each.places, words, reads)
        else:
            yield _text(each, words, reads)


def _formatted(text: str | None, places: Sequence[str], words: Sequence[int], reads: Reads) -> Iterator[str]:
    """The arguments that a format takes."""
    vectors, left = 0, list(places)
    # Before the format is known: what of them may be needed.
    reads.text(Origin(1 + int(left[0][1:]), 0) if left[0][0] == "r" else Origin(STACK, int(left[0][1:]), True))
    reads.block(Origin(STACK, 1))
    for kind in format_kinds(text or ""):
        if kind == "f8" and vectors < _VECTOR_REGISTERS:
            yield f"<in xmm{vectors}>"
            vectors += 1
        elif kind in ("?", "f8") or not left:
            yield "..."
            return
        else:
            yield _text(Parameter(Shape(kind, _WORD), (left.pop(0),)), words, reads)
    if text is None or len(text.encode("utf-8", "surrogateescape")) >= TEXT_BYTES - 1:
        yield "..."


def _text(parameter: Parameter, words: Sequence[int], reads: Reads) -> str:
    """A parameter's value."""
    shape, places = parameter.shape, parameter.places
    if shape.kind in ("?", "...", "%") or places == ("?",):
        return "..."
    if places and places[0].startswith("@"):
        return _behind(shape, places[0][1:], words, reads)
    stack = reads.block(Origin(STACK, 1)) if any(each[0] == "m" for each in places) else None
    data, missing, origins = bytearray(), [], {}
    for place in places:
        name, _, length = place.partition(":")
        size = int(length) if length else _WORD
        number = int(name[1:]) if name[1:].lstrip("-").isdecimal() else 0
        piece, at = b"", 8 * len(data)
        if name[0] == "r":
            piece = (words[number] if number < len(words) else 0).to_bytes(_WORD, "little")
            origins[at] = Origin(1 + number, 0)
        elif name[0] == "m":
            piece = (stack or b"")[_WORD * (number - 1) : _WORD * number]
            origins[at] = Origin(STACK, number, through=True)
        elif name[0] == "=":
            piece = (number & _ALL_ONES).to_bytes(_WORD, "little")
        if not piece:
            shown = f"<in xmm{number}>" if name[0] == "x" else "<in st0>" if name == "st0" else "..."
            missing.append((at, at + 8 * size, shown))
        data += piece[:size].ljust(size, b"\0")
    return value_text(shape, Value(bytes(data), tuple(missing), origins), reads)


def _behind(shape: Shape, place: str, words: Sequence[int], reads: Reads) -> str:
    """The value at the address that a place holds."""
    number = int(place[1:])
    if place[0] != "r":
        return "..."
    at = Origin(1 + number, 0)
    data = reads.block(at) if shape.kind not in ("T",) else b""
    if data is None:
        return f"@{words[number]:#x}"
    return value_text(shape, Value(data, memory=at, address=words[number]), reads)
