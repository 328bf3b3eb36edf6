"""QEMU's trace events and log items (its -d option), recorded from a running guest into a session table."""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from insitu.errors import InsituError
from insitu.lab.guests.running_guests import Running
from insitu.lab.qmp import Qmp

if TYPE_CHECKING:
    import polars

__all__ = ["TraceEvent", "list_events", "list_log_items", "parse_trace", "record_trace"]

# The "log" trace backend's lines, with -msg timestamp=on: PID@SECONDS.MICROSECONDS:EVENT ARGUMENTS
_LINE: Final = re.compile(r"\d+@(\d{1,12})\.(\d{6}):(\w+) ?(.*)")
_MAX_LOG_BYTES: Final = 256 << 20


@dataclass(frozen=True)
class TraceEvent:
    """One trace event: CLOCK_REALTIME in nanoseconds, the event's name and its arguments as QEMU prints them."""

    realtime_ns: int
    name: str
    text: str


def list_events(guest: Running, pattern: str = "*") -> list[str]:
    """The names of QEMU's trace events that match a pattern such as ``virtio_*``, sorted."""
    with Qmp(guest.directory / "qmp2") as qmp:
        return sorted(event["name"] for event in qmp.execute("trace-event-get-state", name=pattern))


def list_log_items(guest: Running) -> list[str]:
    """QEMU's log items, each as "NAME  what it logs"."""
    with Qmp(guest.directory / "qmp2") as qmp:
        return qmp.human("help log").strip().splitlines()[1:]


def record_trace(guest: Running, patterns: list[str], items: list[str], seconds: float, output: Path) -> int:
    """Record trace events and log items for ``seconds`` into a session's table ``event.qemu``; returns their number.

    Lines of log items have no timestamp and get that of the preceding event. Raises InsituError for unknown events or
    items.
    """
    from insitu.session import store

    log = guest.directory / "qemu.log"
    with Qmp(guest.directory / "qmp2") as qmp:
        for pattern in patterns:
            if not qmp.execute("trace-event-get-state", name=pattern):
                raise InsituError(f"QEMU has no trace event {pattern!r}", remedy="insitu lab trace --list")
        start = log.stat().st_size
        try:
            for pattern in patterns:
                qmp.execute("trace-event-set-state", name=pattern, enable=True)
            if items:
                complaint = qmp.human(f"log {','.join(items)}").strip()
                if complaint:
                    raise InsituError(f"QEMU cannot log {','.join(items)}: {complaint.splitlines()[-1]}")
            time.sleep(seconds)
        finally:
            for pattern in patterns:
                qmp.execute("trace-event-set-state", name=pattern, enable=False)
            if items:
                qmp.human("log none")
    with log.open("rb") as file:
        file.seek(start)
        text = file.read(_MAX_LOG_BYTES).decode(errors="replace")
    events = parse_trace(text)
    store.create(output, {"command": ["insitu", "lab", "trace", guest.name], "release": guest.release})
    store.write_table(output, "event.qemu", _frame(events))
    store.drop_raw(output)
    store.update(output, state="complete")
    return len(events)


def parse_trace(text: str) -> list[TraceEvent]:
    """The trace events in QEMU's log, in order; other lines become events named ``log``."""
    events: list[TraceEvent] = []
    now = 0
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match:
            now = int(match[1]) * 1_000_000_000 + int(match[2]) * 1000
            events.append(TraceEvent(now, match[3], match[4]))
        elif line.strip():
            events.append(TraceEvent(now, "log", line))
    return events


def _frame(events: list[TraceEvent]) -> "polars.DataFrame":
    import polars

    offset = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - time.time_ns()
    return polars.DataFrame(
        {
            "ts_ns": [event.realtime_ns + offset for event in events],
            "cpu": [-1] * len(events),
            "tid": [0] * len(events),
            "name": [event.name for event in events],
            "text": [event.text for event in events],
        },
        schema={
            "ts_ns": polars.Int64,
            "cpu": polars.Int32,
            "tid": polars.Int32,
            "name": polars.String,
            "text": polars.String,
        },
    )
