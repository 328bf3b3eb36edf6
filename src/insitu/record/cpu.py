"""insitu.profile(): a CPU profile of a command, of running processes or of the whole machine."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from insitu.errors import InsituError
from insitu.record.events import Stacks
from insitu.record.run import Request, record
from insitu.record.sources.perf import PerfOptions, PerfSource

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["profile"]


def profile(
    command: Sequence[str] | None = None,
    *,
    pid: int | Sequence[int] | None = None,
    whole_system: bool = False,
    seconds: float | None = None,
    frequency: int | None = None,
    period: int | None = None,
    output: str | os.PathLike[str] | None = None,
    stacks: Stacks = "fp",
    stack_bytes: int = 8192,
    events: Sequence[str] = (),
    user: bool = True,
    kernel: bool = True,
) -> "Session":
    """Record a CPU profile and open it: of a command, of running processes (``pid``) or of every CPU.

    ``frequency`` is in hertz per CPU, ``period`` the occurrences of an event for each sample; without either, clocks
    and cycles are sampled at 99 Hz, and each fault, switch and tracepoint is a sample. ``seconds`` ends the
    recording, which otherwise lasts until the command or the processes end, or until Ctrl-C. ``stacks`` is how call
    stacks are recorded: "fp" follows frame pointers, "dwarf" copies ``stack_bytes`` of each user stack and unwinds it
    afterwards, "none" records no stacks. ``events`` are names as ``insitu profile -e`` takes them.
    Without ``output`` the session is in a temporary directory, which is deleted with the returned object.
    The command's exit status is in the session's manifest. Raises InsituError.
    """
    from insitu.convert.open import open_session, temporary_session
    from insitu.convert.sources import finish

    pids = () if pid is None else (pid,) if isinstance(pid, int) else tuple(pid)
    request = Request(tuple(command or ()), pids, whole_system, seconds)
    source = PerfSource(
        PerfOptions(
            frequency=frequency,
            period=period,
            events=",".join(events),
            stacks=stacks,
            stack_bytes=stack_bytes,
            user=user,
            kernel=kernel,
        )
    )

    def make(path: Path) -> None:
        outcome = record(request, [source], path)
        if outcome.failure:
            raise InsituError(outcome.failure)
        finish(path)

    if output is None:
        return temporary_session(make)
    make(Path(os.fspath(output)))
    return open_session(os.fspath(output))
