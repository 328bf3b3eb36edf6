"""Joins the records of calls' entries to those of their exits, a window of the recording at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.syscalls.call_word import ATTACHED, SEQUENCE

__all__ = ["Halves", "Joined"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Columns = dict[str, Any]

_ENTER, _EXIT, _END = 0, 1, 2
"""Of a thread: the third is its end, or the beginning of another of its number."""

# label -> what the columns of a table of entries or exits are in it.
_ENTERS: Final = ("enter", "enter_short", "enter_memory")
_EXITS: Final = ("exit", "exit_memory")
_HEAD: Final = ("ts_ns", "tid", "pid", "cpu", "call")
_ARGUMENTS: Final = ("a0", "a1", "a2", "a3", "a4", "a5")
_SHORT: Final = ("a0", "a1", "a2")


class Joined(NamedTuple):
    """Calls of a window. ``enter`` and ``exit`` are columns of the records; ``exit_of`` is the row of each entry's
    exit, -1 where there is none. ``lost`` counts the records of its thread that were lost before each entry,
    ``lost_after``, of the last window, those after the last entries of their threads.

    ``pieces`` are further memory of each: (row, whether it was read at the exit) -> (address, bytes).
    """

    enter: Columns
    exit: Columns
    exit_of: I64
    lost: I64
    pieces: Mapping[tuple[int, bool], list[tuple[int, bytes]]]
    lost_after: int


class Halves:
    """Keeps what waits for its other half."""

    def __init__(self) -> None:
        self._tables: dict[str, Columns] = {}
        self._sequence: dict[int, int] = {}
        self._lost: dict[int, int] = {}
        """By thread: what was lost since its last entry."""

    def add(self, tables: Mapping[str, Mapping[str, Any]], *, last: bool = False) -> Joined:
        """Take the next window's records; returns the calls that ended with it, or all."""
        enter = _stacked([self._tables.get("enter"), *(_enters(tables[name]) for name in _ENTERS if name in tables)])
        exit_ = _stacked([_exits(tables[name]) for name in _EXITS if name in tables], _no_exits())
        pieces = _stacked([self._tables.get("pieces"), *_pieces(tables)], _no_pieces())
        if not enter:
            enter = _enters({name: np.zeros(0, np.uint64) for name in (*_HEAD, *_ARGUMENTS)})
        _follow_exec(enter, tables.get("executed"))
        _set_back(enter, tables.get("began"))
        ends = _ends(tables)
        count, exits = len(enter["tid"]), len(exit_["tid"])
        who = np.concatenate([enter["tid"], exit_["tid"], ends[0]]).astype(np.int64)
        when = np.concatenate([enter["ts_ns"], exit_["ts_ns"], ends[1]]).astype(np.int64)
        kind = np.repeat([_ENTER, _EXIT, _END], [count, exits, len(ends[0])])
        call = np.concatenate([enter["call"], exit_["call"], np.zeros(len(ends[0]), np.uint64)]).astype(np.uint64)
        order = np.lexsort((kind, when, who))
        rows, who, kind, call = order, who[order], kind[order], call[order]
        same = np.append(who[1:] == who[:-1], False)
        follows = np.append(kind[1:] == _EXIT, False) & np.append(call[1:] == call[:-1], False) & same
        paired = np.flatnonzero((kind == _ENTER) & follows)
        exit_of = np.full(count, -1, np.int64)
        exit_of[rows[paired]] = rows[paired + 1] - count
        enter["lost"] = enter["lost"] + self._losses(rows, who, kind, call, follows, count)
        waits = np.zeros(count, np.bool_)
        if not last:
            waits[rows[(kind == _ENTER) & ~same]] = True
        found, rest = _assigned(pieces, enter, exit_, exit_of, waits)
        self._tables = {"enter": _taken(enter, np.flatnonzero(waits)), "pieces": _taken(pieces, rest)}
        done = np.flatnonzero(~waits)
        done = done[np.argsort(enter["ts_ns"][done], kind="stable")]
        at = {int(row): index for index, row in enumerate(done.tolist())} if found else {}
        kept = {(at[row], late): each for (row, late), each in found.items() if row in at}
        ended = _taken(enter, done)
        return Joined(ended, exit_, exit_of[done], ended["lost"], kept, sum(self._lost.values()) if last else 0)

    def _losses(self, rows: I64, who: I64, kind: I64, call: U64, follows: Any, count: int) -> I64:
        """Of each entry: how many records of its thread are missing in front of it."""
        lost = np.zeros(count, np.int64)
        if not len(who):
            return lost
        sequence = (call >> np.uint64(SEQUENCE)).astype(np.int64)
        first = np.append(True, who[1:] != who[:-1])
        before = np.append(0, sequence[:-1])
        before[np.append(False, kind[:-1] == _END)] = 1
        starts = np.flatnonzero(first)
        before[starts] = [self._sequence.get(tid, 1) for tid in who[starts].tolist()]
        gap = np.maximum(sequence - before - 1, 0) * 2
        attached = (call & np.uint64(ATTACHED)) != 0  # which may have returned before the programs knew of it
        gap[1:] += (kind[:-1] == _ENTER) & ~follows[:-1] & ~first[1:] & ~attached[:-1]  # its exit is missing
        ends = np.flatnonzero(np.append(first[1:], True))
        last = np.where(kind[ends] == _END, 1, sequence[ends])
        self._sequence.update(zip(who[ends].tolist(), last.tolist(), strict=True))
        entered = np.flatnonzero(kind == _ENTER)
        self._add_before_exits(who, gap, entered, (kind == _EXIT) & ~np.append(False, follows[:-1]))
        lost[rows[entered]] = gap[entered]
        return lost

    def _add_before_exits(self, who: I64, gap: I64, entered: I64, unpaired: Any) -> None:
        """Count the missing entries of exits, and what is missing before these, with the next entry of the thread."""
        found = [(tid, int(np.searchsorted(who, tid)), count) for tid, count in self._lost.items()]
        found += [(int(who[row]), row, int(gap[row]) + 1) for row in np.flatnonzero(unpaired).tolist()]
        self._lost = {}
        for tid, row, count in found:
            at = int(np.searchsorted(entered, row))
            if at < len(entered) and who[entered[at]] == tid:
                gap[entered[at]] += count
            else:
                self._lost[tid] = self._lost.get(tid, 0) + count


def _enters(columns: Mapping[str, Any]) -> Columns:
    """Entries of any label with the same columns."""
    rows = len(columns["tid"])
    found: Columns = {name: np.asarray(columns[name]) for name in _HEAD}
    zeros = np.zeros(rows, np.uint64)
    for name in _ARGUMENTS:
        found[name] = np.asarray(columns.get(name, zeros))
    found["lost"] = np.zeros(rows, np.int64)
    found["nr"] = np.asarray(columns["nr"]) if "nr" in columns else found["call"] & np.uint64(0xFFF)
    found["address"] = np.asarray(columns.get("address", zeros))
    found["data"] = columns["data"].to_list() if "data" in columns else [b""] * rows
    return found


def _exits(columns: Mapping[str, Any]) -> Columns:
    rows = len(columns["tid"])
    found: Columns = {name: np.asarray(columns[name]) for name in _HEAD}
    found["ret"] = np.asarray(columns["ret"]).astype(np.int64)
    found["address"] = np.asarray(columns.get("address", np.zeros(rows, np.uint64)))
    found["data"] = columns["data"].to_list() if "data" in columns else [b""] * rows
    return found


def _no_exits() -> Columns:
    return _exits({name: np.zeros(0, np.uint64) for name in (*_HEAD, "ret")})


def _pieces(tables: Mapping[str, Mapping[str, Any]]) -> list[Columns]:
    if "memory" not in tables:
        return []
    columns = tables["memory"]
    piece: Columns = {name: np.asarray(columns[name]) for name in ("ts_ns", "tid", "call", "address")}
    return [{**piece, "data": columns["data"].to_list()}]


def _no_pieces() -> Columns:
    empty = np.zeros(0, np.uint64)
    return {"ts_ns": empty, "tid": empty, "call": empty, "address": empty, "data": []}


def _stacked(parts: list[Columns | None], default: Columns | None = None) -> Columns:
    known = [part for part in parts if part is not None]
    if not known:
        return default if default is not None else {}
    if len(known) == 1:
        return known[0]
    return {
        name: [each for part in known for each in part[name]]
        if isinstance(values, list)
        else np.concatenate([part[name] for part in known])
        for name, values in known[0].items()
    }


def _taken(columns: Columns, rows: I64) -> Columns:
    return {
        name: [values[row] for row in rows.tolist()] if isinstance(values, list) else values[rows]
        for name, values in columns.items()
    }


def _follow_exec(enter: Columns, executed: Mapping[str, Any] | None) -> None:
    """A thread that executes a program returns from that under its process's number."""
    if executed is None:
        return
    old = np.asarray(executed["old_tid"]).astype(np.int64)
    tid = np.asarray(executed["tid"]).astype(np.int64)
    for row in np.flatnonzero(old != tid).tolist():
        call, ts_ns = np.asarray(executed["call"])[row], int(np.asarray(executed["ts_ns"])[row])
        found = (enter["tid"] == old[row]) & (enter["call"] == call) & (enter["ts_ns"].astype(np.int64) < ts_ns)
        rows = np.flatnonzero(found)
        if len(rows):
            enter["tid"] = enter["tid"].copy()
            enter["tid"][rows[-1]] = tid[row]


def _set_back(enter: Columns, began: Mapping[str, Any] | None) -> None:
    """Entries that were recorded at the call's exit only have the time at which it began."""
    if began is None:
        return
    at = dict(zip(zip(began["tid"].tolist(), began["call"].tolist(), strict=True), began["at"].tolist(), strict=True))
    words = zip(enter["tid"].tolist(), enter["call"].tolist(), enter["ts_ns"].tolist(), strict=True)
    enter["ts_ns"] = np.array([at.get((tid, call), ts_ns) for tid, call, ts_ns in words], np.int64)


def _ends(tables: Mapping[str, Mapping[str, Any]]) -> tuple[I64, I64]:
    """Threads that have ended, and those that begin: (thread, time)."""
    empty = np.zeros(0, np.int64)
    who, when = [empty], [empty]
    for label, name in (("exited", "tid"), ("forked", "child_tid")):
        if label in tables:
            who.append(np.asarray(tables[label][name]).astype(np.int64))
            when.append(np.asarray(tables[label]["ts_ns"]).astype(np.int64))
    tids, times = np.concatenate(who), np.concatenate(when)
    kept = ~_replaced(tids, times, tables.get("executed"))
    return tids[kept], times[kept]


def _replaced(tids: I64, times: I64, executed: Mapping[str, Any] | None) -> Any:
    """Which ends are those of a process's first thread, whose number execve() gives to the calling one."""
    found = np.zeros(len(tids), np.bool_)
    if executed is not None:
        for tid, old_tid, ts_ns in zip(
            *(executed[name].tolist() for name in ("tid", "old_tid", "ts_ns")), strict=True
        ):
            before = np.flatnonzero((tids == tid) & (times < ts_ns)) if old_tid != tid else ()
            found[before[np.argmax(times[before])] if len(before) else []] = True
    return found


def _assigned(
    pieces: Columns, enter: Columns, exit_: Columns, exit_of: I64, waits: Any
) -> tuple[dict[tuple[int, bool], list[tuple[int, bytes]]], I64]:
    """The pieces of each half, and the rows of those whose half is still to come."""
    found: dict[tuple[int, bool], list[tuple[int, bytes]]] = {}
    rest: list[int] = []
    if not len(pieces["tid"]):
        return found, np.zeros(0, np.int64)
    words = set(zip(pieces["tid"].tolist(), pieces["call"].tolist(), strict=True))
    candidates = np.flatnonzero(np.isin(enter["call"], pieces["call"]))
    calls: dict[tuple[int, int], list[int]] = {}
    for row, tid, call in zip(
        candidates.tolist(), enter["tid"][candidates].tolist(), enter["call"][candidates].tolist(), strict=True
    ):
        if (tid, call) in words:
            calls.setdefault((tid, call), []).append(row)
    columns = (pieces[name].tolist() for name in ("tid", "call", "ts_ns", "address"))
    for index, (tid, call, ts_ns, address) in enumerate(zip(*columns, strict=True)):
        rows = calls.get((tid, call))
        if rows is None:
            rest.append(index)  # dropped with the next window, if its half is lost
            continue
        row = rows[-1]
        if waits[row]:
            rest.append(index)
        elif pieces["data"][index]:
            at_exit = ts_ns > int(enter["ts_ns"][row])
            if at_exit and address == int(enter["address"][row]) and not enter["data"][row]:
                # What the entry could not read: its page was not in memory yet.
                found.setdefault((row, False), []).append((address, pieces["data"][index]))
            if not at_exit or exit_of[row] >= 0:
                found.setdefault((row, at_exit), []).append((address, pieces["data"][index]))
    return found, np.array(rest, np.int64)
