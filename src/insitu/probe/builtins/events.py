"""emit(): typed events. What a field may be, and how those are written that take the bytes they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.aggregations import Aggregation
from insitu.probe.builtins.record_parts import append_part
from insitu.probe.builtins.registry import Builtin, function
from insitu.probe.builtins.stacks import check_copied_stack
from insitu.probe.codegen.event_records import send_event
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.process import both_ids
from insitu.probe.codegen.records import computed, send
from insitu.probe.layout import EVENT_HEAD
from insitu.probe.passes.check.dialect import holds_element
from insitu.probe.passes.check.unify import unify
from insitu.probe.types import VOID, Stack, Tuple, Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]

_MOST_LABEL = 100  # characters: it becomes a directory's name
_SYSTEM_COLUMNS = ("ts_ns", "cpu", "tid", "pid", "utid", "upid")


def _check_emit(checker: Checker, call: ast.Call) -> Type:
    label = checker.text(call.arguments[0], "the label of emit()")
    plain = label.replace("_", "a").replace(".", "a")
    if not (plain.isascii() and plain.isalnum() and len(plain) <= _MOST_LABEL):
        message = f"a label is made of up to {_MOST_LABEL} letters, digits, '_' and '.'"
        raise checker.error(message, call.arguments[0])
    fields = checker.argument(call, 1)
    if not isinstance(fields, ast.TupleLiteral) or not fields.names:
        raise checker.error('emit() takes named values, as in emit("open", (path=str(args.filename), fd=3))', fields)
    for name, element in zip(fields.names, fields.elements, strict=True):
        if name in _SYSTEM_COLUMNS:
            remedy = "leave it out, or use another name"
            raise checker.error(f"every event has a column {name} of its own", element, remedy=remedy)
    kinds = tuple(_field_type(checker, element) for element in fields.elements)
    fields.type = Tuple(kinds, tuple(fields.names))
    if checker.strict:
        _check_same_fields(checker, call, label, fields)
    return VOID


def _field_type(checker: Checker, node: ast.Expression) -> Type:
    """The type of a field of an event."""
    copied = check_copied_stack(checker, node)
    if copied is not None:
        if checker.options.events == "print":
            raise checker.error("only a session unwinds ustack(dwarf)", node, remedy="-o RUN.insitu")
        node.type = copied
        return copied
    found = checker.known(node)
    if found == VOID or isinstance(found, Aggregation) or holds_element(found):
        raise checker.error(f"an event cannot hold {'nothing' if found == VOID else found}", node)
    if isinstance(found, Stack) and found.mode == "build_id":
        raise checker.error("events have the addresses of stacks: write ustack", node)
    checker.copied(found, node)
    return found


def _check_same_fields(checker: Checker, call: ast.Call, label: str, fields: ast.TupleLiteral) -> None:
    """All events of a label have the same columns: those of the one that comes first in the script."""
    assert isinstance(fields.type, Tuple) and fields.names is not None
    first, known = checker.events.setdefault(label, (call, fields.type))
    where = checker.source.where(first.span)
    if known.names != fields.type.names:
        had = ", ".join(known.names or ())
        raise checker.error(f'emit("{label}") has other fields at {where}: {had}', call)
    elements = [_unified_field(*each) for each in zip(known.elements, fields.type.elements, strict=True)]
    for name, element, old, new in zip(fields.names, fields.elements, known.elements, elements, strict=True):
        if new is None:
            message = f'{name} of emit("{label}") is {old} at {where}, {element.type} here'
            raise checker.error(message, element)
    checker.events[label] = (first, Tuple(tuple(each for each in elements if each is not None), known.names))


def _unified_field(old: Type, new: Type) -> Type | None:
    if isinstance(old, Stack) and isinstance(new, Stack):
        # The frames themselves travel, however many.
        return old if old.user == new.user and (old.mode == "dwarf") == (new.mode == "dwarf") else None
    return unify(old, new)


def _emit(low: Lowering, call: ast.Call) -> str:
    fields = call.arguments[1]
    assert isinstance(fields, ast.TupleLiteral) and fields.names is not None
    label = low.text(call.arguments[0])
    if low.options.events == "record":
        send_event(low, label, fields.names, fields.elements, append_part)
    elif low.prints_events:
        names = (*EVENT_HEAD, *fields.names)
        head = [low.emit.call(Helper.KTIME_GET_NS), both_ids(low)]
        send(low, "event", label, fields.elements, append_part, names=names, head=head)
    else:
        low.layout.drops_events = True
        with low.temporaries():
            for each in fields.elements:
                if ast.has_effects(each):
                    computed(low, each)
    return "0"


BUILTINS: tuple[Builtin, ...] = (*function("emit", (2, 2), _check_emit, value=_emit, statement=True),)
