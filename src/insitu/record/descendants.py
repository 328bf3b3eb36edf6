"""The threads of a command and of all that it starts, by the kernel's records of forks (PERF_RECORD_FORK)."""

from __future__ import annotations

import os
from typing import Final

from insitu.errors import InsituError
from insitu.kernel import perf_event, procfs
from insitu.kernel.perf_event import Attr, Record
from insitu.kernel.perf_records import parse, records
from insitu.kernel.perf_ring import Ring

__all__ = ["Descendants"]

_RING_PAGES: Final = 16  # of each CPU: 900 forks


class Descendants:
    """Follows a process that has one thread and is held. Close it after use."""

    def __init__(self, pid: int) -> None:
        """Raises InsituError where the kernel refuses."""
        self.threads = {pid: pid}
        """The process of each thread that has begun; whoever knows of a thread's end takes it out."""
        self.lost = 0
        """Records of forks that found no room."""
        self._rings: list[Ring] = []
        attr = Attr(type=perf_event.Type.SOFTWARE, config=perf_event.Software.DUMMY, task=1, inherit=1, watermark=1)
        try:
            for cpu in procfs.online_cpus():
                fd = perf_event.open_event(attr, pid=pid, cpu=cpu)
                try:
                    self._rings.append(Ring(fd, _RING_PAGES))
                except InsituError:
                    os.close(fd)
                    raise
        except InsituError:
            self.close()
            raise

    @property
    def fds(self) -> list[int]:
        """Become readable when there is much to drain."""
        return [ring.fd for ring in self._rings]

    def drain(self) -> None:
        """Take over what has been forked since."""
        for ring in self._rings:
            data = b"".join(ring.slices())
            ring.release()
            for kind, misc, body in records(data):
                record = parse(kind, misc, body)
                if record is not None and record.type is Record.FORK:
                    self.threads[record.tid] = record.pid
                elif record is not None:
                    self.lost += record.lost

    def close(self) -> None:
        """Follow no longer. Idempotent."""
        while self._rings:
            ring = self._rings.pop()
            fd = ring.fd
            ring.close()
            os.close(fd)
