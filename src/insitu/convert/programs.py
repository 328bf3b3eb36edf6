"""What processes ran: the files and arguments of execve(2), which forked processes have from their parents."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from insitu.session.writer import SessionWriter

__all__ = ["Programs"]


class Programs:
    """Sets process.exe and process.cmdline. Events come in order of time."""

    def __init__(self, writer: SessionWriter) -> None:
        self._processes = writer.processes
        self._known: dict[int, dict[str, str]] = {}

    def executed(self, ts_ns: int, pid: int, *, exe: bytes = b"", arguments: bytes = b"") -> None:
        """Take the file of a process' new program, or its arguments, of which each ends with a zero byte."""
        found = dict(self._known.get(pid, {}))
        if exe:
            found["exe"] = exe.decode(errors="replace")
        if arguments:
            found["cmdline"] = shlex.join(arguments.removesuffix(b"\0").decode(errors="replace").split("\0"))
        self._set(ts_ns, pid, found)

    def forked(self, ts_ns: int, pid: int, child_pid: int) -> None:
        """Take a new process, or a thread, whose process is the same."""
        if child_pid != pid and pid in self._known:
            self._set(ts_ns, child_pid, self._known[pid])

    def _set(self, ts_ns: int, pid: int, found: dict[str, str]) -> None:
        if found:
            self._known[pid] = found
            self._processes.set_process(self._processes.process_of(pid, ts_ns), **found)

    def add(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Take a window of the records of record/sources/syscalls_script.py."""
        found: list[tuple[int, int, str, Any]] = []
        for label, name in (("forked", "child_pid"), ("executed", "data"), ("executable", "path")):
            if label in tables:
                columns = tables[label]
                values = columns[name].tolist() if label == "forked" else columns[name].to_list()
                found += zip(
                    columns["ts_ns"].tolist(), columns["pid"].tolist(), [label] * len(values), values, strict=True
                )
        for ts_ns, pid, label, value in sorted(found, key=lambda each: each[0]):
            if label == "forked":
                self.forked(ts_ns, pid, value)
            elif label == "executed":
                self.executed(ts_ns, pid, arguments=value)
            else:
                self.executed(ts_ns, pid, exe=value if isinstance(value, bytes) else value.encode())
