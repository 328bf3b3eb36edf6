"""Attaching to a thread, and what a program loses by being traced."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from typing import Final

from insitu.kernel import procfs, ptrace
from insitu.kernel.ptrace_refusal import has_ended, refusal, tracer_of
from insitu.terminal_text import printable

__all__ = ["lost_privileges", "seized"]

_SEIZE_ATTEMPTS: Final = 10
_SEIZE_AGAIN_S: Final = 0.002


def seized(pid: int, tid: int, options: int) -> bool:
    """Seize a thread; returns whether it is traced now, False if it has ended. Raises InsituError."""
    for attempt in range(_SEIZE_ATTEMPTS):
        try:
            ptrace.seize(tid, options)
        except ProcessLookupError:
            return False
        except OSError as error:
            tracer = tracer_of(tid)
            if tracer in (os.getpid(), threading.get_native_id()):
                break  # it was made by a thread that we had seized
            if has_ended(tid):
                return False
            if tracer or attempt == _SEIZE_ATTEMPTS - 1:
                raise refusal(pid, tid, error) from None
            time.sleep(_SEIZE_AGAIN_S)  # it may be in the middle of exec, or about to end
        else:
            break
    return True


def lost_privileges(pid: int) -> str:
    """Returns the note for a program that runs without its set-user-ID privilege, "" for others.

    The kernel ignores that bit where the tracer may not trace the program's owner.
    """
    if not os.geteuid():
        return ""
    with contextlib.suppress(OSError):
        exe, name = procfs.exe(pid)
        if os.stat(exe).st_mode & (stat.S_ISUID | stat.S_ISGID):  # noqa: PTH116  # a link of /proc
            return f"{printable(name)} runs without its set-user-ID privilege while it is traced"
    return ""
