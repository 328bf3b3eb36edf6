"""Range and location lists of DWARF 2 to 5 (DWARF 5, 2.17.3 and 2.6.2): which addresses, and where a variable is."""

from collections.abc import Callable, Iterator
from typing import Final

from insitu.symbols.dwarf_bytes import CorruptDwarfError, fixed, uleb128

__all__ = ["Listed", "new_list", "old_list"]

Listed = tuple[int, int, bytes]
"""First address, address after the last, and of a location list the expression."""

_MOST: Final = 1 << 16
# DW_RLE_* and DW_LLE_*: operands are an index of an address (x), a number (u) or an address (a).
_RANGES: Final = {1: "x", 2: "xx", 3: "xu", 4: "uu", 5: "a", 6: "aa", 7: "au"}
_LOCATIONS: Final = {1: "x", 2: "xx", 3: "xu", 4: "uu", 5: "", 6: "a", 7: "aa", 8: "au"}
_VIEW_PAIR: Final = 9  # DW_LLE_GNU_view_pair


def old_list(data: bytes, at: int, base: int, word: int, *, located: bool) -> Iterator[Listed]:
    """A list of .debug_ranges or, ``located``, .debug_loc (DWARF 2 to 4). Raises CorruptDwarfError."""
    highest = (1 << 8 * word) - 1
    for _ in range(_MOST):
        first, at = fixed(data, at, word)
        second, at = fixed(data, at, word)
        if first == highest:
            base = second
            continue
        if not first and not second:
            return
        block = b""
        if located:
            size, at = fixed(data, at, 2)
            block, at = data[at : at + size], at + size
        yield base + first, base + second, block


def new_list(
    data: bytes, at: int, base: int, word: int, address: Callable[[int], int], *, located: bool
) -> Iterator[Listed]:
    """A list of .debug_rnglists or, ``located``, .debug_loclists (DWARF 5). ``address`` is the address of an index.
    Raises CorruptDwarfError."""
    kinds = _LOCATIONS if located else _RANGES
    for _ in range(_MOST):
        kind, at = fixed(data, at, 1)
        if not kind:
            return
        if located and kind == _VIEW_PAIR:
            _, at = uleb128(data, at)
            _, at = uleb128(data, at)
            continue
        if kind not in kinds:
            raise CorruptDwarfError(f"list entry {kind}")
        operands = []
        for operand in kinds[kind]:
            value, at = fixed(data, at, word) if operand == "a" else uleb128(data, at)
            operands.append(address(value) if operand == "x" else value)
        if len(operands) == 1:
            (base,) = operands
            continue
        block = b""
        if located:
            size, at = uleb128(data, at)
            block, at = data[at : at + size], at + size
        if not operands:
            yield 0, (1 << 8 * word) - 1, block
        elif kinds[kind] == "uu":
            yield base + operands[0], base + operands[1], block
        else:
            yield operands[0], operands[1] + (operands[0] if kinds[kind][1] == "u" else 0), block
