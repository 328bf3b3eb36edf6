"""The cgroups of a process, of either version: what they use, and their limits.

Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst and pids.rst; scheduler/sched-bwc.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from insitu.kernel import procfs
from insitu.kernel.cgroup_paths import legacy_directories
from insitu.kernel.pressure import Stall, Throttled, cgroup_directory, pressure, throttled

__all__ = ["Cgroup", "cgroup_of"]

# By name: the controller, and files of what is used and of its limit, in version 2 and in version 1.
_FILES: Final = {
    "memory": (("memory.current", "memory.max"), ("memory", "memory.usage_in_bytes", "memory.limit_in_bytes")),
    "swap": (("memory.swap.current", "memory.swap.max"), ("", "", "")),
    "memory and swap": (
        ("", ""),
        ("memory", "memory.memsw.usage_in_bytes", "memory.memsw.limit_in_bytes"),
    ),
    "pids": (("pids.current", "pids.max"), ("pids", "pids.current", "pids.max")),
}
_NO_LIMIT: Final = 1 << 62
"""Version 1 has a number of pages for it that no machine has: PAGE_COUNTER_MAX (include/linux/page_counter.h)."""


class Cgroup(NamedTuple):
    """What the cgroups of a process use and their limits, -1: none or not known, by the names of ``used``.

    "memory", "swap" and "memory and swap" (which version 1 limits together) in bytes, and "pids". ``cpu_max``: the
    quota and the period in microseconds, none without a limit. Limits of ancestors count, too: each is the smallest
    on the way up. ``pressure``: the share of time in which some task waited; version 1 has none.
    """

    directories: list[str]
    """That of version 2, and those of the hierarchies of version 1 that are looked at; roots are left out."""
    used: dict[str, int]
    limits: dict[str, int]
    cpu_max: tuple[int, int] | None
    throttled: Throttled | None
    pressure: dict[str, Stall]


def cgroup_of(pid: int) -> Cgroup | None:
    """The cgroups of a process; None if it is in the roots alone, and where none are mounted."""
    unified, legacy = cgroup_directory(pid), legacy_directories(pid, ("memory", "cpu", "pids"))
    directories = list(dict.fromkeys([*([unified] if unified else []), *legacy.values()]))
    if not directories:
        return None
    used, limits = {}, {}
    for name, (files, (controller, *old)) in _FILES.items():
        # A controller is in one hierarchy: that of version 2, or one of version 1.
        directory, (usage, limit) = (legacy[controller], old) if controller in legacy else (unified, files)
        if directory is None or not usage:
            used[name] = limits[name] = -1
            continue
        used[name] = _number(f"{directory}/{usage}")
        given = [each for at in _with_ancestors(directory) if 0 <= (each := _number(f"{at}/{limit}")) < _NO_LIMIT]
        limits[name] = min(given, default=-1)
    quotas = _quotas(unified) if unified else []
    quotas += _legacy_quotas(legacy["cpu"]) if "cpu" in legacy else []
    cpu = min(quotas, key=lambda each: each[0] / each[1], default=None)
    waits = pressure(unified) if unified else {}
    some = {name: stalls["some"] for name, stalls in waits.items() if "some" in stalls}
    held = throttled(legacy.get("cpu") or unified or "")
    return Cgroup(directories, used, limits, cpu, held, some)


def _with_ancestors(directory: str) -> Iterator[str]:
    """A cgroup's directory and those above it, as far as they are cgroups."""
    while os.path.exists(f"{directory}/cgroup.procs"):  # noqa: PTH110
        yield directory
        directory = os.path.dirname(directory)  # noqa: PTH120


def _quotas(directory: str) -> list[tuple[int, int]]:
    words = [_words(f"{at}/cpu.max") for at in _with_ancestors(directory)]
    return [(int(each[0]), int(each[1])) for each in words if len(each) == 2 and each[0] != "max"]


def _legacy_quotas(directory: str) -> list[tuple[int, int]]:
    pairs = [
        (_number(f"{at}/cpu.cfs_quota_us"), _number(f"{at}/cpu.cfs_period_us")) for at in _with_ancestors(directory)
    ]
    return [(quota, period) for quota, period in pairs if quota >= 0 and period > 0]


def _words(path: str) -> list[str]:
    return (procfs.text(path) or "").split()


def _number(path: str) -> int:
    """A number in a file; -1 for "max" and "-1", and where there is none."""
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else -1
