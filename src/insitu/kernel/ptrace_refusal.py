"""Why the kernel refuses to let one process trace another, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from insitu.errors import InsituError
from insitu.kernel import procfs

__all__ = ["all_ended", "has_ended", "none_left", "refusal", "tracer_of"]

_YAMA = {
    "1": ("only descendants may be traced", "start the program under insitu: insitu syscalls -- CMD"),
    "2": ("only administrators may trace", "sudo insitu ..."),
    "3": ("no process may be traced until the next boot", "boot without kernel.yama.ptrace_scope=3"),
}


def tracer_of(tid: int) -> int:
    """Returns the thread that traces a thread; 0 if none does, or it has ended."""
    return int(_field(tid, "TracerPid") or 0)


def has_ended(tid: int) -> bool:
    """Whether a thread has ended, be it that nobody has waited for it yet: such are refused as other users' are."""
    return _field(tid, "State")[:1] in ("", "Z", "X")


def none_left(pids: Sequence[int]) -> bool:
    """Whether every thread of every process has ended."""
    for pid in pids:
        try:
            if not all(map(has_ended, procfs.threads(pid))):
                return False
        except ProcessLookupError:
            continue
    return True


def all_ended(pids: Sequence[int]) -> InsituError:
    """Returns the error for processes of which none is left to record."""
    if len(pids) == 1:
        return InsituError(f"process {pids[0]} has ended")
    return InsituError(f"processes {', '.join(map(str, pids))} have ended")


def _field(tid: int, name: str) -> str:
    for line in (procfs.text(f"/proc/{tid}/status") or "").splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    return ""


def refusal(pid: int, tid: int, error: OSError) -> InsituError:
    """Returns the error to show for a thread that cannot be seized."""
    what = f"cannot trace process {pid}"
    tracer = tracer_of(tid)
    if tracer:
        try:
            name = procfs.comm(tracer).decode(errors="replace")
        except OSError:
            name = "?"
        return InsituError(f"{what}: process {tracer} ({name}) traces it already", remedy="a process has one tracer")
    scope = procfs.sysctl("kernel.yama.ptrace_scope")
    try:
        uid = procfs.status(tid).uid
    except OSError:
        return InsituError(f"{what}: it has ended")
    if not _field(tid, "VmSize"):
        return InsituError(f"{what}: it is a kernel thread")
    if os.geteuid() and uid != os.geteuid():
        return InsituError(f"{what}: it belongs to user {uid}", remedy="sudo insitu ...")
    if scope in _YAMA:
        reason, remedy = _YAMA[scope]
        return InsituError(f"{what}: {reason} (kernel.yama.ptrace_scope={scope})", remedy=remedy)
    return InsituError(f"{what}: {os.strerror(error.errno or 0)}", remedy="sudo insitu ..." if os.geteuid() else "")
