"""Closing what the kernel takes long to close, such as trace events and links of BPF programs: together, or later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

__all__ = ["close_in_parallel", "close_later"]

_MAX_THREADS = 64
# A shell that leaves a copy of itself in the background and ends. The copy reads to the end of a pipe, that is until
# we have closed our copies of the descriptors that it has inherited. Since it is not our child, the wait(2) of our
# program does not report it. (The pipe is at 2: shells give what is in the background an empty input.)
_KEEPER = ["/bin/sh", "-c", "read nothing <&2 &"]


def close_in_parallel(descriptors: Sequence[int]) -> None:
    """Close them in parallel; on return, all are closed."""
    shares = [descriptors[first::_MAX_THREADS] for first in range(min(_MAX_THREADS, len(descriptors)))]
    import threading

    threads = [threading.Thread(target=_close_each, args=(share,)) for share in shares[1:]]
    for thread in threads:
        thread.start()
    for share in shares[:1]:
        _close_each(share)
    for thread in threads:
        thread.join()


def _close_each(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def close_later(descriptors: Sequence[int]) -> None:
    """Close our copies at once; the kernel's work is done when their keeper ends.

    Events should be disabled: those that hold programs, or count, do so until then.
    """
    if not descriptors:
        return
    if os.getpid() == 1:  # whose children all orphans become
        close_in_parallel(descriptors)
        return
    # (importing subprocess would take as long as all else here.)
    reading, writing = os.pipe()
    nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    actions = [*((os.POSIX_SPAWN_DUP2, nothing, fd) for fd in (0, 1)), (os.POSIX_SPAWN_DUP2, reading, 2)]
    try:
        for each in descriptors:
            os.set_inheritable(each, True)
        shell = os.posix_spawn(_KEEPER[0], _KEEPER, os.environ, file_actions=actions, setsid=True)
        with contextlib.suppress(ChildProcessError):  # somebody else has waited for it
            os.waitpid(shell, 0)
    except (OSError, NotImplementedError):
        close_in_parallel(descriptors)  # no process to be had: then closing takes its time here
    else:
        _close_each(descriptors)
    finally:
        for each in (reading, writing, nothing):
            os.close(each)
