"""Records a run into a directory, as bytes that are decoded afterwards.

``events.records`` is what the ring of events held, byte for byte; ``stacks.records`` are the stacks that fields and
maps mean by id; ``maps.records`` is what the maps held at the end. ``Capture.layout()`` says how to read them.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insitu.files import new_file
from insitu.probe.runtime.map_records import map_records
from insitu.probe.runtime.record_log import RecordLog
from insitu.probe.runtime.run import Runtime

__all__ = ["EVENTS", "MAPS", "STACKS", "Capture"]

EVENTS, STACKS, MAPS = "events.records", "stacks.records", "maps.records"
# A recorder that is killed loses at most what came within this time.
_STACKS_EVERY_S = 1.0


class Capture:
    """What a run records. Use: start() before anything is attached, drain() once a second or more, finish(), close().

    Events that are a second old are in their file by then; so are the stacks that they mean by id, or those of the
    next second.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._poll: select.epoll | None = None
        self._directory = Path()
        self._stacks = runtime.stack_reader() if runtime.keeps_stacks else None
        self._stacks_read_s = 0.0
        self._logs: dict[str, RecordLog] = {}
        self._counted = 0

    def layout(self) -> Mapping[str, Any]:
        """What has to be written as layout.json: plain JSON."""
        return self._runtime.recording_layout()

    @property
    def fds(self) -> list[int]:
        """What becomes readable when it is time to drain."""
        if self._poll is None:
            self._poll = self._runtime.waiting_for_records()
        return [self._poll.fileno()]

    @property
    def bytes_written(self) -> int:
        """Bytes of all records so far."""
        return sum(log.bytes_written for log in self._logs.values())

    def start(self, directory: Path) -> None:
        """Take the run's events from now on, into files in a directory that exists. Raises OSError."""
        self._directory = directory
        if self._runtime.compiled.layout.labels:
            self._runtime.take_events = self._log(EVENTS).append

    def drain(self) -> int:
        """Move what has gathered to the files: bytes. Raises OSError when the disk is full."""
        if self._poll is not None:
            self._poll.poll(0)  # edges are seen once they have been asked for
        self._runtime.drain()
        self.drained()
        return self._new_bytes()

    def drained(self) -> None:
        """To be called after Runtime.drain(): writes the stacks that came, once a second."""
        if self._stacks is not None and time.monotonic() - self._stacks_read_s >= _STACKS_EVERY_S:
            self._write_stacks()

    def finish(self) -> int:
        """Write what the maps hold and the last stacks, when nothing is attached any more: bytes. Raises OSError."""
        found = map_records(self._runtime.compiled.layout, self._runtime.loaded.maps)
        if found:
            self._log(MAPS).append(found)
        self._write_stacks()
        return self._new_bytes()

    def close(self) -> None:
        """Close the files. Idempotent."""
        for log in self._logs.values():
            os.close(log.fd)
        self._logs.clear()
        if self._poll is not None:
            self._poll.close()
            self._poll = None

    def _new_bytes(self) -> int:
        before, self._counted = self._counted, self.bytes_written
        return self._counted - before

    def _write_stacks(self) -> None:
        if self._stacks is not None:
            found = self._stacks.new()
            if found:
                self._log(STACKS).append(found)
            self._stacks_read_s = time.monotonic()

    def _log(self, name: str) -> RecordLog:
        if name not in self._logs:
            self._logs[name] = RecordLog(new_file(self._directory / name))
        return self._logs[name]
