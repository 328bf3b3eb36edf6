"""What is known of processes while they make calls: from /proc, from forks and from execve's arguments."""

from __future__ import annotations

import os
from dataclasses import replace

from insitu.kernel import procfs
from insitu.syscalls.call import Call, Event, Executed, Exited, Forked
from insitu.syscalls.facts import facts_of
from insitu.syscalls.filters.subject import Process

__all__ = ["Processes"]

_MOST_ARGUMENTS = 4096
_MOST_POINTERS = 64
_COMM_BYTES = 15  # TASK_COMM_LEN - 1, include/linux/sched.h


class Processes:
    """Processes by id. A process is read from /proc when it is first asked about, and again after an execve."""

    def __init__(self) -> None:
        self._known: dict[int, Process] = {}

    def observe(self, event: Event) -> None:
        """Take note of forks, execs and exits."""
        if isinstance(event, Forked):
            if event.child_pid == event.child_tid and event.child_pid != event.pid:
                parent = self.process(event.pid)
                # Its own namespace's number is read when it is still there; the rest is the parent's until it execs.
                self._known[event.child_pid] = replace(
                    parent, pid=event.child_pid, ppid=event.pid, parent=parent, vpid=_inner_pid(event.child_pid)
                )
        elif isinstance(event, Executed):
            before = self._known.pop(event.pid, None)
            now = self._read(event.pid, before.parent if before else None)
            if now is not None:
                self._known[event.pid] = now
            elif before is not None:
                self._known[event.pid] = before
        elif isinstance(event, Exited) and event.pid == event.tid:
            self._known.pop(event.pid, None)

    def returned(self, call: Call) -> None:
        """Take the program's name and arguments from an execve that succeeded, if its process is gone from /proc."""
        if call.exit is None or call.failed or call.enter.nr != facts_of(call.enter.abi).numbers.get("execve"):
            return
        known = self._known.get(call.enter.pid)
        if known is None or not os.path.exists(f"/proc/{call.enter.pid}/exe"):  # noqa: PTH110
            base = known or Process(call.enter.pid)
            path = _string(call, call.enter.args[0])
            self._known[call.enter.pid] = replace(
                base, exe=path, name=path.rpartition("/")[2][:_COMM_BYTES], args=_strings(call, call.enter.args[1])
            )

    def process(self, pid: int, depth: int = 0) -> Process:
        """Returns a process, and its ancestors with it."""
        found = self._known.get(pid)
        if found is None:
            found = self._known[pid] = self._read(pid, None, depth) or Process(pid)
        return found

    def _read(self, pid: int, parent: Process | None, depth: int = 0) -> Process | None:
        try:
            status = procfs.status(pid)
            name = procfs.comm(pid)
            with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
                args = file.read(_MOST_ARGUMENTS).split(b"\0")[:-1]
        except OSError:
            return None
        if parent is None and status.ppid and depth < _MOST_POINTERS:
            parent = self.process(status.ppid, depth + 1)
        return Process(
            pid,
            status.ppid,
            os.fsdecode(name),
            _link(f"/proc/{pid}/exe"),
            tuple(map(os.fsdecode, args)),
            _link(f"/proc/{pid}/cwd"),
            status.uid,
            _gid(pid),
            status.inner_pid,
            _cgroup(pid),
            parent,
        )


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""


def _inner_pid(pid: int) -> int | None:
    try:
        return procfs.status(pid).inner_pid
    except OSError:
        return None


def _gid(pid: int) -> int | None:
    for line in (procfs.text(f"/proc/{pid}/status") or "").splitlines():
        if line.startswith("Gid:"):
            return int(line.split()[2])
    return None


def _cgroup(pid: int) -> str:
    lines = (procfs.text(f"/proc/{pid}/cgroup") or "").splitlines()
    paths = [line.split(":", 2)[2] for line in lines if line.count(":") >= 2]
    return max(paths, key=len, default="")


def _string(call: Call, address: int) -> str:
    data = call.enter.memory.read(address, 4096) or b""
    return os.fsdecode(data.partition(b"\0")[0])


def _strings(call: Call, address: int) -> tuple[str, ...]:
    size = 4 if call.enter.abi in ("i386", "x32") else 8
    found = []
    for at in range(_MOST_POINTERS):
        pointer = call.enter.memory.read(address + at * size, size)
        if pointer is None or len(pointer) < size or not any(pointer):
            break
        found.append(_string(call, int.from_bytes(pointer, "little")))
    return tuple(found)
