"""One recording: target, sources, deadline, signals, losses and exit status, for every recorder."""

import contextlib
import json
import math
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.record.interrupts import Interrupts
from insitu.record.launcher import Launched, executable
from insitu.record.loop import Loop
from insitu.record.source import Source, Target
from insitu.session.directory import create, put_back, refuse_in_the_way, settle
from insitu.session.files import make_directory, write_whole
from insitu.session.manifest import Manifest

__all__ = ["Outcome", "Request", "processes_of", "record"]


class Request(NamedTuple):
    """What to record and for how long: exactly one of ``command``, ``pids`` and ``whole_system``; a command may be
    given besides ``whole_system``, which then lasts as long as the command."""

    command: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    whole_system: bool = False
    seconds: float | None = None

    def check(self) -> None:
        """Raise InsituError (status 2, usage) for a request that is invalid on any machine."""
        kinds = bool(self.command) + bool(self.pids) + self.whole_system
        if kinds == 0:
            raise InsituError("nothing to record", remedy="give a command after --, -p PID, or -a", status=2)
        if self.pids and kinds > 1:
            raise InsituError("-p PID cannot be combined with a command or -a", status=2)
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise InsituError(f"invalid duration {self.seconds}", remedy="-d takes seconds, more than 0", status=2)


class Outcome(NamedTuple):
    """How a recording went. ``exit_status`` is the command's, 0 without one."""

    exit_status: int
    bytes_written: int
    lost: int
    """Lost records that the records themselves do not report."""
    notes: list[str]
    failure: str
    """Why recording ended early, such as a full disk; "" if it did not."""
    abandoned: bool
    """Whether a second signal came while the command was still ending."""


def record(
    request: Request,
    sources: Sequence[Source],
    path: Path,
    *,
    progress: Callable[[float, int], None] | None = None,
    default_table: str = "",
) -> Outcome:
    """Record from ``sources`` into a new session at ``path``, which is left unconverted: see convert.sources.finish.

    Nothing is started, and nothing at ``path`` touched, before everything that can be refused has been tried.
    ``progress`` is called about once a second with the seconds and bytes so far. ``default_table`` is what views show
    without --table.
    Raises InsituError; its status is 126 or 127 where the command cannot be run.
    """
    request.check()
    request = request._replace(pids=processes_of(request.pids))
    refuse_in_the_way(path)
    if request.command:
        executable(request.command)
    with Interrupts() as interrupts, contextlib.ExitStack() as open_things:
        launched = Launched(request.command, interrupts.ignored_before) if request.command else None
        if launched:
            open_things.callback(launched.close)
        _raise_descriptor_limit()
        target = Target(launched, request.pids, request.whole_system)
        for source in sources:
            open_things.callback(source.close)
            source.open(target)
        _refuse_interrupted(interrupts)
        return _Recording(request, sources, path, target, interrupts, progress).run(default_table)


class _Recording:
    def __init__(
        self,
        request: Request,
        sources: Sequence[Source],
        path: Path,
        target: Target,
        interrupts: Interrupts,
        progress: Callable[[float, int], None] | None,
    ) -> None:
        self._request = request
        self._sources = sources
        self._path = path
        self._launched = target.launched
        self._interrupts = interrupts
        self._progress = progress
        self._failure = ""
        self._bytes = 0

    def run(self, default_table: str) -> Outcome:
        manifest = Manifest.here(
            command=list(self._request.command),
            pids=list(self._request.pids),
            whole_system=self._request.whole_system,
            sources=[
                {"id": each.id, "kind": each.layout()["kind"], "options": each.options} for each in self._sources
            ],
            notes=[note for each in self._sources for note in each.notes],
            default_table=default_table,
        )
        renamed = create(self._path, manifest)
        try:
            self._start(manifest.start_ns)
        except BaseException:
            put_back(self._path, renamed)  # nothing was recorded
            raise
        settle(renamed)
        loop = Loop(
            self._sources,
            self._drain,
            launched=self._launched,
            pids=self._request.pids,
            seconds=self._request.seconds,
            interrupts=self._interrupts,
        )
        try:
            self._until_over(loop)
            return self._ended(loop, manifest)
        finally:
            loop.close()

    def _until_over(self, loop: Loop) -> None:
        reported_s = 0.0
        while loop.turn():
            if self._failure:
                loop.stop()
            if self._progress and loop.elapsed_s - reported_s >= 1:
                reported_s = loop.elapsed_s
                self._progress(reported_s, self._bytes)

    def _ended(self, loop: Loop, manifest: Manifest) -> Outcome:
        end_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._interrupts.leaving = True
        for source in self._sources:
            self._or_failure(partial(source.stop, end_ns))
        self._interrupts.leaving = False
        lost = self._write_losses(end_ns)
        abandoned = loop.end_command(at_once=not self._failure)
        status = loop.exit_status(failed=bool(self._failure))
        notes = [note for each in self._sources for note in each.notes]
        said = notes + ([self._failure] if self._failure else [])
        self._or_failure(lambda: manifest.changed(end_ns=end_ns, exit_status=status, notes=said).write(self._path))
        return Outcome(status, self._bytes, lost, notes, self._failure, abandoned)

    def _start(self, start_ns: int) -> None:
        for source in self._sources:
            directory = self._path / "raw" / source.id
            make_directory(directory)
            write_whole(directory / "layout.json", json.dumps(source.layout()).encode())
            source.start(directory, start_ns)
        _refuse_interrupted(self._interrupts)
        if self._launched:
            self._launched.release()

    def _or_failure(self, action: Callable[[], Any]) -> None:
        """Run ``action``, which a full disk may fail; keep the first failure, and what has been recorded."""
        try:
            action()
        except OSError as error:
            self._failure = self._failure or f"{self._path}: recording stopped: {error.strerror}"

    def _drain(self) -> None:
        if not self._failure:
            self._or_failure(self._drain_all)

    def _drain_all(self) -> None:
        for source in self._sources:
            self._bytes += source.drain()

    def _write_losses(self, end_ns: int) -> int:
        """Write losses that the records themselves do not report to end.json, for the converter."""
        total = 0
        for source in self._sources:
            losses = list(source.losses())
            total += sum(loss.number for loss in losses)
            entries = [{"what": loss.what, "count": loss.number, "cpu": loss.cpu, "ts_ns": end_ns} for loss in losses]
            if entries:
                text = json.dumps({"losses": entries}).encode()
                file = self._path / "raw" / source.id / "end.json"
                self._or_failure(partial(write_whole, file, text))
        return total


def _refuse_interrupted(interrupts: Interrupts) -> None:
    """Raise InsituError if somebody has asked to stop before anything has begun."""
    if interrupts.count:
        raise InsituError("interrupted before the recording began", status=128 + signal.SIGINT)


def processes_of(numbers: Sequence[int]) -> tuple[int, ...]:
    """Returns the processes of these process or thread ids, each once.

    Raises InsituError for an id that does not exist.
    """
    pids: dict[int, None] = {}
    for number in numbers:
        try:
            pids[procfs.status(number).pid] = None
        except ProcessLookupError:
            raise InsituError(f"process {number} does not exist", remedy="ps -e lists processes") from None
    return tuple(pids)


def _raise_descriptor_limit() -> None:
    """One descriptor per event, thread and CPU: the usual soft limit of 1024 is soon reached."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
