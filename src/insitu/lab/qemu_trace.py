"""QEMU's trace events and log items (its -d option), recorded from a running guest into a session table."""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.lab.guests.running_guests import Running
from insitu.lab.qmp import Qmp
from insitu.session.directory import created_whole, refuse_in_the_way
from insitu.session.manifest import Manifest
from insitu.session.special_tables import QEMU_EVENT

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

    Lines of log items have no timestamp and get that of the preceding event, or of the start. Raises InsituError for
    unknown events or items, and if something else than a session is at ``output``.
    """
    refuse_in_the_way(output, procfs)
    log = guest.directory / "qemu.log"
    with Qmp(guest.directory / "qmp2") as qmp:
        for pattern in patterns:
            if not qmp.execute("trace-event-get-state", name=pattern):
                raise InsituError(f"QEMU has no trace event {pattern!r}", remedy="insitu lab trace --list")
        start = log.stat().st_size
        manifest = Manifest.here(
            procfs,
            sources=[{"id": "qemu", "kind": "qemu", "options": {"guest": guest.name, "kernel": guest.release}}],
        )
        try:
            for pattern in patterns:
                qmp.execute("trace-event-set-state", name=pattern, enable=True)
            if items:
                complaint = qmp.human(f"log {','.join(items)}").strip()
                if complaint:
                    raise InsituError(f"QEMU cannot log {','.join(items)}", remedy="insitu lab trace --list")
            time.sleep(seconds)
        finally:
            for pattern in patterns:
                qmp.execute("trace-event-set-state", name=pattern, enable=False)
            if items:
                qmp.human("log none")
    with log.open("rb") as file:
        file.seek(start)
        text = file.read(_MAX_LOG_BYTES).decode(errors="replace")
        unread = log.stat().st_size - file.tell()
    notes = [f"{unread} bytes of QEMU's log were not read: it is larger than 256 MiB"] if unread > 0 else []
    events = parse_trace(text, manifest.start_realtime_ns)
    end_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    _write(output, manifest.changed(end_ns=end_ns, notes=notes), events)
    return len(events)


def _write(output: Path, manifest: Manifest, events: list[TraceEvent]) -> None:
    from insitu.session.writer import SessionWriter

    offset = manifest.start_ns - manifest.start_realtime_ns
    with created_whole(output, manifest, procfs) as session, SessionWriter.on_disk(session) as writer:
        columns = {
            "ts_ns": [event.realtime_ns + offset for event in events],
            "name": [event.name for event in events],
            "text": [event.text for event in events],
        }
        writer.append(QEMU_EVENT, columns)
        writer.finish()


def parse_trace(text: str, start_realtime_ns: int = 0) -> list[TraceEvent]:
    """The trace events in QEMU's log, in order; other lines become events named ``log``."""
    events: list[TraceEvent] = []
    now = start_realtime_ns
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match:
            now = int(match[1]) * 1_000_000_000 + int(match[2]) * 1000
            events.append(TraceEvent(now, match[3], match[4]))
        elif line.strip():
            events.append(TraceEvent(now, "log", line))
    return events
