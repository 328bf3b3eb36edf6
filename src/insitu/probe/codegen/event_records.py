"""Lowers emit(): the record of an event, whose strings, buffers and stacks take the bytes they have.

A record of fixed size is reserved in the ring and filled there, of others see record_parts.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from insitu.probe import ast
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.codegen.maps import count_lost_if
from insitu.probe.codegen.process import both_ids
from insitu.probe.codegen.record_parts import Append, largest_record, output, parts_of
from insitu.probe.codegen.records import computed_first
from insitu.probe.layout import EVENT_HEAD, EVENT_WAKEUP_BYTES, RecordLayout
from insitu.probe.types import (
    UINT64,
    Buffer,
    Stack,
    String,
    Tuple,
    Type,
    Variable,
    is_scalar,
)

__all__ = ["send_event"]

# include/uapi/linux/bpf.h: BPF_RB_NO_WAKEUP, BPF_RB_FORCE_WAKEUP, BPF_RB_AVAIL_DATA
_NO_WAKEUP, _FORCE_WAKEUP, _AVAILABLE = 1, 2, 0
_LEAST_WINDOW = 4096
# A string that takes no more than 16 bytes is kept in place.
_SHORT_STRING = 16


def send_event(
    low: Lowering, label: str, names: Sequence[str], values: Sequence[ast.Expression], append: Append
) -> None:
    """Send an event of the label with these fields. A full ring is counted, by label."""
    with low.temporaries():
        _send_event(low, label, names, computed_first(low, values), append)


def _send_event(
    low: Lowering, label: str, names: Sequence[str], values: Sequence[ast.Expression], append: Append
) -> None:
    ring = low.layout.event_ring()
    fields = Tuple((UINT64, UINT64, *(_form(value) for value in values)))
    layout = RecordLayout("emit", label, fields, names=(*EVENT_HEAD, *names), ring=ring)
    kind = low.layout.event_kind(layout)
    number = low.layout.labels.index(label)
    # As few instructions as possible between reserve and submit.
    registers = [low.emit.call(Helper.KTIME_GET_NS), both_ids(low)]
    registers += [low.value(value) if _in_register(value) else "" for value in values]
    cpu = low.emit.op("shl", low.emit.call(Helper.GET_SMP_PROCESSOR_ID), "32")
    head = low.emit.op("or", cpu, str(kind))
    if any(isinstance(form, Variable) for form in fields.elements):
        parts = parts_of(fields, (*(None for _ in EVENT_HEAD), *values))

        def fill(record: str) -> None:
            _fill(low, layout, record, head, registers, values)

        room = largest_record(layout, parts)
        lost = output(low, layout, parts, append, fill, lambda: _wakeup(low, ring, room))
    else:
        lost = _reserve(low, layout, head, registers, values)
    count_lost_if(low, lost, number, low.layout.lost_events_map())


def _in_register(value: ast.Expression) -> bool:
    return value.type is not None and is_scalar(value.type)


def _form(value: ast.Expression) -> Type:
    """How a value is stored in the record: in place, or after the fields."""
    kind = value.type
    assert kind is not None
    if isinstance(kind, String) and kind.capacity > _SHORT_STRING:
        return Variable(kind)
    if isinstance(kind, Stack) and _is_stack_at_hand(value):
        return Variable(kind)
    return Variable(kind) if isinstance(kind, Buffer) and not _has_constant_length(value) else kind


def _is_stack_at_hand(value: ast.Expression) -> bool:
    """Whether it is the stack of this moment, rather than the id of one that a variable or map has kept."""
    return isinstance(value, ast.Identifier | ast.Call) and value.name in ("kstack", "ustack")


def _has_constant_length(value: ast.Expression) -> bool:
    return (
        isinstance(value, ast.Call)
        and value.name == "buf"
        and (len(value.arguments) < 2 or isinstance(value.arguments[1], ast.Integer))
    )


def _wakeup(low: Lowering, ring: int, record_bytes: int) -> str:
    """The flag that wakes the reader up when as much is waiting as is worth it, and again when it has grown so much.

    A wake-up costs more than the event: the reader would otherwise run for each.
    """
    emit = low.emit
    waiting = emit.call(Helper.RINGBUF_QUERY, emit.map(ring), f"i64 {_AVAILABLE}")
    # No record is larger than the window that the count has to be in after each step.
    window = max(1 << (record_bytes + 8).bit_length(), _LEAST_WINDOW)
    crossed = emit.value(f"icmp ult i64 {emit.op('and', waiting, str(EVENT_WAKEUP_BYTES - 1))}, {window}")
    much = emit.value(f"icmp uge i64 {waiting}, {EVENT_WAKEUP_BYTES}")
    return emit.select(emit.value(f"and i1 {crossed}, {much}"), str(_FORCE_WAKEUP), str(_NO_WAKEUP))


def _fill(
    low: Lowering,
    layout: RecordLayout,
    record: str,
    head: str,
    registers: Sequence[str],
    values: Sequence[ast.Expression],
) -> None:
    """Write the fields in place."""
    emit = low.emit
    emit.store(head, record)
    for index, kind in enumerate(layout.fields.elements):
        pointer = emit.offset(record, 8 + layout.fields.offset(index))
        if registers[index]:
            emit.store(registers[index], pointer)
        elif not isinstance(kind, Variable):
            low.store(values[index - len(EVENT_HEAD)], pointer)


def _reserve(
    low: Lowering, layout: RecordLayout, head: str, registers: Sequence[str], values: Sequence[ast.Expression]
) -> str:
    """Send a record of fixed size: i1, whether it was lost."""
    emit = low.emit
    record = emit.call(Helper.RINGBUF_RESERVE, emit.map(layout.ring), f"i64 {layout.size}", "i64 0", answers="ptr")
    begun, room, end = emit.block_name, emit.label(), emit.label()
    emit.branch_if(emit.is_null(record), end, room)
    emit.block(room)
    _fill(low, layout, record, head, registers, values)
    emit.call(Helper.RINGBUF_SUBMIT, f"ptr {record}", f"i64 {_wakeup(low, layout.ring, layout.size)}")
    sent = emit.block_name
    emit.block(end)
    return emit.phi("i1", ("true", begun), ("false", sent))
