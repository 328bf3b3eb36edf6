"""Keeps what a script of the probe language finds out in a session: event.LABEL, map.NAME and lost."""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insitu.probe.output.formatting import Formatter
from insitu.probe.runtime.frames import map_frame
from insitu.probe.runtime.map_content import read_map
from insitu.probe.runtime.run import Runtime
from insitu.session import store

__all__ = ["ScriptSession"]

_PART_ROWS = 500_000
# The columns that every event table has, in the types that sessions have them (session/schema.py).
_COMMON = {"ts_ns": "Int64", "cpu": "Int32", "tid": "Int32"}


class ScriptSession:
    """A session that is being written. Events are written in parts as they come; every part is whole at once."""

    def __init__(self, path: Path) -> None:
        """Make the session. :raises InsituError: when something else is in the way."""
        self.path = path
        self._parts: dict[str, int] = {}
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

    def passed(self, runtime: Runtime, formatter: Formatter) -> None:
        """Called after each look at the rings: write what has gathered, if it is much."""
        for label, table in runtime.events.items():
            if table.pending >= _PART_ROWS:
                self._write_events(label, table.columns(table.take(), formatter))

    def finished(self, runtime: Runtime, formatter: Formatter) -> None:
        """Called at the end of the run, while its maps still exist."""
        import polars

        for label, table in runtime.events.items():
            self._write_events(label, table.columns(table.take(), formatter))
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

    def _write_events(self, label: str, columns: Mapping[str, Any]) -> None:
        import polars

        part = self._parts.get(label, 0)
        self._parts[label] = part + 1
        frame = polars.DataFrame(columns).cast({name: getattr(polars, kind) for name, kind in _COMMON.items()})
        if part == 0 or len(frame):
            store.write_table(self.path, f"event.{label}", frame, part)
