"""A recorder as small as they get: naps of a program, which reports each through a pipe. See test_toy_source.py."""

import os
import sys
from pathlib import Path

from insitu.record.row_log import RowLog
from insitu.record.run import Request, record
from insitu.record.source import Target
from insitu.record.sources.processes import ProcessesSource
from insitu.session.schema import Column, Table, register

NAP = register(
    Table(
        "nap",
        "A nap of the program under test.",
        (
            Column("ts_ns", "timestamp"),
            Column("dur_ns", "duration", "how long it slept"),
            Column("utid", "utid"),
            Column("file", "path", "what it slept over"),
            Column("stack", "stack"),
        ),
    )
)


class NapSource:
    """Reads a line for each nap: begin, duration, pid, file and the addresses of the stack."""

    id, notes, options, ended, wait_s = "naps", (), {}, False, 1.0

    def __init__(self, fifo: str) -> None:
        self.log, self.rest = RowLog(NAP), b""
        self.fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.fds = [self.fd]

    def open(self, target: Target) -> None: ...

    def layout(self):
        return self.log.layout

    def start(self, directory: Path, start_ns: int) -> None:
        self.log.open(directory)

    def drain(self) -> int:
        try:
            *lines, self.rest = (self.rest + os.read(self.fd, 1 << 16)).split(b"\n")
        except BlockingIOError:
            return 0
        for line in lines:
            ts, dur, pid, file, *stack = line.split()
            who = int(pid), int(pid)
            addresses = [int(each, 16) for each in stack]
            self.log.append(ts_ns=int(ts), dur_ns=int(dur), utid=who, file=file, stack=addresses)
        return self.log.write()

    def stop(self, end_ns: int) -> None:
        self.drain()

    def losses(self):
        return ()

    def close(self) -> None:
        self.log.close()


if __name__ == "__main__":
    output, fifo, *command = sys.argv[1:]
    record(Request(command=(*command,)), [NapSource(fifo), ProcessesSource()], Path(output))
