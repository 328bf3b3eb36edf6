"""Histograms of an event: what to count by what, and the kernel's ``hist`` file read back (histogram.rst)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from insitu.errors import InsituError
from insitu.kernel.tracefs import EventFormat
from insitu.probe.source import ScriptError, Source, Span
from insitu.record.ftrace.filters import Filter, parse_filter
from insitu.record.ftrace.hist_fields import MOST_KEYS, MOST_VALUES, HistField, hist_field

__all__ = [
    "MOST_ENTRIES",
    "Histogram",
    "HistogramRequest",
    "Row",
    "added_since",
    "histogram_request",
    "parse_hist",
    "trigger_text",
]

MOST_ENTRIES: Final = 1 << 17  # TRACING_MAP_BITS_MAX
_LEAST_ENTRIES: Final = 1 << 7
_MOST_FRAMES: Final = 64
_TOTAL: Final = re.compile(r"^ {4}(Hits|Entries|Dropped): (\d{1,20})$", re.MULTILINE)

Key = int | str | tuple[str, ...]
"""Of a row: a number, text, or a stack's functions with the innermost first."""


class HistogramRequest(Struct, frozen=True):
    """What to count."""

    event: EventFormat
    keys: tuple[HistField, ...]
    values: tuple[HistField, ...]
    where: Filter | None = None
    entries: int = 1 << 13


class Row(Struct, frozen=True):
    """One entry: so many hits, and the sum of each value."""

    keys: tuple[Key, ...]
    hits: int
    values: tuple[int, ...]


class Histogram(Struct, frozen=True):
    """All entries. ``hits`` counts every event, ``dropped`` those that found no free entry."""

    request: HistogramRequest
    rows: tuple[Row, ...]
    hits: int
    dropped: int
    damaged: int = 0
    """Entries that the kernel has and its text did not show as such."""


def histogram_request(
    event: EventFormat,
    keys: Sequence[str],
    values: Sequence[str] = (),
    where: str | None = None,
    entries: int = 1 << 13,
    *,
    cpus: int = 0,
) -> HistogramRequest:
    """Check what a user asks for. ``keys`` and ``values`` are FIELD[.MODIFIER], or several with commas between.

    :raises InsituError: for what the event does not have, or the kernel does not do.
    """
    made_keys = _fields("--key", ",".join(keys), event)
    made_values = tuple(each for each in _fields("--value", ",".join(values), event) if each.name != "hitcount")
    if not made_keys:
        raise InsituError("a histogram needs a key", remedy="--key FIELD, such as common_pid or stacktrace", status=2)
    for what, found, most in (("--key", made_keys, MOST_KEYS), ("--value", made_values, MOST_VALUES)):
        if len(found) > most:
            raise InsituError(f"{what}: the kernel takes at most {most} of them", status=2)
        if len({each.name for each in found}) < len(found):
            raise InsituError(f"{what}: a field is given twice", status=2)
    if not _LEAST_ENTRIES <= entries <= MOST_ENTRIES:
        raise InsituError(f"a histogram has {_LEAST_ENTRIES} to {MOST_ENTRIES} entries", status=2)
    checked = parse_filter(where, event, cpus=cpus, name="--where") if where is not None else None
    return HistogramRequest(event, made_keys, made_values, checked, entries)


def _fields(option: str, text: str, event: EventFormat) -> tuple[HistField, ...]:
    source, at, found = Source(text, option), 0, []
    for word in text.split(",") if text else ():
        field = hist_field(source, Span(at, at + len(word)), event, "key" if option == "--key" else "value")
        if option == "--value" and field.modifier:
            raise ScriptError("values are shown as numbers; their shares too", source, Span(at, at + len(word)))
        found.append(field)
        at += len(word) + 1
    return tuple(found)


def trigger_text(request: HistogramRequest, *, command: str = "") -> str:
    """The trigger of a request; ``command`` ("pause", "continue") is for one that is there."""
    values = "".join(f",{each.text}" for each in request.values)
    size = 1 << (request.entries - 1).bit_length()
    parts = [f"hist:keys={','.join(each.text for each in request.keys)}", f"vals=hitcount{values}", f"size={size}"]
    text = ":".join([*parts, command] if command else parts)
    return f"{text} if {request.where.text}" if request.where else text


def parse_hist(text: str, request: HistogramRequest) -> Histogram:
    """Read an event's ``hist`` file. :raises InsituError: when it is not one."""
    totals = {name: int(number) for name, number in _TOTAL.findall(text[text.rfind("\nTotals:") + 1 :])}
    if totals.keys() != {"Hits", "Entries", "Dropped"}:
        raise InsituError(f"cannot read the histogram of {request.event.name}: it has no totals")
    rows = []
    for found in _pattern(request).finditer(text):
        groups = iter(found.groups())
        keys = tuple(_key(key, next(groups)) for key in request.keys)
        hits = int(next(groups))
        sums = tuple(_number(each, int(next(groups))) for each in request.values)
        rows.append(Row(keys, hits, sums))
    missing = max(0, totals["Entries"] - len(rows))
    return Histogram(request, _added_up(rows), totals["Hits"], totals["Dropped"], missing)


def added_since(before: Histogram | None, now: Histogram) -> Histogram:
    """What has been counted between two readings of a histogram; ``before`` None: since it began."""
    if before is None:
        return now
    known = {row.keys: row for row in before.rows}
    none = Row((), 0, (0,) * len(now.request.values))
    rows = []
    for row in now.rows:
        old = known.get(row.keys, none)
        if row.hits != old.hits:
            sums = tuple(a - b for a, b in zip(row.values, old.values, strict=True))
            rows.append(Row(row.keys, row.hits - old.hits, sums))
    return Histogram(now.request, tuple(rows), now.hits - before.hits, now.dropped - before.dropped, now.damaged)


def _added_up(rows: list[Row]) -> tuple[Row, ...]:
    """The rows of equal keys as one: a function has an entry for each address in it."""
    found: dict[tuple[Key, ...], Row] = {}
    for row in rows:
        known = found.get(row.keys)
        if known is not None:
            sums = (a + b for a, b in zip(known.values, row.values, strict=True))
            row = Row(row.keys, known.hits + row.hits, tuple(sums))
        found[row.keys] = row
    return tuple(found.values())


def _pattern(request: HistogramRequest) -> re.Pattern[str]:
    keys = ", ".join(f"{_name(key)}: ?{_shape(key)}" for key in request.keys)
    values = "".join(rf" {{1,2}}{_name(value)}: {{1,20}}(\d{{1,20}})" for value in request.values)
    return re.compile(rf"^\{{ {keys} ?\}} {{1,2}}hitcount: {{1,20}}(\d{{1,20}}){values}", re.MULTILINE)


def _name(field: HistField) -> str:
    """The name that the kernel prints; before 6.3 some without their prefix."""
    if field.field is None and field.name.startswith("common_"):
        return f"(?:common_)?{field.name.removeprefix('common_')}"
    return re.escape(field.name)


def _shape(key: HistField) -> str:
    """What hist_trigger_print_key() of trace_events_hist.c prints of a key, as one group."""
    if key.is_stack:
        return rf"\n((?:[ \t]{{1,32}}[^ \t\n][^\n]{{0,511}}\n){{0,{_MOST_FRAMES}}})"
    if key.is_text:
        return r"([^\n]{0,300}?)"
    return {
        "hex": r" {0,20}([0-9a-f]{1,16})",
        "sym": r"\[[0-9a-f]{1,16}\] ([^\n]{0,600}?)",
        "sym-offset": r"\[[0-9a-f]{1,16}\] ([^\n]{0,600}?)",
        "execname": r"([^\n]{0,40}?\[ {0,20}\d{1,20}\])",
        "syscall": r"(\S{0,128} {0,40}\[ {0,20}\d{1,20}\])",
        "log2": r"~ (2\^\d{1,2}) {0,2}",
        "buckets": r"~ (\d{1,20})-\d{1,20}",
    }.get(key.modifier, r" {0,20}(\d{1,20})")


def _key(key: HistField, text: str) -> Key:
    if key.is_stack:
        return tuple(line.strip() for line in text.splitlines())
    if key.is_text or key.modifier in ("sym", "sym-offset", "log2"):
        return text.strip()
    if key.modifier in ("execname", "syscall"):
        name, _, number = text.rpartition("[")
        return f"{name.strip()} [{number.strip(' ]')}]"
    if key.modifier == "hex":
        return f"{int(text, 16):#x}"
    return _number(key, int(text))


def _number(field: HistField, value: int) -> int:
    """The kernel prints all numbers without sign, of 64 bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if field.is_signed and value >> 63 else value
