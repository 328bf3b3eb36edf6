"""Halves of calls joined window by window, beside a loop over each thread's records."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from insitu.convert.call_halves import Halves
from insitu.syscalls.call_word import ATTACHED, OPEN, SEQUENCE

Record = tuple[int, int, str, int]
"""Time, thread, label, word of the call."""
Joined = set[tuple[int, int, int, int | None]]
"""Thread, word, when it was entered, when it returned."""


def _records(draw: Any) -> list[Record]:
    """Calls of three threads, some of whose records are lost; a thread's number may be another's after its end."""
    sequence: dict[int, int] = {}
    inside: set[int] = set()
    found: list[Record] = []
    for ts_ns, (tid, ends, lost) in enumerate(draw, 1):
        label = "exited" if ends else "exit" if tid in inside else "enter_short"
        if label == "enter_short":
            sequence[tid] = sequence.get(tid, 1) + 1
            inside.add(tid)
        else:
            inside.discard(tid)
        word = sequence.get(tid, 1) << SEQUENCE | OPEN | 3
        if label == "exited":
            sequence.pop(tid, None)
        if not lost or ends:
            found.append((ts_ns, tid, label, word))
    return found


_RECORDS = st.lists(
    st.tuples(st.integers(7, 9), st.integers(0, 9).map(lambda n: n == 0), st.integers(0, 3).map(lambda n: n == 0)),
    max_size=60,
).map(_records)


def _tables(records: list[Record]) -> dict[str, dict[str, Any]]:
    tables = {}
    for label, names in (("enter_short", ("a0", "a1", "a2")), ("exit", ("ret",)), ("exited", ())):
        rows = [record for record in records if record[2] == label]
        if rows:
            columns = {
                "ts_ns": [row[0] for row in rows],
                "tid": [row[1] for row in rows],
                "call": [row[3] for row in rows],
            }
            columns |= {name: [0] * len(rows) for name in ("pid", "cpu", *names)}
            tables[label] = {name: np.array(values, np.uint64) for name, values in columns.items()}
    return tables


def _joined(windows: list[list[Record]]) -> Joined:
    halves = Halves()
    found: Joined = set()
    for number in range(len(windows) + 1):
        last = number == len(windows)
        joined = halves.add({} if last else _tables(windows[number]), last=last)
        for row, at in enumerate(joined.exit_of.tolist()):
            tid, call, ts_ns = (int(joined.enter[name][row]) for name in ("tid", "call", "ts_ns"))
            found.add((tid, call, ts_ns, int(joined.exit["ts_ns"][at]) if at >= 0 else None))
    return found


def _expected(records: list[Record]) -> Joined:
    found: Joined = set()
    inside: dict[int, tuple[int, int]] = {}
    for ts_ns, tid, label, word in records:
        entered = inside.pop(tid, None)
        if entered is not None:
            returned = label == "exit" and entered[0] == word
            found.add((tid, *entered, ts_ns if returned else None))
        if label == "enter_short":
            inside[tid] = (word, ts_ns)
    return found | {(tid, *entered, None) for tid, entered in inside.items()}


@given(_RECORDS, st.lists(st.integers(0, 60), max_size=4))
def test_halves_are_joined_wherever_windows_end_and_whatever_is_lost(records: list[Record], cuts: list[int]) -> None:
    ends = [0, *sorted(min(cut, len(records)) for cut in cuts), len(records)]
    windows = [records[start:end] for start, end in pairwise(ends)]
    assert _joined(windows) == _expected(records)


@given(_RECORDS, st.integers(0, 60))
def test_records_that_were_lost_of_a_thread_are_counted_wherever_windows_end(records: list[Record], cut: int) -> None:
    calls = [record for record in records if record[2] == "enter_short"]
    first = next((record for record in calls if record[1] == 7), None)
    if first is None or any(record[1] == 7 and record[2] == "exited" for record in records):
        return
    mine = [record for record in records if record[1] == 7 and record[0] >= first[0]]
    halves = Halves()
    joined = [halves.add(_tables(part)) for part in (mine[:cut], mine[cut:])] + [halves.add({}, last=True)]
    shown = sum(sum(each.lost.tolist()) + each.lost_after for each in joined)
    # From the first call on to the last record, each call has two records.
    _, _, label, word = mine[-1]
    wanted = 2 * ((word >> SEQUENCE) - 1) - (label == "enter_short")
    assert shown == wanted - len(mine)


def test_the_return_of_a_call_that_ran_while_we_attached_is_not_lost() -> None:
    attached = 2 << SEQUENCE | OPEN | ATTACHED | 3
    joined = Halves().add(
        _tables([(1, 7, "enter_short", attached), (2, 7, "enter_short", 3 << SEQUENCE | OPEN | 3)]), last=True
    )
    assert joined.lost.tolist() == [0, 0]
