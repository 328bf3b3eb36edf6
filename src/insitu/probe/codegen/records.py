"""Lowers the sending of a record: reserved in the ring, filled there, submitted. A full ring is counted."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from insitu.probe import ast
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.codegen.maps import count_lost, count_lost_if
from insitu.probe.codegen.record_parts import Append, output, parts_of
from insitu.probe.layout import LOST_RING_FULL, RecordLayout
from insitu.probe.source import Span
from insitu.probe.types import UINT64, String, Tuple, Type, Variable, is_scalar, stored_size

__all__ = ["computed", "computed_first", "located", "send", "send_filled", "send_values", "warn"]

# A string that may be longer takes the bytes it has: a ring holds many more records then.
_KEPT_IN_PLACE = 64


def send(
    low: Lowering,
    kind: str,
    text: str,
    values: Sequence[ast.Expression],
    append: Append,
    *,
    numbers: tuple[int, ...] = (),
    names: tuple[str, ...] = (),
    head: Sequence[str] = (),
) -> None:
    """Send a record of this kind with the values of expressions, stored in their own types, long strings appended.

    ``head``: i64 registers that are stored in front of them.
    """
    with low.temporaries():
        values = computed_first(low, values)
        types: list[Type] = [UINT64] * len(head)
        for value in values:
            assert value.type is not None
            is_long = isinstance(value.type, String) and value.type.capacity > _KEPT_IN_PLACE
            types.append(Variable(value.type) if is_long else value.type)
        layout = RecordLayout(kind, text, Tuple(tuple(types)), numbers, names, low.layout.ring_map())
        # Scalars first: as few instructions as possible between reserve and submit. Larger values are written
        # straight into the record.
        fields: list[ast.Expression | None] = [*(None for _ in head), *values]
        scalars = dict(enumerate(head))
        scalars |= {i: low.value(v) for i, v in enumerate(fields) if v and v.type is not None and is_scalar(v.type)}

        def fill(index: int, pointer: str) -> None:
            value = fields[index]
            if index in scalars:
                low.emit.store(scalars[index], pointer)
            elif value is not None and not isinstance(types[index], Variable):
                low.store(value, pointer)

        parts = parts_of(layout.fields, fields)
        if parts:
            lost = output(low, layout, parts, append, lambda record: _fill(low, layout, record, fill))
            count_lost_if(low, lost, LOST_RING_FULL)
        else:
            send_filled(low, layout, fill)


def computed_first(low: Lowering, values: Sequence[ast.Expression]) -> list[ast.Expression]:
    """The values of a record, those with statements in them computed already, into variables without a name.

    Statements may end the program, which the verifier refuses while a record is reserved, and send records of their
    own, which come first then.
    """
    return [computed(low, each) if _has_statements(each) else each for each in values]


def _has_statements(value: ast.Expression) -> bool:
    return any(isinstance(each, ast.Statement) for each in ast.walk(value))


def computed(low: Lowering, value: ast.Expression) -> ast.Expression:
    """The value, computed here, in a variable without a name."""
    assert value.type is not None
    found = ast.Variable(value.span, f"computed {low.emit.label()}")
    found.type = value.type
    pointer = low.temporary(stored_size(value.type))
    low.store(value, pointer)
    low.variables[found.name], low.variable_types[found.name] = pointer, value.type
    return found


def send_values(
    low: Lowering, kind: str, text: str, registers: Sequence[str] = (), *, numbers: tuple[int, ...] = ()
) -> None:
    """Send a record whose fields are i64 registers."""
    types = Tuple((UINT64,) * len(registers))
    layout = RecordLayout(kind, text, types, numbers, ring=low.layout.ring_map())
    send_filled(low, layout, lambda index, pointer: low.emit.store(registers[index], pointer))


def located(low: Lowering, span: Span) -> str:
    """Where in the script a message belongs, as bpftrace writes it."""
    _, column = low.source.line_column(span.start)
    return f"{low.source.where(span)}-{column + span.end - span.start}"


def warn(low: Lowering, text: str, values: Sequence[tuple[Type, str]]) -> None:
    """Send a warning that belongs to the expression that is lowered now."""
    fields = Tuple(tuple(kind for kind, _ in values))
    layout = RecordLayout("warnf", text, fields, names=(located(low, low.span),), ring=low.layout.ring_map())
    send_filled(low, layout, lambda index, pointer: low.emit.store(values[index][1], pointer))


def send_filled(low: Lowering, layout: RecordLayout, fill: Callable[[int, str], None]) -> str:
    """Send a record whose fields ``fill`` writes, given number and pointer: i64 0, or -ENOSPC when it is lost."""
    emit = low.emit
    record = emit.call(Helper.RINGBUF_RESERVE, emit.map(layout.ring), f"i64 {layout.size}", "i64 0", answers="ptr")
    full, room, end = emit.label(), emit.label(), emit.label()
    emit.branch_if(emit.is_null(record), full, room)
    emit.block(room)
    _fill(low, layout, record, fill)
    emit.call(Helper.RINGBUF_SUBMIT, f"ptr {record}", "i64 0")
    sent = emit.block_name
    emit.branch(end)
    emit.block(full)
    count_lost(low, LOST_RING_FULL)
    lost = emit.block_name
    emit.block(end)
    return emit.phi("i64", ("0", sent), (str(-errno.ENOSPC), lost))


def _fill(low: Lowering, layout: RecordLayout, record: str, fill: Callable[[int, str], None]) -> None:
    """Write the number of the record's kind, and its fields."""
    low.emit.store(str(low.layout.record(layout)), record)
    for index in range(len(layout.fields.elements)):
        fill(index, low.emit.offset(record, 8 + layout.fields.offset(index)))
