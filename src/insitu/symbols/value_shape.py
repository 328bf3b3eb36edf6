"""What values of a type look like in memory, as a small tree that a recording can keep: for showing them later.

A shape's ``kind`` is a short text:

* "i4", "u8": integers (signed, unsigned) and their bytes; "b" a truth value; "c" a character, "C" one of Unicode;
  "e4:0=RED,1=GREEN" an enum; "f8" a floating-point number; "w16" what is in one vector register
* "p": a pointer; "x" one to a function; "s" one to text; "&" a reference
* "{": a struct or union; "[" an array; "T" an object that holds text, "V" one that holds elements (std::string,
  std::vector)
* "o": a pointer to where the function puts text; "O" if that is as long as its result says
* "v": nothing; "..." a variable number of arguments, "%" those of the format before them; "?" what is not known
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

__all__ = ["FORMATTED", "UNKNOWN", "VARIABLE", "VOID", "Part", "Shape", "decoded", "encoded", "leaves"]

_MOST_NESTED: Final = 16
_MOST_PARTS: Final = 128
_BYTE_BITS: Final = 8


class Part(NamedTuple):
    """A member of a struct: its name (empty: a base class, or anonymous), and where it is in bits; ``bit_size`` is 0
    unless it is a bit field. Of "T" and "V" the parts are "data", and "length" (elements) or "end", if there are any;
    of arrays, references and "V" an "element"."""

    name: str
    bit_offset: int
    bit_size: int
    shape: Shape


class Shape(NamedTuple):
    """A type. ``size`` in bytes; ``elements`` of an array; ``indirect``: such values are passed by address,
    as C++ does where copies are made by code."""

    kind: str
    size: int = 0
    parts: tuple[Part, ...] = ()
    elements: int = 0
    indirect: bool = False

    def part(self, name: str) -> Part | None:
        """The part of that name."""
        return next((each for each in self.parts if each.name == name), None)

    @property
    def weight(self) -> int:
        """How many parts it has, those of its parts included."""
        return len(self.parts) + sum(each.shape.weight for each in self.parts)

    def bounded(self) -> Shape:
        """Itself, without parts if they are very many."""
        return self if self.weight <= _MOST_PARTS else self._replace(parts=())


UNKNOWN: Final = Shape("?")
VARIABLE: Final = Shape("...")
FORMATTED: Final = Shape("%")
VOID: Final = Shape("v")


def leaves(shape: Shape, bit_offset: int = 0, depth: int = 0) -> Iterator[Part]:
    """The members that are not structs or arrays themselves, with their places in the whole."""
    if depth > _MOST_NESTED:
        return
    if shape.kind == "[":
        element = shape.parts[0].shape if shape.parts else UNKNOWN
        for number in range(min(shape.elements, _MOST_PARTS)):
            yield from leaves(element, bit_offset + _BYTE_BITS * element.size * number, depth + 1)
        return
    if shape.kind not in ("{", "T", "V"):
        yield Part("", bit_offset, 0, shape)
        return
    for part in shape.parts:
        if part.name == "element" and shape.kind == "V":
            continue
        for leaf in leaves(part.shape, bit_offset + part.bit_offset, depth + 1):
            yield leaf._replace(name=leaf.name or part.name, bit_size=part.bit_size)


def encoded(shape: Shape) -> Any:
    """The shape as JSON has it."""
    if not shape.parts and not shape.elements and not shape.indirect:
        return [shape.kind, shape.size]
    parts = [[each.name, each.bit_offset, each.bit_size, encoded(each.shape)] for each in shape.parts]
    return [shape.kind, shape.size, parts, shape.elements, int(shape.indirect)]


def decoded(tree: Any) -> Shape:
    """The shape that ``encoded`` has written."""
    kind, size, *rest = tree
    if not rest:
        return Shape(str(kind), int(size))
    parts, count, indirect = rest
    made = tuple(Part(str(name), int(at), int(bits), decoded(inner)) for name, at, bits, inner in parts)
    return Shape(str(kind), int(size), made, int(count), bool(indirect))
