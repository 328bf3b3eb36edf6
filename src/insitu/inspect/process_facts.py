"""What /proc says of a process: who it is, its limits and how near it is to them, memory, rights and surroundings."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.inspect.cgroup_facts import Cgroup, cgroup_of
from insitu.kernel import procfs

__all__ = ["Limit", "ProcessFacts", "Signals", "facts_of"]

_MOST_COMMAND_BYTES: Final = 4096
_MEMORY: Final = (
    *("Rss", "Pss", "Private_Clean", "Private_Dirty", "Shared_Clean", "Shared_Dirty", "Swap", "Locked"),
    *("Private_Hugetlb", "Shared_Hugetlb"),
)
_NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
# What /proc/PID/status says of a limit's use, in KiB.
_USED: Final = {
    "Max stack size": "VmStk",
    "Max data size": "VmData",
    "Max address space": "VmSize",
    "Max locked memory": "VmLck",
    "Max resident set": "VmRSS",
}
_SECCOMP: Final = {"0": "", "1": "strict", "2": "filter"}


class Limit(NamedTuple):
    """A resource limit; -1: none. ``used`` is what the process has used of it, in its unit; -1: not known."""

    name: str
    soft: int
    hard: int
    unit: str
    used: int


class Signals(NamedTuple):
    """Signals as masks: bit 0 is signal 1. ``pending`` and ``blocked`` of the main thread, pending of all too."""

    pending: int
    blocked: int
    ignored: int
    caught: int


class ProcessFacts(NamedTuple):
    """A process. Sizes in bytes; ``memory`` is empty where it may not be read."""

    pid: int
    name: str
    command: str
    state: str
    parent: int
    user: int
    threads: int
    memory: dict[str, int]
    limits: list[Limit]
    cgroup: Cgroup | None
    namespaces: list[str]
    """Those in which it is not where we are."""
    capabilities: int
    """Those in effect, as a mask."""
    bounding: int
    """Those that it can get at all, as a mask."""
    no_new_privileges: bool
    seccomp: str
    seccomp_filters: int
    signals: Signals


def facts_of(pid: int) -> ProcessFacts:
    """The facts of a process. Raises InsituError if there is none."""
    try:
        fields = _status(pid)
        command = procfs.arguments(pid, _MOST_COMMAND_BYTES)
        threads = len(procfs.threads(pid))
    except (FileNotFoundError, ProcessLookupError):
        raise InsituError(f"no process {pid}", remedy="ps -e lists processes") from None
    return ProcessFacts(
        pid,
        fields.get("Name", ""),
        command.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace"),
        fields.get("State", "?"),
        int(fields.get("PPid", "0")),
        int(fields.get("Uid", "0").split()[1]),
        threads,
        _memory(pid),
        _limits(pid, fields),
        cgroup_of(pid),
        [name for name in _NAMESPACES if _is_apart(pid, name)],
        int(fields.get("CapEff", "0"), 16),
        int(fields.get("CapBnd", "0"), 16),
        fields.get("NoNewPrivs") == "1",
        _SECCOMP.get(fields.get("Seccomp", "0"), "?"),
        int(fields.get("Seccomp_filters", "0")),
        Signals(
            int(fields.get("SigPnd", "0"), 16) | int(fields.get("ShdPnd", "0"), 16),
            *(int(fields.get(name, "0"), 16) for name in ("SigBlk", "SigIgn", "SigCgt")),
        ),
    )


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def _memory(pid: int) -> dict[str, int]:
    found = {}
    for line in (procfs.text(f"/proc/{pid}/smaps_rollup") or "").splitlines():
        name, _, value = line.partition(":")
        if name in _MEMORY:
            found[name] = int(value.split()[0]) << 10
    return found


def _limits(pid: int, status: dict[str, str]) -> list[Limit]:
    found = []
    for line in (procfs.text(f"/proc/{pid}/limits") or "").splitlines()[1:]:
        soft, hard = (-1 if word == "unlimited" else int(word) for word in line[26:68].split())
        name = line[:26].strip()
        found.append(Limit(name, soft, hard, line[68:].strip(), _used(pid, name, status)))
    return found


def _used(pid: int, name: str, status: dict[str, str]) -> int:
    try:
        if name in _USED:
            return int(status[_USED[name]].split()[0]) << 10
        if name == "Max open files":
            return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
        if name == "Max pending signals":
            return int(status["SigQ"].split("/")[0])
    except (OSError, KeyError, ValueError):
        pass
    return -1


def _is_apart(pid: int, name: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")  # noqa: PTH115
    except OSError:
        return False
