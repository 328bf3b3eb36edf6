"""Gives mutated inputs to a target in one process, and keeps those that reach lines which no other has reached."""

import contextlib
import hashlib
import random
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

import insitu
from fuzz.mutation import Mutator
from fuzz.registry import Read
from insitu.errors import InsituError

__all__ = ["DEADLINE_SECONDS", "MEMORY_BYTES", "Engine", "Finding", "bound_memory", "examine", "limited", "name_of"]

DEADLINE_SECONDS: Final = 5.0  # of CPU time
MEMORY_BYTES: Final = 1 << 30  # more than the process has when it begins
_MOST_KEPT: Final = 2000
_MOST_KEPT_BYTES: Final = 1 << 16
_TRACED_EVERY: Final = 8
"""One in so many inputs is traced, which takes several times as long."""
_DEADLINE: Final = "deadline"
_SOURCES: Final = str(Path(insitu.__file__).parent)

Reach = set[tuple[CodeType, int]]


class Finding(NamedTuple):
    """What an input ended in, in one line. Findings with one ``key`` are taken for the same defect."""

    key: str
    what: str
    trace: str
    data: bytes


class _DeadlineError(BaseException):
    pass


class Engine:
    """The inputs of one process for one target: a corpus that grows, and the findings."""

    def __init__(self, read: Read, corpus: list[bytes], seed: str, *, text: bool) -> None:
        self._read = read
        self._rng = random.Random(seed)
        self._corpus = corpus
        self._mutator = Mutator(self._rng, corpus, text=text)
        self._traced: Reach = set()
        self._ends: set[str] = set()
        self.done = 0

    @property
    def lines(self) -> int:
        """How many lines of insitu the traced inputs have reached."""
        return len(self._traced)

    def inputs(self) -> Iterator[bytes]:
        """Inputs to be examined without an end: those of the corpus as they are, then mutated ones."""
        yield from list(self._corpus)
        while True:
            # Half of them from what was found last, which is where something new is nearest.
            newest = max(0, len(self._corpus) - 20) if self._rng.random() < 0.3 else 0
            yield self._mutator.mutated(self._corpus[self._rng.randrange(newest, len(self._corpus))])

    def examine(self, data: bytes, *, guided: bool = True) -> Finding | None:
        """Read one input."""
        reach: Reach = set()
        traced = guided and self.done % _TRACED_EVERY == 0
        self.done += 1
        with _tracing(self._traced, reach) if traced else contextlib.nullcontext():
            finding, end = examine(self._read, data)
        if traced and finding is not None and finding.key.startswith(_DEADLINE):
            with limited():  # tracing takes several times as long
                finding, end = examine(self._read, data)
        if reach or (guided and end not in self._ends):
            self._traced |= reach
            self._ends.add(end)
            if len(self._corpus) < _MOST_KEPT and len(data) <= _MOST_KEPT_BYTES:
                self._corpus.append(data)
        return finding


def examine(read: Read, data: bytes) -> tuple[Finding | None, str]:
    """Read an input once: what is wrong with how that ended, and where it ended."""
    try:
        read(data)
    except (InsituError, OSError) as error:
        place = _place(error)
        if isinstance(error, InsituError) and "\n" in str(error):
            return _finding(error, data, "a message of several lines"), place
        return None, place
    except BaseException as error:  # a parser that raises SystemExit is as wrong
        if isinstance(error, KeyboardInterrupt):
            raise
        return _finding(error, data), _place(error)
    return None, ""


def _finding(error: BaseException, data: bytes, what: str = "") -> Finding:
    kind = _DEADLINE if isinstance(error, _DeadlineError) else what or type(error).__name__
    first = str(error).partition("\n")[0][:150]
    trace = "".join(traceback.format_exception(error, limit=-12))
    return Finding(f"{kind} at {_place(error)}", f"{kind} at {_place(error)}: {first}", trace, data)


def _place(error: BaseException) -> str:
    """The innermost line of insitu that an exception went through."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(_SOURCES):
            place = f"{file.removeprefix(_SOURCES)[1:]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


@contextlib.contextmanager
def _tracing(known: Reach, reach: Reach) -> Iterator[None]:
    """Add the lines of insitu that run to ``reach``, without those in ``known``."""

    def line(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        at = (frame.f_code, frame.f_lineno)
        if at not in known:
            reach.add(at)
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        return line(frame, event, argument) if frame.f_code.co_filename.startswith(_SOURCES) else None

    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(None)


@contextlib.contextmanager
def limited(seconds: float = DEADLINE_SECONDS) -> Iterator[None]:
    """Raise an exception, which makes a finding, where what is done within takes longer (CPU time)."""

    def over(number: int, frame: FrameType | None) -> None:
        raise _DeadlineError(f"more than {seconds:g} s of CPU time")

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def bound_memory(most: int = MEMORY_BYTES) -> None:
    """Let this process have ``most`` bytes of address space more than it has now: beyond, MemoryError is raised."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + most
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def name_of(data: bytes) -> str:
    """A short name for an input."""
    return hashlib.sha256(data).hexdigest()[:12]
