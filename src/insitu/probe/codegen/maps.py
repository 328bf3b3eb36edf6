"""Lowers reads and writes of maps.

A map without a key is an array of one element, whose value is followed by a u64 that says whether it was ever
assigned; it is reached without a helper call. One whose only keys are CPUs is an array of such elements, which the
kernel finds without hashing. Reads of missing elements return zeros.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

from insitu.kernel.bpf_helpers import knows_fetching_atomics
from insitu.kernel.bpf_map import possible_cpus
from insitu.probe import ast
from insitu.probe.aggregations import Aggregation, Average, Maximum, Minimum
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.integers import divide
from insitu.probe.codegen.lowering import Lowering, Store, Value
from insitu.probe.codegen.map_keys import at_key
from insitu.probe.layout import ARRAY, HASH, LOST_MAP_FULL, LOST_NO_MEMORY, PRESENT_BYTES, MapLayout
from insitu.probe.types import stored_size

__all__ = [
    "STORES",
    "VALUES",
    "aggregate_value",
    "assign",
    "contains",
    "count_lost",
    "count_lost_if",
    "delete",
    "element",
    "find",
    "lookup",
    "lost_key_cell",
    "step",
]


_NO_EXIST = 1  # BPF_NOEXIST


def _map(low: Lowering, node: ast.MapAccess) -> tuple[int, MapLayout]:
    number = low.layout.number(node.name)
    return number, low.layout.maps[number]


def lookup(low: Lowering, number: int, key: str) -> str:
    """A pointer to the element of a key, null for one that is missing."""
    emit = low.emit
    if not low.layout.maps[number].is_by_cpu:
        return _lookup(low, number, key)
    place = _lookup(low, number, key)
    begun, there, end = emit.block_name, emit.label(), emit.label()
    emit.branch_if(emit.is_null(place), end, there)
    emit.block(there)
    present = emit.truth(emit.load(_presence(low, number, place)))
    found = emit.value(f"select i1 {present}, ptr {place}, ptr null")
    emit.block(end)
    return emit.phi("ptr", ("null", begun), (found, there))


def _lookup(low: Lowering, number: int, key: str) -> str:
    """bpf_map_lookup_elem(): a pointer, perhaps null."""
    return low.emit.call(Helper.MAP_LOOKUP_ELEM, low.emit.map(number), f"ptr {key}", answers="ptr")


def _presence(low: Lowering, number: int, place: str) -> str:
    """Of a map whose keys are CPUs: where it says whether an element was assigned."""
    return low.emit.offset(place, low.layout.maps[number].value_size - PRESENT_BYTES)


def _read(low: Lowering, node: ast.MapAccess, number: int, key: str) -> str:
    """lookup() of an element that is to be read: a missing one is warned of if the options say so."""
    pointer = lookup(low, number, key)
    low.warn_if(low.emit.is_null(pointer), f"{node.name} has no such key")
    return pointer


def when_found(low: Lowering, pointer: str, found: Callable[[], None], missing: Callable[[], None]) -> None:
    """Branch on a pointer that may be null."""
    emit = low.emit
    no, yes, end = emit.label(), emit.label(), emit.label()
    emit.branch_if(emit.is_null(pointer), no, yes)
    emit.block(yes)
    found()
    emit.branch(end)
    emit.block(no)
    missing()
    emit.block(end)


def _for_each_cpu(low: Lowering, number: int, key: str, visit: Callable[[str], None]) -> None:
    """``visit`` a pointer to each CPU's cells: bpf_map_lookup_percpu_elem(), kernels from 5.19 on."""
    emit = low.emit
    cpu = low.permanent(8)
    emit.store("0", cpu)
    head, body, found, following, end = (emit.label() for _ in range(5))
    emit.block(head)
    current = emit.load(cpu)
    emit.branch_if(emit.value(f"icmp ult i64 {current}, {possible_cpus()}"), body, end)
    emit.block(body)
    cells = emit.call(Helper.MAP_LOOKUP_PERCPU_ELEM, emit.map(number), f"ptr {key}", f"i64 {current}", answers="ptr")
    emit.branch_if(emit.is_null(cells), following, found)
    emit.block(found)
    visit(cells)
    emit.block(following)
    emit.store(emit.op("add", emit.load(cpu), "1"), cpu)
    emit.branch(head)
    emit.block(end)


def aggregate_value(low: Lowering, number: int, key: str, kind: Aggregation, place: int = 0) -> str:
    """What all CPUs counted for a key, as one i64. ``place``: where in a value the aggregation begins."""
    emit = low.emit
    first, second = low.permanent(8), low.permanent(8)
    emit.store("0", first)
    emit.store("0", second)

    def add(cells: str) -> None:
        cells = emit.offset(cells, place)
        value = emit.load(cells)
        other = emit.load(emit.offset(cells, 8)) if kind.cells > 1 else "0"
        if isinstance(kind, Minimum | Maximum):
            order = ("s" if kind.signed else "u") + ("lt" if isinstance(kind, Minimum) else "gt")
            better = emit.value(f"icmp {order} i64 {value}, {emit.load(first)}")
            better = emit.value(f"or i1 {better}, {emit.value(f'icmp eq i64 {emit.load(second)}, 0')}")
            better = emit.value(f"and i1 {better}, {emit.truth(other)}")
            emit.store(emit.select(better, value, emit.load(first)), first)
        else:
            emit.store(emit.op("add", emit.load(first), value), first)
        emit.store(emit.op("add", emit.load(second), other), second)

    _for_each_cpu(low, number, key, add)
    if isinstance(kind, Average):
        return divide(low, "/", emit.load(second), emit.load(first), signed=kind.signed)
    return emit.load(first)


def _value(low: Lowering, node: ast.MapAccess) -> str:
    emit = low.emit
    number, layout = _map(low, node)
    kind = layout.value
    if layout.key is None:
        if not isinstance(kind, Aggregation):
            return emit.load(emit.map_value(number))
        with low.temporaries():
            only = low.temporary(8)
            emit.store("0", only)
            return aggregate_value(low, number, only, kind)

    def read(number: int, key: str) -> str:
        if isinstance(kind, Aggregation):
            return aggregate_value(low, number, key, kind, layout.place)
        pointer = _read(low, node, number, key)
        begun, found, end = emit.block_name, emit.label(), emit.label()
        emit.branch_if(emit.is_null(pointer), end, found)
        emit.block(found)
        value = emit.load(pointer)
        emit.block(end)
        return emit.phi("i64", ("0", begun), (value, found))

    with low.temporaries():
        return at_key(low, node, read)


def _store(low: Lowering, node: ast.MapAccess, destination: str) -> None:
    emit = low.emit
    number, layout = _map(low, node)
    assert layout.value is not None
    size = stored_size(layout.value)
    if layout.key is None:
        low.copy(destination, emit.map_value(number), size)
        return

    def read(number: int, key: str) -> str:
        pointer = _read(low, node, number, key)
        when_found(low, pointer, lambda: low.copy(destination, pointer, size), lambda: low.zero(destination, size))
        return ""

    with low.temporaries():
        at_key(low, node, read)


def count_lost(low: Lowering, cell: int | str, number: int | None = None, *, times: int = 1) -> None:
    """Add one, or ``times``, to a cell of the map that counts what was lost, or of another such map."""
    emit = low.emit
    number = low.layout.lost_map() if number is None else number
    with low.temporaries():
        key = low.temporary(8)
        emit.store(str(cell), key)
        pointer = lookup(low, number, key)
    when_found(
        low, pointer, lambda: emit.store(emit.op("add", emit.load(pointer), str(times)), pointer), lambda: None
    )


def count_lost_if(low: Lowering, truth: str, cell: int | str, number: int | None = None) -> None:
    """count_lost() where an i1 is true."""
    emit = low.emit
    lost, end = emit.label(), emit.label()
    emit.branch_if(truth, lost, end)
    emit.block(lost)
    count_lost(low, cell, number)
    emit.block(end)


def update(low: Lowering, number: int, key: str, value: str, flags: int = 0) -> None:
    """bpf_map_update_elem(); keys that do not fit into the map are counted."""
    emit = low.emit
    result = emit.call(Helper.MAP_UPDATE_ELEM, emit.map(number), f"ptr {key}", f"ptr {value}", f"i64 {flags}")
    if not flags & _NO_EXIST:  # another CPU may be faster
        low.checked(Helper.MAP_UPDATE_ELEM, result)
    is_full, no_memory = _failed_with(low, result, errno.E2BIG), _failed_with(low, result, errno.ENOMEM)
    count_lost_if(low, emit.value(f"or i1 {is_full}, {no_memory}"), lost_key_cell(low, result))


def lost_key_cell(low: Lowering, result: str) -> str:
    """Where to count a key that was not added to a map, by what bpf_map_update_elem() has answered.

    A map that is filled as needed may find no memory at hand for a new element.
    """
    no_memory = _failed_with(low, result, errno.ENOMEM)
    return low.emit.select(no_memory, str(LOST_NO_MEMORY), str(LOST_MAP_FULL))


def _failed_with(low: Lowering, result: str, error: int) -> str:
    """i1: whether a helper has answered that error."""
    return low.emit.value(f"icmp eq i32 {low.emit.value(f'trunc i64 {result} to i32')}, {-error}")


def assign(low: Lowering, node: ast.MapAccess, fill: Callable[[str], None], *, at_once: bool = False) -> None:
    """``@x[key] = value``; ``fill`` writes the value's stored form to a pointer.

    ``at_once``: it does so in one step that does not depend on what the map holds.
    """
    emit = low.emit
    number, layout = _map(low, node)
    assert layout.value is not None
    size = stored_size(layout.value)

    def replace(number: int, key: str) -> str:
        if low.layout.maps[number].is_by_cpu:
            there = _lookup(low, number, key)

            def put() -> None:
                low.copy(there, value, size)
                emit.store("1", _presence(low, number, there))

            when_found(low, there, put, lambda: None)
        elif low.options.assign_in_place and layout.type == HASH:
            # bpf_map_update_elem() replaces the element, which takes several times as long.
            there = lookup(low, number, key)
            when_found(low, there, lambda: low.copy(there, value, size), lambda: update(low, number, key, value))
        else:
            update(low, number, key, value)
        return ""

    with low.temporaries():
        if layout.key is None and at_once:
            pointer = emit.map_value(number)
            fill(pointer)
            emit.store("1", emit.offset(pointer, size))
            return
        value = low.temporary(size)
        fill(value)
        if layout.key is None:
            pointer = emit.map_value(number)
            low.copy(pointer, value, size)
            emit.store("1", emit.offset(pointer, size))
        else:
            at_key(low, node, replace)


def element(low: Lowering, node: ast.MapAccess, there: Callable[[str], None], missing: Callable[[], None]) -> None:
    """Call ``there`` with a pointer to the element of an access, or ``missing``: code for either case."""
    emit = low.emit
    with low.temporaries():
        pointer = at_key(low, node, lambda number, key: lookup(low, number, key), answers="ptr")
    no, yes, end = emit.label(), emit.label(), emit.label()
    emit.branch_if(emit.is_null(pointer), no, yes)
    emit.block(yes)
    there(pointer)
    if not emit.terminated:
        emit.branch(end)
    emit.block(no)
    missing()
    if not emit.terminated:
        emit.branch(end)
    emit.block(end)


def step(low: Lowering, node: ast.MapAccess, delta: int, *, postfix: bool, used: bool) -> str:
    """``@x++``: an atomic addition in place. ``used``: somebody wants its value."""
    emit = low.emit
    number, layout = _map(low, node)
    if layout.key is None:
        pointer = emit.map_value(number)
        before = _add(low, pointer, delta, fetch=used)
        emit.store("1", emit.offset(pointer, 8))
        return before if postfix else emit.op("add", before, str(delta))

    def add(number: int, key: str) -> str:
        there = lookup(low, number, key)
        begun = emit.block_name
        found, missing, end = emit.label(), emit.label(), emit.label()
        emit.branch_if(emit.is_null(there), missing, found)
        emit.block(missing)
        made = _made(low, number, key)
        came_from = emit.block_name
        emit.branch_if(emit.is_null(made), end, found)
        emit.block(found)
        before = _add(low, emit.phi("ptr", (there, begun), (made, came_from)), delta, fetch=used)
        emit.block(end)
        return emit.phi("i64", (before, found), ("0", came_from))

    with low.temporaries():
        before = at_key(low, node, add)
    return before if postfix else emit.op("add", before, str(delta))


def _made(low: Lowering, number: int, key: str) -> str:
    """A pointer to a new element, a number, that is zero; null if the map has no room for it."""
    emit = low.emit
    if low.layout.maps[number].is_by_cpu:
        place = _lookup(low, number, key)
        when_found(low, place, lambda: emit.store("1", _presence(low, number, place)), lambda: None)
        return place
    # A zero first: another CPU may do the same now.
    value = low.temporary(8)
    emit.store("0", value)
    update(low, number, key, value, _NO_EXIST)
    return lookup(low, number, key)


def _add(low: Lowering, pointer: str, delta: int, *, fetch: bool) -> str:
    """Add to a number in a map atomically: with ``fetch``, what it was before.

    LLVM makes an instruction that fetches of any ordering but a relaxed one. Kernels without such instructions read
    the number first: another CPU may add to it in between, which the value then lacks, but never the map.
    """
    emit = low.emit
    if fetch and knows_fetching_atomics():
        return emit.value(f"atomicrmw add ptr {pointer}, i64 {delta} seq_cst")
    before = emit.load(pointer) if fetch else "0"
    emit.emit(f"{emit.name_register()} = atomicrmw add ptr {pointer}, i64 {delta} monotonic")
    return before


def delete(low: Lowering, node: ast.MapAccess) -> str:
    """``delete(@x[key])``: i64 1 when there was such an element; of a map without a key, always."""
    emit = low.emit
    number, layout = _map(low, node)

    def remove(number: int, key: str) -> str:
        held = low.layout.maps[number]
        if held.is_by_cpu:
            place = lookup(low, number, key)
            there = emit.value(f"xor i1 {emit.is_null(place)}, true")
            when_found(low, place, lambda: low.zero(place, held.value_size), lambda: None)
        else:
            result = emit.call(Helper.MAP_DELETE_ELEM, emit.map(number), f"ptr {key}")
            there = emit.value(f"icmp eq i64 {emit.op('and', result, str(0xFFFFFFFF))}, 0")
        low.warn_if(emit.value(f"xor i1 {there}, true"), f"{node.name} has no such key")
        return emit.value(f"zext i1 {there} to i64")

    with low.temporaries():
        if layout.key is not None:
            return at_key(low, node, remove)
        if layout.type == ARRAY:
            low.zero(emit.map_value(number), layout.value_size)
        else:
            key = low.temporary(8)
            emit.store("0", key)
            _for_each_cpu(low, number, key, lambda cells: low.zero(cells, layout.value_size))
    return "1"


def find(low: Lowering, node: ast.MapAccess, take: Callable[[str], None]) -> str:
    """``find(@x, key, $v)``: i64 1 after calling ``take`` with a pointer to the value, 0 for a missing key."""
    emit = low.emit
    _, layout = _map(low, node)

    def look(number: int, key: str) -> str:
        pointer = lookup(low, number, key)
        begun, found, end = emit.block_name, emit.label(), emit.label()
        emit.branch_if(emit.is_null(pointer), end, found)
        emit.block(found)
        if isinstance(layout.value, Aggregation):
            slot = low.temporary(8)
            emit.store(aggregate_value(low, number, key, layout.value), slot)
            take(slot)
        else:
            take(pointer)
        came_from = emit.block_name
        emit.block(end)
        return emit.phi("i64", ("0", begun), ("1", came_from))

    with low.temporaries():
        return at_key(low, node, look)


def contains(low: Lowering, node: ast.MapAccess) -> str:
    """``has_key(@x, key)``: i64 0 or 1."""
    emit = low.emit

    def look(number: int, key: str) -> str:
        return emit.value(f"select i1 {emit.is_null(lookup(low, number, key))}, i64 0, i64 1")

    with low.temporaries():
        return at_key(low, node, look)


VALUES: Mapping[type[ast.Expression], Value] = {ast.MapAccess: _value}
STORES: Mapping[type[ast.Expression], Store] = {ast.MapAccess: _store}
