"""Rows of wall time with the places in the program that they happened in, added up by thread and by cause."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from insitu.errors import InsituError
from insitu.session.weighted_stacks import Selection
from insitu.symbols.frame import KERNEL, PYTHON, WAKER, Frame
from insitu.views.hints import hints

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["Cause", "Row", "Wall"]

_TABLE: Final = "wall"
_LIBRARIES: Final = re.compile(r"(lib(c|m|pthread|stdc\+\+|gcc_s)|ld-linux.*|ld)[-.\d]*\.so|\[vdso\]|libc\.so|\[")
_PYTHON_LIBRARY: Final = re.compile(r"/lib(64)?/python3[.\d]*/|^<frozen ")
_RESTING: Final = frozenset({"idle", "sleep", "poll", "signal"})
"""Causes of waits for time to pass, or for something to do."""


class Cause(NamedTuple):
    """What time is added up by."""

    state: str
    cause: str
    call: str
    object: str
    holder: int | None
    place: str


class Row(NamedTuple):
    utid: int
    cause: Cause
    waker: int | None
    waker_place: str
    ns: int
    times: int


class Wall:
    """The rows of a session, with the places in the program that they happened in."""

    def __init__(self, session: Session) -> None:
        if _TABLE not in session.tables:
            raise InsituError(f"{session.name}: no wall time was recorded", remedy="insitu why records it")
        stacks = session.stacks(Selection(table=_TABLE))
        self.hints, self.losses = hints(stacks), stacks.losses
        self.whole_system = session.manifest.whole_system
        self._parent, self._frame, self._frames = stacks.parent.tolist(), stacks.frame.tolist(), stacks.frames
        self._places: dict[int, tuple[str, str]] = {}
        threads = session.sql("select utid, pid, tid, name from thread join process using (upid)")
        known = self._threads = {utid: (pid, tid, name) for utid, pid, tid, name in threads.rows()}
        names = ("utid", "state", "cause", "call", "object", "holder", "waker", "dur_ns", "count", "stack")
        self.rows = []
        for utid, state, cause, call, thing, holder, waker, ns, count, stack in session[_TABLE].select(names).rows():
            place, waker_place = self._place(stack)
            holder, waker = (each if each in known else None for each in (holder, waker))
            found = Cause(state, cause, call, thing, holder, place)
            self.rows.append(Row(utid, found, waker, waker_place, ns, count))
        self.total_ns = sum(row.ns for row in self.rows)
        self.by_thread: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for row in self.rows:
            self.by_thread[row.utid][row.cause.cause or row.cause.state] += row.ns

    def _place(self, stack: int) -> tuple[str, str]:
        """The function of the program that ran or waited, and that of the waker."""
        if stack not in self._places:
            frames = []
            at = stack
            while at:
                frames.append(self._frames[self._frame[at]])
                at = self._parent[at]
            waker = [frame for frame in reversed(frames) if frame.kind == WAKER]
            self._places[stack] = _place([each for each in frames if each.kind != WAKER]), _place(waker)
        return self._places[stack]

    def busiest(self, groups: Iterable[Sequence[int]]) -> list[Sequence[int]]:
        """Groups of threads by the time that they did not rest, then by all their time: most first."""

        def least_busy(group: Sequence[int]) -> tuple[int, int]:
            times = [(cause, ns) for utid in group for cause, ns in self.by_thread[utid].items()]
            busy = sum(ns for cause, ns in times if cause not in _RESTING)
            return -busy, -sum(ns for _, ns in times)

        return sorted(groups, key=least_busy)

    def thread(self, utid: int) -> tuple[int, int, str]:
        """pid, tid and name; 0 and no name where the session does not know the thread."""
        return self._threads.get(utid, (0, 0, ""))

    def label(self, utid: int) -> str:
        """A thread for a sentence."""
        _, tid, name = self.thread(utid)
        return f"{name or 'thread'}/{tid}"

    def causes(self, utids: Iterable[int] | None = None) -> list[tuple[Cause, int, int, list[Row]]]:
        """Causes with their time, how often, and rows: the one of most time first."""
        wanted = None if utids is None else set(utids)
        found: dict[Cause, list[Row]] = defaultdict(list)
        for row in self.rows:
            if wanted is None or row.utid in wanted:
                found[row.cause].append(row)
        causes = [(cause, sum(r.ns for r in rows), sum(r.times for r in rows), rows) for cause, rows in found.items()]
        return sorted(causes, key=lambda each: -each[1])


def _place(frames: Sequence[Frame]) -> str:
    """The innermost function of the program itself, else of a library, with file and line; "" without user code."""
    python = [frame for frame in frames if frame.kind == PYTHON and frame.file]
    for frame in [each for each in python if not _PYTHON_LIBRARY.search(each.file)] or python:
        call = frame.function if frame.function.startswith("<") else f"{frame.function}()"
        return f"{call} {frame.file.rpartition('/')[2]}" + (f":{frame.line}" if frame.line else "")
    known = [frame for frame in frames if frame.symbolized and not frame.module.startswith("[") and frame.module]
    own = [frame for frame in known if not _LIBRARIES.match(frame.module.rpartition("/")[2])]
    for frame in own or known:
        where = f" {frame.file.rpartition('/')[2]}:{frame.line}" if frame.line else ""
        return f"{frame.function}(){where}"
    kernel = [frame for frame in frames if frame.kind == KERNEL and frame.symbolized]
    return f"{kernel[0].function}() in the kernel" if kernel else ""
