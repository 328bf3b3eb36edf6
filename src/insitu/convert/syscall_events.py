"""Trace events of system calls as spans: raw_syscalls:sys_enter and sys_exit, or those of syscalls:sys_enter_NAME.

The events do not say which ABI a call has: those of 32-bit programs get the names of the machine's own calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.session.coded_texts import CodedTexts
from insitu.session.core_tables import SPAN
from insitu.session.distinct import distinct, group_order, time_order
from insitu.session.writer import SessionWriter
from insitu.syscalls.call_word import abis_of
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

    def taken(self, rows: Any) -> _Half:
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
        self._open: list[_Half] = []
        """Entries, the last of their threads, whose exits may be in the next window."""
        self._waiting: dict[bool, list[_Half]] = {True: [], False: []}
        self._ended: set[int] = set()
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
            np.asarray(columns["ts_ns"]).astype(np.int64, copy=False),
            tid,
            np.asarray(columns["cpu"]).astype(np.int32, copy=False),
            np.asarray(number).astype(np.int64, copy=False),
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
        parts.sort(key=lambda part: int(part.kind[0]) if len(part.kind) else _ENTER)
        whole = _Half(*map(np.concatenate, zip(*self._open, *parts, strict=True)))
        late = whole.ts_ns > until_ns
        self._waiting[self._raw] = [whole.taken(late)] if late.any() else []
        known = ~late & (whole.tid > 0) & ((whole.kind == _EXIT) | (whole.number >= 0))
        events = whole if known.all() else whole.taken(known)
        # Stable: of one time, entries come first.
        self._pair(events.taken(time_order(events.ts_ns)))

    def finish(self) -> None:
        """Write the rest, and the calls that have not returned."""
        self.write(np.iinfo(np.int64).max)
        for opened in self._open:
            self._append(opened, np.full(len(opened.tid), -1, np.int64))

    def _pair(self, events: _Half) -> None:
        """Write the calls of events in the order of time: what ends an entry is an exit, its thread's next event."""
        order = group_order(events.tid)  # by thread, and of one as they were
        tid, number, ts_ns = events.tid[order], events.number[order], events.ts_ns[order]
        entered = events.kind[order] == _ENTER
        self._ended.update(distinct(number[~entered])[0].tolist())
        same = tid[1:] == tid[:-1]
        # rt_sigreturn() sets the registers of the thread: its exit has the number -1.
        ends = same & entered[:-1] & ~entered[1:] & ((number[1:] == number[:-1]) | (number[1:] < 0))
        taken = np.full(len(order), -1, np.int64)
        ended = np.flatnonzero(ends)
        taken[order[ended]] = ts_ns[ended + 1] - ts_ns[ended]
        if bool((number[ended + 1] < 0).any()):
            self._ended.update(number[ended].tolist())
        waits = np.zeros(len(order), np.bool_)
        waits[order[entered & np.append(~same, True)[: len(order)]]] = True
        self._open = [events.taken(waits)]
        done = (events.kind == _ENTER) & ~waits
        self._append(events.taken(done), taken[done])

    def _append(self, enter: _Half, dur: I64) -> None:
        """Write the spans of entries; those that last -1 are open."""
        values, which = distinct(enter.number)
        is_open = dur < 0
        if is_open.any():
            # Without events of exits, an entry says nothing about how long the call took.
            told = [number in self._ended or (self._raw and bool(self._ended)) for number in values.tolist()]
            kept = ~is_open | np.array(told, np.bool_)[which]
            enter, dur, which, is_open = enter.taken(kept), dur[kept], which[kept], is_open[kept]
        if not (rows := len(dur)):
            return
        taken = np.ma.masked_array(dur, is_open) if is_open.any() else dur
        names = [call_name(self._abi, number) for number in values.tolist()]
        self._writer.append(
            SPAN,
            {
                "id": self._writer.span_ids(rows),
                "ts_ns": enter.ts_ns,
                "dur_ns": taken,
                "self_ns": taken,
                "utid": self._writer.processes.utids(enter.tid, enter.ts_ns),
                "cpu": enter.cpu,
                "category": CodedTexts(np.zeros(rows, np.int32), ["syscall"]),
                "name": CodedTexts(which, names),
            },
        )
        self.written += rows
