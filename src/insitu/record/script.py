"""Keeps what a script of the probe language finds out in a session: event.LABEL, map.NAME and lost."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from insitu.probe.output.formatting import Formatter
from insitu.probe.runtime.frames import map_frame
from insitu.probe.runtime.map_content import read_map
from insitu.probe.runtime.run import Runtime
from insitu.session import store

if TYPE_CHECKING:
    from insitu.probe.runtime.events import Events

__all__ = ["ScriptSession"]

_PART_BYTES = 32 << 20


class ScriptSession:
    """A session that is being written. Events are written in parts as they come; every part is whole at once."""

    def __init__(self, path: Path) -> None:
        """Make the session. :raises InsituError: when something else is in the way."""
        self.path = path
        self._parts: dict[str, int] = {}
        self._events: Events | None = None
        description = {
            "kind": "script",
            "host": socket.gethostname(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "command_line": sys.argv,
            "start_ns": time.monotonic_ns(),
            "start_realtime_ns": time.time_ns(),
        }
        store.create(path, description)

    def begun(self, runtime: Runtime, formatter: Formatter) -> None:
        """Called before anything is attached."""
        from insitu.probe.runtime.events import Events

        self._events = Events(runtime.recording_layout(), runtime.stack_reader(), formatter)
        runtime.take_events = self._events.log.append

    def passed(self, runtime: Runtime, formatter: Formatter) -> None:
        """Called after each look at the rings: write what has gathered, if it is much."""
        if self._events is not None and self._events.log.pending_bytes >= _PART_BYTES:
            self._write_events(self._events)

    def finished(self, runtime: Runtime, formatter: Formatter) -> None:
        """Called at the end of the run, while its maps still exist."""
        import polars

        if self._events is not None:
            self._write_events(self._events)
        for number, layout in enumerate(runtime.compiled.layout.maps):
            if layout.is_script_map:
                frame = map_frame(layout, read_map(layout, runtime.loaded.maps[number]), formatter)
                store.write_table(self.path, f"map.{layout.name.removeprefix('@') or 'unnamed'}", frame)
        lost = runtime.lost()
        if lost:
            columns = {
                "ts_ns": [time.monotonic_ns()] * len(lost),
                "source": [what for _, what in lost],
                "cpu": [-1] * len(lost),
                "count": [count for count, _ in lost],
            }
            types = {"ts_ns": polars.Int64, "source": polars.String, "cpu": polars.Int32, "count": polars.Int64}
            store.write_table(self.path, "lost", polars.DataFrame(columns, schema=types))
        store.drop_raw(self.path)
        store.update(self.path, state=store.COMPLETE, end_ns=time.monotonic_ns())

    def _write_events(self, events: Events) -> None:
        for label, frame in events.frames(take=True).items():
            part = self._parts.get(label, 0)
            self._parts[label] = part + 1
            if part == 0 or len(frame):
                store.write_table(self.path, f"event.{label}", frame, part)
