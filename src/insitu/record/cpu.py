"""CPU profiles: where the time of a command, of running processes or of the whole machine goes."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.record.attach import Attached, processes_of
from insitu.record.events import Stacks, choose
from insitu.record.interrupts import Interrupts
from insitu.record.recorder import Recorder
from insitu.record.request import Outcome, Request, check
from insitu.record.workload import Workload, executable

if TYPE_CHECKING:
    from insitu.convert.open import Session

__all__ = ["profile", "record"]


def profile(
    command: Sequence[str] | None = None,
    *,
    pid: int | Sequence[int] | None = None,
    whole_system: bool = False,
    seconds: float | None = None,
    frequency: int = 99,
    output: str | os.PathLike[str] | None = None,
    stacks: Stacks = "fp",
    stack_bytes: int = 8192,
    events: Sequence[str] = (),
    user: bool = True,
    kernel: bool = True,
) -> "Session":
    """Record a CPU profile and open it: of a command, of running processes (``pid``) or of every CPU.

    ``frequency`` is in hertz per CPU; ``seconds`` ends the recording, which otherwise lasts until the command or the
    processes end, or until Ctrl-C. ``stacks`` is how callers are found: "fp" follows frame pointers,
    "dwarf" copies ``stack_bytes`` of each user stack and unwinds it afterwards, "none" records no callers.
    Without ``output`` the session lies in a temporary directory that goes with the returned object.
    The command's exit status is in the session's info. Raises InsituError.
    """
    import tempfile
    import weakref

    from insitu.convert.convert import finish
    from insitu.convert.open import open_session

    pids = () if pid is None else (pid,) if isinstance(pid, int) else tuple(pid)
    request = Request(
        command=tuple(command or ()),
        pids=pids,
        whole_system=whole_system,
        seconds=seconds,
        frequency=frequency,
        events=tuple(events),
        stacks=stacks,
        stack_bytes=stack_bytes,
        user=user,
        kernel=kernel,
    )
    temporary = None if output is not None else tempfile.TemporaryDirectory(prefix="insitu-")
    path = Path(temporary.name, "profile.insitu") if temporary else Path(os.fspath(output or ""))
    outcome = record(request, path)
    if outcome.failure:
        raise InsituError(outcome.failure)
    finish(path)
    session = open_session(path)
    if temporary:
        weakref.finalize(session, temporary.cleanup)
    return session


def record(request: Request, path: Path) -> Outcome:
    """Record into a new session at ``path``, which is left unconverted: see ``insitu.convert.convert.finish``.

    Nothing is started, and nothing at ``path`` touched, before everything that can be refused has been tried.
    Raises InsituError; its status is 126 or 127 where the command cannot be run.
    """
    check(request)
    request = request._replace(pids=processes_of(request.pids))
    if request.command:
        executable(request.command)
    events, notes = choose(
        request.events,
        frequency=request.frequency,
        stacks=request.stacks,
        stack_bytes=request.stack_bytes,
        user=request.user,
        kernel=request.kernel,
        whole_system=request.whole_system,
    )
    with Interrupts() as interrupts:
        workload = Workload(request.command, interrupts.ignored_before) if request.command else None
        pages = request.ring_pages or (1024 if request.stacks == "dwarf" else 128)
        try:
            _raise_descriptor_limit()
            attached = Attached(procfs.online_cpus(), pages, time.CLOCK_MONOTONIC)
            try:
                return Recorder(request, path, events, notes, attached, workload, interrupts).run()
            finally:
                attached.close()
        finally:
            if workload:
                workload.close()


def _raise_descriptor_limit() -> None:
    """An event is a descriptor for each thread and CPU; the usual soft limit of 1024 is soon used up."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
