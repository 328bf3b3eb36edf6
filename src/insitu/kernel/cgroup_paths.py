"""Paths of control groups by number, in every hierarchy that is mounted here."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Sequence
from functools import cache

from insitu.errors import InsituError
from insitu.kernel import procfs

__all__ = ["cgroup_path", "legacy_directories", "open_cgroup", "unified_mount"]

_MOUNT = re.compile(r"\S+ \S+ \S+ \S+ (\S+) .* - (cgroup2?) \S+ \S+")
_LEGACY_MOUNT = re.compile(r"\S+ \S+ \S+ (\S+) (\S+) .* - cgroup \S+ (\S+)")
_MAX_DIRECTORIES = 100_000
_ESCAPE = re.compile(r"\\([0-7]{3})")


def cgroup_path(number: int, pattern: str) -> str:
    """``hierarchy:/path`` of the cgroup with this number, several joined by ";"; empty when there is none.

    ``pattern`` is a wildcard of hierarchies: names of version 1 mounts ("cpu,cpuacct"), "unified" for version 2.
    """
    found = []
    for name, top in _hierarchies():
        if fnmatch.fnmatchcase(name, pattern):
            path = _find(top, number)
            if path is not None:
                found.append(f"{name}:{path}")
    return ";".join(found)


def unified_mount() -> str | None:
    """Where cgroups of version 2 are mounted; None if they are not."""
    return next((top for name, top in _hierarchies() if name == "unified"), None)


def legacy_directories(pid: int, controllers: Sequence[str]) -> dict[str, str]:
    """By controller: the directory of a process's cgroup of version 1. Those in the root are left out."""
    found = {}
    for line in (procfs.text(f"/proc/{pid}/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            if name in controllers and path != "/" and (directory := _below_mount(name, path)):
                found[name] = directory
    return found


def _below_mount(controller: str, path: str) -> str | None:
    """Where a cgroup of a controller of version 1 is here; None if that part of the hierarchy is not mounted."""
    for line in (procfs.text("/proc/self/mountinfo") or "").split("\n"):
        match = _LEGACY_MOUNT.match(line)
        if match and controller in match[3].split(","):
            # A container may see a part of the hierarchy only: that below the mount's root.
            root, top = (_ESCAPE.sub(lambda m: chr(int(m[1], 8)), each) for each in match.group(1, 2))
            below = os.path.relpath(path, root)
            directory = top if below == "." else f"{top}/{below}"
            if not below.startswith("..") and os.path.isdir(directory):  # noqa: PTH112 - a path of the kernel's
                return directory
    return None


@cache
def _hierarchies() -> list[tuple[str, str]]:
    """(name, mount point) of each hierarchy; those below /sys/fs/cgroup go by the name of their directory."""
    found = {}
    with contextlib.suppress(OSError), open("/proc/self/mountinfo") as file:  # noqa: PTH123 - one read
        for line in file:
            match = _MOUNT.match(line)
            if match:
                # Blanks and the like are octal (fs/proc_namespace.c: mangle).
                top = _ESCAPE.sub(lambda m: chr(int(m.group(1), 8)), match.group(1))
                name = "unified" if match.group(2) == "cgroup2" else os.path.basename(top)  # noqa: PTH119
                found[top] = name
    return sorted((name, top) for top, name in found.items())


@cache
def _find(top: str, number: int) -> str | None:
    """The path below ``top`` of the directory with this inode number."""
    waiting = [top]
    for _ in range(_MAX_DIRECTORIES):
        if not waiting:
            return None
        directory = waiting.pop()
        with contextlib.suppress(OSError):
            if os.stat(directory).st_ino == number:  # noqa: PTH116 - called for each directory
                return directory.removeprefix(top) or "/"
            with os.scandir(directory) as entries:
                waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return None


def open_cgroup(name: str) -> int:
    """A descriptor of a cgroup's directory, for perf_event_open(2): in the hierarchy that counts perf events.

    ``name`` is its path below the mount point, or the whole path. Raises InsituError.
    """
    tops = [top for kind, top in _hierarchies() if kind in ("unified", "perf_event")]
    for top in tops:
        path = name if name.startswith(f"{top}/") else f"{top}/{name.lstrip('/')}"
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    where = " or ".join(tops) or "cgroup2 or the perf_event controller, which is not mounted"
    raise InsituError(f"no cgroup {name} in {where}", remedy="systemd-cgls lists them")
