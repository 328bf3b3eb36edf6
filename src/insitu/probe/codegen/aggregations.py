"""Lowers what adds to a map of count(), sum(), hist() and the like.

A program cannot be interrupted by itself on its CPU (the kernel drops, and counts, such a run): plain adding is safe.
"""

from __future__ import annotations

from collections.abc import Sequence

from insitu.probe import ast
from insitu.probe.aggregations import (
    Aggregation,
    Average,
    Count,
    Histogram,
    LinearHistogram,
    Maximum,
    Minimum,
    Statistics,
    Sum,
    TimeSeries,
)
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.integers import divide
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.codegen.map_keys import at_key
from insitu.probe.codegen.maps import count_lost, lookup, lost_key_cell
from insitu.probe.codegen.markers import Patch
from insitu.probe.output.time_series import WORDS

__all__ = ["update", "update_jointly"]

_NO_EXIST = 1  # BPF_NOEXIST
_STACK_ZEROS = 64


def update(low: Lowering, target: ast.MapAccess, call: ast.Call, kind: Aggregation) -> None:
    """``@x[key] = count()`` and the like: find this CPU's cells, and add to them."""
    _update(low, target, [(0, kind, _argument(low, call))])


def update_jointly(low: Lowering, updates: Sequence[ast.Assign]) -> None:
    """The same of several maps at one key, which are parts of one map of the kernel's."""
    parts = []
    for each in updates:
        assert isinstance(each.target, ast.MapAccess) and isinstance(each.value, ast.Call)
        layout, kind = low.layout.maps[low.layout.number(each.target.name)], each.target.type
        assert isinstance(kind, Aggregation)
        parts.append((layout.place, kind, _argument(low, each.value)))
    assert isinstance(updates[0].target, ast.MapAccess)
    _update(low, updates[0].target, parts)


def _argument(low: Lowering, call: ast.Call) -> str:
    subject = call.arguments[0] if call.arguments else None
    return low.value(subject) if isinstance(subject, ast.Expression) else ""


def _update(low: Lowering, target: ast.MapAccess, parts: Sequence[tuple[int, Aggregation, str]]) -> None:
    """Add to the parts of an element's value: where each begins in it, its kind, and the value that is added."""
    emit = low.emit
    layout = low.layout.maps[low.layout.holder(target.name)]

    def add(number: int, key: str) -> str:
        first = lookup(low, number, key)
        begun = emit.block_name
        missing, found, lost, end = (emit.label() for _ in range(4))
        if layout.key is None:
            emit.branch_if(emit.is_null(first), end, found)
            emit.block(found)
            cells = first
        else:
            emit.branch_if(emit.is_null(first), missing, found)
            emit.block(missing)
            zeros = _zeros(low, layout.value_size)
            words = emit.map(number), f"ptr {key}", f"ptr {zeros}", f"i64 {_NO_EXIST}"
            result = emit.call(Helper.MAP_UPDATE_ELEM, *words)
            second = lookup(low, number, key)
            came_from = emit.block_name
            emit.branch_if(emit.is_null(second), lost, found)
            emit.block(lost)
            count_lost(low, lost_key_cell(low, result), times=len(parts))
            emit.branch(end)
            emit.block(found)
            cells = emit.phi("ptr", (first, begun), (second, came_from))
        for place, kind, argument in parts:
            _add(low, emit.offset(cells, place) if place else cells, kind, argument)
        emit.block(end)
        return ""

    with low.temporaries():
        if layout.key is None:
            only = low.temporary(8)
            emit.store("0", only)
            add(low.layout.number(target.name), only)
        else:
            at_key(low, target, add)


def _zeros(low: Lowering, size: int) -> str:
    if size > _STACK_ZEROS:
        return low.emit.map_value(low.layout.zeros_map(size))
    pointer = low.temporary(size)
    low.emit.zero(pointer, size)
    return pointer


def _add(low: Lowering, cells: str, kind: Aggregation, value: str) -> None:
    emit = low.emit

    def add(index: int | str, amount: str) -> None:
        at = emit.offset(cells, index)
        emit.store(emit.op("add", emit.load(at), amount), at)

    if isinstance(kind, Count):
        add(0, "1")
    elif isinstance(kind, Sum):
        add(0, value)
        emit.store("1", emit.offset(cells, 8))
    elif isinstance(kind, Average | Statistics):
        add(0, "1")
        add(8, value)
    elif isinstance(kind, Minimum | Maximum):
        order = ("s" if kind.signed else "u") + ("lt" if isinstance(kind, Minimum) else "gt")
        better = emit.value(f"icmp {order} i64 {value}, {emit.load(cells)}")
        empty = emit.value(f"icmp eq i64 {emit.load(emit.offset(cells, 8))}, 0")
        store, end = emit.label(), emit.label()
        emit.branch_if(emit.value(f"or i1 {better}, {empty}"), store, end)
        emit.block(store)
        emit.store(value, cells)
        emit.store("1", emit.offset(cells, 8))
        emit.block(end)
    elif isinstance(kind, Histogram):
        index = _logarithmic(low, value, kind.bits)
        add(_bounded(low, index, kind.cells), "1")
    elif isinstance(kind, LinearHistogram):
        inside = emit.op("sub", value, str(kind.minimum))
        index = emit.op("add", divide(low, "/", inside, str(kind.step), signed=False), "1")
        above = emit.value(f"icmp sge i64 {value}, {kind.maximum}")
        index = emit.select(above, str(kind.cells - 1), index)
        below = emit.value(f"icmp slt i64 {value}, {kind.minimum}")
        add(_bounded(low, emit.select(below, "0", index), kind.cells), "1")
    elif isinstance(kind, TimeSeries):
        _add_to_series(low, cells, kind, value)


def _bounded(low: Lowering, index: str, cells: int) -> str:
    """Byte offset of a cell, in a form whose bounds the verifier sees: it does not follow LLVM's reasoning."""
    emit = low.emit
    hidden = emit.hidden(index)
    inside = emit.value(f"icmp ult i64 {hidden}, {cells}")
    return emit.op("shl", emit.select(inside, hidden, str(cells - 1)), "3")


def _logarithmic(low: Lowering, value: str, bits: int) -> str:
    """Cell of a value: 0 for negatives, value + 1 below 2**bits, then 2**bits cells for each power of two."""
    emit = low.emit
    exponent, rest = "0", value
    for shift in (32, 16, 8, 4, 2, 1):
        large = emit.value(f"icmp ugt i64 {rest}, {(1 << shift) - 1}")
        step = emit.select(large, str(shift), "0")
        rest = emit.op("lshr", rest, step)
        exponent = emit.op("add", exponent, step) if exponent != "0" else step
    if bits == 0:
        # value 1 has exponent 0 and cell 2; value 0 is handled below.
        index = emit.op("add", exponent, "2")
        zero = emit.value(f"icmp eq i64 {value}, 0")
        index = emit.select(zero, "1", index)
    else:
        shift_by = emit.op("and", emit.op("sub", exponent, str(bits)), "63")
        part = emit.op("and", emit.op("lshr", value, shift_by), str((1 << bits) - 1))
        power = emit.op("shl", emit.op("add", shift_by, "1"), str(bits))
        index = emit.op("add", emit.op("add", power, part), "1")
        small = emit.value(f"icmp ult i64 {value}, {1 << bits}")
        index = emit.select(small, emit.op("add", value, "1"), index)
    negative = emit.value(f"icmp slt i64 {value}, 0")
    return emit.select(negative, "0", index)


def _add_to_series(low: Lowering, cells: str, kind: TimeSeries, value: str) -> None:
    """Put a value into the cells of the interval that is now; what an older interval left there is dropped."""
    emit = low.emit
    now = emit.op("add", emit.call(Helper.KTIME_GET_BOOT_NS), emit.patched(Patch.CLOCK_OFFSET_NS))
    number = divide(low, "/", now, str(kind.interval), signed=False)
    slot = emit.op("urem", number, str(kind.count))
    # In a form whose bounds the verifier sees: it does not follow LLVM's reasoning, and LLVM must not undo it.
    slot = emit.hidden(slot)
    slot = emit.hidden(emit.select(emit.value(f"icmp ult i64 {slot}, {kind.count}"), slot, "0"))
    place = emit.offset(cells, emit.op("mul", slot, str(8 * WORDS)))
    held, extra = emit.offset(place, 8), emit.offset(place, 16)
    begun, going, end = emit.label(), emit.label(), emit.label()
    emit.branch_if(emit.value(f"icmp eq i64 {emit.load(place)}, {number}"), going, begun)
    emit.block(begun)
    emit.store(number, place)
    emit.store(value, held)
    emit.store("1" if kind.aggregate else now, extra)
    emit.branch(end)
    emit.block(going)
    if kind.aggregate in ("avg", "sum"):
        emit.store(emit.op("add", emit.load(held), value), held)
        emit.store(emit.op("add", emit.load(extra), "1"), extra)
    elif kind.aggregate:
        order = ("s" if kind.signed else "u") + ("lt" if kind.aggregate == "min" else "gt")
        better = emit.value(f"icmp {order} i64 {value}, {emit.load(held)}")
        emit.store(emit.select(better, value, emit.load(held)), held)
    else:
        emit.store(value, held)
        emit.store(now, extra)
    emit.block(end)
