"""An event's fields as filters and triggers see them: text, numbers, CPU masks, and what every event has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

from insitu.errors import InsituError, nearest
from insitu.kernel.tracefs import EventFormat, Field
from insitu.probe.source import ScriptError, Source, Span

__all__ = ["FieldKind", "declared", "event_at", "field_kind", "find_field", "unknown_field"]

FieldKind = Literal["text", "pointer to text", "number", "cpu", "cpu mask", "array"]

# trace_define_generic_fields() of kernel/trace/trace_events.c; a field of the event's own goes first.
_GENERIC: Final = {
    **{name: Field(name, "int", 0, 4, signed=True) for name in ("CPU", "cpu", "common_cpu")},
    **{name: Field(name, "char", 0, 16, signed=False, count=16) for name in ("COMM", "comm")},
}
_POINTERS_TO_TEXT: Final = ("char *", "const char *")  # as filter_assign_type() of trace_events_filter.c has it


def field_kind(field: Field) -> FieldKind:
    """What a field's values can be compared with."""
    if field.location:
        if "char" in field.declaration:
            return "text"
        return "cpu mask" if "cpumask_t" in field.declaration else "array"
    if field.count is not None:
        return "text" if "char" in field.declaration else "array"
    if field.declaration in _POINTERS_TO_TEXT:
        return "pointer to text"
    if _GENERIC.get(field.name) is field:
        return "cpu"
    return "number" if field.size in (1, 2, 4, 8) else "array"


def find_field(event: EventFormat, name: str) -> Field | None:
    """The field that the kernel finds by this name: the event's own, one that every event has, or a common one."""
    own = next((field for field in event.fields if field.name == name), None)
    return own or _GENERIC.get(name) or next((field for field in event.common if field.name == name), None)


def declared(field: Field) -> str:
    """A field as C declares it: ``char prev_comm[16]``."""
    kind = f"{field.declaration} {field.name}"
    if field.location or field.count is not None:
        kind += f"[{field.count or ''}]"
    return kind


def unknown_field(event: EventFormat, name: str, source: Source, span: Span) -> ScriptError:
    """The error for a name that no field has: the nearest, and all there are with their types."""
    names = [field.name for field in _all(event)]
    own = ", ".join(declared(field) for field in event.fields) or "none"
    common = ", ".join(field.name for field in event.common)
    return ScriptError(
        f"{event.name} has no field {name!r}{nearest(name, names)}",
        source,
        span,
        remedy=f"its fields: {own}; of every event: {common}, cpu, comm",
    )


def event_at(
    events: Callable[[str, str], EventFormat], category: str, name: str, source: Source, span: Span
) -> EventFormat:
    """The format of another event, which is named at ``span``. :raises ScriptError: if there is none."""
    try:
        return events(category, name)
    except InsituError as error:
        raise ScriptError(error.message, source, span, remedy=error.remedy) from None


def _all(event: EventFormat) -> Iterator[Field]:
    yield from event.fields
    yield from event.common
    yield from _GENERIC.values()
