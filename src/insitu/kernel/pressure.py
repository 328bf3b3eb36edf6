"""Pressure stall information (Documentation/accounting/psi.rst) and throttling, of the machine and of cgroups."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from insitu.kernel import procfs
from insitu.kernel.cgroup_paths import unified_mount

__all__ = ["RESOURCES", "Stall", "Throttled", "cgroup_directory", "pressure", "read_stalls", "steal_ns", "throttled"]

RESOURCES = ("cpu", "io", "memory", "irq")
_LINE = re.compile(r"^(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)$", re.MULTILINE)


class Stall(NamedTuple):
    """Tasks waited for a resource: in per cent of the last 10, 60 and 300 seconds, and in all since the boot."""

    avg10: float
    avg60: float
    avg300: float
    total_ns: int


class Throttled(NamedTuple):
    """How often a cgroup was not let run since its CPU limit was used up, and for how long (its CPUs summed)."""

    times: int
    ns: int


def pressure(cgroup: str = "") -> dict[str, dict[str, Stall]]:
    """By resource: ``some`` task waited, ``full``: all did. Of the machine, or of the cgroup with this directory.

    Empty where the kernel does not account it (CONFIG_PSI, psi=1).
    """
    found = {}
    for resource in RESOURCES:
        path = f"{cgroup}/{resource}.pressure" if cgroup else f"/proc/pressure/{resource}"
        if stalls := read_stalls(procfs.text(path) or ""):
            found[resource] = stalls
    return found


def read_stalls(text: str) -> dict[str, Stall]:
    """What a file of one resource says of ``some`` and ``full``; empty where it says nothing."""
    return {kind: Stall(float(a), float(b), float(c), int(us) * 1000) for kind, a, b, c, us in _LINE.findall(text)}


def cgroup_directory(pid: int) -> str | None:
    """The directory of a process's cgroup (version 2); None for the root, and where that is not mounted."""
    match = re.search(r"^0::(/.+)$", procfs.text(f"/proc/{pid}/cgroup") or "", re.MULTILINE)
    top = unified_mount()
    if match is None or top is None or match[1] == "/":
        return None
    directory = top + match[1]
    return directory if os.path.isdir(directory) else None  # noqa: PTH112 - a path of the kernel's


def throttled(directory: str) -> Throttled | None:
    """What the CPU limit of a cgroup has done, of either version; None where the CPU controller is not enabled."""
    fields = dict(line.split() for line in (procfs.text(f"{directory}/cpu.stat") or "").splitlines())
    if "nr_throttled" not in fields:
        return None
    if "throttled_time" in fields:  # version 1
        return Throttled(int(fields["nr_throttled"]), int(fields["throttled_time"]))
    return Throttled(int(fields["nr_throttled"]), int(fields["throttled_usec"]) * 1000)


def steal_ns() -> int:
    """Time in which the hypervisor did not let CPUs run that could have run, since the boot, summed over all CPUs."""
    fields = (procfs.text("/proc/stat") or "").split("\n", 1)[0].split()
    return int(fields[8]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0
