"""Values as text, by their shapes, from the bytes that were recorded of them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from insitu.symbols.value_shape import Shape
from insitu.terminal_text import printable

__all__ = ["BLOCK_BYTES", "TEXT_BYTES", "Origin", "Reads", "Value", "scalar_text", "value_text"]

BLOCK_BYTES: Final = 64
"""Of a piece of memory that is recorded."""
TEXT_BYTES: Final = 64
"""Of a text that is recorded, with the zero that ends it."""
_MOST_ELEMENTS: Final = 16
_MOST_MEMBERS: Final = 16
_MOST_NESTED: Final = 6
_WORD: Final = 8
_FLOATS: Final = {"f4": "<f", "f8": "<d"}


class Origin(NamedTuple):
    """Where memory is read: some words from what a base holds or, ``through``, where the pointer there leads."""

    base: int
    words: int
    through: bool = False


NOWHERE: Final[Mapping[int, Origin]] = MappingProxyType({})
"""For values with nothing that can be followed."""


class Reads(Protocol):
    """Memory that was recorded; None where it was not, or could not be read."""

    def text(self, at: Origin) -> str | None:
        """Text up to a zero byte."""
        ...

    def block(self, at: Origin) -> bytes | None:
        """BLOCK_BYTES."""
        ...

    def put(self, at: Origin, *, by_result: bool) -> str | None:
        """The text there at the function's return, ``by_result`` as many bytes as it has returned."""
        ...


class Value(NamedTuple):
    """A value's bytes, from bit ``bit_offset`` on.

    ``missing`` says what to show instead of bits that are not known (first, end, text). Pointers can be followed by
    the origins in ``words``, by the bits that they begin at; where the bytes are memory at ``memory``, from there.
    ``address`` is that of the bytes, if it is known.
    """

    data: bytes
    missing: tuple[tuple[int, int, str], ...] = ()
    words: Mapping[int, Origin] = NOWHERE
    memory: Origin | None = None
    bit_offset: int = 0
    address: int = 0

    def moved(self, bits: int) -> Value:
        """The value so many bits further."""
        return self._replace(bit_offset=self.bit_offset + bits)

    def pointer(self) -> Origin | None:
        """Where what the pointer here leads to is to be read."""
        if self.memory is not None:
            at = self.memory
            return None if at.through else at._replace(words=at.words + self.bit_offset // 64, through=True)
        return self.words.get(self.bit_offset)

    def bits(self, size: int, bit_size: int = 0) -> int | str:
        """The number of ``size`` bytes or ``bit_size`` bits here; what to show instead where it is not known."""
        width = bit_size or 8 * size
        for first, end, text in self.missing:
            if self.bit_offset < end and first < self.bit_offset + width:
                return text
        if self.bit_offset + width > 8 * len(self.data):
            return "..."
        return (int.from_bytes(self.data, "little") >> self.bit_offset) & ((1 << width) - 1)


def value_text(shape: Shape, value: Value, reads: Reads, depth: int = 0) -> str:
    """The value as text."""
    if depth > _MOST_NESTED:
        return "..."
    if shape.kind == "{":
        return _struct(shape, value, reads, depth)
    if shape.kind == "[":
        return _array(shape, value, reads, depth)
    if shape.kind == "T":
        return _text_object(shape, value, reads)
    if shape.kind == "V":
        return _elements(shape, value, reads, depth)
    if shape.kind == "&":
        return _reference(shape, value, reads, depth)
    return _scalar(shape, value, reads, 0)


def scalar_text(kind: str, word: int, text: str | None = None) -> str:
    """A number or pointer as text. ``text`` is what a string holds, None where it was not read."""
    letter = kind[0]
    if letter in "soO" and text is not None and word:
        return _quoted(text)
    if letter in "spx&oO":
        return f"{word:#x}" if word else "NULL"
    if kind == "b":
        return "true" if word & 0xFF else "false"
    if letter == "C":
        return repr(chr(word & 0xFFFFFFFF)) if word & 0xFFFFFFFF < 0x110000 else str(word & 0xFFFFFFFF)
    if letter == "c":
        code = word & 0xFF
        return repr(chr(code)) if 32 <= code < 127 else str(code - (code >> 7 << 8))
    if kind in _FLOATS:
        size = int(kind[1:])
        return f"{struct.unpack(_FLOATS[kind], (word & (1 << 8 * size) - 1).to_bytes(size, 'little'))[0]:.9g}"
    if letter not in "iue":
        return "..."
    size = int(kind[1:].partition(":")[0])
    value = word & (1 << 8 * size) - 1
    if letter == "i" or (letter == "e" and (":-" in kind or ",-" in kind)):
        value -= value >> (8 * size - 1) << 8 * size
    if letter == "e":
        names = dict(each.split("=", 1) for each in kind.partition(":")[2].split(","))
        return printable(names.get(str(value), str(value)))
    return str(value)


def _scalar(shape: Shape, value: Value, reads: Reads, bit_size: int) -> str:
    text = None
    if shape.kind in ("s", "o", "O") and (origin := value.pointer()) is not None:
        text = reads.text(origin) if shape.kind == "s" else reads.put(origin, by_result=shape.kind == "O")
    word = value.bits(min(shape.size, _WORD) if shape.kind == "p" else shape.size, bit_size)
    if isinstance(word, str):
        return word
    if bit_size and shape.kind[0] == "i" and word >> (bit_size - 1):
        word -= 1 << bit_size
    return scalar_text(shape.kind, word, text)


def _quoted(text: str) -> str:
    more = "..." if len(text.encode("utf-8", "surrogateescape")) >= TEXT_BYTES - 1 else ""
    return '"' + printable(text).replace('"', '\\"') + '"' + more


def _struct(shape: Shape, value: Value, reads: Reads, depth: int) -> str:
    names = [part.name for part in shape.parts]
    # What is private to the standard library shows nothing that its users know.
    if not shape.parts or any(name.startswith(("_M_", "__")) for name in names):
        return "{...}" if shape.size > 1 else "{}"
    return "{" + ", ".join(_members(shape, value, reads, depth)) + "}"


def _members(shape: Shape, value: Value, reads: Reads, depth: int) -> list[str]:
    found: list[str] = []
    for name, bit_offset, bit_size, inner in shape.parts:
        if len(found) >= _MOST_MEMBERS:
            return [*found, "..."]
        at = value.moved(bit_offset)
        if not name and inner.kind == "{" and inner.parts and depth < _MOST_NESTED:
            found += _members(inner, at, reads, depth + 1)
            continue
        if not name and inner.kind == "{" and inner.size <= 1:
            continue
        made = _scalar(inner, at, reads, bit_size) if bit_size else value_text(inner, at, reads, depth + 1)
        if made == "..." and 8 * len(value.data) <= at.bit_offset:
            return [*found, "..."]
        found.append(f"{printable(name)} = {made}" if name else made)
    return found


def _array(shape: Shape, value: Value, reads: Reads, depth: int) -> str:
    element = shape.parts[0].shape if shape.parts else Shape("?")
    if element.kind == "c":
        first = value.bit_offset // 8
        data = value.data[first : first + shape.elements]
        text, zero, _ = data.partition(b"\0")
        more = "..." if not zero and len(data) < shape.elements else ""
        return '"' + printable(text.decode(errors="replace")).replace('"', '\\"') + f'"{more}'
    return _list(element, shape.elements, value, reads, depth, "{", "}")


def _list(element: Shape, count: int, value: Value, reads: Reads, depth: int, begin: str, end: str) -> str:
    found: list[str] = []
    for number in range(min(count, _MOST_ELEMENTS)):
        made = value_text(element, value.moved(8 * element.size * number), reads, depth + 1)
        if made == "..." or not element.size:
            break
        found.append(made)
    return begin + ", ".join([*found, *["..."] * (len(found) < count)]) + end


def _reference(shape: Shape, value: Value, reads: Reads, depth: int) -> str:
    target = shape.parts[0].shape if shape.parts else Shape("?")
    origin = value.pointer()
    word = value.bits(shape.size)
    if isinstance(word, str) or origin is None or target.kind == "?":
        return word if isinstance(word, str) else scalar_text("p", word)
    if target.kind == "T":
        return _text_object(target, Value(b"", memory=origin), reads)
    if target.kind == "[" and target.parts and target.parts[0].shape.kind == "c":
        text = reads.text(origin)
        return scalar_text("s", word, text)
    data = reads.block(origin)
    return (
        f"@{word:#x}"
        if data is None
        else value_text(target, Value(data, memory=origin, address=word), reads, depth + 1)
    )


def _text_object(shape: Shape, value: Value, reads: Reads) -> str:
    """What a std::string, a std::string_view or a Rust string holds."""
    pointer, length = shape.part("data"), shape.part("length")
    if pointer is None:
        return "..."
    at = value.moved(pointer.bit_offset)
    origin = at.pointer()
    text = reads.text(origin) if origin is not None else None
    size = value.moved(length.bit_offset).bits(_WORD) if length is not None and value.data else None
    inside = at.bits(_WORD)
    if text is None and isinstance(inside, int) and value.address and 0 <= inside - value.address < len(value.data):
        # Short texts are in the object itself.
        first = inside - value.address
        text = value.data[first:].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if isinstance(size, int):
        if not size:
            return '""'
        if text is not None:
            text = text.encode("utf-8", "surrogateescape")[:size].decode("utf-8", "surrogateescape")
    return "..." if text is None else _quoted(text)


def _elements(shape: Shape, value: Value, reads: Reads, depth: int) -> str:
    """What a std::vector, a std::span or a Rust vector or slice holds."""
    first, element = shape.part("data"), shape.part("element")
    end, length = shape.part("end"), shape.part("length")
    if first is None or element is None or not element.shape.size:
        return "{...}"
    at = value.moved(first.bit_offset)
    origin = at.pointer()
    data = reads.block(origin) if origin is not None else None
    count: int | str = "..."
    if length is not None:
        count = value.moved(length.bit_offset).bits(_WORD)
    elif end is not None:
        begun, ended = at.bits(_WORD), value.moved(end.bit_offset).bits(_WORD)
        if isinstance(begun, int) and isinstance(ended, int):
            count = max(ended - begun, 0) // element.shape.size
    if count == 0:
        return "[]"
    begun = at.bits(_WORD)
    if data is None or isinstance(count, str) or isinstance(begun, str):
        return f"[{count} elements]" if count != "..." else "[...]"
    return _list(element.shape, count, Value(data, address=begun), reads, depth, "[", "]")
