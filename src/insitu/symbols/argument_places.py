"""Where a function's arguments are at its entry, and its result at its return, by the calling convention.

x86-64: System V ABI, AMD64 supplement, 3.2.3, and the Itanium C++ ABI for what is passed by address. Rust's own
convention is not fixed; this is what its compiler does with values of one or two numbers. On other machines only
numbers and pointers in registers are known.
"""

from __future__ import annotations

import os
from typing import Final

from insitu.symbols.value_shape import Shape, leaves

__all__ = ["REGISTERS", "Placing"]

REGISTERS: Final = 6
"""General registers with arguments that are recorded."""
_VECTOR_REGISTERS: Final = 8
_VARIABLE_WORDS: Final = 8
_WORD: Final = 8
_MOST_WORDS: Final = 2  # of a value in registers
_X87_BYTES: Final = 16  # of a long double, which is passed in memory
_GENERAL, _VECTOR = "r", "x"
_UNKNOWN: Final = ("?",)
_SINGLE: Final = frozenset("pxs&bcCiueoO")
_IS_X86_64: Final = os.uname().machine == "x86_64"


class Placing:
    """Gives places to the parameters of one function, in their order.

    A place is a general register ("r0", its number among those of arguments), a vector register ("x0") or a word of
    the stack ("m1", counted from where the return address is at); each holds the next 8 bytes of the value. With an
    "@" in front, the value's address is there; with ":4" after it, it holds 4 bytes. "=7" is a constant. "?" is not
    known, and so are the places of all that follows.
    """

    def __init__(self, result: Shape, *, rust: bool = False) -> None:
        self._rust = rust
        self._general = self._vector = 0
        self._stack_word = 1
        self._lost = False
        self.result = self._returned(result)
        """Of the result: "r0" and "r1" are the registers of results."""

    def lose(self) -> None:
        """From here on nothing is known."""
        self._lost = True

    def rest(self) -> tuple[str, ...]:
        """Where the words of a variable number of arguments are that are not floating-point numbers."""
        if self._lost or not _IS_X86_64:
            return _UNKNOWN
        general = (f"{_GENERAL}{number}" for number in range(self._general, REGISTERS))
        return (*general, *(f"m{self._stack_word + each}" for each in range(_VARIABLE_WORDS)))

    def place(self, shape: Shape) -> tuple[str, ...]:
        """Where the next parameter is."""
        if self._lost:
            return _UNKNOWN
        classes = self._classes(shape)
        if classes is None:
            self._lost = True
            return _UNKNOWN
        if shape.indirect or (not classes and self._rust and shape.size > _WORD):
            return tuple(f"@{each}" for each in self._taken((_GENERAL,), 1))
        if not classes:
            return self._on_stack(shape) if shape.size and _memory(shape) else ()
        return self._taken(classes, -(-shape.size // _WORD))

    def _taken(self, classes: tuple[str, ...], words: int) -> tuple[str, ...]:
        general, vector = classes.count(_GENERAL), classes.count(_VECTOR)
        if self._general + general > REGISTERS or self._vector + vector > _VECTOR_REGISTERS:
            if not _IS_X86_64:
                self._lost = True
                return _UNKNOWN
            first = self._stack_word
            self._stack_word += words
            return tuple(f"m{first + each}" for each in range(words))
        found = []
        for each in classes:
            number = self._general if each == _GENERAL else self._vector
            found.append(f"{each}{number}")
            if each == _GENERAL:
                self._general += 1
            else:
                self._vector += 1
        return tuple(found)

    def _on_stack(self, shape: Shape) -> tuple[str, ...]:
        words = -(-shape.size // _WORD)
        if any(each.shape.size == _X87_BYTES for each in leaves(shape)):
            self._stack_word += (self._stack_word - 1) % 2
        first = self._stack_word
        self._stack_word += words
        return tuple(f"m{first + each}" for each in range(words))

    def _returned(self, shape: Shape) -> tuple[str, ...]:
        classes = self._classes(shape)
        if shape.kind == "v" or (classes == () and not shape.indirect and not _memory(shape)):
            return ()
        if classes is None:
            self._lost = shape.size > _MOST_WORDS * _WORD or not shape.size  # whether there is a hidden parameter
            return _UNKNOWN
        if shape.kind == "f16":
            return ("st0",)
        if shape.indirect or not classes:
            self._general += 1  # the address of where it is to be put
            return ("@r0",)
        counts = {_GENERAL: 0, _VECTOR: 0}
        found = []
        for each in classes:
            found.append(f"{each}{counts[each]}")
            counts[each] += 1
        return tuple(found)

    def _classes(self, shape: Shape) -> tuple[str, ...] | None:
        """Of each 8 bytes which kind of register they are passed in; () for what is passed in memory, or is empty;
        None if that is not known."""
        if shape.kind[:1] in _SINGLE and 0 < shape.size <= _WORD and not shape.indirect:
            return (_GENERAL,)
        if shape.kind in ("?", "...", "%", "v"):
            return None
        if not _IS_X86_64:
            return (_VECTOR,) if shape.kind in ("f4", "f8") else None
        if shape.kind[:1] == "w":
            return (_VECTOR,)
        if shape.indirect or _memory(shape):
            return ()
        found: dict[int, str] = {}
        scalars = list(leaves(shape))
        for leaf in scalars:
            if leaf.shape.kind == "?" or (leaf.shape.kind == "{" and leaf.shape.size):
                return None
            kind = _VECTOR if leaf.shape.kind in ("f4", "f8") else _GENERAL
            for word in range(leaf.bit_offset // 64, -(-(leaf.bit_offset + 8 * leaf.shape.size) // 64)):
                found[word] = _GENERAL if _GENERAL in (kind, found.get(word)) else _VECTOR
        if self._rust and shape.kind in ("{", "T", "V"):
            return self._rust_classes(shape, [each.shape for each in scalars if each.shape.size])
        return tuple(found[word] for word in sorted(found))

    def _rust_classes(self, shape: Shape, scalars: list[Shape]) -> tuple[str, ...]:
        if len(scalars) in (1, _MOST_WORDS) and all(each.size <= _WORD for each in scalars):
            return tuple(_VECTOR if each.kind in ("f4", "f8") else _GENERAL for each in scalars)
        return (_GENERAL,) if 0 < shape.size <= _WORD else ()


def _memory(shape: Shape) -> bool:
    """Whether such values are passed on the stack: too long, or with members that are not aligned."""
    if shape.kind[:1] == "w":
        return False
    found = leaves(shape)
    return shape.size > _MOST_WORDS * _WORD or any(
        each.shape.kind == "f16" or _unaligned(each.bit_offset, each.bit_size, each.shape.size) for each in found
    )


def _unaligned(bit_offset: int, bit_size: int, size: int) -> bool:
    return not bit_size and size in (2, 4, 8) and bool(bit_offset % (8 * size))
