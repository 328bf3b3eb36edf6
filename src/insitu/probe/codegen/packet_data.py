"""Lowers the reading of a packet's bytes (struct sk_buff): the linear part, then the page fragments.

Pages are read through the kernel's direct mapping, whose address is known on x86-64 (arch/x86/include/asm/page_64.h
and pgtable_64.h: page_offset_base, vmemmap_base). Elsewhere only the linear part is read.
"""

from __future__ import annotations

from msgspec import Struct

from insitu.probe.codegen.integers import least
from insitu.probe.codegen.loops import counted
from insitu.probe.codegen.lowering import Lowering, Remote
from insitu.probe.codegen.memory import load_field
from insitu.probe.type_resolver import Structures
from insitu.probe.types import Array, Record, Space
from insitu.symbols.kallsyms import symbol_address

__all__ = ["LIMIT", "ROOM", "read_packet"]

LIMIT = 4095
"""The most bytes that are read of a packet: the verifier sees numbers up to it by a mask."""
ROOM = 2 * (LIMIT + 1)
"""The size of the buffer: any number of bytes up to the limit, written at any offset up to it."""

_PAGE_BITS = 12
_MOST_PIECES = 17  # MAX_SKB_FRAGS


class _Pieces(Struct):
    """Where a packet's pages are described: sizes of struct page and of a fragment, and offsets in it."""

    page_bytes: int
    size: int
    page: int
    length: int
    offset: int
    first: int  # in struct skb_shared_info
    count: int
    memory: int  # kernel variables: where all memory, and the table of its pages, begin
    table: int


def _pieces(structures: Structures) -> _Pieces | None:
    """The layout of fragments in this kernel; None when unknown."""
    memory, table = symbol_address("page_offset_base"), symbol_address("vmemmap_base")
    page = structures.lookup("page", "struct", Space.KERNEL)
    shared = structures.lookup("skb_shared_info", "struct", Space.KERNEL)
    if not memory or not table or page is None or not isinstance(shared, Record):
        return None
    pieces, count = structures.field(shared, "frags"), structures.field(shared, "nr_frags")
    held = pieces.type.element.resolve() if pieces is not None and isinstance(pieces.type, Array) else None
    if pieces is None or count is None or not isinstance(held, Record):
        return None
    # struct bio_vec up to Linux 6.6, then struct skb_frag; the page comes first in both.
    fields = [structures.field(held, f"{prefix}{name}") for prefix in ("", "bv_") for name in ("len", "offset")]
    known = [field.offset for field in fields if field is not None]
    if len(known) != 2:
        return None
    return _Pieces(page.size, held.size, 0, known[0], known[1], pieces.offset, count.offset, memory, table)


def read_packet(low: Lowering, packet: str, skipped: str, wanted: str, pointer: str) -> str:
    """Copy up to ``wanted`` (at most LIMIT) bytes of a packet, from byte ``skipped`` of its first piece on.

    Returns the i64 of how many there are now at ``pointer``, which has ROOM bytes.
    """
    emit = low.emit
    linear = emit.op("sub", load_field(low, packet, "sk_buff.len"), load_field(low, packet, "sk_buff.data_len"))
    data = emit.op("add", load_field(low, packet, "sk_buff.data"), skipped)
    position = low.permanent(8)
    emit.store("0", position)
    _append(low, pointer, position, wanted, data, _above(low, linear, skipped))
    pieces = _pieces(low.structures)
    if pieces is not None:
        _append_pages(low, pointer, position, wanted, packet, pieces)
    return emit.load(position)


def _append(low: Lowering, pointer: str, position: str, wanted: str, address: str, length: str) -> None:
    """Append ``length`` bytes, or what is still wanted of them."""
    emit = low.emit
    here = emit.hidden(emit.op("and", emit.hidden(emit.load(position)), str(LIMIT)))
    size = least(emit, length, _above(low, wanted, here))
    size = emit.hidden(emit.op("and", emit.hidden(size), str(LIMIT)))
    low.read(emit.offset(pointer, here), size, Remote(address, Space.KERNEL))
    emit.store(emit.op("add", here, size), position)


def _append_pages(low: Lowering, pointer: str, position: str, wanted: str, packet: str, pieces: _Pieces) -> None:
    emit = low.emit
    end = load_field(low, packet, "sk_buff.end")  # an offset on machines of 64 bits (NET_SKBUFF_DATA_USES_OFFSET)
    shared = emit.op("add", load_field(low, packet, "sk_buff.head"), end)
    count = low.read_scalar(Remote(shared, Space.KERNEL), pieces.count, 1, False)
    memory = low.read_scalar(Remote(str(_signed(pieces.memory)), Space.KERNEL), 0, 8, False)
    table = low.read_scalar(Remote(str(_signed(pieces.table)), Space.KERNEL), 0, 8, False)

    def piece(index: str) -> None:
        there, none = emit.label(), emit.label()
        emit.branch_if(emit.value(f"icmp ult i64 {index}, {count}"), there, none)
        emit.block(there)
        place = Remote(emit.op("add", shared, emit.op("mul", index, str(pieces.size))), Space.KERNEL)
        page = low.read_scalar(place, pieces.first + pieces.page, 8, False)
        number = emit.op("udiv", emit.op("sub", page, table), str(pieces.page_bytes))
        address = emit.op("add", memory, emit.op("shl", number, str(_PAGE_BITS)))
        address = emit.op("add", address, low.read_scalar(place, pieces.first + pieces.offset, 4, False))
        length = low.read_scalar(place, pieces.first + pieces.length, 4, False)
        _append(low, pointer, position, wanted, address, length)
        emit.block(none)

    counted(low, _MOST_PIECES, piece)


def _signed(address: int) -> int:
    return address - (1 << 64) if address >> 63 else address


def _above(low: Lowering, number: str, floor: str) -> str:
    """How much a number is above another; 0 when it is not."""
    more = low.emit.value(f"icmp ugt i64 {number}, {floor}")
    return low.emit.select(more, low.emit.op("sub", number, floor), "0")
