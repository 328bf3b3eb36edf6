"""Event triggers (Documentation/trace/events.rst, histogram.rst), checked before the kernel sees them.

``COMMAND[:N] [if FILTER]``: traceon, traceoff, snapshot, stacktrace, enable_event:SYS:EVENT, disable_event:SYS:EVENT,
enable_hist and disable_hist likewise, and hist: see hist_trigger.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final

from msgspec import Struct

from insitu.errors import nearest
from insitu.kernel.tracefs import EventFormat
from insitu.probe.source import ScriptError, Source, Span
from insitu.record.ftrace.event_fields import event_at
from insitu.record.ftrace.filters import Filter, filter_at
from insitu.record.ftrace.hist_trigger import HistTrigger, hist_trigger

__all__ = ["Trigger", "parse_trigger"]

_MOST_BYTES: Final = 4095  # event_trigger_regex_write(): less than a page
_PLAIN: Final = ("traceon", "traceoff", "snapshot", "stacktrace")
_OF_EVENT: Final = ("enable_event", "disable_event", "enable_hist", "disable_hist")
_IF: Final = re.compile(r"\sif(?=\s|$)")


class Trigger(Struct, frozen=True):
    """A trigger that suits its event. ``text`` is what is written to the event's trigger file."""

    command: str
    text: str
    where: Filter | None = None
    event: tuple[str, str] | None = None
    """Category and name of the event that it enables or disables."""
    hist: HistTrigger | None = None

    @property
    def removal(self) -> str:
        """What removes it."""
        return f"!{self.text}"


def parse_trigger(
    text: str,
    event: EventFormat,
    events: Callable[[str, str], EventFormat],
    *,
    variables: Collection[str] = (),
    cpus: int = 0,
    name: str = "--trigger",
) -> Trigger:
    """Read a trigger of ``event``. ``events`` returns the format of another event, or raises InsituError.

    ``variables`` are those of hist triggers that are set before it.

    :raises ScriptError: with the location of what is wrong, and what would fit.
    """
    source = Source(text, name)
    text = source.text
    whole = Span(0, max(1, len(text)))
    if len(text.encode(errors="replace")) > _MOST_BYTES or "\0" in text or "\n" in text.strip():
        raise ScriptError(f"a trigger is one line of at most {_MOST_BYTES} bytes", source, whole)
    found = _IF.search(text)
    end = found.start() if found else len(text)
    where = filter_at(source, found.end(), event, cpus=cpus) if found else None
    condition = f" if {where.text}" if where else ""
    start = len(text) - len(text.lstrip())
    head = text[start:end].rstrip()
    command = re.split(r"[:\s]", head, maxsplit=1)[0]
    span = Span(start, start + max(1, len(command)))
    if command == "hist":
        hist = hist_trigger(source, Span(start, start + len(head)), event, events, variables)
        return Trigger(command, hist.text + condition, where, None, hist)
    if command not in (*_PLAIN, *_OF_EVENT):
        hint = nearest(command, (*_PLAIN, *_OF_EVENT, "hist"))
        commands = ", ".join((*_PLAIN, *(f"{each}:SYS:EVENT" for each in _OF_EVENT), "hist:keys=..."))
        raise ScriptError(f"unknown trigger {command!r}{hint}", source, span, remedy=f"triggers: {commands}")
    if " " in head or "\t" in head:
        at = start + min(head.find(each) for each in " \t" if each in head)
        raise ScriptError("expected 'if FILTER' after the trigger", source, Span(at + 1, at + 2))
    words = head.split(":")
    other = None
    if command in _OF_EVENT:
        other = _event(words[1:3], source, Span(start, start + len(head)), events)
    rest = words[3:] if other else words[1:]
    if len(rest) > 1 or (rest and not _is_count(rest[0])):
        at = start + len(head) - len(":".join(rest))
        what = "expected how often: a number above 0"
        raise ScriptError(what, source, Span(at, start + len(head)), remedy=f"such as {command}:5")
    shown = ":".join([command, *(other or ()), *(str(int(count)) for count in rest)])
    return Trigger(command, shown + condition, where, other)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0


def _event(
    words: list[str], source: Source, span: Span, events: Callable[[str, str], EventFormat]
) -> tuple[str, str]:
    if len(words) < 2 or not all(words):
        raise ScriptError("expected :CATEGORY:EVENT", source, span, remedy="such as enable_event:sched:sched_switch")
    event_at(events, words[0], words[1], source, span)
    return words[0], words[1]
