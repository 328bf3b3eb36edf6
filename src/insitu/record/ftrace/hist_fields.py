"""Keys and values of histogram triggers (Documentation/trace/histogram.rst), checked against the event's format."""

from __future__ import annotations

import re
from typing import Final, Literal

from msgspec import Struct

from insitu.errors import nearest
from insitu.kernel.tracefs import EventFormat, Field
from insitu.probe.source import ScriptError, Source, Span
from insitu.record.ftrace.event_fields import declared, field_kind, find_field, unknown_field

__all__ = ["MOST_KEYS", "MOST_VALUES", "HistField", "Role", "hist_field"]

Role = Literal["key", "value", "variable"]

MOST_KEYS: Final = 3  # TRACING_MAP_KEYS_MAX
MOST_VALUES: Final = 2  # TRACING_MAP_VALS_MAX, but for hitcount
_MOST_BUCKET: Final = 1 << 31

# Not fields of the record; hist_field_name() of kernel/trace/trace_events_hist.c prints them as they are here.
_OF_EVERY_EVENT: Final = {
    "common_timestamp": "common_timestamp",
    "common_cpu": "common_cpu",
    "cpu": "common_cpu",
    "CPU": "common_cpu",
    "stacktrace": "common_stacktrace",
    "common_stacktrace": "common_stacktrace",
    "hitcount": "hitcount",
}
_KEYS: Final = ("hex", "sym", "sym-offset", "execname", "syscall", "log2", "usecs", "buckets")
_MODIFIERS: Final[dict[Role, tuple[str, ...]]] = {
    "key": _KEYS,
    "value": ("hex", "percent", "graph"),
    "variable": ("usecs", "hex", "sym", "execname", "syscall"),
}
_WORD: Final = re.compile(r"(?P<name>\w+)(?:\.(?P<modifier>[\w-]*)(?:=(?P<size>\w*))?)?", re.ASCII)


class HistField(Struct, frozen=True):
    """A key or value: ``field`` is None for what is not in the record (``name`` says what)."""

    name: str
    field: Field | None
    modifier: str = ""
    bucket: int = 0

    @property
    def is_stack(self) -> bool:
        """Whether it is the kernel stack."""
        return self.name == "common_stacktrace"

    @property
    def is_text(self) -> bool:
        """Whether its values are text; a pointer to text is a number to the kernel's histograms."""
        return self.field is not None and field_kind(self.field) == "text"

    @property
    def is_pointer_to_text(self) -> bool:
        """Whether its values are addresses of text."""
        return self.field is not None and field_kind(self.field) == "pointer to text"

    @property
    def is_signed(self) -> bool:
        """Whether its values may be negative."""
        return self.field is not None and self.field.signed

    @property
    def text(self) -> str:
        """As users and the kernel write it; one before 6.3 has the stack by its short name alone."""
        size = f"={self.bucket}" if self.bucket else ""
        return (
            f"{self.name.replace('common_stacktrace', 'stacktrace')}{'.' * bool(self.modifier)}{self.modifier}{size}"
        )


def hist_field(source: Source, span: Span, event: EventFormat, role: Role) -> HistField:
    """Read ``FIELD[.MODIFIER]`` at ``span``. :raises ScriptError: for what the kernel would refuse."""
    text = source.text[span.start : span.end]
    found = _WORD.fullmatch(text)
    if not found:
        raise ScriptError(f"{text!r} is not a field with a modifier", source, span, remedy="such as bytes_req.log2")
    name = found["name"]
    at = Span(span.start, span.start + len(name))
    field = next((each for each in event.fields if each.name == name), None)
    if field is None and name not in _OF_EVERY_EVENT:
        field = find_field(event, name)
        if field is None or name in ("comm", "COMM"):  # filters have them
            raise unknown_field(event, name, source, at)
    made = HistField(name if field else _OF_EVERY_EVENT[name], field)
    _check_role(made, role, source, at)
    if found["modifier"] is None:
        return made
    modifier, bucket = found["modifier"], 0
    where = Span(at.end, span.end)
    if modifier not in _MODIFIERS[role]:
        fitting = ", ".join(f".{each}" for each in _MODIFIERS[role])
        other = f"; .{modifier} is not for a {role}" if any(modifier in each for each in _MODIFIERS.values()) else ""
        raise ScriptError(
            f"unknown modifier .{modifier}{other or nearest(modifier, _MODIFIERS[role])}",
            source,
            where,
            remedy=f"modifiers of a {role}: {fitting}",
        )
    if (modifier == "buckets") != (found["size"] is not None):
        raise ScriptError(".buckets=N needs a size, other modifiers none", source, where)
    if modifier == "buckets":
        if not found["size"].isdecimal() or not 0 < int(found["size"][:11]) < _MOST_BUCKET:
            raise ScriptError(f"{found['size']!r} is not a size of buckets", source, where)
        bucket = int(found["size"])
    _check_modifier(made, modifier, source, where)
    return HistField(made.name, field, modifier, bucket)


def _check_role(found: HistField, role: Role, source: Source, span: Span) -> None:
    kind = field_kind(found.field) if found.field else ""
    if found.name == "hitcount" and role != "value":
        raise ScriptError(f"hitcount is a value, not a {role}", source, span)
    if found.field is not None and kind in ("array", "cpu mask"):
        raise ScriptError(f"{declared(found.field)} cannot be a {role}", source, span)
    if role == "value" and (found.is_text or found.is_stack):
        what = declared(found.field) if found.field else "a stack"
        raise ScriptError(f"{what} cannot be added up", source, span, remedy="it can be a key")


def _check_modifier(found: HistField, modifier: str, source: Source, span: Span) -> None:
    if found.is_text or found.is_stack:
        what = declared(found.field) if found.field else "the stack"
        raise ScriptError(f".{modifier} is for numbers, not {what}", source, span)
    if modifier == "execname" and found.name != "common_pid":
        raise ScriptError(".execname is for common_pid", source, span)
    if modifier == "usecs" and found.name != "common_timestamp":
        raise ScriptError(".usecs is for common_timestamp", source, span)
