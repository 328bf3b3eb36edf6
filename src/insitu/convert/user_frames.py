"""Which entry of a user function belongs to which return, and at what depth: by the stack pointer.

A function that has returned, or that an exception or longjmp() has ended, has left its part of the stack. So calls
nest rightly although no record says that a frame was dropped. Counting entries and returns does for most threads,
whose stack pointers then confirm it; the others are walked.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.convert.call_spans import CallRecords

__all__ = ["ENDED", "ENTRY", "MOST_DEPTH", "ONE_STACK", "RETURN", "Frames", "UserRecords", "user_frames"]

Bools = NDArray[np.bool_]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

ENTRY, RETURN, ENDED = 0, 1, 2
"""Kinds of records: of a function's entry and its return, and of the end of all calls of a thread."""
MOST_DEPTH: Final = 1024
"""Deeper calls are left out (uftrace's limit, too)."""
ONE_STACK: Final = 1 << 20
"""Stack pointers further apart may be of different stacks: a signal's, a coroutine's."""


class UserRecords(NamedTuple):
    """n records of any order. ``sp`` is the stack pointer at a function's entry, or which it had then, at its return.

    ``func`` (i32) numbers functions; ``tail``: it was called by a tail call of a function that has a return
    probe, which returns after it. Both are those of entries.
    """

    ts_ns: I64
    thread: I32
    cpu: I32
    kind: I8
    func: I32
    sp: I64
    tail: Bools


class Frames(NamedTuple):
    """``records`` for join_calls(), each entry with its exit, and in their order for each thread. ``entry`` are the
    rows of UserRecords of the calls that it makes of them, ``exit`` those of their returns (-1: none was seen).

    ``unmatched`` counts returns whose entries were not recorded, ``deep`` the calls that were too deep.
    """

    records: CallRecords
    entry: I64
    exit: I64
    unmatched: int
    deep: int


def user_frames(records: UserRecords, end_ns: int) -> Frames:
    """Match the records. What is open at the end has ended at ``end_ns``."""
    order = np.lexsort((records.kind, records.ts_ns, records.thread))
    rows = UserRecords._make(column[order] for column in records)
    last = np.append((rows.thread[1:] != rows.thread[:-1]) | (rows.kind[:-1] == ENDED), True)[: len(order)]
    part = np.cumsum(np.append(0, last[:-1]))[: len(order)]  # of a thread, between the ends of all its calls
    ends = np.flatnonzero(last)
    until_ns = np.where(rows.kind[ends] == ENDED, rows.ts_ns[ends], max(end_ns, int(rows.ts_ns.max(initial=0))))
    found, irregular = _counted(rows, part)
    unmatched = 0
    for number in np.flatnonzero(irregular).tolist():
        low, high = (int(ends[number - 1]) + 1 if number else 0), int(ends[number]) + 1
        unmatched += _walked(rows, low, high, found)
    entry = np.flatnonzero(rows.kind == ENTRY)
    deep = found.depth[entry] >= MOST_DEPTH
    entry = entry[~deep]
    exit_of, closed_at = found.exit[entry], found.closed_at[entry]
    end = np.where(closed_at >= 0, rows.ts_ns[np.maximum(closed_at, 0)], until_ns[part[entry]])
    joined = _call_records(rows, entry, closed_at, end, found.depth[entry], ends[part[entry]])
    exit_row = np.where(exit_of >= 0, order[np.maximum(exit_of, 0)], -1)
    return Frames(joined, order[entry], exit_row, unmatched, int(deep.sum()))


class _Found(NamedTuple):
    """Of each entry the row of its return (-1: none), the row at which it had ended (-1: at the end), its depth."""

    exit: I64
    closed_at: I64
    depth: I64


def _counted(rows: UserRecords, part: I64) -> tuple[_Found, Bools]:
    """What counting entries and returns gives, and for which parts that is wrong."""
    size, kind, sp = len(part), rows.kind, rows.sp
    step = np.where(kind == ENTRY, 1, np.where(kind == RETURN, -1, 0))
    level = np.cumsum(step)
    first = np.flatnonzero(np.append(True, part[1:] != part[:-1])[:size])
    level -= (level[first] - step[first])[part]
    at = np.where(kind == ENTRY, level - 1, level)
    wrong = level < 0
    keys = part * (at.max(initial=0) + 2) + np.maximum(at, 0) + 1
    calls = np.flatnonzero(kind != ENDED)
    ordered = calls[np.argsort(keys[calls], kind="stable")]
    one, two = ordered[:-1], ordered[1:]
    same = keys[one] == keys[two]
    wrong[two[same & (kind[one] == kind[two])]] = True
    pairs = same & (kind[one] == ENTRY) & (kind[two] == RETURN)
    one, two = one[pairs], two[pairs]
    wrong[one[sp[one] != sp[two]]] = True
    exit_of = np.full(size, -1, np.int64)
    exit_of[one] = two
    # A caller's frame is further up, or, after a tail call, the same.
    entry = ordered[kind[ordered] == ENTRY]
    inner = entry[at[entry] > 0]
    places = keys[entry] * size + entry
    caller = entry[np.searchsorted(places, (keys[inner] - 1) * size + inner) - 1]
    wrong[inner[(sp[caller] < sp[inner]) | ((sp[caller] == sp[inner]) != rows.tail[inner])]] = True
    irregular = np.bincount(part, weights=wrong, minlength=len(first)) > 0
    return _Found(exit_of, exit_of.copy(), np.maximum(at, 0)), irregular


def _walked(rows: UserRecords, low: int, high: int, found: _Found) -> int:
    """Match the records of a part one by one; returns the number of returns without an entry."""
    kinds, sps, tails = (column[low:high].tolist() for column in (rows.kind, rows.sp, rows.tail))
    open_: list[int] = []
    unmatched = 0
    for at, (kind, sp) in enumerate(zip(kinds, sps, strict=True)):
        if kind == ENDED:
            break
        tail = kind == RETURN or tails[at]
        gone = set()
        for each in reversed(open_):
            if sp < sps[each] < sp + ONE_STACK:
                break
            if sps[each] < sp < sps[each] + ONE_STACK or (sps[each] == sp and not tail):
                gone.add(each)
                found.closed_at[low + each] = low + at
        open_ = [each for each in open_ if each not in gone] if gone else open_
        if kind == ENTRY:
            found.depth[low + at] = len(open_)
            found.exit[low + at] = found.closed_at[low + at] = -1
            open_.append(at)
            continue
        number = next((each for each in reversed(range(len(open_))) if sps[open_[each]] == sp), -1)
        unmatched += number < 0
        if number >= 0:
            each = open_.pop(number)
            found.exit[low + each] = found.closed_at[low + each] = low + at
    return unmatched


def _call_records(rows: UserRecords, entry: I64, closed_at: I64, end_ns: I64, depth: I64, last: I64) -> CallRecords:
    """Entries and exits in the order that they have in their threads; of several exits at one record the inner ones
    first."""
    count = len(entry)
    place = np.concatenate([entry, np.where(closed_at >= 0, closed_at, last)])
    exits = np.repeat([False, True], count)
    # An exit that an entry shows comes before it.
    inner = np.concatenate([np.full(count, MOST_DEPTH + 1), -depth])
    order = np.lexsort((inner, place))
    of = np.concatenate([np.arange(count)] * 2)[order]
    exits, row = exits[order], entry[of]
    ts_ns = np.where(exits, end_ns[of], rows.ts_ns[row])
    dur_ns = np.where(exits, end_ns[of] - rows.ts_ns[row], -1)
    depths = depth[of].astype(np.int32)
    return CallRecords(ts_ns, rows.thread[row], rows.cpu[row], exits, rows.func[row], depths, dur_ns)
