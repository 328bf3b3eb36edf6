"""What descriptors were open on, and when: records of record/sources/syscalls_script.py to the table descriptor."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from typing import Any, Final

from insitu.convert.probe_source import table_rows
from insitu.session.core_tables import DESCRIPTOR
from insitu.session.writer import SessionWriter
from insitu.syscalls.descriptors import open_on
from insitu.syscalls.sockets import Sockets, State
from insitu.valid_text import valid_text

__all__ = ["Descriptors"]

_MOST_DESCRIPTOR: Final = 0x7FFFFFFF
_CLOSED, _FORKED = -1, -2
"""In place of the mode of what was opened; with the second, the child's process id in that of the descriptor."""
_KINDS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class Descriptors:
    """What was opened or inherited, until it was closed or replaced."""

    def __init__(self, writer: SessionWriter) -> None:
        self._writer = writer
        self._sockets = Sockets()
        self._events: list[tuple[int, int, int, int, str]] = []
        """Time, process, descriptor, mode, path."""
        self._rows: list[tuple[int, int, int, int | None, str, str]] = []

    def add(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the records of a window."""
        names = ("ts_ns", "pid", "fd", "mode", "inode", "fd2", "inode2", "path")
        for ts_ns, pid, fd, mode, inode, fd2, inode2, path in table_rows(tables.get("descriptor"), names):
            if stat.S_ISSOCK(mode):
                self._sockets.opened(inode, path)
            for number, its_inode in ((fd, inode), (fd2, inode2)):
                if number <= _MOST_DESCRIPTOR:
                    self._events.append((ts_ns, pid, number, mode, open_on(mode, its_inode, path)))
        for *state, name in table_rows(tables.get("socket"), (*State._fields, "data")):
            self._sockets.add(State(*state), name)
        for ts_ns, pid, child_pid in table_rows(tables.get("forked"), ("ts_ns", "pid", "child_pid")):
            if child_pid != pid:
                self._events.append((ts_ns, pid, child_pid, _FORKED, ""))

    def write(self, closed: Sequence[tuple[int, int, int]]) -> None:
        """Write the table. ``closed`` are process, descriptor and time of each close()."""
        self._events += ((ts_ns, pid, fd, _CLOSED, "") for pid, fd, ts_ns in closed)
        self._events.sort(key=lambda event: event[0])
        open_: dict[int, dict[int, tuple[int, int, str]]] = {}
        for ts_ns, pid, fd, mode, path in self._events:
            mine = open_.setdefault(pid, {})
            if mode == _FORKED:
                self._end(fd, open_.pop(fd, {}), None)  # an earlier process of that number
                open_[fd] = {number: (ts_ns, *opened[1:]) for number, opened in mine.items()}
                continue
            if fd in mine:
                self._end(pid, {fd: mine.pop(fd)}, ts_ns)
            if mode != _CLOSED:
                mine[fd] = (ts_ns, mode, path)
        for pid, mine in open_.items():
            self._end(pid, mine, None)
        self._rows.sort(key=lambda row: row[2])
        if self._rows:
            names = ("upid", "fd", "from_ns", "until_ns", "path", "kind")
            self._writer.append(DESCRIPTOR, dict(zip(names, zip(*self._rows, strict=True), strict=True)))

    def _end(self, pid: int, opened: Mapping[int, tuple[int, int, str]], until_ns: int | None) -> None:
        for fd, (from_ns, mode, path) in opened.items():
            upid = self._writer.processes.process_of(pid, from_ns)
            text, kind = valid_text(self._sockets.text(path)), _KINDS.get(stat.S_IFMT(mode), "other")
            self._rows.append((upid, fd, from_ns, until_ns, text, kind))
