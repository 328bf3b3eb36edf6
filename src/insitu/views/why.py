"""Where the wall time of threads went: a verdict in words, and the figures, which add up to 100 per cent."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from insitu.errors import InsituError
from insitu.plurals import counted
from insitu.session.weighted_stacks import Selection
from insitu.symbols.frame import KERNEL, PYTHON, WAKER, Frame
from insitu.views.hints import hints
from insitu.views.losses import loss_text
from insitu.views.quantity import duration, rest
from insitu.views.table import Column, Table
from insitu.views.terminal import heat, wrapped

if TYPE_CHECKING:
    from insitu.session.reader import Session
    from insitu.views.terminal import Block, Screen

__all__ = ["why_json", "why_lines"]

_TABLE: Final = "wall"
_LEAST_SHARE: Final = 0.04
"""Of all time; what takes less is not in the verdict."""
_MOST_SENTENCES: Final = 6
_PIPE_WIDTH: Final = 100
"""Of the sentences, where nothing else limits them."""
_LIBRARIES: Final = re.compile(r"(lib(c|m|pthread|stdc\+\+|gcc_s)|ld-linux.*|ld)[-.\d]*\.so|\[vdso\]|libc\.so|\[")
_PYTHON_LIBRARY: Final = re.compile(r"/lib(64)?/python3[.\d]*/|^<frozen ")
_COLUMNS: Final = ("user", "kernel", "running", "runnable", "throttled")


class _Cause(NamedTuple):
    """What time is added up by."""

    state: str
    cause: str
    call: str
    object: str
    holder: int | None
    place: str


class _Row(NamedTuple):
    utid: int
    cause: _Cause
    waker: int | None
    waker_place: str
    ns: int
    times: int


class _Wall:
    """The rows of a session, with the places in the program that they happened in."""

    def __init__(self, session: Session) -> None:
        if _TABLE not in session.tables:
            raise InsituError(f"{session.name}: no wall time was recorded", remedy="insitu why records it")
        stacks = session.stacks(Selection(table=_TABLE))
        self.hints, self.losses = hints(stacks), stacks.losses
        self._parent, self._frame, self._frames = stacks.parent.tolist(), stacks.frame.tolist(), stacks.frames
        self._places: dict[int, tuple[str, str]] = {}
        threads = session.sql("select utid, pid, tid, name from thread join process using (upid)")
        known = self._threads = {utid: (pid, tid, name) for utid, pid, tid, name in threads.rows()}
        names = ("utid", "state", "cause", "call", "object", "holder", "waker", "dur_ns", "count", "stack")
        self.rows = []
        for utid, state, cause, call, thing, holder, waker, ns, count, stack in session[_TABLE].select(names).rows():
            place, waker_place = self._place(stack)
            holder, waker = (each if each in known else None for each in (holder, waker))
            found = _Cause(state, cause, call, thing, holder, place)
            self.rows.append(_Row(utid, found, waker, waker_place, ns, count))
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

    def thread(self, utid: int) -> tuple[int, int, str]:
        """pid, tid and name; 0 and no name where the session does not know the thread."""
        return self._threads.get(utid, (0, 0, ""))

    def label(self, utid: int) -> str:
        """A thread for a sentence."""
        _, tid, name = self.thread(utid)
        return f"{name or 'thread'}/{tid}"

    def causes(self, utids: Iterable[int] | None = None) -> list[tuple[_Cause, int, int, list[_Row]]]:
        """Causes with their time, how often, and rows: the one of most time first."""
        wanted = None if utids is None else set(utids)
        found: dict[_Cause, list[_Row]] = defaultdict(list)
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


# The verdict


_BLOCKED: Final = {
    "lock": "waiting for the lock at {object}",
    "join": "waiting for a thread to end ({call})",
    "condition": "waiting for the condition variable at {object}",
    "barrier": "waiting for other threads at the barrier at {object}",
    "semaphore": "waiting for the semaphore at {object}",
    "sleep": "asleep ({call})",
    "child": "waiting for a child to end ({call})",
    "poll": "waiting in {call} for an event",
    "page fault": "waiting for a page that was not in memory",
    "stopped": "stopped by a signal",
    "traced": "stopped by a debugger or tracer",
    "pipe": "in {call} on {object}",
    "socket": "in {call} on {object}",
    "signal": "waiting for a signal ({call})",
    "other": "blocked in the kernel",
}
_RUNNING: Final = {
    "user": "running user code",
    "kernel": "running in the kernel",
    "running": "on a CPU (too short for samples)",
    "runnable": "ready to run, but waiting for a CPU",
    "throttled": "throttled: its cgroup has used up its CPU quota",
}


def _sentence(wall: _Wall, cause: _Cause, rows: Sequence[_Row]) -> str:
    if cause.state == "blocked":
        default = "in {call} on {object}" if cause.object else "blocked in {call}"
        text = _BLOCKED.get(cause.cause, default).format(call=cause.call, object=cause.object)
    else:
        text = _RUNNING.get(cause.state, cause.state)
    if cause.holder is not None:
        text += f" held by {wall.label(cause.holder)}"
    if cause.place:
        text += f", in {cause.place}"
    return text


def _chain(wall: _Wall, rows: Sequence[_Row]) -> list[str]:
    """Who ended the waits of these rows, what that thread did itself, and so on to one that was busy."""
    lines: list[str] = []
    seen = {row.utid for row in rows}
    while len(lines) < _MOST_SENTENCES:
        wakers: dict[tuple[int, str], int] = defaultdict(int)
        for row in rows:
            if row.waker is not None and row.cause.state == "blocked":
                wakers[row.waker, row.waker_place] += row.ns
        if not wakers:
            break
        (utid, place), ns = max(wakers.items(), key=lambda each: each[1])
        if utid in seen or 2 * ns < sum(row.ns for row in rows if row.cause.state == "blocked"):
            break
        seen.add(utid)
        line = f"ended by {wall.label(utid)}" + (f" in {place}" if place else "")
        causes = wall.causes([utid])
        if causes:
            whole = sum(ns for _, ns, _, _ in causes) or 1
            cause, most, _, rows = causes[0]
            line += f", which is {100 * most / whole:.0f} % of its time {_sentence(wall, cause, rows)}"
        lines.append(line)
        if not causes or causes[0][0].state != "blocked":
            break
    return lines


def why_lines(session: Session, screen: Screen, *, limit: int = 20) -> Iterator[Block]:
    """The report of a session. Raises InsituError where it has no wall time."""
    wall, width = _Wall(session), screen.width or _PIPE_WIDTH
    threads = sorted(wall.by_thread, key=lambda utid: -sum(wall.by_thread[utid].values()))
    if not wall.total_ns:
        yield [("no thread of the target was alive while it was recorded", "")]
        return
    names = ", ".join(sorted({wall.thread(utid)[2] for utid in threads})[:4])
    count = counted(len(threads), "thread")
    longest = duration(max(sum(states.values()) for states in wall.by_thread.values()))
    yield [(f"Wall time of {names}: {duration(wall.total_ns)} in all, of {count} in {longest}", "bold")]
    if wall.losses:
        yield from wrapped(("", ""), (loss_text(wall.losses), "bold red"), width)
    yield []
    yield from _verdict(wall, width)
    yield []
    groups = _groups(wall, threads, limit)
    yield _thread_table(wall, groups, limit)
    if limit and len(groups) > limit:
        yield [(rest(sum(map(len, groups[limit:])), "thread"), "dim")]
    for hint in wall.hints:
        yield from wrapped(("", ""), (hint, "dim"), width)


def _verdict(wall: _Wall, width: int) -> Iterator[Block]:
    for cause, ns, count, rows in wall.causes()[:_MOST_SENTENCES]:
        share = ns / wall.total_ns
        if share < _LEAST_SHARE:
            break
        who = sorted({row.utid for row in rows})
        of = _named(wall, who)
        sentence = f"{of} {_sentence(wall, cause, rows)}"
        if cause.state == "blocked" and count > 1:
            sentence += f" ({count:,} times, {duration(ns / count)} each)"
        yield from wrapped((f"{100 * share:5.1f} %  ", heat(100 * share)), (sentence, ""), width)
        if cause.state == "blocked":
            for line in _chain(wall, rows):
                yield from wrapped((" " * 9, ""), (line, "dim"), width)


def _named(wall: _Wall, utids: Sequence[int]) -> str:
    """Threads as the subject of a sentence."""
    if len(utids) == 1:
        return wall.label(utids[0])
    names = {wall.thread(utid)[2] for utid in utids}
    return f"{len(utids)} threads" + (f" {names.pop()}" if len(names) == 1 else "")


# The figures


def percentages(values: Sequence[int]) -> list[float]:
    """Shares in per cent, rounded to tenths so that they add up to 100."""
    whole = sum(values)
    if not whole:
        return [0.0 for _ in values]
    exact = [1000 * value / whole for value in values]
    found = [int(each) for each in exact]
    for at in sorted(range(len(values)), key=lambda at: found[at] - exact[at])[: 1000 - sum(found)]:
        found[at] += 1
    return [each / 10 for each in found]


def _states(wall: _Wall) -> list[str]:
    """Those that there are: of threads that ran first, then causes of blocked ones by their time."""
    totals: dict[str, int] = defaultdict(int)
    for states in wall.by_thread.values():
        for state, ns in states.items():
            totals[state] += ns
    blocked = sorted((each for each in totals if each not in _COLUMNS), key=lambda each: -totals[each])
    return [each for each in _COLUMNS if totals.get(each)] + [each for each in blocked if totals[each]]


def _groups(wall: _Wall, threads: Sequence[int], limit: int) -> list[list[int]]:
    """Threads by themselves, or where they are more than ``limit``, those of a process with the same name together;
    the group of most time first."""
    if not limit or len(threads) <= limit:
        return [[utid] for utid in threads]
    found: dict[tuple[int, str], list[int]] = defaultdict(list)
    for utid in threads:
        pid, _, name = wall.thread(utid)
        found[pid, name].append(utid)
    return sorted(found.values(), key=lambda group: -sum(sum(wall.by_thread[utid].values()) for utid in group))


def _thread_table(wall: _Wall, groups: Sequence[Sequence[int]], limit: int) -> Table:
    states = _states(wall)
    few, others = states[:9], states[9:]
    titles = [*few, "other"] if others else few
    rows: list[list[tuple[str, str]]] = []
    for group in [list(wall.by_thread), *groups[: limit or len(groups)]]:
        values = [sum(wall.by_thread[utid][state] for utid in group) for state in states]
        if others:
            values = [*values[:9], sum(values[9:])]
        shares = percentages(values)
        _, tid, name = wall.thread(group[0]) if rows else (0, 0, "all")
        which = "" if not rows else str(tid) if len(group) == 1 else f"{len(group)} threads"
        cells = [(f"{share:.1f}" if share else "-", heat(share) if share else "dim") for share in shares]
        rows.append([(which, ""), (name, ""), (duration(sum(values)), ""), *cells])
    columns = [
        Column("tid"),
        Column("thread", "left", most=15),
        Column("wall"),
        *(Column(_TITLES.get(t, t)) for t in titles),
    ]
    return Table(columns, rows)


_TITLES: Final = {"runnable": "runq", "throttled": "throttl", "page fault": "fault", "i/o queue": "aio"}


def why_json(session: Session) -> str:
    """The same as JSON: ``causes`` and ``threads``, of which each adds up to ``wall_ns``; ``lost`` by source."""
    wall = _Wall(session)
    causes: list[dict[str, Any]] = [
        {
            **cause._asdict(),
            "holder": None if cause.holder is None else wall.thread(cause.holder)[1],
            "ns": ns,
            "percent": round(100 * ns / (wall.total_ns or 1), 2),
            "count": count,
            "tids": sorted({wall.thread(row.utid)[1] for row in rows}),
            "wakers": sorted({wall.thread(row.waker)[1] for row in rows if row.waker is not None}),
        }
        for cause, ns, count, rows in wall.causes()
    ]
    threads = [
        {
            "pid": wall.thread(utid)[0],
            "tid": wall.thread(utid)[1],
            "name": wall.thread(utid)[2],
            "ns": dict(states),
        }
        for utid, states in wall.by_thread.items()
    ]
    content = {"wall_ns": wall.total_ns, "lost": wall.losses, "causes": causes, "threads": threads}
    return json.dumps(content, indent=2)
