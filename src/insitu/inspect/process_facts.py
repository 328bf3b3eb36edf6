"""What /proc says of a process: who it is, its limits, memory, rights and surroundings."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.pressure import cgroup_directory

__all__ = ["Limit", "ProcessFacts", "facts_of"]

_MOST_COMMAND_BYTES: Final = 4096
_MEMORY: Final = ("Rss", "Pss", "Private_Clean", "Private_Dirty", "Shared_Clean", "Shared_Dirty", "Swap", "Locked")
_NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_SECCOMP: Final = {"0": "", "1": "strict", "2": "filter"}


class Limit(NamedTuple):
    """A resource limit; -1: none."""

    name: str
    soft: int
    hard: int
    unit: str


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
    cgroup: str
    namespaces: list[str]
    """Those in which it is not where we are."""
    capabilities: int
    seccomp: str
    pending: int
    blocked: int
    """Signals, as masks."""


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
        _limits(pid),
        cgroup_directory(pid) or "",
        [name for name in _NAMESPACES if _is_apart(pid, name)],
        int(fields.get("CapEff", "0"), 16),
        _SECCOMP.get(fields.get("Seccomp", "0"), "?"),
        int(fields.get("SigPnd", "0"), 16) | int(fields.get("ShdPnd", "0"), 16),
        int(fields.get("SigBlk", "0"), 16),
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


def _limits(pid: int) -> list[Limit]:
    found = []
    for line in (procfs.text(f"/proc/{pid}/limits") or "").splitlines()[1:]:
        soft, hard = (-1 if word == "unlimited" else int(word) for word in line[26:68].split())
        found.append(Limit(line[:26].strip(), soft, hard, line[68:].strip()))
    return found


def _is_apart(pid: int, name: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")  # noqa: PTH115
    except OSError:
        return False
