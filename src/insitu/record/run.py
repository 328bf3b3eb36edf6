"""One run of sources: target, deadline, signals, losses and exit status, for every recorder and script."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.ptrace_refusal import all_ended, none_left
from insitu.limits import raise_descriptor_limit
from insitu.record.interrupts import Interrupts
from insitu.record.launcher import Launched
from insitu.record.loop import Loop
from insitu.record.source import Loss, Source, Target

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Destination", "Outcome", "Request", "Run", "processes_of", "record", "run"]


class Request(NamedTuple):
    """What to record and for how long: exactly one of ``command``, ``pids`` and ``whole_system``; a command may be
    given besides ``whole_system``, which then lasts as long as the command."""

    command: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    whole_system: bool = False
    seconds: float | None = None
    as_long_as: bool = False
    """Not the command is recorded: ``pids`` are, as long as it runs."""

    def check(self) -> None:
        """Raise InsituError (status 2, usage) for a request that is invalid on any machine."""
        kinds = bool(self.command and not self.as_long_as) + bool(self.pids) + self.whole_system
        if kinds == 0:
            raise InsituError("nothing to record", remedy="give a command after --, -p PID, or -a", status=2)
        if self.pids and kinds > 1:
            raise InsituError("-p PID cannot be combined with a command or -a", status=2)
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise InsituError(f"invalid duration {self.seconds}", remedy="-d takes seconds, more than 0", status=2)


class Outcome(NamedTuple):
    """How a run went. ``exit_status`` is the command's, 0 without one."""

    exit_status: int
    bytes_written: int
    lost: int
    """Lost records that the records themselves do not report."""
    notes: list[str]
    failure: str
    """Why recording ended early, such as a full disk; "" if it did not."""
    abandoned: bool
    """Whether a second signal came while the command was still ending."""
    quit: bool = False
    """Whether SIGQUIT has ended it."""


class Destination:
    """Where a run writes to. This one is for sources that only print to standard output.

    Nothing there is touched before everything that can be refused has been: ``refuse``, ``begin`` and then either
    ``settle`` or ``undo``.
    """

    def refuse(self) -> None:
        """Raise InsituError if nothing may be written here."""

    def begin(self, request: Request, sources: Sequence[Source]) -> int:
        """Prepare for the sources, which have opened; returns when the run starts (CLOCK_MONOTONIC, ns)."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def directory(self, source: Source) -> Path | None:
        """Where a source records to; None: nowhere."""
        return None

    def attached(self) -> None:
        """All sources have started: what is recorded from now on is complete. A command starts next."""

    def undo(self) -> None:
        """Restore what was here: the run has failed to start."""

    def settle(self) -> None:
        """The run has started."""

    def losses(self, source: Source, found: Sequence[Loss], end_ns: int) -> None:
        """Keep the losses of a source that its records do not contain. Raises OSError."""

    def end(self, end_ns: int, outcome: Outcome) -> None:
        """Keep how the run went. Raises OSError."""

    def failed(self, error: OSError) -> str:
        """Returns why the run has ended early, as a full disk may have it; raises where nothing is kept of it."""
        raise error


def record(
    request: Request,
    sources: Sequence[Source],
    path: Path,
    *,
    progress: Callable[[float, int], None] | None = None,
    default_table: str = "",
) -> Outcome:
    """Record from ``sources`` into a new session at ``path``, which is left unconverted: see convert.sources.finish.

    ``progress`` is called about once a second with the seconds and bytes so far. ``default_table`` is what views show
    without --table. Raises as ``run`` does.
    """
    from insitu.record.session_destination import SessionDestination

    return run(request, sources, SessionDestination(path, default_table), progress=progress)


def run(
    request: Request,
    sources: Sequence[Source],
    destination: Destination,
    *,
    progress: Callable[[float, int], None] | None = None,
    ended: Callable[[Outcome], object] = lambda outcome: None,
    interrupts: Interrupts | None = None,
) -> Outcome:
    """Run ``sources`` until the target or a source ends, the duration is over, or a signal asks to stop.

    Nothing is started, and nothing at ``destination`` touched, before everything that can be refused has been tried.
    ``ended`` is called before the sources are closed. ``interrupts``, entered by a caller of several runs, keeps the
    signals that come between them.
    Raises InsituError; its status is 126 or 127 where the command cannot be run.
    """
    with (
        contextlib.nullcontext(interrupts) if interrupts else Interrupts() as asked,
        contextlib.closing(Run(request, sources, destination, asked)) as running,
    ):
        running.open()
        running.start()
        reported_s = 0.0
        while running.turn():
            if progress and running.elapsed_s - reported_s >= 1:
                reported_s = running.elapsed_s
                progress(reported_s, running.bytes_written)
        outcome = running.finish()
        ended(outcome)
        return outcome


class Run:
    """One run. Use: open(), start(), ``while turn(): ...``, finish(); and close() in any case."""

    def __init__(
        self,
        request: Request,
        sources: Sequence[Source],
        destination: Destination,
        interrupts: Interrupts | None = None,
    ) -> None:
        """Without ``interrupts`` signals have their usual effect."""
        self._request = request
        self._sources = sources
        self._destination = destination
        self._interrupts = interrupts
        self._open_things = contextlib.ExitStack()
        self._launched: Launched | None = None
        self._loop: Loop | None = None
        self._failure = ""
        self.bytes_written = 0

    def open(self) -> None:
        """Hold the command and open the sources. Raises InsituError."""
        self._request.check()
        self._request = self._request._replace(pids=processes_of(self._request.pids))
        if self._request.pids and none_left(self._request.pids):
            raise all_ended(self._request.pids)
        self._destination.refuse()
        if self._request.command:
            ignored = self._interrupts.ignored_before if self._interrupts else ()
            self._launched = Launched(self._request.command, ignored)
            self._open_things.callback(self._launched.close)
        raise_descriptor_limit()  # a descriptor per event, thread and CPU: 1024 are soon used up
        target = Target(self._launched, self._request.pids, self._request.whole_system, self._interrupts)
        for source in self._sources:
            self._open_things.callback(source.close)
            source.open(target)
            self._refuse_interrupted()
        if self._launched:
            self._launched.settle()

    def start(self) -> None:
        """Start the sources, and let the command go. Raises InsituError."""
        start_ns = self._destination.begin(self._request, self._sources)
        try:
            for source in self._sources:
                source.start(self._destination.directory(source), start_ns)
                self._refuse_interrupted()
            self._destination.attached()
            if self._launched:
                self._launched.release()
        except BaseException:
            self._destination.undo()  # nothing was recorded
            raise
        self._destination.settle()
        self._loop = Loop(
            self._sources,
            self._drain,
            launched=self._launched,
            pids=self._request.pids,
            seconds=self._request.seconds,
            interrupts=self._interrupts,
        )
        self._open_things.callback(self._loop.close)

    @property
    def _started(self) -> Loop:
        assert self._loop is not None, "start() comes first"
        return self._loop

    @property
    def elapsed_s(self) -> float:
        """Seconds since it has started."""
        return self._started.elapsed_s

    def turn(self) -> bool:
        """Wait for an event, and drain; returns False when the run is over."""
        return self._started.turn() and not self._failure

    def finish(self) -> Outcome:
        """Stop the sources, end the command, and keep losses and status."""
        loop = self._started
        end_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if self._interrupts:
            self._interrupts.time_over = loop.time_over
        with self._interrupts.abandonable() if self._interrupts else contextlib.nullcontext():
            for source in self._sources:
                with self._failing():
                    source.stop(end_ns)
        lost = 0
        for source in self._sources:
            found = source.losses()
            lost += sum(loss.number for loss in found)
            with self._failing():
                self._destination.losses(source, found, end_ns)
        abandoned = loop.end_command(at_once=not self._failure)
        status = loop.exit_status(failed=bool(self._failure))
        notes = [note for each in self._sources for note in each.notes]
        was_quit = self._interrupts is not None and self._interrupts.first == signal.SIGQUIT
        outcome = Outcome(status, self.bytes_written, lost, notes, self._failure, abandoned, was_quit)
        with self._failing():
            self._destination.end(end_ns, outcome)
        return outcome._replace(failure=self._failure)

    def close(self) -> None:
        """Release everything; end a command that still runs. Idempotent."""
        self._open_things.close()

    def _drain(self) -> None:
        if not self._failure:
            with self._failing():
                for source in self._sources:
                    self.bytes_written += source.drain()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """What a full disk may fail: the first failure is kept, and what has been recorded."""
        try:
            yield
        except OSError as error:
            self._failure = self._failure or self._destination.failed(error)

    def _refuse_interrupted(self) -> None:
        """Raise InsituError if somebody has asked to stop before anything has begun."""
        if self._interrupts and self._interrupts.count:
            raise InsituError("interrupted before the recording began", status=128 + self._interrupts.first)


def processes_of(numbers: Sequence[int]) -> tuple[int, ...]:
    """Returns the processes of these process or thread ids, each once.

    Raises InsituError for an id that does not exist.
    """
    pids: dict[int, None] = {}
    for number in numbers:
        try:
            pid = procfs.status(number).pid
            if pid == os.getpid():
                raise InsituError(f"process {number} is insitu itself", status=2)
            pids[pid] = None
        except ProcessLookupError:
            raise InsituError(f"process {number} does not exist", remedy="ps -e lists processes") from None
    return tuple(pids)
