"""What tracefs offers, seen from a mount namespace of its own: the caller's file system view stays as it was."""

import ctypes
import json
import os
import select
import signal
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["Visit", "visit"]

_PLACES: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_TIMEOUT_MS: Final = 2000

# include/uapi/linux/sched.h and include/uapi/linux/mount.h
_CLONE_NEWNS: Final = 0x00020000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000


class Visit(NamedTuple):
    """What was found: where tracefs is mounted ("" where not), why it could not be read ("" if it could),
    its tracers, the ids of some tracepoints, and which of its files exist."""

    mounted_at: str
    problem: str
    tracers: list[str]
    tracepoint_ids: dict[str, int]
    files: list[str]


@cache
def visit() -> Visit:
    """Look at tracefs where it is mounted, or else mount it for a child process only, which then ends."""
    for place in _PLACES:
        if os.access(f"{place}/available_events", os.R_OK):
            return Visit(place, "", **_read(Path(place)))
    mounted = next((place for place in _PLACES if Path(place, "trace").exists()), "")
    answer_read, answer_write = os.pipe()
    child = os.fork()
    if child == 0:
        _answer_and_exit(answer_write)
    os.close(answer_write)
    poll = select.poll()
    poll.register(answer_read, select.POLLIN)
    if not poll.poll(_TIMEOUT_MS):
        os.kill(child, signal.SIGKILL)
    with os.fdopen(answer_read, "rb") as file:
        raw = file.read()
    os.waitpid(child, 0)
    if not raw:
        return Visit(mounted, "mounting it took too long", [], {}, [])
    answer: dict[str, Any] = json.loads(raw)
    if "problem" in answer:
        return Visit(mounted, answer["problem"], [], {}, [])
    return Visit(mounted, "", **answer)


def _answer_and_exit(pipe: int) -> None:
    """The child's side: never returns. Its mount goes with its namespace."""
    try:
        # A directory that is sure to exist, over which the mount is seen by this process only.
        answer = _read(_mounted_privately(Path(tempfile.gettempdir())))
    except OSError as error:
        answer = {"problem": error.strerror or str(error)}
    try:
        os.write(pipe, json.dumps(answer).encode())
    finally:
        os._exit(0)


def _mounted_privately(place: Path) -> Path:
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(place)
    if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if libc.mount(b"insitu", target, b"tracefs", ctypes.c_ulong(0), None):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return place


def _read(tracefs: Path) -> dict[str, Any]:
    ids = {}
    for name in ("sched/sched_switch", "raw_syscalls/sys_enter"):
        file = tracefs / "events" / name / "id"
        if file.exists():
            ids[name] = int(file.read_text())
    return {
        "tracers": (tracefs / "available_tracers").read_text().split(),
        "tracepoint_ids": ids,
        "files": [name for name in ("kprobe_events", "uprobe_events", "instances") if (tracefs / name).exists()]
        + [name for name in ("events/sched/sched_switch/hist",) if (tracefs / name).exists()],
    }
