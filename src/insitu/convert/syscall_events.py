"""Trace events of system calls as spans: raw_syscalls:sys_enter and sys_exit, or those of syscalls:sys_enter_NAME.

The events do not say which ABI a call has: those of 32-bit programs get the names of the machine's own calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.convert.call_halves import Halves, Joined
from insitu.errors import InsituError
from insitu.session.core_tables import SPAN
from insitu.session.distinct import distinct
from insitu.session.writer import SessionWriter
from insitu.syscalls.call_word import NUMBER_MASK, SEQUENCE, abis_of
from insitu.syscalls.decode import call_name

__all__ = ["SyscallEvents"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_RAW: Final = "raw_syscalls:sys_"
_LABEL: Final = re.compile(r"(?:raw_syscalls:sys_(?P<raw>enter|exit)|syscalls:sys_(?P<one>enter|exit)_\w+)")
_ENTER, _EXIT = 0, 1


class _Half(NamedTuple):
    """Entries and exits, n of each."""

    ts_ns: I64
    tid: I32
    cpu: I32
    number: I64
    kind: NDArray[np.int8]

    def taken(self, rows: NDArray[np.bool_]) -> _Half:
        """Some of them."""
        columns: Sequence[Any] = self
        return _Half(*(column[rows] for column in columns))


class SyscallEvents:
    """Pairs the events of entries and exits, a window of the recording at a time, and writes the spans."""

    def __init__(self, writer: SessionWriter, machine: str) -> None:
        """``machine`` is that of the events; nothing is written for one whose system calls are not known."""
        self._writer = writer
        try:
            self._abi = abis_of(machine)[0]
        except InsituError:
            self._abi = ""
        self._halves = Halves()
        self._made: dict[int, int] = {}
        """By thread: how many calls it has made, and one."""
        self._number: dict[int, int] = {}
        """By thread: the number of its last entry or exit."""
        self._waiting: dict[bool, list[_Half]] = {True: [], False: []}
        self._ended: I64 = np.zeros(0, np.int64)
        """The numbers of which exits have been seen."""
        self._raw = False
        self.written = 0
        """So many spans."""

    def add(self, label: str, columns: Mapping[str, Any], tid: I32) -> None:
        """Take the columns of events "CATEGORY:NAME" of the threads ``tid``; others are ignored."""
        match = _LABEL.fullmatch(label) if self._abi else None
        number = columns.get("id" if label.startswith(_RAW) else "__syscall_nr")
        if match is None or getattr(number, "ndim", 0) != 1:
            return
        kind = _ENTER if "enter" in (match["raw"], match["one"]) else _EXIT
        self._raw |= bool(match["raw"])
        half = _Half(
            np.asarray(columns["ts_ns"]).astype(np.int64),
            tid,
            np.asarray(columns["cpu"]).astype(np.int32),
            np.asarray(number).astype(np.int64),
            np.full(len(tid), kind, np.int8),
        )
        self._waiting[bool(match["raw"])].append(half)

    def write(self, until_ns: int) -> None:
        """Write the calls that ended up to a time, up to which all events have been added."""
        # Both kinds of events tell of the same calls.
        if self._raw:
            self._waiting[False] = []
        if not (parts := self._waiting[self._raw]):
            return
        whole = _Half(*map(np.concatenate, zip(*parts, strict=True)))
        known = whole.ts_ns <= until_ns
        self._waiting[self._raw] = [] if known.all() else [whole.taken(~known)]
        known &= (whole.tid > 0) & ((whole.kind == _EXIT) | (whole.number >= 0))
        self._append(self._halves.add(self._tables(whole.taken(known))))

    def finish(self) -> None:
        """Write the rest, and the calls that have not returned."""
        self.write(np.iinfo(np.int64).max)
        self._append(self._halves.add({}, last=True))

    def _tables(self, events: _Half) -> dict[str, dict[str, Any]]:
        """The events as records of calls: with the word that an entry and its exit have in common."""
        order = np.lexsort((events.kind, events.ts_ns, events.tid))
        tid, entered = events.tid[order], events.kind[order] == _ENTER
        calls = np.cumsum(entered)
        first = np.flatnonzero(np.append(len(tid) > 0, tid[1:] != tid[:-1]))
        ends = np.append(first[1:], len(tid))[: len(first)] - 1
        threads = tid[first].tolist()
        made = np.array([self._made.get(thread, 1) for thread in threads], np.int64)
        sequence = calls + np.repeat(made - calls[first] + entered[first], ends - first + 1)
        self._made.update(zip(threads, sequence[ends].tolist(), strict=True))
        number = events.number[order]
        # rt_sigreturn() sets the registers of the thread: its exit has the number -1.
        before = np.append(0, number[:-1])
        before[first] = [self._number.get(thread, -1) for thread in threads]
        number = np.where(~entered & (number < 0), before, number)
        self._ended = np.union1d(self._ended, number[~entered])
        self._number.update(zip(threads, number[ends].tolist(), strict=True))
        found = {
            "ts_ns": events.ts_ns[order],
            "tid": tid,
            "pid": np.zeros(len(tid), np.int32),
            "cpu": events.cpu[order],
            "nr": number,
            "call": sequence.astype(np.uint64) << np.uint64(SEQUENCE) | (number & NUMBER_MASK).astype(np.uint64),
            "ret": np.zeros(len(tid), np.int64),
        }
        return {
            label: {name: column[rows] for name, column in found.items()}
            for label, rows in (("enter", entered), ("exit", ~entered))
        }

    def _append(self, joined: Joined) -> None:
        numbers = np.asarray(joined.enter["nr"]).astype(np.int64)
        # Without events of exits, an entry says nothing about how long the call took.
        known = np.isin(numbers, self._ended) | (self._raw and len(self._ended) > 0)
        kept = np.flatnonzero(known | (joined.exit_of >= 0))
        if not (rows := len(kept)):
            return
        enter = {name: np.asarray(joined.enter[name])[kept] for name in ("ts_ns", "tid", "cpu", "nr")}
        exit_of = joined.exit_of[kept]
        is_open = exit_of < 0
        ts_ns = enter["ts_ns"].astype(np.int64)
        dur = np.zeros(rows, np.int64)
        dur[~is_open] = np.asarray(joined.exit["ts_ns"]).astype(np.int64)[exit_of[~is_open]] - ts_ns[~is_open]
        values, which = distinct(enter["nr"].astype(np.int64))
        names = [call_name(self._abi, number) for number in values.tolist()]
        taken = np.ma.masked_array(dur, is_open)
        self._writer.append(
            SPAN,
            {
                "id": self._writer.span_ids(rows),
                "ts_ns": ts_ns,
                "dur_ns": taken,
                "self_ns": taken,
                "utid": self._writer.processes.utids(enter["tid"].astype(np.int32), ts_ns),
                "cpu": enter["cpu"],
                "category": ["syscall"] * rows,
                "name": [names[each] for each in which.tolist()],
            },
        )
        self.written += rows
