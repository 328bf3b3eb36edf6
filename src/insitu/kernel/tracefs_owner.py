"""Whose a thing in tracefs is: its name says which process made it."""

from __future__ import annotations

import os
import re
from typing import Final

from insitu.kernel import procfs

__all__ = ["owner_is_dead", "owner_is_this_process", "owner_name"]

_OWNER: Final = re.compile(r"insitu[-_](\d{1,10})[-_](\d{1,20})[-_](\d{1,20})(?:[-_]\w*)?")


def owner_name(separator: str = "-") -> str:
    """The first part of the names of all that this process makes in tracefs: pid, start time, PID namespace.

    Names of events take "_" as ``separator``.
    """
    return separator.join(("insitu", *map(str, _this_process())))


def owner_is_this_process(name: str) -> bool:
    """Whether a name starts with this process's ``owner_name``."""
    return _owner(name) == _this_process()


def owner_is_dead(name: str) -> bool:
    """Whether a name starts with an ``owner_name`` of this PID namespace, and that owner has ended."""
    owner = _owner(name)
    if owner is None or owner[2] != _pid_namespace():
        return False
    try:
        return procfs.start_time(owner[0]) != owner[1]
    except OSError:
        return True


def _owner(name: str) -> tuple[int, int, int] | None:
    match = _OWNER.fullmatch(name)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _this_process() -> tuple[int, int, int]:
    pid = os.getpid()
    return pid, procfs.start_time(pid), _pid_namespace()


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - a start without pathlib
