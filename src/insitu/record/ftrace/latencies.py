"""Latencies between two events: a synthetic event made at matches (histogram.rst), or a BPF program."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from insitu.errors import InsituError
from insitu.kernel.tracefs import EventFormat, Field, Tracefs, event_directory
from insitu.kernel.tracefs_leftovers import leave_nothing
from insitu.kernel.tracefs_owner import owner_name
from insitu.probe.source import ScriptError, Source, Span
from insitu.record.ftrace.event_fields import declared, event_at, field_kind, find_field, unknown_field
from insitu.record.ftrace.filters import Filter, filter_at
from insitu.record.ftrace.followed_threads import FOLLOWED_THREADS
from insitu.record.ftrace.hist_fields import MOST_KEYS
from insitu.record.ftrace.histogram_script import field_value, predicate
from insitu.record.ftrace.tracepoints import write_checked

if TYPE_CHECKING:
    from insitu.kernel.trace_instance import Shared, TraceInstance
    from insitu.record.source import Target

__all__ = ["LatencyRequest", "LatencyTracing", "latency_request", "latency_script"]

_FORM: Final = re.compile(
    r"\s*(?P<begin>[\w.-]+:[\w.-]+)(?:\s+if\s+(?P<begin_if>.+?))?\s*->\s*(?P<end>[\w.-]+:[\w.-]+)"
    r"(?:\s+if\s+(?P<end_if>.+?))?\s*,\s*key\s+(?P<key>[\w\s=,]+?)(?:,?\s+show\s+(?P<show>[\w\s,]+?))?\s*",
    re.ASCII,
)
_EXAMPLE: Final = "such as 'sched:sched_waking -> sched:sched_switch, key pid=next_pid'"
_MOST_FIELDS: Final = 16
# Types of synthetic events that the kernel compares by name (synth_field_size() of trace_events_synth.c).
_SYNTHETIC_TYPES: Final = ("int", "unsigned int", "long", "unsigned long", "pid_t", "gfp_t", "bool")


class LatencyRequest(Struct, frozen=True):
    """From ``begin`` to the next ``end`` with equal keys. ``keys`` are pairs of fields; ``shown`` more of ``end``."""

    begin: EventFormat
    end: EventFormat
    keys: tuple[tuple[Field, Field], ...]
    shown: tuple[Field, ...] = ()
    begin_if: Filter | None = None
    end_if: Filter | None = None

    @property
    def label(self) -> str:
        """The last part of the table's name."""
        return f"{self.begin.name.partition(':')[2]}_to_{self.end.name.partition(':')[2]}"

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of ``end`` that each latency comes with."""
        return (*(end for _, end in self.keys), *self.shown)


def latency_request(
    text: str, events: Callable[[str, str], EventFormat], *, cpus: int = 0, name: str = "--latency"
) -> LatencyRequest:
    """Read ``BEGIN [if FILTER] -> END [if FILTER], key FIELD[=FIELD] [show FIELD,...]``.

    :raises InsituError: with the location of what is wrong.
    """
    source = Source(text, name)
    found = _FORM.fullmatch(source.text)
    if not found:
        whole = Span(0, max(1, len(source.text)))
        raise ScriptError("expected BEGIN -> END, key FIELD=FIELD", source, whole, remedy=_EXAMPLE)

    def event(part: str) -> EventFormat:
        category, _, short = found[part].partition(":")
        return event_at(events, category, short, source, Span(*found.span(part)))

    def condition(part: str, of: EventFormat) -> Filter | None:
        if found[part] is None:
            return None
        within = Source(source.text[: found.end(part)], name)
        return filter_at(within, found.start(part), of, cpus=cpus)

    begin, end = event("begin"), event("end")
    keys = []
    for word, at in _words(found, "key"):
        first, is_pair, second = word.partition("=")
        one = _field(source, begin, first.strip(), at)
        other = _field(source, end, second.strip() if is_pair else first.strip(), at)
        if field_kind(one) != field_kind(other) or one.size != other.size:
            raise ScriptError(f"{declared(one)} cannot equal {declared(other)}", source, at)
        keys.append((one, other))
    if len(keys) > MOST_KEYS:
        raise ScriptError(f"at most {MOST_KEYS} keys", source, Span(*found.span("key")))
    shown = tuple(_field(source, end, word, at) for word, at in _words(found, "show"))
    made = LatencyRequest(begin, end, tuple(keys), shown, condition("begin_if", begin), condition("end_if", end))
    if len({field.name for field in made.fields}) < len(made.fields) or len(made.fields) > _MOST_FIELDS:
        raise ScriptError("a field is named twice", source, Span(*found.span("key")))
    return made


def _words(found: re.Match[str], part: str) -> list[tuple[str, Span]]:
    words, at = [], found.start(part)
    for word in (found[part] or "").split(",") if found[part] is not None else ():
        words.append((word.strip(), Span(at, at + max(1, len(word)))))
        at += len(word) + 1
    return words


def _field(source: Source, event: EventFormat, name: str, span: Span) -> Field:
    field = find_field(event, name)
    if field is None or (field not in event.fields and name != "common_pid"):
        raise unknown_field(event, name, source, span)
    if field_kind(field) not in ("number", "text") or field.location:
        raise ScriptError(f"{declared(field)} is neither a number nor text of the record", source, span)
    return field


class LatencyTracing:
    """By triggers: the begin's time is a variable of its key; at the end a synthetic event has the difference."""

    shares: Shared = "nothing"
    _made = 0

    def __init__(self, request: LatencyRequest, tracefs: Tracefs) -> None:
        """The synthetic event is made at once; ``close`` removes it. Raises InsituError."""
        LatencyTracing._made += 1
        self._request, self._tracefs = request, tracefs
        self.dropped = 0
        """Events whose key found no free entry, once ``read_results`` has been called."""
        leave_nothing()
        self.name = f"{owner_name('_')}_{LatencyTracing._made}"
        fields = "; ".join(["u64 latency_ns", *map(_synthetic_field, request.fields)])
        try:
            tracefs.append("dynamic_events", f"s:{self.name} {fields}")
        except OSError as error:
            raise InsituError(f"cannot make a synthetic event ({fields}): {error.strerror}") from None

    @property
    def options(self) -> Mapping[str, Any]:
        """The two events and the keys."""
        keys = [f"{one.name}={other.name}" for one, other in self._request.keys]
        return {"begin": self._request.begin.name, "end": self._request.end.name, "keys": keys}

    @property
    def events(self) -> Sequence[tuple[str, str]]:
        """The synthetic event."""
        return [("synthetic", self.name)]

    def set_up(self, instance: TraceInstance, target: Target) -> None:
        """Add both triggers. Raises InsituError where the kernel refuses one; OSError."""
        for event, text, condition in self._triggers():
            path = f"{event_directory(event.name)}/trigger"
            written = f"{text} if {condition.text}" if condition else text
            write_checked(instance, path, written, written, condition.newer_syntax if condition else "")
        instance.write(f"events/synthetic/{self.name}/enable", "1")

    def read_results(self, instance: TraceInstance) -> None:
        """Read what the triggers have dropped, before the instance is removed. Raises OSError."""
        for event in (self._request.begin, self._request.end):
            text = instance.read(f"{event_directory(event.name)}/hist")
            self.dropped += sum(map(int, re.findall(r"^    Dropped: (\d{1,18})$", text, re.MULTILINE)))

    def _triggers(self) -> list[tuple[EventFormat, str, Filter | None]]:
        request = self._request
        first, second = (",".join(pair[side].name for pair in request.keys) for side in (0, 1))
        parameters = ",".join(["$lat", *(field.name for field in request.fields)])
        match = request.begin.name.replace(":", ".", 1)
        begin = f"hist:keys={first}:ts0=common_timestamp:size=131072:clock=mono"
        end = (
            f"hist:keys={second}:lat=common_timestamp-$ts0:size=131072:clock=mono"
            f":onmatch({match}).trace({self.name},{parameters})"
        )
        return [(request.begin, begin, request.begin_if), (request.end, end, request.end_if)]

    def close(self) -> None:
        """Remove the synthetic event, once its instance has gone. Raises OSError."""
        self._tracefs.append("dynamic_events", f"-:synthetic/{self.name}")


def _synthetic_field(field: Field) -> str:
    if field.count is not None:
        return f"char {field.name}[{field.count}]"
    if field.declaration in _SYNTHETIC_TYPES:
        return f"{field.declaration} {field.name}"
    return f"u{8 * field.size} {field.name}"


def latency_script(request: LatencyRequest, *, follows: bool = False) -> str:
    """A program that emits the same rows as ``request.label``.

    ``follows``: only of the threads in its map ``@target``, and those that they start; a key has to be a thread's id.

    :raises InsituError: without such a key, and for filters beyond the language.
    """
    first, second = (", ".join(field_value(pair[side]) for pair in request.keys) for side in (0, 1))
    lines = ["config = { max_map_keys = 131072; print_maps_on_exit = false }"]
    begins, ends = [], []
    if follows:
        key = next((pair for pair in request.keys if pair[1].name.endswith("pid")), None)
        if key is None:
            what = "latencies of single processes need a key that is a thread's id"
            raise InsituError(what, remedy="-a shows the latencies of the whole machine")
        lines.append(FOLLOWED_THREADS)
        begins.append(f"@target[(uint32){field_value(key[0])}]")
        ends.append(f"@target[(uint32){field_value(key[1])}]")
    begins += [predicate(request.begin_if.tree)] if request.begin_if else []
    ends += [predicate(request.end_if.tree)] if request.end_if else []
    ends.append(f"@start[{second}]")
    fields = ", ".join(f"{field.name}={field_value(field)}" for field in request.fields)
    starting = f"/{' && '.join(begins)}/ " if begins else ""
    return "\n".join(
        [
            *lines,
            f"tracepoint:{request.begin.name} {starting}{{ @start[{first}] = nsecs; }}",
            f"tracepoint:{request.end.name} /{' && '.join(ends)}/ {{",
            f"  $lat = nsecs - @start[{second}]; delete(@start, ({second}));",
            f'  emit("{request.label}", (latency_ns=$lat, {fields}));',
            "}\n",
        ]
    )
