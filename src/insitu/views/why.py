"""Where the wall time of threads went: a verdict in words, and the figures, which add up to 100 per cent."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from insitu.plurals import counted
from insitu.views.losses import loss_text
from insitu.views.quantity import duration, rest
from insitu.views.table import Column, Table
from insitu.views.terminal import heat, wrapped
from insitu.views.wall import Cause, Row, Wall

if TYPE_CHECKING:
    from insitu.session.reader import Session
    from insitu.views.terminal import Block, Screen

__all__ = ["why_json", "why_lines"]

_LEAST_SHARE: Final = 0.04
"""Of all time; what takes less is not in the verdict."""
_MOST_SENTENCES: Final = 6
_MOST_NAMES: Final = 4
"""Of the headline."""
_PIPE_WIDTH: Final = 100
"""Of the sentences, where nothing else limits them."""
_COLUMNS: Final = ("user", "kernel", "running", "runnable", "throttled")


# The verdict


class _Waits(NamedTuple):
    """What a sentence is about: rows of one cause, or of several that differ only in the address of what was held."""

    cause: Cause
    ns: int
    times: int
    rows: list[Row]
    objects: int = 1
    """How many addresses there are."""


def _waits(wall: Wall) -> list[_Waits]:
    """Causes with idle kernel threads together (and last), and locks that are waited for at one place."""
    found: dict[Cause, list[_Waits]] = defaultdict(list)
    for each in wall.causes():
        cause = each[0]
        if cause.cause == "idle":
            cause = cause._replace(holder=None, place="")
        elif _ADDRESS.fullmatch(cause.object):
            cause = cause._replace(object="", holder=None)
        found[cause].append(_Waits(*each))
    merged = []
    for cause, waits in found.items():
        objects = {each.cause.object for each in waits}
        if len(objects) == 1 and cause.cause != "idle":
            merged += waits  # of one lock, those with each holder
            continue
        holders = {each.cause.holder for each in waits} - {None}
        rows = [row for each in waits for row in each.rows]
        whole = cause._replace(holder=holders.pop() if len(holders) == 1 else None)
        merged.append(
            _Waits(whole, sum(each.ns for each in waits), sum(each.times for each in waits), rows, len(objects))
        )
    return sorted(merged, key=lambda each: (each.cause.cause == "idle", -each.ns))


_ADDRESS: Final = re.compile("0x[0-9a-f]+")
_AT_ADDRESSES: Final = {
    "lock": ("waiting for {}", "lock"),
    "condition": ("waiting for {}", "condition variable"),
    "barrier": ("waiting for other threads at {}", "barrier"),
    "semaphore": ("waiting for {}", "semaphore"),
}
_BLOCKED: Final = {
    "join": "waiting for a thread to end ({call})",
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


def _sentence(wall: Wall, cause: Cause, objects: int = 1) -> str:
    if cause.cause in _AT_ADDRESSES:
        text, noun = _AT_ADDRESSES[cause.cause]
        one = f"the {noun} at {cause.object}" if cause.object else f"a {noun}"
        text = text.format(counted(objects, noun) if objects > 1 else one)
    elif cause.state == "blocked":
        default = "in {call} on {object}" if cause.object else "blocked in {call}"
        text = _BLOCKED.get(cause.cause, default).format(call=cause.call, object=cause.object)
    else:
        text = _RUNNING.get(cause.state, cause.state)
    if cause.holder is not None:
        text += f" held by {wall.label(cause.holder)}"
    if cause.place:
        text += f", in {cause.place}"
    return text


def _chain(wall: Wall, rows: Sequence[Row]) -> list[str]:
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
            line += f", which is {100 * most / whole:.0f} % of its time {_sentence(wall, cause)}"
        lines.append(line)
        if not causes or causes[0][0].state != "blocked":
            break
    return lines


def why_lines(session: Session, screen: Screen, *, limit: int = 20) -> Iterator[Block]:
    """The report of a session. Raises InsituError where it has no wall time."""
    wall, width = Wall(session), screen.width or _PIPE_WIDTH
    threads = [utid for (utid,) in wall.busiest((utid,) for utid in wall.by_thread)]
    if not wall.total_ns:
        yield [("no thread of the target was alive while it was recorded", "")]
        return
    count = counted(len(threads), "thread")
    longest = duration(max(sum(states.values()) for states in wall.by_thread.values()))
    yield [
        (f"Wall time of {_subject(wall, threads)}: {duration(wall.total_ns)} in all, of {count} in {longest}", "bold")
    ]
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


def _subject(wall: Wall, threads: Sequence[int]) -> str:
    """What was looked at: the names of its threads, given the busiest first."""
    if wall.whole_system:
        return "the whole machine"
    names = list(dict.fromkeys(wall.thread(utid)[2] for utid in threads))
    shown = ", ".join(sorted(names[:_MOST_NAMES]))
    return shown + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")


def _verdict(wall: Wall, width: int) -> Iterator[Block]:
    waits = _waits(wall)
    idle = sum(each.ns for each in waits if each.cause.cause == "idle")
    least = {True: _LEAST_SHARE * wall.total_ns, False: _LEAST_SHARE * (wall.total_ns - idle)}
    found = [each for each in waits if each.ns >= least[each.cause.cause == "idle"]]
    shown = [each for each in found if each.cause.cause != "idle"][:_MOST_SENTENCES]
    for cause, ns, count, rows, objects in [*shown, *(each for each in found if each.cause.cause == "idle")]:
        share = ns / wall.total_ns
        who = sorted({row.utid for row in rows})
        if cause.cause == "idle":
            text = (f"{counted(len(who), 'idle kernel thread')}", "")
            yield from wrapped((f"{100 * share:5.1f} %  ", "dim"), text, width)
            continue
        sentence = f"{_named(wall, who)} {_sentence(wall, cause, objects)}"
        if cause.state == "blocked" and count > 1:
            sentence += f" ({count:,} times, {duration(ns / count)} each)"
        yield from wrapped((f"{100 * share:5.1f} %  ", heat(100 * share)), (sentence, ""), width)
        if cause.state == "blocked":
            for line in _chain(wall, rows):
                yield from wrapped((" " * 9, ""), (line, "dim"), width)


def _named(wall: Wall, utids: Sequence[int]) -> str:
    """Threads as the subject of a sentence."""
    if len(utids) == 1:
        return wall.label(utids[0])
    first, *others = {wall.thread(utid)[2] for utid in utids}
    return f"{len(utids)} threads" + (f" named {first}" if first and not others else "")


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


def _states(wall: Wall) -> list[str]:
    """Those that there are: of threads that ran first, then causes of blocked ones by their time."""
    totals: dict[str, int] = defaultdict(int)
    for states in wall.by_thread.values():
        for state, ns in states.items():
            totals[state] += ns
    blocked = sorted((each for each in totals if each not in _COLUMNS), key=lambda each: -totals[each])
    return [each for each in _COLUMNS if totals.get(each)] + [each for each in blocked if totals[each]]


def _groups(wall: Wall, threads: Sequence[int], limit: int) -> list[Sequence[int]]:
    """Threads by themselves, or where they are more than ``limit``, those of a process with the same name together;
    the busiest group first."""
    if not limit or len(threads) <= limit:
        return [[utid] for utid in threads]
    found: dict[tuple[int, str], list[int]] = defaultdict(list)
    for utid in threads:
        pid, _, name = wall.thread(utid)
        found[pid, name].append(utid)
    return wall.busiest(found.values())


def _thread_table(wall: Wall, groups: Sequence[Sequence[int]], limit: int) -> Table:
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
    wall = Wall(session)
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
